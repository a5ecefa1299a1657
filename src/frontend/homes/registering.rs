//! A topic gets a home with its first viewer, is registered with the key-value store, and is ready once all that its viewers
//! may count on is in place.

use crate::frontend::Frontend;
use crate::frontend::homes::Home;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::message::{Message, Wish};
use crate::kv::Request;
use crate::limits::{REGISTER_RETRY, SUBSCRIBERS_CACHE_AGE};
use crate::runtime::shrink::shrink;
use crate::wire::prefix::of_wanted;
use crate::wire::topic::Topic;

impl Frontend {
    /// The node's first viewer of a topic came, or it lets go of it. The shard that tells the store of its bucket hears.
    pub(crate) fn register(&mut self, ground: &mut Ground, topic: Topic, wanted: bool) {
        if topic.is_prefix() {
            self.register_prefix(ground, &topic, wanted);
        }
        self.homes.wishes += 1;
        let wish = self.homes.wishes;
        if wanted {
            let mut home = Box::new(Home::new(ground.clock.instant, &ground.account, wish));
            // A prefix has no values of its own.
            home.newest_known = topic.is_prefix();
            self.homes.homes.insert(topic.clone(), home);
            self.homes.new.push(topic.clone());
        } else {
            // Nobody watches any more, so what waits in its windows is nobody's.
            let home = self.homes.homes.remove(&topic);
            shrink(&mut self.homes.homes);
            if let Some(home) = home {
                self.homes.compare.remove(&(home.compare_at, topic.clone()));
                if self.homes.doubted.forget(home.doubted) {
                    self.tell_settled(ground);
                }
            }
        }
        let topic = topic.wanted();
        let registrar = ground.node.registrar(topic.as_str());
        if registrar == ground.id {
            self.registrar.change(topic, wanted, wish);
        } else {
            ground.send(registrar, Message::Register { topic, wanted, wish });
        }
    }

    /// Begins with new topics, or sends a batch of registrations, if that is due. False if nothing is.
    pub(crate) fn register_some(&mut self, ground: &mut Ground) -> bool {
        if self.begin_homes(ground) {
            return true;
        }
        let batch = self.registrar.next_batch(ground.node.id, ground.clock.instant);
        batch.is_some_and(|batch| {
            let number = batch.bucket;
            ground.ask(Request::Apply(batch), Asked::Apply(number));
            true
        })
    }

    pub(crate) fn on_applied(&mut self, ground: &mut Ground, number: u8) {
        for (topic, wish) in self.registrar.applied(number) {
            let topic = of_wanted(&topic).unwrap_or(topic);
            let home = ground.node.home(topic.as_str());
            if home == ground.id {
                self.on_registered(ground, &topic, wish);
            } else {
                ground.send(home, Message::Registered { topic, wish });
            }
        }
    }

    /// The store holds the registration of a topic, by this wish.
    pub(crate) fn on_registered(&mut self, ground: &mut Ground, topic: &Topic, wish: Wish) {
        if let Some(home) = self.homes.homes.get_mut(topic) {
            home.applied |= home.wish == wish;
        }
        self.check_ready(ground, topic);
    }

    pub(crate) fn check_ready(&mut self, ground: &mut Ground, topic: &Topic) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(topic).filter(|home| home.is_ready()) else { return };
        if topic.is_prefix() && !self.prefixes.are_told() {
            return;
        }
        // Once more when every dispatcher's cache must have learnt of it.
        home.compare_at(topic, now + SUBSCRIBERS_CACHE_AGE + REGISTER_RETRY, &mut self.homes.compare);
        self.registry.registered(topic, now, &mut self.effects);
        self.apply_effects(ground);
    }

    /// Tells a core that a topic is registered, and what it must know of it.
    pub(crate) fn say_ready(&mut self, ground: &mut Ground, core: usize, topic: Topic) {
        let home = self.homes.homes.get(&topic);
        let end = home.and_then(|home| home.order.end());
        let newest = self.homes.newest_values(&topic);
        if core == ground.id {
            // What this core is given next goes there at once, and must not be overtaken by it.
            return self.on_topic_ready(ground, &topic, end, &newest);
        }
        ground.send(core, Message::Ready { topic, end, newest });
    }
}
