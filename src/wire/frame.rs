//! An event as viewers get it: encoded once a node, then only copied.

use std::hash::{BuildHasher, Hasher};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::event::Class;
use super::hops::Hops;
use super::json;
use super::position::Position;
use super::version::Version;
use crate::limits::{EVENT_BYTES_MAX, LINE_BYTES_MAX};
use crate::runtime::random::Seeded;

mod again;
mod gap;
mod origins;
mod paced;
mod stored;
mod sums;
mod transfer;
pub(crate) mod update;
mod withdrawn;

pub use origins::{ORIGINS_MAX, Origin, Stranger};
pub use paced::Paced;
pub use stored::Stored;
pub use sums::{ByFamily, ByIdentity, Sums};
pub use transfer::{FRAME_BYTES_MAX, RECORD_OVERHEAD_BYTES_MAX};
pub use update::Audience;
pub use withdrawn::Withdrawn;

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
    /// Class `every`: its place in history, which becomes the stream's `id:` line.
    pub place: Option<Place<'a>>,
    /// Class `latest`: its version; class `sum`: the order in which the backend stored it.
    pub version: Version<'a>,
    /// The checkpoints that it passed, if it is sampled.
    pub hops: Option<&'a Arc<Hops>>,
}

/// The place of an event in a data center's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The data center.
    pub dc: &'a str,
    /// The place.
    pub position: Position,
    /// Nothing of its topic lies between this place and the event. Whoever was shown less lacks something, be it an event
    /// or to be told that the store lost some.
    pub prev: Position,
    /// What its topic's pace made of it.
    pub paced: Paced,
}

/// One event's bytes on an SSE stream, with the places that delivery looks at.
///
/// The bytes are a chunk (RFC 9112 section 7.1), so that they can go to every HTTP/1.1 connection as they are: some
/// clients hand out a body without chunks only in blocks of their own size, which holds events back.
///
/// The part between id and time, `"topic":…,"type":…,"key":…`, is the same for two events just when topic, type and
/// key are: it serves as the key under which events merge.
#[derive(Clone)]
pub struct Frame {
    bytes: Box<[u8]>,
    /// Where the event itself starts, behind the chunk's size line; it ends before the chunk's last two bytes.
    start: u16,
    /// Where the chunk ends. Behind it is the event as JSON, if the chunk has another form.
    end: u16,
    identity: Range<u16>,
    topic: Range<u16>,
    count_at: Range<u16>,
    class: Class,
    ttl_ms: u32,
    count: u32,
    at: u64,
    topic_hash: u64,
    position: Option<Position>,
    prev: Position,
    version: u64,
    paced: Paced,
    /// The data center that gave the version.
    dc: Option<Arc<str>>,
    origins: Option<Arc<[Origin]>>,
    /// Class `sum`: how many of which keys, and whose, where several merged. It never leaves the node.
    merged: Option<Arc<sums::Merged>>,
    /// For whom of those who watch its topic it is, if not for all.
    audience: Option<Arc<Audience>>,
    /// The checkpoints that it passed, if it is sampled.
    hops: Option<Arc<Hops>>,
}

/// The hash of a topic that shards agree on; seeded at start, so that nobody outside can aim at one shard.
pub fn topic_hash(topic: &str) -> u64 {
    let mut hasher = Seeded::SAME.build_hasher();
    hasher.write(topic.as_bytes());
    hasher.finish()
}

fn place(at: usize) -> u16 {
    u16::try_from(at).expect("all that precedes the data is bounded far below 64 KiB")
}

impl Frame {
    /// What a frame takes beside its bytes: itself, the counts of those who share it, and what two allocations cost.
    pub const OWN_BYTES: usize = size_of::<Frame>() + 48;

    /// Encodes `event` with a count of one.
    pub fn encode(event: &Event<'_>) -> Frame {
        Frame::encode_update(event).unwrap_or_else(|| Frame::encode_json(event))
    }

