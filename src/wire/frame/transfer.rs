//! Frames on their way to another node: the bytes that viewers get, as they are, and the places that delivery looks at.
//!
//! A record is its length (`u32`), the length of what describes the frame (`u16`), the description, and the frame's
//! bytes. Readers skip what a description has behind the fields they know, so that fields can be added.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::origins::{ORIGIN_BYTES, ORIGINS_MAX};
use super::{Frame, Paced, SIZE_LINE_BYTES_MAX, place, push_size_line, topic_hash};
use crate::wire::binary::{Malformed, Reader};
use crate::wire::event::Class;
use crate::wire::hops::{HOPS_BYTES_MAX, Hops};
use crate::wire::position::Position;
use crate::wire::topic;

const HAS_POSITION: u8 = 1;
const HAS_PREV: u8 = 2;
const HAS_VERSION: u8 = 4;
const HAS_ORIGINS: u8 = 8;
const HAS_DC: u8 = 16;
const HAS_PACED: u8 = 32;
const HAS_HOPS: u8 = 64;

/// What precedes a topic within the identity.
const TOPIC_LABEL: &[u8] = b"\"topic\":\"";
/// What follows it.
pub(super) const TYPE_LABEL: &[u8] = b"\",\"type\":\"";
const COUNT_LABEL: &[u8] = b",\"count\":";

/// Longest frame: its places are `u16`s.
pub const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// Bytes of a record beside its frame, at most.
pub const RECORD_OVERHEAD_BYTES_MAX: usize =
    4 + 2 + 32 + 16 + 16 + 8 + 1 + ORIGINS_MAX * ORIGIN_BYTES + 1 + u8::MAX as usize + 4 + 2 + HOPS_BYTES_MAX;

/// The numbers of classes between nodes never change.
fn class_number(class: Class) -> u8 {
    match class {
        Class::Sum => 0,
        Class::Latest => 1,
        Class::Ephemeral => 2,
        Class::Every => 3,
    }
}

/// The data center that gave a frame its version.
fn dc_from_wire(fields: &mut Reader<'_>) -> Result<Arc<str>, Malformed> {
    let length = usize::from(fields.u8()?);
    let name =
        std::str::from_utf8(fields.bytes(length)?).map_err(|_| Malformed("a data center's name is not UTF-8"))?;
    if name.is_empty() { Err(Malformed("a data center has a name")) } else { Ok(name.into()) }
}

/// The checkpoints that a frame passed. An event is worth more than they: what is none of this version's is left out.
fn hops_from_wire(fields: &mut Reader<'_>) -> Result<Option<Arc<Hops>>, Malformed> {
    let length = usize::from(fields.u16()?);
    Ok(Hops::from_wire(fields.bytes(length)?).ok().map(Arc::new))
}

const _: () = assert!(HOPS_BYTES_MAX <= u16::MAX as usize);

impl Frame {
    /// Appends it as a record.
    pub fn to_wire(&self, out: &mut Vec<u8>) {
        if let Some(json) = self.as_json() {
            return json.record(self.paced, out);
        }
        if self.paced != Paced::SHOWN {
            // Nodes of older versions take no event whose text says this, so it goes beside the text.
            return self.clone().paced_as(Paced::SHOWN).record(self.paced, out);
        }
        self.record(Paced::SHOWN, out);
    }

    fn record(&self, paced: Paced, out: &mut Vec<u8>) {
        debug_assert!(self.merged.is_none(), "what merged over keys is for this node's viewers");
        let record = out.len();
        out.extend_from_slice(&[0; 6]);
        let flags = if self.position.is_some() { HAS_POSITION } else { 0 }
            | if !self.prev.is_start() { HAS_PREV } else { 0 }
            | if self.version != 0 { HAS_VERSION } else { 0 }
            | if self.origins.is_some() { HAS_ORIGINS } else { 0 }
            | if self.dc.is_some() { HAS_DC } else { 0 }
            | if paced != Paced::SHOWN { HAS_PACED } else { 0 }
            | if self.hops.is_some() { HAS_HOPS } else { 0 };
        out.extend_from_slice(&[class_number(self.class), flags]);
        out.extend_from_slice(&self.ttl_ms.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        let places = [&self.identity, &self.topic, &self.count_at].map(|range| [range.start, range.end]);
        for place in [self.start].into_iter().chain(places.into_iter().flatten()) {
            out.extend_from_slice(&place.to_le_bytes());
        }
        for position in [self.position, Some(self.prev).filter(|prev| !prev.is_start())].into_iter().flatten() {
            out.extend_from_slice(&position.ms.to_le_bytes());
            out.extend_from_slice(&position.seq.to_le_bytes());
        }
        if self.version != 0 {
            out.extend_from_slice(&self.version.to_le_bytes());
        }
        self.origins_to_wire(out);
        // Behind all that nodes of older versions know.
        if let Some(dc) = &self.dc {
            out.push(u8::try_from(dc.len()).expect("a data center's name is short"));
            out.extend_from_slice(dc.as_bytes());
        }
        if paced != Paced::SHOWN {
            out.extend_from_slice(&paced.number().to_le_bytes());
        }
        if let Some(hops) = &self.hops {
            let length = out.len();
            out.extend_from_slice(&[0; 2]);
            hops.to_wire(out);
            let bytes = (out.len() - length - 2) as u16;
            out[length..length + 2].copy_from_slice(&bytes.to_le_bytes());
        }
        let described = (out.len() - record - 6) as u16;
        out.extend_from_slice(&self.bytes);
        let length = (out.len() - record - 4) as u32;
        out[record..record + 4].copy_from_slice(&length.to_le_bytes());
        out[record + 4..record + 6].copy_from_slice(&described.to_le_bytes());
    }

    /// Takes the next record off `reader`, without looking into it.
    pub fn next_record<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
        let length = reader.u32()? as usize;
        reader.bytes(length)
    }

