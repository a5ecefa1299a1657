//! What operators ask of all shards at once: the slowest clients, and a topic's viewers. Each shard is sent the question,
//! and whoever was asked puts the answers together.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::listing::{Listing, ListingAsk, Wanted};
use crate::ground::message::Message;
use crate::ground::present::Present;
use crate::ground::slots::Conn;
use crate::limits::{LISTED_DEFAULT, LISTED_MAX};
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// A question that not all shards have answered. It ends with its connection.
#[derive(Debug)]
pub struct Gathering {
    listing: Listing,
    missing: usize,
    /// Each with what it is sorted by, the most first.
    rows: Vec<(u64, Value)>,
}

impl Services {
    /// `GET /v1/connections[?sort=pending][&topic=…][&member=…][&address=…][&limit=n]`
    pub(crate) fn list_connections(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
    ) -> Result<Handled, HttpError> {
        if query.all(Parameter::Sort).any(|by| by != "pending") {
            return Err(HttpError::bad("connections are sorted by pending only: sort=pending"));
        }
        let (topic, address) = (query.last(Parameter::Topic), query.last(Parameter::Address));
        let bad_address = || HttpError::bad("\"address\" must be an IP address, such as 192.0.2.7 or 2001:db8::7");
        let wanted = Wanted {
            topic: topic
                .map(|topic| Topic::parse(&topic).map_err(|error| HttpError::bad(error.to_string())))
                .transpose()?,
            member: query.last(Parameter::Member).map(Cow::into_owned),
            address: address.map(|text| text.parse().map_err(|_| bad_address())).transpose()?,
        };
        let limit = listed(query)?;
        self.gather(ground, conn, Listing::Connections(wanted, limit));
        Ok(Handled::Later)
    }

    /// `GET /v1/traces[?id=…][&limit=n]`
    pub(crate) fn list_traces(
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
    pub(crate) fn list_topic(&mut self, ground: &mut Ground, conn: Conn, topic: &str) -> Result<Handled, HttpError> {
        let topic = ground.topic_of_path(topic)?;
        self.gather(ground, conn, Listing::Topic(topic));
        Ok(Handled::Later)
    }

    pub(crate) fn gather(&mut self, ground: &mut Ground, conn: Conn, listing: Listing) {
        let shards = ground.node.shards();
        self.gathering.insert(conn, Gathering { listing: listing.clone(), missing: shards, rows: Vec::new() });
        for shard in 0..shards {
            let ask = ListingAsk { listing: listing.clone(), asker: (ground.id, conn) };
            ground.send(shard, Message::List(Box::new(ask)));
        }
    }

    /// A shard asks for this one's part.
    pub(crate) fn on_list(&mut self, ground: &mut Ground, ask: ListingAsk) {
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
    pub(crate) fn on_listed(&mut self, ground: &mut Ground, conn: Conn, rows: Vec<(u64, Value)>) {
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
            Listing::Connections(_, limit) => {
                rows.sort_by_key(|(pending, _)| std::cmp::Reverse(*pending));
                rows.truncate(limit);
                json!({"connections": values(rows)})
            }
            Listing::Topic(topic) => {
                rows.sort_by_key(|(shard, _)| *shard);
                let sum = |of: &str| rows.iter().filter_map(|(_, row)| row[of].as_u64()).sum::<u64>();
                json!({
                    "topic": topic.as_str(),
                    "home": ground.node.home(topic.as_str()),
                    "viewers": sum("viewers"),
                    "by_prefix": sum("by_prefix"),
                    "registered": rows.iter().any(|(_, row)| row["registered"] == true),
                    "shards": values(rows),
                })
            }
        };
        ground.reply(conn, Ok((Status::Ok, answer.to_string())));
    }
}

/// How many a listing is to have.
pub(crate) fn listed(query: Query<'_>) -> Result<usize, HttpError> {
    let mut limit = LISTED_DEFAULT;
    for value in query.all(Parameter::Limit) {
        let number = value.parse().ok().filter(|number| (1..=LISTED_MAX).contains(number));
        limit = number.ok_or_else(|| HttpError::bad(format!("limit is a number from 1 to {LISTED_MAX}")))?;
    }
    Ok(limit)
}

pub(crate) fn values(rows: Vec<(u64, Value)>) -> Vec<Value> {
    rows.into_iter().map(|(_, row)| row).collect()
}
