//! What the embedded key-value store keeps of other data centers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::kv::Turn;
use crate::kv::crowd::Crowd;
use crate::kv::datacenter::{
    HelloNumber, PeerNote, PeerState, PeerTurns, PeerViewers, QueueAsk, QueuePage, Queued, anywhere,
};
use crate::limits::{
    PEER_HELLO_AGE, PEER_LACKED_AGE, PEER_QUEUE_AGE, PEER_QUEUE_BYTES, PEER_QUEUE_ENTRY_BYTES, PEER_QUEUE_PAGE_BYTES,
    PEER_SILENT, PRESENCE_AGE,
};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::connection_id::NodeId;
use crate::wire::frame::Withdrawn;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// What waits for one peer in one bucket.
#[derive(Debug, Default)]
struct Queue {
    epoch: u64,
    events: VecDeque<Queued>,
    bytes: u64,
    last: Position,
    lost: u64,
}

fn cost(event: &Queued) -> u64 {
    PEER_QUEUE_ENTRY_BYTES + event.event.len() as u64
}

impl Queue {
    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            shrink(&mut self.events);
            self.bytes -= cost(&event);
        }
    }

    fn give_up(&mut self) {
        self.pop();
        self.lost += 1;
    }

    fn drop_old(&mut self, now_ms: u64) {
        let age = PEER_QUEUE_AGE.as_millis() as u64;
        while self.events.front().is_some_and(|event| event.number.ms + age < now_ms) {
            self.give_up();
        }
    }

    fn push(&mut self, event: Arc<str>, now_ms: u64) {
        self.last = match self.last {
            last if last.ms >= now_ms => Position { ms: last.ms, seq: last.seq + 1 },
            _ => Position { ms: now_ms, seq: 1 },
        };
        let event = Queued { number: self.last, event };
        self.bytes += cost(&event);
        self.events.push_back(event);
        self.drop_old(now_ms);
        while self.bytes > PEER_QUEUE_BYTES {
            self.give_up();
        }
    }
}

/// One peer, as it was heard of.
#[derive(Debug, Default)]
struct Known {
    heard_ms: u64,
    clock_ahead_ms: i64,
    lacked: Option<(u64, u64)>,
    /// Since when it has been heard of without a break.
    since: u64,
    viewers: Map<Topic, Crowd>,
    /// The newest hello of each shard of its dispatchers, and when it came.
    hellos: Map<(NodeId, u16), (u64, u64)>,
}

impl Known {
    fn is_alive(&self, now_ms: u64) -> bool {
        self.heard_ms + PEER_SILENT.as_millis() as u64 > now_ms
    }

