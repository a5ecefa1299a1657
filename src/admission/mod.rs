//! Who is let in, and how much of what they get: limits that hold for a node whatever shard a client reaches. No IO; the
//! shards ask, and count what is refused.

pub mod counts;
pub mod full;
pub mod rates;
pub mod table;
pub mod turns;

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tracing::warn;

use crate::limits::*;
use crate::runtime::account::{ByUse, Use};
use crate::runtime::random::Seeded;
use crate::settings::{Memory, Most};
use crate::wire::client_address::client_address;
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use counts::{Counts, Entered};
use full::Level;
use rates::Rates;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The address has as many connections as it may.
    AddressConnections,
    /// The address connects too often; seconds until it may again.
    AddressConnects(u32),
    /// The node has as many connections as it may.
    Connections,
    /// The process has as much memory as it may.
    Memory,
    /// The shard's turns take too long.
    Turns,
    /// The member, or the address, publishes too fast; seconds until it may again.
    Publishes(u32),
    /// The node ends.
    Draining,
}

impl Refusal {
    /// As the label `reason` of the metric.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::AddressConnections => "address_connections",
            Refusal::AddressConnects(_) => "address_connects",
            Refusal::Connections => "connections",
            Refusal::Memory => "memory",
            Refusal::Turns => "turns",
            Refusal::Publishes(_) => "publishes",
            Refusal::Draining => "draining",
        }
    }

    /// One of each, in the order of [`Refusal::index`].
    pub const ALL: [Refusal; 7] = [
        Refusal::AddressConnections,
        Refusal::AddressConnects(0),
        Refusal::Connections,
        Refusal::Memory,
        Refusal::Turns,
        Refusal::Publishes(0),
        Refusal::Draining,
    ];

    /// Its place among [`Refusal::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Refusal::AddressConnections => 0,
            Refusal::AddressConnects(_) => 1,
            Refusal::Connections => 2,
            Refusal::Memory => 3,
            Refusal::Turns => 4,
            Refusal::Publishes(_) => 5,
            Refusal::Draining => 6,
        }
    }

    /// What the client is told.
    pub fn error(self) -> HttpError {
        let (status, seconds, detail) = match self {
            Refusal::AddressConnections => (
                Status::TooManyRequests,
                RETRY_AFTER_SECONDS,
                "this address has as many connections as it may have; close one, or reuse one for several topics",
            ),
            Refusal::AddressConnects(seconds) => {
                (Status::TooManyRequests, seconds, "this address connects too often; wait, then try again")
            }
            Refusal::Publishes(seconds) => {
                (Status::TooManyRequests, seconds, "you publish too fast; wait, then go on more slowly")
            }
            Refusal::Connections => {
                (Status::ServiceUnavailable, RETRY_AFTER_SECONDS, "this node has as many connections as it may have")
            }
            Refusal::Memory => (
                Status::ServiceUnavailable,
                RETRY_AFTER_SECONDS,
                "this node's memory is full; come back later, or go to another node",
            ),
            Refusal::Turns => (
                Status::ServiceUnavailable,
                RETRY_AFTER_SECONDS,
                "this node has too much to do; connect again and reach another",
            ),
            Refusal::Draining => (
                Status::ServiceUnavailable,
                RETRY_AFTER_SECONDS,
                "this node drains; connect again and reach another one",
            ),
        };
        HttpError { retry_after: Some(seconds), ..HttpError::new(status, detail) }
    }
}

/// A wait as `Retry-After` has it: whole seconds, at least one.
fn seconds(wait_us: u64) -> u32 {
    u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

/// What one shard may hold of each use, where `memory` is its share of what the process may have, and `backlog` what was
/// given for streams.
fn held_max(backlog: Option<u64>, memory: u64) -> ByUse<usize> {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let share = |(numerator, denominator): (u64, u64)| bytes(memory / denominator * numerator).max(HELD_BYTES_MIN);
    Use::ALL.map(|what| match what {
        Use::Streams => backlog.map_or_else(|| share(HELD_FOR_STREAMS).max(STREAMS_BYTES_MIN), bytes),
        Use::Topics => share(HELD_FOR_TOPICS),
        Use::Questions => share(HELD_FOR_QUESTIONS),
        Use::Cores => share(HELD_FOR_CORES),
        Use::Nodes => share(HELD_FOR_NODES),
        Use::Requests => share(HELD_FOR_REQUESTS),
    })
}

/// The limits of a node, shared by its shards.
#[derive(Debug)]
pub struct Admission {
    started: Instant,
    hasher: Seeded,
    shards: usize,
    /// Bytes that the process may use.
    available: u64,
    /// Connections for which there are open files: there may be as many unless the settings say fewer.
    connections_fit: usize,
    trusted: ArcSwap<Vec<IpNet>>,
    /// Connections that the node may have, and has.
    connections_max: AtomicUsize,
    connections: AtomicUsize,
    /// Connections that were not let in and are still open.
    refused: AtomicUsize,
    address_connections: Counts,
    address_connects: Rates,
    publishes: Rates,
    taps: Rates,
    memory_max: AtomicU64,
    /// What was resident at the last look, and what shards held then.
    memory: AtomicU64,
    held_then: AtomicU64,
    /// What they hold now.
    held: AtomicU64,
    /// Somebody found no place among the connections since the last look.
    turned_away: AtomicBool,
    /// For so long that the node says so: of connections, of memory.
    full: [AtomicBool; 2],
}

/// Counts one more, unless there are `max`.
fn one_more(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1)).is_ok()
}

