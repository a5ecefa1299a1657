//! Questions to the key-value store, and what follows from the answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::appending::{Appending, Versioning};
use super::cluster::Trouble;
use super::message::Message;
use super::once::Claiming;
use super::past::Past;
use super::peers::incoming::Arriving;
use super::peers::queue::LeftOut;
use super::shard::Shard;
use super::slots::Conn;
use crate::backend::store::Store;
use crate::dispatch::kv::{Alive, Answer, BUCKETS, Heard, Heartbeat, NodeInfo, Notice, Request, Unavailable};
use crate::limits::{ASKED_BYTES, HEARTBEAT_RETRY, NODE_HEARTBEAT};
use crate::observe::trouble::Reason;
use crate::runtime::account::{Held, Reservation, Use};
use crate::wire::http::HttpError;
use crate::wire::position::{Reach, Shown};
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
    /// The newest values of a topic that is new, or lacks some.
    Newest(Topic),
    /// Whether histories went on without this node, and what viewers had been given of each.
    Ends(u64, Vec<(Topic, Shown)>),
    /// Whether topics have newer values than these versions.
    Newer(Vec<(Topic, u64)>),
    /// What is to end or to change on all nodes.
    Control,
    /// A part of a topic's history.
    Page(Topic),
    /// The same, for who lists it.
    Past(Box<Past>),
    /// This node's viewers.
    SetCounts,
    /// All nodes' viewers.
    Counts,
    /// Signs of life of these members.
    Beat(Vec<String>),
    /// Members who went offline.
    Due,
    /// What viewers here should have been told of these members.
    Compared(Vec<String>),
    /// What was told need not be told again.
    Settled,
    /// A request wants to know of these members.
    Presence(Conn, Vec<String>),
    /// An event is on its way into history.
    Append(Appending),
    /// An event of another class is published if its key is new.
    Claimed(Box<Claiming>),
    /// Its key is free again.
    Released,
    /// A value of class `latest` waits for its version: the event as JSON.
    Versioned(Versioning),
    /// All peers' viewers.
    PeerViewers,
    /// What waits for a peer.
    Queue {
        /// The peer.
        peer: usize,
        /// The bucket.
        bucket: u8,
    },
    /// Events of a peer are on their way into history.
    Taken {
        /// The request that brought them.
        conn: Conn,
        /// The peer.
        peer: usize,
        /// The events.
        events: Vec<Arriving>,
        /// Those of the page that do not go there.
        left_out: LeftOut,
    },
    /// A peer said that it lives, by this request.
    Hello(Conn),
    /// What was noted of a peer.
    PeerNoted,
    /// What holds of a member in all data centers, since it turned in one.
    Anywhere {
        /// The turn's event as JSON.
        event: Arc<str>,
        /// Its version there.
        version: u64,
    },
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

impl Asked {
    /// Bytes of the names that it holds.
    fn names(&self) -> usize {
        match self {
            Asked::Beat(members) | Asked::Compared(members) => members.iter().map(String::len).sum(),
            Asked::Anywhere { event, .. } => event.len(),
            _ => 0,
        }
    }
}

impl Shard {
    /// Asks the key-value store, and hears what it can say at once.
    pub(super) fn ask(&mut self, request: Request, asked: Asked) {
        match self.submit(request) {
            Ok(result) => self.on_answer(asked, result),
            Err(ticket) => {
                // These are of a node's own, and there are never more than of what they ask for.
                let mut held = self.account.open(Use::Questions);
                held.settle(ASKED_BYTES + asked.names());
                self.asked.insert(ticket, Held::new(asked, held));
            }
        }
    }

    /// Reserves what a question that somebody asked for takes until it is answered, of which `bytes` are its own.
    ///
    /// # Errors
    /// 503: there is no room.
    pub(super) fn reserve_question(&self, bytes: usize) -> Result<Reservation, HttpError> {
        let reserved = self.account.reserve(Use::Questions, ASKED_BYTES + bytes);
        reserved.map_err(|_| HttpError::unavailable("too much waits for the key-value store"))
    }

