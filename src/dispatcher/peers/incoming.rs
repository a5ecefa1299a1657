//! What peers send. Whatever comes this way is for this data center's viewers, and goes no further.

use std::sync::Arc;

use tracing::warn;

use crate::dispatcher::Dispatcher;
use crate::dispatcher::peers::hello::{Heard, Said, clock_ahead};
use crate::dispatcher::peers::queue::Page;
use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::asking::{Asked, kv_error};
use crate::ground::journeys::Named;
use crate::ground::peers::{Arriving, LeftOut};
use crate::ground::slots::Conn;
use crate::kv::datacenter::{PeerNote, Taking};
use crate::kv::{Answer, Append, BUCKETS, Request as Question, Unavailable, bucket};
use crate::limits::VERSION_MAX;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::Held;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::batch::Header;
use crate::wire::event::{Class, LIKES, VIEWERS};
use crate::wire::frame::{Frame, Origin, Stored, Stranger, Withdrawn};
use crate::wire::hops::{Checkpoint, Hops};
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use crate::wire::topic::Topic;
use crate::wire::types::TypeInfo;
use crate::wire::version::Version;

/// What a peer is told of its page: nothing if all of it was taken, or what of it was not.
pub(crate) fn page_answer(left_out: &LeftOut) -> Vec<u8> {
    match left_out.events {
        0 => Vec::new(),
        _ => serde_json::to_vec(left_out).expect("it is plain data"),
    }
}

impl Dispatcher {
    /// A frame of a peer that is new to this node. Nothing of it goes on but what was read of it, written anew.
    pub(crate) fn take_peer_frame(
        &mut self,
        ground: &mut Ground,
        peer: usize,
        header: &Header,
        number: u64,
        frame: &Frame,
    ) {
        self.peer_counters(ground, peer).received.add(1);
        let (class, version) = (frame.class(), frame.version().number);
        let (stored, info) = match self.read_of_peer(ground, frame.json(), class) {
            Ok(read) => read,
            Err(reason) => return self.leave_out(ground, peer, &reason),
        };
        if version > VERSION_MAX {
            return self.leave_out(ground, peer, "its version is none that a clock gives");
        }
        let mut event = stored.event(class, info.ttl_ms);
        event.hops = frame.hops();
        match class {
            Class::Sum | Class::Ephemeral => {
                event.version = Version { number: version, ..Version::NONE };
                let sender = Stranger::of(&ground.node.peers[peer].name, header.sender);
                let origin = Origin { sender, shard: header.shard, number, count: frame.count() };
                let is_first = frame.origins().is_empty();
                let frame = Arc::new(Frame::encode(&event)).recounted(u64::from(frame.count()));
                let frame = frame.with_origins(&[origin]);
                if planted(Mistake::PeerRebroadcast) && is_first {
                    self.broadcast(ground, &frame);
                }
                if self.route_frame(ground, &frame).is_err() {
                    ground.happened(What::DroppedBacklog, 1, Subject::frame(&frame));
                }
            }
            Class::Latest if stored.kind == "presence" => {
                self.take_peer_turn(ground, peer, &stored, version, frame.json())
            }
            Class::Latest => {
                let node = Arc::clone(&ground.node);
                event.version = Version { number: version, dc: &node.peers[peer].name };
                if stored.kind == LIKES {
                    // It speaks for itself only.
                    event.key = Some(&node.peers[peer].name);
                }
                if self.version(ground, &event, false).is_err() {
                    let about = Subject { event: Some(&stored.id), ..Subject::topic(&stored.topic) };
                    ground.happened(What::DroppedBacklog, 1, about);
                }
            }
            Class::Every => {
                self.leave_out(ground, peer, "events of class every come as pages of a queue, not as frames")
            }
        }
    }

