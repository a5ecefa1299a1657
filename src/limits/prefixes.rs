//! Bounds of subscribing by prefix.

use std::time::Duration;

use super::{HOME_BYTES, REPLAY_EVENT_BYTES, TOPIC_BYTES_MAX, WATCHED_BYTES};

/// Longest prefix, before its `*`: as what nodes register it is a topic.
pub const PREFIX_BYTES_MAX: usize = TOPIC_BYTES_MAX - 15;
/// Boundaries (`:` and `.`) that a prefix has: an event's topic is looked up at so many of its own.
pub const PREFIX_LEVELS_MAX: usize = 8;
/// Prefixes of one stream, which count among its topics.
pub const PREFIXES_PER_CONNECTION_MAX: usize = 10;
/// Topics that a prefix has open on a core at a time, or its share of the node's if that is more: some 8 MiB where it has
/// viewers on one core. Of events of more topics its streams are told by `gap`.
pub const PREFIX_TOPICS_MAX: usize = 4_096;
const _: () = assert!(PREFIX_TOPICS_MAX * (HOME_BYTES + WATCHED_BYTES) <= 8 * 1024 * 1024);
/// Topics of a prefix that a stream which comes back is given of history: those with the newest events. Of more it is told by
/// `gap`.
pub const PREFIX_REPLAYED_MAX: usize = 256;
const _: () = assert!(PREFIX_REPLAYED_MAX * REPLAY_EVENT_BYTES <= 8 * 1024 * 1024);
/// Topics that one look-up by prefix gives.
pub const PREFIX_LISTED_MAX: u32 = 4_096;
/// A topic that was opened for a prefix is let go after it had no event for so long.
pub const PREFIX_QUIET: Duration = Duration::from_secs(150);
/// Where what was found of a prefix is not yet with its viewers, it is looked at again after this.
pub const PREFIX_AGAIN: Duration = Duration::from_millis(200);
/// A store's index of topics is up to so much behind their histories' ends.
pub const PREFIX_INDEX_LATE: Duration = Duration::from_secs(60);
const _: () = assert!(PREFIX_QUIET.as_secs() > 2 * super::ENDS_QUIET.as_secs());
