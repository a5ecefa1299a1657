//! What dispatchers of two data centers tell each other again and again: that they live, what their clocks say, and how
//! many viewers topics have. Viewers are told as they are now, by one request at a time, so that what is told last holds;
//! a peer of which nothing was heard for a while is told all of them once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::link::{Call, Called, Lane, Outcome};
use crate::ground::peers::Told;
use crate::kv::Request;
use crate::kv::crowd::Crowd;
use crate::kv::datacenter::{HelloNumber, PeerNote, PeerState};
use crate::limits::{COUNTS_BYTES, PEER_HELLO, PEER_LACKS, PEER_TIMEOUT, PEER_VIEWERS};
use crate::wire::pack::pack;
use crate::wire::topic::Topic;

/// What one shard has to say to one peer.
#[derive(Debug)]
pub struct Hello {
    next: Instant,
    under_way: bool,
    /// Topics whose viewers the peer does not know yet.
    viewers: BTreeMap<Topic, Crowd>,
    /// By which the peer says whether it still knows what it was told.
    number: Option<u64>,
    restart: bool,
    /// It did not answer the last one, so that what was sent to it since may be lost.
    missed: bool,
    /// How many were said.
    said: u64,
}

impl Hello {
    /// One that is due.
    pub fn new(now: Instant) -> Hello {
        Hello {
            next: now,
            under_way: false,
            viewers: BTreeMap::new(),
            number: None,
            restart: false,
            missed: false,
            said: 0,
        }
    }
}

/// The request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    /// Unix ms there.
    pub now: u64,
    /// Which one it is; none of a version that did not say so.
    #[serde(default)]
    pub hello: Option<HelloNumber>,
    /// What was said of viewers before counts no more: who said it is gone.
    #[serde(default)]
    pub restart: bool,
    /// Topics, and how many viewers the data center has of each; 0 for one that has none any more.
    pub viewers: Vec<(Topic, Crowd)>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Heard {
    /// Unix ms there.
    pub now: u64,
    /// Another one than before: it knows nothing any more of what it was told of viewers.
    pub number: u64,
}

/// How far a clock is ahead that says `there` when this one says `here`, all in Unix ms; none for what no clock says.
pub(crate) fn clock_ahead(there: u64, here: u64) -> Option<i64> {
    i64::try_from(there).ok()?.checked_sub_unsigned(here)
}

impl Dispatcher {
    /// This data center's viewers of a topic changed.
    pub(crate) fn tell_peers_viewers(&mut self, _ground: &mut Ground, topic: &Topic, viewers: &Crowd) {
        for line in &mut self.peers.lines {
            line.hello.viewers.insert(topic.clone(), viewers.clone());
        }
    }

    /// Once a tick: says what there is to say.
    pub(crate) fn tick_hello(&mut self, ground: &mut Ground, peer: usize) {
        let now = ground.clock.instant;
        // One of those that are left speaks for the one that is gone; its first shard does.
        let first = ground.alive.iter().find(|node| node.is("dispatcher")).map(|node| node.id);
        let restart = self.peers.lost_dispatcher && ground.id == 0 && first == Some(ground.node.id);
        let hello = &mut self.peers.lines[peer].hello;
        hello.restart |= restart;
        let is_due = hello.next <= now;
        if hello.under_way || (!is_due && hello.viewers.is_empty()) {
            return;
        }
        if is_due {
            self.note_lack(ground, peer);
        }
        let Some(destination) = self.pick_url(ground, peer, Lane::Hello) else { return };
        let at = ground.clock.times.unix_ms();
        let hello = &mut self.peers.lines[peer].hello;
        hello.next = now + PEER_HELLO;
        hello.under_way = true;
        let (mut viewers, mut bytes) = (Vec::new(), 0);
        while bytes < COUNTS_BYTES
            && viewers.len() < PEER_VIEWERS
            && let Some((topic, crowd)) = hello.viewers.pop_first()
        {
            bytes += crowd.members.bytes();
            viewers.push((topic, crowd));
        }
        let restart = std::mem::take(&mut hello.restart);
        hello.said += 1;
        let number = HelloNumber { node: ground.node.id, shard: ground.id as u16, number: hello.said };
        let said = Said { now: at, hello: Some(number), restart, viewers };
        let body = pack(serde_json::to_vec(&said).expect("it is plain data"));
        let call = Call {
            path: "/v1/internal/peer/hello",
            content_type: "application/json",
            body: Arc::new(body),
            deadline: now + PEER_TIMEOUT,
            what: Called::Hello(Told { peer, at, viewers: said.viewers, restart }),
        };
        if let Err(Called::Hello(told)) = ground.call((destination, Lane::Hello), call) {
            self.untold(ground, told);
        }
    }

    /// Tells the key-value store that a peer lacks events, for clients who come from there.
    fn note_lack(&mut self, ground: &mut Ground, peer: usize) {
        let since = ground.node.peers[peer].metrics.queued_since();
        let long_ago = ground.clock.unix_ms.saturating_sub(PEER_LACKS.as_millis() as u64);
        if ground.id == 0 && since.is_some_and(|since| since < long_ago) {
            let dc = ground.node.peers[peer].name.clone();
            let note = PeerNote { dc, hello: None, heard: None, lacks: since, restart: false, viewers: Vec::new() };
            ground.ask(Request::NotePeer(note), Asked::PeerNoted);
        }
    }

    /// The peer heard nothing of it.
    fn untold(&mut self, ground: &mut Ground, told: Told) {
        let hello = &mut self.peers.lines[told.peer].hello;
        hello.under_way = false;
        hello.missed = true;
        hello.restart |= told.restart;
        for (topic, viewers) in told.viewers {
            hello.viewers.entry(topic).or_insert(viewers);
        }
        self.peer_counters(ground, told.peer).connected.set(0);
        self.turn_from(ground, told.peer);
    }

    /// The peer answered, or did not.
    pub(crate) fn on_hello_answered(&mut self, ground: &mut Ground, told: Told, outcome: Outcome) {
        let now_ms = ground.clock.times.unix_ms();
        let heard = match outcome {
            Outcome::Answer(200, body) => serde_json::from_slice::<Heard>(&body).ok(),
            Outcome::Answer(status, body) => {
                self.warn_of_peer(ground, told.peer, status, &body);
                None
            }
            Outcome::NotTaken | Outcome::Unknown => None,
        };
        // Its clock was read about in the middle between asking and hearing.
        let middle = told.at / 2 + now_ms / 2;
        let ahead = heard.and_then(|heard| Some((clock_ahead(heard.now, middle)?, heard)));
        let Some((ahead, heard)) = ahead else { return self.untold(ground, told) };
        let counters = self.peer_counters(ground, told.peer);
        counters.connected.set(1);
        counters.set_clock_ahead(ahead);
        let hello = &mut self.peers.lines[told.peer].hello;
        hello.under_way = false;
        let forgot = hello.number.replace(heard.number) != Some(heard.number);
        if std::mem::take(&mut hello.missed) | forgot {
            self.tally.doubt_totals();
        }
        if forgot {
            let own = self.tally.own();
            let hello = &mut self.peers.lines[told.peer].hello;
            for (topic, viewers) in own {
                hello.viewers.entry(topic).or_insert(viewers);
            }
        }
    }

    /// What is known of peers; and whether a dispatcher of this data center was lost.
    pub(crate) fn on_peers(&mut self, states: &[PeerState], lost: bool) {
        self.peers.lost_dispatcher |= lost;
        for state in states.iter().filter(|state| !state.alive) {
            self.tally.forget_peer(&state.dc);
        }
    }
}
