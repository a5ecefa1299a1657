//! What a million subscriptions cost a Redis: `scripts/bench-subscriptions`, or
//! `cargo bench --bench subscriptions -- URL [NODES [TOPICS [SECONDS [shared]]]]` against one that may be filled.
//!
//! Loads NODES × TOPICS subscriptions through batches as Frontends send them, lets all nodes send heartbeats for SECONDS,
//! then lets one fall silent, and waits until what it wanted is swept. With `shared` all nodes want the same topics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fanfare::kv::redis as store;
use fanfare::kv::redis::{Config, RedisKv};
use fanfare::kv::{
    Answer, BUCKETS, Batch, Heard, Heartbeat, KeyValue as _, NodeInfo, Request, Unavailable, bucket, digest,
};
use fanfare::limits::{NODE_HEARTBEAT, NODE_SWEEP, REGISTRATIONS_PER_BATCH};
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::node_url::NodeUrl;
use fanfare::wire::topic::Topic;

/// Batches under way; a Frontend has at most one a bucket.
const UNDER_WAY: usize = BUCKETS;
/// Commands that take longer are looked at.
const SLOW_US: u64 = 500;

struct Asker {
    kv: RedisKv,
    answers: mpsc::Receiver<Result<Answer, Unavailable>>,
    tickets: AtomicU64,
}

impl Asker {
    fn submit(&self, request: Request) {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let refused = self.kv.submit(0, ticket, request, &mut Vec::new());
        assert!(refused.is_none(), "{refused:?}");
    }

    fn answer(&self) -> Answer {
        self.answers.recv().expect("the store lives").expect("the store answers")
    }
}

struct Node {
    info: NodeInfo,
    topics: Vec<Vec<Topic>>,
    digests: Vec<(u8, u64)>,
}

fn node(number: u64, topics: u64, shared: bool) -> Node {
    let mut found = vec![Vec::new(); BUCKETS];
    for at in 0..topics {
        let name = if shared { format!("live:video-{at}") } else { format!("live:video-{number}-{at}") };
        found[usize::from(bucket(&name))].push(Topic::parse(&name).expect("a topic"));
    }
    let digests = found.iter().enumerate().map(|(at, topics)| (at as u8, digest(topics.iter().map(Topic::as_str))));
    // Names as they are in life: all bits random.
    let id = NodeId(getrandom::u64().expect("randomness"));
    let url = NodeUrl::parse(&format!("http://10.0.0.{number}:8081")).expect("a URL");
    let info = NodeInfo { id, roles: vec!["frontend".to_owned()], url, database: None };
    Node { info, digests: digests.collect(), topics: found }
}

/// What a server says of itself.
struct Server(redis::Connection);

impl Server {
    fn number(&mut self, section: &str, name: &str) -> f64 {
        let info: String = redis::cmd("INFO").arg(section).query(&mut self.0).expect("INFO");
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {info}"))
    }

    fn cpu(&mut self) -> f64 {
        self.number("cpu", "used_cpu_user") + self.number("cpu", "used_cpu_sys")
    }

    /// Topics that are held for a node.
    fn held(&mut self, node: NodeId) -> u64 {
        let mut looks = redis::pipe();
        for number in 0..BUCKETS {
            looks.cmd("SCARD").arg(format!("fanfare:{{bench:{number}}}:w:{node}"));
        }
        looks.query::<Vec<u64>>(&mut self.0).expect("SCARD").iter().sum()
    }

    /// The longest command since [`Server::forget_slow`]: how long, which, and the first key or word that it names.
    fn slowest(&mut self) -> String {
        type Entry = (u64, u64, u64, Vec<String>, String, String);
        let entries: Vec<Entry> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut self.0).expect("SLOWLOG");
        let Some((_, _, microseconds, words, ..)) = entries.iter().max_by_key(|entry| entry.2) else {
            return format!("below {SLOW_US} µs");
        };
        let name = words.get(if words[0] == "EVALSHA" { 3 } else { 1 }).map_or("", String::as_str);
        let many = entries.len();
        format!("{:.1} ms ({} {name}), {many} from {SLOW_US} µs on", *microseconds as f64 / 1000.0, words[0])
    }

    fn forget_slow(&mut self) {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("slowlog-log-slower-than")
            .arg(SLOW_US)
            .arg("slowlog-max-len")
            .arg(10_000)
            .exec(&mut self.0)
            .expect("CONFIG SET");
        redis::cmd("SLOWLOG").arg("RESET").exec(&mut self.0).expect("SLOWLOG");
    }
}

