//! Fanfare delivers live interactions (likes, comments, viewer counts, typing, receipts, presence) to everyone
//! watching, over Server-Sent Events, from one binary a box.
//!
//! # The path of a like, in reading order
//!
//! | module | what happens there |
//! |---|---|
//! | [`http`] | a connection is accepted, its requests are found, and answers sent in their order |
//! | [`backend`] | the like is stored, by a thread of its own, and acknowledged once it is on disk |
//! | [`dispatcher`] | which nodes want `live:42`? from a cache that the key-value store keeps true; and on to other data centers |
//! | [`frontend`] | which cores of this node, which connections of this core; what waits for whom |
//! | [`shard`] | the turn of a shard: what each role is given, and when |
//! | [`ground`] | what every role stands on: time, sockets, slots, mail, links, the key-value store, rights |
//! | [`queue`] | what waits for a reader, and merges by class |
//! | [`kv`], [`db`] | what is asked of key-value stores and databases, and who answers |
//! | [`wire`] | the formats: topics, events, frames, HTTP, the stream |
//! | [`admission`] | who is let in, and how much of what they get |
//! | [`runtime`] | pinned executors, readiness, mailboxes between threads, listeners, time |
//! | [`auth`] | tokens: the keys that check them, and the rights they carry |
//! | [`backup`] | copies of the embedded database, made and put back |
//! | [`check`] | what on a box would hold a role back, and how many connections fit |
//! | [`client`] | the other end: `fanfare subscribe`, `publish`, `trace`, `bench`, `crowd` |
//! | [`args`], [`settings`], [`limits`] | what was asked for, what holds, and every bound |
//!
//! # Invariants
//!
//! 1. A connection never leaves its shard; shards share nothing but mailboxes and read-only data.
//! 2. An event is encoded once a node, never once a connection; only what was merged for a lagging client is encoded
//!    again.
//! 3. No queue is unbounded, and a slow reader costs only itself. Every drop, merge and disconnect is counted by reason.
//! 4. Nothing that blocks (database, key-value client, DNS, file) runs on a shard's executor.
//! 5. Decisions live in synchronous cores that take `now` and inputs and return effects; the roles around them do the IO,
//!    and call none of each other.
//! 6. Memory of an idle connection is its slot: no buffer, no timer of its own, no task.
//! 7. Class `every` is in history before its publisher is answered, and its order on every stream is history's.
//! 8. Frontends hold no durable state. A Dispatcher can die at any time; any other one can do its work.
//! 9. Messages between nodes carry a version; neighbours one version apart work together.
//! 10. An event from another data center is delivered here and goes no further.
//! 11. Bounds live in [`limits`], related to each other by `const` assertions.
//! 12. Only ports, marked as such, touch a clock, chance, a descriptor, a file or a thread (`clippy.toml`), so that a
//!     simulation with ports of its own runs all the rest.

#![cfg_attr(not(test), deny(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types))]

pub mod admission;
pub mod args;
pub mod auth;
pub mod backend;
#[expect(clippy::disallowed_methods, reason = "files of a node that does not run")]
pub mod backup;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it tells what the machine is")]
pub mod check;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the other end of the sockets")]
pub mod client;
pub mod db;
pub mod dispatcher;
pub mod figures;
pub mod frontend;
#[expect(clippy::disallowed_methods, reason = "it writes files")]
pub mod generate;
pub mod ground;
pub mod http;
pub mod kv;
pub mod limits;
pub mod observe;
pub mod queue;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "here a node is given its ports")]
pub mod roles;
pub mod runtime;
#[expect(clippy::disallowed_methods, reason = "they are read before a node starts, and on its thread for signals")]
pub mod settings;
pub mod shard;
pub mod web;
pub mod wire;
