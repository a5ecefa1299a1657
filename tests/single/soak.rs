//! Mixed load and random kills over a cluster, for as long as one likes: `scripts/soak`. Not among the usual tests, since
//! it takes minutes.

use crate::support;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use fanfare::limits::RING_EVENTS;
use serde_json::json;
use support::http::{Client, request};
use support::node::{Node, program};
use support::redis::Redis;
use support::watchers::Watchers;
use support::{becomes, eventually};

/// Topics that the viewers spread over.
const TOPICS: u64 = 10;
/// Between two comments.
const COMMENT_EVERY: Duration = Duration::from_millis(40);
/// What nodes keep of recent events is full before their memory is first looked at.
const _: () = assert!(COMMENT_EVERY.as_millis() as u64 * TOPICS * (RING_EVENTS as u64) < 110_000);
/// Between two kills.
const KILL_EVERY: Duration = Duration::from_secs(15);
/// A node that was killed is away for so long.
const AWAY: Duration = Duration::from_secs(3);
/// How much larger a node may be at the end than at minute 2.
const GROWTH_MAX: f64 = 1.05;

fn given(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What a node is made of, so that it can be started again in its place.
struct Place {
    role: &'static str,
    number: usize,
    node: Option<Node>,
    listen: SocketAddr,
    internal: SocketAddr,
}

struct Cluster {
    places: Vec<Mutex<Place>>,
    kv: String,
    folder: tempfile::TempDir,
    /// The dispatchers' internal listeners.
    dispatchers: RwLock<String>,
}

impl Cluster {
    /// Starts the node of a place, where it was before if it ran before.
    fn launch(&self, place: &mut Place) {
        let dispatchers = self.dispatchers.read().unwrap().clone();
        let mut flags = vec!["--cores", "1", "--kv", &self.kv, "--drain", "1s"];
        if place.role != "dispatcher" {
            flags.extend(["--dispatchers", &dispatchers]);
        }
        let listen = place.listen.to_string();
        flags.extend(["--listen", &listen]);
        let database = format!("sqlite:{}", self.folder.path().join("fanfare.db").display());
        let node = Node::run_on(program(), place.role, &place.internal.to_string(), &database, &flags);
        (place.listen, place.internal) = (node.public, node.internal);
        place.node = Some(node);
    }

    fn start(kv: String) -> Cluster {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let roles = [("dispatcher", 2), ("frontend", 3), ("backend", 2)];
        let all = roles.iter().flat_map(|&(role, count)| (1..=count).map(move |number| (role, number)));
        let place = |(role, number)| Mutex::new(Place { role, number, node: None, listen: any, internal: any });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cluster = Cluster { places: all.map(place).collect(), kv, folder, dispatchers: RwLock::default() };
        for place in &cluster.places {
            let mut place = place.lock().unwrap();
            cluster.launch(&mut place);
            if place.role == "dispatcher" {
                let mut dispatchers = cluster.dispatchers.write().unwrap();
                let comma = if dispatchers.is_empty() { "" } else { "," };
                *dispatchers = format!("{dispatchers}{comma}http://{}", place.internal);
            }
        }
        for place in &cluster.places {
            let internal = place.lock().unwrap().internal;
            becomes("a node to be ready", true, || is_ready(internal));
        }
        cluster
    }

    /// Public addresses of the nodes of a role that run.
    fn doors(&self, role: &str) -> Vec<SocketAddr> {
        let places = self.places.iter().map(|place| place.lock().unwrap());
        places.filter(|place| place.role == role && place.node.is_some()).map(|place| place.listen).collect()
    }

    /// The first node of each role is never killed: its memory in KiB.
    fn memory(&self) -> Vec<(&'static str, u64)> {
        let places = self.places.iter().map(|place| place.lock().unwrap());
        let lasting = places.filter(|place| place.number == 1);
        lasting.map(|place| (place.role, place.node.as_ref().expect("it runs").rss_kib())).collect()
    }
}

fn is_ready(internal: SocketAddr) -> bool {
    exchange(internal, "GET", "/health/ready", "") == Some(200)
}

/// The status of an answer; none if the node is gone.
fn exchange(address: SocketAddr, method: &str, target: &str, body: &str) -> Option<u16> {
    let socket = std::net::TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut client = Client::from_socket(socket);
    std::io::Write::write_all(&mut client.socket, &request(method, target, &[], body.as_bytes())).ok()?;
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut client.socket, &mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// Sends to one after the other until one takes it.
fn insist(cluster: &Cluster, role: &str, target: &str, body: &str, turn: &mut usize, retries: &AtomicU64) {
    loop {
        *turn += 1;
        let doors = cluster.doors(role);
        match exchange(doors[*turn % doors.len()], "POST", target, body) {
            Some(200..=202) => return,
            // It is being killed, or waits for one that is.
            None | Some(503) => {
                retries.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
            Some(status) => panic!("{target}: {status}"),
        }
    }
}

/// What was sent.
#[derive(Default)]
struct Sent {
    comments: AtomicU64,
    likes: AtomicU64,
    retries: AtomicU64,
    kills: AtomicU64,
}

fn comments(cluster: &Cluster, sent: &Sent, done: &AtomicBool) {
    let mut turn = 0;
    while !done.load(Ordering::Relaxed) {
        comment(cluster, sent, &mut turn);
        std::thread::sleep(COMMENT_EVERY);
    }
}

/// Publishes the next comment, and somebody's typing.
fn comment(cluster: &Cluster, sent: &Sent, turn: &mut usize) {
    let number = sent.comments.load(Ordering::Relaxed);
    let target = format!("/v1/topics/live:{}/events", number % TOPICS);
    let body = json!({"type": "comment", "data": {"n": number}}).to_string();
    insist(cluster, "dispatcher", &target, &body, turn, &sent.retries);
    let typing = json!({"type": "typing", "data": {"member": "ana"}}).to_string();
    // Nobody insists on that one.
    let doors = cluster.doors("dispatcher");
    let _ = exchange(doors[*turn % doors.len()], "POST", &target, &typing);
    sent.comments.fetch_add(1, Ordering::Relaxed);
}

fn likes(cluster: &Cluster, sent: &Sent, done: &AtomicBool) {
    let mut turn = 0;
    while !done.load(Ordering::Relaxed) {
        let number = sent.likes.fetch_add(1, Ordering::Relaxed);
        let body = support::reaction(&format!("member-{number}"), "like");
        insist(cluster, "backend", &format!("/v1/videos/{}/likes", number % TOPICS), &body, &mut turn, &sent.retries);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills nodes and starts them again, one at a time.
fn kills(cluster: &Cluster, watchers: &Watchers, sent: &Sent, done: &AtomicBool, mut random: u64) {
    let mut next = Instant::now() + KILL_EVERY;
    while !done.load(Ordering::Relaxed) {
        if Instant::now() < next {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        // xorshift64: enough for choosing, and the same for the same seed.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mortal: Vec<&Mutex<Place>> =
            cluster.places.iter().filter(|place| place.lock().unwrap().number > 1).collect();
        let place = mortal[(random % mortal.len() as u64) as usize];
        let node = place.lock().unwrap().node.take().expect("it was started again");
        node.kill();
        sent.kills.fetch_add(1, Ordering::Relaxed);
        watchers.set_doors(&cluster.doors("frontend"));
        std::thread::sleep(AWAY);
        let internal = {
            let mut place = place.lock().unwrap();
            cluster.launch(&mut place);
            place.internal
        };
        becomes("a node to be ready again", true, || is_ready(internal));
        watchers.set_doors(&cluster.doors("frontend"));
        next = Instant::now() + KILL_EVERY;
    }
}

#[test]
#[ignore = "takes minutes: scripts/soak"]
fn comment_lost_or_memory_grown_over_minutes() {
    let minutes = given("SOAK_MINUTES", 15).max(3);
    let viewers = given("SOAK_VIEWERS", 3000);
    let seed = given("SEED", 0x5eed_f00d).max(1);
    let redis = Redis::start();
    let cluster = Cluster::start(redis.url());
    let watchers = Watchers::start(viewers as usize, |who| format!("topic=live:{}", who as u64 % TOPICS));
    watchers.set_doors(&cluster.doors("frontend"));
    becomes("all to be connected", viewers as usize, || watchers.connected());
    let (sent, done) = (Sent::default(), AtomicBool::new(false));
    // One who is cut before any event has no id to come back with.
    for _ in 0..TOPICS {
        comment(&cluster, &sent, &mut 0);
    }
    becomes("the first comments to reach all", viewers, || watchers.seen());
    println!("{viewers} viewers, {minutes} minutes, SEED={seed}");
    println!("minute  connected  comments   likes  kills  retries  memory in MiB of nodes that are never killed");
    let mut settled = Vec::new();
    std::thread::scope(|scope| {
        // However this ends, the threads do.
        let ends = Ends(&done);
        scope.spawn(|| ended_by_panic(&done, || comments(&cluster, &sent, &done)));
        scope.spawn(|| ended_by_panic(&done, || likes(&cluster, &sent, &done)));
        scope.spawn(|| ended_by_panic(&done, || kills(&cluster, &watchers, &sent, &done, seed)));
        let began = Instant::now();
        for minute in 1..=minutes {
            while began.elapsed() < Duration::from_secs(60 * minute) && !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
            }
            let memory = cluster.memory();
            show(minute, &watchers, &sent, &memory);
            if minute == 2 {
                settled = memory;
            }
        }
        drop(ends);
    });
    becomes("all to be connected", viewers as usize, || watchers.connected());
    let comments = sent.comments.load(Ordering::Relaxed);
    // Each viewer has one topic, and each topic its share of the numbers.
    let of_topic = |topic: u64| comments / TOPICS + u64::from(topic < comments % TOPICS);
    let wanted: u64 = (0..viewers).map(|who| of_topic(who % TOPICS)).sum();
    eventually("every comment to reach every viewer of its topic", || match watchers.seen() {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{seen} of {wanted}")),
    });
    let report = watchers.stop();
    println!("class every: {wanted} deliveries, lost 0, gaps {}, repeats {}", report.gaps, report.repeats);
    println!("streams cut by a kill: {}, came back: {}, bye: {:?}", report.cuts, report.returns.len(), report.byes);
    assert!(report.cuts > 0 || sent.kills.load(Ordering::Relaxed) == 0 || viewers < 3, "kills were noticed");
    let mut grown = Vec::new();
    for ((role, before), (_, after)) in settled.iter().zip(cluster.memory()) {
        let ratio = after as f64 / *before as f64;
        println!("{role}: {before} KiB at minute 2, {after} KiB at the end ({ratio:.3})");
        if ratio > GROWTH_MAX {
            grown.push(*role);
        }
    }
    assert!(grown.is_empty(), "memory grew by more than 5 %: {grown:?}");
}

fn show(minute: u64, watchers: &Watchers, sent: &Sent, memory: &[(&str, u64)]) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let memory: Vec<String> = memory.iter().map(|(role, kib)| format!("{role} {:.1}", *kib as f64 / 1024.0)).collect();
    println!(
        "{minute:>6}  {:>9}  {:>8}  {:>6}  {:>5}  {:>7}  {}",
        watchers.connected(),
        count(&sent.comments),
        count(&sent.likes),
        count(&sent.kills),
        count(&sent.retries),
        memory.join(", ")
    );
}

/// Ends the threads when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs one of the threads; a panic in it ends the others.
fn ended_by_panic(done: &AtomicBool, run: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        done.store(true, Ordering::Relaxed);
        std::panic::resume_unwind(panic);
    }
}
