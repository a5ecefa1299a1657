//! HTTP for the commands that ask one thing at a time: one request a connection. What the load generator keeps
//! under way by the thousand is on sockets of its own.
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::LazyLock;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::Agent;
use ureq::http::{HeaderMap, Request as HttpRequest};
use ureq::tls::TlsConfig;

use crate::runtime::tls::requests_config;

/// Bytes of an answer that is read whole; more is cut off. Streams are read piecemeal and have no such bound.
const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What may not stand in a path segment or a query value; topics' own characters stay, but for `%`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'-');

/// Each request has a connection of its own, and what the environment says of proxies does not count: the server that is named
/// is the one that is asked. No timeout covers a whole request, since streams have no end, and names are then resolved without
/// a thread, which a process that is to fork must not have.
fn agent(tls: TlsConfig) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

static PLAIN: LazyLock<Result<Agent, String>> = LazyLock::new(|| requests_config(false).map(agent));
static SECURE: LazyLock<Result<Agent, String>> = LazyLock::new(|| requests_config(true).map(agent));

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the URL {0:?} is not of the form http://HOST[:PORT][/PATH], or the same with https://")]
    Url(String),
    #[error("no TLS: {0}")]
    Trust(String),
    #[error("cannot reach {host}: {source}")]
    Connect { host: String, source: io::Error },
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(String),
    /// An answer other than 2xx; `detail` is a problem's detail, or else the body's first line.
    #[error("{status}: {detail}")]
    Status {
        status: u16,
        detail: String,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<u64>,
    },
}

/// A URL of a server, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// It is asked by TLS: `https://`.
    pub is_secure: bool,
    /// Host name or address, and port, as in a `Host` header.
    pub authority: String,
    /// What precedes a request's path, without a trailing slash; empty for most servers.
    pub prefix: String,
}

impl Url {
    /// Parses `http[s]://HOST[:PORT][/PREFIX]`.
    ///
    /// # Errors
    /// [`Error::Url`] for another scheme, an empty host, or a port that is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parsed = url::Url::parse(text).ok().filter(|url| {
            let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
            matches!(url.scheme(), "http" | "https") && url.port() != Some(0) && is_bare && url.fragment().is_none()
        });
        let known = parsed.as_ref().and_then(|url| {
            let authority = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
            let prefix = url.path().trim_end_matches('/').to_owned();
            Some(Self { is_secure: url.scheme() == "https", authority, prefix })
        });
        known.ok_or_else(|| Error::Url(text.to_owned()))
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The addresses that the host has, in the resolver's order; at least one.
    ///
    /// # Errors
    /// [`Error::Connect`] when the name does not resolve.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let found = self.authority.to_socket_addrs().map(Vec::from_iter);
        let found = found.and_then(|found| match found.as_slice() {
            [] => Err(io::Error::other("the name has no address")),
            _ => Ok(found),
        });
        found.map_err(|source| Error::Connect { host: self.authority.clone(), source })
    }
}

