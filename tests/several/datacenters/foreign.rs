//! Events that a peer may not send, or not this way.

use serde_json::{Value, json};

use fanfare::kv::bucket;
use fanfare::wire::batch::Writer;
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::event::Class;
use fanfare::wire::frame::{Event, Frame};
use fanfare::wire::version::Version;

use crate::support::http::{Answer, Client};
use crate::support::node::Node;
use crate::support::ports::free_port;

const TOPIC: &str = "chat:7";
const HEADERS: [(&str, &str); 2] = [("Fanfare-From", "b"), ("Fanfare-To", "a")];

/// Data center a, which has a peer b.
fn node() -> Node {
    let peer = format!("b=http://127.0.0.1:{}", free_port());
    Node::with(&["--cores", "2", "--dc", "a", "--peer", &peer])
}

/// What the peer sends.
fn send(node: &Node, what: &str, body: &[u8]) -> Answer {
    Client::connect(node.internal).request("POST", &format!("/v1/internal/peer/{what}"), &HEADERS, body)
}

fn event<'a>(kind: &'a str, class: Class, data: &'a str) -> Event<'a> {
    Event {
        id: kind,
        topic: TOPIC,
        kind,
        key: None,
        at: 7,
        data: data.as_bytes(),
        class,
        ttl_ms: 5_000,
        place: None,
        version: Version { number: u64::from(class == Class::Latest), dc: "b" },
        hops: None,
    }
}

fn frame(kind: &str, class: Class, data: &str) -> Frame {
    Frame::encode(&event(kind, class, data))
}

fn dropped(node: &Node) -> u64 {
    node.metric("fanfare_dropped_total", "reason=\"foreign\"")
}

#[track_caller]
fn says(node: &Node, text: &str) {
    node.until_logged(&["\"WARN\"", text]);
}

#[test]
fn history_takes_events_of_a_peer_whose_type_is_not_of_class_every() {
    let node = node();
    let mut stream = node.stream(&format!("topic={TOPIC}"));
    let kinds = ["typing", "like", "presence", "viewers", "wave", "message"];
    let event = |(at, kind): (usize, &&str)| {
        let event =
            json!({"id": kind, "topic": TOPIC, "type": kind, "at": 7, "data": {"member": "ana", "text": "hello"}});
        json!({"number": format!("{}-1", at + 1), "event": event.to_string()})
    };
    let events: Vec<Value> = kinds.iter().enumerate().map(event).collect();
    let answer =
        send(&node, "history", json!({"bucket": bucket(TOPIC), "epoch": 1, "events": events}).to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["events"], 5, "{answer:?}");
    let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(
        detail.contains("typing") && detail.contains("ephemeral") && detail.contains("[events.typing]"),
        "{detail}"
    );
    assert_eq!(stream.event()["type"], "message");
    assert_eq!(dropped(&node), 5);
    says(&node, "[events.typing]");
}

