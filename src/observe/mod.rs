//! What a node tells of itself.

pub mod log;
pub mod metrics;
