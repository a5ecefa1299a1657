//! What operators ask of all shards at once: the slowest clients, and a topic's viewers. Each shard is sent the question,
//! and whoever was asked puts the answers together.

use crate::server::frontend::Frontend;
use crate::server::ground::Ground;
use crate::server::services::Services;
use std::borrow::Cow;

use serde_json::{Value, json};

use super::lag::Lag;
use super::message::Message;
use super::present::{Present, PresentAsk};
use super::routes::Handled;
use super::slots::Conn;
use crate::limits::{LISTED_DEFAULT, LISTED_MAX};
use crate::wire::connection_id::ConnectionId;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Characters of a connection's id that a listing shows: its node, shard and slot, and nothing of its secret.
const ID_SHOWN: usize = 18;

/// What is asked.
#[derive(Debug, Clone)]
pub enum Listing {
    /// The clients with the most waiting, so many.
    Pending(usize),
    /// A topic.
    Topic(Topic),
    /// Members who watch a topic.
    Members(PresentAsk),
    /// Journeys of the event of this id, or of any; so many, the newest first.
    Traces(Option<String>, usize),
}

/// A question to a shard.
#[derive(Debug)]
pub struct ListingAsk {
    /// What.
    pub listing: Listing,
    /// The shard that asks, and the connection whose request it is: it has one at a time.
    pub asker: (usize, Conn),
}

/// A question that not all shards have answered. It ends with its connection.
#[derive(Debug)]
pub struct Gathering {
    listing: Listing,
    missing: usize,
    /// Each with what it is sorted by, the most first.
    rows: Vec<(u64, Value)>,
}

impl Services {
    /// `GET /v1/connections?sort=pending[&limit=n]`
    pub(super) fn list_connections(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
    ) -> Result<Handled, HttpError> {
        if query.all(Parameter::Sort).any(|by| by != "pending") {
            return Err(HttpError::bad("connections are sorted by pending only: sort=pending"));
        }
        let limit = listed(query)?;
        self.gather(ground, conn, Listing::Pending(limit));
        Ok(Handled::Later)
    }

    /// `GET /v1/traces[?id=…][&limit=n]`
    pub(super) fn list_traces(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
    ) -> Result<Handled, HttpError> {
        let limit = listed(query)?;
        self.gather(ground, conn, Listing::Traces(query.last(Parameter::Id).map(Cow::into_owned), limit));
        Ok(Handled::Later)
    }

    /// `GET /v1/topics/{topic}`
    pub(super) fn list_topic(&mut self, ground: &mut Ground, conn: Conn, topic: &str) -> Result<Handled, HttpError> {
        let topic = ground.topic_of_path(topic)?;
        self.gather(ground, conn, Listing::Topic(topic));
        Ok(Handled::Later)
    }

    pub(super) fn gather(&mut self, ground: &mut Ground, conn: Conn, listing: Listing) {
        let shards = ground.node.shards();
        self.gathering.insert(conn, Gathering { listing: listing.clone(), missing: shards, rows: Vec::new() });
        for shard in 0..shards {
            let ask = ListingAsk { listing: listing.clone(), asker: (ground.id, conn) };
            ground.send(shard, Message::List(Box::new(ask)));
        }
    }

    /// A shard asks for this one's part.
    pub(super) fn on_list(&mut self, ground: &mut Ground, ask: ListingAsk) {
        let rows = match &ask.listing {
            Listing::Traces(id, limit) => ground.journeys.rows(ground.id, id.as_deref(), *limit),
            listing => match &self.frontend {
                Some(frontend) => frontend.rows(ground, listing),
                None => Vec::new(),
            },
        };
        let (shard, conn) = ask.asker;
        ground.send(shard, Message::Listed(conn, rows));
    }

    /// A shard's part came; the last one completes the answer.
    pub(super) fn on_listed(&mut self, ground: &mut Ground, conn: Conn, rows: Vec<(u64, Value)>) {
        let Some(gathering) = self.gathering.get_mut(&conn) else { return };
        gathering.rows.extend(rows);
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return;
        }
        let Some(Gathering { listing, mut rows, .. }) = self.gathering.remove(&conn) else { return };
        let answer = match listing {
            Listing::Members(_) => {
                let mut all = Present::default();
                rows.into_iter()
                    .filter_map(|(_, row)| serde_json::from_value(row).ok())
                    .for_each(|part| all.take(part));
                return self.on_members_found(ground, conn, Some(all));
            }
            Listing::Traces(_, limit) => {
                rows.sort_by_key(|(last_us, _)| std::cmp::Reverse(*last_us));
                rows.truncate(limit);
                json!({"node": ground.node.name, "data_center": ground.node.dc, "traces": values(rows)})
            }
            Listing::Pending(limit) => {
                rows.sort_by_key(|(pending, _)| std::cmp::Reverse(*pending));
                rows.truncate(limit);
                json!({"connections": values(rows)})
            }
            Listing::Topic(topic) => {
                rows.sort_by_key(|(shard, _)| *shard);
                let viewers: u64 = rows.iter().filter_map(|(_, row)| row["viewers"].as_u64()).sum();
                json!({
                    "topic": topic.as_str(),
                    "home": ground.node.home(topic.as_str()),
                    "viewers": viewers,
                    "registered": rows.iter().any(|(_, row)| row["registered"] == true),
                    "shards": values(rows),
                })
            }
        };
        ground.reply(conn, Ok((Status::Ok, answer.to_string())));
    }
}

impl Frontend {
    /// What this shard knows of what is asked.
    fn rows(&self, ground: &Ground, listing: &Listing) -> Vec<(u64, Value)> {
        match listing {
            Listing::Pending(limit) => self.pending(ground, *limit),
            Listing::Topic(topic) => self.topic_rows(ground, topic),
            Listing::Members(ask) => vec![(0, json!(self.present_here(ground, ask)))],
            Listing::Traces(..) => Vec::new(),
        }
    }

    /// The streams of this shard with the most waiting.
    fn pending(&self, ground: &Ground, limit: usize) -> Vec<(u64, Value)> {
        let mut lagging: Vec<(usize, u32)> = Vec::new();
        for number in 0..ground.slots.capacity() {
            if let Some(lag) = self.lags.get(number) {
                lagging.push((lag.pending(), number));
            }
        }
        lagging.sort_unstable_by_key(|(pending, _)| std::cmp::Reverse(*pending));
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

/// How many a listing is to have.
fn listed(query: Query<'_>) -> Result<usize, HttpError> {
    let mut limit = LISTED_DEFAULT;
    for value in query.all(Parameter::Limit) {
        let number = value.parse().ok().filter(|number| (1..=LISTED_MAX).contains(number));
        limit = number.ok_or_else(|| HttpError::bad(format!("limit is a number from 1 to {LISTED_MAX}")))?;
    }
    Ok(limit)
}

fn values(rows: Vec<(u64, Value)>) -> Vec<Value> {
    rows.into_iter().map(|(_, row)| row).collect()
}
