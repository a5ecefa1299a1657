//! Questions to the key-value store, and what follows from the answers.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::warn;

use crate::ground::message::Message;
use crate::ground::past::Past;
use crate::ground::peers::{Arriving, LeftOut};
use crate::ground::prefixes::Listing;
use crate::ground::publishing::{Appending, Claiming, Versioning};
use crate::ground::slots::Conn;
use crate::ground::{Ground, Todo};
use crate::kv::{Answer, Heard, Request, Unavailable};
use crate::limits::ASKED_BYTES;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::{Held, Reservation, Use};
use crate::runtime::trouble::Told;
use crate::wire::http::HttpError;
use crate::wire::position::Shown;
use crate::wire::topic::Topic;

/// What a question to the store was asked for, and what its refusal leads to ([`Unavailable`]): the one list of what happens
/// while the store is away. `Services::on_answer` gives both to their role.
#[derive(Debug)]
pub enum Asked {
    /// Events wait for a topic's subscribers. Refused: they go where the topic was wanted last; where
    /// that is not known they are dropped and counted.
    Subscribers(Topic),
    /// A batch of registrations of this bucket. Refused: all of it is sent again after a pause, topics stay pending.
    Apply(u8),
    /// This node lives. Refused: told again sooner than usual; a node without a store of its own is not ready once its lease is
    /// over.
    Heartbeat,
    /// Where the histories of new topics end. Refused: asked again after a pause, topics stay pending.
    Noted(Vec<Topic>),
    /// The newest values of a topic that is new, or lacks some. Refused: those of a new one are asked for again after a pause,
    /// others once the topic is compared again.
    Newest(Topic),
    /// Whether histories went on without this node, and what viewers had been given of each. Refused: compared
    /// again soon; what was in doubt stays so.
    Ends(u64, Vec<(Topic, Shown)>),
    /// Which topics of a prefix there are. Refused: asked again for streams by the next tick, for a comparison after a pause.
    Topics {
        /// The prefix.
        prefix: Topic,
        /// The number of its home that asks: another one may be there when the answer comes.
        home: u64,
        /// What for.
        why: Listing,
    },
    /// Whether topics have newer values than these versions. Refused: asked again at the next round.
    Newer(Vec<(Topic, u64)>),
    /// What is to end or to change on all nodes. Refused: read at the next time; a node that never
    /// read it refuses tokens by 503.
    Control,
    /// A part of a topic's history. Refused: asked again, for streams by the next tick, for a hole after a pause; both wait.
    Page(Topic),
    /// The same, for who lists it. Refused: 503.
    Past(Box<Past>),
    /// This node's viewers. Refused: all of them are sent again.
    SetCounts,
    /// All nodes' viewers. Refused: asked again after a pause; what viewers were told stays.
    Counts,
    /// Signs of life of these members. Refused: given again with the next ones.
    Beat(Vec<String>),
    /// Members who went offline. Refused: they are due at the next look, or given again after a while if their answer was lost.
    Due,
    /// What viewers here should have been told of these members. Refused: asked again at the next round.
    Compared(Vec<String>),
    /// What was told need not be told again. Refused: it is told again, as what is known.
    Settled,
    /// A request wants to know of these members. Refused: 503.
    Presence(Conn, Vec<String>),
    /// An event is on its way into history. Refused: a request gets 503, a line its error, a post is told again; it may be there
    /// all the same.
    Append(Appending),
    /// An event of another class is published if its key is new. Refused: 503, and its key is freed.
    Claimed(Box<Claiming>),
    /// Its key is free again. Refused: it is taken until it is too old.
    Released,
    /// A value of class `latest` waits for its version: the event as JSON. Refused: it goes to those who watch, with the version
    /// that it came with or the time that the store's clock shows; where that was never heard of it is dropped and counted.
    Versioned(Versioning),
    /// All peers' viewers. Refused: as [`Asked::Counts`].
    PeerViewers,
    /// What waits for a peer. Refused: asked again after a pause that grows.
    Queue {
        /// The peer.
        peer: usize,
        /// The bucket.
        bucket: u8,
    },
    /// Events of a peer are on their way into history. Refused: 503, and the peer sends them again.
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
    /// A peer said that it lives, by this request. Refused: 503, and it says so again.
    Hello(Conn),
    /// What was noted of a peer. Refused: noted with its next hello, if it still lacks something.
    PeerNoted,
    /// What holds of a member in all data centers, since it turned in one. Refused: viewers are told the turn itself.
    Anywhere {
        /// The turn's event as JSON.
        event: Arc<str>,
        /// Its version there.
        version: u64,
    },
    /// Whether members are online of whom a hook, by its place, was told so. Refused: what it was told is believed until the next
    /// look.
    HookMembers {
        /// Which hook.
        hook: usize,
        /// Whom.
        names: Vec<String>,
        /// What it was told: subjects and versions.
        states: Vec<(String, u64)>,
    },
    /// Whether somebody wants a topic of which a hook was told that it has viewers. Refused: as [`Asked::HookMembers`].
    HookTopic {
        /// Which hook.
        hook: usize,
        /// The topic, and the version of what was told.
        state: (String, u64),
    },
    /// This node ends. Refused: it ends all the same, and its lease does.
    Leave,
    /// Another node asked, as one question of several. Refused: that node is told so.
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
            Asked::HookMembers { names, .. } => 3 * names.iter().map(String::len).sum::<usize>(),
            _ => 0,
        }
    }
}

