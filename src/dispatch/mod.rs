//! The dispatcher role's cores: which nodes want an event, and the key-value store that knows.

mod alive;
pub mod buckets;
pub mod core;
pub mod crowd;
pub mod datacenter;
pub mod kept;
pub mod kv;
pub mod memory;
pub(crate) mod memory_history;
mod memory_once;
mod memory_peers;
mod memory_presence;
mod memory_values;
mod nodes;
pub mod outbox;
pub mod pace;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod redis;
pub mod tally;
pub mod types;
