//! What waits for a reader that lags: a bounded queue that merges by delivery class, so that it stays small and still tells
//! the truth. What follows from a frame that finds no room is its user's to know: a connection's [`Backlog`], a topic whose
//! fan-out falls behind ([`TopicEntry`]), the way to another core ([`Crossing`]) and the way to another node ([`Outbox`]) each
//! have a rule of their own.
//!
//! [`Backlog`]: super::backlog::Backlog
//! [`TopicEntry`]: super::topics::TopicEntry
//! [`Crossing`]: super::crossing::Crossing
//! [`Outbox`]: crate::dispatch::outbox::Outbox

use std::collections::VecDeque;
use std::sync::Arc;

use crate::runtime::random::Map;
use crate::wire::event::Class;
use crate::wire::frame::{ByIdentity, Frame};

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes up to which every class is queued.
    pub bytes: usize,
    /// Merged entries of `sum` and `latest` that are kept past that.
    pub keys: usize,
}

/// What became of a frame, or of an older one that made room for it. Whoever pushed it tells its reader, or counts it.
#[must_use = "what found no room is lost unless its reader hears of it"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It took the place of an older one of the same identity, whose count it carries on.
    Merged,
    /// It is of class `every` or `latest`, and there is no room: it is not here, and its reader is to get it elsewhere.
    Overrun,
    /// There is no room for its class, and it is gone.
    Dropped,
    /// It waits; the oldest `sum` entry went for it, which stood for this many events.
    Displaced(u64),
}

#[derive(Debug)]
struct Entry {
    frame: Arc<Frame>,
    count: u64,
    queued_at_ms: u64,
}

impl Entry {
    /// Whether it waited past its time to live.
    fn is_expired(&self, now_ms: u64) -> bool {
        let ttl = u64::from(self.frame.ttl_ms());
        self.frame.class() == Class::Ephemeral && now_ms.saturating_sub(self.queued_at_ms) > ttl
    }
}

/// What [`Queue::drain`] handed out and left out.
#[must_use = "what expired is to be counted"]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Frames handed out.
    pub frames: u64,
    /// `ephemeral` frames that had waited past their time to live.
    pub expired: u64,
}

/// A bounded queue of frames that merges by class.
///
/// A merged entry moves to the end, where its newest event belongs, so nothing is reordered within a topic.
#[derive(Debug)]
pub struct Queue {
    /// Merged entries leave a hole behind.
    entries: VecDeque<Option<Entry>>,
    /// The number of `entries[0]`, counted from the queue's beginning.
    first: u64,
    index: Map<ByIdentity, u64>,
    bytes: usize,
    live: usize,
    bounds: Bounds,
}

impl Queue {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Queue {
        Queue { entries: VecDeque::new(), first: 0, index: Map::default(), bytes: 0, live: 0, bounds }
    }

    /// Bytes of the frames that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// From now on it holds no more bytes than these; what waits stays.
    pub fn limit(&mut self, bytes: usize) {
        self.bounds.bytes = bytes;
    }

