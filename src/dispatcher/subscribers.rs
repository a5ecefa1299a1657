//! Where an event goes: which nodes want its topic, from a cache that the key-value store keeps true. One a shard; no IO,
//! no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{
    ASKED_BYTES, LOOKUP_WAITING_EVENTS, SUBSCRIBERS_CACHE_AGE, SUBSCRIBERS_CACHE_TOPICS, SUBSCRIBERS_KEPT,
    SUBSCRIBERS_LOOK,
};
use crate::runtime::account::{Account, Held, Use};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Frame;
use crate::wire::topic::Topic;

/// What is known of a topic's subscribers.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// These nodes want it; none is an answer too.
    To {
        /// The nodes.
        nodes: Arc<[NodeId]>,
        /// The answer grows old: ask again, without waiting.
        refresh: bool,
    },
    /// Unknown: encode the event, [`hold`](Subscribers::hold) it, and ask if told to.
    Unknown,
}

/// Too many events wait for look-ups: the publisher is to come back later.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many events wait for the key-value store")]
pub struct Full;

#[derive(Debug)]
struct Known {
    nodes: Arc<[NodeId]>,
    /// None once it is known to have changed, or may have: it serves only if the store cannot say what holds now.
    learned: Option<Instant>,
    /// When the store last said it.
    said: Instant,
    asked_again: bool,
}

/// What a shard's dispatcher knows of who wants what, and the events that wait to know.
#[derive(Debug)]
pub struct Subscribers {
    known: Map<Topic, Known>,
    /// The topics that are known, each once, and when it is looked whether they are to be forgotten.
    looks: VecDeque<(Instant, Topic)>,
    /// What is known serves for so long should the store be away.
    kept: Duration,
    held: Map<Topic, Vec<Held<Arc<Frame>>>>,
    held_events: usize,
}

impl Subscribers {
    /// An empty one. Where the store `is_away_at_times`, what was known of a topic is kept for then.
    pub fn new(is_away_at_times: bool) -> Subscribers {
        let kept = if is_away_at_times { SUBSCRIBERS_KEPT } else { SUBSCRIBERS_CACHE_AGE };
        let (known, looks, held) = Default::default();
        Subscribers { known, looks, kept, held, held_events: 0 }
    }

    /// Once a tick: forgets what serves nobody any more.
    pub fn tick(&mut self, now: Instant) {
        while self.looks.front().is_some_and(|(at, _)| *at <= now) {
            let (_, topic) = self.looks.pop_front().expect("it was just seen");
            let Some(known) = self.known.get(&topic) else { continue };
            // Nobody is as good as nothing.
            let kept = if known.nodes.is_empty() { SUBSCRIBERS_CACHE_AGE } else { self.kept };
            if now.saturating_duration_since(known.said) >= kept {
                self.known.remove(&topic);
            } else {
                self.looks.push_back((now + SUBSCRIBERS_LOOK, topic));
            }
        }
        shrink(&mut self.known);
        shrink(&mut self.looks);
    }

    /// Topics in the cache.
    pub fn cached(&self) -> usize {
        self.known.len()
    }

    /// Events that wait for a look-up.
    pub fn held_events(&self) -> usize {
        self.held_events
    }

    /// Who wants `topic`.
    pub fn route(&mut self, topic: &str, now: Instant) -> Routed {
        // Behind events that wait, later ones wait too: order within a topic holds.
        let Some(known) = self.known.get_mut(topic) else { return Routed::Unknown };
        let Some(learned) = known.learned else { return Routed::Unknown };
        let age = now.saturating_duration_since(learned);
        if age >= SUBSCRIBERS_CACHE_AGE {
            known.learned = None;
            return Routed::Unknown;
        }
        // A hot topic asks before its entry is too old, so that no event ever waits for the answer.
        let refresh = age >= SUBSCRIBERS_CACHE_AGE / 2 && !known.asked_again;
        known.asked_again |= refresh;
        Routed::To { nodes: Arc::clone(&known.nodes), refresh }
    }

    /// Keeps an event until its topic's subscribers are known. True if the store is to be asked now.
    ///
    /// # Errors
    /// Too many wait, or there is no memory for it.
    pub fn hold(&mut self, topic: &Topic, frame: Arc<Frame>, account: &Account) -> Result<bool, Full> {
        if self.held_events >= LOOKUP_WAITING_EVENTS {
            return Err(Full);
        }
        let held = account.reserve(Use::Questions, ASKED_BYTES + frame.bytes().len()).map_err(|_| Full)?;
        let frame = Held::new(frame, held);
        self.held_events += 1;
        let held = self.held.entry(topic.clone()).or_default();
        held.push(frame);
        Ok(held.len() == 1)
    }

