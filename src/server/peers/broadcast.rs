//! Events of the classes that wait in memory, on their way to a peer: numbered frames, merged by class while they wait.

use std::sync::Arc;

use tracing::error;

use super::super::cluster::Trouble;
use super::super::link::{Call, Called, Lane, Outcome};
use super::super::shard::Shard;
use crate::frontend::queue::Pushed;
use crate::limits::{PEER_OUTBOX_PATIENCE, PEER_TIMEOUT};
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::hops::Checkpoint;

impl Shard {
    /// An event that this data center was given is for every peer.
    pub(in crate::server) fn broadcast(&mut self, frame: &Arc<Frame>) {
        let frame = &*self.pass(frame, Checkpoint::Sent);
        let (now, unix_ms) = (self.clock.instant, self.clock.unix_ms);
        for peer in 0..self.cluster.peers.lines.len() {
            let pushed = self.cluster.peers.lines[peer].outbox.push(frame, now, unix_ms);
            let dropped = &self.peer_counters(peer).dropped;
            match pushed {
                Pushed::Queued | Pushed::Merged => {}
                Pushed::Overrun | Pushed::Dropped => dropped[frame.class() as usize].add(u64::from(frame.count())),
                Pushed::Displaced(events) => dropped[Class::Sum as usize].add(events),
            }
        }
    }

    /// At the end of a turn: sends the batches that may go out now.
    pub(in crate::server) fn send_broadcasts(&mut self) {
        for peer in 0..self.cluster.peers.lines.len() {
            self.send_broadcasts_to(peer);
        }
    }

    fn send_broadcasts_to(&mut self, peer: usize) {
        let (now, unix_ms) = (self.clock.instant, self.clock.unix_ms);
        while !self.cluster.peers.lines[peer].outbox.is_empty() {
            // What would not go out is not frozen, so that it goes on merging.
            let Some(destination) = self.pick_url(peer, Lane::Frames) else { return };
            let outbox = &mut self.cluster.peers.lines[peer].outbox;
            let batch = outbox.next_batch(unix_ms);
            let expired = outbox.take_expired();
            let counters = self.peer_counters(peer);
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
            if let Err(Called::PeerFrames { first, .. }) = self.call((destination, Lane::Frames), call) {
                self.cluster.peers.lines[peer].outbox.failed(first);
                return;
            }
        }
    }

    /// The peer answered a batch, or did not.
    pub(in crate::server) fn on_broadcast_answered(&mut self, peer: usize, first: u64, outcome: Outcome) {
        let now = self.clock.instant;
        let outbox = &mut self.cluster.peers.lines[peer].outbox;
        match outcome {
            Outcome::Answer(200..=299, _) => outbox.answered(first, now),
            // It cannot be read there, now or later.
            Outcome::Answer(400 | 413, body) => {
                let answer = String::from_utf8_lossy(&body).into_owned();
                let lost = outbox.refused(first);
                if self.cluster.told.fails(Trouble::UnreadableThere(peer), now) {
                    error!(peer = self.node.peers[peer].name, answer, "a peer cannot read a batch of frames");
                }
                self.count_lost(peer, lost);
            }
            Outcome::Answer(status, body) => {
                // The next tick tries again.
                outbox.failed(first);
                self.turn_from(peer);
                self.warn_of_peer(peer, status, &body);
            }
            Outcome::NotTaken | Outcome::Unknown => {
                outbox.failed(first);
                self.turn_from(peer);
            }
        }
    }

    fn count_lost(&self, peer: usize, lost: [u64; 4]) {
        self.peer_counters(peer).dropped.iter().zip(lost).for_each(|(counter, events)| counter.add(events));
    }

    /// Once a tick: gives up what has waited for too long, and says how far behind the peer is.
    pub(super) fn tick_broadcast(&mut self, peer: usize) {
        let (now, unix_ms) = (self.clock.instant, self.clock.unix_ms);
        let outbox = &mut self.cluster.peers.lines[peer].outbox;
        let lost = if outbox.stalled(now) >= PEER_OUTBOX_PATIENCE { outbox.clear(now) } else { [0; 4] };
        let lag_ms = outbox.lag_ms(unix_ms);
        self.count_lost(peer, lost);
        self.peer_counters(peer).lag_ms.set(lag_ms);
    }
}
