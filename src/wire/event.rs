//! Events as publishers write them: `{"type":"like","data":{…},"key":"…","id":"…"}`.

use crate::limits::{
    EVENT_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, TOPICS_PER_CONNECTION_MAX, TYPE_BYTES_MAX, VERSION_MAX,
};
use crate::wire::connection_id::NodeId;
use crate::wire::hops::{Begun, Hops};
use crate::wire::json::JsonError;
use crate::wire::topic::TopicError;
use crate::wire::{canary, json, topic};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The type of what viewers are told of their number.
pub const VIEWERS: &str = "viewers";

/// The type of what pages are told of them.
pub const RULES: &str = "rules";

/// The type of what viewers are told of them; between nodes its key is the data center that counted.
pub const LIKES: &str = "likes";

/// What an event type promises a client; see the table in docs/delivery.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Counts add up: events of one topic and type merge, for all viewers within a window and for one that lags; `count` says how
    /// many there were, `counts` how many of each key.
    Sum,
    /// Only the newest value of a topic, type and key matters.
    Latest,
    /// Worth something for a short while only; dropped after its time to live in a queue.
    Ephemeral,
    /// None may be lost: in history, in history's order.
    Every,
}

/// Events of each class, in the order of [`Class::ALL`], modulo 2^32.
pub type ByClass = [u32; Class::ALL.len()];

impl Class {
    /// Every class, in the order of the design's table.
    pub const ALL: [Class; 4] = [Class::Sum, Class::Latest, Class::Ephemeral, Class::Every];

    /// The name used in settings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Sum => "sum",
            Class::Latest => "latest",
            Class::Ephemeral => "ephemeral",
            Class::Every => "every",
        }
    }

    /// Events of one topic and type merge, of `latest` and key: the newer takes in the older, or its place. So many can wait in
    /// little room.
    pub const fn merges(self) -> bool {
        match self {
            Class::Sum | Class::Latest => true,
            Class::Ephemeral | Class::Every => false,
        }
    }

    /// One event may stand for many, and says how many. Nothing gives back what is lost of it.
    pub const fn adds_up(self) -> bool {
        match self {
            Class::Sum => true,
            Class::Latest | Class::Ephemeral | Class::Every => false,
        }
    }

    /// The store says by a version which of two is newer, and has the newest for who comes later or lost it.
    pub const fn has_versions(self) -> bool {
        match self {
            Class::Latest => true,
            Class::Sum | Class::Ephemeral | Class::Every => false,
        }
    }

    /// The store keeps them, within the bounds of their type, each with its place and the one before it, for who comes later or
    /// lost one.
    pub const fn has_history(self) -> bool {
        match self {
            Class::Every => true,
            Class::Sum | Class::Latest | Class::Ephemeral => false,
        }
    }

    /// What waits for longer than its type's time to live is worth nothing any more.
    pub const fn expires(self) -> bool {
        match self {
            Class::Ephemeral => true,
            Class::Sum | Class::Latest | Class::Every => false,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A word that names no [`Class`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a delivery class; give sum, latest, ephemeral or every")]
pub struct UnknownClass;

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Class, UnknownClass> {
        Class::ALL.into_iter().find(|class| class.name() == text).ok_or(UnknownClass)
    }
}

/// Who may publish events of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nodes alone: it says what they counted or know, and somebody else's would be made up.
    Nodes,
    /// Nodes, and tokens that name the type: it speaks for a member, or of what a database holds.
    Named,
    /// Whoever may publish to the topic.
    Anyone,
}

/// The platform's own types, and who may publish them.
pub const OWNED: [(&str, Owner); 14] = [
    ("like", Owner::Named),
    ("tap", Owner::Named),
    ("comment", Owner::Named),
    ("message", Owner::Named),
    ("deleted", Owner::Named),
    ("typing", Owner::Named),
    ("likes", Owner::Nodes),
    ("viewers", Owner::Nodes),
    ("presence", Owner::Nodes),
    ("receipt", Owner::Nodes),
    ("rules", Owner::Nodes),
    ("mercure", Owner::Nodes),
    (CONTROL_REVOKE, Owner::Nodes),
    (CONTROL_STREAMS, Owner::Nodes),
];

/// The topic by which nodes tell each other what to end and what to refuse.
pub const CONTROL_TOPIC: &str = "control:members";

/// The kind of topics to which nodes alone publish.
pub const CONTROL_KIND: &str = "control";

/// Tokens are revoked.
pub const CONTROL_REVOKE: &str = "control.revoke";

/// Open streams are to end, or to have other topics.
pub const CONTROL_STREAMS: &str = "control.streams";

/// Who may publish events of this type.
pub fn owner(kind: &str) -> Owner {
    if canary::class(kind).is_some() {
        return Owner::Nodes;
    }
    OWNED.iter().find(|(name, _)| *name == kind).map_or(Owner::Anyone, |(_, owner)| *owner)
}

/// What follows a post's id in the id of the event that tells of its deletion.
pub const DELETED_SUFFIX: &str = ".deleted";

/// Who gives ids of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver<'a> {
    /// The database of this name, to posts and their deletions.
    Database(&'a str),
    /// This node, to events.
    Node(NodeId),
}

/// Whether this can be the name of a database that gives ids.
pub fn is_database(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Who gives such an id, if it has a form in which nodes give them: of a post (`42-0123abcd`), of its deletion, or of an event
/// (a node's name and two numbers). Viewers drop what comes again under the same id, so whoever gives such an id to an event
/// of their own would keep the node's from being shown.
pub fn giver(id: &str) -> Option<Giver<'_>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (first, rest) = id.split_once('-')?;
    let database = rest.strip_suffix(DELETED_SUFFIX).unwrap_or(rest);
    if is_number(first) && is_database(database) {
        return Some(Giver::Database(database));
    }
    rest.split_once('-').filter(|(shard, number)| is_number(shard) && is_number(number))?;
    first.parse().ok().map(Giver::Node)
}

/// An event as a publisher gave it, borrowed from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'a> {
    /// Where it goes; a valid topic.
    pub topic: Cow<'a, str>,
    /// Its type: 1 to 64 bytes of `A-Z a-z 0-9 . _ -`.
    pub kind: Cow<'a, str>,
    /// What events of one topic and type are told apart by when they merge; up to 200 bytes.
    pub key: Option<Cow<'a, str>>,
    /// The identity the publisher gave it, up to 128 bytes; one is made up where there is none.
    pub id: Option<Cow<'a, str>>,
    /// From other nodes: the version that the event's origin gave a value of class `latest`, or a like.
    pub version: Option<u64>,
    /// From other nodes: how many events of class `sum` it stands for.
    pub count: u32,
    /// From other nodes: its author may moderate the topic, so it is shown whatever its type's pace.
    pub always: bool,
    /// Any JSON value, as written; line breaks between tokens are still in it.
    pub data: &'a [u8],
    /// What is known of its way so far.
    pub begun: Begun,
    /// From other nodes: the checkpoints that it passed, if it is sampled.
    pub hops: Option<Arc<Hops>>,
}

