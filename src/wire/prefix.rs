//! Prefixes of topics: `chat:crew.*` stands for every topic that begins with `chat:crew.`. A prefix ends at a boundary (`:` or
//! `.`; in topics of [Mercure's protocol](mercure) the slashes of a path), so that there are few that one topic may have.

use std::borrow::Cow;
use std::sync::Arc;

use crate::limits::{PREFIX_BYTES_MAX, PREFIX_LEVELS_MAX, TOPIC_BYTES_MAX};
use crate::wire::event::CONTROL_KIND;
use crate::wire::topic::{Topic, TopicError, is_topic_byte, normal_escapes};
use crate::wire::{canary, mercure};

/// What precedes a prefix in the topic by which a node says that it wants the prefix: one that nobody publishes to, of a form
/// that every node and store can read.
pub const WANTED: &str = "control:prefix:";

const _: () = assert!(WANTED.len() + PREFIX_BYTES_MAX == TOPIC_BYTES_MAX);

/// What a node wants that wants any prefix.
pub const ANY: &str = "control:prefixes";

/// Where prefixes of a topic end, and those of whatever begins with the same bytes: behind each `:` and `.`. Of Mercure's, which
/// are texts with escapes, behind the kind and each slash but the two of `https://` and empty segments.
pub(super) fn ends(topic: &str) -> impl Iterator<Item = usize> {
    let is_of_mercure = mercure::is_of_kind(topic);
    let is_end = move |at: usize| match is_of_mercure {
        false => matches!(topic.as_bytes()[at], b':' | b'.'),
        true if at < mercure::KIND.len() + SLASH.len() => at == mercure::KIND.len(),
        true => (topic.as_bytes()[..=at].strip_suffix(SLASH))
            .is_some_and(|before| !before.ends_with(SLASH) && !before.ends_with(COLON)),
    };
    (0..topic.len()).filter(move |at| is_end(*at)).map(|at| at + 1)
}

/// A slash and a colon, as topics of Mercure's protocol have them.
const SLASH: &[u8] = b"%2F";
const COLON: &[u8] = b"%3A";

impl Topic {
    /// Checks `text`, which is a topic or a prefix of topics, and normalises it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn subscribed(text: &str) -> Result<Topic, TopicError> {
        let Some(begin) = text.strip_suffix('*') else { return Topic::parse(text) };
        let begin = normal_escapes(Cow::Borrowed(begin))?;
        if let Some(at) = begin.bytes().position(|byte| !is_topic_byte(byte)) {
            return Err(TopicError::Byte { byte: begin.as_bytes()[at], at });
        }
        if ends(&begin).last() != Some(begin.len()) {
            return Err(TopicError::Prefix);
        }
        if begin.find(':').is_none_or(|colon| colon == 0) {
            return Err(TopicError::Shape);
        }
        if begin.len() > PREFIX_BYTES_MAX {
            return Err(TopicError::LongPrefix(begin.len()));
        }
        if ends(&begin).count() > PREFIX_LEVELS_MAX {
            return Err(TopicError::Deep);
        }
        Ok(Topic(Arc::from(format!("{begin}*"))))
    }

    /// The topic of a frame, which was checked when it was made: a frame that tells of a gap may have a prefix.
    pub fn of_frame(text: &str) -> Topic {
        Topic::subscribed(text).expect("a frame's topic is one")
    }

    /// Whether it is a prefix of topics.
    pub fn is_prefix(&self) -> bool {
        self.as_str().ends_with('*')
    }

    /// What its topics begin with, if it is a prefix.
    pub fn begin(&self) -> Option<&str> {
        self.as_str().strip_suffix('*')
    }

    /// Whether it is a prefix, and `topic` is one of its topics.
    pub fn covers(&self, topic: &str) -> bool {
        self.begin().is_some_and(|begin| topic.starts_with(begin)) && has_prefixes(topic)
    }

    /// What the key-value store is told that a node wants by it.
    pub fn wanted(&self) -> Topic {
        self.begin().map_or_else(|| self.clone(), wanted)
    }
}

/// By what a node wants the topics that begin so.
pub fn wanted(begin: &str) -> Topic {
    Topic(Arc::from(format!("{WANTED}{begin}")))
}

