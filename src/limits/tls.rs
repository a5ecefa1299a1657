//! Bounds of connections that speak TLS.

use std::time::Duration;

use super::*;

/// What TLS reads at once, at least.
pub const TLS_READ_BYTES: usize = 4 * 1024;
/// What one call reads from a connection of the TLS listener, sealed: its open text, and that of a record which was begun
/// before, fit into the buffer of a read.
pub const TLS_SEALED_READ_BYTES: usize = 32 * 1024;
const _: () = assert!(TLS_SEALED_READ_BYTES + TLS_RECORD_BYTES_MAX <= READ_BYTES);
/// Bytes of open text in a record that we seal. What of a record the kernel did not take waits with us, so that this bounds
/// what a slow reader holds beside its backlog; larger records would cost hardly less.
pub const TLS_RECORD_BYTES: usize = 4 * 1024;
/// Bytes of open text that are sealed before they are offered to the kernel.
pub const TLS_BATCH_BYTES: usize = 64 * 1024;
/// Bytes of a record that others seal (RFC 5246 section 6.2.3), without its head.
pub const TLS_RECORD_BYTES_MAX: usize = 16 * 1024 + 2048;
/// Records in a row that a client may send without a byte in them that is for us: alerts, key updates, empty ones.
pub const TLS_IDLE_RECORDS_MAX: u8 = 32;
/// Records before the last that one key may seal at which it is changed.
pub const TLS_KEY_MARGIN: u64 = 1024;
const _: () = assert!((TLS_BATCH_BYTES / TLS_RECORD_BYTES) as u64 + 16 < TLS_KEY_MARGIN);
/// Handshakes of a shard that may be half done; the oldest makes room for the next.
pub const TLS_HANDSHAKES_MAX: usize = 2048;
/// What a handshake holds, about: the state of rustls, and what it read.
pub const TLS_HANDSHAKE_BYTES: usize = 8 * 1024;
/// How long what a closed connection was still owed is offered to its client, as the kernel does where it holds the rest.
pub const TLS_OWED_TIMEOUT: Duration = Duration::from_secs(10);
/// Closed connections of a shard to which something is owed.
pub const TLS_OWED_MAX: usize = 1024;
