//! Bounds of Mercure's protocol.

use super::{EVENT_BYTES_MAX, HEAD_BYTES_MAX, PREFIX_BYTES_MAX, TOPIC_BYTES_MAX, TOPICS_PER_CONNECTION_MAX};

/// Topics of one update: as many as one event of `POST /v1/events` may go to.
pub const UPDATE_TOPICS_MAX: usize = TOPICS_PER_CONNECTION_MAX;
/// Longest topic there: browsers and proxies bound a whole URL by a few times as much.
pub const UPDATE_TOPIC_BYTES_MAX: usize = 2048;
/// Longest id that an answer repeats as the place where a stream goes on.
pub const ECHOED_ID_BYTES_MAX: usize = 1024;
/// What precedes the hash in a topic that is too long for its whole text: so long may be what URI templates are found by.
pub const UPDATE_HEAD_BYTES_MAX: usize = TOPIC_BYTES_MAX - 1 - 64;
/// Bytes that the URI templates of a stream have in all.
pub const SELECTORS_BYTES_MAX: usize = 2048;
/// Expressions that they have in all: each is tried at each byte of a topic.
pub const SELECTORS_EXPRESSIONS_MAX: usize = 32;
const _: () = assert!(UPDATE_HEAD_BYTES_MAX < PREFIX_BYTES_MAX && UPDATE_TOPIC_BYTES_MAX <= SELECTORS_BYTES_MAX);
const _: () = assert!(UPDATE_TOPIC_BYTES_MAX < EVENT_BYTES_MAX && UPDATE_TOPIC_BYTES_MAX < HEAD_BYTES_MAX);
