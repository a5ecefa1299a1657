//! Fanfare delivers live interactions to everyone watching, over Server-Sent Events.
pub mod args;
pub mod backend;
pub mod client;
pub mod limits;
pub mod settings;
