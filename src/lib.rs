//! Fanfare delivers live interactions to everyone watching, over Server-Sent Events.
pub mod args;
pub mod error;
pub mod limits;
pub mod settings;
pub mod backend;
pub mod client;
