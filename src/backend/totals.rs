//! Of which videos viewers are to be told the totals of likes: those whose likes changed, each a few times a second at most,
//! however many come, and those that somebody new watches. No IO, no clock.
//!
//! A while after the last change they are told once more, and again later. What another backend read earlier may have come to a
//! dispatcher later, one that stood still tells what it had taken before, and what a node that died had taken is lost; either
//! would stand until the next like.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::limits::{TOTALS_MAX, TOTALS_PAUSE, TOTALS_SETTLE, TOTALS_SETTLE_LATE};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::topic::Topic;

/// What is done with a video when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its totals are told.
    Tell,
    /// They are told once more, since nothing changed for a while.
    Settle,
    /// And a last time.
    SettleLate,
    /// It is forgotten: they may be told again at any time.
    Forget,
}

/// One video's.
#[derive(Debug)]
struct Video {
    step: Step,
    due: Instant,
    /// When its totals were last read.
    read: Option<Instant>,
    /// They changed, so that they are to be told once more later.
    settles: bool,
    /// Somebody asked for them, who may know nothing of the video.
    is_asked: bool,
}

/// A video whose totals are to be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// The topic of its viewers.
    pub topic: Topic,
    /// Some of them may know nothing of it, its rules included.
    pub is_asked: bool,
}

/// The videos of a backend's shard.
#[derive(Debug, Default)]
pub struct Totals {
    videos: Map<Topic, Video>,
    due: BTreeSet<(Instant, Topic)>,
}

impl Totals {
    /// A video's likes changed. False if there are too many to note it.
    #[must_use = "what viewers are not told of is to be counted"]
    pub fn changed(&mut self, topic: &Topic, now: Instant) -> bool {
        self.tell(topic, now, true)
    }

    /// Somebody may not know a video's totals. False if there are too many to note it.
    #[must_use = "what viewers are not told of is to be counted"]
    pub fn asked(&mut self, topic: &Topic, now: Instant) -> bool {
        self.tell(topic, now, false)
    }

    fn tell(&mut self, topic: &Topic, now: Instant, settles: bool) -> bool {
        let Some(video) = self.videos.get_mut(topic) else {
            if self.videos.len() >= TOTALS_MAX {
                return false;
            }
            let video = Video { step: Step::Tell, due: now, read: None, settles, is_asked: !settles };
            self.videos.insert(topic.clone(), video);
            self.due.insert((now, topic.clone()));
            return true;
        };
        video.settles |= settles || matches!(video.step, Step::Settle | Step::SettleLate);
        video.is_asked |= !settles;
        if video.step != Step::Tell {
            let due = video.read.map_or(now, |read| now.max(read + TOTALS_PAUSE));
            self.due.remove(&(video.due, topic.clone()));
            (video.due, video.step) = (due, Step::Tell);
            self.due.insert((due, topic.clone()));
        }
        true
    }

    /// The next video whose totals are to be read now.
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let (_, topic) = self.due.pop_first()?;
            let Some(video) = self.videos.get_mut(&topic) else { continue };
            let (settles, is_asked) = (std::mem::take(&mut video.settles), std::mem::take(&mut video.is_asked));
            let (step, due) = match video.step {
                // What changes while they are being read is read again.
                Step::Tell if settles => (Step::Settle, now + TOTALS_SETTLE),
                Step::Settle => (Step::SettleLate, now + TOTALS_SETTLE_LATE),
                Step::Tell | Step::SettleLate => (Step::Forget, now + TOTALS_PAUSE),
                Step::Forget => {
                    self.videos.remove(&topic);
                    shrink(&mut self.videos);
                    continue;
                }
            };
            (video.step, video.due, video.read) = (step, due, Some(now));
            self.due.insert((due, topic.clone()));
            return Some(Due { topic, is_asked });
        }
        None
    }

    /// A video's totals could not be read: that is tried again, with whatever may have been asked for.
    pub fn failed(&mut self, topic: &Topic, now: Instant) {
        let due = now + TOTALS_PAUSE;
        let video = Video { step: Step::Tell, due, read: Some(now), settles: true, is_asked: true };
        if let Some(old) = self.videos.insert(topic.clone(), video) {
            self.due.remove(&(old.due, topic.clone()));
        }
        self.due.insert((due, topic.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Whatever changes, or is asked for, when: it is followed by a reading, which comes soon, and a second has four at
        /// most.
        #[test]
        fn each_change_is_told_soon_and_a_second_has_four(
            ops in prop::collection::vec(
                (prop_oneof![0u64..150, 2_900u64..3_200], 0u8..3, prop::bool::weighted(0.1), any::<bool>()), 1..200),
        ) {
            let (mut totals, mut now) = (Totals::default(), Instant::now());
            let topics = [0, 1, 2].map(|number| Topic::parse(&format!("live:{number}")).expect("it is one"));
            let mut changed = [None::<Instant>; 3];
            let mut read: [Vec<Instant>; 3] = Default::default();
            for (later, number, fails, asks) in ops.into_iter().chain([(7_000, 3, false, false); 4]) {
                now += Duration::from_millis(later);
                if let Some(topic) = topics.get(usize::from(number)) {
                    let is_noted = if asks { totals.asked(topic, now) } else { totals.changed(topic, now) };
                    prop_assert!(is_noted);
                    changed[usize::from(number)].get_or_insert(now);
                }
                while let Some(Due { topic, .. }) = totals.next(now) {
                    let at = topics.iter().position(|one| *one == topic).expect("it is one of them");
                    if let Some(last) = read[at].last() {
                        prop_assert!(now - *last >= TOTALS_PAUSE);
                    }
                    read[at].push(now);
                    if fails {
                        totals.failed(&topic, now);
                    } else {
                        changed[at] = None;
                    }
                }
            }
            prop_assert_eq!(changed, [None; 3]);
            prop_assert!(totals.videos.is_empty() && totals.due.is_empty());
        }
    }

    #[test]
    fn they_are_told_twice_more_when_it_is_quiet() {
        let (mut totals, now) = (Totals::default(), Instant::now());
        let topic = Topic::parse("live:1").expect("it is one");
        let due = |is_asked| Some(Due { topic: topic.clone(), is_asked });
        assert!(totals.changed(&topic, now));
        assert_eq!((totals.next(now), totals.next(now)), (due(false), None));
        assert!(totals.asked(&topic, now));
        assert_eq!((totals.next(now), totals.next(now + TOTALS_PAUSE)), (None, due(true)));
        let later = now + TOTALS_PAUSE + TOTALS_SETTLE;
        let last = later + TOTALS_SETTLE_LATE;
        assert_eq!((totals.next(later), totals.next(last)), (due(false), due(false)));
        assert_eq!(totals.next(last + 9 * TOTALS_SETTLE), None);
    }

    #[test]
    fn who_asks_is_told_once() {
        let (mut totals, now) = (Totals::default(), Instant::now());
        let topic = Topic::parse("live:1").expect("it is one");
        assert!(totals.asked(&topic, now));
        let due = Some(Due { topic, is_asked: true });
        assert_eq!((totals.next(now), totals.next(now + 9 * TOTALS_SETTLE)), (due, None));
    }

    #[test]
    fn who_asks_while_likes_come_is_forgotten() {
        let (mut totals, now) = (Totals::default(), Instant::now());
        let topic = Topic::parse("live:1").expect("it is one");
        assert!(totals.changed(&topic, now) && totals.asked(&topic, now));
        assert!(totals.next(now).expect("it is due").is_asked);
        totals.failed(&topic, now);
        assert!(totals.next(now + TOTALS_PAUSE).expect("it is due").is_asked);
    }
}