impl Admission {
    /// For a node of `shards` shards that starts now, that may use `available` bytes of memory, and has open files for
    /// `connections` connections.
    pub fn new(
        most: &Most,
        trusted: &[IpNet],
        shards: usize,
        available: u64,
        connections: usize,
        now: Instant,
    ) -> Admission {
        let keys = connections.max(most.connections.unwrap_or(0)).saturating_mul(2).clamp(1024, ADDRESS_KEYS_MAX);
        let admission = Admission {
            started: now,
            hasher: Seeded::default(),
            shards: shards.max(1),
            available,
            connections_fit: connections,
            trusted: ArcSwap::default(),
            connections_max: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            address_connections: Counts::new(0, keys),
            address_connects: Rates::new(0),
            publishes: Rates::new(0),
            taps: Rates::new(0),
            memory_max: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            held_then: AtomicU64::new(0),
            held: AtomicU64::new(0),
            turned_away: AtomicBool::new(false),
            full: Default::default(),
        };
        admission.bound(most, trusted);
        admission
    }

    /// From now on these limits hold. Who is in stays in, and counts.
    pub fn bound(&self, most: &Most, trusted: &[IpNet]) {
        self.trusted.store(Arc::new(trusted.to_vec()));
        let connections = most.connections.unwrap_or(self.connections_fit);
        if connections > self.connections_fit {
            let fit = self.connections_fit;
            warn!(fit, "there are too few open files for max_connections; as many are let in as there are files for");
        }
        self.connections_max.store(connections.min(self.connections_fit), Ordering::Relaxed);
        self.address_connections.bound(most.address_connections);
        self.address_connects.bound(most.address_connects);
        self.publishes.bound(most.publishes);
        self.memory_max.store(most.memory.bytes(self.available), Ordering::Relaxed);
    }

    /// Bytes that one shard may hold by these limits, by what they are for.
    pub fn held_max(&self, most: &Most) -> ByUse<usize> {
        let shards = self.shards as u64;
        let share = |memory: Memory| memory.bytes(self.available) / shards;
        held_max(most.backlog.map(share), share(most.memory))
    }

    /// Whether anything is limited by address, so that addresses must be known.
    pub fn asks_for_addresses(&self) -> bool {
        self.address_connections.is_bounded() || self.address_connects.is_bounded()
    }

    /// Whether publishing is limited.
    pub fn limits_publishing(&self) -> bool {
        self.publishes.is_bounded()
    }

