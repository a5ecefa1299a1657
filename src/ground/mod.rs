//! What every role of a shard stands on: its time, chance and sockets, the connections in their slots, mail to other shards, the
//! key-value store, links to other nodes, whose rights count, and who is let in. It calls no role: what follows from mail and
//! from answers is queued here, and the shard gives it to the role whose it is.

pub mod access;
pub mod admitting;
pub mod all;
pub mod answering;
pub mod asking;
pub mod authorize;
pub mod clocks;
pub mod cluster;
pub mod control;
pub mod cores;
pub mod description;
pub mod frame_page;
pub mod handover;
pub mod hooks;
pub mod http_connection;
pub mod journeys;
pub mod keeping;
pub mod lines;
pub mod link;
pub mod links;
pub mod listing;
pub mod live;
pub mod mail;
pub mod mercure;
pub mod message;
pub mod neighbours;
pub mod node;
pub mod once;
pub mod opening;
pub mod own;
pub mod pages_of_others;
pub mod past;
pub mod peers;
pub mod posts;
pub mod prefixes;
pub mod present;
pub mod publishing;
pub mod questions;
pub mod resources;
pub mod rights;
pub mod secrets;
pub mod slots;
pub mod tls;
pub mod token_cache;
pub mod turns;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::db::Record;
use crate::ground::admitting::Admitting;
use crate::ground::asking::Asked;
use crate::ground::authorize::{Authorizing, Verdict};
use crate::ground::cluster::Cluster;
use crate::ground::control::Control;
use crate::ground::hooks::{HookNews, HookReports};
use crate::ground::journeys::Journeys;
use crate::ground::live::Live;
use crate::ground::mercure::Updating;
use crate::ground::message::Message;
use crate::ground::node::Node;
use crate::ground::own::Own;
use crate::ground::slots::{Conn, Slots};
use crate::ground::token_cache::TokenCache;
use crate::kv::{Answer, NodeInfo, Notice, Unavailable};
use crate::limits::{READ_BYTES, TICK, TOKEN_EXPIRY_MAX};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::observe::metrics::Counters;
use crate::observe::track;
use crate::queue::crossing::Crossing;
use crate::runtime::account::{Account, Held, Use};
use crate::runtime::clock::{Clock, Times};
use crate::runtime::mailbox::Mailbox;
use crate::runtime::net::Net;
use crate::runtime::once::Once;
use crate::runtime::random::{Map, Random};
use crate::wire::connection_id::ConnectionId;
use crate::wire::frame::Frame;
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Ticks of a second.
const SECOND_TICKS: u64 = 1000 / TICK.as_millis() as u64;

/// What a shard starts with.
pub struct Parts {
    /// Its number on this node.
    pub id: usize,
    /// What it shares with the others.
    pub node: Arc<Node>,
    /// What holds at the start.
    pub live: Arc<Live>,
    /// Where others reach it.
    pub mailbox: Mailbox<Message>,
    /// Its sockets.
    pub net: Net,
    /// From where it reads the time.
    pub times: Times,
    /// From which its choices and pauses follow.
    pub seed: u64,
    /// By which the ids of its connections cannot be guessed.
    pub key: (u64, u64),
}

/// What is to be done next, in the order in which it was said.
#[derive(Debug)]
pub enum Todo {
    /// A message of this shard to itself.
    Mail(Message),
    /// The key-value store said something unasked.
    Noticed(Notice),
    /// It answered.
    Answered(Asked, Result<Answer, Unavailable>),
    /// An event of this node's own is to be published.
    Publish(Box<Own>),
    /// An event is for viewers of this node.
    Arrived(Arc<Frame>),
    /// A topic of an update has it: the next one's turn has come, or who published it is to be answered.
    Update(Conn, Updating),
    /// A canary of class `every` that was to go by this dispatcher, and its number: it was taken, or not.
    CanaryTold(SocketAddr, u64, bool),
    /// A post was published, or could not be.
    Told(Topic, Record, bool),
    /// Viewers of these topics are to be told the totals of likes.
    TotalsAsked(Vec<Topic>),
    /// This shard's news for hooks is to be stored.
    HookNews(Vec<HookNews>),
}

