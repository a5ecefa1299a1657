//! Answers that come later than their requests: from the database, the key-value store, another shard or another node; and those
//! that come in pieces.

use crate::ground::http_connection::Http;
use crate::ground::slots::{Conn, Kind};
use crate::ground::{Ground, Reply};
use crate::http::{Server, Service};
use crate::limits::WATCHER_PATIENCE;

impl Server {
    /// The answer that a request waited for; then the requests behind it go on.
    pub(crate) fn answer_later(&mut self, ground: &mut Ground, service: &mut dyn Service, conn: Conn, reply: Reply) {
        let Some(mut http) = ground.take_http(conn) else { return };
        let reply = match reply {
            Reply::Line(line, result) => http.settle_line(line, result),
            Reply::Piece(piece) => return self.answer_on(ground, conn, http, &piece),
            Reply::Verdict(verdict) => return self.serve_parked(ground, service, conn, http, verdict),
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
                Reply::Text(text) => ground.answers().text(to, &text),
                Reply::Problem(error) => ground.answer_problem(to, &error),
                Reply::Line(..) | Reply::Piece(_) | Reply::Verdict(_) => unreachable!("it was settled above"),
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

    /// The next piece of an answer that goes on. Whoever has not taken the piece before misses it: each is whole by itself, and no
    /// more than one waits.
    fn answer_on(&mut self, ground: &mut Ground, conn: Conn, http: Box<Http>, piece: &[u8]) {
        match http.goes_on {
            Some(framing) if !http.has_output() => {
                framing.wrap(&mut ground.out, |out| out.extend_from_slice(piece));
                ground.set_due(conn, WATCHER_PATIENCE.as_secs() as u32);
                let alive = !http.ended;
                self.put_http(ground, conn, http, alive);
            }
            _ => ground.slots.get_mut(conn).expect("it was just there").kind = Kind::Http(http),
        }
    }
}
