//! Questions to the key-value store, and what follows from the answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::message::Message;
use super::shard::Shard;
use crate::dispatch::kv::{Alive, Answer, BUCKETS, Heard, Heartbeat, NodeInfo, Notice, Request, Unavailable, bucket};
use crate::limits::{HEARTBEAT_RETRY, NODE_HEARTBEAT};
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
    /// This node ends.
    Leave,
    /// Another node asked, as one question of several.
    Relay {
        /// Which request.
        id: u64,
        /// Which of its questions.
        at: usize,
    },
}

impl Shard {
    /// Asks the key-value store, and hears what it can say at once.
    pub(super) fn ask(&mut self, request: Request, asked: Asked) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let Some(kv) = &self.node.kv else {
            self.ask_dispatcher(ticket, request);
            self.asked.insert(ticket, asked);
            return;
        };
        let mut notices = Vec::new();
        match kv.submit(self.id, ticket, request, &mut notices) {
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
                self.on_answer(asked, result);
            }
            None => {
                self.asked.insert(ticket, asked);
            }
        }
    }

    /// The store's thread has something to say.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Answer { ticket, result } => {
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

    pub(super) fn on_answer(&mut self, asked: Asked, result: Result<Answer, Unavailable>) {
        match (asked, result) {
            (Asked::Subscribers(topic), Ok(Answer::Subscribers(nodes))) => self.on_subscribers(&topic, nodes),
            (Asked::Subscribers(topic), Err(_)) => self.on_subscribers_unknown(&topic),
            (Asked::Apply(bucket), Ok(Answer::Applied)) => self.on_applied(bucket),
            (Asked::Apply(bucket), Err(_)) => self.registrar.failed(bucket, self.clock.instant),
            (Asked::Heartbeat, Ok(Answer::Alive(alive))) => self.on_alive(alive),
            (Asked::Heartbeat, Err(error)) => self.on_unheard(error),
            (Asked::Leave, _) => self.left = true,
            (Asked::Relay { id, at }, result) => self.on_relayed(id, at, result),
            (asked, Ok(answer)) => {
                // A dispatcher that answers something else is as good as none.
                error!(?asked, ?answer, "an answer to another question");
                self.on_answer(asked, Err(Unavailable("the answer is one to another question".to_owned())));
            }
        }
    }

    /// Sends the registrations that are due.
    pub(super) fn send_registrations(&mut self) {
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
                self.registry.registered(&topic, self.clock.instant, &mut self.effects);
            }
        }
        self.apply_effects();
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
        self.node.heard_ms.store(self.clock.unix_ms, Ordering::Relaxed);
        self.tell_alive(alive.nodes, &alive.differing);
    }

    /// A heartbeat was not answered: the next one comes before the lease lapses.
    fn on_unheard(&mut self, error: Unavailable) {
        self.next_heartbeat = self.next_heartbeat.min(self.clock.instant + HEARTBEAT_RETRY);
        if let Ok(mut trouble) = self.node.trouble.lock() {
            *trouble = Some(error.0);
        }
    }

    /// Tells every shard who lives, and which of its buckets the store holds wrong.
    pub(super) fn tell_alive(&mut self, mut nodes: Vec<NodeInfo>, differing: &[u8]) {
        let shards = self.node.shards();
        nodes.sort_unstable_by_key(|node| node.id);
        let nodes = Arc::new(nodes);
        if let Ok(mut known) = self.node.nodes.lock() {
            *known = Arc::clone(&nodes);
        }
        for shard in 0..shards {
            let differing = differing.iter().copied().filter(|bucket| usize::from(*bucket) % shards == shard);
            let differing: Vec<u8> = differing.collect();
            self.send(shard, Message::Alive { nodes: Arc::clone(&nodes), differing });
        }
    }
}
