//! What this node wants, told to the key-value store: bucket by bucket, in numbered batches of wanted states, one at a
//! time, sent again until it is in place. One a shard, for its share of the buckets, whichever shards the topics in them
//! are at home on; no IO, no clock.
//!
//! Where the store holds something else, all that is wanted goes there again, in batches as small as any others: what was
//! lost is back by that. Only if that was not it, so that something is held which is not wanted, does one batch list all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::ground::message::Wish;
use crate::kv::{BUCKETS, Batch, bucket, stable_hash};
use crate::limits::{REGISTER_RETRY, REGISTRATIONS_PER_BATCH, REPAIR_WINDOW};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// What is wanted, and by which wish.
    wanted: Map<Topic, Wish>,
    /// Of what is wanted, as far as it was queued here.
    digest: u64,
    /// The last batch sent.
    number: u64,
    /// States that are to be sent.
    queued: Map<Topic, bool>,
    /// All that is wanted is to be sent, since the store holds something else: as states like any others.
    again: bool,
    /// Same, as one batch that lists all.
    full: bool,
    /// When all was last sent again as states.
    repaired: Option<Instant>,
    /// The batch under way.
    sent: Option<Batch>,
    /// After a failure: not before this time.
    not_before: Option<Instant>,
}

impl Bucket {
    /// No batch is under way, and none failed a moment ago.
    fn may_send(&self, now: Instant) -> bool {
        self.sent.is_none() && self.not_before.is_none_or(|time| time <= now)
    }
}

/// Tells the store what this node wants of a shard's buckets.
#[derive(Debug, Default)]
pub struct Registrar {
    buckets: BTreeMap<u8, Bucket>,
    /// Buckets that have something to send, at most once each.
    dirty: VecDeque<u8>,
}

impl Registrar {
    /// A topic is wanted from now on, or is not.
    pub fn change(&mut self, topic: Topic, wanted: bool, wish: Wish) {
        let number = bucket(topic.as_str());
        let entry = self.buckets.entry(number).or_default();
        entry.digest ^= stable_hash(topic.as_str().as_bytes());
        if wanted {
            entry.wanted.insert(topic.clone(), wish);
        } else {
            entry.wanted.remove(&topic);
            shrink(&mut entry.wanted);
        }
        entry.queued.insert(topic, wanted);
        self.mark(number);
    }

    fn mark(&mut self, number: u8) {
        if !self.dirty.contains(&number) {
            self.dirty.push_back(number);
        }
    }

