//! The embedded key-value store of `fanfare all`: a table behind a mutex that is held for a look-up or a change only.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::kv::{Answer, KeyValue, Request};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// Subscriptions in memory.
pub struct MemoryKv<F> {
    table: Mutex<HashMap<Topic, HashSet<NodeId>>>,
    shards: usize,
    deliver: F,
}

impl<F: Fn(usize, Answer) + Send + Sync> MemoryKv<F> {
    /// An empty store for `shards` shards; `deliver` puts an answer into a shard's mailbox.
    pub fn new(shards: usize, deliver: F) -> MemoryKv<F> {
        MemoryKv { table: Mutex::default(), shards, deliver }
    }
}

impl<F: Fn(usize, Answer) + Send + Sync> KeyValue for MemoryKv<F> {
    fn submit(&self, shard: usize, request: Request) {
        // Answers are sent under the lock, so that every shard hears of changes in the order in which they happened.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Subscribers(topic) => {
                let nodes: Arc<[NodeId]> = table.get(&topic).into_iter().flatten().copied().collect();
                (self.deliver)(shard, Answer::Subscribers(topic, nodes));
            }
            Request::Apply { node, changes } => {
                for (topic, wanted) in &changes {
                    let changed = if *wanted {
                        table.entry(topic.clone()).or_default().insert(node)
                    } else {
                        match table.get_mut(topic) {
                            None => false,
                            Some(nodes) => {
                                let removed = nodes.remove(&node);
                                if nodes.is_empty() {
                                    table.remove(topic);
                                }
                                removed
                            }
                        }
                    };
                    if changed {
                        for shard in 0..self.shards {
                            (self.deliver)(shard, Answer::Invalidated(topic.clone()));
                        }
                    }
                }
                (self.deliver)(shard, Answer::Applied(changes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_hear_of_a_change_before_who_asked_for_it() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let kv = MemoryKv::new(2, move |shard, answer| sink.lock().unwrap().push((shard, answer)));
        let topic = Topic::parse("live:1").unwrap();
        let changes = vec![(topic.clone(), true)];
        kv.submit(1, Request::Apply { node: NodeId(7), changes: changes.clone() });
        kv.submit(0, Request::Subscribers(topic.clone()));
        kv.submit(1, Request::Apply { node: NodeId(7), changes: changes.clone() });
        let invalidated = Answer::Invalidated(topic.clone());
        let expected = [
            (0, invalidated.clone()),
            (1, invalidated.clone()),
            (1, Answer::Applied(changes.clone())),
            (0, Answer::Subscribers(topic.clone(), Arc::new([NodeId(7)]))),
            (1, Answer::Applied(changes)),
        ];
        assert_eq!(*heard.lock().unwrap(), expected);
        heard.lock().unwrap().clear();
        let changes = vec![(topic.clone(), false)];
        kv.submit(0, Request::Apply { node: NodeId(7), changes });
        kv.submit(0, Request::Subscribers(topic.clone()));
        assert_eq!(heard.lock().unwrap().last().unwrap().1, Answer::Subscribers(topic, Arc::new([])));
    }
}
