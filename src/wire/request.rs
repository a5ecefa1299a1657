//! Reading request heads (RFC 9112), on httparse.

use std::mem::MaybeUninit;

use super::authority::{Authority, Host};
use super::client_address::ForwardedFor;
use super::http::{HttpError, Method, trim};
use super::status::Status;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_ID_BYTES_MAX};

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// This many bytes; none without a `Content-Length`.
    Known(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// A parsed head, borrowed from the bytes read. Header values that are not UTF-8 count as absent, or as empty.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, still percent-encoded, starting with `/` (or `*`).
    pub path: &'a str,
    /// What follows the first `?`, without it. Resources read it by [`Query`](super::query::Query).
    pub(crate) query: Option<&'a str>,
    /// Whether the connection may carry another request after this one.
    pub keep_alive: bool,
    /// Whether the client speaks 1.1 (else 1.0).
    pub is_http11: bool,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Accept`, the last of several.
    pub accept: Option<&'a str>,
    /// `Accept` names `text/event-stream`.
    pub accepts_event_stream: bool,
    /// `Content-Type`, the last of several.
    pub content_type: Option<&'a str>,
    /// `Host`, or the authority of a target that has one.
    pub host: Option<Authority<'a>>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site` says that a page of the same origin sends this; no page can make a browser say so.
    pub is_same_origin: bool,
    /// `Sec-Fetch-Site` says that a page of another origin sends this, by its scheme, host or port.
    pub is_foreign: bool,
    /// `Idempotency-Key`: repeats of this request have the same.
    pub idempotency_key: Option<&'a str>,
    /// `Access-Control-Request-Method`: a CORS preflight.
    pub preflight: bool,
    /// `Access-Control-Request-Headers`: what the request that a preflight asks for would carry.
    pub preflight_headers: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `Last-Event-ID`.
    pub last_event_id: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// `Cookie`.
    pub cookie: Option<&'a str>,
    /// `Fanfare-Node`: the node that is meant.
    pub fanfare_node: Option<&'a str>,
    /// `Fanfare-From`: the data center that sends this.
    pub fanfare_from: Option<&'a str>,
    /// `Fanfare-To`: the data center that is meant.
    pub fanfare_to: Option<&'a str>,
    /// `Fanfare-Previous-Secret`: what the sender showed before what `Authorization` has, while that is rotated.
    pub fanfare_previous: Option<&'a str>,
    /// `Fanfare-Version`: of messages between nodes.
    pub fanfare_version: Option<&'a str>,
    /// `X-Request-Id`, up to [`REQUEST_ID_BYTES_MAX`] visible characters: what its sender calls this request.
    pub request_id: Option<&'a str>,
    /// `traceparent` (W3C Trace Context).
    pub traceparent: Option<&'a str>,
    /// `X-Forwarded-For`.
    pub forwarded_for: ForwardedFor<'a>,
}

/// The offset behind the empty line that ends a head, looking from `from` on; `None` while it has not come. A caller
/// that comes back with more bytes passes where it left off less three.
///
/// # Errors
/// 400 for a line that ends in a line feed alone: one reader takes it for a line's end, another for a part of the line
/// (RFC 9112 section 2.2).
pub fn head_end(bytes: &[u8], from: usize) -> Result<Option<usize>, HttpError> {
    let mut at = from;
    while let Some(found) = memchr::memchr(b'\n', &bytes[at..]) {
        let feed = at + found;
        if feed == 0 || bytes[feed - 1] != b'\r' {
            return Err(HttpError::bad("a line of the request's head ends in a bare line feed instead of CR LF"));
        }
        if let [b'\r', b'\n', ..] = &bytes[feed + 1..] {
            return Ok(Some(feed + 3));
        }
        at = feed + 1;
    }
    Ok(None)
}

