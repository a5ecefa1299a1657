//! Clients that come back: what they missed comes from history, or a `gap` says that it may not. Each test is named after
//! what it prevents.

mod backlog;
mod beginnings;
mod cuts;
mod deleted;
mod followers;
mod losses;
mod newest;
mod pace;
mod paced_crowd;
mod replays;

use crate::support;
use serde_json::json;
use support::http::{Client, request};
use support::node::Node;
use support::sse::{Message, Stream};

/// A node of two shards with this configuration, and the folder that holds it.
fn configured(toml: &str) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    std::fs::write(&path, toml).expect("the folder is ours");
    let flags = ["--cores", "2", "--config", path.to_str().expect("a path of the tests")];
    (Node::in_folder(folder.path(), &flags), folder)
}

/// A comment's line of an NDJSON body, with this id and a text of so many bytes.
fn line(topic: &str, id: &str, bytes: usize) -> String {
    let data = json!({"text": "x".repeat(bytes)});
    json!({"topic": topic, "type": "comment", "id": id, "data": data}).to_string() + "\n"
}

/// Publishes lines, all of which must be taken.
#[track_caller]
fn publish_lines(client: &mut Client, lines: &str) {
    let answer = client.request("POST", "/v1/events", &[], lines.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let wanted = json!({"accepted": lines.lines().count(), "rejected_total": 0, "rejected": []});
    assert_eq!(answer.json(), wanted);
}

/// Publishes `count` comments on each of these topics, in turns; their ids are `<topic>/<number>`.
fn publish_comments(node: &Node, topics: &[&str], count: usize, bytes: usize) {
    let mut client = Client::connect(node.public);
    let lines: String = (0..count)
        .flat_map(|number| topics.iter().map(move |topic| line(topic, &format!("{topic}/{number}"), bytes)))
        .collect();
    publish_lines(&mut client, &lines);
}

/// A stream that comes back with a `Last-Event-ID`.
fn resume(node: &Node, query: &str, last_event_id: &str) -> Stream {
    let mut stream = Stream::with_request(
        node.public,
        &request("GET", &format!("/v1/events?{query}"), &[("Last-Event-ID", last_event_id)], b""),
    );
    stream.wait_connected();
    stream
}

/// The next `count` messages: ids of events, and `gap` with its topic and what it follows.
#[track_caller]
fn take(stream: &mut Stream, count: usize) -> Vec<String> {
    (0..count).map(|_| name(&stream.next().expect("the stream goes on"))).collect()
}

fn name(message: &Message) -> String {
    let json = message.json();
    match message.name.as_str() {
        "message" => json["id"].as_str().expect("an id").to_owned(),
        "gap" => format!("gap {} {}", json["topic"].as_str().expect("a topic"), json["after"]),
        other => panic!("{other}: {json}"),
    }
}

/// The time in an `id:` line of the tests' data center.
fn ms_of(id: &str) -> u64 {
    let position = id.strip_prefix("local:").unwrap_or_else(|| panic!("{id} is of another data center"));
    position.split_once('-').expect("a position").0.parse().expect("milliseconds")
}
