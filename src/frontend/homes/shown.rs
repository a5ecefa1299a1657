//! What viewers were shown of the totals of likes, which a topic's home adds up.

use std::sync::Arc;
use std::time::Instant;

use crate::limits::{EVENT_BYTES_MAX, TOTALS_PAUSE};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::event::{Class, LIKES};
use crate::wire::frame::{Event, Frame, Stored};
use crate::wire::topic::Topic;
use crate::wire::totals::Sums;
use crate::wire::version::Version;

/// What a topic's home told viewers of the totals.
#[derive(Debug, Default)]
pub struct Shown {
    frame: Option<Arc<Frame>>,
    at: Option<Instant>,
    /// The highest version that a data center told.
    newest: u64,
    /// Something changed since.
    waits: bool,
}

impl Shown {
    /// What they were told last.
    pub(crate) fn frame(&self) -> Option<&Arc<Frame>> {
        self.frame.as_ref()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.bytes().len())
    }

    /// When they may be told again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at.map(|at| at + TOTALS_PAUSE)
    }

    /// Something changed, of which they are to be told later. False if that was so already.
    pub(crate) fn wait(&mut self) -> bool {
        !std::mem::replace(&mut self.waits, true)
    }

    /// Something changed, and they may be told of it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.waits && self.next().is_none_or(|next| next <= now)
    }

    /// Adds up what data centers told, of those that count. Gives what is to be shown, if it is news.
    pub(crate) fn sum<'a>(
        &mut self,
        topic: &Topic,
        told: impl Iterator<Item = &'a Arc<Frame>>,
        counts: impl Fn(&str) -> bool,
        id: &str,
        (now, now_ms): (Instant, u64),
    ) -> Option<Arc<Frame>> {
        let (mut sums, mut newest, mut at) = (Sums::default(), 0, now_ms);
        for frame in told {
            let Some(stored) = Stored::read(frame.json()).filter(|stored| stored.key.as_deref().is_some_and(&counts))
            else {
                continue;
            };
            if planted(Mistake::SubtotalShown) {
                sums = Sums::default();
            }
            sums.add(serde_json::from_slice(stored.data).unwrap_or_default());
            let version = frame.version().number;
            // Where nobody told anything new, it changed now who counts.
            if version > newest && version > self.newest {
                at = frame.at();
            }
            newest = newest.max(version);
        }
        self.waits = false;
        self.newest = self.newest.max(newest);
        let data = serde_json::to_vec(&sums).expect("it is plain data");
        let is_known = |frame: &Arc<Frame>| Stored::read(frame.json()).is_some_and(|stored| stored.data == data);
        if self.frame.as_ref().is_some_and(is_known) || data.len() > EVENT_BYTES_MAX {
            return None;
        }
        let last = self.frame.as_ref().map_or(0, |frame| frame.version().number);
        let event = Event {
            id,
            topic: topic.as_str(),
            kind: LIKES,
            key: None,
            at,
            data: &data,
            class: Class::Latest,
            ttl_ms: 0,
            place: None,
            version: Version { number: now_ms.max(newest).max(last + 1), dc: "" },
            hops: None,
        };
        let frame = Arc::new(Frame::encode(&event));
        (self.frame, self.at) = (Some(Arc::clone(&frame)), Some(now));
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(dc: &str, number: u64, at: u64, data: &str) -> Arc<Frame> {
        let event = Event {
            id: "i",
            topic: "live:1",
            kind: LIKES,
            key: Some(dc),
            at,
            data: data.as_bytes(),
            class: Class::Latest,
            ttl_ms: 0,
            place: None,
            version: Version { number, dc },
            hops: None,
        };
        Arc::new(Frame::encode(&event))
    }

    #[test]
    fn data_center_that_is_silent_counts_on_or_is_shown_for_all() {
        let (mut shown, now) = (Shown::default(), Instant::now());
        let topic = Topic::parse("live:1").expect("it is one");
        let mut sum = |told: &[&Arc<Frame>], silent: &str, now_ms| {
            let frame = shown.sum(&topic, told.iter().copied(), |dc| dc != silent, "i", (now, now_ms))?;
            let event: serde_json::Value = serde_json::from_str(frame.json()).expect("it is JSON");
            assert!(event.get("key").is_none(), "{event}");
            Some((event["data"].to_string(), event["at"].as_u64().expect("a time"), frame.version().number))
        };
        let here = told("a", 50, 50, r#"{"likes":3,"reactions":{"like":2,"love":1},"taps":{"like":7}}"#);
        let there = told("b", 40, 40, r#"{"likes":1,"reactions":{"love":1},"taps":{"like":1,"love":1},"more":7}"#);
        let own = |at, version| {
            Some((r#"{"likes":3,"reactions":{"like":2,"love":1},"taps":{"like":7}}"#.to_owned(), at, version))
        };
        let all = |at, version| {
            Some((r#"{"likes":4,"reactions":{"like":2,"love":2},"taps":{"like":8,"love":1}}"#.to_owned(), at, version))
        };
        assert_eq!(sum(&[&here], "", 60), own(50, 60));
        assert_eq!(sum(&[&here], "", 70), None, "it is no news");
        assert_eq!(sum(&[&here, &there], "", 60), all(60, 61), "versions grow, whatever clocks say");
        assert_eq!(sum(&[&here, &there], "b", 90), own(90, 90), "it changed now who counts");
        assert_eq!(sum(&[&here, &there], "", 95), all(95, 95));
        let broken = told("b", 99, 99, r#""no totals""#);
        assert_eq!(sum(&[&here, &broken], "", 95), own(99, 99));
    }

    #[test]
    fn viewers_told_more_often_than_they_may_be() {
        let (mut shown, now) = (Shown::default(), Instant::now());
        let topic = Topic::parse("live:1").expect("it is one");
        assert!(shown.next().is_none() && !shown.is_due(now));
        let frame = told("a", 50, 50, r#"{"likes":3}"#);
        assert!(shown.sum(&topic, [&frame].into_iter(), |_| true, "i", (now, 60)).is_some());
        assert_eq!((shown.next(), shown.wait(), shown.wait()), (Some(now + TOTALS_PAUSE), true, false));
        assert!(!shown.is_due(now + TOTALS_PAUSE - Duration::from_millis(1)) && shown.is_due(now + TOTALS_PAUSE));
    }
}
