//! Bodies that are taken as they come: chunked ones, which are collected, and lines, which are not.

use crate::ground::Ground;
use crate::ground::answering::logged_id;
use crate::ground::http_connection::{Body, Http};
use crate::ground::lines::{Lines, Remaining};
use crate::ground::neighbours::too_large;
use crate::ground::slots::Conn;
use crate::http::{Server, Service};
use crate::limits::*;
use crate::wire::chunked::Piece;
use crate::wire::http::HttpError;
use crate::wire::request;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;

impl Server {
    pub(crate) fn start_lines(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        request: &Request<'_>,
        remaining: Remaining,
    ) {
        let to = ground.answer_to(request, http.internal);
        match service.lines_access(ground, conn, http.internal, request) {
            Ok(access) => {
                self.go_on(ground, http, request);
                let mut lines = Box::new(Lines::new(to, remaining));
                // Other nodes publish for many.
                lines.publisher = if http.internal { 0 } else { ground.publisher_key(conn, request, &access) };
                if !http.internal && ground.authorizes() {
                    lines.who = Some(ground.who_asks(conn, request, Some(&access), None));
                }
                http.body = Body::Lines(lines, access);
                http.request_id = logged_id(request);
            }
            // Before the body is read, and so the last answer.
            Err(error) => self.fail(ground, http, AnswerTo { closes: true, ..to }, &error),
        }
    }

    /// Collects a chunked body, and serves its request once it is complete.
    pub(crate) fn consume_chunked(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        input: &[u8],
    ) -> Result<Option<usize>, HttpError> {
        let Body::Chunked { head, mut decoder, mut body } = std::mem::take(&mut http.body) else {
            unreachable!("called for chunked bodies only");
        };
        let mut at = 0;
        loop {
            match decoder.next(input, at)? {
                Piece::Data(range) => {
                    at = range.end;
                    if body.len() + range.len() > BODY_BYTES_MAX {
                        return Err(too_large());
                    }
                    body.extend_from_slice(&input[range]);
                }
                Piece::More => {
                    http.body = Body::Chunked { head, decoder, body };
                    return Ok(None);
                }
                Piece::End(end) => {
                    let request = request::parse(&head).expect("it was parsed before");
                    self.serve(ground, service, conn, http, (&head, &request), &body);
                    return Ok(Some(end));
                }
            }
        }
    }

    /// Takes the lines that came of a body of lines, and answers at its end.
    pub(crate) fn consume_lines(
        &mut self,
        ground: &mut Ground,
        service: &mut dyn Service,
        conn: Conn,
        http: &mut Http,
        input: &[u8],
    ) -> Result<Option<usize>, HttpError> {
        let Body::Lines(mut lines, access) = std::mem::take(&mut http.body) else {
            unreachable!("called for bodies of lines only");
        };
        let (mut at, publisher, who) = (0, lines.publisher, lines.who.clone());
        let publisher = (publisher, who.as_ref());
        let ended = loop {
            let mut remaining = std::mem::replace(&mut lines.remaining, Remaining::Known(0));
            let (piece, ended) = match &mut remaining {
                Remaining::Known(left) => {
                    let taken = (*left).min((input.len() - at) as u64) as usize;
                    *left -= taken as u64;
                    (at..at + taken, *left == 0)
                }
                Remaining::Chunked(decoder) => match decoder.next(input, at)? {
                    Piece::Data(range) => (range, false),
                    Piece::More => (input.len()..input.len(), false),
                    Piece::End(end) => (end..end, true),
                },
            };
            lines.remaining = remaining;
            at = piece.end;
            if !piece.is_empty() {
                lines.feed(&input[piece], &mut |number, line| {
                    service.publish_line(ground, &access, publisher, (conn, number), line)
                });
            }
            if ended || at == input.len() {
                break ended;
            }
        };
        if !ended {
            http.body = Body::Lines(lines, access);
            return Ok(None);
        }
        lines.finish(&mut |number, line| service.publish_line(ground, &access, publisher, (conn, number), line));
        if !http.ended {
            ground.set_due(conn, ground.idle_due(http));
        }
        let to = ground.last_where_draining(lines.to);
        ground.counters().requests.add(1);
        if lines.pending() > 0 {
            http.closing |= to.closes;
            http.awaiting = Some(to);
            http.body = Body::LinesEnding(lines, access);
            return Ok(Some(at));
        }
        let answer = lines.answer();
        ground.request_id = http.request_id.take();
        ground.answers().json(to, Status::Accepted, &answer);
        ground.request_id = None;
        http.closing |= to.closes;
        Ok(Some(at))
    }

    /// The first of the lines that wait may go on, or not: so may those behind it, up to the next one that is asked about.
    pub(crate) fn go_on_lines(&mut self, ground: &mut Ground, service: &mut dyn Service, conn: Conn, http: &mut Http) {
        let body = std::mem::take(&mut http.body);
        let ending = matches!(body, Body::LinesEnding(..));
        let (mut lines, access) = match body {
            Body::Lines(lines, access) | Body::LinesEnding(lines, access) => (lines, access),
            other => return http.body = other,
        };
        let (publisher, who) = (lines.publisher, lines.who.clone());
        lines.go_on(&mut |number, line| {
            service.publish_line(ground, &access, (publisher, who.as_ref()), (conn, number), line)
        });
        if !ending {
            return http.body = Body::Lines(lines, access);
        }
        if lines.pending() > 0 {
            return http.body = Body::LinesEnding(lines, access);
        }
        let Some(to) = http.awaiting.take() else { return };
        let to = ground.last_where_draining(to);
        http.closing |= to.closes;
        let before = std::mem::replace(&mut ground.request_id, http.request_id.take());
        ground.answers().json(to, Status::Accepted, &lines.answer());
        ground.request_id = before;
        ground.set_due(conn, ground.idle_due(http));
    }
}
