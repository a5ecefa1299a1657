//! Who watches a topic: how many streams and members, and which ones.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::redis::Redis;
use crate::support::token::{Guarded, as_bearer, token};
use crate::support::{DEADLINE, becomes};

/// What a node says of who is here.
fn present(node: &Node, query: &str) -> Value {
    let answer = node.get(&format!("/v1/topics/live:1/members{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What a stream is told next of who watches, from its first byte on.
fn told(stream: &mut impl BufRead) -> Value {
    let mut lines = stream.lines().map(|line| line.expect("the stream goes on"));
    let line = lines.find(|line| line.contains("\"type\":\"viewers\"")).expect("the stream goes on");
    let event: Value = serde_json::from_str(line.trim_start_matches("data: ")).expect("JSON");
    event["data"].clone()
}

/// A stream of which nothing was read yet.
fn stream(node: &Node, query: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(node.public).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(socket, "GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    BufReader::new(socket)
}

fn until_told(stream: &mut impl BufRead, wanted: &Value) {
    while told(stream) != *wanted {}
}

#[test]
fn member_with_two_tabs_counts_twice_or_nobody_is_named() {
    let node = Node::start();
    let nobody = json!({"viewers": 0, "members": 0, "sample": [], "here": {"ana": false}});
    assert_eq!(present(&node, "?of=ana"), nobody);
    let mut nameless = stream(&node, "topic=live:1");
    let tabs = [node.stream("topic=live:1&member=ana"), node.stream("topic=live:1&topic=live:2&member=ana")];
    let bob = node.stream("topic=live:1&member=bob");
    let all =
        json!({"viewers": 4, "members": 2, "sample": ["ana", "bob"], "here": {"ana": true, "bob": true, "cy": false}});
    becomes("who is here", all, || present(&node, "?of=ana,bob,cy"));
    assert_eq!(present(&node, "?limit=1")["sample"], json!(["ana"]));
    until_told(&mut nameless, &json!({"viewers": 4, "members": 2}));
    let [first, second] = tabs;
    drop((first, bob));
    let left = json!({"viewers": 2, "members": 1, "sample": ["ana"], "here": {"bob": false}});
    becomes("who is left", left, || present(&node, "?of=bob"));
    drop(second);
    becomes("nobody known", json!({"viewers": 1, "members": 0, "sample": [], "here": {}}), || present(&node, ""));
    node.get("/v1/topics/chat:1/members").problem(400);
    node.get("/v1/topics/live:1/members?limit=0").problem(400);
    let many: Vec<String> = (0..501).map(|number| number.to_string()).collect();
    node.get(&format!("/v1/topics/live:1/members?of={}", many.join(","))).problem(400);
}

#[test]
fn who_watches_by_a_prefix_alone_is_named_and_not_counted() {
    let node = Node::start();
    let _by_name = node.stream("topic=live:1&member=ana");
    let moved = node.stream("topic=live:1&member=bob");
    let _by_prefix = node.stream("topic=live:*&member=cy");
    let target = format!("/v1/connections/{}/topics", moved.connection());
    assert_eq!(node.post(&target, r#"{"remove":["live:1"],"add":["live:*"]}"#).status, 200);
    let here = json!({"ana": true, "bob": false, "cy": false});
    let present_now = json!({"viewers": 1, "members": 1, "sample": ["ana"], "here": here});
    becomes("who is here", present_now, || present(&node, "?of=ana,bob,cy"));
    // A stream has a topic by its prefix once there is an event of it.
    node.publish("live:1", &json!({"type": "note", "data": 1}));
    becomes("who has it", (json!(1), json!(2)), || {
        let row = node.internal_json("/v1/topics/live:1");
        (row["viewers"].clone(), row["by_prefix"].clone())
    });
    let named = present(&node, "?of=ana,bob,cy");
    assert_eq!((&named["viewers"], &named["sample"]), (&json!(1), &json!(["ana"])), "{named}");
}

#[test]
fn a_stream_that_leaves_a_topic_is_still_here() {
    let node = Node::start();
    let stream = node.stream("topic=live:1&member=ana");
    becomes("who is here", json!({"ana": true}), || present(&node, "?of=ana")["here"].clone());
    let target = format!("/v1/connections/{}/topics", stream.connection());
    assert_eq!(node.post(&target, r#"{"remove":["live:1"],"add":["live:2"]}"#).status, 200);
    becomes("who is here", json!({"ana": false}), || present(&node, "?of=ana")["here"].clone());
    assert_eq!(node.post(&target, r#"{"add":["live:1"]}"#).status, 200);
    becomes("who is here", json!({"ana": true}), || present(&node, "?of=ana")["here"].clone());
}

#[test]
fn anybody_may_ask_who_is_here() {
    let Guarded { node, .. } = Guarded::start(&[]);
    let ask = |token: &str| as_bearer(&node, token, "GET", "/v1/topics/live:1/members", "").status;
    assert_eq!(node.get("/v1/topics/live:1/members").status, 401);
    assert_eq!(ask(&token("ana", &["live:2"], &[])), 403);
    assert_eq!(ask(&token("ana", &["live:1"], &[])), 200);
}

/// How many watched before a cluster died is in the store still: who comes first is told nothing of it.
#[test]
fn first_viewer_is_told_how_many_watched_once() {
    let redis = Redis::start();
    let start = || Node::with(&["--kv", &redis.url()]);
    let before = start();
    let mut streams = [stream(&before, "topic=live:1&member=ana"), stream(&before, "topic=live:1")];
    until_told(&mut streams[0], &json!({"viewers": 2, "members": 1}));
    before.kill();
    let after = start();
    // Until then those that watched count.
    becomes("the killed node to be given up", json!(1), || json!(after.info()["nodes"].as_array().map(Vec::len)));
    let mut first = stream(&after, "topic=live:1");
    assert_eq!(told(&mut first), json!({"viewers": 1}));
}

/// All leave, and somebody comes before the topic is let go: it is told of now, and not of those who left.
#[test]
fn viewer_who_comes_after_all_left_is_told_of_them() {
    let node = Node::start();
    let mut streams = [stream(&node, "topic=live:1"), stream(&node, "topic=live:1&member=ana")];
    until_told(&mut streams[0], &json!({"viewers": 2, "members": 1}));
    drop(streams);
    becomes("nobody to be here", json!(0), || present(&node, "")["viewers"].clone());
    assert_eq!(told(&mut stream(&node, "topic=live:1")), json!({"viewers": 1}));
}
