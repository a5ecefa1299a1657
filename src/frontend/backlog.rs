//! What waits for a reader that lags: a queue that merges by delivery class, so that it stays small and still tells the
//! truth. Used for a connection that does not read, for a topic whose fan-out falls behind, and between cores.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::limits::{BACKLOG_BYTES, BACKLOG_KEYS_MAX};
use crate::wire::event::Class;
use crate::wire::frame::{ByIdentity, Frame};

/// How much a backlog holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes up to which every class is queued.
    pub bytes: usize,
    /// Merged entries of `sum` and `latest` that are kept past that.
    pub keys: usize,
}

impl Bounds {
    /// Those of one connection.
    pub const CONNECTION: Bounds = Bounds { bytes: BACKLOG_BYTES, keys: BACKLOG_KEYS_MAX };
}

/// What became of a frame, or of an older one that made room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It took the place of an older one of the same identity, whose count it carries on.
    Merged,
    /// There is no room for its class; the reader has to resume from history.
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

/// What [`Backlog::drain`] left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Frames handed out.
    pub frames: u64,
    /// `ephemeral` frames that had waited past their time to live.
    pub expired: u64,
}

/// What [`Backlog::shed`] dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// Events of class `every`.
    pub every: u64,
    /// Those of class `ephemeral`.
    pub ephemeral: u64,
}

/// A bounded queue of frames that merges by class.
///
/// A merged entry moves to the end, where its newest event belongs, so nothing is reordered within a topic.
#[derive(Debug)]
pub struct Backlog {
    /// Merged entries leave a hole behind.
    entries: VecDeque<Option<Entry>>,
    /// The number of `entries[0]`, counted from the queue's beginning.
    first: u64,
    index: HashMap<ByIdentity, u64, foldhash::fast::RandomState>,
    bytes: usize,
    live: usize,
    overrun: bool,
    bounds: Bounds,
}

impl Backlog {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Backlog {
        Backlog {
            entries: VecDeque::new(),
            first: 0,
            index: HashMap::default(),
            bytes: 0,
            live: 0,
            overrun: false,
            bounds,
        }
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

    /// Whether something of class `every` (or more keys than fit) found no room: what is handed out has a hole, and the
    /// reader must resume from history.
    pub fn overrun(&self) -> bool {
        self.overrun
    }

