//! The dispatcher role's cores: which nodes want an event, and the key-value store that knows.

pub mod core;
pub mod kv;
pub mod memory;
mod memory_history;
pub mod redis;
pub mod types;
