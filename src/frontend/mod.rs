//! A shard's part in a Frontend: who watches what on this core, and what they are yet to be given; and, for the topics whose home
//! this is, what all cores of the node are given.

pub mod admitting;
pub mod arrivals;
pub mod asks;
pub mod audience;
pub mod audit;
pub mod beginning;
pub mod budget;
pub mod canary;
pub mod comparing;
pub mod counting;
pub mod crowds;
pub mod doubt;
pub mod elsewhere;
pub mod ending;
pub mod fanout;
pub mod following;
pub mod granting;
pub mod heat;
pub mod held_pages;
pub mod homes;
pub mod joining;
pub mod lag;
pub mod listing;
pub mod log;
pub mod looking;
pub mod members;
pub mod mercure;
pub mod merging;
pub mod newest;
pub mod order;
pub mod pacing;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "memory files for the sockets that are the kernel's"
)]
pub mod pages;
pub mod paging;
pub mod pauses;
pub mod peers;
pub mod polls;
pub mod presence;
pub mod present;
pub mod registrar;
pub mod registry;
pub mod renewal;
pub mod replay;
pub mod resume;
pub mod rounds;
pub mod streams;
pub mod topic_changes;
pub mod topics;
pub mod views;
pub mod waiting;

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crate::frontend::audience::Audience;
use crate::frontend::canary::Watchers;
use crate::frontend::comparing::Comparing;
use crate::frontend::counting::Recount;
use crate::frontend::crowds::Crowds;
use crate::frontend::doubt::Doubt;
use crate::frontend::fanout::Picked;
use crate::frontend::following::Followed;
use crate::frontend::heat::Heat;
use crate::frontend::held_pages::HeldPages;
use crate::frontend::homes::Homes;
use crate::frontend::homes::prefixes::Prefixes;
use crate::frontend::lag::Lags;
use crate::frontend::looking::Looks;
use crate::frontend::members::Members;
use crate::frontend::pages::PageLogs;
use crate::frontend::polls::Polls;
use crate::frontend::registrar::Registrar;
use crate::frontend::registry::{Effect, Registry};
use crate::frontend::streams::Waiter;
use crate::frontend::topics::Topics;
use crate::frontend::waiting::Waiting;
use crate::ground::Ground;
use crate::ground::cluster::Life;
use crate::ground::cores::CoreSet;
use crate::ground::message::Message;
use crate::ground::slots::{Conn, TopicIndex};
use crate::kv::datacenter::PeerState;
use crate::limits::{SENDS_BATCH, WINDOW_IDLE};
use crate::queue::window::Windows;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Stranger;
use crate::wire::topic::Topic;

