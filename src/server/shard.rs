//! One shard: its state, and its turn.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::accept::Door;
use super::admitting::Admitting;
use super::appending::StoreClock;
use super::asking::Asked;
use super::cluster::Cluster;
use super::comparing::Comparing;
use super::control::Control;
use super::crowds::Crowds;
use super::fanout::Picked;
use super::history::Homes;
use super::journeys::Journeys;
use super::listing::Gathering;
use super::live::Live;
use super::message::Message;
use super::node::Node;
use super::pages::PageLogs;
use super::past::Past;
use super::polls::Polls;
use super::present::Presents;
use super::slots::{Conn, Slots};
use super::streams::Waiter;
use super::telling::Posts;
use super::token_cache::TokenCache;
use crate::backend::taps::Taps;
use crate::backend::totals::Totals;
use crate::dispatch::core::Dispatcher;
use crate::dispatch::kv::{Answer, NodeInfo, Unavailable};
use crate::dispatch::tally::Tally;
use crate::frontend::asks::Once;
use crate::frontend::audience::{Audience, Move};
use crate::frontend::crossing::Crossing;
use crate::frontend::doubt::Doubt;
use crate::frontend::held_pages::HeldPages;
use crate::frontend::members::Members;
use crate::frontend::registrar::Registrar;
use crate::frontend::registry::{CoreSet, Effect, Registry};
use crate::frontend::topics::{TopicIndex, Topics};
use crate::frontend::typists::Typists;
use crate::frontend::waiting::Waiting;
use crate::limits::{READ_BYTES, SENDS_BATCH, SOCKETS_SLICE, TICK, TOKEN_EXPIRY_MAX};
use crate::observe::metrics::Counters;
use crate::observe::trouble::Told;
use crate::runtime::account::{Account, Held, Reservation, Use};
use crate::runtime::clock::{Clock, Slice, Times};
use crate::runtime::mailbox::Mailbox;
use crate::runtime::net::{DOORS_MAX, Net};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::{Map, Random};
use crate::runtime::readiness::Ready;
use crate::runtime::shrink::shrink;
use crate::runtime::turn_time::TurnTime;
use crate::wire::topic::Topic;

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

