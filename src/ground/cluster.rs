//! What a shard knows of other nodes, and has for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use url::Url;

use crate::db::Store;
use crate::ground::Ground;
use crate::ground::handover::Handover;
use crate::ground::link::{Called, Outcome};
use crate::ground::links::Links;
use crate::ground::message::Message;
use crate::ground::questions::{Questions, Relay};
use crate::kv::datacenter::PeerState;
use crate::kv::{NodeInfo, Unavailable};
use crate::limits::{
    DATABASES_KNOWN, GONE_SHOWN, GONE_SHOWN_FOR, HEARTBEAT_RETRY, HEARTBEAT_SOONEST, LEASE_SURE, NODE_HEARTBEAT,
    NODE_LEASE, RESOLVE_AGAIN, WINDOW_IDLE,
};
use crate::runtime::random::Map;
use crate::runtime::resolver::Found;
use crate::runtime::trouble::{Reason, Told, ToldEach};
use crate::wire::connection_id::NodeId;
use crate::wire::event::{Giver, giver, is_database};
use crate::wire::position::Reach;

/// What goes wrong again and again while something is wrong, and is told once a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The key-value store answers another question than was asked.
    OtherAnswer,
    /// An event of this node's own was not published.
    NotPublished,
    /// A new connection cannot be watched.
    NotWatched,
    /// Another node cannot read what this one sends.
    Unreadable(NodeId),
    /// Nor can a peer.
    UnreadableThere(usize),
    /// A peer does not take what waits for it.
    Waits(usize),
}

/// What a heartbeat's answer says to all shards.
#[derive(Debug)]
pub struct Life {
    /// The nodes of this data center whose lease holds.
    pub nodes: Arc<Vec<NodeInfo>>,
    /// What is known of other data centers.
    pub peers: Arc<Vec<PeerState>>,
    /// The store lost what it had before this; the start if nobody knows of such a loss.
    pub lost: Reach,
    /// The number of the newest reason for which this node may lack events.
    pub doubt: u64,
    /// How often other nodes may have taken this one for dead.
    pub absences: u64,
    /// What the key-value store's clock showed, in Unix ms, and when that was heard.
    pub store_now: Option<(u64, Instant)>,
}

/// A shard's view of the other nodes.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Connections to them.
    pub(crate) links: Links,
    /// What came of calls, and is to be settled.
    pub(crate) outcomes: VecDeque<(Called, Outcome)>,
    /// Addresses of the dispatchers that the settings name.
    pub(crate) dispatchers: Arc<Vec<SocketAddr>>,
    /// Addresses of nodes whose URLs have names.
    pub(crate) hosts: Map<Url, SocketAddr>,
    /// URLs being looked up, and those that have no address, with the time before which nobody asks again.
    resolving: Map<Url, Option<Instant>>,
    next_tidy: Option<Instant>,
    /// Questions for a dispatcher to ask its key-value store.
    pub(crate) questions: Questions,
    /// Questions of other nodes to this one's.
    pub(crate) relays: Map<u64, Relay>,
    pub(crate) next_relay: u64,
    /// Events for a dispatcher to publish.
    pub(crate) handover: Handover,
    /// What is known of other data centers, as of the last heartbeat.
    pub(crate) others: Arc<Vec<PeerState>>,
    /// Nodes that lost their lease lately, the newest last.
    pub(crate) gone: VecDeque<(NodeInfo, Instant)>,
    /// Databases of this data center's backends, also of those that are gone.
    databases: Vec<Box<str>>,
    /// Since when the store lost nothing, as this node heard first.
    pub(crate) since: Option<Reach>,
    /// The store lost what it had before this, which some node knew; the start if none did.
    pub(crate) lost: Reach,
    /// On the shard that sends heartbeats: when the last was answered, and how often other nodes may have taken this one for dead.
    pub(crate) heard: (Option<Instant>, u64),
    /// How often they may have, as this shard knows.
    absences: u64,
    /// What the log said of another node that refuses this one.
    pub(crate) warned: Told,
    /// What the log said of those who showed another secret.
    pub(crate) refused: RefCell<Told>,
    /// What the log said of the rest.
    pub(crate) told: ToldEach<Trouble>,
}

