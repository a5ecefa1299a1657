//! Who waits until topics are registered: a stream for its `connected`, or a request that changed a stream's topics for its
//! answer. A wait ends when the last of its topics is registered, at its deadline, or with its stream, and leaves nothing behind.
//! No IO, no clock.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Instant;

use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;

#[derive(Debug)]
struct Wait<W> {
    slot: u32,
    deadline: Instant,
    topics: Set<u32>,
    what: W,
}

type Ids = Set<u64>;

/// All waits of a shard, each for something of type `W`.
#[derive(Debug)]
pub struct Waiting<W> {
    waits: Map<u64, Wait<W>>,
    of_topic: Map<u32, Ids>,
    of_slot: Map<u32, Ids>,
    deadlines: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl<W> Default for Waiting<W> {
    fn default() -> Waiting<W> {
        let (waits, of_topic, of_slot, deadlines) = Default::default();
        Waiting { waits, of_topic, of_slot, deadlines, next: 0 }
    }
}

fn remove<K: Hash + Eq>(of: &mut Map<K, Ids>, key: K, id: u64) {
    if let Some(ids) = of.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            of.remove(&key);
            shrink(of);
        }
    }
}

impl<W> Waiting<W> {
    /// How many waits there are.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Something waits, on behalf of the stream in this slot, for topics by their places in the shard's table.
    pub fn insert(&mut self, slot: u32, topics: &[u32], deadline: Instant, what: W) {
        let id = self.next;
        self.next += 1;
        for topic in topics {
            self.of_topic.entry(*topic).or_default().insert(id);
        }
        self.of_slot.entry(slot).or_default().insert(id);
        self.deadlines.insert((deadline, id));
        self.waits.insert(id, Wait { slot, deadline, topics: topics.iter().copied().collect(), what });
    }

    fn end(&mut self, id: u64) -> Option<W> {
        let wait = self.waits.remove(&id)?;
        shrink(&mut self.waits);
        for topic in wait.topics {
            remove(&mut self.of_topic, topic, id);
        }
        remove(&mut self.of_slot, wait.slot, id);
        self.deadlines.remove(&(wait.deadline, id));
        Some(wait.what)
    }

    /// Of these waits, this topic is waited for no more. Gives what waited for nothing else.
    fn settle(&mut self, ids: impl IntoIterator<Item = u64>, topic: u32) -> Vec<W> {
        let mut ended = Vec::new();
        for id in ids {
            let Some(wait) = self.waits.get_mut(&id) else { continue };
            if wait.topics.remove(&topic) && wait.topics.is_empty() {
                ended.extend(self.end(id));
            }
        }
        ended
    }

    /// A topic is registered. Gives what waited for nothing else.
    #[must_use = "whoever waited is to be told"]
    pub fn ready(&mut self, topic: u32) -> Vec<W> {
        let ids = self.of_topic.remove(&topic).unwrap_or_default();
        shrink(&mut self.of_topic);
        self.settle(ids, topic)
    }

    /// A stream left a topic. Gives what waited for nothing else on its behalf.
    #[must_use = "whoever waited is to be told"]
    pub fn left(&mut self, slot: u32, topic: u32) -> Vec<W> {
        let Some(ids) = self.of_slot.get(&slot) else { return Vec::new() };
        let ids: Vec<u64> = ids.iter().copied().collect();
        for id in &ids {
            remove(&mut self.of_topic, topic, *id);
        }
        self.settle(ids, topic)
    }

    /// A stream ended. Gives what waited on its behalf.
    #[must_use = "whoever waited is to be told"]
    pub fn gone(&mut self, slot: u32) -> Vec<W> {
        let ids = self.of_slot.remove(&slot).unwrap_or_default();
        shrink(&mut self.of_slot);
        ids.into_iter().filter_map(|id| self.end(id)).collect()
    }

    /// The one whose deadline has passed, if there is one.
    #[must_use = "whoever waited is to be told"]
    pub fn overdue(&mut self, now: Instant) -> Option<W> {
        let (_, id) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.end(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Against a plain list; and once nobody waits, nothing is left.
        #[test]
        fn each_wait_ends_once_and_leaves_nothing(
            steps in prop::collection::vec((0u8..6, 0u32..4, prop::collection::btree_set(0u32..5, 1..4)), 1..150),
        ) {
            let (mut waiting, mut now) = (Waiting::default(), Instant::now());
            let mut model: Vec<(usize, u32, BTreeSet<u32>, Instant)> = Vec::new();
            for (number, (what, slot, topics)) in steps.into_iter().enumerate() {
                let topic = *topics.first().unwrap();
                let mut ended = Vec::new();
                match what {
                    0 | 1 => {
                        let list: Vec<u32> = topics.iter().copied().collect();
                        let deadline = now + Duration::from_millis(5);
                        waiting.insert(slot, &list, deadline, number);
                        model.push((number, slot, topics, deadline));
                    }
                    2 => {
                        ended = waiting.ready(topic);
                        model.iter_mut().for_each(|wait| { wait.2.remove(&topic); });
                    }
                    3 => {
                        ended = waiting.left(slot, topic);
                        model.iter_mut().filter(|wait| wait.1 == slot).for_each(|wait| { wait.2.remove(&topic); });
                    }
                    4 => {
                        ended = waiting.gone(slot);
                        model.iter_mut().filter(|wait| wait.1 == slot).for_each(|wait| wait.2.clear());
                    }
                    _ => {
                        now += Duration::from_millis(2);
                        ended.extend(std::iter::from_fn(|| waiting.overdue(now)));
                        model.iter_mut().filter(|wait| wait.3 <= now).for_each(|wait| wait.2.clear());
                    }
                }
                let due: BTreeSet<usize> = model.extract_if(.., |wait| wait.2.is_empty()).map(|wait| wait.0).collect();
                prop_assert_eq!(ended.len(), due.len());
                prop_assert_eq!(ended.into_iter().collect::<BTreeSet<_>>(), due);
                prop_assert_eq!(waiting.len(), model.len());
                let held: usize = waiting.of_topic.values().map(Set::len).sum();
                prop_assert_eq!(held, model.iter().map(|wait| wait.2.len()).sum::<usize>());
                prop_assert_eq!(waiting.of_slot.values().map(Set::len).sum::<usize>(), model.len());
                prop_assert_eq!(waiting.deadlines.len(), model.len());
            }
        }
    }
}