/// Percent-encodes what may not stand in a path segment or a query value.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A 2xx answer, whose body is read from it piece by piece.
pub struct Answer {
    headers: HeaderMap,
    body: ureq::BodyReader<'static>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body, up to 1 MiB, as text.
    ///
    /// # Errors
    /// When the connection breaks or the body ends before its time.
    pub fn text(self) -> Result<String, Error> {
        let mut body = Vec::new();
        self.take(BODY_BYTES_MAX).read_to_end(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The whole body, as JSON of that shape.
    ///
    /// # Errors
    /// As of [`text`](Self::text), and [`Error::Malformed`] where it has another shape.
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_str(&self.text()?).map_err(|error| Error::Malformed(format!("its JSON: {error}")))
    }
}

impl Read for Answer {
    /// Fails with [`io::ErrorKind::TimedOut`] when nothing came for the request's `patience`.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.body.read(out).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(ureq::Error::Timeout(_)) => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

/// What an RFC 9457 problem says to a person: its `detail`, else its `title`, else the body's first line.
pub fn problem_detail(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let field = |name| Some(problem.as_ref()?.get(name)?.as_str()?.to_owned());
    field("detail").or_else(|| field("title")).unwrap_or_else(|| {
        let line = body.lines().next().unwrap_or_default().trim();
        if line.is_empty() { "the answer has no text" } else { line }.to_owned()
    })
}

/// A request to be sent.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// Path and query, beginning with a slash.
    pub path: &'a str,
    /// What goes into `Authorization: Bearer`.
    pub token: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    /// The body of a POST; without one it is a GET.
    pub json: Option<&'a str>,
    /// How long a read may wait for bytes; `None` waits for ever.
    pub patience: Option<Duration>,
}

/// Sends one request on a connection of its own and reads the answer's head.
///
/// # Errors
/// When the server cannot be reached, when its answer is not HTTP/1.1, and [`Error::Status`] when it is not 2xx.
pub fn send(url: &Url, request: &Request<'_>) -> Result<Answer, Error> {
    let mut head = HttpRequest::builder().uri(format!(
        "{}://{}{}{}",
        if url.is_secure { "https" } else { "http" },
        url.authority,
        url.prefix,
        request.path
    ));
    let bearer = request.token.map(|token| ("Authorization", format!("Bearer {token}")));
    let headers = request.headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in headers.chain(bearer) {
        // A line break in a value, from a server's `id:` or a person's token, must not become another header.
        head = head.header(name, value.replace(char::is_control, "").as_bytes());
    }
    let agent = if url.is_secure { &SECURE } else { &PLAIN };
    let agent = agent.as_ref().map_err(|error| Error::Trust(error.clone()))?;
    let sent = match request.json {
        None => head.body(()).map_err(Into::into).and_then(|get| run(agent, get, request.patience)),
        Some(json) => {
            let post = head.method("POST").header("Content-Type", "application/json").body(json);
            post.map_err(Into::into).and_then(|post| run(agent, post, request.patience))
        }
    };
    let (head, body) = sent.map_err(|error| failure(url, error))?.into_parts();
    let answer = Answer { headers: head.headers, body: body.into_reader() };
    if head.status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.header("retry-after").and_then(|value| value.parse().ok());
    let body = answer.text().unwrap_or_default();
    Err(Error::Status { status: head.status.as_u16(), detail: problem_detail(&body), retry_after })
}

fn run(
    agent: &Agent,
    request: HttpRequest<impl ureq::AsSendBody>,
    patience: Option<Duration>,
) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_per_read(patience).build())
}

fn failure(url: &Url, error: ureq::Error) -> Error {
    match error {
        ureq::Error::Protocol(error) => Error::Malformed(error.to_string()),
        other => Error::Connect { host: url.authority.clone(), source: other.into_io() },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use super::*;

    /// What a server that answers so is understood to say.
    fn ask(answer: &'static str) -> Result<String, Error> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let headers = [("Last-Event-ID", "é\r\nX-Bad: 1")];
        let request = Request { path: "/v1/events?topic=a", headers: &headers, token: Some("t"), ..Request::default() };
        let text = send(&url, &request).and_then(Answer::text);
        // A request that was never sent leaves nobody waiting for it.
        drop(TcpStream::connect(&url.authority));
        let head = server.join().unwrap().to_lowercase();
        assert!(head.starts_with("get /v1/events?topic=a http/1.1\r\n"), "{head:?}");
        assert!(head.contains("\r\nlast-event-id: éx-bad: 1\r\n") && head.contains("\r\nauthorization: bearer t\r\n"));
        text
    }

    #[test]
    fn urls() {
        for (text, is_secure, authority, host, prefix) in [
            ("http://127.0.0.1:8080", false, "127.0.0.1:8080", "127.0.0.1", ""),
            ("https://[::1]:81/live/", true, "[::1]:81", "::1", "/live"),
            ("http://example", false, "example:80", "example", ""),
            ("https://example", true, "example:443", "example", ""),
        ] {
            let wanted = Url { is_secure, authority: authority.to_owned(), prefix: prefix.to_owned() };
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host(), &url), (host, &wanted));
        }
        for bad in
            ["ftp://x", "x:80", "127.0.0.1:80", "http://", "http://:80", "http://h:0", "http://h:x", "http://u@h"]
        {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn answers_are_whole_or_errors() {
        assert_eq!(ask("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap(), "hello");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n";
        assert_eq!(ask(chunked).unwrap(), "hello");
        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\nhello").unwrap(), "hello");
        assert!(matches!(ask("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), Err(Error::Io(_))));
        assert!(matches!(ask("SSH-2.0\r\n\r\n"), Err(Error::Malformed(_))));
        let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(ask(elsewhere), Err(Error::Status { status: 302, .. })), "it is not followed");
    }

    #[test]
    fn a_problem_shows_its_detail() {
        let problem =
            "HTTP/1.1 429 X\r\nRetry-After: 7\r\n\r\n{\"title\":\"Bad\",\"detail\":\"topic \\\"x\\\" has no kind\"}";
        match ask(problem) {
            Err(Error::Status { status: 429, detail, retry_after: Some(7) }) => {
                assert_eq!(detail, r#"topic "x" has no kind"#)
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(problem_detail("plain\nmore"), "plain");
    }

    #[test]
    fn encodes_for_paths() {
        assert_eq!(percent_encode("live:a/b c%é"), "live:a%2Fb%20c%25%C3%A9");
    }
}
