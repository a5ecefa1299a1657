//! How streams end, and when their clients come back.

use std::time::Duration;

/// The shortest reconnection time that a client is told when its stream ends. Times are spread up to the longest, so that
/// those who left together do not come back together.
pub const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub const RETRY_MAX: Duration = Duration::from_secs(3);
/// The longest where there is no other node to go to: all are back within three seconds of a restart.
pub const RETRY_MAX_ALONE: Duration = Duration::from_millis(2500);
const _: () = assert!(RETRY_MAX_ALONE.as_millis() < RETRY_MAX.as_millis());
