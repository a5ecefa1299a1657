//! More than one data center: each in a network of its own with a store, two Dispatchers, two Frontends and a Backend, and
//! a link between each two that can be cut. Each test is named after what it prevents.

mod cuts;
mod delivery;
mod foreign;
mod forgotten;
mod mercure;
mod mesh;
mod network;
mod prefixes;
mod present;
mod refusals;
mod rotation;
mod tls;
mod totals;
