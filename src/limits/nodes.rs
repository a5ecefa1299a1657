//! Bounds between nodes, and towards the key-value store.

use std::time::Duration;

use super::*;

// ---- Between nodes -----------------------------------------------------------------------------

/// How far a sender's numbers run ahead of its oldest unanswered one: the bits of a receiver's window, 8 KiB a sender.
pub const NUMBERS_AHEAD_MAX: u64 = 65_536;
/// Bytes past which a batch of frames takes no more: some hundred microseconds of the receiver's time.
pub const BATCH_BYTES: usize = 128 * 1024;
/// Batches on their way to one node, a shard: enough to hide the round trip, few enough that the rest waits where it can
/// still merge.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Bytes of frames that wait for one node, a shard: about a second of a hundred thousand small events. Past it they are
/// dropped by class.
pub const OUTBOX_BYTES: usize = 16 * 1024 * 1024;
/// Merged entries (`sum` and `latest`) that wait past that.
pub const OUTBOX_KEYS_MAX: usize = 4096;
/// A sender that is gone is forgotten after this long without a batch: far longer than any retry lasts.
pub const WINDOW_IDLE: Duration = Duration::from_secs(300);
/// Senders that a shard remembers: 32 MiB of windows.
pub const WINDOWS_MAX: usize = 4096;

