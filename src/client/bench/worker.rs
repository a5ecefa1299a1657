//! One client process: takes commands as JSON lines from the process that started it, runs receiving threads.
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::{Sender, bounded, unbounded};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Serialize};

use super::check::Tally;
use super::receiver::{Live, Measured, Order, Shard, Subscription, latencies};
use super::schedule::Published;

/// How often a process tells how it is doing.
const STATUS_EVERY: Duration = Duration::from_millis(50);

/// What a client process is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// Open the connections numbered `first` to `first + count`, `window` at a time.
    Open { first: u32, count: u32, window: usize, stalled: bool, published: Published },
    /// Time events due from `from_us`; `interval_us` apart on a topic.
    Begin { from_us: u64, interval_us: f64 },
    /// Settle and report.
    Collect { published: Published },
    /// Close all connections and report.
    CloseAll,
    /// Close all connections and open them again, `window` at a time.
    Reconnect { window: usize },
}

/// What a client process tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Status(Status),
    Report(Box<Report>),
}

/// How a process is doing; sums since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub ready: u64,
    pub failed: u64,
    pub closed: u64,
    pub received: u64,
    /// In µs since the epoch; 0 for never.
    pub last_event_us: u64,
    pub last_ready_us: u64,
}

/// What was measured since the last report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub tally: Tally,
    pub timed: u64,
    latency: String,
    connect: String,
    pub errors: Vec<String>,
}

impl Report {
    fn new(measured: Measured) -> Self {
        Self {
            tally: measured.tally,
            timed: measured.timed,
            latency: pack(&measured.latency),
            connect: pack(&measured.connect),
            errors: measured.errors,
        }
    }

    /// The histograms: latency and time to connect, in µs.
    pub fn histograms(&self) -> (Histogram<u64>, Histogram<u64>) {
        (unpack(&self.latency), unpack(&self.connect))
    }
}

/// A histogram as text, to be sent between processes.
pub(in crate::client) fn pack(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a Vec takes every write, and the histogram's values are its own");
    STANDARD.encode(bytes)
}

/// Reads what [`pack`] wrote; an empty one where the text is none.
pub(in crate::client) fn unpack(text: &str) -> Histogram<u64> {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap_or_else(|_| latencies())
}

/// Runs a client process's side until the control connection ends.
///
/// # Errors
/// When the control connection breaks, or no descriptor is left.
pub fn run(subscription: &Subscription, threads: usize, control: UnixStream) -> io::Result<()> {
    let mut orders: Vec<Sender<Order>> = Vec::new();
    let mut lives = Vec::new();
    for _ in 0..threads.max(1) {
        let live = Arc::new(Live::default());
        let shard = Shard::new(subscription.clone(), Arc::clone(&live))?;
        let (sender, receiver) = unbounded();
        thread::Builder::new().name("bench-receiver".to_owned()).spawn(move || shard.run(&receiver))?;
        orders.push(sender);
        lives.push(live);
    }
    let (commands, inbox) = bounded(16);
    let reader = BufReader::new(control.try_clone()?);
    thread::Builder::new().name("bench-control".to_owned()).spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let Ok(command) = serde_json::from_str(&line) else {
                return;
            };
            if commands.send(command).is_err() {
                return;
            }
        }
    })?;
    let mut control = control;
    loop {
        match inbox.recv_timeout(STATUS_EVERY) {
            Ok(command) => {
                if let Some(measured) = obey(&orders, command) {
                    // The status before the report, so that the parent knows it when the report arrives.
                    reply(&mut control, &Reply::Status(status(&lives)))?;
                    reply(&mut control, &Reply::Report(Box::new(Report::new(measured))))?;
                }
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => reply(&mut control, &Reply::Status(status(&lives)))?,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn obey(orders: &[Sender<Order>], command: Command) -> Option<Measured> {
    let threads = orders.len();
    match command {
        Command::Open { first, count, window, stalled, published } => {
            let published = Arc::new(published);
            for (index, order) in orders.iter().enumerate() {
                // Popped from the end, so the lowest number is opened first.
                let numbers = (first..first + count).skip(index).step_by(threads).collect::<Vec<_>>();
                let numbers = numbers.into_iter().rev().collect();
                let window = window.div_ceil(threads);
                send(order, Order::Open { numbers, window, stalled, published: Arc::clone(&published) });
            }
            None
        }
        Command::Begin { from_us, interval_us } => {
            for order in orders {
                send(order, Order::Begin { from_us, interval_us });
            }
            None
        }
        Command::Collect { published } => {
            let published = Arc::new(published);
            Some(gather(orders, |answer| Order::Collect { published: Arc::clone(&published), answer }))
        }
        Command::Reconnect { window } => {
            orders.iter().for_each(|order| send(order, Order::Reconnect { window: window.div_ceil(threads) }));
            None
        }
        Command::CloseAll => Some(gather(orders, |answer| Order::CloseAll { answer })),
    }
}

fn send(thread: &Sender<Order>, order: Order) {
    thread.send(order).expect("a receiving thread ends only after its sender");
}

fn gather(orders: &[Sender<Order>], order: impl Fn(Sender<Measured>) -> Order) -> Measured {
    let (answer, answers) = bounded(orders.len());
    for thread in orders {
        send(thread, order(answer.clone()));
    }
    drop(answer);
    let mut all = Measured::default();
    for measured in answers {
        all.tally += measured.tally;
        all.timed += measured.timed;
        all.latency += measured.latency;
        all.connect += measured.connect;
        all.errors.extend(measured.errors);
    }
    all
}

fn status(lives: &[Arc<Live>]) -> Status {
    let mut all = Status::default();
    for live in lives {
        all += Status {
            ready: live.ready.load(Relaxed),
            failed: live.failed.load(Relaxed),
            closed: live.closed.load(Relaxed),
            received: live.received.load(Relaxed),
            last_event_us: live.last_event_us.load(Relaxed),
            last_ready_us: live.last_ready_us.load(Relaxed),
        };
    }
    all
}

impl std::ops::AddAssign for Status {
    fn add_assign(&mut self, other: Self) {
        self.ready += other.ready;
        self.failed += other.failed;
        self.closed += other.closed;
        self.received += other.received;
        self.last_event_us = self.last_event_us.max(other.last_event_us);
        self.last_ready_us = self.last_ready_us.max(other.last_ready_us);
    }
}

fn reply(control: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_string(reply).map_err(io::Error::other)?;
    line.push('\n');
    control.write_all(line.as_bytes())
}