    /// Adds `frame`, standing for `count` events. What it takes back waits no longer.
    pub fn push(&mut self, frame: &Arc<Frame>, count: u64, now_ms: u64) -> Pushed {
        let class = frame.class();
        if class == Class::Every
            && let Some(withdrawn) = frame.withdraws()
        {
            // It is not lost: its readers are told instead that it was taken back.
            let _ = self.retain(|waiting| !waiting.is(frame.topic(), &withdrawn));
        }
        let merges = matches!(class, Class::Sum | Class::Latest);
        let size = frame.bytes().len();
        let mut outcome = Pushed::Queued;
        let (mut total, mut newest) = (count, Arc::clone(frame));
        // One look-up serves both: finding what to merge with, and noting where the newest now is.
        let next = self.first + self.entries.len() as u64;
        let mut merged = if merges { self.index.insert(ByIdentity(Arc::clone(frame)), next) } else { None };
        if class == Class::Sum
            && let Some(number) = merged
            && !self.entry(number).is_some_and(|old| frame.merges_with(&old.frame))
        {
            // Together they come from too many frames of another data center: each waits for itself.
            if self.bytes + size > self.bounds.bytes {
                self.index.insert(ByIdentity(Arc::clone(frame)), number);
                return Pushed::Dropped;
            }
            merged = None;
        }
        if let Some(number) = merged {
            let old = self.take(number).expect("the index names live entries only");
            if class == Class::Sum {
                total += old.count;
                // What came by another way may be older, and its total would be shown for good.
                let is_older = old.frame.version() > frame.version();
                newest = if is_older { old.frame.merged_with(frame) } else { frame.merged_with(&old.frame) };
            } else if !frame.replaces(&old.frame) {
                newest = old.frame;
            }
            outcome = Pushed::Merged;
        } else if self.bytes + size > self.bounds.bytes {
            match class {
                Class::Every => return Pushed::Overrun,
                Class::Ephemeral => return Pushed::Dropped,
                Class::Sum | Class::Latest if self.index.len() > self.bounds.keys => {
                    // Its own entry in the index is the one too many.
                    match self.displace_oldest_sum() {
                        Some(lost) => outcome = Pushed::Displaced(lost),
                        None => {
                            self.index.remove(&ByIdentity(Arc::clone(frame)));
                            return Pushed::Overrun;
                        }
                    }
                }
                Class::Sum | Class::Latest => {}
            }
        }
        self.bytes += newest.bytes().len();
        self.entries.push_back(Some(Entry { frame: newest, count: total, queued_at_ms: now_ms }));
        self.live += 1;
        self.trim();
        outcome
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get((number - self.first) as usize)?.as_ref()
    }

