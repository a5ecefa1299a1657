//! The journey of one event: when it passed each checkpoint between its publisher and its viewers, and on which node.
//!
//! Only sampled events have one: it travels beside the event's text, which is the same with and without. A node that
//! does not know of hops passes them over, and what it sends on has none.

mod begun;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

pub use begun::{Begun, Parent, SentAt};

use super::binary::{Malformed, Reader};
use super::connection_id::NodeId;

/// Hops of one event, at most: the longest way, over a backend, two data centers and a frontend, has 15. What follows more is
/// not noted.
pub const HOPS_MAX: usize = 24;
/// Bytes of them between nodes, at most: a trace's name, and of each hop its kind, node, time, clock and error.
pub const HOPS_BYTES_MAX: usize = 25 + HOPS_MAX * (1 + 8 + 3 * VARINT_BYTES_MAX);
const VARINT_BYTES_MAX: usize = 10;

/// What an event passes on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Its publisher sent it, by the publisher's clock: the field `sent_at`.
    Published,
    /// A node read its request.
    Read,
    /// The database has what it tells.
    Stored,
    /// A dispatcher took it.
    Dispatched,
    /// The key-value store has it: its history, or its newest values.
    Kept,
    /// It was given to the connection to another node.
    Sent,
    /// That node read it.
    Taken,
    /// On the core that orders its topic it was its turn.
    Ordered,
    /// The first of a core's viewers was written to.
    FirstWrite,
    /// All of a core's viewers were, but for those that lag.
    LastWrite,
}

impl Checkpoint {
    /// Each of them, by its number between nodes, which never changes.
    pub const ALL: [Checkpoint; 10] = [
        Checkpoint::Published,
        Checkpoint::Read,
        Checkpoint::Stored,
        Checkpoint::Dispatched,
        Checkpoint::Kept,
        Checkpoint::Sent,
        Checkpoint::Taken,
        Checkpoint::Ordered,
        Checkpoint::FirstWrite,
        Checkpoint::LastWrite,
    ];

    /// As metrics and `fanfare trace` call the way there from the checkpoint before.
    pub const fn name(self) -> &'static str {
        match self {
            Checkpoint::Published => "published",
            Checkpoint::Read => "read",
            Checkpoint::Stored => "stored",
            Checkpoint::Dispatched => "dispatched",
            Checkpoint::Kept => "history",
            Checkpoint::Sent => "sent",
            Checkpoint::Taken => "taken",
            Checkpoint::Ordered => "ordered",
            Checkpoint::FirstWrite => "first_write",
            Checkpoint::LastWrite => "last_write",
        }
    }
}

/// How far another clock is ahead of this node's, all in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// By so much; less than 0 if it is behind.
    pub us: i64,
    /// The truth is no further away than this.
    pub error_us: u64,
}

/// One checkpoint that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Which one.
    pub checkpoint: Checkpoint,
    /// The node; [`PUBLISHER`] before the first one.
    pub node: NodeId,
    /// When, in Unix microseconds by that node's clock.
    pub at_us: u64,
    /// How far the clock of the hop before it is ahead, where that is another node's and something is known of its clock.
    pub ahead: Option<Ahead>,
}

/// Where an event was before any node had it.
pub const PUBLISHER: NodeId = NodeId(0);

/// The way between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// How long it took, in microseconds, as far as the clocks say; not less than 0.
    pub us: u64,
    /// How wrong that may be: 0 on one node, none where nothing is known of the other's clock.
    pub error_us: Option<u64>,
}

impl Leg {
    /// Whether the figure says more than its error.
    pub fn is_sure(self) -> bool {
        self.error_us.is_some_and(|error| error <= self.us)
    }
}

/// The checkpoints that an event passed, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hops {
    /// The trace that it belongs to, if its publisher named one.
    pub parent: Option<Parent>,
    hops: Vec<Hop>,
}

/// In place of a checkpoint's number: a [`Parent`] follows.
const PARENT: u8 = 0x3f;
/// The node is another one than before.
const HAS_NODE: u8 = 0x40;
/// The other clock is known.
const HAS_CLOCK: u8 = 0x80;

impl Hops {
    /// None yet, of an event that is a part of this trace.
    pub fn of(parent: Option<Parent>) -> Hops {
        Hops { parent, hops: Vec::new() }
    }

