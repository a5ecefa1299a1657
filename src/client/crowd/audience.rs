//! The members of one client process: they arrive, watch, leave, and come back. One thread, one epoll set.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::script::Chance;
use super::texts::{self, Run};
use super::viewer::{Acknowledged, Heard, Kind, State, Viewer, hear, line};
use crate::client::bench::frames::Stream;
use crate::client::bench::receiver::latencies;
use crate::client::bench::sys::{self, Epoll, now_us};
use crate::client::http::percent_encode;

const READ_BYTES: usize = 256 * 1024;
/// How long a turn sleeps at most.
const TURN_MS: i32 = 10;
/// A stream that is not `connected` by then is given up.
const CONNECT_US: u64 = 20_000_000;
/// Mean time away, and mean wait before a failed connect is tried again, in µs.
const AWAY_US: f64 = 5_000_000.0;
const RETRY_US: f64 = 2_000_000.0;
/// Nobody leaves sooner.
const STAY_US_MIN: u64 = 3_000_000;

/// What all processes know.
#[derive(Debug, Clone)]
pub struct Plan {
    pub target: SocketAddr,
    /// What precedes a path, the `Host` header's value, and further headers as whole lines.
    pub prefix: String,
    pub authority: String,
    pub headers: String,
    /// Topics as they stand in a query.
    pub live: String,
    pub chat: String,
    pub run: Run,
    pub members: u32,
    /// Members 0 to this follow the chat, too.
    pub chatters: u32,
    pub arrive_us: u64,
    pub stay_us: f64,
    pub seed: u64,
    pub source_base: u32,
}

/// How a process is doing; sums since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Streams open now.
    pub held: u64,
    /// Members that were ever connected.
    pub came: u64,
    pub left: u64,
    pub came_back: u64,
    /// Events received, merged ones with their count.
    pub received: u64,
    pub gaps: u64,
    /// Comments that should have been seen by now and were not; told once all is over.
    pub missing: u64,
    /// Streams that still come, or that have not arrived.
    pub absent: u64,
}

impl std::ops::AddAssign for Status {
    fn add_assign(&mut self, other: Self) {
        self.held += other.held;
        self.came += other.came;
        self.left += other.left;
        self.came_back += other.came_back;
        self.received += other.received;
        self.gaps += other.gaps;
        self.missing += other.missing;
        self.absent += other.absent;
    }
}

/// From a post's request to its receipt at each stream, in µs.
#[derive(Debug)]
pub struct Latencies {
    pub likes: Histogram<u64>,
    pub comments: Histogram<u64>,
    pub messages: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { likes: latencies(), comments: latencies(), messages: latencies() }
    }
}

/// Members `first` to `first + count` of a crowd.
#[derive(Debug)]
pub struct Audience {
    plan: Plan,
    first: u32,
    epoll: Epoll,
    viewers: Vec<Viewer>,
    /// When each arrives, leaves, comes back, or has waited too long; with its generation.
    due: BinaryHeap<Reverse<(u64, u32, u32)>>,
    chance: Chance,
    /// From then on nobody leaves, and who is away comes back.
    acknowledged: Option<Vec<Acknowledged>>,
    pub status: Status,
    pub latencies: Latencies,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    events: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Audience {
    /// # Errors
    /// When no descriptor is left for the epoll set.
    pub fn new(plan: Plan, first: u32, count: u32) -> io::Result<Self> {
        let mut chance = Chance::new(plan.seed ^ (u64::from(first) << 32 | 0xa0d1));
        // Arrivals of a Poisson process, given how many there are, are spread evenly by chance.
        let mut arrival = |_| plan.run.start_us + (chance.share() * plan.arrive_us as f64) as u64;
        let due = (0..count).map(|place| Reverse((arrival(place), place, 0))).collect();
        Ok(Self {
            first,
            epoll: Epoll::new()?,
            viewers: (0..count).map(|_| Viewer::default()).collect(),
            due,
            chance,
            acknowledged: None,
            status: Status { absent: u64::from(count), ..Status::default() },
            latencies: Latencies::default(),
            errors: BTreeMap::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024],
            buffer: vec![0; READ_BYTES],
            plan,
        })
    }

