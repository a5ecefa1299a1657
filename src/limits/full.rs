//! When a node that lets nobody in says that it is not ready.

use std::time::Duration;

/// A node is not ready once it has been full for this long, and ready again once it has had room for this long: a crowd that
/// comes and goes at the limit must not have balancers turn to and fro.
pub const FULL_PATIENCE: Duration = Duration::from_secs(5);
const _: () = assert!(FULL_PATIENCE.as_millis() > super::MEMORY_LOOK.as_millis());
/// It has room when one part in so many of what it may have is free.
pub const FULL_ROOM: u64 = 20;