impl Ground {
    /// Asks the key-value store, and hears what it can say at once.
    pub(crate) fn ask(&mut self, request: Request, asked: Asked) {
        match self.submit(request) {
            Ok(result) => self.todo.push_back(Todo::Answered(asked, result)),
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
    pub(crate) fn reserve_question(&self, bytes: usize) -> Result<Reservation, HttpError> {
        let reserved = self.account.reserve(Use::Questions, ASKED_BYTES + bytes);
        reserved.map_err(|_| HttpError::unavailable("too much waits for the key-value store"))
    }

    /// Hands a question over. Gives the answer, or else the ticket under which it will come.
    pub(crate) fn submit(&mut self, request: Request) -> Result<Result<Answer, Unavailable>, u64> {
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
                    self.send(shard, Message::Kv(Box::new(Heard::Notice(notice.clone()))));
                }
            }
            self.todo.push_back(Todo::Noticed(notice));
        }
        match answered {
            Some(result) => {
                self.counters().kv_answer.observe(0);
                self.count_unanswered(&result);
                Ok(result)
            }
            None => {
                self.asked_at.insert(ticket, self.clock.instant);
                Err(ticket)
            }
        }
    }

    fn count_unanswered(&self, result: &Result<Answer, Unavailable>) {
        if let Err(error) = result {
            self.happened(What::KvUnanswered, 1, Subject::says(format_args!("{error}")));
        }
    }

    /// The store's thread has something to say.
    pub(crate) fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Answer { ticket, result } => {
                if let Some(asked_at) = self.asked_at.remove(&ticket) {
                    let took = self.clock.instant.saturating_duration_since(asked_at);
                    self.counters().kv_answer.observe(took.as_micros() as u64);
                }
                self.count_unanswered(&result);
                if let Some(asked) = self.asked.remove(&ticket) {
                    self.todo.push_back(Todo::Answered(asked.release(), result));
                }
            }
            Heard::Notice(notice) => self.todo.push_back(Todo::Noticed(notice)),
        }
    }
}

/// What a client is told where the key-value store cannot answer: what the error quotes of addresses and scripts stands in
/// the log only.
pub(crate) fn kv_error(error: &Unavailable, now: Instant) -> HttpError {
    static LOGGED: Mutex<Told> = Mutex::new(Told::new());
    if is_due(&LOGGED, now) {
        warn!(%error, "requests are refused for it; told once a minute");
    }
    HttpError::unavailable("the key-value store is unavailable; try again")
}

/// One line a minute at most: a store that is down would fill the log.
pub(crate) fn is_due(told: &Mutex<Told>, now: Instant) -> bool {
    told.try_lock().is_ok_and(|mut told| told.fails(now))
}