/// Why a text is no event. The message is fit for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not valid UTF-8, and where it stops being that.
    #[error("not valid UTF-8 at byte {0}")]
    Utf8(usize),
    /// Not valid JSON.
    #[error("not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// A field that must be there is not.
    #[error("the field \"{0}\" is missing")]
    Missing(&'static str),
    /// A field that is there more than once.
    #[error("the field \"{0}\" is given twice")]
    Twice(&'static str),
    /// A field of the wrong kind or size.
    #[error("the field \"{field}\" must be {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it must be, in words.
        expected: &'static str,
    },
    /// Data beyond [`EVENT_BYTES_MAX`].
    #[error("data has {0} bytes; an event holds at most {EVENT_BYTES_MAX}")]
    TooLarge(usize),
    /// The topic is none.
    #[error("{0}")]
    Topic(#[from] TopicError),
}

impl<'a> Draft<'a> {
    /// Reads one event. `topic` is the one of the request's path (already checked); without one, the text must have a
    /// field `topic`. Fields that Fanfare does not know are ignored.
    pub fn parse(text: &'a [u8], topic: Option<&'a str>) -> Result<Draft<'a>, EventError> {
        match Draft::read(text, topic)? {
            (draft, more) if more.is_empty() => Ok(draft),
            _ => Err(EventError::Field { field: "topics", expected: "in a line of POST /v1/events" }),
        }
    }

    /// The same without what only nodes say of an event.
    pub fn of_client(self) -> Draft<'a> {
        Draft { version: None, count: 1, always: false, hops: None, ..self }
    }

    /// Reads one event that may be for several topics, in the field `topics`: for the first, with the others beside it.
    pub fn parse_line(text: &'a [u8]) -> Result<(Draft<'a>, Vec<Cow<'a, str>>), EventError> {
        Draft::read(text, None)
    }

    fn read(text: &'a [u8], topic: Option<&'a str>) -> Result<(Draft<'a>, Vec<Cow<'a, str>>), EventError> {
        if let Err(error) = std::str::from_utf8(text) {
            return Err(EventError::Utf8(error.valid_up_to()));
        }
        let (mut named, mut kind, mut key, mut id, mut data, mut version, mut count) =
            (None, None, None, None, None, None, None);
        let (mut topics, mut always, mut sent_at, mut hops) = (None, None, None, None);
        let mut twice = None;
        json::members(text, |name, value| {
            let (slot, field) = match name {
                b"topic" => (&mut named, "topic"),
                b"topics" => (&mut topics, "topics"),
                b"type" => (&mut kind, "type"),
                b"key" => (&mut key, "key"),
                b"id" => (&mut id, "id"),
                b"data" => (&mut data, "data"),
                b"version" => (&mut version, "version"),
                b"count" => (&mut count, "count"),
                b"always" => (&mut always, "always"),
                b"sent_at" => (&mut sent_at, "sent_at"),
                b"hops" => (&mut hops, "hops"),
                _ => return Ok(()),
            };
            if slot.replace(value).is_some() {
                twice = Some(field);
            }
            Ok(())
        })?;
        // Whoever looked at the event before, such as a gateway, may have read the other one.
        if let Some(field) = twice {
            return Err(EventError::Twice(field));
        }
        let always = always == Some(&b"true"[..]);
        let version = version.and_then(number).filter(|number| *number <= VERSION_MAX);
        let count = count.and_then(number).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        let count = count.unwrap_or(1);
        let begun = Begun { sent_at: sent_at.and_then(number), ..Begun::default() };
        let hops = hops.and_then(json::string).and_then(|text| Hops::from_text(&text)).map(Arc::new);
        let mut more = topics.map_or(Ok(Vec::new()), read_topics)?;
        let topic = match topic {
            // Whoever asks for one topic alone refuses others.
            Some(topic) => Cow::Borrowed(topic),
            None if !more.is_empty() && named.is_some() => {
                return Err(EventError::Field { field: "topics", expected: "there alone, without \"topic\"" });
            }
            None if !more.is_empty() => more.remove(0),
            None => {
                let raw = named.ok_or(EventError::Missing("topic"))?;
                let text = json::string(raw).ok_or(EventError::Field { field: "topic", expected: "a string" })?;
                topic::normalise(text)?
            }
        };
        let kind = json::string(kind.ok_or(EventError::Missing("type"))?)
            .filter(|kind| is_type(kind))
            .ok_or(EventError::Field { field: "type", expected: "1 to 64 bytes of A-Z a-z 0-9 . _ -" })?;
        let key = optional(key, "key", KEY_BYTES_MAX, "a string of at most 200 bytes")?;
        let id = optional(id, "id", ID_BYTES_MAX, "a string of 1 to 128 bytes")?;
        let data = data.unwrap_or(b"null");
        if data.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge(data.len()));
        }
        let id = id.filter(|id| !id.is_empty());
        Ok((Draft { topic, kind, key, id, version, count, always, data, begun, hops }, more))
    }
}

