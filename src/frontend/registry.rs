//! Which cores of this node have viewers of which topics, and whether the node is registered for them: kept once a topic,
//! at its home shard.
//!
//! Inputs are what cores want and what the key-value store answered; effects are routes to announce to all cores,
//! registrations to send, and cores to tell that a topic is ready. A core's own entry goes at once (`Topics::leave`); what lingers
//! is the node's, once the store has registered it.

use std::collections::VecDeque;
use std::time::Instant;

use crate::ground::cores::CoreSet;
use crate::limits::TOPIC_LINGER;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::topic::Topic;

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell every core where the topic's viewers are.
    Announce {
        /// The topic.
        topic: Topic,
        /// The cores that have viewers.
        cores: CoreSet,
    },
    /// Tell this core that the topic is registered.
    Ready {
        /// The topic.
        topic: Topic,
        /// The core that waits for it.
        core: usize,
    },
    /// Tell the key-value store that this node wants the topic, or does not want it any more.
    Register {
        /// The topic.
        topic: Topic,
        /// Whether it is wanted.
        wanted: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// A registration is on its way, or is to be sent again.
    Asked,
    Held,
    /// Nobody watches; it is let go at this time unless somebody comes back.
    Lingering {
        until: Instant,
    },
}

#[derive(Debug)]
pub(crate) struct Entry {
    cores: CoreSet,
    waiting: CoreSet,
    registration: Registration,
}

/// The registry of the topics whose home this shard is.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Map<Topic, Entry>,
    /// Topics that began to linger, oldest first; an entry counts only if the topic lingers until just then.
    lingering: VecDeque<(Instant, Topic)>,
}

impl Registry {
    /// Topics known here.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether some core has viewers of a topic.
    pub fn is_watched(&self, topic: &Topic) -> bool {
        self.entries.get(topic).is_some_and(|entry| !entry.cores.is_empty())
    }

    /// The cores that have viewers of a topic.
    pub fn cores(&self, topic: &str) -> CoreSet {
        self.entries.get(topic).map_or(CoreSet::default(), |entry| entry.cores)
    }

    /// A core's first viewer of `topic` came, or its last one left.
    pub fn want(&mut self, topic: &Topic, core: usize, wanted: bool, now: Instant, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(topic) else {
            if wanted {
                let cores = CoreSet::of(core);
                let entry = Entry { cores, waiting: cores, registration: Registration::Asked };
                self.entries.insert(topic.clone(), entry);
                effects.push(Effect::Announce { topic: topic.clone(), cores });
                effects.push(Effect::Register { topic: topic.clone(), wanted: true });
            }
            return;
        };
        if entry.cores.contains(core) != wanted {
            entry.cores = entry.cores.with(core, wanted);
            effects.push(Effect::Announce { topic: topic.clone(), cores: entry.cores });
        }
        if wanted {
            if matches!(entry.registration, Registration::Lingering { .. }) && !planted(Mistake::TopicLetGo) {
                entry.registration = Registration::Held;
            }
            match entry.registration {
                Registration::Held | Registration::Lingering { .. } => {
                    effects.push(Effect::Ready { topic: topic.clone(), core })
                }
                _ => entry.waiting = entry.waiting.with(core, true),
            }
        } else {
            entry.waiting = entry.waiting.with(core, false);
            if entry.cores.is_empty() && entry.registration == Registration::Held {
                Self::linger(&mut self.lingering, topic, entry, now);
            }
        }
    }

    fn linger(lingering: &mut VecDeque<(Instant, Topic)>, topic: &Topic, entry: &mut Entry, now: Instant) {
        let until = now + TOPIC_LINGER;
        entry.registration = Registration::Lingering { until };
        lingering.push_back((until, topic.clone()));
    }

    /// The key-value store holds the registration of `topic`.
    pub fn registered(&mut self, topic: &Topic, now: Instant, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        if entry.registration != Registration::Asked {
            return;
        }
        entry.registration = Registration::Held;
        for core in std::mem::take(&mut entry.waiting).iter() {
            effects.push(Effect::Ready { topic: topic.clone(), core });
        }
        if entry.cores.is_empty() {
            Self::linger(&mut self.lingering, topic, entry, now);
        }
    }

    /// Whether topics are to be let go.
    pub fn is_due(&self, now: Instant) -> bool {
        self.lingering.front().is_some_and(|(until, _)| *until <= now)
    }

