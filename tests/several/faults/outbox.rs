//! What is stored while the key-value store is away is told once it is back: all of it once, each topic's in the order of
//! storing, and what is posted meanwhile behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanfare::limits::TOLD_AT_ONCE;
use serde_json::json;

use crate::support::http::Client;
use crate::support::node::{Node, program};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::site::wait_ready;
use crate::support::token::{SECRET, as_bearer, token};
use crate::support::{becomes, eventually};

/// Ids by topic, in order.
type Ids = BTreeMap<String, Vec<String>>;

/// Where comments of a video, or messages of a conversation, are posted.
fn path(topic: &str) -> String {
    match topic.split_once(':').expect("a topic has a kind") {
        ("live", video) => format!("/v1/videos/{video}/comments"),
        (_, conversation) => format!("/v1/conversations/{conversation}/messages"),
    }
}

/// Posts one, which must be stored; gives its id. Where a database was too slow to say whether it is, as on a machine that
/// is busy, it is posted again as the README says.
fn post(client: &mut Client, topic: &str, number: usize) -> String {
    let (key, body) = (number.to_string(), json!({"member": "ana", "text": format!("{topic} 💙")}).to_string());
    loop {
        let answer = client.request("POST", &path(topic), &[("Idempotency-Key", &key)], body.as_bytes());
        if answer.status == 201 {
            return answer.json()["id"].as_str().expect("an id").to_owned();
        }
        assert!(answer.problem(503).contains("it may be stored or not"), "{}", answer.text());
    }
}

/// One who posts to a topic until told to stop.
struct Poster {
    stop: Arc<AtomicBool>,
    ids: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Poster {
    fn start(desk: SocketAddr, topic: String) -> Poster {
        let (stop, ids) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stops, posted) = (Arc::clone(&stop), Arc::clone(&ids));
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(desk);
            while !stops.load(Ordering::Relaxed) {
                let number = posted.lock().unwrap().len();
                let id = post(&mut client, &topic, number);
                posted.lock().unwrap().push(id);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Poster { stop, ids, thread }
    }

    fn count(&self) -> usize {
        self.ids.lock().unwrap().len()
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every post was stored");
        Arc::into_inner(self.ids).expect("the thread has ended").into_inner().unwrap()
    }
}

/// Follows a stream from now on.
fn follow(node: &Node, topics: &[&str], more: &str) -> Arc<Mutex<Ids>> {
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let mut stream = node.stream(&format!("{}{more}", query.join("&")));
    let seen: Arc<Mutex<Ids>> = Arc::default();
    let sees = Arc::clone(&seen);
    std::thread::spawn(move || {
        while let Some(message) = stream.next() {
            let event = message.json();
            if let (Some(topic), Some(id)) = (event["topic"].as_str(), event["id"].as_str()) {
                sees.lock().unwrap().entry(topic.to_owned()).or_default().push(id.to_owned());
            }
        }
    });
    seen
}

/// Waits until a viewer was shown so many, whatever came twice, and gives what it saw.
fn shown(seen: &Mutex<Ids>, count: usize) -> Ids {
    let each = |ids: &Vec<String>| ids.iter().collect::<BTreeSet<_>>().len();
    let total = || seen.lock().unwrap().values().map(each).sum::<usize>();
    eventually("the viewer to see all", || if total() >= count { Ok(()) } else { Err(total()) });
    seen.lock().unwrap().clone()
}

#[test]
fn comments_out_of_order_after_an_outage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.db");
    let left = || rows(&file, "SELECT count(*) FROM outbox WHERE stored_at = 0");
    outage(&format!("sqlite:{}", file.display()), left, || rows(&file, "SELECT count(*) FROM outbox"));
}

#[test]
fn comments_out_of_order_after_an_outage_on_postgres() {
    let postgres = Postgres::start();
    let count = |which: &str| postgres.value(which).parse().expect("a number");
    let left = || count("SELECT count(*) FROM fanfare.outbox WHERE stored_at = 0");
    outage(&postgres.url(), left, || count("SELECT count(*) FROM fanfare.outbox"));
}

