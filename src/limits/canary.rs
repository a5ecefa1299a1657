//! Canaries: events by which nodes see for themselves that none is lost. What they cost follows from here, and stands in
//! docs/metrics.md.

use std::time::Duration;

use super::{ENDS_QUIET, HANDOVER_PATIENCE, HANDOVER_TIMEOUT, TOPICS_PER_CONNECTION_MAX};

/// Topics of a data center's canaries: so many homes, buckets of the key-value store and turns of groups are looked at.
pub const CANARY_TOPICS: u64 = 4;
const _: () = assert!(CANARY_TOPICS as usize <= TOPICS_PER_CONNECTION_MAX);
/// Rounds, of a second each, whose events share a topic and whose sums share a key.
pub const CANARY_GROUP: u64 = 5;
const _: () = assert!(CANARY_TOPICS * CANARY_GROUP < ENDS_QUIET.as_secs(), "none of the topics is ever quiet");
/// Rounds after which an event is to have come: whoever hands it on has given up by then, and holes were read.
pub const CANARY_SETTLED: u64 = 15;
const _: () = assert!(CANARY_SETTLED > HANDOVER_PATIENCE.as_secs() + HANDOVER_TIMEOUT.as_secs());
/// Events of class `sum` a second in a data center, over all pairs of a backend and a dispatcher, each of which has one at least.
/// Of one in 1,000 that is lost, the 16,000 of 40 s show some but once in ten million times; the rest of a minute is what it
/// takes until that is known.
pub const CANARY_SUMS: u64 = 400;
const _: () = assert!(
    CANARY_SUMS * (60 - CANARY_SETTLED - CANARY_GROUP) >= 16_000,
    "a loss of one in 1,000 is found within a minute"
);
/// Dispatchers by which a backend publishes.
pub const CANARY_DISPATCHERS_MAX: usize = 64;
/// Backends of a data center whose canaries a viewer checks.
pub const CANARY_BACKENDS_MAX: usize = 256;
/// Numbers of one pair and class that may be missing at a time: an hour's.
pub const CANARY_MISSING_MAX: usize = 3_600;
/// Groups of sums of one pair that are counted at a time: some more than are not settled.
pub const CANARY_GROUPS_MAX: usize = 16;
const _: () = assert!(CANARY_GROUPS_MAX as u64 * CANARY_GROUP > 4 * CANARY_SETTLED);
/// A backend that was not heard of for so long is silent; it publishes every second.
pub const CANARY_SILENCE: Duration = Duration::from_secs(20);
/// Nothing is said to be lost for so long after a pause of [`CANARY_PAUSE`]: what waited meanwhile comes by several ways.
pub const CANARY_HOLD: Duration = Duration::from_secs(15);
/// A pause after which [`CANARY_HOLD`] begins.
pub const CANARY_PAUSE: Duration = Duration::from_secs(4);
/// Of the other classes nothing is promised for so long after a stream is connected.
pub const CANARY_BEGINS: Duration = Duration::from_secs(2);
/// What is missing for so long after a viewer was told of a gap is part of that gap.
pub const CANARY_GAP: Duration = Duration::from_secs(30);
/// A backend that was silent for so long, or is gone, is forgotten.
pub const CANARY_FORGOTTEN: Duration = Duration::from_secs(120);
/// Canaries of class `every` that a topic's history keeps: those of a few minutes of many pairs, since a hole is read at once.
pub const CANARIES_KEPT: u32 = 10_000;
