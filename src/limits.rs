//! Every bound in one file, related to each other by `const` assertions.
//!
//! A bound without a reason beside it is a defect. Sizes are bytes unless the name says otherwise.

use std::time::Duration;

// ---- Words -------------------------------------------------------------------------------------

/// Shortest topic: one byte of kind, the colon, one byte of id.
pub const TOPIC_BYTES_MIN: usize = 3;
/// Longest topic. Fits the `u8` lengths of node-to-node frames.
pub const TOPIC_BYTES_MAX: usize = 200;
/// Longest event type.
pub const TYPE_BYTES_MAX: usize = 64;
/// Longest key of an event, before JSON escapes.
pub const KEY_BYTES_MAX: usize = 200;
/// Longest event id that a publisher may give.
pub const ID_BYTES_MAX: usize = 128;
/// Largest data of one event.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting of an event's data. The scanner keeps one bit a level in one word.
pub const JSON_DEPTH_MAX: u32 = 64;
/// Longest member, video, reaction or conversation name, before percent-encoding.
pub const NAME_BYTES_MAX: usize = 128;

// ---- HTTP --------------------------------------------------------------------------------------

/// Largest request head: a hundred topics of 200 bytes in the query fit, with the usual headers.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most headers in one request; browsers send about 20.
pub const HEADERS_MAX: usize = 96;
/// Largest body that is read whole.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest line of an NDJSON body: an event, its envelope, and JSON's own escapes.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
/// Rejected NDJSON lines that an answer lists one by one.
pub const REJECTED_LISTED_MAX: usize = 100;
/// Bytes of answers that may wait for a client that sends requests and reads nothing; past it, it is not read from.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// From the first byte of a request (or the accept) to the end of its head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests of a kept-alive connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Without progress while a body is read, or an answer written.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

// ---- Streams -----------------------------------------------------------------------------------

/// Topics of one connection.
pub const TOPICS_PER_CONNECTION_MAX: usize = 100;
/// Sent to clients as `heartbeat_ms`; a comment goes out after this much silence.
pub const HEARTBEAT: Duration = Duration::from_secs(20);
/// The promise: a comment line at least this often.
pub const HEARTBEAT_PROMISED: Duration = Duration::from_secs(25);
/// How long one sweep over a shard's slots takes: the precision of every timeout of a connection.
pub const SWEEP: Duration = Duration::from_secs(4);
/// A shard's clock tick: the sweep is cut into this many equal parts.
pub const TICK: Duration = Duration::from_millis(100);
/// `connected` comes after this long even when topics are still pending.
pub const CONNECTED_WAIT: Duration = Duration::from_secs(1);
/// `TCP_USER_TIMEOUT`: unacknowledged data for this long ends a connection.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long while something waits for it is cut.
pub const STALLED_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream's client is told this long before its token ends, or after half of the time left if that is shorter: enough
/// to ask for a new one and to retry.
pub const TOKEN_NOTICE: Duration = Duration::from_secs(60);
/// A client that vanished is gone within this.
pub const VANISHED_MAX: Duration = Duration::from_secs(55);
/// Backlog of one connection, beyond what the kernel took.
pub const BACKLOG_BYTES: usize = 64 * 1024;
/// Merged entries (`sum` and `latest`) that a connection's backlog holds past its byte budget.
pub const BACKLOG_KEYS_MAX: usize = 256;
/// Events of class `ephemeral` are dropped after waiting longer than this in our queues, unless configured.
pub const EPHEMERAL_TTL: Duration = Duration::from_secs(5);
/// Kernel send buffer of a viewer's socket (the kernel doubles it for its own bookkeeping).
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Unsent bytes past which the kernel calls a socket unwritable (`TCP_NOTSENT_LOWAT`).
pub const NOTSENT_LOWAT_BYTES: u32 = 32 * 1024;

// ---- A shard -----------------------------------------------------------------------------------

/// Shards of one node: bits of a core set.
pub const SHARDS_MAX: usize = 128;
/// Backlog of a listening socket; the kernel caps it at `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 65_535;
/// Connections accepted before the shard turns to its other work.
pub const ACCEPT_BURST: usize = 64;
/// Pause after an accept error that would repeat at once (out of files or memory).
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Readiness events taken from the kernel at once.
pub const READY_BATCH: usize = 256;
/// Sends of a fan-out before the shard looks at sockets and its mailbox again: about half a millisecond.
pub const FANOUT_BURST: usize = 128;
/// Sends for one topic before the next topic's turn, within a burst.
pub const FANOUT_SLICE: usize = 32;
/// How often a shard that never sleeps lets other tasks of its executor run.
pub const YIELD_EVERY: Duration = Duration::from_millis(1);
/// How long a shard looks for more before it sleeps, where that has paid: about what a sleep costs.
pub const PATIENCE: Duration = Duration::from_micros(40);
/// Looks in vain, two for one, after which a shard that was busy sleeps at once again.
pub const PATIENCE_CREDIT_MAX: i32 = 16;
/// Sleeps after which a shard that is not busy looks once all the same.
pub const PATIENCE_PROBE: u32 = 64;
/// One read from a socket.
pub const READ_BYTES: usize = 64 * 1024;
/// Reads from one socket before others get their turn.
pub const READ_BURST: usize = 4;
/// Messages that a shard's mailbox holds.
pub const MAILBOX_MESSAGES: usize = 16 * 1024;
/// Bytes of events that wait for another shard whose mailbox is full; past it they are dropped by class.
pub const MESH_BACKLOG_BYTES: usize = 4 * 1024 * 1024;
/// A shard's log of one topic; past it what arrives merges by class until viewers caught up.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Merged entries that wait behind a full log, past as many bytes again.
pub const LOG_KEYS_MAX: usize = 4096;

