//! The heartbeat of a node, and what follows from its answer: who lives, and what the key-value store holds wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::db::Store;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::cluster::Life;
use crate::ground::message::Message;
use crate::kv::{Alive, BUCKETS, Heartbeat, NodeInfo, Request as Question};
use crate::limits::NODE_HEARTBEAT;
use crate::shard::services::{Services, with};
use crate::wire::position::Reach;

impl Services {
    /// Once a tick: what the store should hold of this shard's buckets, for the heartbeat; and the heartbeat itself.
    pub(crate) fn heartbeat(&mut self, ground: &mut Ground) {
        let Some(info) = &ground.node.info else { return };
        for number in (ground.id..BUCKETS).step_by(ground.node.shards()) {
            let digest = self.frontend.as_mut().and_then(|frontend| frontend.registrar.digest(number as u8));
            ground.node.digests[number].store(digest.unwrap_or(0), Ordering::Relaxed);
            let bit = 1u64 << number;
            match digest {
                Some(_) => ground.node.settled.fetch_or(bit, Ordering::Release),
                None => ground.node.settled.fetch_and(!bit, Ordering::Release),
            };
        }
        if ground.id != 0 || ground.clock.instant < ground.next_heartbeat {
            return;
        }
        ground.next_heartbeat = ground.clock.instant + NODE_HEARTBEAT;
        let settled = ground.node.settled.load(Ordering::Acquire);
        let digests = (0..BUCKETS)
            .filter(|number| ground.node.roles.frontend && settled >> number & 1 == 1)
            .map(|number| (number as u8, ground.node.digests[number].load(Ordering::Relaxed)))
            .collect();
        let database = ground.node.store.as_ref().and_then(Store::database);
        let node = NodeInfo { database, ..info.clone() };
        let (counts, since) = (
            self.frontend.as_ref().map_or_else(Default::default, |frontend| frontend.audience.number()),
            ground.cluster.since,
        );
        let heartbeat = Heartbeat { node, digests, counts, since };
        ground.ask(Question::Heartbeat(heartbeat), Asked::Heartbeat);
    }

    pub(crate) fn on_heartbeat(&mut self, ground: &mut Ground, alive: &Alive) {
        with(&mut self.frontend, |frontend| frontend.on_alive_counts(alive));
        ground.on_heartbeat_heard();
        ground.cluster.since = ground.cluster.since.or(alive.since);
        self.tell_alive(ground, alive, &alive.differing);
    }

    /// Tells every shard who lives, and which of its buckets the store holds wrong.
    pub(crate) fn tell_alive(&mut self, ground: &mut Ground, alive: &Alive, differing: &[u8]) {
        let (mut nodes, peers) = (alive.nodes.clone(), Arc::new(alive.peers.clone()));
        let lost = alive.since.filter(|_| alive.lost).unwrap_or(Reach::START);
        let shards = ground.node.shards();
        nodes.sort_unstable_by_key(|node| node.id);
        let changed = ground.alive.as_slice() != nodes.as_slice();
        let doubt = self.frontend.as_mut().map_or(0, |frontend| frontend.reason_for_doubt(ground, &nodes));
        let nodes = Arc::new(nodes);
        if let Ok(mut known) = ground.node.nodes.lock() {
            *known = Arc::clone(&nodes);
        }
        let absences = ground.cluster.heard.1;
        let store_now = alive.now_ms.map(|now_ms| (now_ms, ground.clock.instant));
        let life = Arc::new(Life { nodes, peers, lost, doubt, absences, store_now });
        for shard in 0..shards {
            // Whatever a dispatcher says, there are no others.
            let buckets = (0..BUCKETS as u8).filter(|bucket| usize::from(*bucket) % shards == shard);
            let differing = buckets.filter(|bucket| differing.contains(bucket));
            let differing: Vec<u8> = differing.collect();
            ground.send(shard, Message::Alive { life: Arc::clone(&life), differing, changed });
        }
    }
}