    /// Whether something is to be sent now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.dirty.iter().any(|number| self.buckets.get(number).is_some_and(|bucket| bucket.may_send(now)))
    }

    /// Whether something is to be sent, or is under way.
    pub fn is_busy(&self) -> bool {
        !self.dirty.is_empty() || self.buckets.values().any(|bucket| bucket.sent.is_some())
    }

    /// The next batch to send now.
    pub fn next_batch(&mut self, node: NodeId, now: Instant) -> Option<Batch> {
        for _ in 0..self.dirty.len() {
            let number = self.dirty.pop_front()?;
            let entry = self.buckets.entry(number).or_default();
            if !entry.may_send(now) {
                self.dirty.push_back(number);
                continue;
            }
            entry.not_before = None;
            if std::mem::take(&mut entry.again) {
                for topic in entry.wanted.keys() {
                    entry.queued.entry(topic.clone()).or_insert(true);
                }
            }
            let full = std::mem::take(&mut entry.full);
            let changes: Vec<(Topic, bool)> = if full {
                entry.queued.clear();
                entry.wanted.keys().map(|topic| (topic.clone(), true)).collect()
            } else if entry.queued.len() <= REGISTRATIONS_PER_BATCH {
                entry.queued.drain().collect()
            } else {
                let some: Vec<Topic> = entry.queued.keys().take(REGISTRATIONS_PER_BATCH).cloned().collect();
                some.into_iter().filter_map(|topic| entry.queued.remove_entry(&topic)).collect()
            };
            if changes.is_empty() && !full {
                continue;
            }
            entry.number += 1;
            let batch = Batch { node, bucket: number, number: entry.number, full, changes };
            entry.sent = Some(batch.clone());
            if !entry.queued.is_empty() {
                self.dirty.push_back(number);
            }
            return Some(batch);
        }
        None
    }

    /// The batch under way is in place. Gives the topics that the store holds now as they are wanted, and the wishes that are
    /// fulfilled by that.
    pub fn applied(&mut self, number: u8) -> Vec<(Topic, Wish)> {
        let Some(entry) = self.buckets.get_mut(&number) else { return Vec::new() };
        let batch = entry.sent.take();
        let changes = batch.into_iter().flat_map(|batch| batch.changes);
        let held = changes.filter(|(topic, wanted)| *wanted && !entry.queued.contains_key(topic));
        held.filter_map(|(topic, _)| entry.wanted.get(&topic).map(|wish| (topic.clone(), *wish))).collect()
    }

    /// Nobody knows what became of the batch under way: its states are sent again, unless newer ones are queued.
    pub fn failed(&mut self, number: u8, now: Instant) {
        let Some(entry) = self.buckets.get_mut(&number) else { return };
        let Some(batch) = entry.sent.take() else { return };
        entry.full |= batch.full;
        for (topic, wanted) in batch.changes {
            entry.queued.entry(topic).or_insert(wanted);
        }
        entry.not_before = Some(now + REGISTER_RETRY);
        self.mark(number);
    }

    /// The store holds something else than it should of this bucket.
    pub fn repair(&mut self, number: u8, now: Instant) {
        let entry = self.buckets.entry(number).or_default();
        // A batch that was sent since the digest was taken explains the difference.
        if entry.sent.is_none() && entry.queued.is_empty() {
            entry.full = entry.repaired.is_some_and(|last| now.saturating_duration_since(last) < REPAIR_WINDOW);
            entry.again = !entry.full;
            entry.repaired = entry.again.then_some(now);
            self.mark(number);
        }
    }

    /// What the store should hold of a bucket, unless that is changing.
    pub fn digest(&self, number: u8) -> Option<u64> {
        match self.buckets.get(&number) {
            None => Some(0),
            Some(entry) if entry.sent.is_some() || entry.again || entry.full || !entry.queued.is_empty() => None,
            Some(entry) => Some(entry.digest),
        }
    }
}

