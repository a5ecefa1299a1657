//! Bounds of what is noted of sampled events.

use std::time::Duration;

/// Journeys that a shard keeps, the newest: some 600 bytes each.
pub const JOURNEYS_KEPT: usize = 256;
/// Sampled events whose viewers a shard is writing to; those past it are not followed to the end.
pub const JOURNEYS_FOLLOWED: usize = 64;
/// What was not written to all viewers after this is kept as it is.
pub const JOURNEY_PATIENCE: Duration = Duration::from_secs(5);
/// Events a second and shard that are noted only since their callers sample: many callers sample everything.
pub const TRACES_FORCED_PER_SECOND: u32 = 100;
/// Longest `X-Request-Id` that is repeated: a trace's name fits, and what proxies make of two.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Clocks of other nodes that a node remembers.
pub const CLOCKS_MAX: usize = 4096;
/// What was heard of a clock for so long says how it stands: a good estimate stays until its error has grown.
pub const CLOCK_KNOWN: Duration = Duration::from_secs(600);
/// How fast two clocks drift apart, in microseconds a second: twice what a quartz does at its worst, and far more than where
/// NTP runs.
pub const CLOCK_DRIFT_PPM: u64 = 200;
/// What passes checkpoints at one shard within a microsecond is noted in the microseconds behind it, up to so many.
pub const NOTED_AHEAD_US: u64 = 1_000;