/// Reads the head that `bytes` start with and [`head_end`] found complete.
pub fn parse(bytes: &[u8]) -> Result<Request<'_>, HttpError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HttpError::bad("the request's head is cut short")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::new(
                Status::RequestHeaderFieldsTooLarge,
                format!("a request may have {HEADERS_MAX} headers"),
            ));
        }
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            return Err(HttpError::new(Status::HttpVersionNotSupported, "this server speaks HTTP/1.1 and HTTP/1.0"));
        }
        Err(error) => return Err(HttpError::bad(format!("this is not an HTTP request: {error}"))),
    }
    let target = head.path.expect("a complete head has a target");
    let is_http11 = head.version.expect("a complete head has a version") == 1;
    let method = Method::from_token(head.method.expect("a complete head has a method"));
    let (authority, target) = origin_form(target, method)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut request = Request {
        method,
        path,
        query,
        keep_alive: is_http11,
        is_http11,
        body: BodyLength::Known(0),
        expects_continue: false,
        accept: None,
        accepts_event_stream: false,
        content_type: None,
        host: None,
        origin: None,
        is_same_origin: false,
        is_foreign: false,
        idempotency_key: None,
        preflight: false,
        preflight_headers: None,
        if_none_match: None,
        last_event_id: None,
        authorization: None,
        cookie: None,
        fanfare_node: None,
        fanfare_from: None,
        fanfare_previous: None,
        fanfare_to: None,
        fanfare_version: None,
        request_id: None,
        traceparent: None,
        forwarded_for: ForwardedFor::default(),
    };
    read_headers(&mut request, head.headers)?;
    // RFC 9112 section 3.2.2: the target's authority counts, whatever Host says.
    request.host = authority.or(request.host);
    Ok(request)
}

/// Whether the request's line has three words, of which the last says that it is a version of HTTP.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or(head);
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    words.next().is_none()
        && matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The authority of a target in absolute form (RFC 9112 section 3.2.2), which servers must accept, and its path and query;
/// others as they are.
fn origin_form(target: &str, method: Method) -> Result<(Option<Authority<'_>>, &str), HttpError> {
    const FORMS: &str = "the request's target is neither a path nor a URL of http or https";
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(HttpError::bad(FORMS))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HttpError::bad(FORMS));
    }
    let (authority, target) = match rest.find(['/', '?']) {
        Some(end) if rest[end..].starts_with('/') => rest.split_at(end),
        // Nothing here has a query at its root alone.
        Some(_) => return Err(HttpError::bad("the URL in the request's line has no path")),
        None => (rest, "/"),
    };
    match Authority::parse(authority) {
        Some(authority) if authority.host != Host::Name("") => Ok((Some(authority), target)),
        _ => Err(HttpError::bad("the URL in the request's line has no host, or one that is none")),
    }
}

/// The transfer codings of a body, in their order over all headers.
#[derive(Debug, Default)]
struct Codings {
    chunked: bool,
    others: bool,
    /// An empty one, or one after `chunked`, which must be the last and there once.
    invalid: bool,
}

impl Codings {
    fn push(&mut self, value: &str) {
        for coding in value.split(',').map(trim) {
            self.invalid |= self.chunked || coding.is_empty();
            match coding.eq_ignore_ascii_case("chunked") {
                true => self.chunked = true,
                false => self.others = true,
            }
        }
    }
}

