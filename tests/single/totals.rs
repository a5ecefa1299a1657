//! Totals of likes, as viewers are told them. Each test is named after what it prevents.

use crate::support;
use serde_json::{Value, json};
use support::http::Client;
use support::node::Node;
use support::reaction;
use support::sse::Stream;
use support::viewers::Viewers;

fn like(node: &Node, member: &str, name: &str) {
    let answer = node.post("/v1/videos/9/likes", reaction(member, name));
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn unlike(node: &Node, member: &str, name: &str) {
    let body = reaction(member, name);
    let answer = Client::connect(node.public).request("DELETE", "/v1/videos/9/likes", &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Reads on until totals are told that are these.
#[track_caller]
fn told(stream: &mut Stream, wanted: &Value) {
    loop {
        let event = stream.event();
        if event["type"] == "likes" {
            assert!(event.get("key").is_none() && event.get("count").is_none(), "{event}");
            if event["data"] == *wanted {
                return;
            }
        }
    }
}

#[test]
fn like_taken_back_shown_on() {
    let node = Node::start();
    let mut streams = node.stream_on_each_shard("topic=live:9");
    streams.iter_mut().for_each(|stream| stream.messages.totals = true);
    like(&node, "ana", "like");
    like(&node, "bo", "love");
    for stream in &mut streams {
        told(stream, &json!({"likes": 2, "reactions": {"like": 1, "love": 1}, "taps": {}}));
    }
    unlike(&node, "ana", "like");
    for stream in &mut streams {
        told(stream, &json!({"likes": 1, "reactions": {"love": 1}, "taps": {}}));
    }
    unlike(&node, "bo", "love");
    for stream in &mut streams {
        told(stream, &json!({"likes": 0, "reactions": {}, "taps": {}}));
    }
}

/// Also of likes that were there before all that the node remembers.
#[test]
fn newcomer_does_not_know_the_total() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let told = |node: &Node, wanted: u64| {
        let viewers = Viewers::of(vec![node.public], &["live:9".to_owned()], 2);
        viewers.until("to be told the total", |viewer| viewer.likes.get("live:9") == Some(&wanted));
        viewers
    };
    let first = told(&node, 0);
    like(&node, "ana", "like");
    first.until("to be told the total", |viewer| viewer.likes.get("live:9") == Some(&1));
    let _second = told(&node, 1);
    node.kill();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let _third = told(&node, 1);
}

/// A name that no request of the backend's could have is no video's.
#[test]
fn topic_that_is_no_videos_ends_the_shard() {
    let node = Node::start();
    for topic in ["live:%25FF", "live:a%2500b", "live:x:y"] {
        node.stream(&format!("topic={topic}"));
    }
    let mut stream = node.stream("topic=live:9");
    stream.messages.totals = true;
    like(&node, "ana", "like");
    told(&mut stream, &json!({"likes": 1, "reactions": {"like": 1}, "taps": {}}));
}
