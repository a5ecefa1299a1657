//! Streams: how they open, what they carry, and how their topics change. Each test is named after what it prevents.

use crate::support;
use fanfare::wire::connection_id::ConnectionId;
use serde_json::{Value, json};
use support::http::{Answer, Client, request};
use support::node::Node;
use support::sse::{Chunks, Messages, Stream};
use support::{becomes, reaction};

fn change(node: &Node, connection: &str, body: &Value) -> Answer {
    node.post(&format!("/v1/connections/{connection}/topics"), body.to_string())
}

/// The topics in a list of an answer, sorted.
fn sorted(list: &Value) -> Vec<&str> {
    let mut topics: Vec<&str> = list.as_array().expect("a list").iter().map(|topic| topic.as_str().unwrap()).collect();
    topics.sort_unstable();
    topics
}

#[test]
fn stream_without_its_headers_or_connected() {
    let node = Node::start();
    let mut stream = Stream::open(node.public, "topic=live:42");
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    assert!(stream.head.header("date").is_some_and(|date| date.ends_with(" GMT")));
    assert_eq!(stream.head.header("content-length"), None);
    assert_eq!(stream.head.header("access-control-allow-origin"), None);
    let first = stream.next().unwrap();
    assert_eq!(first.name, "connected");
    assert!(first.id.as_ref().is_some_and(|id| id.starts_with("local:")), "the place where the stream begins");
    let hello = first.json();
    assert_eq!(hello["node"], node.info()["node"]);
    assert_eq!(hello["pending"], json!([]));
    assert!(hello["heartbeat_ms"].as_u64().is_some_and(|heartbeat| (1..=25_000).contains(&heartbeat)), "{hello}");
    assert!(hello["connection"].as_str().is_some_and(|id| id.len() >= 16), "{hello}");
}

#[test]
fn connection_ids_repeat() {
    let node = Node::start();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..10 {
        // Each takes the slot that the last one left.
        let stream = node.stream("topic=live:1");
        assert!(ids.insert(stream.connection().to_owned()), "{}", stream.connection());
        drop(stream);
        becomes("open streams", 0, || node.counts()[0]);
    }
}

#[test]
fn some_topic_of_a_stream_forgotten() {
    let node = Node::start();
    let topics: Vec<String> = (0..100).map(|number| format!("live:{number}")).collect();
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let mut stream = node.stream(&query.join("&"));
    becomes("subscriptions", 100, || node.counts()[1]);
    for topic in &topics {
        let id = node.publish(topic, &json!({"type": "note"}));
        let event = stream.event();
        assert_eq!((&event["topic"], &event["id"]), (&json!(topic), &json!(id)));
    }
    // The same topic twice is one topic.
    let mut twice = node.stream("topic=live:twice&topic=live%3Atwice");
    node.publish("live:twice", &json!({"type": "note", "data": 1}));
    node.publish("live:twice", &json!({"type": "note", "data": 2}));
    assert_eq!((twice.event()["data"].clone(), twice.event()["data"].clone()), (json!(1), json!(2)));
}

#[test]
fn bad_topic_taken() {
    let node = Node::start();
    let long = format!("live:{}", "x".repeat(10 * 1024));
    let too_many: Vec<String> = (0..101).map(|number| format!("topic=live:{number}")).collect();
    let max = format!("live:{}", "x".repeat(195));
    for query in [
        "topic=",
        "topic",
        "topic=live",
        "topic=live:",
        "topic=:42",
        "topic=live:4%202",
        "topic=live:%0Adata:%20forged",
        "topic=live:%00",
        "topic=live:%C3%A9",
        "topic=live:%FF",
        "topic=live:%2",
        "topic=live:42&topic=b%61d",
        &format!("topic={long}"),
        &format!("topic={max}x"),
        &too_many.join("&"),
    ] {
        // Also for a browser's EventSource: coming back would not help.
        let target = format!("/v1/events?{query}");
        let headers = [("Accept", "text/event-stream")];
        let answer = Client::connect(node.public).request("GET", &target, &headers, b"");
        assert_eq!(answer.status, 400, "{query}");
        answer.problem(400);
    }
    becomes("open streams", 0, || node.counts()[0]);
    assert_eq!(node.stream(&format!("topic={max}")).hello["pending"], json!([]));
    // No topic at all is allowed: they may come later.
    assert_eq!(node.stream("").hello["pending"], json!([]));
}

#[test]
fn head_opens_a_stream() {
    let node = Node::start();
    let mut client = Client::connect(node.public);
    let answer = client.request("HEAD", "/v1/events?topic=live:1", &[], b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    if answer.header("connection") == Some("close") {
        client.assert_closed();
    } else {
        assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 200);
    }
    becomes("open streams", 0, || node.counts()[0]);
    let answer = Client::connect(node.public).request("HEAD", "/v1/events?topic=bad", &[], b"");
    assert_eq!(answer.status, 400);
}

