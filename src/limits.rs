//! Every bound in one place, related to each other by `const` assertions; those between nodes are in a file of their own.
//!
//! A bound without a reason beside it is a defect. Sizes are bytes unless the name says otherwise.

mod authorize;
mod canary;
mod check;
mod control;
mod full;
mod happenings;
mod hooks;
mod journeys;
mod listing;
mod memory;
mod merging;
mod nodes;
mod otlp;
mod outbox;
mod prefixes;
mod returns;
mod rules;
mod store;
mod tls;
mod turn;
mod updates;

pub use authorize::*;
pub use canary::*;
pub use check::*;
pub use control::*;
pub use full::*;
pub use happenings::*;
pub use hooks::*;
pub use journeys::*;
pub use listing::*;
pub use memory::*;
pub use merging::*;
pub use nodes::*;
pub use otlp::*;
pub use outbox::*;
pub use prefixes::*;
pub use returns::*;
pub use rules::*;
use std::time::Duration;
pub use store::*;
pub use tls::*;
pub use turn::*;
pub use updates::*;

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
/// Between two requests of a kept-alive connection: between nodes, and the default of `--idle-timeout`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest `--idle-timeout`: an hour.
pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const _: () =
    assert!(IDLE_TIMEOUT_MAX.as_secs() <= u16::MAX as u64 && IDLE_TIMEOUT.as_secs() <= IDLE_TIMEOUT_MAX.as_secs());
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
/// The furthest `exp` of a token: beyond it stand times in milliseconds, which would hold for ever.
pub const TOKEN_EXPIRY_MAX: Duration = Duration::from_secs(3653 * 24 * 60 * 60);
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

/// How long a request is known by its `Idempotency-Key`.
pub const ONCE_AGE: Duration = Duration::from_secs(24 * 3600);
/// Longest `Idempotency-Key`, in bytes.
pub const ONCE_KEY_BYTES_MAX: usize = 255;
/// Requests that a database knows by their keys, some 250 bytes each; beyond it the oldest go, though younger than [`ONCE_AGE`].
pub const ONCE_KEPT_MAX: i64 = 1_000_000;
/// Events that the embedded store, and each bucket of Redis, knows by their keys: some 250 bytes each.
pub const ONCE_KEPT_EVENTS: usize = 100_000;
/// Of those that are too old, a new one takes so many along, and the look into the outbox a page.
pub const ONCE_SWEPT: i64 = 2;
/// How many that is.
pub const ONCE_SWEEP_PAGE: i64 = 500;
const _: () = assert!(ONCE_SWEPT > 1, "what is kept shrinks back to what is young");

/// Text of a comment or message. As JSON it is at most three times as long, and with its author an event's data.
pub const TEXT_BYTES_MAX: usize = 4096;
const _: () = assert!(TEXT_BYTES_MAX * 3 + NAME_BYTES_MAX * 6 + 64 <= EVENT_BYTES_MAX);
/// Comments or messages that a listing has unless it asks for another number.
pub const POSTS_PAGE_DEFAULT: u32 = 50;
/// Within this, one member's typing in one conversation is one event.
pub const TYPING_PAUSE: Duration = Duration::from_secs(1);
/// Members that a shard remembers to have typed.
pub const TYPISTS_MAX: usize = 16_384;

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
pub const FANOUT_SLICE: usize = 64;
/// Sends that one system call may make, where the kernel has a way for it.
pub const SENDS_BATCH: usize = FANOUT_SLICE;
/// One read from a socket.
pub const READ_BYTES: usize = 64 * 1024;
/// Reads from one socket before others get their turn.
pub const READ_BURST: usize = 4;
/// Same, from a link to another node, whose answers are larger.
pub const LINK_READ_BURST: usize = 16;
/// Messages that a shard's mailbox holds.
pub const MAILBOX_MESSAGES: usize = 16 * 1024;
/// Bytes of events that wait for another shard whose mailbox is full; past it they are dropped by class.
pub const MESH_BACKLOG_BYTES: usize = 4 * 1024 * 1024;
/// Messages that are no events and wait for another shard whose mailbox is full; past it no more requests are read that would
/// lead to others. As many again as the mailbox holds: some MiB.
pub const CROSSING_CONTROL_MAX: usize = MAILBOX_MESSAGES;
/// Topics with a hole, or a look-up that failed, that a tick looks at: about a millisecond.
pub const UNSETTLED_BURST: usize = 4_096;
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
/// Topics in one batch of registrations, but for one that lists all: some 20 KiB, and about a millisecond of the store's time.
pub const REGISTRATIONS_PER_BATCH: usize = 512;
/// A batch of registrations that failed is sent again after this.
pub const REGISTER_RETRY: Duration = Duration::from_millis(200);
const _: () = assert!(NODE_HEARTBEAT.as_millis() * 3 <= NODE_LEASE.as_millis());
/// A bucket that differs again within this of a repair holds something that is not wanted, and is set right by a list of
/// all. Long enough for very many batches and a heartbeat behind them.
pub const REPAIR_WINDOW: Duration = Duration::from_secs(30);
const _: () = assert!(REPAIR_WINDOW.as_millis() > 5 * NODE_HEARTBEAT.as_millis());