    /// Reads what [`next_record`](Frame::next_record) gave. Strict: whatever it accepts is one event, in one chunk, in
    /// valid UTF-8, that can go to viewers as it is.
    pub fn from_wire(record: &[u8]) -> Result<Frame, Malformed> {
        let mut reader = Reader(record);
        let described = usize::from(reader.u16()?);
        let mut fields = Reader(reader.bytes(described)?);
        let bytes = reader.0;
        let class = match fields.u8()? {
            0 => Class::Sum,
            1 => Class::Latest,
            2 => Class::Ephemeral,
            3 => Class::Every,
            _ => return Err(Malformed("an unknown class")),
        };
        let flags = fields.u8()?;
        let (ttl_ms, count, at) = (fields.u32()?, fields.u32()?, fields.u64()?);
        let start = fields.u16()?;
        let mut range = || Ok::<_, Malformed>(fields.u16()?..fields.u16()?);
        let (identity, topic, count_at) = (range()?, range()?, range()?);
        let mut position = |flag| {
            let read = |fields: &mut Reader<'_>| Ok(Position { ms: fields.u64()?, seq: fields.u64()? });
            if flags & flag == 0 { Ok(None) } else { read(&mut fields).map(Some) }
        };
        let (position, prev) = (position(HAS_POSITION)?, position(HAS_PREV)?);
        let version = if flags & HAS_VERSION == 0 { 0 } else { fields.u64()? };
        let origins =
            if flags & HAS_ORIGINS == 0 { None } else { Frame::origins_from_wire(&mut fields, class, count)? };
        let dc = if flags & HAS_DC == 0 { None } else { Some(dc_from_wire(&mut fields)?) };
        let paced = if flags & HAS_PACED == 0 { Paced::SHOWN } else { Paced::of_number(fields.u32()?) };
        let hops = if flags & HAS_HOPS == 0 { None } else { hops_from_wire(&mut fields)? };
        let mut frame = Frame {
            end: u16::try_from(bytes.len()).map_err(|_| Malformed("the chunk is too long"))?,
            bytes: bytes.into(),
            start,
            identity,
            topic,
            count_at,
            class,
            ttl_ms,
            count,
            at,
            topic_hash: 0,
            position,
            prev: prev.unwrap_or_default(),
            version,
            paced: Paced::SHOWN,
            dc,
            origins,
            merged: None,
            audience: None,
            hops,
        };
        frame.check()?;
        frame.mend_topic()?;
        if class.has_history() {
            frame = frame.paced_as(paced).in_form();
        }
        frame.topic_hash = topic_hash(frame.topic());
        Ok(frame)
    }

    /// Refuses what [`Frame::encode`] and [`Frame::recounted`] could not have made.
    fn check(&self) -> Result<(), Malformed> {
        self.check_chunk()?;
        self.check_lines()?;
        self.check_places()
    }

    /// One chunk, and nothing else: its size line says how long it is.
    fn check_chunk(&self) -> Result<(), Malformed> {
        let bytes = &self.bytes[..];
        let start = usize::from(self.start);
        if bytes.len() > FRAME_BYTES_MAX || start + 2 > bytes.len() || start > SIZE_LINE_BYTES_MAX {
            return Err(Malformed("the chunk's size line is not where it should be"));
        }
        let mut line = Vec::with_capacity(SIZE_LINE_BYTES_MAX);
        push_size_line(&mut line, bytes.len() - start - 2);
        if bytes[..start] != line[..] || !bytes.ends_with(b"\r\n") {
            return Err(Malformed("the chunk's size line does not say its size"));
        }
        Ok(())
    }