    /// The same as JSON, as nearly all events go to viewers.
    fn encode_json(event: &Event<'_>) -> Frame {
        let mut bytes = Vec::with_capacity(192 + event.data.len());
        // Room for the size line, whose length is known only at the end.
        bytes.extend_from_slice(&[0; SIZE_LINE_BYTES_MAX]);
        if let Some(place) = event.place {
            writeln!(bytes, "id: {}:{}", place.dc, place.position).expect("writing to a Vec cannot fail");
        }
        bytes.extend_from_slice(b"data: ");
        let places = push_json(&mut bytes, event);
        bytes.extend_from_slice(b"\n\n");
        let end = bytes.len();
        bytes.extend_from_slice(b"\r\n");
        Frame::chunk(event, bytes, end, places)
    }

    /// The chunk that `bytes` are, behind room for its size line, the event in it up to `end`; what follows the chunk is kept
    /// beside it. `places` are those of identity, topic and count.
    fn chunk(event: &Event<'_>, mut bytes: Vec<u8>, end: usize, places: [Range<u16>; 3]) -> Frame {
        let mut line = Vec::with_capacity(SIZE_LINE_BYTES_MAX);
        push_size_line(&mut line, end - SIZE_LINE_BYTES_MAX);
        let from = SIZE_LINE_BYTES_MAX - line.len();
        bytes[from..SIZE_LINE_BYTES_MAX].copy_from_slice(&line);
        let bytes = bytes.split_off(from);
        let moved = |range: Range<u16>| match range.is_empty() {
            true => 0..0,
            false => range.start - place(from)..range.end - place(from),
        };
        let [identity, topic, count_at] = places.map(moved);
        Frame {
            bytes: bytes.into_boxed_slice(),
            start: place(line.len()),
            end: place(end - from) + 2,
            identity,
            topic,
            count_at,
            class: event.class,
            ttl_ms: event.ttl_ms,
            count: 1,
            at: event.at,
            topic_hash: topic_hash(event.topic),
            position: event.place.map(|place| place.position),
            prev: event.place.map_or(Position::START, |place| place.prev),
            version: event.version.number,
            paced: event.place.map_or(Paced::SHOWN, |place| place.paced),
            dc: match event.version {
                Version { number: 1.., dc } if event.class.has_versions() && !dc.is_empty() => Some(dc.into()),
                _ => None,
            },
            origins: None,
            merged: None,
            audience: None,
            hops: event.hops.cloned(),
        }
    }

