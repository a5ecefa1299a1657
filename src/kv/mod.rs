//! What nodes ask a key-value store, whichever that is and however far: the embedded one, Redis, or, on a Frontend, any
//! Dispatcher, which asks its own. Questions are handed over and never block; answers come back to the shard that asked.

pub mod alive;
pub mod buckets;
pub mod crowd;
pub mod datacenter;
pub mod kept;
pub mod memory;
pub mod nodes;
pub mod pace;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod redis;
pub mod topics;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::kv::alive::{Alive, Heartbeat, Losses};
pub use crate::kv::buckets::{BUCKETS, bucket, digest, highest, stable_hash};
use crate::kv::crowd::Crowd;
use crate::kv::datacenter::{PeerNote, PeerTurns, PeerViewers, Placed, QueueAsk, QueuePage, Taking};
pub use crate::kv::nodes::NodeInfo;
use crate::kv::pace::Pace;
pub use crate::kv::topics::{Found, TopicsAsk};
use crate::limits::{VERSION_MAX, VERSION_TIME_MIN};
use crate::runtime::trouble::Reason;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Paced;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Which nodes want this topic? [`Answer::Subscribers`]
    Subscribers(Topic),
    /// Changes what a node wants. [`Answer::Applied`]
    Apply(Batch),
    /// A node lives. [`Answer::Alive`]
    Heartbeat(Heartbeat),
    /// A node ends cleanly: its lease and what it wanted go at once. [`Answer::Left`]
    Leave(NodeId),
    /// Appends an event to its topic's history. [`Answer::Appended`], or [`Answer::Repeated`] for one that was taken back
    /// less than [`crate::limits::WITHDRAWN_REFUSED`] ago, or whose deletion may be in history
    Append(Append),
    /// The same, unless the key is known. [`Answer::Appended`] or [`Answer::Repeated`]
    AppendOnce(Claim, Append),
    /// Keeps the key of an event that goes to no history. [`Answer::Claimed`] or [`Answer::Repeated`]
    Claim(Claim),
    /// Such an event was not published: its key is free again. [`Answer::Claimed`]
    Release(Claim),
    /// Reads history forward. [`Answer::Page`]
    Read(Read),
    /// Where the histories of topics end. [`Answer::Ends`], in the same order
    Ends(Vec<Topic>),
    /// Which topics that begin so have events in history behind a place? [`Answer::Topics`]
    Topics(TopicsAsk),
    /// Keeps the newest value of a topic, type and key. [`Answer::Versioned`]
    SetLatest(SetLatest),
    /// The newest values of a topic, each type and key. [`Answer::Latest`]
    Latest(Topic),
    /// What topics have that is newer than these versions. [`Answer::Newer`], in the same order
    Newer(Vec<(Topic, u64)>),
    /// How many viewers a Frontend has. [`Answer::Applied`], and every dispatcher hears [`Notice::Counts`]. A store that
    /// lacks the change before this one, unless this one is full, ignores it, and [`Alive::recount`] asks for all.
    SetCounts(NodeCounts),
    /// What all nodes have. [`Answer::Counts`]
    Counts,
    /// Signs of life of members. [`Answer::Turned`] with those who came online by it.
    Beat(Vec<String>),
    /// Members of these buckets (by [`bucket`] of the name) whose last sign of life is too long ago, at most so many, and
    /// those whose last turn was given before, also by a sign of life, and not settled for [`crate::limits::PRESENCE_RESEND`]. [`Answer::Turned`]
    Due(Vec<u8>, u32),
    /// These members' turns were published, as of these versions. [`Answer::Applied`]
    Settled(Vec<(String, u64)>),
    /// What is known of members, in whichever data center. [`Answer::Presence`], in the same order
    Presence(Vec<String>),
    /// What waits for a peer. [`Answer::Queue`]
    Queue(QueueAsk),
    /// Events of a peer, for history. [`Answer::Taken`]
    Take(Taking),
    /// News of a peer. [`Answer::Noted`]; every dispatcher hears [`Notice::PeerViewers`] if viewers changed.
    NotePeer(PeerNote),
    /// All peers' viewers. [`Answer::PeerViewers`]
    PeerViewers,
    /// Turns of a peer's members. [`Answer::Presence`], in the same order: what is known of each member now, if the turn
    /// was news.
    PeerTurns(PeerTurns),
}

