//! A table of fixed size that all shards share without a lock: a few bits each for any number of keys, the least useful
//! of which are forgotten.
//!
//! It is shared, and not cut into a share a shard, because the kernel spreads one address's connections over the shards by
//! chance: of a limit of ten a shard of sixteen could give nothing. Each look-up is one cache line, and two shards meet on it
//! only when they serve the same address at the same moment.

use std::sync::atomic::AtomicU64;

/// Places that a key can be at: a cache line of them.
pub const PLACES: usize = 8;

/// One cache line of places.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Line(pub [AtomicU64; PLACES]);

/// Lines by a key's hash.
#[derive(Debug)]
pub struct Table(Box<[Line]>);

impl Table {
    /// With room for at least so many keys.
    pub fn new(keys: usize) -> Table {
        let lines = keys.div_ceil(PLACES).next_power_of_two();
        Table((0..lines).map(|_| Line::default()).collect())
    }

    /// The places of a key, given its hash. The low bits choose the line, so tags are to be made of the high ones.
    pub fn line(&self, hash: u64) -> &[AtomicU64; PLACES] {
        &self.0[hash as usize & (self.0.len() - 1)].0
    }

    /// Bytes that it takes, whatever is in it.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}
