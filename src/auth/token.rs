//! Checking a token: its form, its signature, its times and its claims, in this order.

use super::error::TokenError;
use super::keys::{Algorithm, Keys};
use super::rights::{OWN, Patterns, Rights, TokenId, Types, expired};
use super::{LEEWAY, TOKEN_BYTES_MAX};
use crate::limits::{JTI_BYTES_MAX, NAME_BYTES_MAX, TOKEN_EXPIRY_MAX};
use crate::wire::mercure::selectors::Selectors;
use crate::wire::topic::Topic;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A token as it came, not yet verified: three parts in base64url (RFC 7515 section 7.1). Never shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a>(pub &'a str);

impl fmt::Debug for Token<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// What is asked of tokens beside a signature that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who may have issued them (`iss`); anybody whose key is here, if it is empty.
    pub issuers: Vec<String>,
    /// For whom they must be (`aud`), one of these at least; for anybody, if it is empty.
    pub audiences: Vec<String>,
    /// How long they may live at most: from `iat`, if they have it, and from now, to `exp`.
    pub life: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { issuers: Vec::new(), audiences: Vec::new(), life: TOKEN_EXPIRY_MAX }
    }
}

impl Terms {
    /// Refuses a token of another issuer, or for others.
    fn check(&self, iss: Option<Value>, aud: Option<Value>) -> Result<(), TokenError> {
        let is_one =
            |list: &[String], value: &Value| value.as_str().is_some_and(|text| list.iter().any(|one| one == text));
        if !self.issuers.is_empty() && !iss.is_some_and(|iss| is_one(&self.issuers, &iss)) {
            return Err(TokenError::Claim("iss is not an issuer whose tokens are taken here (--jwt-issuer)"));
        }
        let is_for = |aud: Value| match &aud {
            Value::Array(list) => list.iter().any(|aud| is_one(&self.audiences, aud)),
            aud => is_one(&self.audiences, aud),
        };
        if !self.audiences.is_empty() && !aud.is_some_and(is_for) {
            return Err(TokenError::Claim("aud does not name this service (--jwt-audience)"));
        }
        Ok(())
    }

    /// Refuses a token that lives for too long.
    fn check_life(&self, expires_at_ms: u64, issued_at_ms: Option<u64>, now_ms: u64) -> Result<(), TokenError> {
        let (life, leeway) = (self.life.as_millis() as u64, LEEWAY.as_millis() as u64);
        if expires_at_ms.saturating_sub(now_ms) > TOKEN_EXPIRY_MAX.as_millis() as u64 {
            return Err(TokenError::Claim(
                "exp is more than 10 years from now; it is a time in Unix seconds, and this one looks like milliseconds",
            ));
        }
        // Its issuer's clock may be ahead.
        let from = issued_at_ms.unwrap_or(now_ms).min(now_ms).saturating_add(leeway);
        match expires_at_ms.saturating_sub(from) > life {
            true => Err(TokenError::Life(self.life)),
            false => Ok(()),
        }
    }
}

/// A JSON object and nothing else: derived structs also take an array of their fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Object)
    }
}

/// Keeps a `null` apart from what is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The header's parameters that count. A parameter that comes twice makes the token malformed; keys that a token
/// brings along (`jwk`, `jku`, `x5c`) are never looked at.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<Value>,
}

/// The claims that count; others are not looked at. A claim that comes twice makes the token malformed.
#[derive(serde::Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<Value>,
    fanfare: Option<Object<Nested>>,
    #[serde(default, rename = "fanfare.subscribe", deserialize_with = "present")]
    subscribe: Option<Value>,
    #[serde(default, rename = "fanfare.publish", deserialize_with = "present")]
    publish: Option<Value>,
    #[serde(default, rename = "fanfare.types", deserialize_with = "present")]
    types: Option<Value>,
    // The second name is for issuers whose claims have to be URIs.
    #[serde(default, alias = "https://mercure.rocks/", deserialize_with = "present")]
    mercure: Option<Value>,
}

#[derive(Default, serde::Deserialize)]
struct Nested {
    #[serde(default, deserialize_with = "present")]
    subscribe: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    publish: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    types: Option<Value>,
}

