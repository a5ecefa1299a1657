//! What is to end, or to change, on all nodes at once: members' streams, and tokens that are to count no more.
//!
//! A request becomes an event of class `every` on [`CONTROL_TOPIC`](crate::wire::event::CONTROL_TOPIC), so that it is in history before its answer and goes to other
//! data centers as any such event does. Every node that has streams or checks tokens reads that history from its beginning, and
//! then what is new every [`CONTROL_READ`](crate::limits::CONTROL_READ): so who was away or begins later knows it too, nobody
//! needs to be told, and no node's death loses any of it.
//!
//! - `shard/requests.rs`: what is asked for becomes an event.
//! - [`reading`]: the node's first shard reads.
//! - `shard/control.rs`: it tells the others, and `frontend/looking.rs` looks through each shard's streams.

pub mod reading;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::{Revocation, Revocations, TokenId};
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::control::reading::Reading;
use crate::limits::REVOCATIONS_LONGER;
use crate::runtime::account::{Account, Reservation, Use};
use crate::wire::event::{CONTROL_REVOKE, CONTROL_STREAMS};
use crate::wire::http::HttpError;
use crate::wire::topic::Topic;

/// What is asked for, as the data of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The member's streams end.
    Disconnect {
        /// Who.
        member: String,
    },
    /// The member's open streams get other topics.
    Topics {
        /// Who.
        member: String,
        /// Topics to add.
        add: Vec<Topic>,
        /// Topics to remove.
        remove: Vec<Topic>,
    },
    /// The member's tokens count no more that were issued up to then.
    Revoke {
        /// Who.
        member: String,
        /// Unix ms.
        before_ms: u64,
    },
    /// One token counts no more.
    RevokeToken {
        /// Which.
        jti: String,
    },
}

impl Command {
    /// The type of its event.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Command::Disconnect { .. } | Command::Topics { .. } => CONTROL_STREAMS,
            Command::Revoke { .. } | Command::RevokeToken { .. } => CONTROL_REVOKE,
        }
    }

    /// What shards are told of it: an event of this time, in Unix ms, of which a revocation is kept for so long.
    fn news(self, at_ms: u64, kept: Duration) -> News {
        let until_ms = at_ms.saturating_add(kept.as_millis() as u64);
        match self {
            Command::Disconnect { member } => News::Disconnected(member.into()),
            Command::Topics { member, add, remove } => News::Changed(Arc::new(Change { member, add, remove })),
            Command::Revoke { member, before_ms } => {
                News::Revoked(Revocation::Member(member.into(), before_ms), until_ms)
            }
            Command::RevokeToken { jti } => News::Revoked(Revocation::Token(TokenId::of(&jti)), until_ms),
        }
    }
}

/// Other topics for a member's streams.
#[derive(Debug)]
pub struct Change {
    /// Whose.
    pub member: String,
    /// Topics to add.
    pub add: Vec<Topic>,
    /// Topics to remove.
    pub remove: Vec<Topic>,
}

/// What shards are told.
#[derive(Debug, Clone)]
pub enum News {
    /// Something is revoked, which is kept until a time in Unix ms.
    Revoked(Revocation, u64),
    /// A member's streams end.
    Disconnected(Arc<str>),
    /// They get other topics.
    Changed(Arc<Change>),
}

/// A shard's part in it.
#[derive(Debug)]
pub struct Control {
    pub(crate) revoked: Revocations,
    /// What was revoked before this node began is known.
    pub(crate) known: bool,
    /// On the first shard.
    pub(crate) reading: Reading,
    /// What the revocations take.
    pub(crate) held: Reservation,
}

impl Control {
    /// Of a node that begins now, in Unix ms, and takes tokens that live for so long.
    pub fn new(account: &Account, now_ms: u64, life: Duration) -> Control {
        Control {
            revoked: Revocations::default(),
            known: false,
            reading: Reading::new(now_ms, life + REVOCATIONS_LONGER),
            held: account.open(Use::Topics),
        }
    }

    /// How many revocations this node keeps.
    pub fn revocations(&self) -> usize {
        self.revoked.len()
    }
}

impl Ground {
    /// Whether this node knows which tokens are revoked, if it takes any.
    pub(crate) fn knows_revoked(&self) -> bool {
        self.control.known || self.node.tokens.is_none()
    }

    /// Refuses a token that is revoked, also while that is not known.
    ///
    /// # Errors
    /// 401; 503 until this node has read what is revoked.
    pub(crate) fn require_unrevoked(&self, access: &Access) -> Result<(), HttpError> {
        let Access::Token(rights) = access else { return Ok(()) };
        if !self.control.known {
            return Err(HttpError::unavailable(
                "this node just began, and takes tokens once the key-value store has told it which are revoked",
            ));
        }
        Ok(self.control.revoked.check(rights)?)
    }

    /// Refuses a token that ran out or was revoked since it was checked, while a long body came.
    ///
    /// # Errors
    /// 401, as [`Access::require_unexpired`] and [`Ground::require_unrevoked`].
    pub(crate) fn require_still(&self, access: &Access) -> Result<(), HttpError> {
        access.require_unexpired(self.clock.unix_ms)?;
        self.require_unrevoked(access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_by_nodes_as_it_was_written() {
        let topic = Topic::parse("live:1").unwrap();
        for (command, text) in [
            (Command::Disconnect { member: "ana".into() }, r#"{"disconnect":{"member":"ana"}}"#),
            (
                Command::Topics { member: "ana".into(), add: vec![topic], remove: vec![] },
                r#"{"topics":{"member":"ana","add":["live:1"],"remove":[]}}"#,
            ),
            (
                Command::Revoke { member: "ana".into(), before_ms: 7000 },
                r#"{"revoke":{"member":"ana","before_ms":7000}}"#,
            ),
            (Command::RevokeToken { jti: "x".into() }, r#"{"revoke_token":{"jti":"x"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
            assert_eq!(serde_json::from_str::<Command>(text).unwrap(), command);
        }
    }
}
