//! Bounds of what is told to all nodes at once: streams to end or to change, tokens to refuse.

use std::time::Duration;

use super::{PAGE_EVENTS, TOKEN_EXPIRY_MAX};

/// The longest `jti` of a token.
pub const JTI_BYTES_MAX: usize = 256;
/// How often each node reads what was told: what is told to one holds everywhere within a second.
pub const CONTROL_READ: Duration = Duration::from_millis(400);
/// Revocations that are taken; more are refused, since forgetting one would let somebody in again.
pub const REVOCATIONS_MAX: usize = 20_000;
/// Those that are kept: four data centers that were cut off from each other may have taken as many each.
pub const REVOCATIONS_KEPT: usize = 4 * REVOCATIONS_MAX;
/// They are kept for this much longer than a token may live: clocks differ.
pub const REVOCATIONS_LONGER: Duration = Duration::from_secs(3600);
/// How long history keeps them: no token lives for longer.
pub const REVOCATIONS_AGE: Duration = Duration::from_secs(TOKEN_EXPIRY_MAX.as_secs() + REVOCATIONS_LONGER.as_secs());
/// Changes of streams that history keeps: more than come while one node reads.
pub const CONTROL_CHANGES_KEPT: u32 = 2_000;
const _: () = assert!(CONTROL_CHANGES_KEPT > 2 * PAGE_EVENTS);
/// A change of streams that is older than the node by more than this is not for its streams.
pub const CONTROL_LATE: Duration = Duration::from_secs(60);
/// Tokens that may each bring topics to one stream, until its own is renewed.
pub const STREAM_TOKENS_MAX: usize = 16;
/// Slots that are looked at before a turn looks at its time.
pub const CONTROL_LOOKS: u32 = 256;
