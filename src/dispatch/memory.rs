//! The embedded key-value store of `fanfare all`: a table behind a mutex that is held for a look-up or a change only.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::kv::{Answer, KeyValue, Request};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// Subscriptions in memory.
#[derive(Debug)]
pub struct MemoryKv {
    table: Mutex<HashMap<Topic, HashSet<NodeId>>>,
    shards: usize,
}

impl MemoryKv {
    /// An empty store for `shards` shards.
    pub fn new(shards: usize) -> MemoryKv {
        MemoryKv { table: Mutex::default(), shards }
    }
}

impl KeyValue for MemoryKv {
    // A shard hears its own answers before it opens its mailbox again. So what it learns here was true before any
    // invalidation that it hears of later.
    fn submit(&self, shard: usize, request: Request, answers: &mut Vec<(usize, Answer)>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Subscribers(topic) => {
                let nodes: Arc<[NodeId]> = table.get(&topic).into_iter().flatten().copied().collect();
                answers.push((shard, Answer::Subscribers(topic, nodes)));
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
                            answers.push((shard, Answer::Invalidated(topic.clone())));
                        }
                    }
                }
                answers.push((shard, Answer::Applied(changes)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_hear_of_a_change_before_who_asked_for_it() {
        let (kv, mut heard) = (MemoryKv::new(2), Vec::new());
        let topic = Topic::parse("live:1").unwrap();
        let changes = vec![(topic.clone(), true)];
        kv.submit(1, Request::Apply { node: NodeId(7), changes: changes.clone() }, &mut heard);
        kv.submit(0, Request::Subscribers(topic.clone()), &mut heard);
        kv.submit(1, Request::Apply { node: NodeId(7), changes: changes.clone() }, &mut heard);
        let invalidated = Answer::Invalidated(topic.clone());
        let expected = [
            (0, invalidated.clone()),
            (1, invalidated.clone()),
            (1, Answer::Applied(changes.clone())),
            (0, Answer::Subscribers(topic.clone(), Arc::new([NodeId(7)]))),
            (1, Answer::Applied(changes)),
        ];
        assert_eq!(heard, expected);
        heard.clear();
        let changes = vec![(topic.clone(), false)];
        kv.submit(0, Request::Apply { node: NodeId(7), changes }, &mut heard);
        kv.submit(0, Request::Subscribers(topic.clone()), &mut heard);
        assert_eq!(heard.last().unwrap().1, Answer::Subscribers(topic, Arc::new([])));
    }
}
