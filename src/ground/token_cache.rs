//! Tokens whose signatures were checked: a client sends the same one with each request, and checking it costs some hundred
//! times more than finding it here.

use std::sync::Arc;

use crate::auth::{Keys, Rights, Terms, Token, TokenError};
use crate::limits::TOKENS_KEPT_BYTES;
use crate::runtime::random::Map;

type Seen = Map<Box<str>, Arc<Rights>>;

/// Tokens of one shard, the whole text of each, so that none passes for another. Good ones only, so that nobody fills it
/// who has no token. They come in two generations, of which the older one goes when the younger one is full.
#[derive(Debug, Default)]
pub struct TokenCache {
    /// What they were checked by.
    keys: Option<Arc<Keys>>,
    young: Seen,
    old: Seen,
    young_bytes: usize,
}

impl TokenCache {
    /// Verifies a token at `now_ms` (Unix ms) as [`Token::verify_by`] does, always by the same terms. True beside the rights if it had to be checked.
    ///
    /// # Errors
    /// Those of [`Token::verify_by`].
    pub fn verify(
        &mut self,
        token: Token<'_>,
        keys: &Arc<Keys>,
        terms: &Terms,
        now_ms: u64,
    ) -> Result<(Arc<Rights>, bool), TokenError> {
        if !self.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys)) {
            *self = TokenCache { keys: Some(Arc::clone(keys)), ..TokenCache::default() };
        }
        if let Some(rights) = self.young.get(token.0).filter(|rights| !rights.is_expired(now_ms)) {
            return Ok((Arc::clone(rights), false));
        }
        let known = self.old.remove(token.0).filter(|rights| !rights.is_expired(now_ms));
        let is_new = known.is_none();
        let rights = match known {
            Some(rights) => rights,
            None => Arc::new(token.verify_by(keys, terms, now_ms)?),
        };
        // A token and its rights, which say about the same, and the table's own.
        let bytes = 2 * token.0.len() + 128;
        if self.young_bytes + bytes > TOKENS_KEPT_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(token.0.into(), Arc::clone(&rights));
        Ok((rights, is_new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{SharedKeys, Watcher};
    use jsonwebtoken::{EncodingKey, Header, encode};

    const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests";

    fn keys() -> SharedKeys {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        Watcher::start(&file).unwrap().keys()
    }

    fn signed(claims: &serde_json::Value, secret: &[u8]) -> String {
        encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn a_token_is_checked_once_until_it_ends_or_the_keys_change() {
        let (shared, mut cache) = (keys(), TokenCache::default());
        let keys = Arc::clone(&shared.load());
        let token = signed(&serde_json::json!({"exp": 100, "sub": "ana"}), SECRET);
        let (rights, is_new) = cache.verify(Token(&token), &keys, &Terms::default(), 0).unwrap();
        assert!(is_new && rights.sub.as_deref() == Some("ana"));
        assert!(!cache.verify(Token(&token), &keys, &Terms::default(), 104_999).unwrap().1);
        assert_eq!(cache.verify(Token(&token), &keys, &Terms::default(), 105_000), Err(TokenError::Expired(5)));
        let others = Arc::clone(&self::keys().load());
        assert!(
            cache.verify(Token(&token), &others, &Terms::default(), 0).unwrap().1,
            "other keys, even if they are alike"
        );
        assert!(!cache.verify(Token(&token), &others, &Terms::default(), 0).unwrap().1);
    }

    #[test]
    fn a_bad_token_is_never_kept_nor_taken_for_a_good_one() {
        let (shared, mut cache) = (keys(), TokenCache::default());
        let keys = Arc::clone(&shared.load());
        let claims = serde_json::json!({"exp": 100});
        let good = signed(&claims, SECRET);
        cache.verify(Token(&good), &keys, &Terms::default(), 0).unwrap();
        let bad = signed(&claims, b"another secret of more than 32 bytes, too");
        let changed = format!("{}x", &good[..good.len() - 1]);
        for bad in [bad.as_str(), &changed, "", "a.b.c"] {
            assert!(
                cache.verify(Token(bad), &keys, &Terms::default(), 0).is_err() && !cache.young.contains_key(bad),
                "{bad}"
            );
        }
    }

    #[test]
    fn its_memory_is_bounded_and_what_is_used_stays() {
        let (shared, mut cache) = (keys(), TokenCache::default());
        let keys = Arc::clone(&shared.load());
        let token = |number: u32| signed(&serde_json::json!({"exp": 100, "sub": format!("m{number}")}), SECRET);
        let (often, mut checked) = (token(0), 0);
        for number in 1..8_000 {
            cache.verify(Token(&token(number)), &keys, &Terms::default(), 0).unwrap();
            checked += u32::from(cache.verify(Token(&often), &keys, &Terms::default(), 0).unwrap().1);
        }
        assert_eq!(checked, 1);
        let held: usize = cache.young.iter().chain(&cache.old).map(|(token, _)| 2 * token.len() + 128).sum();
        assert!(held <= TOKENS_KEPT_BYTES && !cache.old.is_empty(), "{held}");
    }
}
