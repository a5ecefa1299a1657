//! What a node holds on behalf of others: bounded, counted before it is held, and true.

use crate::support;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::http::{Client, request};
use support::node::Node;
use support::redis::Redis;
use support::sse::Stream;
use support::{becomes, eventually};

/// Both memories of a node at one moment: what it says that it holds, and what it has resident, in bytes.
fn both(node: &Node) -> (u64, u64) {
    let text = Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a number");
    let sum = |name| text.lines().filter(|line| line.starts_with(name)).map(value).sum();
    (sum("fanfare_memory_bytes{"), sum("process_resident_memory_bytes "))
}

/// Whether what a node says that it holds grew as much as its resident memory, within a fifth and a few megabytes.
fn compare(before: (u64, u64), after: (u64, u64)) -> Result<(), String> {
    let (said, resident) = (after.0.abs_diff(before.0), after.1.abs_diff(before.1));
    let slack = resident / 5 + (6 << 20);
    let agree = said.abs_diff(resident) <= slack;
    agree.then_some(()).ok_or_else(|| format!("{said} bytes are held as it says, and {resident} bytes came"))
}

/// They agree now.
#[track_caller]
fn agrees(before: (u64, u64), after: (u64, u64)) {
    compare(before, after).unwrap();
}

/// They agree once what was taken only on the way is given back.
#[track_caller]
fn comes_to_agree(node: &Node, before: (u64, u64)) {
    eventually("what is held to agree with what is resident", || compare(before, both(node)));
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
    let node = Node::with(&["--cores", "1", "--max-backlog", "64MiB", "--max-memory", "600MiB"]);
    let before = both(&node);
    let (wide, deep) = (10, 400);
    let data = "x".repeat(15_900);
    for topic in 0..wide {
        let value =
            |key| json!({"topic": format!("bomb:{topic}"), "type": "receipt", "key": format!("k{key}"), "data": data});
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
        if event["type"] == "receipt" {
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
    // An embedded store's history would fill the database's cache, too, which is accounted for by itself.
    let redis = Redis::start();
    let flags = ["--cores", "1", "--max-backlog", "16MiB", "--max-memory", "600MiB", "--kv", &redis.url()];
    let node = Node::with(&flags);
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
    assert_eq!(node.metric("fanfare_disconnects_total", "reason=\"budget\""), 0);
    drop(lazy);
    becomes("what streams hold", 0, || node.metric("fanfare_memory_bytes", "use=\"streams\""));
}

#[test]
fn pages_that_many_streams_hold_count_once() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--max-backlog", "64MiB", "--kv", &redis.url()]);
    let (wide, deep, many) = (100, 2, 20);
    let query = topics("hist", wide);
    // The topics are ready, so that nothing of a stream waits for the store but its pages.
    let mut keen = Stream::connected(node.public, &query);
    let data = "x".repeat(15_900);
    for topic in 0..wide {
        let event = |_| json!({"topic": format!("hist:{topic}"), "type": "comment", "data": data});
        assert_eq!(publish_lines(&node, (0..deep).map(event))["accepted"], deep);
        // What is not read here would stay with the node.
        (0..deep).for_each(|_| assert_eq!(keen.event()["type"], "comment"));
    }
    let held = || node.metric("fanfare_memory_bytes", "use=\"streams\"");
    becomes("what streams hold", 0, held);
    redis.pause();
    let lazy: Vec<Client> = (0..many).map(|_| lazy(node.public, &format!("{query}&last_event_id=local:1-0"))).collect();
    // One look-up a topic answers all who wait for it.
    let pages = (wide * data.len()) as u64;
    becomes("pages to be on their way to all", true, || held() > many * pages);
    redis.resume();
    eventually("a page to count once", || match held() {
        held if held < pages + many * (100 << 10) => Ok(()),
        held => Err(held),
    });
    drop(lazy);
    becomes("what streams hold", 0, held);
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
fn topics_that_nobody_watches_any_more_give_their_memory_back_to_the_system() {
    let node = Node::with(&["--cores", "2"]);
    let before = both(&node);
    let streams: Vec<Client> =
        (0..200).map(|stream| lazy(node.public, &topics(&format!("live:C{stream}"), 100))).collect();
    becomes("topics with viewers", 20_000, || node.metric("fanfare_topics", ""));
    becomes("their counts to be kept", true, || node.metric("fanfare_memory_bytes", "use=\"values\"") > 10 << 20);
    comes_to_agree(&node, before);
    drop(streams);
    becomes("topics with viewers", 0, || node.metric("fanfare_topics", ""));
    becomes("what is held for topics", 0, || node.metric("fanfare_memory_bytes", "use=\"topics\""));
    becomes("what is kept of counts", 0, || node.metric("fanfare_memory_bytes", "use=\"values\""));
    comes_back(&node, before);
}

/// Memory is looked at once a second, and a flood is over in less.
#[test]
fn a_flood_of_topics_is_over_before_memory_is_looked_at() {
    let max = (Node::with(&["--cores", "1"]).rss_kib() >> 10) + 24;
    let node = Node::with(&["--cores", "1", "--max-memory", &format!("{max}MiB")]);
    let (streams, topics_each) = (300, 100);
    node.signal(Signal::STOP);
    // Of chats nobody counts the viewers, so that all is there once they are let in.
    let flood: Vec<Client> =
        (0..streams).map(|stream| lazy(node.public, &topics(&format!("chat:{stream}"), topics_each))).collect();
    node.signal(Signal::CONT);
    becomes("each to be let in or not", streams, || {
        let refused = node.metric("fanfare_refused_total", "reason=\"memory\"");
        node.metric("fanfare_connections", "kind=\"stream\"") + refused
    });
    let resident = both(&node).1 >> 20;
    assert!(resident < max + 8, "{resident} MiB are resident, where there may be {max}");
    assert!(node.metric("fanfare_refused_total", "reason=\"memory\"") > 0);
    drop(flood);
}

/// What was held is given back to the system, but for a few megabytes.
#[track_caller]
fn comes_back(node: &Node, before: (u64, u64)) {
    eventually("memory to go back", || {
        let came = both(node).1.saturating_sub(before.1) >> 20;
        if came < 24 { Ok(()) } else { Err(format!("{came} MiB more than at first")) }
    });
}

/// Lines of `count` events of class `every`, as large as they may be, as a whole request: made before a store is paused, so that
/// they come before the node knows of it.
fn large_events(count: usize) -> Vec<u8> {
    let line = json!({"topic": "live:1", "type": "comment", "data": "x".repeat(15_900)});
    let body = format!("{line}\n").repeat(count);
    request("POST", "/v1/events", &[], body.as_bytes())
}

#[test]
fn events_that_wait_for_a_store_that_hangs_are_bounded_by_bytes() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url(), "--max-memory", "64MiB"]);
    assert_eq!(publish_lines(&node, [json!({"topic": "live:1", "type": "comment"})].into_iter())["accepted"], 1);
    let events = large_events(3000);
    let before = node.rss_kib();
    redis.pause();
    let mut client = Client::connect(node.internal);
    client.send(events);
    let answer = client.answer().json();
    redis.resume();
    let detail = answer["rejected"][0]["detail"].to_string();
    assert!(detail.contains("too much waits"), "{detail}");
    assert!(node.metric("fanfare_memory_refused_total", "use=\"questions\"") > 0);
    let came = (node.rss_kib() - before) / 1024;
    assert!(came < 40, "{came} MiB came, where 48 MB of events were sent");
    becomes("what waits", 0, || node.metric("fanfare_memory_bytes", "use=\"questions\""));
}

#[test]
fn events_that_wait_for_a_store_that_hangs_are_counted_and_given_up() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url(), "--max-memory", "8GiB"]);
    let publish =
        || publish_lines(&node, [json!({"topic": "live:1", "type": "comment"})].into_iter())["accepted"].clone();
    becomes("an event to be accepted", json!(1), publish);
    let events = large_events(12_000);
    let before = both(&node);
    // They wait for as long as the store may take. On a machine that is busy few come in that time, and the next are waited for:
    // what few hold says little, beside what the node has for itself when it first does this.
    eventually("much to wait", || {
        becomes("an event to be accepted", json!(1), publish);
        redis.pause();
        let most = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut client = Client::connect(node.internal);
                client.send(events.clone());
                client.answer().json()
            });
            let mut most = before;
            while !sender.is_finished() {
                most = most.max(both(&node));
            }
            assert_eq!(sender.join().unwrap()["accepted"], 0);
            most
        });
        redis.resume();
        becomes("what waits", true, || both(&node).0 < 1 << 20);
        if most.0 < before.0 + (16 << 20) {
            return Err(most);
        }
        agrees(before, most);
        Ok(())
    });
    comes_back(&node, before);
}
