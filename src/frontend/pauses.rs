//! Windows of one topic's types of class `sum`: the first event after a quiet time goes at once, and what follows within a
//! window waits for its end and goes as one event. No IO, no clock.
//!
//! It works where a topic's events are put in order, so that all viewers of a node get the same event, encoded once, from
//! whichever dispatcher or data center what merged came. A quiet topic has no timer, and nothing that is to be forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{SUM_WINDOW_GROWTH, SUM_WINDOW_KEYS_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::{Frame, Sums};

/// What is to be done with an event.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It goes on its way.
    Goes,
    /// It waits; whoever asked sees to it that [`Pauses::end`] is called then.
    Until(Instant),
    /// It joined what waits.
    Joined,
    /// It joined what waits, and that is as much as may.
    Full,
}

/// One type's.
#[derive(Debug)]
struct Pause {
    kind: Box<str>,
    ends: Instant,
    /// How long the next one is.
    length: Duration,
    waits: Option<Box<Sums>>,
}

/// A topic's windows: one for each type that has one.
#[derive(Debug, Default)]
pub struct Pauses {
    pauses: Vec<Pause>,
}

impl Pauses {
    /// An event comes, of a type whose windows are so long.
    pub fn take(&mut self, frame: &Arc<Frame>, length: Duration, now: Instant) -> Taken {
        let kind = frame.kind();
        let pause = match self.pauses.iter().position(|pause| *pause.kind == *kind) {
            Some(at) => &mut self.pauses[at],
            None => {
                self.pauses.push(Pause { kind: kind.into(), ends: now, length, waits: None });
                self.pauses.last_mut().expect("it was just put there")
            }
        };
        pause.length = length;
        match &mut pause.waits {
            Some(waits) => {
                waits.add(frame, u64::from(frame.count()));
                if waits.keys() > SUM_WINDOW_KEYS_MAX { Taken::Full } else { Taken::Joined }
            }
            None if now >= pause.ends => {
                pause.ends = now + length;
                Taken::Goes
            }
            None => {
                pause.waits = Some(Box::new(Sums::of(frame, u64::from(frame.count()))));
                Taken::Until(pause.ends)
            }
        }
    }

