//! Which nodes want a topic by a prefix of it, beside those that want it by its name. Where no node wants any prefix, which one
//! look a second tells, nothing else is looked up. One a shard; no IO, no clock.

use std::sync::Arc;
use std::time::Instant;

use crate::dispatcher::subscribers::{Full, Routed, Subscribers};
use crate::limits::{ASKED_BYTES, LOOKUP_WAITING_EVENTS, SUBSCRIBERS_CACHE_AGE};
use crate::runtime::account::{Account, Held, Use};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::{Map, Set};
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Frame;
use crate::wire::prefix::{ANY, WANTED, begins};
use crate::wire::topic::Topic;

/// An event that waits, and the nodes that want its topic by its name.
type Waiting = (Arc<[NodeId]>, Held<Arc<Frame>>);

/// Whether some node wants a prefix.
#[derive(Debug, Default)]
struct Any {
    wanted: bool,
    /// None if it may have changed, or is not known.
    learned: Option<Instant>,
}

/// What is to be done now that more is known.
#[derive(Debug, Default)]
pub struct Released {
    /// Events, in the order of their topics, and where each goes.
    pub events: Vec<(Arc<[NodeId]>, Arc<Frame>)>,
    /// What is to be asked of the store.
    pub asks: Vec<Topic>,
}

/// What a shard's dispatcher knows of prefixes, and the events that wait to know.
#[derive(Debug)]
pub struct Prefixes {
    any: Any,
    /// By what nodes want a prefix by.
    cache: Subscribers,
    /// What the store is being asked.
    asked: Set<Topic>,
    held: Map<Topic, Vec<Waiting>>,
    held_events: usize,
    /// Where names are made that are looked up.
    name: String,
}

impl Prefixes {
    /// An empty one; see [`Subscribers::new`].
    pub fn new(is_away_at_times: bool) -> Prefixes {
        let (any, asked, held) = Default::default();
        Prefixes {
            any,
            cache: Subscribers::new(is_away_at_times),
            asked,
            held,
            held_events: 0,
            name: WANTED.to_owned(),
        }
    }

    /// Whether an answer of the store about this is for here.
    pub fn is_of(topic: &Topic) -> bool {
        topic.as_str() == ANY || topic.as_str().starts_with(WANTED)
    }

    /// Once a tick: forgets what serves nobody any more.
    pub fn tick(&mut self, now: Instant) {
        self.cache.tick(now);
    }

    /// Events that wait for a look-up.
    pub fn held_events(&self) -> usize {
        self.held_events
    }

    /// What is to be asked so that it is known whether any prefix is wanted, if that is not known or grows old.
    pub fn refresh(&mut self, now: Instant) -> Option<Topic> {
        let is_old = |learned| now.saturating_duration_since(learned) >= SUBSCRIBERS_CACHE_AGE / 2;
        if self.any.learned.is_some_and(|learned| !is_old(learned)) {
            return None;
        }
        let any = Topic::parse(ANY).expect("it is one");
        self.asked.insert(any.clone()).then_some(any)
    }

    /// Whether surely no node wants any prefix: nothing else is to be done for an event.
    pub fn are_none(&self, now: Instant) -> bool {
        let Any { wanted: false, learned: Some(learned) } = self.any else { return false };
        now.saturating_duration_since(learned) < SUBSCRIBERS_CACHE_AGE && self.held.is_empty()
    }

    /// Where an event of `topic` goes that is wanted by its name by `own`; none if that is not known, and then it is to be held:
    /// what that waits for is being asked, or is to be. What is to be asked, without waiting for the answer, is added to `asks`.
    pub fn with(
        &mut self,
        topic: &str,
        own: &Arc<[NodeId]>,
        now: Instant,
        asks: &mut Vec<Topic>,
    ) -> Option<Arc<[NodeId]>> {
        if self.held.contains_key(topic) {
            // Behind events that wait, later ones wait too: order within a topic holds.
            return None;
        }
        self.look(topic, own, now, asks)
    }

    fn look(&mut self, topic: &str, own: &Arc<[NodeId]>, now: Instant, asks: &mut Vec<Topic>) -> Option<Arc<[NodeId]>> {
        let is_fresh = |learned| now.saturating_duration_since(learned) < SUBSCRIBERS_CACHE_AGE;
        if !self.any.learned.is_some_and(is_fresh) {
            // It may have changed since the event came.
            asks.extend(self.refresh(now));
            return None;
        }
        if !self.any.wanted || planted(Mistake::PrefixUnrouted) {
            return Some(Arc::clone(own));
        }
        let (mut more, mut is_known) = (Vec::new(), true);
        for begin in begins(topic) {
            self.name.truncate(WANTED.len());
            self.name.push_str(begin);
            let ask = match self.cache.route(&self.name, now) {
                Routed::To { nodes, refresh } => {
                    more.extend(nodes.iter().filter(|node| !own.contains(node)));
                    refresh
                }
                Routed::Unknown => {
                    is_known = false;
                    true
                }
            };
            if ask {
                let key = Topic::parse(&self.name).expect("a prefix is wanted by a topic");
                if self.asked.insert(key.clone()) {
                    asks.push(key);
                }
            }
        }
        if !is_known {
            return None;
        }
        if more.is_empty() {
            return Some(Arc::clone(own));
        }
        more.extend_from_slice(own);
        more.sort_unstable();
        more.dedup();
        Some(more.into())
    }