impl Request {
    /// Why nobody who means it well asks this, if that is so: what comes from another node is looked at before a store
    /// relies on it.
    pub fn problem(&self) -> Option<&'static str> {
        let is_none = |number: &u8| usize::from(*number) >= BUCKETS;
        let no_bucket = match self {
            Request::Apply(batch) => is_none(&batch.bucket),
            Request::Heartbeat(heartbeat) => heartbeat.digests.iter().any(|(number, _)| is_none(number)),
            Request::Due(buckets, _) => buckets.iter().any(is_none),
            Request::Queue(ask) => is_none(&ask.bucket),
            Request::Take(taking) => is_none(&taking.bucket),
            _ => false,
        };
        let is_elsewhere = |topic: &Topic, number| bucket(topic.as_str()) != number;
        let elsewhere = match self {
            Request::Apply(batch) => batch.changes.iter().any(|(topic, _)| is_elsewhere(topic, batch.bucket)),
            Request::Take(taking) => taking.events.iter().any(|(_, event)| is_elsewhere(&event.topic, taking.bucket)),
            _ => false,
        };
        let beyond = match self {
            Request::SetLatest(latest) => latest.version.is_some_and(|version| version > VERSION_MAX),
            Request::PeerTurns(said) => said.turns.iter().any(|turn| turn.version > VERSION_MAX),
            _ => false,
        };
        match self {
            _ if no_bucket => Some("there is no such bucket"),
            _ if elsewhere => Some("a topic of another bucket"),
            _ if beyond => Some("a version that no clock gives"),
            Request::Append(Append { count_max: 0, .. }) | Request::AppendOnce(_, Append { count_max: 0, .. }) => {
                Some("a history of no events")
            }
            Request::Read(Read { limit: 0, .. }) => Some("a page of no events"),
            _ => None,
        }
    }
}

/// What a node wants of one bucket: states, not deltas, so that a repeat changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Whose wants these are.
    pub node: NodeId,
    /// All topics of it fall into this bucket.
    pub bucket: u8,
    /// Grows with every batch of this node and bucket, from 1; a store ignores what is not newer than what it has.
    pub number: u64,
    /// These are all that the node wants of the bucket; what else is held for it goes.
    pub full: bool,
    /// Topics, and whether they are wanted.
    pub changes: Vec<(Topic, bool)>,
}

/// An event of class `every` on its way into history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Its topic.
    pub topic: Topic,
    /// The event as JSON, as it stands on the stream's `data` line.
    pub event: Arc<str>,
    /// Its type, whose events history keeps by themselves: none is given up for those of another type.
    #[serde(default)]
    pub kind: String,
    /// Events of its type that the topic's history keeps, at least 1.
    pub count_max: u32,
    /// How long it keeps them, in milliseconds.
    pub age_max_ms: u64,
    /// The id of an event of its topic that it takes back: the text of that goes from history and from the queues of peers,
    /// before the answer. Its place stays, so that nothing seems to be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraws: Option<String>,
    /// Peers for which it is queued by the same change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// The pace of its type, by which it is decided whether it is shown; none where it was decided before, or its type has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// An event that is published once (`Idempotency-Key`), as [`crate::db::once::Once`] names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The event's topic.
    pub topic: Topic,
    /// What it is known by.
    pub key: String,
    /// A hash of the body that it came with.
    pub body: String,
    /// The event's id, if the key is new.
    pub id: String,
}

/// What to read of a topic's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The topic.
    pub topic: Topic,
    /// Only what follows this position.
    pub after: Position,
    /// At most so many events, oldest first; at least 1.
    pub limit: u32,
}

