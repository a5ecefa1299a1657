//! Between the cores of a node: an event goes to the core that orders its topic, and from there to every core that has
//! viewers of it, and to no other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::message::Message;
use super::shard::Shard;
use crate::frontend::backlog::{Backlog, Bounds, Pushed};
use crate::frontend::newest::Keeping;
use crate::limits::{LOG_KEYS_MAX, MESH_BACKLOG_BYTES};
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::topic::Topic;

/// What another core's full mailbox did not take.
#[derive(Debug)]
pub struct Outgoing {
    /// Messages that must not be lost. Each belongs to a change of a core's topics, or to an open request, so there are
    /// never more than those.
    control: VecDeque<Message>,
    /// Events for the core to order, which merge by class.
    sequence: Backlog,
    /// Events for its viewers, which merge by class.
    deliver: Backlog,
    /// Topics of which class `every` found no room there, and whether a `gap` was among that: the core reads history once
    /// the rest is through.
    missed: HashMap<Topic, bool>,
}

impl Outgoing {
    fn new() -> Box<Outgoing> {
        let bounds = Bounds { bytes: MESH_BACKLOG_BYTES, keys: LOG_KEYS_MAX };
        let (control, missed) = Default::default();
        Box::new(Outgoing { control, sequence: Backlog::new(bounds), deliver: Backlog::new(bounds), missed })
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        self.control.len() + self.sequence.len() + self.deliver.len() + self.missed.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    /// Sends a message to a shard, itself included. Nothing blocks and nothing is lost, but events may merge.
    pub(super) fn send(&mut self, shard: usize, message: Message) {
        if shard == self.id {
            self.local.push_back(message);
            return;
        }
        self.counters().crossings.add(1);
        // Behind what waits already, so that order holds.
        let refused =
            if self.outgoing[shard].is_some() { Some(message) } else { self.node.mail[shard].try_send(message).err() };
        if let Some(message) = refused {
            self.keep(shard, message);
        }
    }

    fn keep(&mut self, shard: usize, message: Message) {
        let now_ms = self.clock.unix_ms;
        let outgoing = self.outgoing[shard].get_or_insert_with(Outgoing::new);
        let pushed = match message {
            Message::Sequence(frame) => outgoing.sequence.push(&frame, u64::from(frame.count()), now_ms),
            Message::Deliver(frame) => {
                let pushed = outgoing.deliver.push(&frame, u64::from(frame.count()), now_ms);
                if pushed == Pushed::Overrun && frame.class() == Class::Every {
                    let topic = Topic::parse(frame.topic()).expect("a frame's topic is one");
                    *outgoing.missed.entry(topic).or_default() |= frame.position().is_none();
                }
                pushed
            }
            message => {
                outgoing.control.push_back(message);
                return;
            }
        };
        self.counters().count_pushed(pushed);
    }

    /// Tries again what full mailboxes did not take.
    pub(super) fn retry_outgoing(&mut self) {
        let mut waiting = 0;
        for shard in 0..self.outgoing.len() {
            let Some(mut outgoing) = self.outgoing[shard].take() else { continue };
            let mail = self.node.mail[shard].clone();
            let mut full = false;
            while let Some(message) = outgoing.control.pop_front() {
                if let Err(message) = mail.try_send(message) {
                    outgoing.control.push_front(message);
                    full = true;
                    break;
                }
            }
            let now_ms = self.clock.unix_ms;
            let mut expired = 0;
            for (queue, wrap) in [
                (&mut outgoing.sequence, Message::Sequence as fn(Arc<Frame>) -> Message),
                (&mut outgoing.deliver, Message::Deliver),
            ] {
                if full || queue.is_empty() {
                    continue;
                }
                let mut left = Vec::new();
                let drained = queue.drain(now_ms, |frame, count| {
                    let frame = frame.recounted(count);
                    if full || mail.try_send(wrap(Arc::clone(&frame))).is_err() {
                        full = true;
                        left.push(frame);
                    }
                });
                expired += drained.expired;
                for frame in left {
                    queue.push(&frame, u64::from(frame.count()), now_ms);
                }
            }
            if !full {
                outgoing
                    .missed
                    .retain(|topic, gap| mail.try_send(Message::Missed { topic: topic.clone(), gap: *gap }).is_err());
            }
            self.counters().dropped_expired.add(expired);
            if !outgoing.is_empty() {
                waiting += outgoing.len();
                self.outgoing[shard] = Some(outgoing);
            }
        }
        self.counters().mesh_waiting.set(waiting as u64);
    }

    /// An event arrives at this node, on whichever core.
    pub(super) fn ingress(&mut self, frame: &Arc<Frame>) {
        if !frame.origins().is_empty() {
            // Which of them were here before is known at home, also while viewers come and go on other cores.
            return self.send(self.node.home(frame.topic()), Message::PeerFrame(Arc::clone(frame)));
        }
        let core = match frame.class() {
            // What there must be one of is kept at home: history's order, the newest values. Also while nobody watches, until
            // the topic is let go: whoever comes back meanwhile is given what home knows.
            Class::Every | Class::Latest => Some(self.node.home(frame.topic())),
            Class::Sum | Class::Ephemeral => {
                self.routes.get(frame.topic()).and_then(|cores| cores.sequencer(frame.topic_hash()))
            }
        };
        match core {
            Some(core) if core == self.id => self.put_in_order(frame),
            Some(core) => self.send(core, Message::Sequence(Arc::clone(frame))),
            None => {}
        }
    }

    /// This core orders the topic's events of this class.
    pub(super) fn put_in_order(&mut self, frame: &Arc<Frame>) {
        match frame.class() {
            Class::Every | Class::Latest => self.order(frame),
            Class::Sum | Class::Ephemeral => self.sequence(frame),
        }
    }

    /// This core orders the topic's events: what passes here first comes first for every viewer of the node.
    pub(super) fn sequence(&mut self, frame: &Arc<Frame>) {
        let Some(cores) = self.routes.get(frame.topic()).copied() else { return };
        for core in cores.iter() {
            if core == self.id {
                self.deliver(frame);
            } else {
                self.send(core, Message::Deliver(Arc::clone(frame)));
            }
        }
    }

    /// Viewers of this core are to get an event.
    pub(super) fn deliver(&mut self, frame: &Arc<Frame>) {
        let Some(index) = self.topics.find(frame.topic()) else { return };
        let now_ms = self.clock.unix_ms;
        let entry = self.topics.get_mut(index);
        let pushed = match frame.class() {
            // It comes from history, with what is missing before it.
            Class::Every if entry.behind.is_some() && frame.position().is_some() => return,
            Class::Every => entry.append_ordered(frame, false, now_ms),
            Class::Latest => {
                let taken = entry.newest.take(frame, Keeping::Shared, &self.account);
                taken.is_news().then(|| entry.append(frame, now_ms))
            }
            Class::Sum | Class::Ephemeral => Some(entry.append(frame, now_ms)),
        };
        self.queue_topic(index);
        if let Some(pushed) = pushed {
            self.counters().count_pushed(pushed);
        }
    }
}
