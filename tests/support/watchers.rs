//! Viewers that come back as a browser's `EventSource` does: with the id they saw last, after the pause they were told.
//! One thread holds them all, and notes what each got.

use std::collections::{BTreeMap, BinaryHeap};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::sse::{Chunks, Message, Messages};

/// A browser's pause before it was told another one.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
/// Where nobody listens: a load balancer would have asked the next node.
const RETRY_REFUSED: Duration = Duration::from_millis(200);

/// What all of them saw.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// `bye` events by reason.
    pub byes: BTreeMap<String, u64>,
    /// The pauses that came with them, in ms: shortest and longest.
    pub pauses_ms: Option<(u64, u64)>,
    /// Streams that ended without one.
    pub cuts: u64,
    /// `gap` events.
    pub gaps: u64,
    /// Numbered events that came once more.
    pub repeats: u64,
    /// When each came back after its stream ended: since the start.
    pub returns: Vec<Duration>,
}

/// What the thread and its owner share.
#[derive(Default)]
struct Shared {
    doors: Mutex<Vec<SocketAddr>>,
    stop: AtomicBool,
    /// Streams that are connected now.
    connected: AtomicUsize,
    /// Numbered events that came, each counted once a viewer.
    seen: AtomicU64,
}

/// The viewers.
pub struct Watchers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Report>>,
    pub started: Instant,
}

