//! Where a stream begins: the id of its `connected`, so that a client that is cut before its first event of class `every`
//! has something to resume by. No IO, no clock.

use crate::frontend::topics::TopicEntry;
use crate::wire::position::{Position, Shown};

/// What a topic's viewers have as a stream joins them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// They were given everything up to here, and the stream gets everything that follows; none if the topic is pending.
    pub shown: Option<Shown>,
    /// Something that follows is known to be in history already.
    pub lags: bool,
}

impl Joined {
    /// Of a stream that joins this topic now.
    pub fn of(entry: &TopicEntry) -> Joined {
        Joined { shown: entry.shown_to(), lags: entry.behind.is_some() || entry.has_overflow() }
    }
}

/// The place where a stream of these topics begins: whoever resumes after it is given all that the stream would have had.
///
/// Of one topic it is the newest event that viewers have, or the store's time if there is none. Of several it is the latest
/// of those, but not later than where a topic stands that lags. What is on its way meanwhile is near, and covered by the
/// overlap of resuming. A place between events says that it holds for all topics alike, which an event's place does not:
/// another topic may have been behind that event. A stream without topics that are registered begins `now_ms`, in Unix ms:
/// more was not promised.
pub fn beginning(topics: impl Iterator<Item = Joined>, now_ms: u64) -> Position {
    let (mut latest, mut lagging, mut count) = (None, None, 0);
    for joined in topics {
        count += 1;
        latest = latest.max(joined.shown);
        if let Some(shown) = joined.shown.filter(|_| joined.lags) {
            lagging = Some(lagging.map_or(shown, |before: Shown| before.min(shown)));
        }
    }
    match (latest, lagging) {
        (None, _) => Position::at(now_ms),
        (Some(latest), None) if count == 1 => latest.place(),
        (Some(_), Some(lagging)) => lagging.place(),
        (Some(latest), None) => latest.place().next_between(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RESUME_OVERLAP_MS;
    use proptest::prelude::*;

    fn joined(ms: u64, seq: u64, lags: bool) -> Joined {
        Joined { shown: Some(Shown::to(Position { ms, seq })), lags }
    }

    const PENDING: Joined = Joined { shown: None, lags: false };

    #[test]
    fn a_stream_begins_where_its_topics_stand() {
        let begins = |topics: &[Joined]| beginning(topics.iter().copied(), 9_000_000);
        assert_eq!(begins(&[]), Position::at(9_000_000));
        assert_eq!(begins(&[PENDING, PENDING]), Position::at(9_000_000));
        assert_eq!(begins(&[joined(70, 3, false)]), Position { ms: 70, seq: 3 });
        assert_eq!(begins(&[joined(70, 3, true)]), Position { ms: 70, seq: 3 });
        assert_eq!(begins(&[joined(50, 1, false), joined(70, 3, false), PENDING]), Position::at(71));
        assert_eq!(begins(&[joined(50, 1, false), joined(70, 0, false)]), Position::at(70), "a fresh topic's");
        assert_eq!(begins(&[joined(50, 1, true), joined(70, 3, false)]), Position { ms: 50, seq: 1 });
    }

    proptest! {
        /// Topics stand wherever they stand, and what each is given next is at most the overlap behind the newest that any
        /// has, unless it lags: whoever resumes after the beginning is given it.
        #[test]
        fn whoever_resumes_there_is_given_what_followed(
            topics in prop::collection::vec((0u64..100_000, 0u64..3, any::<bool>(), 1u64..40_000), 1..5),
        ) {
            let all: Vec<Joined> = topics.iter().map(|&(ms, seq, lags, _)| joined(ms, seq, lags)).collect();
            let begins = beginning(all.iter().copied(), u64::MAX);
            let newest = topics.iter().map(|topic| topic.0).max().unwrap();
            let replayed_from = begins.earlier(RESUME_OVERLAP_MS);
            for &(ms, _, lags, later) in &topics {
                let next = if lags { ms + later } else { (ms + later).max((newest + 2).saturating_sub(RESUME_OVERLAP_MS)) };
                prop_assert!(replayed_from < Position { ms: next, seq: 1 }, "{begins} loses {next} of {topics:?}");
            }
            prop_assert!(begins <= Position::at(newest + 1), "nothing that the stream was not promised counts as had");
        }
    }
}
