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
use crate::dispatch::datacenter::PeerState;
use crate::dispatch::kv::{NodeInfo, Unavailable};
use crate::frontend::window::Windows;
use crate::limits::{HEARTBEAT_SOONEST, NODE_HEARTBEAT, NODE_LEASE, WINDOW_IDLE};
use crate::observe::trouble::Told;
use crate::runtime::random::{Map, Set};
use crate::runtime::resolver::Found;
use crate::wire::connection_id::NodeId;

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
    /// URLs being looked up.
    pub(super) resolving: Set<Url>,
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
    /// What the log said of another node that refuses this one.
    pub(super) warned: Told,
    /// What the log said of those who showed another secret.
    pub(super) refused: RefCell<Told>,
}

impl Shard {
    /// Who lives, and what is known of other data centers, as a heartbeat's answer says.
    pub(super) fn on_alive_nodes(&mut self, nodes: Arc<Vec<NodeInfo>>, peers: Arc<Vec<PeerState>>) {
        let lives = |id| nodes.binary_search_by_key(&id, |node: &NodeInfo| node.id).is_ok();
        let lost = self.alive.iter().any(|node| node.is("dispatcher") && !lives(node.id));
        self.alive = nodes;
        self.on_peers(peers, lost);
    }

    /// A node whose lease holds.
    pub(super) fn alive_node(&self, node: NodeId) -> Option<&NodeInfo> {
        // The store gives them in the order of their ids.
        self.alive.binary_search_by_key(&node, |info| info.id).ok().map(|at| &self.alive[at])
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
        self.dispatcher.tick(self.clock.instant);
        let now = self.clock.instant;
        if self.cluster.next_tidy.is_none_or(|next| next <= now) {
            self.cluster.next_tidy = Some(now + WINDOW_IDLE / 10);
            let alive = Arc::clone(&self.alive);
            let is_alive = |node| alive.binary_search_by_key(&node, |info: &NodeInfo| info.id).is_ok();
            self.cluster.windows.tidy(now, is_alive);
            self.tidy_peers();
        }
        if let Ok(mut views) = self.node.links[self.id].lock() {
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
                self.cluster.resolving.remove(&url);
                let number = self.random.number() as usize;
                if let Some(address) = addresses.get(number % addresses.len().max(1)) {
                    self.cluster.hosts.insert(url, *address);
                }
            }
        }
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
    pub(super) fn trouble(&self) -> Option<String> {
        let node = &self.node;
        if let Some(kv) = &node.kv {
            return kv.trouble().map(|why| Unavailable(why).to_string());
        }
        let heard = node.heard_ms.load(Ordering::Relaxed);
        if self.clock.unix_ms.saturating_sub(heard) < NODE_LEASE.as_millis() as u64 {
            return None;
        }
        let why = node.trouble.lock().ok().and_then(|trouble| trouble.clone());
        Some(why.unwrap_or_else(|| "waiting for a dispatcher: none of --dispatchers has answered yet".to_owned()))
    }
}