    /// Hands out what windows that ended by now, or that hold as much as may, have merged; the next ones begin, which are so long at
    /// least, but no longer than [`SUM_WINDOW_GROWTH`] times what was set.
    pub fn end(&mut self, now: Instant, least: Duration, mut each: impl FnMut(Arc<Frame>)) {
        for pause in &mut self.pauses {
            let is_due =
                pause.ends <= now || pause.waits.as_ref().is_some_and(|waits| waits.keys() > SUM_WINDOW_KEYS_MAX);
            let Some(waits) = pause.waits.take_if(|_| is_due) else { continue };
            pause.ends = now + least.clamp(pause.length, SUM_WINDOW_GROWTH * pause.length);
            if !planted(Mistake::WindowUnsent) {
                waits.frames().for_each(&mut each);
            }
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.pauses.iter().filter_map(|pause| pause.waits.as_ref()).map(|waits| size_of::<Sums>() + waits.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const WINDOW: Duration = Duration::from_millis(50);

    fn like(key: &str) -> Arc<Frame> {
        frame("live:1", "like", Some(key), Class::Sum, "{\"member\":\"ana\"}")
    }

    fn ended(pauses: &mut Pauses, now: Instant) -> Vec<String> {
        let mut out = Vec::new();
        pauses.end(now, Duration::ZERO, |frame| out.push(frame.json().to_owned()));
        out
    }

    #[test]
    fn the_first_goes_at_once_and_what_follows_goes_at_the_windows_end() {
        let (mut pauses, began) = (Pauses::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(pauses.take(&like("like"), WINDOW, at(0)), Taken::Goes);
        assert!(ended(&mut pauses, at(50)).is_empty());
        assert_eq!(pauses.take(&like("like"), WINDOW, at(50)), Taken::Goes, "it was quiet");
        assert_eq!(pauses.take(&like("love"), WINDOW, at(51)), Taken::Until(at(100)));
        assert_eq!(pauses.take(&like("like"), WINDOW, at(99)), Taken::Joined);
        let other = frame("live:1", "tap", Some("like"), Class::Sum, "1");
        assert_eq!(pauses.take(&other, WINDOW, at(99)), Taken::Goes, "another type has another window");
        assert!(ended(&mut pauses, at(99)).is_empty() && pauses.bytes() > 0);
        let sum = ended(&mut pauses, at(103));
        assert_eq!(sum.len(), 1);
        assert!(
            sum[0].contains("\"key\":\"like\",\"at\":7,\"count\":2,\"counts\":{\"love\":1,\"like\":1},"),
            "{sum:?}"
        );
        assert_eq!(pauses.bytes(), 0);
        // The window that follows the sum is as long as any.
        assert_eq!(pauses.take(&like("like"), WINDOW, at(152)), Taken::Until(at(153)));
        assert_eq!(ended(&mut pauses, at(153)).len(), 1);
        assert_eq!(pauses.take(&like("like"), WINDOW, at(203)), Taken::Goes);
        // A window is no shorter than whoever ends the one before it says.
        assert_eq!(pauses.take(&like("like"), WINDOW, at(204)), Taken::Until(at(253)));
        for (now, least, until) in [(253, 70, 323), (323, 300, 423), (423, 0, 473)] {
            pauses.end(at(now), Duration::from_millis(least), drop);
            assert_eq!(pauses.take(&like("like"), WINDOW, at(now + 1)), Taken::Until(at(until)));
        }
    }

    #[test]
    fn more_keys_than_may_wait_go_at_once() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        assert_eq!(pauses.take(&like("first"), WINDOW, now), Taken::Goes);
        let taken = |number: usize| pauses.take(&like(&number.to_string()), WINDOW, now);
        let full = (0..=SUM_WINDOW_KEYS_MAX).map(taken).filter(|taken| *taken == Taken::Full).count();
        assert_eq!((full, ended(&mut pauses, now).len()), (1, SUM_WINDOW_KEYS_MAX.div_ceil(16) + 1));
    }

    proptest! {
        /// Whatever comes when, and however often ends are looked for: of each key so many are shown as came.
        #[test]
        fn sums_are_exact_key_by_key(
            ops in prop::collection::vec((0u8..40, 1u64..5, 0u64..80, any::<bool>()), 1..200), window in 0u64..100,
        ) {
            let (mut pauses, mut now) = (Pauses::default(), Instant::now());
            let (mut sent, mut shown) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
            let mut show = |frame: Arc<Frame>| {
                let event: serde_json::Value = serde_json::from_str(frame.json()).expect("it is JSON");
                let all = event["count"].as_u64().expect("it counts");
                match event["counts"].as_object() {
                    Some(counts) => {
                        assert!(counts.len() <= 16 && counts.contains_key(event["key"].as_str().expect("it has one")));
                        assert_eq!(counts.values().map(|count| count.as_u64().expect("it counts")).sum::<u64>(), all);
                        counts.iter().for_each(|(key, count)| *shown.entry(key.clone()).or_default() += count.as_u64().unwrap_or(0));
                    }
                    None => *shown.entry(event["key"].as_str().expect("it has one").to_owned()).or_default() += all,
                }
            };
            for (key, count, later, ends) in ops {
                now += Duration::from_millis(later);
                *sent.entry(format!("k{key}")).or_default() += count;
                let frame = like(&format!("k{key}")).recounted(count);
                match pauses.take(&frame, Duration::from_millis(window), now) {
                    Taken::Goes => show(frame),
                    Taken::Full => pauses.end(now, Duration::ZERO, &mut show),
                    Taken::Until(at) => assert!(at > now),
                    Taken::Joined => {}
                }
                if ends {
                    pauses.end(now, Duration::ZERO, &mut show);
                }
            }
            pauses.end(now + Duration::from_millis(window), Duration::ZERO, &mut show);
            prop_assert_eq!(shown, sent);
            prop_assert_eq!(pauses.bytes(), 0);
        }
    }
}
