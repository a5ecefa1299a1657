//! Who somebody is, and which topics they may subscribe to and publish to.

use super::LEEWAY;
use super::error::{Right, TokenError};
use crate::limits::TOPIC_BYTES_MAX;
use crate::wire::event::{OWNED, Owner, is_type};
use crate::wire::mercure::selectors::Selectors;
use crate::wire::topic::{self, Topic};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// The kind of a member's own topic.
pub(super) const OWN: &str = "user";

/// What divides patterns in memory: no topic has this byte.
const DIVIDER: char = ' ';

/// Topics, each whole or as a prefix followed by `*`: `live:42`, `live:*`, `*`.
///
/// Its escapes are normalised as a topic's are, and then it is compared byte for byte; nothing else is decoded or folded.
/// So `live:*` allows `live:42` and not `liveX:1`, `LIVE:42` or `live%3A42`, and `live:4*` allows `live:4` as well as `live:42`. One text in memory, however many patterns; a token's size bounds it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Patterns(Box<str>);

impl Patterns {
    /// Checks patterns and keeps them.
    ///
    /// # Errors
    /// Says what is wrong with the first that is neither a topic nor the beginning of one with `*` after it.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Patterns, &'static str> {
        let mut text = String::new();
        for pattern in patterns {
            let pattern = topic::normal_escapes(pattern.into())
                .map_err(|_| "a topic's % is followed by two hex digits, such as %C3; %25 is the sign itself")?;
            check(&pattern)?;
            if !text.is_empty() {
                text.push(DIVIDER);
            }
            text.push_str(&pattern);
        }
        Ok(Patterns(text.into_boxed_str()))
    }

    /// Whether one of the patterns allows `topic`. It takes time in proportion to the patterns' length.
    pub fn allow(&self, topic: &Topic) -> bool {
        self.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => topic.as_str().starts_with(prefix),
            None => topic.as_str() == pattern,
        })
    }

    /// The patterns, in the token's order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        // An empty text is no pattern, not an empty one.
        self.0.split(DIVIDER).filter(|pattern| !pattern.is_empty())
    }

    /// The patterns as one text, which is the same for the same patterns in the same order.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

/// Those of the platform's own types ([`OWNED`]) that a token names, a bit each.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Types(u16);

const _: () = assert!(OWNED.len() <= u16::BITS as usize);

impl Types {
    /// Reads types' names. Those of others than the platform need no naming, and may be named all the same.
    ///
    /// # Errors
    /// Says what is wrong with the first that can be no type, or that comes from nodes only.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Types, &'static str> {
        let mut types = Types::default();
        for name in names {
            if !is_type(name) {
                return Err("a type has 1 to 64 bytes of A-Z a-z 0-9 . _ -, and no wildcards");
            }
            match OWNED.iter().position(|(known, _)| *known == name) {
                Some(index) if OWNED[index].1 == Owner::Nodes => {
                    return Err(
                        "likes, viewers, presence, receipt, rules, mercure and control events come only from nodes",
                    );
                }
                Some(index) => types.0 |= 1 << index,
                None => {}
            }
        }
        Ok(types)
    }
}

fn check(pattern: &str) -> Result<(), &'static str> {
    let Some(prefix) = pattern.strip_suffix('*') else {
        if pattern.contains('*') {
            return Err("a topic's * may only be its last character");
        }
        return topic::check(pattern).map(|_| ()).map_err(|_| "a topic is kind:id, such as live:42 or live:*");
    };
    if prefix.contains('*') {
        return Err("a topic's * may only be its last character");
    }
    let known = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~:%-".contains(&byte));
    if prefix.len() > TOPIC_BYTES_MAX || prefix.starts_with(':') || !known {
        return Err("what precedes a topic's * is not the beginning of a topic");
    }
    Ok(())
}