    /// Hands a question over. Gives the answer, or else the ticket under which it will come.
    pub(super) fn submit(&mut self, request: Request) -> Result<Result<Answer, Unavailable>, u64> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let Some(kv) = &self.node.kv else {
            self.ask_dispatcher(ticket, request);
            return Err(ticket);
        };
        let mut notices = Vec::new();
        let answered = kv.submit(self.id, ticket, request, &mut notices);
        // Every cache is told before who asked is, who may have to wait until what changed is kept.
        for notice in notices {
            for shard in 0..self.node.shards() {
                if shard != self.id {
                    self.send(shard, Message::Kv(Heard::Notice(notice.clone())));
                }
            }
            self.on_notice(notice);
        }
        match answered {
            Some(result) => {
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
                    self.on_answer(asked.release(), result);
                }
            }
            Heard::Notice(notice) => self.on_notice(notice),
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Invalidated(topic) => self.dispatcher.forget(&topic),
            Notice::InvalidatedAll => {
                self.dispatcher.forget_all();
                self.tally.doubt();
            }
            Notice::PeerViewers(said) => self.on_peer_viewers(&said),
            Notice::Queued(bucket) => self.on_queued(bucket),
            Notice::Counts(change) => self.on_node_counts(&change),
        }
    }

    pub(super) fn on_answer(&mut self, asked: Asked, result: Result<Answer, Unavailable>) {
        match (asked, result) {
            (Asked::Subscribers(topic), Ok(Answer::Subscribers(nodes))) => self.on_subscribers(&topic, nodes),
            (Asked::Subscribers(topic), Err(_)) => self.on_subscribers_unknown(&topic),
            (Asked::Apply(bucket), Ok(Answer::Applied)) => self.on_applied(bucket),
            (Asked::Apply(bucket), Err(_)) => self.registrar.failed(bucket, self.clock.instant),
            (Asked::Heartbeat, Ok(Answer::Alive(alive))) => self.on_alive(alive),
            (Asked::Noted(topics), Ok(Answer::Ends(ends))) => self.on_noted(topics, Ok(ends)),
            (Asked::Noted(topics), Err(error)) => self.on_noted(topics, Err(error)),
            (Asked::Newest(topic), Ok(Answer::Latest(values))) => self.on_newest(topic, Ok(values)),
            (Asked::Newest(topic), Err(error)) => self.on_newest(topic, Err(error)),
            (Asked::Ends(reason, topics), Ok(Answer::Ends(ends))) => self.on_ends(reason, topics, Ok(ends)),
            (Asked::Ends(reason, topics), Err(error)) => self.on_ends(reason, topics, Err(error)),
            (Asked::Newer(topics), Ok(Answer::Newer(found))) => self.on_newer(topics, found),
            (Asked::Page(topic), Ok(Answer::Page(page))) => self.on_page(topic, Ok(page)),
            (Asked::Page(topic), Err(error)) => self.on_page(topic, Err(error)),
            (Asked::Control, Ok(Answer::Page(page))) => self.on_control_read(Ok(page)),
            (Asked::Control, Err(error)) => self.on_control_read(Err(error)),
            (Asked::SetCounts, result) => self.on_counts_set(result),
            (Asked::Counts, Ok(Answer::Counts(counts))) => self.on_all_counts(Ok(counts)),
            (Asked::Counts, Err(error)) => self.on_all_counts(Err(error)),
            (Asked::Beat(members), result) => self.on_beaten(members, result),
            (Asked::Due, Ok(Answer::Turned(turns))) => self.on_turned(turns),
            (Asked::Compared(members), result) => self.on_compared(members, result),
            (Asked::Due | Asked::Newer(_), Err(_)) | (Asked::Settled, _) => {}
            (Asked::Past(past), result) => self.on_past(*past, result),
            (Asked::Presence(conn, members), result) => self.on_presence(conn, &members, result),
            (Asked::PeerViewers, Ok(Answer::PeerViewers(said))) => self.on_all_peer_viewers(Ok(said)),
            (Asked::PeerViewers, Err(error)) => self.on_all_peer_viewers(Err(error)),
            (Asked::Queue { peer, bucket }, Ok(Answer::Queue(page))) => self.on_queue(peer, bucket, Ok(page)),
            (Asked::Queue { peer, bucket }, Err(error)) => self.on_queue(peer, bucket, Err(error)),
            (Asked::Taken { conn, peer, events, left_out }, result) => {
                self.on_taken(conn, peer, (&events, &left_out), result)
            }
            (Asked::Hello(conn), result) => self.on_hello(conn, result),
            (Asked::PeerNoted, _) => {}
            (Asked::Anywhere { event, version }, result) => self.on_anywhere(&event, version, result),
            (Asked::Append(appending), result) => self.on_appended(appending, result),
            (Asked::Claimed(claiming), result) => self.on_claimed(*claiming, result),
            (Asked::Released, _) => {}
            (Asked::Versioned(versioning), result) => {
                if self.on_versioned(versioning, result).is_err() {
                    self.counters().dropped_backlog.add(1);
                }
            }
            (Asked::Heartbeat, Err(error)) => self.on_unheard(error),
            (Asked::Leave, _) => self.left = true,
            (Asked::Relay { id, at }, result) => self.on_relayed(id, at, result),
            (asked, Ok(answer)) => {
                // A dispatcher that answers something else is as good as none.
                if self.cluster.told.fails(Trouble::OtherAnswer, self.clock.instant) {
                    error!(?asked, ?answer, "an answer to another question");
                }
                self.on_answer(asked, Err(Unavailable("the answer is one to another question".to_owned())));
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
        let database = self.node.store.as_ref().and_then(Store::database);
        let node = NodeInfo { database, ..info.clone() };
        let (counts, since) = (self.audience.number(), self.cluster.since);
        let heartbeat = Heartbeat { node, digests, counts, since };
        self.ask(Request::Heartbeat(heartbeat), Asked::Heartbeat);
    }

    fn on_alive(&mut self, alive: Alive) {
        self.on_alive_counts(&alive);
        self.node.heard_ms.store(self.clock.unix_ms, Ordering::Relaxed);
        self.cluster.since = self.cluster.since.or(alive.since);
        self.tell_alive(&alive, &alive.differing);
    }

    /// A heartbeat was not answered: the next one comes before the lease lapses.
    fn on_unheard(&mut self, error: Unavailable) {
        self.next_heartbeat = self.next_heartbeat.min(self.clock.instant + HEARTBEAT_RETRY);
        // A dispatcher that answers is not what this node waits for.
        let by_dispatcher = self.cluster.questions.answered;
        let sentence = match by_dispatcher {
            true => "the key-value store is unavailable to the dispatchers",
            false => "waiting for a dispatcher: none of --dispatchers answers as it should",
        };
        let why = Reason::new(sentence, error.0);
        if let Ok(mut trouble) = self.node.trouble.lock() {
            *trouble = Some(why);
        }
    }

    /// Tells every shard who lives, and which of its buckets the store holds wrong.
    pub(super) fn tell_alive(&mut self, alive: &Alive, differing: &[u8]) {
        let (mut nodes, peers) = (alive.nodes.clone(), Arc::new(alive.peers.clone()));
        let lost = alive.since.filter(|_| alive.lost).unwrap_or(Reach::START);
        let shards = self.node.shards();
        nodes.sort_unstable_by_key(|node| node.id);
        let changed = self.alive.as_slice() != nodes.as_slice();
        let doubt = self.reason_for_doubt(&nodes);
        let nodes = Arc::new(nodes);
        if let Ok(mut known) = self.node.nodes.lock() {
            *known = Arc::clone(&nodes);
        }
        for shard in 0..shards {
            // Whatever a dispatcher says, there are no others.
            let buckets = (0..BUCKETS as u8).filter(|bucket| usize::from(*bucket) % shards == shard);
            let differing = buckets.filter(|bucket| differing.contains(bucket));
            let differing: Vec<u8> = differing.collect();
            let (nodes, peers) = (Arc::clone(&nodes), Arc::clone(&peers));
            self.send(shard, Message::Alive { nodes, differing, changed, peers, lost, doubt });
        }
    }
}
