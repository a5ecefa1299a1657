//! Which questions may be under way together. Those of one shard about one topic are answered as if asked one after the
//! other; no other question waits for any. No IO, no clock.

use std::collections::{HashMap, VecDeque};

use crate::dispatch::kv::{Request, bucket};
use crate::limits::REDIS_GROUP;
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

/// What a request has to pass, and whether it only reads. Those that write pass one gate at most.
pub fn gates(shard: usize, request: &Request) -> (Vec<Gate>, bool) {
    match request {
        Request::Subscribers(topic) => (vec![Gate::Subscriptions(shard, bucket(topic.as_str()))], true),
        Request::Apply(batch) => (vec![Gate::Subscriptions(shard, batch.bucket)], false),
        // Counts have numbers and turns have versions, which tell newer from older.
        Request::Heartbeat(_)
        | Request::Leave(_)
        | Request::SetCounts(_)
        | Request::Counts
        | Request::Beat(_)
        | Request::Due(..)
        | Request::Settled(_)
        | Request::Presence(_)
        | Request::Queue(_)
        | Request::Take(_)
        | Request::NotePeer(_)
        | Request::PeerViewers
        | Request::PeerTurns(_) => (Vec::new(), true),
        Request::Append(append) => (vec![Gate::History(shard, append.topic.clone())], false),
        Request::Read(read) => (vec![Gate::History(shard, read.topic.clone())], true),
        Request::Ends(topics) => {
            let mut gates: Vec<Gate> = topics.iter().map(|topic| Gate::History(shard, topic.clone())).collect();
            let mut seen = std::collections::HashSet::new();
            gates.retain(|gate| seen.insert(gate.clone()));
            (gates, true)
        }
        Request::SetLatest(latest) => (vec![Gate::Latest(shard, latest.topic.clone())], false),
        Request::Latest(topic) => (vec![Gate::Latest(shard, topic.clone())], true),
    }
}

#[derive(Debug)]
struct Place {
    id: u64,
    reads: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their coming; none where one is gone from between others.
    places: VecDeque<Option<Place>>,
    /// The number of the first place, counted from the queue's beginning.
    first: u64,
    /// Places before this one need not wait here, or are gone.
    next: usize,
    /// How many need not wait here: some that read, or one group of those that write.
    free: usize,
    /// Which of the two.
    reads: bool,
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
            let fits = self.free == 0 || self.reads == place.reads && (self.reads || self.free < most);
            if !fits {
                return None;
            }
            self.reads = place.reads;
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

/// Questions that go together: one that reads, or some that write and are sent in one go, in order.
pub type Group = Vec<u64>;

/// The queues before the gates.
#[derive(Debug, Default)]
pub struct Gates {
    queues: HashMap<Gate, Queue, foldhash::fast::RandomState>,
    held: HashMap<u64, Held, foldhash::fast::RandomState>,
}

impl Gates {
    /// A question comes. Gives what may go now.
    pub fn enter(&mut self, id: u64, gates: Vec<Gate>, reads: bool) -> Option<Group> {
        debug_assert!(reads || gates.len() <= 1, "what writes passes one gate");
        if gates.is_empty() {
            return Some(vec![id]);
        }
        let waits = gates.len();
        let stand = |gate: &Gate| {
            let queue = self.queues.entry(gate.clone()).or_default();
            (gate.clone(), queue.join(Place { id, reads }))
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
        // A group that writes goes alone, and is whole once it goes.
        if queue.free > 0 && !queue.reads {
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
        if queue.reads {
            return group.into_iter().map(|id| vec![id]).collect();
        }
        if group.is_empty() { Vec::new() } else { vec![group] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn gate(number: u8) -> Gate {
        Gate::Subscriptions(0, number)
    }

    proptest! {
        /// Whatever comes and goes in whatever order: at each gate, what is under way together only reads or is one group,
        /// nothing overtakes what it must follow, and nothing is left behind.
        #[test]
        fn order_holds_at_each_gate(
            questions in prop::collection::vec((prop::collection::hash_set(0u8..3, 0..3), any::<bool>()), 1..40),
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 80),
        ) {
            let mut gates = Gates::default();
            let mut facts: Vec<(HashSet<u8>, bool)> = Vec::new();
            let (mut under_way, mut started, mut gone): (Vec<Group>, HashSet<u64>, HashSet<u64>) = Default::default();
            let mut queue = questions.into_iter();
            for (pick, cancels) in picks.iter().chain(std::iter::repeat_n(&picks[0], 200)) {
                let fresh = match queue.next() {
                    Some((of, reads)) => {
                        let of: HashSet<u8> = if reads { of } else { of.into_iter().take(1).collect() };
                        let id = facts.len() as u64;
                        facts.push((of.clone(), reads));
                        gates.enter(id, of.into_iter().map(gate).collect(), reads).into_iter().collect()
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
                    for id in &group {
                        prop_assert!(started.insert(*id) && !gone.contains(id));
                        let (of, reads) = &facts[*id as usize];
                        for before in 0..*id {
                            let (others, other_reads) = &facts[before as usize];
                            let meets = !(others.is_disjoint(of) || *reads && *other_reads);
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
        assert_eq!(gates.enter(0, vec![gate(0)], false), Some(vec![0]));
        for id in 1..4 {
            assert_eq!(gates.enter(id, vec![gate(0)], id == 3), None);
        }
        assert_eq!(gates.leave(&[0]), [vec![1, 2]]);
        assert_eq!(gates.leave(&[1, 2]), [vec![3]]);
    }
}