const _: () = assert!(BUCKETS <= u8::MAX as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::digest;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const NODE: NodeId = NodeId(1);

    impl Registrar {
        fn batches(&mut self, node: NodeId, now: Instant) -> Vec<Batch> {
            std::iter::from_fn(|| self.next_batch(node, now)).collect()
        }
    }

    fn topic(number: u8) -> Topic {
        Topic::parse(&format!("live:{number}")).unwrap()
    }

    /// A store that holds one node's wants as the real ones do.
    #[derive(Default)]
    struct Store {
        held: BTreeSet<Topic>,
        numbers: Map<u8, u64>,
    }

    impl Store {
        fn apply(&mut self, batch: &Batch) {
            let last = self.numbers.entry(batch.bucket).or_default();
            if batch.number <= *last {
                return;
            }
            *last = batch.number;
            if batch.full {
                self.held.retain(|topic| bucket(topic.as_str()) != batch.bucket);
            }
            for (topic, wanted) in &batch.changes {
                assert_eq!(bucket(topic.as_str()), batch.bucket);
                if *wanted {
                    self.held.insert(topic.clone())
                } else {
                    self.held.remove(topic)
                };
            }
        }

        fn digest(&self, number: u8) -> u64 {
            digest(self.held.iter().map(Topic::as_str).filter(|topic| bucket(topic) == number))
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Toggle(u8),
        Send,
        Lose(bool),
        Empty,
        Beat,
    }

    #[test]
    fn an_old_wish_is_not_fulfilled_by_what_undoes_it() {
        let (mut registrar, now) = (Registrar::default(), Instant::now());
        let number = bucket(topic(1).as_str());
        registrar.change(topic(1), true, 1);
        assert_eq!(registrar.batches(NODE, now).len(), 1);
        registrar.change(topic(1), false, 2);
        registrar.change(topic(1), true, 3);
        assert_eq!(registrar.applied(number), [], "another batch is to come");
        assert_eq!(registrar.batches(NODE, now).len(), 1);
        assert_eq!(registrar.applied(number), [(topic(1), 3)]);
        registrar.repair(number, now);
        assert_eq!(registrar.batches(NODE, now).len(), 1);
        registrar.change(topic(1), false, 4);
        assert_eq!(registrar.applied(number), []);
    }

    #[test]
    fn a_repair_of_very_many_topics_is_no_larger_than_any_batch() {
        let now = Instant::now();
        let mut registrar = Registrar::default();
        let topics = (0u32..).map(|at| Topic::parse(&format!("user:{at}")).unwrap());
        let all = topics.filter(|topic| bucket(topic.as_str()) == 7).take(3 * REGISTRATIONS_PER_BATCH);
        let all: BTreeSet<Topic> = all.collect();
        all.iter().for_each(|topic| registrar.change(topic.clone(), true, 1));
        while !registrar.batches(NODE, now).is_empty() {
            assert!(!registrar.applied(7).is_empty());
        }
        registrar.repair(7, now);
        assert_eq!(registrar.digest(7), None);
        let (mut sent, mut largest) = (BTreeSet::new(), 0);
        while registrar.is_busy() {
            for batch in registrar.batches(NODE, now) {
                assert!(!batch.full && batch.changes.iter().all(|(_, wanted)| *wanted));
                largest = largest.max(batch.changes.len());
                sent.extend(batch.changes.into_iter().map(|(topic, _)| topic));
                registrar.applied(batch.bucket);
            }
        }
        assert!(sent == all && largest == REGISTRATIONS_PER_BATCH);
        // That was not it.
        registrar.repair(7, now + REPAIR_WINDOW / 2);
        assert!(registrar.batches(NODE, now)[0].full);
        registrar.applied(7);
        // Another time it may be.
        registrar.repair(7, now + REPAIR_WINDOW);
        assert!(!registrar.batches(NODE, now)[0].full);
    }

    proptest! {
        /// Batches get lost, arrive although their answers are lost, arrive late; the store loses everything: what it
        /// holds in the end is what is wanted.
        #[test]
        fn the_store_ends_up_with_what_is_wanted(ops in prop::collection::vec(prop_oneof![
            6 => (0u8..12).prop_map(Op::Toggle),
            4 => Just(Op::Send),
            2 => any::<bool>().prop_map(Op::Lose),
            1 => Just(Op::Empty),
            2 => Just(Op::Beat),
        ], 1..120)) {
            let (mut registrar, mut store, mut wanted) = (Registrar::default(), Store::default(), BTreeSet::new());
            let (mut now, mut late, mut wish) = (Instant::now(), Vec::new(), 0);
            let beat = |registrar: &mut Registrar, store: &Store, now| {
                for number in 0..BUCKETS as u8 {
                    if registrar.digest(number).is_some_and(|digest| digest != store.digest(number)) {
                        registrar.repair(number, now);
                    }
                }
            };
            for op in ops {
                match op {
                    Op::Toggle(number) => {
                        let topic = topic(number);
                        let wants = !wanted.contains(&topic);
                        if wants { wanted.insert(topic.clone()) } else { wanted.remove(&topic) };
                        wish += 1;
                        registrar.change(topic, wants, wish);
                    }
                    Op::Send => for batch in registrar.batches(NODE, now) {
                        store.apply(&batch);
                        for (topic, _) in registrar.applied(batch.bucket) {
                            prop_assert!(store.held.contains(&topic) && wanted.contains(&topic));
                        }
                    },
                    Op::Lose(arrives) => for batch in registrar.batches(NODE, now) {
                        registrar.failed(batch.bucket, now);
                        if arrives { late.push(batch) }
                    },
                    Op::Empty => store = Store::default(),
                    Op::Beat => {
                        late.drain(..).for_each(|batch| store.apply(&batch));
                        beat(&mut registrar, &store, now);
                    }
                }
            }
            late.iter().for_each(|batch| store.apply(batch));
            // What failed, all of it again, a list of all.
            for _ in 0..6 {
                now += REGISTER_RETRY + Duration::from_millis(1);
                beat(&mut registrar, &store, now);
                for batch in registrar.batches(NODE, now) {
                    store.apply(&batch);
                    registrar.applied(batch.bucket);
                }
            }
            prop_assert_eq!(&store.held, &wanted);
            prop_assert!(!registrar.is_busy());
        }
    }
}
