//! Whether a topic's events merge slice by slice of time, since more comes than its viewers can be given one by one. No IO,
//! no clock.
//!
//! Between two rounds of its viewers is a rest then: there is always something to give, and rounds without a pause would only take the
//! processor from those who are to read it, in ever smaller pieces.

use crate::limits::{
    FLOOD, FLOOD_BYTES, LOG_BYTES_MAX, LOG_BYTES_MIN, MERGING, MERGING_REST, MERGING_SLICE, ROUND_BYTES_MAX,
};

/// Bytes that the log of a topic may hold.
pub fn log_bytes_max(viewers: usize) -> usize {
    (ROUND_BYTES_MAX / viewers.max(1)).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
}

/// One topic's.
#[derive(Debug, Default)]
pub struct Merging {
    /// When the present stretch of [`FLOOD`] began, modulo 2^32 ms, and bytes that came since.
    stretch_ms: u32,
    stretch_bytes: u32,
    began: Option<Box<Began>>,
}

/// More came than can be given one by one.
#[derive(Debug, Clone, Copy)]
struct Began {
    at_ms: u64,
    /// Bytes that came since.
    came: usize,
    /// When what had merged so far was last given to viewers.
    sliced_ms: u64,
    /// When the present round began.
    round_ms: u64,
    /// Until when there is none.
    rests_until_ms: Option<u64>,
}

impl Merging {
    /// Whether it does.
    pub fn is_on(&self) -> bool {
        self.began.is_some()
    }

    /// `size` bytes came for `viewers` while the log held `held`. Merging begins when that is full, or when more comes than can
    /// be written, and goes on while so much comes that the log would soon be full again.
    pub fn came(&mut self, size: usize, held: usize, viewers: usize, now_ms: u64) {
        let most = log_bytes_max(viewers);
        if u64::from((now_ms as u32).wrapping_sub(self.stretch_ms)) >= FLOOD.as_millis() as u64 {
            (self.stretch_ms, self.stretch_bytes) = (now_ms as u32, 0);
        }
        self.stretch_bytes = self.stretch_bytes.saturating_add(size as u32);
        let floods = (self.stretch_bytes as usize).saturating_mul(viewers) >= FLOOD_BYTES;
        if let Some(began) = &mut self.began {
            began.came += size;
            if now_ms.saturating_sub(began.at_ms) >= MERGING.as_millis() as u64 {
                let goes_on = began.came >= 2 * most;
                (began.at_ms, began.came) = (now_ms, 0);
                if !goes_on {
                    self.began = None;
                }
            }
        }
        if held >= most || floods {
            let began = || {
                Box::new(Began { at_ms: now_ms, came: 0, sliced_ms: now_ms, round_ms: now_ms, rests_until_ms: None })
            };
            self.began.get_or_insert_with(began);
        }
    }

    /// Whether what merged so far is to be given to viewers now.
    pub fn slice_ends(&mut self, now_ms: u64) -> bool {
        let Some(began) = &mut self.began else { return false };
        let ends = now_ms.abs_diff(began.sliced_ms) >= MERGING_SLICE.as_millis() as u64;
        if ends {
            began.sliced_ms = now_ms;
        }
        ends
    }

    /// A round begins.
    pub fn round_begins(&mut self, now_ms: u64) {
        if let Some(began) = &mut self.began {
            (began.round_ms, began.rests_until_ms) = (now_ms, None);
        }
    }

    /// The round is over: whether the next one is to wait, as long as this one took, up to [`MERGING_REST`].
    pub fn rests(&mut self, now_ms: u64) -> bool {
        if let Some(began) = &mut self.began {
            let took = now_ms.saturating_sub(began.round_ms);
            began.rests_until_ms.get_or_insert(now_ms + took.min(MERGING_REST.as_millis() as u64));
        }
        self.rest_ms(now_ms).is_some()
    }

    /// For how many milliseconds there is no round.
    pub fn rest_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self.began.as_ref()?.rests_until_ms?.saturating_sub(now_ms);
        // A clock that was set back ends it.
        (1..=MERGING_REST.as_millis() as u64).contains(&left).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWERS: usize = 8_192;

    fn flooded() -> Merging {
        let mut merging = Merging::default();
        merging.came(FLOOD_BYTES / VIEWERS, 0, VIEWERS, 1_000);
        assert!(merging.is_on());
        merging
    }

    #[test]
    fn what_can_be_written_does_not_merge() {
        let mut merging = Merging::default();
        let most = FLOOD_BYTES / VIEWERS;
        for stretch in 0..100 {
            let now_ms = stretch * FLOOD.as_millis() as u64;
            (0..3).for_each(|_| merging.came(most / 4, 0, VIEWERS, now_ms));
        }
        assert!(!merging.is_on());
        // The same for a few viewers is no flood at any rate.
        (0..1_000).for_each(|_| merging.came(16_384, 0, 2, 0));
        assert!(!merging.is_on());
        merging.came(1, log_bytes_max(2), 2, 0);
        assert!(merging.is_on(), "the log is full");
    }

    #[test]
    fn slices_have_their_time() {
        let mut merging = flooded();
        let ends = (1_000..1_100).filter(|now_ms| merging.slice_ends(*now_ms)).count();
        assert_eq!(ends, 9);
        assert!(!Merging::default().slice_ends(5_000));
    }

    #[test]
    fn a_rest_is_as_long_as_the_round_up_to_a_bound() {
        let most = MERGING_REST.as_millis() as u64;
        for (took, rest) in [(0, 0), (5, 5), (400, most)] {
            let mut merging = flooded();
            merging.round_begins(2_000);
            let over = 2_000 + took;
            assert_eq!((merging.rests(over), merging.rest_ms(over)), (rest > 0, (rest > 0).then_some(rest)));
            assert_eq!((merging.rests(over + rest), merging.rest_ms(over + rest)), (false, None));
            if rest > 1 {
                assert!(merging.rests(over + rest - 1));
                assert!(!merging.rests(over - 1_000), "the clock was set back");
            }
        }
        assert!(!Merging::default().rests(1));
    }
}
