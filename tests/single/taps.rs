//! Taps: hearts given again and again. Each test is named after what it prevents.

use crate::support;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::node::Node;
use support::sse::Stream;

fn tap(node: &Node, body: &Value) -> u16 {
    node.post("/v1/videos/9/taps", body.to_string()).status
}

fn watch(node: &Node) -> Stream {
    let mut stream = node.stream("topic=live:9");
    stream.messages.totals = true;
    stream
}

/// Reads on until the totals are told that have these taps.
#[track_caller]
fn told(stream: &mut Stream, wanted: &Value) {
    loop {
        let event = stream.event();
        if event["type"] == "likes" && event["data"]["taps"] == *wanted {
            return;
        }
    }
}

#[test]
fn taps_unseen_or_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Node::in_folder(folder.path(), &["--cores", "2"]);
    let node = start();
    for mut stream in node.stream_on_each_shard("topic=live:9") {
        stream.messages.totals = true;
        let answer = node.post("/v1/videos/9/taps", r#"{"member":"ana","reaction":"love","count":7}"#);
        assert_eq!((answer.status, answer.json()), (202, json!({})));
        loop {
            let event = stream.event();
            if event["type"] == "tap" {
                assert_eq!((&event["key"], &event["count"]), (&json!("love"), &json!(7)), "{event}");
                assert_eq!(event["data"], json!({"member": "ana", "reaction": "love"}));
                break;
            }
        }
    }
    told(&mut watch(&node), &json!({"love": 14}));
    assert_eq!(tap(&node, &json!({"member": "bo"})), 202);
    told(&mut watch(&node), &json!({"like": 1, "love": 14}));
    // The database has them, also after a crash.
    node.kill();
    let mut node = start();
    told(&mut watch(&node), &json!({"like": 1, "love": 14}));
    // What comes right before the end is not lost where it ends in peace.
    for _ in 0..5 {
        assert_eq!(tap(&node, &json!({"member": "ana", "reaction": "funny", "count": 2})), 202);
    }
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
    told(&mut watch(&start()), &json!({"funny": 10, "like": 1, "love": 14}));
}

#[test]
fn taps_that_cannot_be_meant() {
    let node = Node::start();
    for body in [
        json!({"reaction": "like"}),
        json!({"member": "ana", "reaction": "hate"}),
        json!({"member": "ana", "count": 0}),
        json!({"member": "ana", "count": 101}),
        json!({"member": "ana", "count": -1}),
        json!({"member": "ana", "count": "7"}),
        json!({"member": "a\nb"}),
    ] {
        assert_eq!(tap(&node, &body), 400, "{body}");
    }
    assert_eq!(node.metric("fanfare_taps_total", ""), 0);
}

#[test]
fn member_that_taps_faster_than_fingers_can() {
    let node = Node::start();
    let all = json!({"member": "bot", "count": 100});
    assert_eq!(tap(&node, &all), 202);
    let refused = node.post("/v1/videos/9/taps", all.to_string());
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{refused:?}");
    assert_eq!(tap(&node, &json!({"member": "ana"})), 202, "others are not refused for it");
}
