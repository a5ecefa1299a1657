//! The key-value stores, driven through the trait that shards use: what holds for all of them, and what becomes of Redis'
//! when servers die, hang, restart or take over.

mod behaviour;
mod counts;
mod driver;
mod eviction;
mod failover;
mod failures;
mod model;
mod node;
mod peer_members;
mod peers;
mod presence;
mod queues;
mod sentinel;
mod sweeping;
mod tls;
mod upgrade;
mod values;