/// The node of this id among those that live, which the store gives in the order of their ids.
pub(crate) fn among(alive: &[NodeInfo], node: NodeId) -> Option<&NodeInfo> {
    alive.binary_search_by_key(&node, |info| info.id).ok().map(|at| &alive[at])
}

/// Whether those that lived are others now.
#[derive(Debug, Default)]
pub struct Differ {
    /// A dispatcher of this data center was lost.
    pub(crate) lost_dispatcher: bool,
    /// Dispatchers or backends came or went.
    pub(crate) tellers: bool,
    /// This node may have been taken for dead, and others for what it does.
    pub(crate) was_absent: bool,
}

impl Ground {
    /// A heartbeat was answered.
    pub(crate) fn on_heartbeat_heard(&mut self) {
        let now = self.clock.instant;
        self.node.heard_ms.store(self.clock.unix_ms, Ordering::Relaxed);
        let (heard, absences) = &mut self.cluster.heard;
        let before = heard.replace(now);
        *absences += u64::from(before.is_some_and(|before| now.saturating_duration_since(before) > LEASE_SURE));
    }

    /// Who lives, as a heartbeat's answer says, before what the key-value store lost what it had, and how often this node may have
    /// been taken for dead.
    pub(crate) fn on_alive(&mut self, nodes: Arc<Vec<NodeInfo>>, lost: Reach, absences: u64) -> Differ {
        // A store that lost what it had knew of no node for a while.
        let was_absent = lost > self.cluster.lost || absences > self.cluster.absences;
        self.cluster.lost = self.cluster.lost.max(lost);
        self.cluster.absences = self.cluster.absences.max(absences);
        for database in nodes.iter().filter_map(|node| node.database.as_ref()) {
            if is_database(database) && !self.cluster.databases.contains(database) {
                self.cluster.databases.truncate(DATABASES_KNOWN - 1);
                self.cluster.databases.insert(0, database.clone());
            }
        }
        let tells = |node: &&NodeInfo| node.is("dispatcher") || node.is("backend");
        let differ = Differ {
            was_absent,
            lost_dispatcher: self.alive.iter().any(|node| node.is("dispatcher") && among(&nodes, node.id).is_none()),
            tellers: self
                .alive
                .iter()
                .filter(tells)
                .map(|node| node.id)
                .ne(nodes.iter().filter(tells).map(|node| node.id)),
        };
        self.note_gone(&nodes);
        self.alive = nodes;
        differ
    }

    /// These live. Keeps for a while which others did, for operators. A node that began anew where one was is that one to them.
    fn note_gone(&mut self, nodes: &[NodeInfo]) {
        let (gone, now) = (&mut self.cluster.gone, self.clock.instant);
        let lost = self.alive.iter().filter(|node| among(nodes, node.id).is_none());
        gone.extend(lost.map(|node| (node.clone(), now)));
        gone.retain(|(info, at)| {
            now.saturating_duration_since(*at) < GONE_SHOWN_FOR && nodes.iter().all(|node| node.url != info.url)
        });
        gone.drain(..gone.len().saturating_sub(GONE_SHOWN));
    }