/// See the [module](self).
pub struct Frontend {
    pub(crate) topics: Topics,
    /// Topics with viewers that lack something, in the order in which they are served.
    pub(crate) unserved: VecDeque<TopicIndex>,
    /// Topics that rest between rounds; a timer runs if there are some.
    pub(crate) resting: Vec<TopicIndex>,
    /// When the timer goes off, if it is set.
    pub(crate) timer: Option<Instant>,
    /// Where on this node each topic's viewers are.
    pub(crate) routes: Map<Topic, CoreSet>,
    pub(crate) registry: Registry,
    pub(crate) effects: Vec<Effect>,
    /// Tells the key-value store what the topics at home here want.
    pub(crate) registrar: Registrar,
    /// The topics whose home this is.
    pub(crate) homes: Homes,
    /// Whether they lack events.
    pub(crate) doubt: Doubt,
    /// What was seen of dispatchers' frames.
    pub(crate) windows: Windows<NodeId>,
    /// What was seen of frames of other data centers, for the topics whose home this is.
    pub(crate) peers_seen: Windows<Stranger>,
    /// On the first shard: the node's viewers.
    pub(crate) audience: Audience,
    /// Topics whose viewers on this core changed since that was said.
    pub(crate) recounted: Map<Topic, Recount>,
    /// Members with streams on this core.
    pub(crate) members: Members,
    /// When senders of frames that are gone are forgotten next.
    pub(crate) next_tidy: Instant,
    /// What viewers were told of members is compared with the store.
    pub(crate) comparing: Comparing,
    /// Streams whose `connected` waits for topics.
    pub(crate) waiting: Waiting<Waiter>,
    /// The newest time, in Unix ms, of a place in history that is known to have been given out when a topic was registered.
    pub(crate) given_ms: u64,
    /// Streams whose next page waits for memory, or for its turn.
    pub(crate) starving: VecDeque<Conn>,
    /// Streams for which something waits since this turn, of which their sockets say nothing.
    pub(crate) stirred: Vec<Conn>,
    /// Streams that hold pages of history while their clients take nothing.
    pub(crate) sated: VecDeque<Conn>,
    /// Pages of history that its streams hold.
    pub(crate) held_pages: HeldPages,
    /// What is to be done for very many at once.
    pub(crate) crowds: Crowds,
    /// What all streams are to be looked through for.
    pub(crate) looks: Looks,
    /// Streams that a write found broken.
    pub(crate) broken: Vec<Conn>,
    pub(crate) pages: PageLogs,
    /// Viewers that get what they lack together, and what each took.
    pub(crate) picked: Vec<Picked>,
    pub(crate) taken: Vec<io::Result<usize>>,
    pub(crate) polls: Polls,
    /// Prefixes of topics that streams have.
    pub(crate) prefixes: Prefixes,
    /// Counts round, to choose which delivery's time is taken.
    pub(crate) sampled: usize,
    /// Sampled events that viewers are being given.
    pub(crate) followed: Vec<Followed>,
    pub(crate) streams: u64,
    /// Those that watch canaries.
    pub(crate) watchers: Watchers,
    /// What waits for streams that do not keep up.
    pub(crate) lags: Lags,
    /// The topics that most is delivered of, while the node is watched.
    pub(crate) heat: Option<Heat>,
}

impl Frontend {
    /// That of a shard which begins.
    pub(crate) fn start(ground: &Ground) -> Frontend {
        let now = ground.clock.instant;
        Frontend {
            topics: Topics::new(&ground.account),
            unserved: VecDeque::new(),
            resting: Vec::new(),
            timer: None,
            routes: Map::default(),
            registry: Registry::default(),
            effects: Vec::new(),
            registrar: Registrar::default(),
            homes: Homes::default(),
            doubt: Doubt::new(ground.node.shards(), now, ground.clock.unix_ms),
            windows: Windows::default(),
            peers_seen: Windows::default(),
            audience: Audience::default(),
            recounted: Map::default(),
            members: Members::default(),
            next_tidy: now,
            comparing: Comparing::default(),
            waiting: Waiting::default(),
            given_ms: 0,
            starving: VecDeque::new(),
            stirred: Vec::new(),
            sated: VecDeque::new(),
            held_pages: HeldPages::new(&ground.account),
            crowds: Crowds::default(),
            looks: Looks::default(),
            broken: Vec::new(),
            pages: PageLogs::default(),
            picked: Vec::with_capacity(SENDS_BATCH),
            taken: Vec::with_capacity(SENDS_BATCH),
            polls: Polls::default(),
            prefixes: Prefixes::default(),
            sampled: 0,
            followed: Vec::new(),
            streams: 0,
            watchers: Watchers::default(),
            lags: Lags::default(),
            heat: None,
        }
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self, ground: &mut Ground) {
        if cfg!(debug_assertions) && self.stirred.is_empty() {
            let stands = self.lags.iter().find(|(_, lag)| !lag.goes_on());
            assert!(stands.is_none(), "nothing will have a stream go on: {stands:?}");
        }
        self.tick_homes(ground);
        self.tick_audience(ground);
        self.tick_presence(ground);
        self.tick_polls(ground);
        self.tick_prefixes(ground);
        self.end_late_waits(ground.clock.instant);
        self.pages.tidy(ground.clock.seconds());
        self.tidy_windows(ground);
        self.tick_followed(ground);
        self.tick_canaries(ground);
    }

