//! Viewer counts: each core says how many it has, the node's first shard adds them up and tells the key-value store, and the
//! dispatcher that ranks highest for a topic tells the topic's viewers.

use super::own::Own;
use crate::server::dispatcher::Dispatcher;
use crate::server::frontend::Frontend;
use crate::server::ground::Ground;
use std::sync::Arc;

use serde_json::json;

use super::asking::Asked;
use super::cluster::among;
use super::message::Message;
use crate::dispatch::datacenter::PeerViewers;
use crate::dispatch::kv::{Alive, Answer, NodeCounts, Request, Unavailable, highest};
use crate::dispatch::tally::Due;
use crate::frontend::audience::Move;
use crate::limits::{COUNTS_PAUSE, CROWD_BURST, CROWD_SLICE};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::topic::Topic;

/// The kind of topics whose viewers are counted.
pub const COUNTED: &str = "live:";

/// The type of what viewers are told of their number.
pub const VIEWERS: &str = "viewers";

/// What they are told. Nothing of members where no stream says whose it is.
fn viewers_data(viewers: u32, members: u32) -> String {
    match members {
        0 => json!({"viewers": viewers}),
        _ => json!({"viewers": viewers, "members": members}),
    }
    .to_string()
}

/// Whether a topic's viewers are counted. Others may be told a number of another making.
pub fn is_counted(topic: &Topic) -> bool {
    topic.as_str().starts_with(COUNTED)
}

impl Frontend {
    /// A stream came to a topic or left it, of this member, if it names one.
    pub(super) fn recount(&mut self, topic: &Topic, moved: Option<Move>) {
        if is_counted(topic) {
            self.recounted.entry(topic.clone()).or_default().extend(moved);
        }
    }
}

impl Frontend {
    /// Once a tick: says what changed on this core, and on the first one also what changed on the node.
    pub(super) fn tick_audience(&mut self, ground: &mut Ground) {
        if !self.recounted.is_empty() {
            let recounted = std::mem::take(&mut self.recounted);
            let count = |topic: &Topic| {
                self.topics.views(topic.as_str()).map(|index| self.topics.get(index).viewers.len() as u32).sum()
            };
            let counts = recounted.into_iter().map(|(topic, moves)| (count(&topic), topic, moves)).collect();
            ground.send(0, Message::Counts { core: ground.id, counts });
        }
        if ground.id == 0
            && let Some(change) = self.audience.due(ground.node.id, ground.clock.instant)
        {
            ground.ask(Request::SetCounts(change), Asked::SetCounts);
        }
    }

    /// A core's counts.
    pub(super) fn on_counts(&mut self, core: usize, counts: Vec<(u32, Topic, Vec<Move>)>) {
        for (count, topic, moves) in counts {
            self.audience.report(topic, core, count, &moves);
        }
    }

    /// The store has this node's counts, or nobody knows.
    pub(super) fn on_counts_set(&mut self, result: Result<Answer, Unavailable>) {
        match result {
            Ok(_) => self.audience.done(),
            Err(_) => self.audience.failed(),
        }
    }
}

impl Dispatcher {
    /// A node's viewers changed.
    pub(super) fn on_node_counts(&mut self, ground: &mut Ground, change: &NodeCounts) {
        let node = Arc::clone(&ground.node);
        self.tally.change(change, |topic| node.home(topic.as_str()) == ground.id);
    }

    /// What all nodes have.
    pub(super) fn on_all_counts(&mut self, ground: &mut Ground, result: Result<Vec<NodeCounts>, Unavailable>) {
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
    pub(super) fn on_peer_viewers(&mut self, ground: &mut Ground, said: &PeerViewers) {
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
    pub(super) fn on_all_peer_viewers(&mut self, ground: &mut Ground, result: Result<Vec<PeerViewers>, Unavailable>) {
        match result {
            Ok(said) => said.iter().for_each(|said| self.on_peer_viewers(ground, said)),
            Err(_) => self.tally.doubt(),
        }
    }
}

impl Frontend {
    /// Who lives changed, or may have.
    pub(super) fn on_alive_counts(&mut self, alive: &Alive) {
        if alive.recount && !planted(Mistake::CountsUnrepaired) {
            self.audience.repair();
        }
    }
}

impl Dispatcher {
    /// Nodes came or went.
    pub(super) fn keep_counts(&mut self, ground: &mut Ground) {
        let alive = Arc::clone(&ground.alive);
        self.tally.keep(|id| planted(Mistake::GhostsCounted) || among(&alive, id).is_some());
        self.tally.look_again();
    }

    pub(super) fn read_counts(&mut self, ground: &mut Ground) {
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

    /// Tells viewers of their number, for as long as one turn may. True if there are more to be told in this tick.
    pub(super) fn tell_counts(&mut self, ground: &mut Ground) -> bool {
        let mut slice = ground.clock.slice(CROWD_SLICE);
        let (alive, own) = (Arc::clone(&ground.alive), ground.node.id);
        let dispatchers = || alive.iter().filter(|node| node.is("dispatcher")).map(|node| node.id);
        let alone = ground.node.info.is_none();
        while self.counts > 0 {
            let looks = self.counts.min(CROWD_BURST);
            self.counts -= looks;
            let is_ours = |topic: &Topic| alone || highest(topic.as_str(), dispatchers()) == Some(own);
            for Due { topic, total, own } in self.tally.due(ground.clock.instant, looks, is_ours) {
                if let Some((viewers, members)) = total {
                    ground.publish(Own::new(&topic, VIEWERS, viewers_data(viewers, members)));
                }
                if let Some(crowd) = own {
                    self.tell_peers_viewers(ground, &topic, &crowd);
                }
            }
            if slice.is_over() {
                break;
            }
        }
        self.counts > 0
    }
}
