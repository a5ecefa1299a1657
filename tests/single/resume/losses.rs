//! What a store lost, as those who are there and those who come back are told of it.

use std::collections::BTreeMap;

use serde_json::json;

use super::support::node::Node;
use super::support::redis::Redis;
use super::support::sse::Stream;
use super::{name, publish_comments, resume};

/// How often a stream is told of a gap in each topic until it has an event `new` of each.
fn gaps_before_new(stream: &mut Stream, topics: &[&str]) -> BTreeMap<String, usize> {
    let (mut gaps, mut new) = (BTreeMap::new(), 0);
    while new < topics.len() {
        let message = stream.next().expect("the stream goes on");
        if message.name == "gap" {
            *gaps.entry(message.json()["topic"].as_str().expect("a topic").to_owned()).or_default() += 1;
        } else {
            assert!(name(&message).ends_with(" new"), "{message:?}");
            new += 1;
        }
    }
    gaps
}

#[test]
fn one_loss_told_several_times() {
    let redis = Redis::start();
    let node = Node::with(&["--kv", &redis.url(), "--cores", "2"]);
    let topics = ["live:1", "live:2", "chat:3"];
    let query = topics.map(|topic| format!("topic={topic}")).join("&");
    let mut watching: Vec<Stream> = (0..4).map(|_| node.stream(&query)).collect();
    publish_comments(&node, &topics, 2, 10);
    let ids: Vec<_> = watching
        .iter_mut()
        .map(|stream| (0..6).map(|_| stream.next().and_then(|message| message.id)).last().flatten())
        .collect();
    let id = ids[0].as_deref().expect("comments have ids");
    assert_eq!(redis.command(&["FLUSHALL"]), "+OK");
    let back = (0..4).map(|_| resume(&node, &query, id));
    let mut all: Vec<Stream> = back.chain(watching).collect();
    topics
        .iter()
        .for_each(|topic| drop(node.publish(topic, &json!({"type": "comment", "id": format!("{topic} new")}))));
    let once: BTreeMap<String, usize> = topics.map(|topic| (topic.to_owned(), 1)).into();
    for (number, stream) in all.iter_mut().enumerate() {
        assert_eq!(gaps_before_new(stream, &topics), once, "stream {number}");
    }
}
