//! Names of keys. Each begins with `fanfare:` and has a hash tag of the data center and the bucket, so that what changes
//! together is in one slot of a Cluster, and data centers may share a server.

use crate::kv::BUCKETS;
use crate::wire::connection_id::NodeId;

/// Where something is kept: what has a place in common is on one master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Leases, and the lock of who sweeps.
    Nodes,
    /// What belongs to the topics of a bucket.
    Bucket(u8),
}

/// How many places there are.
pub const PLACES: usize = BUCKETS + 1;

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Place> {
        std::iter::once(Place::Nodes).chain((0..BUCKETS).map(|number| Place::Bucket(number as u8)))
    }

    /// Its number, from 0 to [`PLACES`].
    pub fn number(self) -> usize {
        match self {
            Place::Bucket(number) => usize::from(number),
            Place::Nodes => BUCKETS,
        }
    }
}

/// The keys of one data center.
#[derive(Debug, Clone)]
pub struct Keys {
    tags: Vec<String>,
    /// Databases of a server share its channels.
    database: i64,
}

impl Keys {
    /// Those of data center `dc`, which holds no brace, in a database of the server.
    pub fn new(dc: &str, database: i64) -> Keys {
        let buckets = (0..BUCKETS).map(|number| format!("{dc}:{number}"));
        Keys { tags: buckets.chain([format!("{dc}:nodes")]).collect(), database }
    }

    fn key(&self, place: Place, rest: &str) -> String {
        format!("fanfare:{{{}}}:{rest}", self.tags[place.number()])
    }

    /// The slot of a place in a Cluster.
    pub fn slot(&self, place: Place) -> u16 {
        crc16(self.tags[place.number()].as_bytes()) % SLOTS
    }

    /// Leases: nodes by the time at which their lease ends.
    pub fn leases(&self) -> String {
        self.key(Place::Nodes, "leases")
    }

    /// What nodes say of themselves.
    pub fn infos(&self) -> String {
        self.key(Place::Nodes, "infos")
    }

    /// Since when leases can be believed.
    pub fn born(&self) -> String {
        self.key(Place::Nodes, "born")
    }

    /// Held by who sweeps.
    pub fn sweeper(&self) -> String {
        self.key(Place::Nodes, "sweeper")
    }

    /// The number of each Frontend's last change of its counts.
    pub fn counted(&self) -> String {
        self.key(Place::Nodes, "counted")
    }

    /// A Frontend's viewers, topic by topic.
    pub fn counts(&self, node: NodeId) -> String {
        self.key(Place::Nodes, &format!("c:{node}"))
    }

    /// Where a change that lists very many is gathered before it counts.
    pub fn staged_counts(&self, node: NodeId, number: u64) -> String {
        self.key(Place::Nodes, &format!("c:{node}:{number}"))
    }

    /// The channel on which dispatchers hear of changes of counts, and of what peers are about.
    pub fn counts_channel(&self) -> String {
        self.key(Place::Nodes, &format!("counts:{}", self.database))
    }

    /// What is known of a bucket's members: who is online by when that ends, who is not by the last sign of life, and whose
    /// last turn is not settled by when it was given.
    pub fn members(&self, bucket: u8) -> [String; 4] {
        ["members", "online", "offline", "unsettled"].map(|rest| self.key(Place::Bucket(bucket), rest))
    }

    /// What other data centers say of a bucket's members, and who is online in none of them by when they were last seen.
    pub fn members_elsewhere(&self, bucket: u8) -> [String; 2] {
        ["elsewhere", "elsewhere:offline"].map(|rest| self.key(Place::Bucket(bucket), rest))
    }

    /// What is known of peers.
    pub fn peers(&self) -> String {
        self.key(Place::Nodes, "peers")
    }

    /// A peer's viewers, topic by topic.
    pub fn peer_viewers(&self, dc: &str) -> String {
        self.key(Place::Nodes, &format!("p:{dc}"))
    }

    /// The number of the newest hello of a shard of a peer's dispatcher.
    pub fn peer_hello(&self, dc: &str, node: NodeId, shard: u16) -> String {
        self.key(Place::Nodes, &format!("h:{dc}:{node}:{shard}"))
    }

