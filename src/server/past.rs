//! `GET /v1/topics/{topic}/events`: what history has of a topic, page by page.

use crate::server::ground::Ground;
use crate::server::services::Services;
use std::collections::VecDeque;

use super::asking::Asked;
use super::likes::kv_error;
use super::routes::Handled;
use super::slots::Conn;
use crate::dispatch::kv::{Answer, Page, Read, Request, Stored, Unavailable};
use crate::limits::{PAGE_EVENTS, PAST_BYTES, PAST_DEFAULT, PAST_MAX};
use crate::runtime::account::Held;
use crate::wire::hops::Hops;
use crate::wire::http::HttpError;
use crate::wire::position::{Position, Resume, Shown};
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Which events of a topic are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The oldest that follow this place.
    After(Position),
    /// The newest before this one.
    Before(Position),
}

/// A listing, and what was found for it.
#[derive(Debug)]
pub struct Past {
    conn: Conn,
    topic: Topic,
    part: Part,
    limit: usize,
    /// History is read on behind this place.
    from: Position,
    found: VecDeque<Stored>,
    bytes: usize,
    /// There are more of them.
    more: bool,
    /// Some that followed the place may be missing.
    gap: bool,
}

impl Past {
    fn new(conn: Conn, topic: Topic, part: Part, limit: usize) -> Past {
        let from = match part {
            Part::After(position) => position,
            Part::Before(_) => Position::START,
        };
        Past { conn, topic, part, limit, from, found: VecDeque::new(), bytes: 0, more: false, gap: false }
    }

    /// What is to be read next.
    fn read(&self) -> Read {
        let limit = match self.part {
            // One more tells whether there are more.
            Part::After(_) => (self.limit - self.found.len()) as u32 + 1,
            Part::Before(_) => PAGE_EVENTS,
        };
        Read { topic: self.topic.clone(), after: self.from, limit }
    }

    /// Takes the next page. Whether that was the last.
    fn take(&mut self, page: Page) -> bool {
        if let Part::After(position) = self.part {
            self.gap |= self.found.is_empty() && page.reaches.lacks_after(Shown::to(position));
        }
        let complete = page.complete;
        for stored in page.events {
            self.from = stored.position;
            match self.part {
                Part::Before(position) if stored.position >= position => return true,
                Part::After(_) if self.is_full(stored.event.len()) => {
                    self.more = true;
                    return true;
                }
                _ => {}
            }
            self.bytes += stored.event.len();
            self.found.push_back(stored);
            while self.found.len() > self.limit || (self.bytes > PAST_BYTES && self.found.len() > 1) {
                self.bytes -= self.found.pop_front().map_or(0, |older| older.event.len());
                self.more = true;
            }
        }
        complete
    }

    /// There is no room for one more event of so many bytes; the first one always has some.
    fn is_full(&self, bytes: usize) -> bool {
        self.found.len() >= self.limit || (self.bytes + bytes > PAST_BYTES && !self.found.is_empty())
    }

    fn body(&self, dc: &str) -> String {
        let mut body = String::with_capacity(self.bytes + 64 * (self.found.len() + 1));
        body.push_str("{\"events\":[");
        for (at, stored) in self.found.iter().enumerate() {
            let (_, event) = Hops::split(&stored.event);
            let event = event.strip_suffix('}').unwrap_or("{\"\":null");
            let comma = if at == 0 { "" } else { "," };
            body += &format!("{comma}{event},\"position\":\"{dc}:{}\"}}", stored.position);
        }
        body += &format!("],\"more\":{}{}}}", self.more, if self.gap { ",\"gap\":true" } else { "" });
        body
    }
}

impl Services {
    /// Lists what history has of a topic.
    pub(super) fn past(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
        topic: Topic,
    ) -> Result<Handled, HttpError> {
        let place = |parameter| query.last(parameter).map(|text| self.place_of(ground, parameter, &text)).transpose();
        let part = match (place(Parameter::After)?, place(Parameter::Before)?) {
            (Some(_), Some(_)) => return Err(HttpError::bad("give \"after\" or \"before\", not both")),
            (Some(after), None) => Part::After(after),
            (None, before) => Part::Before(before.unwrap_or(Position::at(u64::MAX))),
        };
        let limit = query.limit(PAST_DEFAULT)?.min(PAST_MAX) as usize;
        self.read_past(ground, Past::new(conn, topic, part, limit))?;
        Ok(Handled::Later)
    }

