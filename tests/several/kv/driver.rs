//! A store, asked as shards ask.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use fanfare::kv::crowd::{Crowd, Members};
use fanfare::kv::datacenter::{Placed, QueueAsk, QueuePage, Taking};
use fanfare::kv::memory::MemoryKv;
use fanfare::kv::redis;
use fanfare::kv::redis::{Config, PresenceTimes};
use fanfare::kv::{
    Alive, Answer, Append, Batch, End, Heard, Heartbeat, KeyValue, NodeCounts, NodeInfo, Notice, Page, Read, Request,
    SetLatest, Turn, Unavailable, bucket,
};
use fanfare::limits::KV_TIMEOUT;
use fanfare::runtime::clock::Times;
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::node_url::NodeUrl;
use fanfare::wire::position::{Position, Reach};
use fanfare::wire::topic::Topic;

use crate::support::{DEADLINE, eventually};

/// Shards that hear notices.
pub const SHARDS: usize = 2;
/// The longest age in history, in ms.
pub const AGE_MS: u64 = 90_000;

/// What a store said, by ticket, and what it told each shard.
#[derive(Default)]
struct Heards {
    answers: HashMap<u64, Result<Answer, Unavailable>>,
    notices: Vec<(usize, Notice)>,
}

/// A store and who asks it.
pub struct Store {
    pub kv: Arc<dyn KeyValue>,
    heard: Mutex<(mpsc::Receiver<(usize, Heard)>, Heards)>,
    next: AtomicU64,
}

pub fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("a topic")
}

/// The event that another follows; none if that is told to follow the time since when the store lost nothing.
pub fn event_at(prev: Position) -> Option<Position> {
    (!prev.is_between()).then_some(prev)
}

/// Topics of the bucket of `live:1`.
pub fn of_one_bucket(count: usize) -> Vec<Topic> {
    let number = bucket("live:1");
    let names = (1..).map(|number| format!("live:{number}")).filter(|name| bucket(name) == number);
    names.take(count).map(|name| topic(&name)).collect()
}

pub fn node_info(id: u64) -> NodeInfo {
    let url = NodeUrl::parse(&format!("http://127.0.0.1:{}", id % 1000 + 1)).expect("a URL");
    NodeInfo { id: NodeId(id), roles: vec!["frontend".to_owned()], url, database: None }
}

pub fn batch(node: u64, number: u64, full: bool, changes: &[(&Topic, bool)]) -> Request {
    let bucket = changes.first().map_or_else(|| bucket("live:1"), |(topic, _)| bucket(topic.as_str()));
    let changes = changes.iter().map(|(topic, wanted)| ((*topic).clone(), *wanted)).collect();
    Request::Apply(Batch { node: NodeId(node), bucket, number, full, changes })
}

/// So many viewers, of whom some are members.
pub fn crowd(viewers: u32) -> Crowd {
    Crowd { viewers, members: Members::of((0..viewers.min(3) as usize).map(|member| member as u64)) }
}

pub fn counts(node: u64, number: u64, full: bool, counts: &[(&str, u32)]) -> NodeCounts {
    let counts = counts.iter().map(|(name, count)| (topic(name), crowd(*count))).collect();
    NodeCounts { node: NodeId(node), number, full, counts }
}

pub fn signs<'a>(members: impl IntoIterator<Item = &'a str>) -> Request {
    Request::Beat(members.into_iter().map(str::to_owned).collect())
}

/// What is due in all buckets.
pub fn due(limit: u32) -> Request {
    Request::Due((0..fanfare::kv::BUCKETS as u8).collect(), limit)
}

/// An event of this type, of which so many are kept for so long.
pub fn append_of(topic: &Topic, kind: &str, event: &str, count_max: u32, age_max_ms: u64) -> Request {
    let append = event_for(topic, event, count_max, &[]);
    Request::Append(Append { kind: kind.to_owned(), age_max_ms, ..append })
}

/// An event with this id, as nodes write it.
pub fn with_id(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"topic\":\"live:1\",\"type\":\"comment\",\"at\":7,\"data\":1}}")
}

