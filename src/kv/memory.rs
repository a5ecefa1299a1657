//! The embedded key-value store of `fanfare all`: tables behind a mutex that is held for a look-up or a change only. Other
//! nodes reach it through the node that holds it, which is their dispatcher then.

pub mod history;
pub mod once;
pub mod peers;
pub mod pending;
pub mod presence;
#[cfg(test)]
mod tests;
pub mod values;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kv::crowd::Crowd;
use crate::kv::datacenter::{PeerTurns, Placed, Taking};
use crate::kv::kept::{Keep, Keeper, Kept, KeptEvent, KeptOnce};
use crate::kv::memory::history::Histories;
use crate::kv::memory::once::Onces;
use crate::kv::memory::peers::Peers;
use crate::kv::memory::pending::{Made, Pending, Took};
use crate::kv::memory::presence::Members;
use crate::kv::memory::values::Values;
use crate::kv::{
    Alive, Answer, Append, Batch, Heartbeat, KEPT, KeyValue, Losses, NodeCounts, NodeInfo, Notice, Request, Turn,
    Unavailable, bucket, stable_hash,
};
use crate::limits::{
    MEMORY_HISTORY_BYTES, MEMORY_HISTORY_PART, MEMORY_MEMBERS_BYTES, MEMORY_MEMBERS_PART, MEMORY_VALUES_BYTES,
    MEMORY_VALUES_PART, NODE_LEASE, NODE_SWEEP, SWEPT_AT_ONCE, VALUES_SWEPT,
};
use crate::runtime::clock::Times;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::{Map, Set};
use crate::runtime::shrink::shrink;
use crate::runtime::trouble::Reason;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::{Paced, Stored, Withdrawn};
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// A key-value store in memory, of one node.
#[derive(Debug)]
pub struct MemoryKv(Arc<State>);

#[derive(Debug)]
struct State {
    tables: Mutex<Tables>,
    times: Times,
    /// Who keeps its history beyond the process, if anybody does.
    keeper: Option<Arc<dyn Keeper>>,
}

/// A node's viewers.
#[derive(Debug, Default)]
struct Counted {
    /// The number of its last change.
    number: u64,
    topics: Map<Topic, Crowd>,
}

impl Counted {
    fn told(&self, node: NodeId) -> NodeCounts {
        let counts = self.topics.iter().map(|(topic, crowd)| (topic.clone(), crowd.clone())).collect();
        NodeCounts { node, number: self.number, full: true, counts }
    }
}

#[derive(Debug)]
struct Tables {
    subscriptions: Map<Topic, Set<NodeId>>,
    /// The last batch of each node and bucket.
    numbers: Map<(NodeId, u8), u64>,
    /// Of what is held for each node and bucket.
    digests: Map<(NodeId, u8), u64>,
    /// The nodes that said that they live, and when they last did, in Unix ms. Those whose lease lapsed stay until their
    /// entries are swept.
    nodes: BTreeMap<NodeId, (NodeInfo, u64)>,
    /// Nodes that want or count something and have not said that they live, or no longer, and since when: a batch may come
    /// before the first heartbeat, and behind the last word.
    strangers: Map<NodeId, u64>,
    histories: Histories,
    losses: Losses,
    values: Values,
    members: Members,
    counts: Map<NodeId, Counted>,
    peers: Peers,
    onces: Onces,
    pending: Pending,
}

impl MemoryKv {
    /// An empty store. `age_max_ms` is the longest time for which any event type is kept in history.
    pub fn new(age_max_ms: u64, times: Times) -> MemoryKv {
        let histories = Histories::new(times.unix_ms(), age_max_ms);
        let tables = Tables {
            subscriptions: Map::default(),
            numbers: Map::default(),
            digests: Map::default(),
            nodes: BTreeMap::new(),
            strangers: Map::default(),
            histories,
            losses: Losses::default(),
            values: Values::default(),
            members: Members::default(),
            counts: Map::default(),
            peers: Peers::default(),
            onces: Onces::default(),
            pending: Pending::default(),
        };
        MemoryKv(Arc::new(State { tables: Mutex::new(tables), times, keeper: None }))
    }