    /// One event: an `id:` line if it has a position, one `data:` line, and the empty line.
    fn check_lines(&self) -> Result<(), Malformed> {
        let event = std::str::from_utf8(self.event()).map_err(|_| Malformed("the event is not UTF-8"))?;
        let body = event.strip_suffix("}\n\n").ok_or(Malformed("the event does not end as one"))?;
        let data = match (body.strip_prefix("id: "), self.position) {
            (None, None) => body,
            (Some(rest), Some(position)) => {
                let (id, data) = rest.split_once('\n').ok_or(Malformed("the id line does not end"))?;
                let (dc, place) = id.rsplit_once(':').ok_or(Malformed("the id line is no position"))?;
                let is_name = !dc.is_empty() && dc.bytes().all(|byte| byte.is_ascii_graphic());
                if !is_name || place.parse() != Ok(position) {
                    return Err(Malformed("the id line is not the position"));
                }
                data
            }
            _ => return Err(Malformed("an id line belongs to a position")),
        };
        if !data.starts_with("data: {\"id\":") || memchr::memchr2(b'\n', b'\r', data.as_bytes()).is_some() {
            return Err(Malformed("the data is not one line"));
        }
        let fits = match self.class.has_history() {
            true => self.prev.is_start() || self.position.is_some(),
            false => self.position.is_none() && self.prev.is_start(),
        };
        if fits { Ok(()) } else { Err(Malformed("a position belongs to class every")) }
    }

    /// Gives its topic normal escapes, which nodes of older versions do not know: nobody would be found to watch it.
    fn mend_topic(&mut self) -> Result<(), Malformed> {
        let Cow::Owned(topic) = topic::mended(self.topic()) else { return Ok(()) };
        topic::check(&topic).map_err(|_| Malformed("the topic is too long once its escapes are normal"))?;
        let (start, old) = (usize::from(self.start), usize::from(self.topic.start)..usize::from(self.topic.end));
        let event = [&self.bytes[start..old.start], topic.as_bytes(), &self.bytes[old.end..]].concat();
        let mut bytes = Vec::with_capacity(SIZE_LINE_BYTES_MAX + event.len());
        push_size_line(&mut bytes, event.len() - b"\r\n".len());
        // Places behind the topic move by what it grows or shrinks, all of them by what the size line does.
        let moved = |at: u16| {
            let grown = if usize::from(at) >= old.end { topic.len() + old.start } else { old.end };
            place(usize::from(at) + bytes.len() + grown - start - old.end)
        };
        let moved = |range: &Range<u16>| moved(range.start)..moved(range.end);
        let count_at = if self.count_at == (0..0) { 0..0 } else { moved(&self.count_at) };
        let places = [moved(&self.identity), moved(&self.topic), count_at];
        self.start = place(bytes.len());
        bytes.extend_from_slice(&event);
        self.end = place(bytes.len());
        [self.identity, self.topic, self.count_at] = places;
        self.bytes = bytes.into();
        self.check()
    }

