//! Which questions may be under way together. Those of one shard about one topic are answered as if asked one after the
//! other; no other question waits for any. No IO, no clock.

use std::collections::{HashSet, VecDeque};

use crate::kv::{Request, bucket};
use crate::limits::REDIS_GROUP;
use crate::runtime::random::Map;
use crate::wire::topic::Topic;

/// What a question is about, for the shard that asks it. What is kept of a topic in different places needs no order among
/// these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Subscriptions of a bucket: a batch changes many topics of it.
    Subscriptions(usize, u8),
    /// A topic's history.
    History(usize, Topic),
    /// A topic's newest values.
    Latest(usize, Topic),
}

/// Who may pass a gate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Any number of those that only read.
    Reads,
    /// Some that write and pass one gate at most, as one group.
    #[default]
    Writes,
    /// Nobody: it writes and may pass many gates.
    Alone,
}

/// What a request has to pass, and with whom.
pub fn gates(shard: usize, request: &Request) -> (Vec<Gate>, Mode) {
    match request {
        Request::Subscribers(topic) => (vec![Gate::Subscriptions(shard, bucket(topic.as_str()))], Mode::Reads),
        Request::Apply(batch) => (vec![Gate::Subscriptions(shard, batch.bucket)], Mode::Writes),
        // Counts have numbers, turns and newest values have versions, which tell newer from older. What a queue says is as
        // of some moment, and its events keep their numbers.
        Request::Heartbeat(_)
        | Request::Leave(_)
        | Request::SetCounts(_)
        | Request::Counts
        | Request::Newer(_)
        // What was found is as of some moment, which the answer names.
        | Request::Topics(_)
        | Request::Beat(_)
        | Request::Due(..)
        | Request::Settled(_)
        | Request::Presence(_)
        | Request::Queue(_)
        | Request::NotePeer(_)
        | Request::PeerViewers
        // Whichever comes first has the key.
        | Request::Claim(_)
        | Request::Release(_)
        | Request::PeerTurns(_) => (Vec::new(), Mode::Reads),
        Request::Take(taking) => (histories(shard, taking.events.iter().map(|(_, append)| &append.topic)), Mode::Alone),
        Request::Append(append) | Request::AppendOnce(_, append) => (vec![Gate::History(shard, append.topic.clone())], Mode::Writes),
        Request::Read(read) => (vec![Gate::History(shard, read.topic.clone())], Mode::Reads),
        Request::Ends(topics) => (histories(shard, topics), Mode::Reads),
        Request::SetLatest(latest) => (vec![Gate::Latest(shard, latest.topic.clone())], Mode::Writes),
        Request::Latest(topic) => (vec![Gate::Latest(shard, topic.clone())], Mode::Reads),
    }
}

/// The gates of these topics' histories, none twice.
fn histories<'a>(shard: usize, topics: impl IntoIterator<Item = &'a Topic>) -> Vec<Gate> {
    let mut seen = HashSet::new();
    topics.into_iter().filter(|topic| seen.insert(*topic)).map(|topic| Gate::History(shard, topic.clone())).collect()
}

#[derive(Debug)]
struct Place {
    id: u64,
    mode: Mode,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their coming; none where one is gone from between others.
    places: VecDeque<Option<Place>>,
    /// The number of the first place, counted from the queue's beginning.
    first: u64,
    /// Places before this one need not wait here, or are gone.
    next: usize,
    /// How many need not wait here: some that read, one group of those that write, or one alone.
    free: usize,
    /// Which of these.
    mode: Mode,
}

impl Queue {
    fn join(&mut self, place: Place) -> u64 {
        self.places.push_back(Some(place));
        self.first + self.places.len() as u64 - 1
    }

    fn leave(&mut self, number: u64) {
        let at = (number - self.first) as usize;
        self.places[at] = None;
        self.free -= usize::from(at < self.next);
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
            self.next = self.next.saturating_sub(1);
        }
    }

    /// The next one that need not wait here any more, if `most` are not yet.
    fn advance(&mut self, most: usize) -> Option<u64> {
        while let Some(place) = self.places.get(self.next) {
            let Some(place) = place else {
                self.next += 1;
                continue;
            };
            let fits = match (self.mode, place.mode) {
                _ if self.free == 0 => true,
                (Mode::Reads, Mode::Reads) => true,
                (Mode::Writes, Mode::Writes) => self.free < most,
                _ => false,
            };
            if !fits {
                return None;
            }
            self.mode = place.mode;
            self.free += 1;
            self.next += 1;
            return Some(place.id);
        }
        None
    }
}

#[derive(Debug)]
struct Held {
    /// Each with the number of its place there.
    gates: Vec<(Gate, u64)>,
    /// Gates at which something else has to go first.
    waits: usize,
}

/// Questions that go together: some that write and are sent in one go, in order, or one of another kind.
pub type Group = Vec<u64>;

/// The queues before the gates.
#[derive(Debug, Default)]
pub struct Gates {
    queues: Map<Gate, Queue>,
    held: Map<u64, Held>,
}

impl Gates {
    /// A question comes. Gives what may go now.
    pub fn enter(&mut self, id: u64, gates: Vec<Gate>, mode: Mode) -> Option<Group> {
        debug_assert!(mode != Mode::Writes || gates.len() <= 1, "what goes in a group passes one gate");
        if gates.is_empty() {
            return Some(vec![id]);
        }
        let waits = gates.len();
        let stand = |gate: &Gate| {
            let queue = self.queues.entry(gate.clone()).or_default();
            (gate.clone(), queue.join(Place { id, mode }))
        };
        let held = Held { gates: gates.iter().map(stand).collect(), waits };
        self.held.insert(id, held);
        // Only the new one can have become free: whatever stands before it did not change.
        gates.iter().flat_map(|gate| self.free(gate)).next()
    }