    /// The same, with a history that begins with what was kept, and is kept from now on before it is answered for or shown.
    pub fn kept(age_max_ms: u64, times: Times, mut kept: Kept, keeper: Arc<dyn Keeper>) -> MemoryKv {
        let mut kv = MemoryKv::new(age_max_ms, times);
        let state = Arc::get_mut(&mut kv.0).expect("nobody else has it yet");
        state.keeper = Some(keeper);
        let (now_ms, tables) = (state.times.unix_ms(), state.tables.get_mut().unwrap_or_else(PoisonError::into_inner));
        std::mem::take(&mut kept.onces).into_iter().for_each(|once| tables.onces.keep(once));
        tables.histories.restore(kept, now_ms);
        kv
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn apply(&mut self, batch: Batch, notices: &mut Vec<Notice>) {
        let last = self.numbers.entry((batch.node, batch.bucket)).or_default();
        if batch.number <= *last {
            return;
        }
        *last = batch.number;
        let mut changes = batch.changes;
        if batch.full {
            let listed: Set<Topic> = changes.iter().map(|(topic, _)| topic.clone()).collect();
            let held = self.subscriptions.iter().filter(|(topic, nodes)| {
                bucket(topic.as_str()) == batch.bucket && nodes.contains(&batch.node) && !listed.contains(*topic)
            });
            let gone: Vec<_> = held.map(|(topic, _)| (topic.clone(), false)).collect();
            changes.extend(gone);
        }
        for (topic, wanted) in changes {
            self.set(topic, batch.node, wanted, notices);
        }
    }

    fn set(&mut self, topic: Topic, node: NodeId, wanted: bool, notices: &mut Vec<Notice>) {
        let changed = if wanted {
            self.subscriptions.entry(topic.clone()).or_default().insert(node)
        } else {
            let Some(nodes) = self.subscriptions.get_mut(&topic) else { return };
            let removed = nodes.remove(&node);
            if nodes.is_empty() {
                self.subscriptions.remove(&topic);
                shrink(&mut self.subscriptions);
            }
            removed
        };
        if changed {
            let text = topic.as_str();
            *self.digests.entry((node, bucket(text))).or_default() ^= stable_hash(text.as_bytes());
            notices.push(Notice::Invalidated(topic));
        }
    }

    fn set_counts(&mut self, change: NodeCounts, notices: &mut Vec<Notice>) {
        let last = self.counts.get(&change.node).map_or(0, |held| held.number);
        // Where one before it is missing, because the node was forgotten while it slept, only a full one mends that: the
        // number that is held stays behind, and so the next heartbeat asks for it.
        if change.number <= last || (!change.full && change.number != last + 1) {
            return;
        }
        let held = self.counts.entry(change.node).or_default();
        held.number = change.number;
        if change.full {
            held.topics.clear();
        }
        for (topic, crowd) in &change.counts {
            if crowd.is_none() {
                held.topics.remove(topic);
            } else {
                held.topics.insert(topic.clone(), crowd.clone());
            }
        }
        shrink(&mut held.topics);
        notices.push(Notice::Counts(Arc::new(change)));
    }

    fn recount(&self, heartbeat: &Heartbeat) -> bool {
        let held = self.counts.get(&heartbeat.node.id).map_or(0, |counts| counts.number);
        heartbeat.counts.is_some_and(|number| number != held)
    }

    /// A node lives. Who else does, and what is held for it that should not be, or the other way round.
    fn heartbeat(&mut self, heartbeat: Heartbeat, now_ms: u64, notices: &mut Vec<Notice>) -> Alive {
        let node = heartbeat.node.id;
        let recount = self.recount(&heartbeat);
        let since = Some(self.histories.since());
        let lost = self.losses.hear(heartbeat.since, since);
        self.nodes.insert(node, (heartbeat.node, now_ms));
        self.strangers.remove(&node);
        let silent_ms = |since: &u64| now_ms.saturating_sub(*since);
        let known = self.nodes.iter().map(|(node, (_, since))| (*node, since));
        let all = known.chain(self.strangers.iter().map(|(node, since)| (*node, since)));
        let swept = all.filter(|(_, since)| silent_ms(since) >= NODE_SWEEP.as_millis() as u64 / 2);
        let swept: Vec<NodeId> = swept.map(|(node, _)| node).collect();
        for node in swept {
            self.forget(node, notices);
        }
        let lives = |since: &u64| silent_ms(since) < NODE_LEASE.as_millis() as u64 || planted(Mistake::NodeLeaseKept);
        let nodes = self.nodes.values().filter(|(_, since)| lives(since)).map(|(info, _)| info.clone()).collect();
        let held = |number: u8| self.digests.get(&(node, number)).copied().unwrap_or(0);
        let differing = heartbeat.digests.iter().filter(|(number, claimed)| held(*number) != *claimed);
        Alive {
            nodes,
            differing: differing.map(|(number, _)| *number).collect(),
            recount,
            peers: self.peers.states(now_ms),
            since,
            lost,
            now_ms: Some(now_ms),
        }
    }

    /// Puts an event into its topic's history, and into the queues of peers, unless it was taken back before it came: at once, or
    /// once it is kept.
    fn append(
        &mut self,
        mut append: Append,
        once: Option<KeptOnce>,
        now_ms: u64,
        notices: &mut Vec<Notice>,
    ) -> Option<(Position, Position, Paced)> {
        if self.histories.refuses(&append, now_ms) {
            return None;
        }
        let room = self.histories.room(&append);
        let paced = self.histories.pace(&mut append, now_ms);
        let (position, prev) = self.histories.append(&append, now_ms);
        let Append { topic, kind, event, age_max_ms, withdraws, peers, .. } = append;
        let event = KeptEvent { topic, kind, position, prev, event: Some(event), age_max_ms };
        let keep = Keep { event, withdraws, forgets: self.histories.take_forgotten(), once };
        let made = Made { keep, peers, room };
        if self.histories.is_kept() {
            self.pending.made.push(made);
        } else {
            self.queue(&made, now_ms, notices);
        }
        Some((position, self.histories.follows(prev), paced))
    }

    /// Peers are to have an event that history has.
    fn queue(&mut self, made: &Made, now_ms: u64, notices: &mut Vec<Notice>) {
        let Made { keep: Keep { event, withdraws, .. }, peers, .. } = made;
        let number = bucket(event.topic.as_str());
        if let Some(id) = withdraws {
            self.peers.withdraw(number, &Withdrawn::of(id));
        }
        let Some(text) = &event.event else { return };
        for peer in peers {
            if self.peers.queue(peer, number, Arc::clone(text), now_ms) {
                notices.push(Notice::Queued(number));
            }
        }
    }

    /// The same, as it is answered: one that was taken back is one that came before.
    fn appended(&mut self, append: Append, once: Option<KeptOnce>, now_ms: u64, notices: &mut Vec<Notice>) -> Answer {
        let event = Arc::clone(&append.event);
        match self.append(append, once, now_ms, notices) {
            Some((position, prev, paced)) => Answer::Appended { position, prev, paced },
            None => Answer::Repeated { id: Stored::read(&event).map(|stored| stored.id.into_owned()) },
        }
    }

    fn take(&mut self, taking: Taking, now_ms: u64, notices: &mut Vec<Notice>) -> Vec<Placed> {
        let Taking { dc, bucket, epoch, events } = taking;
        let mut placed = Vec::with_capacity(events.len());
        if self.histories.is_kept() {
            let before = self.peers.taken(&dc, bucket, epoch);
            self.pending.took = Some(Took { dc: dc.clone(), bucket, epoch, before });
        }
        for (number, append) in events {
            let is_new = self.peers.take(&dc, bucket, epoch, number) || planted(Mistake::QueueNumberIgnored);
            let put = if is_new { self.append(append, None, now_ms, notices) } else { None };
            placed.push(put.map(|(position, prev, _)| (position, prev)));
        }
        placed
    }

    fn presence(&self, member: &str, now_ms: u64) -> Option<Turn> {
        self.peers.anywhere(member, self.members.get(member, now_ms))
    }

    fn peer_turns(&mut self, said: &PeerTurns, now_ms: u64) -> Vec<Option<Turn>> {
        let news = self.peers.turned(said, now_ms);
        let turns = said.turns.iter().zip(news);
        turns.map(|(turn, is_news)| is_news.then(|| self.presence(&turn.member, now_ms)).flatten()).collect()
    }

    /// A node is gone, and what it wanted goes with it.
    fn forget(&mut self, node: NodeId, notices: &mut Vec<Notice>) {
        let held = self.subscriptions.iter().filter(|(_, nodes)| nodes.contains(&node));
        let held: Vec<_> = held.map(|(topic, _)| topic.clone()).collect();
        for topic in held {
            self.set(topic, node, false, notices);
        }
        self.numbers.retain(|(owner, _), _| *owner != node);
        self.digests.retain(|(owner, _), _| *owner != node);
        self.nodes.remove(&node);
        self.strangers.remove(&node);
        self.counts.remove(&node);
    }

    /// A node wants or counts something.
    fn meet(&mut self, node: NodeId, now_ms: u64) {
        if !self.nodes.contains_key(&node) {
            self.strangers.entry(node).or_insert(now_ms);
        }
    }
}

impl KeyValue for MemoryKv {
    // A shard hears its own answers before it opens its mailbox again. So what it learns here was true before any
    // invalidation that it hears of later.
    fn submit(
        &self,
        shard: usize,
        ticket: u64,
        request: Request,
        notices: &mut Vec<Notice>,
    ) -> Option<Result<Answer, Unavailable>> {
        let now_ms = self.0.times.unix_ms();
        let mut tables = self.0.lock();
        let appends = matches!(request, Request::Append(_) | Request::AppendOnce(..) | Request::Take(_));
        let answer = match request {
            Request::Subscribers(topic) => {
                Answer::Subscribers(tables.subscriptions.get(&topic).into_iter().flatten().copied().collect())
            }
            Request::Apply(batch) => {
                tables.meet(batch.node, now_ms);
                tables.apply(batch, notices);
                Answer::Applied
            }
            Request::Heartbeat(heartbeat) => {
                let Tables { values, subscriptions, .. } = &mut *tables;
                values.sweep(SWEPT_AT_ONCE, now_ms, |topic| subscriptions.contains_key(topic));
                tables.histories.sweep_some(SWEPT_AT_ONCE, now_ms);
                Answer::Alive(tables.heartbeat(heartbeat, now_ms, notices))
            }
            Request::Leave(node) => {
                tables.forget(node, notices);
                Answer::Left
            }
            Request::Append(append) => tables.appended(append, None, now_ms, notices),
            Request::AppendOnce(claim, append) => match tables.onces.repeated(&claim, now_ms) {
                Some(known) => known,
                None => {
                    let once = KeptOnce::new(claim, now_ms);
                    tables.onces.keep(once.clone());
                    tables.appended(append, Some(once), now_ms, notices)
                }
            },
            Request::Claim(claim) => match tables.onces.repeated(&claim, now_ms) {
                Some(known) => known,
                None => {
                    tables.onces.keep(KeptOnce::new(claim, now_ms));
                    Answer::Claimed
                }
            },
            Request::Release(claim) => {
                tables.onces.release(&claim.key, &claim.id);
                Answer::Claimed
            }
            Request::Read(read) => Answer::Page(tables.histories.read(&read, now_ms)),
            Request::Ends(topics) => {
                let end = |topic: &Topic| tables.histories.end(topic, now_ms);
                Answer::Ends(topics.iter().map(end).collect())
            }
            Request::Topics(ask) => Answer::Topics(tables.histories.topics(&ask, now_ms)),
            Request::SetLatest(latest) => {
                let Tables { values, subscriptions, .. } = &mut *tables;
                let is_watched = |topic: &Topic| subscriptions.contains_key(topic);
                let (version, newest) = values.set(latest, now_ms, is_watched);
                values.sweep(VALUES_SWEPT, now_ms, is_watched);
                Answer::Versioned { version, newest }
            }
            Request::Latest(topic) => {
                let is_watched = tables.subscriptions.contains_key(&topic);
                Answer::Latest(tables.values.latest(&topic, now_ms, is_watched))
            }
            Request::Newer(topics) => {
                Answer::Newer(topics.iter().map(|(topic, after)| tables.values.newer(topic, *after)).collect())
            }
            Request::SetCounts(change) => {
                tables.meet(change.node, now_ms);
                tables.set_counts(change, notices);
                Answer::Applied
            }
            Request::Counts => Answer::Counts(tables.counts.iter().map(|(node, held)| held.told(*node)).collect()),
            Request::Beat(members) => Answer::Turned(tables.members.beat(members, now_ms)),
            Request::Due(buckets, limit) => Answer::Turned(tables.members.due(&buckets, limit, now_ms)),
            Request::Settled(members) => {
                tables.members.settled(members);
                Answer::Applied
            }
            Request::Presence(members) => {
                Answer::Presence(members.iter().map(|member| tables.presence(member, now_ms)).collect())
            }
            Request::Queue(ask) => Answer::Queue(tables.peers.waiting(&ask, now_ms)),
            Request::Take(taking) => Answer::Taken(tables.take(taking, now_ms, notices)),
            Request::NotePeer(note) => {
                let (number, news) = tables.peers.note(note, now_ms);
                notices.extend(news.map(|news| Notice::PeerViewers(Arc::new(news))));
                Answer::Noted(number)
            }
            Request::PeerViewers => Answer::PeerViewers(tables.peers.viewers(now_ms)),
            Request::PeerTurns(said) => Answer::Presence(tables.peer_turns(&said, now_ms)),
        };
        match &self.0.keeper {
            Some(keeper) if appends => self.0.wait(&mut tables, keeper, (shard, ticket), answer),
            _ => Some(Ok(answer)),
        }
    }

    fn trouble(&self) -> Option<Reason> {
        None
    }

    fn is_here(&self) -> bool {
        true
    }

    fn bound(&self, memory: u64) {
        let part = |part, most: usize| usize::try_from(memory / part).unwrap_or(usize::MAX).min(most);
        let mut tables = self.0.lock();
        tables.histories.bound(part(MEMORY_HISTORY_PART, MEMORY_HISTORY_BYTES));
        tables.values.bound(part(MEMORY_VALUES_PART, MEMORY_VALUES_BYTES));
        tables.members.bound(part(MEMORY_MEMBERS_PART, MEMORY_MEMBERS_BYTES));
    }

    fn kept(&self) -> [usize; KEPT.len()] {
        let tables = self.0.lock();
        [
            tables.histories.bytes(),
            tables.values.bytes(),
            tables.members.bytes(),
            tables.peers.bytes(),
            tables.onces.bytes(),
        ]
    }
}
