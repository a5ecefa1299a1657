//! The frontend role's cores: who watches what, what waits for whom. No IO, no clock; the shard is their shell.

pub mod asks;
pub mod audience;
pub mod backlog;
pub mod beginning;
pub mod crossing;
pub mod doubt;
pub mod held_pages;
pub mod log;
pub mod members;
pub mod merging;
pub mod newest;
pub mod order;
pub mod pauses;
pub mod queue;
pub mod registrar;
pub mod registry;
pub mod replay;
pub mod rounds;
pub mod topics;
pub mod typists;
pub mod views;
pub mod waiting;
pub mod window;
