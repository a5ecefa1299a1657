//! Between the cores of a node: an event goes to the core that orders its topic, and from there to every core that has
//! viewers of it, and to no other.

use crate::server::frontend::Frontend;
use crate::server::ground::{Ground, Todo};
use crate::server::serving::Server;
use std::mem::size_of;
use std::sync::Arc;

use super::http_connection::Http;
use super::message::{Asker, Message};
use super::slots::{Conn, Kind};
use crate::backend::telling::News;
use crate::dispatch::kv::{Heard, Notice};
use crate::frontend::crossing::{Control, Crossed, Crossing, Missed, Way};
use crate::frontend::newest::Keeping;
use crate::frontend::queue::Pushed;
use crate::frontend::topics::TopicIndex;
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::hops::Checkpoint;
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
            Message::Kv(Heard::Notice(Notice::Invalidated(topic))) => About::Cached(topic.clone()),
            Message::Kv(Heard::Notice(Notice::InvalidatedAll)) => About::CachedAll,
            Message::Kv(Heard::Notice(Notice::Queued(bucket))) => About::Queue(*bucket),
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
            Message::Stored(..) | Message::Reply(..) => 256,
            _ => 64,
        };
        size_of::<Message>() + more
    }
}

impl Ground {
    /// Whether messages wait.
    pub(super) fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }
}

