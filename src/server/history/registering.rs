//! A topic gets a home with its first viewer, is registered with the key-value store, and is ready once all that its viewers
//! may count on is in place.

use super::Home;
use crate::dispatch::kv::Request;
use crate::frontend::registrar::Wish;
use crate::limits::{CROWD_SLICE, REGISTER_RETRY, SUBSCRIBERS_CACHE_AGE};
use crate::runtime::shrink::shrink;
use crate::server::asking::Asked;
use crate::server::message::Message;
use crate::server::shard::Shard;
use crate::wire::topic::Topic;

impl Shard {
    /// The node's first viewer of a topic came, or it lets go of it. The shard that tells the store of its bucket hears.
    pub(in crate::server) fn register(&mut self, topic: Topic, wanted: bool) {
        self.homes.wishes += 1;
        let wish = self.homes.wishes;
        if wanted {
            let home = Box::new(Home::new(self.clock.instant, &self.account, wish));
            self.homes.homes.insert(topic.clone(), home);
            self.homes.new.push(topic.clone());
        } else {
            // Nobody watches any more, so what waits in its windows is nobody's.
            let home = self.homes.homes.remove(&topic);
            shrink(&mut self.homes.homes);
            if let Some(home) = home {
                self.homes.compare.remove(&(home.compare_at, topic.clone()));
                if self.homes.doubted.forget(home.doubted) {
                    self.tell_settled();
                }
            }
        }
        let registrar = self.node.registrar(topic.as_str());
        if registrar == self.id {
            self.registrar.change(topic, wanted, wish);
        } else {
            self.send(registrar, Message::Register { topic, wanted, wish });
        }
    }

    /// Sends the registrations that are due, as many as one turn may.
    pub(in crate::server) fn send_registrations(&mut self) {
        self.begin_homes();
        if !self.registrar.is_due(self.clock.instant) {
            return;
        }
        let mut slice = self.clock.slice(CROWD_SLICE);
        while let Some(batch) = self.registrar.next_batch(self.node.id, self.clock.instant) {
            let number = batch.bucket;
            self.ask(Request::Apply(batch), Asked::Apply(number));
            self.open_local();
            if slice.is_over() {
                return;
            }
        }
    }

    pub(in crate::server) fn on_applied(&mut self, number: u8) {
        for (topic, wish) in self.registrar.applied(number) {
            let home = self.node.home(topic.as_str());
            if home == self.id {
                self.on_registered(&topic, wish);
            } else {
                self.send(home, Message::Registered { topic, wish });
            }
        }
    }

    /// The store holds the registration of a topic, by this wish.
    pub(in crate::server) fn on_registered(&mut self, topic: &Topic, wish: Wish) {
        if let Some(home) = self.homes.homes.get_mut(topic) {
            home.applied |= home.wish == wish;
        }
        self.check_ready(topic);
    }

    pub(super) fn check_ready(&mut self, topic: &Topic) {
        let now = self.clock.instant;
        let Some(home) = self.homes.homes.get_mut(topic).filter(|home| home.is_ready()) else { return };
        // Once more when every dispatcher's cache must have learnt of it.
        home.compare_at(topic, now + SUBSCRIBERS_CACHE_AGE + REGISTER_RETRY, &mut self.homes.compare);
        self.registry.registered(topic, now, &mut self.effects);
        self.apply_effects();
    }

    /// Tells a core that a topic is registered, and what it must know of it.
    pub(in crate::server) fn say_ready(&mut self, core: usize, topic: Topic) {
        let home = self.homes.homes.get(&topic);
        let end = home.and_then(|home| home.order.end());
        let newest = self.homes.newest_values(&topic);
        self.send(core, Message::Ready { topic, end, newest });
    }
}
