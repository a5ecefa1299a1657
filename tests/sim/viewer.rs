//! A simulated viewer, as an `EventSource` is one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use fanfare::client::sse::{Event, Parser};
use fanfare::runtime::random::Random;
use serde_json::Value;

use crate::clients::{MILLISECOND, PATIENCE, Reader, SECOND};
use crate::fabric::{Fabric, Owner};

/// A stream on which nothing came for so long is over; a heartbeat comes within 25 s.
const SILENCE: u64 = 60 * SECOND;

/// Something that a viewer was shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    /// The stream's `id:` line: the place in history.
    pub place: String,
}

/// What came on one connection of the classes that are not repeated.
#[derive(Debug, Default)]
pub struct Stream {
    /// Since when all its topics are live.
    pub since: Option<u64>,
    /// By topic, type and key.
    pub sums: BTreeMap<(String, String, String), u64>,
    /// The number in the newest event, by topic and key.
    pub latest: BTreeMap<(String, String), u64>,
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
    /// One for each connection, the present one last.
    pub streams: Vec<Stream>,
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
            streams: Vec::new(),
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
                self.streams.push(Stream::default());
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
                    if !pending {
                        self.since.get_or_insert(now);
                        self.stream().since = Some(now);
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

    fn stream(&mut self) -> &mut Stream {
        self.streams.last_mut().expect("one was begun with the connection")
    }

    /// An event of a class that is not repeated.
    fn tell(&mut self, kind: &str, topic: &str, data: &Value) {
        let key = data["key"].as_str().unwrap_or_default().to_owned();
        let stream = self.stream();
        if kind == "score" {
            stream.latest.insert((topic.to_owned(), key), data["data"]["number"].as_u64().unwrap_or_default());
            return;
        }
        let mut add = |key: String, count: &Value| {
            *stream.sums.entry((topic.to_owned(), kind.to_owned(), key)).or_default() += count.as_u64().unwrap_or(0);
        };
        match data["counts"].as_object() {
            Some(counts) => counts.iter().for_each(|(key, count)| add(key.clone(), count)),
            None => add(key, &data["count"]),
        }
    }

    fn show(&mut self, data: &Value, now: u64) {
        let (id, topic) = (data["id"].as_str().unwrap_or_default(), data["topic"].as_str().unwrap_or_default());
        if !self.topics.iter().any(|mine| mine == topic) {
            self.faults.push(format!("{now}: an event of {topic}, which it does not watch"));
        }
        match data["type"].as_str().unwrap_or_default() {
            "message" | "note" => {}
            kind @ ("like" | "beat" | "score") => return self.tell(kind, topic, data),
            _ => return,
        }
        if !self.seen.insert(format!("{topic} {id}")) {
            self.repeats += 1;
            return;
        }
        let place = self.parser.last_event_id.clone().unwrap_or_default();
        self.shown.push(Shown { id: format!("{topic} {id}"), place });
    }
}