    /// The store's answer. Gives back the events that waited for it, in order.
    pub fn learn(&mut self, topic: &Topic, nodes: Arc<[NodeId]>, now: Instant) -> Vec<Arc<Frame>> {
        if self.known.len() >= SUBSCRIBERS_CACHE_TOPICS && !self.known.contains_key(topic) {
            let fresh = |learned| now.saturating_duration_since(learned) < SUBSCRIBERS_CACHE_AGE;
            self.known.retain(|_, known| known.learned.is_some_and(fresh));
            if self.known.len() >= SUBSCRIBERS_CACHE_TOPICS {
                // More hot topics than fit: starting over costs one look-up each, keeping order costs every event.
                self.known.clear();
            }
            self.looks.retain(|(_, topic)| self.known.contains_key(topic));
        }
        let known = Known { nodes, learned: Some(now), said: now, asked_again: false };
        if self.known.insert(topic.clone(), known).is_none() {
            self.looks.push_back((now + SUBSCRIBERS_LOOK, topic.clone()));
        }
        self.release(topic)
    }

    fn release(&mut self, topic: &Topic) -> Vec<Arc<Frame>> {
        let held = self.held.remove(topic).unwrap_or_default();
        self.held_events -= held.len();
        held.into_iter().map(Held::release).collect()
    }

    /// The store cannot say who wants `topic`. Gives back the events that waited, and who wanted it when that was last
    /// known; with nobody known they have nowhere to go.
    pub fn fall_back(&mut self, topic: &Topic, now: Instant) -> (Option<Arc<[NodeId]>>, Vec<Arc<Frame>>) {
        let held = self.release(topic);
        let nodes = self.known.get_mut(topic).map(|known| {
            // For as long as an answer would serve: then the store is asked again.
            known.learned = Some(now);
            known.said = now;
            known.asked_again = false;
            Arc::clone(&known.nodes)
        });
        (nodes, held)
    }

    /// What was cached of `topic` is no longer true.
    pub fn forget(&mut self, topic: &Topic) {
        if let Some(known) = self.known.get_mut(topic) {
            known.learned = None;
        }
    }