/// Tells tokens apart, whatever they have in common: of what was signed, a hash too long for two to have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// That of a token with this header and these claims, as they were signed; or what stands for a `jti`.
    pub fn of(signed: &str) -> TokenId {
        TokenId(Sha256::digest(signed)[..16].try_into().expect("a hash has 32 bytes"))
    }

    /// One of which these are the bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> TokenId {
        TokenId(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What a verified token allows, or anyone with `--auth none`. Only [`Token::verify`](super::Token::verify),
/// [`Rights::everything`] and [`Rights::handed_on`] make one. 136 bytes and its texts: share it in an `Rc` or `Arc`, a connection each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The member, 1 to 128 bytes without control characters; `None` for nobody in particular.
    pub sub: Option<Box<str>>,
    /// The token that they were read from; `None` where another node read it, or there is none.
    pub token: Option<TokenId>,
    /// `iat`, in Unix ms, if the token says it.
    pub issued_at_ms: Option<u64>,
    /// What stands for its `jti`, if it has one.
    pub jti: Option<TokenId>,
    /// `exp`, in Unix ms. Every token has one; `None` is for `--auth none`. See [`is_expired`](Rights::is_expired).
    pub expires_at_ms: Option<u64>,
    /// Topics whose events they may get.
    pub subscribe: Patterns,
    /// Topics that they may send events to.
    pub publish: Patterns,
    /// Types of events that belong to others and that they may send all the same.
    pub types: Types,
    /// Mercure's topics to which they may send updates; `None` for none.
    pub mercure_publish: Option<Arc<Selectors>>,
    /// Mercure's topics whose private updates they may get; `None` for none.
    pub mercure_subscribe: Option<Arc<Selectors>>,
    /// Whether requests may name any member: there are no tokens.
    unchecked: bool,
}

impl Rights {
    /// The member's own topic, `user:{sub}`, which needs no right and counts as none of a stream's topics.
    pub fn own_topic(&self) -> Option<Topic> {
        self.sub.as_deref().and_then(|member| Topic::encode(OWN, member).ok())
    }

    /// Those of nobody in particular, to nothing.
    fn none() -> Rights {
        Rights {
            sub: None,
            token: None,
            issued_at_ms: None,
            jti: None,
            expires_at_ms: None,
            subscribe: Patterns::default(),
            publish: Patterns::default(),
            types: Types::default(),
            mercure_publish: None,
            mercure_subscribe: None,
            unchecked: false,
        }
    }

    pub(super) fn verified(
        token: TokenId,
        sub: Option<Box<str>>,
        expires_at_ms: u64,
        subscribe: Patterns,
        publish: Patterns,
        types: Types,
    ) -> Rights {
        let (token, expires_at_ms) = (Some(token), Some(expires_at_ms));
        Rights { sub, token, expires_at_ms, subscribe, publish, types, ..Rights::none() }
    }

    /// Of a token that says when it was issued, in Unix ms, or has a `jti`.
    #[must_use]
    pub fn issued(self, issued_at_ms: Option<u64>, jti: Option<TokenId>) -> Rights {
        Rights { issued_at_ms, jti, ..self }
    }

    /// With these of Mercure's topics, to publish to and to get private updates of.
    #[must_use]
    pub(super) fn with_mercure(self, publish: Option<Selectors>, subscribe: Option<Selectors>) -> Rights {
        Rights { mercure_publish: publish.map(Arc::new), mercure_subscribe: subscribe.map(Arc::new), ..self }
    }

    /// What another node of the cluster verified, and handed on behind the cluster's secret: a stream's rights, which publish no
    /// events, so that the types that they may send are not among them.
    pub fn handed_on(sub: Option<&str>, expires_at_ms: Option<u64>, subscribe: Patterns, publish: Patterns) -> Rights {
        Rights { sub: sub.map(Box::from), expires_at_ms, subscribe, publish, ..Rights::none() }
    }

    /// With `--auth none`: everything, for ever, as whatever member the request says (`member=ana`), if any.
    pub fn everything(member: Option<&str>) -> Rights {
        let all = Patterns("*".into());
        let sub = member.map(Box::from);
        Rights { sub, subscribe: all.clone(), publish: all, unchecked: true, ..Rights::none() }
    }

    /// Whether they may get the events of `topic`: one that they name, or the member's own.
    pub fn may_subscribe(&self, topic: &Topic) -> bool {
        self.subscribe.allow(topic) || (topic.kind() == OWN && self.own_topic().as_ref() == Some(topic))
    }

