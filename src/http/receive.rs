//! From sockets to requests: reading, finding where requests begin and end, and sending answers.

use tracing::debug;

use crate::admission::Refusal;
use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming, logged_id};
use crate::ground::http_connection::{Body, Http};
use crate::ground::lines::Remaining;
use crate::ground::slots::{Conn, Kind};
use crate::http::{Server, Service};
use crate::limits::*;
use crate::wire::chunked::Chunked;
use crate::wire::http::{HttpError, Method};
use crate::wire::request;
use crate::wire::request::{BodyLength, Request};
use crate::wire::response::{AnswerTo, CONTINUE};

impl Server {
    /// Answers the first request of a connection that is not let in; it ends with that.
    pub(crate) fn refuse(&mut self, ground: &mut Ground, http: &mut Http, request: &Request<'_>, refusal: Refusal) {
        ground.counters().requests.add(1);
        ground.counters().rejected.add(1);
        http.closing = true;
        let to = AnswerTo { closes: true, ..ground.answer_to(request, http.internal) };
        ground.answer_error(to, request, &refusal.error());
    }

    /// Requests of a client may lead to more messages for a core that takes none: they are read once it does.
    pub(crate) fn hold_back(&mut self, ground: &mut Ground, conn: Conn, mut http: Box<Http>) {
        http.unread = true;
        self.held_back.push(conn);
        ground.slots.get_mut(conn).expect("its requests were just to be read").kind = Kind::Http(http);
    }

    /// Reads requests, and answers those that are complete.
    pub(crate) fn on_readable(&mut self, ground: &mut Ground, service: &mut dyn Service, conn: Conn, hung_up: bool) {
        let Some(mut http) = ground.take_http(conn) else { return };
        // A body of lines is taken as fast as its events get into history.
        let is_ahead = !service.takes_lines() && matches!(http.body, Body::Lines(..));
        if is_ahead || (ground.congested && !http.internal) {
            return self.hold_back(ground, conn, http);
        }
        // The edge that told of the client's end may be long past.
        let mut to_the_end = hung_up || http.unread || http.held;
        http.unread = false;
        let was_idle = http.is_idle();
        if std::mem::take(&mut http.held) {
            self.feed(ground, service, conn, &mut http, &[]);
            // It is a stream by now.
            if ground.slots.get(conn).is_none_or(|slot| !matches!(slot.kind, Kind::Free)) {
                return self.put_http(ground, conn, http, true);
            }
        }
        let mut buffer = std::mem::take(&mut ground.read_buffer);
        let (mut alive, mut received) = (true, 0);
        for turn in 0.. {
            if turn == READ_BURST || http.held || (turn > 0 && self.sockets.is_over()) {
                http.unread = true;
                if !http.held {
                    ground.again.push(conn);
                }
                break;
            }
            // What its lines are asked for is not known.
            if http.has_stalled() {
                http.unread = true;
                break;
            }
            // Nothing more is read for a client that does not take its answers.
            if http.input.len() > ground.input_bytes_max(http.internal) || http.output.len() > ANSWER_BYTES_MAX {
                http.unread = true;
                http.held |= http.awaiting.is_none();
                break;
            }
            let Some(slot) = ground.slots.get(conn) else {
                alive = false;
                break;
            };
            // What was read of a record is no end of the socket's.
            to_the_end |= slot.socket().is_secure();
            match ground.net.recv(slot.socket(), &mut buffer) {
                Ok(Some(0)) => {
                    http.ended = true;
                    break;
                }
                Ok(Some(count)) => {
                    received += count;
                    if ground.has_mail() {
                        self.mail_first = ground.mailbox.sent();
                        http.output.append(&mut ground.out);
                        service.open_mail(ground, self.mail_first);
                    }
                    if !http.lingering {
                        self.feed(ground, service, conn, &mut http, &buffer[..count]);
                    }
                    // A short read emptied the socket; a new edge tells of more.
                    if count < buffer.len() && !to_the_end
                        || ground.slots.get(conn).is_none_or(|slot| !matches!(slot.kind, Kind::Free))
                    {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    alive = self.is_plain_for_tls(ground, conn, &mut http);
                    break;
                }
            }
        }
        ground.read_buffer = buffer;
        if http.needs_body() {
            let now = ground.clock.seconds();
            ground.set_due(conn, http.body_due(now, received).saturating_sub(now));
        } else if (was_idle || std::mem::take(&mut http.ended_one)) && !http.is_idle() {
            // From its first byte on, however slowly the others come.
            ground.set_due(conn, HEAD_TIMEOUT.as_secs() as u32);
        }
        self.put_http(ground, conn, http, alive);
    }

    /// Puts it back, sends what was answered, and closes or goes on as its state says. A connection that became a stream
    /// meanwhile needs it no more.
    pub(crate) fn put_http(&mut self, ground: &mut Ground, conn: Conn, mut http: Box<Http>, alive: bool) {
        let Some(slot) = ground.slots.get_mut(conn) else {
            ground.out.clear();
            return;
        };
        if !matches!(slot.kind, Kind::Free) {
            return;
        }
        let sent = alive && self.flush(ground, conn, &mut http) && ground.hold(&mut http);
        if sent && http.held && !http.has_output() {
            // The kernel took all of it at once, so no readiness will tell of room.
            ground.again.push(conn);
            ground.slots.get_mut(conn).expect("it was just there").kind = Kind::Http(http);
            return;
        }
        let nothing_due = !http.has_output() && http.awaiting.is_none();
        if !sent || (http.ended && nothing_due) || (http.lingering && http.ended) {
            ground.close_http(conn);
            return;
        }
        if http.closing && nothing_due && !http.lingering {
            http.lingering = true;
            if let Some(slot) = ground.slots.get(conn) {
                ground.net.shut(slot.socket());
            }
            ground.set_due(conn, HEAD_TIMEOUT.as_secs() as u32 / 2);
        }
        ground.slots.get_mut(conn).expect("it was just there").kind = Kind::Http(http);
    }

    /// Sends what is in the ground's `out` behind what already waits. False if the connection is broken.
    fn flush(&mut self, ground: &mut Ground, conn: Conn, http: &mut Http) -> bool {
        if !http.has_output() {
            if ground.out.is_empty() {
                return true;
            }
            // Mostly the kernel takes all of it, and nothing is kept.
            http.output.clear();
            http.sent = 0;
            let Some(slot) = ground.slots.get(conn) else { return false };
            let taken = match ground.net.send(slot.socket(), &ground.out) {
                Ok(taken) => taken,
                Err(_) => {
                    ground.out.clear();
                    return false;
                }
            };
            http.output.extend_from_slice(&ground.out[taken..]);
            ground.out.clear();
            true
        } else {
            http.output.append(&mut ground.out);
            let Some(slot) = ground.slots.get(conn) else { return false };
            match ground.net.send(slot.socket(), &http.output[http.sent..]) {
                Ok(taken) => http.sent += taken,
                Err(_) => return false,
            }
            if !http.has_output() {
                http.output = Vec::new();
                http.sent = 0;
            }
            true
        }
    }

    /// The kernel has room again: send what waits, then go on with requests that were held back.
    pub(crate) fn on_http_writable(&mut self, ground: &mut Ground, service: &mut dyn Service, conn: Conn) {
        let Some(mut http) = ground.take_http(conn) else { return };
        if !http.has_output() {
            ground.slots.get_mut(conn).expect("it was just there").kind = Kind::Http(http);
            return;
        }
        let alive = self.flush(ground, conn, &mut http);
        ground.set_due(conn, BODY_TIMEOUT.as_secs() as u32);
        if alive && !http.has_output() {
            http.held = false;
            self.feed(ground, service, conn, &mut http, &[]);
            if http.unread && !http.held {
                ground.again.push(conn);
            }
        }
        self.put_http(ground, conn, http, alive);
    }

    /// Takes bytes that came; answers what they complete, and keeps the rest.
    pub(crate) fn feed(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        bytes: &[u8],
    ) {
        if http.input.is_empty() {
            let used = self.consume(ground, service, conn, http, bytes);
            http.input.extend_from_slice(&bytes[used..]);
        } else {
            http.input.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut http.input);
            let used = self.consume(ground, service, conn, http, &input);
            if used == input.len() {
                input = Vec::new();
            } else {
                input.drain(..used);
            }
            http.input = input;
        }
    }

