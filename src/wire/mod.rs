//! Formats only, no IO: what Fanfare's bytes look like on every wire.

pub mod authority;
pub mod batch;
pub mod binary;
pub mod chunked;
pub mod client_address;
pub mod connection_id;
pub mod event;
pub mod frame;
pub mod hooks;
pub mod hops;
pub mod http;
pub mod json;
pub mod names;
pub mod node_url;
pub mod pack;
pub mod position;
pub mod query;
pub mod reply;
pub mod request;
pub mod response;
pub mod sse;
pub mod status;
pub mod topic;
pub mod totals;
pub mod types;
pub mod version;
