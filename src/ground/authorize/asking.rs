//! Which questions go to the operator's server, on the first shard, which asks for all. No IO, no clock.

use std::sync::Arc;
use std::time::Instant;

use crate::limits::*;
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::runtime::trouble;

/// A question that has no answer yet.
#[derive(Debug)]
struct UnderWay {
    /// The shards that wait, each once.
    shards: Vec<usize>,
    deadline: Instant,
    /// It is about a stream that is open.
    again: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Asking {
    under_way: Map<Arc<str>, UnderWay>,
    /// How many of them are about streams that are open.
    again: usize,
    /// Those that failed since the last one that did not.
    failures: u32,
    /// None is asked before this.
    paused_until: Option<Instant>,
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is to be asked.
    Ask,
    /// It is being asked.
    Wait,
    /// The server is taken to be away.
    Paused,
    /// Too many have no answer.
    Full,
}

/// Who is to be told of an answer, and what it says of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// The shards that wait for it.
    pub shards: Vec<usize>,
    /// The server was not away before it, and is now; or the other way round.
    pub turned: bool,
}

impl Asking {
    /// Whether the server is taken to be away.
    pub fn is_away(&self) -> bool {
        self.failures >= AUTHORIZE_FAILURES
    }

    /// Questions that have no answer yet.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// A shard asks, about a stream that is open where it asks again. The answer is to be there by `deadline`.
    pub fn ask(&mut self, text: &Arc<str>, shard: usize, again: bool, now: Instant, deadline: Instant) -> Next {
        if let Some(under_way) = self.under_way.get_mut(text) {
            if !under_way.shards.contains(&shard) {
                under_way.shards.push(shard);
            }
            return Next::Wait;
        }
        let is_due = self.under_way.is_empty() && self.paused_until.is_none_or(|until| until <= now);
        if self.is_away() && !is_due {
            return Next::Paused;
        }
        if self.under_way.len() >= AUTHORIZE_QUESTIONS_MAX || (again && self.again >= AUTHORIZE_AGAIN_MAX) {
            return Next::Full;
        }
        self.again += usize::from(again);
        self.under_way.insert(Arc::clone(text), UnderWay { shards: vec![shard], deadline, again });
        Next::Ask
    }

    /// It could not be asked after all.
    pub fn take_back(&mut self, text: &str) {
        self.end(text);
    }

    fn end(&mut self, text: &str) -> Option<Vec<usize>> {
        let UnderWay { shards, again, .. } = self.under_way.remove(text)?;
        shrink(&mut self.under_way);
        self.again -= usize::from(again);
        Some(shards)
    }

    /// There is an answer, or it failed. Nothing if it had been given up before. `chance` is any number.
    pub fn settle(&mut self, text: &str, failed: bool, chance: u64, now: Instant) -> Option<Settled> {
        let shards = self.end(text)?;
        let was_away = self.is_away();
        if failed {
            self.failures = self.failures.saturating_add(1);
            if self.is_away() {
                let times = (AUTHORIZE_PAUSE_MIN, AUTHORIZE_PAUSE_MAX);
                self.paused_until = Some(now + trouble::pause(self.failures - AUTHORIZE_FAILURES, times, chance));
            }
        } else {
            (self.failures, self.paused_until) = (0, None);
        }
        Some(Settled { shards, turned: was_away != self.is_away() })
    }

    /// Those whose time has passed.
    pub fn late(&self, now: Instant) -> Vec<Arc<str>> {
        let late = self.under_way.iter().filter(|(_, under_way)| under_way.deadline <= now);
        late.map(|(text, _)| Arc::clone(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn text(number: usize) -> Arc<str> {
        number.to_string().into()
    }

    const LATER: Duration = Duration::from_secs(2);

    #[test]
    fn a_server_that_is_away_is_asked_one_at_a_time() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        let ask = |asking: &mut Asking, number, now| asking.ask(&text(number), 0, false, now, now + LATER);
        for number in 0..20 {
            assert_eq!(ask(&mut asking, number, now), Next::Ask);
        }
        for number in 0..20 {
            let settled = asking.settle(&text(number), true, 0, now).unwrap();
            assert_eq!(settled.turned, number as u32 + 1 == AUTHORIZE_FAILURES, "{number}");
        }
        assert_eq!(ask(&mut asking, 30, now), Next::Paused);
        let later = now + AUTHORIZE_PAUSE_MAX;
        assert_eq!((ask(&mut asking, 30, later), ask(&mut asking, 31, later)), (Next::Ask, Next::Paused));
        assert_eq!(ask(&mut asking, 30, later), Next::Wait, "the same");
        assert!(!asking.settle(&text(30), true, 0, later).unwrap().turned);
        assert_eq!(ask(&mut asking, 31, later), Next::Paused);
        let later = later + AUTHORIZE_PAUSE_MAX;
        assert_eq!(ask(&mut asking, 31, later), Next::Ask);
        assert!(asking.settle(&text(31), false, 0, later).unwrap().turned && !asking.is_away());
        assert_eq!((ask(&mut asking, 32, later), ask(&mut asking, 33, later)), (Next::Ask, Next::Ask));
    }

    #[test]
    fn open_streams_leave_room_for_who_comes() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        let ask = |asking: &mut Asking, number, again| asking.ask(&text(number), 0, again, now, now + LATER);
        for number in 0..AUTHORIZE_AGAIN_MAX {
            assert_eq!(ask(&mut asking, number, true), Next::Ask);
        }
        assert_eq!(ask(&mut asking, 5_000, true), Next::Full);
        for number in AUTHORIZE_AGAIN_MAX..AUTHORIZE_QUESTIONS_MAX {
            assert_eq!(ask(&mut asking, number, false), Next::Ask);
        }
        assert_eq!(ask(&mut asking, 5_000, false), Next::Full);
        assert_eq!(asking.late(now + LATER).len(), AUTHORIZE_QUESTIONS_MAX);
        asking.take_back(&text(0));
        assert_eq!(ask(&mut asking, 5_000, true), Next::Ask);
    }

    proptest! {
        /// Whatever is asked and answered: each is asked once at a time, every shard that asks hears of it, and nothing is left.
        #[test]
        fn every_shard_that_asks_hears_of_it(steps in prop::collection::vec((0u8..3, 0usize..5, 0usize..3, any::<bool>()), 1..200)) {
            let (mut asking, mut now) = (Asking::default(), Instant::now());
            let mut model: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
            for (what, number, shard, fails) in steps {
                now += Duration::from_millis(100);
                if what == 0 {
                    let waiting = model.remove(&number);
                    let settled = asking.settle(&text(number), fails, 1, now);
                    prop_assert_eq!(settled.map(|settled| settled.shards), waiting);
                } else {
                    let is_known = model.contains_key(&number);
                    match asking.ask(&text(number), shard, fails, now, now + LATER) {
                        Next::Ask => prop_assert!(!is_known),
                        Next::Wait => prop_assert!(is_known),
                        Next::Paused => {
                            prop_assert!(asking.is_away() && !is_known);
                            continue;
                        }
                        Next::Full => prop_assert!(false, "there is room"),
                    }
                    let waiting = model.entry(number).or_default();
                    if !waiting.contains(&shard) {
                        waiting.push(shard);
                    }
                }
                prop_assert_eq!(asking.len(), model.len());
            }
            let late = asking.late(now + LATER);
            prop_assert_eq!(late.len(), model.len());
            for text in late {
                asking.settle(&text, true, 0, now);
            }
            prop_assert!(asking.is_empty() && asking.again == 0);
        }
    }
}
