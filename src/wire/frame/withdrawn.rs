//! An event of type `deleted` takes another one back: the text of that goes from wherever it is kept to be handed out again.

use super::{Frame, Stored};
use crate::wire::json::{self, push_string};

/// The type of such an event.
const DELETED: &str = "deleted";

/// What follows a topic in a frame of such an event.
const DELETED_LABEL: &[u8] = b"\",\"type\":\"deleted\"";

/// An event that was taken back, known by how its JSON begins: so whoever keeps it finds it without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn(Box<str>);

impl Withdrawn {
    /// The one with this id.
    pub fn of(id: &str) -> Withdrawn {
        let mut beginning = b"{\"id\":".to_vec();
        push_string(&mut beginning, id);
        beginning.push(b',');
        Withdrawn(String::from_utf8(beginning).expect("a string as JSON is UTF-8").into())
    }

    /// The id of the one that an event of this type with this data takes back, if it takes one back.
    /// Of several ids the last counts, as it does for those who parse the event.
    pub fn id(kind: &str, data: &[u8]) -> Option<String> {
        json::string(named(kind, data).1?).map(Into::into)
    }

    /// Whether data of this type names what it takes back more than once, so that not everybody need read the same of it.
    pub fn is_named_twice(kind: &str, data: &[u8]) -> bool {
        named(kind, data).0 > 1
    }

    /// Whether an event of this type may take one back.
    pub fn may_be_by(kind: &str) -> bool {
        kind == DELETED
    }

    /// The beginning by which an event is known, given its JSON as [`Frame::json`] gave it.
    pub fn beginning_of(json: &str) -> Option<&str> {
        let (bytes, mut at) = (json.as_bytes(), json.strip_prefix("{\"id\":\"").map(|rest| json.len() - rest.len())?);
        loop {
            at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
            if bytes[at] == b'"' {
                return json.get(..at + 2);
            }
            at += 2;
        }
    }

    /// How its JSON begins.
    pub fn beginning(&self) -> &str {
        &self.0
    }

    /// Whether an event is it, given its JSON as [`Frame::json`] gave it.
    pub fn is(&self, json: &str) -> bool {
        json.starts_with(&*self.0)
    }
}

/// How many ids the data of an event that takes another one back has, and the last of them.
fn named<'a>(kind: &str, data: &'a [u8]) -> (u32, Option<&'a [u8]>) {
    let (mut count, mut last) = (0, None);
    if kind == DELETED {
        let members = json::members(data, |name, value| {
            if name == b"id" {
                count += 1;
                last = Some(value);
            }
            Ok(())
        });
        // Other data than an object names nothing.
        last = last.filter(|_| members.is_ok());
    }
    (count, last)
}

impl Frame {
    /// The event of its topic that it takes back, if it takes one back.
    pub fn withdraws(&self) -> Option<Withdrawn> {
        // Nearly all are of another type.
        if !self.bytes[usize::from(self.topic.end)..].starts_with(DELETED_LABEL) {
            return None;
        }
        let stored = Stored::read(self.json())?;
        Withdrawn::id(&stored.kind, stored.data).map(|id| Withdrawn::of(&id))
    }

    /// Whether it is this event of this topic.
    pub fn is(&self, topic: &str, withdrawn: &Withdrawn) -> bool {
        let head = &self.bytes[..usize::from(self.identity.start)];
        head.ends_with(withdrawn.0.as_bytes()) && self.topic() == topic
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::every;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn encoded(id: &str, topic: &str, kind: &str, data: &str) -> Arc<Frame> {
        every(id, topic, kind, None, data)
    }

    #[test]
    fn only_deleted_takes_back_and_only_what_it_names() {
        let deleted = encoded("7-0.deleted", "live:1", "deleted", "{\"id\":\"7-0\"}");
        let withdrawn = deleted.withdraws().expect("it takes one back");
        assert!(encoded("7-0", "live:1", "comment", "{}").is("live:1", &withdrawn));
        for (id, topic) in [("7-00", "live:1"), ("17-0", "live:1"), ("7-0", "live:11"), ("7-0.deleted", "live:1")] {
            assert!(!encoded(id, topic, "comment", "{}").is("live:1", &withdrawn), "{id} {topic}");
        }
        for (kind, data) in [
            ("comment", "{\"id\":\"7-0\"}"),
            ("deleted", "{}"),
            ("deleted", "7"),
            ("deleted", "[\"7-0\"]"),
            ("deletedx", "{\"id\":\"7\"}"),
        ] {
            assert_eq!(encoded("i", "live:1", kind, data).withdraws(), None, "{kind} {data}");
        }
        assert_eq!(Frame::gap("live:1", "dc:7-0", crate::wire::position::Reach::START).withdraws(), None);
    }

    #[test]
    fn an_id_given_twice_is_what_parsers_take_it_for() {
        for data in [r#"{"id":"nope","id":"7-0"}"#, r#"{"id":7,"i\u0064":"7-0"}"#] {
            assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap()["id"], "7-0");
            assert_eq!(Withdrawn::id("deleted", data.as_bytes()).as_deref(), Some("7-0"), "{data}");
            assert!(Withdrawn::is_named_twice("deleted", data.as_bytes()), "{data}");
        }
        assert!(!Withdrawn::is_named_twice("deleted", br#"{"id":"7-0","ids":{"id":1}}"#));
        assert!(!Withdrawn::is_named_twice("note", br#"{"id":1,"id":2}"#));
        assert_eq!(Withdrawn::id("deleted", br#"{"id":"7-0","id":7}"#), None);
    }

    proptest! {
        #[test]
        fn any_id_is_found_by_how_its_event_begins(id: String, other: String) {
            let text = serde_json::json!({"id": id}).to_string();
            let withdrawn = encoded("d", "a:b", "deleted", &text).withdraws().expect("it takes one back");
            prop_assert!(encoded(&id, "a:b", "x", "1").is("a:b", &withdrawn));
            prop_assert!(withdrawn.is(encoded(&id, "a:b", "x", "1").json()));
            let event = encoded(&id, "a:b", "x", "1");
            prop_assert_eq!(Withdrawn::beginning_of(event.json()), Some(withdrawn.beginning()));
            prop_assert_eq!(encoded(&other, "a:b", "x", "1").is("a:b", &withdrawn), id == other);
        }
    }
}
