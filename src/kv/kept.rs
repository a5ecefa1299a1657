//! What of an embedded store's history is kept beyond its process, and who keeps it.

use std::sync::Arc;

use crate::kv::memory::pending::Batch;
use crate::kv::{Claim, Heard, Unavailable};
use crate::wire::frame::Withdrawn;
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
    /// The key that it came with, if it did.
    pub once: Option<KeptOnce>,
}

/// A key, by which an event that comes again is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOnce {
    /// The key.
    pub key: String,
    /// A hash of the body that it came with.
    pub body: String,
    /// The id that its event got.
    pub id: String,
    /// When it came, in Unix ms.
    pub at_ms: u64,
}

impl KeptOnce {
    /// The key of an event that came then.
    pub fn new(claim: Claim, at_ms: u64) -> KeptOnce {
        let Claim { key, body, id, .. } = claim;
        KeptOnce { key, body, id, at_ms }
    }
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
    /// The newest keys of events, in the order of their coming.
    pub onces: Vec<KeptOnce>,
}

impl Kept {
    /// Makes a change, as a database does.
    pub fn apply(&mut self, change: Keep) {
        let Keep { event, withdraws, forgets, once } = change;
        for forgotten in forgets {
            match forgotten {
                Forgotten::Event(topic, position) => {
                    self.events.retain(|event| event.topic != topic || event.position != position);
                    match self.reaches.iter_mut().find(|(of, _)| *of == topic) {
                        Some((_, reach)) => *reach = position.max(*reach),
                        None => self.reaches.push((topic, position)),
                    }
                }
                Forgotten::Topic(topic) => self.reaches.retain(|(of, _)| *of != topic),
                Forgotten::Before(position) => self.since_ms = self.since_ms.max(position.ms + 1),
            }
        }
        if let Some(withdrawn) = withdraws.as_deref().map(Withdrawn::of) {
            for kept in self.events.iter_mut().filter(|kept| kept.topic == event.topic) {
                kept.event.take_if(|event| withdrawn.is(event));
            }
        }
        let at = self.events.partition_point(|kept| (&kept.topic, kept.position) < (&event.topic, event.position));
        self.events.insert(at, event);
        self.onces.extend(once);
    }
}

/// Keeps history where it outlives the process.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// Takes changes, and never blocks. Once all of them are durable, or it is sure that none is, `batch` is told. It is asked
    /// for no others before.
    ///
    /// # Errors
    /// It takes no more, and `batch` is not told.
    fn keep(&self, changes: Vec<Keep>, batch: Batch) -> Result<(), Unavailable>;

    /// Tells a shard something, or all of them.
    fn tell(&self, shard: Option<usize>, heard: Heard);
}
