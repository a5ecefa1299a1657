//! What waits for a reader that lags: a bounded queue that merges by delivery class, so that it stays small and still tells
//! the truth. What follows from a frame that finds no room is its user's to know: a connection's [`Backlog`], a topic whose
//! fan-out falls behind ([`TopicEntry`]), the way to another core ([`Crossing`]) and the way to another node ([`Outbox`]) each
//! have a rule of their own.
//!
//! [`Backlog`]: backlog::Backlog
//! [`TopicEntry`]: crate::frontend::topics::TopicEntry
//! [`Crossing`]: crossing::Crossing
//! [`Outbox`]: outbox::Outbox

pub mod backlog;
pub mod crossing;
pub mod outbox;
#[cfg(test)]
mod tests;
pub mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::wire::event::Class;
use crate::wire::frame::{ByFamily, ByIdentity, Frame, Sums};

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
    /// What merged over keys, the frame included.
    sums: Option<Box<Sums>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.sums.as_ref().map_or_else(|| self.frame.held(), |sums| sums.bytes())
    }

    /// Keys, where it merges over them.
    fn keys(&self) -> usize {
        self.sums.as_ref().map_or_else(|| self.frame.keys(), |sums| sums.keys())
    }

    fn has_keys_of(&self, frame: &Frame) -> bool {
        match &self.sums {
            Some(sums) => sums.has_keys_of(frame),
            None => self.frame.identity() == frame.identity() && frame.keys() == 1,
        }
    }

    /// The older of what merges with a newer frame of its topic and type.
    fn merge(&mut self, frame: &Arc<Frame>, count: u64) {
        let (older, had) = (&self.frame, self.count);
        self.sums.get_or_insert_with(|| Box::new(Sums::of(older, had))).add(frame, count);
        self.frame = Arc::clone(frame);
        self.count += count;
    }

    /// Takes out what goes as its first event. Gives how many that stood for; nothing is left where that was all.
    fn pass_first(&mut self) -> u64 {
        let had = std::mem::replace(&mut self.count, 0);
        if let Some(sums) = &mut self.sums {
            sums.pass_first();
            self.count = sums.count();
        }
        had - self.count
    }

    /// Whether it waited past its time to live.
    fn is_expired(&self, now_ms: u64) -> bool {
        let ttl = u64::from(self.frame.ttl_ms());
        self.frame.class().expires() && now_ms.saturating_sub(self.queued_at_ms) > ttl
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
    /// Where those of class `sum` are, if they merge over all keys.
    families: Option<Map<ByFamily, u64>>,
    /// Keys that these have.
    sum_keys: usize,
    bytes: usize,
    live: usize,
    bounds: Bounds,
}

impl Queue {
    /// An empty one, where class `sum` merges key by key.
    pub fn new(bounds: Bounds) -> Queue {
        let (entries, index, families) = (VecDeque::new(), Map::default(), None);
        Queue { entries, first: 0, index, families, sum_keys: 0, bytes: 0, live: 0, bounds }
    }

    /// One of what viewers get, where class `sum` merges over all keys of a topic and type, as it does in a window.
    pub fn for_viewers(bounds: Bounds) -> Queue {
        Queue { families: Some(Map::default()), ..Queue::new(bounds) }
    }

