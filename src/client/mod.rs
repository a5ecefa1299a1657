//! Clients for people, scripts and measurements: `fanfare subscribe`, `fanfare publish` and `fanfare bench`.
pub mod bench;
pub mod http;
pub mod publish;
pub mod sse;
pub mod subscribe;
