//! What clients count and time: in a thread, in a process, and in all of them together.
use std::collections::BTreeMap;
use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::check::Tally;

/// Latencies are kept to the µs up to 10 minutes, with three digits.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Kinds of errors that are counted apart. There are few; the bound is against a server that makes up new ones.
const ERRORS_MAX: usize = 64;
/// Kinds of errors that a report tells.
const ERRORS_TOLD: usize = 8;

/// A histogram of latencies in µs.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are in order and the digits few")
}

/// How clients are doing; sums since the start, but for what is said to be of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Connections that are ready now.
    pub ready: u64,
    /// Connections that were to be opened and could not.
    pub failed: u64,
    /// Connections that broke after they were ready.
    pub closed: u64,
    /// Events received, merged ones with their count.
    pub received: u64,
    /// When the last event came and when the last connection became ready, in µs since the epoch; 0 for never.
    pub last_event_us: u64,
    pub last_ready_us: u64,
    /// Members of a crowd that left, and that came back.
    pub left: u64,
    pub came_back: u64,
    /// Gaps that a crowd's members were told of.
    pub gaps: u64,
    /// Comments that a crowd's members should have seen and had not when that was last counted.
    pub missing: u64,
    /// Members of a crowd whose streams are to come, now.
    pub absent: u64,
}

impl AddAssign for Status {
    fn add_assign(&mut self, other: Self) {
        self.ready += other.ready;
        self.failed += other.failed;
        self.closed += other.closed;
        self.received += other.received;
        self.last_event_us = self.last_event_us.max(other.last_event_us);
        self.last_ready_us = self.last_ready_us.max(other.last_ready_us);
        self.left += other.left;
        self.came_back += other.came_back;
        self.gaps += other.gaps;
        self.missing += other.missing;
        self.absent += other.absent;
    }
}

/// What was measured since it was last asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub tally: Tally,
    /// Events that are in `latency`.
    pub timed: u64,
    /// From when events were due to their receipt, in µs; of a crowd, likes alone.
    #[serde(with = "packed")]
    pub latency: Histogram<u64>,
    /// Of a crowd: comments, and messages of a chat.
    #[serde(with = "packed")]
    pub comments: Histogram<u64>,
    #[serde(with = "packed")]
    pub messages: Histogram<u64>,
    /// From the connect to the connection being ready, in µs.
    #[serde(with = "packed")]
    pub connect: Histogram<u64>,
    /// What went wrong with connections, and how often.
    pub errors: BTreeMap<String, u64>,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            tally: Tally::default(),
            timed: 0,
            latency: latencies(),
            comments: latencies(),
            messages: latencies(),
            connect: latencies(),
            errors: BTreeMap::new(),
        }
    }
}

impl AddAssign for Measured {
    fn add_assign(&mut self, other: Self) {
        self.tally += other.tally;
        self.timed += other.timed;
        self.latency += other.latency;
        self.comments += other.comments;
        self.messages += other.messages;
        self.connect += other.connect;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

impl Measured {
    /// Counts an error.
    pub fn note(&mut self, error: String) {
        if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&error) {
            *self.errors.entry(error).or_default() += 1;
        }
    }

    /// Some kinds of errors, once each.
    pub fn told_errors(&self) -> Vec<String> {
        self.errors.keys().take(ERRORS_TOLD).cloned().collect()
    }
}

/// A histogram as text, to be sent between processes.
mod packed {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Serialize as _};

    pub fn serialize<S: serde::Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).map_err(S::Error::custom)?;
        STANDARD.encode(bytes).serialize(to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(D::Error::custom)
    }
}
