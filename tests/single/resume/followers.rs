//! Clients that are cut again and again, come back with what they saw last, and check all that they get: on epoll, one
//! thread for all.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::support::DEADLINE;
use super::support::sse::{Chunks, Message, Messages};

/// Numbers that look random, and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    /// SplitMix64.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % below
    }
}

/// What the test knows of a topic's comments, which have the ids `<topic>/<number>`: so many were sent, of which so many
/// got their 202.
#[derive(Default)]
pub struct Published {
    pub sent: AtomicUsize,
    pub taken: AtomicUsize,
}

/// How clients are cut.
pub struct Plan<'a> {
    pub address: SocketAddr,
    /// Topics and what is known of them.
    pub topics: &'a [(String, Published)],
    /// Events that history keeps of each.
    pub history: usize,
    /// How often each client is cut.
    pub cuts: usize,
    /// A client that was cut stays away until so many more were taken, over all topics.
    pub away: usize,
    /// Over all topics, in the end.
    pub total: usize,
    /// Cuts so far, of all clients.
    pub cut: AtomicUsize,
    /// A client comes back once so many were taken.
    pub wanted: AtomicUsize,
}

impl Plan<'_> {
    fn taken(&self) -> usize {
        self.topics.iter().map(|(_, published)| published.taken.load(Ordering::Acquire)).sum()
    }
}

/// What one client has of one topic.
#[derive(Default)]
struct Followed {
    /// The number after the newest that it has.
    next: usize,
    /// What a `gap` explained.
    holes: Vec<Range<usize>>,
    /// A `gap` was said and no event came since.
    gap: bool,
    /// It came back, and nothing newer came since: what comes overlaps with what it has.
    overlaps: bool,
}

enum State {
    Connected {
        socket: TcpStream,
        head: Option<Vec<u8>>,
        chunks: Box<Chunks>,
        messages: Messages,
        /// It was told to come back, and what ends the body is to come.
        bye: bool,
    },
    /// Until so many were taken.
    Away(usize),
}

/// When the present connection is cut.
enum Cut {
    /// After so many bytes, or when it has all that was taken when it came.
    Bytes(usize),
    /// So many bytes after it has all that was taken when it came.
    CaughtUp(usize),
}

struct Follower {
    state: State,
    cut: Cut,
    cuts_left: usize,
    /// What it must have to have caught up.
    target: Vec<usize>,
    last_id: Option<String>,
    topics: Vec<Followed>,
    gaps: usize,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub gaps: usize,
    /// Events that are missing, all of them explained by a gap.
    pub missing: usize,
    pub received: usize,
    /// Streams that the node ended because the client lagged.
    pub byes: usize,
}

/// Runs so many clients until each was cut as often as planned, and has everything.
pub fn follow(plan: &Plan<'_>, count: usize, dice: &mut Dice) -> Seen {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a file descriptor is free");
    let mut followers: Vec<Follower> = (0..count)
        .map(|_| Follower {
            state: State::Away(0),
            cut: Cut::Bytes(0),
            cuts_left: plan.cuts,
            target: Vec::new(),
            last_id: None,
            topics: plan.topics.iter().map(|_| Followed::default()).collect(),
            gaps: 0,
        })
        .collect();
    let names: HashMap<&str, usize> =
        plan.topics.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut seen = Seen::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut progress = (Instant::now(), 0);
    loop {
        let taken = plan.taken();
        let mut settled = 0;
        for (number, follower) in followers.iter_mut().enumerate() {
            match follower.state {
                State::Away(until) if taken >= until => follower.connect(plan, &epoll, number as u64, dice),
                State::Connected { .. } if follower.cuts_left == 0 && follower.next() == plan.total => settled += 1,
                _ => {}
            }
        }
        if settled == count {
            break;
        }
        let now = (seen.received, plan.cut.load(Ordering::Relaxed), taken);
        if progress.1 != now.0 + now.1 + now.2 {
            progress = (Instant::now(), now.0 + now.1 + now.2);
        }
        if progress.0.elapsed() > DEADLINE {
            let behind = followers.iter().position(|follower| follower.next() < plan.total).expect("one is behind");
            let next: Vec<_> = followers[behind].topics.iter().map(|topic| topic.next).collect();
            let left = followers[behind].cuts_left;
            panic!("nothing goes on; {settled} have all of {taken}; client {behind} has {next:?} and {left} cuts left");
        }
        let mut events = Vec::with_capacity(256);
        let wait = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
        for event in &events {
            let follower = &mut followers[event.data.u64() as usize];
            follower.read(plan, &names, &mut buffer, &mut seen);
            if follower.is_due() {
                follower.cut(plan, dice);
            }
        }
    }
    for follower in &followers {
        seen.gaps += follower.gaps;
        seen.missing += follower.topics.iter().flat_map(|topic| &topic.holes).map(Range::len).sum::<usize>();
    }
    seen
}

impl Follower {
    /// Up to where it has, or knows that it misses, all.
    fn next(&self) -> usize {
        self.topics.iter().map(|topic| topic.next).sum()
    }

