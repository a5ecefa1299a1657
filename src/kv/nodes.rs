//! What nodes say of themselves, to all others.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::ROLES_MAX;
use crate::wire::connection_id::NodeId;
use crate::wire::event::is_type;
use crate::wire::node_url::NodeUrl;

/// A node as others know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its id, new at every start.
    pub id: NodeId,
    /// `frontend`, `dispatcher`, `backend`; a node of another version may know others.
    #[serde(deserialize_with = "roles")]
    pub roles: Vec<String>,
    /// Where its internal listener is reached, such as `http://10.0.0.5:8081`.
    pub url: NodeUrl,
    /// Of a backend: the name of its database, which gives ids of posts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Box<str>>,
}

fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let roles = Vec::<String>::deserialize(deserializer)?;
    if roles.len() > ROLES_MAX || !roles.iter().all(|role| is_type(role)) {
        return Err(D::Error::custom("a node has a few roles, each a word"));
    }
    Ok(roles)
}

/// Nodes that can be read. One that another version knows and this one cannot read is no node here, and hides no other.
pub(crate) fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeInfo>, D::Error> {
    let nodes = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(nodes.into_iter().filter_map(|node| serde_json::from_value(node).ok()).collect())
}

impl NodeInfo {
    /// Whether it has this role.
    pub fn is(&self, role: &str) -> bool {
        self.roles.iter().any(|name| name == role)
    }
}
