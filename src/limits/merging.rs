//! What viewers of a busy topic get less often, and then together.

use std::time::Duration;

use super::LOG_BYTES_MAX;

/// What one round of a topic's viewers may write: where a topic has many, its log holds accordingly less. Half a second's
/// work of a core or so; past it a write an event would keep viewers waiting for longer than they may.
pub const ROUND_BYTES_MAX: usize = 512 * 1024 * 1024;
/// However many viewers: some events wait as they are.
pub const LOG_BYTES_MIN: usize = 16 * 1024;
const _: () = assert!(LOG_BYTES_MIN < LOG_BYTES_MAX);
/// Same, of what comes within [`FLOOD`]: more than a core can write at all, so merging begins before the log is full.
pub const FLOOD_BYTES: usize = ROUND_BYTES_MAX / 4;
/// See [`FLOOD_BYTES`].
pub const FLOOD: Duration = Duration::from_millis(50);
/// A topic that merges goes on until in such a time less than two logs came.
pub const MERGING: Duration = Duration::from_secs(1);
/// Of what merges, viewers get what came in so much time as one event.
pub const MERGING_SLICE: Duration = Duration::from_millis(10);
/// Between two rounds of a topic that merges, at most.
pub const MERGING_REST: Duration = Duration::from_millis(25);

/// For how long what follows an event of class `sum` waits, of the types that speak of reactions: twenty a second are more than
/// an eye tells apart, and half of it, which is what a like waits on average, is a third of what one may take to be shown.
pub const SUM_WINDOW: Duration = Duration::from_millis(50);
/// The longest that may be set: what viewers see is live.
pub const SUM_WINDOW_MAX: Duration = Duration::from_secs(10);
/// A window lasts as long as so many rounds of the topic's viewers, if that is longer: the other half of a core is for what else
/// there is, such as the likes themselves.
pub const ROUNDS_A_WINDOW: u32 = 2;
/// But no longer than so many times what was set: what is saved past that is paid by all who wait.
pub const SUM_WINDOW_GROWTH: u32 = 2;
/// Keys whose counts one event has: some kinds of reactions, at most 20 KiB where each is as long as may be.
pub const SUM_KEYS_MAX: usize = 16;
/// Keys that wait for one window's end: what more come send the others on their way at once.
pub const SUM_WINDOW_KEYS_MAX: usize = 256;
const _: () = assert!(SUM_KEYS_MAX <= SUM_WINDOW_KEYS_MAX);
/// Members that an event which merged names.
pub const SUM_MEMBERS_MAX: usize = 3;
/// Of more than so many events nobody is named but the newest's member: three names of hundreds that change ten times a second
/// say nothing, and were a fifth of what a busy video's viewers get.
pub const SUM_NAMED_MAX: u64 = 256;
/// Data in which a member's name is looked for: reactions have less.
pub const SUM_MEMBER_DATA_BYTES_MAX: usize = 1024;
/// Windows that end soon after another end with it: a timer for each would be one system call more an event.
pub const SUM_WINDOW_GRAIN: Duration = Duration::from_millis(2);
const _: () = assert!(SUM_WINDOW_GRAIN.as_millis() * 10 < SUM_WINDOW.as_millis());
// A merged event fits a frame's places: its keys, escaped, its members, and its data.
const _: () = assert!(
    SUM_KEYS_MAX * (6 * super::KEY_BYTES_MAX + 24) + SUM_MEMBERS_MAX * SUM_MEMBER_DATA_BYTES_MAX + 4096
        < super::LINE_BYTES_MAX
);

/// Between two totals of one video's likes.
pub const TOTALS_PAUSE: Duration = Duration::from_millis(250);
/// After this long without a change they are told once more: what was lost with a node, or came in another order, is right
/// then, within the 5 s in which displays agree.
pub const TOTALS_SETTLE: Duration = Duration::from_secs(3);
const _: () = assert!(TOTALS_PAUSE.as_millis() < TOTALS_SETTLE.as_millis());
/// So long after that they are told a last time: a dispatcher that stood still for less than its lease and a heartbeat, so that
/// nobody noticed, may have told older ones as it went on.
pub const TOTALS_SETTLE_LATE: Duration = Duration::from_secs(6);
const _: () = assert!(
    TOTALS_SETTLE.as_secs() + TOTALS_SETTLE_LATE.as_secs()
        > super::NODE_LEASE.as_secs() + super::NODE_HEARTBEAT.as_secs()
);
/// Videos of a shard whose likes changed lately: some 16 MiB. Past it viewers of others go by single likes, and it is counted.
pub const TOTALS_MAX: usize = 65_536;
/// A video's taps are written to the database no more often than this; so much of them is lost with a process.
pub const TAPS_PAUSE: Duration = Duration::from_secs(1);
/// Taps of one request, and of one member in a second: more than fingers can.
pub const TAPS_MAX: u32 = 100;
/// What taps of a video and reaction take until the database has them, beside the reaction's name.
pub const TAPPED_BYTES: usize = 192;
/// Videos whose totals are read in one tick: what a database reads in some milliseconds.
pub const TOTALS_READ_MAX: usize = 512;
/// Videos whose totals a shard asks backends for in one tick. Some may get lost, so a death asks for those of all.
pub const TOTALS_ASKED_MAX: usize = 256;
