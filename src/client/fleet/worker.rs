//! One client process: takes orders as JSON lines from the process that started it, and has threads that obey them.
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frames::Stream;
use super::measured::{Measured, Status};
use super::sockets::Sockets;
use super::sys::now_us;
use super::transport::Target;

/// How often a process tells how it is doing.
const STATUS_EVERY: Duration = Duration::from_millis(50);

/// A thread's clients: what they do, and what they make of what they get. Each has a place, counted from 0.
pub trait Clients: Sized {
    /// What all know from the start.
    type Plan: Clone + Send + 'static;
    /// What all are told.
    type Order: Clone + Serialize + DeserializeOwned + Send + 'static;

    fn new(plan: Self::Plan, part: Part) -> Self;
    fn obey(&mut self, order: Self::Order, sockets: &mut Sockets);
    /// Opens and closes what is due. Called in each turn.
    fn act(&mut self, now_us: u64, sockets: &mut Sockets);
    /// The request of a client's stream.
    fn request(&self, place: usize) -> Vec<u8>;
    /// The request is on its way; gives whether the client reads what is answered.
    fn asked(&mut self, place: usize) -> bool;
    /// Takes bytes that came at `now_us`.
    ///
    /// # Errors
    /// Why the connection is to end, as it then does.
    fn take(&mut self, place: usize, stream: &mut Stream, bytes: &[u8], now_us: u64) -> Result<(), String>;
    /// A connection ended, or could not be opened.
    fn ended(&mut self, place: usize, why: String);
    fn status(&self) -> Status;
    /// What was measured since the last time.
    fn hand_over(&mut self) -> Measured;
}

/// Which of all threads, over all processes, one is.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub index: u32,
    pub of: u32,
}

impl Part {
    /// Which of the numbers from `first` on are its own.
    pub fn numbers(self, first: u32, count: u32) -> impl Iterator<Item = u32> {
        (first..first + count).filter(move |number| number % self.of == self.index)
    }
}

/// What a client process is told: an order, or one after which it is to hand over what was measured.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command<O> {
    Tell(O),
    Ask(O),
}

/// What a client process tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Status(Status),
    Measured(Box<Measured>),
}

/// A thread, as its process sees it.
struct Thread<O> {
    orders: Sender<(O, Option<Sender<Measured>>)>,
    status: Arc<Mutex<Status>>,
}

/// Runs a client process's side until the control connection ends: the threads of these parts.
///
/// # Errors
/// When the control connection breaks, or no descriptor is left.
pub fn run<C: Clients>(plan: &C::Plan, target: &Target, parts: &[Part], mut control: UnixStream) -> io::Result<()> {
    let mut threads = Vec::new();
    for &part in parts {
        let (orders, told) = unbounded();
        let status = Arc::new(Mutex::default());
        let (plan, sockets, shown) = (plan.clone(), Sockets::new(target.clone())?, Arc::clone(&status));
        let serve = move || serve::<C>(C::new(plan, part), sockets, &told, &shown);
        thread::Builder::new().name("fleet-clients".to_owned()).spawn(serve)?;
        threads.push(Thread { orders, status });
    }
    let (commands, inbox) = bounded(16);
    let reader = BufReader::new(control.try_clone()?);
    thread::Builder::new().name("fleet-control".to_owned()).spawn(move || {
        let commanded = reader.lines().map_while(|line| serde_json::from_str(&line.ok()?).ok());
        // The process ends when nobody takes them any more.
        let _ = commanded.into_iter().try_for_each(|command| commands.send(command));
    })?;
    loop {
        match inbox.recv_timeout(STATUS_EVERY) {
            Ok(Command::Tell(order)) => threads.iter().for_each(|thread| thread.tell(&order, None)),
            Ok(Command::Ask(order)) => {
                let measured = ask(&threads, &order);
                // The status before the figures, so that the parent knows it when they arrive.
                reply(&mut control, &Reply::Status(status(&threads)))?;
                reply(&mut control, &Reply::Measured(Box::new(measured)))?;
            }
            Err(RecvTimeoutError::Timeout) => reply(&mut control, &Reply::Status(status(&threads)))?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Runs a thread until nobody can tell it anything any more.
fn serve<C: Clients>(
    mut clients: C,
    mut sockets: Sockets,
    orders: &Receiver<(C::Order, Option<Sender<Measured>>)>,
    shown: &Mutex<Status>,
) {
    let show = |clients: &C| *shown.lock().unwrap_or_else(PoisonError::into_inner) = clients.status();
    loop {
        match orders.try_recv() {
            Ok((order, answer)) => {
                clients.obey(order, &mut sockets);
                show(&clients);
                if let Some(answer) = answer {
                    // The asker may have given up, in which case nobody wants the figures.
                    let _ = answer.send(clients.hand_over());
                }
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return,
        }
        clients.act(now_us(), &mut sockets);
        sockets.turn(&mut clients);
        show(&clients);
    }
}

impl<O: Clone> Thread<O> {
    fn tell(&self, order: &O, answer: Option<Sender<Measured>>) {
        self.orders.send((order.clone(), answer)).expect("a thread ends only after its sender");
    }
}

fn ask<O: Clone>(threads: &[Thread<O>], order: &O) -> Measured {
    let (answer, answers) = bounded(threads.len());
    threads.iter().for_each(|thread| thread.tell(order, Some(answer.clone())));
    drop(answer);
    let mut all = Measured::default();
    answers.into_iter().for_each(|measured| all += measured);
    all
}

fn status<O>(threads: &[Thread<O>]) -> Status {
    let mut all = Status::default();
    threads.iter().for_each(|thread| all += *thread.status.lock().unwrap_or_else(PoisonError::into_inner));
    all
}

fn reply(control: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_string(reply).map_err(io::Error::other)?;
    line.push('\n');
    control.write_all(line.as_bytes())
}