    /// A group is done, or a question that waits is given up. Gives what may go now.
    pub fn leave(&mut self, ids: &[u64]) -> Vec<Group> {
        let mut gates = Vec::new();
        for id in ids {
            let Some(held) = self.held.remove(id) else { continue };
            for (gate, number) in held.gates {
                let queue = self.queues.get_mut(&gate).expect("a queue lasts as long as who stands in it");
                queue.leave(number);
                if queue.places.is_empty() {
                    self.queues.remove(&gate);
                } else if gates.last() != Some(&gate) {
                    gates.push(gate);
                }
            }
        }
        gates.iter().flat_map(|gate| self.free(gate)).collect()
    }

    /// Whether a question still waits.
    #[cfg(test)]
    fn waits(&self, id: u64) -> bool {
        self.held.get(&id).is_some_and(|held| held.waits > 0)
    }

    fn free(&mut self, gate: &Gate) -> Vec<Group> {
        let Some(queue) = self.queues.get_mut(gate) else { return Vec::new() };
        // What writes goes without others, and a group of it is whole once it goes.
        if queue.free > 0 && queue.mode != Mode::Reads {
            return Vec::new();
        }
        let mut group = Vec::new();
        while let Some(id) = queue.advance(REDIS_GROUP) {
            let held = self.held.get_mut(&id).expect("who stands in a queue is known");
            held.waits -= 1;
            if held.waits == 0 {
                group.push(id);
            }
        }
        if queue.mode == Mode::Reads {
            return group.into_iter().map(|id| vec![id]).collect();
        }
        if group.is_empty() { Vec::new() } else { vec![group] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![2 => Just(Mode::Reads), 2 => Just(Mode::Writes), 1 => Just(Mode::Alone)]
    }

    fn gate(number: u8) -> Gate {
        Gate::Subscriptions(0, number)
    }

    proptest! {
        /// Whatever comes and goes in whatever order: at each gate, what is under way together only reads or is one group,
        /// nothing overtakes what it must follow, and nothing is left behind.
        #[test]
        fn order_holds_at_each_gate(
            questions in prop::collection::vec((prop::collection::hash_set(0u8..3, 0..3), mode()), 1..40),
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 80),
        ) {
            let mut gates = Gates::default();
            let mut facts: Vec<(HashSet<u8>, Mode)> = Vec::new();
            let (mut under_way, mut started, mut gone): (Vec<Group>, HashSet<u64>, HashSet<u64>) = Default::default();
            let mut queue = questions.into_iter();
            for (pick, cancels) in picks.iter().chain(std::iter::repeat_n(&picks[0], 200)) {
                let fresh = match queue.next() {
                    Some((of, mode)) => {
                        let most = if mode == Mode::Writes { 1 } else { of.len() };
                        let of: HashSet<u8> = of.into_iter().take(most).collect();
                        let id = facts.len() as u64;
                        facts.push((of.clone(), mode));
                        gates.enter(id, of.into_iter().map(gate).collect(), mode).into_iter().collect()
                    }
                    None if under_way.is_empty() => Vec::new(),
                    None => {
                        let waiting: Vec<u64> = (0..facts.len() as u64).filter(|id| gates.waits(*id)).collect();
                        if *cancels && !waiting.is_empty() {
                            let id = waiting[pick.index(waiting.len())];
                            gone.insert(id);
                            gates.leave(&[id])
                        } else {
                            let group = under_way.swap_remove(pick.index(under_way.len()));
                            gone.extend(&group);
                            gates.leave(&group)
                        }
                    }
                };
                for group in fresh {
                    prop_assert!(!group.is_empty() && group.is_sorted());
                    prop_assert!(group.len() == 1 || group.iter().all(|id| facts[*id as usize].1 == Mode::Writes));
                    for id in &group {
                        prop_assert!(started.insert(*id) && !gone.contains(id));
                        let (of, mode) = &facts[*id as usize];
                        for before in 0..*id {
                            let (others, other) = &facts[before as usize];
                            let meets = !(others.is_disjoint(of) || (*mode, *other) == (Mode::Reads, Mode::Reads));
                            prop_assert!(!meets || gone.contains(&before) || group.contains(&before));
                        }
                    }
                    under_way.push(group);
                }
            }
            prop_assert_eq!(gone.len(), facts.len());
            prop_assert!(gates.queues.is_empty() && gates.held.is_empty());
        }
    }

    #[test]
    fn writes_that_waited_go_together() {
        let mut gates = Gates::default();
        assert_eq!(gates.enter(0, vec![gate(0)], Mode::Writes), Some(vec![0]));
        for id in 1..4 {
            assert_eq!(gates.enter(id, vec![gate(0)], if id == 3 { Mode::Reads } else { Mode::Writes }), None);
        }
        assert_eq!(gates.leave(&[0]), [vec![1, 2]]);
        assert_eq!(gates.leave(&[1, 2]), [vec![3]]);
    }

    #[test]
    fn what_passes_many_gates_keeps_its_place_at_each() {
        let mut gates = Gates::default();
        assert_eq!(gates.enter(0, vec![gate(0)], Mode::Writes), Some(vec![0]));
        assert_eq!(gates.enter(1, vec![gate(1), gate(0)], Mode::Alone), None);
        assert_eq!(gates.enter(2, vec![gate(1)], Mode::Writes), None, "it would overtake");
        assert_eq!(gates.enter(3, vec![gate(0)], Mode::Reads), None);
        assert_eq!(gates.leave(&[0]), [vec![1]]);
        assert_eq!(gates.leave(&[1]), [vec![2], vec![3]]);
    }
}
