//! Topics: `kind:id`, the unit of subscribing, publishing and rights.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{PREFIX_BYTES_MAX, PREFIX_LEVELS_MAX, TOPIC_BYTES_MAX, TOPIC_BYTES_MIN};

/// A valid topic: 3 to 200 bytes of `A-Z a-z 0-9 . _ ~ : % -`, a kind before the first colon and an id after it. Its escapes
/// are normal ones (RFC 3986 section 6.2.2), so that two spellings of one topic are one topic.
///
/// Or a prefix of topics, where such may stand: see [`Topic::subscribed`].
///
/// Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Topic(pub(super) Arc<str>);

/// Why a text is no topic. The message is fit for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Too short or too long, in bytes.
    #[error("a topic has {TOPIC_BYTES_MIN} to {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// A byte outside the alphabet, and where.
    #[error("a topic is made of A-Z a-z 0-9 . _ ~ : % -, this one has {byte:#04x} at byte {at}")]
    Byte {
        /// The offending byte.
        byte: u8,
        /// Its offset.
        at: usize,
    },
    /// A `%` without two hex digits behind it, and where.
    #[error(
        "a topic's % is followed by two hex digits, such as %C3, and the one at byte {0} is not; write %25 for the sign itself"
    )]
    Escape(usize),
    /// No colon, or nothing before or after the first one.
    #[error("a topic is kind:id, such as live:42; this one lacks its kind or its id")]
    Shape,
    /// A `*` that follows no boundary.
    #[error("a prefix of topics ends with a : or a . and then *, such as chat:* or chat:crew.*; this one does not")]
    Prefix,
    /// A prefix with too many boundaries.
    #[error("a prefix of topics has up to {PREFIX_LEVELS_MAX} of : and . before its *; this one has more")]
    Deep,
    /// A prefix that is too long, in bytes.
    #[error("a prefix of topics has up to {PREFIX_BYTES_MAX} bytes before its *, this one has {0}")]
    LongPrefix(usize),
}

/// Whether `byte` may stand in a topic.
pub(super) const fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b':' | b'%' | b'-')
}

impl Topic {
    /// Checks `text`, normalises it and makes it a topic.
    pub fn parse(text: &str) -> Result<Topic, TopicError> {
        normalise(text.into()).map(|text| Topic(Arc::from(text)))
    }