// ---- Presence and viewer counts ----------------------------------------------------------------

/// `d`: how often a member's sign of life goes to the key-value store while the member is connected.
pub const PRESENCE_BEAT: Duration = Duration::from_secs(20);
/// `d + 2ε`: how long after the last sign of life a member counts as online (LinkedIn's Presence Platform).
pub const PRESENCE_GUARD: Duration = Duration::from_secs(40);
const _: () = assert!(PRESENCE_GUARD.as_secs() == PRESENCE_BEAT.as_secs() + 2 * 10);
/// How often a backend looks for members that are to go offline.
pub const PRESENCE_DUE_EVERY: Duration = Duration::from_secs(1);
/// Members that it takes at once.
pub const PRESENCE_DUE_MAX: u32 = 1_000;
/// Going offline that was not published within this is given again, to whoever asks then.
pub const PRESENCE_RESEND: Duration = Duration::from_secs(5);
/// Members in one batch of signs of life.
pub const PRESENCE_BATCH: usize = 1_000;
/// How often what viewers were told of members is compared with the store. Of whom it knows nothing twice gave no sign in
/// between.
pub const PRESENCE_COMPARE: Duration = Duration::from_secs(30);
const _: () = assert!(PRESENCE_COMPARE.as_secs() > PRESENCE_BEAT.as_secs());
/// Members that one request for presence may name.
pub const PRESENCE_NAMES_MAX: usize = 1_000;
/// What is known of a member is kept for so long after they were last seen.
pub const PRESENCE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A topic's viewers are told of their number at most once in this time; so is the key-value store of a node's, which is read no
/// more often after something was missed.
pub const COUNTS_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of members that one change of a node's counts tells, or one hello to a peer; what does not fit follows.
pub const COUNTS_BYTES: usize = 1024 * 1024;
const _: () = assert!(2 * COUNTS_BYTES < INTERNAL_BODY_BYTES_MAX);
/// Members of a topic that are told one by one, so that their number is exact: of more only an estimate of it is kept, which is
/// no larger than so many of their hashes.
pub const MEMBERS_EXACT: usize = 2_048;

// ---- History -----------------------------------------------------------------------------------

