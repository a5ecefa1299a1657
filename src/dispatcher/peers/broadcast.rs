//! Events of the classes that wait in memory, on their way to a peer: numbered frames, merged by class while they wait.

use std::sync::Arc;

use tracing::error;

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::cluster::Trouble;
use crate::ground::link::{Call, Called, Lane, Outcome};
use crate::limits::{PEER_OUTBOX_PATIENCE, PEER_TIMEOUT};
use crate::queue::Pushed;
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::hops::Checkpoint;

impl Dispatcher {
    /// An event that this data center was given is for every peer.
    pub(crate) fn broadcast(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let frame = &*ground.pass(frame, Checkpoint::Sent);
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        for peer in 0..self.peers.lines.len() {
            let pushed = self.peers.lines[peer].outbox.push(frame, now, unix_ms);
            let dropped = &self.peer_counters(ground, peer).dropped;
            match pushed {
                Pushed::Queued | Pushed::Merged => {}
                Pushed::Overrun | Pushed::Dropped => dropped[frame.class() as usize].add(u64::from(frame.count())),
                Pushed::Displaced(events) => dropped[Class::Sum as usize].add(events),
            }
        }
    }

    /// At the end of a turn: sends the batches that may go out now.
    pub(crate) fn send_broadcasts(&mut self, ground: &mut Ground) {
        for peer in 0..self.peers.lines.len() {
            self.send_broadcasts_to(ground, peer);
        }
    }

    fn send_broadcasts_to(&mut self, ground: &mut Ground, peer: usize) {
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        while !self.peers.lines[peer].outbox.is_empty() {
            // What would not go out is not frozen, so that it goes on merging.
            let Some(destination) = self.pick_url(ground, peer, Lane::Frames) else { return };
            let outbox = &mut self.peers.lines[peer].outbox;
            let batch = outbox.next_batch(unix_ms);
            let expired = outbox.take_expired();
            let counters = self.peer_counters(ground, peer);
            counters.dropped[Class::Ephemeral as usize].add(expired);
            let Some(batch) = batch else { return };
            counters.sent.add(u64::from(batch.fresh));
            let call = Call {
                path: "/v1/internal/peer/frames",
                content_type: "application/octet-stream",
                body: batch.bytes,
                deadline: now + PEER_TIMEOUT,
                what: Called::PeerFrames { peer, first: batch.first },
            };
            if let Err(Called::PeerFrames { first, .. }) = ground.call((destination, Lane::Frames), call) {
                self.peers.lines[peer].outbox.failed(first);
                return;
            }
        }
    }

    /// The peer answered a batch, or did not.
    pub(crate) fn on_broadcast_answered(&mut self, ground: &mut Ground, peer: usize, first: u64, outcome: Outcome) {
        let now = ground.clock.instant;
        let outbox = &mut self.peers.lines[peer].outbox;
        match outcome {
            Outcome::Answer(200..=299, _) => outbox.answered(first, now),
            // It cannot be read there, now or later.
            Outcome::Answer(400 | 413, body) => {
                let answer = String::from_utf8_lossy(&body).into_owned();
                let lost = outbox.refused(first);
                if ground.cluster.told.fails(Trouble::UnreadableThere(peer), now) {
                    error!(peer = ground.node.peers[peer].name, answer, "a peer cannot read a batch of frames");
                }
                self.count_lost(ground, peer, lost);
            }
            Outcome::Answer(status, body) => {
                // The next tick tries again.
                outbox.failed(first);
                self.turn_from(ground, peer);
                self.warn_of_peer(ground, peer, status, &body);
            }
            Outcome::NotTaken | Outcome::Unknown => {
                outbox.failed(first);
                self.turn_from(ground, peer);
            }
        }
    }

    fn count_lost(&self, ground: &Ground, peer: usize, lost: [u64; Class::ALL.len()]) {
        self.peer_counters(ground, peer).dropped.iter().zip(lost).for_each(|(counter, events)| counter.add(events));
    }

    /// Once a tick: gives up what has waited for too long, and says how far behind the peer is.
    pub(crate) fn tick_broadcast(&mut self, ground: &mut Ground, peer: usize) {
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        let outbox = &mut self.peers.lines[peer].outbox;
        let lost = if outbox.stalled(now) >= PEER_OUTBOX_PATIENCE { outbox.clear(now) } else { [0; Class::ALL.len()] };
        let lag_ms = outbox.lag_ms(unix_ms);
        self.count_lost(ground, peer, lost);
        self.peer_counters(ground, peer).lag_ms.set(lag_ms);
    }
}