    /// In the order in which they were passed.
    pub fn all(&self) -> &[Hop] {
        &self.hops
    }

    /// The checkpoint that was passed last.
    pub fn last(&self) -> Option<&Hop> {
        self.hops.last()
    }

    /// One more is passed.
    pub fn push(&mut self, hop: Hop) {
        if self.hops.len() < HOPS_MAX {
            self.hops.push(hop);
        }
    }

    /// The way to the hop of this number; none to the first one.
    pub fn leg(&self, to: usize) -> Option<Leg> {
        let (from, to) = (self.hops.get(to.checked_sub(1)?)?, self.hops.get(to)?);
        let apart = i128::from(to.at_us) - i128::from(from.at_us) + i128::from(to.ahead.map_or(0, |ahead| ahead.us));
        let error_us = if from.node == to.node { Some(0) } else { to.ahead.map(|ahead| ahead.error_us) };
        Some(Leg { us: u64::try_from(apart.max(0)).unwrap_or(u64::MAX), error_us })
    }

    /// The name of the trace that an event of this topic and id belongs to: its publisher's, or the same on every node.
    pub fn trace(&self, topic: &str, id: &str) -> [u8; 16] {
        self.parent.map_or_else(|| digest(&[topic.as_bytes(), b"\n", id.as_bytes()]), |parent| parent.trace)
    }

    /// The name of the span that leads to the hop of this number, as every node makes it of what it knows; `None` in front of the
    /// first, unless its publisher named one. Where viewers are written to that is each shard's own.
    pub fn span(&self, trace: &[u8; 16], number: Option<usize>, shard: u16) -> Option<[u8; 8]> {
        let Some(hop) = number.map(|number| self.hops.get(number)) else {
            return self.parent.map(|parent| parent.span);
        };
        let Hop { checkpoint, node, at_us, .. } = *hop?;
        let is_shards = matches!(checkpoint, Checkpoint::FirstWrite | Checkpoint::LastWrite);
        let shard = if is_shards { shard.to_le_bytes() } else { [0; 2] };
        Some(digest(&[trace, &[checkpoint as u8], &node.0.to_le_bytes(), &at_us.to_le_bytes(), &shard]))
    }

    /// Appends them as bytes, some five a hop.
    pub fn to_wire(&self, out: &mut Vec<u8>) {
        if let Some(parent) = &self.parent {
            out.push(PARENT);
            out.extend_from_slice(&parent.trace);
            out.extend_from_slice(&parent.span);
        }
        let (mut node, mut at_us) = (None, 0u64);
        for hop in &self.hops {
            let has_node = node != Some(hop.node);
            let flags = if has_node { HAS_NODE } else { 0 } | if hop.ahead.is_some() { HAS_CLOCK } else { 0 };
            out.push(hop.checkpoint as u8 | flags);
            if has_node {
                out.extend_from_slice(&hop.node.0.to_le_bytes());
            }
            push_signed(out, hop.at_us.wrapping_sub(at_us) as i64);
            if let Some(ahead) = hop.ahead {
                push_signed(out, ahead.us);
                push_varint(out, ahead.error_us);
            }
            (node, at_us) = (Some(hop.node), hop.at_us);
        }
    }

    /// Reads what [`to_wire`](Hops::to_wire) wrote, of a later version, too: checkpoints that it knows and this one does not
    /// are left out.
    pub fn from_wire(bytes: &[u8]) -> Result<Hops, Malformed> {
        let (mut reader, mut hops) = (Reader(bytes), Hops::default());
        let (mut node, mut at_us) = (PUBLISHER, 0u64);
        while !reader.0.is_empty() {
            let tag = reader.u8()?;
            if tag == PARENT {
                let mut parent = Parent { trace: [0; 16], span: [0; 8] };
                parent.trace.copy_from_slice(reader.bytes(16)?);
                parent.span.copy_from_slice(reader.bytes(8)?);
                hops.parent = Some(parent);
                continue;
            }
            if tag & HAS_NODE != 0 {
                node = NodeId(reader.u64()?);
            }
            at_us = at_us.wrapping_add(signed(&mut reader)? as u64);
            let ahead = match tag & HAS_CLOCK {
                0 => None,
                _ => Some(Ahead { us: signed(&mut reader)?, error_us: varint(&mut reader)? }),
            };
            if let Some(&checkpoint) = Checkpoint::ALL.get(usize::from(tag & !(HAS_NODE | HAS_CLOCK))) {
                hops.push(Hop { checkpoint, node, at_us, ahead });
            }
        }
        Ok(hops)
    }