    /// The script is over: all come back, and each must have seen these.
    pub fn finish(&mut self, acknowledged: Vec<Acknowledged>) {
        let now_us = now_us();
        for place in 0..self.viewers.len() as u32 {
            let viewer = &mut self.viewers[place as usize];
            if viewer.state == State::Away {
                viewer.generation += 1;
                // Not all in one moment: that would be another load than the one that is measured.
                let wait_us = (self.chance.share() * 500_000.0) as u64;
                self.due.push(Reverse((now_us + wait_us, place, viewer.generation)));
            }
        }
        self.acknowledged = Some(acknowledged);
    }

    /// Counts what has not been seen, once the script is over.
    pub fn settle(&mut self) {
        if let Some(acknowledged) = &self.acknowledged {
            self.status.missing = self.viewers.iter().map(|viewer| viewer.missing(acknowledged)).sum();
        }
    }

    /// Does what is due, and waits some milliseconds for what comes.
    pub fn turn(&mut self) {
        let now = now_us();
        while let Some(&Reverse((at_us, place, generation))) = self.due.peek()
            && at_us <= now
        {
            self.due.pop();
            if self.viewers[place as usize].generation == generation {
                self.act(place, now);
            }
        }
        let mut events = std::mem::take(&mut self.events);
        let filled = self.epoll.wait(&mut events, TURN_MS);
        for event in &events[..filled] {
            let (place, generation) = (event.u64 as u32, (event.u64 >> 32) as u32);
            if self.viewers[place as usize].generation != generation {
                continue;
            }
            if event.events & libc::EPOLLOUT as u32 != 0 && !self.viewers[place as usize].asked {
                self.ask(place);
            } else {
                self.read(place, event.events & sys::HANG_UP != 0);
            }
        }
        self.events = events;
    }

    /// A member's time has come.
    fn act(&mut self, place: u32, now: u64) {
        match self.viewers[place as usize].state {
            State::Away => self.come(place, now),
            State::Coming => self.failed(place, "no connected event in 20 s".to_owned(), None),
            // The time to connect in may end while it is here.
            State::Here if self.acknowledged.is_some() || now < self.viewers[place as usize].leaves_us => {}
            State::Here => {
                self.status.left += 1;
                let wait_us = 500_000 + self.chance.wait_us(AWAY_US);
                self.go(place, wait_us);
            }
        }
    }

    fn come(&mut self, place: u32, now: u64) {
        let source = self.plan.source_base.wrapping_add(self.first + place);
        let viewer = &mut self.viewers[place as usize];
        match sys::connect(self.plan.target, source, None) {
            Ok(connecting) => {
                viewer.state = State::Coming;
                viewer.generation += 1;
                viewer.socket = Some(connecting.socket);
                viewer.stream = Stream::default();
                (viewer.asked, viewer.watched, viewer.asked_us) = (false, false, now);
                self.due.push(Reverse((now + CONNECT_US, place, viewer.generation)));
                self.ask(place);
            }
            Err(error) => self.failed(place, format!("connect: {error}"), None),
        }
    }

    /// Sends the request, which on loopback works right after the connect, before the kernel has said so.
    fn ask(&mut self, place: u32) {
        let number = self.first + place;
        let plan = &self.plan;
        let viewer = &mut self.viewers[place as usize];
        let chat = if number < plan.chatters { format!("&topic={}", plan.chat) } else { String::new() };
        let resume = match viewer.position.as_str() {
            "" => String::new(),
            position => format!("&last_event_id={}", percent_encode(position)),
        };
        let request = format!(
            "GET {}/v1/events?topic={}{chat}&member={}{resume} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            plan.prefix,
            plan.live,
            percent_encode(&texts::member(number)),
            plan.authority,
            plan.headers
        );
        let Some(socket) = &viewer.socket else { return };
        let mut sender: &socket2::Socket = socket;
        let wanted = match sender.write(request.as_bytes()) {
            Ok(written) if written == request.len() => {
                viewer.asked = true;
                sys::READABLE
            }
            Ok(_) => return self.failed(place, "the request did not fit into the send buffer".to_owned(), None),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => sys::WRITABLE,
            Err(error) => return self.failed(place, format!("connect: {error}"), None),
        };
        let known = std::mem::replace(&mut viewer.watched, true);
        let token = u64::from(viewer.generation) << 32 | u64::from(place);
        if let Err(error) = self.epoll.watch(socket, token, wanted, known) {
            self.failed(place, format!("epoll: {error}"), None);
        }
    }

