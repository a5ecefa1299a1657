//! Simulated clients: viewers as an `EventSource` is one, and publishers that try again as the README tells them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fanfare::client::sse::{Event, Parser};
use fanfare::runtime::random::Random;
use fanfare::wire::chunked::{Chunked, Piece};
use serde_json::{Value, json};

use crate::fabric::{Fabric, Owner};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

/// When a client has waited so long for an answer it gives up and tries again.
const PATIENCE: u64 = 5 * SECOND;
/// A stream on which nothing came for so long is over; a heartbeat comes within 25 s.
const SILENCE: u64 = 60 * SECOND;

/// Something that a viewer was shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    /// The stream's `id:` line: the place in history.
    pub place: String,
}

/// Reads an answer's head, and its body piece by piece.
#[derive(Debug, Default)]
struct Reader {
    head: Vec<u8>,
    status: Option<u16>,
    chunked: Option<Chunked>,
    length: Option<usize>,
    body: Vec<u8>,
}

impl Reader {
    /// Takes bytes; what they bring of the body is in `body`. False if they are no HTTP.
    fn push(&mut self, mut bytes: &[u8]) -> bool {
        if self.status.is_none() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return true };
            let text = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            let Some(status) = text.get(9..12).and_then(|status| status.parse().ok()) else { return false };
            self.status = Some(status);
            self.chunked = text.contains("transfer-encoding: chunked").then(Chunked::default);
            self.length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let rest = self.head.split_off(end + 4);
            return self.push_body(&rest);
        }
        self.push_body(std::mem::take(&mut bytes))
    }

    fn push_body(&mut self, bytes: &[u8]) -> bool {
        let Some(chunked) = &mut self.chunked else {
            self.body.extend_from_slice(bytes);
            return true;
        };
        let mut at = 0;
        loop {
            match chunked.next(bytes, at) {
                Ok(Piece::Data(range)) => {
                    at = range.end;
                    self.body.extend_from_slice(&bytes[range]);
                }
                Ok(Piece::More | Piece::End(_)) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Who watches.
#[derive(Debug)]
pub struct Viewer {
    pub number: usize,
    pub topics: Vec<String>,
    end: Option<i32>,
    reader: Reader,
    parser: Parser,
    asked: bool,
    /// Reads so many bytes every 50 ms only; 0 reads all.
    pub slow: usize,
    pub is_connected: bool,
    /// Since when all its topics are live.
    pub since: Option<u64>,
    pub shown: Vec<Shown>,
    pub seen: BTreeSet<String>,
    /// When it was told of gaps, of which topic, and what it came with.
    pub gaps: Vec<(u64, String, String)>,
    pub byes: u64,
    pub connects: u64,
    pub resumes: u64,
    pub repeats: u64,
    /// What no server may do.
    pub faults: Vec<String>,
    next: u64,
}

impl Viewer {
    pub fn new(number: usize, topics: Vec<String>, next: u64) -> Viewer {
        Viewer {
            number,
            topics,
            end: None,
            reader: Reader::default(),
            parser: Parser::new(None),
            asked: false,
            slow: 0,
            is_connected: false,
            since: None,
            shown: Vec::new(),
            seen: BTreeSet::new(),
            gaps: Vec::new(),
            byes: 0,
            connects: 0,
            resumes: 0,
            repeats: 0,
            faults: Vec::new(),
            next,
        }
    }

    /// When it wants its next turn.
    pub fn due(&self) -> u64 {
        self.next
    }

    fn leave(&mut self, fabric: &mut Fabric, random: &mut Random) {
        if let Some(end) = self.end.take() {
            fabric.close(end);
        }
        self.is_connected = false;
        self.parser.restart();
        let retry = self.parser.retry_ms.unwrap_or(3000);
        self.next = fabric.now + (retry + random.number() % 500) * MILLISECOND;
    }

    /// Its turn: by time, or since something happened at its end.
    pub fn turn(&mut self, fabric: &mut Fabric, random: &mut Random, frontends: &[SocketAddr]) {
        let now = fabric.now;
        let Some(end) = self.end else {
            if now >= self.next && !frontends.is_empty() {
                let to = frontends[random.number() as usize % frontends.len()];
                self.end = Some(fabric.connect(Owner::Client(self.number), to));
                self.reader = Reader::default();
                self.asked = false;
                self.connects += 1;
                self.next = now + PATIENCE;
            }
            return;
        };
        if !self.asked && fabric.is_open(end) {
            let query: Vec<String> = self.topics.iter().map(|topic| format!("topic={topic}")).collect();
            let resume = match &self.parser.last_event_id {
                Some(id) => {
                    self.resumes += 1;
                    format!("Last-Event-ID: {id}\r\n")
                }
                None => String::new(),
            };
            let request = format!("GET /v1/events?{} HTTP/1.1\r\nHost: f\r\n{resume}\r\n", query.join("&"));
            // A new connection has room for a request.
            let mut left = request.as_bytes();
            while !left.is_empty() {
                match fabric.send(end, left) {
                    Ok(0) | Err(_) => return self.leave(fabric, random),
                    Ok(count) => left = &left[count..],
                }
            }
            self.asked = true;
        }
        let mut buffer = vec![0; if self.slow > 0 { self.slow } else { 16 * 1024 }];
        let mut events = Vec::new();
        loop {
            match fabric.recv(end, &mut buffer) {
                Ok(Some(0)) | Err(_) => return self.leave(fabric, random),
                Ok(None) => break,
                Ok(Some(count)) => {
                    self.next = now + SILENCE;
                    if !self.reader.push(&buffer[..count]) {
                        self.faults.push(format!("{now}: a torn stream"));
                        return self.leave(fabric, random);
                    }
                    if self.reader.status.is_some_and(|status| status != 200) {
                        return self.leave(fabric, random);
                    }
                    let body = std::mem::take(&mut self.reader.body);
                    // Line by line, so that each event is taken with the id that stood at it.
                    for line in body.split_inclusive(|byte| *byte == b'\n') {
                        self.parser.push(line, &mut events);
                        self.take(std::mem::take(&mut events), now);
                    }
                    if self.slow > 0 {
                        self.next = now + 50 * MILLISECOND;
                        break;
                    }
                }
            }
        }
        if now >= self.next && self.slow == 0 {
            self.leave(fabric, random);
        }
    }

    fn take(&mut self, events: Vec<Event>, now: u64) {
        for event in events {
            let data: Value = match serde_json::from_str(&event.data) {
                Ok(data) => data,
                Err(error) => {
                    self.faults.push(format!("{now}: {error}: {event:?}"));
                    continue;
                }
            };
            match event.name.as_str() {
                "connected" => {
                    self.is_connected = true;
                    let pending = data["pending"].as_array().is_some_and(|pending| !pending.is_empty());
                    if self.since.is_none() && !pending {
                        self.since = Some(now);
                    }
                }
                "gap" => self.gaps.push((
                    now,
                    data["topic"].as_str().unwrap_or_default().to_owned(),
                    data["after"].to_string(),
                )),
                "bye" => self.byes += 1,
                "" => self.show(&data, now),
                _ => {}
            }
        }
    }

    fn show(&mut self, data: &Value, now: u64) {
        let (id, topic) = (data["id"].as_str().unwrap_or_default(), data["topic"].as_str().unwrap_or_default());
        if !self.topics.iter().any(|mine| mine == topic) {
            self.faults.push(format!("{now}: an event of {topic}, which it does not watch"));
        }
        if data["type"] != "message" && data["type"] != "note" {
            return;
        }
        if !self.seen.insert(format!("{topic} {id}")) {
            self.repeats += 1;
            return;
        }
        let place = self.parser.last_event_id.clone().unwrap_or_default();
        self.shown.push(Shown { id: format!("{topic} {id}"), place });
    }
}

/// An event that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acked {
    pub topic: String,
    pub kind: &'static str,
    pub id: String,
    pub begun: u64,
    pub attempts: u32,
}

/// Who publishes events of class `every`, one after the other.
#[derive(Debug)]
pub struct Publisher {
    pub number: usize,
    topics: Vec<String>,
    /// Some of its events are of a type of which little is kept.
    notes: bool,
    count: u64,
    current: Option<(Acked, String)>,
    end: Option<i32>,
    sent: bool,
    reader: Reader,
    pub acked: Vec<Acked>,
    pub refused: u64,
    pub stops: bool,
    pace: u64,
    next: u64,
    given_up: u64,
}

impl Publisher {
    pub fn new(number: usize, topics: Vec<String>, notes: bool, pace: u64, next: u64) -> Publisher {
        Publisher {
            number,
            topics,
            notes,
            count: 0,
            current: None,
            end: None,
            sent: false,
            reader: Reader::default(),
            acked: Vec::new(),
            refused: 0,
            stops: false,
            pace,
            next,
            given_up: 0,
        }
    }

    /// When it wants its next turn.
    pub fn due(&self) -> u64 {
        self.next
    }

    /// Nothing of it is under way.
    pub fn rests(&self) -> bool {
        self.stops && self.current.is_none()
    }

    fn again(&mut self, fabric: &mut Fabric, random: &mut Random) {
        if let Some(end) = self.end.take() {
            fabric.close(end);
        }
        self.sent = false;
        self.next = fabric.now + (100 + random.number() % 400) * MILLISECOND;
    }

    /// Its turn.
    pub fn turn(&mut self, fabric: &mut Fabric, random: &mut Random, dispatchers: &[SocketAddr]) {
        let now = fabric.now;
        if self.current.is_none() {
            if self.stops || now < self.next {
                return;
            }
            self.count += 1;
            let topic = self.topics[random.number() as usize % self.topics.len()].clone();
            let id = format!("p{}-{}", self.number, self.count);
            let text = "x".repeat((random.number() % 200) as usize);
            let kind = if self.notes && random.number().is_multiple_of(20) { "note" } else { "message" };
            let body = json!({"type": kind, "id": id, "data": {"text": text}});
            self.current = Some((Acked { topic, kind, id, begun: now, attempts: 0 }, body.to_string()));
            self.sent = false;
        }
        let Some(end) = self.end else {
            if now >= self.next && !dispatchers.is_empty() {
                let to = dispatchers[random.number() as usize % dispatchers.len()];
                self.end = Some(fabric.connect(Owner::Client(self.number), to));
                self.sent = false;
                self.next = now + PATIENCE;
                self.given_up = self.next;
            }
            return;
        };
        let (acked, body) = self.current.as_mut().expect("it was just made if there was none");
        if !self.sent && fabric.is_open(end) {
            let host = fabric.host(end);
            let request = format!(
                "POST /v1/topics/{}/events HTTP/1.1\r\nHost: {host}:8081\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                acked.topic,
                body.len()
            );
            let mut left = request.as_bytes();
            while !left.is_empty() {
                match fabric.send(end, left) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left = &left[count..],
                }
            }
            if !left.is_empty() {
                return self.again(fabric, random);
            }
            acked.attempts += 1;
            self.sent = true;
            self.reader = Reader::default();
            self.next = now + PATIENCE;
            self.given_up = self.next;
        }
        let mut buffer = [0; 4096];
        loop {
            match fabric.recv(end, &mut buffer) {
                Ok(Some(0)) | Err(_) => return self.again(fabric, random),
                Ok(None) => break,
                Ok(Some(count)) => {
                    self.reader.push(&buffer[..count]);
                }
            }
        }
        let whole = self.reader.status.is_some() && self.reader.length == Some(self.reader.body.len());
        if self.sent && whole {
            let status = self.reader.status;
            self.reader = Reader::default();
            if status == Some(202) {
                let (acked, _) = self.current.take().expect("it is under way");
                self.acked.push(acked);
                self.sent = false;
                self.next = now + self.pace / 2 + random.number() % self.pace.max(1);
            } else {
                self.refused += 1;
                self.again(fabric, random);
            }
        } else if now >= self.given_up {
            self.again(fabric, random);
        }
    }
}