    /// Serves the requests at the start of `input`. Gives how much of it they were.
    fn consume(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        input: &[u8],
    ) -> usize {
        let mut at = 0;
        loop {
            if http.closing {
                return input.len();
            }
            if http.awaiting.is_some() {
                return at;
            }
            let is_full = ground.out.len() + http.output.len() > ANSWER_BYTES_MAX;
            // Who asks may know of mail that was not opened yet.
            let is_early = at < input.len() && ground.mailbox.taken() < self.mail_first;
            // Of bodies that are taken as they come nothing is kept.
            let is_next = at > 0 && at < input.len() && matches!(http.body, Body::Whole);
            if is_full || is_early || (is_next && self.sockets.is_over()) {
                http.held = true;
                return at;
            }
            let rest = &input[at..];
            let step = match &mut http.body {
                Body::Whole => self.consume_whole(ground, service, conn, http, rest),
                Body::Chunked { .. } => self.consume_chunked(ground, service, conn, http, rest),
                Body::Lines(..) => self.consume_lines(ground, service, conn, http, rest),
                // Its answer is awaited.
                Body::LinesEnding(..) | Body::Parked(_) => return at,
            };
            match step {
                Ok(Some(used)) => {
                    at += used;
                    http.scanned = 0;
                    http.need = 0;
                    http.continued = false;
                    http.ended_one = true;
                    // A stream reads no more requests, and its slot is no longer ours.
                    if ground.slots.get(conn).is_none_or(|slot| !matches!(slot.kind, Kind::Free)) {
                        return input.len();
                    }
                }
                Ok(None) => {
                    // Bodies that are taken as they come leave nothing behind.
                    return if matches!(http.body, Body::Whole) { at } else { input.len() };
                }
                Err(error) => {
                    self.fail(ground, http, AnswerTo { closes: true, ..AnswerTo::default() }, &error);
                    return input.len();
                }
            }
        }
    }

