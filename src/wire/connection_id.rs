//! Names of nodes and connections.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A node's name: 64 random bits, new at every start, so that a dead process's subscriptions are never mistaken for a
/// live one's. Written as 13 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeId(pub u64);

/// A text that names no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a node")]
pub struct NotANode;

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shift in (0..13).rev() {
            let digit = (self.0 >> (shift * 5)) & 31;
            write!(formatter, "{}", char::from(CROCKFORD[digit as usize]))?;
        }
        Ok(())
    }
}

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<NodeId, NotANode> {
        let digit = |byte: u8| CROCKFORD.iter().position(|&digit| digit == byte).map(|digit| digit as u64);
        // 13 digits carry 65 bits: the first one is 0 to f.
        let fits = text.len() == 13 && text.as_bytes()[0] < b'g';
        let number = |text: &str| text.bytes().try_fold(0u64, |id, byte| Some(id << 5 | digit(byte)?));
        number(text).filter(|_| fits).map(NodeId).ok_or(NotANode)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for NodeId {
    type Error = NotANode;

    fn try_from(text: String) -> Result<NodeId, NotANode> {
        text.parse()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A connection's name: says where it lives, so that routing needs no table, and carries 64 random bits, so that it
/// cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The node that holds it.
    pub node: NodeId,
    /// The shard on that node.
    pub shard: u16,
    /// The slot on that shard.
    pub slot: u32,
    /// Which owner of that slot.
    pub generation: u32,
    /// What makes the name a secret.
    pub secret: u64,
}

const ID_BYTES: usize = 8 + 2 + 4 + 4 + 8;
/// Characters of an id that name the connection: its node, shard, slot and generation. The rest is secret.
pub const SHOWN: usize = (ID_BYTES - 8) / 3 * 4;

impl ConnectionId {
    /// The text that clients get: 35 characters of URL-safe base64.
    pub fn encode(&self) -> String {
        let mut bytes = [0; ID_BYTES];
        bytes[..8].copy_from_slice(&self.node.0.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.shard.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.slot.to_be_bytes());
        bytes[14..18].copy_from_slice(&self.generation.to_be_bytes());
        bytes[18..].copy_from_slice(&self.secret.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The part of it that is no secret, for operators: which connection it is.
    pub fn shown(&self) -> String {
        let mut id = self.encode();
        id.truncate(SHOWN);
        id
    }

    /// Reads a text that a client sent; `None` where it is no name of ours.
    pub fn decode(text: &str) -> Option<ConnectionId> {
        let bytes: [u8; ID_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let number =
            |range: std::ops::Range<usize>| bytes[range].iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        Some(ConnectionId {
            node: NodeId(number(0..8)),
            shard: number(8..10) as u16,
            slot: number(10..14) as u32,
            generation: number(14..18) as u32,
            secret: number(18..26),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(node: u64, shard: u16, slot: u32, generation: u32, secret: u64) {
            let id = ConnectionId { node: NodeId(node), shard, slot, generation, secret };
            prop_assert!(ConnectionId::decode(&id.encode()) == Some(id));
        }

        #[test]
        fn names_of_nodes_round_trip(id: u64) {
            prop_assert_eq!(NodeId(id).to_string().parse(), Ok(NodeId(id)));
            prop_assert_eq!(format!("z{}", &NodeId(id).to_string()[1..]).parse::<NodeId>(), Err(NotANode));
        }

        #[test]
        fn noise_is_refused_or_read_without_panic(text in "\\PC{0,60}") {
            let _ = ConnectionId::decode(&text);
        }
    }
}