    /// Reads an event that a peer sends as one of this class. What it is called there says nothing here: viewers here are
    /// promised what this data center's settings say of its type.
    ///
    /// # Errors
    /// Why it is none, or may not come this way.
    fn read_of_peer<'a>(&self, ground: &Ground, json: &'a str, class: Class) -> Result<(Stored<'a>, TypeInfo), String> {
        let stored = Stored::read(json).ok_or("it is no event")?;
        let (kind, info) = (&stored.kind, ground.live.types.get(&stored.kind));
        if info.class != class {
            return Err(format!(
                "its type {kind} is of class {} here, not {class}; give both data centers the same [events.{kind}]",
                info.class
            ));
        }
        if kind == VIEWERS {
            return Err("viewers are counted by each data center, from what the others' hellos say".to_owned());
        }
        // Viewers would take what this data center tells under that id for a repeat.
        let withdrawn = Withdrawn::id(&stored.kind, stored.data);
        if let Some(id) =
            [Some(&*stored.id), withdrawn.as_deref()].into_iter().flatten().find(|id| ground.is_given_here(id))
        {
            return Err(format!("{id} is an id of this data center's own"));
        }
        Ok((stored, info))
    }

    /// An event of a peer goes nowhere: it must not hold up the others.
    pub(crate) fn leave_out(&mut self, ground: &mut Ground, peer: usize, reason: &str) {
        let says = format_args!("of data center {}: {reason}", ground.node.peers[peer].name);
        ground.happened(What::DroppedForeign, 1, Subject::says(says));
        if self.peers.lines[peer].left_out.fails(ground.clock.instant) {
            warn!(peer = ground.node.peers[peer].name, reason, "left out an event of a peer");
        }
    }

    /// Events of a peer, for history.
    pub(crate) fn history_of_peer(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        peer: usize,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
        let page: Page = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a page of a queue: {error}")))?;
        let ascending = page.events.is_sorted_by(|one, next| one.number < next.number);
        if usize::from(page.bucket) >= BUCKETS || !ascending {
            return Err(HttpError::bad("the body must be a page of a queue, its events ascending"));
        }
        let (mut events, mut texts) = (Vec::with_capacity(page.events.len()), Vec::with_capacity(page.events.len()));
        let mut left_out = LeftOut::default();
        for queued in &page.events {
            let (hops, event) = Hops::split(&queued.event);
            match self.append_of_peer(ground, &event, page.bucket) {
                Ok(append) => {
                    let hops = hops.map(|mut hops| {
                        ground.note(&mut hops, Checkpoint::Taken, Class::Every, Named::Text(&event));
                        Arc::new(hops)
                    });
                    texts.push((Arc::clone(&append.event), hops));
                    events.push((queued.number, append));
                }
                Err(reason) => {
                    self.leave_out(ground, peer, &reason);
                    left_out.add(reason);
                }
            }
        }
        let held = ground.reserve_question(texts.iter().map(|(text, _)| text.len()).sum())?;
        let dc = ground.node.peers[peer].name.clone();
        match ground.submit(Question::Take(Taking { dc, bucket: page.bucket, epoch: page.epoch, events })) {
            Ok(result) => {
                self.put_in_history(ground, peer, &texts, result)?;
                let body = page_answer(&left_out);
                let status = if body.is_empty() { Status::NoContent } else { Status::Ok };
                Ok(Handled::Answered(ground.answers().json(to, status, &body)))
            }
            Err(ticket) => {
                ground.asked.insert(ticket, Held::new(Asked::Taken { conn, peer, events: texts, left_out }, held));
                Ok(Handled::Later)
            }
        }
    }

    fn append_of_peer(&self, ground: &Ground, event: &str, in_bucket: u8) -> Result<Append, String> {
        let (stored, info) = self.read_of_peer(ground, event, Class::Every)?;
        let topic = Topic::parse(&stored.topic).map_err(|error| error.to_string())?;
        if bucket(topic.as_str()) != in_bucket {
            return Err("its topic is of another bucket".to_owned());
        }
        let event = Frame::encode(&stored.event(Class::Every, 0));
        Ok(Append {
            topic,
            // What is shown was decided where it came in.
            event: stored.paced.mark(event.json()).into(),
            kind: stored.kind.to_string(),
            count_max: info.history,
            age_max_ms: info.max_age_ms,
            withdraws: Withdrawn::id(&stored.kind, stored.data),
            peers: Vec::new(),
            pace: None,
        })
    }

    /// The store has a peer's events, or not: those that are new go on their way.
    fn put_in_history(
        &mut self,
        ground: &mut Ground,
        peer: usize,
        events: &[Arriving],
        result: Result<Answer, Unavailable>,
    ) -> Result<(), HttpError> {
        let places = match result {
            Ok(Answer::Taken(places)) => places,
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => return Err(kv_error(&unavailable, ground.clock.instant)),
        };
        for ((event, hops), place) in events.iter().zip(places) {
            if let Some((position, prev)) = place {
                self.peer_counters(ground, peer).received.add(1);
                self.send_placed(ground, event, hops.clone(), position, prev);
            }
        }
        Ok(())
    }

    /// The store answered; the peer hears.
    pub(crate) fn on_taken(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        peer: usize,
        (events, left_out): (&[Arriving], &LeftOut),
        result: Result<Answer, Unavailable>,
    ) {
        let result = self.put_in_history(ground, peer, events, result);
        ground.reply(conn, result.map(|()| page_answer(left_out)));
    }

    /// A peer lives.
    pub(crate) fn hello_of_peer(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        peer: usize,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
        let said: Said = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a hello: {error}")))?;
        let ahead = clock_ahead(said.now, ground.clock.unix_ms).ok_or(HttpError::bad("now is no time in Unix ms"))?;
        let dc = ground.node.peers[peer].name.clone();
        let Said { hello, restart, viewers, .. } = said;
        let note = PeerNote { dc, hello, heard: Some(ahead), lacks: None, restart, viewers };
        let held = ground.reserve_question(0)?;
        match ground.submit(Question::NotePeer(note)) {
            Ok(result) => {
                let body = self.hello_answer(ground, result)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Ok, body.as_bytes())))
            }
            Err(ticket) => {
                ground.asked.insert(ticket, Held::new(Asked::Hello(conn), held));
                Ok(Handled::Later)
            }
        }
    }

    fn hello_answer(&self, ground: &Ground, result: Result<Answer, Unavailable>) -> Result<String, HttpError> {
        match result {
            Ok(Answer::Noted(number)) => {
                let heard = Heard { now: ground.clock.unix_ms, number };
                Ok(serde_json::to_string(&heard).expect("it is plain data"))
            }
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => Err(kv_error(&unavailable, ground.clock.instant)),
        }
    }

    /// The store answered; the peer hears.
    pub(crate) fn on_hello(&mut self, ground: &mut Ground, conn: Conn, result: Result<Answer, Unavailable>) {
        let answer = self.hello_answer(ground, result).map(|body| (Status::Ok, body));
        ground.reply(conn, answer);
    }
}
