//! What a node tells of itself.

pub mod canary;
pub mod expiry;
pub mod exposition;
pub mod happenings;
pub mod histogram;
pub mod hops;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod log;
pub mod metrics;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod otlp;
pub mod peers;
pub mod snapshot;
pub mod track;
