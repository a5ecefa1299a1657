//! Requests that a client's `Idempotency-Key` names, and that are done once (draft-ietf-httpapi-idempotency-key-header): what the
//! first one came to is stored in its own commit, so that whoever repeats it, even after a crash, gets the same answer.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::db::Outcome;
use crate::limits::ONCE_AGE;
use crate::wire::status::Status;

/// Who names requests by keys: two that are not the same have keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker<'a> {
    /// Anybody: there are no tokens.
    Anyone,
    /// A member, by whichever token.
    Member(&'a str),
    /// Nobody in particular, by the token with this [`TokenId`](crate::auth::TokenId): two of them say nothing of who shares them.
    Token(&'a [u8]),
    /// Another node, or a program that shows the cluster's secret.
    Node,
}

/// What a request is known by if it comes again. Texts of clients go in as hashes, so that each costs the same to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Of who asks, for what, and by which key.
    pub key: String,
    /// Of the body that came with it.
    pub body: String,
    /// When it came, in Unix milliseconds, at most `i64::MAX`.
    pub at: u64,
}

impl Once {
    /// A request of `asker` to `resource`, by `key`. Keys of others, and for other resources, are other keys.
    pub fn new(asker: Asker<'_>, resource: [&str; 2], key: &str, body: &[u8], at: u64) -> Once {
        let mut hash = Sha256::new();
        // Numbers never change, since keys are kept in databases.
        let (number, name): (u8, &[u8]) = match asker {
            Asker::Anyone => (0, b""),
            Asker::Member(name) => (1, name.as_bytes()),
            Asker::Token(id) => (2, id),
            Asker::Node => (3, b""),
        };
        hash.update([number]);
        // Each with its length, so that no two lists of texts run together to the same bytes.
        for text in [name, resource[0].as_bytes(), resource[1].as_bytes(), key.as_bytes()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let text = |hash: &[u8]| URL_SAFE_NO_PAD.encode(hash);
        Once { key: text(&hash.finalize()), body: text(&Sha256::digest(body)), at }
    }

    /// What a request comes to that is stored already, if it is not too long ago.
    pub(crate) fn repeated(&self, stored: &Stored) -> Option<Outcome> {
        if self.is_past(stored.at) {
            return None;
        }
        Some(match stored.body == self.body {
            true => Outcome::Again { status: stored.status, answer: stored.answer.clone() },
            false => Outcome::OtherBody,
        })
    }

    /// What is to be stored of a request that came to `outcome`; nothing of one that has no answer of its own.
    pub(crate) fn stored(&self, outcome: &Outcome) -> Option<Stored> {
        let (status, answer) = outcome.answer()?;
        Some(Stored { body: self.body.clone(), status, answer, at: self.at })
    }

    fn is_past(&self, at: u64) -> bool {
        at <= self.oldest()
    }

    /// What was stored then, or before, is not kept any longer.
    pub(crate) fn oldest(&self) -> u64 {
        oldest(self.at)
    }
}

/// What was stored then, or before, is not kept any longer at `now`, both in Unix milliseconds.
pub(crate) fn oldest(now: u64) -> u64 {
    now.saturating_sub(ONCE_AGE.as_millis() as u64)
}

/// The status of an answer that was stored. A node of a later version may know more of them.
pub(crate) fn status(code: u16) -> Status {
    Status::of(code).unwrap_or(Status::Ok)
}

/// What is kept of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) body: String,
    pub(crate) status: Status,
    pub(crate) answer: String,
    pub(crate) at: u64,
}

impl Outcome {
    /// The status and body that tell a client of a new like, comment or message.
    pub fn answer(&self) -> Option<(Status, String)> {
        match self {
            Outcome::Liked { created, likes, .. } => {
                Some((if *created { Status::Created } else { Status::Ok }, json!({"likes": likes}).to_string()))
            }
            Outcome::Posted { id, .. } => Some((Status::Created, json!({"id": id}).to_string())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_who_asks_for_what() {
        use Asker::{Anyone, Member, Node, Token};
        let key = |asker, resource, key| Once::new(asker, resource, key, b"", 0).key;
        let all = [
            key(Member("ana"), ["comments", "live:7"], "a"),
            key(Member("bob"), ["comments", "live:7"], "a"),
            key(Anyone, ["comments", "live:7"], "a"),
            key(Member(""), ["comments", "live:7"], "a"),
            key(Node, ["comments", "live:7"], "a"),
            key(Token(b""), ["comments", "live:7"], "a"),
            key(Token(b"ana"), ["comments", "live:7"], "a"),
            key(Token(b"bob"), ["comments", "live:7"], "a"),
            key(Member("ana"), ["likes", "live:7"], "a"),
            key(Member("ana"), ["comments", "live:71"], "a"),
            key(Member("ana"), ["comments", "live:"], "7a"),
            key(Member("anac"), ["omments", "live:7"], "a"),
        ];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(all[0], key(Member("ana"), ["comments", "live:7"], "a"));
    }

    #[test]
    fn a_day_later_it_is_another_request() {
        let once = |at, body| Once::new(Asker::Anyone, ["likes", "live:7"], "a", body, at);
        let outcome = Outcome::Liked { created: true, likes: 2, reaction_likes: 1 };
        let stored = once(1_000, b"x").stored(&outcome).unwrap();
        let again = Outcome::Again { status: Status::Created, answer: r#"{"likes":2}"#.into() };
        let day = ONCE_AGE.as_millis() as u64;
        assert_eq!(once(999 + day, b"x").repeated(&stored), Some(again));
        assert_eq!(once(999 + day, b"y").repeated(&stored), Some(Outcome::OtherBody));
        assert_eq!(once(1_000 + day, b"x").repeated(&stored), None);
    }
}
