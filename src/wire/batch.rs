//! A batch of frames from one shard of a node to another node.
//!
//! Two bytes of magic, the version, the length of the header's fields (`u16`), the fields, and the frames as records.
//! Readers skip what a header has behind the fields they know: a node of the next version may add some.

use super::binary::{Malformed, Reader};
use super::connection_id::NodeId;
use super::frame::Frame;
use crate::limits::NUMBERS_AHEAD_MAX;

/// The version that this build writes. It reads those next to it, too.
pub const VERSION: u8 = 1;

/// Whether messages of this version are read here: neighbours one version apart work together.
pub const fn is_readable(version: u8) -> bool {
    version.abs_diff(VERSION) <= 1 && version > 0
}

const MAGIC: [u8; 2] = *b"FB";
const FIELDS_BYTES: usize = 8 + 2 + 8 + 8 + 4;
const HEADER_BYTES: usize = MAGIC.len() + 1 + 2 + FIELDS_BYTES;

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The node that sends it.
    pub sender: NodeId,
    /// The shard there: each numbers its own.
    pub shard: u16,
    /// The number of the first frame; the others follow without holes.
    pub first: u64,
    /// The oldest number that the sender had no answer for when it wrote this; older ones never come again.
    pub floor: u64,
    /// Frames.
    pub count: u32,
}

/// A batch being written.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer { bytes: vec![0; HEADER_BYTES], count: 0 }
    }
}

impl Writer {
    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame) {
        frame.to_wire(&mut self.bytes);
        self.count += 1;
    }

    /// Frames so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Completes it: its frames are numbered from `first` on.
    pub fn finish(mut self, sender: NodeId, shard: u16, first: u64, floor: u64) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.push(VERSION);
        header.extend_from_slice(&(FIELDS_BYTES as u16).to_le_bytes());
        header.extend_from_slice(&sender.0.to_le_bytes());
        header.extend_from_slice(&shard.to_le_bytes());
        header.extend_from_slice(&first.to_le_bytes());
        header.extend_from_slice(&floor.to_le_bytes());
        header.extend_from_slice(&self.count.to_le_bytes());
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
        self.bytes
    }
}

/// A batch as it came.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// What it says of itself.
    pub header: Header,
    records: Reader<'a>,
}

impl<'a> Batch<'a> {
    /// Reads the header; frames are read one by one by [`frames`](Batch::frames).
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, Malformed> {
        let mut reader = Reader(bytes);
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(Malformed("this is no batch of frames"));
        }
        if !is_readable(reader.u8()?) {
            return Err(Malformed("its version is not next to this node's; upgrade one version at a time"));
        }
        let length = usize::from(reader.u16()?);
        let mut fields = Reader(reader.bytes(length)?);
        let header = Header {
            sender: NodeId(fields.u64()?),
            shard: fields.u16()?,
            first: fields.u64()?,
            floor: fields.u64()?,
            count: fields.u32()?,
        };
        let end = header.first.checked_add(u64::from(header.count)).ok_or(Malformed("its numbers overflow"))?;
        if header.floor > header.first || end - header.floor > NUMBERS_AHEAD_MAX {
            return Err(Malformed("it runs too far ahead of its oldest unanswered number"));
        }
        Ok(Batch { header, records: reader })
    }

    /// Its frames with their numbers, those that `wanted` says; the others are passed over. All or, if anything is wrong
    /// with it, none.
    pub fn frames(mut self, mut wanted: impl FnMut(u64) -> bool) -> Result<Vec<(u64, Frame)>, Malformed> {
        let mut frames = Vec::new();
        for offset in 0..self.header.count {
            let number = self.header.first + u64::from(offset);
            let record = Frame::next_record(&mut self.records)?;
            if wanted(number) {
                frames.push((number, Frame::from_wire(record)?));
            }
        }
        if self.records.0.is_empty() { Ok(frames) } else { Err(Malformed("something follows its last frame")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;

    fn batch(count: usize, first: u64, floor: u64) -> Vec<u8> {
        let mut writer = Writer::default();
        for number in 0..count {
            writer.push(&frame("live:1", "like", None, Class::Sum, &number.to_string()));
        }
        assert_eq!(writer.count() as usize, count);
        writer.finish(NodeId(7), 3, first, floor)
    }

    #[test]
    fn round_trips() {
        let bytes = batch(5, 100, 90);
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(batch.header, Header { sender: NodeId(7), shard: 3, first: 100, floor: 90, count: 5 });
        let frames = batch.frames(|number| number % 2 == 1).unwrap();
        assert_eq!(frames.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [101, 103]);
        assert!(frames[1].1.json().ends_with("\"data\":3}"), "{:?}", frames[1]);
    }

    #[test]
    fn a_neighbouring_version_with_more_fields_is_read() {
        let mut bytes = batch(2, 1, 1);
        bytes[2] = VERSION + 1;
        bytes[3..5].copy_from_slice(&(FIELDS_BYTES as u16 + 4).to_le_bytes());
        bytes.splice(HEADER_BYTES..HEADER_BYTES, *b"more");
        assert_eq!(Batch::parse(&bytes).unwrap().frames(|_| true).unwrap().len(), 2);
        for version in [0, VERSION + 2, 255] {
            bytes[2] = version;
            assert!(Batch::parse(&bytes).is_err());
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        assert!(Batch::parse(&batch(1, 5, 6)).is_err());
        assert!(Batch::parse(&batch(1, u64::MAX, u64::MAX)).is_err());
        assert!(Batch::parse(&batch(1, NUMBERS_AHEAD_MAX - 1, 0)).is_ok());
        assert!(Batch::parse(&batch(1, NUMBERS_AHEAD_MAX, 0)).is_err());
        let longer = [batch(1, 0, 0), vec![0]].concat();
        assert!(Batch::parse(&longer).unwrap().frames(|_| true).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = batch(3, 10, 5);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())], &noise[..]] {
                if let Ok(batch) = Batch::parse(bytes) {
                    let _ = batch.frames(|_| true);
                }
            }
        }
    }
}
