//! Following a stream as a strict client does: every byte of the chunked coding and of the event stream is checked, so a
//! torn frame or another connection's bytes fail the test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use fanfare::wire::connection_id::ConnectionId;
use fanfare::wire::snapshot::Snapshot;
use serde_json::{Value, json};

use super::described;
use super::http::{Answer, Client, request};
use super::{DEADLINE, eventually};

/// One dispatched event (WHATWG HTML, section 9.2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The last event id that was set, if any was.
    pub id: Option<String>,
    /// `message` where it has no name.
    pub name: String,
    pub data: String,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {:?}", self.data))
    }
}

/// Undoes the chunked coding, strictly.
#[derive(Debug, Default)]
pub struct Chunks {
    state: ChunkState,
}

#[derive(Debug)]
enum ChunkState {
    /// In a size line, of which this came.
    Size(String),
    /// So much data is to come, and its line end.
    Data(usize),
    /// The last chunk came: its empty line is to come.
    Last(usize),
}

impl Default for ChunkState {
    fn default() -> ChunkState {
        ChunkState::Size(String::new())
    }
}

impl Chunks {
    /// Takes bytes of the connection, appends the body's. True once the body ended.
    pub fn feed(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> bool {
        while let Some(&first) = bytes.first() {
            match &mut self.state {
                ChunkState::Size(line) => {
                    bytes = &bytes[1..];
                    line.push(char::from(first));
                    if let Some(size) = line.strip_suffix("\r\n") {
                        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {size:?}"));
                        self.state = if size == 0 { ChunkState::Last(0) } else { ChunkState::Data(size + 2) };
                    } else {
                        assert!(line.len() < 20, "no chunk size: {line:?}");
                    }
                }
                ChunkState::Data(left) if *left > 2 => {
                    let taken = bytes.len().min(*left - 2);
                    body.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    *left -= taken;
                }
                ChunkState::Data(left) => {
                    assert_eq!(first, if *left == 2 { b'\r' } else { b'\n' }, "the end of a chunk");
                    bytes = &bytes[1..];
                    *left -= 1;
                    if *left == 0 {
                        self.state = ChunkState::default();
                    }
                }
                ChunkState::Last(seen) => {
                    assert!(*seen < 2 && first == b"\r\n"[*seen], "after the last chunk: {bytes:?}");
                    bytes = &bytes[1..];
                    *seen += 1;
                }
            }
        }
        matches!(self.state, ChunkState::Last(2))
    }
}

/// Finds messages in the body of an event stream.
#[derive(Debug, Default)]
pub struct Messages {
    line: Vec<u8>,
    id: Option<String>,
    name: String,
    data: Vec<String>,
    /// The other fields of this block.
    fields: serde_json::Map<String, Value>,
    /// Reconnection times that were set, each in the block of a message.
    pub retries: Vec<u64>,
    /// Comment lines.
    pub comments: usize,
    /// Hand over viewer counts too: they come with every stream of `live:` that opens or ends, which most tests are not
    /// about.
    pub viewers: bool,
    /// Hand over totals of likes too: they come with every first stream of `live:`, and behind likes.
    pub totals: bool,
}

impl Messages {
    /// Takes bytes of the body, and hands over each message that ends in them.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Message)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                let line = std::str::from_utf8(&line[..line.len() - 1]).expect("a stream is UTF-8");
                assert!(!line.contains('\r'), "a carriage return would end a line: {line:?}");
                self.take(line, &mut each);
            }
        }
    }

    fn take(&mut self, line: &str, each: &mut impl FnMut(Message)) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                let is_of = |kind: &str| {
                    let head = data.first().filter(|data| name.is_empty() && data.contains("\"topic\":\"live:"));
                    head.is_some_and(|data| data.contains(&format!("\"type\":\"{kind}\"")))
                };
                let counts = (is_of("viewers") && !self.viewers) || (is_of("likes") && !self.totals);
                assert!(!data.is_empty(), "a block without data, which some clients take for an event");
                described::check_message(&std::mem::take(&mut self.fields).into(), &data.join("\n"));
                if !counts {
                    let name = if name.is_empty() { "message".to_owned() } else { name };
                    each(Message { id: self.id.clone(), name, data: data.join("\n") });
                }
            }
            "" => self.comments += 1,
            "id" => {
                self.id = Some(value.to_owned());
                self.fields.insert(field.to_owned(), value.into());
            }
            "event" => {
                self.name = value.to_owned();
                self.fields.insert(field.to_owned(), value.into());
            }
            "data" => self.data.push(value.to_owned()),
            "retry" => {
                let retry = value.parse().expect("milliseconds");
                self.retries.push(retry);
                self.fields.insert(field.to_owned(), retry.into());
            }
            _ => panic!("a line that no event stream of ours has: {line:?}"),
        }
    }
}