    /// Bytes of the frames that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it holds: frames, and its places for them.
    pub fn held(&self) -> usize {
        let places = self.entries.capacity() * size_of::<Option<Entry>>();
        let families = self.families.as_ref().map_or(0, Map::capacity);
        let index = (self.index.capacity() + families) * size_of::<(ByIdentity, u64)>();
        self.bytes + self.live * Frame::OWN_BYTES + places + index
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
        if class.has_history()
            && let Some(withdrawn) = frame.withdraws()
        {
            // It is not lost: its readers are told instead that it was taken back.
            let _ = self.retain(|waiting| !waiting.is(frame.topic(), &withdrawn));
        }
        if class.adds_up() && self.families.is_some() {
            return self.push_sum(frame, count, now_ms);
        }
        let merges = class.merges();
        let size = frame.bytes().len();
        let mut outcome = Pushed::Queued;
        let (mut total, mut newest) = (count, Arc::clone(frame));
        // One look-up serves both: finding what to merge with, and noting where the newest now is.
        let next = self.first + self.entries.len() as u64;
        let mut merged = if merges { self.index.insert(ByIdentity(Arc::clone(frame)), next) } else { None };
        if class.adds_up()
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
            if class.adds_up() {
                total += if planted(Mistake::MergedCountLost) { 0 } else { old.count };
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
                Class::Sum | Class::Latest if self.index.len() + self.sum_keys > self.bounds.keys => {
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
        self.append(Entry { frame: newest, count: total, queued_at_ms: now_ms, sums: None });
        outcome
    }

    /// Adds one of class `sum`, which merges over keys.
    fn push_sum(&mut self, frame: &Arc<Frame>, count: u64, now_ms: u64) -> Pushed {
        let family = ByFamily(Arc::clone(frame));
        let found = |queue: &Queue| queue.families.as_ref()?.get(&family).copied();
        let old = found(self).and_then(|number| self.entry(number));
        let mut outcome = if old.is_some() { Pushed::Merged } else { Pushed::Queued };
        let is_new = old.is_none_or(|old| !old.has_keys_of(frame));
        let is_full = self.bytes + frame.bytes().len() > self.bounds.bytes
            && self.index.len() + self.sum_keys + frame.keys() > self.bounds.keys;
        if is_new && is_full {
            match self.displace_oldest_sum() {
                Some(lost) => outcome = Pushed::Displaced(lost),
                None => return Pushed::Overrun,
            }
        }
        let old = found(self).and_then(|number| self.take(number));
        let next = self.first + self.entries.len() as u64;
        self.families.as_mut().expect("it merges over keys").insert(family, next);
        let mut entry = Entry { frame: Arc::clone(frame), count, queued_at_ms: now_ms, sums: None };
        if let Some(old) = old {
            entry = old;
            entry.merge(frame, count);
            entry.queued_at_ms = now_ms;
        }
        self.append(entry);
        outcome
    }

    fn append(&mut self, entry: Entry) {
        self.add(&entry);
        self.entries.push_back(Some(entry));
        self.trim();
    }

    /// Counts an entry that is here now.
    fn add(&mut self, entry: &Entry) {
        self.live += 1;
        self.bytes += entry.bytes();
        self.sum_keys += self.keys_of(entry);
    }

    /// Counts an entry no more.
    fn forget(&mut self, entry: &Entry) {
        self.live -= 1;
        self.bytes -= entry.bytes();
        self.sum_keys -= self.keys_of(entry);
    }

    fn keys_of(&self, entry: &Entry) -> usize {
        if self.families.is_some() && entry.frame.class().adds_up() { entry.keys() } else { 0 }
    }

    /// The table has an entry no more, if it was at this place.
    fn unlist(&mut self, frame: &Arc<Frame>, number: u64) {
        match (frame.class(), &mut self.families) {
            (Class::Sum, Some(families)) => {
                let family = ByFamily(Arc::clone(frame));
                if families.get(&family) == Some(&number) {
                    families.remove(&family);
                }
            }
            (Class::Sum | Class::Latest, _) => {
                let identity = ByIdentity(Arc::clone(frame));
                // A later one of the same identity may wait by itself.
                if self.index.get(&identity) == Some(&number) {
                    self.index.remove(&identity);
                }
            }
            (Class::Ephemeral | Class::Every, _) => {}
        }
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get((number - self.first) as usize)?.as_ref()
    }

    /// Takes the entry of this number out, leaving a hole.
    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.get_mut((number - self.first) as usize)?.take()?;
        self.forget(&entry);
        Some(entry)
    }

    fn displace_oldest_sum(&mut self) -> Option<u64> {
        let at =
            self.entries.iter().position(|entry| entry.as_ref().is_some_and(|entry| entry.frame.class().adds_up()))?;
        let number = self.first + at as u64;
        let mut entry = self.take(number)?;
        let lost = entry.pass_first();
        if entry.count > 0 {
            self.add(&entry);
            self.entries[at] = Some(entry);
        } else if self.families.is_some() {
            self.unlist(&entry.frame, number);
        } else {
            self.index.remove(&ByIdentity(entry.frame));
        }
        Some(lost)
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
                let (frame, number) = (&entry.as_ref().expect("holes are gone").frame, self.first + offset as u64);
                match (frame.class(), &mut self.families) {
                    (Class::Sum, Some(families)) => drop(families.insert(ByFamily(Arc::clone(frame)), number)),
                    (Class::Sum | Class::Latest, _) => drop(self.index.insert(ByIdentity(Arc::clone(frame)), number)),
                    (Class::Ephemeral | Class::Every, _) => {}
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
            match &entry.sums {
                None => {
                    drained.frames += 1;
                    each(&entry.frame, entry.count);
                }
                Some(sums) => sums.frames().for_each(|frame| {
                    drained.frames += 1;
                    each(&frame, u64::from(frame.count()));
                }),
            }
        }
        self.index.clear();
        self.families.as_mut().map(Map::clear);
        (self.bytes, self.live, self.sum_keys) = (0, 0, 0);
        drained
    }

    /// Takes the oldest out, whether or not it expired.
    fn pop(&mut self) -> Option<Entry> {
        loop {
            let front = self.entries.pop_front()?;
            self.first += 1;
            let Some(entry) = front else { continue };
            self.forget(&entry);
            self.unlist(&entry.frame, self.first - 1);
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
                self.pop();
                continue;
            }
            let frame = front.sums.as_ref().and_then(|sums| sums.first());
            if !takes(frame.unwrap_or_else(|| front.frame.recounted(front.count))) {
                return drained;
            }
            drained.frames += 1;
            let Some(mut front) = self.take(self.first) else { continue };
            front.pass_first();
            self.add(&front);
            let is_over = front.count == 0;
            self.entries[0] = Some(front);
            if is_over {
                self.pop();
            }
        }
    }

    /// Drops what `keeps` does not keep. Gives how many events of each class went.
    #[must_use = "what is dropped is to be counted"]
    pub fn retain(&mut self, keeps: impl Fn(&Arc<Frame>) -> bool) -> [u64; Class::ALL.len()] {
        let mut dropped = [0; Class::ALL.len()];
        for at in 0..self.entries.len() {
            if self.entries[at].as_ref().is_none_or(|entry| keeps(&entry.frame)) {
                continue;
            }
            let number = self.first + at as u64;
            let Some(Entry { frame, count, .. }) = self.take(number) else { continue };
            dropped[frame.class() as usize] += count;
            self.unlist(&frame, number);
        }
        self.trim();
        dropped
    }

    /// Events that wait, counting what was merged, by class.
    pub fn events(&self) -> [u64; Class::ALL.len()] {
        let mut events = [0; Class::ALL.len()];
        self.entries.iter().flatten().for_each(|entry| events[entry.frame.class() as usize] += entry.count);
        events
    }

    /// When what waits longest began to, in Unix ms; what merged counts from the newest.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.entries.iter().flatten().next().map(|entry| entry.queued_at_ms)
    }
}
