//! What a stream's tokens let it do, and until when.

use std::sync::Arc;

use crate::auth::{Revocations, Rights, TokenId, expired};
use crate::ground::all::All;
use crate::ground::authorize::Grant;
use crate::limits::{STREAM_TOKENS_MAX, TOKEN_NOTICE};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::http::HttpError;
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::status::Status;

/// What of a token's rights an open stream needs to remember: its topics were checked when they were added.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamRights {
    /// The token's member.
    pub member: Option<Box<str>>,
    /// The types of which it gets every event of the topics that it may moderate.
    pub all: All,
    /// Of a stream of Mercure's protocol that has topics by selectors, or a token: what it wants, and may have.
    pub mercure: Option<Arc<Subscriber>>,
    /// By what it has its topics, where a server is asked.
    pub grant: Option<Grant>,
    /// When the oldest of its tokens was issued, in Unix ms; none if one does not say so, or there is none.
    issued_at_ms: Option<u64>,
    /// What stands for the `jti` of those that brought topics.
    jtis: Vec<TokenId>,
    /// When they end, in Unix ms.
    expires_at_ms: u64,
    /// When the client is to be told of it, in Unix ms; `None` once it was.
    notice_at_ms: Option<u64>,
}

/// What is due for a stream with rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Tell its client that they end at this time, in Unix ms.
    Notice(u64),
    /// Ask the operator's server again what it may have.
    Ask,
    /// End it.
    End,
}

impl StreamRights {
    /// Those of a stream that is opened, or renewed, at `now_ms` (Unix ms).
    pub fn new(rights: &Rights, all: All, now_ms: u64) -> StreamRights {
        // A verified token has an end.
        let expires_at_ms = rights.expires_at_ms.unwrap_or(u64::MAX);
        let notice_at_ms = Some(notice_at(expires_at_ms, now_ms));
        let (issued_at_ms, jtis) = (rights.issued_at_ms, rights.jti.into_iter().collect());
        let (member, mercure, grant) = (rights.sub.clone(), None, None);
        StreamRights { member, all, mercure, grant, issued_at_ms, jtis, expires_at_ms, notice_at_ms }
    }

    /// Those of a stream without a token that watches as a member, or all of some types; they never end.
    pub fn of_member(member: Option<String>, all: All) -> StreamRights {
        let (member, issued_at_ms, jtis) = (member.map(Into::into), None, Vec::new());
        let (mercure, grant, expires_at_ms, notice_at_ms) = (None, None, u64::MAX, None);
        StreamRights { member, all, mercure, grant, issued_at_ms, jtis, expires_at_ms, notice_at_ms }
    }

    /// Whether a token may bring topics to the stream, which then ends when this one does, or is revoked.
    ///
    /// # Errors
    /// 403 where too many did.
    pub fn may_join(&self, rights: &Rights) -> Result<(), HttpError> {
        let is_new = |jti| !self.jtis.contains(&jti);
        if rights.jti.is_some_and(is_new) && self.jtis.len() >= STREAM_TOKENS_MAX {
            let detail = "topics of this stream came by too many tokens; renew its own, POST …/token, and try again";
            return Err(HttpError::new(Status::Forbidden, detail));
        }
        Ok(())
    }

    /// A token brought topics.
    pub fn join(&mut self, rights: &Rights, now_ms: u64) {
        self.end_by(rights.expires_at_ms.unwrap_or(u64::MAX), now_ms);
        self.issued_at_ms = self.issued_at_ms.min(rights.issued_at_ms);
        self.jtis.extend(rights.jti.filter(|jti| !self.jtis.contains(jti)));
    }

    /// Whether one of its tokens is revoked.
    pub fn are_revoked(&self, revoked: &Revocations) -> bool {
        revoked.has(self.member.as_deref(), self.issued_at_ms, &self.jtis)
    }

    /// They end no later than at `expires_at_ms`: a topic came by a token that ends then.
    fn end_by(&mut self, expires_at_ms: u64, now_ms: u64) {
        if expires_at_ms < self.expires_at_ms {
            self.expires_at_ms = expires_at_ms;
            self.notice_at_ms = Some(notice_at(expires_at_ms, now_ms));
        }
    }

    /// What is due at `now_ms` (Unix ms). A notice is due once.
    pub fn due(&mut self, now_ms: u64) -> Option<Due> {
        if expired(self.expires_at_ms, now_ms) && !planted(Mistake::TokenEndIgnored) {
            return Some(Due::End);
        }
        if self.notice_at_ms.take_if(|at| *at <= now_ms).is_some() {
            return Some(Due::Notice(self.expires_at_ms));
        }
        self.grant.as_mut().is_some_and(|grant| grant.is_due(now_ms)).then_some(Due::Ask)
    }
}

/// [`TOKEN_NOTICE`] before the end, or half of the time that is left if that is shorter.
pub(crate) fn notice_at(expires_at_ms: u64, now_ms: u64) -> u64 {
    let left = expires_at_ms.saturating_sub(now_ms);
    expires_at_ms - (left / 2).min(TOKEN_NOTICE.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::LEEWAY;

    fn rights(expires_at_ms: u64, now_ms: u64) -> StreamRights {
        StreamRights {
            member: None,
            all: All::default(),
            mercure: None,
            grant: None,
            issued_at_ms: None,
            jtis: Vec::new(),
            expires_at_ms,
            notice_at_ms: Some(notice_at(expires_at_ms, now_ms)),
        }
    }

    #[test]
    fn a_notice_comes_once_and_then_the_end() {
        let leeway = LEEWAY.as_millis() as u64;
        let mut long = rights(1_000_000, 0);
        assert_eq!(long.due(939_999), None);
        assert_eq!(long.due(940_000), Some(Due::Notice(1_000_000)));
        assert_eq!(long.due(940_001), None);
        assert_eq!(long.due(1_000_000 + leeway - 1), None);
        assert_eq!(long.due(1_000_000 + leeway), Some(Due::End));
        assert_eq!(long.due(u64::MAX), Some(Due::End));
        let mut short = rights(30_000, 10_000);
        assert_eq!((short.due(19_999), short.due(20_000)), (None, Some(Due::Notice(30_000))));
        // Within the leeway, past its end already.
        assert_eq!(rights(30_000, 31_000).due(31_000), Some(Due::Notice(30_000)));
    }

    #[test]
    fn a_stream_lives_no_longer_than_the_token_that_brought_a_topic() {
        let mut stream = rights(1_000_000, 0);
        stream.end_by(2_000_000, 0);
        assert_eq!(stream, rights(1_000_000, 0));
        assert_eq!(stream.due(940_000), Some(Due::Notice(1_000_000)));
        stream.end_by(960_000, 940_000);
        assert_eq!(stream.due(950_000), Some(Due::Notice(960_000)));
        assert_eq!(stream.due(965_000), Some(Due::End));
    }
}
