//! Writing answers (RFC 9112) and errors (RFC 9457).

use super::http::HttpError;
use super::request::Request;
use super::sse::Framing;
use super::status::Status;
use crate::limits::RETRY_AFTER_SECONDS;
use crate::runtime::clock::Times;

/// What of a request its answer depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerTo {
    /// A HEAD request: no body, though its length is told.
    pub is_head: bool,
    /// The connection ends after the answer.
    pub closes: bool,
    /// The client speaks HTTP/1.0.
    pub is_http10: bool,
    /// How long the connection may be without a request after it, in seconds; 0 if that is not to be told.
    pub idle_seconds: u16,
    /// The request has an id, which its answer repeats.
    pub repeats_id: bool,
    /// Another node asks, and is told what this one's clock shows.
    pub tells_clock: bool,
    /// `Access-Control-Allow-Origin` is due: index into the configured origins, or any of them.
    pub cors: Cors,
}

/// Whether a browser of another origin may read the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cors {
    /// No header: same origin, or not allowed.
    #[default]
    None,
    /// Any origin, without credentials.
    Any,
    /// The configured origin of this index.
    Origin(u16),
}

/// The configured origins that browsers may call from.
#[derive(Debug, Clone, Default)]
pub struct Origins(pub Vec<String>);

/// A page of another origin sees only what it is shown (WHATWG Fetch, section 3.2.3): all that a client may act on.
const EXPOSED: &[u8] =
    b"Access-Control-Expose-Headers: Allow, Date, ETag, Last-Event-ID, Link, Location, Retry-After, WWW-Authenticate, X-Request-Id\r\n";

impl Origins {
    /// What to tell a request that came with this `Origin`.
    pub fn check(&self, origin: Option<&str>) -> Cors {
        let Some(origin) = origin else { return Cors::None };
        match self.0.iter().position(|allowed| allowed == "*" || allowed == origin) {
            None => Cors::None,
            Some(index) if self.0[index] == "*" => Cors::Any,
            Some(index) => u16::try_from(index).map_or(Cors::None, Cors::Origin),
        }
    }

    /// Appends the headers that `cors` asks for.
    pub fn write(&self, cors: Cors, out: &mut Vec<u8>) {
        match cors {
            // A cache must not give this answer to a page of an origin that gets another one.
            Cors::None if self.0.iter().any(|origin| origin != "*") => out.extend_from_slice(b"Vary: Origin\r\n"),
            Cors::None => {}
            Cors::Any => out.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n"),
            Cors::Origin(index) => {
                out.extend_from_slice(b"Access-Control-Allow-Origin: ");
                out.extend_from_slice(self.0[usize::from(index)].as_bytes());
                out.extend_from_slice(b"\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n");
            }
        }
        if cors != Cors::None {
            out.extend_from_slice(EXPOSED);
        }
    }
}

