//! Requests that wait until the operator's server said whether they are allowed.

use crate::ground::Ground;
use crate::ground::authorize::Verdict;
use crate::ground::http_connection::{Body, Http, Parked};
use crate::ground::slots::{Conn, Kind};
use crate::http::{Server, Service};
use crate::wire::request;

impl Server {
    /// There is a verdict: the request is served once more, or its lines go on; then the requests behind it do.
    pub(crate) fn serve_parked(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        mut http: Box<Http>,
        verdict: Verdict,
    ) {
        ground.authorizing.verdict = Some(verdict);
        match std::mem::take(&mut http.body) {
            Body::Parked(parked) => {
                http.awaiting = None;
                let Parked { head, body } = *parked;
                let request = request::parse(&head).expect("it was parsed before");
                // A stream that its client has closed by half is found to be so by this alone.
                let slot = ground.slots.get_mut(conn).expect("it was just there");
                slot.half_closed = http.ended;
                ground.authorizing.is_resumed = true;
                self.answer(ground, service, conn, &mut http, (&head, &request), &body);
                ground.authorizing.is_resumed = false;
            }
            body => {
                http.body = body;
                self.go_on_lines(ground, service, conn, &mut http);
            }
        }
        ground.authorizing.verdict = None;
        if ground.slots.get(conn).is_some_and(|slot| !matches!(slot.kind, Kind::Free)) {
            // It is a stream, which throws away what its client has sent behind its request.
            return ground.again.push(conn);
        }
        http.held = false;
        self.feed(ground, service, conn, &mut http, &[]);
        if http.unread && !http.held {
            ground.again.push(conn);
        }
        self.put_http(ground, conn, http, true);
    }

    /// Keeps a request until it is served once more.
    pub(crate) fn park(&mut self, ground: &mut Ground, http: &mut Http, head: &[u8], body: &[u8]) {
        http.request_id = ground.request_id.take();
        http.body = Body::Parked(Box::new(Parked { head: head.to_vec(), body: body.to_vec() }));
    }
}
