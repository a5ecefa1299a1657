//! The dispatcher's requests: an event to a topic, or a line an event. What follows where the store does not answer stands in
//! `appending.rs` (`every`, `latest`) and below in `on_subscribers_unknown` (the others).

use std::sync::Arc;

use crate::dispatcher::Dispatcher;
use crate::dispatcher::prefixes::{Prefixes, Released};
use crate::dispatcher::subscribers::Routed;
use crate::ground::asking::Asked;
use crate::ground::journeys::Named;
use crate::ground::publishing::{Published, Publisher};
use crate::ground::{Ground, Todo};
use crate::kv::Request as KvRequest;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::wire::canary::is_canary;
use crate::wire::connection_id::NodeId;
use crate::wire::event::{Class, Draft, LIKES, RULES, VIEWERS};
use crate::wire::frame::{Event, Frame};
use crate::wire::hops::Checkpoint;
use crate::wire::http::HttpError;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

impl Dispatcher {
    /// Takes an event: to the nodes that want its topic, or nowhere; by way of the key-value store where its class asks for
    /// that.
    pub(crate) fn publish(
        &mut self,
        ground: &mut Ground,
        draft: &Draft<'_>,
        id: &str,
        publisher: Publisher,
    ) -> Result<Published, HttpError> {
        let info = ground.live.types.get(&draft.kind);
        let node = Arc::clone(&ground.node);
        // Totals are by data center, whatever name a backend of it goes by.
        let key = if draft.kind == LIKES { Some(&*node.dc) } else { draft.key.as_deref() };
        ground.counters().events_in[info.class as usize].add(u64::from(!is_canary(&draft.topic)));
        let hops = ground.begin_journey(draft, id, info.class).map(|mut hops| {
            let named = Named::Names { topic: &draft.topic, kind: &draft.kind, id };
            ground.note(&mut hops, Checkpoint::Dispatched, info.class, named);
            Arc::new(hops)
        });
        let event = Event {
            id,
            topic: &draft.topic,
            kind: &draft.kind,
            key,
            at: ground.clock.unix_ms,
            data: draft.data,
            class: info.class,
            ttl_ms: info.ttl_ms,
            place: None,
            version: Version { number: draft.version.filter(|_| info.class.adds_up()).unwrap_or(0), ..Version::NONE },
            hops: hops.as_ref(),
        };
        let encode = || match draft.count {
            1 => Arc::new(Frame::encode(&event)),
            count => Arc::new(Frame::encode(&event)).recounted(count.into()),
        };
        match info.class {
            Class::Every => self.append(ground, &event, draft.always, publisher),
            Class::Latest => {
                match draft.version {
                    Some(version) if event.kind == "presence" && self.has_peers() => {
                        self.tell_presence(ground, &event, version)
                    }
                    // Each data center's viewers are told by peers themselves, and its rules are those of its database.
                    version => {
                        let version = Version { number: version.unwrap_or(0), dc: &node.dc };
                        self.version(ground, &Event { version, ..event }, !matches!(event.kind, VIEWERS | RULES))?;
                    }
                }
                Ok(Published::Taken)
            }
            Class::Sum | Class::Ephemeral if self.has_peers() => {
                let frame = encode();
                // Once it is surely taken: who is refused tries again.
                self.route_frame(ground, &frame)?;
                self.broadcast(ground, &frame);
                Ok(Published::Taken)
            }
            Class::Sum | Class::Ephemeral => self.route_made(ground, &draft.topic, encode).map(|()| Published::Taken),
        }
    }

    /// Sends an event to the nodes that want its topic, once they are known.
    pub(crate) fn route(&mut self, ground: &mut Ground, event: &Event<'_>) -> Result<(), HttpError> {
        self.route_made(ground, event.topic, || Arc::new(Frame::encode(event)))
    }

    /// The same for one that is encoded already.
    pub(crate) fn route_frame(&mut self, ground: &mut Ground, frame: &Arc<Frame>) -> Result<(), HttpError> {
        self.route_made(ground, frame.topic(), || Arc::clone(frame))
    }

    /// An event that nobody wants is not encoded.
    fn route_made(
        &mut self,
        ground: &mut Ground,
        topic: &str,
        make: impl FnOnce() -> Arc<Frame>,
    ) -> Result<(), HttpError> {
        match self.subscribers.route(topic, ground.clock.instant) {
            Routed::To { nodes, refresh } => {
                if refresh {
                    self.look_up(ground, Topic::parse(topic).expect("the topic was checked"));
                }
                if let Some(any) = self.prefixes.refresh(ground.clock.instant) {
                    self.look_up(ground, any);
                }
                if !self.prefixes.are_none(ground.clock.instant) {
                    return self.route_by_prefix(ground, topic, nodes, make);
                }
                if nodes.is_empty() {
                    ground.counters().unwanted.add(1);
                } else {
                    self.dispatch(ground, &nodes, &make());
                }
                Ok(())
            }
            Routed::Unknown => {
                let topic = Topic::parse(topic).expect("the topic was checked");
                match self.subscribers.hold(&topic, make(), &ground.account) {
                    Ok(ask) => {
                        if ask {
                            self.look_up(ground, topic);
                        }
                        if let Some(any) = self.prefixes.refresh(ground.clock.instant) {
                            self.look_up(ground, any);
                        }
                        Ok(())
                    }
                    Err(full) => Err(HttpError::unavailable(full.to_string())),
                }
            }
        }
    }

