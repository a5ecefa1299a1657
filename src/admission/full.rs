//! Whether a node lets nobody in any more, for so long that a balancer should turn elsewhere.

use std::time::Instant;

use crate::limits::{FULL_PATIENCE, FULL_ROOM};

/// How much of something there is, compared with how much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// There is no more of it.
    Full,
    /// There is little.
    Between,
    /// There is enough for more to come.
    Room,
}

impl Level {
    /// Of `taken`, where there may be `most`; `full` if somebody found none left.
    pub fn of(taken: u64, most: u64, full: bool) -> Level {
        if full {
            Level::Full
        } else if taken <= most - most.div_ceil(FULL_ROOM) {
            Level::Room
        } else {
            Level::Between
        }
    }
}

/// Whether it has been full for long, and has not had room for long since.
#[derive(Debug, Default)]
pub struct Fullness {
    is_full: bool,
    /// Since when looks say otherwise, none of them what it is held for.
    since: Option<Instant>,
}

impl Fullness {
    /// Takes in a look; gives what holds then.
    pub fn look(&mut self, level: Level, now: Instant) -> bool {
        let (stays, turns) = if self.is_full { (Level::Full, Level::Room) } else { (Level::Room, Level::Full) };
        if level == stays {
            self.since = None;
        } else if level == turns {
            let since = *self.since.get_or_insert(now);
            if now.saturating_duration_since(since) >= FULL_PATIENCE {
                *self = Fullness { is_full: !self.is_full, since: None };
            }
        }
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn levels() {
        assert_eq!(Level::of(50, 50, true), Level::Full);
        assert_eq!(
            [46, 47, 48, 60].map(|taken| Level::of(taken, 50, false) == Level::Room),
            [true, true, false, false]
        );
        assert_eq!([0, 1].map(|taken| Level::of(taken, 1, false) == Level::Room), [true, false]);
        assert_eq!(Level::of(0, 0, false), Level::Room);
        assert_eq!(Level::of(u64::MAX, u64::MAX, false), Level::Between);
    }

    /// What is said at each second.
    fn said(levels: &[Level]) -> Vec<bool> {
        let (start, mut fullness) = (Instant::now(), Fullness::default());
        let second = |at| start + Duration::from_secs(at as u64);
        levels.iter().enumerate().map(|(at, level)| fullness.look(*level, second(at))).collect()
    }

    #[test]
    fn it_turns_after_a_while_either_way() {
        let patience = FULL_PATIENCE.as_secs() as usize;
        let levels = [vec![Level::Full; patience + 1], vec![Level::Room; patience + 1]].concat();
        let expected = [vec![false; patience], vec![true; patience + 1], vec![false]].concat();
        assert_eq!(said(&levels), expected);
    }

    #[test]
    fn a_crowd_at_the_limit_does_not_make_it_flap() {
        // One goes, one comes: some looks find a place that is free.
        let churn: Vec<Level> = (0..600).map(|at| if at % 3 == 0 { Level::Full } else { Level::Between }).collect();
        let turns = said(&churn).windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(turns, 1);
        // It has room for a moment, or is full for a moment, again and again.
        let moments: Vec<Level> = (0..600).map(|at| if at % 4 == 0 { Level::Full } else { Level::Room }).collect();
        assert!(said(&moments).iter().all(|is_full| !is_full));
        let filled = [vec![Level::Full; 10], moments].concat();
        assert!(said(&filled)[9..].iter().all(|is_full| *is_full));
    }
}
