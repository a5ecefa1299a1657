//! Who watches a topic, as it is asked and answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kv::crowd::Crowd;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// Who of a topic's viewers is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresentAsk {
    /// The topic.
    pub(crate) topic: Topic,
    /// Members who watch are named, at most so many.
    pub(crate) limit: usize,
    /// Of these it is said whether they watch.
    pub(crate) of: Vec<String>,
    /// Whose viewers.
    pub(crate) whose: Whose,
}

/// Whose viewers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    /// One node's.
    Node,
    /// One data center's.
    DataCenter,
    /// All.
    Anybodys,
}

/// Who of them watches.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Present {
    pub(crate) viewers: u32,
    pub(crate) members: u32,
    pub(crate) sample: BTreeSet<String>,
    pub(crate) here: BTreeMap<String, bool>,
}

impl Present {
    /// Takes what another part of the same node, or another node, says.
    pub fn take(&mut self, part: Present) {
        self.viewers = self.viewers.saturating_add(part.viewers);
        self.members = self.members.saturating_add(part.members);
        self.sample.extend(part.sample);
        for (member, is_here) in part.here {
            *self.here.entry(member).or_default() |= is_here;
        }
    }
}

/// Who has a topic's viewers, as its home knows.
#[derive(Debug)]
pub struct Whereabouts {
    /// All of them, or this data center's.
    pub crowd: Crowd,
    /// Nodes of this data center that have some.
    pub nodes: Vec<NodeId>,
    /// Other data centers that do.
    pub peers: Vec<Arc<str>>,
}
