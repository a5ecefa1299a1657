//! History in memory: what the embedded key-value store keeps of each topic.

mod kept;

use std::collections::VecDeque;
use std::sync::Arc;

use self::kept::Forgets;
use super::kept::Forgotten;
use super::kv::{Append, End, Page, Read, Stored};
use crate::limits::{MEMORY_HISTORY_BYTES, WITHDRAWN_REFUSED};
use crate::runtime::random::Map;
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

/// Appends between two sweeps over all topics for what is too old.
const SWEEP_APPENDS: u64 = 4096;

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
    /// How far back it reaches.
    reaches: Reach,
    /// Events that it gave up, until that is noted.
    gone: Vec<Position>,
    /// What was taken back lately, and when: should it only come now, it is refused.
    withdrawn: VecDeque<(u64, Withdrawn)>,
}

/// All topics' histories.
#[derive(Debug)]
pub struct Histories {
    since: Reach,
    /// The newest time that it was given: no place that it gives is before one that it gave, whatever becomes of the clock.
    clock_ms: u64,
    age_max_ms: u64,
    topics: Map<Topic, History>,
    bytes: usize,
    bytes_max: usize,
    appends: u64,
    /// What was forgotten with its topic before its time, for want of memory, was not later than this.
    forgotten_to: Reach,
    forgets: Forgets,
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
    fn shelf(&mut self, kind: String) -> (usize, usize) {
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

    /// An event was taken back: its text goes, wherever it stands.
    fn withdraw(&mut self, withdrawn: Withdrawn, now_ms: u64) {
        for entry in self.shelves.iter_mut().flat_map(|shelf| &mut shelf.events) {
            self.bytes -= entry.event.take_if(|event| withdrawn.is(event)).map_or(0, |event| event.len());
        }
        let old = self.withdrawn.partition_point(|(at, _)| *at + REFUSED_MS < now_ms);
        for (_, old) in self.withdrawn.drain(..old) {
            self.bytes -= ENTRY_BYTES + old.beginning().len();
        }
        self.bytes += ENTRY_BYTES + withdrawn.beginning().len();
        self.withdrawn.push_back((now_ms, withdrawn));
    }

    /// Whether an event was taken back before it came.
    fn refuses(&self, event: &str, now_ms: u64) -> bool {
        self.withdrawn.iter().any(|(at, withdrawn)| *at + REFUSED_MS >= now_ms && withdrawn.is(event))
    }

    /// At most so many of the events that follow `after`, in order, and whether these are all.
    fn range(&self, after: Position, limit: usize) -> (Vec<Stored>, bool) {
        let from = |shelf: &Shelf| shelf.events.partition_point(|event| event.position <= after);
        let mut rests: Vec<_> = self.shelves.iter().map(|shelf| shelf.events.range(from(shelf)..).peekable()).collect();
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
            bytes: 0,
            bytes_max: MEMORY_HISTORY_BYTES,
            appends: 0,
            forgotten_to: Reach::START,
            forgets: Forgets::default(),
        }
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

    /// Appends an event. Gives its place and that of the one before it.
    pub fn append(&mut self, append: Append, now_ms: u64) -> (Position, Option<Position>) {
        let now_ms = self.time(now_ms);
        self.appends += 1;
        if self.appends.is_multiple_of(SWEEP_APPENDS) || self.bytes > self.bytes_max {
            self.sweep(now_ms);
        }
        let now_ms = self.time(now_ms);
        let name_bytes = append.topic.as_str().len();
        let topic = append.topic.clone();
        let history = self.topics.entry(append.topic).or_insert_with(|| {
            self.bytes += TOPIC_BYTES + name_bytes;
            History { bytes: TOPIC_BYTES + name_bytes, ..History::default() }
        });
        if let Some(id) = append.withdraws {
            self.bytes -= history.bytes;
            history.withdraw(Withdrawn::of(&id), now_ms);
            self.bytes += history.bytes;
        }
        let prev = history.end;
        let position = match prev {
            Some(last) if last.ms >= now_ms => Position { ms: last.ms, seq: last.seq + 1 },
            _ => Position { ms: now_ms, seq: 1 },
        };
        history.end = Some(position);
        let (at, shelf_bytes) = history.shelf(append.kind);
        let entry = Entry { position, prev, event: Some(append.event) };
        let bytes = entry.bytes() + shelf_bytes;
        history.bytes += bytes;
        self.bytes += bytes;
        history.shelves[at].age_max_ms = append.age_max_ms;
        history.shelves[at].events.push_back(entry);
        while history.shelves[at].events.len() > append.count_max.max(1) as usize {
            self.bytes -= history.drop_oldest(at);
        }
        self.bytes -= history.drop_old(now_ms);
        self.forgets.events(&topic, &mut history.gone);
        (position, prev)
    }

    /// Nothing that follows this place precedes an event whose predecessor in its history is `prev`.
    pub fn follows(&self, prev: Option<Position>) -> Position {
        prev.unwrap_or_default().max(self.since.place())
    }

    /// Drops what is too old, forgets topics that hold nothing, and keeps all of it within its bound.
    fn sweep(&mut self, now_ms: u64) {
        let forgotten = self.forgotten(now_ms);
        let mut dropped = 0;
        self.topics.retain(|topic, history| {
            dropped += history.drop_old(now_ms);
            self.forgets.events(topic, &mut history.gone);
            // One that lost events before their time remains until nobody expects them any more.
            let stays = !history.shelves.is_empty() || history.reaches > forgotten;
            if !stays {
                dropped += history.bytes;
                self.forgets.push(|| Forgotten::Topic(topic.clone()));
            }
            stays
        });
        self.bytes -= dropped;
        // Over all topics the oldest go first, down to nine tenths, so that this is rare.
        while self.bytes > self.bytes_max / 10 * 9 {
            let shelves = self.topics.values().flat_map(|history| &history.shelves);
            let mut fronts: Vec<Position> = shelves.map(|shelf| shelf.oldest().position).collect();
            if fronts.is_empty() {
                return self.forget_emptied();
            }
            let middle = fronts.len() / 2;
            let before = *fronts.select_nth_unstable(middle).1;
            for (topic, history) in &mut self.topics {
                while let Some(at) = history.oldest().filter(|at| history.shelves[*at].oldest().position <= before) {
                    self.bytes -= history.drop_oldest(at);
                }
                self.forgets.events(topic, &mut history.gone);
            }
        }
    }

    /// Only topics without events are left, which are kept to say that something is missing: half of them are forgotten, and
    /// of whatever is not known that is said from now on.
    fn forget_emptied(&mut self) {
        let mut ends: Vec<Position> = self.topics.values().filter_map(|history| history.end).collect();
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
            let stays = history.end > Some(before);
            if !stays {
                forgets.push(|| Forgotten::Topic(topic.clone()));
            }
            *bytes -= if stays { 0 } else { history.bytes };
            stays
        });
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
        End { position: self.topics.get(topic).and_then(|history| history.end), since: self.since, clock }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic() -> Topic {
        Topic::parse("live:1").unwrap()
    }

