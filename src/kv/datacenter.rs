//! What a data center's key-value store keeps of other ones: events of class `every` that wait for a peer, how far a peer's
//! own were taken, whether a peer is heard of, and what it says of its viewers and members.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kv::crowd::Crowd;
use crate::kv::{Append, Turn};
use crate::limits::RESUME_FOREIGN_MS;
use crate::wire::connection_id::NodeId;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// Asks for what waits for a peer in one bucket, and says what need not wait any more. Events wait in the order of their
/// appending, whichever node appended them; the queue ends with nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueAsk {
    /// The peer.
    pub peer: String,
    /// The bucket.
    pub bucket: u8,
    /// The peer has everything up to this number of this queue; another queue's is ignored.
    pub done: Option<(u64, Position)>,
    /// At most so many events, oldest first; at least 1. Fewer where they are more than
    /// [`PEER_QUEUE_PAGE_BYTES`](crate::limits::PEER_QUEUE_PAGE_BYTES).
    pub limit: u32,
}

/// What waits for a peer in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePage {
    /// Tells this queue from an earlier one that was lost with the store: numbers of one grow, those of two say nothing
    /// about each other.
    pub epoch: u64,
    /// The oldest events.
    pub events: Vec<Queued>,
    /// More wait behind these.
    pub more: bool,
    /// Events that were given up since this was asked last, for want of room or too old.
    pub lost: u64,
}

/// An event that waits for a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Its number in the queue, of which the first part is the store's time in Unix ms when it was appended.
    pub number: Position,
    /// The event as JSON.
    pub event: Arc<str>,
}

/// Events of a peer's queue for this data center's histories: all at once, in their order, and each once however often it
/// comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// The data center that they come from.
    pub dc: String,
    /// All topics fall into this bucket.
    pub bucket: u8,
    /// [`QueuePage::epoch`].
    pub epoch: u64,
    /// The number of each, ascending, and what to append. It goes no further: its [`Append::peers`] are none.
    pub events: Vec<(Position, Append)>,
}

/// Where an event was put in history, and back to where nothing precedes it, as [`Answer::Appended`] has them; none if it was
/// there before.
///
/// [`Answer::Appended`]: super::Answer::Appended
pub type Placed = Option<(Position, Position)>;

/// Which hello of those that one shard of one of a peer's dispatchers says, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloNumber {
    /// The dispatcher.
    pub node: NodeId,
    /// Its shard.
    pub shard: u16,
    /// Ascending from 1.
    pub number: u64,
}

/// News of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNote {
    /// Its name.
    pub dc: String,
    /// Where it was heard of: nothing counts of a hello that was given up and is older than one of the same shard that
    /// came another way.
    pub hello: Option<HelloNumber>,
    /// It was heard of, and its clock is so far ahead of this data center's, in ms.
    pub heard: Option<i64>,
    /// It lacks events of class `every` that this data center has had since this time, in Unix ms.
    pub lacks: Option<u64>,
    /// What it said of its viewers before counts no more.
    #[serde(default)]
    pub restart: bool,
    /// Topics, and how many viewers the peer has of each now; 0 for one that has none any more.
    pub viewers: Vec<(Topic, Crowd)>,
}

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Its name.
    pub dc: String,
    /// It was heard of within [`PEER_SILENT`](crate::limits::PEER_SILENT).
    pub alive: bool,
    /// How far its clock is ahead of this data center's, in ms; 0 while nothing is known of it.
    pub clock_ahead_ms: i64,
    /// It lacked events of this data center, now or within [`PEER_LACKED_AGE`](crate::limits::PEER_LACKED_AGE): since when
    /// and until when, in Unix ms.
    pub lacked: Option<(u64, u64)>,
}

impl PeerState {
    /// What a time in the peer's history, in Unix ms there, means here: that on this data center's clock; and where the peer
    /// lacked events of this one at that time, when it began to, so that a client who comes from there lacks none.
    pub fn here(&self, ms: u64) -> u64 {
        let ms = ms.saturating_add_signed(self.clock_ahead_ms.saturating_neg());
        let lacked = self.lacked.filter(|(_, until)| ms <= until + RESUME_FOREIGN_MS);
        lacked.map_or(ms, |(since, _)| ms.min(since))
    }
}

/// A peer's viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerViewers {
    /// The peer.
    pub dc: String,
    /// These are all.
    pub full: bool,
    /// Topics, and who watches each there.
    pub viewers: Vec<(Topic, Crowd)>,
}

/// Turns of a peer's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTurns {
    /// The peer.
    pub dc: String,
    /// What it says of them.
    pub turns: Vec<Turn>,
}

/// What holds of a member who may be online in several data centers: online if online in any, since the earliest; else last
/// seen at the latest. Its version is the sum of theirs, and so grows with each of them.
pub fn anywhere<'a>(values: impl IntoIterator<Item = &'a Turn>) -> Option<Turn> {
    let mut values = values.into_iter();
    let mut found = values.next()?.clone();
    for turn in values {
        found.at = match (found.online, turn.online) {
            (false, true) => turn.at,
            (true, true) => found.at.min(turn.at),
            (true, false) => found.at,
            (false, false) => found.at.max(turn.at),
        };
        found.online |= turn.online;
        found.version = found.version.saturating_add(turn.version);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(online: bool, at: u64, version: u64) -> Turn {
        Turn { member: "ana".into(), online, at, version }
    }

    #[test]
    fn any_online_wins() {
        assert_eq!(anywhere([]), None);
        let (home, away) = (turn(true, 50, 7), turn(false, 90, 8));
        assert_eq!(anywhere([&home, &away]), Some(turn(true, 50, 15)));
        assert_eq!(anywhere([&away, &turn(false, 95, 1)]), Some(turn(false, 95, 9)));
        assert_eq!(anywhere([&home, &turn(true, 40, 1)]), Some(turn(true, 40, 8)));
    }

    #[test]
    fn a_time_there_is_another_one_here() {
        let peer = |clock_ahead_ms, lacked| PeerState { dc: "b".into(), alive: true, clock_ahead_ms, lacked };
        let now = 1_732_313_131_123;
        assert_eq!(peer(600_000, None).here(now), now - 600_000);
        assert_eq!(peer(-7, None).here(now), now + 7);
        assert_eq!(peer(0, Some((now - 90_000, now - 10_000))).here(now), now - 90_000);
        assert_eq!(peer(0, Some((now - 900_000, now - 100_000))).here(now), now, "that was long over");
    }

    proptest! {
        #[test]
        fn the_order_of_data_centers_does_not_matter(values in prop::collection::vec((any::<bool>(), 0u64..99, 0u64..99), 1..6)) {
            let turns: Vec<Turn> = values.into_iter().map(|(online, at, version)| turn(online, at, version)).collect();
            let found = anywhere(&turns);
            prop_assert_eq!(&found, &anywhere(turns.iter().rev()));
            prop_assert_eq!(found.is_some_and(|found| found.online), turns.iter().any(|turn| turn.online));
        }
    }
}
