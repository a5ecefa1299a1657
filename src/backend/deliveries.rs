//! When deliveries of a hook are taken from the database, how many, and what becomes of them. No IO, no clock.

use std::time::{Duration, Instant};

use crate::db::hooks::Settling;
use crate::ground::hooks::{Attempt, Failure};
use crate::limits::*;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::trouble;

/// What the database is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// At most so many deliveries.
    pub limit: u32,
    /// Also what waits.
    pub look: bool,
}

/// One hook's.
#[derive(Debug)]
pub struct Deliveries {
    /// The database is being asked.
    asking: bool,
    /// When it is asked again.
    poll_at: Instant,
    look_at: Instant,
    /// With the sender.
    under_way: usize,
    /// Tries that failed since the receiver took something.
    failures: u32,
    /// It is not tried before this.
    paused_until: Option<Instant>,
    /// What the database is to be told.
    settled: Vec<(i64, Settling)>,
    /// The receiver wants no more.
    ends: bool,
    /// It is being told.
    settling: bool,
    /// It could not be told, and is not before this: what it gives meanwhile may be what the receiver has.
    behind_until: Option<Instant>,
}

/// What follows from an attempt for who counts and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The receiver took it.
    Taken,
    /// The receiver took it, and is back: it had been taken to be away.
    Back,
    /// It failed.
    Failed(Failure),
    /// It failed, and so the receiver is taken to be away.
    Away(Failure),
    /// The receiver ended the hook.
    Ended,
    /// Nothing.
    Untried,
}

impl Deliveries {
    /// That of a backend which begins.
    pub fn new(now: Instant) -> Deliveries {
        Deliveries {
            asking: false,
            poll_at: now,
            look_at: now,
            under_way: 0,
            failures: 0,
            paused_until: None,
            settled: Vec::new(),
            ends: false,
            settling: false,
            behind_until: None,
        }
    }

    /// What to ask the database for now, if anything. It is then being asked.
    pub fn ask(&mut self, now: Instant) -> Option<Ask> {
        if self.asking {
            return None;
        }
        let is_away = self.failures >= HOOK_FAILURES;
        let room = match is_away {
            _ if self.behind_until.is_some() => 0,
            // One delivery finds out whether the receiver is back.
            true if self.under_way == 0 && self.paused_until.is_none_or(|until| until <= now) => 1,
            true => 0,
            false if self.under_way <= HOOK_PAGE as usize / 2 => HOOK_PAGE,
            false => 0,
        };
        let (look, limit) = (self.look_at <= now, if self.poll_at <= now { room } else { 0 });
        if !look && limit == 0 {
            return None;
        }
        self.asking = true;
        if look {
            self.look_at = now + HOOK_LOOK;
        }
        if limit > 0 {
            self.poll_at = now + HOOK_POLL;
        }
        Some(Ask { limit, look })
    }

    /// The database gave so many deliveries of what it was asked for; none if it could not.
    pub fn took(&mut self, deliveries: usize, limit: u32, now: Instant) {
        self.asking = false;
        self.under_way += deliveries;
        if limit > 0 && deliveries == limit as usize {
            self.poll_at = now;
        }
    }

    /// Something is due.
    pub fn hasten(&mut self, now: Instant) {
        self.poll_at = now;
    }

