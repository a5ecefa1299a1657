//! `GET /v1/topics/{topic}/events`: what history has of a topic, page by page.

use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::asking::{Asked, kv_error};
use crate::ground::past::{Part, Past};
use crate::ground::slots::Conn;
use crate::kv::{Answer, Request, Stored, Unavailable};
use crate::limits::{PAST_DEFAULT, PAST_MAX};
use crate::runtime::account::Held;
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::position::{Position, Resume};
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

impl Services {
    /// Lists what history has of a topic.
    pub(crate) fn past(
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
    pub(crate) fn read_pasts(&mut self, ground: &mut Ground) -> bool {
        for _ in 0..self.pasts.len() {
            let Some((past, result)) = self.pasts.pop_front() else { break };
            self.on_past(ground, past.release(), result);
        }
        !self.pasts.is_empty()
    }

    /// A page of a listing.
    pub(crate) fn on_past(&mut self, ground: &mut Ground, mut past: Past, result: Result<Answer, Unavailable>) {
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