    /// Whether they may send events to `topic`.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        self.publish.allow(topic)
    }

    /// [`may_subscribe`](Rights::may_subscribe), as an answer.
    ///
    /// # Errors
    /// 403, naming the right and the topic.
    pub fn require_subscribe(&self, topic: &Topic) -> Result<(), TokenError> {
        match self.may_subscribe(topic) {
            true => Ok(()),
            false => Err(TokenError::Forbidden { right: Right::Subscribe, topic: topic.clone() }),
        }
    }

    /// [`may_publish`](Rights::may_publish), as an answer.
    ///
    /// # Errors
    /// 403, naming the right and the topic.
    pub fn require_publish(&self, topic: &Topic) -> Result<(), TokenError> {
        match self.may_publish(topic) {
            true => Ok(()),
            false => Err(TokenError::Forbidden { right: Right::Publish, topic: topic.clone() }),
        }
    }

    /// Refuses a type of the platform's own that the token does not name.
    ///
    /// # Errors
    /// 403, naming the type.
    pub fn require_type(&self, kind: &str) -> Result<(), TokenError> {
        match OWNED.iter().position(|(name, _)| *name == kind) {
            Some(index) if self.types.0 >> index & 1 == 0 => Err(TokenError::Type(OWNED[index].0)),
            _ => Ok(()),
        }
    }

    /// The member that a request acts for, given the one that it names: the token's, also where it names none; with
    /// `--auth none` the one it names.
    ///
    /// # Errors
    /// 403 for a member other than the token's, or for any if the token names none.
    pub fn member<'a>(&'a self, named: Option<&'a str>) -> Result<Option<&'a str>, TokenError> {
        if self.unchecked {
            return Ok(named.or(self.sub.as_deref()));
        }
        match (self.sub.as_deref(), named) {
            (None, Some(_)) => Err(TokenError::NoMember),
            (Some(sub), Some(named)) if sub != named => Err(TokenError::OtherMember),
            (sub, _) => Ok(sub),
        }
    }

    /// Whether these rights may take the place of an open stream's, or change its topics, given its member: it must be
    /// the same. Two that name no member are the same.
    ///
    /// # Errors
    /// 403 for another member.
    pub fn require_same_member(&self, stream: Option<&str>) -> Result<(), TokenError> {
        match self.sub.as_deref() == stream {
            true => Ok(()),
            false => Err(TokenError::OtherSubject),
        }
    }

    /// Whether they have run out at `now_ms` (Unix ms), with the [`LEEWAY`] that a new request would be given, so
    /// that a stream is not closed which could be opened again by the same token.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|expires| expired(expires, now_ms))
    }
}