    /// What became of a delivery that had failed so often before. `chance` is any number.
    pub fn sent(&mut self, number: i64, tries: u32, attempt: Attempt, chance: u64, now: Instant) -> Seen {
        self.under_way -= 1;
        let was_away = self.failures >= HOOK_FAILURES;
        let (settling, seen) = match attempt {
            Attempt::Taken => {
                (self.failures, self.paused_until, self.poll_at) = (0, None, now);
                (Settling::Done, if was_away { Seen::Back } else { Seen::Taken })
            }
            Attempt::Failed(_) if planted(Mistake::HookFailureTaken) => (Settling::Done, Seen::Taken),
            Attempt::Failed(failure) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= HOOK_FAILURES {
                    self.paused_until = Some(now + pause(self.failures - HOOK_FAILURES, chance));
                }
                let is_away = self.failures == HOOK_FAILURES;
                let seen = if is_away { Seen::Away(failure) } else { Seen::Failed(failure) };
                (Settling::Later(pause(tries, chance).as_millis() as u64), seen)
            }
            Attempt::Ended => {
                self.ends = true;
                return Seen::Ended;
            }
            Attempt::Untried => (Settling::Untried, Seen::Untried),
        };
        self.settled.push((number, settling));
        seen
    }

    /// One was not tried since another before it failed, and waits as that does.
    pub fn held_back(&mut self) {
        self.under_way -= 1;
    }

    /// What the database is to be told now, and whether the hook ends; it is then being told.
    pub fn settle(&mut self, now: Instant) -> Option<(Vec<(i64, Settling)>, bool)> {
        let is_early = self.settling || self.behind_until.is_some_and(|until| until > now);
        if is_early || (self.settled.is_empty() && !self.ends) {
            return None;
        }
        self.settling = true;
        Some((std::mem::take(&mut self.settled), self.ends))
    }

    /// The database knows, or could not be told: then it is a little later.
    pub fn settled(&mut self, told: Vec<(i64, Settling)>, ended: bool, is_stored: bool, now: Instant) {
        (self.settling, self.behind_until) = (false, (!is_stored).then_some(now + HOOK_POLL));
        if is_stored {
            self.ends &= !ended;
            // What was behind these is due.
            self.poll_at = now;
        } else {
            self.settled.extend(told);
        }
    }

    /// Nothing is on its way, and the database knows what became of all that was.
    pub fn is_settled(&self) -> bool {
        self.under_way == 0 && self.settled.is_empty() && !self.settling
    }
}