    /// What is written to a stream: the event as one chunk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.end)]
    }

    /// The event alone, for streams without chunks (HTTP/1.0).
    pub fn event(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..usize::from(self.end) - 2]
    }

    /// The event as JSON: what stands on the `data` line, unless viewers get it in another form.
    pub fn json(&self) -> &str {
        if let Some(json) = self.beside() {
            return json;
        }
        let event = self.event();
        let start = memchr::memmem::find(event, b"data: ").expect("a frame has a data line") + b"data: ".len();
        std::str::from_utf8(&event[start..event.len() - 2]).expect("an event is UTF-8")
    }

    /// Class `every`: its place in history, once it has one.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Class `every`: [`Place::prev`]. Of a `gap`, which has no place itself: viewers are told that something before this
    /// place may be missing.
    pub fn prev(&self) -> Position {
        self.prev
    }

    /// Class `latest`: its version; class `sum`: the order in which the backend stored it.
    pub fn version(&self) -> Version<'_> {
        Version { number: self.version, dc: self.dc.as_deref().unwrap_or_default() }
    }

    /// Class `latest`: whether it takes the place of another one of the same identity that came before it.
    pub fn replaces(&self, before: &Frame) -> bool {
        self.version == 0 || self.version() > before.version()
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

    /// The checkpoints that it passed, if it is sampled; of events that merged those of the newest.
    pub fn hops(&self) -> Option<&Arc<Hops>> {
        self.hops.as_ref()
    }

    /// The same event, which passed these checkpoints.
    pub fn with_hops(&self, hops: Hops) -> Arc<Frame> {
        Arc::new(Frame { hops: Some(Arc::new(hops)), ..self.clone() })
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

    /// The same event, standing for `count` of them. Class `sum` only; others stay as they are.
    pub fn recounted(self: &Arc<Frame>, count: u64) -> Arc<Frame> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.count_at.is_empty() || count == self.count {
            return Arc::clone(self);
        }
        Arc::new(self.spelled(count, None))
    }

    /// The same event with this count, and behind it, where `more` is given, that instead of what merged.
    fn spelled(&self, count: u32, more: Option<&[u8]>) -> Frame {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(count).as_bytes();
        let (event, place_of) = (self.event(), |at: u16| usize::from(at - self.start));
        let merged = self.merged.as_ref().filter(|_| more.is_some()).map_or(0, |merged| usize::from(merged.len));
        let (head, tail) = (place_of(self.count_at.start), place_of(self.count_at.end) + merged);
        let more = more.unwrap_or(b"");
        let size = head + digits.len() + more.len() + event.len() - tail;
        let mut bytes = Vec::with_capacity(size + SIZE_LINE_BYTES_MAX + 2);
        push_size_line(&mut bytes, size);
        let start = place(bytes.len());
        for part in [&event[..head], digits, more, &event[tail..], b"\r\n"] {
            bytes.extend_from_slice(part);
        }
        let moved = |range: &Range<u16>| range.start - self.start + start..range.end - self.start + start;
        let count_start = self.count_at.start - self.start + start;
        Frame {
            end: place(bytes.len()),
            bytes: bytes.into_boxed_slice(),
            start,
            identity: moved(&self.identity),
            topic: moved(&self.topic),
            count_at: count_start..count_start + place(digits.len()),
            count,
            dc: self.dc.clone(),
            origins: self.origins.clone(),
            merged: self.merged.clone(),
            audience: self.audience.clone(),
            hops: self.hops.clone(),
            ..*self
        }
    }
}

/// Longest size line of a chunk that holds one event: four hex digits, CR, LF.
const SIZE_LINE_BYTES_MAX: usize = 6;
const _: () = assert!(EVENT_BYTES_MAX + LINE_BYTES_MAX <= 0xFFFF);

/// Appends an event as JSON. Gives the places of its identity, its topic and its count, which is empty if it has none.
fn push_json(bytes: &mut Vec<u8>, event: &Event<'_>) -> [Range<u16>; 3] {
    bytes.extend_from_slice(b"{\"id\":");
    json::push_string(bytes, event.id);
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
        json::push_string(bytes, key);
    }
    let identity_end = place(bytes.len());
    bytes.extend_from_slice(b",\"at\":");
    bytes.extend_from_slice(itoa::Buffer::new().format(event.at).as_bytes());
    event.place.map_or(Paced::SHOWN, |place| place.paced).push(bytes);
    let mut count_at = 0..0;
    if event.class.adds_up() {
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
    bytes.push(b'}');
    [identity_start..identity_end, topic_start..topic_end, count_at]
}

