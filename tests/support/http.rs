//! HTTP/1.1 over a plain socket, so that a test decides on every byte that is sent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;
use super::described::{self, Sent};

/// One connection.
pub struct Client {
    pub socket: TcpStream,
    /// Read, and not taken yet.
    buffer: Vec<u8>,
    /// What was sent to a public listener, whose answers are held against its description.
    sent: Option<Sent>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that stands there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands there twice: {self:?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("answers are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// Asserts that this is an error of RFC 9457 with this status. Gives its detail.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?} {:?}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(!detail.is_empty(), "{problem}");
        detail.to_owned()
    }
}

/// A request's bytes, with a `Content-Length` where there is a body or a method that has one.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "POST" {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// `body` in chunks of `size` bytes.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::from_socket(TcpStream::connect(address).expect("the node accepts"))
    }

    /// On a socket that is connected.
    pub fn from_socket(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket option");
        socket.set_write_timeout(Some(DEADLINE)).expect("a socket option");
        socket.set_nodelay(true).expect("a socket option");
        let is_public = socket.peer_addr().is_ok_and(described::is_public);
        Client { socket, buffer: Vec::new(), sent: is_public.then(Sent::default) }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.note(bytes.as_ref());
        self.socket.write_all(bytes.as_ref()).expect("the node reads");
    }

    fn note(&mut self, bytes: &[u8]) {
        described::note_published(bytes);
        if let Some(sent) = &mut self.sent {
            sent.take(bytes);
        }
    }

    #[track_caller]
    fn check(&mut self, answer: &Answer, has_body: bool) {
        if let Some(sent) = &mut self.sent {
            sent.check(answer, has_body);
        }
    }

    /// Sends what the node may have stopped reading: it answers early and throws the rest away.
    pub fn send_unless_closed(&mut self, bytes: impl AsRef<[u8]>) {
        self.note(bytes.as_ref());
        if let Err(error) = self.socket.write_all(bytes.as_ref()) {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        }
    }

    /// Says that nothing more is sent.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("it is open");
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(request(method, target, headers, body));
        if method == "HEAD" { self.answer_to_head() } else { self.answer() }
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        self.read_body(&mut answer);
        self.check(&answer, true);
        answer
    }

    /// The next answer; of a stream its head only.
    #[track_caller]
    pub fn answer_or_stream(&mut self) -> Answer {
        let mut answer = self.head();
        let is_stream = answer.header("content-type") == Some("text/event-stream; charset=utf-8");
        if !is_stream {
            self.read_body(&mut answer);
        }
        self.check(&answer, !is_stream);
        answer
    }

    #[track_caller]
    fn read_body(&mut self, answer: &mut Answer) {
        if answer.status >= 200 && answer.status != 204 && answer.status != 304 {
            let length = answer.header("content-length").expect("an answer says its length");
            let length: usize = length.parse().expect("a number");
            while self.buffer.len() < length {
                assert!(self.read_more(), "the connection ended within a body: {answer:?}");
            }
            answer.body = self.buffer.drain(..length).collect();
        }
    }

    /// The head of the next answer, which has no body, or one that is read elsewhere.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        let answer = self.head();
        self.check(&answer, false);
        answer
    }

    #[track_caller]
    fn head(&mut self) -> Answer {
        let mut searched = 0;
        let end = loop {
            if let Some(found) = self.buffer[searched..].windows(4).position(|window| window == b"\r\n\r\n") {
                break searched + found;
            }
            searched = self.buffer.len().saturating_sub(3);
            let seen = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(self.read_more(), "the connection ended before an answer's head did: {seen:?}");
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("heads are ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let (status, phrase) =
            status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once(' ')).expect("a status and a phrase");
        assert!(!matches!(phrase, "" | "Unknown"), "{status_line:?} has no phrase");
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is no header"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Answer { status: status.parse().expect("a number"), headers: lines.map(header).collect(), body: Vec::new() }
    }

    /// Reads what is there, and waits if nothing is. False at the connection's end.
    #[track_caller]
    pub fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("waiting for the node's answer: {error}; so far {} bytes", self.buffer.len()),
            }
        }
    }

    /// Asserts that the node closes, without sending anything more.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        while self.read_more() {}
        assert_eq!(String::from_utf8_lossy(&self.buffer), "", "sent after the last answer");
    }

    /// What was read and not taken, and the socket, for a stream to go on with.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.socket, self.buffer)
    }
}