#[test]
fn frame_of_a_peer_is_of_a_class_that_its_type_has_not_here() {
    let node = node();
    let mut stream = node.stream(&format!("topic={TOPIC}"));
    let mut batch = Writer::default();
    for (kind, class) in [
        ("message", Class::Ephemeral),
        ("message", Class::Latest),
        ("like", Class::Latest),
        ("presence", Class::Sum),
        ("viewers", Class::Latest),
        ("message", Class::Every),
        ("wave", Class::Sum),
    ] {
        batch.push(&frame(kind, class, r#"{"viewers":9}"#));
    }
    // What follows the data is read by whoever shows the event, so it counts here, too.
    batch.push(&frame("typing", Class::Ephemeral, r#"{},"type":"message""#));
    batch.push(&frame("like", Class::Sum, r#"{"member":"ana"},"note":1"#));
    let answer = send(&node, "frames", &batch.finish(NodeId(7), 0, 1, 1));
    assert_eq!(answer.status, 204, "{answer:?}");
    let shown = stream.event();
    assert_eq!((&shown["type"], &shown["note"]), (&json!("like"), &Value::Null), "{shown}");
    assert_eq!(dropped(&node), 8);
    says(&node, "[events.message]");
}

#[test]
fn numbers_of_a_peer_are_such_that_none_comes_after_them() {
    let node = node();
    let mut stream = node.stream(&format!("topic={TOPIC}&topic=presence:ana"));
    let mut batch = Writer::default();
    for number in [u64::MAX, 1 << 53] {
        let version = Version { number, dc: "b" };
        batch.push(&Frame::encode(&Event { version, ..event("receipt", Class::Latest, "1") }));
    }
    let (online, version) = (r#"{"member":"ana","online":true,"since":5}"#, Version { number: u64::MAX, dc: "b" });
    let turn = Event { key: Some("ana"), topic: "presence:ana", ..event("presence", Class::Latest, online) };
    batch.push(&Frame::encode(&Event { version, ..turn }));
    // Somebody's presence is told on no other topic, and nobody's on none.
    batch.push(&Frame::encode(&Event { topic: "presence:bob", ..turn }));
    batch.push(&Frame::encode(&Event { topic: TOPIC, ..turn }));
    batch.push(&Frame::encode(&Event { key: Some("a\nb"), topic: "presence:a%0Ab", ..turn }));
    assert_eq!(send(&node, "frames", &batch.finish(NodeId(7), 0, 1, 1)).status, 204);
    assert_eq!(dropped(&node), 6);
    for now in [u64::MAX, 1 << 63] {
        send(&node, "hello", json!({"now": now, "viewers": []}).to_string().as_bytes()).problem(400);
    }
    // What comes now is newer.
    let mut batch = Writer::default();
    batch.push(&frame("receipt", Class::Latest, "2"));
    batch.push(&Frame::encode(&turn));
    assert_eq!(send(&node, "frames", &batch.finish(NodeId(7), 0, 7, 7)).status, 204);
    let shown = [stream.event(), stream.event()].map(|event| event["type"].clone());
    assert!(shown.contains(&json!("receipt")) && shown.contains(&json!("presence")), "{shown:?}");
    assert_eq!(dropped(&node), 6);
}

/// Viewers drop what comes again under an id that they know, and what was deleted is not shown.
#[test]
fn post_of_this_data_center_kept_from_its_viewers_by_a_peer() {
    let node = node();
    let mut stream = node.stream(&format!("topic={TOPIC}"));
    let post = || {
        let answer = node.post("/v1/conversations/7/messages", json!({"member": "ana", "text": "hello"}).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let first = post();
    assert_eq!(stream.event()["id"], first.as_str());
    let (number, database) = first.split_once('-').expect("a number and a database");
    let next = format!("{}-{database}", number.parse::<u64>().expect("a number") + 1);
    let given = node.publish(TOPIC, &json!({"type": "note"}));
    assert_eq!(stream.event()["id"], given.as_str());
    let deleted = |id: &str, of: &str| (id.to_owned(), "deleted", json!({"id": of}));
    let message = |id: &str| (id.to_owned(), "message", json!({"member": "eve", "text": "first"}));
    let foreign = "7-fedcba98";
    let events = [
        message(&next),
        message(&given),
        deleted(&format!("{first}.deleted"), "1"),
        deleted("mine", &first),
        message(foreign),
        deleted(&format!("{foreign}.deleted"), foreign),
    ];
    let events: Vec<Value> = events
        .into_iter()
        .enumerate()
        .map(|(at, (id, kind, data))| {
            let event = json!({"id": id, "topic": TOPIC, "type": kind, "at": 7, "data": data});
            json!({"number": format!("{}-1", at + 1), "event": event.to_string()})
        })
        .collect();
    let answer =
        send(&node, "history", json!({"bucket": bucket(TOPIC), "epoch": 1, "events": events}).to_string().as_bytes());
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!(4)), "{answer:?}");
    let shown = [stream.event()["id"].clone(), stream.event()["id"].clone()];
    assert_eq!(shown, [json!(foreign), json!(format!("{foreign}.deleted"))]);
    assert_eq!(post(), next);
    assert_eq!(stream.event()["id"], next.as_str());
    assert_eq!(dropped(&node), 4);
    says(&node, "an id of this data center's own");
}
