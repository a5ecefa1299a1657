//! What a shard tells operators of its streams and topics.

use serde_json::{Value, json};

use crate::frontend::Frontend;
use crate::frontend::lag::Lag;
use crate::ground::Ground;
use crate::ground::listing::Listing;
use crate::ground::slots::{Body, Conn};
use crate::wire::connection_id::ConnectionId;
use crate::wire::topic::Topic;

/// Characters of a connection's id that a listing shows: its node, shard and slot, and nothing of its secret.
pub(crate) const ID_SHOWN: usize = 18;

impl Frontend {
    /// What this shard knows of what is asked.
    pub(crate) fn rows(&self, ground: &Ground, listing: &Listing) -> Vec<(u64, Value)> {
        match listing {
            Listing::Pending(limit) => self.pending(ground, *limit),
            Listing::Topic(topic) => self.topic_rows(ground, topic),
            Listing::Members(ask) => vec![(0, json!(self.present_here(ground, ask)))],
            Listing::Traces(..) => Vec::new(),
        }
    }

    /// The streams of this shard with the most waiting.
    pub(crate) fn pending(&self, ground: &Ground, limit: usize) -> Vec<(u64, Value)> {
        let lagging = self.lags.iter().filter(|(slot, _)| ground.slots.at(*slot).body != Body::Watched);
        let mut lagging: Vec<(usize, u32)> = lagging.map(|(slot, lag)| (lag.pending(), slot)).collect();
        lagging.sort_unstable_by_key(|(pending, slot)| (std::cmp::Reverse(*pending), *slot));
        lagging.truncate(limit);
        let rows = lagging.into_iter().filter_map(|(pending, number)| {
            Some((pending as u64, self.pending_row(ground, number, self.lags.get(number)?, pending)))
        });
        rows.collect()
    }

    fn pending_row(&self, ground: &Ground, number: u32, lag: &Lag, pending: usize) -> Value {
        let slot = ground.slots.at(number);
        let conn = Conn { slot: number, generation: slot.generation };
        let id = ConnectionId {
            node: ground.node.id,
            shard: ground.id as u16,
            slot: number,
            generation: slot.generation,
            secret: 0,
        };
        let topics = slot.subscriptions.as_slice().iter();
        let topics: Vec<&str> = topics.map(|watched| self.topics.get(watched.topic).topic.as_str()).collect();
        json!({
            "connection": format!("{}…", &id.encode()[..ID_SHOWN]),
            "shard": ground.id,
            "address": ground.peer(conn).map(|address| address.to_canonical().to_string()),
            "member": slot.rights.as_ref().and_then(|rights| rights.member.as_deref()),
            "topics": topics,
            "pending_bytes": pending,
            "pending_events": lag.backlog.len(),
            "overrun": lag.backlog.overrun(),
            "replaying": lag.replay.is_some(),
            "ending": lag.ends.is_some(),
            "seconds_without_progress": ground.clock.seconds().saturating_sub(lag.progress),
        })
    }

    /// This shard's part of a topic; nothing if nobody watches it here.
    fn topic_rows(&self, ground: &Ground, topic: &Topic) -> Vec<(u64, Value)> {
        let entries: Vec<_> = self.topics.views(topic.as_str()).map(|index| self.topics.get(index)).collect();
        if entries.is_empty() {
            return Vec::new();
        }
        let row = json!({
            "shard": ground.id,
            "viewers": entries.iter().map(|entry| entry.viewers.len()).sum::<usize>(),
            "log_bytes": entries.iter().map(|entry| entry.log.len()).sum::<usize>(),
            "registered": entries.iter().all(|entry| entry.registered),
            "reads_history": entries.iter().any(|entry| entry.behind.is_some()),
            "waiting_for_history": self.homes.waiting(topic),
        });
        vec![(ground.id as u64, row)]
    }
}