/// Connecting to another node takes at most this long.
pub const LINK_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure a link rests for so long, twice as long after the next, and so on.
pub const LINK_BACKOFF: Duration = Duration::from_millis(100);
/// The longest rest. A node that is back is used again within this.
pub const LINK_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A link without calls is closed after this, before the other node would close it ([`IDLE_TIMEOUT`]) while a call is on
/// its way.
pub const LINK_IDLE: Duration = Duration::from_secs(30);
const _: () = assert!(LINK_IDLE.as_millis() * 2 < IDLE_TIMEOUT.as_millis());
/// Calls of one link without an answer; past it callers keep what they have.
pub const LINK_CALLS_MAX: usize = 64;
/// Largest body that a node takes from another one: all topics of one bucket, in a repair.
pub const INTERNAL_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest answer that a node takes from another one: a page of history, or the newest values of a topic, with JSON's
/// escapes.
pub const REPLY_BYTES_MAX: usize = 40 * 1024 * 1024;
const _: () = assert!(REPLY_BYTES_MAX > 2 * LATEST_KEYS_MAX * (EVENT_BYTES_MAX + 1024));
const _: () = assert!(REPLY_BYTES_MAX > 2 * PAGE_EVENTS as usize * (EVENT_BYTES_MAX + 1024));
/// The highest version of a value that is taken from others: by clocks in milliseconds, it comes in a hundred thousand years.
/// Above it a store in whose scripts numbers have 53 bits could give none that is newer.
pub const VERSION_MAX: u64 = 1 << 52;
/// Versions from here on are times, in ms: it lies in 2004.
pub const VERSION_TIME_MIN: u64 = 1 << 40;
/// Longest URL of a node: the longest name of a host, with scheme and port.
pub const NODE_URL_BYTES_MAX: usize = 300;
/// Roles that a node says it has, those of later versions among them.
pub const ROLES_MAX: usize = 16;
/// Names of databases of a data center's own that a node remembers: there is one, and another where that was replaced.
pub const DATABASES_KNOWN: usize = 16;
/// How often the names of dispatchers are looked up.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// A node's name that has no address is looked up again after this long: well within the lease of a node whose name is new.
pub const RESOLVE_AGAIN: Duration = Duration::from_secs(1);
/// Names of nodes that wait to be looked up.
pub const RESOLVE_QUEUE: usize = 1024;
/// A batch of frames is answered within this, or sent again.
pub const FRAMES_TIMEOUT: Duration = Duration::from_secs(2);
/// What waits for a node that answers nothing for this long is dropped: it reads class `every` from history.
pub const OUTBOX_PATIENCE: Duration = Duration::from_secs(10);
/// For a node that nobody knows yet events wait this long: its own first heartbeat, and one of ours.
pub const UNKNOWN_NODE_WAIT: Duration = Duration::from_secs(1);
/// A node that turned out not to live is not asked about again for this long. Names never come back; a node that was
/// only slow shows up among the living.
pub const ABSENT_NODE_AGE: Duration = Duration::from_secs(30);
/// A question without an answer for this long is asked of another dispatcher, too.
pub const QUESTION_HEDGE: Duration = Duration::from_secs(1);
const _: () = assert!(QUESTION_HEDGE.as_millis() * 3 <= KV_TIMEOUT.as_millis());
/// A dispatcher answers questions within this, if only by saying that the store does not; one that hangs is cut off.
pub const QUESTIONS_TIMEOUT: Duration = Duration::from_millis(3_500);
const _: () = assert!(QUESTIONS_TIMEOUT.as_millis() > KV_TIMEOUT.as_millis());
/// A link whose oldest call has waited for so long is used only where there is no other.
pub const LINK_SLOW: Duration = Duration::from_millis(500);
/// Questions in one request, and the bytes past which it takes no more.
pub const QUESTIONS_PER_CALL: usize = 256;
/// See [`QUESTIONS_PER_CALL`].
pub const QUESTIONS_BYTES: usize = 128 * 1024;
/// Questions that wait for a dispatcher, a shard; past it they are answered as unavailable.
pub const QUESTIONS_MAX: usize = 65_536;
/// A request of another Frontend to change a stream is answered within this.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a backend tries to hand an event to a dispatcher.
pub const HANDOVER_PATIENCE: Duration = Duration::from_secs(10);
/// One attempt of that; a dispatcher waits for its key-value store.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(4);
const _: () = assert!(HANDOVER_TIMEOUT.as_millis() > KV_TIMEOUT.as_millis());
/// For how long an event that was taken back is refused, should it only come now: whoever tells of it anew began to before.
pub const WITHDRAWN_REFUSED: Duration = Duration::from_secs(60);
const _: () = assert!(
    WITHDRAWN_REFUSED.as_secs()
        > OUTBOX_LEASE.as_secs() + TOLD_WAIT.as_secs() + 2 * (HANDOVER_PATIENCE.as_secs() + HANDOVER_TIMEOUT.as_secs())
);
/// What an event that waits for a dispatcher takes beside its text.
pub const HANDED_BYTES: usize = 192;
/// Bytes past which a request with events takes no more.
pub const HANDOVER_CALL_BYTES: usize = 64 * 1024;
/// Requests with events on their way, a shard: one dispatcher that hangs does not hold up what others could take.
pub const HANDOVER_CALLS_MAX: usize = 8;
/// Events that are passed over for one request, since others of their topics are under way.
pub const HANDOVER_PASSED_MAX: usize = 1_000;
const _: () = assert!(BATCH_BYTES + 2 * 65_536 < INTERNAL_BODY_BYTES_MAX);
/// After a dispatcher was too busy for events, others wait this long.
pub const HANDOVER_PAUSE: Duration = Duration::from_millis(50);
/// Heartbeats that somebody asks for come no closer to each other than this.
pub const HEARTBEAT_SOONEST: Duration = Duration::from_millis(200);
/// No answer to a heartbeat for so long, and a node may lack events: its ids promise less until it has compared its topics.
pub const DOUBT_SILENCE: Duration = Duration::from_secs(5);
/// Between answers to two heartbeats no longer than this, and the node's lease held all the time: the first answer may have been
/// under way for as long as an answer may take.
pub const LEASE_SURE: Duration = Duration::from_millis((NODE_LEASE.as_millis() - KV_TIMEOUT.as_millis()) as u64);
const _: () = assert!(NODE_HEARTBEAT.as_millis() < LEASE_SURE.as_millis());
/// So much before the last answer no event was lost on its way: of a dispatcher that died, its lease had to lapse first.
pub const DOUBT_BACK: Duration = Duration::from_secs(10);
const _: () = assert!(NODE_LEASE.as_millis() + NODE_HEARTBEAT.as_millis() <= DOUBT_BACK.as_millis());
const _: () = assert!(DOUBT_SILENCE.as_millis() as u64 + 2 * NODE_HEARTBEAT.as_millis() as u64 <= RESUME_OVERLAP_MS);
/// After a heartbeat that was not answered, the next one.
pub const HEARTBEAT_RETRY: Duration = Duration::from_millis(500);
const _: () = assert!(HEARTBEAT_SOONEST.as_millis() < NODE_HEARTBEAT.as_millis());
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
/// How often a server is asked what it does when its memory is full, and what it dropped.
pub const REDIS_MEMORY_LOOK: Duration = Duration::from_secs(5);
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
/// Bytes of newest values that a bucket may hold, names included: some 1 GiB over all buckets. Past it those go first that
/// would be given up first. Of a server whose own memory is bounded they take no more than a quarter.
pub const REDIS_VALUES_BYTES: usize = 16 * 1024 * 1024;
/// A topic that somebody watches, and whose values are past their age, is looked at again after this.
pub const REDIS_VALUES_LOOK: Duration = Duration::from_secs(600);
/// Values that nobody looked at in time expire by themselves so much later: dispatchers may have been away.
pub const REDIS_VALUES_SPARE: Duration = Duration::from_secs(3600);
/// Topics whose values one step gives up: about a millisecond of the server's time.
pub const REDIS_VALUES_SLICE: usize = 256;
/// Such steps for a bucket in one round.
pub const REDIS_VALUES_SLICES: usize = 16;
/// How often somebody looks for what dead nodes left, and for values whose time is over. Some rounds fit into [`NODE_SWEEP`].
pub const REDIS_SWEEP_EVERY: Duration = Duration::from_secs(12);
const _: () = assert!(NODE_LEASE.as_millis() + 3 * REDIS_SWEEP_EVERY.as_millis() < NODE_SWEEP.as_millis());
/// Histories whose end one script looks up: about half a millisecond of the server's time.
pub const REDIS_ENDS: usize = 128;
/// Keys that are tried for the write that precedes a wait for replicas: the slot of one may be on the move.
pub const REDIS_BARRIERS: usize = 4;