/// Bytes from which on a write goes by `sendfile`, without copies; below, handing pages over costs more than copying.
pub const SENDFILE_BYTES_MIN: usize = 8 * 1024;
/// Viewers from which on that pays: the file is written once for all of them.
pub const SENDFILE_VIEWERS_MIN: usize = 16;
/// Topics of a shard that have a memory file at a time; each is an open file.
pub const PAGED_TOPICS_MAX: usize = 32;
/// A memory file is given back after this long without use.
pub const PAGES_IDLE: Duration = Duration::from_secs(10);
/// Bytes that no viewer needs any more, before they are punched out of a memory file.
pub const PAGES_PUNCH_BYTES: u64 = 1024 * 1024;

// ---- Dispatching -------------------------------------------------------------------------------

/// A cached subscription entry is at most this old.
pub const SUBSCRIBERS_CACHE_AGE: Duration = Duration::from_secs(2);
/// Topics in a dispatcher's cache, a shard.
pub const SUBSCRIBERS_CACHE_TOPICS: usize = 65_536;
/// Events that wait for a look-up in the key-value store, a shard; past it publishers get 503.
pub const LOOKUP_WAITING_EVENTS: usize = 65_536;
/// A topic is let go this long after its last viewer left.
pub const TOPIC_LINGER: Duration = Duration::from_secs(5);

/// How often a node says that it lives.
pub const NODE_HEARTBEAT: Duration = Duration::from_secs(2);
/// A node that said nothing for this long is dead; also how long after a store's return nobody is declared dead.
pub const NODE_LEASE: Duration = Duration::from_secs(6);
/// Entries of dead nodes are swept within this.
pub const NODE_SWEEP: Duration = Duration::from_secs(60);
/// A question to the key-value store is answered within this, if only by saying that it is unavailable.
pub const KV_TIMEOUT: Duration = Duration::from_secs(3);
/// Topics in one batch of registrations: some 20 KiB, and about a millisecond of the store's time.
pub const REGISTRATIONS_PER_BATCH: usize = 512;
/// A batch of registrations that failed is sent again after this.
pub const REGISTER_RETRY: Duration = Duration::from_millis(200);
const _: () = assert!(NODE_HEARTBEAT.as_millis() * 3 <= NODE_LEASE.as_millis());

// ---- History -----------------------------------------------------------------------------------

/// A `Last-Event-ID` of another data center counts as so much earlier: its clock and order are its own.
pub const RESUME_FOREIGN_MS: u64 = 60_000;
/// A client that comes back gets what it may have missed from so much before its `Last-Event-ID`: what other topics of its
/// stream, or other nodes, were late with.
pub const RESUME_OVERLAP_MS: u64 = 10_000;
/// How long an event waits for the one before it, before the hole is read from history.
pub const HOLE_WAIT: Duration = Duration::from_millis(200);
/// How often the end of a topic is compared with history's, where it was active within [`TOPIC_ACTIVE`].
pub const ENDS_ACTIVE: Duration = Duration::from_secs(5);
/// Same elsewhere.
pub const ENDS_QUIET: Duration = Duration::from_secs(60);
/// A topic is active for so long after an event.
pub const TOPIC_ACTIVE: Duration = Duration::from_secs(60);
/// Events in one page of history.
pub const PAGE_EVENTS: u32 = 256;
/// Events of class `every` that a node keeps in memory for each topic with viewers, for clients that come back.
pub const RING_EVENTS: usize = 256;
/// Same, in bytes.
pub const RING_BYTES: usize = 128 * 1024;
/// The newest value of a topic, type and key is kept for so long after it was set.
pub const LATEST_AGE: Duration = Duration::from_secs(24 * 3600);
/// Types and keys of class `latest` that a topic keeps; past it the oldest goes.
pub const LATEST_KEYS_MAX: usize = 1_000;
/// The embedded store: bytes of history over all topics; past it the oldest events go, and clients that need them get a
/// `gap`.
pub const MEMORY_HISTORY_BYTES: usize = 256 * 1024 * 1024;

// ---- Storing -----------------------------------------------------------------------------------

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

/// How long `Retry-After` asks clients to wait when the database or a queue is full, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;

