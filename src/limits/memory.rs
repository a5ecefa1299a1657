//! Bounds of what is held on behalf of others, and of what is given to them in pages.

use std::time::Duration;

use super::*;

/// What a shard may hold for streams unless `--max-backlog` says it, as a share of its part of the process's memory:
/// numerator, denominator.
pub const HELD_FOR_STREAMS: (u64, u64) = (3, 20);
/// Same, for topics with viewers: the logs, rings and newest values of tens of thousands at once.
pub const HELD_FOR_TOPICS: (u64, u64) = (1, 4);
/// Same, for questions to the key-value store and the database, and what waits for their answers.
pub const HELD_FOR_QUESTIONS: (u64, u64) = (1, 16);
/// Same, for what other cores' full mailboxes did not take.
pub const HELD_FOR_CORES: (u64, u64) = (1, 16);
/// Same, for events for other nodes.
pub const HELD_FOR_NODES: (u64, u64) = (1, 8);
/// Same, for requests that are not complete, and answers that are not taken.
pub const HELD_FOR_REQUESTS: (u64, u64) = (1, 8);
// They leave a part of it to what is not counted.
const _: () = {
    let shares =
        [HELD_FOR_STREAMS, HELD_FOR_TOPICS, HELD_FOR_QUESTIONS, HELD_FOR_CORES, HELD_FOR_NODES, HELD_FOR_REQUESTS];
    let (mut sum, mut at) = (0, 0);
    while at < shares.len() {
        sum += 1000 * shares[at].0 / shares[at].1;
        at += 1;
    }
    assert!(sum <= 800);
};
/// However little memory there is: some of the largest events find room.
pub const HELD_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Bytes that a stream which comes back holds of what it missed, over all its topics, or one event of each if that is more: as
/// much as a ring, so that one question suffices where memory reaches back.
pub const REPLAY_BYTES: usize = RING_BYTES;
/// What is reserved for one event that is asked for: the largest that a publisher may give, with its envelope.
pub const REPLAY_EVENT_BYTES: usize = EVENT_BYTES_MAX + 1024;
const _: () =
    assert!(REPLAY_EVENT_BYTES >= EVENT_BYTES_MAX + KEY_BYTES_MAX + ID_BYTES_MAX + TOPIC_BYTES_MAX + TYPE_BYTES_MAX);
/// However little memory there is, what streams may hold unless the settings say less: a stream that comes back to as many topics
/// as it may have, and to its own, finds room for the largest event of each beside what comes live, in its part of that.
pub const STREAMS_BYTES_MIN: usize =
    (BACKLOG_BYTES + PAGE_BUFFER_BYTES + (PREFIX_REPLAYED_MAX + TOPICS_PER_CONNECTION_MAX + 1) * REPLAY_EVENT_BYTES)
        .div_ceil(PAGES_PART.0)
        * PAGES_PART.1;