impl AnswerTo {
    /// What the answer to `request` depends on.
    pub fn new(request: &Request<'_>, cors: Cors, idle_seconds: u16) -> AnswerTo {
        AnswerTo {
            is_head: request.method == super::http::Method::Head,
            closes: !request.keep_alive,
            is_http10: !request.is_http11,
            idle_seconds,
            repeats_id: request.request_id.is_some(),
            tells_clock: false,
            cors,
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// No cache may keep the answer.
pub const NO_STORE: &str = "Cache-Control: no-store\r\n";

/// Writes answers into an output buffer, with what all answers of a node share.
#[derive(Debug)]
pub struct Answers<'a> {
    /// Where to.
    pub out: &'a mut Vec<u8>,
    /// The configured origins.
    pub origins: &'a Origins,
    /// An IMF-fixdate for `Date` (RFC 9110 section 6.6.1).
    pub date: &'a str,
    /// The node's name, and its clock.
    pub clock: (&'a str, &'a Times),
    /// The id of the request that is being answered, if it has one.
    pub request_id: Option<&'a str>,
}

/// The proof that an answer was written: whoever says that a request is answered has one.
#[derive(Debug)]
pub struct Written(());

impl Answers<'_> {
    /// Appends a whole answer. `headers` are complete lines, each with its CR LF.
    pub fn whole(&mut self, to: AnswerTo, status: Status, content_type: &str, headers: &str, body: &[u8]) -> Written {
        self.start(to, status);
        if !content_type.is_empty() {
            self.out.extend_from_slice(b"Content-Type: ");
            self.out.extend_from_slice(content_type.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(headers.as_bytes());
        if !matches!(status, Status::NoContent | Status::NotModified) {
            self.out.extend_from_slice(b"Content-Length: ");
            push_number(self.out, body.len());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        if !to.is_head {
            self.out.extend_from_slice(body);
        }
        Written(())
    }

    /// Appends the status line and the headers that every answer has.
    fn start(&mut self, to: AnswerTo, status: Status) {
        if status == Status::Accepted {
            // The answer to a publisher, the only one that is written a hundred thousand times a second.
            self.out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nDate: ");
        } else {
            self.out.extend_from_slice(b"HTTP/1.1 ");
            push_number(self.out, status.code());
            self.out.push(b' ');
            self.out.extend_from_slice(status.reason().as_bytes());
            self.out.extend_from_slice(b"\r\nDate: ");
        }
        self.out.extend_from_slice(self.date.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        if to.closes {
            self.out.extend_from_slice(b"Connection: close\r\n");
        } else if to.idle_seconds > 0 {
            // A client that knows the time does not send a request into a connection that is just being closed. HTTP/1.0
            // clients must be told besides that they got what they asked for.
            self.out.extend_from_slice(b"Connection: keep-alive\r\nKeep-Alive: timeout=");
            push_number(self.out, to.idle_seconds);
            self.out.extend_from_slice(b"\r\n");
        }
        if let Some(id) = self.request_id.filter(|_| to.repeats_id) {
            self.out.extend_from_slice(b"X-Request-Id: ");
            self.out.extend_from_slice(id.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        if to.tells_clock {
            self.out.extend_from_slice(b"Fanfare-Clock: ");
            self.out.extend_from_slice(self.clock.0.as_bytes());
            self.out.push(b' ');
            push_number(self.out, self.clock.1.unix().as_micros() as u64);
            self.out.extend_from_slice(b"\r\n");
        }
        self.origins.write(to.cors, self.out);
    }

    /// Appends an answer of JSON. It tells how things are now, and no cache may keep it.
    pub fn json(&mut self, to: AnswerTo, status: Status, body: &[u8]) -> Written {
        self.whole(to, status, "application/json", NO_STORE, body)
    }

    /// Appends an answer that is a text.
    pub fn text(&mut self, to: AnswerTo, text: &str) -> Written {
        self.whole(to, Status::Ok, "text/plain; charset=utf-8", NO_STORE, text.as_bytes())
    }

    /// Appends an error as `application/problem+json` (RFC 9457).
    pub fn problem(&mut self, to: AnswerTo, error: &HttpError) -> Written {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": error.status.reason(),
            "status": error.status.code(),
            "detail": error.detail,
        });
        let mut headers = match (&error.allow, error.status) {
            (Some(allow), _) => format!("Allow: {allow}\r\n"),
            (None, Status::TooManyRequests | Status::ServiceUnavailable) => {
                let seconds = error.retry_after.unwrap_or(RETRY_AFTER_SECONDS);
                format!("Retry-After: {seconds}\r\n")
            }
            (None, _) => String::new(),
        };
        headers += NO_STORE;
        if let Some(challenge) = &error.www_authenticate {
            headers += &format!("WWW-Authenticate: {challenge}\r\n");
        }
        self.whole(to, error.status, "application/problem+json", &headers, body.to_string().as_bytes())
    }

    /// Appends the head of a stream without its body, as HEAD asks for it.
    pub fn stream_head(&mut self, to: AnswerTo, last_event_id: Option<&str>) -> Written {
        self.stream_with(to, last_event_id);
        Written(())
    }

    /// Appends the head of a stream, which ends with its connection. Gives how its body is to be delimited.
    pub fn stream(&mut self, to: AnswerTo) -> Framing {
        self.stream_with(to, None)
    }

    /// The same, where the client is told what `Last-Event-ID` it goes on from: visible characters.
    pub fn stream_with(&mut self, to: AnswerTo, last_event_id: Option<&str>) -> Framing {
        self.start(AnswerTo { closes: true, ..to }, Status::Ok);
        self.out.extend_from_slice(
            // A body that something on the way compresses is held back until a block is full.
            b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store, no-transform\r\n\
              X-Accel-Buffering: no\r\n",
        );
        if let Some(id) = last_event_id {
            self.out.extend_from_slice(b"Last-Event-ID: ");
            self.out.extend_from_slice(id.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        let framing = if to.is_http10 { Framing::Close } else { Framing::Chunked };
        if framing == Framing::Chunked {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        framing
    }
}

/// What a client that waits for it gets before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(write: impl FnOnce(&mut Answers<'_>) -> Written) -> String {
        let (mut out, origins) = (Vec::new(), Origins(vec!["https://a.example".into()]));
        let clock = ("N", &Times::machine());
        write(&mut Answers { out: &mut out, origins: &origins, date: "D", clock, request_id: None });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_and_problems() {
        let to = AnswerTo { cors: Cors::Origin(0), ..AnswerTo::default() };
        assert_eq!(
            answer(|answers| answers.json(to, Status::Accepted, b"{}")),
            "HTTP/1.1 202 Accepted\r\nDate: D\r\nAccess-Control-Allow-Origin: https://a.example\r\n\
             Access-Control-Allow-Credentials: true\r\nVary: Origin\r\nAccess-Control-Expose-Headers: Allow, Date, ETag, \
             Last-Event-ID, Link, Location, Retry-After, WWW-Authenticate, X-Request-Id\r\nContent-Type: application/json\r\n\
             Cache-Control: no-store\r\nContent-Length: 2\r\n\r\n{}"
        );
        let head = AnswerTo { is_head: true, closes: true, ..AnswerTo::default() };
        let text = answer(|answers| answers.problem(head, &HttpError::method("GET, POST".to_owned())));
        assert!(text.contains("405 Method Not Allowed") && text.contains("Allow: GET, POST\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n") && text.contains("Connection: close"), "{text}");
        let text = answer(|answers| answers.problem(AnswerTo::default(), &HttpError::unavailable("full")));
        assert!(text.contains("Vary: Origin\r\n"), "{text}");
        assert!(!text.contains("Expose"), "{text}");
        assert!(text.contains("Retry-After: 1\r\n") && text.ends_with("\"type\":\"about:blank\"}"), "{text}");
    }

    #[test]
    fn a_page_of_another_origin_sees_how_long_to_wait() {
        let busy = HttpError { retry_after: Some(7), ..HttpError::new(Status::TooManyRequests, "slowly") };
        let text = answer(|answers| answers.problem(AnswerTo { cors: Cors::Origin(0), ..AnswerTo::default() }, &busy));
        assert!(text.contains("Retry-After: 7\r\n"), "{text}");
        let exposed = text.split("Access-Control-Expose-Headers: ").nth(1).unwrap().lines().next().unwrap();
        for name in ["Retry-After", "Location", "WWW-Authenticate"] {
            assert!(exposed.split(", ").any(|shown| shown == name), "{exposed}");
        }
    }

    #[test]
    fn a_connection_that_stays_says_how_long() {
        let to = AnswerTo { idle_seconds: 75, ..AnswerTo::default() };
        let text = answer(|answers| answers.json(to, Status::Ok, b"{}"));
        assert!(text.contains("\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n"), "{text}");
        let text = answer(|answers| answers.json(AnswerTo { closes: true, ..to }, Status::Ok, b"{}"));
        assert!(text.contains("\r\nConnection: close\r\n") && !text.contains("timeout"), "{text}");
    }

    #[test]
    fn origins_are_matched_whole() {
        let origins = Origins(vec!["https://a.example".into()]);
        assert_eq!(origins.check(Some("https://a.example")), Cors::Origin(0));
        assert_eq!(origins.check(Some("https://a.example.evil")), Cors::None);
        assert_eq!(origins.check(None), Cors::None);
        assert_eq!(Origins(vec!["*".into()]).check(Some("null")), Cors::Any);
    }
}
