//! Totals of likes. A backend tells those of its data center, a few times a second where they change, and where a dispatcher
//! asks since somebody may not know them; at a topic's home those of all data centers are added up, and viewers are told the sum.

use super::own::Own;
use crate::server::backend::Backend;
use crate::server::dispatcher::Dispatcher;
use crate::server::ground::{Ground, Todo};
use crate::server::services::Services;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::likes::check_name;
use super::link::{Call, Called, Destination, Lane, Outcome as CallOutcome};
use super::message::Then;
use super::routes::Handled;
use crate::backend::store::{Command, Outcome, StoreError};
use crate::backend::totals::Due;
use crate::dispatch::kv::highest;
use crate::limits::{EVENT_BYTES_MAX, QUESTIONS_TIMEOUT, TOTALS_ASKED_MAX, TOTALS_PAUSE, TOTALS_READ_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::event::Class;
use crate::wire::frame::{Event, Frame, Stored};
use crate::wire::http::{HttpError, percent_decode};
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// The type of what viewers are told of them; between nodes its key is the data center that counted.
pub const LIKES: &str = "likes";

/// What one data center, or all, have.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Sums {
    likes: u64,
    reactions: BTreeMap<String, u64>,
    taps: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, more: Sums) {
        self.likes = self.likes.saturating_add(more.likes);
        for (sums, more) in [(&mut self.reactions, more.reactions), (&mut self.taps, more.taps)] {
            for (name, count) in more {
                let sum = sums.entry(name).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

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
    pub(super) fn frame(&self) -> Option<&Arc<Frame>> {
        self.frame.as_ref()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.bytes().len())
    }

    /// When they may be told again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.at.map(|at| at + TOTALS_PAUSE)
    }

    /// Something changed, of which they are to be told later. False if that was so already.
    pub(super) fn wait(&mut self) -> bool {
        !std::mem::replace(&mut self.waits, true)
    }

    /// Something changed, and they may be told of it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.waits && self.next().is_none_or(|next| next <= now)
    }

    /// Adds up what data centers told, of those that count. Gives what is to be shown, if it is news.
    pub(super) fn sum<'a>(
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

/// The video whose viewers watch a topic; none where no request could name it.
pub(super) fn video_of(topic: &Topic) -> Option<String> {
    let video = percent_decode(topic.as_str().strip_prefix("live:")?, false).ok()?.into_owned();
    (check_name("video", &video).is_ok() && Topic::encode("live", &video).ok()? == *topic).then_some(video)
}

impl Backend {
    /// A video's likes changed in the database.
    pub(super) fn likes_changed(&mut self, ground: &mut Ground, topic: &Topic) {
        if !self.totals.changed(topic, ground.clock.instant) {
            ground.counters().dropped_backlog.add(1);
        }
    }

    /// Once a tick: reads the totals that are due.
    pub(super) fn tick_totals(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        for _ in 0..TOTALS_READ_MAX {
            let Some(due) = self.totals.next(now) else { return };
            if !self.read_totals(ground, &due) {
                return self.totals.failed(&due.topic, now);
            }
        }
    }

    /// False if the database's queue is full.
    fn read_totals(&self, ground: &Ground, due: &Due) -> bool {
        let Due { topic, is_asked } = due;
        let Some(video) = video_of(topic) else { return true };
        self.store_own(ground, Command::Counts { video: video.clone() }, Then::Totals(topic.clone()))
            && (!is_asked || self.store_own(ground, Command::Rules { video }, Then::RulesAsked(topic.clone())))
    }

    /// The database said what a video has, or could not.
    pub(super) fn on_totals(&mut self, ground: &mut Ground, topic: &Topic, result: Result<Outcome, StoreError>) {
        let Ok(Outcome::Counts { likes, reactions, taps }) = result else {
            return self.totals.failed(topic, ground.clock.instant);
        };
        let sums = Sums { likes, reactions: reactions.into_iter().collect(), taps: taps.into_iter().collect() };
        let data = serde_json::to_string(&sums).expect("it is plain data");
        // The dispatcher that takes it puts its data center's name there.
        let own = Own::keyed(topic, LIKES, &ground.node.dc, data);
        ground.publish(own);
    }
}

impl Dispatcher {
    /// Once a tick of a dispatcher: has a backend tell the totals of topics that somebody watches who may not know them.
    pub(super) fn ask_totals(&mut self, ground: &mut Ground) {
        let (alive, own) = (Arc::clone(&ground.alive), ground.node.id);
        let dispatchers = || alive.iter().filter(|node| node.is("dispatcher")).map(|node| node.id);
        let alone = ground.node.info.is_none();
        let is_ours = |topic: &Topic| alone || highest(topic.as_str(), dispatchers()) == Some(own);
        let topics = self.tally.totals_due(TOTALS_ASKED_MAX, is_ours);
        if topics.is_empty() {
            return;
        }
        if ground.node.store.is_some() {
            return ground.todo.push_back(Todo::TotalsAsked(topics));
        }
        let backends: Vec<Destination> =
            alive.iter().filter(|node| node.is("backend")).map(|node| Destination::Node(node.id)).collect();
        let able: Vec<Destination> =
            backends.iter().copied().filter(|to| ground.link_takes((*to, Lane::Totals))).collect();
        let number = ground.random.number() as usize;
        let Some(to) = able.get(number % able.len().max(1)) else {
            // Where no backend lives nobody tells them; when one comes, those of all topics are asked for.
            if !backends.is_empty() {
                topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
            }
            return;
        };
        let call = Call {
            path: "/v1/internal/totals",
            content_type: "application/json",
            body: Arc::new(serde_json::to_vec(&topics).expect("names are plain data")),
            deadline: ground.clock.instant + QUESTIONS_TIMEOUT,
            what: Called::Totals(topics),
        };
        if let Err(Called::Totals(topics)) = ground.call((*to, Lane::Totals), call) {
            topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
        }
    }

    /// A backend took a list of topics, or did not: then another one is asked.
    pub(super) fn on_totals_asked(&mut self, topics: &[Topic], outcome: &CallOutcome) {
        // One of the version before knows of no totals.
        if !matches!(outcome, CallOutcome::Answer(200..=299 | 404, _)) {
            topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
        }
    }
}

impl Services {
    /// `POST /v1/internal/totals`: topics whose totals are to be told.
    pub(super) fn totals_request(
        &mut self,
        ground: &mut Ground,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let topics: Vec<Topic> = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a list of topics: {error}")))?;
        ground.todo.push_back(Todo::TotalsAsked(topics));
        Ok(Handled::Answered(ground.answers().whole(to, Status::NoContent, "", "", b"")))
    }
}

impl Backend {
    pub(super) fn on_asked_totals(&mut self, ground: &mut Ground, topics: &[Topic]) {
        for topic in topics {
            if !self.totals.asked(topic, ground.clock.instant) {
                ground.counters().dropped_backlog.add(1);
            }
        }
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

    #[test]
    fn topics_that_are_no_videos() {
        let video = |topic: &str| video_of(&Topic::parse(topic).expect("it is one"));
        assert_eq!(video("live:a%20b"), Some("a b".to_owned()));
        for topic in ["live:%FF", "live:%00", "live:x:y", "chat:7"] {
            assert_eq!(video(topic), None, "{topic}");
        }
    }
}
