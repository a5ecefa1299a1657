//! How many at a time: connections, by their address.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::table::Table;

/// A place holds a tag above, a count below.
const COUNT_BITS: u32 = 32;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Tries to win a place from another shard before a connection goes uncounted.
const TRIES: usize = 16;

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It counts, and is to [`leave`](Counts::leave).
    Counted,
    /// There was no place to count it at; it is let in, and must not leave.
    Uncounted,
    /// Its key has as many as it may.
    Full,
}

/// Counts of open connections, for each of many keys. A count is never forgotten, so what finds no place goes uncounted.
#[derive(Debug)]
pub struct Counts {
    /// Made with the first bound, since most nodes have none.
    table: OnceLock<Table>,
    keys: usize,
    most: AtomicU32,
}

impl Counts {
    /// `most` connections a key, 0 for no bound, with room for `keys` keys.
    pub fn new(most: u32, keys: usize) -> Counts {
        let counts = Counts { table: OnceLock::new(), keys, most: AtomicU32::new(0) };
        counts.bound(most);
        counts
    }

    /// From now on there are `most` connections a key, 0 for no bound. What came while there was none stays uncounted.
    pub fn bound(&self, most: u32) {
        if most > 0 {
            self.table.get_or_init(|| Table::new(self.keys));
        }
        self.most.store(most, Ordering::Release);
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.most.load(Ordering::Relaxed) > 0
    }

    /// A connection of the key with this hash comes.
    pub fn enter(&self, hash: u64) -> Entered {
        let most = u64::from(self.most.load(Ordering::Acquire));
        let Some(table) = self.table.get().filter(|_| most > 0) else { return Entered::Uncounted };
        let line = table.line(hash);
        let tag = hash >> COUNT_BITS;
        for _ in 0..TRIES {
            let (mut count, mut mine, mut free) = (0, None, None);
            for place in line {
                let word = place.load(Ordering::Relaxed);
                if word & COUNT_MASK == 0 {
                    free = free.or(Some((place, word)));
                } else if word >> COUNT_BITS == tag {
                    // Two shards that count a new key at the same moment may have placed it twice.
                    count += word & COUNT_MASK;
                    mine = Some((place, word));
                }
            }
            if count >= most {
                return Entered::Full;
            }
            let (place, old, new) = match (mine, free) {
                (Some((place, word)), _) => (place, word, word + 1),
                (None, Some((place, word))) => (place, word, tag << COUNT_BITS | 1),
                (None, None) => return Entered::Uncounted,
            };
            if place.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Entered::Counted;
            }
        }
        Entered::Uncounted
    }

    /// A counted connection of that key went.
    pub fn leave(&self, hash: u64) {
        let tag = hash >> COUNT_BITS;
        for place in self.table.get().into_iter().flat_map(|table| table.line(hash)) {
            let taken = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                (word >> COUNT_BITS == tag && word & COUNT_MASK > 0).then(|| word - 1)
            });
            if taken.is_ok() {
                return;
            }
        }
        debug_assert!(false, "what leaves has entered");
    }

    /// Connections of that key.
    pub fn count(&self, hash: u64) -> u64 {
        let line = self.table.get().into_iter().flat_map(|table| table.line(hash));
        let words = line.map(|place| place.load(Ordering::Relaxed));
        words.filter(|word| word >> COUNT_BITS == hash >> COUNT_BITS).map(|word| word & COUNT_MASK).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn what_finds_no_place_is_let_in() {
        let counts = Counts::new(1, 8);
        for key in 0..8_u64 {
            assert_eq!(counts.enter(key << COUNT_BITS), Entered::Counted);
            assert_eq!(counts.enter(key << COUNT_BITS), Entered::Full);
        }
        assert_eq!(counts.enter(8 << COUNT_BITS), Entered::Uncounted);
        counts.leave(3 << COUNT_BITS);
        assert_eq!(counts.enter(8 << COUNT_BITS), Entered::Counted);
        assert_eq!(counts.count(3 << COUNT_BITS), 0);
    }

    #[test]
    fn shards_that_meet_on_a_key_lose_no_count() {
        let counts = Counts::new(u32::MAX, 1024);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..20_000_u64 {
                        let key = turn % 3 * 1024;
                        if counts.enter(key) == Entered::Counted {
                            counts.leave(key);
                        }
                    }
                });
            }
        });
        assert_eq!([0, 1024, 2048].map(|key| counts.count(key)), [0; 3]);
    }

    proptest! {
        #[test]
        fn as_many_as_are_there(most in 1u32..4, steps in prop::collection::vec((0u64..6, any::<bool>()), 1..200)) {
            let counts = Counts::new(most, 64);
            let mut open: HashMap<u64, u64> = HashMap::new();
            for (key, comes) in steps {
                // All in one line.
                let (hash, model) = (key << COUNT_BITS, open.entry(key).or_default());
                if comes {
                    let expected = if *model < u64::from(most) { Entered::Counted } else { Entered::Full };
                    prop_assert_eq!(counts.enter(hash), expected);
                    *model = u64::from(most).min(*model + 1);
                } else if *model > 0 {
                    counts.leave(hash);
                    *model -= 1;
                }
                prop_assert_eq!(counts.count(hash), *model);
            }
        }
    }
}