    /// Closes a member's stream; it comes back after a while.
    fn go(&mut self, place: u32, wait_us: u64) {
        let viewer = &mut self.viewers[place as usize];
        if viewer.state == State::Here {
            self.status.held -= 1;
            self.status.absent += 1;
        }
        viewer.state = State::Away;
        viewer.socket = None;
        viewer.generation += 1;
        self.due.push(Reverse((now_us() + wait_us, place, viewer.generation)));
    }

    /// The stream broke, or was refused; `wait_us` is what the server asked for.
    fn failed(&mut self, place: u32, why: String, wait_us: Option<u64>) {
        // Errors come in few kinds; the bound is against a server that makes up new ones.
        if self.errors.len() < 64 || self.errors.contains_key(&why) {
            *self.errors.entry(why).or_default() += 1;
        }
        let wait_us = wait_us.unwrap_or_else(|| 200_000 + self.chance.wait_us(RETRY_US));
        self.go(place, wait_us);
    }

    fn read(&mut self, place: u32, ended: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(socket) = &self.viewers[place as usize].socket {
            let mut reader: &socket2::Socket = socket;
            match reader.read(&mut buffer) {
                Ok(0) => {
                    self.failed(place, "the server closed the stream".to_owned(), None);
                    break;
                }
                Ok(read) => {
                    if !self.take(place, &buffer[..read]) {
                        break;
                    }
                    // Edge-triggered: less than was asked for means that there is no more, unless the end has come.
                    if read < buffer.len() && !ended {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed(place, format!("the stream broke: {error}"), None);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes bytes of a stream; gives whether it goes on.
    fn take(&mut self, place: u32, bytes: &[u8]) -> bool {
        let now = now_us();
        let mut stream = std::mem::take(&mut self.viewers[place as usize].stream);
        let mut bye = None;
        let outcome = stream.push(bytes, &mut |frame: &[u8]| {
            if let Some(retry_ms) = self.frame(place, frame, now) {
                bye = Some(retry_ms);
            }
        });
        self.viewers[place as usize].stream = stream;
        if let Some(retry_ms) = bye {
            self.failed(place, "bye".to_owned(), Some(retry_ms * 1_000));
            return false;
        }
        match outcome {
            Ok(()) => true,
            Err(broken) => {
                self.failed(place, format!("stream: {broken}"), None);
                false
            }
        }
    }

    /// Takes a frame; gives the wait that a `bye` asks for.
    fn frame(&mut self, place: u32, frame: &[u8], now: u64) -> Option<u64> {
        let viewer = &mut self.viewers[place as usize];
        match hear(frame, &self.plan.run) {
            Heard::Connected => {
                if viewer.state != State::Here {
                    self.status.held += 1;
                    self.status.absent -= 1;
                    *if viewer.came() { &mut self.status.came_back } else { &mut self.status.came } += 1;
                    viewer.connected(now, line(frame, b"id: ").unwrap_or_default());
                    viewer.leaves_us = now + STAY_US_MIN + self.chance.wait_us(self.plan.stay_us);
                    self.due.push(Reverse((viewer.leaves_us, place, viewer.generation)));
                }
            }
            Heard::Bye(retry_ms) => return Some(retry_ms),
            Heard::Gap => {
                self.status.gaps += 1;
                viewer.gap(now);
            }
            Heard::Event { kind, count, stamp, skipped } => {
                self.status.received += count;
                if matches!(kind, Kind::Comment | Kind::Message)
                    && let Some(position) = line(frame, b"id: ")
                {
                    viewer.reached(position);
                }
                let stamp = stamp?;
                let new = kind != Kind::Comment || viewer.see(stamp.number, skipped);
                // What was replayed is late for another reason.
                if new && stamp.posted_us >= viewer.asked_us {
                    let took_us = now.saturating_sub(stamp.posted_us);
                    match kind {
                        Kind::Like => self.latencies.likes.saturating_record(took_us),
                        Kind::Comment => self.latencies.comments.saturating_record(took_us),
                        _ => self.latencies.messages.saturating_record(took_us),
                    }
                }
            }
            Heard::Nothing => {}
        }
        None
    }

    /// Closes all streams, with a reset, which leaves no port behind in TIME_WAIT.
    pub fn close(&mut self) {
        for viewer in &mut self.viewers {
            if let Some(socket) = viewer.socket.take() {
                // Should the option be refused, the ports rest in TIME_WAIT, and there are more of them.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
}
