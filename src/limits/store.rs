//! Bounds of the embedded database's files.

use std::time::Duration;

/// Between two looks whether the database's files are still those that are open, while nothing is stored.
pub const STORE_LOOK: Duration = Duration::from_secs(1);

/// Same while something is stored: what is answered within it after the file was deleted goes with the file. Each look costs
/// some microseconds.
pub const STORE_LOOK_BUSY: Duration = Duration::from_millis(100);
const _: () =
    assert!(STORE_LOOK_BUSY.as_millis() < STORE_LOOK.as_millis() && STORE_LOOK.as_millis() < STORE_PROBE.as_millis());

/// Ids of posts that a restored database leaves out: more than it can have given between the backup and the restore. As many
/// restores as there are seconds in two centuries still leave ids.
pub const RESTORED_IDS: i64 = 1_000_000_000;
const _: () = assert!(RESTORED_IDS < i64::MAX / 6_000_000_000);

/// Quiet time after which an SQLite database that failed is tried again, so that readiness comes back without a command.
pub const STORE_PROBE: Duration = Duration::from_secs(2);
/// An embedded database that nobody used for so long is written to, to find out whether it can be.
pub const STORE_IDLE: Duration = Duration::from_secs(10);
/// What a probe writes: more than a post with all that belongs to it, so that it needs room where a post would.
pub const STORE_PROBE_BYTES: usize = 16 * 1024;
/// What a probe writes after something failed: more than a large batch, so that it needs room where that would.
pub const STORE_PROBE_FAILED_BYTES: usize = 512 * 1024;

/// Commands waiting for the storage thread, a lane. At 50,000 a second this is 80 ms of work: a client still waits less than
/// it would by retrying. Likes take about 1 KiB each with their tickets, so 4 MiB a lane; the longest posts 64 MiB.
pub const STORE_QUEUE_COMMANDS: usize = 4_096;
