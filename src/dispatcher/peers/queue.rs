//! Events of class `every` on their way to a peer. They wait in the key-value store, one queue a bucket, whichever
//! dispatcher appended them. The dispatcher that ranks highest for a queue reads it from its front, sends a page, and asks
//! for the next one once the peer has appended it; when that dispatcher is gone, another one ranks highest and goes on from
//! the front. Where two think so for a moment, the peer drops what it has.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::cluster::Trouble;
use crate::ground::journeys::Named;
use crate::ground::link::{Call, Called, Lane, Outcome};
use crate::ground::peers::{LeftOut, Sent};
use crate::kv::datacenter::{QueueAsk, QueuePage, Queued};
use crate::kv::{BUCKETS, NodeInfo, Request, Unavailable, highest};
use crate::limits::*;
use crate::wire::event::Class;
use crate::wire::hops::{Checkpoint, Hops};
use crate::wire::pack::pack;
use crate::wire::position::Position;

/// A page of a queue, as it goes to a peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// The bucket.
    pub bucket: u8,
    /// [`QueuePage::epoch`].
    pub epoch: u64,
    /// Its events, ascending.
    pub events: Vec<Queued>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing is known to wait; to be looked at then.
    Idle(Instant),
    /// The store is asked what waits.
    Asking,
    /// A page is on its way.
    Sending,
    /// The peer took nothing; to be tried again then.
    Resting(Instant),
}

/// One queue, as the dispatcher that looks after it sees it.
#[derive(Debug)]
pub struct Pump {
    stage: Stage,
    /// Something may have come to wait since the store was asked.
    again: bool,
    /// The peer has all up to here of this queue, which the store does not know yet.
    done: Option<(u64, Position)>,
    failures: u32,
    /// When its front began to wait, in Unix ms; 0 if nothing does.
    since_ms: u64,
}

impl Pump {
    fn new(now: Instant) -> Pump {
        Pump { stage: Stage::Idle(now), again: false, done: None, failures: 0, since_ms: 0 }
    }
}

impl Dispatcher {
    /// Whether this dispatcher looks after a queue.
    fn is_ours(&self, ground: &Ground, peer: usize, bucket: u8) -> bool {
        let dispatchers = ground.alive.iter().filter(|node: &&NodeInfo| node.is("dispatcher")).map(|node| node.id);
        let own = ground.node.id;
        // Before the first heartbeat's answer nobody is known; then it is better done twice than not at all.
        highest(&format!("{}/{bucket}", ground.node.peers[peer].name), dispatchers).unwrap_or(own) == own
    }

    /// The first event of a bucket waits.
    pub(crate) fn on_queued(&mut self, ground: &mut Ground, bucket: u8) {
        if usize::from(bucket) % ground.node.shards() != ground.id {
            return;
        }
        for peer in 0..self.peers.lines.len() {
            if self.is_ours(ground, peer, bucket) {
                self.look_at_queue(ground, peer, bucket);
            }
        }
    }

    /// Asks what waits, unless that is being done.
    fn look_at_queue(&mut self, ground: &mut Ground, peer: usize, bucket: u8) {
        let now = ground.clock.instant;
        let pump = self.peers.lines[peer].pumps.entry(bucket).or_insert_with(|| Pump::new(now));
        match pump.stage {
            Stage::Idle(_) => self.ask_queue(ground, peer, bucket),
            Stage::Resting(until) if until <= now => self.ask_queue(ground, peer, bucket),
            Stage::Asking | Stage::Sending => pump.again = true,
            Stage::Resting(_) => {}
        }
    }

    fn ask_queue(&mut self, ground: &mut Ground, peer: usize, bucket: u8) {
        let Some(pump) = self.peers.lines[peer].pumps.get_mut(&bucket) else { return };
        pump.stage = Stage::Asking;
        pump.again = false;
        let name = ground.node.peers[peer].name.clone();
        let ask = QueueAsk { peer: name, bucket, done: pump.done, limit: PEER_QUEUE_PAGE };
        ground.ask(Request::Queue(ask), Asked::Queue { peer, bucket });
    }

    /// What waits for a peer in a bucket.
    pub(crate) fn on_queue(
        &mut self,
        ground: &mut Ground,
        peer: usize,
        bucket: u8,
        result: Result<QueuePage, Unavailable>,
    ) {
        let now = ground.clock.instant;
        let lost = result.as_ref().map_or(0, |page| page.lost);
        self.peer_counters(ground, peer).dropped[Class::Every as usize].add(lost);
        let Some(pump) = self.peers.lines[peer].pumps.get_mut(&bucket) else { return };
        let mut page = match result {
            Ok(page) => page,
            Err(_) => return self.rest_queue(ground, peer, bucket),
        };
        pump.done = None;
        bound(&mut page);
        let Some(last) = page.events.last().map(|event| event.number) else {
            pump.since_ms = 0;
            pump.failures = 0;
            pump.stage = Stage::Idle(now + PEER_QUEUE_LOOK);
            if pump.again {
                self.ask_queue(ground, peer, bucket);
            }
            return;
        };
        pump.since_ms = page.events[0].number.ms;
        pump.stage = Stage::Sending;
        let sent = Sent { peer, bucket, epoch: page.epoch, last, count: page.events.len() as u64 };
        let mut page = Page { bucket, epoch: page.epoch, events: page.events };
        page.events.iter_mut().for_each(|queued| self.note_sent(ground, queued));
        let body = serde_json::to_vec(&page).expect("a page is plain data");
        let call = Call {
            path: "/v1/internal/peer/history",
            content_type: "application/json",
            body: Arc::new(pack(body)),
            deadline: now + PEER_TIMEOUT,
            what: Called::PeerPage(sent),
        };
        let destination = self.pick_url(ground, peer, Lane::History);
        let taken = destination.is_some_and(|destination| ground.call((destination, Lane::History), call).is_ok());
        if !taken {
            self.rest_queue(ground, peer, bucket);
        }
    }