/// A value of class `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLatest {
    /// Its topic.
    pub topic: Topic,
    /// What it is the newest of: [`latest_field`] of its type and key.
    pub field: String,
    /// The event as JSON, as it stands on the stream's `data` line.
    pub event: Arc<str>,
    /// The number of its version, if it was given before; else the store gives it.
    pub version: Option<u64>,
    /// The data center that gave its version, or is given it now. A store keeps what has the greater
    /// [`Version`](crate::wire::version::Version).
    pub dc: String,
    /// For how long it is kept while nobody watches its topic, in milliseconds, if that is not [`crate::limits::LATEST_AGE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// What a store says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The nodes that want a topic, living or dead; none is an answer too.
    Subscribers(Arc<[NodeId]>),
    /// The batch is in place, or an older one than what is. Caches were told, or will be within
    /// [`crate::limits::SUBSCRIBERS_CACHE_AGE`].
    Applied,
    /// The lease is renewed.
    Alive(Alive),
    /// The node is forgotten.
    Left,
    /// The event is in history.
    Appended {
        /// Its place, at least the store's time.
        position: Position,
        /// Nothing of its topic lies between this place and the event: the place of the one before it, or that back to which
        /// the store lost nothing, whichever is later.
        prev: Position,
        /// What its topic's pace made of it.
        #[serde(default)]
        paced: Paced,
    },
    /// The key is new, and known from now on for [`crate::limits::ONCE_AGE`].
    Claimed,
    /// The key is known, and nothing changed.
    Repeated {
        /// The id that the event got then; none if it came with another body.
        id: Option<String>,
    },
    /// A part of a topic's history.
    Page(Page),
    /// Ends of histories.
    Ends(Vec<End>),
    /// Topics that begin so.
    Topics(Found),
    /// The value is kept, unless a newer one is.
    Versioned {
        /// Its version: Unix ms, or one more than the last one's if that was later.
        version: u64,
        /// Whether it is the newest.
        newest: bool,
    },
    /// Newest values.
    Latest(Vec<LatestValue>),
    /// What there is of newer values.
    Newer(Vec<Newer>),
    /// Every node's viewers; dead nodes may be among them.
    Counts(Vec<NodeCounts>),
    /// Members that came online or went offline.
    Turned(Vec<Turn>),
    /// What is known of members; none of one who was never seen, or too long ago.
    Presence(Vec<Option<Turn>>),
    /// What waits for a peer.
    Queue(QueuePage),
    /// The events are in history: where, each in its turn.
    Taken(Vec<Placed>),
    /// The news is kept. The number changes whenever the peer was not heard of for so long that what it had said of its
    /// viewers was dropped: it is to say all again.
    Noted(u64),
    /// All peers' viewers.
    PeerViewers(Vec<PeerViewers>),
}

/// How many viewers a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// The node.
    pub node: NodeId,
    /// Grows with every change of this node's, from 1, by one.
    pub number: u64,
    /// These are all; what else is held for the node goes.
    pub full: bool,
    /// Topics, and who watches each now; nobody for one that has no viewers any more.
    pub counts: Vec<(Topic, Crowd)>,
}

/// A member came online or went offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who.
    pub member: String,
    /// Which of the two.
    pub online: bool,
    /// Since when online, or when last seen, in Unix ms.
    pub at: u64,
    /// By which newer news are told from older: grows with every turn of the member.
    pub version: u64,
}

/// Events of one topic, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// What was found.
    pub events: Vec<Stored>,
    /// There is nothing behind these at the moment.
    pub complete: bool,
    /// How far back history reaches. Later than what was asked for means a gap.
    pub reaches: Reach,
    /// As [`End::since`], and no later than `reaches`. Not known from a node of an earlier version.
    #[serde(default)]
    pub since: Reach,
}

/// An event in history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its place.
    pub position: Position,
    /// The place of the one before it, if any is known.
    pub prev: Option<Position>,
    /// The event as JSON.
    pub event: Arc<str>,
}

/// Where a topic's history ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The newest event's place; none if history holds nothing.
    pub position: Option<Position>,
    /// The store lost nothing that it was given since then.
    pub since: Reach,
    /// The store's time, which is never before the newest place that it gave: what is appended later lies behind this. None
    /// from a node of an earlier version.
    #[serde(default)]
    pub clock: Option<Position>,
}

impl End {
    /// What is appended later lies behind this place, as far as is known: the newest event, or the store's time where history
    /// is empty. That it is empty does not mean that it never held anything.
    pub fn place(&self) -> Option<Position> {
        self.position.or(self.clock)
    }
}

/// A newest value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestValue {
    /// The number of its version.
    pub version: u64,
    /// The data center that gave it its version; empty from nodes of older versions.
    #[serde(default)]
    pub dc: Box<str>,
    /// The event as JSON.
    pub event: Arc<str>,
}

