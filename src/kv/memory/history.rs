//! History in memory: what the embedded key-value store keeps of each topic.

pub mod kept;
pub mod pacing;
#[cfg(test)]
mod tests;
pub mod withdrawals;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::kv::kept::Forgotten;
use crate::kv::memory::history::kept::Forgets;
use crate::kv::pace::Room;
use crate::kv::{Append, End, Found, Page, Read, Stored, TopicsAsk};
use crate::limits::{MEMORY_HISTORY_BYTES, WITHDRAWN_REFUSED};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::event::CONTROL_KIND;
use crate::wire::frame::Withdrawn;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

/// What one event costs beside its text: its entry, and its part of the table.
const ENTRY_BYTES: usize = 96;

/// What a topic costs beside its name and its events, also one whose events are gone: its part of the table, and two
/// allocations.
const TOPIC_BYTES: usize = 512;

/// What a topic's events of one type cost beside the type's name: their part of the topic's list, and two allocations.
const SHELF_BYTES: usize = 128;

/// [`WITHDRAWN_REFUSED`] in milliseconds.
const REFUSED_MS: u64 = WITHDRAWN_REFUSED.as_millis() as u64;

/// A topic's events of one type, oldest first. There is none without events.
#[derive(Debug)]
struct Shelf {
    kind: Box<str>,
    age_max_ms: u64,
    events: VecDeque<Entry>,
}

/// An event's place. Its text is gone once it was taken back.
#[derive(Debug)]
struct Entry {
    position: Position,
    prev: Option<Position>,
    event: Option<Arc<str>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.event.as_ref().map_or(0, |event| event.len())
    }

    fn stored(&self) -> Option<Stored> {
        let event = Arc::clone(self.event.as_ref()?);
        Some(Stored { position: self.position, prev: self.prev, event })
    }
}

#[derive(Debug, Default)]
struct History {
    shelves: Vec<Shelf>,
    bytes: usize,
    /// The newest position ever given.
    end: Option<Position>,
    /// The newest place that readers are shown. What lies behind it is not kept yet, where it is to be.
    shown: Option<Position>,
    /// How far back it reaches.
    reaches: Reach,
    /// Events that it gave up, until that is noted.
    gone: Vec<Position>,
    /// What was taken back, by how its JSON begins, and where the deletion stands: should it only come now, it is refused.
    withdrawn: Map<Box<str>, Position>,
    /// What is left to show, of each type that has a pace.
    rooms: Map<Box<str>, Room>,
}

/// All topics' histories.
#[derive(Debug)]
pub struct Histories {
    since: Reach,
    /// The newest time that it was given: no place that it gives is before one that it gave, whatever becomes of the clock.
    clock_ms: u64,
    age_max_ms: u64,
    topics: Map<Topic, History>,
    /// Their names, in order.
    names: BTreeSet<Topic>,
    bytes: usize,
    bytes_max: usize,
    /// All topics, in the order in which they are looked at for what is too old.
    round: VecDeque<Topic>,
    /// What was forgotten with its topic before its time, for want of memory, was not later than this.
    forgotten_to: Reach,
    forgets: Forgets,
}

/// A topic's history, which is empty if there was none; then it counts among all.
fn of<'a>(
    (topics, names): (&'a mut Map<Topic, History>, &mut BTreeSet<Topic>),
    bytes: &mut usize,
    round: &mut VecDeque<Topic>,
    topic: Topic,
) -> &'a mut History {
    topics.entry(topic).or_insert_with_key(|topic| {
        let own = TOPIC_BYTES + topic.as_str().len();
        *bytes += own;
        round.push_back(topic.clone());
        names.insert(topic.clone());
        History { bytes: own, ..History::default() }
    })
}

/// Whether a topic's events are not given up for those of others: a revocation that is forgotten lets somebody in again. Their
/// number is bounded.
fn stays(topic: &Topic) -> bool {
    topic.kind() == CONTROL_KIND
}

