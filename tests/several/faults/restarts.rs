//! One process with every role dies, and its store lives.

use rustix::process::Signal;
use serde_json::json;

use super::beneath::Store;
use super::load::{Load, What};
use super::setup::wait_ready;
use super::viewers::Viewers;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::sse::Message;

#[test]
fn comments_lost_across_a_kill_of_the_process() {
    process_killed(&Store::redis());
}

/// Everything that a node has is in its process and its database.
#[test]
fn comments_lost_or_said_to_be_across_restarts_of_a_node_that_is_alone() {
    process_ends("memory", |node, round| if round == 2 { drained(node) } else { node.kill() });
}

/// A newcomer, who had no comment yet, is away during a restart.
#[test]
fn newcomer_told_of_a_gap_after_a_restart_of_a_node_that_is_alone() {
    for end in [Node::kill, drained] {
        let (folder, address) = (tempfile::tempdir().unwrap(), format!("127.0.0.1:{}", free_port()));
        let start = || Node::in_folder(folder.path(), &["--cores", "2", "--listen", &address]);
        let node = start();
        node.publish("live:1", &json!({"type": "comment", "id": "before"}));
        let queries = ["topic=live:1", "topic=live:1&topic=chat:2", "topic=chat:2"];
        let begins = queries.map(|query| node.stream(query).begins.expect("connected has an id"));
        node.publish("live:1", &json!({"type": "comment", "id": "missed"}));
        end(node);
        let node = start();
        node.publish("chat:2", &json!({"type": "message", "id": "after"}));
        for ((query, id), wanted) in
            queries.into_iter().zip(begins).zip([&["missed"][..], &["missed", "after"], &["after"]])
        {
            let mut stream = node.stream(&format!("{query}&last_event_id={id}"));
            let mut got = Vec::new();
            while got.last().map(String::as_str) != wanted.last().copied() {
                let message = stream.next().expect("the stream goes on");
                assert_eq!(message.name, "message", "{query} after {id}: {message:?}");
                got.push(message.json()["id"].as_str().expect("an id").to_owned());
            }
            // The overlap may repeat what was there before.
            got.retain(|id| id != "before");
            assert_eq!(got, wanted, "{query} after {id}");
        }
    }
}

/// What was taken back stays so, and history is forgotten where it went on elsewhere.
#[test]
fn history_kept_that_was_taken_back_or_went_on_elsewhere() {
    let (folder, redis) = (tempfile::tempdir().unwrap(), Redis::start());
    let start = |flags: &[&str]| Node::in_folder(folder.path(), &[&["--cores", "2"], flags].concat());
    let events = |node: &Node| -> Vec<String> {
        let mut stream = node.stream("topic=live:1&last_event_id=local:1-0");
        node.publish("live:1", &json!({"type": "comment", "id": "last"}));
        let named = |message: Message| match message.name.as_str() {
            "gap" => "gap".to_owned(),
            _ => format!("{} {}", message.json()["type"], message.json()["data"]["text"]),
        };
        let mut all = Vec::new();
        while all.last().is_none_or(|last| last != "\"comment\" null") {
            all.push(named(stream.next().expect("the stream goes on")));
        }
        all
    };
    let node = start(&[]);
    let post = |node: &Node, text: &str| {
        let answer = node.post("/v1/videos/1/comments", json!({"member": "ana", "text": text}).to_string());
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let mut stream = node.stream("topic=live:1");
    let secret = post(&node, "a secret");
    post(&node, "no secret");
    let mut delete = Client::connect(node.public);
    let target = format!("/v1/videos/1/comments/{secret}");
    assert_eq!(delete.request("DELETE", &target, &[], br#"{"member":"ana"}"#).status, 200);
    while stream.event()["type"] != "deleted" {}
    node.kill();
    let node = start(&[]);
    assert_eq!(events(&node), ["gap", "\"comment\" \"no secret\"", "\"deleted\" null", "\"comment\" null"]);
    node.kill();
    drained(start(&["--kv", &redis.url(), "--drain", "1s"]));
    assert_eq!(events(&start(&[])), ["gap", "\"comment\" null"], "what was there is behind a hole");
}

fn drained(mut node: Node) {
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
}

fn process_killed(store: &Store) {
    process_ends(&store.url(), |node, _| node.kill());
}

fn process_ends(kv: &str, end: impl Fn(Node, usize)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = format!("127.0.0.1:{}", free_port());
    let start = || {
        let node = Node::in_folder(folder.path(), &["--cores", "2", "--kv", kv, "--listen", &address]);
        wait_ready(&node);
        node
    };
    let mut node = start();
    let topics: Vec<String> = ["live:1", "live:2", "chat:3"].map(str::to_owned).into();
    let viewers = Viewers::of(vec![node.public], &topics, 120);
    let messages = Load::start(What::Events("message"), vec![node.public], &topics);
    let comments = Load::start(What::Comments, vec![node.public], &["1".to_owned(), "2".to_owned()]);
    for round in 1..=3 {
        messages.more(20);
        comments.more(20);
        if round == 1 {
            // Whoever comes back says what it saw last.
            viewers.have(&messages.taken());
        }
        end(node, round);
        node = start();
    }
    messages.more(20);
    comments.more(20);
    let (messages, comments) = (messages.stop(), comments.stop());
    viewers.have(&messages);
    viewers.have(&comments);
    viewers.in_order(&messages, |id| id.split('/').nth(1).expect("an id of the test").to_owned());
    viewers.without_gaps();
    assert!(viewers.lock().iter().all(|viewer| viewer.connected > 1));
}
