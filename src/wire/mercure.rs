//! Mercure's protocol, version 0.x: its topics as ones of Fanfare's, and its updates as events.
//!
//! A topic there is any text, an IRI mostly. Here it is one of the kind [`KIND`], and an update is an event of the type
//! [`TYPE`] to each of the topics that it has, whose data say all that the update says. A [frame](crate::wire::frame) of such an
//! event has the form that Mercure's subscribers read.

pub mod form;
pub mod selectors;
pub mod subscriber;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::limits::{EVENT_BYTES_MAX, PREFIX_LEVELS_MAX, UPDATE_HEAD_BYTES_MAX, UPDATE_TOPICS_MAX};
use crate::wire::http::percent_decode;
use crate::wire::mercure::selectors::{ALL, literal_begin};
use crate::wire::prefix::ends;
use crate::wire::topic::{Topic, push_escaped};

/// Where it is served.
pub const PATH: &str = "/.well-known/mercure";

/// The kind of topics that belong to this protocol.
pub const KIND: &str = "mercure";

/// The type of their events.
pub const TYPE: &str = "mercure";

/// The cookie that may carry a token.
pub const COOKIE: &str = "mercureAuthorization";

/// The id of who has nothing yet and asks for all that there is; and what an answer says where events may be missing.
pub const EARLIEST: &str = "earliest";

/// Whether a topic is of this protocol's kind.
pub fn is_of_kind(topic: &str) -> bool {
    topic.strip_prefix(KIND).is_some_and(|rest| rest.starts_with(':'))
}

/// The topic for one of Mercure's: the text with its escapes, or where that would be too long what it begins with and its hash.
/// A colon tells a hash from a text, in which it has an escape. Nothing is normalised, since Mercure compares topics byte for
/// byte.
pub fn topic(text: &str) -> Topic {
    let escaped = escaped(text);
    if let Ok(topic) = Topic::parse(&escaped) {
        return topic;
    }
    let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    Topic::parse(&format!("{}:{hash}", head(&escaped))).expect("a head and a hash fit into a topic")
}

fn escaped(text: &str) -> String {
    let mut escaped = format!("{KIND}:");
    text.bytes().for_each(|byte| push_escaped(&mut escaped, byte));
    escaped
}

/// The longest beginning of a text with escapes by which subscribers find it.
fn head(escaped: &str) -> &str {
    let fitting = ends(escaped).take(PREFIX_LEVELS_MAX).take_while(|end| *end <= UPDATE_HEAD_BYTES_MAX);
    &escaped[..fitting.last().expect("a kind ends with a boundary")]
}

/// Whether a topic of this kind has a hash in place of its whole text.
pub fn is_hashed(topic: &str) -> bool {
    topic.strip_prefix(KIND).is_some_and(|rest| rest.len() > 1 && rest[1..].contains(':'))
}

/// The text of a topic of this kind, unless it is [hashed](is_hashed).
pub fn text(topic: &str) -> Option<Cow<'_, str>> {
    let escaped = topic.strip_prefix(KIND)?.strip_prefix(':').filter(|_| !is_hashed(topic))?;
    percent_decode(escaped, false).ok()
}

/// The prefix of all topics that `*` or a template selects: of a template what precedes its first expression, up to the last slash
/// of a path by which subscribers find topics. None if it has no such slash, or selects only itself.
pub fn prefix(selector: &str) -> Option<Topic> {
    let escaped = escaped(literal_begin(selector)?);
    let head = head(&escaped);
    (selector == ALL || head.len() > KIND.len() + 1)
        .then(|| Topic::subscribed(&format!("{head}*")).expect("a head ends with a boundary"))
}

/// An update, as an event's data say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update<'a> {
    /// Its topics as they were published, the first of which is the canonical one; each once, and each by itself a topic of
    /// an event.
    #[serde(borrow)]
    pub topics: Vec<Cow<'a, str>>,
    /// Any text.
    #[serde(borrow, default)]
    pub data: Cow<'a, str>,
    /// Only who proves a right to one of the topics gets it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The name that a stream gives the event.
    #[serde(borrow, rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
    /// The reconnection time that a stream tells its client, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u64>,
}

/// Whether a text can be a topic of an update, the name or the id of one: on a stream none of them may make a line of its own.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(|char| char.is_control())
}

