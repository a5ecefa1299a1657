//! What a shard knows of other nodes, and has for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use url::Url;

use super::handover::Handover;
use super::link::{Called, Outcome};
use super::links::Links;
use super::message::Message;
use super::outboxes::Outboxes;
use super::peers::Peers;
use super::questions::{Questions, Relay};
use super::shard::Shard;
use crate::backend::store::Store;
use crate::dispatch::datacenter::PeerState;
use crate::dispatch::kv::NodeInfo;
use crate::frontend::window::Windows;
use crate::limits::{DATABASES_KNOWN, HEARTBEAT_SOONEST, NODE_HEARTBEAT, NODE_LEASE, RESOLVE_AGAIN, WINDOW_IDLE};
use crate::observe::trouble::{Reason, Told, ToldEach};
use crate::runtime::random::Map;
use crate::runtime::resolver::Found;
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

/// A shard's view of the other nodes.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Connections to them.
    pub(super) links: Links,
    /// What came of calls, and is to be settled.
    pub(super) outcomes: VecDeque<(Called, Outcome)>,
    /// Addresses of the dispatchers that the settings name.
    pub(super) dispatchers: Arc<Vec<SocketAddr>>,
    /// Addresses of nodes whose URLs have names.
    pub(super) hosts: Map<Url, SocketAddr>,
    /// URLs being looked up, and those that have no address, with the time before which nobody asks again.
    resolving: Map<Url, Option<Instant>>,
    /// Frames for other nodes.
    pub(super) outboxes: Outboxes,
    /// What was seen of other nodes' frames.
    pub(super) windows: Windows<NodeId>,
    next_tidy: Option<Instant>,
    /// Questions for a dispatcher to ask its key-value store.
    pub(super) questions: Questions,
    /// Questions of other nodes to this one's.
    pub(super) relays: Map<u64, Relay>,
    pub(super) next_relay: u64,
    /// Events for a dispatcher to publish.
    pub(super) handover: Handover,
    /// Other data centers.
    pub(super) peers: Peers,
    /// Databases of this data center's backends, also of those that are gone.
    databases: Vec<Box<str>>,
    /// Since when the store lost nothing, as this node heard first.
    pub(super) since: Option<Reach>,
    /// The store lost what it had before this, which some node knew; the start if none did.
    pub(super) lost: Reach,
    /// What the log said of another node that refuses this one.
    pub(super) warned: Told,
    /// What the log said of those who showed another secret.
    pub(super) refused: RefCell<Told>,
    /// What the log said of the rest.
    pub(super) told: ToldEach<Trouble>,
}

/// The node of this id among those that live, which the store gives in the order of their ids.
pub(super) fn among(alive: &[NodeInfo], node: NodeId) -> Option<&NodeInfo> {
    alive.binary_search_by_key(&node, |info| info.id).ok().map(|at| &alive[at])
}

impl Shard {
    /// Who lives, and what is known of other data centers, as a heartbeat's answer says.
    pub(super) fn on_alive_nodes(&mut self, nodes: Arc<Vec<NodeInfo>>, peers: Arc<Vec<PeerState>>) {
        let lost = self.alive.iter().any(|node| node.is("dispatcher") && among(&nodes, node.id).is_none());
        for database in nodes.iter().filter_map(|node| node.database.as_ref()) {
            if is_database(database) && !self.cluster.databases.contains(database) {
                self.cluster.databases.truncate(DATABASES_KNOWN - 1);
                self.cluster.databases.insert(0, database.clone());
            }
        }
        let counts = |node: &&NodeInfo| node.is("dispatcher") || node.is("backend");
        // What a dispatcher or a backend that is gone did not tell, and what was asked for while there was none.
        let differ =
            self.alive.iter().filter(counts).map(|node| node.id).ne(nodes.iter().filter(counts).map(|node| node.id));
        if differ {
            self.tally.doubt_totals();
        }
        self.alive = nodes;
        self.on_peers(peers, lost);
    }

    /// Whether an id is one that this data center's databases or nodes give.
    pub(super) fn is_given_here(&self, id: &str) -> bool {
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
    pub(super) fn alive_node(&self, node: NodeId) -> Option<&NodeInfo> {
        among(&self.alive, node)
    }

    /// At the end of a turn: what other nodes answered is settled, and what there is for them goes out. True if there is
    /// more to do at once.
    pub(super) fn exchange(&mut self) -> bool {
        self.settle_calls();
        self.open_local();
        self.send_registrations();
        self.send_questions();
        self.send_frames();
        self.send_events();
        self.send_broadcasts();
        !self.cluster.outcomes.is_empty() || !self.local.is_empty()
    }

    /// Once a tick.
    pub(super) fn tick_cluster(&mut self) {
        self.tick_links();
        self.tick_questions();
        self.tick_outboxes();
        self.tick_handover();
        self.tick_peers();
        self.tick_journeys();
        self.dispatcher.tick(self.clock.instant);
        let now = self.clock.instant;
        if self.cluster.next_tidy.is_none_or(|next| next <= now) {
            self.cluster.next_tidy = Some(now + WINDOW_IDLE / 10);
            let alive = Arc::clone(&self.alive);
            self.cluster.windows.tidy(now, |node| among(&alive, node).is_some());
            self.tidy_peers();
            self.tidy_hosts();
        }
        // Operators look at them now and then.
        if self.is_whole_second()
            && let Ok(mut views) = self.node.links[self.id].lock()
        {
            *views = self.cluster.links.views(self.id, &self.node.peers);
        }
    }

    /// Nothing of this shard waits for another node.
    pub(super) fn has_nothing_for_others(&self) -> bool {
        self.cluster.outboxes.is_empty() && self.cluster.handover.is_empty() && self.has_nothing_for_peers()
    }

    /// Names became addresses.
    pub(super) fn on_found(&mut self, found: Found) {
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
    pub(super) fn resolve(&mut self, url: &Url) {
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
    pub(super) fn ask_alive(&mut self) {
        self.send(0, Message::AskAlive);
    }

    /// Same, at the shard that sends heartbeats. Not at once, so that many who ask get one answer.
    pub(super) fn on_ask_alive(&mut self) {
        let now = self.clock.instant;
        let is_recent = self.next_heartbeat > now + NODE_HEARTBEAT.saturating_sub(HEARTBEAT_SOONEST);
        self.next_heartbeat = self.next_heartbeat.min(if is_recent { now + HEARTBEAT_SOONEST } else { now });
    }

    /// Why this node cannot do its work at the moment, if it cannot.
    pub(super) fn trouble(&self) -> Option<Reason> {
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