#[test]
fn other_origins_read_what_they_may_not() {
    let node = Node::with(&["--cores", "1", "--cors-origin", "https://app.example"]);
    let ask = |method: &str, origin: &str, headers: &[(&str, &str)]| {
        let headers = [&[("Origin", origin)], headers].concat();
        Client::connect(node.public).request(method, "/v1/time", &headers, b"")
    };
    let allowed = ask("GET", "https://app.example", &[]);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(allowed.header("vary"), Some("Origin"));
    for origin in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
        let answer = ask("GET", origin, &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        let preflight = ask("OPTIONS", origin, &[("Access-Control-Request-Method", "DELETE")]);
        assert_eq!(preflight.header("access-control-allow-methods"), None, "{origin}");
    }
    let headers = [
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "DELETE"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let preflight = Client::connect(node.public).request("OPTIONS", "/v1/videos/1/likes", &headers, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(preflight.header("access-control-allow-methods").is_some_and(|list| list.contains("DELETE")));
    assert!(
        preflight
            .header("access-control-allow-headers")
            .is_some_and(|list| list.to_lowercase().contains("content-type"))
    );
    // Errors and streams are read by pages too.
    let headers = [("Origin", "https://app.example")];
    let error = Client::connect(node.public).request("GET", "/nothing", &headers, b"");
    assert_eq!((error.status, error.header("access-control-allow-origin")), (404, Some("https://app.example")));
    let stream = Stream::with_request(node.public, &request("GET", "/v1/events", &headers, b""));
    assert_eq!(stream.head.header("access-control-allow-origin"), Some("https://app.example"));
}

#[test]
fn options_without_allow() {
    let node = Node::with(&["--cores", "1"]);
    let answer = Client::connect(node.public).request("OPTIONS", "/v1/events", &[("Origin", "https://a.example")], b"");
    assert_eq!(answer.status, 204);
    let allow = answer.header("allow").expect("OPTIONS says what is allowed");
    assert!(["GET", "HEAD", "POST", "OPTIONS"].iter().all(|method| allow.contains(method)), "{allow}");
    assert_eq!(answer.header("access-control-allow-origin"), None, "no origin is configured");
}

#[test]
fn topics_change_on_the_asking_shard_only() {
    let node = Node::start();
    for mut stream in node.stream_on_each_shard("topic=live:old") {
        let connection = stream.connection().to_owned();
        // Some of these connections are accepted by the other shard.
        for round in 0..8 {
            let (add, gone) = (format!("live:new-{round}"), format!("live:new-{}", round - 1));
            let remove = if round == 0 { "live:old" } else { gone.as_str() };
            let answer = change(&node, &connection, &json!({"add": [add], "remove": [remove]}));
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json(), json!({"topics": [add], "pending": []}));
            if round > 0 {
                node.publish(remove, &json!({"type": "note", "data": "of a topic that was left"}));
            }
            let id = node.publish(&add, &json!({"type": "note"}));
            assert_eq!(stream.event()["id"], json!(id));
        }
    }
}

#[test]
fn topic_change_half_done() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:a&topic=live:b");
    let connection = stream.connection().to_owned();
    let answer = change(&node, &connection, &json!({"add": ["live:c", "live:a"], "remove": ["live:b", "live:z"]}));
    assert_eq!(sorted(&answer.json()["topics"]), ["live:a", "live:c"]);
    // Refused as a whole: a bad topic, and a 101st.
    change(&node, &connection, &json!({"add": ["live:d", "bad"]})).problem(400);
    let many: Vec<String> = (0..99).map(|number| format!("live:{number}")).collect();
    change(&node, &connection, &json!({ "add": many })).problem(400);
    change(&node, &connection, &json!({"add": "live:d"})).problem(400);
    change(&node, &connection, &json!([["live:d"], []])).problem(400);
    node.post(&format!("/v1/connections/{connection}/topics"), "{").problem(400);
    let answer = change(&node, &connection, &json!({}));
    assert_eq!(sorted(&answer.json()["topics"]), ["live:a", "live:c"]);
    node.publish("live:d", &json!({"type": "note"}));
    let id = node.publish("live:c", &json!({"type": "note"}));
    assert_eq!(stream.event()["id"], json!(id));
    let answer = Client::connect(node.public).request("GET", &format!("/v1/connections/{connection}/topics"), &[], b"");
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
}