    fn event(topic: Topic, kind: &str, event: &str, count_max: u32, age_max_ms: u64) -> Append {
        let (event, kind) = (event.into(), kind.to_owned());
        Append { topic, event, kind, count_max, age_max_ms, withdraws: None, peers: Vec::new() }
    }

    fn append(histories: &mut Histories, text: &str, count_max: u32, now_ms: u64) -> (Position, Option<Position>) {
        histories.append(event(topic(), "comment", text, count_max, 1000), now_ms)
    }

    /// Types, with how many events of each are kept, and for how long.
    const KINDS: [(&str, usize, u64); 3] = [("comment", 5, 1000), ("note", 2, 300), ("deleted", 9, 500)];

    proptest! {
        /// Each event is kept for its own type's count and time and no longer, unless it was taken back; its place is. Whoever reads from wherever: either all that was
        /// appended since, in order, or `reaches` says that some is gone, which it does only then.
        #[test]
        fn each_type_is_kept_by_itself_and_nothing_is_missing_unsaid(
            steps in prop::collection::vec(
                (0u64..400, 0..KINDS.len(), any::<bool>(), prop::option::weighted(0.2, any::<prop::sample::Index>())),
                1..60,
            ),
            from: prop::sample::Index,
            limit in 1u32..9,
        ) {
            let (mut histories, mut now_ms, mut all) = (Histories::new(1, 1000), 1, Vec::new());
            let mut withdrawn = std::collections::BTreeSet::new();
            for (pause, kind, sweeps, withdraws) in steps {
                now_ms += pause;
                let (name, count, age_ms) = KINDS[kind];
                let text = format!("{{\"id\":\"{}\",}}", all.len());
                let withdraws = withdraws.map(|which| which.index(all.len() + 1));
                withdrawn.extend(withdraws.filter(|which| *which < all.len()));
                let withdraws = withdraws.map(|which| which.to_string());
                let append = Append { withdraws, ..event(topic(), name, &text, count as u32, age_ms) };
                let (position, prev) = histories.append(append, now_ms);
                if sweeps {
                    histories.sweep(now_ms);
                }
                let last = all.last().map(|(position, _)| *position);
                prop_assert!(position.ms >= now_ms && Some(position) > last);
                prop_assert!(prev.is_none() || prev == last);
                all.push((position, kind));
            }
            let is_kept = |at: usize| {
                let (position, kind) = all[at];
                let (_, count, age_ms) = KINDS[kind];
                let newer = all[at + 1..].iter().filter(|(_, other)| *other == kind).count();
                newer < count && position.ms + age_ms >= now_ms
            };
            let places = all.iter().map(|(position, _)| *position);
            let mut after = std::iter::once(Position::at(1)).chain(places).nth(from.index(all.len() + 1)).unwrap();
            let behind = (0..all.len()).filter(|at| all[*at].0 > after);
            let (wanted, gone): (Vec<usize>, Vec<usize>) = behind.partition(|at| is_kept(*at));
            let wanted: Vec<_> =
                wanted.into_iter().filter(|at| !withdrawn.contains(at)).map(|at| all[at].0).collect();
            let (mut got, asked) = (Vec::new(), after);
            loop {
                let page = histories.read(&Read { topic: topic(), after, limit }, now_ms);
                // What is older than any type is kept may have been forgotten with its topic, and is said to be gone.
                let may_be_forgotten = asked.ms + 1000 < now_ms;
                let is_right = if page.reaches.covers(asked) { gone.is_empty() } else { may_be_forgotten || !gone.is_empty() };
                prop_assert!(is_right, "{:?}, asked from {}", page.reaches, asked);
                got.extend(page.events.iter().map(|event| event.position));
                if page.complete {
                    break;
                }
                after = *got.last().unwrap();
            }
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(histories.bytes, histories.topics.values().map(|history| history.bytes).sum::<usize>());
        }
    }

