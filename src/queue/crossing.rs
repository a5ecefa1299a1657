//! What another core's full mailbox did not take, on its way there. Events merge by class; where one finds no room either,
//! the other core is told of which topic, once the rest is through, and reads what it lacks elsewhere: class `every` from
//! history, class `latest` where the newest values are kept. No IO, no clock.
//!
//! What is not taken by the other core never left its place here: putting back would be to admit it once more.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use crate::limits::{CROSSING_CONTROL_MAX, LOG_KEYS_MAX, MESH_BACKLOG_BYTES};
use crate::queue::{Bounds, Drained, Pushed, Queue};
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::random::Map;
use crate::wire::frame::Frame;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// Where an event goes on the other core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To be put in order.
    Order,
    /// To viewers.
    Viewers,
}

/// What of a topic found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missed {
    /// Class `every`, up to this place in history.
    pub every: Option<Position>,
    /// What says that events may be missing.
    pub gap: bool,
    /// Class `latest`.
    pub latest: bool,
}

/// A message that is no event.
pub trait Control: Sized {
    /// What it says something of.
    type Key: Eq + Hash;

    /// Where only the newest of several counts: what they are about.
    fn key(&self) -> Option<Self::Key>;

    /// A newer one of the same key came.
    fn replace(&mut self, newer: Self);

    /// Bytes that it holds.
    fn bytes(&self) -> usize;
}

/// What became of something that was offered to a core.
#[derive(Debug)]
#[must_use]
pub enum Offered<M> {
    /// It is there.
    Taken,
    /// There is no room; a message is given back.
    Refused(Option<M>),
}

impl<M> Offered<M> {
    /// Whether it is there.
    pub fn is_taken(&self) -> bool {
        matches!(self, Offered::Taken)
    }
}

impl<M> From<Result<(), M>> for Offered<M> {
    fn from(sent: Result<(), M>) -> Offered<M> {
        sent.map_or_else(|back| Offered::Refused(Some(back)), |()| Offered::Taken)
    }
}

/// What is offered to the other core.
#[derive(Debug)]
pub enum Crossed<M> {
    /// A message.
    Control(M),
    /// An event.
    Frame(Way, Arc<Frame>),
    /// What it is to read elsewhere.
    Missed(Way, Topic, Missed),
}

/// The events for one [`Way`].
#[derive(Debug)]
struct Lane {
    way: Way,
    queue: Queue,
    missed: Map<Topic, Missed>,
}

impl Lane {
    fn new(way: Way) -> Lane {
        let bounds = Bounds { bytes: MESH_BACKLOG_BYTES, keys: LOG_KEYS_MAX };
        // What is yet to be put in order may come from other data centers, whose frames are told apart there.
        let queue = if way == Way::Order { Queue::new(bounds) } else { Queue::for_viewers(bounds) };
        Lane { way, queue, missed: Map::default() }
    }

    fn push(&mut self, frame: &Arc<Frame>, now_ms: u64) -> Pushed {
        // What follows a hole in a topic comes from history together with what is in the hole.
        let follows_hole = frame.class().has_history()
            && self.missed.get(frame.topic()).is_some_and(|missed| missed.every.is_some() || missed.gap);
        let pushed =
            if follows_hole { Pushed::Overrun } else { self.queue.push(frame, u64::from(frame.count()), now_ms) };
        if pushed == Pushed::Overrun {
            let topic = Topic::of_frame(frame.topic());
            let missed = self.missed.entry(topic).or_default();
            match frame.position() {
                _ if !frame.class().has_history() => missed.latest = true,
                Some(position) => missed.every = missed.every.max(Some(position)),
                None => missed.gap = true,
            }
        }
        pushed
    }
}

/// Everything on its way to one other core.
#[derive(Debug)]
pub struct Crossing<M: Control> {
    control: VecDeque<M>,
    /// The number of `control[0]`, counted from the beginning.
    first: u64,
    keys: Map<M::Key, u64>,
    control_bytes: usize,
    lanes: [Lane; 2],
    account: Account,
    held: Reservation,
}

impl<M: Control> Crossing<M> {
    /// An empty one, of a shard with this account.
    pub fn new(account: &Account) -> Crossing<M> {
        Crossing {
            control: VecDeque::new(),
            first: 0,
            keys: Map::default(),
            control_bytes: 0,
            lanes: [Lane::new(Way::Order), Lane::new(Way::Viewers)],
            account: account.clone(),
            held: account.open(Use::Cores),
        }
    }