// ---- Between data centers ------------------------------------------------------------------------

/// A peer of which nobody heard for this long drops out of viewer counts.
pub const PEER_SILENT: Duration = Duration::from_secs(10);
/// How often a dispatcher says to each peer that it lives, and how its clock stands. Some may get lost.
pub const PEER_HELLO: Duration = Duration::from_secs(2);
const _: () = assert!(PEER_HELLO.as_millis() * 4 < PEER_SILENT.as_millis());
/// For how long it is remembered which hello of a peer's shard was the newest, so that one that lay in the socket of a
/// dispatcher that hung meanwhile counts no more.
pub const PEER_HELLO_AGE: Duration = Duration::from_secs(600);
/// A request to a peer is answered within this, or sent again: round the world, and through a store that hesitates.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);
const _: () = assert!(PEER_TIMEOUT.as_millis() > KV_TIMEOUT.as_millis());
/// Events of class `every` that wait for a peer in one bucket, in bytes: 256 MiB a peer in all. Past it the oldest go.
pub const PEER_QUEUE_BYTES: u64 = 4 * 1024 * 1024;
/// What one of them costs beside its text.
pub const PEER_QUEUE_ENTRY_BYTES: u64 = 128;
/// How long they wait.
pub const PEER_QUEUE_AGE: Duration = Duration::from_secs(3600);
/// Events of one bucket that are sent to a peer at once, and appended there by one script: some milliseconds of its server.
pub const PEER_QUEUE_PAGE: u32 = 128;
/// Bytes of them past which fewer are sent.
pub const PEER_QUEUE_PAGE_BYTES: usize = 512 * 1024;
const _: () = assert!(2 * (PEER_QUEUE_PAGE_BYTES + EVENT_BYTES_MAX) < INTERNAL_BODY_BYTES_MAX);
/// How often a queue is looked at of which nobody said that something waits there.
pub const PEER_QUEUE_LOOK: Duration = Duration::from_secs(2);
/// After a peer took nothing, the next attempt of a queue; twice as long each time.
pub const PEER_BACKOFF: Duration = Duration::from_millis(200);
/// The longest such pause.
pub const PEER_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bytes of frames that wait for a peer, a shard. Past it they are dropped by class.
pub const PEER_OUTBOX_BYTES: usize = 32 * 1024 * 1024;
/// What waits for a peer that answers nothing for this long is dropped.
pub const PEER_OUTBOX_PATIENCE: Duration = Duration::from_secs(600);
/// A peer's lack of events is remembered for as long as it may matter to clients who come from there.
pub const PEER_LACKED_AGE: Duration = Duration::from_secs(3600);
/// Events that wait for longer than this are a lack: within it, clients who come from a peer are given so much more.
pub const PEER_LACKS: Duration = Duration::from_millis(RESUME_FOREIGN_MS / 2);
/// What is known of a peer that is not heard of is kept for so long, also how far its events were taken: past all that may
/// wait there or be on its way.
pub const PEER_FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);
const _: () = assert!(PEER_FORGOTTEN.as_secs() > 2 * (PEER_QUEUE_AGE.as_secs() + PEER_TIMEOUT.as_secs()));
const _: () = assert!(PEER_FORGOTTEN.as_secs() > PEER_LACKED_AGE.as_secs());
/// Topics whose viewers are told to a peer by one request.
pub const PEER_VIEWERS: usize = 1024;
/// Bodies between data centers from this size on are compressed, where that makes them smaller.
pub const PEER_PACK_BYTES: usize = 512;

/// Between two lines of the log about one thing that goes on failing.
pub const TROUBLE_LOGGED: Duration = Duration::from_secs(60);
/// Things of a kind, such as names without an address, of which the log is told one by one at a time.
pub const TROUBLES_TOLD_MAX: usize = 64;
