//! The dispatcher's requests: an event to a topic, or a line an event.

use super::own::Own;
use crate::runtime::planted::{Mistake, planted};
use crate::server::dispatcher::Dispatcher;
use crate::server::ground::{Ground, Todo};
use crate::server::services::Services;
use std::borrow::Cow;
use std::sync::Arc;

use super::access::{Access, Allowed};
use super::appending::{Published, Publisher};
use super::asking::Asked;
use super::audience::VIEWERS;
use super::lines::Taken;
use super::once;
use super::resources::Resource;
use super::routes::Handled;
use super::rules::RULES;
use super::slots::Conn;
use super::totals::LIKES;
use crate::dispatch::core::Routed;
use crate::dispatch::kv::Request as KvRequest;
use crate::wire::connection_id::NodeId;
use crate::wire::event::{Class, Draft};
use crate::wire::frame::{Event, Frame};
use crate::wire::hops::{Checkpoint, Parent};
use crate::wire::http::HttpError;
use crate::wire::json::push_string;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Written};
use crate::wire::status::Status;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// The answer to whoever published an event: its id, as JSON.
pub(super) fn id_json(id: &str) -> String {
    let mut answer = Vec::with_capacity(id.len() + 16);
    answer.extend_from_slice(b"{\"id\":");
    push_string(&mut answer, id);
    answer.push(b'}');
    String::from_utf8(answer).expect("JSON text is UTF-8")
}

impl Services {
    /// `POST /v1/topics/{topic}/events`
    pub(super) fn publish_one(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        request: &Request<'_>,
        topic: &str,
        access: &Access,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let topic = ground.path_topic(topic)?;
        let draft = Draft::parse(body, Some(&topic)).map_err(|error| match error {
            crate::wire::event::EventError::TooLarge(_) => HttpError::new(Status::ContentTooLarge, error.to_string()),
            error => HttpError::bad(error.to_string()),
        })?;
        let mut draft = ground.allow(access, draft)?;
        draft.of_trace(request.traceparent.and_then(Parent::parse));
        if let Some(key) = once::key(request)? {
            return self.dispatcher()?.publish_once(ground, conn, to, key, access, &draft, body);
        }
        let (published, id) = self.publish_named(ground, &draft, Publisher::Request(conn));
        let handled = published.map(|published| match published {
            Published::Taken => Handled::Answered(ground.answer_id(to, draft.id.as_deref().unwrap_or(&id))),
            Published::Repeated(id) => Handled::Answered(ground.answer_id(to, &id)),
            Published::Pending => Handled::Later,
        });
        ground.new_id = id;
        handled
    }

    /// Publishes under the id that the event came with, or a new one. Gives back the buffer with the new one, which is
    /// the shard's: an event costs no allocation until somebody wants it.
    pub(super) fn publish_named(
        &mut self,
        ground: &mut Ground,
        draft: &Allowed<'_>,
        publisher: Publisher,
    ) -> (Result<Published, HttpError>, String) {
        let mut new_id = std::mem::take(&mut ground.new_id);
        new_id.clear();
        if draft.id.is_none() {
            ground.new_event_id(&mut new_id);
        }
        let id = draft.id.as_deref().unwrap_or(&new_id);
        (self.publish_as(ground, draft, id, publisher), new_id)
    }

    fn publish_as(
        &mut self,
        ground: &mut Ground,
        draft: &Draft<'_>,
        id: &str,
        publisher: Publisher,
    ) -> Result<Published, HttpError> {
        match &mut self.dispatcher {
            Some(dispatcher) => dispatcher.publish(ground, draft, id, publisher),
            None => ground.hand_over(draft, id, publisher),
        }
    }

    /// Publishes an event of this node's own.
    pub(super) fn publish_own(&mut self, ground: &mut Ground, own: Own) {
        let draft = Allowed::own(own.draft());
        let (published, id) = self.publish_named(ground, &draft, own.publisher.clone());
        ground.new_id = id;
        match (own.publisher, published) {
            (Publisher::Post(..), Ok(Published::Pending)) if !planted(Mistake::OutboxMarkedEarly) => {}
            (Publisher::Post(topic, record), published) => {
                ground.todo.push_back(Todo::Told(topic, record, published.is_ok()));
            }
            (_, Ok(_)) => {}
            // What it tells is stored, or soon out of date: what is told next heals the displays.
            (_, Err(_)) => ground.counters().dropped_backlog.add(1),
        }
    }

    /// One line of `POST /v1/events`.
    pub(super) fn publish_text(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: u64,
        (conn, number): (Conn, u64),
        line: &[u8],
    ) -> Result<Taken, String> {
        let (draft, more) = Draft::parse_line(line).map_err(|error| error.to_string())?;
        if !more.is_empty() {
            return self.publish_to_many(ground, access, publisher, Publisher::Line(conn, number), draft, more);
        }
        let allowed = ground.require_still(access).and_then(|()| ground.allow(access, draft));
        let draft = allowed
            .and_then(|draft| ground.admit_event(publisher).map(|()| draft))
            .map_err(|error| error.detail.into_owned())?;
        let (published, id) = self.publish_named(ground, &draft, Publisher::Line(conn, number));
        ground.new_id = id;
        match published {
            Ok(Published::Taken | Published::Repeated(_)) => Ok(Taken::Now),
            Ok(Published::Pending) => Ok(Taken::Later { events: 1, failed: None }),
            Err(error) => Err(error.detail.into_owned()),
        }
    }

