//! A stream has an id from its first event on: a client that is cut before its first comment has something to resume by.

use serde_json::json;

use super::support::http::{Client, request};
use super::support::node::Node;
use super::support::ports::free_port;
use super::support::redis::Redis;
use super::support::sse::Stream;
use super::{configured, publish_comments, resume, take};

fn comment(node: &Node, topic: &str, id: &str) {
    node.publish(topic, &json!({"type": "comment", "id": id}));
}

/// The id of the stream's `connected`.
fn begins(stream: &Stream) -> String {
    stream.begins.clone().expect("connected has an id")
}

#[test]
fn first_comment_lost_that_a_client_missed() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    for round in 0..3 {
        let id = begins(&stream);
        drop(stream);
        let missed = format!("missed {round}");
        comment(&node, "live:1", &missed);
        stream = resume(&node, "topic=live:1", &id);
        let wanted: Vec<String> = (0..=round).map(|round| format!("missed {round}")).collect();
        assert_eq!(take(&mut stream, round + 1), wanted, "after {id}");
        assert_eq!(begins(&stream), id, "until it was given what it missed, it is where it was");
    }
}

#[test]
fn first_comment_lost_on_one_of_several_topics() {
    // Of three of them history knows something, all of different age, and one of those forgot most of it.
    let (node, _folder) = configured("[events.comment]\nhistory = 3\n");
    publish_comments(&node, &["live:1"], 1, 10);
    publish_comments(&node, &["live:2", "live:3"], 10, 10);
    let topics = ["live:1", "live:2", "live:3", "live:4", "chat:5"];
    let query = topics.map(|topic| format!("topic={topic}")).join("&");
    let stream = node.stream(&query);
    let id = begins(&stream);
    drop(stream);
    topics.iter().for_each(|topic| comment(&node, topic, &format!("{topic} missed")));
    let mut stream = resume(&node, &query, &id);
    let mut got = Vec::new();
    while topics.iter().any(|topic| !got.contains(&format!("{topic} missed"))) {
        got.extend(take(&mut stream, 1));
    }
    assert!(!got.iter().any(|name| name.starts_with("gap ")), "nothing is missing: {got:?}");
}

#[test]
fn first_comment_lost_on_a_topic_that_was_added_later() {
    let node = Node::start();
    // Before it has any topic it begins, too.
    let stream = node.stream("");
    let id = begins(&stream);
    let target = format!("/v1/connections/{}/topics", stream.connection());
    let answer = node.post(&target, json!({"add": ["live:1", "chat:2"]}).to_string());
    assert_eq!(answer.json()["pending"], json!([]), "{answer:?}");
    drop(stream);
    comment(&node, "live:1", "one");
    comment(&node, "chat:2", "two");
    assert_eq!(take(&mut resume(&node, "topic=live:1&topic=chat:2", &id), 2), ["one", "two"]);
}

#[test]
fn first_comment_lost_across_a_kill() {
    let (redis, address) = (Redis::start(), format!("127.0.0.1:{}", free_port()));
    let (url, folder) = (redis.url(), tempfile::tempdir().unwrap());
    let start = || Node::in_folder(folder.path(), &["--cores", "2", "--kv", &url, "--listen", &address]);
    let node = start();
    let ids = ["topic=live:1", "topic=live:1&topic=live:2"].map(|query| (query, begins(&node.stream(query))));
    node.kill();
    let node = start();
    comment(&node, "live:1", "missed");
    for (query, id) in ids {
        assert_eq!(take(&mut resume(&node, query, &id), 1), ["missed"], "{query} after {id}");
    }
}

#[test]
fn cut_before_the_replay_loses_what_was_to_be_replayed() {
    let redis = Redis::start();
    let node = Node::with(&["--kv", &redis.url(), "--cores", "1"]);
    // More than memory keeps, so that whoever comes back with an old id waits for the store, which hangs.
    let kept = node.stream("topic=live:1");
    let id = begins(&kept);
    publish_comments(&node, &["live:1"], 300, 10);
    redis.pause();
    let stream = resume(&node, "topic=live:1", &id);
    let next = begins(&stream);
    drop(stream);
    redis.resume();
    let wanted: Vec<String> = (0..300).map(|number| format!("live:1/{number}")).collect();
    assert_eq!(take(&mut resume(&node, "topic=live:1", &next), 300), wanted, "after {next}, {id} before");
}

#[test]
fn id_that_is_none_given_back_as_a_line_of_its_own() {
    let node = Node::start();
    publish_comments(&node, &["live:1"], 2, 10);
    for query in
        ["topic=live:1&last_event_id=0", "topic=live:1&last_event_id=%0Adata:%20x", "topic=live:1&last_event_id=%C3%A9"]
    {
        let mut stream = node.stream(query);
        assert_eq!(begins(&stream), "0", "{query}");
        assert_eq!(take(&mut stream, 3), ["gap live:1 null", "live:1/0", "live:1/1"], "{query}");
    }
    // What was said is given back, whatever it was, but nothing that would be another line.
    let mut client = Client::connect(node.public);
    client.send(request("GET", "/v1/events?topic=live:1", &[("Last-Event-ID", "what")], b""));
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    assert_eq!(begins(&stream), "what");
}
