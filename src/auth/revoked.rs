//! Tokens that count no more although they have not run out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::TokenError;
use super::rights::{Rights, TokenId};
use crate::limits::REVOCATIONS_KEPT;
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// A member's tokens that were issued (`iat`) up to a time, in Unix ms; also those that do not say when they were.
    Member(Arc<str>, u64),
    /// The token of this `jti`.
    Token(TokenId),
}

/// What one revocation takes: its places in a table and in the order of ends, and its name.
const REVOCATION_BYTES: usize = 160;

/// All that is revoked, each for as long as a token that it is about may live.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Up to when a member's tokens are revoked, and until when that is kept, in Unix ms.
    members: Map<Arc<str>, (u64, u64)>,
    tokens: Map<TokenId, u64>,
    /// Every one that came, in this order, and until when it is kept.
    ends: VecDeque<(u64, Revocation)>,
}

impl Revocations {
    /// Keeps one until this time, in Unix ms.
    pub fn add(&mut self, revocation: Revocation, until_ms: u64) {
        match &revocation {
            Revocation::Member(member, before_ms) => {
                let kept = self.members.entry(Arc::clone(member)).or_default();
                // What is read again counts once.
                if kept.0 >= *before_ms && kept.1 >= until_ms {
                    return;
                }
                *kept = (kept.0.max(*before_ms), kept.1.max(until_ms));
            }
            Revocation::Token(id) => {
                let kept = self.tokens.entry(*id).or_default();
                if *kept >= until_ms {
                    return;
                }
                *kept = until_ms.max(*kept);
            }
        }
        self.ends.push_back((until_ms, revocation));
        if self.ends.len() > REVOCATIONS_KEPT {
            self.drop_first(u64::MAX);
        }
    }

    /// Forgets those whose tokens have all run out.
    pub fn forget(&mut self, now_ms: u64) {
        while self.ends.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            self.drop_first(now_ms);
        }
    }

    fn drop_first(&mut self, now_ms: u64) {
        let Some((_, revocation)) = self.ends.pop_front() else { return };
        match revocation {
            Revocation::Member(member, _) => {
                if self.members.get(&member).is_some_and(|(_, until_ms)| *until_ms <= now_ms) {
                    self.members.remove(&member);
                }
            }
            Revocation::Token(id) => {
                if self.tokens.get(&id).is_some_and(|until_ms| *until_ms <= now_ms) {
                    self.tokens.remove(&id);
                }
            }
        }
        shrink(&mut self.ends);
        shrink(&mut self.members);
        shrink(&mut self.tokens);
    }

    /// How many are kept, of one member each time that it was revoked.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.ends.len() * REVOCATION_BYTES
    }

    /// Whether tokens are revoked: of this member and issued then, in Unix ms if they said so, or with one of these `jti`.
    pub fn has(&self, member: Option<&str>, issued_at_ms: Option<u64>, jtis: &[TokenId]) -> bool {
        if self.is_empty() {
            return false;
        }
        let of_member = member.and_then(|member| self.members.get(member));
        of_member.is_some_and(|(before_ms, _)| issued_at_ms.is_none_or(|issued| issued <= *before_ms))
            || jtis.iter().any(|jti| self.tokens.contains_key(jti))
    }

    /// Refuses a token that is revoked.
    ///
    /// # Errors
    /// 401.
    pub fn check(&self, rights: &Rights) -> Result<(), TokenError> {
        match self.has(rights.sub.as_deref(), rights.issued_at_ms, rights.jti.as_slice()) {
            true => Err(TokenError::Revoked),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_let_in_again_by_a_token_issued_later() {
        let mut revoked = Revocations::default();
        let has = |revoked: &Revocations, member, issued| revoked.has(Some(member), issued, &[]);
        assert!(!has(&revoked, "ana", Some(5_000)));
        revoked.add(Revocation::Member("ana".into(), 5_000), 100_000);
        revoked.add(Revocation::Member("ana".into(), 3_000), 90_000);
        assert_eq!(revoked.len(), 1, "it says nothing new");
        for (member, issued, is_revoked) in [
            ("ana", Some(2_000), true),
            ("ana", Some(5_000), true),
            ("ana", Some(5_001), false),
            ("ana", None, true),
            ("bob", Some(2_000), false),
            ("bob", None, false),
        ] {
            assert_eq!(has(&revoked, member, issued), is_revoked, "{member} {issued:?}");
        }
        assert!(!revoked.has(None, None, &[]));
    }

    #[test]
    fn one_of_several_tokens_is_enough() {
        let mut revoked = Revocations::default();
        let [one, other] = ["one", "other"].map(TokenId::of);
        revoked.add(Revocation::Token(one), 100_000);
        assert!(revoked.has(None, None, &[other, one]) && !revoked.has(Some("ana"), None, &[other]));
    }

    #[test]
    fn what_is_kept_is_bounded_and_kept_as_long_as_a_token_may_live() {
        let mut revoked = Revocations::default();
        let jti = TokenId::of("x");
        revoked.add(Revocation::Token(jti), 1_000);
        revoked.add(Revocation::Member("ana".into(), 1), 1_000);
        revoked.add(Revocation::Token(jti), 2_000);
        revoked.add(Revocation::Member("ana".into(), 2), 2_000);
        revoked.forget(999);
        assert_eq!(revoked.len(), 4);
        revoked.forget(1_000);
        assert!(revoked.len() == 2 && revoked.has(None, None, &[jti]) && revoked.has(Some("ana"), Some(2), &[]));
        revoked.forget(2_000);
        assert!(revoked.is_empty() && revoked.members.is_empty() && revoked.tokens.is_empty());
        for number in 0..REVOCATIONS_KEPT + 2 {
            revoked.add(Revocation::Member(number.to_string().into(), 1), 1_000);
        }
        assert!(revoked.len() == REVOCATIONS_KEPT && revoked.members.len() == REVOCATIONS_KEPT);
    }
}
