//! Chance: numbers that spread choices, and the seeds of hash tables. All of a shard's chance follows from one seed, which
//! comes from the kernel, so that who knows a shard's seed and its inputs knows what it does.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// A hash table whose order follows from its thread's seed; nobody outside can aim at one of its places.
pub type Map<K, V> = HashMap<K, V, Seeded>;
/// A set like [`Map`].
pub type Set<T> = HashSet<T, Seeded>;

/// Numbers that spread choices and pauses; nobody's secret (splitmix64; Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// What all tables of the process share, and whether it is predictable.
static SHARED: OnceLock<(SharedSeed, bool)> = OnceLock::new();

thread_local! {
    /// From which the next table of this thread has its seed.
    static TABLES: Cell<Random> = Cell::new(Random::new(kernel()));
}

/// Bits that nobody can guess.
///
/// # Panics
/// Where the kernel has no randomness to give. It has, once it gave some; a node asks it when it starts.
pub fn kernel() -> u64 {
    getrandom::u64().expect("the kernel gave random bits when the node started")
}

/// Makes the order of all tables that this thread makes from now on follow from `seed`, and the process predictable; for
/// simulations.
///
/// # Panics
/// Where the process looked something up in a table before: nobody can predict it any more.
pub fn seed_tables(seed: u64) {
    let (_, predictable) = SHARED.get_or_init(|| (SharedSeed::from_u64(0), true));
    assert!(predictable, "the process used a table before its tables were seeded");
    TABLES.set(Random::new(seed));
}

/// How a [`Map`] hashes: each with a seed of its own, since tables of one seed that are filled from each other grow slow.
#[derive(Debug, Clone, Copy)]
pub struct Seeded(u64);

impl Seeded {
    /// Hashes alike wherever in the process it is used.
    pub const SAME: Seeded = Seeded(0);
}

impl Default for Seeded {
    fn default() -> Seeded {
        let mut random = TABLES.replace(Random::new(0));
        let seed = random.number();
        TABLES.set(random);
        Seeded(seed)
    }
}

impl BuildHasher for Seeded {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> FoldHasher<'static> {
        let (shared, _) = SHARED.get_or_init(|| (SharedSeed::from_u64(kernel()), false));
        FoldHasher::with_seed(self.0, shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_tables_follows_from_the_seed() {
        let order = |seed| {
            TABLES.set(Random::new(seed));
            let mut set = Set::default();
            set.extend(0..1000);
            set.into_iter().collect::<Vec<u32>>()
        };
        let [first, again, other] = std::thread::spawn(move || [order(1), order(1), order(2)]).join().unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn tables_of_one_thread_differ() {
        assert_ne!(Seeded::default().hash_one(7), Seeded::default().hash_one(7));
    }
}
