//! What peers send. Whatever comes this way is for this data center's viewers, and goes no further.

use std::sync::Arc;

use tracing::warn;

use super::super::asking::Asked;
use super::super::routes::Handled;
use super::super::shard::Shard;
use super::super::slots::Conn;
use super::hello::{Heard, Said};
use super::queue::Page;
use crate::dispatch::datacenter::{PeerNote, Taking};
use crate::dispatch::kv::{Answer, Append, BUCKETS, Request as Question, Unavailable, bucket};
use crate::runtime::account::Held;
use crate::server::likes::kv_error;
use crate::wire::batch::Header;
use crate::wire::event::Class;
use crate::wire::frame::{Frame, Origin, Stored, Stranger, Withdrawn};
use crate::wire::http::HttpError;
use crate::wire::pack::unpack;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

impl Shard {
    /// Which peer sends this request, if it may.
    ///
    /// # Errors
    /// 401 without that peer's secret; 403 for a data center that the settings do not name, or that has this one's name;
    /// 421 where another data center is meant.
    pub(in crate::server) fn peer_of(&self, request: &Request<'_>) -> Result<usize, HttpError> {
        let (from, to) = (request.fanfare_from.unwrap_or(""), request.fanfare_to.unwrap_or(""));
        let own = &self.node.dc;
        if from == own {
            let detail = format!("this is data center {own} itself; a --peer here or there leads to the wrong one");
            return Err(HttpError::new(if to == own { 403 } else { 421 }, detail));
        }
        let Some(peer) = self.node.peers.iter().position(|peer| peer.name == from) else {
            let detail = format!("data center {own} has no --peer of the name that Fanfare-From gives");
            return Err(HttpError::new(403, detail));
        };
        if let Some(secret) = &self.node.peers[peer].secret {
            self.check_shown(request, secret, Some(from), "this needs the secret that the two data centers share")?;
        }
        if to != own {
            let detail = format!("this is data center {own}, not {to}; a --peer of {from} has a wrong name or URL");
            return Err(HttpError::new(421, detail));
        }
        Ok(peer)
    }

    /// `POST /v1/internal/peer/…`
    pub(in crate::server) fn peer_request(
        &mut self,
        conn: Conn,
        request: &Request<'_>,
        what: &str,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        if !self.node.roles.dispatcher || !matches!(what, "frames" | "history" | "hello") {
            return Err(HttpError::not_found());
        }
        let peer = self.peer_of(request)?;
        self.check_neighbour(request)?;
        let body = unpack(body).map_err(|error| HttpError::bad(error.to_string()))?;
        match what {
            "frames" => self.frames_request(conn, to, &body, Some(peer)),
            "history" => self.history_of_peer(conn, peer, to, &body),
            _ => self.hello_of_peer(conn, peer, to, &body),
        }
    }

    /// A frame of a peer that is new to this node.
    pub(in crate::server) fn take_peer_frame(&mut self, peer: usize, header: &Header, number: u64, mut frame: Frame) {
        self.peer_counters(peer).received.add(1);
        match frame.class() {
            Class::Sum | Class::Ephemeral => {
                let sender = Stranger::of(&self.node.peers[peer].name, header.sender);
                let shard = header.shard;
                frame.set_origin(Origin { sender, shard, number, count: frame.count() });
                if self.route_frame(&Arc::new(frame)).is_err() {
                    self.counters().dropped_backlog.add(1);
                }
            }
            Class::Latest => {
                let Some(stored) = Stored::read(frame.json()) else { return };
                if stored.kind == "presence" {
                    return self.take_peer_turn(peer, &stored, frame.version().number, frame.json());
                }
                let node = Arc::clone(&self.node);
                let mut event = stored.event(Class::Latest, 0);
                event.version = Version { number: frame.version().number, dc: &node.peers[peer].name };
                if self.version(&event, false).is_err() {
                    self.counters().dropped_backlog.add(1);
                }
            }
            // It has a way of its own, by which it comes into history.
            Class::Every => self.counters().dropped_unrouted.add(1),
        }
    }

    /// Events of a peer, for history.
    fn history_of_peer(&mut self, conn: Conn, peer: usize, to: AnswerTo, body: &[u8]) -> Result<Handled, HttpError> {
        let page: Page = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a page of a queue: {error}")))?;
        let ascending = page.events.is_sorted_by(|one, next| one.number < next.number);
        if usize::from(page.bucket) >= BUCKETS || !ascending {
            return Err(HttpError::bad("the body must be a page of a queue, its events ascending"));
        }
        let mut events = Vec::with_capacity(page.events.len());
        for queued in &page.events {
            let append =
                self.append_of_peer(&queued.event).filter(|append| bucket(append.topic.as_str()) == page.bucket);
            match append {
                Some(append) => events.push((queued.number, append)),
                // One that cannot be read must not hold up the others.
                None => {
                    self.counters().dropped_unrouted.add(1);
                    warn!(peer = self.node.peers[peer].name, "an event of a peer cannot be read and is left out");
                }
            }
        }
        let texts: Vec<Arc<str>> = events.iter().map(|(_, append)| Arc::clone(&append.event)).collect();
        let held = self.reserve_question(texts.iter().map(|text| text.len()).sum())?;
        let dc = self.node.peers[peer].name.clone();
        match self.submit(Question::Take(Taking { dc, bucket: page.bucket, epoch: page.epoch, events })) {
            Ok(result) => {
                self.put_in_history(peer, &texts, result)?;
                self.answers().whole(to, 204, "", "", b"");
                Ok(Handled::Answered)
            }
            Err(ticket) => {
                self.asked.insert(ticket, Held::new(Asked::Taken { conn, peer, events: texts }, held));
                Ok(Handled::Later)
            }
        }
    }