    /// `kind:` followed by `id`, percent-encoded where needed (RFC 3986 section 2.1): bytes outside the unreserved
    /// set become `%XX`.
    pub fn encode(kind: &str, id: &str) -> Result<Topic, TopicError> {
        let mut text = String::with_capacity(kind.len() + 1 + id.len());
        text.push_str(kind);
        text.push(':');
        id.bytes().for_each(|byte| push_escaped(&mut text, byte));
        Topic::parse(&text)
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What precedes the first colon.
    pub fn kind(&self) -> &str {
        self.0.split(':').next().expect("split yields at least one part")
    }
}

/// A character that means the same with and without an escape (RFC 3986 section 2.3).
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

pub(super) fn push_escaped(out: &mut String, byte: u8) {
    if is_unreserved(byte) {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// What the escape at the start of `bytes` stands for, if it is one.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(1)? << 4 | digit(2)?) as u8)
}

/// A topic, or the beginning of one, with normal escapes (RFC 3986 section 6.2.2): upper-case digits, and none for an
/// unreserved character. A text whose escapes are normal stays as it is.
///
/// # Errors
/// [`TopicError::Escape`].
pub fn normal_escapes(text: Cow<'_, str>) -> Result<Cow<'_, str>, TopicError> {
    rewritten(text, |at, _| Err(TopicError::Escape(at)))
}

/// The same for a topic that a node of an older version sent, which knew no bad escapes: there a `%` without two digits
/// stands for itself.
pub fn mended(text: &str) -> Cow<'_, str> {
    let stands_for_itself = |_, out: &mut String| {
        push_escaped(out, b'%');
        Ok(())
    };
    rewritten(text.into(), stands_for_itself).expect("nothing in it is an error")
}

fn rewritten(
    text: Cow<'_, str>,
    bad: impl Fn(usize, &mut String) -> Result<(), TopicError>,
) -> Result<Cow<'_, str>, TopicError> {
    let bytes = text.as_bytes();
    let is_normal = |at: usize| {
        let upper = bytes[at + 1..].iter().take(2).all(|byte| !byte.is_ascii_lowercase());
        upper && escaped(&bytes[at..]).is_some_and(|byte| !is_unreserved(byte))
    };
    if memchr::memchr_iter(b'%', bytes).all(is_normal) {
        return Ok(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), &text[..]);
    while let Some(sign) = rest.find('%') {
        out.push_str(&rest[..sign]);
        rest = match escaped(&rest.as_bytes()[sign..]) {
            Some(byte) => {
                push_escaped(&mut out, byte);
                &rest[sign + 3..]
            }
            None => {
                bad(text.len() - rest.len() + sign, &mut out)?;
                &rest[sign + 1..]
            }
        };
    }
    out.push_str(rest);
    Ok(out.into())
}

/// A topic as it is written everywhere behind this: checked, and its escapes normal. Topics of requests, claims and
/// messages come in by here, or by [`Topic::parse`].
///
/// # Errors
/// Says what is wrong.
pub fn normalise(text: Cow<'_, str>) -> Result<Cow<'_, str>, TopicError> {
    let text = normal_escapes(text)?;
    check(&text)?;
    Ok(text)
}

/// Checks all of a topic but its escapes.
pub fn check(text: &str) -> Result<&str, TopicError> {
    let bytes = text.as_bytes();
    if bytes.len() < TOPIC_BYTES_MIN || bytes.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::Length(bytes.len()));
    }
    if let Some(at) = bytes.iter().position(|&byte| !is_topic_byte(byte)) {
        return Err(TopicError::Byte { byte: bytes[at], at });
    }
    match bytes.iter().position(|&byte| byte == b':') {
        Some(colon) if colon > 0 && colon + 1 < bytes.len() => Ok(text),
        _ => Err(TopicError::Shape),
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> String {
        topic.as_str().to_owned()
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    /// Nodes tell each other of prefixes, too.
    fn try_from(text: String) -> Result<Topic, TopicError> {
        Topic::subscribed(&text)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_and_shape() {
        assert_eq!(Topic::parse("live:42").unwrap().kind(), "live");
        assert_eq!(Topic::parse("a:b:c").unwrap().kind(), "a");
        assert!(Topic::parse(&format!("a:{}", "x".repeat(198))).is_ok());
        assert_eq!(Topic::parse(&format!("a:{}", "x".repeat(199))), Err(TopicError::Length(201)));
        assert_eq!(Topic::parse("a:"), Err(TopicError::Length(2)));
        for text in ["abc", ":ab", "ab:"] {
            assert_eq!(Topic::parse(text), Err(TopicError::Shape), "{text}");
        }
        assert_eq!(Topic::parse("a:b c"), Err(TopicError::Byte { byte: b' ', at: 3 }));
        assert!(matches!(Topic::parse("a:é"), Err(TopicError::Byte { .. })));
        assert!(matches!(Topic::parse("a:b*"), Err(TopicError::Byte { .. })));
    }

    #[test]
    fn two_spellings_are_one_topic() {
        for (text, normal) in [
            ("live:caf%c3%a9", "live:caf%C3%A9"),
            ("live:%34%32", "live:42"),
            ("%6cive:42", "live:42"),
            ("live:%7e%2D%2e%5f", "live:~-._"),
            ("live:a%3ab%25%2f", "live:a%3Ab%25%2F"),
            ("live:%2534", "live:%2534"),
            ("live:caf%C3%A9", "live:caf%C3%A9"),
        ] {
            assert_eq!(Topic::parse(text).unwrap().as_str(), normal, "{text}");
            assert_eq!(mended(text), normal, "{text}");
        }
        assert_eq!(Topic::parse(&format!("a:{}", "%61".repeat(198))).unwrap().as_str().len(), 200);
        for (text, at) in [("live:50%", 7), ("live:%4", 5), ("live:%zz", 5), ("live:%41%1x", 8), ("live:%%41", 5)] {
            assert_eq!(Topic::parse(text), Err(TopicError::Escape(at)), "{text}");
            assert!(Topic::parse(&mended(text)).is_ok(), "{text}");
        }
        assert!(matches!(normalise("live:42".into()).unwrap(), Cow::Borrowed(_)));
        assert_eq!(Topic::parse("live%3a42"), Err(TopicError::Shape));
    }

    proptest! {
        #[test]
        fn a_normal_topic_stays_as_it_is(text in "[a-z%]{1,4}:[a-zA-Z0-9%._~:-]{1,12}") {
            if let Ok(topic) = Topic::parse(&text) {
                prop_assert_eq!(&Topic::parse(topic.as_str()).unwrap(), &topic);
                prop_assert_eq!(mended(topic.as_str()), topic.as_str());
            }
            let once = mended(&text).into_owned();
            prop_assert_eq!(mended(&once), once.as_str());
        }

        #[test]
        fn any_name_encodes_to_a_topic_of_its_own(a in "\\PC{1,20}", b in "\\PC{1,20}") {
            let one = Topic::encode("live", &a).unwrap();
            let other = Topic::encode("live", &b).unwrap();
            prop_assert_eq!(one == other, a == b);
        }
    }
}
