//! Events arrive at a node: each goes to the core that orders its topic, from there to every core that has viewers of it, and to no
//! other.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::newest::Keeping;
use crate::ground::Ground;
use crate::ground::mail::Told;
use crate::ground::message::Message;
use crate::ground::slots::TopicIndex;
use crate::observe::happenings::subject::Subject;
use crate::queue::Pushed;
use crate::queue::crossing::Missed;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::canary::is_canary;
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::hops::Checkpoint;
use crate::wire::topic::Topic;

impl Frontend {
    /// The queue to this core was full, and something of a topic was left out: class `every` comes from history, and the
    /// newest values came with this.
    pub(crate) fn on_missed(&mut self, ground: &mut Ground, topic: &Topic, missed: Missed, newest: &[Arc<Frame>]) {
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
    pub(crate) fn compare_cores(&mut self, ground: &mut Ground, topics: &[Topic]) {
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
    pub(crate) fn on_compare(&mut self, ground: &mut Ground, told: Vec<Told>) {
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
    pub(crate) fn ingress(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        if !frame.origins().is_empty() {
            // Which of them were here before is known at home, also while viewers come and go on other cores.
            return ground.send(ground.node.home_of(frame.topic_hash()), Message::PeerFrame(Arc::clone(frame)));
        }
        if planted(Mistake::EventDropped) {
            // One that merged on its way stands for several.
            let stays = (0..frame.count()).filter(|_| !ground.random.number().is_multiple_of(1_000)).count();
            match stays as u32 {
                0 => return,
                stays if stays < frame.count() => return self.ingress_to(ground, &frame.recounted(stays.into())),
                _ => {}
            }
        }
        self.ingress_to(ground, frame);
    }

    /// It goes to the core that orders its topic.
    fn ingress_to(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let is_by_prefix = || self.is_by_prefix(frame.topic());
        let core = match frame.class() {
            // What there must be one of is kept at home: history's order, the newest values. Also while nobody watches, until
            // the topic is let go: whoever comes back meanwhile is given what home knows.
            Class::Every | Class::Latest => Some(ground.node.home_of(frame.topic_hash())),
            // So are windows, which are one for all that comes, from wherever.
            // A topic that nobody has yet may be had by a prefix, which its home sees to.
            Class::Sum | Class::Ephemeral if is_by_prefix() => Some(ground.node.home_of(frame.topic_hash())),
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
    pub(crate) fn put_in_order(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        if self.prefixes.are_any() && ground.node.home_of(frame.topic_hash()) == ground.id {
            self.open_for(ground, frame);
        }
        match frame.class() {
            Class::Every | Class::Latest => self.order(ground, frame),
            Class::Sum => self.sum(ground, frame),
            Class::Ephemeral => self.sequence(ground, frame),
        }
    }

    /// This core orders the topic's events: what passes here first comes first for every viewer of the node.
    pub(crate) fn sequence(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
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
    pub(crate) fn deliver(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let (mut next, mut viewers) = (self.topics.find(frame.topic()), 0);
        while let Some(index) = next {
            let entry = self.topics.get(index);
            (next, viewers) = (entry.other, viewers + entry.viewers.len());
            self.deliver_to(ground, index, frame);
        }
        if let Some(heat) = &mut self.heat
            && !is_canary(frame.topic())
        {
            heat.count(frame.topic(), viewers);
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
            ground.counters().count_pushed(pushed, Subject::frame(frame));
            if let Some(hops) = frame.hops()
                && matches!(pushed, Pushed::Queued | Pushed::Merged)
            {
                self.follow(ground, index, frame, hops);
            }
        }
    }
}
