//! Taps that the database does not have yet: hearts that members give again and again. They are added up by video and
//! reaction, so that however many come, the database gets at most one change of each a second. No IO, no clock.

use std::time::Instant;

use crate::ground::message::Tapped;
use crate::limits::{TAPPED_BYTES, TAPS_PAUSE};
use crate::runtime::account::{Account, Full, Reservation, Use};
use crate::runtime::random::Map;

/// The taps of the videos that are at home on a backend's shard.
#[derive(Debug, Default)]
pub struct Taps {
    counts: Map<Tapped, (u64, Reservation)>,
    /// When the database gets them.
    due: Option<Instant>,
    /// When it got some last.
    last: Option<Instant>,
}

impl Taps {
    /// More taps came.
    ///
    /// # Errors
    /// There is no memory to count them.
    pub fn add(&mut self, tapped: Tapped, taps: u64, now: Instant, account: &Account) -> Result<(), Full> {
        match self.counts.get_mut(&tapped) {
            Some((count, _)) => *count = count.saturating_add(taps),
            None => {
                let held = account.reserve(Use::Questions, TAPPED_BYTES + tapped.1.len())?;
                self.counts.insert(tapped, (taps, held));
            }
        }
        self.due.get_or_insert_with(|| self.last.map_or(now, |last| now.max(last + TAPS_PAUSE)));
        Ok(())
    }

    /// Nothing waits for the database.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Takes what the database is to get now, or at once where this process is about to end.
    pub fn take(&mut self, now: Instant, ends: bool) -> Vec<(Tapped, u64)> {
        if self.due.is_none_or(|due| due > now && !ends) {
            return Vec::new();
        }
        (self.due, self.last) = (None, Some(now));
        std::mem::take(&mut self.counts).into_iter().map(|(tapped, (taps, _))| (tapped, taps)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::topic::Topic;
    use std::time::Duration;

    #[test]
    fn a_row_written_more_than_once_a_second_or_taps_forgotten() {
        let (account, mut taps, start) = (Account::unbounded(), Taps::default(), Instant::now());
        let tapped = |reaction: &str| (Topic::parse("live:1").expect("it is one"), reaction.to_owned());
        let add = |taps: &mut Taps, reaction, count, at| taps.add(tapped(reaction), count, at, &account).unwrap();
        assert!(taps.take(start, true).is_empty());
        add(&mut taps, "love", 3, start);
        assert_eq!(taps.take(start, false), [(tapped("love"), 3)], "the first at once");
        let later = start + Duration::from_millis(10);
        add(&mut taps, "love", 4, later);
        add(&mut taps, "love", 5, later);
        add(&mut taps, "like", 1, later);
        assert!(taps.take(start + TAPS_PAUSE - Duration::from_millis(1), false).is_empty());
        let mut all = taps.take(start + TAPS_PAUSE, false);
        all.sort();
        assert_eq!(all, [(tapped("like"), 1), (tapped("love"), 9)]);
        add(&mut taps, "love", 1, start + TAPS_PAUSE);
        assert_eq!(
            taps.take(start + TAPS_PAUSE, true),
            [(tapped("love"), 1)],
            "it does not wait where the process ends"
        );
        assert_eq!(account.held(Use::Questions), 0);
    }
}
