//! Bounds of the flight recorder.

/// The newest happenings of each level that a shard keeps, and what threads other than shards logged.
pub const HAPPENINGS_KEPT: usize = 2_048;
/// Bytes of one, of which all but 24 are text: names of a topic, a member and a connection fit, and a sentence.
pub const HAPPENING_BYTES: usize = 256;
/// Of one kind a shard records so many each for itself in so many milliseconds, and then how many more there were: a flood of one
/// kind leaves room for the others, and what it costs is bounded.
pub const HAPPENINGS_EACH: u64 = 16;
/// See [`HAPPENINGS_EACH`].
pub const HAPPENINGS_WINDOW_MS: u64 = 10_000;
/// Happenings that are written to the log at a time, the newest: some 300 bytes each.
pub const HAPPENINGS_WRITTEN: usize = 8_192;
/// How far a clock is off what it should show before that counts as a jump, in milliseconds. NTP moves it by less.
pub const CLOCK_JUMP_MS: u64 = 500;
/// Connections, members, topics and events that may be tracked through the log at a time: each line is compared with all of them.
pub const TRACKED_MAX: usize = 64;
