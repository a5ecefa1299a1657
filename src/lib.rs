//! Fanfare delivers live interactions to everyone watching, over Server-Sent Events.
pub mod args;
pub mod backend;
pub mod client;
pub mod dispatch;
pub mod frontend;
pub mod limits;
pub mod runtime;
pub mod settings;
pub mod wire;