/// An event that takes back the one with this id.
pub fn deletion(topic: &Topic, id: &str, count_max: u32, peers: &[&str]) -> Append {
    let append = event_for(topic, &with_id(&format!("{id}.deleted")), count_max, peers);
    Append { kind: "deleted".to_owned(), withdraws: Some(id.to_owned()), ..append }
}

pub fn append(topic: &Topic, event: &str, count_max: u32) -> Request {
    Request::Append(event_for(topic, event, count_max, &[]))
}

/// An event that is to wait for these peers, too.
pub fn event_for(topic: &Topic, event: &str, count_max: u32, peers: &[&str]) -> Append {
    let peers = peers.iter().map(|peer| (*peer).to_owned()).collect();
    Append {
        topic: topic.clone(),
        event: event.into(),
        kind: "comment".to_owned(),
        count_max,
        age_max_ms: AGE_MS,
        withdraws: None,
        peers,
        pace: None,
    }
}

/// Whether a master has it, of which no replica said that it has it in time.
fn is_unconfirmed(why: &Unavailable) -> bool {
    why.0.contains("no replica confirmed")
}

impl Store {
    pub fn memory() -> Store {
        Store::of(|_| Arc::new(MemoryKv::new(AGE_MS, Times::machine())))
    }

    /// A process's store in a Redis, once it has found that.
    pub fn redis(url: &str, dc: &str) -> Store {
        Store::redis_with(url, dc, false)
    }

    /// The same, which may never find it.
    pub fn unfound(url: &str, dc: &str) -> Store {
        Store::started(url, dc, false, PresenceTimes::default())
    }

    /// One that may sweep.
    pub fn redis_with(url: &str, dc: &str, sweeps: bool) -> Store {
        Store::redis_timed(url, dc, sweeps, PresenceTimes::default())
    }

    /// One by whose times members go offline.
    pub fn redis_timed(url: &str, dc: &str, sweeps: bool, presence: PresenceTimes) -> Store {
        let store = Store::started(url, dc, sweeps, presence);
        eventually("the store to be found", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
        store
    }

    fn started(url: &str, dc: &str, sweeps: bool, presence: PresenceTimes) -> Store {
        let config = Config { dc: dc.to_owned(), history_age_ms: AGE_MS, sweeps, shards: SHARDS, presence };
        Store::of(|tell| Arc::new(redis::start(url, config, tell).expect("it starts")))
    }

    fn of(start: impl FnOnce(fanfare::kv::Tell) -> Arc<dyn KeyValue>) -> Store {
        let (sender, receiver) = mpsc::channel();
        let kv = start(Arc::new(move |shard, heard| {
            let _ = sender.send((shard, heard));
        }));
        Store { kv, heard: Mutex::new((receiver, Heards::default())), next: AtomicU64::new(0) }
    }

    /// Asks for a shard, without waiting. Gives the ticket.
    pub fn submit(&self, shard: usize, request: Request) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let mut notices = Vec::new();
        let answer = self.kv.submit(shard, ticket, request, &mut notices);
        let mut heard = self.heard.lock().unwrap();
        heard.1.notices.extend((0..SHARDS).flat_map(|shard| notices.iter().map(move |notice| (shard, notice.clone()))));
        heard.1.answers.extend(answer.map(|answer| (ticket, answer)));
        ticket
    }

    /// Waits for an answer, which must come within the time that the seam promises.
    #[track_caller]
    pub fn wait(&self, ticket: u64) -> Result<Answer, Unavailable> {
        let asked = Instant::now();
        let mut heard = self.heard.lock().unwrap();
        loop {
            if let Some(answer) = heard.1.answers.remove(&ticket) {
                return answer;
            }
            // A second for the machine, which runs other tests as well.
            let left = (KV_TIMEOUT + Duration::from_secs(1)).saturating_sub(asked.elapsed());
            let next = heard.0.recv_timeout(left).expect("every question is answered in time");
            keep(&mut heard.1, next);
        }
    }

    #[track_caller]
    pub fn try_ask(&self, request: Request) -> Result<Answer, Unavailable> {
        self.wait(self.submit(0, request))
    }