    /// Keeps an event until it is known which nodes want its topic by a prefix.
    ///
    /// # Errors
    /// Too many wait, or there is no memory for it.
    pub fn hold(
        &mut self,
        topic: &Topic,
        own: Arc<[NodeId]>,
        frame: Arc<Frame>,
        account: &Account,
    ) -> Result<(), Full> {
        if self.held_events >= LOOKUP_WAITING_EVENTS {
            return Err(Full);
        }
        let held = account.reserve(Use::Questions, ASKED_BYTES + frame.bytes().len()).map_err(|_| Full)?;
        self.held_events += 1;
        self.held.entry(topic.clone()).or_default().push((own, Held::new(frame, held)));
        Ok(())
    }

    /// The store's answer. Gives what does not wait any more.
    pub fn learn(&mut self, key: &Topic, nodes: Arc<[NodeId]>, now: Instant) -> Released {
        self.asked.remove(key);
        if key.as_str() == ANY {
            self.any = Any { wanted: !nodes.is_empty(), learned: Some(now) };
        } else {
            drop(self.cache.learn(key, nodes, now));
        }
        self.release(key, now)
    }

    /// The store cannot say: what was known serves for as long as an answer would.
    pub fn fall_back(&mut self, key: &Topic, now: Instant) -> Released {
        self.asked.remove(key);
        if key.as_str() == ANY {
            self.any.learned = Some(now);
        } else if self.cache.fall_back(key, now).0.is_none() {
            drop(self.cache.learn(key, Arc::new([]), now));
        }
        self.release(key, now)
    }

    /// Lets events go of which all is known now, and asks for what is not.
    fn release(&mut self, key: &Topic, now: Instant) -> Released {
        let mut released = Released::default();
        if self.held.is_empty() {
            return released;
        }
        let begin = key.as_str().strip_prefix(WANTED).unwrap_or_default();
        let held: Vec<_> = self.held.extract_if(|topic, _| topic.as_str().starts_with(begin)).collect();
        for (topic, waiting) in held {
            let none: Arc<[NodeId]> = Arc::new([]);
            // By whichever nodes the topic is wanted by its name: what is not known of its prefixes is the same.
            if self.look(topic.as_str(), &none, now, &mut released.asks).is_none() {
                self.held.insert(topic, waiting);
                continue;
            }
            self.held_events -= waiting.len();
            for (own, frame) in waiting {
                let nodes = self.look(topic.as_str(), &own, now, &mut released.asks).unwrap_or(own);
                released.events.push((nodes, frame.release()));
            }
        }
        released
    }

    /// What was cached of a prefix is no longer true.
    pub fn forget(&mut self, key: &Topic) {
        if key.as_str() == ANY {
            self.any.learned = None;
        } else {
            self.cache.forget(key);
        }
    }

