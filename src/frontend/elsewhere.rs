//! Changes to a stream that another Frontend holds: any Frontend takes the request, checks what it may do, and hands it
//! to the one that holds the stream.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::{Patterns, Rights, TokenId};
use crate::frontend::Frontend;
use crate::frontend::topic_changes::gone;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::ground::message::{ChangeTopics, Message, Renewal};
use crate::ground::slots::Conn;
use crate::limits::CHANGE_TIMEOUT;
use crate::wire::connection_id::{ConnectionId, NodeId};
use crate::wire::http::{HttpError, percent_decode};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// A change, as one Frontend hands it to another. Fields that are not known are ignored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    /// The stream's id.
    connection: String,
    /// What the request may do; none where there are no tokens.
    rights: Option<HandedRights>,
    /// What to change.
    #[serde(flatten)]
    what: What,
}

/// What to change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Its topics.
    Topics {
        /// Topics to add.
        add: Vec<Topic>,
        /// Topics to remove.
        remove: Vec<Topic>,
    },
    /// Its rights: those of the request hold from now on.
    Renew,
}

/// Rights that a node verified, for another one.
#[derive(Debug, Serialize, Deserialize)]
struct HandedRights {
    member: Option<String>,
    expires_at_ms: Option<u64>,
    /// When it was issued; none from a node of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_at_ms: Option<u64>,
    /// What stands for its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<[u8; 16]>,
    subscribe: Vec<String>,
    publish: Vec<String>,
}

impl HandedRights {
    fn of(rights: &Rights) -> HandedRights {
        let list = |patterns: &Patterns| patterns.iter().map(str::to_owned).collect();
        HandedRights {
            member: rights.sub.as_deref().map(str::to_owned),
            expires_at_ms: rights.expires_at_ms,
            issued_at_ms: rights.issued_at_ms,
            jti: rights.jti.map(|jti| *jti.as_bytes()),
            subscribe: list(&rights.subscribe),
            publish: list(&rights.publish),
        }
    }

    fn into_access(self) -> Result<Access, HttpError> {
        let list = |patterns: &[String]| Patterns::parse(patterns.iter().map(String::as_str)).map_err(HttpError::bad);
        let (subscribe, publish) = (list(&self.subscribe)?, list(&self.publish)?);
        let rights = Rights::handed_on(self.member.as_deref(), self.expires_at_ms, subscribe, publish);
        let rights = rights.issued(self.issued_at_ms, self.jti.map(TokenId::from_bytes));
        Ok(Access::Token(Arc::new(rights)))
    }
}

impl Frontend {
    /// The Frontend that holds a stream, if that is another one that lives.
    pub(crate) fn holder_elsewhere(&self, ground: &Ground, connection: &str) -> Option<NodeId> {
        let connection = percent_decode(connection, false).ok()?;
        let node = ConnectionId::decode(&connection)?.node;
        let lives = || ground.alive_node(node).is_some_and(|info| info.is("frontend"));
        (node != ground.node.id && lives()).then_some(node)
    }

    /// Hands a change to the Frontend that holds the stream.
    pub(crate) fn change_elsewhere(
        &mut self,
        ground: &mut Ground,
        asker: Conn,
        holder: NodeId,
        connection: &str,
        access: &Access,
        what: What,
    ) -> Result<Handled, HttpError> {
        let rights = match access {
            Access::Open | Access::Node => None,
            Access::Token(rights) => Some(HandedRights::of(rights)),
        };
        let change = Change { connection: connection.to_owned(), rights, what };
        let call = Call {
            path: "/v1/internal/connections",
            content_type: "application/json",
            body: Arc::new(serde_json::to_vec(&change).expect("a change is plain data")),
            deadline: ground.clock.instant + CHANGE_TIMEOUT,
            what: Called::Change(asker),
        };
        match ground.call((Destination::Node(holder), Lane::Changes), call) {
            Ok(()) => Ok(Handled::Later),
            Err(_) => Err(unreachable_holder()),
        }
    }

    /// The Frontend that holds the stream answered, or did not: pass it on.
    pub(crate) fn on_changed_elsewhere(&mut self, ground: &mut Ground, asker: Conn, outcome: Outcome) {
        let result = match outcome {
            Outcome::Answer(200..=299, body) => Ok(body),
            Outcome::Answer(404 | 421, _) => Err(gone()),
            Outcome::Answer(status, body) => {
                let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("the node that holds this stream refused");
                // What it refuses this node is no client's business.
                let status =
                    Status::of(status).filter(|status| status.code() >= 400 && *status != Status::Unauthorized);
                let status = status.unwrap_or(Status::ServiceUnavailable);
                Err(HttpError::new(status, detail.to_owned()))
            }
            Outcome::NotTaken | Outcome::Unknown => Err(unreachable_holder()),
        };
        ground.reply(asker, result);
    }

    /// `POST /v1/internal/connections`: another Frontend hands a change on.
    pub(crate) fn take_change(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { conn: asker, body, .. } = incoming;
        let change: Change = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body is no change to a stream: {error}")))?;
        let (shard, conn, secret) = self.locate(ground, &change.connection)?;
        let access = change.rights.map_or(Ok(Access::Open), HandedRights::into_access)?;
        let asker = (ground.id, asker);
        let message = match change.what {
            What::Topics { add, remove } => {
                for topic in &add {
                    access.require_subscribe(topic)?;
                }
                Message::ChangeTopics(Box::new(ChangeTopics { conn, secret, access, add, remove, grant: None, asker }))
            }
            What::Renew => Message::Renew(Box::new(Renewal { conn, secret, access, who: None, asker })),
        };
        ground.send(shard, message);
        Ok(Handled::Later)
    }
}

fn unreachable_holder() -> HttpError {
    HttpError::unavailable("the node that holds this stream does not answer; try again, or connect again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_arrive_as_they_were_checked() {
        let patterns = |text: &str| Patterns::parse(text.split(',')).unwrap();
        let rights = Rights::handed_on(Some("ana"), Some(99), patterns("live:*,chat:7"), patterns("live:1"));
        let rights = rights.issued(Some(7), Some(TokenId::of("x")));
        let what = What::Topics { add: vec![Topic::parse("live:1").unwrap()], remove: Vec::new() };
        let change = Change { connection: "x".to_owned(), rights: Some(HandedRights::of(&rights)), what };
        let text = serde_json::to_string(&change).unwrap();
        let read: Change = serde_json::from_str(&text).unwrap();
        assert!(matches!(read.what, What::Topics { add, .. } if add.len() == 1), "{text}");
        let Ok(Access::Token(handed)) = read.rights.unwrap().into_access() else { panic!("{text}") };
        assert_eq!(*handed, rights);
        let renew =
            serde_json::to_string(&Change { connection: "x".to_owned(), rights: None, what: What::Renew }).unwrap();
        assert!(matches!(serde_json::from_str::<Change>(&renew).unwrap().what, What::Renew), "{renew}");
    }
}
