//! Answers that come later than their requests: from the database, the key-value store, another shard or another node.

use crate::server::ground::{Ground, Reply};
use crate::server::serving::{Server, Service};
use tracing::debug;

use super::http_connection::Http;
use super::slots::{Conn, Kind};
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Cors, Written};

/// The id of a request, which then stands in the log, if it has one.
pub(super) fn logged_id(request: &Request<'_>) -> Option<Box<str>> {
    let id = request.request_id?;
    debug!(request_id = id, path = request.path, "a request");
    Some(id.into())
}

impl Ground {
    /// What the answer to a request depends on. Pages of other origins may read answers of the public listener alone.
    pub(super) fn answer_to(&self, request: &Request<'_>, internal: bool) -> AnswerTo {
        let cors = if internal { Cors::None } else { self.live.origins.check(request.origin) };
        let to = AnswerTo::new(request, cors, self.live.idle_seconds(internal));
        let tells_clock = internal && request.fanfare_version.is_some();
        self.last_where_draining(AnswerTo { tells_clock, ..to })
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
}

impl Server {
    /// The answer that a request waited for; then the requests behind it go on.
    pub(super) fn answer_later(&mut self, ground: &mut Ground, service: &mut dyn Service, conn: Conn, reply: Reply) {
        let Some(mut http) = ground.take_http(conn) else { return };
        let reply = match reply {
            Reply::Line(line, result) => http.settle_line(line, result),
            reply => Some(reply),
        };
        let Some(reply) = reply else {
            ground.slots.get_mut(conn).expect("it was just there").kind = Kind::Http(http);
            return;
        };
        if let Some(to) = http.awaiting.take() {
            let to = ground.last_where_draining(to);
            http.closing |= to.closes;
            let before = std::mem::replace(&mut ground.request_id, http.request_id.take());
            match reply {
                Reply::Answer(status, body) if body.is_empty() => ground.answers().whole(to, status, "", "", &body),
                Reply::Answer(status, body) => ground.answers().json(to, status, &body),
                Reply::Problem(error) => ground.answer_problem(to, &error),
                Reply::Line(..) => unreachable!("it was settled above"),
            };
            ground.request_id = before;
            ground.set_due(conn, ground.idle_due(&http));
            http.held = false;
            self.feed(ground, service, conn, &mut http, &[]);
            if http.unread && !http.held {
                ground.again.push(conn);
            }
        }
        self.put_http(ground, conn, http, true);
    }
}
