//! Topics: `kind:id`, the unit of subscribing, publishing and rights.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_BYTES_MIN};

/// A valid topic: 3 to 200 bytes of `A-Z a-z 0-9 . _ ~ : % -`, a kind before the first colon and an id after it.
///
/// Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Topic(Arc<str>);

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
    /// No colon, or nothing before or after the first one.
    #[error("a topic is kind:id, such as live:42; this one lacks its kind or its id")]
    Shape,
}

/// Whether `byte` may stand in a topic.
const fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b':' | b'%' | b'-')
}

impl Topic {
    /// Checks `text` and makes it a topic.
    pub fn parse(text: &str) -> Result<Topic, TopicError> {
        check(text).map(|text| Topic(Arc::from(text)))
    }

    /// `kind:` followed by `id`, percent-encoded where needed (RFC 3986 section 2.1): bytes outside the unreserved
    /// set become `%XX`.
    pub fn encode(kind: &str, id: &str) -> Result<Topic, TopicError> {
        let mut text = String::with_capacity(kind.len() + 1 + id.len());
        text.push_str(kind);
        text.push(':');
        for &byte in id.as_bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
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

/// Checks that `text` is a topic, without keeping it.
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

    fn try_from(text: String) -> Result<Topic, TopicError> {
        Topic::parse(&text)
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

    proptest! {
        #[test]
        fn any_name_encodes_to_a_topic_of_its_own(a in "\\PC{1,20}", b in "\\PC{1,20}") {
            let one = Topic::encode("live", &a).unwrap();
            let other = Topic::encode("live", &b).unwrap();
            prop_assert_eq!(one == other, a == b);
        }
    }
}
