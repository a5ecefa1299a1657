//! Frames to other nodes: what waits for each, and what becomes of it.

use std::sync::Arc;
use std::time::Instant;

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::cluster::{Trouble, among};
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::limits::{ABSENT_NODE_AGE, FRAMES_TIMEOUT, OUTBOX_PATIENCE, UNKNOWN_NODE_WAIT};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::queue::Pushed;
use crate::queue::outbox::Outbox;
use crate::runtime::random::Map;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Frame;
use crate::wire::hops::Checkpoint;

/// What is for one other node.
#[derive(Debug)]
pub(crate) struct Remote {
    outbox: Outbox,
    /// Since when nobody knows whether the node lives; none while its lease holds.
    unknown: Option<Instant>,
    /// It is in `dirty`.
    marked: bool,
}

/// A shard's frames for other nodes.
#[derive(Debug, Default)]
pub struct Outboxes {
    nodes: Map<NodeId, Remote>,
    /// Those that may have something to send.
    dirty: Vec<NodeId>,
    /// Nodes that turned out not to live, and when.
    absent: Map<NodeId, Instant>,
    /// Above all numbers that were given to any of them.
    next_number: u64,
}

impl Outboxes {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.values().all(|remote| remote.outbox.is_empty())
    }

    /// Frames that wait, for `/metrics`.
    pub fn frames(&self) -> u64 {
        self.nodes.values().map(|remote| remote.outbox.frames()).sum()
    }

    fn mark(&mut self, node: NodeId) {
        if let Some(remote) = self.nodes.get_mut(&node)
            && !std::mem::replace(&mut remote.marked, true)
        {
            self.dirty.push(node);
        }
    }
}

impl Dispatcher {
    /// An event is for another node.
    pub(crate) fn send_to_node(&mut self, ground: &mut Ground, node: NodeId, frame: &Arc<Frame>) {
        if !self.outboxes.nodes.contains_key(&node) && !self.open_outbox(ground, node) {
            let says = Subject { says: Some(format_args!("for node {node}")), ..Subject::frame(frame) };
            return ground.happened(What::DroppedAbsent, u64::from(frame.count()), says);
        }
        let frame = &*ground.pass(frame, Checkpoint::Sent);
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        let Outboxes { nodes, dirty, .. } = &mut self.outboxes;
        let remote = nodes.get_mut(&node).expect("it was just seen");
        let pushed = remote.outbox.push(frame, now, unix_ms);
        if !std::mem::replace(&mut remote.marked, true) {
            dirty.push(node);
        }
        if pushed != Pushed::Queued {
            let says = Subject { says: Some(format_args!("for node {node}")), ..Subject::frame(frame) };
            ground.counters().count_pushed(pushed, says);
        }
    }

    /// Makes an outbox for a node. False if that does not live.
    fn open_outbox(&mut self, ground: &mut Ground, node: NodeId) -> bool {
        let now = ground.clock.instant;
        let lives = ground.alive_node(node).is_some();
        if !lives {
            if self.outboxes.absent.contains_key(&node) {
                return false;
            }
            // It may be so new that its first heartbeat is not known here.
            ground.ask_alive();
        }
        // A node that was thought dead remembers the numbers that it was given: these are above them.
        let first = self.outboxes.next_number;
        let outbox = Outbox::new(ground.node.id, ground.id as u16, now, first, &ground.account);
        let remote = Remote { outbox, unknown: (!lives).then_some(now), marked: false };
        self.outboxes.nodes.insert(node, remote);
        true
    }

    /// Sends the batches that may go out now.
    pub(crate) fn send_frames(&mut self, ground: &mut Ground) {
        for node in std::mem::take(&mut self.outboxes.dirty) {
            if let Some(remote) = self.outboxes.nodes.get_mut(&node) {
                remote.marked = false;
                if remote.unknown.is_none() {
                    self.send_frames_to(ground, node);
                }
            }
        }
    }

