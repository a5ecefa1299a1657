//! Viewer counts: what every Frontend has, summed up topic by topic, and when viewers are to be told. One a shard, for the
//! topics whose home that is; no IO, no clock.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::kv::NodeCounts;
use crate::kv::crowd::Crowd;
use crate::limits::{COUNTS_PAUSE, WINDOWS_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// What one topic has.
#[derive(Debug, Default)]
struct Counts {
    /// Few nodes mostly, so a list.
    nodes: Vec<(NodeId, Crowd)>,
    /// What other data centers have.
    peers: Vec<(Arc<str>, Crowd)>,
    /// What this node told last.
    told: Option<Told>,
    /// In the list of those to look at.
    changed: bool,
    /// In the list of those whose totals of likes are to be told.
    unsure: bool,
}

/// What was told of a topic.
#[derive(Debug, Clone)]
struct Told {
    /// To viewers: all. None if they were perhaps not all told.
    total: Option<(u32, u32)>,
    /// To other data centers: those of this one. None if they were perhaps not told.
    own: Option<Crowd>,
    /// To hooks: whether this data center has viewers. None if they were perhaps not told.
    occupied: Option<bool>,
    at: Instant,
}

/// What is to be told of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The topic.
    pub topic: Topic,
    /// To this data center's viewers: how many viewers there are, and how many members.
    pub total: Option<(u32, u32)>,
    /// To other data centers: this one's viewers.
    pub own: Option<Crowd>,
    /// To hooks: whether this data center has viewers now.
    pub occupied: Option<bool>,
}

impl Counts {
    /// Puts its topic into the list of those to look at, once.
    fn mark(&mut self, topic: &Topic, changed: &mut VecDeque<Topic>) {
        if !std::mem::replace(&mut self.changed, true) {
            changed.push_back(topic.clone());
        }
    }

    /// Somebody who watches it may not know its totals of likes.
    fn doubt(&mut self, topic: &Topic, unsure: &mut VecDeque<Topic>) {
        if !std::mem::replace(&mut self.unsure, true) {
            unsure.push_back(topic.clone());
        }
    }

    fn own(&self) -> Crowd {
        self.nodes.iter().fold(Crowd::default(), |sum, (_, crowd)| sum.and(crowd))
    }

    fn total(&self) -> Crowd {
        self.peers.iter().fold(self.own(), |sum, (_, crowd)| sum.and(crowd))
    }
}

/// The counts of a shard's topics.
#[derive(Debug, Default)]
pub struct Tally {
    topics: Map<Topic, Counts>,
    /// The number of the last change heard of each node.
    numbers: Map<NodeId, u64>,
    /// Nodes of which the store may hold counts though they do not live, as far as is known: a node whose lease lapsed for a
    /// moment has nothing new to say when it is back.
    absent: Set<NodeId>,
    /// Those to look at, each once.
    changed: VecDeque<Topic>,
    /// Something was missed: everything is to be read.
    stale: bool,
    /// Topics to tell again once the store can be read: it did not take what was told last.
    untold: Set<Topic>,
    /// Topics of which somebody who watches may not know the totals of likes, each once.
    unsure: VecDeque<Topic>,
}

impl Tally {
    /// One that has to read everything first.
    pub fn new() -> Tally {
        Tally { stale: true, ..Tally::default() }
    }

    /// Whether everything is to be read; says so once.
    pub fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Something may have been missed.
    pub fn doubt(&mut self) {
        self.stale = true;
    }

    /// The store did not take what was told of a topic, so that those who come later, or were not known to watch, lack it.
    pub fn untold(&mut self, topic: Topic) {
        self.stale = true;
        self.untold.insert(topic);
    }

    /// A node's viewers changed. `is_home` says which topics count here.
    pub fn change(&mut self, change: &NodeCounts, is_home: impl Fn(&Topic) -> bool) {
        if self.absent.contains(&change.node) {
            return;
        }
        let last = self.numbers.get(&change.node).copied();
        if last.is_some_and(|last| change.number <= last) {
            return;
        }
        if !change.full && change.number != last.unwrap_or(0) + 1 {
            // One before it was missed.
            self.stale = true;
            return;
        }
        self.numbers.insert(change.node, change.number);
        if change.full {
            let listed: Set<&Topic> = change.counts.iter().map(|(topic, _)| topic).collect();
            let held = |counts: &Counts| counts.nodes.iter().any(|(node, _)| *node == change.node);
            let gone = self.topics.iter().filter(|(topic, counts)| held(counts) && !listed.contains(topic));
            let gone: Vec<Topic> = gone.map(|(topic, _)| topic.clone()).collect();
            gone.iter().for_each(|topic| self.set(topic, change.node, &Crowd::default()));
        }
        for (topic, crowd) in change.counts.iter().filter(|(topic, _)| is_home(topic)) {
            self.set(topic, change.node, crowd);
        }
    }

