//! What of an embedded store's history is kept beyond its process, and who keeps it.

use std::sync::Arc;

use crate::kv::Answer;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// An event that history has, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvent {
    /// Its topic.
    pub topic: Topic,
    /// Its type.
    pub kind: String,
    /// Its place.
    pub position: Position,
    /// The place of the one before it.
    pub prev: Option<Position>,
    /// Its JSON; none once it was taken back.
    pub event: Option<Arc<str>>,
    /// For how long its type is kept, in milliseconds.
    pub age_max_ms: u64,
}

/// What history gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// An event: its topic reaches no further back than to it.
    Event(Topic, Position),
    /// A topic without events, of which nobody expects any.
    Topic(Topic),
    /// What lies before this, of topics that are not known any more.
    Before(Position),
}

/// One change of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The event that is new.
    pub event: KeptEvent,
    /// The id of an event of the same topic that it takes back.
    pub withdraws: Option<String>,
    /// What went before.
    pub forgets: Vec<Forgotten>,
}

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Nothing that came later is missing, but for what `reaches` says. In Unix ms.
    pub since_ms: u64,
    /// Events by topic, each topic's in order.
    pub events: Vec<KeptEvent>,
    /// The newest event that each topic gave up.
    pub reaches: Vec<(Topic, Position)>,
}

/// Keeps history where it outlives the process.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// Takes changes, and never blocks. Once all of them are durable `shard` is given `answer` for its `ticket`, or else is told
    /// that they are not.
    fn keep(&self, shard: usize, ticket: u64, changes: Vec<Keep>, answer: Answer);
}
