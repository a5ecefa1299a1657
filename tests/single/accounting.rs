//! Thousands of viewers, each of whom counts every event. Each test is named after what it prevents.

use crate::support;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::becomes;
use support::crowd::Crowd;
use support::http::Client;
use support::node::Node;

/// Viewers that this process holds.
const VIEWERS: usize = 5_000;
/// Processes that hold the others, and are killed.
const CHILDREN: usize = 4;
/// Viewers of each of them.
const CHILD_VIEWERS: usize = 250;
/// Events: 20 a second for 6 s.
const EVENTS: usize = 120;
const PACE: Duration = Duration::from_millis(50);
/// In the environment of a child: the address it opens its streams at.
const CHILD_ADDRESS: &str = "FANFARE_TEST_CHILD_ADDRESS";

/// Viewers of live:1, every tenth of another topic as well.
fn query(number: usize) -> String {
    if number.is_multiple_of(10) { "topic=live:1&topic=chat:1".to_owned() } else { "topic=live:1".to_owned() }
}

/// Not a test of its own: the process that holds viewers until it is killed. Run by the test below.
#[test]
#[ignore = "the other test starts it, with the address that it needs"]
fn child_that_holds_viewers() {
    let address = std::env::var(CHILD_ADDRESS).expect("the test that starts it gives it the address");
    let mut crowd = Crowd::new();
    crowd.join(address.parse().unwrap(), query, CHILD_VIEWERS);
    eprintln!("holds its viewers");
    crowd.until("the end of this process", |_, _| false);
}

fn start_child(node: &Node) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "accounting::child_that_holds_viewers", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_ADDRESS, node.public.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    if !line.contains("holds its viewers") {
        stderr.read_to_string(&mut line).unwrap();
        panic!("a child did not get its viewers: {line}");
    }
    child
}

/// The number in the data of an event that this test published: what stands behind `"n":`, as text, since a JSON parser
/// would take most of this test's time.
fn number(data: &str) -> usize {
    let (_, number) = data.rsplit_once("\"n\":").expect("an event of this test");
    number.trim_end_matches('}').parse().expect("a number")
}

#[test]
fn viewer_misses_an_event_or_a_killed_one_stays() {
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, {
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum }
    });
    let node = Node::start();
    let mut children: Vec<Child> = (0..CHILDREN).map(|_| start_child(&node)).collect();
    let mut crowd = Crowd::new();
    crowd.join(node.public, query, VIEWERS);
    let all = VIEWERS + CHILDREN * CHILD_VIEWERS;
    let shards = 2;
    // Each shard has both topics; each tenth viewer watches both.
    becomes("connections, subscriptions, topics", [all, all + all / 10, 2 * shards].map(|n| n as u64), || {
        node.counts()
    });
    let spread = node.info();
    for shard in spread["shards"].as_array().unwrap() {
        assert!(shard["streams"].as_u64().unwrap() > all as u64 / 5, "the kernel spreads viewers: {spread}");
    }

    let mut next = vec![0; VIEWERS];
    let published = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (node, published) = (&node, &published);
        scope.spawn(move || {
            let mut client = Client::connect(node.public);
            let start = Instant::now();
            for number in 0..EVENTS {
                // An event's time is fixed by the start, so that a slow one does not make the load lighter.
                std::thread::sleep((start + PACE * number as u32).saturating_duration_since(Instant::now()));
                let body = json!({"type": "comment", "data": {"n": number}}).to_string();
                let answer = client.request("POST", "/v1/topics/live:1/events", &[], body.as_bytes());
                assert_eq!(answer.status, 202);
                published.store(number + 1, Ordering::Release);
            }
        });
        let mut complete = 0;
        crowd.until("all events", |who, message| {
            assert_eq!(message.name, "message", "viewer {who}: {message:?}");
            let number = number(&message.data);
            assert_eq!(number, next[who], "viewer {who} gets each event once, in order");
            next[who] += 1;
            complete += usize::from(next[who] == EVENTS);
            // A third of the way through, the children go, all of them while events are on their way to their viewers.
            if number == EVENTS / 3 && !children.is_empty() {
                for mut child in std::mem::take(&mut children) {
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            }
            complete == VIEWERS
        });
    });
    assert_eq!(published.load(Ordering::Acquire), EVENTS);
    assert!(children.is_empty());
    assert!(next.iter().all(|&count| count == EVENTS));
    let left = [VIEWERS, VIEWERS + VIEWERS / 10, 2 * shards].map(|n| n as u64);
    becomes("what is left of killed viewers", left, || node.counts());
    assert_eq!(node.metric("fanfare_dropped_total", ""), node.metric("fanfare_dropped_total", "reason=\"closed\""));

    // And when the others go, nothing is left at all.
    drop(crowd);
    becomes("what is left", [0, 0, 0], || node.counts());
}