    /// A sampled event goes to a peer.
    fn note_sent(&self, ground: &Ground, queued: &mut Queued) {
        if let (Some(mut hops), event) = Hops::split(&queued.event) {
            ground.note(&mut hops, Checkpoint::Sent, Class::Every, Named::Text(&event));
            queued.event = hops.mark(&event);
        }
    }

    /// The peer answered a page, or did not.
    pub(crate) fn on_page_answered(&mut self, ground: &mut Ground, sent: Sent, outcome: Outcome) {
        let Sent { peer, bucket, epoch, last, count } = sent;
        match outcome {
            Outcome::Answer(200..=299, body) => {
                let left_out: LeftOut = serde_json::from_slice(&body).unwrap_or_default();
                let counters = self.peer_counters(ground, peer);
                counters.sent.add(count.saturating_sub(left_out.events));
                counters.dropped[Class::Every as usize].add(left_out.events.min(count));
                let line = &mut self.peers.lines[peer];
                if left_out.events > 0 && line.warned.fails(ground.clock.instant) {
                    let (peer, LeftOut { events, detail }) = (&ground.node.peers[peer].name, left_out);
                    warn!(peer, events, detail, "a peer left out events of this data center");
                }
                if let Some(pump) = self.peers.lines[peer].pumps.get_mut(&bucket) {
                    pump.done = Some((epoch, last));
                    pump.failures = 0;
                    self.ask_queue(ground, peer, bucket);
                }
                return;
            }
            Outcome::Answer(status, body) => self.warn_of_peer(ground, peer, status, &body),
            Outcome::NotTaken | Outcome::Unknown => {}
        }
        self.turn_from(ground, peer);
        self.rest_queue(ground, peer, bucket);
    }

    /// A queue is left alone for a while.
    fn rest_queue(&mut self, ground: &mut Ground, peer: usize, bucket: u8) {
        let jitter = ground.random.number();
        let until = ground.clock.instant;
        let Some(pump) = self.peers.lines[peer].pumps.get_mut(&bucket) else { return };
        let longest = PEER_BACKOFF_MAX.min(PEER_BACKOFF * 2u32.pow(pump.failures.min(10)));
        pump.failures += 1;
        pump.stage = Stage::Resting(until + longest / 2 + longest.mul_f64((jitter % 1024) as f64 / 2048.0));
        if pump.failures == 1 && ground.cluster.told.fails(Trouble::Waits(peer), until) {
            info!(peer = ground.node.peers[peer].name, bucket, "events of class every wait for a peer; trying again");
        }
    }

    /// Once a tick: queues that nobody spoke of for a while, and those that rested.
    pub(crate) fn tick_queue(&mut self, ground: &mut Ground, peer: usize) {
        let now = ground.clock.instant;
        for bucket in (ground.id..BUCKETS).step_by(ground.node.shards()).map(|bucket| bucket as u8) {
            let pump = self.peers.lines[peer].pumps.get(&bucket);
            let is_due = match pump.map(|pump| pump.stage) {
                None => true,
                Some(Stage::Idle(at) | Stage::Resting(at)) => at <= now,
                Some(Stage::Asking | Stage::Sending) => false,
            };
            if is_due {
                if self.is_ours(ground, peer, bucket) {
                    self.look_at_queue(ground, peer, bucket);
                } else {
                    // Another one looks after it, from its front.
                    self.peers.lines[peer].pumps.insert(bucket, Pump::new(now + PEER_QUEUE_LOOK));
                }
            }
        }
        let pumps = self.peers.lines[peer].pumps.values();
        let since = pumps.map(|pump| pump.since_ms).filter(|since| *since > 0).min().unwrap_or(0);
        self.peer_counters(ground, peer).queued_since.set(since);
    }
}

/// Cuts a page of large events short.
pub(crate) fn bound(page: &mut QueuePage) {
    let mut bytes = 0;
    let fits = page.events.iter().take_while(|queued| {
        bytes += queued.event.len();
        bytes <= PEER_QUEUE_PAGE_BYTES
    });
    // One event always fits.
    let fits = fits.count().max(1);
    page.events.truncate(fits);
}
