//! Windows of class `sum`: what comes within one goes as one event. Each test is named after what it prevents.

use crate::support;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::http::Client;
use support::node::Node;
use support::reaction;
use support::sse::Stream;

/// A node whose likes have windows of this length, and with how many shards.
fn node(window: &str, shards: &str) -> (tempfile::TempDir, Node) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    std::fs::write(&path, format!("[events.like]\nwindow = \"{window}\"\n")).expect("the folder is ours");
    let node = Node::with(&["--cores", shards, "--config", path.to_str().expect("it is UTF-8")]);
    (folder, node)
}

fn like(client: &mut Client, member: &str, name: &str) {
    let answer = client.request("POST", "/v1/videos/1/likes", &[], reaction(member, name).as_bytes());
    assert_eq!(answer.status, 201, "{:?}", answer.json());
}

/// Takes events until so many likes are there. Gives how many events that took, and the sums.
fn likes(stream: &mut Stream, wanted: u64) -> (u64, BTreeMap<String, u64>) {
    let (mut events, mut sums) = (0, BTreeMap::new());
    while sums.values().sum::<u64>() < wanted {
        let event = stream.event();
        assert_eq!(event["type"], "like", "{event}");
        events += 1;
        support::add_counts(&mut sums, &event);
    }
    (events, sums)
}

#[test]
fn each_like_of_a_busy_video_is_an_event_for_each_viewer() {
    let (_folder, node) = node("1s", "2");
    let mut streams = node.stream_on_each_shard("topic=live:1");
    let mut client = Client::connect(node.public);
    like(&mut client, "ana", "like");
    for stream in &mut streams {
        let first = stream.event();
        assert_eq!((&first["count"], &first["counts"], &first["members"]), (&json!(1), &Value::Null, &Value::Null));
    }
    for number in 0..60 {
        like(&mut client, &format!("m{number}"), ["like", "love", "funny"][number % 3]);
    }
    let wanted = ["funny", "like", "love"].map(|name| (name.to_owned(), 20));
    let all: Vec<_> = streams.iter_mut().map(|stream| likes(stream, 60)).collect();
    for (events, sums) in &all {
        assert_eq!(*sums, BTreeMap::from(wanted.clone()));
        assert!(*events < 30, "{events} events for 60 likes");
    }
    assert!(all.iter().all(|one| *one == all[0]), "all viewers get the same: {all:?}");
}

#[test]
fn likes_of_an_unfinished_window_lost_in_a_drain() {
    let (_folder, node) = node("10s", "2");
    let mut streams = node.stream_on_each_shard("topic=live:1");
    let mut client = Client::connect(node.public);
    like(&mut client, "ana", "like");
    streams.iter_mut().for_each(|stream| assert_eq!(stream.event()["count"], 1));
    for (member, name) in [("bob", "like"), ("eve", "love"), ("joe", "love")] {
        like(&mut client, member, name);
    }
    node.signal(rustix::process::Signal::TERM);
    for stream in &mut streams {
        let sum = stream.event();
        assert_eq!((&sum["count"], &sum["counts"]), (&json!(3), &json!({"like": 1, "love": 2})), "{sum}");
        assert_eq!(sum["members"], json!(["joe", "bob", "eve"]), "the newest first");
        assert_eq!(sum["data"], json!({"member": "joe", "reaction": "love", "likes": 2}));
    }
}

#[test]
fn a_window_of_none_merges_likes() {
    let (_folder, node) = node("0s", "2");
    let mut stream = node.stream("topic=live:1");
    let mut client = Client::connect(node.public);
    for number in 0..20 {
        like(&mut client, &format!("m{number}"), "like");
    }
    for _ in 0..20 {
        assert_eq!(stream.event()["count"], 1);
    }
}