    /// Topic, identity, count and time are where they are said to be.
    fn check_places(&self) -> Result<(), Malformed> {
        let bytes = &self.bytes[..];
        let (identity, topic) = (&self.identity, &self.topic);
        let ordered = self.start < identity.start
            && identity.start < topic.start
            && topic.start < topic.end
            && topic.end < identity.end
            && usize::from(identity.end) < bytes.len();
        if !ordered {
            return Err(Malformed("places are out of order"));
        }
        let from = |at: u16| &bytes[usize::from(at)..];
        let label = &bytes[usize::from(identity.start)..usize::from(topic.start)];
        if label != TOPIC_LABEL || !from(topic.end).starts_with(TYPE_LABEL) {
            return Err(Malformed("the topic is not where it should be"));
        }
        let text = &bytes[usize::from(topic.start)..usize::from(topic.end)];
        let is_topic = std::str::from_utf8(text).is_ok_and(|text| topic::check(text).is_ok());
        let is_named = usize::from(topic.end) + TYPE_LABEL.len() < usize::from(identity.end);
        if !is_topic || !is_named || from(identity.end - 1)[0] != b'"' {
            return Err(Malformed("topic and type are not as they should be"));
        }
        let mut digits = itoa::Buffer::new();
        let rest = from(identity.end).strip_prefix(b",\"at\":");
        let rest = rest.and_then(|rest| rest.strip_prefix(digits.format(self.at).as_bytes()));
        let mut rest = rest.ok_or(Malformed("the time is not where it should be"))?;
        if self.class.adds_up() {
            rest = rest.strip_prefix(COUNT_LABEL).ok_or(Malformed("the count is not where it should be"))?;
            let at = bytes.len() - rest.len();
            let text = digits.format(self.count).as_bytes();
            rest = rest.strip_prefix(text).ok_or(Malformed("the count is another one"))?;
            if self.count == 0 || self.count_at != (place(at)..place(at + text.len())) {
                return Err(Malformed("the count is not where it should be"));
            }
        } else if self.count != 1 || self.count_at != (0..0) {
            return Err(Malformed("only class sum counts"));
        }
        if rest.starts_with(b",\"data\":") { Ok(()) } else { Err(Malformed("the data is not where it should be")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::connection_id::NodeId;
    use crate::wire::frame::tests::frame;
    use crate::wire::frame::{Event, Origin, Paced, Place, Stranger};
    use crate::wire::hops::{Checkpoint, Hop};
    use crate::wire::version::Version;
    use proptest::prelude::*;

    fn of(class: Class, key: Option<&str>, data: &str, seq: u64, count: u64) -> Arc<Frame> {
        of_pace(class, key, data, seq, count, Paced::SHOWN)
    }

    fn of_pace(class: Class, key: Option<&str>, data: &str, seq: u64, count: u64, paced: Paced) -> Arc<Frame> {
        let position = Position { ms: 1_700_000_000_000, seq };
        let place = Place { dc: "eu-1", position, prev: Position::at(seq), paced };
        let event = Event {
            id: "node-0-1",
            topic: "live:42",
            kind: class.name(),
            key,
            at: 1_700_000_000_000 + seq,
            data: data.as_bytes(),
            class,
            ttl_ms: 5000,
            place: class.has_history().then_some(place),
            version: if class.has_versions() {
                Version { number: seq, dc: key.unwrap_or_default() }
            } else {
                Version::NONE
            },
            hops: None,
        };
        Arc::new(Frame::encode(&event)).recounted(count)
    }

    fn record(frame: &Frame) -> Vec<u8> {
        let mut wire = Vec::new();
        frame.to_wire(&mut wire);
        let mut reader = Reader(&wire);
        let record = Frame::next_record(&mut reader).unwrap().to_vec();
        assert!(reader.0.is_empty());
        record
    }

    fn is_same(frame: &Frame, read: &Frame) -> bool {
        (frame.bytes(), frame.event(), frame.topic(), frame.identity(), frame.topic_hash())
            == (read.bytes(), read.event(), read.topic(), read.identity(), read.topic_hash())
            && frame.hops() == read.hops()
            && (frame.class(), frame.ttl_ms(), frame.count(), frame.at())
                == (read.class(), read.ttl_ms(), read.count(), read.at())
            && (frame.position(), frame.prev(), frame.version(), frame.origins(), frame.paced())
                == (read.position(), read.prev(), read.version(), read.origins(), read.paced())
    }

    #[test]
    fn topics_of_older_nodes_are_mended() {
        let long = format!("live:{}", "%61".repeat(60));
        let longer = format!("live:{}", "a".repeat(60));
        for (old, normal) in [
            ("live:caf%c3%a9", "live:caf%C3%A9"),
            ("live:50%", "live:50%25"),
            ("live:%34%32", "live:42"),
            (&long, &longer),
        ] {
            for (class, data) in
                [(Class::Sum, "{}"), (Class::Every, "\"%c3\""), (Class::Latest, "1"), (Class::Ephemeral, "1")]
            {
                let of = |topic: &str| {
                    let position = Position { ms: 1_700_000_000_000, seq: 1 };
                    let place = (class == Class::Every).then_some(Place {
                        dc: "eu-1",
                        position,
                        prev: Position::START,
                        paced: Paced::SHOWN,
                    });
                    let (id, kind, key, at) = ("x", "note", Some("%c3"), 7);
                    let (data, ttl_ms, version, hops) = (data.as_bytes(), 5000, Version::NONE, None);
                    let event = Event { id, topic, kind, key, at, data, class, ttl_ms, place, version, hops };
                    Arc::new(Frame::encode(&event)).recounted(if class == Class::Sum { 12 } else { 1 })
                };
                assert!(is_same(&of(normal), &Frame::from_wire(&record(&of(old))).unwrap()), "{old} {class}");
            }
        }
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let frame = of(Class::Every, Some("k"), "1", 3, 1);
        let mut record = record(&frame);
        let described = u16::from_le_bytes([record[0], record[1]]);
        record[..2].copy_from_slice(&(described + 3).to_le_bytes());
        let end = 2 + usize::from(described);
        record.splice(end..end, *b"new");
        assert!(is_same(&frame, &Frame::from_wire(&record).unwrap()));
    }

    fn hops() -> Hops {
        let mut hops = Hops::default();
        hops.push(Hop { checkpoint: Checkpoint::Read, node: NodeId(7), at_us: 1_700_000_000_000_000, ahead: None });
        hops
    }

    #[test]
    fn events_that_are_not_sampled_take_no_byte_for_it_and_viewers_get_the_same_of_all() {
        for class in Class::ALL {
            let frame = of(class, Some("k"), "1", 3, 1);
            let sampled = frame.with_hops(hops());
            assert_eq!((sampled.bytes(), sampled.recounted(1).hops()), (frame.bytes(), sampled.hops()));
            let (plain, marked) = (record(&frame), record(&sampled));
            assert_eq!((plain[3] & HAS_HOPS, plain.len()), (0, marked.len() - 2 - (1 + 8 + 8)));
            // Who does not know of them passes them over, as behind all that it knows.
            let mut old = marked.clone();
            old[3] &= !HAS_HOPS;
            assert!(is_same(&frame, &Frame::from_wire(&old).unwrap()));
        }
    }

    #[test]
    fn what_could_not_have_been_encoded_is_refused() {
        let good = record(&frame("live:42", "like", Some("a"), Class::Sum, "{}"));
        let text = String::from_utf8_lossy(&good).into_owned();
        let swapped = |from: &str, to: &str| {
            let at = memchr::memmem::find(&good, from.as_bytes()).unwrap_or_else(|| panic!("{from} in {text}"));
            [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
        };
        for (from, to) in [
            ("live:42", "live 42"),
            ("live:42", "live_42"),
            ("\"topic\"", "\"tupic\""),
            ("\"at\":7", "\"at\":8"),
            ("\"count\":1", "\"count\":2"),
            ("\"data\":{}", "\"data\":{\n"),
            ("}\n\n", "}\n\r"),
            ("data: ", "date: "),
            ("}\n\n\r\n", "}\n\nxx"),
        ] {
            assert!(Frame::from_wire(&swapped(from, to)).is_err(), "{to}");
        }
        assert!(Frame::from_wire(&good).is_ok());
        assert!(Frame::from_wire(&[&good[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn arrives_as_it_was_sent(
            class in 0usize..4, key in any::<Option<String>>(), data in any::<String>(), seq: u64, count in 1u64..1_000_000,
            parts in 0usize..=ORIGINS_MAX, paced in prop::sample::select(vec![0, 0, 1, 12_345, u32::MAX - 1, u32::MAX]), is_sampled: bool,
        ) {
            let data = serde_json::Value::from(data).to_string();
            let class = Class::ALL[class];
            let parts = match class {
                Class::Sum => parts.min(count as usize),
                _ => parts.min(1),
            };
            let origin = |number| Origin { sender: Stranger::of("b", NodeId(seq)), shard: 3, number, count: 1 };
            let origins: Vec<Origin> = (0..parts as u64).map(origin).collect();
            let paced = Paced::of_number(if class == Class::Every { paced } else { 0 });
            let frame = of_pace(class, key.as_deref(), &data, seq >> 1, count, paced).with_origins(if class == Class::Every { &[] } else { &origins });
            let frame = if is_sampled { frame.with_hops(hops()) } else { frame };
            let read = Frame::from_wire(&record(&frame)).unwrap();
            prop_assert!(is_same(&frame, &read));
            let (a, b) = (frame.recounted(77), Arc::new(read).recounted(77));
            prop_assert!(is_same(&a, &b), "its places are right");
        }

        /// Noise, and records with a few bytes changed, are refused or make a frame that delivery can use.
        #[test]
        fn garbage_never_panics(
            class in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut record = record(&of(Class::ALL[class], Some("k"), "{\"a\":1}", 5, 12));
            for (at, value) in changes {
                let at = at.index(record.len());
                record[at] = value;
            }
            for bytes in [&record[..], &record[..cut.index(record.len())], &noise[..]] {
                if let Ok(frame) = Frame::from_wire(bytes) {
                    prop_assert!(topic::check(frame.topic()).is_ok());
                    prop_assert!(std::str::from_utf8(frame.event()).is_ok());
                    prop_assert_eq!(frame.json().matches(['\n', '\r']).count(), 0);
                    let _ = Arc::new(frame).recounted(9).json();
                }
            }
        }
    }
}
