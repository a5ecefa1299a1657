//! What a node holds on behalf of others: bounded, counted before it is held, and true.

mod support;

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use support::becomes;
use support::http::{Client, request};
use support::node::Node;
use support::redis::Redis;
use support::sse::Stream;

const USES: [&str; 9] =
    ["streams", "topics", "questions", "cores", "nodes", "requests", "history", "values", "members"];

/// Bytes that a node says it holds.
fn held(node: &Node) -> u64 {
    USES.iter().map(|what| node.metric("fanfare_memory_bytes", &format!("use=\"{what}\""))).sum()
}

/// Both memories of a node: what it says that it holds, and what it has resident, in bytes.
fn both(node: &Node) -> (u64, u64) {
    (held(node), node.rss_kib() * 1024)
}

/// What a node says that it holds grew as much as its resident memory, within a fifth and a few megabytes.
#[track_caller]
fn agrees(before: (u64, u64), after: (u64, u64)) {
    let (said, resident) = (after.0.abs_diff(before.0), after.1.abs_diff(before.1));
    let slack = resident / 5 + (6 << 20);
    assert!(said.abs_diff(resident) <= slack, "{said} bytes are held as it says, and {resident} bytes came");
}

/// A client that asks for a stream and takes nothing of it.
fn lazy(address: SocketAddr, query: &str) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.connect(&address.into()).expect("the node accepts");
    let mut client = Client::from_socket(TcpStream::from(socket));
    client.send(request("GET", &format!("/v1/events?{query}"), &[], b""));
    client
}

fn publish_lines(node: &Node, lines: impl Iterator<Item = Value>) -> Value {
    let body = lines.map(|line| format!("{line}\n")).collect::<String>();
    // As other nodes do, who may publish whatever is built in.
    Client::connect(node.internal).request("POST", "/v1/events", &[], body.as_bytes()).json()
}

fn topics(kind: &str, count: usize) -> String {
    (0..count).map(|number| format!("topic={kind}:{number}")).collect::<Vec<_>>().join("&")
}

#[test]
fn newest_values_go_out_in_pages() {
    let node = Node::with(&["--cores", "1", "--max-backlog", "64MiB", "--max-memory", "400MiB"]);
    let before = both(&node);
    let (wide, deep) = (10, 400);
    let data = "x".repeat(15_900);
    for topic in 0..wide {
        let value =
            |key| json!({"topic": format!("bomb:{topic}"), "type": "unlike", "key": format!("k{key}"), "data": data});
        assert_eq!(publish_lines(&node, (0..deep).map(value))["accepted"], deep);
    }
    let query = topics("bomb", wide);
    let lazy: Vec<Client> = (0..20).map(|_| lazy(node.public, &query)).collect();
    becomes("the streams", 20, || node.metric("fanfare_connections", "kind=\"stream\""));
    // Each would have 64 MB waiting, and has a page.
    let mut keen = Stream::connected(node.public, &query);
    let mut shown = std::collections::HashSet::new();
    while shown.len() < wide * deep {
        let event = keen.event();
        if event["type"] == "unlike" {
            shown.insert((event["topic"].to_string(), event["key"].to_string()));
        }
    }
    assert!(node.metric("fanfare_memory_bytes", "use=\"streams\"") < 8 << 20);
    let after = both(&node);
    assert!(after.1 < 400 << 20, "{} bytes are resident", after.1);
    agrees(before, after);
    drop(lazy);
    becomes("what streams hold", 0, || node.metric("fanfare_memory_bytes", "use=\"streams\""));
}

#[test]
fn replays_are_within_the_budget_and_whoever_reads_gets_all() {
    let node = Node::with(&["--cores", "1", "--max-backlog", "16MiB", "--max-memory", "600MiB"]);
    let before = both(&node);
    let (wide, deep) = (100, 20);
    let data = "x".repeat(15_900);
    for topic in 0..wide {
        let event = |_| json!({"topic": format!("hist:{topic}"), "type": "comment", "data": data});
        assert_eq!(publish_lines(&node, (0..deep).map(event))["accepted"], deep);
    }
    let query = topics("hist", wide);
    let lazy: Vec<Client> =
        (0..60).map(|number| lazy(node.public, &format!("{query}&last_event_id=local:{}-0", 1 + number))).collect();
    becomes("the streams", 60, || node.metric("fanfare_connections", "kind=\"stream\""));
    becomes("pages to wait for memory", true, || node.metric("fanfare_memory_refused_total", "use=\"streams\"") > 0);
    // In between somebody comes who reads: others give up what they cannot use.
    let mut keen = Stream::connected(node.public, &format!("{query}&last_event_id=local:1-0"));
    let (mut events, mut gaps) = (std::collections::HashSet::new(), 0);
    while events.len() < wide * deep {
        let message = keen.next().expect("the stream goes on");
        match message.name.as_str() {
            "gap" => gaps += 1,
            "message" => {
                let event = message.json();
                if event["type"] == "comment" {
                    events.insert(event["id"].to_string());
                }
            }
            _ => {}
        }
        if events.len() % 200 == 1 {
            let waiting = node.metric("fanfare_memory_bytes", "use=\"streams\"");
            assert!(waiting <= 16 << 20, "{waiting} bytes");
        }
    }
    assert_eq!(gaps, wide, "once a topic: the position is older than the store");
    let after = both(&node);
    agrees(before, after);
    assert_eq!(node.metric("fanfare_disconnects_total", "reason=\"budget\""), 0);
    drop(lazy);
    becomes("what streams hold", 0, || node.metric("fanfare_memory_bytes", "use=\"streams\""));
}

#[test]
fn topics_that_nobody_watches_any_more_leave_nothing() {
    let node = Node::with(&["--cores", "1"]);
    for batch in 0..3 {
        let streams: Vec<Client> =
            (0..40).map(|stream| lazy(node.public, &topics(&format!("live:C{batch}-{stream}"), 100))).collect();
        becomes("topics with viewers", 4000, || node.metric("fanfare_topics", ""));
        becomes("their counts to be kept", true, || node.metric("fanfare_memory_bytes", "use=\"values\"") > 0);
        drop(streams);
        becomes("topics with viewers", 0, || node.metric("fanfare_topics", ""));
    }
    becomes("what is kept of counts", 0, || node.metric("fanfare_memory_bytes", "use=\"values\""));
    becomes("what is held for topics", 0, || node.metric("fanfare_memory_bytes", "use=\"topics\""));
}

#[test]
fn events_that_wait_for_a_store_that_hangs_are_bounded_by_bytes() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url(), "--max-memory", "64MiB"]);
    let data = "x".repeat(15_900);
    let line = |_| json!({"topic": "live:1", "type": "comment", "data": data});
    assert_eq!(publish_lines(&node, (0..10).map(line))["accepted"], 10);
    let before = node.rss_kib();
    redis.pause();
    let answer = publish_lines(&node, (0..3000).map(line));
    redis.resume();
    let detail = answer["rejected"][0]["detail"].to_string();
    assert!(detail.contains("too much waits"), "{answer}");
    assert!(node.metric("fanfare_memory_refused_total", "use=\"questions\"") > 0);
    let came = (node.rss_kib() - before) / 1024;
    assert!(came < 40, "{came} MiB came, where 48 MB of events were sent");
    becomes("what waits", 0, || node.metric("fanfare_memory_bytes", "use=\"questions\""));
}