    /// Adds `frame`, standing for `count` events.
    pub fn push(&mut self, frame: &Arc<Frame>, count: u64, now_ms: u64) -> Pushed {
        let class = frame.class();
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
            }
            outcome = Pushed::Merged;
        } else if self.bytes + size > self.bounds.bytes {
            match class {
                Class::Every => {
                    self.overrun = true;
                    return Pushed::Overrun;
                }
                Class::Ephemeral => return Pushed::Dropped,
                Class::Sum | Class::Latest if self.index.len() > self.bounds.keys => {
                    // Its own entry in the index is the one too many.
                    match self.displace_oldest_sum() {
                        Some(lost) => outcome = Pushed::Displaced(lost),
                        None => {
                            self.index.remove(&ByIdentity(Arc::clone(frame)));
                            self.overrun = true;
                            return Pushed::Overrun;
                        }
                    }
                }
                Class::Sum | Class::Latest => {}
            }
        } else if class == Class::Every && self.overrun {
            // After a hole nothing of class `every` may follow: it would look complete.
            return Pushed::Overrun;
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

    /// Hands out all that waits, in order, with the counts they stand for; then the queue is empty, but remembers whether
    /// it was overrun.
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

    /// Hands out from the front until `bytes` are reached or there are `frames`; the rest waits on. Once it is half empty,
    /// class `every` is queued again even after an overrun: whoever reads in pieces learns of the hole by other means.
    pub fn take_front(
        &mut self,
        now_ms: u64,
        bytes: usize,
        frames: u64,
        mut each: impl FnMut(&Arc<Frame>, u64),
    ) -> Drained {
        let (mut drained, mut taken) = (Drained::default(), 0);
        while taken < bytes && drained.frames < frames {
            let Some(front) = self.entries.pop_front() else { break };
            self.first += 1;
            let Some(entry) = front else { continue };
            let size = entry.frame.bytes().len();
            self.live -= 1;
            self.bytes -= size;
            if matches!(entry.frame.class(), Class::Sum | Class::Latest) {
                self.index.remove(&ByIdentity(Arc::clone(&entry.frame)));
            }
            if entry.is_expired(now_ms) {
                drained.expired += 1;
                continue;
            }
            taken += size;
            drained.frames += 1;
            each(&entry.frame, entry.count);
        }
        if self.bytes <= self.bounds.bytes / 2 {
            self.reset_overrun();
        }
        drained
    }

    /// Forgets that something found no room: whoever reads learns of the hole elsewhere.
    pub fn reset_overrun(&mut self) {
        self.overrun = false;
    }

    /// Drops what a reader can have again or does without: class `every`, which it is to read from history, and
    /// `ephemeral`. What merges stays, since nothing else has it.
    pub fn shed(&mut self) -> Shed {
        let mut shed = Shed::default();
        for entry in &mut self.entries {
            let Some(Entry { frame, count, .. }) = entry else { continue };
            match frame.class() {
                Class::Every => shed.every += *count,
                Class::Ephemeral => shed.ephemeral += *count,
                Class::Sum | Class::Latest => continue,
            }
            self.live -= 1;
            self.bytes -= frame.bytes().len();
            *entry = None;
        }
        self.overrun |= shed.every > 0;
        self.trim();
        shed
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
    use proptest::prelude::*;

    fn drained(backlog: &mut Backlog, now: u64) -> (Vec<(String, u64)>, Drained) {
        let mut out = Vec::new();
        let rest = backlog.drain(now, |frame, count| {
            out.push((String::from_utf8(frame.recounted(count).event().to_vec()).unwrap(), count));
        });
        (out, rest)
    }

    #[test]
    fn past_its_budget_every_is_overrun_and_sums_go_on() {
        let mut backlog = Backlog::new(Bounds { bytes: 1000, keys: 2 });
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
        assert!(backlog.overrun());
        assert_eq!(backlog.push(&comment, 1, 0), Pushed::Overrun);
        assert_eq!(drained(&mut backlog, 0).0.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(backlog.is_empty() && backlog.bytes() == 0 && backlog.overrun());
    }

    #[test]
    fn frames_of_other_data_centers_merge_while_their_numbers_fit() {
        use crate::wire::connection_id::NodeId;
        use crate::wire::frame::{ORIGINS_MAX, Origin};
        let mut backlog = Backlog::new(Bounds { bytes: 400, keys: 2 });
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
        backlog.drain(0, |frame, count| {
            assert_eq!((frame.origins().len(), count), (ORIGINS_MAX, ORIGINS_MAX as u64));
            seen.extend(frame.origins().iter().map(|origin| origin.number));
        });
        assert_eq!(pushed[0] + pushed[1], seen.len(), "each number waits, or is counted as dropped");
        assert!(seen.is_sorted() && pushed[0] > 1 && pushed[2] > 0, "{pushed:?}");
    }

    #[test]
    fn more_latest_keys_than_fit_is_an_overrun_not_a_silent_loss() {
        let mut backlog = Backlog::new(Bounds { bytes: 0, keys: 1 });
        let receipt = |key: &str| frame("chat:1", "receipt", Some(key), Class::Latest, "1");
        assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Queued);
        assert_eq!(backlog.push(&receipt("b"), 1, 0), Pushed::Overrun);
        assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Merged);
        assert!(backlog.overrun());
    }

    #[test]
    fn shedding_leaves_what_nothing_else_has() {
        let mut backlog = Backlog::new(Bounds::CONNECTION);
        let like = frame("live:1", "like", Some("a"), Class::Sum, "1");
        for _ in 0..200 {
            backlog.push(&like, 1, 0);
            backlog.push(&frame("chat:1", "typing", None, Class::Ephemeral, "1"), 1, 0);
            backlog.push(&frame("live:1", "comment", None, Class::Every, "1"), 1, 0);
        }
        assert_eq!(backlog.shed(), Shed { every: 200, ephemeral: 200 });
        assert_eq!((backlog.bytes(), backlog.len(), backlog.overrun()), (like.bytes().len(), 1, true));
        assert_eq!(backlog.push(&like, 1, 0), Pushed::Merged);
        assert_eq!(backlog.push(&frame("live:1", "comment", None, Class::Every, "1"), 1, 0), Pushed::Overrun);
        assert_eq!(drained(&mut backlog, 0).0[0].1, 201);
        let mut calm = Backlog::new(Bounds::CONNECTION);
        calm.push(&like, 1, 0);
        assert!(calm.shed() == Shed::default() && !calm.overrun());
    }

    #[test]
    fn ephemeral_frames_expire() {
        let mut backlog = Backlog::new(Bounds::CONNECTION);
        let typing = frame("chat:1", "typing", None, Class::Ephemeral, "1");
        backlog.push(&typing, 1, 0);
        backlog.push(&typing, 1, 1000);
        assert_eq!(drained(&mut backlog, 5500).1, Drained { frames: 1, expired: 1 });
    }

    #[test]
    fn a_like_that_comes_late_does_not_take_the_place_of_a_newer_total() {
        let mut backlog = Backlog::new(Bounds::CONNECTION);
        let like = |version: u64| {
            let (id, topic, kind, class) = ("i", "live:1", "like", Class::Sum);
            let event = Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
            Arc::new(Frame::encode(&event))
        };
        for version in [7, 9, 8] {
            backlog.push(&like(version), 1, 0);
        }
        let mut left = Vec::new();
        backlog.drain(0, |frame, count| left.push((frame.version(), count)));
        assert_eq!((left, backlog.bytes()), (vec![(9, 3)], 0));
    }

    proptest! {
        /// Against a model without bounds: sums exact, newest of latest, all of the rest, newest events in order.
        #[test]
        fn merges_and_loses_nothing(
            ops in prop::collection::vec((0usize..2, 0usize..4, 0usize..3), 1..300), piecemeal: bool,
        ) {
            let mut backlog = Backlog::new(Bounds { bytes: 1 << 20, keys: 256 });
            let mut events = Vec::new();
            for (number, &(topic, kind, key)) in ops.iter().enumerate() {
                let class = Class::ALL[kind];
                let frame = frame(&format!("t:{topic}"), class.name(), Some(&key.to_string()), class, &number.to_string());
                backlog.push(&frame, 1, 0);
                events.push(frame);
            }
            prop_assert!(!backlog.overrun());
            prop_assert_eq!(backlog.bytes(), backlog.entries.iter().flatten().map(|e| e.frame.bytes().len()).sum::<usize>());
            let (mut seen, mut counts) = (Vec::new(), HashMap::new());
            let mut each = |frame: &Arc<Frame>, count| {
                seen.push(Arc::clone(frame));
                counts.insert(ByIdentity(Arc::clone(frame)), count);
            };
            if piecemeal {
                while backlog.take_front(0, 300, 3, &mut each).frames > 0 {}
                prop_assert!(backlog.index.is_empty() && backlog.bytes() == 0 && backlog.is_empty());
            } else {
                backlog.drain(0, each);
            }
            // What should be left: each event that is not followed by another of its identity, where its class merges.
            let expected: Vec<_> = events.iter().enumerate().filter(|(at, frame)| {
                !matches!(frame.class(), Class::Sum | Class::Latest)
                    || !events[at + 1..].iter().any(|later| later.identity() == frame.identity())
            }).map(|(_, frame)| frame.bytes().to_vec()).collect();
            prop_assert_eq!(seen.iter().map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>(), expected);
            for frame in seen.iter().filter(|frame| frame.class() == Class::Sum) {
                let total = events.iter().filter(|event| event.identity() == frame.identity()).count() as u64;
                prop_assert_eq!(counts[&ByIdentity(Arc::clone(frame))], total);
            }
        }
    }
}
