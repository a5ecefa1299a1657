//! Bodies between data centers, compressed where that makes them smaller: what crosses the open internet is paid for, and
//! frames of one topic are much alike. LZ4, since it costs hardly more than copying.
//!
//! A packed body is two bytes of magic, its length before (`u32`), and one LZ4 block. Other bodies are as they were: a batch
//! of frames has a magic of its own, and JSON begins otherwise.

use std::borrow::Cow;

use super::binary::{Malformed, Reader};
use crate::limits::{INTERNAL_BODY_BYTES_MAX, PEER_PACK_BYTES};

const MAGIC: [u8; 2] = *b"FZ";

/// Packs a body, unless that would not make it at least an eighth smaller.
pub fn pack(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < PEER_PACK_BYTES {
        return bytes;
    }
    let mut packed = Vec::with_capacity(6 + lz4_flex::block::get_maximum_output_size(bytes.len()));
    packed.extend_from_slice(&MAGIC);
    packed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    packed.extend_from_slice(&lz4_flex::block::compress(&bytes));
    if packed.len() + bytes.len() / 8 < bytes.len() { packed } else { bytes }
}

/// The body as it was before [`pack`].
///
/// # Errors
/// It is packed and broken, or would be longer than [`INTERNAL_BODY_BYTES_MAX`].
pub fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let Some(rest) = bytes.strip_prefix(&MAGIC) else { return Ok(Cow::Borrowed(bytes)) };
    let mut reader = Reader(rest);
    let length = reader.u32()? as usize;
    if length > INTERNAL_BODY_BYTES_MAX {
        return Err(Malformed("it is longer unpacked than a body may be"));
    }
    match lz4_flex::block::decompress(reader.0, length) {
        Ok(unpacked) if unpacked.len() == length => Ok(Cow::Owned(unpacked)),
        _ => Err(Malformed("it cannot be unpacked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_alike_shrinks_and_what_is_not_stays() {
        let likes = br#"{"topic":"live:42","type":"like","data":{"member":"ana","reaction":"like"}}"#.repeat(100);
        let packed = pack(likes.clone());
        assert!(packed.len() < likes.len() / 10, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), likes);
        let small = b"{}".to_vec();
        assert_eq!(pack(small.clone()), small);
    }

    #[test]
    fn a_length_that_is_a_lie_is_refused() {
        let mut packed = pack(vec![7; 4096]);
        assert_eq!(packed[..2], MAGIC);
        for length in [0u32, 4095, 4097, INTERNAL_BODY_BYTES_MAX as u32 + 1, u32::MAX] {
            packed[2..6].copy_from_slice(&length.to_le_bytes());
            assert!(unpack(&packed).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(bytes in prop::collection::vec(0u8..3, 0..3000)) {
            // What begins like a packed body is none of ours.
            let packed = pack(bytes.clone());
            prop_assert_eq!(unpack(&packed).unwrap(), bytes);
        }

        #[test]
        fn garbage_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&[&MAGIC[..], &100u32.to_le_bytes(), &noise].concat());
            let _ = unpack(&noise);
        }
    }
}