// The longest silence is the heartbeat plus one sweep, since a slot is looked at once a sweep.
const _: () = assert!(HEARTBEAT.as_millis() + SWEEP.as_millis() < HEARTBEAT_PROMISED.as_millis());
// A vanished client is noticed by an unacknowledged heartbeat.
const _: () =
    assert!(HEARTBEAT.as_millis() + SWEEP.as_millis() + TCP_USER_TIMEOUT.as_millis() < VANISHED_MAX.as_millis());
// The sweep gives the notice, so it may come one sweep late.
const _: () = assert!(TOKEN_NOTICE.as_millis() > 2 * SWEEP.as_millis());
const _: () = assert!(SWEEP.as_millis().is_multiple_of(TICK.as_millis()));
// The scanner's stack is one word.
const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS);
// An event fits a body, a line and, three times over, a connection's backlog.
const _: () = assert!(EVENT_BYTES_MAX + KEY_BYTES_MAX + ID_BYTES_MAX + TOPIC_BYTES_MAX < LINE_BYTES_MAX);
const _: () = assert!(LINE_BYTES_MAX <= BODY_BYTES_MAX);
const _: () = assert!(EVENT_BYTES_MAX * 3 <= BACKLOG_BYTES);
// A full request can be held back while its answers wait.
const _: () = assert!(HEAD_BYTES_MAX + BODY_BYTES_MAX < ANSWER_BYTES_MAX);
// A hundred topics fit one head, with room for other headers.
const _: () = assert!(TOPICS_PER_CONNECTION_MAX * (TOPIC_BYTES_MAX + "&topic=".len()) < HEAD_BYTES_MAX - 8 * 1024);
const _: () = assert!(SHARDS_MAX <= u128::BITS as usize);
const _: () = assert!(TOPIC_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(TYPE_BYTES_MAX <= u8::MAX as usize);

// ---- Redis -------------------------------------------------------------------------------------

/// Questions under way to Redis; past it they are answered at once as unavailable. At about a kilobyte each with their
/// tasks some 32 MiB, and less than a second of a server's work.
pub const REDIS_QUESTIONS: usize = 32_768;
/// Questions taken before answers get their turn.
pub const REDIS_TAKEN: usize = 128;
/// Questions under way are answered after this, whatever the servers do.
pub const REDIS_ANSWER: Duration = Duration::from_millis(2_500);
const _: () = assert!(REDIS_ANSWER.as_millis() < KV_TIMEOUT.as_millis());
/// Commands handed over to one connection that it has not yet begun to write.
pub const REDIS_IN_FLIGHT: usize = 1_024;
/// Invalidations that wait to be told; past it all is invalid.
pub const REDIS_PUSHES: usize = 16_384;
/// Writes of one shard to one topic that are sent in one go.
pub const REDIS_GROUP: usize = 256;
/// From the first packet to a connection that is greeted.
pub const REDIS_CONNECT: Duration = Duration::from_secs(1);
/// A server that says nothing for this long is away. A fork for a snapshot of tens of GiB takes less.
pub const REDIS_SILENT: Duration = Duration::from_millis(1_500);
/// How often a server is asked whether it is still a master, and how many replicas it has.
pub const REDIS_LOOK: Duration = Duration::from_secs(1);
/// How long a node that starts waits for its first connection before it serves without.
pub const REDIS_START: Duration = Duration::from_secs(2);
/// The pause before the first new connection to a server that was lost; each next one is twice as long.
pub const REDIS_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two: short against [`NODE_LEASE`], so that all nodes are back before anybody is declared dead.
pub const REDIS_BACKOFF_MAX: Duration = Duration::from_secs(1);
const _: () = assert!(
    REDIS_BACKOFF_MAX.as_millis() + REDIS_CONNECT.as_millis() + NODE_HEARTBEAT.as_millis() < NODE_LEASE.as_millis()
);
/// How often a Cluster or a Sentinel is asked who has what, where nothing seems to have changed.
pub const REDIS_TOPOLOGY: Duration = Duration::from_secs(10);
/// How often one question follows a redirection, reloads scripts, or waits for a slot that is on the move.
pub const REDIS_REDIRECTS: usize = 8;
/// The pause before asking again for a slot that is on the move.
pub const REDIS_TRY_AGAIN: Duration = Duration::from_millis(50);
/// An event that no replica confirmed within this is not acknowledged.
pub const REDIS_REPLICA_WAIT: Duration = Duration::from_secs(1);
/// Topics that one step of a sweep removes: about half a millisecond of the server's time.
pub const REDIS_SWEEP_SLICE: usize = 256;
/// How often somebody looks for what dead nodes left. Some rounds fit into [`NODE_SWEEP`].
pub const REDIS_SWEEP_EVERY: Duration = Duration::from_secs(12);
const _: () = assert!(NODE_LEASE.as_millis() + 3 * REDIS_SWEEP_EVERY.as_millis() < NODE_SWEEP.as_millis());
/// Histories whose end one script looks up: about half a millisecond of the server's time.
pub const REDIS_ENDS: usize = 128;
/// Keys that are tried for the write that precedes a wait for replicas: the slot of one may be on the move.
pub const REDIS_BARRIERS: usize = 4;
