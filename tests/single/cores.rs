//! Processors: as many shards as asked for, where the process may run. Each test is named after what it prevents.

use crate::support;
use std::process::Command;

use serde_json::json;
use support::node::Node;
use support::shards::{allowed, works};

/// The first processor that this test may use.
fn first_processor() -> usize {
    fanfare::runtime::cores::available()[0]
}

#[test]
fn taskset_to_one_processor_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let processor = first_processor().to_string();
    let mut command = Command::new("taskset");
    command.args(["-c", &processor, env!("CARGO_BIN_EXE_fanfare")]);
    let node = Node::launch(command, folder.path(), &[]);
    works(&node, 1);
    for (thread, list) in allowed(node.pid()) {
        assert_eq!(list, processor, "{thread}");
    }
}

#[test]
fn two_shards_on_one_processor() {
    let node = Node::with(&["--cores", "2"]);
    works(&node, 2);
    let mut pinned: Vec<String> =
        allowed(node.pid()).into_iter().map(|(_, list)| list).filter(|list| list.parse::<usize>().is_ok()).collect();
    pinned.sort();
    pinned.dedup();
    assert_eq!(pinned.len(), 2, "each shard is pinned to a processor of its own: {:?}", allowed(node.pid()));
}

#[test]
fn default_leaves_processors_unused() {
    let node = Node::with(&[]);
    works(&node, fanfare::runtime::cores::available().len());
}

#[test]
fn more_shards_than_taskset_allows() {
    let output = Command::new("taskset")
        .args(["-c", &first_processor().to_string(), env!("CARGO_BIN_EXE_fanfare")])
        .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--cores", "2"])
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("--cores"), "{message}");
}

#[test]
fn topics_aimed_at_one_shard() {
    use fanfare::kv::bucket;
    // All that anybody outside can know of a topic: its bucket, and all of these are in one.
    let aimed = (0..).map(|number| format!("aim:{number}")).filter(|topic| bucket(topic) == 7).take(100);
    let aimed: Vec<String> = aimed.collect();
    let query = aimed.iter().map(|topic| format!("topic={topic}")).collect::<Vec<_>>().join("&");
    let homes = |node: &Node| {
        let mut streams = node.stream_on_each_shard(&query);
        for topic in &aimed {
            node.publish(topic, &json!({"type": "comment", "data": {"text": topic}}));
        }
        for stream in &mut streams {
            let mut shown: Vec<String> =
                aimed.iter().map(|_| stream.event()["topic"].as_str().unwrap().to_owned()).collect();
            shown.sort();
            let mut all = aimed.clone();
            all.sort();
            assert_eq!(shown, all);
        }
        let home = |topic: &String| {
            let answer =
                support::http::Client::connect(node.internal).request("GET", &format!("/v1/topics/{topic}"), &[], b"");
            let seen = answer.json();
            assert_eq!(seen["registered"], true, "{seen}");
            seen["home"].as_u64().unwrap()
        };
        aimed.iter().map(home).collect::<Vec<u64>>()
    };
    let node = Node::with(&["--cores", "2"]);
    let first = homes(&node);
    let there = first.iter().filter(|home| **home == 0).count();
    assert!((20..=80).contains(&there), "{there} of {} at home on the first shard", aimed.len());
    assert_ne!(first, homes(&Node::with(&["--cores", "2"])), "another node's are others");
}
