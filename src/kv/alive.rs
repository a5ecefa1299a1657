//! Signs of life of nodes, and what a store answers.

use serde::{Deserialize, Serialize};

use crate::kv::datacenter::PeerState;
use crate::kv::nodes::{NodeInfo, readable};
use crate::wire::position::Reach;

/// What a node says of itself every [`crate::limits::NODE_HEARTBEAT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node.
    pub node: NodeInfo,
    /// On a Frontend: bucket by bucket, what should be held for it; a bucket with a batch under way is left out.
    pub digests: Vec<(u8, u64)>,
    /// On a Frontend: the number of its last [`SetCounts`](crate::kv::Request::SetCounts), unless one is under way.
    #[serde(default)]
    pub counts: Option<u64>,
    /// [`Alive::since`], as the node heard it first.
    #[serde(default)]
    pub since: Option<Reach>,
}

/// What a heartbeat brings back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// All nodes of this data center whose lease holds, ordered by id.
    #[serde(deserialize_with = "readable")]
    pub nodes: Vec<NodeInfo>,
    /// Buckets in which the store holds something else than the heartbeat's digests say: to be sent in full.
    pub differing: Vec<u8>,
    /// The store does not hold the node's counts as of the number that it gave: to be sent in full.
    #[serde(default)]
    pub recount: bool,
    /// What is known of other data centers.
    #[serde(default)]
    pub peers: Vec<PeerState>,
    /// Since when no part of the store lost anything; none where that is not known of each.
    #[serde(default)]
    pub since: Option<Reach>,
    /// It lost something then, and did not only begin: some node knew it from before.
    #[serde(default)]
    pub lost: bool,
    /// What the store's clock shows, in Unix ms; none from a node of an earlier version.
    #[serde(default)]
    pub now_ms: Option<u64>,
}

/// Since when a store lost nothing. One that comes back empty cannot tell that from its first start; nodes can, which heard of
/// an earlier time, and say so with their heartbeats.
#[derive(Debug, Default)]
pub struct Losses(Option<Reach>);

impl Losses {
    /// A node that heard first of `known` gives a sign of life to a store that lost nothing since `since`. Whether the store lost
    /// something then, as far as any node said.
    pub fn hear(&mut self, known: Option<Reach>, since: Option<Reach>) -> bool {
        if known.is_some() && since.is_some() && known < since {
            self.0 = since;
        }
        self.0.is_some() && self.0 == since
    }
}
