//! What `fanfare check` goes by.

use std::time::Duration;

use super::CONNECTION_MEMORY_BYTES;

/// Connections that a Frontend is checked for where nobody says how many.
pub const CHECK_CONNECTIONS_FRONTEND: u64 = 100_000;
/// Same for every role in one process.
pub const CHECK_CONNECTIONS_ALL: u64 = 10_000;
/// Same for roles without viewers, whose connections are other nodes' and publishers'.
pub const CHECK_CONNECTIONS_OTHERS: u64 = 1_000;
const _: () =
    assert!(CHECK_CONNECTIONS_OTHERS <= CHECK_CONNECTIONS_ALL && CHECK_CONNECTIONS_ALL <= CHECK_CONNECTIONS_FRONTEND);
/// Less room for the database than this is reported: ten million likes with long names take some 1.5 GB.
pub const CHECK_DISK_FREE_MIN: u64 = 2 << 30;
/// A flush that takes longer is reported: a like is answered after one or two.
pub const CHECK_FLUSH_MAX: Duration = Duration::from_millis(10);
/// More memory on disk is reported; a little is what nobody needs.
pub const CHECK_SWAPPED_MAX: u64 = 64 << 20;
/// Memory of a viewer in a proxy on the same box, with TLS, and in the kernel for the proxy's two ends.
pub const PROXIED_CONNECTION_BYTES: u64 = 48 * 1024;
const _: () = assert!(PROXIED_CONNECTION_BYTES > CONNECTION_MEMORY_BYTES);