    /// As a text of hexadecimal digits.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::new();
        self.to_wire(&mut bytes);
        hex(&bytes)
    }

    /// Reads what [`to_text`](Hops::to_text) gave; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Hops> {
        if text.len() > 2 * HOPS_BYTES_MAX || !text.len().is_multiple_of(2) {
            return None;
        }
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(byte).collect();
        Hops::from_wire(&bytes?).ok()
    }

    /// Puts them behind all that an event's text says, for a peer's history, where there are but texts.
    pub fn mark(&self, json: &str) -> Arc<str> {
        match json.strip_suffix('}') {
            Some(open) => format!("{open}{LABEL}{}\"}}", self.to_text()).into(),
            None => json.into(),
        }
    }

    /// The text of an event without them, and they.
    pub fn split(json: &str) -> (Option<Hops>, Cow<'_, str>) {
        let plain = (None, Cow::Borrowed(json));
        // A label within the event's data is followed by more than digits: the data's own end, at least.
        let Some(open) = json.strip_suffix("\"}") else { return plain };
        let digits = open.bytes().rev().take_while(u8::is_ascii_hexdigit).count();
        let (head, digits) = open.split_at(open.len() - digits);
        match head.strip_suffix(LABEL) {
            Some(event) => (Hops::from_text(digits), format!("{event}}}").into()),
            None => plain,
        }
    }
}

/// What precedes them in a text.
const LABEL: &str = ",\"hops\":\"";

/// The first bytes of a hash of these together.
fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    std::array::from_fn({
        let hash = hash.finalize();
        move |at| hash[at]
    })
}

/// Whether the journeys of one event in `one_in` are noted, and this one's is: the same on every node, for every attempt
/// to publish it.
pub fn is_sampled(id: &str, one_in: u32) -> bool {
    // FNV-1a, which never changes; its low bits alone would follow the id's last ones.
    let hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    one_in > 0 && (hash ^ hash >> 32).is_multiple_of(u64::from(one_in))
}

/// As hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// Small numbers take few bytes: seven bits each, and whether more follow.
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_signed(out: &mut Vec<u8>, value: i64) {
    push_varint(out, (value << 1 ^ value >> 63) as u64);
}

/// Reads what [`push_varint`] wrote.
///
/// # Errors
/// It does not end.
pub fn varint(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let mut value = 0;
    for place in 0..VARINT_BYTES_MAX {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed("a number of a hop does not end"))
}

