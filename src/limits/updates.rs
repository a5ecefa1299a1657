//! Bounds of Mercure's protocol.

use super::{EVENT_BYTES_MAX, HEAD_BYTES_MAX, TOPICS_PER_CONNECTION_MAX};

/// Topics of one update: as many as one event of `POST /v1/events` may go to.
pub const UPDATE_TOPICS_MAX: usize = TOPICS_PER_CONNECTION_MAX;
/// Longest topic there: browsers and proxies bound a whole URL by a few times as much.
pub const UPDATE_TOPIC_BYTES_MAX: usize = 2048;
/// Longest id that an answer repeats as the place where a stream goes on.
pub const ECHOED_ID_BYTES_MAX: usize = 1024;
const _: () = assert!(UPDATE_TOPIC_BYTES_MAX < EVENT_BYTES_MAX && UPDATE_TOPIC_BYTES_MAX < HEAD_BYTES_MAX);
