//! How many viewers this node has, topic by topic: its cores' counts added up, and what of it the key-value store does not
//! know yet, and which members they are. One a node; no IO, no clock.

use std::time::Instant;

use crate::ground::message::Move;
use crate::kv::NodeCounts;
use crate::kv::crowd::{Crowd, Members};
use crate::limits::{COUNTS_BYTES, COUNTS_PAUSE};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// A topic's viewers.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    viewers: u32,
    /// Members, and how many streams each has.
    members: Map<u64, u32>,
}

impl Watched {
    fn take(&mut self, (member, came): Move) {
        let streams = self.members.entry(member).or_default();
        *streams = if came { *streams + 1 } else { streams.saturating_sub(1) };
        if *streams == 0 && !planted(Mistake::MemberGoneCounted) {
            self.members.remove(&member);
            shrink(&mut self.members);
        }
    }

    fn crowd(&self) -> Crowd {
        Crowd { viewers: self.viewers, members: Members::of(self.members.keys().copied()) }
    }
}

/// A node's viewers.
#[derive(Debug, Default)]
pub struct Audience {
    /// Each core's part.
    cores: Map<(Topic, usize), u32>,
    totals: Map<Topic, Watched>,
    /// Topics whose totals the store does not know yet.
    changed: Set<Topic>,
    /// The last change that was sent.
    number: u64,
    /// A change is under way.
    sent: bool,
    sent_at: Option<Instant>,
    full: bool,
    /// What belongs to the last change follows at once.
    more: bool,
}

impl Audience {
    /// A core has so many viewers of a topic now; these members' streams came and left meanwhile.
    pub fn report(&mut self, topic: Topic, core: usize, count: u32, moves: &[Move]) {
        let before = if count == 0 {
            let before = self.cores.remove(&(topic.clone(), core));
            shrink(&mut self.cores);
            before.unwrap_or(0)
        } else {
            self.cores.insert((topic.clone(), core), count).unwrap_or(0)
        };
        if before == count && moves.is_empty() {
            return;
        }
        let watched = self.totals.entry(topic.clone()).or_default();
        moves.iter().for_each(|moved| watched.take(*moved));
        watched.viewers = watched.viewers - before + count;
        if watched.viewers == 0 {
            self.totals.remove(&topic);
            shrink(&mut self.totals);
        }
        self.changed.insert(topic);
    }

    /// Whether a member is among a topic's viewers.
    pub fn has(&self, topic: &Topic, member: u64) -> bool {
        self.totals.get(topic).is_some_and(|watched| watched.members.contains_key(&member))
    }

    /// A topic's viewers.
    pub fn crowd(&self, topic: &Topic) -> Crowd {
        self.totals.get(topic).map_or_else(Crowd::default, Watched::crowd)
    }