/// An answer that comes later than its request.
#[derive(Debug)]
pub enum Reply {
    /// A status and a body, which is JSON unless it is empty.
    Answer(Status, Vec<u8>),
    /// A text.
    Text(Box<str>),
    /// What is wrong with the request.
    Problem(HttpError),
    /// A piece of an answer that goes on.
    Piece(Arc<Vec<u8>>),
    /// What became of a line of its body.
    Line(u64, Result<(), String>),
    /// What the operator's server says of it: it is served once more.
    Verdict(Verdict),
}

impl From<Result<(Status, String), HttpError>> for Reply {
    fn from(answer: Result<(Status, String), HttpError>) -> Reply {
        match answer {
            Ok((status, body)) => Reply::Answer(status, body.into_bytes()),
            Err(error) => Reply::Problem(error),
        }
    }
}

impl From<Result<Vec<u8>, HttpError>> for Reply {
    fn from(answer: Result<Vec<u8>, HttpError>) -> Reply {
        match answer {
            Ok(body) if body.is_empty() => Reply::Answer(Status::NoContent, body),
            Ok(body) => Reply::Answer(Status::Ok, body),
            Err(error) => Reply::Problem(error),
        }
    }
}

/// See the [module](self).
pub struct Ground {
    pub(crate) id: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) live: Arc<Live>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) net: Net,
    pub(crate) slots: Slots,
    /// The bytes that the shard holds on behalf of others.
    pub(crate) account: Account,
    pub(crate) mailbox: Mailbox<Message>,
    /// To each other core: what its full mailbox did not take.
    pub(crate) outgoing: Vec<Option<Box<Crossing<Message>>>>,
    /// So much waits there that no requests are read.
    pub(crate) congested: bool,
    pub(crate) todo: VecDeque<Todo>,
    /// Answers for connections whose requests waited for them.
    pub(crate) replies: VecDeque<(Conn, Reply)>,
    /// Questions to the key-value store that have no answer yet.
    pub(crate) asked: Map<u64, Held<Asked>>,
    /// When they were asked.
    pub(crate) asked_at: Map<u64, Instant>,
    pub(crate) next_ticket: u64,
    pub(crate) next_heartbeat: Instant,
    /// The key-value store knows that this node ends, or cannot be told.
    pub(crate) left: bool,
    /// The nodes of this data center whose lease holds.
    pub(crate) alive: Arc<Vec<NodeInfo>>,
    /// Other nodes, and what there is for them.
    pub(crate) cluster: Cluster,
    pub(crate) tokens_seen: TokenCache,
    /// What is to end or to change on all nodes.
    pub(crate) control: Control,
    pub(crate) admitting: Admitting,
    /// What the operator's server is asked.
    pub(crate) authorizing: Authorizing,
    /// What backends are to be told of for hooks.
    pub(crate) hook_reports: HookReports,
    /// Sampled events.
    pub(crate) journeys: Journeys,
    /// Numbers the events of this shard.
    pub(crate) event_number: u64,
    /// Connections that send requests.
    pub(crate) requests_open: u64,
    /// Connections with more to read, or to answer, than one turn allowed: each once, however often it is said.
    pub(crate) again: Once<Conn>,
    pub(crate) read_buffer: Vec<u8>,
    /// The id of the request that is being answered, if it has one.
    pub(crate) request_id: Option<Box<str>>,
    /// Answers being written.
    pub(crate) out: Vec<u8>,
    /// The id of the event being published.
    pub(crate) new_id: String,
    /// A write being put together.
    pub(crate) scratch: Vec<u8>,
}

