//! Tests of several processes together: clusters and data centers, Redis and its failovers, proxies and clients that nobody here wrote.
//! One program, so that what they share is compiled once. Each test is named after what it prevents.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod datacenters;
mod faults;
mod kv;
mod proxies;
mod real_clients;
mod traces;