fn push_size_line(out: &mut Vec<u8>, size: usize) {
    write!(out, "{size:x}\r\n").expect("writing to a Vec cannot fail");
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Frame({:?})", String::from_utf8_lossy(self.event()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn frame(topic: &str, kind: &str, key: Option<&str>, class: Class, data: &str) -> Arc<Frame> {
        let data = data.as_bytes();
        let event = Event {
            id: "i",
            topic,
            kind,
            key,
            at: 7,
            data,
            class,
            ttl_ms: 5000,
            place: None,
            version: Version::NONE,
            hops: None,
        };
        Arc::new(Frame::encode(&event))
    }

    /// An event of class `every`, at a place in history, behind another one, if it has one.
    pub(crate) fn every(
        id: &str,
        topic: &str,
        kind: &str,
        place: Option<(Position, Position)>,
        data: &str,
    ) -> Arc<Frame> {
        let place = place.map(|(position, prev)| Place { dc: "dc", position, prev, paced: Paced::SHOWN });
        placed(id, topic, kind, place, data)
    }

    /// A comment that comes right behind the one of a millisecond before, and of which its topic's pace made this.
    pub(crate) fn paced(topic: &str, ms: u64, paced: Paced) -> Arc<Frame> {
        let place = Place { dc: "dc", position: Position::at(ms), prev: Position::at(ms - 1), paced };
        placed("i", topic, "comment", Some(place), "1")
    }

    fn placed(id: &str, topic: &str, kind: &str, place: Option<Place<'_>>, data: &str) -> Arc<Frame> {
        let (data, class, version) = (data.as_bytes(), Class::Every, Version::NONE);
        Arc::new(Frame::encode(&Event {
            id,
            topic,
            kind,
            key: None,
            at: 7,
            data,
            class,
            ttl_ms: 0,
            place,
            version,
            hops: None,
        }))
    }

    #[test]
    fn looks_as_the_design_says() {
        let like = frame("live:42", "like", Some("like"), Class::Sum, r#"{"member":"ana"}"#);
        let expected = "data: {\"id\":\"i\",\"topic\":\"live:42\",\"type\":\"like\",\"key\":\"like\",\"at\":7,\"count\":1,\
                        \"data\":{\"member\":\"ana\"}}\n\n";
        assert_eq!(std::str::from_utf8(like.event()).unwrap(), expected);
        let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
        assert_eq!(std::str::from_utf8(like.bytes()).unwrap(), chunk(expected));
        assert_eq!(like.topic(), "live:42");
        for count in [1234, 7, u32::MAX] {
            let merged = like.recounted(1).recounted(99).recounted(u64::from(count));
            let expected = expected.replace("\"count\":1", &format!("\"count\":{count}"));
            assert_eq!(std::str::from_utf8(merged.event()).unwrap(), expected);
            assert_eq!(std::str::from_utf8(merged.bytes()).unwrap(), chunk(&expected));
            assert_eq!((merged.identity(), merged.topic(), merged.count()), (like.identity(), "live:42", count));
        }
        let viewers = frame("live:42", "viewers", None, Class::Latest, "1");
        assert!(Arc::ptr_eq(&viewers, &viewers.recounted(7)));
    }

    #[test]
    fn a_place_in_history_is_the_streams_id() {
        let place =
            Place { dc: "dc1", position: Position { ms: 5, seq: 2 }, prev: Position::at(4), paced: Paced::SHOWN };
        let event = Event {
            id: "i",
            topic: "live:42",
            kind: "comment",
            key: None,
            at: 7,
            data: b"1",
            class: Class::Every,
            ttl_ms: 0,
            place: Some(place),
            version: Version::NONE,
            hops: None,
        };
        let frame = Frame::encode(&event);
        let json = "{\"id\":\"i\",\"topic\":\"live:42\",\"type\":\"comment\",\"at\":7,\"data\":1}";
        assert_eq!(std::str::from_utf8(frame.event()).unwrap(), format!("id: dc1:5-2\ndata: {json}\n\n"));
        assert_eq!((frame.json(), frame.topic()), (json, "live:42"));
        assert_eq!((frame.position(), frame.prev()), (Some(place.position), place.prev));
        let stored = Stored::read(json).unwrap();
        assert_eq!(
            (&*stored.id, &*stored.topic, &*stored.kind, stored.at, stored.data),
            ("i", "live:42", "comment", 7, &b"1"[..])
        );
    }

    #[test]
    fn line_breaks_cannot_forge_lines() {
        let frame = frame("a:b", "x", Some("k\r\ndata: y"), Class::Ephemeral, "{\n\r\"a\":\r\n1}");
        let text = std::str::from_utf8(frame.event()).unwrap();
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