impl Token<'_> {
    /// Verifies the token by a signature alone, as [`Token::verify_by`] does by terms.
    ///
    /// # Errors
    /// As [`Token::verify_by`].
    pub fn verify(self, keys: &Keys, now_ms: u64) -> Result<Rights, TokenError> {
        self.verify_by(keys, &Terms::default(), now_ms)
    }

    /// Verifies the token at `now_ms` (Unix ms) and tells its rights. It does no IO. The signature is most of
    /// its cost, HS256's the least by far, and nothing of a text over [`TOKEN_BYTES_MAX`] is looked at.
    ///
    /// - The key decides the algorithm: a token whose `alg` is another than the key's is refused, and so are `none`,
    ///   `crit` and unencoded payloads (`b64`).
    /// - `exp` must be there, since an open stream's rights end with it, and within 10 years, since one in milliseconds
    ///   would hold for ever; `nbf` may be. Both have [`LEEWAY`].
    /// - `sub` may be absent. It has 1 to 128 bytes and no control characters, and `user:{sub}` with its escapes is a topic.
    /// - Rights are lists of topics, `{"fanfare":{"subscribe":[…],"publish":[…]}}` or
    ///   `{"fanfare.subscribe":[…],"fanfare.publish":[…]}`, a right in one of the forms only; an absent one allows
    ///   nothing. `types`, in either form, lists the types of the platform's own that they may publish to a topic itself.
    /// - `mercure` lists topics' selectors, `{"publish":[…],"subscribe":[…]}`, for that protocol's requests alone.
    /// - `iat` and `jti` may be absent. By them a token can be revoked before its end.
    /// - `iss` and `aud` are looked at where the terms ask for it: else what a key signed is meant for this service.
    ///
    /// # Errors
    /// Each is answered with 401; its text says nothing of the token's content.
    pub fn verify_by(self, keys: &Keys, terms: &Terms, now_ms: u64) -> Result<Rights, TokenError> {
        if self.0.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Oversized);
        }
        let parts = || {
            let (message, signature) = self.0.rsplit_once('.')?;
            let (header, payload) = message.split_once('.')?;
            (!payload.contains('.')).then_some((message, header, payload, signature))
        };
        let (message, header, payload, signature) =
            parts().ok_or(TokenError::Malformed("it is not three parts with dots between"))?;
        let header: Header = decode(header).ok_or(TokenError::Malformed("its header is not what JWS asks for"))?;
        if header.crit.is_some() || header.b64.is_some() {
            return Err(TokenError::Malformed("it asks for extensions (crit, b64) that are not served"));
        }
        let algorithm = Algorithm::from_name(&header.alg);
        let mut candidates = keys.candidates(algorithm, header.kid.as_deref())?;
        if !candidates.any(|key| key.signed(message.as_bytes(), signature)) {
            return Err(TokenError::BadSignature);
        }
        let claims = decode(payload).ok_or(TokenError::Malformed(
            "its claims are not a JSON object in which each comes once and fanfare is an object",
        ))?;
        rights(TokenId::of(message), claims, terms, now_ms)
    }
}

/// A JSON object in base64url without padding.
fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice::<Object<T>>(&bytes).ok().map(|object| object.0)
}