    /// Nothing that was cached may be believed.
    pub fn forget_all(&mut self) {
        self.known.values_mut().for_each(|known| known.learned = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;
    use std::time::Duration;

    #[derive(Debug, Clone)]
    enum Op {
        Publish,
        Answer,
        Change(bool),
        Wait(u64),
    }

    proptest! {
        /// Against a store that changes under it: every event goes, once and in order, where the store last said so, and
        /// nothing is answered from what is older than the cache may be.
        #[test]
        fn events_follow_the_store(ops in prop::collection::vec(prop_oneof![
            4 => Just(Op::Publish),
            3 => Just(Op::Answer),
            1 => any::<bool>().prop_map(Op::Change),
            1 => (0u64..3000).prop_map(Op::Wait),
        ], 1..200)) {
            let topic = Topic::parse("live:1").unwrap();
            let (mut dispatcher, mut now, account) = (Subscribers::new(true), Instant::now(), Account::unbounded());
            let nodes = |wanted: bool| -> Arc<[NodeId]> { if wanted { Arc::new([NodeId(1)]) } else { Arc::new([]) } };
            // Answers under way carry what the store held when asked; changes invalidate in the same order.
            let (mut wanted, mut asked, mut published, mut sent) = (false, Vec::new(), 0u64, Vec::new());
            for op in ops {
                match op {
                    Op::Publish => {
                        published += 1;
                        match dispatcher.route("live:1", now) {
                            Routed::To { nodes: known, refresh } => {
                                prop_assert_eq!(known, nodes(wanted), "the cache is as fresh as what it was told");
                                if refresh { asked.push(wanted); }
                                sent.push(published);
                            }
                            Routed::Unknown => {
                                let frame = frame("live:1", "x", None, Class::Every, &published.to_string());
                                if dispatcher.hold(&topic, frame, &account).unwrap() { asked.push(wanted); }
                            }
                        }
                    }
                    Op::Answer if !asked.is_empty() => {
                        let held = dispatcher.learn(&topic, nodes(asked.remove(0)), now);
                        sent.extend(held.iter().map(|frame| {
                            let text = String::from_utf8(frame.event().to_vec()).unwrap();
                            text.rsplit(':').next().unwrap().trim_end_matches("}\n\n").parse::<u64>().unwrap()
                        }));
                    }
                    Op::Change(to) if to != wanted => {
                        // Messages come in order: what was asked before the change is answered before it.
                        while !asked.is_empty() {
                            let held = dispatcher.learn(&topic, nodes(asked.remove(0)), now);
                            sent.extend(held.iter().map(|frame| {
                                let text = String::from_utf8(frame.event().to_vec()).unwrap();
                                text.rsplit(':').next().unwrap().trim_end_matches("}\n\n").parse::<u64>().unwrap()
                            }));
                        }
                        wanted = to;
                        dispatcher.forget(&topic);
                    }
                    Op::Wait(ms) => now += Duration::from_millis(ms),
                    _ => {}
                }
            }
            if !asked.is_empty() {
                let held = dispatcher.learn(&topic, nodes(wanted), now);
                prop_assert_eq!(sent.len() + held.len(), published as usize);
            } else {
                prop_assert_eq!(sent.len(), published as usize);
            }
            prop_assert!(sent.is_sorted(), "{:?}", sent);
            prop_assert_eq!(dispatcher.held_events(), 0);
        }
    }

    #[test]
    fn without_the_store_what_was_known_serves() {
        let (mut dispatcher, topic, now) = (Subscribers::new(true), Topic::parse("live:1").unwrap(), Instant::now());
        let account = Account::unbounded();
        let event = frame("live:1", "x", None, Class::Sum, "1");
        assert_eq!(dispatcher.route("live:1", now), Routed::Unknown);
        assert_eq!(dispatcher.hold(&topic, Arc::clone(&event), &account), Ok(true));
        assert_eq!(dispatcher.fall_back(&topic, now).0, None);
        let nodes: Arc<[NodeId]> = Arc::new([NodeId(1)]);
        dispatcher.learn(&topic, Arc::clone(&nodes), now);
        dispatcher.forget_all();
        assert_eq!(dispatcher.route("live:1", now), Routed::Unknown);
        dispatcher.hold(&topic, event, &account).unwrap();
        let (known, held) = dispatcher.fall_back(&topic, now);
        assert_eq!((known, held.len(), dispatcher.held_events()), (Some(Arc::clone(&nodes)), 1, 0));
        assert_eq!(dispatcher.route("live:1", now), Routed::To { nodes, refresh: false });
        assert_eq!(dispatcher.route("live:1", now + SUBSCRIBERS_CACHE_AGE), Routed::Unknown);
    }

    #[test]
    fn what_serves_nobody_is_forgotten() {
        let topics = |kind: &str| (0..3000).map(|number| Topic::parse(&format!("{kind}:{number}")).unwrap()).collect();
        let (nobodys, somebodys): (Vec<Topic>, Vec<Topic>) = (topics("a"), topics("b"));
        let start = Instant::now();
        for (is_away_at_times, kept) in [(false, SUBSCRIBERS_CACHE_AGE), (true, SUBSCRIBERS_KEPT)] {
            let mut dispatcher = Subscribers::new(is_away_at_times);
            let learn = |dispatcher: &mut Subscribers, now| {
                nobodys.iter().for_each(|topic| drop(dispatcher.learn(topic, Arc::new([]), now)));
                somebodys.iter().for_each(|topic| drop(dispatcher.learn(topic, Arc::new([NodeId(1)]), now)));
            };
            learn(&mut dispatcher, start);
            let later = start + SUBSCRIBERS_LOOK - Duration::from_secs(1);
            learn(&mut dispatcher, later);
            dispatcher.forget_all();
            dispatcher.tick(start + SUBSCRIBERS_LOOK);
            assert_eq!(dispatcher.cached(), 6000, "it was said a second ago");
            let mut now = start + SUBSCRIBERS_LOOK;
            while dispatcher.cached() > 3000 {
                now += Duration::from_secs(1);
                dispatcher.tick(now);
            }
            assert!(now <= start + 2 * SUBSCRIBERS_LOOK);
            let known = dispatcher.fall_back(&somebodys[0], later).0.is_some();
            assert_eq!(known, dispatcher.cached() == 3000);
            while dispatcher.cached() > 0 {
                now += Duration::from_secs(1);
                dispatcher.tick(now);
            }
            assert!(now >= later + kept && now <= later + kept + 2 * SUBSCRIBERS_LOOK);
            assert!(dispatcher.known.capacity() <= 2048 && dispatcher.looks.is_empty());
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut dispatcher, topic) = (Subscribers::new(true), Topic::parse("live:1").unwrap());
        let account = Account::unbounded();
        let frame = frame("live:1", "x", None, Class::Every, "1");
        for number in 0..LOOKUP_WAITING_EVENTS {
            assert_eq!(dispatcher.hold(&topic, Arc::clone(&frame), &account), Ok(number == 0));
        }
        assert_eq!(dispatcher.hold(&topic, Arc::clone(&frame), &account), Err(Full));
        assert_eq!(dispatcher.learn(&topic, Arc::new([]), Instant::now()).len(), LOOKUP_WAITING_EVENTS);
        assert_eq!(dispatcher.held_events(), 0);
    }

    #[test]
    fn what_waits_is_bounded_by_bytes() {
        let (mut dispatcher, topic) = (Subscribers::new(true), Topic::parse("live:1").unwrap());
        let account = Account::new([100_000; Use::ALL.len()]);
        let frame = frame("live:1", "x", None, Class::Every, &format!("\"{}\"", "x".repeat(16_000)));
        let held = (0..100).filter(|_| dispatcher.hold(&topic, Arc::clone(&frame), &account).is_ok()).count();
        assert_eq!((held, account.refused(Use::Questions)), (6, 94));
        assert_eq!(dispatcher.learn(&topic, Arc::new([]), Instant::now()).len(), 6);
        assert_eq!(account.held(Use::Questions), 0);
    }
}
