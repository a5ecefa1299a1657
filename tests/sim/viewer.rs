//! A simulated viewer, as an `EventSource` is one.

mod control;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use fanfare::client::sse::{Event, Parser};
use fanfare::runtime::random::Random;
use serde_json::Value;

use crate::clients::{Call, MILLISECOND, PATIENCE, Reader, SECOND};
use crate::fabric::{Fabric, Owner};
use control::{Doing, Pass};

/// A stream on which nothing came for so long is over; a heartbeat comes within 25 s.
const SILENCE: u64 = 60 * SECOND;

/// Something that a viewer was shown.
#[derive(Debug, Clone)]
pub struct Shown {
    pub id: String,
    pub at: u64,
    /// The stream's `id:` line: the place in history.
    pub place: String,
    pub kind: String,
}

/// What came on one connection of the classes that are not repeated.
#[derive(Debug, Default)]
pub struct Stream {
    /// Since when topics are live.
    pub since: BTreeMap<String, u64>,
    /// When its token ends, if it has one.
    pub ends: Option<u64>,
    /// By topic, type and key.
    pub sums: BTreeMap<(String, String, String), u64>,
    /// The number in the newest event, by topic and key; of viewers how many, of presence whether, by the type.
    pub latest: BTreeMap<(String, String), u64>,
    /// Prefixes that it asked for while it was open, and names beside a prefix that has them, and when: each may bring what was
    /// sent before that, though it had that already, by what it gave up.
    pub asked: Vec<(String, u64)>,
    /// How often an event of class `every` came, by topic and id.
    pub every: BTreeMap<String, u64>,
    /// How often somebody's like was told alone, by topic and member.
    pub likers: BTreeMap<(String, String), u64>,
    /// How many like it where the newest like was stored, by topic.
    pub likes: BTreeMap<String, u64>,
    /// How many like it in all data centers, by topic.
    pub totals: BTreeMap<String, u64>,
}

/// Something that may have been shown too late.
#[derive(Debug)]
pub struct Stray {
    /// The topic, and the event's id.
    pub id: String,
    /// Only what was sent before this may be shown.
    pub until: u64,
    pub why: &'static str,
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
    /// It asks for all notes, whatever their pace.
    pub whole: bool,
    /// What it was given that others are not shown.
    pub left_out: BTreeSet<String>,
    /// Its page is loaded anew with its next turn.
    pub reloads: bool,
    /// Connects to any data center.
    pub roams: bool,
    pub is_connected: bool,
    /// It is gone for good.
    pub is_retired: bool,
    /// Since when topics are live without an end.
    pub since: BTreeMap<String, u64>,
    /// When it stopped to watch topics that it does not watch.
    pub gone: BTreeMap<String, u64>,
    pub strays: Vec<Stray>,
    /// As whom it watches.
    pub member: Option<String>,
    /// Topics that it may watch.
    pub all: Vec<String>,
    /// How long its tokens last, where they are asked for.
    pub lasts: Option<u64>,
    /// How long after a token's end its stream may go on.
    pub grace: u64,
    /// Its tokens are renewed while they last.
    pub renews: bool,
    /// When it changes its topics next.
    pub changes_at: u64,
    /// It changes its mind often.
    pub is_restless: bool,
    /// It changes nothing any more.
    pub quiet: bool,
    pub changes: u64,
    pub rights_lost: u64,
    pass: Option<Pass>,
    renews_at: u64,
    doing: Option<Doing>,
    call: Call,
    /// Topics that it leaves as they are.
    settled: BTreeSet<String>,
    /// The stream's name.
    connection: String,
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
    /// What it was told of its streams, in lines for people.
    pub story: Vec<String>,
    /// What no server may do.
    pub faults: Vec<String>,
    next: u64,
}

/// Whether who asked for `mine`, a topic or a prefix of topics, is given a topic's events.
pub fn covers(mine: &str, topic: &str) -> bool {
    mine.strip_suffix('*').map_or(mine == topic, |begin| topic.starts_with(begin))
}

/// Since when a topic is watched, by its name or by a prefix.
pub fn since_of(since: &BTreeMap<String, u64>, topic: &str) -> Option<u64> {
    since.iter().filter(|(mine, _)| covers(mine, topic)).map(|(_, since)| *since).min()
}