#[test]
fn foreign_connection_changed() {
    let (node, other) = (Node::start(), Node::start());
    let stream = node.stream("topic=live:1");
    let elsewhere = other.stream("topic=live:1");
    let add = json!({"add": ["live:2"]});
    let ours = ConnectionId::decode(stream.connection()).unwrap();
    let forged = ConnectionId { secret: ours.secret ^ 1, ..ours }.encode();
    let past = ConnectionId { generation: ours.generation.wrapping_sub(1), ..ours }.encode();
    let shard = ConnectionId { shard: 7, ..ours }.encode();
    let slot = ConnectionId { slot: u32::MAX, ..ours }.encode();
    for id in [elsewhere.connection(), &forged, &past, &shard, &slot, "x", "%00", "", &"A".repeat(4096)] {
        let answer = change(&node, id, &add);
        assert_eq!(answer.status, 412, "{id}: {}", answer.text());
        answer.problem(412);
    }
    let gone = stream.connection().to_owned();
    assert_eq!(change(&node, &gone, &add).status, 200);
    // The gauge is told once a tick: it must have shown the stream before it can show that it is gone.
    becomes("open streams", 1, || node.counts()[0]);
    drop(stream);
    becomes("open streams", 0, || node.counts()[0]);
    change(&node, &gone, &add).problem(412);
    assert_eq!(change(&other, elsewhere.connection(), &add).status, 200);
}

#[test]
fn old_client_gets_chunks() {
    let node = Node::start();
    let request = b"GET /v1/events?topic=live:1&topic=live:2 HTTP/1.0\r\n\r\n";
    let mut stream = Stream::with_request(node.public, request);
    assert_eq!(stream.head.header("transfer-encoding"), None);
    stream.wait_connected();
    for topic in ["live:1", "live:2"] {
        let id = node.publish(topic, &json!({"type": "note", "data": {"text": "plain"}}));
        assert_eq!(stream.event()["id"], json!(id));
    }
}

#[test]
fn stream_behind_a_request_of_the_same_connection_lost() {
    let node = Node::start();
    // A stream may follow other requests on a connection, also within one segment.
    let mut client = Client::connect(node.public);
    assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 200);
    let like = request("POST", "/v1/videos/1/likes", &[], reaction("ana", "like").as_bytes());
    let events = request("GET", "/v1/events?topic=live:1", &[], b"");
    client.send([like, events].concat());
    assert_eq!(client.answer().status, 201);
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    let id = node.publish("live:1", &json!({"type": "note"}));
    assert_eq!(stream.event()["id"], json!(id));
}

#[test]
fn client_that_closes_its_side_cut() {
    // As `nc -N` and some Java clients do: with the request, and later.
    let node = Node::start();
    let mut client = Client::connect(node.public);
    client.send(request("GET", "/v1/events?topic=live:1", &[], b""));
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut early = Stream::from_client(client);
    let mut late = node.stream("topic=live:1");
    late.socket.shutdown(std::net::Shutdown::Write).unwrap();
    // The node has seen that it did, since it looks whether the client is still there.
    becomes("a comment came", true, || late.come().is_empty() && late.messages.comments > 0);
    early.wait_connected();
    let id = node.publish("live:1", &json!({"type": "note"}));
    for stream in [&mut early, &mut late] {
        assert_eq!(stream.event()["id"], json!(id));
    }
    drop((early, late));
    becomes("open streams", 0, || node.counts()[0]);
}

#[test]
fn time_far_off_or_cached() {
    let node = Node::with(&["--cores", "1"]);
    let unix_ms = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let before = unix_ms();
    let answer = node.get("/v1/time");
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let now = answer.json()["now"].as_u64().unwrap();
    // A shard reads the clock once a turn, so it may be a moment behind, but nothing like a second.
    assert!((before - 1000..=unix_ms() + 1000).contains(&now), "{now} is not near {before}");
    node.post("/v1/time", "").problem(405);
}

#[test]
fn own_reader_accepts_torn_streams() {
    // The tests' own strictness: what they would not notice, they could not promise.
    let torn = |bytes: &'static [u8]| {
        std::panic::catch_unwind(|| {
            let mut body = Vec::new();
            Chunks::default().feed(bytes, &mut body);
            Messages::default().feed(&body, |_| {});
        })
        .is_err()
    };
    let event = b"3\r\n:a\n\r\n3b\r\ndata: {\"id\":\"a\",\"topic\":\"a:b\",\"type\":\"x\",\"at\":1,\"data\":1}\n\n\r\n0\r\n\r\n";
    assert!(!torn(event));
    assert!(torn(b"5\r\n:a\n\n\n\r\n0\r\n\r\n"), "a block of a comment alone");
    assert!(torn(b"5\r\n:a\n\n\nX\r\n"));
    assert!(torn(b"zz\r\n"));
    assert!(torn(b"7\r\ngarbage\r\n1\r\n\n\r\n"));
    assert!(torn(b"3\r\na\r\n\r\n"));
}
