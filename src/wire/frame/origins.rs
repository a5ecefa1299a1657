//! Where frames of another data center come from: they keep the numbers under which that sent them on their way to
//! Frontends, so that what is sent again by way of another Dispatcher is shown once. Where such frames merge, the merged one
//! stands for all their numbers.

use std::sync::Arc;

use super::Frame;
use crate::wire::binary::{Malformed, Reader};
use crate::wire::connection_id::NodeId;
use crate::wire::event::Class;

/// Numbers that one frame stands for, at most; past it frames do not merge.
pub const ORIGINS_MAX: usize = 64;

/// The length of one on the wire.
pub(super) const ORIGIN_BYTES: usize = 8 + 2 + 8 + 4;

/// A dispatcher of another data center. Its name there is what it says of itself, so that the data center, which was
/// authenticated, stands before it: no data center can pass for a sender of another one, or of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stranger(u64);

/// Bits of a [`Stranger`] that name the dispatcher; those above them name its data center.
const STRANGER_NODE_BITS: u32 = 40;

impl Stranger {
    /// The dispatcher that calls itself `node`, of the data center whose secret came with it. The same on every node, since
    /// frames go to viewers by any dispatcher.
    pub fn of(dc: &str, node: NodeId) -> Stranger {
        // FNV-1a, which never changes; names of data centers are the operator's.
        let dc = dc
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let dc = dc ^ dc >> STRANGER_NODE_BITS;
        let node = (node.0 ^ node.0 >> STRANGER_NODE_BITS) & ((1 << STRANGER_NODE_BITS) - 1);
        Stranger(dc << STRANGER_NODE_BITS | node)
    }
}

/// A frame of another data center, by the number that its sender gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The dispatcher there.
    pub sender: Stranger,
    /// Its shard: each numbers its own.
    pub shard: u16,
    /// The frame's number.
    pub number: u64,
    /// How many events it stood for.
    pub count: u32,
}

impl Frame {
    /// The frames of another data center that it stands for; none for one that comes from this one.
    pub fn origins(&self) -> &[Origin] {
        self.origins.as_deref().unwrap_or_default()
    }

    /// The same frame, standing for the frames `origins` of another data center.
    pub fn with_origins(self: &Arc<Frame>, origins: &[Origin]) -> Arc<Frame> {
        let origins = if origins.is_empty() { None } else { Some(Arc::from(origins)) };
        Arc::new(Frame { origins, ..(**self).clone() })
    }

    /// Whether it may merge with an older one: together they stand for no more numbers than fit.
    pub fn merges_with(&self, older: &Frame) -> bool {
        self.origins().len() + older.origins().len() <= ORIGINS_MAX
    }

    /// The same frame, standing also for the numbers of an older one that it merged with.
    pub fn merged_with(self: &Arc<Frame>, older: &Frame) -> Arc<Frame> {
        if older.origins.is_none() {
            return Arc::clone(self);
        }
        self.with_origins(&[older.origins(), self.origins()].concat())
    }

    pub(super) fn origins_to_wire(&self, out: &mut Vec<u8>) {
        if let Some(origins) = &self.origins {
            out.push(origins.len() as u8);
            for origin in origins.iter() {
                out.extend_from_slice(&origin.sender.0.to_le_bytes());
                out.extend_from_slice(&origin.shard.to_le_bytes());
                out.extend_from_slice(&origin.number.to_le_bytes());
                out.extend_from_slice(&origin.count.to_le_bytes());
            }
        }
    }

    /// Reads what [`origins_to_wire`](Frame::origins_to_wire) wrote of a frame of this class and count.
    pub(super) fn origins_from_wire(
        fields: &mut Reader<'_>,
        class: Class,
        count: u32,
    ) -> Result<Option<Arc<[Origin]>>, Malformed> {
        let mut origins = Vec::new();
        for _ in 0..fields.u8()? {
            origins.push(Origin {
                sender: Stranger(fields.u64()?),
                shard: fields.u16()?,
                number: fields.u64()?,
                count: fields.u32()?,
            });
        }
        let events: u64 = origins.iter().map(|origin| u64::from(origin.count)).sum();
        let fits = if class.adds_up() { events <= u64::from(count) } else { origins.len() == 1 };
        if fits && origins.len() <= ORIGINS_MAX && !origins.is_empty() {
            Ok(Some(origins.into()))
        } else {
            Err(Malformed("it comes from more frames than it stands for"))
        }
    }
}

const _: () = assert!(ORIGINS_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::tests::frame;

    fn origin(number: u64, count: u32) -> Origin {
        Origin { sender: Stranger(7), shard: 1, number, count }
    }

    #[test]
    fn a_data_center_names_its_own_senders_only() {
        let nodes = [0, 1, 7, 1 << 40, u64::MAX].map(NodeId);
        let strangers = ["a", "b", "eu-1", "eu-2", "us"].map(|dc| nodes.map(|node| Stranger::of(dc, node)));
        for (at, senders) in strangers.iter().enumerate() {
            for other in &strangers[at + 1..] {
                let centers =
                    |all: &[Stranger]| all.iter().map(|sender| sender.0 >> STRANGER_NODE_BITS).collect::<Vec<_>>();
                assert!(centers(senders).iter().all(|center| !centers(other).contains(center)));
            }
        }
        let one = Stranger::of("a", NodeId(7));
        assert_eq!(one, Stranger::of("a", NodeId(7)));
        assert_ne!(one, Stranger::of("a", NodeId(8)));
    }

    #[test]
    fn merged_frames_stand_for_all_their_numbers() {
        let like = frame("live:1", "like", None, Class::Sum, "1");
        let (one, other) = (like.with_origins(&[origin(1, 1)]), like.with_origins(&[origin(2, 1)]));
        assert_eq!(other.merged_with(&one).origins(), [origin(1, 1), origin(2, 1)]);
        assert_eq!(like.merged_with(&one).origins(), [origin(1, 1)]);
        assert!(like.merged_with(&like).origins().is_empty());
        let full = like.with_origins(&[origin(1, 1); ORIGINS_MAX]);
        assert!(full.merges_with(&like) && !full.merges_with(&one) && !one.merges_with(&full));
        assert_eq!(full.recounted(99).origins().len(), ORIGINS_MAX);
        assert_eq!(one.with_origins(&[]).origins(), []);
    }
}
