//! The receiving client: one thread, one epoll set, one read buffer, thousands of connections.
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use hdrhistogram::Histogram;
use socket2::Socket;

use super::args::ReadyOn;
use super::check::{Checker, Tally};
use super::frames::{Broken, Stream};
use super::schedule::Published;
use super::sink::Sink;
use super::sys::{self, Epoll, now_us};

/// Bytes that one read takes at most; shared by all of a thread's connections.
const READ_BYTES: usize = 256 * 1024;
/// How long a thread sleeps at most before it looks for commands.
const TURN_MS: i32 = 10;
/// Receive buffer of a connection that is not to read: the kernel's least.
const STALLED_RECEIVE_BYTES: usize = 2048;
/// Latencies are kept to the µs up to 10 minutes, with three digits.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A histogram of latencies in µs.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are in order and the digits few")
}

/// What all connections have in common.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub target: SocketAddr,
    /// The request up to the topic, and what follows it.
    pub request: (Vec<u8>, Vec<u8>),
    /// Names of topics, by index.
    pub topics: Arc<Vec<String>>,
    pub ready_on: ReadyOn,
    /// Likes through the backend: of many writers, so without an order to check.
    pub likes: bool,
    /// Connections come back with the id that they saw last, and are given again what they may have missed.
    pub resumes: bool,
    /// Added to the connections' numbers when source addresses are chosen, so that runs do not meet.
    pub source_base: u32,
}

/// What a thread is told to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Open connections with these numbers, keeping `window` under way; `published` is where their topics stand.
    Open { numbers: Vec<u32>, window: usize, stalled: bool, published: Arc<Published> },
    /// Time events that are due from then on; `interval_us` apart on a topic.
    Begin { from_us: u64, interval_us: f64 },
    /// Settle what was published and hand over what was measured.
    Collect { published: Arc<Published>, answer: Sender<Measured> },
    /// Close all connections, with a reset, which leaves no port behind in TIME_WAIT.
    CloseAll { answer: Sender<Measured> },
    /// The same, and open them again, with what each saw last, keeping `window` under way.
    Reconnect { window: usize },
}

/// What a thread has measured since it was last asked.
#[derive(Debug)]
pub struct Measured {
    pub tally: Tally,
    /// Events that are in `latency`.
    pub timed: u64,
    pub latency: Histogram<u64>,
    /// From the connect to the connection being ready.
    pub connect: Histogram<u64>,
    /// What went wrong with connections, first of each kind.
    pub errors: Vec<String>,
}

impl Default for Measured {
    fn default() -> Self {
        Self { tally: Tally::default(), timed: 0, latency: latencies(), connect: latencies(), errors: Vec::new() }
    }
}

/// What others may read while the thread runs. A cache line of its own keeps threads out of each other's way.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    /// Connections that are ready now.
    pub ready: AtomicU64,
    /// Connections that were to be opened and could not.
    pub failed: AtomicU64,
    /// Connections that broke after they were ready.
    pub closed: AtomicU64,
    /// Events received.
    pub received: AtomicU64,
    /// When the last event came and when the last connection became ready, in µs since the epoch.
    pub last_event_us: AtomicU64,
    pub last_ready_us: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    stream: Stream,
    checker: Checker,
    number: u32,
    /// What the stream's last `id:` line said, if connections come back with it.
    last_id: String,
    topic: u32,
    started_us: u64,
    /// The request is on its way.
    asked: bool,
    /// Known to epoll.
    watched: bool,
    ready: bool,
    stalled: bool,
}

/// Connections still to be opened.
#[derive(Debug)]
struct Opening {
    numbers: Vec<u32>,
    window: usize,
    under_way: usize,
    stalled: bool,
    published: Arc<Published>,
}

/// One receiving thread.
#[derive(Debug)]
pub struct Shard {
    subscription: Subscription,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Topics and checkers of connections that broke: what was published to them afterwards is lost.
    gone: Vec<(u32, Checker)>,
    /// By number: where connections stood that are to come back, and the id that they saw last.
    returning: HashMap<u32, (Checker, String)>,
    opening: Option<Opening>,
    live: Arc<Live>,
    sink: Sink,
}