    /// What to tell the store now: at most once in [`COUNTS_PAUSE`], one change at a time, of at most some [`COUNTS_BYTES`] of
    /// members. One that tells of all topics tells their numbers first.
    pub fn due(&mut self, node: NodeId, now: Instant) -> Option<NodeCounts> {
        let recent = self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < COUNTS_PAUSE);
        if (recent && !self.more) || self.sent || (self.changed.is_empty() && !self.full) {
            return None;
        }
        let full = std::mem::take(&mut self.full);
        let counts = if full { self.numbers() } else { self.changes() };
        self.more = full && !self.changed.is_empty();
        self.number += 1;
        self.sent = true;
        self.sent_at = Some(now);
        Some(NodeCounts { node, number: self.number, full, counts })
    }

    /// Numbers of all topics; members follow.
    fn numbers(&mut self) -> Vec<(Topic, Crowd)> {
        let named = self.totals.iter().filter(|(_, watched)| !watched.members.is_empty());
        self.changed = named.map(|(topic, _)| topic.clone()).collect();
        self.totals.iter().map(|(topic, watched)| (topic.clone(), Crowd::nameless(watched.viewers))).collect()
    }

    /// Topics that changed, or as many of them as one change may tell.
    fn changes(&mut self) -> Vec<(Topic, Crowd)> {
        let (mut counts, mut bytes) = (Vec::new(), 0);
        let changed = std::mem::take(&mut self.changed);
        let mut changed = changed.into_iter();
        while bytes < COUNTS_BYTES
            && let Some(topic) = changed.next()
        {
            let crowd = self.crowd(&topic);
            bytes += crowd.members.bytes();
            counts.push((topic, crowd));
        }
        self.changed = changed.collect();
        counts
    }

    /// The change under way is in place.
    pub fn done(&mut self) {
        self.sent = false;
    }

    /// Nobody knows what became of it: everything is sent again, since numbers that were skipped are a doubt elsewhere.
    pub fn failed(&mut self) {
        self.sent = false;
        self.full = true;
    }

    /// The store holds something else.
    pub fn repair(&mut self) {
        self.full |= !self.sent;
    }

    /// The number of the last change, unless one is under way.
    pub fn number(&self) -> Option<u64> {
        (!self.sent).then_some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::counting::Recount;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn topic(number: u8) -> Topic {
        Topic::parse(&format!("live:{number}")).unwrap()
    }

    /// Who came since was told nothing of how many there are, which is what the store has.
    #[test]
    fn as_many_as_before_since_all_had_left_is_news() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let said = |audience: &mut Audience, recount: Recount, seconds| {
            for (count, topic, moves) in recount.counts(topic(1), 1) {
                audience.report(topic, 0, count, &moves);
            }
            let change = audience.due(NodeId(1), now + seconds * COUNTS_PAUSE);
            audience.done();
            change.map(|change| change.counts)
        };
        let one = Some(vec![(topic(1), Crowd::nameless(1))]);
        assert_eq!(said(&mut audience, Recount::default(), 0), one);
        assert_eq!(said(&mut audience, Recount::default(), 1), None, "one went, and another stayed");
        assert_eq!(said(&mut audience, Recount { emptied: true, ..Recount::default() }, 2), one);
    }

    proptest! {
        /// Reports come and changes get lost: the store ends up with the cores' sums.
        #[test]
        fn the_store_learns_the_sums(steps in prop::collection::vec((0u8..3, 0usize..3, 0u32..4, 0u8..3), 1..80)) {
            let (mut audience, mut now) = (Audience::default(), Instant::now());
            // Each viewer is a member, the same ones on each core.
            let (mut cores, mut store) = (BTreeMap::<_, u32>::new(), BTreeMap::<Topic, Crowd>::new());
            let apply = |store: &mut BTreeMap<Topic, Crowd>, change: NodeCounts| {
                if change.full { store.clear(); }
                store.extend(change.counts);
                store.retain(|_, crowd| !crowd.is_none());
            };
            for (number, core, count, fate) in steps {
                let before = cores.insert((number, core), count).unwrap_or(0);
                let moves = (before..count).map(|member| (member.into(), true));
                let moves = moves.chain((count..before).map(|member| (member.into(), false)));
                audience.report(topic(number), core, count, &moves.collect::<Vec<Move>>());
                now += COUNTS_PAUSE / 2;
                if let Some(change) = audience.due(NodeId(1), now) {
                    prop_assert!(audience.due(NodeId(1), now + COUNTS_PAUSE).is_none() && audience.number().is_none());
                    if fate > 0 { apply(&mut store, change); }
                    if fate == 2 { audience.done() } else { audience.failed() }
                }
            }
            for _ in 0..4 {
                now += COUNTS_PAUSE;
                if let Some(change) = audience.due(NodeId(1), now) {
                    apply(&mut store, change);
                    audience.done();
                }
            }
            for number in 0..3 {
                let counts = cores.iter().filter(|((of, _), _)| *of == number).map(|(_, count)| *count);
                let crowd = Crowd {
                    viewers: counts.clone().sum(),
                    members: Members::of((0..counts.max().unwrap_or(0) as usize).map(|member| member as u64)),
                };
                prop_assert_eq!(&audience.crowd(&topic(number)), &crowd);
                prop_assert_eq!(store.get(&topic(number)).cloned().unwrap_or_default(), crowd);
            }
            prop_assert_eq!(audience.totals.len(), store.len());
        }
    }
}
