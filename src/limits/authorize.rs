//! Bounds of asking an operator's own server what is allowed.

use std::time::Duration;

/// The shortest and the longest time that an answer may be given to come.
pub const AUTHORIZE_DEADLINE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// The longest time for which an answer is kept, whatever it says.
pub const AUTHORIZE_KEEP_MAX: Duration = Duration::from_secs(24 * 3600);
/// A refusal that does not say so is kept for this: who asks again at once is refused at once, and who is let in a moment later
/// does not wait long.
pub const AUTHORIZE_REFUSED_KEEP: Duration = Duration::from_secs(1);
/// An open stream is asked about again no sooner than after this, whatever the answer says; and after this where no answer came.
pub const AUTHORIZE_AGAIN: Duration = Duration::from_secs(10);
/// Questions under way at a time: each has a thread, which waits for its answer.
pub const AUTHORIZE_SENDERS: usize = 16;
/// Questions that have no answer yet, on all shards; past them there is none at once.
pub const AUTHORIZE_QUESTIONS_MAX: usize = 1_024;
/// Of these, those about streams that are open already: who comes has the rest.
pub const AUTHORIZE_AGAIN_MAX: usize = AUTHORIZE_QUESTIONS_MAX / 2;
/// Requests and streams of a shard that wait for answers; past them there is none at once. As many as may well come at once after a
/// restart, since all who ask the same wait for one answer.
pub const AUTHORIZE_WAITING_MAX: usize = 100_000;
/// Bytes of answers that a shard keeps, with their questions.
pub const AUTHORIZE_KEPT_BYTES: usize = 8 * 1024 * 1024;
/// The longest answer that is read.
pub const AUTHORIZE_ANSWER_BYTES: u64 = 64 * 1024;
/// Characters of a refusal's reason that a client is told.
pub const AUTHORIZE_DETAIL_CHARS: usize = 300;
/// So many failures in a row, and the server is taken to be away: it is asked one question at a time, with pauses.
pub const AUTHORIZE_FAILURES: u32 = 8;
/// The first of these pauses, less up to half of it by chance; twice as long after each that follows.
pub const AUTHORIZE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest of them.
pub const AUTHORIZE_PAUSE_MAX: Duration = Duration::from_secs(30);