impl Shard {
    /// # Errors
    /// When no descriptor is left for the epoll set.
    pub fn new(subscription: Subscription, live: Arc<Live>) -> std::io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            connections: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
            returning: HashMap::new(),
            opening: None,
            live,
            sink: Sink::new(subscription.likes),
            subscription,
        })
    }

    /// Runs until the orders' sender is gone.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut buffer = vec![0; READ_BYTES];
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
        loop {
            match orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            self.open_more();
            let filled = self.epoll.wait(&mut events, TURN_MS);
            let before = self.sink.measured.tally.received;
            for event in &events[..filled] {
                let (token, writable) = (event.u64 as usize, event.events & libc::EPOLLOUT as u32 != 0);
                if writable {
                    self.ask(token);
                } else {
                    let ended = event.events & sys::HANG_UP != 0;
                    self.read(token, ended, &mut buffer);
                }
            }
            let new = self.sink.measured.tally.received.wrapping_sub(before);
            if new > 0 {
                self.live.received.fetch_add(new, Relaxed);
                self.live.last_event_us.store(now_us(), Relaxed);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open { numbers, window, stalled, published } => {
                self.opening = Some(Opening { numbers, window: window.max(1), under_way: 0, stalled, published });
            }
            Order::Begin { from_us, interval_us } => {
                self.sink.settle();
                self.sink.from_us = from_us;
                self.sink.interval_us = interval_us;
            }
            Order::Collect { published, answer } => {
                let tally = &mut self.sink.measured.tally;
                for connection in self.connections.iter_mut().flatten().filter(|c| !c.stalled) {
                    connection.checker.settle(published.on(connection.topic), tally);
                    if self.sink.likes {
                        tally.shows(connection.checker.shown());
                    }
                }
                for (topic, checker) in &mut self.gone {
                    checker.settle(published.on(*topic), tally);
                }
                self.hand_over(&answer);
            }
            Order::CloseAll { answer } => {
                self.opening = None;
                for connection in self.connections.drain(..).flatten() {
                    // Should the option be refused, the ports rest in TIME_WAIT, and there are more of them.
                    let _ = connection.socket.set_linger(Some(Duration::ZERO));
                }
                self.free.clear();
                self.gone.clear();
                self.live.ready.store(0, Relaxed);
                self.hand_over(&answer);
            }
            Order::Reconnect { window } => self.reconnect(window),
        }
    }

    /// Cuts all connections, and has them come back. From now on the time to connect is theirs.
    fn reconnect(&mut self, window: usize) {
        let mut numbers = Vec::new();
        for connection in self.connections.drain(..).flatten() {
            // As above.
            let _ = connection.socket.set_linger(Some(Duration::ZERO));
            numbers.push(connection.number);
            self.returning.insert(connection.number, (connection.checker, connection.last_id));
        }
        self.free.clear();
        self.live.ready.store(0, Relaxed);
        self.sink.measured.connect = latencies();
        let published = Arc::new(Published { topics: 1, lanes: vec![0] });
        self.opening = Some(Opening { numbers, window: window.max(1), under_way: 0, stalled: false, published });
    }

    fn hand_over(&mut self, answer: &Sender<Measured>) {
        self.sink.settle();
        // The asker may have given up, in which case nobody wants the figures.
        let _ = answer.send(std::mem::take(&mut self.sink.measured));
    }

    fn open_more(&mut self) {
        while let Some(opening) = self.opening.as_mut().filter(|o| o.under_way < o.window) {
            let Some(number) = opening.numbers.pop() else {
                if opening.under_way == 0 {
                    self.opening = None;
                }
                return;
            };
            let topic = number % self.subscription.topics.len() as u32;
            let (stalled, first) = (opening.stalled, opening.published.on(topic));
            let receive_buffer = stalled.then_some(STALLED_RECEIVE_BYTES);
            let started_us = now_us();
            let source = self.subscription.source_base.wrapping_add(number);
            match sys::connect(self.subscription.target, source, receive_buffer) {
                Ok(connecting) => {
                    opening.under_way += 1;
                    let token = self.free.pop().unwrap_or_else(|| {
                        self.connections.push(None);
                        self.connections.len() - 1
                    });
                    let fresh = || (Checker::new(if self.sink.likes { 0 } else { first }), String::new());
                    let (checker, last_id) = self.returning.remove(&number).unwrap_or_else(fresh);
                    self.connections[token] = Some(Connection {
                        socket: connecting.socket,
                        stream: Stream::default(),
                        checker,
                        number,
                        last_id,
                        topic,
                        started_us,
                        asked: false,
                        watched: false,
                        ready: false,
                        stalled,
                    });
                    self.ask(token);
                }
                Err(error) => {
                    self.live.failed.fetch_add(1, Relaxed);
                    self.sink.note(format!("connect: {error}"));
                }
            }
        }
    }

    /// Sends the request, which on loopback works right after the connect, before the kernel has said so.
    fn ask(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else {
            return;
        };
        if connection.asked {
            return;
        }
        let (before, after) = &self.subscription.request;
        let topic = &self.subscription.topics[connection.topic as usize];
        let mut request = [before, topic.as_bytes(), after].concat();
        if !connection.last_id.is_empty() {
            request.truncate(request.len() - 2);
            request.extend_from_slice(format!("Last-Event-ID: {}\r\n\r\n", connection.last_id).as_bytes());
        }
        let sent = (&connection.socket).write(&request);
        let (writable, failure) = match sent {
            Ok(written) if written == request.len() => {
                connection.asked = true;
                (false, None)
            }
            Ok(_) => (false, Some("the request did not fit into the send buffer".to_owned())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => (true, None),
            Err(error) => (false, Some(format!("connect: {error}"))),
        };
        let known = connection.watched;
        let wanted = if writable { sys::WRITABLE } else { sys::READABLE };
        connection.watched = true;
        if let Some(failure) = failure {
            self.close(token, failure);
        } else if connection.asked && connection.stalled {
            // Its bytes stay in the kernel, so there is nothing to wait for.
            connection.ready = true;
            self.became_ready(now_us());
        } else if let Err(error) = self.epoll.watch(&connection.socket, token as u64, wanted, known) {
            self.close(token, format!("epoll: {error}"));
        }
    }

    fn became_ready(&mut self, now_us: u64) {
        self.live.ready.fetch_add(1, Relaxed);
        self.live.last_ready_us.store(now_us, Relaxed);
        if let Some(opening) = &mut self.opening {
            opening.under_way = opening.under_way.saturating_sub(1);
        }
    }

    fn read(&mut self, token: usize, ended: bool, buffer: &mut [u8]) {
        loop {
            let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else {
                return;
            };
            let outcome = match (&connection.socket).read(buffer) {
                Ok(0) => Err(Broken::Ended.to_string()),
                Ok(read) => {
                    let now_us = now_us();
                    self.sink.measured.tally.bytes += read as u64;
                    let (topic, checker) = (connection.topic, &mut connection.checker);
                    let mut connected = false;
                    let mut bytes = &buffer[..read];
                    let (resumes, last_id) = (self.subscription.resumes, &mut connection.last_id);
                    if connection.stream.at_frame() && !resumes {
                        bytes = &bytes[self.sink.take_known(bytes, topic, checker, now_us)..];
                    }
                    let chunked = connection.stream.is_chunked();
                    let pushed = connection.stream.push(bytes, &mut |frame| {
                        connected |= self.sink.take(frame, topic, chunked, checker, now_us);
                        if resumes
                            && let Some(id) = frame.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"id: "))
                        {
                            last_id.clear();
                            last_id.push_str(&String::from_utf8_lossy(id));
                        }
                    });
                    connected |= self.subscription.ready_on == ReadyOn::Head && connection.stream.has_head();
                    if connected && !connection.ready {
                        connection.ready = true;
                        let took = now_us.saturating_sub(connection.started_us);
                        self.sink.measured.connect.saturating_record(took);
                        self.became_ready(now_us);
                    }
                    pushed.map(|()| read).map_err(|broken| broken.to_string())
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => Err(format!("read: {error}")),
            };
            match outcome {
                // A short read has emptied the socket, unless its end is there to be seen.
                Ok(read) if read == buffer.len() || ended => {}
                Ok(_) => return,
                Err(why) => return self.close(token, why),
            }
        }
    }

    fn close(&mut self, token: usize, why: String) {
        let Some(connection) = self.connections[token].take() else {
            return;
        };
        self.free.push(token);
        if connection.ready {
            self.live.ready.fetch_sub(1, Relaxed);
            self.live.closed.fetch_add(1, Relaxed);
        } else {
            self.live.failed.fetch_add(1, Relaxed);
            if let Some(opening) = &mut self.opening {
                opening.under_way = opening.under_way.saturating_sub(1);
            }
        }
        self.sink.note(why);
        if connection.ready && !connection.stalled {
            self.gone.push((connection.topic, connection.checker));
        }
    }
}
