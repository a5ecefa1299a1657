//! A shard's part in a Dispatcher: events that are published, to the nodes whose viewers want them and to other data centers; and
//! what is known of all nodes' viewers.

pub mod appending;
pub mod counts;
pub mod once;
pub mod outboxes;
pub mod peers;
pub mod prefixes;
pub mod publish;
pub mod subscribers;
pub mod tally;
pub mod totals;
pub mod whereabouts;

use std::time::Instant;

use crate::dispatcher::appending::StoreClock;
use crate::dispatcher::outboxes::Outboxes;
use crate::dispatcher::peers::Peers;
use crate::dispatcher::prefixes::Prefixes;
use crate::dispatcher::subscribers::Subscribers;
use crate::dispatcher::tally::Tally;
use crate::ground::Ground;
use crate::ground::cluster::Differ;
use crate::kv::datacenter::PeerState;
use crate::limits::{NODE_LEASE, WINDOW_IDLE};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::topic::Topic;

/// See the [module](self).
pub struct Dispatcher {
    /// Which nodes want what.
    pub(crate) subscribers: Subscribers,
    /// Which want prefixes.
    pub(crate) prefixes: Prefixes,
    /// Events on their way into history.
    pub(crate) appends_waiting: usize,
    pub(crate) store_clock: StoreClock,
    /// Frames for other nodes.
    pub(crate) outboxes: Outboxes,
    /// Other data centers.
    pub(crate) peers: Peers,
    /// All nodes' viewers of the topics at home here.
    pub(crate) tally: Tally,
    /// All counts are being read.
    pub(crate) reading_counts: bool,
    /// When they may be read again.
    pub(crate) counts_due: Instant,
    /// When all that is to be told is told again: somebody else may have told other things, who does not tell any more by then.
    pub(crate) tell_again_at: Option<Instant>,
    /// Topics to look at whether their viewers are to be told of their number.
    pub(crate) counts: usize,
    /// When senders of peers' batches that are gone are forgotten next.
    pub(crate) next_tidy: Instant,
}

impl Dispatcher {
    /// That of a shard which begins.
    pub(crate) fn start(ground: &mut Ground) -> Dispatcher {
        let mut dispatcher = Dispatcher {
            subscribers: Subscribers::new(ground.node.kv_is_away_at_times()),
            prefixes: Prefixes::new(ground.node.kv_is_away_at_times()),
            appends_waiting: 0,
            store_clock: StoreClock::default(),
            outboxes: Outboxes::default(),
            peers: Peers::default(),
            tally: Tally::new(),
            reading_counts: false,
            counts_due: ground.clock.instant,
            tell_again_at: None,
            counts: 0,
            next_tidy: ground.clock.instant,
        };
        dispatcher.open_peers(ground);
        dispatcher
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self, ground: &mut Ground) {
        self.tick_outboxes(ground);
        self.tick_peers(ground);
        if self.next_tidy <= ground.clock.instant {
            self.next_tidy = ground.clock.instant + WINDOW_IDLE / 10;
            self.tidy_peers(ground);
        }
        if self.tell_again_at.is_some_and(|at| at <= ground.clock.instant) {
            self.tell_again_at = None;
            self.tally.tell_again();
        }
        self.subscribers.tick(ground.clock.instant);
        self.prefixes.tick(ground.clock.instant);
        self.read_counts(ground);
        self.ask_totals(ground);
        self.counts = self.tally.changed();
    }

    /// At the end of a turn: sends what there is for other nodes.
    pub(crate) fn send(&mut self, ground: &mut Ground) {
        self.send_frames(ground);
        self.send_broadcasts(ground);
    }

    /// Nothing of this shard waits for another node.
    pub(crate) fn has_nothing_for_others(&self, ground: &Ground) -> bool {
        self.outboxes.is_empty() && self.has_nothing_for_peers(ground)
    }

    /// What is known of who wants a topic, or a prefix, is no longer true.
    pub(crate) fn forget(&mut self, topic: &Topic) {
        match Prefixes::is_of(topic) {
            true => self.prefixes.forget(topic),
            false => self.subscribers.forget(topic),
        }
    }

    /// What is known of which nodes want what may be wrong.
    pub(crate) fn forget_all(&mut self) {
        self.subscribers.forget_all();
        self.prefixes.forget_all();
        self.tally.doubt();
    }

    /// Who lives, and what is known of other data centers, as a heartbeat's answer says. `changed` is whether a node came or
    /// went; `differ` which of those that lived are others now.
    pub(crate) fn on_alive_nodes(&mut self, ground: &mut Ground, states: &[PeerState], changed: bool, differ: &Differ) {
        if differ.tellers {
            // What a dispatcher or a backend that is gone did not tell, and what was asked for while there was none.
            self.tally.doubt_totals();
        }
        if (differ.tellers || differ.was_absent) && !planted(Mistake::StandInBelieved) {
            self.tell_again_at = Some(ground.clock.instant + NODE_LEASE);
        }
        self.on_peers(states, differ.lost_dispatcher);
        if changed {
            self.keep_counts(ground);
        }
        self.on_nodes(ground);
    }
}
