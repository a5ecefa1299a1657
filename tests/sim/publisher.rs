//! A simulated publisher, which tries again as the README tells it.

use std::net::SocketAddr;

use fanfare::runtime::random::Random;
use serde_json::json;

use crate::clients::{MILLISECOND, PATIENCE, Reader};
use crate::fabric::{Fabric, Owner};

/// An event that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acked {
    pub topic: String,
    pub kind: &'static str,
    pub id: String,
    /// What is counted, or of what the newest counts.
    pub key: Option<String>,
    /// The how manieth of its publisher it is.
    pub number: u64,
    pub begun: u64,
    /// How often it may have been taken.
    pub attempts: u64,
    /// It was sent with an `Idempotency-Key`, so that it is taken once.
    pub once: bool,
}

/// What publishers send beside messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Events of a type of which little is kept.
    pub notes: bool,
    /// Of class `sum`, with a window and without.
    pub sums: bool,
    /// Of class `latest`.
    pub latest: bool,
}

impl Kinds {
    fn draw(self, random: &mut Random) -> &'static str {
        match random.number() % 20 {
            0 if self.notes => "note",
            1..=4 if self.sums => "like",
            5..=6 if self.sums => "beat",
            7..=9 if self.latest => "score",
            _ => "message",
        }
    }
}

/// Who publishes events, one after the other.
#[derive(Debug)]
pub struct Publisher {
    pub number: usize,
    topics: Vec<String>,
    kinds: Kinds,
    once: bool,
    /// What it sends: not to be moved by how often it has to try.
    drafts: Option<Random>,
    count: u64,
    /// The last events of class `sum` and `latest`, of which nothing may be lost.
    last: Vec<(String, &'static str)>,
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
    pub fn new(number: usize, topics: Vec<String>, kinds: Kinds, once: bool, pace: u64, next: u64) -> Publisher {
        Publisher {
            number,
            topics,
            kinds,
            once,
            drafts: None,
            count: 0,
            last: Vec::new(),
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

    /// What it sends.
    pub fn current(&self) -> Option<&Acked> {
        self.current.as_ref().map(|(event, _)| event)
    }

    /// Nothing of it is under way.
    pub fn rests(&self) -> bool {
        self.stops && self.current.is_none() && self.last.is_empty()
    }

    /// After faults have ended it says once more what must be known by all.
    pub fn finish(&mut self, now: u64) {
        for topic in &self.topics {
            let kinds = [("score", self.kinds.latest), ("like", self.kinds.sums), ("beat", self.kinds.sums)];
            self.last.extend(kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| (topic.clone(), *kind)));
        }
        self.next = now;
    }

    fn draft(&mut self, random: &mut Random, now: u64) -> (Acked, String) {
        self.count += 1;
        let random = self.drafts.get_or_insert_with(|| Random::new(random.number()));
        let (topic, kind) = self.last.pop().unwrap_or_else(|| {
            let topic = self.topics[random.number() as usize % self.topics.len()].clone();
            (topic, self.kinds.draw(random))
        });
        let number = self.count;
        let id = format!("p{}-{number}", self.number);
        let text = "x".repeat((random.number() % 200) as usize);
        let key = match kind {
            // Few events have a key in common, so that one lost cannot be made up for by one counted twice.
            "like" | "beat" => Some(format!("p{}-{}", self.number, number / 20)),
            "score" => Some(format!("p{}", self.number)),
            _ => None,
        };
        let mut body = json!({"type": kind, "id": id, "data": {"text": text, "number": number}});
        if let Some(key) = &key {
            body["key"] = json!(key);
        }
        let acked = Acked { topic, kind, id, key, number, begun: now, attempts: 0, once: self.once };
        (acked, body.to_string())
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
            if (self.stops && self.last.is_empty()) || now < self.next {
                return;
            }
            self.current = Some(self.draft(random, now));
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
            let once = if acked.once { format!("Idempotency-Key: {}\r\n", acked.id) } else { String::new() };
            let request = format!(
                "POST /v1/topics/{}/events HTTP/1.1\r\nHost: {host}:8081\r\n{once}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
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
