//! How many viewers this node has, topic by topic: its cores' counts added up, and what of it the key-value store does not
//! know yet. One a node; no IO, no clock.

use std::time::Instant;

use crate::dispatch::kv::NodeCounts;
use crate::limits::COUNTS_PAUSE;
use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// A node's viewers.
#[derive(Debug, Default)]
pub struct Audience {
    /// Each core's part.
    cores: Map<(Topic, usize), u32>,
    totals: Map<Topic, u32>,
    /// Topics whose totals the store does not know yet.
    changed: Set<Topic>,
    /// The last change that was sent.
    number: u64,
    /// The topics of the change under way.
    sent: Option<Vec<Topic>>,
    sent_at: Option<Instant>,
    full: bool,
}

impl Audience {
    /// A core has so many viewers of a topic now.
    pub fn report(&mut self, topic: Topic, core: usize, count: u32) {
        let before = if count == 0 {
            let before = self.cores.remove(&(topic.clone(), core));
            shrink(&mut self.cores);
            before.unwrap_or(0)
        } else {
            self.cores.insert((topic.clone(), core), count).unwrap_or(0)
        };
        if before == count {
            return;
        }
        let total = self.totals.entry(topic.clone()).or_default();
        *total = *total - before + count;
        if *total == 0 {
            self.totals.remove(&topic);
            shrink(&mut self.totals);
        }
        self.changed.insert(topic);
    }

    /// What to tell the store now: at most once in [`COUNTS_PAUSE`], one change at a time.
    pub fn due(&mut self, node: NodeId, now: Instant) -> Option<NodeCounts> {
        let recent = self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < COUNTS_PAUSE);
        if recent || self.sent.is_some() || (self.changed.is_empty() && !self.full) {
            return None;
        }
        let full = std::mem::take(&mut self.full);
        let changed: Vec<Topic> = std::mem::take(&mut self.changed).into_iter().collect();
        let counts = if full {
            self.totals.iter().map(|(topic, total)| (topic.clone(), *total)).collect()
        } else {
            changed.iter().map(|topic| (topic.clone(), self.totals.get(topic).copied().unwrap_or(0))).collect()
        };
        self.number += 1;
        self.sent = Some(changed);
        self.sent_at = Some(now);
        Some(NodeCounts { node, number: self.number, full, counts })
    }

    /// The change under way is in place.
    pub fn done(&mut self) {
        self.sent = None;
    }

    /// Nobody knows what became of it: everything is sent again, since numbers that were skipped are a doubt elsewhere.
    pub fn failed(&mut self) {
        self.sent = None;
        self.full = true;
    }

    /// The store holds something else.
    pub fn repair(&mut self) {
        self.full |= self.sent.is_none();
    }

    /// The number of the last change, unless one is under way.
    pub fn number(&self) -> Option<u64> {
        self.sent.is_none().then_some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn topic(number: u8) -> Topic {
        Topic::parse(&format!("live:{number}")).unwrap()
    }

    proptest! {
        /// Reports come and changes get lost: the store ends up with the cores' sums.
        #[test]
        fn the_store_learns_the_sums(steps in prop::collection::vec((0u8..3, 0usize..3, 0u32..4, 0u8..3), 1..80)) {
            let (mut audience, mut now) = (Audience::default(), Instant::now());
            let (mut cores, mut store) = (BTreeMap::new(), BTreeMap::<Topic, u32>::new());
            let apply = |store: &mut BTreeMap<Topic, u32>, change: NodeCounts| {
                if change.full { store.clear(); }
                store.extend(change.counts);
                store.retain(|_, count| *count > 0);
            };
            for (number, core, count, fate) in steps {
                audience.report(topic(number), core, count);
                cores.insert((number, core), count);
                now += COUNTS_PAUSE / 2;
                if let Some(change) = audience.due(NodeId(1), now) {
                    prop_assert!(audience.due(NodeId(1), now + COUNTS_PAUSE).is_none() && audience.number().is_none());
                    if fate > 0 { apply(&mut store, change); }
                    if fate == 2 { audience.done() } else { audience.failed() }
                }
            }
            for _ in 0..3 {
                now += COUNTS_PAUSE;
                if let Some(change) = audience.due(NodeId(1), now) {
                    apply(&mut store, change);
                    audience.done();
                }
            }
            for number in 0..3 {
                let sum: u32 = cores.iter().filter(|((of, _), _)| *of == number).map(|(_, count)| count).sum();
                prop_assert_eq!(store.get(&topic(number)).copied().unwrap_or(0), sum);
            }
            prop_assert_eq!(audience.totals.len(), store.len());
        }
    }
}
