//! The messages of OTLP in protobuf's binary form, which every collector reads: a request of `opentelemetry.proto.collector.trace.v1`,
//! of which few fields are used, and what its answer says of spans that were left out.

use crate::wire::binary::Reader;
use crate::wire::hops::{Checkpoint, push_varint, varint};

/// One hop of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace: the event's, or the publisher's.
    pub trace: [u8; 16],
    /// Its own name.
    pub id: [u8; 8],
    /// The hop before it, or what its publisher was at.
    pub parent: Option<[u8; 8]>,
    /// Where the way ended.
    pub checkpoint: Checkpoint,
    /// From when to when, in Unix microseconds by the clock of the node where it ended.
    pub from_us: u64,
    /// See `from_us`.
    pub to_us: u64,
    /// How wrong that may be in microseconds, where the two are of two clocks; none where nothing is known of the other.
    pub error_us: Option<u64>,
    /// The shard.
    pub shard: u16,
    /// The event's class.
    pub class: &'static str,
    /// What stands before the colon of its topic.
    pub topic_kind: Box<str>,
    /// Its type.
    pub kind: Box<str>,
    /// Its id.
    pub event: Box<str>,
}

/// The node.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its name.
    pub node: String,
    /// Its roles.
    pub roles: String,
    /// Its data center.
    pub dc: String,
}

/// Kinds of fields in protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

fn tag(out: &mut Vec<u8>, field: u64, kind: u64) {
    push_varint(out, field << 3 | kind);
}

fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    tag(out, field, BYTES);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A message within a message.
fn within(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

fn number(out: &mut Vec<u8>, field: u64, number: u64) {
    tag(out, field, VARINT);
    push_varint(out, number);
}

fn nanoseconds(out: &mut Vec<u8>, field: u64, us: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&us.saturating_mul(1_000).to_le_bytes());
}

/// A `KeyValue` with a text.
fn text(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    within(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        within(out, 2, |out| bytes(out, 1, value.as_bytes()));
    });
}

/// A `KeyValue` with a number.
fn count(out: &mut Vec<u8>, field: u64, key: &str, value: u64) {
    within(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        within(out, 2, |out| number(out, 3, value));
    });
}

/// An `ExportTraceServiceRequest`.
pub fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::new();
    within(&mut out, 1, |out| {
        within(out, 1, |out| {
            text(out, 1, "service.name", "fanfare");
            text(out, 1, "service.version", env!("CARGO_PKG_VERSION"));
            text(out, 1, "service.instance.id", &resource.node);
            text(out, 1, "fanfare.role", &resource.roles);
            text(out, 1, "fanfare.data_center", &resource.dc);
        });
        within(out, 2, |out| {
            within(out, 1, |out| bytes(out, 1, b"fanfare"));
            spans.iter().for_each(|span| within(out, 2, |out| span.write(out)));
        });
    });
    out
}

impl Span {
    fn write(&self, out: &mut Vec<u8>) {
        bytes(out, 1, &self.trace);
        bytes(out, 2, &self.id);
        if let Some(parent) = &self.parent {
            bytes(out, 4, parent);
        }
        bytes(out, 5, self.checkpoint.name().as_bytes());
        number(out, 6, kind(self.checkpoint));
        nanoseconds(out, 7, self.from_us);
        nanoseconds(out, 8, self.to_us);
        text(out, 9, "fanfare.class", self.class);
        text(out, 9, "fanfare.topic_kind", &self.topic_kind);
        text(out, 9, "fanfare.type", &self.kind);
        text(out, 9, "fanfare.event", &self.event);
        count(out, 9, "fanfare.shard", self.shard.into());
        if let Some(error_us) = self.error_us.filter(|error_us| *error_us > 0) {
            count(out, 9, "fanfare.clock_error_us", error_us);
        }
    }
}

/// A `SpanKind`, by which collectors tell ways between nodes from those within one.
fn kind(checkpoint: Checkpoint) -> u64 {
    match checkpoint {
        Checkpoint::Read => 2,
        Checkpoint::Published | Checkpoint::Sent => 4,
        Checkpoint::Taken => 5,
        _ => 1,
    }
}

/// What an `ExportTraceServiceResponse` says of spans that were left out: how many, and why. `None` for what is none.
pub fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let (mut spans, mut says) = (0, String::new());
    for field in fields(answer)? {
        let (1, Value::Bytes(partial)) = field else { continue };
        for field in fields(partial)? {
            match field {
                (1, Value::Number(number)) => spans = number,
                (2, Value::Bytes(bytes)) => says = String::from_utf8_lossy(bytes).chars().take(200).collect(),
                _ => {}
            }
        }
    }
    Some((spans, says))
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let (mut reader, mut fields) = (Reader(bytes), Vec::new());
    while !reader.0.is_empty() {
        let tag = varint(&mut reader).ok()?;
        let value = match tag & 7 {
            VARINT => Value::Number(varint(&mut reader).ok()?),
            FIXED64 => Value::Number(reader.u64().ok()?),
            BYTES => {
                let length = usize::try_from(varint(&mut reader).ok()?).ok()?;
                Value::Bytes(reader.bytes(length).ok()?)
            }
            5 => Value::Bytes(reader.bytes(4).ok()?),
            _ => return None,
        };
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_left_out_are_read_from_the_answer() {
        let mut answer = Vec::new();
        assert_eq!(rejected(&answer), Some((0, String::new())));
        within(&mut answer, 1, |out| {
            number(out, 1, 7);
            bytes(out, 2, "too old".as_bytes());
            nanoseconds(out, 9, 1);
        });
        assert_eq!(rejected(&answer), Some((7, "too old".to_owned())));
        assert_eq!(rejected(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = rejected(&bytes);
        }
    }
}