fn read_headers<'a>(request: &mut Request<'a>, headers: &[httparse::Header<'a>]) -> Result<(), HttpError> {
    let (mut length, mut codings, mut hosts) = (None, None::<Codings>, 0);
    for header in headers {
        let text = || std::str::from_utf8(header.value).ok().map(trim);
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // The length tells most headers apart before any comparison.
        match header.name.len() {
            4 if is("host") => {
                hosts += 1;
                let host = text().and_then(Authority::parse);
                request.host = Some(host.ok_or(HttpError::bad("Host is no host and port"))?);
            }
            6 if is("accept") => {
                request.accept = text();
                request.accepts_event_stream |= text().is_some_and(|value| value.contains("text/event-stream"));
            }
            6 if is("origin") => once("Origin", request.origin.replace(text().unwrap_or("")))?,
            6 if is("cookie") => once("Cookie", request.cookie.replace(text().unwrap_or("")))?,
            6 if is("expect") => {
                if !text().is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                    return Err(HttpError::new(
                        Status::ExpectationFailed,
                        "the only expectation served is 100-continue",
                    ));
                }
                request.expects_continue = request.is_http11;
            }
            10 if is("fanfare-to") => once("Fanfare-To", request.fanfare_to.replace(text().unwrap_or("")))?,
            23 if is("fanfare-previous-secret") => {
                once("Fanfare-Previous-Secret", request.fanfare_previous.replace(text().unwrap_or("")))?;
            }
            12 if is("content-type") => request.content_type = text(),
            12 if is("fanfare-from") => once("Fanfare-From", request.fanfare_from.replace(text().unwrap_or("")))?,
            10 if is("connection") => {
                for option in text().unwrap_or("").split(',').map(trim) {
                    if option.eq_ignore_ascii_case("close") {
                        request.keep_alive = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") && !request.is_http11 {
                        request.keep_alive = true;
                    }
                }
            }
            // Two of them are of no trace, and not of either.
            11 if is("traceparent") => {
                request.traceparent = if request.traceparent.is_some() { Some("") } else { text() };
            }
            // It is repeated to others, so it must be one line of a sensible length.
            12 if is("x-request-id") => request.request_id = text().filter(|id| is_request_id(id)),
            12 if is("fanfare-node") => once("Fanfare-Node", request.fanfare_node.replace(text().unwrap_or("")))?,
            15 if is("x-forwarded-for") => request.forwarded_for.push(text().unwrap_or("")),
            // One that is no text is of no event, and not the same as none.
            13 if is("last-event-id") => request.last_event_id = Some(text().unwrap_or("\u{fffd}")),
            13 if is("authorization") => once("Authorization", request.authorization.replace(text().unwrap_or("")))?,
            13 if is("if-none-match") => request.if_none_match = text(),
            14 if is("sec-fetch-site") => {
                request.is_same_origin = text() == Some("same-origin");
                // Nobody's page: a person typed the address.
                request.is_foreign = !request.is_same_origin && text() != Some("none");
            }
            14 if is("content-length") => {
                let value = text().and_then(decimal).ok_or(HttpError::bad("Content-Length is not a number"))?;
                if length.replace(value).is_some() {
                    return Err(HttpError::bad("two Content-Lengths: send one"));
                }
            }
            15 if is("idempotency-key") => {
                once("Idempotency-Key", request.idempotency_key.replace(text().unwrap_or("")))?;
            }
            15 if is("fanfare-version") => request.fanfare_version = Some(text().unwrap_or("")),
            16 if is("content-encoding")
                && !text().is_some_and(|value| value.is_empty() || value.eq_ignore_ascii_case("identity")) =>
            {
                return Err(HttpError::new(
                    Status::UnsupportedMediaType,
                    "a body is taken as it is, without a content coding such as gzip",
                ));
            }
            17 if is("transfer-encoding") => {
                codings.get_or_insert_default().push(text().unwrap_or(""));
            }
            29 if is("access-control-request-method") => request.preflight = true,
            30 if is("access-control-request-headers") => request.preflight_headers = text(),
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && request.is_http11) {
        return Err(HttpError::bad("an HTTP/1.1 request has exactly one Host header"));
    }
    request.body = match codings {
        None => BodyLength::Known(length.unwrap_or(0)),
        // RFC 9112 section 6.3: signs of request smuggling.
        Some(_) if length.is_some() || !request.is_http11 => {
            return Err(HttpError::bad("Transfer-Encoding together with Content-Length, or in HTTP/1.0"));
        }
        Some(Codings { invalid: true, .. } | Codings { chunked: false, .. }) => {
            return Err(HttpError::bad(
                "Transfer-Encoding must end in chunked, once, or nobody knows where the body ends",
            ));
        }
        Some(Codings { others: true, .. }) => {
            return Err(HttpError::new(Status::NotImplemented, "the only transfer coding served is chunked"));
        }
        Some(_) => BodyLength::Chunked,
    };
    Ok(())
}

/// Refuses a second header of a name whose values say who asks: which of the two counts would be anyone's guess.
fn once(name: &'static str, previous: Option<&str>) -> Result<(), HttpError> {
    match previous {
        None => Ok(()),
        Some(_) => Err(HttpError::bad(format!("two {name} headers: send one"))),
    }
}

