//! Tables that were large once give back what they no longer need.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Places below which a table is left as it is.
const LEAST: usize = 1024;
/// It is made smaller once it has so many places for each thing in it, and then has twice as many places as things.
const TIMES: usize = 8;

/// A table that grows with what is in it.
pub trait Table {
    /// Things in it.
    fn used(&self) -> usize;
    /// Things that fit.
    fn room(&self) -> usize;
    /// Keeps room for so many.
    fn keep(&mut self, room: usize);
}

macro_rules! table {
    ($([$($parameters:tt)*] $table:ty),* $(,)?) => {$(
        impl<$($parameters)*> Table for $table {
            fn used(&self) -> usize {
                self.len()
            }

            fn room(&self) -> usize {
                self.capacity()
            }

            fn keep(&mut self, room: usize) {
                self.shrink_to(room);
            }
        }
    )*};
}

table! {
    [K: Eq + Hash, V, S: BuildHasher] HashMap<K, V, S>,
    [K: Eq + Hash, S: BuildHasher] HashSet<K, S>,
    [T] VecDeque<T>,
    [T] Vec<T>,
}

/// To be called whenever something was taken out: makes the table smaller once it is mostly empty. Moving what is left costs,
/// over all calls, a part of what it cost to take the rest out.
pub fn shrink(table: &mut impl Table) {
    let (used, room) = (table.used(), table.room());
    if room > LEAST && room / TIMES >= used {
        table.keep((used * 2).max(LEAST / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_large_is_small_again_and_what_is_used_stays_as_it_is() {
        let mut map: HashMap<u32, u32> = (0..100_000).map(|number| (number, number)).collect();
        let mut queue: VecDeque<u32> = (0..100_000).collect();
        let (mut moves, mut room) = (0, map.capacity());
        for number in 10..100_000 {
            map.remove(&number);
            queue.pop_back();
            shrink(&mut map);
            shrink(&mut queue);
            // It also tells of fewer places where one that was used cannot be used again before the next move.
            moves += usize::from(map.capacity() < room / 2);
            room = map.capacity();
            assert!(map.capacity() <= LEAST.max(16 * map.len()) && queue.capacity() <= LEAST.max(16 * queue.len()));
        }
        assert!((1..8).contains(&moves), "{moves}");
        assert!((0..10).all(|number| map[&number] == number) && queue.iter().copied().eq(0..10));
    }
}
