//! Viewers that come back, at another Frontend, with what they saw last: on epoll, one thread for all of a test.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use serde_json::json;

use super::eventually;
use super::sse::{Chunks, Message, Messages};

/// A viewer that was cut, or found nobody, comes back after this.
const BACK_AFTER: Duration = Duration::from_millis(200);

/// What one viewer has seen.
#[derive(Default)]
pub struct Viewer {
    pub topics: Vec<String>,
    /// Where it is, or goes next.
    pub door: usize,
    /// Ids in the order in which they came first.
    pub seen: Vec<String>,
    /// How often each came.
    times: HashMap<String, usize>,
    /// Events, repeats included.
    pub received: usize,
    /// The id that came last, by topic, type and key.
    pub newest: HashMap<(String, String, String), String>,
    /// `count` of class `sum`, by topic.
    pub sums: HashMap<String, u64>,
    /// The highest total that a like said, by topic: they may pass each other on the way.
    pub totals: HashMap<String, u64>,
    /// The number of viewers that was told last, by topic. It is no event that counts: it comes when anybody comes or
    /// leaves.
    pub counts: HashMap<String, u64>,
    /// The total of likes over all data centers that was told last, by topic; no event that counts, either.
    pub likes: HashMap<String, u64>,
    /// Topics of `gap`.
    pub gaps: Vec<String>,
    pub connected: usize,
    /// What it says when it comes back.
    pub last_id: Option<String>,
    too_early: bool,
    line: Option<Line>,
    back_at: Option<Instant>,
}

/// An open connection.
struct Line {
    socket: TcpStream,
    head: Option<Vec<u8>>,
    chunks: Chunks,
    messages: Messages,
}

struct Shared {
    doors: Vec<SocketAddr>,
    viewers: Mutex<Vec<Viewer>>,
    stop: AtomicBool,
}

/// All viewers of a test.
pub struct Viewers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Viewers {
    /// One viewer for each list of topics, spread over the doors; waits until all are connected.
    pub fn start(doors: Vec<SocketAddr>, topics: Vec<Vec<String>>) -> Viewers {
        let viewer = |(door, topics)| Viewer { topics, door, back_at: Some(Instant::now()), ..Viewer::default() };
        let viewers: Vec<Viewer> = topics.into_iter().enumerate().map(viewer).collect();
        let shared = Shared { doors, viewers: Mutex::new(viewers), stop: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let own = Arc::clone(&shared);
        let viewers = Viewers { shared, thread: Some(std::thread::spawn(move || own.run())) };
        viewers.until("to be connected", |viewer| viewer.connected > 0);
        viewers
    }

    /// `count` viewers of all of these topics.
    pub fn of(doors: Vec<SocketAddr>, topics: &[String], count: usize) -> Viewers {
        Viewers::start(doors, vec![topics.to_vec(); count])
    }

    pub fn lock(&self) -> MutexGuard<'_, Vec<Viewer>> {
        self.shared.viewers.lock().expect("the viewers' thread is well")
    }

    /// Waits until each is as it should be.
    #[track_caller]
    pub fn until(&self, what: &str, fits: impl Fn(&Viewer) -> bool) {
        self.until_seen(what, |_, viewer| fits(viewer), |_| String::new());
    }

    #[track_caller]
    fn until_seen(&self, what: &str, mut fits: impl FnMut(usize, &Viewer) -> bool, says: impl Fn(&Viewer) -> String) {
        eventually(&format!("all viewers {what}"), || {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "the viewers' thread ended");
            let viewers = self.lock();
            let left: Vec<usize> = (0..viewers.len()).filter(|&at| !fits(at, &viewers[at])).collect();
            match left.first() {
                None => Ok(()),
                Some(&at) => {
                    let viewer = &viewers[at];
                    let last = viewer.seen.last();
                    Err(format!(
                        "{} of {} do not; viewer {at} at {} saw {}, last {last:?}, connected {} times, gaps {:?}{}",
                        left.len(),
                        viewers.len(),
                        viewer.door,
                        viewer.seen.len(),
                        viewer.connected,
                        viewer.gaps,
                        says(viewer)
                    ))
                }
            }
        });
    }

    /// Waits until each has all of these, whatever its topics.
    #[track_caller]
    pub fn have(&self, ids: &[String]) {
        let missing = |viewer: &Viewer| ids.iter().filter(|id| !viewer.has(id)).cloned().collect::<Vec<String>>();
        // How many each was seen to have: looked up anew every time, with all viewers held, they would keep the
        // viewers' thread from reading.
        let mut had = HashMap::<usize, usize>::new();
        let has_all = |number: usize, viewer: &Viewer| {
            let had = had.entry(number).or_default();
            *had += ids[*had..].iter().take_while(|id| viewer.has(id)).count();
            *had == ids.len()
        };
        self.until_seen(&format!("to have all {}", ids.len()), has_all, |viewer| {
            format!(", lacks {:?}", missing(viewer))
        });
    }

    /// Asserts that nobody got any of these more than once.
    #[track_caller]
    pub fn without_repeats(&self, ids: &[String]) {
        for (number, viewer) in self.lock().iter().enumerate() {
            for id in ids {
                let times = viewer.times.get(id).copied().unwrap_or_default();
                assert!(times < 2, "viewer {number} saw {id} {times} times");
            }
        }
    }

    /// Asserts that those of `ids` that a viewer saw came in this order, which is that of their publisher.
    #[track_caller]
    pub fn in_order(&self, ids: &[String], topic_of: impl Fn(&str) -> String) {
        let place: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
        for (number, viewer) in self.lock().iter().enumerate() {
            let mut last: HashMap<String, (usize, &str)> = HashMap::new();
            for id in &viewer.seen {
                let Some(&at) = place.get(id.as_str()) else { continue };
                if let Some((before, other)) = last.insert(topic_of(id), (at, id)) {
                    assert!(before < at, "viewer {number} saw {id} after {other}");
                }
            }
        }
    }

    /// Asserts that none was told of a gap.
    #[track_caller]
    pub fn without_gaps(&self) {
        for (number, viewer) in self.lock().iter().enumerate() {
            assert_eq!(viewer.gaps, [""; 0], "viewer {number}");
        }
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the viewers' thread");
        }
    }
}

