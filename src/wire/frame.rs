//! An event as viewers get it: encoded once a node, then only copied.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::event::Class;
use super::json;

/// What [`Frame::encode`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Its identity.
    pub id: &'a str,
    /// A valid topic.
    pub topic: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// Its key, if it has one.
    pub key: Option<&'a str>,
    /// Unix ms when the first Fanfare node accepted it.
    pub at: u64,
    /// Valid JSON; line breaks in it become spaces.
    pub data: &'a [u8],
    /// The delivery class of its type.
    pub class: Class,
    /// For class `ephemeral`: how long it may wait in a queue, in milliseconds.
    pub ttl_ms: u32,
}

/// One event's bytes on an SSE stream, with the places that delivery looks at.
///
/// The part between id and time, `"topic":…,"type":…,"key":…`, is the same for two events just when topic, type and
/// key are: it serves as the key under which events merge.
pub struct Frame {
    bytes: Box<[u8]>,
    identity: Range<u16>,
    topic: Range<u16>,
    count_at: Range<u16>,
    class: Class,
    ttl_ms: u32,
    count: u32,
    at: u64,
    topic_hash: u64,
}

/// The hash of a topic that shards agree on; seeded at start, so that nobody outside can aim at one shard.
pub fn topic_hash(topic: &str) -> u64 {
    static STATE: OnceLock<foldhash::fast::RandomState> = OnceLock::new();
    let mut hasher = STATE.get_or_init(foldhash::fast::RandomState::default).build_hasher();
    hasher.write(topic.as_bytes());
    hasher.finish()
}

fn place(at: usize) -> u16 {
    u16::try_from(at).expect("all that precedes the data is bounded far below 64 KiB")
}

impl Frame {
    /// Encodes `event` with a count of one.
    pub fn encode(event: &Event<'_>) -> Frame {
        let mut bytes = Vec::with_capacity(160 + event.data.len());
        bytes.extend_from_slice(b"data: {\"id\":");
        json::push_string(&mut bytes, event.id);
        bytes.push(b',');
        let identity_start = place(bytes.len());
        bytes.extend_from_slice(b"\"topic\":\"");
        let topic_start = place(bytes.len());
        bytes.extend_from_slice(event.topic.as_bytes());
        let topic_end = place(bytes.len());
        bytes.extend_from_slice(b"\",\"type\":\"");
        bytes.extend_from_slice(event.kind.as_bytes());
        bytes.push(b'"');
        if let Some(key) = event.key {
            bytes.extend_from_slice(b",\"key\":");
            json::push_string(&mut bytes, key);
        }
        let identity_end = place(bytes.len());
        bytes.extend_from_slice(b",\"at\":");
        bytes.extend_from_slice(itoa::Buffer::new().format(event.at).as_bytes());
        let mut count_at = 0..0;
        if event.class == Class::Sum {
            bytes.extend_from_slice(b",\"count\":");
            count_at = place(bytes.len())..place(bytes.len() + 1);
            bytes.push(b'1');
        }
        bytes.extend_from_slice(b",\"data\":");
        let data_start = bytes.len();
        bytes.extend_from_slice(event.data);
        // JSON allows raw line breaks between tokens only, and SSE would read them as the end of the line.
        if memchr::memchr2(b'\n', b'\r', event.data).is_some() {
            bytes[data_start..].iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        bytes.extend_from_slice(b"}\n\n");
        Frame {
            bytes: bytes.into_boxed_slice(),
            identity: identity_start..identity_end,
            topic: topic_start..topic_end,
            count_at,
            class: event.class,
            ttl_ms: event.ttl_ms,
            count: 1,
            at: event.at,
            topic_hash: topic_hash(event.topic),
        }
    }

    /// What is written to a stream.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The delivery class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// For class `ephemeral`: how long it may wait in a queue, in milliseconds.
    pub fn ttl_ms(&self) -> u32 {
        self.ttl_ms
    }

    /// How many events it stands for.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Unix ms when the first Fanfare node accepted it.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The topic's text.
    pub fn topic(&self) -> &str {
        let bytes = &self.bytes[usize::from(self.topic.start)..usize::from(self.topic.end)];
        std::str::from_utf8(bytes).expect("a topic is ASCII")
    }

    /// [`topic_hash`] of its topic.
    pub fn topic_hash(&self) -> u64 {
        self.topic_hash
    }

    /// Topic, type and key, as encoded: equal just when all three are.
    pub fn identity(&self) -> &[u8] {
        &self.bytes[usize::from(self.identity.start)..usize::from(self.identity.end)]
    }

    /// Appends the frame with `count` instead of its own. Class `sum` only; others are appended as they are.
    pub fn write_counted(&self, count: u64, out: &mut Vec<u8>) {
        if self.count_at.is_empty() || count == u64::from(self.count) {
            out.extend_from_slice(&self.bytes);
            return;
        }
        out.extend_from_slice(&self.bytes[..usize::from(self.count_at.start)]);
        out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        out.extend_from_slice(&self.bytes[usize::from(self.count_at.end)..]);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Frame({:?})", String::from_utf8_lossy(&self.bytes))
    }
}

/// A frame as a key of a table of what merges with it.
#[derive(Debug, Clone)]
pub struct ByIdentity(pub Arc<Frame>);

impl PartialEq for ByIdentity {
    fn eq(&self, other: &ByIdentity) -> bool {
        self.0.identity() == other.0.identity()
    }
}

impl Eq for ByIdentity {}

impl Hash for ByIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn frame(topic: &str, kind: &str, key: Option<&str>, class: Class, data: &str) -> Arc<Frame> {
        let event = Event { id: "i", topic, kind, key, at: 7, data: data.as_bytes(), class, ttl_ms: 5000 };
        Arc::new(Frame::encode(&event))
    }

    #[test]
    fn looks_as_the_design_says() {
        let like = frame("live:42", "like", Some("like"), Class::Sum, r#"{"member":"ana"}"#);
        let expected = "data: {\"id\":\"i\",\"topic\":\"live:42\",\"type\":\"like\",\"key\":\"like\",\"at\":7,\"count\":1,\
                        \"data\":{\"member\":\"ana\"}}\n\n";
        assert_eq!(std::str::from_utf8(like.bytes()).unwrap(), expected);
        assert_eq!(like.topic(), "live:42");
        let mut merged = Vec::new();
        like.write_counted(1234, &mut merged);
        assert_eq!(String::from_utf8(merged).unwrap(), expected.replace("\"count\":1", "\"count\":1234"));
    }

    #[test]
    fn line_breaks_cannot_forge_lines() {
        let frame = frame("a:b", "x", Some("k\r\ndata: y"), Class::Ephemeral, "{\n\r\"a\":\r\n1}");
        let text = std::str::from_utf8(frame.bytes()).unwrap();
        assert_eq!(text.matches(['\n', '\r']).count(), 2, "{text}");
        assert!(text.ends_with("{  \"a\":  1}}\n\n"));
    }

    proptest! {
        #[test]
        fn identity_tells_keys_apart(a in any::<Option<String>>(), b in any::<Option<String>>()) {
            let one = frame("a:b", "x", a.as_deref(), Class::Latest, "1");
            let other = frame("a:b", "x", b.as_deref(), Class::Latest, "2");
            prop_assert_eq!(ByIdentity(one) == ByIdentity(other), a == b);
        }
    }
}
