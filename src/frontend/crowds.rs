//! What is to be done for very many streams or topics at once, such as that a topic is registered for which a crowd waits, or
//! that all are to go: in slices, so that the others have their turn.

use std::collections::VecDeque;

use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::frontend::lag::Showing;
use crate::frontend::newest::Turn;
use crate::frontend::streams::Waiter;
use crate::ground::Ground;
use crate::ground::slots::{Conn, TopicIndex};
use crate::limits::{CROWD_BURST, CROWD_SLICE};
use crate::runtime::random::Set;
use crate::runtime::shrink::shrink;
use crate::wire::topic::Topic;

/// What is left of it.
#[derive(Debug, Default)]
pub struct Crowds {
    /// Waits for topics that are over.
    over: VecDeque<Waiter>,
    /// Topics whose viewers are to be given newest values.
    shown: VecDeque<ShownToAll>,
}

/// Newest values for all viewers of a topic.
#[derive(Debug)]
struct ShownToAll {
    topic: Topic,
    index: TopicIndex,
    at: Turn,
    until: Turn,
    /// So many have not had them, which are the first: where one leaves, the last takes its place, and may get them twice.
    left: usize,
    /// Of those, who was connected meanwhile, and so had them.
    connected: Set<Conn>,
}

impl Crowds {
    /// A stream was connected, and is given all newest values of this topic.
    pub(crate) fn connected(&mut self, index: TopicIndex, conn: Conn) {
        for shown in self.shown.iter_mut().filter(|shown| shown.index == index) {
            shown.connected.insert(conn);
        }
    }
}

impl Frontend {
    /// Serves those that wait, for as long as one turn may. True if there are more.
    pub(crate) fn serve_crowds(&mut self, ground: &mut Ground) -> bool {
        let waits = !self.crowds.over.is_empty() && self.end_waits(ground);
        let shows = !self.crowds.shown.is_empty() && self.show_to_all(ground);
        let topics = self.registry.is_due(ground.clock.instant) && self.let_go(ground);
        let told = self.looks.are_due() && self.look_at_streams(ground);
        waits | shows | topics | told
    }

    /// What waited for topics waits no more.
    pub(crate) fn end_later(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        self.crowds.over.extend(waiters);
    }

    fn end_waits(&mut self, ground: &mut Ground) -> bool {
        let mut slice = ground.clock.slice(CROWD_SLICE);
        while let Some(waiter) = self.crowds.over.pop_front() {
            shrink(&mut self.crowds.over);
            self.end_wait(ground, waiter);
            if slice.is_over() {
                break;
            }
        }
        !self.crowds.over.is_empty()
    }

    /// All viewers of a topic are to be given its newest values behind this place.
    pub(crate) fn show_all(&mut self, index: TopicIndex, at: Turn) {
        let entry = self.topics.get(index);
        let (until, left) = (entry.newest.end(), entry.viewers.len());
        match self.crowds.shown.iter_mut().find(|shown| shown.index == index && shown.topic == entry.topic) {
            Some(shown) => {
                (shown.at, shown.until, shown.left) = (shown.at.min(at), until, left);
                shown.connected.clear();
            }
            None => {
                let (topic, connected) = (entry.topic.clone(), Set::default());
                self.crowds.shown.push_back(ShownToAll { topic, index, at, until, left, connected });
            }
        }
    }

    fn show_to_all(&mut self, ground: &mut Ground) -> bool {
        let mut slice = ground.clock.slice(CROWD_SLICE);
        while let Some(shown) = self.crowds.shown.front_mut() {
            let entry = self.topics.try_get_mut(shown.index).filter(|entry| entry.topic == shown.topic);
            let viewers = entry.map_or(&[][..], |entry| &entry.viewers);
            shown.left = shown.left.min(viewers.len());
            let Some(left) = shown.left.checked_sub(1) else {
                self.crowds.shown.pop_front();
                continue;
            };
            shown.left = left;
            let slot = viewers[left].slot;
            // One that waits is given them when it is connected.
            let is_new = |conn: &Conn| !ground.slots.at(slot).waiting && !shown.connected.contains(conn);
            let conn = ground.slots.owner(slot).filter(is_new);
            let showing = Showing { topic: shown.index, at: shown.at, until: shown.until };
            if let Some(conn) = conn {
                self.show(ground, conn, vec![showing]);
            }
            if slice.is_over() {
                break;
            }
        }
        !self.crowds.shown.is_empty()
    }

    /// Lets go of topics that nobody watched for a while.
    fn let_go(&mut self, ground: &mut Ground) -> bool {
        let (now, mut slice) = (ground.clock.instant, ground.clock.slice(CROWD_SLICE));
        while self.registry.is_due(now) {
            self.registry.tick(now, CROWD_BURST, &mut self.effects);
            self.apply_effects(ground);
            if slice.is_over() {
                break;
            }
        }
        self.registry.is_due(now)
    }

    /// Ends streams that a write found broken.
    pub(crate) fn close_broken(&mut self, ground: &mut Ground) {
        if self.broken.is_empty() {
            return;
        }
        let mut slice = ground.clock.slice(CROWD_SLICE);
        while let Some(conn) = self.broken.pop() {
            self.close_stream(ground, conn, Ended::Client);
            if slice.is_over() {
                break;
            }
        }
    }
}