    /// Messages, events and topics that wait.
    pub fn len(&self) -> usize {
        self.control.len() + self.lanes.iter().map(|lane| lane.queue.len() + lane.missed.len()).sum::<usize>()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages wait, as many as may: whoever sends takes no more work that would lead to others.
    pub fn is_full(&self) -> bool {
        self.control.len() >= CROSSING_CONTROL_MAX
    }

    /// Adds a message. It is never refused: see [`is_full`](Crossing::is_full).
    pub fn send(&mut self, message: M) {
        let next = self.first + self.control.len() as u64;
        let older = message.key().and_then(|key| match self.keys.get(&key) {
            Some(number) => self.control.get_mut((number - self.first) as usize),
            None => {
                self.keys.insert(key, next);
                None
            }
        });
        match older {
            Some(older) => {
                self.control_bytes -= older.bytes();
                older.replace(message);
                self.control_bytes += older.bytes();
            }
            None => {
                self.control_bytes += message.bytes();
                self.control.push_back(message);
            }
        }
        self.settle();
    }

    /// Adds an event.
    pub fn push(&mut self, way: Way, frame: &Arc<Frame>, now_ms: u64) -> Pushed {
        let room = self.account.most(Use::Cores).saturating_sub(self.account.held(Use::Cores));
        let lane = &mut self.lanes[way as usize];
        lane.queue.limit(MESH_BACKLOG_BYTES.min(lane.queue.bytes() + room));
        let pushed = lane.push(frame, now_ms);
        self.settle();
        pushed
    }

    fn settle(&mut self) {
        let events: usize = self.lanes.iter().map(|lane| lane.queue.bytes()).sum();
        self.held.settle(self.control_bytes + events);
    }

    /// Offers what waits, for as long as `takes` it. A message that is not taken is given back.
    pub fn pass(&mut self, now_ms: u64, mut takes: impl FnMut(Crossed<M>) -> Offered<M>) -> Drained {
        let mut passed = Drained::default();
        while let Some(message) = self.control.pop_front() {
            let (key, bytes) = (message.key(), message.bytes());
            if let Offered::Refused(back) = takes(Crossed::Control(message)) {
                self.control.push_front(back.expect("a message that is not taken is given back"));
                self.settle();
                return passed;
            }
            self.first += 1;
            self.control_bytes -= bytes;
            key.map(|key| self.keys.remove(&key));
        }
        let mut full = false;
        for lane in &mut self.lanes {
            let way = lane.way;
            let drained = lane.queue.pass(now_ms, |frame| {
                full = full || !takes(Crossed::Frame(way, frame)).is_taken();
                !full
            });
            passed.frames += drained.frames;
            passed.expired += drained.expired;
        }
        for lane in &mut self.lanes {
            let way = lane.way;
            lane.missed.retain(|topic, missed| {
                full = full || !takes(Crossed::Missed(way, topic.clone(), *missed)).is_taken();
                full
            });
        }
        self.settle();
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::{Event, Paced, Place};
    use crate::wire::version::Version;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A wish of a topic's, or one of many requests.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Said {
        Wish(u8, u64),
        Request(u64),
    }

    impl Control for Said {
        type Key = u8;

        fn key(&self) -> Option<u8> {
            match self {
                Said::Wish(of, _) => Some(*of),
                Said::Request(_) => None,
            }
        }

        fn replace(&mut self, newer: Said) {
            *self = newer;
        }

        fn bytes(&self) -> usize {
            100
        }
    }

    fn event(class: Class, topic: u8, number: u64, bytes: usize) -> Arc<Frame> {
        let at = |number| Position { ms: number, seq: 0 };
        let (topic, data) = (format!("live:{topic}"), format!("\"{number} {}\"", "x".repeat(bytes)));
        let event = Event {
            id: "i",
            topic: &topic,
            kind: class.name(),
            key: (class == Class::Latest).then_some("k"),
            at: number,
            data: data.as_bytes(),
            class,
            ttl_ms: 5_000,
            place: (class == Class::Every).then(|| Place {
                dc: "dc",
                position: at(number),
                prev: Position::START,
                paced: Paced::SHOWN,
            }),
            version: Version { number: if class == Class::Latest { number } else { 0 }, dc: "" },
            hops: None,
        };
        Arc::new(Frame::encode(&event))
    }

    #[derive(Debug, Clone)]
    enum Op {
        Event(usize, u8, bool),
        Wish(u8),
        Request,
        /// The other core takes so many.
        Room(u8),
    }

    proptest! {
        /// Whatever comes while the other core has little room: likes add up to what was not counted as dropped; of class
        /// `every` each arrives once and in order, or is behind a place that the core is told of; of class `latest` the newest
        /// arrives, or the core is told; and the newest of what is wished, and each request, in order.
        #[test]
        fn nothing_that_was_admitted_is_lost_and_nothing_else_without_a_word(
            ops in prop::collection::vec(prop_oneof![
                8 => (0usize..4, 0u8..5, any::<bool>()).prop_map(|(class, topic, large)| Op::Event(class, topic, large)),
                1 => (0u8..3).prop_map(Op::Wish),
                1 => Just(Op::Request),
                2 => (0u8..12).prop_map(Op::Room),
            ], 1..300),
            most in prop::sample::select(vec![0usize, 1_000, 20_000]),
        ) {
            let account = Account::new([most; Use::ALL.len()]);
            let mut crossing = Crossing::new(&account);
            let (mut number, mut dropped) = (0u64, 0u64);
            let (mut likes, mut every, mut latest) = (0u64, BTreeMap::<String, Vec<u64>>::new(), BTreeMap::<String, u64>::new());
            let (mut wishes, mut requests) = (BTreeMap::new(), Vec::new());
            // The other core: what it was given, and up to where it was told to read elsewhere.
            let (mut got_likes, mut got_latest) = (0u64, BTreeMap::<String, u64>::new());
            let mut got_every = BTreeMap::<String, Vec<u64>>::new();
            let (mut got_wishes, mut got_requests) = (BTreeMap::new(), Vec::new());
            for op in ops.into_iter().chain([Op::Room(u8::MAX), Op::Room(u8::MAX), Op::Room(u8::MAX)]) {
                number += 1;
                match op {
                    Op::Event(class, topic, large) => {
                        let class = Class::ALL[class];
                        let frame = event(class, topic, number, if large { 900 } else { 0 });
                        let topic = frame.topic().to_owned();
                        let pushed = crossing.push(Way::Viewers, &frame, 0);
                        match class {
                            Class::Sum => {
                                likes += 1;
                                match pushed {
                                    Pushed::Dropped => dropped += 1,
                                    Pushed::Displaced(events) => dropped += events,
                                    _ => {}
                                }
                            }
                            Class::Every => every.entry(topic).or_default().push(number),
                            Class::Latest => { latest.insert(topic, number); }
                            Class::Ephemeral => {}
                        }
                    }
                    Op::Wish(of) => {
                        wishes.insert(of, number);
                        crossing.send(Said::Wish(of, number));
                    }
                    Op::Request => {
                        requests.push(number);
                        crossing.send(Said::Request(number));
                    }
                    Op::Room(mut room) => {
                        let passed = crossing.pass(0, |crossed| {
                            if room == 0 {
                                return Offered::Refused(match crossed { Crossed::Control(said) => Some(said), _ => None });
                            }
                            if room < u8::MAX { room -= 1 }
                            match crossed {
                                Crossed::Control(Said::Wish(of, number)) => { got_wishes.insert(of, number); }
                                Crossed::Control(Said::Request(number)) => got_requests.push(number),
                                Crossed::Frame(Way::Viewers, frame) => match frame.class() {
                                    Class::Sum => got_likes += u64::from(frame.count()),
                                    Class::Every => {
                                        let seen = got_every.entry(frame.topic().to_owned()).or_default();
                                        seen.push(frame.position().unwrap().ms);
                                    }
                                    Class::Latest => { got_latest.insert(frame.topic().to_owned(), frame.version().number); }
                                    Class::Ephemeral => {}
                                },
                                Crossed::Missed(Way::Viewers, topic, missed) => {
                                    // It reads: class `every` up to where it was told, and the newest value.
                                    if let Some(to) = missed.every {
                                        let seen = got_every.entry(topic.as_str().to_owned()).or_default();
                                        let from = seen.last().copied().unwrap_or(0);
                                        let there = every[topic.as_str()].iter().copied();
                                        seen.extend(there.filter(|number| (from + 1..=to.ms).contains(number)));
                                    }
                                    if missed.latest {
                                        got_latest.insert(topic.as_str().to_owned(), latest[topic.as_str()]);
                                    }
                                }
                                other => panic!("{other:?}"),
                            }
                            Offered::Taken
                        });
                        prop_assert_eq!(passed.expired, 0);
                    }
                }
                let waits: usize = crossing.lanes.iter().map(|lane| lane.queue.bytes()).sum();
                prop_assert_eq!(account.held(Use::Cores), waits + 100 * crossing.control.len());
            }
            prop_assert!(crossing.is_empty() && crossing.keys.is_empty() && account.held(Use::Cores) == 0);
            prop_assert_eq!(got_likes + dropped, likes);
            prop_assert_eq!(got_every, every);
            prop_assert_eq!(got_latest, latest);
            prop_assert_eq!(got_wishes, wishes);
            prop_assert_eq!(got_requests, requests);
        }
    }

    #[test]
    fn what_is_put_back_is_not_admitted_anew() {
        // As long as the queue was full once, and its reader takes one at a time.
        let mut crossing: Crossing<Said> = Crossing::new(&Account::unbounded());
        let mut refused = 0;
        for number in 1..=400 {
            match crossing.push(Way::Viewers, &event(Class::Every, (number % 5) as u8, number, 15_900), 0) {
                Pushed::Overrun => refused += 1,
                pushed => assert_eq!(pushed, Pushed::Queued),
            }
        }
        let (mut given, mut told) = (0, 0);
        while !crossing.is_empty() {
            let mut room = 1;
            let passed = crossing.pass(0, |crossed| {
                if room == 0 {
                    return Offered::Refused(None);
                }
                room -= 1;
                match crossed {
                    Crossed::Frame(..) => given += 1,
                    Crossed::Missed(_, _, missed) => told += usize::from(missed.every.is_some()),
                    Crossed::Control(_) => unreachable!("nothing was said"),
                }
                Offered::Taken
            });
            assert!(passed.frames <= 1);
        }
        assert!(refused > 0);
        assert_eq!((given, told), (400 - refused, 5));
    }
}
