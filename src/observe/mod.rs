//! What a node tells of itself.

pub mod canary;
pub mod expiry;
pub mod exposition;
pub mod histogram;
pub mod hops;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod log;
pub mod metrics;
pub mod peers;
pub mod snapshot;
