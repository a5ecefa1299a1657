//! What a request says of the way of its event so far.

use std::time::Instant;

use serde::{Deserialize, Deserializer};

/// The trace of a caller that an event is a part of (W3C Trace Context): the trace, and the caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
}

impl Parent {
    /// Reads a `traceparent`, and whether its caller samples. `None` for what is none, which is to be ignored.
    pub fn parse(text: &str) -> Option<(Parent, bool)> {
        let (version, rest) = text.split_once('-')?;
        let (trace, rest) = rest.split_once('-')?;
        let (span, rest) = rest.split_once('-')?;
        // Later versions may have more behind the flags; this one has not.
        let flags = match version {
            "00" => rest,
            _ => rest.split('-').next()?,
        };
        let [version, flags] = [unhex::<1>(version)?, unhex::<1>(flags)?];
        let parent = Parent { trace: unhex(trace)?, span: unhex(span)? };
        let is_valid = version != [0xff] && parent.trace != [0; 16] && parent.span != [0; 8];
        is_valid.then_some((parent, flags[0] & 1 == 1))
    }
}

/// What is known of an event before it is known whether it is sampled, which its id decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begun {
    /// When its publisher sent it, in Unix ms by the publisher's clock.
    pub sent_at: Option<u64>,
    /// When its request was read; now, where that is not said.
    pub read_at: Option<Instant>,
    /// When the database had what it tells.
    pub stored_at: Option<Instant>,
    /// The trace that it is a part of, and whether that is sampled.
    pub parent: Option<(Parent, bool)>,
}

impl Begun {
    /// By a request that was read now, with what it says of its sender's side of it.
    pub fn read(traceparent: Option<&str>, sent_at: SentAt, now: Instant) -> Begun {
        let parent = traceparent.and_then(Parent::parse);
        Begun { sent_at: sent_at.0, read_at: Some(now), stored_at: None, parent }
    }
}

/// The field `sent_at` of a request: Unix ms by its sender's clock. What is no such number is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentAt(pub Option<u64>);

impl<'de> Deserialize<'de> for SentAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SentAt, D::Error> {
        serde_json::Value::deserialize(from).map(|value| SentAt(value.as_u64()))
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}
