//! A small blocking HTTP/1.1 client for `http://` URLs: one request a connection, answers of every body framing.
//! The load generator has its own, which does not block.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes an answer's head may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer that is read whole; more is cut off. Streams are read piecemeal and have no such bound.
const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the URL {0:?} is not of the form http://HOST[:PORT][/PATH]; for https put a proxy's plain address here")]
    Url(String),
    #[error("cannot reach {host}: {source}")]
    Connect { host: String, source: io::Error },
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// An answer other than 2xx; `detail` is a problem's detail, or else the body's first line.
    #[error("{status}: {detail}")]
    Status {
        status: u16,
        detail: String,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<u64>,
    },
}

/// An `http://` URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// What precedes a request's path, without a trailing slash; empty for most servers.
    pub prefix: String,
}

impl Url {
    /// Parses `http://HOST[:PORT][/PREFIX]`.
    ///
    /// # Errors
    /// [`Error::Url`] for another scheme, an empty host, or a port that is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::Url(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, prefix) = match rest.find('/') {
            Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let forbidden = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
        if forbidden(rest) || authority.contains('@') {
            return Err(bad());
        }
        let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
            let (host, after) = v6.split_once(']').ok_or_else(bad)?;
            (host, after.strip_prefix(':'))
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| bad())?,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port, prefix: prefix.to_owned() })
    }

    /// The value of a `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The addresses that the host has, in the resolver's order; at least one.
    ///
    /// # Errors
    /// [`Error::Connect`] when the name does not resolve.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let fail = |source| Error::Connect { host: self.authority(), source };
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs().map_err(fail)?.collect();
        if found.is_empty() {
            return Err(fail(io::Error::other("the name has no address")));
        }
        Ok(found)
    }

    fn connect(&self) -> Result<TcpStream, Error> {
        let mut last = io::Error::other("no address tried");
        for address in self.addresses()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(Error::Connect { host: self.authority(), source: last })
    }
}

/// Percent-encodes what may not stand in a path segment or a query value; topics' own characters stay, but for `%`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'~' | b':' | b'-' => out.push(char::from(byte)),
            _ => {
                use std::fmt::Write as _;
                write!(out, "%{byte:02X}").expect("a String takes every write");
            }
        }
    }
    out
}

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Bytes still to come.
    Length(u64),
    /// Bytes of the current chunk still to come; the flag says that the line end after a chunk is due.
    Chunked {
        left: u64,
        after_chunk: bool,
    },
    /// The body ends with the connection.
    Close,
    Ended,
}

/// An answer whose body is read from it piece by piece.
#[derive(Debug)]
pub struct Answer<R = TcpStream> {
    pub status: u16,
    headers: Vec<(String, String)>,
    framing: Framing,
    reader: BufReader<R>,
}

impl<R: Read> Answer<R> {
    /// Reads an answer's head; interim answers (1xx) are skipped.
    fn read_head(mut reader: BufReader<R>) -> Result<Self, Error> {
        loop {
            let mut head = Vec::new();
            loop {
                let before = head.len();
                let room = (HEAD_BYTES_MAX - before) as u64;
                (&mut reader).take(room).read_until(b'\n', &mut head)?;
                if head.len() == before || head.len() >= HEAD_BYTES_MAX {
                    return Err(Error::Malformed("its head is cut off or longer than 64 KiB"));
                }
                if matches!(&head[before..], b"\r\n" | b"\n") {
                    break;
                }
            }
            let mut slots = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut slots);
            parsed.parse(&head).map_err(|_| Error::Malformed("its head does not parse"))?;
            let status = parsed.code.ok_or(Error::Malformed("it has no status"))?;
            if (100..200).contains(&status) {
                continue;
            }
            let headers: Vec<_> = parsed
                .headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    (header.name.to_ascii_lowercase(), value)
                })
                .collect();
            let mut answer = Self { status, headers, framing: Framing::Close, reader };
            answer.framing = answer.find_framing()?;
            return Ok(answer);
        }
    }

    fn find_framing(&self) -> Result<Framing, Error> {
        if matches!(self.status, 204 | 304) {
            return Ok(Framing::Ended);
        }
        if let Some(coding) = self.header("transfer-encoding") {
            return if coding.eq_ignore_ascii_case("chunked") {
                Ok(Framing::Chunked { left: 0, after_chunk: false })
            } else {
                Err(Error::Malformed("its transfer encoding is not chunked"))
            };
        }
        match self.header("content-length") {
            Some(length) => {
                length.parse().map(Framing::Length).map_err(|_| Error::Malformed("its Content-Length is no number"))
            }
            None => Ok(Framing::Close),
        }
    }

    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The whole body, up to 1 MiB, as text.
    ///
    /// # Errors
    /// When the connection breaks or the body ends before its time.
    pub fn text(&mut self) -> Result<String, Error> {
        let mut body = Vec::new();
        self.by_ref().take(BODY_BYTES_MAX).read_to_end(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Passes a 2xx answer on and turns another one into [`Error::Status`].
    ///
    /// # Errors
    /// [`Error::Status`] with the problem's `detail`.
    pub fn success(mut self) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let retry_after = self.header("retry-after").and_then(|value| value.parse().ok());
        let body = self.text().unwrap_or_default();
        Err(Error::Status { status: self.status, detail: problem_detail(&body), retry_after })
    }

    /// Reads the size line of the next chunk, after the line end of the one before.
    fn next_chunk(&mut self, after_chunk: bool) -> io::Result<u64> {
        if after_chunk {
            self.line()?;
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let left = u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a bad chunk size"))?;
        if left == 0 {
            while !self.line()?.is_empty() {}
        }
        Ok(left)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.reader).take(4096).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }
}