    /// Asks what may be asked again, or does nothing twice where it is not: on a busy machine a replica may take too long to
    /// confirm what its master has.
    #[track_caller]
    pub fn ask(&self, request: Request) -> Answer {
        let may_repeat = !matches!(request, Request::Append(_));
        loop {
            match self.try_ask(request.clone()) {
                Err(late) if is_unconfirmed(&late) && may_repeat => {}
                answer => return answer.expect("the store is there"),
            }
        }
    }

    /// What shards were told since the last look.
    pub fn notices(&self) -> Vec<(usize, Notice)> {
        let mut heard = self.heard.lock().unwrap();
        while let Ok(next) = heard.0.try_recv() {
            keep(&mut heard.1, next);
        }
        std::mem::take(&mut heard.1.notices)
    }

    /// Waits until every shard was told this.
    #[track_caller]
    pub fn hears(&self, notice: &Notice) {
        let deadline = Instant::now() + DEADLINE;
        let mut told = [false; SHARDS];
        while told.contains(&false) {
            assert!(Instant::now() < deadline, "every shard hears {notice:?}");
            for (shard, heard) in self.notices() {
                told[shard] |= heard == *notice;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn subscribers(&self, topic: &Topic) -> Vec<u64> {
        let Answer::Subscribers(nodes) = self.ask(Request::Subscribers(topic.clone())) else { panic!("subscribers") };
        let mut nodes: Vec<u64> = nodes.iter().map(|node| node.0).collect();
        nodes.sort_unstable();
        nodes
    }

    /// How many want a topic, as long as the store may be away; none while it is.
    pub fn kv_subscribers(&self, topic: &Topic) -> usize {
        match self.try_ask(Request::Subscribers(topic.clone())) {
            Ok(Answer::Subscribers(nodes)) => nodes.len(),
            _ => 0,
        }
    }

    #[track_caller]
    pub fn beat(&self, id: u64, digests: &[(u8, u64)]) -> Alive {
        self.beat_since(id, digests, None)
    }

    /// The sign of life of a node that heard first of a store which lost nothing since then.
    #[track_caller]
    pub fn beat_since(&self, id: u64, digests: &[(u8, u64)], since: Option<Reach>) -> Alive {
        let node = node_info(id);
        let request = Request::Heartbeat(Heartbeat { node, digests: digests.to_vec(), counts: None, since });
        let Answer::Alive(alive) = self.ask(request) else { panic!("alive") };
        alive
    }

    /// Whether a node whose last change of counts has this number is to send all of them.
    #[track_caller]
    pub fn recount(&self, id: u64, number: u64) -> bool {
        let (node, digests, counts) = (node_info(id), Vec::new(), Some(number));
        let heartbeat = Heartbeat { node, digests, counts, since: None };
        let Answer::Alive(alive) = self.ask(Request::Heartbeat(heartbeat)) else { panic!("alive") };
        alive.recount
    }

    /// What all nodes have, in order, topics as well.
    #[track_caller]
    pub fn counts(&self) -> Vec<NodeCounts> {
        let Answer::Counts(mut all) = self.ask(Request::Counts) else { panic!("counts") };
        all.sort_by_key(|counts| counts.node);
        all.iter_mut().for_each(|counts| counts.counts.sort_by(|one, other| one.0.cmp(&other.0)));
        all
    }

    #[track_caller]
    pub fn turned(&self, request: Request) -> Vec<Turn> {
        let Answer::Turned(mut turns) = self.ask(request) else { panic!("turned") };
        turns.sort_by(|one, other| one.member.cmp(&other.member));
        turns
    }

    #[track_caller]
    pub fn presence(&self, members: &[&str]) -> Vec<Option<Turn>> {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        let Answer::Presence(found) = self.ask(Request::Presence(members)) else { panic!("presence") };
        found
    }

    pub fn live(&self, id: u64) -> Vec<u64> {
        self.beat(id, &[]).nodes.iter().map(|node| node.id.0).collect()
    }

    #[track_caller]
    pub fn append(&self, topic: &Topic, event: &str, count_max: u32) -> (Position, Option<Position>) {
        let Answer::Appended { position, prev, .. } = self.ask(append(topic, event, count_max)) else {
            panic!("appended")
        };
        (position, event_at(prev))
    }

    /// Appends an event of this type, of which so many are kept for so long.
    #[track_caller]
    pub fn append_of(
        &self,
        topic: &Topic,
        kind: &str,
        event: &str,
        count_max: u32,
        age_max_ms: u64,
    ) -> (Position, Option<Position>) {
        let answer = self.ask(append_of(topic, kind, event, count_max, age_max_ms));
        let Answer::Appended { position, prev, .. } = answer else { panic!("appended") };
        (position, event_at(prev))
    }

    #[track_caller]
    pub fn append_for(&self, topic: &Topic, event: &str, peers: &[&str]) {
        let answer = self.try_ask(Request::Append(event_for(topic, event, 100_000, peers)));
        let is_there = matches!(answer, Ok(Answer::Appended { .. })) || answer.as_ref().is_err_and(is_unconfirmed);
        assert!(is_there, "{answer:?}");
    }

    /// What of the bucket of `live:1` waits for a peer.
    #[track_caller]
    pub fn waiting(&self, peer: &str, done: Option<(u64, Position)>, limit: u32) -> QueuePage {
        let ask = QueueAsk { peer: peer.to_owned(), bucket: bucket("live:1"), done, limit };
        let Answer::Queue(page) = self.ask(Request::Queue(ask)) else { panic!("a queue") };
        page
    }

    #[track_caller]
    pub fn take(&self, taking: Taking) -> Vec<Placed> {
        let Answer::Taken(placed) = self.ask(Request::Take(taking)) else { panic!("taken") };
        placed
    }

    #[track_caller]
    pub fn read(&self, topic: &Topic, after: Position, limit: u32) -> Page {
        let request = Request::Read(Read { topic: topic.clone(), after, limit });
        let Answer::Page(page) = self.ask(request) else { panic!("a page") };
        page
    }

    #[track_caller]
    pub fn ends(&self, topics: &[Topic]) -> Vec<End> {
        let Answer::Ends(ends) = self.ask(Request::Ends(topics.to_vec())) else { panic!("ends") };
        ends
    }

    /// A value of this data center's own, which is kept for so long while nobody watches its topic.
    pub fn set_for(&self, topic: &Topic, field: &str, event: &str, age_ms: Option<u64>) {
        let (topic, field) = (topic.clone(), field.to_owned());
        let latest = SetLatest { topic, field, event: event.into(), version: None, dc: "m".into(), age_ms };
        self.ask(Request::SetLatest(latest));
    }

    pub fn set(&self, topic: &Topic, field: &str, event: &str, peers: Option<(u64, &str)>) -> (u64, bool) {
        let (version, dc) = peers.map_or((None, "m"), |(version, name)| (Some(version), name));
        let latest = SetLatest {
            topic: topic.clone(),
            field: field.to_owned(),
            event: event.into(),
            version,
            dc: dc.into(),
            age_ms: None,
        };
        let Answer::Versioned { version, newest } = self.ask(Request::SetLatest(latest)) else { panic!("versioned") };
        (version, newest)
    }

    /// How far values are beyond each version, the newest version, and those that are no times.
    pub fn newer(&self, topics: &[(&Topic, u64)]) -> Vec<(u64, u64, u64)> {
        let topics = topics.iter().map(|(topic, after)| ((*topic).clone(), *after)).collect();
        let Answer::Newer(found) = self.ask(Request::Newer(topics)) else { panic!("newer values") };
        found.into_iter().map(|newer| (newer.beyond, newer.newest, newer.counted)).collect()
    }

    pub fn latest(&self, topic: &Topic) -> Vec<(u64, String)> {
        let Answer::Latest(values) = self.ask(Request::Latest(topic.clone())) else { panic!("values") };
        values.into_iter().map(|value| (value.version, value.event.to_string())).collect()
    }
}

fn keep(heards: &mut Heards, (shard, heard): (usize, Heard)) {
    match heard {
        Heard::Answer { ticket, result } => {
            assert!(heards.answers.insert(ticket, result).is_none(), "a question is answered once");
        }
        Heard::Notice(notice) => heards.notices.push((shard, notice)),
    }
}
