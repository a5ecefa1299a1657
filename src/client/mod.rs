//! Clients for people, scripts and measurements: `fanfare subscribe`, `fanfare publish`, `fanfare bench`,
//! `fanfare crowd`, `fanfare trace` and `fanfare top`.
pub mod bench;
pub mod crowd;
mod fleet;
pub mod http;
pub mod publish;
pub mod sse;
pub mod subscribe;
pub mod top;
pub mod trace;

/// Reactions that a server offers unless it is told otherwise.
const REACTIONS: [&str; 6] = ["like", "celebrate", "support", "love", "insightful", "funny"];
