//! Clients: subscribe, publish, the load generator.
pub mod bench;
pub mod publish;
pub mod subscribe;
