//! Between the cores of a node: an event goes to the core that orders its topic, and from there to every core that has
//! viewers of it, and to no other.

use std::mem::size_of;
use std::sync::Arc;

use crate::db::{Outcome, StoreError};
use crate::ground::message::{Asker, Message, Ticket};
use crate::ground::posts::News;
use crate::ground::{Ground, Todo};
use crate::kv::{Heard, Notice};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::queue::crossing::{Control, Crossed, Crossing, Way};
use crate::wire::frame::Frame;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// What messages of which only the newest counts are about.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// What this core wants.
    Want(Topic),
    /// Where a topic's viewers are.
    Routes(Topic),
    /// What was cached of a topic's subscribers.
    Cached(Topic),
    /// What was cached of all.
    CachedAll,
    /// A bucket's queue to a peer.
    Queue(u8),
    /// A question for a part of history.
    Replay(Topic, Asker),
    /// Who lives.
    Alive,
    /// The question who does.
    AskAlive,
}

impl Control for Message {
    type Key = About;

    fn key(&self) -> Option<About> {
        Some(match self {
            Message::Want { topic, .. } => About::Want(topic.clone()),
            Message::Announce { topic, .. } => About::Routes(topic.clone()),
            Message::Replay(ask) => About::Replay(ask.topic.clone(), ask.asker),
            Message::ReplayEnds { topic, asker } => About::Replay(topic.clone(), *asker),
            Message::Kv(heard) => match &**heard {
                Heard::Notice(Notice::Invalidated(topic)) => About::Cached(topic.clone()),
                Heard::Notice(Notice::InvalidatedAll) => About::CachedAll,
                Heard::Notice(Notice::Queued(bucket)) => About::Queue(*bucket),
                _ => return None,
            },
            Message::Alive { .. } => About::Alive,
            Message::AskAlive => About::AskAlive,
            _ => return None,
        })
    }

    fn replace(&mut self, mut newer: Message) {
        if let (Message::Alive { differing, changed, .. }, Message::Alive { differing: more, changed: also, .. }) =
            (&*self, &mut newer)
        {
            // What was to be set right by the older one still is.
            more.extend(differing.iter().filter(|bucket| !more.contains(bucket)).copied().collect::<Vec<_>>());
            *also |= *changed;
        }
        *self = newer;
    }

    fn bytes(&self) -> usize {
        let more = match self {
            Message::Frames { bytes, .. } => bytes.len(),
            Message::Outbox(News::Listed { posts, .. }) => posts.iter().map(|(_, telling)| telling.bytes()).sum(),
            Message::Stored(_) => size_of::<(Ticket, Result<Outcome, StoreError>)>() + 256,
            Message::Kv(_) => size_of::<Heard>() + 64,
            Message::Reply(..) => 256,
            _ => 64,
        };
        size_of::<Message>() + more
    }
}

impl Ground {
    /// Whether messages wait.
    pub(crate) fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// Sends a message to a shard, itself included. Nothing blocks and nothing is lost, but events may merge.
    pub(crate) fn send(&mut self, shard: usize, message: Message) {
        if shard == self.id {
            self.todo.push_back(Todo::Mail(message));
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
        let account = &self.account;
        let crossing = self.outgoing[shard].get_or_insert_with(|| Box::new(Crossing::new(account)));
        let (way, frame) = match message {
            Message::Sequence(frame) | Message::PeerFrame(frame) => (Way::Order, frame),
            Message::Deliver(frame) => (Way::Viewers, frame),
            // The next comparison comes, and then what waits now is through.
            Message::Compare(_) => return,
            // It is out of date before there is room.
            Message::Typing { .. } if crossing.is_full() => {
                return self.happened(
                    What::DroppedBacklog,
                    1,
                    Subject::says(format_args!("a sign of typing, for shard {shard}")),
                );
            }
            message => {
                crossing.send(message);
                self.congested |= crossing.is_full();
                return;
            }
        };
        let pushed = crossing.push(way, &frame, now_ms);
        self.counters().count_pushed(pushed, Subject::frame(&frame));
    }

    /// Tries again what full mailboxes did not take. Viewers are given the newest values in place of those that were left out.
    pub(crate) fn retry_outgoing(&mut self, newest_values: impl Fn(&Topic) -> Vec<Arc<Frame>>) {
        let (mut waiting, mut congested) = (0, false);
        for shard in 0..self.outgoing.len() {
            let Some(mut crossing) = self.outgoing[shard].take() else { continue };
            let mail = &self.node.mail[shard];
            let passed = crossing.pass(self.clock.unix_ms, |crossed| {
                let message = match crossed {
                    Crossed::Control(message) => message,
                    Crossed::Frame(way, frame) => as_message(way, frame),
                    Crossed::Missed(Way::Order, topic, missed) => Message::Unordered { topic, missed },
                    Crossed::Missed(Way::Viewers, topic, missed) => {
                        let newest = if missed.latest { newest_values(&topic) } else { Vec::new() };
                        Message::Missed { topic, missed, newest }
                    }
                };
                mail.try_send(message).into()
            });
            self.happened(
                What::DroppedExpired,
                passed.expired,
                Subject::says(format_args!("on its way to shard {shard}")),
            );
            if !crossing.is_empty() {
                waiting += crossing.len();
                congested |= crossing.is_full();
                self.outgoing[shard] = Some(crossing);
            }
        }
        self.counters().mesh_waiting.set(waiting as u64);
        self.congested = congested;
    }
}

/// A topic, up to where its viewers were given class `every`, and the highest version of class `latest`.
pub type Told = (Topic, Position, u64);

/// An event as a message. What came from another data center was not compared with what was seen of it yet.
pub(crate) fn as_message(way: Way, frame: Arc<Frame>) -> Message {
    match way {
        Way::Viewers => Message::Deliver(frame),
        Way::Order if frame.origins().is_empty() => Message::Sequence(frame),
        Way::Order => Message::PeerFrame(frame),
    }
}