    /// Lets go of topics whose linger is over, so many at most.
    pub fn tick(&mut self, now: Instant, most: usize, effects: &mut Vec<Effect>) {
        for _ in 0..most {
            if !self.is_due(now) {
                return;
            }
            let (due, topic) = self.lingering.pop_front().expect("it was just seen");
            shrink(&mut self.lingering);
            let lingers = self
                .entries
                .get(&topic)
                .is_some_and(|entry| entry.registration == Registration::Lingering { until: due });
            if lingers {
                self.entries.remove(&topic);
                shrink(&mut self.entries);
                effects.push(Effect::Register { topic, wanted: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn topic() -> Topic {
        Topic::parse("live:1").unwrap()
    }

    #[test]
    fn very_many_topics_are_let_go_by_and_by() {
        let (mut registry, start, mut effects) = (Registry::default(), Instant::now(), Vec::new());
        for number in 0..10 {
            let topic = Topic::parse(&format!("live:{number}")).unwrap();
            registry.want(&topic, 1, true, start, &mut effects);
            registry.registered(&topic, start, &mut effects);
            registry.want(&topic, 1, false, start, &mut effects);
        }
        let end = start + TOPIC_LINGER;
        assert!(!registry.is_due(end - Duration::from_millis(1)));
        for left in [6, 2, 0] {
            assert!(registry.is_due(end));
            registry.tick(end, 4, &mut effects);
            assert_eq!(registry.len(), left);
        }
        assert!(!registry.is_due(end));
    }

    #[test]
    fn a_reload_does_not_flap() {
        let (mut registry, start, mut effects) = (Registry::default(), Instant::now(), Vec::new());
        registry.want(&topic(), 1, true, start, &mut effects);
        registry.registered(&topic(), start, &mut effects);
        registry.want(&topic(), 1, false, start, &mut effects);
        registry.tick(start + TOPIC_LINGER - Duration::from_millis(1), usize::MAX, &mut effects);
        effects.clear();
        registry.want(&topic(), 0, true, start, &mut effects);
        assert_eq!(
            effects,
            [Effect::Announce { topic: topic(), cores: CoreSet::of(0) }, Effect::Ready { topic: topic(), core: 0 }]
        );
        effects.clear();
        registry.tick(start + TOPIC_LINGER * 2, usize::MAX, &mut effects);
        assert_eq!(effects, []);
        registry.want(&topic(), 0, false, start, &mut effects);
        effects.clear();
        registry.tick(start + TOPIC_LINGER, usize::MAX, &mut effects);
        assert_eq!(effects, [Effect::Register { topic: topic(), wanted: false }]);
        assert!(registry.is_empty());
    }

    proptest! {
        /// What cores are told and what the store is told follow what cores want, whatever the order of things.
        #[test]
        fn announced_and_registered_match_what_is_wanted(
            ops in prop::collection::vec((0usize..4, any::<bool>(), 0u64..4000, any::<bool>()), 1..100),
        ) {
            let (mut registry, mut now, mut effects) = (Registry::default(), Instant::now(), Vec::new());
            let (mut wanted, mut announced, mut stored, mut asked) = (CoreSet::default(), CoreSet::default(), false, false);
            let mut ready = CoreSet::default();
            for (core, wants, pause, answers) in ops {
                now += Duration::from_millis(pause);
                registry.tick(now, usize::MAX, &mut effects);
                registry.want(&topic(), core, wants, now, &mut effects);
                wanted = wanted.with(core, wants);
                ready = ready.with(core, ready.contains(core) && wants);
                // Answers come in order, each after its question.
                for effect in std::mem::take(&mut effects) {
                    match effect {
                        Effect::Announce { cores, .. } => announced = cores,
                        Effect::Ready { core, .. } => ready = ready.with(core, true),
                        Effect::Register { wanted, .. } => {
                            prop_assert!(wanted != stored && !asked, "told twice");
                            if wanted { asked = true } else { stored = false }
                        }
                    }
                }
                if asked && answers {
                    asked = false;
                    stored = true;
                    registry.registered(&topic(), now, &mut effects);
                    for effect in std::mem::take(&mut effects) {
                        let Effect::Ready { core, .. } = effect else { panic!("{effect:?}") };
                        ready = ready.with(core, true);
                    }
                }
                prop_assert_eq!(announced, wanted);
                if stored {
                    prop_assert_eq!(ready.0 & wanted.0, wanted.0, "whoever wants a registered topic was told");
                }
                prop_assert!(stored || asked || wanted.is_empty());
            }
            if asked {
                registry.registered(&topic(), now, &mut effects);
            }
            for core in 0..4 {
                registry.want(&topic(), core, false, now, &mut effects);
            }
            effects.clear();
            registry.tick(now + TOPIC_LINGER, usize::MAX, &mut effects);
            prop_assert!(registry.is_empty() && registry.lingering.is_empty());
        }

        #[test]
        fn sequencer_is_a_member(bits: u128, hash: u64) {
            let set = CoreSet(bits);
            prop_assert_eq!(set.sequencer(hash).is_some(), bits != 0);
            prop_assert!(set.sequencer(hash).is_none_or(|core| set.contains(core)));
            prop_assert_eq!(set.iter().count(), set.len());
        }
    }
}
