//! What a node tells of itself.

pub mod metrics;
