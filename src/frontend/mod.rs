//! The frontend role's cores: who watches what, what waits for whom. No IO, no clock; the shard is their shell.

pub mod backlog;
pub mod log;
pub mod registrar;
pub mod registry;
pub mod topics;
pub mod window;