impl Ground {
    /// Sends a message to a shard, itself included. Nothing blocks and nothing is lost, but events may merge.
    pub(super) fn send(&mut self, shard: usize, message: Message) {
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
            Message::Typing { .. } if crossing.is_full() => return self.counters().dropped_backlog.add(1),
            message => {
                crossing.send(message);
                self.congested |= crossing.is_full();
                return;
            }
        };
        let pushed = crossing.push(way, &frame, now_ms);
        self.counters().count_pushed(pushed);
    }

    /// Tries again what full mailboxes did not take. Viewers are given the newest values in place of those that were left out.
    pub(super) fn retry_outgoing(&mut self, newest_values: impl Fn(&Topic) -> Vec<Arc<Frame>>) {
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
            self.counters().dropped_expired.add(passed.expired);
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

impl Server {
    /// Requests of a client may lead to more messages for a core that takes none: they are read once it does.
    pub(super) fn hold_back(&mut self, ground: &mut Ground, conn: Conn, mut http: Box<Http>) {
        http.unread = true;
        self.held_back.push(conn);
        ground.slots.get_mut(conn).expect("its requests were just to be read").kind = Kind::Http(http);
    }
}

impl Frontend {
    /// The queue to this core was full, and something of a topic was left out: class `every` comes from history, and the
    /// newest values came with this.
    pub(super) fn on_missed(&mut self, ground: &mut Ground, topic: &Topic, missed: Missed, newest: &[Arc<Frame>]) {
        let mut next = self.topics.find(topic.as_str());
        while let Some(index) = next {
            self.take_newest(ground, index, newest);
            let entry = self.topics.get_mut(index);
            next = entry.other;
            let lacks = missed.every.is_some_and(|to| entry.reaches(to));
            // Without a place to go on from this core is not ready, and promised nothing.
            if let Some(had) = entry.delivered_to.filter(|_| missed.gap) {
                entry.fall_behind(had).gap = true;
            }
            if lacks || missed.gap {
                self.queue_topic(index);
            }
        }
    }

    /// Tells the cores that have viewers of these topics up to where this home gave them everything, and how new their newest
    /// values are: whatever became of what was sent, what a core lacks it gets now.
    pub(super) fn compare_cores(&mut self, ground: &mut Ground, topics: &[Topic]) {
        let mut told: Vec<Vec<Told>> = (0..ground.node.shards()).map(|_| Vec::new()).collect();
        for topic in topics {
            let Some((end, newest)) = self.homes.given(topic) else { continue };
            let Some(cores) = self.routes.get(topic) else { continue };
            cores.iter().for_each(|core| told[core].push((topic.clone(), end.place(), newest)));
        }
        for (core, told) in told.into_iter().enumerate() {
            if !told.is_empty() {
                ground.send(core, Message::Compare(told));
            }
        }
    }

    /// What this core's viewers should have.
    pub(super) fn on_compare(&mut self, ground: &mut Ground, told: Vec<Told>) {
        for (topic, end, newest) in told {
            let (mut next, mut lacks_newer) = (self.topics.find(topic.as_str()), false);
            while let Some(index) = next {
                let entry = self.topics.get_mut(index);
                next = entry.other;
                if !entry.registered {
                    continue;
                }
                lacks_newer |= entry.newest.version() < newest;
                if entry.reaches(end) {
                    self.queue_topic(index);
                }
            }
            if lacks_newer {
                // Answered with all that the home knows.
                self.want(ground, &topic, true);
            }
        }
    }

    /// An event arrives at this node, on whichever core.
    pub(super) fn ingress(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        if !frame.origins().is_empty() {
            // Which of them were here before is known at home, also while viewers come and go on other cores.
            return ground.send(ground.node.home_of(frame.topic_hash()), Message::PeerFrame(Arc::clone(frame)));
        }
        let core = match frame.class() {
            // What there must be one of is kept at home: history's order, the newest values. Also while nobody watches, until
            // the topic is let go: whoever comes back meanwhile is given what home knows.
            Class::Every | Class::Latest => Some(ground.node.home_of(frame.topic_hash())),
            // So are windows, which are one for all that comes, from wherever.
            Class::Sum => self.routes.get(frame.topic()).map(|_| ground.node.home_of(frame.topic_hash())),
            Class::Ephemeral => self.routes.get(frame.topic()).and_then(|cores| cores.sequencer(frame.topic_hash())),
        };
        match core {
            Some(core) if core == ground.id => self.put_in_order(ground, frame),
            Some(core) => ground.send(core, Message::Sequence(Arc::clone(frame))),
            None => {}
        }
    }

    /// This core orders the topic's events of this class.
    pub(super) fn put_in_order(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        match frame.class() {
            Class::Every | Class::Latest => self.order(ground, frame),
            Class::Sum => self.sum(ground, frame),
            Class::Ephemeral => self.sequence(ground, frame),
        }
    }

    /// This core orders the topic's events: what passes here first comes first for every viewer of the node.
    pub(super) fn sequence(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let Some(cores) = self.routes.get(frame.topic()).copied() else { return };
        let frame = &*ground.pass(frame, Checkpoint::Ordered);
        for core in cores.iter() {
            if core == ground.id {
                self.deliver(ground, frame);
            } else {
                ground.send(core, Message::Deliver(Arc::clone(frame)));
            }
        }
    }

    /// Viewers of this core are to get an event.
    pub(super) fn deliver(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let mut next = self.topics.find(frame.topic());
        while let Some(index) = next {
            next = self.topics.get(index).other;
            self.deliver_to(ground, index, frame);
        }
    }

    /// The same, of those who get one part of a topic.
    fn deliver_to(&mut self, ground: &mut Ground, index: TopicIndex, frame: &Arc<Frame>) {
        let now_ms = ground.clock.unix_ms;
        let entry = self.topics.get_mut(index);
        let pushed = match frame.class() {
            // It comes from history, with what is missing before it.
            Class::Every if entry.behind.is_some() && frame.position().is_some() => return,
            Class::Every => entry.append_ordered(frame, false, now_ms),
            Class::Latest => {
                let taken = entry.newest.take(frame, Keeping::Shared, &ground.account);
                taken.is_news().then(|| entry.append(frame, now_ms))
            }
            Class::Sum | Class::Ephemeral => Some(entry.append(frame, now_ms)),
        };
        self.queue_topic(index);
        if let Some(pushed) = pushed {
            ground.counters().count_pushed(pushed);
            if let Some(hops) = frame.hops()
                && matches!(pushed, Pushed::Queued | Pushed::Merged)
            {
                self.follow(ground, index, frame, hops);
            }
        }
    }
}

/// A topic, up to where its viewers were given class `every`, and the highest version of class `latest`.
pub type Told = (Topic, Position, u64);

/// An event as a message. What came from another data center was not compared with what was seen of it yet.
fn as_message(way: Way, frame: Arc<Frame>) -> Message {
    match way {
        Way::Viewers => Message::Deliver(frame),
        Way::Order if frame.origins().is_empty() => Message::Sequence(frame),
        Way::Order => Message::PeerFrame(frame),
    }
}