    /// The same where some node may want a prefix: `own` are those that want the topic by its name.
    fn route_by_prefix(
        &mut self,
        ground: &mut Ground,
        topic: &str,
        own: Arc<[NodeId]>,
        make: impl FnOnce() -> Arc<Frame>,
    ) -> Result<(), HttpError> {
        let mut asks = Vec::new();
        let nodes = self.prefixes.with(topic, &own, ground.clock.instant, &mut asks);
        asks.into_iter().for_each(|key| self.look_up(ground, key));
        match nodes {
            Some(nodes) if nodes.is_empty() => ground.counters().unwanted.add(1),
            Some(nodes) => self.dispatch(ground, &nodes, &make()),
            None => {
                let topic = Topic::parse(topic).expect("the topic was checked");
                self.prefixes
                    .hold(&topic, own, make(), &ground.account)
                    .map_err(|full| HttpError::unavailable(full.to_string()))?;
            }
        }
        Ok(())
    }

    /// The same of an event that was taken already.
    fn pass_on(&mut self, ground: &mut Ground, topic: &Topic, own: &Arc<[NodeId]>, frame: &Arc<Frame>) {
        if self.prefixes.are_none(ground.clock.instant) {
            return self.dispatch(ground, own, frame);
        }
        if self.route_by_prefix(ground, topic.as_str(), Arc::clone(own), || Arc::clone(frame)).is_err() {
            // Who wants it by a prefix finds it in history, if it is there.
            ground.happened(What::DroppedUnrouted, u64::from(frame.count()), Subject::frame(frame));
            self.dispatch(ground, own, frame);
        }
    }

    /// More is known of prefixes.
    fn go_on_by_prefix(&mut self, ground: &mut Ground, released: Released) {
        for (nodes, frame) in released.events {
            if nodes.is_empty() {
                ground.counters().unwanted.add(1);
            }
            self.dispatch(ground, &nodes, &frame);
        }
        released.asks.into_iter().for_each(|key| self.look_up(ground, key));
    }

    fn look_up(&mut self, ground: &mut Ground, topic: Topic) {
        ground.counters().lookups.add(1);
        ground.ask(KvRequest::Subscribers(topic.clone()), Asked::Subscribers(topic));
    }

    /// The key-value store said who wants a topic: what waited for that goes there.
    pub(crate) fn on_subscribers(&mut self, ground: &mut Ground, topic: &Topic, nodes: Arc<[NodeId]>) {
        if Prefixes::is_of(topic) {
            let released = self.prefixes.learn(topic, nodes, ground.clock.instant);
            return self.go_on_by_prefix(ground, released);
        }
        for frame in self.subscribers.learn(topic, Arc::clone(&nodes), ground.clock.instant) {
            if nodes.is_empty() && self.prefixes.are_none(ground.clock.instant) {
                ground.counters().unwanted.add(1);
            } else {
                self.pass_on(ground, topic, &nodes, &frame);
            }
        }
    }

    /// It cannot say: what waited goes where the topic was wanted last, if that is known.
    pub(crate) fn on_subscribers_unknown(&mut self, ground: &mut Ground, topic: &Topic) {
        if Prefixes::is_of(topic) {
            let released = self.prefixes.fall_back(topic, ground.clock.instant);
            return self.go_on_by_prefix(ground, released);
        }
        let (nodes, held) = self.subscribers.fall_back(topic, ground.clock.instant);
        for frame in held {
            match &nodes {
                Some(nodes) => self.pass_on(ground, topic, nodes, &frame),
                None if !self.prefixes.are_none(ground.clock.instant) => {
                    let none: Arc<[NodeId]> = Arc::new([]);
                    self.pass_on(ground, topic, &none, &frame);
                }
                None => ground.happened(What::DroppedUnrouted, u64::from(frame.count()), Subject::frame(&frame)),
            }
        }
    }

    /// Sends an event to the nodes that want it.
    fn dispatch(&mut self, ground: &mut Ground, nodes: &[NodeId], frame: &Arc<Frame>) {
        for &node in nodes {
            if node == ground.node.id {
                ground.todo.push_back(Todo::Arrived(Arc::clone(frame)));
            } else {
                self.send_to_node(ground, node, frame);
            }
        }
    }
}