    /// A heartbeat was not answered: the next one comes before the lease lapses.
    pub(crate) fn on_unheard(&mut self, error: Unavailable) {
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

    /// Once a tick.
    pub(crate) fn tick(&mut self) {
        self.tick_links();
        self.tick_questions();
        self.tick_handover();
        self.tick_control();
        self.report_to_hooks();
        let now = self.clock.instant;
        if self.cluster.next_tidy.is_none_or(|next| next <= now) {
            self.cluster.next_tidy = Some(now + WINDOW_IDLE / 10);
            self.tidy_hosts();
        }
        // Operators look at them now and then.
        if self.is_whole_second()
            && let Ok(mut views) = self.node.links[self.id].lock()
        {
            *views = self.cluster.links.views(self.id, &self.node.peers, now);
        }
    }

    /// Whether an id is one that this data center's databases or nodes give.
    pub(crate) fn is_given_here(&self, id: &str) -> bool {
        match giver(id) {
            Some(Giver::Database(name)) => {
                let own = || self.node.store.as_ref().and_then(Store::database);
                self.cluster.databases.iter().any(|known| **known == *name) || own().as_deref() == Some(name)
            }
            Some(Giver::Node(node)) => node == self.node.id || self.alive_node(node).is_some(),
            None => false,
        }
    }

    /// A node whose lease holds.
    pub(crate) fn alive_node(&self, node: NodeId) -> Option<&NodeInfo> {
        among(&self.alive, node)
    }

    /// Names became addresses.
    pub(crate) fn on_found(&mut self, found: Found) {
        match found {
            Found::Dispatchers(addresses) => self.cluster.dispatchers = Arc::new(addresses),
            Found::Node(url, addresses) => {
                let number = self.random.number() as usize;
                match addresses.get(number % addresses.len().max(1)) {
                    Some(address) => {
                        self.cluster.resolving.remove(&url);
                        self.cluster.hosts.insert(url, *address);
                    }
                    None => {
                        self.cluster.resolving.insert(url, Some(self.clock.instant + RESOLVE_AGAIN));
                    }
                }
            }
        }
    }

    /// Has a URL looked up, unless that is being done, or came to nothing just now.
    pub(crate) fn resolve(&mut self, url: &Url) {
        let now = self.clock.instant;
        if self.cluster.resolving.get(url).is_none_or(|until| until.is_some_and(|until| until <= now))
            && self.node.resolver.as_ref().is_some_and(|resolver| resolver.ask(url.clone()))
        {
            self.cluster.resolving.insert(url.clone(), None);
        }
    }

    /// Now and then: forgets the names of nodes that are gone.
    fn tidy_hosts(&mut self) {
        let now = self.clock.instant;
        self.cluster.resolving.retain(|_, until| until.is_none_or(|until| until > now));
        let (nodes, peers) = (&self.alive, &self.node.peers);
        let is_known = |url: &Url| {
            nodes.iter().any(|node| node.url.url() == url) || peers.iter().any(|peer| peer.urls.contains(url))
        };
        self.cluster.hosts.retain(|url, _| is_known(url));
    }

    /// Somebody wants to know who lives, earlier than the next heartbeat would tell.
    pub(crate) fn ask_alive(&mut self) {
        self.send(0, Message::AskAlive);
    }

    /// Same, at the shard that sends heartbeats. Not at once, so that many who ask get one answer.
    pub(crate) fn on_ask_alive(&mut self) {
        let now = self.clock.instant;
        let is_recent = self.next_heartbeat > now + NODE_HEARTBEAT.saturating_sub(HEARTBEAT_SOONEST);
        self.next_heartbeat = self.next_heartbeat.min(if is_recent { now + HEARTBEAT_SOONEST } else { now });
    }

    /// Why this node cannot do its work at the moment, if it cannot.
    pub(crate) fn trouble(&self) -> Option<Reason> {
        let node = &self.node;
        if let Some(kv) = &node.kv {
            return kv.trouble();
        }
        let heard = node.heard_ms.load(Ordering::Relaxed);
        if self.clock.unix_ms.saturating_sub(heard) < NODE_LEASE.as_millis() as u64 {
            return None;
        }
        let why = node.trouble.lock().ok().and_then(|trouble| trouble.clone());
        Some(why.unwrap_or_else(|| Reason::plain("waiting for a dispatcher: none of --dispatchers has answered yet")))
    }
}