/// One shard.
pub struct Shard {
    pub(super) id: usize,
    pub(super) node: Arc<Node>,
    pub(super) live: Arc<Live>,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) net: Net,
    pub(super) mailbox: Mailbox<Message>,
    /// Topics that rest between rounds; a timer runs if there are some.
    pub(super) resting: Vec<TopicIndex>,
    /// When the timer goes off, if it is set.
    pub(super) timer: Option<Instant>,
    pub(super) doors: [Door; DOORS_MAX],
    /// Connections by TLS in the order of their accept, until after their handshakes; and the bytes that TLS holds.
    pub(super) shaking: VecDeque<Conn>,
    pub(super) sealed: Reservation,
    pub(super) slots: Slots,
    pub(super) topics: Topics,
    /// Topics with viewers that lack something, in the order in which they are served.
    pub(super) unserved: VecDeque<TopicIndex>,
    /// Where on this node each topic's viewers are.
    pub(super) routes: Map<Topic, CoreSet>,
    pub(super) registry: Registry,
    pub(super) effects: Vec<Effect>,
    /// Tells the key-value store what the topics at home here want.
    pub(super) registrar: Registrar,
    /// The topics whose home this is.
    pub(super) homes: Homes,
    /// Whether they lack events.
    pub(super) doubt: Doubt,
    /// Sampled events.
    pub(super) journeys: Journeys,
    /// Events on their way into history.
    pub(super) appends_waiting: usize,
    pub(super) dispatcher: Dispatcher,
    pub(super) store_clock: StoreClock,
    /// Questions to the key-value store that have no answer yet.
    pub(super) asked: Map<u64, Held<Asked>>,
    pub(super) next_ticket: u64,
    pub(super) next_heartbeat: Instant,
    pub(super) posts: Posts,
    /// Of a backend: videos at home here whose likes changed.
    pub(super) totals: Totals,
    pub(super) taps: Taps,
    pub(super) typists: Typists,
    /// On the first shard: the node's viewers.
    pub(super) audience: Audience,
    /// Topics whose viewers on this core changed since that was said.
    pub(super) recounted: Map<Topic, Vec<Move>>,
    /// All nodes' viewers of the topics at home here.
    pub(super) tally: Tally,
    /// All counts are being read.
    pub(super) reading_counts: bool,
    /// When they may be read again.
    pub(super) counts_due: Instant,
    /// Members with streams on this core.
    pub(super) members: Members,
    pub(super) next_due: Instant,
    /// What viewers were told of members is compared with the store.
    pub(super) comparing: Comparing,
    /// The key-value store knows that this node ends, or cannot be told.
    pub(super) left: bool,
    pub(super) leaving: bool,
    /// The nodes of this data center whose lease holds.
    pub(super) alive: Arc<Vec<NodeInfo>>,
    /// Other nodes, and what there is for them.
    pub(super) cluster: Cluster,
    /// To each other core: what its full mailbox did not take.
    pub(super) outgoing: Vec<Option<Box<Crossing<Message>>>>,
    /// So much waits there that no requests are read,
    pub(super) congested: bool,
    /// of these connections.
    pub(super) held_back: Once<Conn>,
    /// Messages to itself.
    pub(super) local: VecDeque<Message>,
    /// Streams whose `connected` waits for topics.
    pub(super) waiting: Waiting<Waiter>,
    /// The newest time, in Unix ms, of a place in history that is known to have been given out when a topic was registered.
    pub(super) given_ms: u64,
    /// Streams whose next page waits for memory, or for its turn.
    pub(super) starving: VecDeque<Conn>,
    /// Streams that hold pages of history while their clients take nothing.
    pub(super) sated: VecDeque<Conn>,
    /// What became ready and had no turn yet.
    pub(super) ready: VecDeque<Ready>,
    /// When what is there was last looked for.
    pub(super) looked: Instant,
    /// Sockets are not read until so much mail was opened.
    pub(super) mail_first: u64,
    /// What is left of the present turn for sockets.
    pub(super) sockets: Slice,
    /// Connections with more to read, or to answer, than one turn allowed: each once, however often it is said.
    pub(super) again: Once<Conn>,
    /// What is to be done for very many at once.
    pub(super) crowds: Crowds,
    /// Streams that a write found broken.
    pub(super) broken: Vec<Conn>,
    pub(super) read_buffer: Vec<u8>,
    pub(super) pages: PageLogs,
    /// The id of the request that is being answered, if it has one.
    pub(super) request_id: Option<Box<str>>,
    /// Answers being written.
    pub(super) out: Vec<u8>,
    /// A write of several topics being put together.
    pub(super) scratch: Vec<u8>,
    /// Viewers that get what they lack together, and what each took.
    pub(super) picked: Vec<Picked>,
    pub(super) polls: Polls,
    pub(super) taken: Vec<io::Result<usize>>,
    /// The id of the event being published.
    pub(super) new_id: String,
    pub(super) event_number: u64,
    /// Stands for when the last like was stored.
    pub(super) stored_last: u64,
    pub(super) next_tick: Instant,
    /// The next slot that the sweep looks at.
    pub(super) sweep_at: u32,
    pub(super) streams: u64,
    pub(super) requests_open: u64,
    pub(super) lagging: u64,
    pub(super) draining: Option<super::sweep::Draining>,
    /// What was said of connections that the kernel did not give, and when it last did not.
    pub(super) refused_by_kernel: (Told, Option<Instant>),
    pub(super) turn_time: TurnTime,
    /// What was said of turns that took too long.
    pub(super) long_turns: Told,
    /// Time that it had of its processor before the last tick.
    pub(super) time_had: Duration,
    pub(super) admitting: Admitting,
    pub(super) tokens_seen: TokenCache,
    /// What is to end or to change on all nodes.
    pub(super) control: Control,
    /// The bytes that it holds on behalf of others.
    pub(super) account: Account,
    /// Pages of history that its streams hold.
    pub(super) held_pages: HeldPages,
    /// Counts round, to choose which delivery's time is taken.
    pub(super) sampled: usize,
    /// Listings of history for which a page came at once.
    pub(super) pasts: VecDeque<(Held<Past>, Result<Answer, Unavailable>)>,
    /// Questions of operators that other shards have not answered.
    pub(super) gathering: Map<Conn, Gathering>,
    pub(super) presents: Map<Conn, Held<Box<Presents>>>,
    /// When questions to the key-value store were asked.
    pub(super) asked_at: Map<u64, Instant>,
}

