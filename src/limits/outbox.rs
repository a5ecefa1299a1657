//! Bounds of telling viewers of posts, and of the outbox that keeps what they were not told of.

use std::time::Duration;

use super::*;

/// How often a backend looks for what was stored and perhaps not published.
pub const OUTBOX_EVERY: Duration = Duration::from_secs(2);
/// What stayed unpublished for this long is published again.
pub const OUTBOX_AGE: Duration = Duration::from_secs(10);
/// A backend that takes something from the outbox has this long before another one may. It asks for more time thrice as often
/// while it is at it: whoever waits for one that died waits no longer.
pub const OUTBOX_LEASE: Duration = Duration::from_secs(6);
/// After a try that told nobody anything, or while a topic lags, the next one comes after this.
pub const OUTBOX_RETRY: Duration = Duration::from_millis(250);
/// What a try after such a one takes from the outbox; twice as much the next time, up to [`OUTBOX_PAGE_MAX`].
pub const OUTBOX_LISTED_MIN: u32 = 32;
/// Events of one topic that are published before their answers are waited for, and of the outbox's in one turn: a few
/// milliseconds. They go to the key-value store in one or two groups.
pub const TOLD_AT_ONCE: usize = 64;
const _: () = assert!(TOLD_AT_ONCE <= REDIS_GROUP);
/// Posts of a topic that wait in memory behind others; past it they wait in the database. The database may answer as many as
/// a mailbox takes before the first is published.
pub const TOLD_WAITING_MAX: usize = MAILBOX_MESSAGES;
/// They do not wait there for longer: another backend would publish them, too.
pub const TOLD_WAIT: Duration = Duration::from_secs(5);
const _: () = assert!(TOLD_WAIT.as_millis() * 2 <= OUTBOX_AGE.as_millis());
/// What a topic whose posts wait, or a post that does, takes beside its text and names.
pub const TOLD_BYTES: usize = 256;
/// A topic is taken to lag for no longer after it last failed, whatever the outbox says.
pub const TOLD_LAG_MAX: Duration = Duration::from_secs(120);
/// Unpublished records listed at once: some tens of milliseconds' work for whoever publishes them.
pub const OUTBOX_PAGE_MAX: u32 = 1_000;
/// Bytes of text in them.
pub const OUTBOX_PAGE_BYTES: usize = 512 * 1024;
const _: () = assert!(POST_TEXT_BYTES_MAX <= OUTBOX_PAGE_BYTES);
/// Marks of one kind that a shard gives to the database at once; a few milliseconds of its time. The next follow once they are
/// stored.
pub const MARKS_AT_ONCE: usize = 1_000;