    /// The place that a client names: that of an event, or the id of a stream.
    fn place_of(&self, ground: &Ground, parameter: Parameter, text: &str) -> Result<Position, HttpError> {
        match ground.read_place(text) {
            Resume::After(position) => Ok(position),
            _ => Err(HttpError::bad(format!(
                "\"{}\" must be the \"position\" of an event, or the id of a stream, such as {}:{}-1",
                parameter.name(),
                ground.node.dc,
                ground.clock.unix_ms
            ))),
        }
    }

    /// Reads on. What comes at once waits for the next turn, since history may be long.
    fn read_past(&mut self, ground: &mut Ground, past: Past) -> Result<(), HttpError> {
        let held = ground.reserve_question(past.bytes + past.limit * size_of::<Stored>())?;
        match ground.submit(Request::Read(past.read())) {
            Ok(result) => self.pasts.push_back((Held::new(past, held), result)),
            Err(ticket) => drop(ground.asked.insert(ticket, Held::new(Asked::Past(Box::new(past)), held))),
        }
        Ok(())
    }

    /// Once a turn: takes a page of each listing for which one came at once. True if there are more.
    pub(super) fn read_pasts(&mut self, ground: &mut Ground) -> bool {
        for _ in 0..self.pasts.len() {
            let Some((past, result)) = self.pasts.pop_front() else { break };
            self.on_past(ground, past.release(), result);
        }
        !self.pasts.is_empty()
    }

    /// A page of a listing.
    pub(super) fn on_past(&mut self, ground: &mut Ground, mut past: Past, result: Result<Answer, Unavailable>) {
        let conn = past.conn;
        let answer = match result {
            Ok(Answer::Page(page)) => {
                if past.take(page) {
                    Ok((Status::Ok, past.body(&ground.node.dc)))
                } else if ground.slots.get(conn).is_none() {
                    return;
                } else if let Err(error) = self.read_past(ground, past) {
                    Err(error)
                } else {
                    return;
                }
            }
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => Err(kv_error(&unavailable, ground.clock.instant)),
        };
        ground.reply(conn, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::position::Reach;
    use proptest::prelude::*;

    proptest! {
        /// Pages of any size, of events of any size: what is listed is a run of what there is, on the side that was asked for,
        /// and `more` says whether that side goes on.
        #[test]
        fn a_part_of_history(
            sizes in prop::collection::vec(2usize..60_000, 0..40),
            at in 0u64..50,
            limit in 1usize..12,
            page in 1usize..7,
            is_after: bool,
        ) {
            let all: Vec<Stored> = (1..).zip(&sizes).map(|(ms, size)| {
                let event = format!("{{\"\":\"{}\"}}", "x".repeat(*size)).into();
                Stored { position: Position { ms, seq: 1 }, prev: None, event }
            }).collect();
            let place = Position { ms: at, seq: 1 };
            let part = if is_after { Part::After(place) } else { Part::Before(place) };
            let mut past = Past::new(Conn { slot: 0, generation: 0 }, Topic::parse("a:b").unwrap(), part, limit);
            loop {
                let read = past.read();
                let next = all.iter().filter(|stored| stored.position > read.after).take(page.min(read.limit as usize));
                let events: Vec<Stored> = next.cloned().collect();
                let complete = events.last().is_none_or(|last| Some(last.position) == all.last().map(|last| last.position));
                if past.take(Page { events, complete, reaches: Reach::START, since: Reach::START }) {
                    break;
                }
            }
            let side: Vec<u64> = all.iter().map(|stored| stored.position).filter(|position| {
                if is_after { *position > place } else { *position < place }
            }).map(|position| position.ms).collect();
            let found: Vec<u64> = past.found.iter().map(|stored| stored.position.ms).collect();
            prop_assert!(found.len() <= limit && (side.is_empty() || !found.is_empty()));
            prop_assert!(past.bytes <= PAST_BYTES || found.len() == 1);
            prop_assert_eq!(if is_after { side.starts_with(&found) } else { side.ends_with(&found) }, true);
            prop_assert_eq!(past.more, found.len() < side.len());
            let body: serde_json::Value = serde_json::from_str(&past.body("dc")).unwrap();
            prop_assert_eq!(body["events"].as_array().unwrap().len(), found.len());
        }
    }
}
