//! Clients that do not read. Each test is named after what it prevents.

use crate::support;
use std::collections::BTreeMap;

use serde_json::json;
use support::becomes;
use support::http::{Client, request};
use support::node::Node;
use support::sse::Stream;

/// Publishes `count` events as lines, in requests of 5,000, and calls `between` after each.
fn publish_many(node: &Node, count: usize, line: impl Fn(usize) -> String, mut between: impl FnMut()) {
    let mut client = Client::connect(node.public);
    for start in (0..count).step_by(5000) {
        let lines: String = (start..count.min(start + 5000)).map(&line).collect();
        let answer = client.request("POST", "/v1/events", &[], lines.as_bytes()).json();
        assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(count.min(5000)), &json!(0)));
        between();
    }
}

#[test]
fn client_that_never_reads_takes_memory_or_counts() {
    const LIKES: usize = 100_000;
    const KEYS: [&str; 3] = ["like", "love", "funny"];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    // With windows there would be nothing that a client could miss.
    std::fs::write(&path, "[events.like]\nwindow = \"0s\"\n").expect("the folder is ours");
    let node = Node::in_folder(folder.path(), &["--cores", "2", "--config", path.to_str().expect("it is UTF-8")]);
    let mut lazy = node.stream_on_each_shard("topic=live:1");
    let mut reader = node.stream("topic=live:1");
    let counts = |stream: &mut Stream| {
        let mut sums = BTreeMap::new();
        let mut messages = 0;
        while sums.values().sum::<u64>() < LIKES as u64 {
            let event = stream.event();
            assert_eq!(event["type"], "like");
            support::add_counts(&mut sums, &event);
            messages += 1;
        }
        for (index, key) in KEYS.iter().enumerate() {
            let expected = (LIKES + KEYS.len() - 1 - index) / KEYS.len();
            assert_eq!(sums[*key], expected as u64, "{key} in {sums:?}");
        }
        messages
    };
    let before = node.rss_kib();
    let mut highest = 0;
    let line = |number: usize| {
        let key = KEYS[number % KEYS.len()];
        format!("{{\"topic\":\"live:1\",\"type\":\"like\",\"key\":\"{key}\",\"data\":{{\"likes\":{number}}}}}\n")
    };
    let node = &node;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| counts(&mut reader));
        publish_many(node, LIKES, line, || highest = highest.max(node.rss_kib()));
        reading.join().unwrap();
    });
    // 100,000 likes are about 15 MB on the wire, for each of the two that do not read.
    let grown = highest.saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB more while {} clients do not read", lazy.len());
    for stream in &mut lazy {
        let messages = counts(stream);
        assert!(messages < LIKES / 2, "what waited is merged: {messages} messages");
    }
    let id = node.publish("live:1", &json!({"type": "note"}));
    for stream in &mut lazy {
        assert_eq!(stream.event()["id"], json!(id), "it keeps up again, with nothing twice");
    }
}

#[test]
fn client_that_never_reads_delays_or_loses_comments_of_others() {
    const COMMENTS: usize = 20_000;
    let node = Node::start();
    let mut lazy = node.stream_on_each_shard("topic=live:1");
    let mut reader = node.stream("topic=live:1");
    let before = node.rss_kib();
    let line = |number: usize| {
        let text = "x".repeat(100);
        format!("{{\"topic\":\"live:1\",\"type\":\"comment\",\"data\":{{\"n\":{number},\"text\":\"{text}\"}}}}\n")
    };
    let mut client = Client::connect(node.public);
    for start in (0..COMMENTS).step_by(200) {
        let lines: String = (start..start + 200).map(line).collect();
        assert_eq!(client.request("POST", "/v1/events", &[], lines.as_bytes()).json()["accepted"], 200);
        // The one that reads never lags by more than fits its backlog.
        for number in start..start + 200 {
            assert_eq!(reader.event()["data"]["n"], number);
        }
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB more");
    for stream in &mut lazy {
        // In order up to where its backlog ended, then it is told to come back.
        let mut next = 0;
        loop {
            let message = stream.next().expect("bye comes before the end");
            if message.name == "message" {
                assert_eq!(message.json()["data"]["n"], next);
                next += 1;
                continue;
            }
            assert_eq!(message.name, "bye");
            let bye = message.json();
            assert_eq!(bye["reason"], "backlog");
            let retry = bye["retry_ms"].as_u64().unwrap();
            assert_eq!(stream.messages.retries.last(), Some(&retry));
            assert!((1000..=3000).contains(&retry), "{retry}");
            break;
        }
        assert!((1..COMMENTS).contains(&next), "{next} comments before bye");
        assert_eq!(stream.next(), None, "nothing after bye");
    }
    becomes("open streams", 1, || node.counts()[0]);
    assert_eq!(node.metric("fanfare_disconnects_total", "reason=\"backlog\""), lazy.len() as u64);
}

#[test]
fn hung_client_delays_others() {
    // It asks for a stream and never looks again: its window fills up.
    let node = Node::start();
    let mut hung = Client::connect(node.public);
    socket2::SockRef::from(&hung.socket).set_recv_buffer_size(4096).expect("a socket option");
    hung.send(request("GET", "/v1/events?topic=live:1", &[], b""));
    becomes("open streams", 1, || node.counts()[0]);
    let mut reader = node.stream("topic=live:1");
    for number in 0..300 {
        node.publish("live:1", &json!({"type": "comment", "data": {"n": number, "text": "x".repeat(8000)}}));
        assert_eq!(reader.event()["data"]["n"], number);
    }
    becomes("lagging streams", 1, || node.metric("fanfare_connections", "lagging"));
    drop(hung);
    becomes("open streams", 1, || node.counts()[0]);
    becomes("lagging streams", 0, || node.metric("fanfare_connections", "lagging"));
}