impl Shared {
    fn run(&self) {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a file descriptor is free");
        let mut buffer = vec![0; 64 * 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let mut events = Vec::with_capacity(256);
            let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
            let mut viewers = self.viewers.lock().unwrap();
            for event in &events {
                viewers[event.data.u64() as usize].read(&mut buffer);
            }
            let now = Instant::now();
            for (number, viewer) in viewers.iter_mut().enumerate() {
                if viewer.back_at.is_some_and(|at| at <= now) {
                    viewer.connect(&self.doors, &epoll, number as u64);
                }
            }
        }
    }
}

impl Viewer {
    /// Whether it has this event.
    pub fn has(&self, id: &str) -> bool {
        self.times.contains_key(id)
    }

    fn connect(&mut self, doors: &[SocketAddr], epoll: &OwnedFd, number: u64) {
        self.back_at = None;
        let query: Vec<String> = self.topics.iter().map(|topic| format!("topic={topic}")).collect();
        let header = self.last_id.as_ref().map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /v1/events?{} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n", query.join("&"));
        let opened = || -> std::io::Result<TcpStream> {
            let mut socket = TcpStream::connect(doors[self.door % doors.len()])?;
            socket.write_all(request.as_bytes())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let Ok(socket) = opened() else { return self.leave() };
        epoll::add(epoll, &socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN).expect("it is ours");
        let (chunks, mut messages): (Chunks, Messages) = Default::default();
        (messages.viewers, messages.totals) = (true, true);
        self.line = Some(Line { socket, head: Some(Vec::new()), chunks, messages });
    }

    /// Comes back soon, by the next door.
    fn leave(&mut self) {
        self.line = None;
        self.door += 1;
        self.back_at = Some(Instant::now() + BACK_AFTER);
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let Some(mut line) = self.line.take() else { return };
        let count = match line.socket.read(buffer) {
            Ok(0) => return self.leave(),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.line = Some(line);
                return;
            }
            Err(_) => return self.leave(),
        };
        let mut bytes = &buffer[..count];
        let whole;
        if let Some(begun) = &mut line.head {
            begun.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(begun, b"\r\n\r\n") else {
                self.line = Some(line);
                return;
            };
            if begun.starts_with(b"HTTP/1.1 503 ") {
                // A node that drains sends whoever comes to the next door.
                return self.leave();
            }
            assert!(begun.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(begun));
            whole = begun.split_off(end + 4);
            bytes = &whole;
            line.head = None;
        }
        let mut body = Vec::with_capacity(bytes.len());
        let ended = line.chunks.feed(bytes, &mut body);
        line.messages.feed(&body, |message| self.take(message));
        if std::mem::take(&mut self.too_early) {
            self.back_at = Some(Instant::now() + BACK_AFTER);
        } else if ended {
            self.leave();
        } else {
            self.line = Some(line);
        }
    }

    fn take(&mut self, message: Message) {
        let json = message.json();
        match message.name.as_str() {
            // Before its topics are registered nothing is promised to a viewer that has no last event: it comes again.
            "connected" if json["pending"] != json!([]) && self.last_id.is_none() => self.too_early = true,
            "connected" => {
                self.connected += 1;
                self.last_id = message.id;
            }
            "gap" => self.gaps.push(json["topic"].as_str().expect("a topic").to_owned()),
            "message" if json["type"] == "viewers" => {
                let count = json["data"]["viewers"].as_u64().expect("a number");
                self.counts.insert(json["topic"].as_str().expect("a topic").to_owned(), count);
            }
            "message" if json["type"] == "likes" => {
                let total = json["data"]["likes"].as_u64().expect("a number");
                self.likes.insert(json["topic"].as_str().expect("a topic").to_owned(), total);
            }
            "message" => {
                self.received += 1;
                self.last_id = message.id.or(self.last_id.take());
                let id = json["id"].as_str().expect("an id");
                let topic = json["topic"].as_str().expect("a topic");
                if let Some(count) = json["count"].as_u64() {
                    *self.sums.entry(topic.to_owned()).or_default() += count;
                }
                if let Some(total) = json["data"]["likes"].as_u64() {
                    let shown = self.totals.entry(topic.to_owned()).or_default();
                    *shown = total.max(*shown);
                }
                let part = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
                self.newest.insert((part("topic"), part("type"), part("key")), id.to_owned());
                let times = self.times.entry(id.to_owned()).or_default();
                *times += 1;
                if *times == 1 {
                    self.seen.push(id.to_owned());
                }
            }
            "bye" | "token" => {}
            other => panic!("{other}: {}", message.data),
        }
    }
}