fn is_request_id(text: &str) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Digits only: no sign, no space, no list.
fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The answer to a head that does not end.
pub fn head_too_large() -> HttpError {
    HttpError::new(Status::RequestHeaderFieldsTooLarge, format!("a request's head may have {HEAD_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> u16 {
        parse(text.as_bytes()).map_or_else(|error| error.status.code(), |_| 200)
    }

    #[test]
    fn reads_a_request() {
        let text = "POST /v1/x?topic=a%3Ab&y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: Close\r\n\
                    Accept: text/html, text/event-stream;q=0.9\r\nExpect: 100-continue\r\n\r\nhello";
        let request = parse(text.as_bytes()).unwrap();
        assert_eq!((request.path, request.query), ("/v1/x", Some("topic=a%3Ab&y")));
        assert_eq!(request.body, BodyLength::Known(5));
        assert!(!request.keep_alive && request.accepts_event_stream && request.expects_continue);
        assert_eq!(head_end(text.as_bytes(), 0), Ok(Some(text.len() - 5)));
        let request = parse(b"GET HTTP://h:1/a?b HTTP/1.0\r\nConnection: keep-alive\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!((request.path, request.query, request.keep_alive), ("/a", Some("b"), true));
        assert_eq!(request.host, Authority::parse("h:1"));
    }

    #[test]
    fn head_ends_where_it_ends_however_it_is_cut() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET";
        for cut in 0..text.len() {
            let end = head_end(&text[..cut], 0);
            assert_eq!(end, Ok((cut >= text.len() - 3).then_some(text.len() - 3)), "{cut}");
            assert_eq!(head_end(text, cut.min(text.len() - 3).saturating_sub(3)), Ok(Some(text.len() - 3)), "{cut}");
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let with = |headers: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        assert_eq!(status(&with("")), 200);
        assert_eq!(status(&with("Content-Length: 5\r\nContent-Length: 5\r\n")), 400);
        assert_eq!(status(&with("Content-Length: 5\r\nContent-Length: 6\r\n")), 400);
        assert_eq!(status(&with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")), 400);
        assert_eq!(status(&with("Transfer-Encoding: gzip, chunked\r\n")), 501);
        assert_eq!(status(&with("Transfer-Encoding: \t chunked \t\r\n")), 200);
        for codings in [
            "chunked\r\nTransfer-Encoding: chunked",
            "chunked, chunked",
            "chunked, gzip",
            "gzip",
            "identity",
            "",
            ",chunked",
            "chunked,",
            "xchunked",
            "chunked;q=1",
            "\"chunked\"",
            "\u{a0}chunked",
            "chunked\u{85}",
            "chunked\u{2003}",
            "gzip\r\nTransfer-Encoding: identity",
            "chunked\r\nContent-Length: 5",
            "gzip, chunked\r\nContent-Length: 5",
        ] {
            assert_eq!(status(&with(&format!("Transfer-Encoding: {codings}\r\n"))), 400, "{codings:?}");
        }
        for headers in [
            " Content-Length: 5\r\n",
            "X: y\r\n Content-Length: 5\r\n",
            "X: y\r\n\tz\r\n",
            "Content-Length : 5\r\n",
            "Content-Length\u{a0}: 5\r\n",
            "Content-Length\t: 5\r\n",
            ": 5\r\n",
            "X\r\n",
            "X: a\rb\r\n",
            "X: a\0b\r\n",
            "X: a\u{b}b\r\n",
        ] {
            assert_eq!(status(&with(headers)), 400, "{headers:?}");
        }
        for host in ["a b", "a/b", "a@b", "a,b\u{a0}", "\u{e9}", "a?b", "a#b", "h:80:80", "h:x", "::1", "[h]", ":80"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host:?}");
        }
        for target in [
            "a",
            "*",
            "h:80",
            "ftp://h/",
            "http://",
            "http:///a",
            "http://u@h/",
            "http://h?x",
            "http://h:1:1/",
            "//h/../a b",
        ] {
            assert_eq!(status(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")), 400, "{target:?}");
        }
        assert_eq!(status("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
        for text in
            ["GET / HTTP/1.1\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\n"]
        {
            assert_eq!(head_end(text.as_bytes(), 0).unwrap_err().status.code(), 400, "{text:?}");
        }
        for length in [
            "5, 5",
            "5,",
            "5;a",
            "\u{a0}5",
            "5\u{a0}",
            "5\u{85}",
            "5\u{2003}",
            "\u{ff15}",
            "5.0",
            "5 5",
            "1e1",
            "-1",
            "+1",
            "1 1",
            "0x1",
            "",
            "99999999999999999999",
        ] {
            assert_eq!(status(&with(&format!("Content-Length: {length}\r\n"))), 400, "{length}");
        }
        assert_eq!(status(&with("Host: other\r\n")), 400);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\n\r\n"), 505);
        let coded = |coding: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\n\r\n");
        assert_eq!((status(&coded("gzip")), status(&coded("Identity"))), (415, 200));
        for line in [
            "GET / HTTP/1.1 HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/11",
            "GET /",
        ] {
            assert_eq!(status(&format!("{line}\r\nHost: h\r\n\r\n")), 400, "{line}");
        }
        assert_eq!(status(&with("Bad Header: x\r\n")), 400);
        assert_eq!(status(&with(&"X: y\r\n".repeat(200))), 431);
        assert_eq!(status(&with("Expect: tea\r\n")), 417);
        for header in ["Authorization: Bearer a", "Cookie: a=b", "Origin: https://a.example"] {
            assert_eq!(status(&with(&format!("{header}\r\n"))), 200, "{header}");
            assert_eq!(status(&with(&format!("{header}\r\n{header}\r\n"))), 400, "{header}");
        }
        assert_eq!(status("\u{0}\u{1}\u{2}\r\n\r\n"), 400);
    }
}
