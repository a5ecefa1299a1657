//! Every bound, in one file.

/// Commands waiting for the storage thread. At 50,000 a second this is 80 ms of work: a client still waits less than
/// it would by retrying, and at about 1 KiB each with their tickets the queue holds at most 4 MiB.
pub const STORE_QUEUE_COMMANDS: usize = 4_096;

/// Commands in one commit. Large enough that the flush to disk is shared by all that wait; small enough that the first of
/// a batch waits no more than some 10 ms for the last.
pub const STORE_BATCH_COMMANDS: usize = 1_024;
const _: () = assert!(STORE_BATCH_COMMANDS <= STORE_QUEUE_COMMANDS);

/// How long a batch waits for another process that holds the database's write lock before its commands get 503.
pub const STORE_BUSY_MS: u64 = 1_000;

/// Bytes in a page of a new database.
pub const STORE_PAGE_BYTES: u32 = 2_048;

/// Pages in the write-ahead log before a commit also copies them back to the database: 32 MiB. A hot page is copied once
/// for all its changes since the last time, so larger is faster, but the pause grows with it.
pub const STORE_WAL_PAGES: u32 = 16_384;

/// Page cache of the storage connection in KiB. Likes arrive in random order of their keys, so the inner pages and
/// the leaves of hot videos should stay in memory.
pub const STORE_CACHE_KIB: u32 = 65_536;