/// A `Last-Event-ID` of another data center counts as so much earlier: its clock and order are its own.
pub const RESUME_FOREIGN_MS: u64 = 60_000;
/// The clocks of a store's parts, such as the masters of a Redis Cluster, differ by no more than this.
pub const STORE_CLOCKS_APART_MS: u64 = 1_000;
/// A client that comes back gets what it may have missed from so much before its `Last-Event-ID`: what other topics of its
/// stream, or other nodes, were late with.
pub const RESUME_OVERLAP_MS: u64 = 10_000;
/// Events of class `every` that a topic's history keeps, unless configured.
pub const HISTORY_EVENTS: u32 = 1_000;
/// How long it keeps them, unless configured.
pub const HISTORY_AGE: Duration = Duration::from_secs(3600);
/// Events on their way into history, a shard; past it publishers get 503.
pub const APPENDS_WAITING_MAX: usize = 65_536;
/// From so many on no more is read of bodies of lines: what one turn reads of them fits into the rest.
pub const APPENDS_AHEAD: usize = 4096;
const _: () = assert!(APPENDS_AHEAD < APPENDS_WAITING_MAX / 4);
/// Topics whose ends are asked for at once.
pub const ENDS_PER_QUESTION: usize = 512;
/// Bytes of a replay that are put together for one write.
pub const REPLAY_WRITE_BYTES: usize = 64 * 1024;
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
/// Same, where few bytes are wanted.
pub const PAGE_EVENTS_MIN: u32 = 16;
/// What a small event of history takes, about.
pub const SMALL_EVENT_BYTES: usize = 512;
/// Events of a topic that wait for the one before them; past it the newest are read from history.
pub const HELD_EVENTS_MAX: usize = 1024;
/// As soon as so many wait the hole is read: long before history lets go of what is missing.
pub const HELD_EVENTS_READ: usize = 128;
const _: () = assert!(HELD_EVENTS_READ * 4 <= HISTORY_EVENTS as usize);
/// Same, in bytes.
pub const HELD_EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Events of class `every` that a node keeps in memory for each topic with viewers, for clients that come back.
pub const RING_EVENTS: usize = 256;
/// Same, in bytes.
pub const RING_BYTES: usize = 128 * 1024;
/// A `Last-Event-ID` that is later than now by more than this is nobody's: two clocks, of a Frontend and of a store.
pub const RESUME_AHEAD_MS: u64 = 60_000;
/// How far a stream's topics may be apart, by position: where history forgot what came in so much time before a
/// `Last-Event-ID`, a stream of several topics is told of a gap, since the id may be of a topic that was ahead.
pub const RESUME_SKEW_MS: u64 = 2_000;
/// The same where a store lost what came before: a quiet topic's viewers are told when its end is compared with history's next,
/// and later while the store answers nobody.
pub const RESUME_LOST_MS: u64 = 120_000;
const _: () = assert!(ENDS_QUIET.as_millis() as u64 * 2 <= RESUME_LOST_MS);
/// How far a replay may get ahead of what came meanwhile in another of its topics, by position.
pub const REPLAY_LEAD_MS: u64 = 1_000;
/// Bytes of events in one page of history, about: what a stream holds of each topic while a slow client takes it.
pub const PAGE_BYTES: usize = 256 * 1024;
// A client that is cut in between asks for what came before its newest id, and so gets it.
const _: () = assert!(REPLAY_LEAD_MS + HOLE_WAIT.as_millis() as u64 <= RESUME_SKEW_MS);
const _: () = assert!(RESUME_SKEW_MS <= RESUME_OVERLAP_MS);
const _: () = assert!(PAGE_BYTES >= RING_BYTES);

// ---- Storing -----------------------------------------------------------------------------------

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

// ---- Posts, receipts, and PostgreSQL -----------------------------------------------------------

