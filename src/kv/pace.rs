//! The pace of a type of class `every`: how many of a topic's events a second are shown to those who do not ask for all. Which
//! ones is decided once, by the append to history: as room is left in each quarter of a second, so that they come evenly.
//! `redis/lua/history.lua` decides the same.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Paced;

/// How long room is counted by itself, in milliseconds.
pub const QUARTER_MS: u64 = 250;

/// Quarters of a second in one.
const QUARTERS: u64 = 1000 / QUARTER_MS;

/// What an append asks of its topic's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Events of the topic and type that are shown a second.
    pub per_second: NonZeroU32,
    /// This one is shown also where there is no room: its author may moderate the topic.
    pub always: bool,
}

/// The room of one topic and type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// The quarter of a second in which it was last looked at; 0 before the first event.
    quarter: u64,
    /// What is left in it, in quarters of an event.
    left: u64,
    /// Events that were left out since the last one that was shown.
    skipped: u32,
}

impl Room {
    /// What becomes of an event that comes now, which is never before another one's time.
    pub fn decide(&mut self, pace: Pace, now_ms: u64) -> Paced {
        let quarter = now_ms / QUARTER_MS;
        let more = u64::from(pace.per_second.get());
        // What one quarter did not use is no room for a crowd in the next: only the part of an event that did not fit stays.
        let most = more + QUARTERS - 1;
        let since = if self.quarter == 0 { most } else { quarter.saturating_sub(self.quarter).saturating_mul(more) };
        self.left = self.left.saturating_add(since).min(most);
        self.quarter = self.quarter.max(quarter);
        let has_room = self.left >= QUARTERS || planted(Mistake::PaceUnbounded);
        if !has_room && !pace.always {
            self.skipped = self.skipped.saturating_add(1);
            return Paced::LEFT_OUT;
        }
        self.left = self.left.saturating_sub(QUARTERS);
        Paced::shown(std::mem::take(&mut self.skipped))
    }

    /// An event that was decided on by an earlier process.
    pub fn saw(&mut self, paced: Paced) {
        self.skipped = if paced.is_shown() { 0 } else { self.skipped.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(per_second: u32, always: bool) -> Pace {
        Pace { per_second: NonZeroU32::new(per_second).unwrap(), always }
    }

    /// Each of these moments, and what became of its event.
    fn decide(room: &mut Room, pace: Pace, moments: impl Iterator<Item = u64>) -> Vec<(u64, Paced)> {
        moments.map(|now_ms| (now_ms, room.decide(pace, now_ms))).collect()
    }

    #[test]
    fn a_thousand_a_second_are_shown_evenly() {
        let decided = decide(&mut Room::default(), pace(10, false), 1_000_000..1_010_000);
        let shown: Vec<u64> = decided.iter().filter(|(_, paced)| paced.is_shown()).map(|(at, _)| *at).collect();
        let of_quarter = |from: u64| shown.iter().filter(|at| (from..from + QUARTER_MS).contains(*at)).count();
        for from in (1_000_000..1_010_000).step_by(QUARTER_MS as usize) {
            assert!((2..=3).contains(&of_quarter(from)), "{from}: {}", of_quarter(from));
        }
        assert_eq!(shown.len(), 100);
    }

    proptest! {
        /// However events come: of those that need room no more are shown in a second than its pace, and what a quarter may
        /// have over; one that comes to a quiet topic is shown; each says how many were left out before it.
        #[test]
        fn no_more_are_shown_than_there_is_room_for(
            per_second in 1u32..60, pauses in prop::collection::vec((0u64..400, prop::bool::weighted(0.05)), 1..300),
        ) {
            let (mut room, mut now_ms, mut left_out) = (Room::default(), 7_000, 0);
            let mut needed = Vec::new();
            for (pause, always) in pauses {
                now_ms += pause;
                let is_quiet = needed.last().is_none_or(|last| last + 1000 + QUARTER_MS <= now_ms);
                let paced = room.decide(pace(per_second, always), now_ms);
                prop_assert!(paced.is_shown() || !(always || is_quiet));
                if paced.is_shown() {
                    prop_assert_eq!(paced, Paced::shown(std::mem::take(&mut left_out)));
                    // Those that are always shown may have used up what others would have had.
                    needed.push(now_ms);
                    let needing = needed.iter().filter(|at| now_ms / QUARTER_MS - **at / QUARTER_MS < QUARTERS).count();
                    prop_assert!(always || needing as u32 <= per_second + per_second.div_ceil(4) + 1 || needed.len() > 1);
                } else {
                    left_out += 1;
                }
            }
        }

        /// Where nobody is always shown, no second has more than its pace, and the part of an event that was left before it.
        #[test]
        fn no_second_has_more_than_its_pace(per_second in 1u32..60, pauses in prop::collection::vec(0u64..60, 1..600)) {
            let (mut room, mut now_ms, mut shown) = (Room::default(), 9_000, Vec::new());
            for pause in pauses {
                now_ms += pause;
                if room.decide(pace(per_second, false), now_ms).is_shown() {
                    shown.push(now_ms / QUARTER_MS);
                }
            }
            for quarter in &shown {
                let count = shown.iter().filter(|at| (*quarter..quarter + QUARTERS).contains(*at)).count();
                prop_assert!(count as u32 <= per_second + 1, "{count} from {quarter}");
            }
        }
    }
}