impl Ground {
    /// That of a shard which begins.
    pub(crate) fn start(parts: Parts) -> Ground {
        let clock = Clock::start(parts.times);
        let account = Account::new(parts.live.held_max);
        let counters = &parts.node.counters[parts.id];
        counters.shard.set(parts.id as u64);
        counters.now_ms.set(clock.unix_ms);
        let life = parts.node.tokens.as_ref().map_or(TOKEN_EXPIRY_MAX, |tokens| tokens.terms.life);
        Ground {
            id: parts.id,
            control: Control::new(&account, clock.unix_ms, life),
            outgoing: (0..parts.node.shards()).map(|_| None).collect(),
            account,
            live: parts.live,
            node: parts.node,
            next_heartbeat: clock.instant,
            clock,
            random: Random::new(parts.seed),
            net: parts.net,
            slots: Slots::new(parts.key),
            mailbox: parts.mailbox,
            congested: false,
            todo: VecDeque::new(),
            replies: VecDeque::new(),
            asked: Map::default(),
            asked_at: Map::default(),
            next_ticket: 0,
            left: false,
            alive: Arc::default(),
            cluster: Cluster::default(),
            tokens_seen: TokenCache::default(),
            admitting: Admitting::default(),
            authorizing: Authorizing::default(),
            hook_reports: HookReports::default(),
            journeys: Journeys::default(),
            event_number: 0,
            requests_open: 0,
            again: Once::default(),
            read_buffer: vec![0; READ_BYTES],
            request_id: None,
            out: Vec::new(),
            new_id: String::new(),
            scratch: Vec::new(),
        }
    }

    /// This shard's numbers.
    pub(crate) fn counters(&self) -> &Counters {
        &self.node.counters[self.id]
    }

    /// What a connection is called, but for its secret.
    pub(crate) fn name_of(&self, conn: Conn) -> ConnectionId {
        let Conn { slot, generation } = conn;
        ConnectionId { node: self.node.id, shard: self.id as u16, slot, generation, secret: 0 }
    }

    /// A connection, for who looks for it: its name, and whose it is.
    pub(crate) fn subject(&self, conn: Conn) -> Subject<'_> {
        let member = self.slots.get(conn).and_then(|slot| slot.rights.as_ref()?.member.as_deref());
        Subject { connection: Some(self.name_of(conn)), member, ..Subject::default() }
    }

    /// Counts and records what happened, `times` at once.
    pub(crate) fn happened(&self, what: What, times: u64, about: Subject<'_>) {
        self.counters().happened(what, times, about);
    }

    /// Logs what is done with one that is tracked through the log; costs next to nothing while none is.
    #[inline]
    pub(crate) fn track(&self, step: &str, about: Subject<'_>) {
        if track::is_on() {
            track::tell(step, &about);
        }
    }

    /// Whether this node takes no more streams.
    pub(crate) fn is_draining(&self) -> bool {
        self.node.draining.load(Ordering::Relaxed)
    }

    /// The answer that a request waited for, which is written soon.
    pub(crate) fn reply(&mut self, conn: Conn, reply: impl Into<Reply>) {
        self.replies.push_back((conn, reply.into()));
    }

    /// The same, where the request came in at this shard or another.
    pub(crate) fn reply_to(&mut self, (shard, conn): (usize, Conn), reply: impl Into<Reply>) {
        if shard == self.id {
            self.reply(conn, reply);
        } else {
            self.send(shard, Message::Reply(conn, reply.into()));
        }
    }

    /// Bytes that may wait for the streams of this node that lag.
    pub(crate) fn backlog_max(&self) -> usize {
        self.live.held_max[Use::Streams as usize].saturating_mul(self.node.shards())
    }

    /// Whether this tick is one of those that come once a second.
    pub(crate) fn is_whole_second(&self) -> bool {
        self.counters().ticks.get().is_multiple_of(SECOND_TICKS)
    }
}