    #[test]
    fn a_topic_that_lost_all_for_want_of_memory_says_so() {
        let mut histories = Histories::new(0, 1000);
        append(&mut histories, "first", 10, 5);
        let text = "x".repeat(1 << 20);
        for number in 0..300 {
            let topic = Topic::parse("live:other").unwrap();
            histories.append(event(topic, "comment", &text, 1000, 1000), 10 + number);
        }
        histories.sweep(320);
        let page = histories.read(&Read { topic: topic(), after: Position::at(4), limit: 9 }, 320);
        assert!(page.events.is_empty() && !page.reaches.covers(Position::at(4)), "{page:?}");
        assert_eq!(append(&mut histories, "second", 10, 330).1, Some(Position { ms: 5, seq: 1 }));
        histories.sweep(2_000);
        assert_eq!(histories.end(&topic(), 2_000).position, None, "a second later nobody expects it");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_place_before_one_that_was_given() {
        let mut histories = Histories::new(1_000, 1_000);
        let (first, _) = append(&mut histories, "1", 9, 10_000);
        histories.end(&topic(), 20_000);
        histories.sweep(20_000);
        let other = Topic::parse("live:other").unwrap();
        let end = histories.end(&other, 5_000);
        assert_eq!((end.position, end.place()), (None, Some(Position::at(20_000))));
        let (second, prev) = append(&mut histories, "2", 9, 5_000);
        assert!(second > first && prev.is_none(), "{second}");
        let page = histories.read(&Read { topic: topic(), after: first, limit: 9 }, 5_000);
        assert_eq!(page.events.iter().map(|event| event.position).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn memory_is_bounded_and_what_went_is_said() {
        let mut histories = Histories::new(0, 1000);
        let text = "x".repeat(1 << 20);
        for number in 0..300 {
            append(&mut histories, &text, 1_000_000, 1 + number);
            assert!(histories.bytes <= MEMORY_HISTORY_BYTES + text.len() + ENTRY_BYTES);
        }
        let page = histories.read(&Read { topic: topic(), after: Position::at(0), limit: 1 }, 300);
        assert!(!page.reaches.covers(Position::at(0)) && page.events.len() == 1);
    }

    #[test]
    fn names_and_emptied_topics_count() {
        let mut histories = Histories::new(0, 3_600_000);
        let name = "n".repeat(180);
        for number in 0..500_000 {
            let topic = Topic::parse(&format!("c:{name}{number}")).unwrap();
            histories.append(event(topic, "comment", "1", 1, 3_600_000), 1 + number);
            assert!(histories.bytes <= MEMORY_HISTORY_BYTES + 1024, "{number}");
        }
        // What was forgotten with its topic is not passed over in silence.
        let first = Topic::parse(&format!("c:{name}0")).unwrap();
        let page = histories.read(&Read { topic: first, after: Position::at(0), limit: 1 }, 500_000);
        assert!(!page.reaches.covers(Position::at(0)), "{page:?}");
    }
}