/// What a page of history or of newest values may take while it is made: the event that fills it may be a large one.
pub const PAGE_BUFFER_BYTES: usize = REPLAY_WRITE_BYTES + REPLAY_EVENT_BYTES;
/// Pages that a client is written in one go, however fast it takes them, before others have their turn: 0.1 ms or so.
pub const PAGES_BURST: usize = 4;
/// Clients that are written such pages before the shard turns to its other work.
pub const PAGES_STREAMS_BURST: usize = 8;
/// Of what a shard may hold for streams, what history and newest values may fill, as numerator and denominator: the rest is
/// for live events of those who read too slowly.
pub const PAGES_PART: (usize, usize) = (3, 4);
/// Memory that the allocator keeps is given back to the system once so much, and half of all, was freed.
pub const TRIM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// And, however little of it was held, once so much more is resident than at the least; not again within this time,
pub const TRIM_PAUSE: Duration = Duration::from_secs(3);
/// and where it was no use not within ever longer ones, up to this.
pub const TRIM_PAUSE_MAX: Duration = Duration::from_secs(600);
/// What a topic with viewers takes at its home beside its name and its events.
pub const HOME_BYTES: usize = 1024;
/// Same, on each core where it has viewers, beside its log and most of them.
pub const WATCHED_BYTES: usize = 1024;
/// Bytes of requests and answers below which a connection is not counted: the next read or write ends most of them.
pub const REQUEST_BYTES_MIN: usize = 4 * 1024;
/// What a question takes until it is answered, beside the events and names in it.
pub const ASKED_BYTES: usize = 512;
/// While the key-value store cannot say who subscribes to a topic, a dispatcher goes on with what it knew of topics that had
/// events within this.
pub const SUBSCRIBERS_KEPT: Duration = Duration::from_secs(300);
/// How often an entry is looked at, to be forgotten once it serves nobody.
pub const SUBSCRIBERS_LOOK: Duration = Duration::from_secs(4);
const _: () = assert!(SUBSCRIBERS_LOOK.as_millis() > SUBSCRIBERS_CACHE_AGE.as_millis());
/// A place in a topic's table of newest values, beside the value itself: two table entries, and what an allocation costs.
pub const NEWEST_ENTRY_BYTES: usize = 256;
/// Bytes of newest values that a home reads from the store's answers before the shard turns to its other work: about a
/// millisecond.
pub const NEWEST_TURN_BYTES: usize = 1024 * 1024;
/// Newest values of a topic that go out by its log to those who wait for them; where there are more, each of them gets
/// them in pages.
pub const NEWEST_LOGGED_BYTES: usize = 16 * 1024;
const _: () = assert!(NEWEST_LOGGED_BYTES <= LOG_BYTES_MIN);
/// The newest value of a topic, type and key is kept for so long after it was set.
pub const LATEST_AGE: Duration = Duration::from_secs(24 * 3600);
/// A topic that somebody watches, and whose values are past their age, is looked at again after this.
pub const LATEST_LOOK: Duration = Duration::from_secs(60);
/// The embedded store: bytes of newest values over all topics, names included; past it those go first that would be given up
/// first.
pub const MEMORY_VALUES_BYTES: usize = 128 * 1024 * 1024;
/// Same, as a part of what the process may have, where that is less.
pub const MEMORY_VALUES_PART: u64 = 8;
/// Same, of members who are not online, and those who are: some 400,000. Past it those who were not seen for longest go.
pub const MEMORY_MEMBERS_BYTES: usize = 128 * 1024 * 1024;
/// Same, as a part of what the process may have, where that is less.
pub const MEMORY_MEMBERS_PART: u64 = 8;
/// Topics at which it looks for one that nobody watches, before it gives up one that somebody does.
pub const VALUES_LOOKED_AT: usize = 64;
/// Topics whose time is over that it gives up with each value that is set: more than one, so that they become fewer.
pub const VALUES_SWEPT: usize = 4;
/// Topics of each kind that it looks at for what is too old with each heartbeat: a few milliseconds.
pub const SWEPT_AT_ONCE: usize = 16_384;
/// How many watched a topic is kept for so long after they all left: who comes then is told anew.
pub const VIEWERS_AGE: Duration = Duration::from_secs(10);
/// Values of class `latest` may come so much later than their versions say: those of other data centers do.
pub const LATEST_LATE: Duration = Duration::from_secs(60);
/// Types and keys of class `latest` that a topic keeps; past it the oldest goes.
pub const LATEST_KEYS_MAX: usize = 1_000;
/// The embedded store: bytes of history over all topics; past it the oldest events go, and clients that need them get a
/// `gap`.
pub const MEMORY_HISTORY_BYTES: usize = 256 * 1024 * 1024;
/// Same, as a part of what the process may have, where that is less.
pub const MEMORY_HISTORY_PART: u64 = 4;
/// Changes of history in one command to the database, so that a like whose commit has them waits some 2 ms longer.
pub const KEPT_BATCH: usize = 256;
/// What history gave up is given up where it is kept with what comes next, so much with each event: some 1 ms.
pub const KEPT_FORGETS: usize = 256;

/// Lines of the log, in bytes, that wait to be written, and once more as many that are being written: some thousands.
pub const LOG_LINES_BYTES_MAX: usize = 1024 * 1024;
/// How long an ending process waits for who reads its log.
pub const LOG_FLUSH: Duration = Duration::from_secs(1);