    /// Takes the entry of this number out, leaving a hole.
    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.get_mut((number - self.first) as usize)?.take()?;
        self.live -= 1;
        self.bytes -= entry.frame.bytes().len();
        Some(entry)
    }

    fn displace_oldest_sum(&mut self) -> Option<u64> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.as_ref().is_some_and(|entry| entry.frame.class() == Class::Sum))?;
        let entry = self.take(self.first + at as u64)?;
        self.index.remove(&ByIdentity(entry.frame));
        Some(entry.count)
    }

    /// Keeps holes from outnumbering what lives.
    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        if self.entries.len() > 64 && self.entries.len() > 4 * self.live {
            self.entries.retain(Option::is_some);
            for (offset, entry) in self.entries.iter().enumerate() {
                let entry = entry.as_ref().expect("holes are gone");
                if matches!(entry.frame.class(), Class::Sum | Class::Latest) {
                    self.index.insert(ByIdentity(Arc::clone(&entry.frame)), self.first + offset as u64);
                }
            }
        }
    }

    /// Hands out all that waits, in order, with the counts they stand for.
    pub fn drain(&mut self, now_ms: u64, mut each: impl FnMut(&Arc<Frame>, u64)) -> Drained {
        let mut drained = Drained::default();
        for entry in self.entries.drain(..).flatten() {
            if entry.is_expired(now_ms) {
                drained.expired += 1;
                continue;
            }
            drained.frames += 1;
            each(&entry.frame, entry.count);
        }
        self.index.clear();
        self.bytes = 0;
        self.live = 0;
        drained
    }

    /// Takes the oldest out, whether or not it expired.
    fn pop(&mut self) -> Option<Entry> {
        loop {
            let front = self.entries.pop_front()?;
            self.first += 1;
            let Some(entry) = front else { continue };
            self.live -= 1;
            self.bytes -= entry.frame.bytes().len();
            if matches!(entry.frame.class(), Class::Sum | Class::Latest) {
                let identity = ByIdentity(Arc::clone(&entry.frame));
                // A later one of the same identity may wait by itself.
                if self.index.get(&identity) == Some(&(self.first - 1)) {
                    self.index.remove(&identity);
                }
            }
            return Some(entry);
        }
    }

    /// Hands out from the front until `bytes` are reached or there are `frames`; the rest waits on.
    pub fn take_front(
        &mut self,
        now_ms: u64,
        bytes: usize,
        frames: u64,
        mut each: impl FnMut(&Arc<Frame>, u64),
    ) -> Drained {
        let (mut drained, mut taken) = (Drained::default(), 0);
        while taken < bytes && drained.frames < frames {
            let Some(entry) = self.pop() else { break };
            if entry.is_expired(now_ms) {
                drained.expired += 1;
                continue;
            }
            taken += entry.frame.bytes().len();
            drained.frames += 1;
            each(&entry.frame, entry.count);
        }
        drained
    }

    /// Offers what waits from the front on, for as long as `takes` it. What is not taken never left its place, so it is not
    /// admitted a second time.
    pub fn pass(&mut self, now_ms: u64, mut takes: impl FnMut(Arc<Frame>) -> bool) -> Drained {
        let mut drained = Drained::default();
        loop {
            self.trim();
            let Some(Some(front)) = self.entries.front() else { return drained };
            if front.is_expired(now_ms) {
                drained.expired += 1;
            } else if takes(front.frame.recounted(front.count)) {
                drained.frames += 1;
            } else {
                return drained;
            }
            self.pop();
        }
    }

    /// Drops what `keeps` does not keep. Gives how many events of each class went.
    #[must_use = "what is dropped is to be counted"]
    pub fn retain(&mut self, keeps: impl Fn(&Frame) -> bool) -> [u64; 4] {
        let mut dropped = [0; 4];
        for entry in &mut self.entries {
            let Some(Entry { frame, count, .. }) = entry else { continue };
            if keeps(frame) {
                continue;
            }
            dropped[frame.class() as usize] += *count;
            if matches!(frame.class(), Class::Sum | Class::Latest) {
                self.index.remove(&ByIdentity(Arc::clone(frame)));
            }
            self.live -= 1;
            self.bytes -= frame.bytes().len();
            *entry = None;
        }
        self.trim();
        dropped
    }

    /// Events that wait, counting what was merged, by class.
    pub fn events(&self) -> [u64; 4] {
        let mut events = [0; 4];
        self.entries.iter().flatten().for_each(|entry| events[entry.frame.class() as usize] += entry.count);
        events
    }

    /// When what waits longest began to, in Unix ms; what merged counts from the newest.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.entries.iter().flatten().next().map(|entry| entry.queued_at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::tests::frame;
    use crate::wire::frame::{Event, Stranger};
    use crate::wire::version::Version;
    use proptest::prelude::*;

    const ROOMY: Bounds = Bounds { bytes: 1 << 20, keys: 256 };

    fn data(frame: &Frame) -> String {
        frame.json().rsplit("\"data\":").next().expect("a part of it").to_owned()
    }

    fn drained(backlog: &mut Queue, now: u64) -> (Vec<(String, u64)>, Drained) {
        let mut out = Vec::new();
        let rest = backlog.drain(now, |frame, count| {
            out.push((String::from_utf8(frame.recounted(count).event().to_vec()).unwrap(), count));
        });
        (out, rest)
    }

    #[test]
    fn past_its_budget_every_is_overrun_and_sums_go_on() {
        let mut backlog = Queue::new(Bounds { bytes: 1000, keys: 2 });
        let comment = frame("live:1", "comment", None, Class::Every, &format!("\"{}\"", "x".repeat(700)));
        assert_eq!(backlog.push(&comment, 1, 0), Pushed::Queued);
        assert_eq!(backlog.push(&comment, 1, 0), Pushed::Overrun);
        let like = |key: &str| frame("live:1", "like", Some(key), Class::Sum, &format!("\"{}\"", "y".repeat(200)));
        assert_eq!(backlog.push(&like("a"), 1, 0), Pushed::Queued);
        assert_eq!(backlog.push(&like("a"), 1, 0), Pushed::Merged);
        assert_eq!(backlog.push(&like("b"), 1, 0), Pushed::Queued);
        assert_eq!(backlog.push(&like("c"), 1, 0), Pushed::Displaced(2));
        let typing = frame("chat:1", "typing", None, Class::Ephemeral, "1");
        assert_eq!(backlog.push(&typing, 1, 0), Pushed::Dropped);
        assert_eq!(drained(&mut backlog, 0).0.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
        assert_eq!(backlog.push(&comment, 1, 0), Pushed::Queued, "what it lacks is its reader's to know");
    }

    #[test]
    fn frames_of_other_data_centers_merge_while_their_numbers_fit() {
        use crate::wire::connection_id::NodeId;
        use crate::wire::frame::{ORIGINS_MAX, Origin};
        let mut backlog = Queue::new(Bounds { bytes: 400, keys: 2 });
        let like = frame("live:1", "like", None, Class::Sum, "1");
        let mut pushed = [0; 5];
        for number in 0..5 * ORIGINS_MAX as u64 {
            let origin = Origin { sender: Stranger::of("b", NodeId(1)), shard: 0, number, count: 1 };
            pushed[match backlog.push(&like.with_origins(&[origin]), 1, 0) {
                Pushed::Queued => 0,
                Pushed::Merged => 1,
                Pushed::Dropped => 2,
                other => panic!("{other:?}"),
            }] += 1;
        }
        let mut seen = Vec::new();
        let drained = backlog.drain(0, |frame, count| {
            assert_eq!((frame.origins().len(), count), (ORIGINS_MAX, ORIGINS_MAX as u64));
            seen.extend(frame.origins().iter().map(|origin| origin.number));
        });
        assert_eq!(drained.frames, pushed[0] as u64);
        assert_eq!(pushed[0] + pushed[1], seen.len(), "each number waits, or is counted as dropped");
        assert!(seen.is_sorted() && pushed[0] > 1 && pushed[2] > 0, "{pushed:?}");
    }

    #[test]
    fn more_latest_keys_than_fit_is_an_overrun_not_a_silent_loss() {
        let mut backlog = Queue::new(Bounds { bytes: 0, keys: 1 });
        let receipt = |key: &str| frame("chat:1", "receipt", Some(key), Class::Latest, "1");
        assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Queued);
        assert_eq!(backlog.push(&receipt("b"), 1, 0), Pushed::Overrun);
        assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Merged);
    }

    #[test]
    fn ephemeral_frames_expire() {
        let mut backlog = Queue::new(ROOMY);
        let typing = frame("chat:1", "typing", None, Class::Ephemeral, "1");
        for at in [0, 1000] {
            assert_eq!(backlog.push(&typing, 1, at), Pushed::Queued);
        }
        assert_eq!(drained(&mut backlog, 5500).1, Drained { frames: 1, expired: 1 });
    }

    #[test]
    fn a_like_that_comes_late_does_not_take_the_place_of_a_newer_total() {
        let mut backlog = Queue::new(ROOMY);
        let like = |version: u64| {
            let (id, topic, kind, class) = ("i", "live:1", "like", Class::Sum);
            let version = Version { number: version, dc: "" };
            let event = Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
            Arc::new(Frame::encode(&event))
        };
        for (version, pushed) in [(7, Pushed::Queued), (9, Pushed::Merged), (8, Pushed::Merged)] {
            assert_eq!(backlog.push(&like(version), 1, 0), pushed);
        }
        let mut left = Vec::new();
        assert_eq!(backlog.drain(0, |frame, count| left.push((frame.version().number, count))).frames, 1);
        assert_eq!((left, backlog.bytes()), (vec![(9, 3)], 0));
    }

    #[test]
    fn a_value_that_comes_late_does_not_take_the_place_of_a_newer_one() {
        let mut backlog = Queue::new(ROOMY);
        let value = |number: u64, dc: &str| {
            let (id, topic, kind, class) = ("i", "live:1", "score", Class::Latest);
            let version = Version { number, dc };
            let event = Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
            Arc::new(Frame::encode(&event))
        };
        let mut newest = |values: &[(u64, &str)]| {
            for (number, dc) in values {
                let _ = backlog.push(&value(*number, dc), 1, 0);
            }
            let mut left = Vec::new();
            assert_eq!(backlog.drain(0, |frame, _| left.push(Arc::clone(frame))).frames, 1);
            let version = left[0].version();
            (version.number, version.dc.to_owned(), backlog.bytes())
        };
        assert_eq!(newest(&[(7, "a"), (9, "a"), (8, "b")]), (9, "a".to_owned(), 0));
        assert_eq!(newest(&[(9, "b"), (9, "a")]), (9, "b".to_owned(), 0), "of one number the data center decides");
        assert_eq!(newest(&[(9, "a"), (9, "b")]), (9, "b".to_owned(), 0));
        assert_eq!(newest(&[(9, "a"), (0, "")]), (0, String::new(), 0), "one without a version is newer");
    }

    proptest! {
        /// Against a model without bounds: sums exact, newest of latest, all of the rest, newest events in order.
        #[test]
        fn merges_and_loses_nothing(
            ops in prop::collection::vec((0usize..2, 0usize..4, 0usize..3), 1..300), way in 0..3,
        ) {
            let mut backlog = Queue::new(ROOMY);
            let mut events = Vec::new();
            for (number, &(topic, kind, key)) in ops.iter().enumerate() {
                let class = Class::ALL[kind];
                let frame = frame(&format!("t:{topic}"), class.name(), Some(&key.to_string()), class, &number.to_string());
                let pushed = backlog.push(&frame, 1, 0);
                prop_assert!(matches!(pushed, Pushed::Queued | Pushed::Merged), "{:?}", pushed);
                events.push(frame);
            }
            prop_assert_eq!(backlog.bytes(), backlog.entries.iter().flatten().map(|e| e.frame.bytes().len()).sum::<usize>());
            let (mut seen, mut counts) = (Vec::new(), Map::default());
            let mut each = |frame: &Arc<Frame>, count| {
                seen.push(Arc::clone(frame));
                counts.insert(ByIdentity(Arc::clone(frame)), count);
            };
            let mut piece = 0;
            match way {
                0 => while backlog.take_front(0, 300, 3, &mut each).frames > 0 {},
                // Every third time the reader has no room.
                1 => while !backlog.is_empty() {
                    let passed = backlog.pass(0, |frame| {
                        piece += 1;
                        let takes = piece % 3 > 0;
                        if takes {
                            each(&frame, u64::from(frame.count()));
                        }
                        takes
                    });
                    prop_assert_eq!(passed.expired, 0);
                },
                _ => prop_assert_eq!(backlog.drain(0, each).expired, 0),
            }
            prop_assert!(backlog.index.is_empty() && backlog.bytes() == 0 && backlog.is_empty());
            // What should be left: each event that is not followed by another of its identity, where its class merges.
            let expected: Vec<_> = events.iter().enumerate().filter(|(at, frame)| {
                !matches!(frame.class(), Class::Sum | Class::Latest)
                    || !events[at + 1..].iter().any(|later| later.identity() == frame.identity())
            }).map(|(_, frame)| data(frame)).collect();
            prop_assert_eq!(seen.iter().map(|frame| data(frame)).collect::<Vec<_>>(), expected);
            for frame in seen.iter().filter(|frame| frame.class() == Class::Sum) {
                let total = events.iter().filter(|event| event.identity() == frame.identity()).count() as u64;
                prop_assert_eq!(counts[&ByIdentity(Arc::clone(frame))], total);
            }
        }
    }
}
