//! What a node tells of itself.

pub mod exposition;
pub mod histogram;
pub mod log;
pub mod metrics;
pub mod peers;
pub mod process;
pub mod trouble;
