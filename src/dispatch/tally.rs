//! Viewer counts: what every Frontend has, summed up topic by topic, and when viewers are to be told. One a shard, for the
//! topics whose home that is; no IO, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::kv::NodeCounts;
use crate::limits::{COUNTS_PAUSE, WINDOWS_MAX};
use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// What one topic has.
#[derive(Debug, Default)]
struct Counts {
    /// Few nodes mostly, so a list.
    nodes: Vec<(NodeId, u32)>,
    /// What other data centers have.
    peers: Vec<(Arc<str>, u32)>,
    /// What this node told last.
    told: Option<Told>,
    /// In the list of those to look at.
    changed: bool,
    /// In the list of those whose totals of likes are to be told.
    unsure: bool,
}

/// What was told of a topic.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// To viewers: all. None if they were perhaps not all told.
    total: Option<u32>,
    /// To other data centers: those of this one.
    own: u32,
    at: Instant,
}

/// What is to be told of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The topic.
    pub topic: Topic,
    /// To this data center's viewers: all viewers.
    pub total: Option<u32>,
    /// To other data centers: this one's viewers.
    pub own: Option<u32>,
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

    fn own(&self) -> u32 {
        self.nodes.iter().fold(0, |total: u32, (_, count)| total.saturating_add(*count))
    }

    fn total(&self) -> u32 {
        self.peers.iter().fold(self.own(), |total, (_, count)| total.saturating_add(*count))
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
            gone.iter().for_each(|topic| self.set(topic, change.node, 0));
        }
        for (topic, count) in change.counts.iter().filter(|(topic, _)| is_home(topic)) {
            self.set(topic, change.node, *count);
        }
    }

    fn set(&mut self, topic: &Topic, node: NodeId, count: u32) {
        if count == 0 && !self.topics.contains_key(topic) {
            return;
        }
        let counts = self.topics.entry(topic.clone()).or_default();
        let is_first = counts.nodes.is_empty();
        counts.nodes.retain(|(other, _)| *other != node);
        if count > 0 {
            counts.nodes.push((node, count));
        }
        if is_first && count > 0 {
            counts.doubt(topic, &mut self.unsure);
        }
        counts.mark(topic, &mut self.changed);
    }

    /// A peer's viewers of a topic, of which it says the sum.
    pub fn set_peer(&mut self, dc: &str, topic: &Topic, count: u32) {
        if count == 0 && !self.topics.contains_key(topic) {
            return;
        }
        let counts = self.topics.entry(topic.clone()).or_default();
        let before = counts.peers.len();
        counts.peers.retain(|(other, _)| **other != *dc);
        if count > 0 {
            if counts.peers.len() == before {
                counts.doubt(topic, &mut self.unsure);
            }
            counts.peers.push((dc.into(), count));
        }
        counts.mark(topic, &mut self.changed);
    }

    /// All that a peer has.
    pub fn read_peer(&mut self, dc: &str, viewers: &[(Topic, u32)], is_home: impl Fn(&Topic) -> bool) {
        self.forget_peer(dc);
        viewers.iter().filter(|(topic, _)| is_home(topic)).for_each(|(topic, count)| self.set_peer(dc, topic, *count));
    }

    /// Nothing is heard of a peer any more.
    pub fn forget_peer(&mut self, dc: &str) {
        let held = self.topics.iter().filter(|(_, counts)| counts.peers.iter().any(|(other, _)| **other == *dc));
        let held: Vec<Topic> = held.map(|(topic, _)| topic.clone()).collect();
        held.iter().for_each(|topic| self.set_peer(dc, topic, 0));
    }

    /// Topics that this node tells of, and this data center's viewers of each.
    pub fn own(&self) -> Vec<(Topic, u32)> {
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
        held.iter().for_each(|topic| self.set(topic, node, 0));
    }

    /// Other dispatchers came or went: what others told before may be this node's to tell now.
    pub fn look_again(&mut self) {
        for (topic, counts) in &mut self.topics {
            counts.mark(topic, &mut self.changed);
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
            let (own, total) = (counts.own(), counts.total());
            let ours = is_ours(&topic);
            let told = counts.told;
            // Where nobody watches here, other data centers' viewers are nobody's news.
            let is_watched = own > 0 || told.is_some_and(|told| told.own > 0) || counts.peers.is_empty();
            let was_told = told.and_then(|told| told.total);
            let news = (is_watched && was_told != Some(total)).then_some(total);
            let own_news = told.is_none_or(|told| told.own != own).then_some(own);
            if ours && (news.is_some() || own_news.is_some()) {
                // What nobody was told of is not taken for told: it is news to who comes later.
                counts.told = Some(Told { total: news.or(was_told), own, at: now });
                due.push(Due { topic: topic.clone(), total: news, own: own_news });
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const ALL: usize = usize::MAX;

    fn topic(number: u8) -> Topic {
        Topic::parse(&format!("live:{number}")).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set { node: u8, topic: u8, count: u32, lost: bool },
        Read,
        Die(u8),
        Return(u8),
        Wait(u64),
    }

    proptest! {
        /// Changes get lost, nodes die: at most one telling a topic a second, only on change, and in the end the last one
        /// told is right.
        #[test]
        fn viewers_are_told_the_truth(ops in prop::collection::vec(prop_oneof![
            6 => (0u8..3, 0u8..3, 0u32..5, prop::bool::weighted(0.1)).prop_map(|(node, topic, count, lost)| Op::Set { node, topic, count, lost }),
            1 => Just(Op::Read),
            1 => (0u8..3).prop_map(Op::Die),
            1 => (0u8..3).prop_map(Op::Return),
            3 => (0u64..1500).prop_map(Op::Wait),
        ], 1..150)) {
            let (mut tally, mut now) = (Tally::new(), Instant::now());
            let mut store: BTreeMap<u8, NodeCounts> = BTreeMap::new();
            let mut alive = std::collections::BTreeSet::from([0, 1, 2]);
            let mut told: BTreeMap<Topic, (u32, Instant)> = BTreeMap::new();
            let settle = [Op::Wait(1000), Op::Read, Op::Wait(1000), Op::Wait(1000)];
            for op in ops.into_iter().chain(settle) {
                match op {
                    Op::Set { node, topic: number, count, lost } => {
                        let id = NodeId(node.into());
                        let held = store.entry(node).or_insert(NodeCounts { node: id, number: 0, full: true, counts: vec![] });
                        held.number += 1;
                        held.counts.retain(|(other, _)| *other != topic(number));
                        if count > 0 { held.counts.push((topic(number), count)); }
                        let counts = vec![(topic(number), count)];
                        let change = NodeCounts { node: id, number: held.number, full: false, counts };
                        if !lost { tally.change(&change, |_| true); }
                    }
                    Op::Read => tally.doubt(),
                    // The store still has what it had.
                    Op::Die(node) => {
                        alive.remove(&node);
                        tally.keep(|id| alive.contains(&(id.0 as u8)));
                    }
                    Op::Return(node) => {
                        alive.insert(node);
                        tally.keep(|id| alive.contains(&(id.0 as u8)));
                    }
                    Op::Wait(ms) => now += Duration::from_millis(ms),
                }
                if tally.take_stale() {
                    let held: Vec<NodeCounts> = store.values().cloned().collect();
                    tally.read(&held, |id| alive.contains(&(id.0 as u8)), |_| true);
                }
                // However few are looked at at once.
                let one_by_one = (0..tally.changed()).flat_map(|_| tally.due(now, 1, |_| true)).collect::<Vec<_>>();
                for Due { topic, total, own } in one_by_one {
                    prop_assert_eq!(total, own);
                    let Some(total) = total else { continue };
                    if let Some((before, at)) = told.insert(topic, (total, now)) {
                        prop_assert!(before != total && now - at >= COUNTS_PAUSE);
                    }
                }
            }
            for number in 0..3 {
                let total: u32 = store.iter().filter(|(node, _)| alive.contains(node)).map(|(_, node)| node).flat_map(|node| &node.counts).filter(|(t, _)| *t == topic(number)).map(|(_, count)| count).sum();
                prop_assert_eq!(told.get(&topic(number)).map_or(0, |(told, _)| *told), total);
            }
        }
    }

    /// A viewer in another data center goes, and one comes here: the total is as it was, and nobody here was told of it.
    #[test]
    fn first_viewer_here_is_told_a_total_that_others_had() {
        let (mut tally, now) = (Tally::new(), Instant::now());
        let due = |total, own| [Due { topic: topic(1), total, own }];
        tally.set_peer("b", &topic(1), 1);
        assert_eq!(tally.due(now, ALL, |_| true), due(None, Some(0)), "nobody watches here");
        tally.set_peer("b", &topic(1), 0);
        let change = NodeCounts { node: NodeId(1), number: 1, full: false, counts: vec![(topic(1), 1)] };
        tally.change(&change, |_| true);
        assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), due(Some(1), Some(1)));
    }

    #[test]
    fn only_the_owner_tells_and_a_new_one_tells_at_once() {
        let (mut tally, now) = (Tally::new(), Instant::now());
        let change = NodeCounts { node: NodeId(1), number: 1, full: false, counts: vec![(topic(1), 7)] };
        tally.change(&change, |_| true);
        assert_eq!(tally.due(now, ALL, |_| false), []);
        tally.look_again();
        assert_eq!(tally.due(now, ALL, |_| true), [Due { topic: topic(1), total: Some(7), own: Some(7) }]);
        tally.look_again();
        assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [], "nothing changed");
    }

    #[test]
    fn what_the_store_did_not_take_is_told_again_when_it_can_be_read() {
        let (mut tally, now) = (Tally::new(), Instant::now());
        let change = NodeCounts { node: NodeId(1), number: 1, full: true, counts: vec![(topic(1), 7)] };
        tally.change(&change, |_| true);
        assert!(tally.take_stale() && tally.due(now, ALL, |_| true).len() == 1);
        tally.untold(topic(1));
        assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [], "not yet");
        assert!(tally.take_stale());
        tally.read(&[change], |_| true, |_| true);
        let again = Due { topic: topic(1), total: Some(7), own: None };
        assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [again]);
        assert_eq!(tally.due(now + 2 * COUNTS_PAUSE, ALL, |_| true), []);
    }

    #[test]
    fn peers_count_for_viewers_and_are_not_told_back() {
        let (mut tally, mut now) = (Tally::new(), Instant::now());
        let mut due = |tally: &mut Tally| {
            now += COUNTS_PAUSE;
            tally.due(now, ALL, |_| true).into_iter().map(|due| (due.total, due.own)).collect::<Vec<_>>()
        };
        let change =
            |number, count| NodeCounts { node: NodeId(1), number, full: false, counts: vec![(topic(1), count)] };
        tally.set_peer("b", &topic(1), 5);
        assert_eq!(due(&mut tally), [(None, Some(0))], "nobody watches here");
        tally.change(&change(1, 2), |_| true);
        assert_eq!(due(&mut tally), [(Some(7), Some(2))]);
        tally.set_peer("c", &topic(1), 1);
        assert_eq!(due(&mut tally), [(Some(8), None)]);
        tally.forget_peer("b");
        tally.change(&change(2, 7), |_| true);
        assert_eq!(due(&mut tally), [(None, Some(7))], "the sum is the same");
        assert_eq!(tally.own(), [(topic(1), 7)]);
        tally.read_peer("c", &[], |_| true);
        tally.change(&change(3, 0), |_| true);
        assert_eq!(due(&mut tally), [(Some(0), Some(0))]);
    }

    #[test]
    fn totals_are_told_where_somebody_watches_whom_nobody_told_them() {
        let mut tally = Tally::new();
        let change =
            |number, count| NodeCounts { node: NodeId(1), number, full: false, counts: vec![(topic(1), count)] };
        let due = |tally: &mut Tally| tally.totals_due(ALL, |_| true);
        tally.change(&change(1, 2), |_| true);
        assert_eq!(due(&mut tally), [topic(1)], "the first who watches here");
        tally.change(&change(2, 3), |_| true);
        assert_eq!(due(&mut tally), [], "others have them already");
        tally.set_peer("b", &topic(1), 1);
        tally.set_peer("b", &topic(1), 2);
        assert_eq!(due(&mut tally), [topic(1)], "the first who watches there");
        tally.read_peer("b", &[(topic(1), 2)], |_| true);
        assert_eq!(due(&mut tally), [topic(1)], "the peer forgot what it was told");
        tally.doubt_totals();
        assert_eq!(tally.totals_due(ALL, |_| false), [], "another node sees to it");
        tally.doubt_totals();
        tally.doubt_totals_of(&topic(2));
        tally.set_peer("b", &topic(1), 0);
        assert_eq!(due(&mut tally), [topic(1)], "a node died");
        tally.change(&change(3, 1), |_| true);
        tally.change(&change(4, 0), |_| true);
        tally.doubt_totals();
        assert_eq!(due(&mut tally), [], "nobody watches");
    }
}