/// Longest text of a comment or message that a store takes: the largest event that could tell of it.
pub const POST_TEXT_BYTES_MAX: usize = EVENT_BYTES_MAX;
/// Longest id of a post: a number of at most 19 digits, a dash, and the eight digits of the database's name.
pub const POST_ID_BYTES_MAX: usize = 19 + 1 + 8;
const _: () = assert!(POST_ID_BYTES_MAX <= ID_BYTES_MAX);
/// Posts in one answer: some screens full.
pub const POSTS_PAGE_MAX: u32 = 200;
/// Bytes of text in one answer of posts, so that a page of long ones stays an answer of usual size.
pub const POSTS_PAGE_BYTES_MAX: usize = 128 * 1024;
const _: () = assert!(POST_TEXT_BYTES_MAX <= POSTS_PAGE_BYTES_MAX && POSTS_PAGE_BYTES_MAX <= ANSWER_BYTES_MAX);
/// Members in one answer of receipts.
pub const RECEIPTS_PAGE_MAX: u32 = 1_000;
/// Longest name in PostgreSQL. Three of them are a key, and its indexes take keys of 2,704 bytes.
pub const STORE_NAME_BYTES_MAX: usize = 512;
const _: () = assert!(NAME_BYTES_MAX <= STORE_NAME_BYTES_MAX && 3 * STORE_NAME_BYTES_MAX < 2_600);
/// Connections to PostgreSQL, and lanes of the store on it: while one commits, others work. More would make batches smaller.
pub const POSTGRES_CONNECTIONS: usize = 4;
/// How long connecting may take, and each step of making a connection ready at first, and a peer may leave data unacknowledged.
pub const POSTGRES_CONNECT: Duration = Duration::from_secs(2);
/// How long a step may take at most, once others took too long.
pub const POSTGRES_CONNECT_MAX: Duration = Duration::from_secs(32);
/// Quiet time after which the kernel asks whether the server's machine is still there.
pub const POSTGRES_KEEPALIVE: Duration = Duration::from_secs(10);
/// How long one statement may run or wait for a lock, by the server's own watch. A batch takes milliseconds.
pub const POSTGRES_STATEMENT: Duration = Duration::from_secs(1);
/// How long a batch may take in all, with a second try; then its commands get 503 and the connection is given up.
pub const POSTGRES_BATCH: Duration = Duration::from_millis(1_500);
const _: () = assert!(POSTGRES_STATEMENT.as_millis() < POSTGRES_BATCH.as_millis());
/// How long a migration may take: it may rewrite a table of hundreds of millions of rows.
pub const POSTGRES_MIGRATION: Duration = Duration::from_secs(3_600);
/// Pauses between tries to connect grow from this, doubled each time and jittered,
pub const POSTGRES_PAUSE_MIN: Duration = Duration::from_millis(100);
/// to this: short, since clients are refused meanwhile.
pub const POSTGRES_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Quiet time after which a connection is tried, so that readiness knows; one that fails is tried after [`POSTGRES_PAUSE_MAX`].
pub const POSTGRES_IDLE: Duration = Duration::from_secs(5);
// ---- Telling how shards fare -------------------------------------------------------------------

/// How often systemd gets the status line; the watchdog's beats come eight times an interval if that is more often.
pub const NOTIFY_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at whether all shards have started: readiness is told this late at most.
pub const NOTIFY_START_LOOK: Duration = Duration::from_millis(10);
/// Asked for beyond the drain's own time: clients that do not read have 5 s more, and the database may have to finish.
pub const NOTIFY_STOP_MARGIN: Duration = Duration::from_secs(20);

// ---- Checking a box (fanfare check) ------------------------------------------------------------

/// The oldest kernel with the io_uring operations that shards use.
pub const KERNEL_MIN: (u32, u32) = (5, 11);
/// Lockable memory below which the executor refuses to start.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Open files of a shard that are not connections, at most: listeners, epoll, timer, mailbox and three rings with their
/// event files are 16, and each paged topic is one.
pub const FILES_PER_SHARD: u64 = 64;
const _: () = assert!(FILES_PER_SHARD as usize >= 2 * 16 + PAGED_TOPICS_MAX);
/// Open files of a process beside those: standard streams, the database with its log, keys, and links to other nodes.
pub const FILES_PER_PROCESS: u64 = 64;
/// Memory of an idle connection, as measured (docs/performance.md): 0.9 KB with all that the process holds, and 4.75 KB in
/// the kernel for this end; rounded up.
pub const CONNECTION_MEMORY_BYTES: u64 = 6 * 1024;
/// Memory of a process without connections: code, the database's cache, and logs of topics.
pub const PROCESS_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
const _: () = assert!(STORE_CACHE_KIB as u64 * 1024 * 2 <= PROCESS_MEMORY_BYTES);
/// A clock that may be off by more is reported: tokens are checked to 5 s, and a latency of a second is a lot.
pub const CHECK_CLOCK_ERROR_MAX_US: u64 = 1_000_000;
// ---- Admission ---------------------------------------------------------------------------------