    /// Once a turn: a slice of what viewers are to be given. True if there is more.
    pub(crate) fn serve(&mut self, ground: &mut Ground) -> bool {
        let windows = self.end_windows(ground);
        let crowds = self.serve_crowds(ground);
        self.fan_out(ground);
        self.answer_polls(ground);
        std::mem::take(&mut self.stirred).into_iter().for_each(|conn| self.on_stream_writable(ground, conn));
        self.keep_to_budget(ground);
        let pages = self.take_found(ground) | self.feed_starving(ground);
        self.greet_newcomers(ground);
        windows | crowds | pages
    }

    /// Whether there is more to do at once.
    pub(crate) fn has_more(&self, ground: &Ground) -> bool {
        !self.unserved.is_empty()
            || !self.stirred.is_empty()
            || !self.broken.is_empty()
            || self.homes.are_new()
            || self.registrar.is_due(ground.clock.instant)
    }

    /// To a topic's home: the first viewer on `core` came, or the last one left.
    pub(crate) fn on_want(&mut self, ground: &mut Ground, topic: &Topic, core: usize, wanted: bool) {
        if !wanted && self.is_joining(topic, core) {
            // It says soon whether it has some.
            return;
        }
        self.registry.want(topic, core, wanted, ground.clock.instant, &mut self.effects);
        if !wanted && !self.registry.is_watched(topic) {
            self.homes.left(topic);
        }
        self.apply_effects(ground);
    }

    /// Where on this node a topic's viewers are.
    pub(crate) fn on_announced(&mut self, topic: Topic, cores: CoreSet) {
        if topic.is_prefix() {
            self.on_prefix_announced(&topic, cores);
        }
        if cores.is_empty() {
            self.routes.remove(&topic);
            shrink(&mut self.routes);
        } else {
            self.routes.insert(topic, cores);
        }
    }

    /// Does what the registry decided.
    pub(crate) fn apply_effects(&mut self, ground: &mut Ground) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Announce { topic, cores } => {
                    for shard in 0..ground.node.shards() {
                        ground.send(shard, Message::Announce { topic: topic.clone(), cores });
                    }
                }
                Effect::Ready { topic, core } if topic.is_prefix() => self.ready_prefix(ground, &topic, core),
                Effect::Ready { topic, core } => self.say_ready(ground, core, topic),
                Effect::Register { topic, wanted } => self.register(ground, topic, wanted),
            }
        }
        self.effects = effects;
    }

    /// A heartbeat's answer: what was known of other data centers before it, and which of this shard's buckets the store holds wrong.
    pub(crate) fn on_alive_nodes(&mut self, ground: &mut Ground, before: &[PeerState], differing: &[u8], life: &Life) {
        self.on_beat(ground, life.store_now.map(|(ms, _)| ms), life.doubt);
        let silent = |states: &[PeerState]| {
            states.iter().filter(|state| !state.alive).map(|state| state.dc.clone()).collect::<Vec<_>>()
        };
        if silent(before) != silent(&ground.cluster.others) {
            self.sum_all_totals(ground);
        }
        let differing = differing.iter().filter(|_| !planted(Mistake::RepairForgotten));
        differing.for_each(|bucket| self.registrar.repair(*bucket, ground.clock.instant));
    }

    /// Once a tick: now and then, forgets senders of frames that are gone.
    fn tidy_windows(&mut self, ground: &Ground) {
        let now = ground.clock.instant;
        if self.next_tidy <= now {
            self.next_tidy = now + WINDOW_IDLE / 10;
            self.windows.tidy(now, |node| ground.alive_node(node).is_some());
            // Names of other data centers' nodes are not known here.
            self.peers_seen.tidy(now, |_| false);
        }
    }
}
