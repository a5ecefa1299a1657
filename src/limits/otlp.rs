//! Bounds of what is sent to a collector of OpenTelemetry.

use std::time::Duration;

/// Spans that wait to be sent, of all shards; those past it are lost. Some 300 bytes each.
pub const SPANS_WAITING: usize = 8_192;
/// Spans of one request, some 200 bytes each.
pub const SPANS_AT_ONCE: usize = 512;
/// So long the first of them waits for others.
pub const SPANS_GATHER: Duration = Duration::from_secs(1);
/// A request may take this long, as OpenTelemetry's own exporters give it.
pub const SPANS_TIMEOUT: Duration = Duration::from_secs(10);
/// A request is tried so often, where its answer or its absence says that it may help.
pub const SPANS_TRIES: u32 = 4;
/// The pause before the second try; each one after it is twice as long.
pub const SPANS_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever `Retry-After` says: what comes in meanwhile is lost before long.
pub const SPANS_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer that are looked at.
pub const SPANS_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// A node that ends waits so long for its last spans to be sent.
pub const SPANS_LAST: Duration = Duration::from_secs(2);