/// An open stream.
pub struct Stream {
    pub socket: TcpStream,
    /// The answer's head.
    pub head: Answer,
    /// `None` where the body ends with the connection (HTTP/1.0).
    chunks: Option<Chunks>,
    pub messages: Messages,
    waiting: VecDeque<Message>,
    ended: bool,
    /// The `connected` event, once it came.
    pub hello: Value,
    /// Its id.
    pub begins: Option<String>,
}

impl Stream {
    /// Sends the request for a stream, and reads the answer's head.
    pub fn open(address: SocketAddr, query: &str) -> Stream {
        let target = format!("/v1/events?{query}");
        Stream::with_request(address, &request("GET", &target, &[("Accept", "text/event-stream")], b""))
    }

    /// The same, with a request of one's own.
    pub fn with_request(address: SocketAddr, request: &[u8]) -> Stream {
        let mut client = Client::connect(address);
        client.send(request);
        Stream::from_client(client)
    }

    /// From a connection on which the request for a stream was just sent.
    pub fn from_client(mut client: Client) -> Stream {
        let head = client.answer_to_head();
        assert_eq!(head.status, 200, "{head:?}");
        let chunked = head.header("transfer-encoding") == Some("chunked");
        let (socket, early) = client.into_parts();
        let mut stream = Stream {
            socket,
            head,
            chunks: chunked.then(Chunks::default),
            messages: Messages::default(),
            waiting: VecDeque::new(),
            ended: false,
            hello: Value::Null,
            begins: None,
        };
        stream.feed(&early);
        stream
    }

    /// Opens a stream and waits for `connected`: again where its topics were not registered within the second that it waits
    /// for that, since nothing is promised before.
    pub fn connected(address: SocketAddr, query: &str) -> Stream {
        eventually("a stream whose topics are registered", || {
            let mut stream = Stream::open(address, query);
            stream.wait_connected();
            if stream.hello["pending"] == json!([]) { Ok(stream) } else { Err(stream.hello) }
        })
    }

    /// Takes `connected`, which must come first.
    pub fn wait_connected(&mut self) {
        let first = self.next().expect("a stream begins with connected");
        assert_eq!(first.name, "connected", "{first:?}");
        self.hello = first.json();
        self.begins = first.id;
    }

    /// Its id.
    pub fn connection(&self) -> &str {
        self.hello["connection"].as_str().expect("connected names the connection")
    }

    /// The shard that holds it.
    pub fn shard(&self) -> usize {
        ConnectionId::decode(self.connection()).expect("an id of ours").shard.into()
    }

    fn feed(&mut self, bytes: &[u8]) {
        let waiting = &mut self.waiting;
        match &mut self.chunks {
            Some(chunks) => {
                let mut body = Vec::new();
                self.ended |= chunks.feed(bytes, &mut body);
                self.messages.feed(&body, |message| waiting.push_back(message));
            }
            None => self.messages.feed(bytes, |message| waiting.push_back(message)),
        }
    }

    /// The next message; `None` at the end of the body. What else comes meanwhile, such as comments, is no reason to wait for
    /// longer than [`DEADLINE`].
    #[track_caller]
    pub fn next(&mut self) -> Option<Message> {
        let (mut bytes, deadline) = ([0; 64 * 1024], Instant::now() + DEADLINE);
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            assert!(Instant::now() < deadline, "the stream's next event did not come within {DEADLINE:?}");
            match self.socket.read(&mut bytes) {
                Ok(0) => {
                    assert!(self.chunks.is_none(), "the connection ended before the chunked body did");
                    self.ended = true;
                }
                Ok(count) => self.feed(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("waiting for the stream's next event: {error}"),
            }
        }
    }

    /// What came, without waiting for more.
    #[track_caller]
    pub fn come(&mut self) -> Vec<Message> {
        self.socket.set_nonblocking(true).expect("a socket option");
        let mut bytes = [0; 64 * 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => panic!("the connection ended"),
                Ok(count) => self.feed(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("reading what came: {error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("a socket option");
        self.waiting.drain(..).collect()
    }

    /// The next snapshot of a node that is watched.
    #[track_caller]
    pub fn snapshot(&mut self) -> Snapshot {
        let message = self.next().expect("the stream goes on");
        assert_eq!(message.name, "snapshot", "{message:?}");
        serde_json::from_value(message.json()).expect("a snapshot")
    }

    /// Snapshots, until `look` finds in one what it looks for.
    #[track_caller]
    pub fn snapshot_with<T>(&mut self, what: &str, mut look: impl FnMut(&Snapshot) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let snapshot = self.snapshot();
            if let Some(found) = look(&snapshot) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}; last seen: {snapshot:?}");
        }
    }

    /// The next message, which must be an event and no control event.
    #[track_caller]
    pub fn event(&mut self) -> Value {
        let message = self.next().expect("the stream goes on");
        assert_eq!(message.name, "message", "{message:?}");
        message.json()
    }
}