/// The highest rate that can be set, a second: with microseconds as the unit of time it holds within 5 %.
pub const RATE_MAX: u32 = 100_000;
/// What a rate allows at once, as time at that rate: a page that loads asks for several things in an instant.
pub const RATE_BURST: Duration = Duration::from_secs(1);
/// Addresses or members whose rate a node remembers at a time: 512 KiB. Past it the one that was idle longest is forgotten.
pub const RATE_KEYS: usize = 65_536;
/// Addresses whose connections a node counts: 16 MiB at most, and twice as many places as connections if that is less.
pub const ADDRESS_KEYS_MAX: usize = 2 * 1024 * 1024;
/// Refused connections that a node keeps to tell them so, a shard; past it, or a quarter of its connections if that is less, they
/// are closed without a word.
pub const REFUSED_OPEN_MAX: usize = 64;
/// A refused connection has this long to ask, so that it can be told.
pub const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);
/// Slots that are looked at for a connection without a request, when a node is full.
pub const EVICT_LOOKS: u32 = 64;
/// A connection without a request may be closed for a new one after this long.
pub const EVICT_AGE: Duration = Duration::from_secs(1);
/// Open files that a node needs beside its connections: databases, logs, listeners, and those who look after it.
pub const FILES_RESERVED: usize = 128;
/// Those of each shard: io_uring, epoll, timers, mailboxes, the memory files of its topics, and connections to other nodes.
pub const FILES_RESERVED_PER_SHARD: usize = 16 + PAGED_TOPICS_MAX + REFUSED_OPEN_MAX + 64;
/// The longest bound of a shard's turn: past it clients would take the node for dead.
pub const TURN_BOUND_MAX: Duration = Duration::from_secs(30);
/// A shard is overloaded when two turns within this were too long, and for so long after.
pub const TURN_MEMORY: Duration = Duration::from_secs(1);
/// How often the process's memory is looked at.
pub const MEMORY_LOOK: Duration = Duration::from_secs(1);
/// A body must come at this many bytes a second on average, beyond [`BODY_TIMEOUT`] at its start: a slow phone does ten
/// times as much.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = 512;
/// Tokens that a shard remembers to have checked, with their rights.
pub const TOKENS_KEPT_BYTES: usize = 2 * 1024 * 1024;
/// Receive times in one report; fanfare.js sends up to a hundred.
pub const RECEIVED_SAMPLES_MAX: usize = 1_000;
/// A latency past this says more of a clock than of a network.
pub const RECEIVED_LATENCY_MAX: Duration = Duration::from_secs(600);
/// A receipt further off than this, before or after now, is of another clock or of another day.
pub const RECEIVED_AGE: Duration = Duration::from_secs(3600);
/// Topics whose counts one call changes or reads: about a millisecond of the server's time. What is larger goes in parts.
pub const REDIS_COUNTS: usize = 1_024;
/// Events that one call takes out of a stream: what a stream is looked through for at once.
pub const REDIS_WITHDRAWN: usize = 256;
/// Counts that were gathered and never put in their place are gone after this.
pub const REDIS_STAGED: Duration = Duration::from_secs(60);
const _: () = assert!(REDIS_STAGED.as_millis() > REDIS_ANSWER.as_millis());
/// Members that one script deals with: half a millisecond of the server's time, and below what Lua can unpack.
pub const REDIS_MEMBERS: usize = 512;
/// Members not seen for [`PRESENCE_AGE`] that one look at a bucket forgets. Every second, so 100 times as many an hour.
pub const REDIS_FORGET: usize = 100;
