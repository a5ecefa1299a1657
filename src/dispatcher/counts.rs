//! What all nodes have of viewers: the dispatcher that ranks highest for a topic tells its viewers, and other data centers.

use std::sync::Arc;

use serde_json::json;

use crate::dispatcher::Dispatcher;
use crate::dispatcher::tally::Due;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::cluster::among;
use crate::ground::hooks::HookNews;
use crate::ground::own::Own;
use crate::kv::datacenter::PeerViewers;
use crate::kv::{NodeCounts, Request, Unavailable, highest};
use crate::limits::{COUNTS_PAUSE, CROWD_BURST};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::event::VIEWERS;
use crate::wire::topic::Topic;

/// What they are told. Nothing of members where no stream says whose it is.
pub(crate) fn viewers_data(viewers: u32, members: u32) -> String {
    match members {
        0 => json!({"viewers": viewers}),
        _ => json!({"viewers": viewers, "members": members}),
    }
    .to_string()
}

impl Dispatcher {
    /// A node's viewers changed.
    pub(crate) fn on_node_counts(&mut self, ground: &mut Ground, change: &NodeCounts) {
        let node = Arc::clone(&ground.node);
        self.tally.change(change, |topic| node.home(topic.as_str()) == ground.id);
    }

    /// What all nodes have.
    pub(crate) fn on_all_counts(&mut self, ground: &mut Ground, result: Result<Vec<NodeCounts>, Unavailable>) {
        self.reading_counts = false;
        let node = Arc::clone(&ground.node);
        match result {
            Ok(counts) => {
                let (alive, alone) = (Arc::clone(&ground.alive), node.info.is_none());
                let lives = |id| alone || among(&alive, id).is_some();
                self.tally.read(&counts, lives, |topic| node.home(topic.as_str()) == ground.id);
            }
            Err(_) => self.tally.doubt(),
        }
    }

    /// A peer's viewers changed.
    pub(crate) fn on_peer_viewers(&mut self, ground: &mut Ground, said: &PeerViewers) {
        let node = Arc::clone(&ground.node);
        let is_home = |topic: &Topic| node.home(topic.as_str()) == ground.id;
        if said.full {
            return self.tally.read_peer(&said.dc, &said.viewers, is_home);
        }
        for (topic, crowd) in said.viewers.iter().filter(|(topic, _)| is_home(topic)) {
            self.tally.set_peer(&said.dc, topic, crowd);
        }
    }

    /// What all peers have.
    pub(crate) fn on_all_peer_viewers(&mut self, ground: &mut Ground, result: Result<Vec<PeerViewers>, Unavailable>) {
        match result {
            Ok(said) => said.iter().for_each(|said| self.on_peer_viewers(ground, said)),
            Err(_) => self.tally.doubt(),
        }
    }

    /// Nodes came or went.
    pub(crate) fn keep_counts(&mut self, ground: &mut Ground) {
        let alive = Arc::clone(&ground.alive);
        self.tally.keep(|id| planted(Mistake::GhostsCounted) || among(&alive, id).is_some());
        self.tally.look_again();
    }

    pub(crate) fn read_counts(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        // A store that answers and takes nothing is not asked at every tick: viewers are not told more often, either.
        if !self.reading_counts && now >= self.counts_due && self.tally.take_stale() {
            (self.reading_counts, self.counts_due) = (true, now + COUNTS_PAUSE);
            ground.ask(Request::Counts, Asked::Counts);
            if self.has_peers() {
                ground.ask(Request::PeerViewers, Asked::PeerViewers);
            }
        }
    }

    /// Tells viewers of their number, of as many topics as a burst may. False if nobody is left to be told in this tick.
    pub(crate) fn tell_counts(&mut self, ground: &mut Ground) -> bool {
        let looks = self.counts.min(CROWD_BURST);
        self.counts -= looks;
        let (alive, own) = (Arc::clone(&ground.alive), ground.node.id);
        let dispatchers = || alive.iter().filter(|node| node.is("dispatcher")).map(|node| node.id);
        let alone = ground.node.info.is_none();
        let is_ours = |topic: &Topic| alone || highest(topic.as_str(), dispatchers()) == Some(own);
        if ground.take_hooks_renewed() {
            self.tally.doubt_occupied();
        }
        for Due { topic, total, own, occupied } in self.tally.due(ground.clock.instant, looks, is_ours) {
            if let Some(occupied) = occupied {
                let news = HookNews::Topic { topic: topic.to_string(), occupied, at: ground.clock.unix_ms };
                if !ground.tell_hooks(news) {
                    self.tally.doubt_occupied();
                }
            }
            if let Some((viewers, members)) = total {
                ground.publish(Own::new(&topic, VIEWERS, viewers_data(viewers, members)));
            }
            if let Some(crowd) = own {
                self.tell_peers_viewers(ground, &topic, &crowd);
            }
        }
        looks > 0
    }
}