    /// An event for several topics, under one id. It goes to none of them where it may not go to one; where one of them
    /// cannot take it now, those before it have it, and viewers know by the id what is repeated.
    fn publish_to_many<'a>(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: u64,
        line: Publisher,
        draft: Draft<'a>,
        more: Vec<Cow<'a, str>>,
    ) -> Result<Taken, String> {
        let mut drafts: Vec<Draft<'a>> = more.into_iter().map(|topic| Draft { topic, ..draft.clone() }).collect();
        drafts.insert(0, draft);
        let allowed = ground
            .require_still(access)
            .and_then(|()| drafts.into_iter().map(|draft| ground.allow(access, draft)).collect());
        let drafts: Vec<Allowed<'_>> = allowed.map_err(|error: HttpError| error.detail.into_owned())?;
        for _ in &drafts {
            ground.admit_event(publisher).map_err(|error| error.detail.into_owned())?;
        }
        let mut id = String::new();
        match &drafts[0].id {
            Some(given) => id.push_str(given),
            None => ground.new_event_id(&mut id),
        }
        let (mut events, mut failed) = (0, None);
        for draft in &drafts {
            match self.publish_as(ground, draft, &id, line.clone()) {
                Ok(Published::Pending) => events += 1,
                Ok(Published::Taken | Published::Repeated(_)) => {}
                Err(error) => {
                    failed = Some(error.detail.into_owned());
                    break;
                }
            }
        }
        match failed {
            Some(failed) if events == 0 => Err(failed),
            None if events == 0 => Ok(Taken::Now),
            // The line is answered with those of its events that are on their way.
            failed => Ok(Taken::Later { events, failed }),
        }
    }
}

impl Ground {
    /// What a body of lines may do, which is refused before it is read if it may do nothing.
    pub(super) fn lines_access(
        &mut self,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
    ) -> Result<Access, HttpError> {
        if internal {
            self.check_internal_page(request)?;
            self.check_secret(request)?;
        }
        let query = Resource::Events.query(self.node.roles, internal, request)?;
        if request.idempotency_key.is_some() {
            return Err(HttpError::bad("a body of lines takes no Idempotency-Key; give each line an \"id\""));
        }
        if internal {
            return Ok(Access::Node);
        }
        self.check_page(conn, request, Resource::Events)?;
        self.access(request, query)
    }

    /// Answers whoever published an event with its id.
    pub(super) fn answer_id(&mut self, to: AnswerTo, id: &str) -> Written {
        self.answers().json(to, Status::Accepted, id_json(id).as_bytes())
    }

    /// A new identity for an event: the node's name, the shard, and a number.
    pub(super) fn new_event_id(&mut self, id: &mut String) {
        self.event_number += 1;
        // By hand: formatting machinery would cost more than the rest of a publish that nobody wants.
        id.push_str(&self.node.name);
        id.push('-');
        id.push_str(itoa::Buffer::new().format(self.id));
        id.push('-');
        id.push_str(itoa::Buffer::new().format(self.event_number));
    }
}

impl Dispatcher {
    /// Takes an event: to the nodes that want its topic, or nowhere; by way of the key-value store where its class asks for
    /// that.
    pub(super) fn publish(
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
        ground.counters().events_in[info.class as usize].add(1);
        let hops = ground.begin_journey(draft, id, info.class).map(|mut hops| {
            ground.note(&mut hops, Checkpoint::Dispatched, info.class);
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
            version: Version {
                number: draft.version.filter(|_| info.class == Class::Sum).unwrap_or(0),
                ..Version::NONE
            },
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
    pub(super) fn route(&mut self, ground: &mut Ground, event: &Event<'_>) -> Result<(), HttpError> {
        self.route_made(ground, event.topic, || Arc::new(Frame::encode(event)))
    }

    /// The same for one that is encoded already.
    pub(super) fn route_frame(&mut self, ground: &mut Ground, frame: &Arc<Frame>) -> Result<(), HttpError> {
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
                if nodes.is_empty() {
                    ground.counters().unwanted.add(1);
                } else {
                    self.dispatch(ground, &nodes, &make());
                }
                if refresh {
                    self.look_up(ground, Topic::parse(topic).expect("the topic was checked"));
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
                        Ok(())
                    }
                    Err(full) => Err(HttpError::unavailable(full.to_string())),
                }
            }
        }
    }

    fn look_up(&mut self, ground: &mut Ground, topic: Topic) {
        ground.counters().lookups.add(1);
        ground.ask(KvRequest::Subscribers(topic.clone()), Asked::Subscribers(topic));
    }

    /// The key-value store said who wants a topic: what waited for that goes there.
    pub(super) fn on_subscribers(&mut self, ground: &mut Ground, topic: &Topic, nodes: Arc<[NodeId]>) {
        for frame in self.subscribers.learn(topic, Arc::clone(&nodes), ground.clock.instant) {
            if nodes.is_empty() {
                ground.counters().unwanted.add(1);
            } else {
                self.dispatch(ground, &nodes, &frame);
            }
        }
    }

    /// It cannot say: what waited goes where the topic was wanted last, if that is known.
    pub(super) fn on_subscribers_unknown(&mut self, ground: &mut Ground, topic: &Topic) {
        let (nodes, held) = self.subscribers.fall_back(topic, ground.clock.instant);
        for frame in held {
            match &nodes {
                Some(nodes) => self.dispatch(ground, nodes, &frame),
                None => ground.counters().dropped_unrouted.add(u64::from(frame.count())),
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