fn own_cpu() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(url) = words.first() else {
        // As part of all benchmarks there is no server to fill.
        println!("subscriptions: run scripts/bench-subscriptions");
        return;
    };
    let number = |at: usize, default: u64| words.get(at).map_or(default, |word| word.parse().expect("a number"));
    let (nodes, topics, seconds) = (number(1, 50), number(2, 20_000), number(3, 20));
    let shared = words.get(4).is_some_and(|word| word == "shared");

    let mut server = Server(redis::Client::open(&**url).and_then(|client| client.get_connection()).expect("a server"));
    let (sender, answers) = mpsc::channel();
    let tell = move |_: usize, heard: Heard| {
        if let Heard::Answer { result, .. } = heard {
            let _ = sender.send(result);
        }
    };
    let config = Config {
        dc: "bench".to_owned(),
        history_age_ms: 60_000,
        sweeps: true,
        shards: 1,
        presence: Default::default(),
    };
    let kv = store::start(url, config, Arc::new(tell)).expect("the store starts");
    let asker = Asker { kv, answers, tickets: AtomicU64::new(0) };

    let all: Vec<Node> = (0..nodes).map(|number| node(number, topics, shared)).collect();
    let empty = server.number("memory", "used_memory");
    load(&mut server, &asker, &all);
    let memory = server.number("memory", "used_memory") - empty;
    let subscriptions = (nodes * topics) as f64;
    let kind = if shared { "the same topics" } else { "topics of its own" };
    println!("{nodes} nodes with {topics} subscriptions each, to {kind}:");
    println!(
        "  Redis memory             {:>9.1} MiB, {:.0} B a subscription",
        memory / 1048576.0,
        memory / subscriptions
    );

    beat(&mut server, &asker, &all, Duration::from_secs(seconds));
    fall_silent(&mut server, &asker, &all);
}

fn load(server: &mut Server, asker: &Asker, all: &[Node]) {
    let (started, cpu, mut under_way, mut batches) = (Instant::now(), server.cpu(), 0, 0u64);
    server.forget_slow();
    for node in all {
        let mut numbers: HashMap<u8, u64> = HashMap::new();
        for (number, topics) in node.topics.iter().enumerate() {
            for topics in topics.chunks(REGISTRATIONS_PER_BATCH) {
                let count = numbers.entry(number as u8).or_default();
                *count += 1;
                let changes = topics.iter().map(|topic| (topic.clone(), true)).collect();
                let batch = Batch { node: node.info.id, bucket: number as u8, number: *count, full: false, changes };
                if under_way == UNDER_WAY {
                    asker.answer();
                    under_way -= 1;
                }
                asker.submit(Request::Apply(batch));
                (under_way, batches) = (under_way + 1, batches + 1);
            }
        }
    }
    (0..under_way).for_each(|_| drop(asker.answer()));
    let (took, cpu) = (started.elapsed().as_secs_f64(), server.cpu() - cpu);
    let count: usize = all.iter().flat_map(|node| &node.topics).map(Vec::len).sum();
    println!(
        "loading: {count} subscriptions in {batches} batches, {took:.1} s, {:.0} a second, Redis' CPU {:.2} µs each, \
         longest command {}",
        count as f64 / took,
        cpu * 1e6 / count as f64,
        server.slowest()
    );
}

/// Lets nodes send heartbeats, spread evenly. Gives the last answer of each.
fn round(asker: &Asker, nodes: &[Node]) {
    let pause = NODE_HEARTBEAT / nodes.len().max(1) as u32;
    let started = Instant::now();
    for (at, node) in nodes.iter().enumerate() {
        std::thread::sleep((pause * at as u32).saturating_sub(started.elapsed()));
        let (node, digests) = (node.info.clone(), node.digests.clone());
        let heartbeat = Heartbeat { node, digests, counts: None, since: None };
        asker.submit(Request::Heartbeat(heartbeat));
    }
    for _ in nodes {
        let Answer::Alive(alive) = asker.answer() else { panic!("alive") };
        assert!(alive.differing.is_empty(), "nothing differs: {:?}", alive.differing);
    }
    std::thread::sleep(NODE_HEARTBEAT.saturating_sub(started.elapsed()));
}

fn beat(server: &mut Server, asker: &Asker, all: &[Node], length: Duration) {
    let (started, commands, cpu, own) =
        (Instant::now(), server.number("stats", "total_commands_processed"), server.cpu(), own_cpu());
    server.forget_slow();
    let mut rounds = 0;
    while started.elapsed() < length {
        round(asker, all);
        rounds += 1;
    }
    let took = started.elapsed().as_secs_f64();
    let beats = (rounds * all.len()) as f64;
    println!(
        "heartbeats: {:.1} a second, {:.0} commands a second, Redis' CPU {:.2} % of a core ({:.0} µs a heartbeat), ours {:.2} %, \
         longest command {}",
        beats / took,
        (server.number("stats", "total_commands_processed") - commands) / took,
        (server.cpu() - cpu) / took * 100.0,
        (server.cpu() - cpu) / beats * 1e6,
        (own_cpu() - own) / took * 100.0,
        server.slowest()
    );
}

fn fall_silent(server: &mut Server, asker: &Asker, all: &[Node]) {
    let (dead, living) = all.split_first().expect("some nodes");
    let held = server.held(dead.info.id);
    server.forget_slow();
    let (started, commands) = (Instant::now(), server.number("stats", "total_commands_processed"));
    while server.held(dead.info.id) > 0 {
        round(asker, living);
        assert!(started.elapsed() < NODE_SWEEP * 2, "{} are left", server.held(dead.info.id));
    }
    let took = started.elapsed();
    let used = server.number("stats", "total_commands_processed") - commands;
    println!(
        "a node fell silent: its {held} entries were swept after {:.0} s, longest command {}, {:.0} commands a second \
         with the heartbeats and each SREM of a script",
        took.as_secs_f64(),
        server.slowest(),
        used / took.as_secs_f64()
    );
    assert!(took < NODE_SWEEP, "within a minute");
}