fn rights(token: TokenId, claims: Claims, terms: &Terms, now_ms: u64) -> Result<Rights, TokenError> {
    let exp = claims.exp.ok_or(TokenError::Claim("exp is missing; a token must expire"))?;
    let expires_at_ms = time(&exp).ok_or(TokenError::Claim("exp is not a time in Unix seconds"))?;
    let issued_at_ms = match claims.iat {
        None => None,
        Some(iat) => Some(time(&iat).ok_or(TokenError::Claim("iat is not a time in Unix seconds"))?),
    };
    terms.check_life(expires_at_ms, issued_at_ms, now_ms)?;
    if expired(expires_at_ms, now_ms) {
        return Err(TokenError::Expired((now_ms - expires_at_ms) / 1000));
    }
    if let Some(nbf) = claims.nbf {
        let starts_at_ms = time(&nbf).ok_or(TokenError::Claim("nbf is not a time in Unix seconds"))?;
        if starts_at_ms > now_ms.saturating_add(LEEWAY.as_millis() as u64) {
            return Err(TokenError::NotYetValid((starts_at_ms - now_ms).div_ceil(1000)));
        }
    }
    let sub = match claims.sub {
        None => None,
        Some(Value::String(name)) => Some(member(name)?),
        Some(_) => return Err(TokenError::Claim("sub is not a text")),
    };
    terms.check(claims.iss, claims.aud)?;
    let jti = match claims.jti {
        None => None,
        Some(Value::String(id)) if is_jti(&id) => Some(TokenId::of(&id)),
        Some(_) => return Err(TokenError::Claim("jti is not a text of 1 to 256 bytes")),
    };
    let nested = claims.fanfare.map(|object| object.0).unwrap_or_default();
    let subscribe = list(claims.subscribe, nested.subscribe, |topics| Patterns::parse(topics))?;
    let publish = list(claims.publish, nested.publish, |topics| Patterns::parse(topics))?;
    let types = list(claims.types, nested.types, |types| Types::parse(types))?;
    let (mercure_publish, mercure_subscribe) = claims.mercure.map_or(Ok((None, None)), |claim| mercure(&claim))?;
    let rights = Rights::verified(token, sub, expires_at_ms, subscribe, publish, types).issued(issued_at_ms, jti);
    Ok(rights.with_mercure(mercure_publish, mercure_subscribe))
}

/// What Mercure's claim lists, to publish to and to subscribe to.
fn mercure(claim: &Value) -> Result<(Option<Selectors>, Option<Selectors>), TokenError> {
    const LISTS: TokenError = TokenError::Claim("mercure is not an object with the lists publish and subscribe");
    let claim = claim.as_object().ok_or(LISTS)?;
    let list = |name| match claim.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(list) => {
            let texts: Option<Vec<&str>> = list.as_array().ok_or(LISTS)?.iter().map(Value::as_str).collect();
            texts.map(|texts| Some(Selectors::of(texts))).ok_or(LISTS)
        }
    };
    Ok((list("publish")?, list("subscribe")?))
}

/// Whether this can be a token's `jti`.
pub fn is_jti(text: &str) -> bool {
    (1..=JTI_BYTES_MAX).contains(&text.len())
}

/// A NumericDate (RFC 7519 section 2), perhaps with a fraction, in Unix ms; one that is too large is the end of time.
pub fn time(value: &Value) -> Option<u64> {
    match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(seconds.saturating_mul(1000)),
        // The cast saturates.
        (None, Some(seconds)) if seconds.is_finite() && seconds >= 0.0 => Some((seconds * 1000.0) as u64),
        _ => None,
    }
}

/// Checks a member's name. A stream gets the topic `user:{sub}` without asking, so it must be one.
pub fn member(name: String) -> Result<Box<str>, TokenError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(TokenError::Claim("sub has 1 to 128 bytes and no control characters"));
    }
    match Topic::encode(OWN, &name) {
        Ok(_) => Ok(name.into_boxed_str()),
        Err(_) => {
            Err(TokenError::Claim("sub is too long: with its escapes the topic user:{sub} has at most 200 bytes"))
        }
    }
}

/// What a right lists, in one of its two forms; nothing where it is absent.
fn list<T: Default>(
    dotted: Option<Value>,
    nested: Option<Value>,
    parse: impl FnOnce(Vec<&str>) -> Result<T, &'static str>,
) -> Result<T, TokenError> {
    let value = match (dotted, nested) {
        (Some(_), Some(_)) => return Err(TokenError::Claim("a right comes both nested in fanfare and with a dot")),
        (Some(value), None) | (None, Some(value)) => value,
        (None, None) => return Ok(T::default()),
    };
    const LIST: TokenError = TokenError::Claim("a right is not a list of topics, or of types");
    let texts: Option<Vec<&str>> = value.as_array().ok_or(LIST)?.iter().map(Value::as_str).collect();
    parse(texts.ok_or(LIST)?).map_err(TokenError::Claim)
}
const _: () = assert!(NAME_BYTES_MAX == 128 && JTI_BYTES_MAX == 256, "texts say so");