    fn send_frames_to(&mut self, ground: &mut Ground, node: NodeId) {
        let key = (Destination::Node(node), Lane::Frames);
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        // What would not go out is not frozen, so that it goes on merging.
        while ground.link_takes(key) {
            let Some(remote) = self.outboxes.nodes.get_mut(&node) else { return };
            let Some(batch) = remote.outbox.next_batch(unix_ms) else {
                let expired = remote.outbox.take_expired();
                ground.happened(What::DroppedExpired, expired, Subject::says(format_args!("for node {node}")));
                return;
            };
            ground.counters().frames_sent.add(u64::from(batch.fresh));
            let call = Call {
                path: "/v1/internal/frames",
                content_type: "application/octet-stream",
                body: batch.bytes,
                deadline: now + FRAMES_TIMEOUT,
                what: Called::Frames { node, first: batch.first },
            };
            if let Err(Called::Frames { first, .. }) = ground.call(key, call) {
                if let Some(remote) = self.outboxes.nodes.get_mut(&node) {
                    remote.outbox.failed(first);
                }
                return;
            }
        }
    }

    /// The other node answered a batch, or did not.
    pub(crate) fn on_frames_answered(&mut self, ground: &mut Ground, node: NodeId, first: u64, outcome: Outcome) {
        let now = ground.clock.instant;
        let Some(remote) = self.outboxes.nodes.get_mut(&node) else { return };
        let lost = match outcome {
            Outcome::Answer(200..=299, _) => {
                remote.outbox.answered(first, now);
                0
            }
            // It cannot be read there, now or later.
            Outcome::Answer(400 | 413, body) => {
                if ground.cluster.told.fails(Trouble::Unreadable(node), now) {
                    let answer = String::from_utf8_lossy(&body);
                    tracing::error!(%node, %answer, "another node cannot read a batch of frames");
                }
                remote.outbox.refused(first).iter().sum()
            }
            Outcome::Answer(..) => {
                // Not at once: it would be refused again. The next tick tries.
                remote.outbox.failed(first);
                return;
            }
            Outcome::NotTaken | Outcome::Unknown => {
                remote.outbox.failed(first);
                0
            }
        };
        self.outboxes.mark(node);
        ground.happened(What::DroppedLink, lost, Subject::says(format_args!("node {node} cannot read them")));
    }

    /// The table of living nodes is new: what waited for the dead is dropped.
    pub(crate) fn on_nodes(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let counters = ground.counters();
        let alive = Arc::clone(&ground.alive);
        let Outboxes { nodes, absent, dirty, next_number } = &mut self.outboxes;
        nodes.retain(|node, remote| {
            if among(&alive, *node).is_some() {
                if remote.unknown.take().is_some() && !std::mem::replace(&mut remote.marked, true) {
                    dirty.push(*node);
                }
                return true;
            }
            // The answer may be older than the node.
            if remote.unknown.is_some_and(|since| now.saturating_duration_since(since) < UNKNOWN_NODE_WAIT) {
                return true;
            }
            let lost = remote.outbox.clear(now).iter().sum::<u64>();
            counters.happened(What::DroppedAbsent, lost, Subject::says(format_args!("for node {node}")));
            *next_number = (*next_number).max(remote.outbox.next_number());
            absent.insert(*node, now);
            false
        });
        absent.retain(|_, since| now.saturating_duration_since(*since) < ABSENT_NODE_AGE);
    }

    /// Once a tick: tries again what failed, and gives up what has waited for too long.
    pub(crate) fn tick_outboxes(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let (mut again, mut asks) = (Vec::new(), false);
        for (node, remote) in &mut self.outboxes.nodes {
            asks |= remote.unknown.is_some();
            if remote.outbox.stalled(now) >= OUTBOX_PATIENCE {
                let lost = remote.outbox.clear(now).iter().sum::<u64>();
                ground.happened(
                    What::DroppedLink,
                    lost,
                    Subject::says(format_args!("node {node} did not take them in time")),
                );
            } else if !remote.outbox.is_empty() {
                again.push(*node);
            }
        }
        again.into_iter().for_each(|node| self.outboxes.mark(node));
        if asks {
            ground.ask_alive();
        }
        ground.counters().outbox_frames.set(self.outboxes.frames());
    }
}
