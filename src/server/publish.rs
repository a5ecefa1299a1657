//! The dispatcher's requests: an event to a topic, or a line an event.

use std::sync::Arc;

use super::access::Access;
use super::message::Message;
use super::routes::Handled;
use super::shard::Shard;
use crate::dispatch::core::Routed;
use crate::dispatch::kv::{Answer, Request as KvRequest};
use crate::wire::connection_id::NodeId;
use crate::wire::event::Draft;
use crate::wire::frame::{Event, Frame};
use crate::wire::http::HttpError;
use crate::wire::json::push_string;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::topic::Topic;

impl Shard {
    /// `POST /v1/topics/{topic}/events`
    pub(super) fn publish_one(
        &mut self,
        topic: &str,
        access: &Access,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let topic = self.path_topic(topic)?;
        access.require_publish(&topic)?;
        let draft = Draft::parse(body, Some(&topic)).map_err(|error| match error {
            crate::wire::event::EventError::TooLarge(_) => HttpError::new(413, error.to_string()),
            error => HttpError::bad(error.to_string()),
        })?;
        access.require_type(&draft.kind)?;
        let (published, id) = self.publish_named(&draft);
        if published.is_ok() {
            let mut answer = std::mem::take(&mut self.scratch);
            answer.clear();
            answer.extend_from_slice(b"{\"id\":");
            push_string(&mut answer, draft.id.as_deref().unwrap_or(&id));
            answer.push(b'}');
            self.answers().json(to, 202, &answer);
            self.scratch = answer;
        }
        self.new_id = id;
        published.map(|()| Handled::Answered)
    }

    /// Publishes under the id that the event came with, or a new one. Gives back the buffer with the new one, which is
    /// the shard's: an event costs no allocation until somebody wants it.
    pub(super) fn publish_named(&mut self, draft: &Draft<'_>) -> (Result<(), HttpError>, String) {
        let mut new_id = std::mem::take(&mut self.new_id);
        new_id.clear();
        if draft.id.is_none() {
            self.new_event_id(&mut new_id);
        }
        let published = self.publish(draft, draft.id.as_deref().unwrap_or(&new_id));
        (published, new_id)
    }

    /// What a body of lines may do, which is refused before it is read if it may do nothing.
    pub(super) fn lines_access(&self, request: &Request<'_>, internal: bool) -> Result<Access, HttpError> {
        if internal { self.check_secret(request).map(|()| Access::Open) } else { self.access(request) }
    }

    /// One line of `POST /v1/events`.
    pub(super) fn publish_line(&mut self, access: &Access, line: &[u8]) -> Result<(), String> {
        let draft = Draft::parse(line, None).map_err(|error| error.to_string())?;
        let allowed = access
            .require_unexpired(self.clock.unix_ms)
            .and_then(|()| access.require_publish(&draft.topic))
            .and_then(|()| access.require_type(&draft.kind));
        allowed.map_err(|error| error.detail.into_owned())?;
        let (published, id) = self.publish_named(&draft);
        self.new_id = id;
        published.map_err(|error| error.detail.into_owned())
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

    /// Takes an event: to the nodes that want its topic, or nowhere.
    pub(super) fn publish(&mut self, draft: &Draft<'_>, id: &str) -> Result<(), HttpError> {
        let info = self.node.types.get(&draft.kind);
        self.counters().events_in[info.class as usize].add(1);
        let encode = |at| {
            Arc::new(Frame::encode(&Event {
                id,
                topic: &draft.topic,
                kind: &draft.kind,
                key: draft.key.as_deref(),
                at,
                data: draft.data,
                class: info.class,
                ttl_ms: info.ttl_ms,
            }))
        };
        match self.dispatcher.route(&draft.topic, self.clock.instant) {
            Routed::To { nodes, refresh } => {
                if nodes.is_empty() {
                    self.counters().unwanted.add(1);
                } else {
                    self.dispatch(&nodes, &encode(self.clock.unix_ms));
                }
                if refresh {
                    self.look_up(Topic::parse(&draft.topic).expect("the topic was checked"));
                }
                Ok(())
            }
            Routed::Unknown => {
                let topic = Topic::parse(&draft.topic).expect("the topic was checked");
                match self.dispatcher.hold(&topic, encode(self.clock.unix_ms)) {
                    Ok(ask) => {
                        if ask {
                            self.look_up(topic);
                        }
                        Ok(())
                    }
                    Err(full) => Err(HttpError::unavailable(full.to_string())),
                }
            }
        }
    }

    fn look_up(&mut self, topic: Topic) {
        self.counters().lookups.add(1);
        self.ask(KvRequest::Subscribers(topic));
    }

    /// Asks the key-value store, and hears what it can say at once.
    fn ask(&mut self, request: KvRequest) {
        let mut answers = Vec::new();
        self.node.kv.submit(self.id, request, &mut answers);
        for (shard, answer) in answers {
            match answer {
                // At once, so that events which waited for it are on their way before their publisher is answered:
                // what it publishes next, by any core, comes behind them.
                Answer::Subscribers(..) if shard == self.id => self.on_kv(answer),
                _ => self.send(shard, Message::Kv(answer)),
            }
        }
    }

    /// What the key-value store said.
    pub(super) fn on_kv(&mut self, answer: Answer) {
        match answer {
            Answer::Subscribers(topic, nodes) => {
                for frame in self.dispatcher.learn(&topic, Arc::clone(&nodes), self.clock.instant) {
                    if nodes.is_empty() {
                        self.counters().unwanted.add(1);
                    } else {
                        self.dispatch(&nodes, &frame);
                    }
                }
            }
            Answer::Invalidated(topic) => self.dispatcher.forget(&topic),
            Answer::Applied(changes) => {
                for (topic, wanted) in changes {
                    if wanted {
                        self.registry.registered(&topic, self.clock.instant, &mut self.effects);
                    }
                }
                self.apply_effects();
            }
        }
    }

    /// Sends an event to the nodes that want it.
    fn dispatch(&mut self, nodes: &[NodeId], frame: &Arc<Frame>) {
        for &node in nodes {
            // The embedded store knows no other node than this one.
            if node == self.node.id {
                self.ingress(frame);
            }
        }
    }

    /// Sends the registrations that this turn brought, as one batch.
    pub(super) fn send_registrations(&mut self) {
        if self.registrations.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.registrations);
        self.ask(KvRequest::Apply { node: self.node.id, changes });
        self.open_local();
    }
}
