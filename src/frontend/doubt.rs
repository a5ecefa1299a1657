//! Whether a node may lack older events of one topic while it gives newer ones of another.
//!
//! A stream of several topics comes back with one id, that of its newest event, so an id also says that nothing older is
//! missing of the others. A node that was cut off or stood still, or one of whose dispatchers died with events that it had
//! not sent, cannot say that before it has compared all its topics with history. Until then the ids that it gives name a
//! place before all that may be missing, and whoever comes back with one is given more, not less.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::{DOUBT_BACK, DOUBT_SILENCE, RESUME_FOREIGN_MS, STORE_CLOCKS_APART_MS};
use crate::wire::position::Position;

/// What a shard knows of that.
#[derive(Debug)]
pub struct Doubt {
    /// The number of the newest reason, as the shard that sends heartbeats counts them.
    reason: u64,
    /// By core, the newest reason since which its topics were compared.
    settled: Vec<u64>,
    /// While there is a reason: before this place nothing is missing.
    floor: Option<Position>,
    /// When heartbeats were answered, and the newest time of a place in history that was known then, in Unix ms: back to one
    /// that is [`DOUBT_BACK`] older than the last.
    known: VecDeque<(Instant, u64)>,
    /// The first of those is a guess by the own clock: no answer said yet what the store's showed.
    is_guess: bool,
}

impl Doubt {
    /// Of a node with so many shards, whose clock shows `unix_ms`.
    pub fn new(shards: usize, now: Instant, unix_ms: u64) -> Doubt {
        let known = [(now, before(0, unix_ms, None))].into();
        Doubt { reason: 0, settled: vec![0; shards], floor: None, known, is_guess: true }
    }

    /// A heartbeat was answered, when the newest place known had the time `newest_ms` (0: none was known), and the store's clock
    /// showed `store_ms` just before. Whether this brings a reason for doubt that is new here: all topics are to be compared then.
    pub fn heard(&mut self, now: Instant, unix_ms: u64, store_ms: Option<u64>, newest_ms: u64, reason: u64) -> bool {
        if let (true, Some(store_ms), Some((begun, known))) = (self.is_guess, store_ms, self.known.front_mut()) {
            // By the store's clock there is no gap told of a time before the store began, where both are young.
            let age_ms = now.saturating_duration_since(*begun).as_millis() as u64;
            *known = before(0, unix_ms, Some(store_ms.saturating_sub(age_ms)));
            self.is_guess = false;
        }
        let is_new = reason > self.reason;
        if is_new {
            self.reason = reason;
            self.floor = Some(self.earlier().min(self.floor.unwrap_or(Position::at(u64::MAX))));
        }
        self.known.push_back((now, before(newest_ms, unix_ms, store_ms)));
        while self.known.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= DOUBT_BACK) {
            self.known.pop_front();
        }
        is_new
    }

    /// The newest reason here.
    pub fn reason(&self) -> u64 {
        self.reason
    }

    /// All topics of a core were compared since this reason.
    pub fn settle(&mut self, core: usize, reason: u64) {
        self.settled[core] = self.settled[core].max(reason);
        if self.settled.iter().all(|settled| *settled >= self.reason) {
            self.floor = None;
        }
    }

    /// No heartbeat was answered for so long that events may have gone elsewhere.
    pub fn is_silent(&self, now: Instant) -> bool {
        let heard = self.known.back().map(|(at, _)| now.saturating_duration_since(*at));
        heard.is_some_and(|silent| silent >= DOUBT_SILENCE)
    }

    /// The place before which nothing is missing, if of later ones that is in doubt.
    pub fn floor(&self, now: Instant) -> Option<Position> {
        let silent = self.is_silent(now).then(|| self.earlier());
        silent.into_iter().chain(self.floor).min()
    }

    /// A place before all that was lost on its way since shortly before the last answer.
    fn earlier(&self) -> Position {
        Position::at(self.known.front().map_or(0, |(_, ms)| *ms))
    }
}

/// A time before those of all places that the store will give, whose clock and the own one differ.
fn before(newest_ms: u64, unix_ms: u64, store_ms: Option<u64>) -> u64 {
    match (newest_ms, store_ms) {
        (0, Some(store_ms)) => store_ms.saturating_sub(STORE_CLOCKS_APART_MS),
        (0, None) => unix_ms.saturating_sub(RESUME_FOREIGN_MS),
        (newest_ms, _) => newest_ms.min(unix_ms),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START_MS: u64 = 1_000_000;

    /// A heartbeat's answer after so many seconds, at which history ends then.
    fn hear(doubt: &mut Doubt, start: Instant, seconds: u64, reason: u64) -> bool {
        let ms = START_MS + seconds * 1000;
        doubt.heard(start + Duration::from_secs(seconds), ms, None, ms, reason)
    }

    #[test]
    fn ids_name_a_place_before_what_may_be_missing_until_all_cores_have_compared() {
        let start = Instant::now();
        let mut doubt = Doubt::new(2, start, START_MS);
        (0..10).for_each(|beat| assert!(!hear(&mut doubt, start, beat * 2, 0)));
        let at = |seconds| start + Duration::from_secs(seconds);
        let back = 18 - DOUBT_BACK.as_secs();
        let floor = Some(Position::at(START_MS + back * 1000));
        assert_eq!(doubt.floor(at(18)), None);
        assert_eq!(doubt.floor(at(18) + DOUBT_SILENCE), floor, "nothing was heard for so long");
        assert!(hear(&mut doubt, start, 60, 1), "an answer, behind a silence");
        assert_eq!(doubt.floor(at(60)), floor);
        assert!(!hear(&mut doubt, start, 62, 1));
        assert_eq!(doubt.floor(at(62)), floor);
        doubt.settle(1, 1);
        assert_eq!(doubt.floor(at(62)), floor, "the other core has topics, too");
        assert!(hear(&mut doubt, start, 64, 2), "another reason");
        doubt.settle(0, 1);
        assert_eq!(doubt.floor(at(64)), floor, "those were compared before it");
        doubt.settle(0, 2);
        doubt.settle(1, 2);
        assert_eq!(doubt.floor(at(64)), None);
    }

    #[test]
    fn place_before_a_young_store_named_as_one_before_which_nothing_is_missing() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        // By the node's clock, which is ahead by a day, or by the store's, once its first answer came, 2 s late.
        let day_ms = 86_400_000;
        for (store_ms, floor) in [(None, START_MS + day_ms - RESUME_FOREIGN_MS), (Some(START_MS), START_MS - 3000)] {
            let mut doubt = Doubt::new(1, start, START_MS + day_ms);
            assert!(!doubt.heard(start + 2 * second, START_MS + day_ms + 2000, store_ms, 0, 0));
            let later = store_ms.map(|ms| ms + 2000);
            assert!(doubt.heard(start + 4 * second, START_MS + day_ms + 4000, later, 0, 1));
            assert_eq!(doubt.floor(start + 4 * second), Some(Position::at(floor)));
        }
    }
}
