//! Bounds of what is listed.

use super::*;

/// Connections in a listing, unless it asks for another number, and at most.
pub const LISTED_DEFAULT: usize = 100;
/// Same, at most: an answer of some hundred KiB.
pub const LISTED_MAX: usize = 1_000;
/// Events that a listing of history gives unless it is asked for another number.
pub const PAST_DEFAULT: u32 = 50;
/// The most that it gives.
pub const PAST_MAX: u32 = 200;
/// Of each topic's newest events a stream may ask for so many.
pub const FROM_MAX: usize = 1_000;
/// Bytes past which it gives fewer, but at least one.
pub const PAST_BYTES: usize = 128 * 1024;
const _: () = assert!(EVENT_BYTES_MAX <= PAST_BYTES && PAST_BYTES + PAST_MAX as usize * 64 <= ANSWER_BYTES_MAX);
/// Members of a topic's viewers that are named unless another number is asked for.
pub const PRESENT_DEFAULT: u32 = 50;
/// The most that are named.
pub const PRESENT_MAX: u32 = 500;
/// Viewers that a core looks at for them: most may be nobody known.
pub const PRESENT_LOOKS: usize = 4_096;
/// Members of whom one request may ask whether they watch.
pub const PRESENT_NAMES_MAX: usize = 500;

/// A poll is answered after this long at the latest: proxies take a minute without a byte for a failure, some half of one.
pub const POLL_WAIT: Duration = Duration::from_secs(25);
/// So long after the first thing that is new, so that what comes with it is in the same answer.
pub const POLL_GATHER: Duration = Duration::from_millis(100);
/// Values so much older than what a poll was shown last are given once more: clocks of nodes differ.
pub const POLL_OVERLAP: Duration = Duration::from_secs(2);
/// Bytes past which a poll is answered, and the next one goes on.
pub const POLL_BYTES: usize = 256 * 1024;