/// Whether a token with this `exp` in Unix ms is past it, with the [`LEEWAY`].
pub fn expired(expires_at_ms: u64, now_ms: u64) -> bool {
    now_ms >= expires_at_ms.saturating_add(LEEWAY.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(text: &str) -> Topic {
        Topic::parse(text).unwrap()
    }

    fn verified() -> Rights {
        Rights::verified(TokenId::of(""), None, 60_000, Patterns::default(), Patterns::default(), Types::default())
    }

    fn allows(pattern: &str, text: &str) -> bool {
        Patterns::parse([pattern]).unwrap().allow(&topic(text))
    }

    #[test]
    fn patterns_allow_a_topic_or_what_begins_like_it() {
        for (pattern, text, expected) in [
            ("live:42", "live:42", true),
            ("live:42", "live:421", false),
            ("live:42", "live:4", false),
            ("live:*", "live:42", true),
            ("live:*", "live::", true),
            ("live:*", "liveX:1", false),
            ("live:*", "LIVE:42", false),
            ("live:*", "live%3A42:1", false),
            ("live:42", "live:%34%32", true),
            ("live:%34%32", "live:42", true),
            ("live:%C3%A9", "live:%c3%a9", true),
            ("live:%c3*", "live:%C3%a9", true),
            ("l%69ve:*", "live:42", true),
            ("live:%3a*", "live:%3A42", true),
            ("live:%3A*", "live::42", false),
            ("live:4*", "live:4", true),
            ("live:4*", "live:5", false),
            ("live*", "liveX:1", true),
            ("*", "presence:ana", true),
        ] {
            assert_eq!(allows(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!Patterns::default().allow(&topic("live:42")) && Patterns::default().is_empty());
    }

    #[test]
    fn what_could_be_misread_is_no_pattern() {
        let long = format!("live:{}*", "x".repeat(TOPIC_BYTES_MAX));
        for bad in ["", "live", ":42", "live:", "**", "*:42", "live:*2", "li*ve:*", "live:4 2", "live:42 *", "live:é*"]
        {
            assert!(Patterns::parse([bad]).is_err(), "{bad:?}");
        }
        for bad in [
            ":*",
            "live:\u{ff0a}",
            "live:\0*",
            "live:%2*a",
            "live:%2*",
            "live:%*",
            "live:%zz",
            "live/*",
            " *",
            "* ",
            &long,
        ] {
            assert!(Patterns::parse([bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_speaks_for_the_tokens_member_only() {
        let rights = |sub: Option<&str>| Rights { sub: sub.map(Box::from), ..verified() };
        let ana = rights(Some("ana"));
        assert_eq!(ana.member(None), Ok(Some("ana")));
        assert_eq!(ana.member(Some("ana")), Ok(Some("ana")));
        assert_eq!(ana.member(Some("Ana")), Err(TokenError::OtherMember));
        assert_eq!(rights(None).member(Some("ana")), Err(TokenError::NoMember));
        assert_eq!(rights(None).member(None), Ok(None));
        assert_eq!(Rights::everything(None).member(Some("bob")), Ok(Some("bob")));
        assert_eq!(ana.require_same_member(Some("bob")), Err(TokenError::OtherSubject));
        assert_eq!(ana.require_same_member(None), Err(TokenError::OtherSubject));
        assert_eq!(rights(None).require_same_member(Some("ana")), Err(TokenError::OtherSubject));
        assert_eq!(ana.require_same_member(Some("ana")), Ok(()));
        assert_eq!(rights(None).require_same_member(None), Ok(()));
    }

    #[test]
    fn types_of_others_are_allowed_by_name_only() {
        let rights = |names: &[&str]| Rights { types: Types::parse(names.iter().copied()).unwrap(), ..verified() };
        for (kind, owner) in OWNED {
            let named = rights(&["note", "like", "tap", "comment", "message", "deleted", "typing"]);
            assert_eq!(named.require_type(kind).is_ok(), owner == Owner::Named, "{kind}");
            assert_eq!(rights(&["note"]).require_type(kind), Err(TokenError::Type(kind)));
            assert_eq!(Types::parse([kind]).is_ok(), owner == Owner::Named, "{kind}");
        }
        assert_eq!(rights(&["like"]).require_type("comment"), Err(TokenError::Type("comment")));
        assert_eq!(rights(&[]).require_type("note"), Ok(()));
        for bad in ["*", "", "comm*", "a b", "é"] {
            assert!(Types::parse([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn rights_are_small() {
        // A shard keeps them of each token that it knows.
        assert!(size_of::<Rights>() <= 136);
    }

    #[test]
    fn rights_run_out_after_the_leeway() {
        let rights = verified();
        assert!(!rights.is_expired(64_999) && rights.is_expired(65_000));
        assert!(!Rights::everything(None).is_expired(u64::MAX));
    }

    /// The model: sets of bytes, spelt out.
    fn model(patterns: &[String], topic: &[u8]) -> bool {
        patterns.iter().any(|pattern| {
            let pattern = pattern.as_bytes();
            match pattern.split_last() {
                Some((b'*', prefix)) => topic.len() >= prefix.len() && &topic[..prefix.len()] == prefix,
                _ => pattern == topic,
            }
        })
    }

    /// Other spellings of a topic that a decoder, a folder or a normaliser would take for the same.
    fn spellings(text: &str) -> Vec<String> {
        let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut all =
            vec![text.to_uppercase(), text.to_lowercase(), text.replace(':', "%3A"), text.replace(':', "%3a")];
        all.extend([percent.clone(), format!("live:{percent}"), text.replace('%', "%25"), format!("{text}%00")]);
        all.extend([format!("{text}%2A"), text.replace("live", "li%76e"), text.replacen(':', "::", 1)]);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn matching_is_the_models(
            patterns in proptest::collection::vec("(live|Live|chat|l):[a-c%2A.:]{1,4}\\*?|(live:|live|li|)\\*", 0..5),
            text in "(live|Live|chat|l|liveX):[a-c%2A.:]{1,5}",
        ) {
            let patterns: Vec<String> = patterns.into_iter().filter(|text| Patterns::parse([text.as_str()]).is_ok()).collect();
            let rights = Patterns::parse(patterns.iter().map(String::as_str)).unwrap();
            let patterns: Vec<String> = rights.iter().map(str::to_owned).collect();
            for text in spellings(&text).into_iter().chain([text]) {
                if let Ok(topic) = Topic::parse(&text) {
                    prop_assert_eq!(rights.allow(&topic), model(&patterns, topic.as_str().as_bytes()), "{:?} {}", rights, text);
                }
            }
        }

        #[test]
        fn an_exact_right_allows_one_topic(text in "[a-zA-Z]{1,4}:[a-zA-Z0-9._~-]{1,4}(%[0-9a-fA-F]{2}){0,2}") {
            let rights = Patterns::parse([text.as_str()]).unwrap();
            let own = topic(&text);
            prop_assert!(rights.allow(&own));
            for other in spellings(&text) {
                if let Ok(topic) = Topic::parse(&other) {
                    prop_assert_eq!(rights.allow(&topic), topic == own);
                }
            }
        }

        #[test]
        fn any_text_is_a_pattern_that_shows_itself_or_none(text in "\\PC{0,12}|[a-c:*% ]{0,6}") {
            if let Ok(patterns) = Patterns::parse([text.as_str()]) {
                prop_assert_eq!(patterns.iter().collect::<Vec<_>>(), vec![topic::normal_escapes(text.as_str().into()).unwrap()]);
                prop_assert!(!text[..text.len() - 1].contains('*'));
            }
        }
    }
}
