//! Answers that come later than their requests: from the database, the key-value store, another shard or another node.

use tracing::debug;

use super::http_connection::Http;
use super::shard::Shard;
use super::slots::Conn;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Cors, Written};
use crate::wire::status::Status;

/// The id of a request, which then stands in the log, if it has one.
pub(super) fn logged_id(request: &Request<'_>) -> Option<Box<str>> {
    let id = request.request_id?;
    debug!(request_id = id, path = request.path, "a request");
    Some(id.into())
}

impl Shard {
    /// What the answer to a request depends on. Pages of other origins may read answers of the public listener alone.
    pub(super) fn answer_to(&self, request: &Request<'_>, internal: bool) -> AnswerTo {
        let cors = if internal { Cors::None } else { self.live.origins.check(request.origin) };
        let to = AnswerTo::new(request, cors, self.live.idle_seconds(internal));
        let tells_clock = internal && request.fanfare_version.is_some();
        self.last_where_draining(AnswerTo { tells_clock, ..to })
    }

    /// The answer that a request waited for: a status and JSON, or what is wrong.
    pub(super) fn answer_json_later(&mut self, conn: Conn, answer: Result<(Status, String), HttpError>) {
        self.answer_later(conn, |shard, to| match answer {
            Ok((status, body)) => shard.answers().json(to, status, body.as_bytes()),
            Err(error) => shard.answer_problem(to, &error),
        });
    }

    /// A node that drains ends each connection with its next answer, so that clients and other nodes turn elsewhere.
    pub(super) fn last_where_draining(&self, to: AnswerTo) -> AnswerTo {
        AnswerTo { closes: to.closes || self.is_draining(), ..to }
    }

    /// Says what is wrong with a request, and counts it.
    pub(super) fn answer_problem(&mut self, to: AnswerTo, error: &HttpError) -> Written {
        self.counters().rejected.add(1);
        self.answers().problem(to, error)
    }

    /// After how many seconds from now a connection without a request is closed: never sooner than its answers say, though the
    /// shard's seconds are whole ones.
    pub(super) fn idle_due(&self, http: &Http) -> u32 {
        u32::from(self.live.idle_seconds(http.internal)) + 1
    }

    /// The answer that a request waited for; then the requests behind it go on.
    pub(super) fn answer_later(&mut self, conn: Conn, write: impl FnOnce(&mut Shard, AnswerTo) -> Written) {
        let Some(mut http) = self.take_http(conn) else { return };
        if let Some(to) = http.awaiting.take() {
            let to = self.last_where_draining(to);
            http.closing |= to.closes;
            let before = std::mem::replace(&mut self.request_id, http.request_id.take());
            write(self, to);
            self.request_id = before;
            self.set_due(conn, self.idle_due(&http));
            http.held = false;
            self.feed(conn, &mut http, &[]);
            if http.unread && !http.held {
                self.again.push(conn);
            }
        }
        self.put_http(conn, http, true);
    }
}
