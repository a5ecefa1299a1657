//! What a dispatcher asks a key-value store, whichever that is. Questions are handed over and never block; answers come
//! back to the shard that asked, in the order in which the store gave them.

use std::sync::Arc;

use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Which nodes want this topic?
    Subscribers(Topic),
    /// From now on `node` wants, or does not want, these topics.
    Apply {
        /// Whose subscriptions change.
        node: NodeId,
        /// Wanted states, not deltas.
        changes: Vec<(Topic, bool)>,
    },
}

/// What a store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The nodes that want a topic; none is an answer too.
    Subscribers(Topic, Arc<[NodeId]>),
    /// An [`Request::Apply`] is in place, and every cache was told before this.
    Applied(Vec<(Topic, bool)>),
    /// Unasked, to every shard: what was cached of this topic is no longer true.
    Invalidated(Topic),
}

/// A key-value store as shards use it.
pub trait KeyValue: Send + Sync {
    /// Takes a question of `shard`; never blocks. What the store can say at once is appended to `answers`, each with the
    /// shard that is to hear it, and the caller passes it on; the rest arrives as messages later.
    fn submit(&self, shard: usize, request: Request, answers: &mut Vec<(usize, Answer)>);
}