fn rows(file: &Path, sql: &str) -> u64 {
    let connection = rusqlite::Connection::open(file).expect("it is there");
    connection.busy_timeout(crate::support::DEADLINE).expect("a setting");
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

fn outage(database: &str, left: impl Fn() -> u64, all: impl Fn() -> u64) {
    let mut redis = Redis::durable();
    let node = Node::launch_on(program(), database, &["--cores", "2", "--kv", &redis.url()]);
    let topics = ["live:1", "live:2", "live:3", "chat:1"];
    let seen = follow(&node, &topics, "");
    let posters: Vec<Poster> = topics.iter().map(|topic| Poster::start(node.public, (*topic).to_owned())).collect();
    let total = || posters.iter().map(Poster::count).sum::<usize>();
    shown(&seen, 100);
    redis.kill();
    // Some wait in the database, too.
    eventually("some to be left in the outbox", || if left() > 500 { Ok(()) } else { Err(left()) });
    let before = total();
    redis.restart();
    let back = Instant::now();
    shown(&seen, before);
    eprintln!("{before} posts are shown {:?} after the store is back", back.elapsed());
    let posted: Ids = topics.iter().zip(posters).map(|(topic, poster)| ((*topic).to_owned(), poster.stop())).collect();
    let count = posted.values().map(Vec::len).sum::<usize>();
    shown(&seen, count);
    becomes("the outbox", 0, all);
    let seen = shown(&seen, count);
    for topic in topics {
        let mut known = BTreeSet::new();
        let first: Vec<&String> = seen[topic].iter().filter(|id| known.insert(*id)).collect();
        assert_eq!(first, posted[topic].iter().collect::<Vec<_>>(), "{topic}: in the order of posting");
        // Of what was under way when the store died nobody knows whether it was taken: it comes again under its id.
        let repeats = seen[topic].len() - first.len();
        assert!(repeats <= TOLD_AT_ONCE, "{repeats} came twice");
    }
}

#[test]
fn comment_told_before_those_that_a_dead_process_left() {
    let mut redis = Redis::durable();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let flags = ["--cores", "2", "--kv", &redis.url()];
    let node = Node::in_folder(folder.path(), &flags);
    redis.kill();
    let mut client = Client::connect(node.public);
    let topics = ["live:1", "chat:1"];
    let mut posted = Ids::new();
    let mut post_all = |client: &mut Client, times: usize| {
        for topic in (0..times).flat_map(|_| topics) {
            let ids = posted.entry(topic.to_owned()).or_default();
            ids.push(post(client, topic, ids.len()));
        }
    };
    post_all(&mut client, 150);
    let file = folder.path().join("fanfare.db");
    becomes("posts that are left", 300, || rows(&file, "SELECT count(*) FROM outbox WHERE stored_at = 0"));
    becomes("what is late", 300, || node.metric("fanfare_outbox_left_total", ""));
    node.kill();
    redis.restart();
    let node = Node::in_folder(folder.path(), &flags);
    post_all(&mut Client::connect(node.public), 20);
    let seen = follow(&node, &topics, "&last_event_id=0");
    assert_eq!(shown(&seen, 340), posted, "in the order of posting, each once");
    becomes("what a dead process left is counted", true, || node.metric("fanfare_outbox_resent_total", "") >= 300);
}

#[test]
fn moderators_comments_left_out_after_an_outage() {
    let mut redis = Redis::durable();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path.into_os_string().into_string().expect("a path of the tests")
    };
    let (key, config) = (write("secret", SECRET), write("fanfare.toml", "[events.comment]\npace = \"1/s\"\n"));
    let kv = redis.url();
    let flags = ["--cores", "2", "--kv", &kv, "--auth", "jwt", "--jwt-key-file", &key, "--config", &config];
    let ana = token("ana", &["live:1"], &["live:1"]);
    let eve = token("eve", &["live:1"], &["live:1", "moderate:live:1"]);
    let comment = |node: &Node, token: &str| {
        let answer = as_bearer(node, token, "POST", &path("live:1"), r#"{"text":"hi"}"#);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    // A node takes no tokens before the store told it which are revoked, and says so by not being ready.
    let begin = || {
        let node = Node::in_folder(folder.path(), &flags);
        wait_ready(&node);
        node
    };
    let node = begin();
    redis.kill();
    let (mut everybodys, mut moderators) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        everybodys.push(comment(&node, &ana));
        moderators.push(comment(&node, &eve));
    }
    let file = folder.path().join("fanfare.db");
    becomes("comments that are left", 40, || rows(&file, "SELECT count(*) FROM outbox WHERE stored_at = 0"));
    node.kill();
    redis.restart();
    let node = begin();
    let last = comment(&node, &eve);
    let mut stream = node.stream(&format!("topic=live:1&last_event_id=0&access_token={ana}"));
    let ids =
        std::iter::from_fn(|| stream.next()).filter_map(|message| message.json()["id"].as_str().map(str::to_owned));
    let shown: Vec<String> = ids.take_while(|id| *id != last).collect();
    assert_eq!(
        shown.iter().filter(|id| moderators.contains(id)).collect::<Vec<_>>(),
        moderators.iter().collect::<Vec<_>>()
    );
    assert!(shown.iter().filter(|id| everybodys.contains(id)).count() < everybodys.len(), "{shown:?}");
}
