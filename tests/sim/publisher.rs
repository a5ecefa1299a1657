//! A simulated publisher, which tries again as docs/http.md tells it.

use std::net::SocketAddr;

use fanfare::runtime::random::Random;
use serde_json::json;

use crate::clients::Call;
use crate::fabric::Fabric;

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
    /// Where it was sent.
    pub dc: usize,
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
    call: Call,
    pub acked: Vec<Acked>,
    pub refused: u64,
    pub stops: bool,
    pace: u64,
}

impl Publisher {
    pub fn new(number: usize, topics: Vec<String>, kinds: Kinds, once: bool, pace: u64, next: u64) -> Publisher {
        let call = Call::new(number, next);
        Publisher {
            number,
            topics,
            kinds,
            once,
            drafts: None,
            count: 0,
            last: Vec::new(),
            current: None,
            call,
            acked: Vec::new(),
            refused: 0,
            stops: false,
            pace,
        }
    }

    /// When it wants its next turn.
    pub fn due(&self) -> u64 {
        self.call.next
    }

    /// What it sends, and how often it did.
    pub fn current(&self) -> Option<(&Acked, u64)> {
        self.current.as_ref().map(|(event, _)| (event, self.call.attempts))
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
        self.call.next = now;
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
        let acked = Acked { topic, kind, id, key, number, begun: now, attempts: 0, once: self.once, dc: 0 };
        (acked, body.to_string())
    }

    /// Its turn.
    pub fn turn(&mut self, fabric: &mut Fabric, random: &mut Random, dispatchers: &[SocketAddr]) {
        let now = fabric.now.get();
        if self.current.is_none() {
            if (self.stops && self.last.is_empty()) || now < self.call.next {
                return;
            }
            self.current = Some(self.draft(random, now));
            self.call.begin();
        }
        let (acked, body) = self.current.as_mut().expect("it was just made if there was none");
        let request = |host: &str| {
            let once = if acked.once { format!("Idempotency-Key: {}\r\n", acked.id) } else { String::new() };
            format!(
                "POST /v1/topics/{}/events HTTP/1.1\r\nHost: {host}:8081\r\n{once}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                acked.topic,
                body.len()
            )
        };
        match self.call.turn(fabric, random, dispatchers, request) {
            None => {}
            Some((202, _)) => {
                acked.attempts = self.call.attempts;
                self.acked.extend(self.current.take().map(|(acked, _)| acked));
                self.call.rest(now, random, self.pace);
            }
            Some(_) => {
                self.refused += 1;
                self.call.again(fabric, random);
            }
        }
    }
}