impl<'a> Update<'a> {
    /// Reads an event's data; `None` if they are no update, or one that no stream could say.
    pub fn read(data: &'a [u8]) -> Option<Update<'a>> {
        let update: Update<'a> = serde_json::from_slice(data).ok()?;
        let fits = (1..=UPDATE_TOPICS_MAX).contains(&update.topics.len())
            && update.topics.iter().chain(&update.name).all(|text| !text.is_empty() && is_one_line(text))
            && update.lines_bytes() <= EVENT_BYTES_MAX;
        fits.then_some(update)
    }

    /// Bytes that its text takes on a stream.
    pub fn lines_bytes(&self) -> usize {
        lines(&self.data).map(|line| b"data: \n".len() + line.len()).sum()
    }

    /// Appends what a stream says of it: its id, and then what it has, each on lines of its own, and an empty line.
    pub fn write(&self, id: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        out.extend_from_slice(b"id: ");
        id(out);
        out.push(b'\n');
        if let Some(name) = &self.name {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
        }
        if let Some(retry) = self.retry {
            out.extend_from_slice(b"retry: ");
            out.extend_from_slice(itoa::Buffer::new().format(retry).as_bytes());
            out.push(b'\n');
        }
        for line in lines(&self.data) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

/// The lines of a text, which end as a stream's lines may: with CR LF, LF or CR. A text without any is one line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\n', b'\r', text.as_bytes()) else { return rest.take() };
        let more = &text[end..];
        rest = Some(more.strip_prefix("\r\n").unwrap_or(&more[1..]));
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_topic_is_its_text_or_its_hash() {
        assert_eq!(topic("https://example.com/books/1").as_str(), "mercure:https%3A%2F%2Fexample.com%2Fbooks%2F1");
        assert_eq!(topic("foo").as_str(), "mercure:foo");
        let long = topic(&"a".repeat(200));
        assert!(long.as_str().starts_with("mercure::") && long.as_str().len() == 9 + 64, "{long}");
        let long = topic(&format!("https://a.example/{}", "b/".repeat(100)));
        assert!(long.as_str().starts_with("mercure:https%3A%2F%2Fa.example%2Fb%2Fb%2Fb%2Fb%2Fb%2Fb%2F:"), "{long}");
        assert!(is_of_kind("mercure:foo") && !is_of_kind("mercurex:foo") && !is_of_kind("mercure"));
    }

    #[test]
    fn a_prefix_ends_with_a_slash_of_a_path() {
        let site = "mercure:https%3A%2F%2Fa.example%2F";
        let deep = format!("https://a.example/{}", "b/".repeat(20));
        let wide = format!("https://a.example/{}/c/", "b".repeat(UPDATE_HEAD_BYTES_MAX));
        for (literal, expected) in [
            ("https://a.example/books/", Some(format!("{site}books%2F*"))),
            ("https://a.example/books", Some(format!("{site}*"))),
            ("/books", Some("mercure:%2F*".to_owned())),
            ("books/1", Some("mercure:books%2F*".to_owned())),
            // What has more levels or bytes is found by fewer.
            (&deep, Some(format!("{site}{}*", "b%2F".repeat(PREFIX_LEVELS_MAX - 2)))),
            (&wide, Some(format!("{site}*"))),
            ("", None),
            ("https://a.example", None),
            ("https://", None),
            ("https:/", None),
            ("books", None),
            ("urn:books:", None),
        ] {
            let found = prefix(&format!("{literal}{{+id}}"));
            assert_eq!(found.map(|prefix| prefix.as_str().to_owned()), expected, "{literal}");
        }
        assert_eq!((prefix("*").expect("it has one").as_str(), prefix("/books/1")), ("mercure:*", None));
    }

    #[test]
    fn an_update_is_lines() {
        let text = |data: &str, name: Option<&str>, retry| {
            let mut out = Vec::new();
            let update = Update {
                topics: vec!["a".into()],
                data: data.into(),
                private: false,
                name: name.map(Into::into),
                retry,
            };
            update.write(|out| out.extend_from_slice(b"x#dc:1-1"), &mut out);
            assert_eq!(Update::read(&serde_json::to_vec(&update).unwrap()), Some(update));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text("hi", None, None), "id: x#dc:1-1\ndata: hi\n\n");
        assert_eq!(text("", Some("t"), Some(5)), "id: x#dc:1-1\nevent: t\nretry: 5\ndata: \n\n");
        assert_eq!(text("a\nb\r\nc\rd\n", None, None), "id: x#dc:1-1\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    }

    #[test]
    fn what_would_make_lines_of_its_own_is_no_update() {
        for data in [
            r#"{"topics":[]}"#,
            r#"{"topics":[""]}"#,
            r#"{"topics":["a\nb"]}"#,
            r#"{"topics":["a"],"type":"x\ndata: y"}"#,
            r#"{"topics":["a"],"type":""}"#,
            r#"{"topics":["a"],"retry":-1}"#,
            r#"{"data":"x"}"#,
            "7",
            "{",
        ] {
            assert_eq!(Update::read(data.as_bytes()), None, "{data}");
        }
        let breaks = serde_json::json!({"topics": ["a"], "data": "\n".repeat(EVENT_BYTES_MAX / 7)});
        assert_eq!(Update::read(breaks.to_string().as_bytes()), None);
    }

    proptest! {
        #[test]
        fn two_texts_are_two_topics(a in "\\PC{1,90}", b in "\\PC{1,90}") {
            prop_assert_eq!(topic(&a) == topic(&b), a == b);
            prop_assert!(is_of_kind(topic(&a).as_str()));
        }

        /// Whatever begins so is found by it, however long it is, and has its text unless it is hashed.
        #[test]
        fn a_prefix_covers_what_begins_so(
            begin in "(https?://[a-c.:]{1,8}|[a-c%:\u{e9}]{0,3})(/[a-c\u{e9}% ]{0,5}){0,9}", more in "[a-c/:\u{e9}]{1,90}",
        ) {
            let whole = format!("{begin}{more}");
            let topic = topic(&whole);
            if let Some(prefix) = prefix(&format!("{begin}{{x}}")) {
                prop_assert!(prefix.covers(topic.as_str()), "{} {}", prefix, topic);
                prop_assert!(crate::wire::prefix::begins(topic.as_str()).any(|begin| Some(begin) == prefix.begin()));
            }
            let read = text(topic.as_str());
            prop_assert_eq!(read.as_deref(), (!is_hashed(topic.as_str())).then_some(&*whole));
        }

        /// What an `EventSource` makes of the lines is the text, its line ends written as line feeds.
        #[test]
        fn a_text_comes_as_it_was(data in "[a-c\\r\\n:  \u{e9}]{0,40}") {
            let update = Update { topics: vec!["a".into()], data: data.as_str().into(), private: false, name: None, retry: None };
            let mut out = Vec::new();
            update.write(|out| out.push(b'i'), &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.len(), "id: i\n\n".len() + update.lines_bytes());
            let body = text.strip_prefix("id: i\n").unwrap().strip_suffix("\n\n").unwrap();
            let read: Vec<&str> = body.split('\n').map(|line| line.strip_prefix("data: ").unwrap()).collect();
            prop_assert_eq!(read.join("\n"), data.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