impl Shard {
    /// A shard that is ready to run.
    pub fn start(parts: Parts) -> Shard {
        let clock = Clock::start(parts.times);
        let (clock_start, sockets, shards) = (clock.instant, clock.slice(SOCKETS_SLICE), parts.node.shards());
        let doubt = Doubt::new(shards, clock_start, clock.unix_ms);
        let account = Account::new(parts.live.held_max);
        let life = parts.node.tokens.as_ref().map_or(TOKEN_EXPIRY_MAX, |tokens| tokens.terms.life);
        let control = Control::new(&account, clock.unix_ms, life);
        let mut shard = Shard {
            id: parts.id,
            topics: Topics::new(&account),
            posts: Posts::new(&account, clock_start),
            totals: Totals::default(),
            taps: Taps::default(),
            held_pages: HeldPages::new(&account),
            sealed: account.open(Use::Requests),
            account,
            live: parts.live,
            dispatcher: Dispatcher::new(parts.node.kv_is_away_at_times()),
            node: parts.node,
            next_tick: clock.instant + TICK,
            turn_time: TurnTime::new(clock.instant),
            long_turns: Told::default(),
            time_had: Duration::ZERO,
            clock,
            random: Random::new(parts.seed),
            net: parts.net,
            mailbox: parts.mailbox,
            resting: Vec::new(),
            timer: None,
            doors: Default::default(),
            shaking: VecDeque::new(),
            slots: Slots::new(parts.key),
            unserved: VecDeque::new(),
            routes: Map::default(),
            registry: Registry::default(),
            effects: Vec::new(),
            registrar: Registrar::default(),
            homes: Homes::default(),
            doubt,
            journeys: Journeys::default(),
            request_id: None,
            appends_waiting: 0,
            store_clock: StoreClock::default(),
            asked: Map::default(),
            next_ticket: 0,
            next_heartbeat: clock_start,
            typists: Typists::default(),
            audience: Audience::default(),
            recounted: Map::default(),
            tally: Tally::new(),
            reading_counts: false,
            counts_due: clock_start,
            members: Members::default(),
            next_due: clock_start,
            comparing: Comparing::default(),
            left: false,
            leaving: false,
            alive: Arc::default(),
            cluster: Cluster::default(),
            outgoing: (0..shards).map(|_| None).collect(),
            congested: false,
            held_back: Once::default(),
            local: VecDeque::new(),
            waiting: Waiting::default(),
            given_ms: 0,
            starving: VecDeque::new(),
            sated: VecDeque::new(),
            ready: VecDeque::new(),
            looked: clock_start,
            mail_first: 0,
            sockets,
            again: Once::default(),
            crowds: Crowds::default(),
            broken: Vec::new(),
            read_buffer: vec![0; READ_BYTES],
            pages: PageLogs::default(),
            out: Vec::new(),
            scratch: Vec::new(),
            picked: Vec::with_capacity(SENDS_BATCH),
            polls: Polls::default(),
            taken: Vec::with_capacity(SENDS_BATCH),
            new_id: String::new(),
            event_number: 0,
            stored_last: 0,
            sweep_at: 0,
            streams: 0,
            requests_open: 0,
            lagging: 0,
            draining: None,
            refused_by_kernel: Default::default(),
            admitting: Admitting::default(),
            tokens_seen: TokenCache::default(),
            control,
            sampled: 0,
            pasts: VecDeque::new(),
            gathering: Map::default(),
            presents: Map::default(),
            asked_at: Map::default(),
        };
        shard.open_peers();
        shard.begin_control();
        shard
    }

