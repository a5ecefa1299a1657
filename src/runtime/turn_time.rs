//! The longest time that a shard went without turning to its sockets: what delays everyone on it.

use std::time::{Duration, Instant};

use crate::limits::{TICK, TURN_WINDOW, TURN_WINDOWS};

/// Times of a shard's turns, of which it keeps the longest in the last minute.
#[derive(Debug)]
pub struct TurnTime {
    /// When the turn, or the rest, began.
    since: Instant,
    /// Between turns, asleep.
    resting: bool,
    /// The longest in each of the last stretches of [`TURN_WINDOW`].
    longest: [Duration; TURN_WINDOWS],
    /// That of now.
    current: usize,
    current_ends: Instant,
}

impl TurnTime {
    /// Begins with a turn.
    pub fn new(now: Instant) -> TurnTime {
        let longest = [Duration::ZERO; TURN_WINDOWS];
        TurnTime { since: now, resting: false, longest, current: 0, current_ends: now + TURN_WINDOW }
    }

    /// A turn begins, and with it ends the one before, or the rest. A rest counts by what it went beyond a tick, since the
    /// timer ends it then: more means that the shard did not get its core.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.since, now);
        let allowed = if std::mem::take(&mut self.resting) { TICK } else { Duration::ZERO };
        self.note(now.saturating_duration_since(since).saturating_sub(allowed), now);
    }

    /// A turn ended, and the shard sleeps until there is more to do.
    #[inline]
    pub fn rest(&mut self, now: Instant) {
        self.note(now.saturating_duration_since(self.since), now);
        self.since = now;
        self.resting = true;
    }

    /// The longest in the last minute, to a window.
    pub fn longest(&mut self, now: Instant) -> Duration {
        self.turn_over(now);
        self.longest.into_iter().max().unwrap_or_default()
    }

    #[inline]
    fn note(&mut self, time: Duration, now: Instant) {
        if now >= self.current_ends {
            self.turn_over(now);
        }
        let longest = &mut self.longest[self.current];
        *longest = time.max(*longest);
    }

    fn turn_over(&mut self, now: Instant) {
        for _ in 0..TURN_WINDOWS {
            if now < self.current_ends {
                return;
            }
            self.current = (self.current + 1) % TURN_WINDOWS;
            self.longest[self.current] = Duration::ZERO;
            self.current_ends += TURN_WINDOW;
        }
        // Longer away than all windows together: they were all cleared.
        self.current_ends = self.current_ends.max(now + TURN_WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn turns_count_whole_and_rests_beyond_a_tick() {
        let start = Instant::now();
        let mut times = TurnTime::new(start);
        times.begin(start + 3 * MS);
        assert_eq!(times.longest(start + 3 * MS), 3 * MS, "a turn that another followed at once");
        times.rest(start + 8 * MS);
        assert_eq!(times.longest(start + 8 * MS), 5 * MS, "a turn before a rest");
        times.begin(start + 8 * MS + TICK);
        assert_eq!(times.longest(start + 8 * MS + TICK), 5 * MS, "the timer ended the rest as it should");
        let now = start + 8 * MS + TICK;
        times.rest(now);
        times.begin(now + TICK + 40 * MS);
        assert_eq!(times.longest(now + TICK + 40 * MS), 40 * MS, "the shard did not get its core");
    }

    #[test]
    fn a_long_turn_is_forgotten_after_a_minute_and_not_before() {
        let start = Instant::now();
        let mut times = TurnTime::new(start);
        times.rest(start + 70 * MS);
        let all = TURN_WINDOW * TURN_WINDOWS as u32;
        assert_eq!(times.longest(start + all - TURN_WINDOW), 70 * MS);
        assert_eq!(times.longest(start + all), Duration::ZERO);
        // Also when nobody looked for long, and one that came after that stays.
        let later = start + 10 * all;
        times.begin(later);
        let expected = later - (start + 70 * MS) - TICK;
        assert_eq!(times.longest(later), expected);
        assert_eq!(times.longest(later + TURN_WINDOW / 2), expected);
        assert_eq!(times.longest(later + all + TURN_WINDOW), Duration::ZERO);
    }
}
