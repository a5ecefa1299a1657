//! Questions to the key-value store, and what follows from the answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::appending::Appending;
use super::message::Message;
use super::shard::Shard;
use crate::dispatch::kv::{Alive, Answer, BUCKETS, Heard, Heartbeat, Notice, Request, Unavailable, bucket};
use crate::limits::NODE_HEARTBEAT;
use crate::wire::topic::Topic;

/// What a question was asked for.
#[derive(Debug)]
pub enum Asked {
    /// Events wait for a topic's subscribers.
    Subscribers(Topic),
    /// A batch of registrations of this bucket.
    Apply(u8),
    /// This node lives.
    Heartbeat,
    /// Where the histories of new topics end.
    Noted(Vec<Topic>),
    /// The newest values of a new topic.
    Newest(Topic),
    /// Whether histories went on without this node.
    Ends(Vec<Topic>),
    /// A part of a topic's history.
    Page(Topic),
    /// An event is on its way into history.
    Append(Appending),
    /// A value of class `latest` waits for its version: the event as JSON.
    Versioned(Arc<str>),
}

impl Shard {
    /// Asks the key-value store, and hears what it can say at once.
    pub(super) fn ask(&mut self, request: Request, asked: Asked) {
        match self.submit(request) {
            Ok(result) => self.on_answer(asked, result),
            Err(ticket) => {
                self.asked.insert(ticket, asked);
            }
        }
    }

    /// Hands a question over. Gives the answer, or else the ticket under which it will come.
    pub(super) fn submit(&mut self, request: Request) -> Result<Result<Answer, Unavailable>, u64> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut notices = Vec::new();
        match self.node.kv.submit(self.id, ticket, request, &mut notices) {
            Some(result) => {
                // Every cache is told before who asked is.
                for notice in notices {
                    for shard in 0..self.node.shards() {
                        if shard != self.id {
                            self.send(shard, Message::Kv(Heard::Notice(notice.clone())));
                        }
                    }
                    self.on_notice(notice);
                }
                self.counters().kv_answer.observe(0);
                Ok(result)
            }
            None => {
                self.asked_at.insert(ticket, self.clock.instant);
                Err(ticket)
            }
        }
    }

    /// The store's thread has something to say.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Answer { ticket, result } => {
                if let Some(asked_at) = self.asked_at.remove(&ticket) {
                    let took = self.clock.instant.saturating_duration_since(asked_at);
                    self.counters().kv_answer.observe(took.as_micros() as u64);
                }
                if let Some(asked) = self.asked.remove(&ticket) {
                    self.on_answer(asked, result);
                }
            }
            Heard::Notice(notice) => self.on_notice(notice),
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Invalidated(topic) => self.dispatcher.forget(&topic),
            Notice::InvalidatedAll => self.dispatcher.forget_all(),
        }
    }

    fn on_answer(&mut self, asked: Asked, result: Result<Answer, Unavailable>) {
        match (asked, result) {
            (Asked::Subscribers(topic), Ok(Answer::Subscribers(nodes))) => self.on_subscribers(&topic, nodes),
            (Asked::Subscribers(topic), Err(_)) => self.on_subscribers_unknown(&topic),
            (Asked::Apply(bucket), Ok(Answer::Applied)) => self.on_applied(bucket),
            (Asked::Apply(bucket), Err(_)) => self.registrar.failed(bucket, self.clock.instant),
            (Asked::Heartbeat, Ok(Answer::Alive(alive))) => self.on_alive(alive),
            (Asked::Heartbeat, Err(_)) => {}
            (Asked::Noted(topics), Ok(Answer::Ends(ends))) => self.on_noted(topics, Ok(ends)),
            (Asked::Noted(topics), Err(error)) => self.on_noted(topics, Err(error)),
            (Asked::Newest(topic), Ok(Answer::Latest(values))) => self.on_newest(topic, Ok(values)),
            (Asked::Newest(topic), Err(error)) => self.on_newest(topic, Err(error)),
            (Asked::Ends(topics), Ok(Answer::Ends(ends))) => self.on_ends(topics, Ok(ends)),
            (Asked::Ends(topics), Err(error)) => self.on_ends(topics, Err(error)),
            (Asked::Page(topic), Ok(Answer::Page(page))) => self.on_page(topic, Ok(page)),
            (Asked::Page(topic), Err(error)) => self.on_page(topic, Err(error)),
            (Asked::Append(appending), result) => self.on_appended(appending, result),
            (Asked::Versioned(json), result) => {
                if self.on_versioned(&json, result).is_err() {
                    self.counters().dropped_backlog.add(1);
                }
            }
            (asked, Ok(answer)) => unreachable!("a store answers what it was asked: {asked:?}, {answer:?}"),
        }
    }

    /// Sends the registrations that are due.
    pub(super) fn send_registrations(&mut self) {
        self.begin_homes();
        while self.registrar.is_due() {
            let registry = &self.registry;
            let batches = self.registrar.batches(self.node.id, self.clock.instant, |number| {
                registry.topics().filter(|topic| bucket(topic.as_str()) == number).cloned().collect()
            });
            if batches.is_empty() {
                return;
            }
            for batch in batches {
                let number = batch.bucket;
                self.ask(Request::Apply(batch), Asked::Apply(number));
            }
            self.open_local();
        }
    }

    fn on_applied(&mut self, number: u8) {
        for (topic, wanted) in self.registrar.applied(number) {
            if wanted {
                self.on_registered(&topic);
            }
        }
    }

    /// Once a tick: what the store should hold of this shard's buckets, for the heartbeat; and the heartbeat itself.
    pub(super) fn heartbeat(&mut self) {
        let Some(info) = &self.node.info else { return };
        for number in (self.id..BUCKETS).step_by(self.node.shards()) {
            let digest = self.registrar.digest(number as u8);
            self.node.digests[number].store(digest.unwrap_or(0), Ordering::Relaxed);
            let bit = 1u64 << number;
            match digest {
                Some(_) => self.node.settled.fetch_or(bit, Ordering::Release),
                None => self.node.settled.fetch_and(!bit, Ordering::Release),
            };
        }
        if self.id != 0 || self.clock.instant < self.next_heartbeat {
            return;
        }
        self.next_heartbeat = self.clock.instant + NODE_HEARTBEAT;
        let settled = self.node.settled.load(Ordering::Acquire);
        let digests = (0..BUCKETS)
            .filter(|number| self.node.roles.frontend && settled >> number & 1 == 1)
            .map(|number| (number as u8, self.node.digests[number].load(Ordering::Relaxed)))
            .collect();
        let heartbeat = Heartbeat { node: info.clone(), digests };
        self.ask(Request::Heartbeat(heartbeat), Asked::Heartbeat);
    }

    fn on_alive(&mut self, alive: Alive) {
        let shards = self.node.shards();
        let nodes = Arc::new(alive.nodes);
        for shard in 0..shards {
            let differing = alive.differing.iter().copied().filter(|bucket| usize::from(*bucket) % shards == shard);
            let differing: Vec<u8> = differing.collect();
            self.send(shard, Message::Alive { nodes: Arc::clone(&nodes), differing });
        }
    }
}