    pub(super) fn on_message(&mut self, message: Message) {
        match message {
            Message::Sequence(frame) => self.put_in_order(&frame),
            Message::Deliver(frame) => self.deliver(&frame),
            Message::Want { topic, core, wanted } => {
                self.registry.want(&topic, core, wanted, self.clock.instant, &mut self.effects);
                if !wanted && !self.registry.is_watched(&topic) {
                    self.homes.left(&topic);
                }
                self.apply_effects();
            }
            Message::Announce { topic, cores } => {
                if cores.is_empty() {
                    self.routes.remove(&topic);
                    shrink(&mut self.routes);
                } else {
                    self.routes.insert(topic, cores);
                }
            }
            Message::Register { topic, wanted, wish } => self.registrar.change(topic, wanted, wish),
            Message::Registered { topic, wish } => self.on_registered(&topic, wish),
            Message::Ready { topic, end, newest } => self.on_topic_ready(&topic, end, &newest),
            Message::Replay(ask) => self.on_replay_ask(*ask),
            Message::Replayed(replayed) => self.on_replayed(*replayed),
            Message::ReplayEnds { topic, asker } => self.on_replay_ends(&topic, asker),
            Message::Missed { topic, missed, newest } => self.on_missed(&topic, missed, &newest),
            Message::Unordered { topic, missed } => self.on_unordered(&topic, missed),
            Message::Compare(told) => self.on_compare(told),
            Message::Kv(heard) => self.on_heard(heard),
            Message::Settled { core, reason } => self.doubt.settle(core, reason),
            Message::Alive { nodes, differing, changed, peers, lost, doubt } => {
                self.cluster.lost = self.cluster.lost.max(lost);
                self.on_beat(doubt);
                self.on_alive_nodes(nodes, peers);
                if changed {
                    self.keep_counts();
                }
                let now = self.clock.instant;
                let differing = differing.into_iter().filter(|_| !planted(Mistake::RepairForgotten));
                differing.for_each(|bucket| self.registrar.repair(bucket, now));
                self.on_nodes();
            }
            Message::AskAlive => self.on_ask_alive(),
            Message::Found(found) => self.on_found(found),
            Message::Frames { bytes, peer, asker } => self.on_frames(&bytes, peer, asker),
            Message::PeerFrame(frame) => self.on_peer_frame(&frame),
            Message::Tapped { tapped, taps } => self.on_tapped(tapped, taps.into()),
            Message::FramesTaken { conn, result } => self.on_frames_taken(conn, result),
            Message::Stored(ticket, result) => self.on_stored(ticket, result),
            Message::Answer { conn, answer } => self.answer_json_later(conn, answer),
            Message::ChangeTopics(change) => self.on_change_topics(*change),
            Message::Renew(renewal) => self.on_renew(*renewal),
            Message::StreamChanged { asker, result } => self.on_stream_changed(asker, result),
            Message::Counts { core, counts } => self.on_counts(core, counts),
            Message::Typing { topic, member } => self.on_typing(topic, member),
            Message::Whereabouts { topic, anywhere, asker } => self.on_whereabouts_asked(&topic, anywhere, asker),
            Message::WhereaboutsKnown(conn, whereabouts) => self.on_whereabouts(conn, *whereabouts),
            Message::List(ask) => self.on_list(*ask),
            Message::Listed(conn, rows) => self.on_listed(conn, rows),
            Message::Live(live) => self.take_up(live),
            Message::Control { news, known } => self.on_control(news, known),
            Message::Outbox(news) => self.on_outbox_news(news),
            Message::Drain => self.start_draining(),
        }
    }

    /// Does what the registry decided.
    pub(super) fn apply_effects(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Announce { topic, cores } => {
                    for shard in 0..self.node.shards() {
                        self.send(shard, Message::Announce { topic: topic.clone(), cores });
                    }
                }
                Effect::Ready { topic, core } => self.say_ready(core, topic),
                Effect::Register { topic, wanted } => self.register(topic, wanted),
            }
        }
        self.effects = effects;
    }

    /// This shard's numbers.
    pub(super) fn counters(&self) -> &Counters {
        &self.node.counters[self.id]
    }

    /// Whether this node takes no more streams.
    pub(super) fn is_draining(&self) -> bool {
        self.node.draining.load(Ordering::Relaxed)
    }
}