    /// Whether a newer hello of the same shard came before; remembers this one if not.
    fn is_late(&mut self, hello: &HelloNumber, now_ms: u64) -> bool {
        let shard = (hello.node, hello.shard);
        if self.hellos.get(&shard).is_some_and(|(newest, _)| hello.number < *newest) {
            return true;
        }
        if self.hellos.insert(shard, (hello.number, now_ms)).is_none() {
            let age = PEER_HELLO_AGE.as_millis() as u64;
            self.hellos.retain(|_, (_, came)| *came + age > now_ms);
        }
        false
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Peers {
    queues: Map<(String, u8), Queue>,
    /// How far each peer's events were taken, by bucket: of which queue, and up to which number; and the same of the queue
    /// before that, of which a request may still be under way.
    taken: Map<(String, u8), [(u64, Position); 2]>,
    known: BTreeMap<String, Known>,
    /// What peers say of members.
    turns: Map<String, BTreeMap<String, Turn>>,
    said: u64,
}

impl Peers {
    /// Bytes that wait for them.
    pub fn bytes(&self) -> usize {
        self.queues.values().map(|queue| queue.bytes as usize).sum()
    }

    /// Queues an event for a peer. True if nothing waited there before.
    pub fn queue(&mut self, peer: &str, bucket: u8, event: Arc<str>, now_ms: u64) -> bool {
        let new = || Queue { epoch: now_ms, ..Queue::default() };
        let queue = self.queues.entry((peer.to_owned(), bucket)).or_insert_with(new);
        queue.push(event, now_ms);
        queue.events.len() == 1
    }

    /// An event of a bucket was taken back: it waits for no peer any more.
    pub fn withdraw(&mut self, bucket: u8, withdrawn: &Withdrawn) {
        for (_, queue) in self.queues.iter_mut().filter(|((_, number), _)| *number == bucket) {
            queue.events.retain(|queued| !withdrawn.is(&queued.event));
            queue.bytes = queue.events.iter().map(cost).sum();
        }
    }

    /// What waits for a peer in a bucket, less what it has.
    pub fn waiting(&mut self, ask: &QueueAsk, now_ms: u64) -> QueuePage {
        let Some(queue) = self.queues.get_mut(&(ask.peer.clone(), ask.bucket)) else {
            return QueuePage { epoch: 0, events: Vec::new(), more: false, lost: 0 };
        };
        if let Some((_, done)) = ask.done.filter(|(epoch, _)| *epoch == queue.epoch) {
            while queue.events.front().is_some_and(|event| event.number <= done) {
                queue.pop();
            }
        }
        queue.drop_old(now_ms);
        let mut bytes = 0;
        let fits = |(at, event): &(usize, &Queued)| {
            bytes += event.event.len();
            *at == 0 || bytes <= PEER_QUEUE_PAGE_BYTES
        };
        let asked = queue.events.iter().take(ask.limit.max(1) as usize).enumerate().take_while(fits);
        let events: Vec<Queued> = asked.map(|(_, event)| event.clone()).collect();
        let more = events.len() < queue.events.len();
        QueuePage { epoch: queue.epoch, events, more, lost: std::mem::take(&mut queue.lost) }
    }

    /// Up to which number events of a peer's queue were taken.
    pub fn taken(&self, dc: &str, bucket: u8, epoch: u64) -> Position {
        let queues = self.taken.get(&(dc.to_owned(), bucket));
        let taken = queues.and_then(|queues| queues.iter().find(|queue| queue.0 == epoch));
        taken.map_or(Position::START, |queue| queue.1)
    }

    /// No more than up to this number was taken, after all.
    pub fn take_back(&mut self, dc: &str, bucket: u8, epoch: u64, number: Position) {
        let queues = self.taken.get_mut(&(dc.to_owned(), bucket));
        if let Some(taken) = queues.and_then(|queues| queues.iter_mut().find(|queue| queue.0 == epoch)) {
            taken.1 = number;
        }
    }

    /// Whether an event of a peer's queue is new; notes that it was taken.
    pub fn take(&mut self, dc: &str, bucket: u8, epoch: u64, number: Position) -> bool {
        let queues = self.taken.entry((dc.to_owned(), bucket)).or_default();
        if queues.iter().all(|queue| queue.0 != epoch) {
            *queues = [(epoch, Position::START), queues[0]];
        }
        let taken = queues.iter_mut().find(|queue| queue.0 == epoch).expect("it is one of them");
        let is_new = number > taken.1;
        taken.1 = taken.1.max(number);
        is_new
    }

    /// News of a peer. Gives the number that changes when its viewers were dropped, and what others are to hear of its
    /// viewers.
    pub fn note(&mut self, note: PeerNote, now_ms: u64) -> (u64, Option<PeerViewers>) {
        let known = self.known.entry(note.dc.clone()).or_default();
        if note.hello.is_some_and(|hello| known.is_late(&hello, now_ms)) {
            return (known.since, None);
        }
        if let Some(ahead) = note.heard {
            if note.restart || !known.is_alive(now_ms) {
                known.viewers.clear();
                known.since = now_ms.max(known.since + 1);
            }
            known.heard_ms = now_ms;
            known.clock_ahead_ms = ahead;
        }
        if let Some(since) = note.lacks {
            let age = PEER_LACKED_AGE.as_millis() as u64;
            let before = known.lacked.filter(|(_, until)| until + age > now_ms);
            known.lacked = Some((before.map_or(since, |(from, _)| from.min(since)), now_ms));
        }
        for (topic, crowd) in &note.viewers {
            if crowd.is_none() {
                known.viewers.remove(topic);
            } else {
                known.viewers.insert(topic.clone(), crowd.clone());
            }
        }
        // What was left after a restart is what it says now.
        let news = PeerViewers { dc: note.dc, full: note.restart, viewers: note.viewers };
        (known.since, Some(news).filter(|news| news.full || !news.viewers.is_empty()))
    }

    /// All peers' viewers.
    pub fn viewers(&self, now_ms: u64) -> Vec<PeerViewers> {
        let alive = self.known.iter().filter(|(_, known)| known.is_alive(now_ms));
        alive
            .map(|(dc, known)| {
                let viewers = known.viewers.iter().map(|(topic, crowd)| (topic.clone(), crowd.clone())).collect();
                PeerViewers { dc: dc.clone(), full: true, viewers }
            })
            .collect()
    }

    /// What is known of them.
    pub fn states(&self, now_ms: u64) -> Vec<PeerState> {
        let age = PEER_LACKED_AGE.as_millis() as u64;
        self.known
            .iter()
            .map(|(dc, known)| PeerState {
                dc: dc.clone(),
                alive: known.is_alive(now_ms),
                clock_ahead_ms: known.clock_ahead_ms,
                lacked: known.lacked.filter(|(_, until)| until + age > now_ms),
            })
            .collect()
    }

    /// What a peer says of members. Tells for each whether it is news.
    pub fn turned(&mut self, said: &PeerTurns, now_ms: u64) -> Vec<bool> {
        self.said += 1;
        if self.said.is_multiple_of(65_536) {
            let age = PRESENCE_AGE.as_millis() as u64;
            self.turns.retain(|_, dcs| dcs.values().any(|turn| turn.online || turn.at.saturating_add(age) > now_ms));
        }
        let is_news = |turn: &Turn| {
            let held = self.turns.entry(turn.member.clone()).or_default();
            let is_news = held.get(&said.dc).is_none_or(|held| held.version < turn.version);
            if is_news {
                held.insert(said.dc.clone(), turn.clone());
            }
            is_news
        };
        said.turns.iter().map(is_news).collect()
    }

    /// What is known of a member here and elsewhere, where `own` is known here.
    pub fn anywhere(&self, member: &str, own: Option<Turn>) -> Option<Turn> {
        let others = self.turns.get(member).into_iter().flat_map(BTreeMap::values);
        anywhere(own.iter().chain(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(done: Option<(u64, Position)>) -> QueueAsk {
        QueueAsk { peer: "b".into(), bucket: 3, done, limit: 2 }
    }

    #[test]
    fn what_waits_is_bounded_by_bytes_and_age() {
        let mut peers = Peers::default();
        let large: Arc<str> = "x".repeat(16_000).into();
        let fit = PEER_QUEUE_BYTES / (16_000 + PEER_QUEUE_ENTRY_BYTES);
        for _ in 0..fit + 5 {
            peers.queue("b", 3, Arc::clone(&large), 9);
        }
        let page = peers.waiting(&ask(None), 9);
        assert_eq!((page.lost, page.events.len(), page.more), (5, 2, true));
        assert_eq!(page.events[0].number, Position { ms: 9, seq: 6 });
        let page = peers.waiting(&ask(None), 10 + PEER_QUEUE_AGE.as_millis() as u64);
        assert_eq!((page.lost, page.events.len(), page.more), (fit, 0, false));
    }

    #[test]
    fn a_peer_that_was_silent_says_all_again() {
        let (mut peers, silent) = (Peers::default(), PEER_SILENT.as_millis() as u64);
        let topic = Topic::parse("live:1").unwrap();
        let note =
            |viewers| PeerNote { dc: "b".into(), hello: None, heard: Some(7), lacks: None, restart: false, viewers };
        let start = 1_000_000;
        assert_eq!(peers.note(note(vec![(topic.clone(), Crowd::nameless(4))]), start).0, start);
        assert_eq!(peers.note(note(vec![]), start + silent - 1).0, start);
        assert_eq!(peers.viewers(start + silent)[0].viewers, [(topic, Crowd::nameless(4))]);
        let later = start + 2 * silent - 1;
        assert!(peers.viewers(later).is_empty() && !peers.states(later)[0].alive);
        assert_eq!((peers.note(note(vec![]), later).0, peers.viewers(later)[0].viewers.len()), (later, 0));
        let lacks = |since| PeerNote {
            dc: "b".into(),
            hello: None,
            heard: None,
            lacks: Some(since),
            restart: false,
            viewers: vec![],
        };
        peers.note(lacks(500), later);
        peers.note(lacks(800), later + 5);
        assert_eq!(peers.states(later + 5)[0].lacked, Some((500, later + 5)));
    }

    proptest! {
        /// Pages are sent and answered, or not, over and over, by more than one sender: each event is taken once, in order.
        #[test]
        fn queued_events_arrive_once(ops in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200)) {
            let (mut here, mut there) = (Peers::default(), Peers::default());
            let (mut queued, mut taken, mut under_way) = (0u64, Vec::new(), Vec::<QueuePage>::new());
            let deliver = |page: &QueuePage, there: &mut Peers, taken: &mut Vec<u64>| {
                for event in &page.events {
                    if there.take("a", 3, page.epoch, event.number) {
                        taken.push(event.event.parse().unwrap());
                    }
                }
                page.events.last().map(|last| (page.epoch, last.number))
            };
            for (op, at) in ops {
                match op {
                    0 => {
                        here.queue("b", 3, queued.to_string().into(), 100 + queued / 3);
                        queued += 1;
                    }
                    1 => under_way.push(here.waiting(&ask(None), 100)),
                    2 if !under_way.is_empty() => {
                        let page = under_way[at.index(under_way.len())].clone();
                        let done = deliver(&page, &mut there, &mut taken);
                        here.waiting(&ask(done), 100);
                    }
                    3 if !under_way.is_empty() => {
                        // Its answer is lost.
                        let page = under_way.swap_remove(at.index(under_way.len()));
                        deliver(&page, &mut there, &mut taken);
                    }
                    _ => {}
                }
            }
            let mut done = None;
            loop {
                let page = here.waiting(&ask(done), 100);
                if page.events.is_empty() { break; }
                done = deliver(&page, &mut there, &mut taken);
            }
            prop_assert_eq!(taken, (0..queued).collect::<Vec<_>>());
        }
    }
}