/// A whole number, if it is one that fits.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A list of topics, each once.
fn read_topics<'a>(raw: &'a [u8]) -> Result<Vec<Cow<'a, str>>, EventError> {
    let field = EventError::Field { field: "topics", expected: "a list of 1 to 100 topics" };
    let list: Vec<String> = serde_json::from_slice(raw).map_err(|_| field.clone())?;
    if !(1..=TOPICS_PER_CONNECTION_MAX).contains(&list.len()) {
        return Err(field);
    }
    let mut topics = Vec::with_capacity(list.len());
    for text in list {
        let topic = topic::normalise(Cow::Owned(text))?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

fn optional<'a>(
    raw: Option<&'a [u8]>,
    field: &'static str,
    bytes_max: usize,
    expected: &'static str,
) -> Result<Option<Cow<'a, str>>, EventError> {
    match raw {
        None | Some(b"null") => Ok(None),
        Some(raw) => match json::string(raw) {
            Some(text) if text.len() <= bytes_max => Ok(Some(text)),
            _ => Err(EventError::Field { field, expected }),
        },
    }
}

/// Whether `text` can be the name of an event type.
pub fn is_type(text: &str) -> bool {
    (1..=TYPE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_publishers_write() {
        let draft =
            Draft::parse(br#"{"type":"like","data":{"a":1},"key":"k\u0041","id":"x"}"#, Some("live:42")).unwrap();
        assert_eq!((&*draft.topic, &*draft.kind, draft.key.as_deref()), ("live:42", "like", Some("kA")));
        assert_eq!((draft.id.as_deref(), draft.data), (Some("x"), &br#"{"a":1}"#[..]));
        let draft = Draft::parse(br#"{"topic":"live:1","type":"x","key":null}"#, None).unwrap();
        assert_eq!((&*draft.topic, draft.key, draft.data), ("live:1", None, &b"null"[..]));
    }

    #[test]
    fn one_event_for_several_topics() {
        let line = Draft::parse_line(br#"{"topics":["live:1","chat:%41","live:1"],"type":"x"}"#).unwrap();
        assert_eq!((&*line.0.topic, line.1), ("live:1", vec![Cow::Borrowed("chat:A")]));
        let many: Vec<String> = (0..=TOPICS_PER_CONNECTION_MAX).map(|topic| format!("\"a:{topic}\"")).collect();
        for bad in ["[]", "7", "[7]", "[\"x\"]", "null", &format!("[{}]", many.join(","))] {
            assert!(Draft::parse_line(format!(r#"{{"topics":{bad},"type":"x"}}"#).as_bytes()).is_err(), "{bad}");
        }
        let both = br#"{"topics":["live:1"],"topic":"live:2","type":"x"}"#;
        assert!(matches!(Draft::parse_line(both), Err(EventError::Field { field: "topics", .. })));
        let in_path = br#"{"topics":["live:1"],"type":"x"}"#;
        assert!(matches!(Draft::parse(in_path, Some("live:1")), Err(EventError::Field { field: "topics", .. })));
    }

    #[test]
    fn ids_that_nodes_give_are_known_by_their_form() {
        let node = NodeId(u64::MAX);
        for (given, by) in [
            ("1-0123abcd", Giver::Database("0123abcd")),
            ("42-ffffffff", Giver::Database("ffffffff")),
            ("42-ffffffff.deleted", Giver::Database("ffffffff")),
            (&format!("{node}-0-1"), Giver::Node(node)),
            (&format!("{node}-11-99"), Giver::Node(node)),
        ] {
            assert_eq!(giver(given), Some(by), "{given}");
        }
        let uuid = "0189c1a2-7b3c-7def-8123-456789abcdef";
        for free in
            ["", "42", "42-", "-0123abcd", "note-0123abcd", "42-0123ABCD", "42-0123abcd.", uuid, "1732313131123-0"]
        {
            assert_eq!(giver(free), None, "{free}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let parse = |text: &str| Draft::parse(text.as_bytes(), None).unwrap_err();
        assert_eq!(parse(r#"{"type":"x"}"#), EventError::Missing("topic"));
        assert_eq!(parse(r#"{"topic":"a:b"}"#), EventError::Missing("type"));
        assert_eq!(parse(r#"{"topic":"a:b","type":"x","type":"y"}"#), EventError::Twice("type"));
        assert_eq!(parse(r#"{"topic":"a:b","top\u0069c":"c:d","type":"x"}"#), EventError::Twice("topic"));
        assert!(matches!(parse(r#"{"topic":"a b:c","type":"x"}"#), EventError::Topic(_)));
        assert!(matches!(parse(r#"{"topic":"a:b","type":"x y"}"#), EventError::Field { field: "type", .. }));
        assert!(matches!(parse(r#"{"topic":"a:b","type":"x","key":7}"#), EventError::Field { field: "key", .. }));
        assert!(matches!(parse("{"), EventError::Json(_)));
        let large = format!(r#"{{"topic":"a:b","type":"x","data":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX));
        assert_eq!(parse(&large), EventError::TooLarge(EVENT_BYTES_MAX + 2));
        assert_eq!(Draft::parse(b"{\"a\":\"\xff\"}", None), Err(EventError::Utf8(6)));
    }
}