    fn set(&mut self, topic: &Topic, node: NodeId, crowd: &Crowd) {
        if crowd.is_none() && !self.topics.contains_key(topic) {
            return;
        }
        let counts = self.topics.entry(topic.clone()).or_default();
        let is_first = counts.nodes.is_empty();
        let before = counts.nodes.iter().position(|(other, _)| *other == node);
        let before = before.map(|at| counts.nodes.swap_remove(at).1);
        if !crowd.is_none() {
            if before.is_none_or(|before| before == *crowd)
                && let Some(told) = &mut counts.told
            {
                // Who watches there first, or since all who did had left, was told nothing, and is told though the sum may be the same.
                told.total = None;
            }
            counts.nodes.push((node, crowd.clone()));
        }
        if is_first && !crowd.is_none() {
            counts.doubt(topic, &mut self.unsure);
        }
        counts.mark(topic, &mut self.changed);
    }

    /// A peer's viewers of a topic, of which it says the sum.
    pub fn set_peer(&mut self, dc: &str, topic: &Topic, crowd: &Crowd) {
        if crowd.is_none() && !self.topics.contains_key(topic) {
            return;
        }
        let counts = self.topics.entry(topic.clone()).or_default();
        let before = counts.peers.len();
        counts.peers.retain(|(other, _)| **other != *dc);
        if !crowd.is_none() {
            if counts.peers.len() == before {
                counts.doubt(topic, &mut self.unsure);
            }
            counts.peers.push((dc.into(), crowd.clone()));
        }
        counts.mark(topic, &mut self.changed);
    }

    /// All that a peer has.
    pub fn read_peer(&mut self, dc: &str, viewers: &[(Topic, Crowd)], is_home: impl Fn(&Topic) -> bool) {
        self.forget_peer(dc);
        viewers.iter().filter(|(topic, _)| is_home(topic)).for_each(|(topic, crowd)| self.set_peer(dc, topic, crowd));
    }

    /// Nothing is heard of a peer any more.
    pub fn forget_peer(&mut self, dc: &str) {
        let held = self.topics.iter().filter(|(_, counts)| counts.peers.iter().any(|(other, _)| **other == *dc));
        let held: Vec<Topic> = held.map(|(topic, _)| topic.clone()).collect();
        held.iter().for_each(|topic| self.set_peer(dc, topic, &Crowd::default()));
    }

    /// Topics that this node tells of, and this data center's viewers of each.
    pub fn own(&self) -> Vec<(Topic, Crowd)> {
        let told = self.topics.iter().filter(|(_, counts)| counts.told.is_some());
        told.map(|(topic, counts)| (topic.clone(), counts.own())).collect()
    }

    /// Everything that the store holds, also of nodes that are gone and not swept yet.
    pub fn read(
        &mut self,
        nodes: &[NodeCounts],
        lives: impl Fn(NodeId) -> bool,
        is_home: impl Fn(&Topic) -> bool + Copy,
    ) {
        let (nodes, absent): (Vec<_>, Vec<_>) = nodes.iter().partition(|counts| lives(counts.node));
        self.absent = absent.into_iter().map(|counts| counts.node).collect();
        for &counts in &nodes {
            let full = NodeCounts { full: true, ..counts.clone() };
            self.change(&full, is_home);
        }
        let known: Set<NodeId> = nodes.iter().map(|counts| counts.node).collect();
        let gone: Vec<NodeId> = self.numbers.keys().copied().filter(|node| !known.contains(node)).collect();
        gone.into_iter().for_each(|node| self.forget(node));
        // The store may be an empty one.
        self.doubt_totals();
        for topic in std::mem::take(&mut self.untold) {
            let Some(counts) = self.topics.get_mut(&topic) else { continue };
            if let Some(told) = &mut counts.told {
                told.total = None;
            }
            counts.mark(&topic, &mut self.changed);
        }
    }

    /// Only these nodes live: what others had is over.
    pub fn keep(&mut self, lives: impl Fn(NodeId) -> bool) {
        let gone: Vec<NodeId> = self.numbers.keys().copied().filter(|node| !lives(*node)).collect();
        gone.iter().for_each(|node| self.forget(*node));
        self.absent.extend(gone);
        let known = self.absent.len();
        self.absent.retain(|node| !lives(*node));
        self.stale |= self.absent.len() < known || known > WINDOWS_MAX;
    }

    fn forget(&mut self, node: NodeId) {
        self.numbers.remove(&node);
        let held = self.topics.iter().filter(|(_, counts)| counts.nodes.iter().any(|(other, _)| *other == node));
        let held: Vec<Topic> = held.map(|(topic, _)| topic.clone()).collect();
        held.iter().for_each(|topic| self.set(topic, node, &Crowd::default()));
    }

    /// Other dispatchers came or went: what others told before may be this node's to tell now.
    pub fn look_again(&mut self) {
        for (topic, counts) in &mut self.topics {
            counts.mark(topic, &mut self.changed);
        }
    }

