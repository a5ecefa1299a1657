//! What a shard tells operators of its streams and topics.

use std::cmp::Reverse;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::frontend::Frontend;
use crate::frontend::lag::Lag;
use crate::ground::Ground;
use crate::ground::listing::{Listing, Wanted};
use crate::ground::slots::{Body, Conn};
use crate::wire::topic::Topic;

impl Frontend {
    /// What this shard knows of what is asked.
    pub(crate) fn rows(&self, ground: &Ground, listing: &Listing) -> Vec<(u64, Value)> {
        match listing {
            Listing::Connections(wanted, limit) => self.connections(ground, wanted, *limit),
            Listing::Topic(topic) => self.topic_rows(ground, topic),
            Listing::Members(ask) => vec![(0, json!(self.present_here(ground, ask)))],
            Listing::Traces(..) => Vec::new(),
        }
    }

    /// The streams of this shard that are wanted, those with the most waiting first. Where nothing says which, those that lag.
    pub(crate) fn connections(&self, ground: &Ground, wanted: &Wanted, limit: usize) -> Vec<(u64, Value)> {
        let mut found: Vec<(usize, Conn)> = self.candidates(ground, wanted);
        found.sort_unstable_by_key(|(pending, conn)| (Reverse(*pending), conn.slot));
        let rows = found.into_iter().filter(|(_, conn)| self.is_wanted(ground, *conn, wanted)).take(limit);
        rows.map(|(pending, conn)| (pending as u64, self.connection_row(ground, conn, pending))).collect()
    }

    /// Those among which they are, with what waits for each.
    fn candidates(&self, ground: &Ground, wanted: &Wanted) -> Vec<(usize, Conn)> {
        let pending = |slot| self.lags.get(slot).map_or(0, Lag::pending);
        let with_pending = |slot| Some((pending(slot), ground.slots.owner(slot)?));
        match &wanted.topic {
            // Of the others nobody has to be looked at.
            Some(topic) => {
                let entries = self.topics.views(topic.as_str()).map(|index| self.topics.get(index));
                entries.flat_map(|entry| &entry.viewers).filter_map(|viewer| with_pending(viewer.slot)).collect()
            }
            None if *wanted == Wanted::default() => {
                self.lags.iter().filter_map(|(slot, _)| with_pending(slot)).collect()
            }
            None => {
                let streams = (0..ground.slots.capacity()).filter(|slot| ground.slots.at(*slot).is_stream());
                streams.filter_map(with_pending).collect()
            }
        }
    }

    fn is_wanted(&self, ground: &Ground, conn: Conn, wanted: &Wanted) -> bool {
        let is_members = |member: &String| ground.subject(conn).member == Some(member);
        let is_from = |address: &IpAddr| ground.is_from(conn, *address);
        ground.slots.at(conn.slot).body != Body::Watched
            && wanted.member.as_ref().is_none_or(is_members)
            && wanted.address.as_ref().is_none_or(is_from)
    }

    fn connection_row(&self, ground: &Ground, conn: Conn, pending: usize) -> Value {
        let (slot, lag) = (ground.slots.at(conn.slot), self.lags.get(conn.slot));
        let topics = slot.subscriptions.as_slice().iter();
        let topics: Vec<&str> = topics.map(|watched| self.topics.get(watched.topic).topic.as_str()).collect();
        json!({
            "connection": format!("{}…", ground.name_of(conn).shown()),
            "shard": ground.id,
            "address": ground.peer(conn).map(|address| address.to_canonical().to_string()),
            "member": slot.rights.as_ref().and_then(|rights| rights.member.as_deref()),
            "topics": topics,
            "pending_bytes": pending,
            "pending_events": lag.map_or(0, |lag| lag.backlog.len()),
            "overrun": lag.is_some_and(|lag| lag.backlog.overrun()),
            "replaying": lag.is_some_and(|lag| lag.replay.is_some()),
            "ending": lag.is_some_and(|lag| lag.ends.is_some()),
            "seconds_without_progress": lag.map_or(0, |lag| ground.clock.seconds().saturating_sub(lag.progress)),
        })
    }

    /// This shard's part of a topic; nothing if nobody watches it here.
    fn topic_rows(&self, ground: &Ground, topic: &Topic) -> Vec<(u64, Value)> {
        let entries: Vec<_> = self.topics.views(topic.as_str()).map(|index| self.topics.get(index)).collect();
        if entries.is_empty() {
            return Vec::new();
        }
        let by_prefix = entries.iter().filter(|entry| entry.all.is_by_prefix());
        let row = json!({
            "shard": ground.id,
            "viewers": self.topics.by_name(topic.as_str()).map(|entry| entry.viewers.len()).sum::<usize>(),
            "by_prefix": by_prefix.map(|entry| entry.viewers.len()).sum::<usize>(),
            "log_bytes": entries.iter().map(|entry| entry.log.len()).sum::<usize>(),
            "registered": entries.iter().all(|entry| entry.registered),
            "reads_history": entries.iter().any(|entry| entry.behind.is_some()),
            "waiting_for_history": self.homes.waiting(topic),
        });
        vec![(ground.id as u64, row)]
    }
}
