//! How long it takes to go round a topic's viewers once, which is how long ago the last of them was served when the first is
//! again. No IO, no clock.

use std::time::Duration;

/// One topic's, on one shard.
#[derive(Debug, Default)]
pub struct Rounds {
    /// When counting began, in Unix ms modulo 2^32, and at which viewer's place.
    began_ms: u32,
    began_at: u32,
    /// How often the last viewer was passed since.
    wraps: u32,
    took_ms: u32,
}

impl Rounds {
    /// Viewers lack something who had all; the one at `place` is the next.
    pub fn begins(&mut self, place: u32, now_ms: u64) {
        *self = Rounds { began_ms: now_ms as u32, began_at: place, wraps: 0, took_ms: self.took_ms };
    }

    /// The last of all viewers was served, and the first is the next.
    pub fn wraps(&mut self, viewers: usize, now_ms: u64) {
        self.wraps += 1;
        self.looks(0, viewers, now_ms);
    }

    /// The viewer at `place` is the next one, if any: so many were served since counting began.
    pub fn looks(&mut self, place: u32, viewers: usize, now_ms: u64) {
        let served =
            (u64::from(self.wraps) * viewers as u64 + u64::from(place)).saturating_sub(u64::from(self.began_at));
        if viewers > 0 && served >= viewers as u64 {
            let since_ms = u64::from((now_ms as u32).wrapping_sub(self.began_ms));
            // A clock that was set back would have it take weeks: what is longer than any round says nothing.
            self.took_ms = u32::try_from(since_ms * viewers as u64 / served).unwrap_or(0);
            self.begins(place, now_ms);
        }
    }

    /// How long the last round took, that of some viewers counted for all.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_timed_wherever_they_begin_and_while_more_comes() {
        let (mut rounds, ms) = (Rounds::default(), Duration::from_millis);
        rounds.begins(40, 1_000);
        rounds.looks(90, 100, 1_020);
        assert_eq!(rounds.took(), ms(0), "not all were served");
        rounds.wraps(100, 1_024);
        rounds.looks(40, 100, 1_040);
        assert_eq!(rounds.took(), ms(40));
        // More came after half a round, so that one and a half followed each other.
        rounds.begins(0, 2_000);
        rounds.wraps(100, 2_060);
        assert_eq!(rounds.took(), ms(60));
        rounds.looks(50, 100, 2_100);
        assert_eq!(rounds.took(), ms(60));
        // The clock was set back.
        rounds.begins(0, 3_000);
        rounds.wraps(100, 2_000);
        assert!(rounds.took() > Duration::from_secs(86_400), "whoever asks has a bound");
    }
}
