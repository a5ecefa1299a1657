//! What this node wants, told to the key-value store: bucket by bucket, in numbered batches of wanted states, one at a
//! time, sent again until it is in place. One a shard, for the buckets whose home that is; no IO, no clock.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::dispatch::kv::{BUCKETS, Batch, bucket, stable_hash};
use crate::limits::{REGISTER_RETRY, REGISTRATIONS_PER_BATCH};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

#[derive(Debug, Default)]
struct Bucket {
    /// Of what is wanted, as far as it was queued here.
    digest: u64,
    /// The last batch sent.
    number: u64,
    /// States that are to be sent.
    queued: HashMap<Topic, bool, foldhash::fast::RandomState>,
    /// All that is wanted is to be sent, since the store holds something else.
    full: bool,
    /// The batch under way.
    sent: Option<Batch>,
    /// After a failure: not before this time.
    not_before: Option<Instant>,
}

/// Tells the store what the topics at home on this shard want.
#[derive(Debug, Default)]
pub struct Registrar {
    buckets: BTreeMap<u8, Bucket>,
    /// Buckets that have something to send, at most once each.
    dirty: Vec<u8>,
}

impl Registrar {
    /// A topic is wanted from now on, or is not.
    pub fn change(&mut self, topic: Topic, wanted: bool) {
        let number = bucket(topic.as_str());
        let entry = self.buckets.entry(number).or_default();
        entry.digest ^= stable_hash(topic.as_str().as_bytes());
        entry.queued.insert(topic, wanted);
        self.mark(number);
    }

    fn mark(&mut self, number: u8) {
        if !self.dirty.contains(&number) {
            self.dirty.push(number);
        }
    }

    /// Whether something is to be sent.
    pub fn is_due(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether something is to be sent, or is under way.
    pub fn is_busy(&self) -> bool {
        !self.dirty.is_empty() || self.buckets.values().any(|bucket| bucket.sent.is_some())
    }

    /// The batches to send now. `wanted` gives, for one bucket, all topics that are wanted; asked for in repairs only.
    pub fn batches(&mut self, node: NodeId, now: Instant, wanted: impl Fn(u8) -> Vec<Topic>) -> Vec<Batch> {
        let mut batches = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            let entry = self.buckets.entry(number).or_default();
            if entry.sent.is_some() || entry.not_before.is_some_and(|time| time > now) {
                self.dirty.push(number);
                continue;
            }
            entry.not_before = None;
            let full = std::mem::take(&mut entry.full);
            let changes: Vec<(Topic, bool)> = if full {
                entry.queued.clear();
                wanted(number).into_iter().map(|topic| (topic, true)).collect()
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
                self.dirty.push(number);
            }
            batches.push(batch);
        }
        batches
    }

    /// The batch under way is in place. Gives its changes.
    pub fn applied(&mut self, number: u8) -> Vec<(Topic, bool)> {
        self.buckets.get_mut(&number).and_then(|entry| entry.sent.take()).map_or(Vec::new(), |batch| batch.changes)
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
    pub fn repair(&mut self, number: u8) {
        let entry = self.buckets.entry(number).or_default();
        // A batch that was sent since the digest was taken explains the difference.
        if entry.sent.is_none() && entry.queued.is_empty() {
            entry.full = true;
            self.mark(number);
        }
    }

    /// What the store should hold of a bucket, unless that is changing.
    pub fn digest(&self, number: u8) -> Option<u64> {
        match self.buckets.get(&number) {
            None => Some(0),
            Some(entry) if entry.sent.is_some() || entry.full || !entry.queued.is_empty() => None,
            Some(entry) => Some(entry.digest),
        }
    }
}

const _: () = assert!(BUCKETS <= u8::MAX as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::kv::digest;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const NODE: NodeId = NodeId(1);

    fn topic(number: u8) -> Topic {
        Topic::parse(&format!("live:{number}")).unwrap()
    }

    /// A store that holds one node's wants as the real ones do.
    #[derive(Default)]
    struct Store {
        held: BTreeSet<Topic>,
        numbers: HashMap<u8, u64>,
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
            let (mut now, mut late) = (Instant::now(), Vec::new());
            let of = |wanted: &BTreeSet<Topic>, number: u8| {
                wanted.iter().filter(|topic| bucket(topic.as_str()) == number).cloned().collect::<Vec<_>>()
            };
            let beat = |registrar: &mut Registrar, store: &Store| {
                for number in 0..BUCKETS as u8 {
                    if registrar.digest(number).is_some_and(|digest| digest != store.digest(number)) {
                        registrar.repair(number);
                    }
                }
            };
            for op in ops {
                match op {
                    Op::Toggle(number) => {
                        let topic = topic(number);
                        let wants = !wanted.contains(&topic);
                        if wants { wanted.insert(topic.clone()) } else { wanted.remove(&topic) };
                        registrar.change(topic, wants);
                    }
                    Op::Send => for batch in registrar.batches(NODE, now, |number| of(&wanted, number)) {
                        store.apply(&batch);
                        registrar.applied(batch.bucket);
                    },
                    Op::Lose(arrives) => for batch in registrar.batches(NODE, now, |number| of(&wanted, number)) {
                        registrar.failed(batch.bucket, now);
                        if arrives { late.push(batch) }
                    },
                    Op::Empty => store = Store::default(),
                    Op::Beat => {
                        late.drain(..).for_each(|batch| store.apply(&batch));
                        beat(&mut registrar, &store);
                    }
                }
            }
            late.iter().for_each(|batch| store.apply(batch));
            for _ in 0..4 {
                now += REGISTER_RETRY + Duration::from_millis(1);
                beat(&mut registrar, &store);
                for batch in registrar.batches(NODE, now, |number| of(&wanted, number)) {
                    store.apply(&batch);
                    registrar.applied(batch.bucket);
                }
            }
            prop_assert_eq!(&store.held, &wanted);
            prop_assert!(!registrar.is_busy());
        }
    }
}