impl<R: Read> Read for Answer<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked { left: 0, after_chunk } = self.framing {
            self.framing = match self.next_chunk(after_chunk)? {
                0 => Framing::Ended,
                left => Framing::Chunked { left, after_chunk: true },
            };
        }
        let left = match &mut self.framing {
            Framing::Ended | Framing::Length(0) => return Ok(0),
            Framing::Close => return self.reader.read(out),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
        };
        let most = usize::try_from(*left).map_or(out.len(), |left| left.min(out.len()));
        let read = self.reader.read(&mut out[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }
}

/// What an RFC 9457 problem says to a person: its `detail`, else its `title`, else the body's first line.
pub fn problem_detail(body: &str) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let field = |name| {
        problem.as_ref().and_then(|problem| problem.get(name)).and_then(|value| value.as_str()).map(str::to_owned)
    };
    field("detail").or_else(|| field("title")).unwrap_or_else(|| {
        let line = body.lines().next().unwrap_or_default().trim();
        if line.is_empty() { "the answer has no text" } else { line }.to_owned()
    })
}

/// A request to be sent.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, beginning with a slash.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// The body and its media type.
    pub body: Option<(&'a str, &'a [u8])>,
    /// How long a read may wait for bytes; `None` waits for ever.
    pub read_timeout: Option<Duration>,
}

/// Sends one request on a connection of its own and reads the answer's head.
///
/// # Errors
/// When the server cannot be reached, or its answer is not HTTP/1.1. A status other than 2xx is no error here; see
/// [`Answer::success`].
pub fn send(url: &Url, request: &Request<'_>) -> Result<Answer, Error> {
    let mut stream = url.connect()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(request.read_timeout)?;
    let mut head = format!(
        "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: fanfare/{}\r\nConnection: close\r\n",
        request.method,
        url.prefix,
        request.path,
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in request.headers {
        // A line break in a value, from a server's `id:` or a person's token, must not become another header.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = match request.body {
        Some((media_type, body)) => {
            head.push_str(&format!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", body.len()));
            body
        }
        None => &[],
    };
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    Answer::read_head(BufReader::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Answer<io::Cursor<Vec<u8>>>, Error> {
        Answer::read_head(BufReader::with_capacity(3, io::Cursor::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn urls() {
        let url = Url::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.prefix.as_str()), ("127.0.0.1", 8080, ""));
        let url = Url::parse("http://[::1]:81/live/").unwrap();
        assert_eq!((url.authority().as_str(), url.prefix.as_str()), ("[::1]:81", "/live"));
        assert_eq!(Url::parse("http://example").unwrap().port, 80);
        for bad in
            ["https://x", "x:80", "http://", "http://:80", "http://h:0", "http://h:x", "http://h\r\n", "http://u@h"]
        {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bodies_of_each_framing() {
        let bodies = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellojunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: a\r\n\r\njunk",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        ];
        for body in bodies {
            assert_eq!(answer(body).unwrap().text().unwrap(), "hello", "{body:?}");
        }
    }

    #[test]
    fn cut_off_bodies_are_errors() {
        for body in [
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        ] {
            assert!(answer(body).unwrap().text().is_err(), "{body:?}");
        }
        assert!(answer("HTTP/1.1 200 OK\r\nContent-").is_err());
        assert!(answer("SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_problem_shows_its_detail() {
        let body = r#"{"title":"Bad Request","detail":"topic \"x\" has no kind"}"#;
        let text = format!("HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        match answer(&text).unwrap().success() {
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