    /// An error after which nobody knows where the next request begins: answer, then close.
    pub(crate) fn fail(&mut self, ground: &mut Ground, http: &mut Http, to: AnswerTo, error: &HttpError) {
        ground.counters().requests.add(1);
        ground.counters().rejected.add(1);
        http.closing = true;
        ground.answers().problem(to, error);
    }

    /// A request whose head, and body of known length, are served together. `None` while more must come.
    fn consume_whole(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        input: &[u8],
    ) -> Result<Option<usize>, HttpError> {
        // RFC 9112 section 2.2: empty lines before a request are to be ignored.
        let blank = 2 * input.chunks_exact(2).take_while(|line| *line == b"\r\n").count();
        if blank > 0 && http.need == 0 {
            return if blank > 8 {
                Err(HttpError::bad("a request begins with its method"))
            } else if blank < input.len() {
                self.consume_whole(ground, service, conn, http, &input[blank..])
                    .map(|used| used.map(|used| used + blank))
            } else {
                Ok(None)
            };
        }
        if input.len() < http.need || input.is_empty() {
            return Ok(None);
        }
        let Some(end) = request::head_end(input, http.scanned.min(input.len()))? else {
            if input.len() > HEAD_BYTES_MAX {
                return Err(request::head_too_large());
            }
            http.scanned = input.len().saturating_sub(3);
            return Ok(None);
        };
        if end > HEAD_BYTES_MAX {
            return Err(request::head_too_large());
        }
        let request = request::parse(&input[..end])?;
        if let Some(refusal) = http.refused {
            self.refuse(ground, http, &request, refusal);
            return Ok(Some(end));
        }
        let is_lines = request.method == Method::Post && request.path == "/v1/events" && ground.node.roles.dispatcher;
        let length = match request.body {
            BodyLength::Known(length) if is_lines => {
                self.start_lines(ground, service, conn, http, &request, Remaining::Known(length));
                return Ok(Some(end));
            }
            BodyLength::Chunked if is_lines => {
                self.start_lines(ground, service, conn, http, &request, Remaining::Chunked(Chunked::default()));
                return Ok(Some(end));
            }
            BodyLength::Chunked => {
                let head = input[..end].to_vec();
                http.body = Body::Chunked { head, decoder: Chunked::default(), body: Vec::new() };
                self.go_on(ground, http, &request);
                return Ok(Some(end));
            }
            BodyLength::Known(length) => ground.check_length(&request, length, http.internal)?,
        };
        if input.len() < end + length {
            if !std::mem::replace(&mut http.continued, true) {
                self.go_on(ground, http, &request);
            }
            http.scanned = end.saturating_sub(4);
            http.need = end + length;
            return Ok(None);
        }
        self.serve(ground, service, conn, http, (&input[..end], &request), &input[end..end + length]);
        Ok(Some(end + length))
    }

    /// Tells a client that waits for it to send its body.
    pub(crate) fn go_on(&mut self, ground: &mut Ground, http: &Http, request: &Request<'_>) {
        if request.expects_continue && !http.closing {
            ground.out.extend_from_slice(CONTINUE);
        }
    }

    /// Serves one whole request: answers it, or notes that an answer will come, or makes it a stream.
    pub(crate) fn serve(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        request: (&[u8], &Request<'_>),
        body: &[u8],
    ) {
        ground.counters().requests.add(1);
        self.answer(ground, service, conn, http, request, body);
    }

    /// The same of one that was counted.
    pub(crate) fn answer(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        (head, request): (&[u8], &Request<'_>),
        body: &[u8],
    ) {
        let to = ground.answer_to(request, http.internal);
        http.closing |= to.closes;
        http.served = true;
        // Before it is served: a stream has a time of its own.
        ground.set_due(conn, ground.idle_due(http));
        ground.request_id = logged_id(request);
        match service.handle(ground, Incoming { conn, internal: http.internal, request, to, body, grant: None }) {
            Ok(Handled::Answered(_)) => {}
            Ok(Handled::AnsweredLast(_)) => http.closing = true,
            Ok(Handled::Later) => {
                http.request_id = ground.request_id.take();
                http.awaiting = Some(to);
            }
            Ok(Handled::Asks) => {
                self.park(ground, http, head, body);
                http.awaiting = Some(to);
            }
            Ok(Handled::GoesOn(framing)) => {
                http.awaiting = Some(to);
                http.goes_on = Some(framing);
            }
            Ok(Handled::Stream(opening)) => {
                let mut before = std::mem::take(&mut http.output);
                before.drain(..http.sent);
                service.open_stream(ground, conn, before, opening, to);
            }
            Err(error) => {
                ground.counters().rejected.add(1);
                http.closing |= ground.answer_error(to, request, &error);
                if let Some(id) = &ground.request_id {
                    debug!(request_id = id, detail = %error.detail, "a request was refused");
                }
            }
        }
        ground.request_id = None;
    }
}