    /// Others may have told other things since this node told last.
    pub fn tell_again(&mut self) {
        self.unlearn(|told| (told.total, told.own, told.occupied) = (None, None, None));
    }

    /// Hooks may not know which topics have viewers.
    pub fn doubt_occupied(&mut self) {
        self.unlearn(|told| told.occupied = None);
    }

    /// Of each topic something of what was told is not taken for told any more.
    fn unlearn(&mut self, something: impl Fn(&mut Told)) {
        for (topic, counts) in &mut self.topics {
            if let Some(told) = &mut counts.told {
                something(told);
                counts.mark(topic, &mut self.changed);
            }
        }
    }

    /// Of all topics totals of likes may have been lost on their way to who watches.
    pub fn doubt_totals(&mut self) {
        for (topic, counts) in &mut self.topics {
            counts.doubt(topic, &mut self.unsure);
        }
    }

    /// Nobody told the totals of a topic, though that was asked for.
    pub fn doubt_totals_of(&mut self, topic: &Topic) {
        if let Some(counts) = self.topics.get_mut(topic) {
            counts.doubt(topic, &mut self.unsure);
        }
    }

    /// So many topics, at most, whose totals of likes are to be told. `is_ours` says for which topics this node sees to that.
    pub fn totals_due(&mut self, most: usize, is_ours: impl Fn(&Topic) -> bool) -> Vec<Topic> {
        let mut due = Vec::new();
        for _ in 0..most.min(self.unsure.len()) {
            let Some(topic) = self.unsure.pop_front() else { break };
            shrink(&mut self.unsure);
            let Some(counts) = self.topics.get_mut(&topic) else { continue };
            counts.unsure = false;
            if !(counts.nodes.is_empty() && counts.peers.is_empty()) && is_ours(&topic) {
                due.push(topic);
            }
        }
        due
    }

    /// Who watches a topic, anywhere or in this data center, the nodes that have them, and the other data centers.
    pub fn watched(&self, topic: &Topic, anywhere: bool) -> (Crowd, Vec<NodeId>, Vec<Arc<str>>) {
        let Some(counts) = self.topics.get(topic) else { return Default::default() };
        let nodes = counts.nodes.iter().map(|(node, _)| *node).collect();
        match anywhere {
            true => (counts.total(), nodes, counts.peers.iter().map(|(dc, _)| Arc::clone(dc)).collect()),
            false => (counts.own(), nodes, Vec::new()),
        }
    }

    /// Topics to look at.
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Topics and totals of which viewers are to be told now, of so many topics that are looked at. `is_ours` says for which
    /// topics this node tells them.
    pub fn due(&mut self, now: Instant, looks: usize, is_ours: impl Fn(&Topic) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        for _ in 0..looks.min(self.changed.len()) {
            let Some(topic) = self.changed.pop_front() else { break };
            shrink(&mut self.changed);
            let Some(counts) = self.topics.get_mut(&topic) else { continue };
            let recent = |told: &Told| now.saturating_duration_since(told.at) < COUNTS_PAUSE;
            if counts.told.as_ref().is_some_and(recent) {
                self.changed.push_back(topic);
                continue;
            }
            counts.changed = false;
            let ours = is_ours(&topic);
            if ours {
                let (own, total, told) = (counts.own(), counts.total(), counts.told.as_ref());
                let members = match planted(Mistake::MemberCountedTwice) {
                    true => counts.nodes.iter().map(|(_, crowd)| crowd.members.count()).sum(),
                    false => total.members.count(),
                };
                let total = (total.viewers, members);
                // Where nobody watches here nobody is told, and who comes next is told anew.
                let was_told = told.and_then(|told| told.total);
                let news = (!own.is_none() && was_told != Some(total)).then_some(total);
                let own_news = told.is_none_or(|told| told.own.as_ref() != Some(&own)).then(|| own.clone());
                // Nobody is told of a topic that never had viewers that it has none.
                let was_occupied = told.map_or(Some(false), |told| told.occupied);
                let occupied = Some(!own.is_none()).filter(|occupied| was_occupied != Some(*occupied));
                if news.is_some() || own_news.is_some() || occupied.is_some() {
                    // What nobody was told of is not taken for told: it is news to who comes later.
                    let is_occupied = Some(!own.is_none());
                    counts.told =
                        Some(Told { total: news.or(was_told), own: Some(own), occupied: is_occupied, at: now });
                    due.push(Due { topic: topic.clone(), total: news, own: own_news, occupied });
                }
            }
            if !ours {
                // Should it become ours, what another node told is not known here.
                counts.told = None;
            }
            if counts.nodes.is_empty() && counts.peers.is_empty() {
                // Remembered for as long as viewers may not be told again.
                if counts.told.as_ref().is_some_and(recent) {
                    counts.changed = true;
                    self.changed.push_back(topic);
                } else {
                    self.topics.remove(&topic);
                    shrink(&mut self.topics);
                }
            }
        }
        due
    }
}