    fn append_of_peer(&self, event: &Arc<str>) -> Option<Append> {
        let stored = Stored::read(event)?;
        let topic = Topic::parse(&stored.topic).ok()?;
        // It is told to viewers as it is: one line.
        let is_one_line = memchr::memchr2(b'\n', b'\r', event.as_bytes()).is_none();
        let info = self.live.types.get(&stored.kind);
        let (count_max, age_max_ms) = (info.history, info.max_age_ms);
        is_one_line.then(|| Append {
            topic,
            event: Arc::clone(event),
            kind: stored.kind.to_string(),
            count_max,
            age_max_ms,
            withdraws: Withdrawn::id(&stored.kind, stored.data),
            peers: Vec::new(),
        })
    }

    /// The store has a peer's events, or not: those that are new go on their way.
    fn put_in_history(
        &mut self,
        peer: usize,
        events: &[Arc<str>],
        result: Result<Answer, Unavailable>,
    ) -> Result<(), HttpError> {
        let places = match result {
            Ok(Answer::Taken(places)) => places,
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => return Err(kv_error(&unavailable, self.clock.instant)),
        };
        for (event, place) in events.iter().zip(places) {
            if let Some((position, prev)) = place {
                self.peer_counters(peer).received.add(1);
                self.send_placed(event, position, prev);
            }
        }
        Ok(())
    }

    /// The store answered; the peer hears.
    pub(in crate::server) fn on_taken(
        &mut self,
        conn: Conn,
        peer: usize,
        events: &[Arc<str>],
        result: Result<Answer, Unavailable>,
    ) {
        let result = self.put_in_history(peer, events, result);
        self.answer_later(conn, |shard, to| match result {
            Ok(()) => shard.answers().whole(to, 204, "", "", b""),
            Err(error) => shard.answer_problem(to, &error),
        });
    }

    /// A peer lives.
    fn hello_of_peer(&mut self, conn: Conn, peer: usize, to: AnswerTo, body: &[u8]) -> Result<Handled, HttpError> {
        let said: Said = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a hello: {error}")))?;
        let ahead = said.now as i64 - self.clock.unix_ms as i64;
        let dc = self.node.peers[peer].name.clone();
        let note = PeerNote { dc, heard: Some(ahead), lacks: None, restart: said.restart, viewers: said.viewers };
        let held = self.reserve_question(0)?;
        match self.submit(Question::NotePeer(note)) {
            Ok(result) => {
                let body = self.hello_answer(result)?;
                self.answers().json(to, 200, body.as_bytes());
                Ok(Handled::Answered)
            }
            Err(ticket) => {
                self.asked.insert(ticket, Held::new(Asked::Hello(conn), held));
                Ok(Handled::Later)
            }
        }
    }

    fn hello_answer(&self, result: Result<Answer, Unavailable>) -> Result<String, HttpError> {
        match result {
            Ok(Answer::Noted(number)) => {
                let heard = Heard { now: self.clock.unix_ms, number };
                Ok(serde_json::to_string(&heard).expect("it is plain data"))
            }
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => Err(kv_error(&unavailable, self.clock.instant)),
        }
    }

    /// The store answered; the peer hears.
    pub(in crate::server) fn on_hello(&mut self, conn: Conn, result: Result<Answer, Unavailable>) {
        let answer = self.hello_answer(result).map(|body| (200, body));
        self.answer_json_later(conn, answer);
    }

    /// At a topic's home: a frame of another data center is for this node's viewers, unless it was here before, by
    /// whichever dispatcher it came.
    pub(in crate::server) fn on_peer_frame(&mut self, frame: &Arc<Frame>) {
        let now = self.clock.instant;
        let mut repeated = 0;
        for origin in frame.origins() {
            let window = self.cluster.peers.seen.of(origin.sender, origin.shard, 0, now);
            window.reach(origin.number);
            if window.is_new(origin.number) {
                window.see(origin.number);
            } else {
                repeated += u64::from(origin.count);
            }
        }
        let count = u64::from(frame.count()).saturating_sub(repeated);
        self.counters().frames_repeated.add(repeated);
        if count > 0 {
            self.ingress(&frame.with_origins(&[]).recounted(count));
        }
    }
}