    /// Nothing that was cached may be believed.
    pub fn forget_all(&mut self) {
        self.any.learned = None;
        self.cache.forget_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use crate::wire::prefix::wanted;

    const TOPICS: [&str; 3] = ["chat:crew.1", "chat:crew.2", "chat:other"];
    const BEGINS: [&str; 2] = ["chat:", "chat:crew."];

    /// The number that is the frame's data.
    fn number_of(frame: &Frame) -> u64 {
        let text = String::from_utf8(frame.event().to_vec()).unwrap();
        text.rsplit(':').next().unwrap().trim_end_matches("}\n\n").parse().unwrap()
    }

    fn nodes(nodes: &[u64]) -> Arc<[NodeId]> {
        nodes.iter().map(|node| NodeId(*node)).collect()
    }

    #[derive(Debug, Clone)]
    enum Op {
        /// Of a topic; what is known of prefixes may have changed since it came.
        Publish(usize, bool),
        Answer(usize, bool),
        Change(usize, bool),
        Wait(u64),
    }

    /// A store, of which each prefix is wanted by a node of its own, or not.
    struct Store {
        wanted: [bool; 2],
        asked: Vec<Topic>,
        now: Instant,
        /// What went, by topic.
        sent: BTreeMap<String, Vec<u64>>,
    }

    impl Store {
        fn answer(&self, key: &Topic) -> Arc<[NodeId]> {
            let is = |at: usize| self.wanted[at] && (key.as_str() == ANY || *key == wanted(BEGINS[at]));
            (0..2).filter(|at| is(*at)).map(|at| NodeId(2 + at as u64)).collect()
        }

        fn go(&mut self, released: Released) {
            for (_, frame) in released.events {
                let number = number_of(&frame);
                self.sent.entry(frame.topic().to_owned()).or_default().push(number);
            }
            self.asked.extend(released.asks);
        }
    }

    proptest! {
        /// Whatever is asked, answered, forgotten or unknown: each event goes once and in its topic's order, to all that wanted it
        /// when the store was asked, and what is not asked is not waited for.
        #[test]
        fn events_go_where_their_prefixes_are_wanted(ops in prop::collection::vec(prop_oneof![
            4 => (0..3usize, any::<bool>()).prop_map(|(topic, waited)| Op::Publish(topic, waited)),
            4 => (0..8usize, any::<bool>()).prop_map(|(which, is_known)| Op::Answer(which, is_known)),
            1 => (0..2usize, any::<bool>()).prop_map(|(which, wanted)| Op::Change(which, wanted)),
            1 => (0u64..3000).prop_map(Op::Wait),
        ], 1..150)) {
            let (mut prefixes, account) = (Prefixes::new(true), Account::unbounded());
            let mut store = Store { wanted: [false; 2], asked: Vec::new(), now: Instant::now(), sent: BTreeMap::new() };
            let mut published: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            let mut number = 0;
            let own = nodes(&[1]);
            for op in ops {
                match op {
                    Op::Publish(at, waited) => {
                        number += 1;
                        published.entry(TOPICS[at].to_owned()).or_default().push(number);
                        store.asked.extend(if waited { None } else { prefixes.refresh(store.now) });
                        let mut asks = Vec::new();
                        let to = match prefixes.are_none(store.now) {
                            true => Some(Arc::clone(&own)),
                            false => prefixes.with(TOPICS[at], &own, store.now, &mut asks),
                        };
                        store.asked.extend(asks);
                        match to {
                            Some(to) => {
                                let more = (0..2).filter(|which| store.wanted[*which] && TOPICS[at].starts_with(BEGINS[*which]));
                                let all: Vec<u64> = [1].into_iter().chain(more.map(|which| 2 + which as u64)).collect();
                                prop_assert_eq!(&*to, &*nodes(&all), "the cache is as fresh as what it was told");
                                store.sent.entry(TOPICS[at].to_owned()).or_default().push(number);
                            }
                            None => {
                                let frame = frame(TOPICS[at], "x", None, Class::Every, &number.to_string());
                                let topic = Topic::parse(TOPICS[at]).unwrap();
                                prefixes.hold(&topic, Arc::clone(&own), frame, &account).unwrap();
                            }
                        }
                    }
                    Op::Answer(which, is_known) if !store.asked.is_empty() => {
                        let key = store.asked.remove(which % store.asked.len());
                        // What the store does not say is what was known, and here that holds.
                        let released = match is_known {
                            true => prefixes.learn(&key, store.answer(&key), store.now),
                            false => {
                                let known = prefixes.learn(&key, store.answer(&key), store.now);
                                store.go(known);
                                prefixes.fall_back(&key, store.now)
                            }
                        };
                        store.go(released);
                    }
                    Op::Change(which, to) if store.wanted[which] != to => {
                        // What was asked before the change is answered before it.
                        while let Some(key) = store.asked.pop() {
                            let released = prefixes.learn(&key, store.answer(&key), store.now);
                            store.go(released);
                        }
                        store.wanted[which] = to;
                        prefixes.forget(&wanted(BEGINS[which]));
                        prefixes.forget(&Topic::parse(ANY).unwrap());
                    }
                    Op::Wait(ms) => store.now += Duration::from_millis(ms),
                    _ => {}
                }
            }
            let mut rounds = 0;
            while let Some(key) = store.asked.pop() {
                let released = prefixes.learn(&key, store.answer(&key), store.now);
                store.go(released);
                rounds += 1;
                prop_assert!(rounds < 100, "it asks on and on");
            }
            prop_assert_eq!(prefixes.held_events(), 0);
            prop_assert_eq!(store.sent, published);
        }
    }

    #[test]
    fn where_no_node_wants_a_prefix_one_look_a_second_is_all() {
        let (mut prefixes, start) = (Prefixes::new(true), Instant::now());
        let any = prefixes.refresh(start).expect("it is not known");
        assert_eq!((any.as_str(), prefixes.refresh(start)), (ANY, None));
        assert!(!prefixes.are_none(start));
        assert!(prefixes.learn(&any, nodes(&[]), start).asks.is_empty());
        let later = start + SUBSCRIBERS_CACHE_AGE / 2;
        assert!(prefixes.are_none(later) && prefixes.refresh(start).is_none());
        assert_eq!(prefixes.refresh(later), Some(any.clone()));
        assert!(!prefixes.are_none(start + SUBSCRIBERS_CACHE_AGE), "the answer never came");
        prefixes.learn(&any, nodes(&[]), later);
        prefixes.forget(&any);
        assert!(!prefixes.are_none(later));
    }
}