impl Shelf {
    fn oldest(&self) -> &Entry {
        self.events.front().expect("a shelf without events is taken away")
    }
}

impl History {
    /// The shelf with the oldest event.
    fn oldest(&self) -> Option<usize> {
        (0..self.shelves.len()).min_by_key(|at| self.shelves[*at].oldest().position)
    }

    /// The shelf of a type, and the bytes that it costs if it is new.
    fn shelf(&mut self, kind: &str) -> (usize, usize) {
        if let Some(at) = self.shelves.iter().position(|shelf| *shelf.kind == *kind) {
            return (at, 0);
        }
        let bytes = SHELF_BYTES + kind.len();
        self.shelves.push(Shelf { kind: kind.into(), age_max_ms: 0, events: VecDeque::new() });
        (self.shelves.len() - 1, bytes)
    }

    /// Drops the oldest event of a shelf, and the shelf with its last. Gives the bytes.
    fn drop_oldest(&mut self, at: usize) -> usize {
        let shelf = &mut self.shelves[at];
        let Some(oldest) = shelf.events.pop_front() else { return 0 };
        self.reaches = self.reaches.max(Reach::back_to(oldest.position));
        self.gone.push(oldest.position);
        let mut bytes = oldest.bytes();
        if shelf.events.is_empty() {
            bytes += SHELF_BYTES + shelf.kind.len();
            self.shelves.swap_remove(at);
        }
        self.bytes -= bytes;
        bytes
    }

    /// Drops what is too old, each type by its own time.
    fn drop_old(&mut self, now_ms: u64) -> usize {
        let mut dropped = 0;
        // Backwards: a shelf that goes is replaced by one that was looked at.
        for at in (0..self.shelves.len()).rev() {
            let old = |shelf: &Shelf| shelf.oldest().position.ms.saturating_add(shelf.age_max_ms) < now_ms;
            while self.shelves.get(at).is_some_and(old) {
                dropped += self.drop_oldest(at);
            }
        }
        dropped
    }

    /// At most so many of the events that follow `after`, in order, and whether these are all.
    fn range(&self, after: Position, limit: usize) -> (Vec<Stored>, bool) {
        let to = |shelf: &Shelf, place| shelf.events.partition_point(|event| Some(event.position) <= place);
        let until = self.shown.max(Some(after));
        let range = |shelf: &Shelf| to(shelf, Some(after))..to(shelf, until);
        let mut rests: Vec<_> = self.shelves.iter().map(|shelf| shelf.events.range(range(shelf)).peekable()).collect();
        let there: usize = rests.iter().map(|rest| rest.len()).sum();
        let mut events = Vec::with_capacity(limit.min(there));
        // One more would be too many, but tells whether there is one.
        while events.len() <= limit {
            let next =
                rests.iter_mut().filter_map(|rest| Some((rest.peek()?.position, rest))).min_by_key(|next| next.0);
            let Some((_, rest)) = next else { break };
            events.extend(rest.next().and_then(Entry::stored));
        }
        let complete = events.len() <= limit;
        events.truncate(limit);
        (events, complete)
    }
}

impl Histories {
    /// Empty ones. `age_max_ms` is the longest time for which any event type is kept.
    pub fn new(now_ms: u64, age_max_ms: u64) -> Histories {
        let topics = Map::default();
        Histories {
            since: Reach::back_to(Position::at(now_ms)),
            clock_ms: now_ms,
            age_max_ms,
            topics,
            names: BTreeSet::new(),
            bytes: 0,
            bytes_max: MEMORY_HISTORY_BYTES,
            round: VecDeque::new(),
            forgotten_to: Reach::START,
            forgets: Forgets::default(),
        }
    }

    /// Since when it lost nothing.
    pub fn since(&self) -> Reach {
        self.since
    }