    fn connect(&mut self, plan: &Plan<'_>, epoll: &rustix::fd::OwnedFd, number: u64, dice: &mut Dice) {
        self.target = plan.topics.iter().map(|(_, published)| published.taken.load(Ordering::Acquire)).collect();
        self.cut = match dice.roll(4) {
            // Not one byte is looked at.
            0 => Cut::Bytes(0),
            1 => Cut::Bytes(dice.roll(200_000) as usize),
            _ => Cut::CaughtUp(dice.roll(2_000) as usize),
        };
        let query: Vec<String> = plan.topics.iter().map(|(name, _)| format!("topic={name}")).collect();
        let (mut query, mut header) = (query.join("&"), String::new());
        self.topics.iter_mut().for_each(|topic| topic.overlaps = true);
        if let Some(id) = &self.last_id {
            match dice.roll(3) {
                0 => query += &format!("&last_event_id={}", id.replace(':', "%3A")),
                // The header wins.
                1 => {
                    query += "&last_event_id=unreadable";
                    header = format!("Last-Event-ID: {id}\r\n");
                }
                _ => header = format!("Last-Event-ID: {id}\r\n"),
            }
        } else {
            // Whoever never had anything says so, or it would be shown only what comes.
            query += "&last_event_id=local:0-0";
            self.topics.iter_mut().filter(|topic| topic.next == 0).for_each(|topic| topic.gap = true);
        }
        let mut socket = TcpStream::connect(plan.address).expect("the node accepts");
        write!(socket, "GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").expect("it fits");
        socket.set_nonblocking(true).expect("a socket option");
        let data = epoll::EventData::new_u64(number);
        epoll::add(epoll, &socket, data, epoll::EventFlags::IN).expect("it is a socket of ours");
        let (chunks, messages) = Default::default();
        self.state = State::Connected { socket, head: Some(Vec::new()), chunks, messages, bye: false };
    }

    /// Whether it is time to cut it.
    fn is_due(&self) -> bool {
        let caught_up = self.topics.iter().zip(&self.target).all(|(topic, target)| topic.next >= *target);
        self.cuts_left > 0
            && match self.cut {
                Cut::Bytes(left) => left == 0 || caught_up,
                Cut::CaughtUp(left) => left == 0,
            }
    }

    fn cut(&mut self, plan: &Plan<'_>, dice: &mut Dice) {
        let away = if dice.roll(2) == 0 { 0 } else { plan.away };
        let until = (plan.taken() + away).min(plan.total);
        let State::Connected { socket, .. } = std::mem::replace(&mut self.state, State::Away(until)) else { return };
        if dice.roll(2) == 0 {
            let reset = socket2::SockRef::from(&socket);
            reset.set_linger(Some(Duration::ZERO)).expect("a socket option");
        } else {
            // The node may have closed it just now.
            let _ = socket.shutdown(Shutdown::Write);
        }
        self.cuts_left -= 1;
        plan.wanted.fetch_max(until, Ordering::Relaxed);
        plan.cut.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&mut self, plan: &Plan<'_>, names: &HashMap<&str, usize>, buffer: &mut [u8], seen: &mut Seen) {
        let State::Connected { socket, head, chunks, messages, bye } = &mut self.state else { return };
        // A cut within what one read would bring is a cut, too.
        let most = match self.cut {
            Cut::Bytes(left) if self.cuts_left > 0 => left.clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let count = match socket.read(&mut buffer[..most]) {
            Ok(0) => panic!("the node ended a stream without a word"),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(error) => panic!("{error}"),
        };
        let mut bytes = &buffer[..count];
        let whole;
        if let Some(begun) = head {
            begun.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(begun, b"\r\n\r\n") else { return };
            assert!(begun.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(begun));
            whole = begun.split_off(end + 4);
            bytes = &whole;
            *head = None;
        }
        let mut body = Vec::with_capacity(bytes.len());
        let ended = chunks.feed(bytes, &mut body);
        let (topics, last_id, gaps) = (&mut self.topics, &mut self.last_id, &mut self.gaps);
        messages.feed(&body, |message| match message.name.as_str() {
            _ if *bye => panic!("behind bye: {}", message.data),
            "connected" => {}
            "gap" => {
                let gap = message.json();
                let topic = &mut topics[names[gap["topic"].as_str().expect("a topic")]];
                topic.gap = true;
                *gaps += 1;
            }
            "message" => {
                let (topic, number) = id_of(&message);
                let at = names[topic];
                seen.received += 1;
                topics[at].take(number, plan.topics[at].1.sent.load(Ordering::Acquire), plan.history);
                *last_id = message.id;
            }
            "bye" => {
                assert_eq!(message.json()["reason"], "backlog");
                *bye = true;
            }
            other => panic!("{other}: {}", message.data),
        });
        // What ends the body may come with a later read than bye.
        assert!(!ended || *bye, "the last event is bye");
        if ended {
            seen.byes += 1;
            self.state = State::Away(0);
            return;
        }
        let caught_up = self.topics.iter().zip(&self.target).all(|(topic, target)| topic.next >= *target);
        match &mut self.cut {
            Cut::Bytes(left) => *left = left.saturating_sub(count),
            Cut::CaughtUp(left) if caught_up => *left = left.saturating_sub(count),
            Cut::CaughtUp(_) => {}
        }
    }
}

impl Followed {
    /// Takes an event: the next one, a repeat, or one behind a hole that a gap told of, all of which history had forgotten.
    fn take(&mut self, number: usize, sent: usize, history: usize) {
        if number > self.next {
            let missing = self.next..number;
            assert!(self.gap, "{missing:?} are missing, and no gap said so");
            assert!(number + history <= sent, "{missing:?} are missing of {sent}, and history keeps {history}");
            self.holes.push(missing);
        }
        // What a `gap` explained may be there again for who comes back, since the node remembers what history forgot.
        let late = self.holes.iter().any(|hole| hole.contains(&number));
        assert!(!late || self.overlaps, "{number} came after what followed it");
        self.overlaps &= number < self.next;
        self.next = self.next.max(number + 1);
        self.gap = false;
    }
}

/// The topic and number in an event's id, without reading all of its JSON.
fn id_of(message: &Message) -> (&str, usize) {
    let id =
        message.data.strip_prefix("{\"id\":\"").and_then(|rest| rest.split('"').next()).expect("an id comes first");
    let (topic, number) = id.rsplit_once('/').expect("an id of the test");
    (topic, number.parse().expect("a number"))
}
