//! Class `latest`: the newest value of each type and key, at once and never an older one behind it.

use serde_json::{Value, json};

use super::support::becomes;
use super::support::http::{Client, request};
use super::support::node::Node;
use super::support::sse::Stream;
use super::support::token::publish_inside;

fn publish(node: &Node, topic: &str, kind: &str, key: &str, value: u64) {
    publish_inside(node, topic, &json!({"type": kind, "key": key, "data": value}));
}

/// The next `count` events as (type, key, data), sorted.
fn values(stream: &mut Stream, count: usize) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut values: Vec<_> = (0..count)
        .map(|_| stream.event())
        .map(|event| (text(&event["type"]), text(&event["key"]), event["data"].as_u64().unwrap()))
        .collect();
    values.sort();
    values
}

#[test]
fn newest_value_missing_for_who_comes_later() {
    let node = Node::start();
    for value in 0..5 {
        publish(&node, "room:1", "viewers", "", value);
        publish(&node, "chat:1", "receipt", "ana", value);
        publish(&node, "chat:1", "receipt", "bo", 10 + value);
    }
    let viewers = ("viewers".to_owned(), String::new(), 4);
    let receipt = |key: &str, value| ("receipt".to_owned(), key.to_owned(), value);
    let all = vec![receipt("ana", 4), receipt("bo", 14), viewers.clone()];
    // Twice: from the store for the first of a core, and from memory.
    for _ in 0..2 {
        for mut stream in node.stream_on_each_shard("topic=room:1&topic=chat:1") {
            assert_eq!(values(&mut stream, 3), all);
        }
    }
    // The same for a topic that is added: new to the core, and known to it.
    let kept = node.stream_on_each_shard("topic=room:1&topic=chat:1");
    for mut stream in node.stream_on_each_shard("topic=room:2") {
        let target = format!("/v1/connections/{}/topics", stream.connection());
        let add = |topics: &[&str]| {
            assert_eq!(node.post(&target, json!({"add": topics}).to_string()).status, 200);
        };
        add(&["room:1", "chat:1"]);
        assert_eq!(values(&mut stream, 3), all);
        publish(&node, "room:3", "viewers", "", stream.shard() as u64);
        add(&["room:3"]);
        assert_eq!(values(&mut stream, 1), [("viewers".to_owned(), String::new(), stream.shard() as u64)]);
        // What it has already does not come again.
        add(&["room:1"]);
        node.publish("room:3", &json!({"type": "note", "data": 1}));
        assert_eq!(values(&mut stream, 1), [("note".to_owned(), String::new(), 1)]);
    }
    drop(kept);
    // Also beside a resume, and without chunks.
    let mut client = Client::connect(node.public);
    client.send(b"GET /v1/events?topic=room:1&last_event_id=x HTTP/1.0\r\n\r\n");
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    assert_eq!(values(&mut stream, 1), [viewers]);
    assert_eq!(stream.next().unwrap().name, "gap");
    becomes("gaps that viewers were told of", 1, || node.metric("fanfare_gaps_total", ""));
}

#[test]
fn older_value_after_a_newer_one() {
    const VALUES: u64 = 3_000;
    let node = Node::start();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut client = Client::connect(node.internal);
            for value in 0..VALUES {
                let body = json!({"type": "viewers", "data": value}).to_string();
                let request = request("POST", "/v1/topics/room:1/events", &[], body.as_bytes());
                client.send(request);
                assert_eq!(client.answer().status, 202);
            }
        });
        // They come and go; each sees values grow, and the last one the last.
        while !publishing.is_finished() {
            let mut stream = node.stream("topic=room:1");
            let mut last = None;
            for _ in 0..20 {
                let value = stream.event()["data"].as_u64().unwrap();
                assert!(last.is_none_or(|last| value > last), "{value} after {last:?}");
                last = Some(value);
                if value == VALUES - 1 {
                    break;
                }
            }
        }
        publishing.join().unwrap();
    });
    assert_eq!(node.stream("topic=room:1").event()["data"], VALUES - 1);
}