    /// Bytes that it holds, names included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is to hold no more than this, from the next append on.
    pub fn bound(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// The store's time in Unix ms: the clock's, which never goes back here.
    fn time(&mut self, now_ms: u64) -> u64 {
        self.clock_ms = self.clock_ms.max(now_ms);
        self.clock_ms
    }

    /// Whether an event was taken back before it came, so that it is not to be appended.
    pub fn refuses(&self, append: &Append, now_ms: u64) -> bool {
        self.topics.get(&append.topic).is_some_and(|history| history.refuses(&append.event, now_ms.max(self.clock_ms)))
    }

    /// Appends an event. Gives its place and that of the one before it. Where history is kept, nobody is shown it before
    /// [`Histories::show`].
    pub fn append(&mut self, append: &Append, now_ms: u64) -> (Position, Option<Position>) {
        let now_ms = self.time(now_ms);
        if self.bytes > self.bytes_max {
            self.sweep(now_ms);
        }
        let now_ms = self.time(now_ms);
        let topic = &append.topic;
        let history = of((&mut self.topics, &mut self.names), &mut self.bytes, &mut self.round, topic.clone());
        let prev = history.end;
        let position = match prev {
            Some(last) if last.ms >= now_ms => Position { ms: last.ms, seq: last.seq + 1 },
            _ => Position { ms: now_ms, seq: 1 },
        };
        if let Some(id) = &append.withdraws {
            self.bytes -= history.bytes;
            history.hold_back(Withdrawn::of(id), position);
            self.bytes += history.bytes;
        }
        history.end = Some(position);
        let (at, shelf_bytes) = history.shelf(&append.kind);
        let entry = Entry { position, prev, event: Some(Arc::clone(&append.event)) };
        let bytes = entry.bytes() + shelf_bytes;
        history.bytes += bytes;
        self.bytes += bytes;
        history.shelves[at].age_max_ms = append.age_max_ms;
        history.shelves[at].events.push_back(entry);
        while history.shelves[at].events.len() > append.count_max.max(1) as usize {
            self.bytes -= history.drop_oldest(at);
        }
        self.bytes -= history.drop_old(now_ms);
        self.forgets.events(topic, &mut history.gone);
        if !self.is_kept() {
            self.show(topic, position, append.withdraws.as_deref());
        }
        (position, prev)
    }

    /// Nothing that follows this place precedes an event whose predecessor in its history is `prev`.
    pub fn follows(&self, prev: Option<Position>) -> Position {
        prev.unwrap_or_default().max(self.since.place())
    }

    /// Drops what is too old of the next so many topics, and forgets those of them that hold nothing: also while nothing is
    /// appended, as by a node that takes nothing since its memory is full.
    pub fn sweep_some(&mut self, most: usize, now_ms: u64) {
        let now_ms = self.time(now_ms);
        let forgotten = self.forgotten(now_ms);
        for _ in 0..most.min(self.round.len()) {
            let Some(topic) = self.round.pop_front() else { break };
            let Some(history) = self.topics.get_mut(&topic) else { continue };
            self.bytes -= history.drop_old(now_ms) + history.drop_withdrawn(now_ms);
            self.forgets.events(&topic, &mut history.gone);
            // One that lost events before their time remains until nobody expects them any more.
            if !history.shelves.is_empty() || history.reaches > forgotten {
                self.round.push_back(topic);
                continue;
            }
            self.bytes -= history.bytes;
            self.topics.remove(&topic);
            self.names.remove(&topic);
            self.forgets.push(|| Forgotten::Topic(topic));
        }
        shrink(&mut self.round);
        shrink(&mut self.topics);
    }

    /// The same with all topics, and keeps what they hold within its bound.
    fn sweep(&mut self, now_ms: u64) {
        self.sweep_some(usize::MAX, now_ms);
        // Over all topics the oldest go first, down to nine tenths, so that this is rare.
        while self.bytes > self.bytes_max / 10 * 9 {
            let shelves =
                self.topics.iter().filter(|(topic, _)| !stays(topic)).flat_map(|(_, history)| &history.shelves);
            let mut fronts: Vec<Position> = shelves.map(|shelf| shelf.oldest().position).collect();
            if fronts.is_empty() {
                return self.forget_emptied();
            }
            let middle = fronts.len() / 2;
            let before = *fronts.select_nth_unstable(middle).1;
            for (topic, history) in self.topics.iter_mut().filter(|(topic, _)| !stays(topic)) {
                while let Some(at) = history.oldest().filter(|at| history.shelves[*at].oldest().position <= before) {
                    self.bytes -= history.drop_oldest(at);
                }
                self.bytes -= history.drop_withdrawn(now_ms);
                self.forgets.events(topic, &mut history.gone);
            }
        }
    }

    /// Only topics without events are left, which are kept to say that something is missing: half of them are forgotten, and
    /// of whatever is not known that is said from now on.
    fn forget_emptied(&mut self) {
        let others = self.topics.iter().filter(|(topic, _)| !stays(topic));
        let mut ends: Vec<Position> = others.filter_map(|(_, history)| history.end).collect();
        if ends.is_empty() {
            return;
        }
        let middle = ends.len() / 2;
        let before = *ends.select_nth_unstable(middle).1;
        self.forgotten_to = self.forgotten_to.max(Reach::back_to(before));
        // So a topic that begins anew is given no place that it had.
        self.clock_ms = self.clock_ms.max(before.ms + 1);
        let (bytes, forgets) = (&mut self.bytes, &mut self.forgets);
        forgets.push(|| Forgotten::Before(before));
        self.topics.retain(|topic, history| {
            let stays = stays(topic) || history.end > Some(before);
            if !stays {
                forgets.push(|| Forgotten::Topic(topic.clone()));
            }
            *bytes -= if stays { 0 } else { history.bytes };
            stays
        });
        self.round.retain(|topic| self.topics.contains_key(topic));
        self.names.retain(|topic| self.topics.contains_key(topic));
        self.topics.shrink_to_fit();
    }

    /// What was forgotten with its topic was older than this.
    fn forgotten(&self, now_ms: u64) -> Reach {
        let kept = Reach::back_to(Position::at(now_ms.saturating_sub(self.age_max_ms)));
        kept.max(self.since).max(self.forgotten_to)
    }

    /// Where a topic's history ends.
    pub fn end(&mut self, topic: &Topic, now_ms: u64) -> End {
        let clock = Some(Position::at(self.time(now_ms)));
        End { position: self.topics.get(topic).and_then(|history| history.shown), since: self.since, clock }
    }

    /// Topics that begin so, whose newest event lies behind a place.
    pub fn topics(&mut self, ask: &TopicsAsk, now_ms: u64) -> Found {
        let now_ms = self.time(now_ms);
        let begin = ask.begin.as_str();
        let names = self.names.range::<str, _>((Bound::Included(begin), Bound::Unbounded));
        let names = names.take_while(|topic| topic.as_str().starts_with(begin));
        let topics = names.filter_map(|topic| {
            let end = self.topics.get(topic)?.shown.filter(|end| *end > ask.after)?;
            Some((topic.clone(), end))
        });
        Found::newest(topics.collect(), ask.limit, (self.since, self.forgotten(now_ms)), Position::at(now_ms))
    }

    /// A part of a topic's history.
    pub fn read(&mut self, read: &Read, now_ms: u64) -> Page {
        let now_ms = self.time(now_ms);
        let forgotten = self.forgotten(now_ms);
        let Some(history) = self.topics.get_mut(&read.topic) else {
            return Page { events: Vec::new(), complete: true, reaches: forgotten, since: self.since };
        };
        self.bytes -= history.drop_old(now_ms);
        self.forgets.events(&read.topic, &mut history.gone);
        let first_known = history.oldest().is_none_or(|at| history.shelves[at].oldest().prev.is_none());
        let reaches = if first_known { history.reaches.max(forgotten) } else { history.reaches };
        let (events, complete) = history.range(read.after, read.limit.max(1) as usize);
        Page { events, complete, reaches: reaches.max(self.since), since: self.since }
    }
}