/// One member, in a number that says how many streams and members watch.
pub const MEMBERS: u64 = 1_000_000;

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
            whole: false,
            left_out: BTreeSet::new(),
            reloads: false,
            roams: false,
            is_connected: false,
            is_retired: false,
            since: BTreeMap::new(),
            gone: BTreeMap::new(),
            strays: Vec::new(),
            member: None,
            all: Vec::new(),
            lasts: None,
            grace: 0,
            renews: false,
            changes_at: u64::MAX,
            is_restless: false,
            quiet: false,
            changes: 0,
            rights_lost: 0,
            pass: None,
            renews_at: u64::MAX,
            doing: None,
            call: Call::new(number, next),
            settled: BTreeSet::new(),
            connection: String::new(),
            shown: Vec::new(),
            seen: BTreeSet::new(),
            gaps: Vec::new(),
            byes: 0,
            connects: 0,
            resumes: 0,
            repeats: 0,
            streams: Vec::new(),
            story: Vec::new(),
            faults: Vec::new(),
            next,
        }
    }

    /// Whether it watches a topic, by its name or by a prefix.
    pub fn watches(&self, topic: &str) -> bool {
        self.topics.iter().any(|mine| covers(mine, topic))
    }

    /// When it wants its next turn.
    pub fn due(&self) -> u64 {
        self.next.min(self.control_due())
    }

    fn leave(&mut self, fabric: &mut Fabric, random: &mut Random) {
        if let Some(end) = self.end.take() {
            fabric.close(end);
            self.story.push("is without a stream".to_owned());
        }
        self.is_connected = false;
        self.abandon(fabric, random);
        self.parser.restart();
        let retry = self.parser.retry_ms.unwrap_or(3000);
        self.next = fabric.now.get() + (retry + random.number() % 500) * MILLISECOND;
        if self.is_retired {
            self.next = u64::MAX;
        }
    }

    /// It goes for good.
    pub fn retire(&mut self) {
        (self.is_retired, self.reloads) = (true, true);
    }

    /// The header that shows its token.
    fn authorization(&self) -> String {
        self.pass.as_ref().map_or_else(String::new, |pass| format!("Authorization: Bearer {}\r\n", pass.token))
    }

    /// Its turn: by time, or since something happened at its end.
    pub fn turn(&mut self, fabric: &mut Fabric, random: &mut Random, frontends: &[SocketAddr]) {
        self.read(fabric, random, frontends);
        self.control(fabric, random, frontends);
    }

    fn read(&mut self, fabric: &mut Fabric, random: &mut Random, frontends: &[SocketAddr]) {
        let now = fabric.now.get();
        if std::mem::take(&mut self.reloads) {
            return self.leave(fabric, random);
        }
        let Some(end) = self.end else {
            if now >= self.next && !frontends.is_empty() {
                let to = frontends[random.number() as usize % frontends.len()];
                self.end = Some(fabric.connect(Owner::Client(self.number), to));
                self.reader = Reader::default();
                self.asked = false;
                self.connects += 1;
                self.pass = self.pass(now);
                self.streams.push(Stream { ends: self.pass.as_ref().map(|pass| pass.ends), ..Stream::default() });
                self.next = now + PATIENCE;
            }
            return;
        };
        if !self.asked && fabric.is_open(end) {
            let mut query: Vec<String> = self.topics.iter().map(|topic| format!("topic={topic}")).collect();
            query.extend(self.member.iter().filter(|_| self.pass.is_none()).map(|member| format!("member={member}")));
            query.extend(self.whole.then(|| "all=note".to_owned()));
            let resume = match &self.parser.last_event_id {
                Some(id) => {
                    self.resumes += 1;
                    self.story.push(format!("comes back with {id}"));
                    format!("Last-Event-ID: {id}\r\n")
                }
                None => String::new(),
            };
            let (query, pass) = (query.join("&"), self.authorization());
            let request = format!("GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n{pass}{resume}\r\n");
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
        let mut buffer = [0; 2048];
        let buffer = if self.slow > 0 { &mut buffer[..self.slow] } else { &mut buffer[..] };
        let mut events = Vec::new();
        loop {
            match fabric.recv(end, buffer) {
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
            if !event.name.is_empty() {
                self.story.push(format!("is told {} {}", event.name, event.data));
            }
            match event.name.as_str() {
                "connected" => {
                    self.is_connected = true;
                    self.connection = data["connection"].as_str().unwrap_or_default().to_owned();
                    let pending: Vec<&str> =
                        data["pending"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    for topic in self.topics.iter().filter(|topic| !pending.contains(&topic.as_str())) {
                        self.since.entry(topic.clone()).or_insert(now);
                        let stream = self.streams.last_mut().expect("one was begun with the connection");
                        stream.since.insert(topic.clone(), now);
                    }
                }
                "token" if self.renews => self.renews_at = now,
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
        let (key, newest) = match kind {
            "score" => (key, data["data"]["number"].as_u64()),
            "viewers" => (kind.to_owned(), crowd(&data["data"])),
            "rules" => (kind.to_owned(), data["data"]["slow_seconds"].as_u64()),
            "presence" => (kind.to_owned(), data["data"]["online"].as_bool().map(u64::from)),
            _ => (key, None),
        };
        if let Some(newest) = newest {
            if key == kind {
                self.story.push(format!("is told {kind} of {topic}: {newest}"));
            }
            let stream = self.stream();
            stream.latest.insert((topic.to_owned(), key), newest);
            return;
        }
        let stream = self.stream();
        if kind == "likes" {
            let likes = data["data"]["likes"].as_u64().unwrap_or(u64::MAX);
            let sum: u64 =
                data["data"]["reactions"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
            stream.totals.insert(topic.to_owned(), likes);
            if sum != likes {
                self.faults.push(format!("likes of {topic} that are no sum: {data}"));
            }
            return self.story.push(format!("is told likes of {topic}: {likes}"));
        }
        if let Some(likes) = data["data"]["likes"].as_u64() {
            stream.likes.insert(topic.to_owned(), likes);
            if data["count"] == 1 {
                let member = data["data"]["member"].as_str().unwrap_or_default();
                *stream.likers.entry((topic.to_owned(), member.to_owned())).or_default() += 1;
            }
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
        let stray = |until, why| Stray { id: format!("{topic} {id}"), until, why };
        let comes =
            matches!(&self.doing, Some(Doing::Topics { add, .. }) if add.iter().any(|comes| covers(comes, topic)));
        if !comes && !self.watches(topic) {
            let gone = self.gone.iter().filter(|(mine, _)| covers(mine, topic)).map(|(_, at)| *at);
            match gone.max() {
                Some(at) => self.strays.push(stray(at, "was not watched any more")),
                None => self.faults.push(format!("{now}: an event of {topic}, which it does not watch")),
            }
        }
        let ends = self.streams.last().and_then(|stream| stream.ends).map(|ends| ends + self.grace);
        if let Some(ends) = ends.filter(|ends| now > *ends) {
            self.strays.push(stray(ends, "came behind the token's end"));
        }
        match data["type"].as_str().unwrap_or_default() {
            "message" | "note" | "comment" | "deleted" => {}
            kind @ ("like" | "likes" | "beat" | "score" | "viewers" | "presence" | "rules") => {
                return self.tell(kind, topic, data);
            }
            _ => return,
        }
        if data["shown"] == false {
            if !self.whole {
                self.faults.push(format!("{now}: {topic} {id}, which is not for all"));
            }
            self.left_out.insert(format!("{topic} {id}"));
        }
        *self.stream().every.entry(format!("{topic} {id}")).or_default() += 1;
        if !self.seen.insert(format!("{topic} {id}")) {
            self.repeats += 1;
            self.story.push(format!("is shown {topic} {id} again"));
            return;
        }
        let place = self.parser.last_event_id.clone().unwrap_or_default();
        let kind = data["type"].as_str().unwrap_or_default().to_owned();
        self.shown.push(Shown { id: format!("{topic} {id}"), at: now, place, kind });
    }
}

/// Streams and members who watch, as one number.
fn crowd(data: &Value) -> Option<u64> {
    Some(data["viewers"].as_u64()? + MEMBERS * data["members"].as_u64().unwrap_or(0))
}