    /// Whether this peer speaks for others.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.load().iter().any(|network| network.contains(&peer))
    }

    /// Whose request it is, by [`client_address`].
    pub fn client<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        client_address(peer, forwarded_for, &self.trusted.load())
    }

    /// The key of an address. An IPv6 address counts with its /64: that is what one customer has at least.
    pub fn address_key(&self, address: IpAddr) -> u64 {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => 1 << 127 | address.to_bits() >> 64,
        };
        self.hasher.hash_one(network).max(1)
    }

    /// The key of a token: its member's, so that a new token is no new allowance, or else its own.
    pub fn token_key(&self, rights: &crate::auth::Rights) -> u64 {
        let key = match &rights.sub {
            Some(member) => self.hasher.hash_one((1, member)),
            None => self.hasher.hash_one((2, rights.token)),
        };
        key.max(1)
    }

    fn now_us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_micros() as u64
    }

    /// A connection came; if it is let in it counts until it [`went`](Admission::went). False if the node is full.
    #[must_use = "who is not let in does not count"]
    pub fn came(&self) -> bool {
        let max = self.connections_max.load(Ordering::Relaxed);
        one_more(&self.connections, max)
    }

    /// A connection came from those who look after the node, or from other nodes: it is let in and counts, however many there
    /// are.
    pub fn came_inside(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that counted went.
    pub fn went(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection that is not let in may stay for a moment, to be told so, until it is [`gone`](Admission::gone). False if too
    /// many do.
    #[must_use = "who may not stay is to be closed"]
    pub fn refuse(&self) -> bool {
        one_more(&self.refused, (self.shards * REFUSED_OPEN_MAX).min(self.connections_fit.div_ceil(4)))
    }

    /// A refused connection went.
    pub fn gone(&self) {
        self.refused.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection found no place, and nobody who would make room.
    pub fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Relaxed);
    }

    /// How full the node is of connections, of which so many are streams, and of memory. Forgets who was turned away until now.
    pub fn levels(&self, streams: u64) -> [Level; 2] {
        let (open, max) = self.connections();
        let (memory, memory_max) = self.memory();
        let turned_away = self.turned_away.swap(false, Ordering::Relaxed);
        [
            Level::of(open as u64, max as u64, turned_away || streams >= max as u64),
            Level::of(memory, memory_max, self.memory_is_full()),
        ]
    }

    /// It has been full of connections, or of memory, for so long that balancers should know; or is so no longer.
    pub fn note_full(&self, full: [bool; 2]) {
        for (known, full) in self.full.iter().zip(full) {
            known.store(full, Ordering::Relaxed);
        }
    }

    /// Why nobody has been let in for a while, if so.
    pub fn full(&self) -> Option<String> {
        let [connections, memory] = &self.full;
        if memory.load(Ordering::Relaxed) {
            let (used, max) = self.memory();
            return Some(format!(
                "full: {used} bytes of memory are in use, and max_memory is {max}; no stream is let in"
            ));
        }
        let (open, max) = self.connections();
        let full = connections.load(Ordering::Relaxed);
        full.then(|| format!("full: {open} connections are open, and max_connections is {max}; no stream is let in"))
    }

    /// Connections, and how many there may be.
    pub fn connections(&self) -> (usize, usize) {
        (self.connections.load(Ordering::Relaxed), self.connections_max.load(Ordering::Relaxed))
    }

    /// A connection of the address with this key comes. Gives the key if it is to [`leave`](Admission::leave).
    ///
    /// # Errors
    /// Why it is not to be let in.
    pub fn enter(&self, key: u64, now: Instant) -> Result<Option<u64>, Refusal> {
        let connects = self.address_connects.take(key, 1, self.now_us(now));
        connects.map_err(|wait| Refusal::AddressConnects(seconds(wait)))?;
        match self.address_connections.enter(key) {
            Entered::Full => Err(Refusal::AddressConnections),
            Entered::Counted => Ok(Some(key)),
            Entered::Uncounted => Ok(None),
        }
    }

    /// A connection that was counted went.
    pub fn leave(&self, key: u64) {
        self.address_connections.leave(key);
    }

    /// Whoever has this key publishes one event.
    ///
    /// # Errors
    /// It is too fast.
    pub fn publish(&self, key: u64, now: Instant) -> Result<(), Refusal> {
        if key == 0 {
            return Ok(());
        }
        self.publishes.take(key, 1, self.now_us(now)).map_err(|wait| Refusal::Publishes(seconds(wait)))
    }

    /// A member gives so many taps at once, at most [`TAPS_MAX`].
    ///
    /// # Errors
    /// It is too fast.
    pub fn tap(&self, member: &str, taps: u32, now: Instant) -> Result<(), Refusal> {
        // Their table is made with the first tap.
        if !self.taps.is_bounded() {
            self.taps.bound(TAPS_MAX);
        }
        let key = self.hasher.hash_one((3, member)).max(1);
        self.taps.take(key, taps, self.now_us(now)).map_err(|wait| Refusal::Publishes(seconds(wait)))
    }

    /// A shard holds `now` bytes on behalf of others, and held `before` when it last said so.
    pub fn note_held(&self, before: u64, now: u64) {
        self.held.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// What all shards hold, in bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// What the process has resident now, in bytes.
    pub fn note_memory(&self, resident: u64) {
        self.memory.store(resident, Ordering::Relaxed);
        self.held_then.store(self.held(), Ordering::Relaxed);
    }

    /// Resident memory, and how much there may be, in bytes. It is looked at now and then, and what is held more since
    /// counts as resident: a flood is over before the next look.
    pub fn memory(&self) -> (u64, u64) {
        let grown = self.held().saturating_sub(self.held_then.load(Ordering::Relaxed));
        (self.memory.load(Ordering::Relaxed).saturating_add(grown), self.memory_max.load(Ordering::Relaxed))
    }

    /// Whether there is memory for so many bytes more.
    pub fn has_room(&self, bytes: u64) -> bool {
        let (memory, max) = self.memory();
        memory.saturating_add(bytes) <= max
    }

    /// Whether there is too much of it for new streams.
    pub fn memory_is_full(&self) -> bool {
        !self.has_room(0)
    }
}

#[cfg(test)]
mod tests;
