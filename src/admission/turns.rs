//! Whether a shard keeps up, by how long its turns take.

use std::time::{Duration, Instant};

use crate::limits::TURN_MEMORY;

/// The long turns of one shard. One alone is a hiccup of the machine; two within [`TURN_MEMORY`] are too much work.
#[derive(Debug, Default)]
pub struct Turns {
    last_long: Option<Instant>,
    until: Option<Instant>,
}

impl Turns {
    /// A turn ended at `now`, having taken `took`; `bound` zero is no bound.
    #[inline]
    pub fn ended(&mut self, took: Duration, now: Instant, bound: Duration) {
        if took <= bound || bound.is_zero() {
            return;
        }
        // From the end of the one before to the beginning of this one.
        let began = now.checked_sub(took).unwrap_or(now);
        if self.last_long.replace(now).is_some_and(|last| began.saturating_duration_since(last) <= TURN_MEMORY) {
            self.until = Some(now + TURN_MEMORY);
        }
    }

    /// Whether the shard has too much to do already.
    pub fn are_long(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_turn_is_a_hiccup_and_two_are_overload_for_a_while() {
        const BOUND: Duration = Duration::from_millis(250);
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let long = Duration::from_millis(300);
        let mut turns = Turns::default();
        turns.ended(long, at(1_000), BOUND);
        assert!(!turns.are_long(at(1_000)));
        // Long after: a hiccup again.
        turns.ended(long, at(9_000), BOUND);
        turns.ended(BOUND, at(9_300), BOUND);
        assert!(!turns.are_long(at(9_300)));
        turns.ended(long, at(9_700), BOUND);
        assert!(turns.are_long(at(9_700)) && turns.are_long(at(10_699)) && !turns.are_long(at(10_700)));
        // Turns that are themselves longer than what is remembered follow one another.
        turns.ended(Duration::from_secs(5), at(20_000), BOUND);
        turns.ended(Duration::from_secs(5), at(25_001), BOUND);
        assert!(turns.are_long(at(25_500)));
        let mut unbound = Turns::default();
        unbound.ended(long, at(0), Duration::ZERO);
        unbound.ended(long, at(400), Duration::ZERO);
        assert!(!unbound.are_long(at(400)));
    }
}