fn pause(failures: u32, chance: u64) -> Duration {
    trouble::pause(failures, (HOOK_RETRY_MIN, HOOK_RETRY_MAX), chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn pauses_grow_to_a_bound_and_differ_by_chance() {
        for (failures, seconds) in [(0, 5), (1, 10), (3, 40), (6, 300), (u32::MAX, 300)] {
            assert_eq!(pause(failures, 0), Duration::from_secs(seconds));
            assert!(pause(failures, u64::MAX - 1) > Duration::from_secs(seconds) / 2);
        }
    }

    #[test]
    fn a_receiver_that_is_away_is_tried_by_one_at_a_time() {
        let now = Instant::now();
        let mut line = Deliveries::new(now);
        assert_eq!(line.ask(now), Some(Ask { limit: HOOK_PAGE, look: true }));
        assert_eq!(line.ask(now), None, "it is being asked");
        line.took(9, HOOK_PAGE, now);
        for number in 0..9 {
            let seen = line.sent(number, 0, Attempt::Failed(Failure::Connect), 0, now);
            let is_eighth = number as u32 + 1 == HOOK_FAILURES;
            assert_eq!(matches!(seen, Seen::Away(_)), is_eighth, "{number}: {seen:?}");
        }
        let (told, ended) = line.settle(now).unwrap();
        assert!(told.iter().all(|(_, settling)| *settling == Settling::Later(5_000)) && !ended);
        assert_eq!(line.settle(now), None);
        line.settled(told.clone(), false, false, now);
        assert_eq!(line.settle(now), None, "the database could not be told just now");
        assert_eq!(line.settle(now + HOOK_POLL), Some((told.clone(), false)));
        line.settled(told, false, true, now);
        assert_eq!(line.ask(now), None, "it is paused");
        let later = now + HOOK_RETRY_MIN * 2;
        assert_eq!(line.ask(later), Some(Ask { limit: 1, look: true }));
        line.took(1, 1, later);
        assert_eq!(line.ask(later), None, "one at a time");
        assert_eq!(line.sent(7, 1, Attempt::Taken, 0, later), Seen::Back);
        assert_eq!(line.ask(later), Some(Ask { limit: HOOK_PAGE, look: false }));
    }

    /// A database as it claims and orders, with deliveries as subject and number.
    #[derive(Default)]
    struct Database {
        waiting: BTreeMap<i64, (u8, u64)>,
    }

    impl Database {
        fn take(&mut self, limit: u32, now_ms: u64) -> Vec<(i64, u8)> {
            let others = |subject: u8| self.waiting.iter().filter(move |(_, (other, _))| *other == subject);
            let is_behind = |number: i64, subject: u8, due: u64| match due {
                0 => others(subject).any(|(_, (_, until))| *until > 0),
                _ => others(subject).any(|(other, (_, until))| *other < number && *until > due),
            };
            let due = self
                .waiting
                .iter()
                .filter(|(number, (subject, due))| *due <= now_ms && !is_behind(**number, *subject, *due));
            let mut due: Vec<(bool, u64, i64, u8)> =
                due.map(|(number, (subject, due))| (*due == 0, *due, *number, *subject)).collect();
            due.sort_unstable();
            let mut taken: Vec<(i64, u8)> =
                due.into_iter().take(limit as usize).map(|(.., number, subject)| (number, subject)).collect();
            taken.sort_unstable();
            for (number, _) in &taken {
                self.waiting.get_mut(number).unwrap().1 = now_ms + HOOK_CLAIM.as_millis() as u64;
            }
            taken
        }

        fn settle(&mut self, told: &[(i64, Settling)], now_ms: u64) {
            for (number, settling) in told {
                match settling {
                    Settling::Done => drop(self.waiting.remove(number)),
                    Settling::Untried => self.waiting.get_mut(number).unwrap().1 = now_ms,
                    Settling::Later(ms) => {
                        let subject = self.waiting[number].0;
                        let taken = |(other, (of, due)): &(&i64, &mut (u8, u64))| {
                            *of == subject && (*due > now_ms || *other == number)
                        };
                        self.waiting.iter_mut().filter(taken).for_each(|(_, (_, due))| *due = now_ms + ms);
                    }
                }
            }
        }
    }

    proptest! {
        /// Whatever fails, however long: in the end the receiver has all, each subject's in its order, and no two of a subject
        /// are under way at a time.
        #[test]
        fn all_arrive_in_order(
            added in prop::collection::vec((0u8..4, 0u64..4_000), 1..200), outcomes in prop::collection::vec(0u8..6, 1..400), chance in any::<u64>(),
        ) {
            let (mut line, start) = (Deliveries::new(Instant::now()), Instant::now());
            let (mut database, mut outcomes) = (Database::default(), outcomes.into_iter());
            let mut received: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
            let (mut added, mut number, mut now_ms) = (added.into_iter(), 0, 1);
            let mut runs: Vec<Vec<(i64, u8)>> = Vec::new();
            for _ in 0..4_000 {
                if let Some((subject, later)) = added.next() {
                    number += 1;
                    database.waiting.insert(number, (subject, 0));
                    now_ms += later;
                } else {
                    now_ms += 10_000;
                }
                let now = start + Duration::from_millis(now_ms);
                line.hasten(now);
                if let Some(ask) = line.ask(now) {
                    let taken = database.take(ask.limit, now_ms);
                    line.took(taken.len(), ask.limit, now);
                    let subjects: BTreeSet<u8> = taken.iter().map(|(_, subject)| *subject).collect();
                    for subject in subjects {
                        prop_assert!(runs.iter().flatten().all(|(_, other)| *other != subject), "two at a time");
                        runs.push(taken.iter().filter(|(_, other)| *other == subject).copied().collect());
                    }
                }
                for run in runs.drain(..) {
                    let (mut fails, mut goes_on) = (false, true);
                    for (number, subject) in run {
                        if fails {
                            line.held_back();
                            continue;
                        }
                        let attempt = match outcomes.next() {
                            // Who stops at one does not go on with the next.
                            _ if !goes_on => Attempt::Untried,
                            Some(0) => Attempt::Failed(Failure::Status(500)),
                            Some(1) => Attempt::Untried,
                            _ => Attempt::Taken,
                        };
                        fails = matches!(attempt, Attempt::Failed(_));
                        goes_on = attempt == Attempt::Taken;
                        if attempt == Attempt::Taken {
                            received.entry(subject).or_default().push(number);
                        }
                        line.sent(number, 0, attempt, chance, now);
                    }
                }
                if let Some((told, ends)) = line.settle(now) {
                    // Now and then the database is away.
                    let is_stored = outcomes.next() != Some(2);
                    if is_stored {
                        database.settle(&told, now_ms);
                    }
                    line.settled(told, ends, is_stored, now);
                }
            }
            prop_assert!(database.waiting.is_empty() && line.is_settled(), "{} left", database.waiting.len());
            for numbers in received.values() {
                prop_assert!(numbers.is_sorted(), "{numbers:?}");
            }
        }
    }
}
