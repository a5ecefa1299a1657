//! How often: the generic cell rate algorithm (GCRA), which needs one time a key: when the next one would be due if all
//! came evenly.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::table::Table;
use crate::limits::{RATE_BURST, RATE_KEYS, RATE_MAX};

/// A place holds a tag, and a time in microseconds modulo this: it comes round after half a year, and is compared as
/// what lies nearest.
const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Tries to win a place from another shard before the key passes unseen.
const TRIES: usize = 16;

/// A rate, for each of many keys. When more keys come than it has room for, the one whose allowance is nearest to full is
/// forgotten: so nobody is refused for another's sake, and an attacker with a million addresses has a million allowances
/// anyway.
#[derive(Debug)]
pub struct Rates {
    /// Made with the first rate, since most nodes have none.
    table: OnceLock<Table>,
    /// A second; 0 is no bound.
    rate: AtomicU32,
}

/// How far `time` lies ahead of `now`; 0 if it does not.
fn ahead(time: u64, now: u64) -> u64 {
    let ahead = time.wrapping_sub(now) & TIME_MASK;
    if ahead > TIME_MASK / 2 { 0 } else { ahead }
}

impl Rates {
    /// `rate` a second, up to [`RATE_MAX`], and as many at once as [`RATE_BURST`] allows, at least one; 0 is no bound.
    pub fn new(rate: u32) -> Rates {
        let rates = Rates { table: OnceLock::new(), rate: AtomicU32::new(0) };
        rates.bound(rate);
        rates
    }

    /// From now on it is `rate` a second; 0 is no bound. What keys have taken already counts.
    pub fn bound(&self, rate: u32) {
        if rate > 0 {
            self.table.get_or_init(|| Table::new(RATE_KEYS));
        }
        self.rate.store(rate.min(RATE_MAX), Ordering::Release);
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.rate.load(Ordering::Relaxed) > 0
    }

    /// Takes so many from the allowance of the key with this hash, no more than there ever is at once, at `now_us`,
    /// microseconds of a clock that all shards share.
    ///
    /// # Errors
    /// The microseconds after which that will be allowed. Nothing is taken then, so who waits is served.
    pub fn take(&self, hash: u64, count: u32, now_us: u64) -> Result<(), u64> {
        let rate = self.rate.load(Ordering::Acquire);
        let Some(table) = self.table.get().filter(|_| rate > 0) else { return Ok(()) };
        // In microseconds: for one, and by how much one may be ahead.
        let interval = 1_000_000 / u64::from(rate);
        let burst = (RATE_BURST.as_micros() as u64).max(interval);
        let line = table.line(hash);
        let (tag, now) = (hash >> TIME_BITS, now_us & TIME_MASK);
        for _ in 0..TRIES {
            let (mut at, mut seen, mut debt) = (0, 0, u64::MAX);
            for (place, word) in line.iter().enumerate() {
                let word = word.load(Ordering::Relaxed);
                let owes = ahead(word & TIME_MASK, now);
                if word >> TIME_BITS == tag && word != 0 {
                    (at, seen, debt) = (place, word, owes);
                    break;
                }
                if owes < debt {
                    (at, seen, debt) = (place, word, owes);
                }
            }
            let owes = if seen >> TIME_BITS == tag && seen != 0 { debt } else { 0 };
            let after = owes + interval * u64::from(count);
            if after > burst {
                return Err(after - burst);
            }
            let next = tag << TIME_BITS | (now + after) & TIME_MASK;
            if line[at].compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        let rates = Rates::new(10);
        let start = TIME_MASK - 3_000_000; // The time comes round meanwhile.
        for _ in 0..10 {
            assert_eq!(rates.take(7, 1, start), Ok(()));
        }
        assert_eq!(rates.take(7, 1, start), Err(100_000));
        assert_eq!(rates.take(7 << TIME_BITS, 1, start), Ok(()), "another key");
        assert_eq!(rates.take(7, 1, start + 99_999), Err(1));
        for tenth in 1..100 {
            assert_eq!(rates.take(7, 1, start + tenth * 100_000), Ok(()));
            assert!(rates.take(7, 1, start + tenth * 100_000).is_err());
        }
        assert_eq!(rates.take(7, 1, start + 20_000_000), Ok(()));
    }

    #[test]
    fn one_in_two_seconds_would_be_too_slow_to_set_and_one_a_second_works() {
        let rates = Rates::new(1);
        assert_eq!((rates.take(1, 1, 5), rates.take(1, 1, 5)), (Ok(()), Err(1_000_000)));
        assert_eq!(rates.take(1, 1, 1_000_005), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_refuses_nobody_else_and_takes_no_more_memory() {
        let rates = Rates::new(5);
        let bytes = rates.table.get().unwrap().bytes();
        let mut hash = 1_u64;
        for _ in 0..1_000_000 {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A tag of 20 bits may stand for another key once in a while, which then shares its allowance of five.
            assert_eq!(rates.take(hash.rotate_left(29), 1, 0), Ok(()));
        }
        assert_eq!((rates.table.get().unwrap().bytes(), bytes), (RATE_KEYS * 8, RATE_KEYS * 8));
    }

    #[test]
    fn shards_that_meet_on_a_key_share_its_allowance() {
        let rates = Rates::new(1_000);
        let granted: u32 = std::thread::scope(|scope| {
            let take = || (0..5_000).map(|_| u32::from(rates.take(42, 1, 0).is_ok())).sum::<u32>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // A try that loses its place sixteen times in a row passes, and two may place a new key twice.
        assert!((1_000..=2_050).contains(&granted), "{granted}");
    }

    proptest! {
        /// Against the algorithm in exact numbers, a key each.
        #[test]
        fn as_the_algorithm_says(rate in 1u32..60, steps in prop::collection::vec((0u64..6, 0u64..20_000), 1..400)) {
            let rates = Rates::new(rate);
            let interval = 1_000_000 / u64::from(rate);
            let burst = interval.max(1_000_000);
            let (mut now, mut due) = (123, [0_u64; 6]);
            for (key, pause) in steps {
                now += pause;
                let next = due[key as usize].max(now) + interval;
                let expected = if next > now + burst { Err(next - now - burst) } else { Ok(()) };
                // All in one line, told apart by their tags.
                prop_assert_eq!(rates.take((key + 1) << TIME_BITS, 1, now), expected);
                if expected.is_ok() {
                    due[key as usize] = next;
                }
            }
        }
    }
}
