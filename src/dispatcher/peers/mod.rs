//! Other data centers. Events that clients and backends give to this one go to each peer once; what comes from a peer is
//! delivered here and goes no further.
//!
//! - [`broadcast`]: classes that wait in memory, as numbered frames.
//! - [`queue`]: class `every`, which waits in the key-value store, so that any dispatcher can go on with it.
//! - [`hello`]: who lives, whose clock says what, and how many viewers there are.
//! - [`incoming`]: what peers send.
//! - [`members`]: presence over data centers.

pub mod broadcast;
pub mod hello;
pub mod incoming;
pub mod members;
pub mod queue;

use tracing::warn;
use url::Url;

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::link::{Destination, Lane};
use crate::ground::peers::Peer;
use crate::observe::peers::PeerCounters;
use crate::queue::outbox::Outbox;
use crate::queue::window::{Window, Windows};
use crate::runtime::random::Map;
use crate::runtime::trouble::Told;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Stranger;
use crate::wire::snapshot::PeerGlance;

/// What a shard has for one peer.
#[derive(Debug)]
pub(crate) struct Line {
    outbox: Outbox,
    /// What was seen of the batches of its dispatchers.
    windows: Windows<Stranger>,
    /// Which of its URLs is in use.
    url: usize,
    hello: hello::Hello,
    pumps: Map<u8, queue::Pump>,
    /// What the log said of its refusing this node.
    warned: Told,
    /// What the log said of its events that this node leaves out.
    left_out: Told,
}

/// A shard's peers.
#[derive(Debug, Default)]
pub struct Peers {
    lines: Vec<Line>,
    /// Another dispatcher of this data center was lost: what it said of viewers may be wrong.
    lost_dispatcher: bool,
}

impl Dispatcher {
    /// Before the first turn.
    pub(crate) fn open_peers(&mut self, ground: &mut Ground) {
        for peer in &ground.node.peers {
            let url = ground.random.number() as usize % peer.urls.len();
            self.peers.lines.push(Line {
                outbox: Outbox::to_peer(ground.node.id, ground.id as u16, ground.clock.instant, &ground.account),
                windows: Windows::default(),
                url,
                hello: hello::Hello::new(ground.clock.instant),
                pumps: Map::default(),
                warned: Told::default(),
                left_out: Told::default(),
            });
        }
    }

    /// Whether there is anybody to send to.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.lines.is_empty()
    }

    /// What was seen of the batches of a peer's dispatcher, whose oldest unanswered number is `floor`.
    pub(crate) fn peer_window(
        &mut self,
        ground: &mut Ground,
        peer: usize,
        sender: NodeId,
        shard: u16,
        floor: u64,
    ) -> &mut Window {
        let (sender, now) = (Stranger::of(&ground.node.peers[peer].name, sender), ground.clock.instant);
        self.peers.lines[peer].windows.of(sender, shard, floor, now)
    }

    /// This shard's numbers of a peer.
    fn peer_counters<'a>(&self, ground: &'a Ground, peer: usize) -> &'a PeerCounters {
        &ground.node.peers[peer].metrics.shards[ground.id]
    }

    /// Where to send to a peer: the URL in use, or, where that takes no calls, the next one that does.
    pub(crate) fn pick_url(&mut self, ground: &mut Ground, peer: usize, lane: Lane) -> Option<Destination> {
        let (count, first) = (ground.node.peers[peer].urls.len(), self.peers.lines[peer].url);
        let mut urls = (0..count).map(|step| (first + step) % count);
        let url = urls.find(|url| ground.link_takes((Destination::Peer { peer, url: *url }, lane)))?;
        self.peers.lines[peer].url = url;
        Some(Destination::Peer { peer, url })
    }

    /// Another URL of a peer is to be tried next.
    fn turn_from(&mut self, ground: &mut Ground, peer: usize) {
        let count = ground.node.peers[peer].urls.len();
        let line = &mut self.peers.lines[peer];
        line.url = (line.url + 1) % count;
    }

    /// A peer refuses what this node sends: one line a minute, since somebody has to set something right.
    fn warn_of_peer(&mut self, ground: &mut Ground, peer: usize, status: u16, body: &[u8]) {
        if self.peers.lines[peer].warned.fails(ground.clock.instant) {
            let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let detail = problem["detail"].as_str().unwrap_or("no reason given");
            warn!(peer = ground.node.peers[peer].name, status, detail, "a peer refuses this data center's requests");
        }
    }

    /// Once a tick.
    pub(crate) fn tick_peers(&mut self, ground: &mut Ground) {
        for peer in 0..self.peers.lines.len() {
            self.tick_broadcast(ground, peer);
            self.tick_queue(ground, peer);
            self.tick_hello(ground, peer);
        }
        self.peers.lost_dispatcher = false;
    }

    /// Now and then: forgets senders that are gone.
    pub(crate) fn tidy_peers(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        // Names of other data centers' nodes are not known here.
        self.peers.lines.iter_mut().for_each(|line| line.windows.tidy(now, |_| false));
    }

    /// Other data centers as this node sees them, for an operator.
    pub(crate) fn peers_info(&self, ground: &Ground) -> serde_json::Value {
        let states = &ground.cluster.others;
        let view = |peer: &Peer| {
            let state = states.iter().find(|state| state.dc == peer.name);
            serde_json::json!({
                "data_center": peer.name,
                "urls": peer.urls.iter().map(Url::as_str).collect::<Vec<_>>(),
                "connected": peer.metrics.is_connected(),
                "heard": state.is_some_and(|state| state.alive),
                "lag_seconds": peer.metrics.lag_ms(ground.clock.unix_ms) as f64 / 1e3,
                "clock_ahead_seconds": peer.metrics.clock_ahead_ms() as f64 / 1e3,
                "lacked": state.and_then(|state| state.lacked),
            })
        };
        ground.node.peers.iter().map(view).collect()
    }

    /// The same in a few words, for who watches a node.
    pub(crate) fn peer_glances(&self, ground: &Ground) -> Vec<PeerGlance> {
        let states = &ground.cluster.others;
        let glance = |peer: &Peer| PeerGlance {
            name: peer.name.clone(),
            connected: peer.metrics.is_connected(),
            heard: states.iter().any(|state| state.dc == peer.name && state.alive),
            lag_ms: peer.metrics.lag_ms(ground.clock.unix_ms),
            clock_ahead_ms: peer.metrics.clock_ahead_ms(),
        };
        ground.node.peers.iter().map(glance).collect()
    }

    /// Nothing of this shard waits in memory for a peer that takes it.
    pub(crate) fn has_nothing_for_peers(&self, ground: &Ground) -> bool {
        let waits =
            |(peer, line): (usize, &Line)| !line.outbox.is_empty() && ground.node.peers[peer].metrics.is_connected();
        !self.peers.lines.iter().enumerate().any(waits)
    }
}