    /// What of a bucket waits for a peer, and the state of that queue.
    pub fn queue(&self, bucket: u8, peer: &str) -> [String; 2] {
        ["", ":state"].map(|rest| self.key(Place::Bucket(bucket), &format!("q:{peer}{rest}")))
    }

    /// How far a peer's queue of a bucket was taken.
    pub fn taken(&self, bucket: u8, dc: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("t:{dc}"))
    }

    /// Each node's last batch number and digest, in a bucket.
    pub fn digests(&self, bucket: u8) -> String {
        self.key(Place::Bucket(bucket), "digests")
    }

    /// The topics of a bucket that a node wants.
    pub fn wanted(&self, bucket: u8, node: NodeId) -> String {
        self.key(Place::Bucket(bucket), &format!("w:{node}"))
    }

    /// What precedes a topic in the key of the set of nodes that want it.
    pub fn subscribers_prefix(&self, bucket: u8) -> String {
        self.key(Place::Bucket(bucket), "s:")
    }

    /// Since when a bucket lost nothing.
    pub fn since(&self, bucket: u8) -> String {
        self.key(Place::Bucket(bucket), "since")
    }

    /// Written before each wait for a replica: what was written before it is there, too, once this is.
    pub fn barrier(&self, place: Place) -> String {
        self.key(place, "barrier")
    }

    /// What is known of events by their keys, and the keys by when they came.
    pub fn onces(&self, bucket: u8) -> [String; 2] {
        ["once", "once:order"].map(|rest| self.key(Place::Bucket(bucket), rest))
    }

    /// A topic's history.
    pub fn history(&self, bucket: u8, topic: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("h:{topic}"))
    }

    /// What is noted of a topic's history.
    pub fn kept(&self, bucket: u8, topic: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("h:{topic} kept"))
    }

    /// The places of a type's events in a topic's history.
    pub fn places(&self, bucket: u8, topic: &str, kind: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("h:{topic} of {kind}"))
    }

    /// The places in a topic's history whose events were taken back.
    pub fn withdrawn(&self, bucket: u8, topic: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("h:{topic} withdrawn"))
    }

    /// An event that was taken back from a topic's history.
    pub fn without(&self, bucket: u8, topic: &str, id: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("h:{topic} without {id}"))
    }

    /// A topic's newest values.
    pub fn latest(&self, bucket: u8, topic: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("l:{topic}"))
    }

    /// A bucket's topics with newest values, by when they are looked at next, and the bytes that each takes.
    pub fn values(&self, bucket: u8) -> [String; 2] {
        ["values", "values:bytes"].map(|rest| self.key(Place::Bucket(bucket), rest))
    }

    /// What the names of a bucket's keys begin with.
    pub fn prefix(&self, bucket: u8) -> String {
        self.key(Place::Bucket(bucket), "")
    }

    /// The versions of a topic's newest values.
    pub fn versions(&self, bucket: u8, topic: &str) -> String {
        self.key(Place::Bucket(bucket), &format!("v:{topic}"))
    }
}

/// The topic in the key of a set of subscribers, of whichever bucket and data center.
pub fn subscribers_topic(key: &str) -> Option<&str> {
    key.strip_prefix("fanfare:{").and_then(|rest| rest.split_once("}:s:")).map(|(_, topic)| topic)
}

/// How a node is written in a set: as a signed number, since Redis keeps small sets of these in 8 bytes each.
pub fn member(node: NodeId) -> String {
    (node.0 as i64).to_string()
}

/// The node that a set names.
pub fn node(member: &str) -> Option<NodeId> {
    member.parse::<i64>().ok().map(|number| NodeId(number as u64))
}

/// Slots of a Cluster.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM, by which a Cluster finds a tag's slot.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::bucket;
    use proptest::prelude::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b"foo") % SLOTS, 12_182);
    }

    proptest! {
        #[test]
        fn a_key_gives_its_topic_back(topic in "[a-z]{1,5}:[a-zA-Z0-9:.%~_-]{1,20}", id: u64) {
            let number = bucket(&topic);
            let key = format!("{}{topic}", Keys::new("dc-1", 0).subscribers_prefix(number));
            prop_assert_eq!(subscribers_topic(&key), Some(&*topic));
            prop_assert_eq!(node(&member(NodeId(id))), Some(NodeId(id)));
        }
    }
}