fn signed(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    let value = varint(reader)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hop() -> impl Strategy<Value = Hop> {
        let ahead = prop::option::of((any::<i64>(), any::<u64>()).prop_map(|(us, error_us)| Ahead { us, error_us }));
        (0..Checkpoint::ALL.len(), 0u64..3, any::<u64>(), ahead).prop_map(|(checkpoint, node, at_us, ahead)| Hop {
            checkpoint: Checkpoint::ALL[checkpoint],
            node: NodeId(node),
            at_us,
            ahead,
        })
    }

    fn of(hops: Vec<Hop>, is_named: bool) -> Hops {
        let parent = is_named.then_some(Parent { trace: [7; 16], span: [9; 8] });
        hops.into_iter().fold(Hops::of(parent), |mut all, hop| {
            all.push(hop);
            all
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(hops in prop::collection::vec(hop(), 0..HOPS_MAX + 3), is_named: bool) {
            let hops = of(hops, is_named);
            let mut bytes = Vec::new();
            hops.to_wire(&mut bytes);
            prop_assert!(bytes.len() <= HOPS_BYTES_MAX && hops.all().len() <= HOPS_MAX);
            prop_assert_eq!(Hops::from_wire(&bytes), Ok(hops.clone()));
            let marked = hops.mark(r#"{"id":"1","data":{"a":1}}"#);
            let (read, text) = Hops::split(&marked);
            prop_assert_eq!((read, &*text), (Some(hops), r#"{"id":"1","data":{"a":1}}"#));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            if let Ok(hops) = Hops::from_wire(&bytes) {
                for hop in 0..HOPS_MAX {
                    let _leg = hops.leg(hop);
                }
            }
        }
    }

    #[test]
    fn some_bytes_a_hop() {
        let hop = |checkpoint, at_us| Hop { checkpoint, node: NodeId(7), at_us, ahead: None };
        let start = 1_732_313_131_123_456;
        let hops = [(Checkpoint::Read, start), (Checkpoint::Dispatched, start + 40), (Checkpoint::Kept, start + 900)];
        let mut bytes = Vec::new();
        of(hops.map(|(checkpoint, at)| hop(checkpoint, at)).to_vec(), false).to_wire(&mut bytes);
        assert_eq!(bytes.len(), 1 + 8 + 8 + (1 + 1) + (1 + 2));
    }

    #[test]
    fn data_that_looks_like_hops_stays_data() {
        for json in [r#"{"data":{"a":1,"hops":"00"}}"#, r#"{"data":"a,\"hops\":\"00"}"#, r#"{"hops":"00"}"#, "", "{}"] {
            assert_eq!(Hops::split(json), (None, json.into()), "{json}");
        }
    }

    #[test]
    fn checkpoints_of_later_versions_are_passed_over() {
        let later = [0x3e | HAS_NODE, 1, 0, 0, 0, 0, 0, 0, 0, 20, Checkpoint::Taken as u8, 2];
        let taken = Hop { checkpoint: Checkpoint::Taken, node: NodeId(1), at_us: 11, ahead: None };
        assert_eq!(Hops::from_wire(&later).unwrap().all(), [taken]);
    }

    #[test]
    fn a_leg_is_corrected_by_the_clocks_and_says_how_wrong_it_may_be() {
        let hop = |node, at_us, ahead| Hop { checkpoint: Checkpoint::Taken, node: NodeId(node), at_us, ahead };
        let ahead = |us, error_us| Some(Ahead { us, error_us });
        let leg = |from, to| of(vec![from, to], false).leg(1).unwrap();
        let on_one = leg(hop(1, 100, None), hop(1, 130, None));
        assert_eq!((on_one, on_one.is_sure()), (Leg { us: 30, error_us: Some(0) }, true));
        let known = leg(hop(1, 5_000_100, None), hop(2, 300, ahead(5_000_000, 40)));
        assert_eq!((known, known.is_sure()), (Leg { us: 200, error_us: Some(40) }, true));
        let rough = leg(hop(1, 100, None), hop(2, 130, ahead(0, 40)));
        assert_eq!((rough, rough.is_sure()), (Leg { us: 30, error_us: Some(40) }, false));
        let unknown = leg(hop(1, 100, None), hop(2, 90, None));
        assert_eq!((unknown, unknown.is_sure()), (Leg { us: 0, error_us: None }, false));
        assert_eq!(Hops::default().leg(0), None);
    }

    #[test]
    fn the_same_events_are_sampled_everywhere_and_about_as_many_as_asked_for() {
        let ids = || (0..100_000).map(|number| format!("0123456789abc-1-{number}"));
        for one_in in [1, 10, 1000] {
            let sampled = ids().filter(|id| is_sampled(id, one_in)).count();
            let wanted = 100_000 / one_in as usize;
            assert!(sampled.abs_diff(wanted) <= wanted / 2, "{sampled} of one in {one_in}");
        }
        assert!(!ids().any(|id| is_sampled(&id, 0)));
    }

    #[test]
    fn callers_name_their_trace() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (parent, is_sampled) = Parent::parse(text).unwrap();
        assert!(is_sampled && hex(&parent.trace).starts_with("0af7") && hex(&parent.span) == "b7ad6b7169203331");
        assert_eq!(Parent::parse(&text.replace("-01", "-00")), Some((parent, false)));
        assert_eq!(Parent::parse(&format!("{}-more", text.replacen("00", "cc", 1))), Some((parent, true)));
        for bad in [
            "",
            "00-0-0-0",
            &text.replacen("00", "ff", 1),
            &format!("{text}-more"),
            &text.to_uppercase(),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{bad}");
        }
    }
}