/// What a topic has of values that are newer than some version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// How far their versions are beyond that one, added up: of a value that was replaced, more than before.
    pub beyond: u64,
    /// The highest version of any of its values; 0 if there is none.
    pub newest: u64,
    /// The versions that are no times, added up: a database counts them, from 1, and so they are never newer than a time.
    #[serde(default)]
    pub counted: u64,
}

impl Newer {
    /// What values of these versions have that are newer than `after`.
    pub fn of(versions: impl Iterator<Item = u64>, after: u64) -> Newer {
        versions.fold(Newer::default(), |sum, version| Newer {
            beyond: sum.beyond + version.saturating_sub(after),
            newest: sum.newest.max(version),
            counted: sum.counted + if version < VERSION_TIME_MIN { version } else { 0 },
        })
    }

    /// Whether who knows these lacks some of what was found.
    pub fn lacks(&self, found: &Newer) -> bool {
        found.beyond > self.beyond || found.counted > self.counted
    }
}

/// The store cannot answer. The message is for operators: it may quote addresses and scripts. What comes of it is said with each
/// question, in [`Asked`](crate::ground::asking::Asked).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the key-value store is unavailable: {0}")]
pub struct Unavailable(pub String);

/// What a store tells a shard unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// What was cached of this topic's subscribers is no longer true.
    Invalidated(Topic),
    /// Nothing that was cached may be believed.
    InvalidatedAll,
    /// A node's viewers changed.
    Counts(Arc<NodeCounts>),
    /// A peer's viewers changed.
    PeerViewers(Arc<PeerViewers>),
    /// The first event of a bucket waits for a peer.
    Queued(u8),
}

/// What comes from a store's thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The answer to a question.
    Answer {
        /// The ticket that the question had.
        ticket: u64,
        /// The answer.
        result: Result<Answer, Unavailable>,
    },
    /// Something unasked.
    Notice(Notice),
}

/// Passes what a store's thread has to say to a shard. May wait for room in the shard's mailbox.
pub type Tell = Arc<dyn Fn(usize, Heard) + Send + Sync>;

/// What an embedded store keeps, as the label `use` of the metrics: history, newest values, what is known of members, what
/// waits for other data centers, and the keys of requests that are done once.
pub const KEPT: [&str; 5] = ["history", "values", "members", "peers", "keys"];

/// A key-value store as shards use it.
pub trait KeyValue: Send + Sync {
    /// Takes a question of `shard`; never blocks. What can be answered at once is the result; otherwise the answer comes
    /// later with `ticket`, and comes surely, within [`crate::limits::KV_TIMEOUT`]. Notices for every shard are appended to
    /// `notices`; the caller passes them on.
    ///
    /// Questions of one shard about one topic are answered as if asked one after the other.
    fn submit(
        &self,
        shard: usize,
        ticket: u64,
        request: Request,
        notices: &mut Vec<Notice>,
    ) -> Option<Result<Answer, Unavailable>>;

    /// Why it cannot be used at the moment, if it cannot.
    fn trouble(&self) -> Option<Reason>;

    /// Whether it is in this process, and so is never away.
    fn is_here(&self) -> bool {
        false
    }

    /// The process may have so many bytes of memory from now on: what it keeps there is to be a part of that.
    fn bound(&self, _memory: u64) {}

    /// Bytes that it keeps in this process, by [`KEPT`].
    fn kept(&self) -> [usize; KEPT.len()] {
        [0; KEPT.len()]
    }
}

/// The name under which a value of class `latest` is kept in its topic: type and key, which cannot hold a line feed
/// unescaped when they are JSON.
pub fn latest_field(kind: &str, key: Option<&str>) -> String {
    match key {
        None => kind.to_owned(),
        Some(key) => format!("{kind} {}", serde_json::Value::from(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_tell_types_and_keys_apart() {
        let fields = [
            latest_field("a", None),
            latest_field("a", Some("")),
            latest_field("a", Some("b c")),
            latest_field("a b", Some("c")),
        ];
        assert_eq!(fields.iter().collect::<std::collections::HashSet<_>>().len(), fields.len());
    }
}
