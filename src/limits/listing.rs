//! Bounds of what is listed, and of what is shown once a second to those who watch a node.

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

/// Who may watch a node at once: pages and terminals of those who look after it, not its users.
pub const WATCHERS_MAX: usize = 64;
/// Between two snapshots.
pub const WATCH_EVERY: Duration = Duration::from_secs(1);
/// From the first watcher to the first snapshot: rates need two looks.
pub const WATCH_FIRST: Duration = Duration::from_millis(500);
/// A watcher that takes nothing for so long is cut.
pub const WATCHER_PATIENCE: Duration = BODY_TIMEOUT;
/// Topics, and clients, that a snapshot lists.
pub const WATCHED_ROWS: usize = 10;
/// Of each client it lists so many topics.
pub const WATCHED_TOPICS: usize = 3;
/// Topics whose events a shard counts while it is watched. Those that had most are kept from second to second, so that there is
/// room for half as many new ones.
pub const HEAT_TOPICS: usize = 256;
/// What the last second counts in a topic's rate, which so is that of some seconds: one event now and then is seen, too.
pub const HEAT_WEIGHT: f32 = 0.25;
/// Nodes that are asked once a second how they are; more are shown by their names alone.
pub const GLANCES_MAX: usize = 128;
/// A node answers that within this, or is late.
pub const GLANCE_TIMEOUT: Duration = Duration::from_secs(3);
const _: () = assert!(GLANCE_TIMEOUT.as_millis() > LINK_CONNECT_TIMEOUT.as_millis());
const _: () =
    assert!(GLANCE_TIMEOUT.as_millis() < NODE_LEASE.as_millis(), "a node is seen to be late before it is gone");
/// Nodes that lost their lease and are still shown, and for how long.
pub const GONE_SHOWN: usize = 16;
/// Same: as long as somebody may need to come and look.
pub const GONE_SHOWN_FOR: Duration = Duration::from_secs(15 * 60);
