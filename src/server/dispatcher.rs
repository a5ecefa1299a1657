//! A shard's part in a Dispatcher: events that are published, to the nodes whose viewers want them and to other data centers; and
//! what is known of all nodes' viewers.

use std::time::Instant;

use super::appending::StoreClock;
use super::cluster::Differ;
use super::ground::Ground;
use super::outboxes::Outboxes;
use super::peers::Peers;
use crate::dispatch::core::Subscribers;
use crate::dispatch::datacenter::PeerState;
use crate::dispatch::tally::Tally;
use crate::limits::WINDOW_IDLE;

/// See the [module](self).
pub struct Dispatcher {
    /// Which nodes want what.
    pub(super) subscribers: Subscribers,
    /// Events on their way into history.
    pub(super) appends_waiting: usize,
    pub(super) store_clock: StoreClock,
    /// Frames for other nodes.
    pub(super) outboxes: Outboxes,
    /// Other data centers.
    pub(super) peers: Peers,
    /// All nodes' viewers of the topics at home here.
    pub(super) tally: Tally,
    /// All counts are being read.
    pub(super) reading_counts: bool,
    /// When they may be read again.
    pub(super) counts_due: Instant,
    /// Topics to look at whether their viewers are to be told of their number.
    pub(super) counts: usize,
    /// When senders of peers' batches that are gone are forgotten next.
    pub(super) next_tidy: Instant,
}

impl Dispatcher {
    /// That of a shard which begins.
    pub(super) fn start(ground: &mut Ground) -> Dispatcher {
        let mut dispatcher = Dispatcher {
            subscribers: Subscribers::new(ground.node.kv_is_away_at_times()),
            appends_waiting: 0,
            store_clock: StoreClock::default(),
            outboxes: Outboxes::default(),
            peers: Peers::default(),
            tally: Tally::new(),
            reading_counts: false,
            counts_due: ground.clock.instant,
            counts: 0,
            next_tidy: ground.clock.instant,
        };
        dispatcher.open_peers(ground);
        dispatcher
    }
}

impl Dispatcher {
    /// Once a tick.
    pub(super) fn tick(&mut self, ground: &mut Ground) {
        self.tick_outboxes(ground);
        self.tick_peers(ground);
        if self.next_tidy <= ground.clock.instant {
            self.next_tidy = ground.clock.instant + WINDOW_IDLE / 10;
            self.tidy_peers(ground);
        }
        self.subscribers.tick(ground.clock.instant);
        self.read_counts(ground);
        self.ask_totals(ground);
        self.counts = self.tally.changed();
    }

    /// At the end of a turn: sends what there is for other nodes.
    pub(super) fn send(&mut self, ground: &mut Ground) {
        self.send_frames(ground);
        self.send_broadcasts(ground);
    }

    /// Nothing of this shard waits for another node.
    pub(super) fn has_nothing_for_others(&self, ground: &Ground) -> bool {
        self.outboxes.is_empty() && self.has_nothing_for_peers(ground)
    }

    /// What is known of which nodes want what may be wrong.
    pub(super) fn forget_all(&mut self) {
        self.subscribers.forget_all();
        self.tally.doubt();
    }

    /// Who lives, and what is known of other data centers, as a heartbeat's answer says. `changed` is whether a node came or
    /// went; `differ` which of those that lived are others now.
    pub(super) fn on_alive_nodes(&mut self, ground: &mut Ground, states: &[PeerState], changed: bool, differ: &Differ) {
        if differ.tellers {
            // What a dispatcher or a backend that is gone did not tell, and what was asked for while there was none.
            self.tally.doubt_totals();
        }
        self.on_peers(states, differ.lost_dispatcher);
        if changed {
            self.keep_counts(ground);
        }
        self.on_nodes(ground);
    }
}
