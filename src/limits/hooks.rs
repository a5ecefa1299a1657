//! Bounds of hooks: what is kept for their receivers, and how it is sent.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{PRESENCE_BEAT, PRESENCE_GUARD};

/// Hooks of a node.
pub const HOOKS_MAX: usize = 8;
/// The longest URL of one.
pub const HOOK_URL_BYTES_MAX: usize = 2048;
/// Bytes of a key that bodies are signed by, as Standard Webhooks has it.
pub const HOOK_KEY_BYTES: RangeInclusive<usize> = 24..=64;
/// Deliveries that wait for the receiver of a hook; past them no more are stored for it. Their number is looked at once in
/// [`HOOK_LOOK`], so some more may be there.
pub const HOOK_WAITING_MAX: u64 = 100_000;
/// A delivery that was not taken for so long is given up.
pub const HOOK_AGE: Duration = Duration::from_secs(3 * 24 * 3600);
/// How often deliveries are counted, and those given up that are too old.
pub const HOOK_LOOK: Duration = Duration::from_secs(5);
/// Those that one look gives up.
pub const HOOK_EXPIRED_AT_ONCE: u32 = 1_000;
/// How often a backend looks for deliveries of other backends; it sends its own as they come.
pub const HOOK_POLL: Duration = Duration::from_secs(1);
/// Deliveries taken from the database at once, and those that a backend has on their way when it takes more.
pub const HOOK_PAGE: u32 = 64;
/// Deliveries of one hook that are sent side by side, each of another subject.
pub const HOOK_SENDERS: usize = 8;
/// What a receiver has time for, from the look-up of its name to the end of its answer.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// For so long no other backend sends what one took. What is left of it when it may not be over in time is given back.
pub const HOOK_CLAIM: Duration = Duration::from_secs(30);
const _: () = assert!(HOOK_CLAIM.as_secs() > 2 * HOOK_TIMEOUT.as_secs());
/// Bytes of an answer that are read, so that its connection can be used again.
pub const HOOK_ANSWER_BYTES: u64 = 16 * 1024;
/// The pause after a first failure, less up to half of it by chance; twice as long after each that follows.
pub const HOOK_RETRY_MIN: Duration = Duration::from_secs(5);
/// The longest of these pauses.
pub const HOOK_RETRY_MAX: Duration = Duration::from_secs(300);
/// So many failures in a row, of whichever subjects, and the receiver as such is taken to be away: it is tried by one delivery at
/// a time, with the same pauses.
pub const HOOK_FAILURES: u32 = 8;
const _: () = assert!(HOOK_FAILURES as usize >= HOOK_SENDERS);

/// States that a node tells a backend of at once.
pub const HOOK_REPORT: usize = 1_000;
/// States of a shard that wait to be told to a backend; past them all are told again once there is room.
pub const HOOK_REPORTS_MAX: usize = 100_000;
/// A report that was not taken is sent again after this.
pub const HOOK_REPORT_RETRY: Duration = Duration::from_secs(1);
/// How long a backend may take to store a report.
pub const HOOK_REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Who is over a limit is told of once in so long, each limit by itself.
pub const HOOK_LIMIT_EVERY: Duration = Duration::from_secs(60);
/// Those over a limit that a shard knows of at a time; of more nobody is told.
pub const HOOK_LIMITED_MAX: usize = 10_000;

/// States that are compared at a time with the key-value store.
pub const HOOK_COMPARED: u32 = 500;
/// The pause between two such parts.
pub const HOOK_COMPARE: Duration = Duration::from_secs(1);
/// A member or topic of which the key-value store knows nothing is asked for again after this: all that streams say of themselves
/// is there again by then, also where the store begins anew.
pub const HOOK_DOUBT: Duration = Duration::from_secs(PRESENCE_GUARD.as_secs() + 5);
const _: () = assert!(HOOK_DOUBT.as_secs() > 2 * PRESENCE_BEAT.as_secs());
/// Those that are asked for again, at most; more wait for the next time round.
pub const HOOK_DOUBTED_MAX: usize = 10_000;