impl Watchers {
    /// `count` viewers, each with its own query. They go round the doors.
    pub fn start(count: usize, query: impl Fn(usize) -> String) -> Watchers {
        let shared = Arc::new(Shared::default());
        let queries = (0..count).map(query).collect();
        let (started, owned) = (Instant::now(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || Thread::new(queries, owned, started).run());
        Watchers { shared, thread: Some(thread), started }
    }

    /// The nodes that a load balancer would send them to, from now on.
    pub fn set_doors(&self, doors: &[SocketAddr]) {
        *self.shared.doors.lock().unwrap() = doors.to_vec();
    }

    /// Streams that are connected now.
    pub fn connected(&self) -> usize {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Numbered events that came, over all viewers, each counted once a viewer.
    pub fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// Ends them.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("what viewers read is well-formed")
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// An open connection of a viewer.
struct Open {
    socket: TcpStream,
    /// The head of the answer, until all of it came.
    head: Option<Vec<u8>>,
    chunks: Chunks,
    messages: Messages,
    connected: bool,
    said_bye: bool,
}

struct Viewer {
    query: String,
    open: Option<Open>,
    last_id: Option<String>,
    retry: Duration,
    /// It was connected before.
    was_here: bool,
    /// A bit for each numbered event that came.
    seen: Vec<u64>,
}

struct Thread {
    shared: Arc<Shared>,
    started: Instant,
    viewers: Vec<Viewer>,
    /// Who connects next, and when; the soonest on top.
    due: BinaryHeap<(std::cmp::Reverse<Instant>, usize)>,
    epoll: rustix::fd::OwnedFd,
    next_door: usize,
    report: Report,
}

/// The number that an event carries as `"n"` in its data.
fn number(data: &str) -> Option<usize> {
    let digits = data.split("\"n\":").nth(1)?;
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

impl Thread {
    fn new(queries: Vec<String>, shared: Arc<Shared>, started: Instant) -> Thread {
        let viewer = |query| Viewer {
            query,
            open: None,
            last_id: None,
            retry: RETRY_DEFAULT,
            was_here: false,
            seen: Vec::new(),
        };
        let due = (0..queries.len()).map(|who| (std::cmp::Reverse(started), who)).collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a file descriptor is free");
        let viewers = queries.into_iter().map(viewer).collect();
        Thread { shared, started, viewers, due, epoll, next_door: 0, report: Report::default() }
    }

    fn run(mut self) -> Report {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        while !self.shared.stop.load(Ordering::Relaxed) {
            // A part at a time, so that those who are connected are read, too.
            for _ in 0..64 {
                let Some(&(std::cmp::Reverse(at), who)) = self.due.peek() else { break };
                if at > Instant::now() {
                    break;
                }
                self.due.pop();
                if self.connect(who).is_none() {
                    self.due.push((std::cmp::Reverse(Instant::now() + RETRY_REFUSED), who));
                }
            }
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
            for event in &events {
                self.read(event.data.u64() as usize, &mut buffer);
            }
        }
        self.report
    }

    /// Connects and asks for the stream. None if nobody listens.
    fn connect(&mut self, who: usize) -> Option<()> {
        let door = {
            let doors = self.shared.doors.lock().unwrap();
            self.next_door += 1;
            *doors.get(self.next_door % doors.len().max(1))?
        };
        let mut socket = TcpStream::connect(door).ok()?;
        let viewer = &mut self.viewers[who];
        let last = viewer.last_id.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!(
            "GET /v1/events?{} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{last}\r\n",
            viewer.query
        );
        socket.write_all(request.as_bytes()).ok()?;
        socket.set_nonblocking(true).ok()?;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(who as u64), epoll::EventFlags::IN).ok()?;
        let (chunks, messages) = (Chunks::default(), Messages::default());
        viewer.open =
            Some(Open { socket, head: Some(Vec::new()), chunks, messages, connected: false, said_bye: false });
        Some(())
    }

    fn read(&mut self, who: usize, buffer: &mut [u8]) {
        let Some(open) = &mut self.viewers[who].open else { return };
        match open.socket.read(buffer) {
            Ok(0) => self.ended(who),
            Ok(count) => {
                if self.take(who, &buffer[..count]) {
                    self.ended(who);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.ended(who),
        }
    }

    /// Takes what came. True if that was the end of the stream.
    fn take(&mut self, who: usize, bytes: &[u8]) -> bool {
        let viewer = &mut self.viewers[who];
        let Some(mut open) = viewer.open.take() else { return false };
        let mut rest = None;
        if let Some(mut head) = open.head.take() {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                open.head = Some(head);
                viewer.open = Some(open);
                return false;
            };
            assert!(head.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&head));
            rest = Some(head.split_off(end + 4));
        }
        let mut body = Vec::new();
        let ended = open.chunks.feed(rest.as_deref().unwrap_or(bytes), &mut body);
        let mut heard = Vec::new();
        open.messages.feed(&body, |message| heard.push(message));
        if let Some(&retry) = open.messages.retries.last() {
            self.viewers[who].retry = Duration::from_millis(retry);
        }
        for message in heard {
            self.hear(who, &mut open, message);
        }
        self.viewers[who].open = Some(open);
        ended
    }

    fn hear(&mut self, who: usize, open: &mut Open, message: Message) {
        let (viewer, report) = (&mut self.viewers[who], &mut self.report);
        if message.id.is_some() {
            viewer.last_id.clone_from(&message.id);
        }
        match message.name.as_str() {
            "message" => {
                let Some(number) = number(&message.data) else { return };
                let (word, bit) = (number / 64, 1 << (number % 64));
                if viewer.seen.len() <= word {
                    viewer.seen.resize(word + 1, 0);
                }
                if viewer.seen[word] & bit == 0 {
                    viewer.seen[word] |= bit;
                    self.shared.seen.fetch_add(1, Ordering::Relaxed);
                } else {
                    report.repeats += 1;
                }
            }
            "connected" => {
                open.connected = true;
                self.shared.connected.fetch_add(1, Ordering::Relaxed);
                if std::mem::replace(&mut viewer.was_here, true) {
                    report.returns.push(self.started.elapsed());
                }
            }
            "gap" => report.gaps += 1,
            "bye" => {
                open.said_bye = true;
                let bye = message.json();
                let (reason, pause) = (bye["reason"].as_str(), bye["retry_ms"].as_u64());
                *report.byes.entry(reason.expect("a reason").to_owned()).or_default() += 1;
                let pause = pause.expect("a pause");
                assert_eq!(open.messages.retries.last(), Some(&pause), "retry: says the same");
                let (least, most) = report.pauses_ms.unwrap_or((pause, pause));
                report.pauses_ms = Some((least.min(pause), most.max(pause)));
            }
            other => panic!("{other}: {message:?}"),
        }
    }

    /// The stream is over: the viewer comes back after its pause.
    fn ended(&mut self, who: usize) {
        let viewer = &mut self.viewers[who];
        let Some(open) = viewer.open.take() else { return };
        if open.connected {
            self.shared.connected.fetch_sub(1, Ordering::Relaxed);
        }
        if !open.said_bye {
            self.report.cuts += 1;
        }
        self.due.push((std::cmp::Reverse(Instant::now() + viewer.retry), who));
    }
}