/// What of a topic is told to a client, or by which a home knows it: the prefix, if it is what a node wants by one.
pub fn of_wanted(topic: &Topic) -> Option<Topic> {
    topic.as_str().strip_prefix(WANTED).map(|begin| Topic(Arc::from(format!("{begin}*"))))
}

/// Whether prefixes may cover a topic: those of nodes are watched by themselves.
pub fn has_prefixes(topic: &str) -> bool {
    !matches!(topic.split(':').next(), Some(CONTROL_KIND | canary::KIND) | None) && !topic.ends_with('*')
}

/// What the prefixes begin with that cover this topic, the shortest first.
pub fn begins(topic: &str) -> impl Iterator<Item = &str> {
    let most = if has_prefixes(topic) { PREFIX_LEVELS_MAX } else { 0 };
    ends(topic).take(most).map(move |end| &topic[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_ends_at_a_boundary() {
        for (text, normal) in [("chat:*", "chat:*"), ("chat:crew.*", "chat:crew.*"), ("a:b:%2e*", "a:b:.*")] {
            let prefix = Topic::subscribed(text).unwrap();
            assert_eq!((prefix.as_str(), prefix.is_prefix()), (normal, true));
            assert_eq!(of_wanted(&prefix.wanted()), Some(prefix));
        }
        for text in ["*", "chat*", "chat:crew*", "chat:%3a%*", "chat:crew-*", ".*"] {
            assert!(Topic::subscribed(text).is_err(), "{text}");
            assert!(Topic::parse(text).is_err(), "{text}");
        }
        assert_eq!(Topic::subscribed(":*"), Err(TopicError::Shape));
        assert_eq!(Topic::subscribed("chat.*"), Err(TopicError::Shape));
        assert_eq!(Topic::subscribed("chat:*x*"), Err(TopicError::Byte { byte: b'*', at: 5 }));
        assert_eq!(Topic::subscribed(&format!("a:{}*", ".".repeat(PREFIX_LEVELS_MAX))), Err(TopicError::Deep));
        let long = format!("a:{}.*", "x".repeat(PREFIX_BYTES_MAX - 3));
        assert!(Topic::parse(Topic::subscribed(&long).unwrap().wanted().as_str()).is_ok());
        assert_eq!(Topic::subscribed(&format!("a:x{}", &long[2..])), Err(TopicError::LongPrefix(PREFIX_BYTES_MAX + 1)));
        assert!(Topic::parse(ANY).is_ok());
    }

    #[test]
    fn what_nodes_tell_each_other_has_no_prefix() {
        for topic in ["control:members", "canary:1", "chat:*"] {
            assert_eq!(begins(topic).count(), 0, "{topic}");
        }
        assert_eq!(begins("chat:crew.7.a").collect::<Vec<_>>(), ["chat:", "chat:crew.", "chat:crew.7."]);
        let book = "mercure:https%3A%2F%2Fa.b%2Fbooks%2F%2F1%2F%3A%2F";
        assert_eq!(begins(book).map(str::len).collect::<Vec<_>>(), [8, 28, 36, 43]);
        assert_eq!(begins("mercure:%2Fbooks%252F1.x").collect::<Vec<_>>(), ["mercure:", "mercure:%2F"]);
    }

    /// Texts that are like topics and prefixes of chats, or of Mercure's protocol.
    fn texts() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            ("[a-c]:[a-c.:%-]{1,12}", "[a-c]:[a-c.:]{0,6}\\*"),
            ("mercure:(a|b|%2F|%3A|%252F){1,14}", "mercure:(a|b|%2F|%3A|%25){0,8}\\*"),
        ]
    }

    proptest! {
        #[test]
        fn the_prefixes_of_a_topic_are_those_that_cover_it((topic, prefix) in texts()) {
            let (Ok(topic), Ok(prefix)) = (Topic::parse(&topic), Topic::subscribed(&prefix)) else { return Ok(()) };
            let found = begins(topic.as_str()).any(|begin| Some(begin) == prefix.begin());
            prop_assert_eq!(found, prefix.covers(topic.as_str()));
            prop_assert_eq!(found, topic.as_str().starts_with(prefix.begin().unwrap()));
        }
    }
}
