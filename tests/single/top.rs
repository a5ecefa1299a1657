//! `fanfare top`, where there is no terminal: what it prints of a node, and what it says where it can show none.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::node::{Node, program};
use crate::support::ports::free_port;

const SECRET: &str = "a-secret-of-the-cluster-0123456789abcdef";

fn top(url: &str, flags: &[&str]) -> Output {
    program().args(["top", "--url", url]).args(flags).output().unwrap()
}

fn internal(node: &Node) -> String {
    format!("http://{}", node.internal)
}

#[track_caller]
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained of, and how it ended.
fn complained(output: Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn top_prints_nothing_for_scripts() {
    let node = Node::start();
    let _stream = node.stream("topic=live:42");
    node.publish("live:42", &json!({"type": "note", "data": 1}));
    let snapshot: Value = serde_json::from_str(&printed(top(&internal(&node), &["--json"]))).unwrap();
    assert_eq!((&snapshot["node"], &snapshot["connections"]["now"]), (&node.info()["node"], &json!(1)));
    // Without a terminal it is as with --once.
    for flags in [&["--once"][..], &[]] {
        let text = printed(top(&internal(&node), flags));
        for wanted in
            ["fanfare top", "Viewers", "Cluster", "Shards", "Hottest topics", "live:42", "every client keeps up"]
        {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn top_does_not_say_why_it_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\nthe-one-before-0123456789abcdef0123\n")).unwrap();
    let file = file.to_str().unwrap();
    let node = Node::with(&["--cores", "1", "--cluster-secret-file", file]);
    assert!(printed(top(&internal(&node), &["--once", "--secret-file", file])).contains("Shards"));
    let (code, text) = complained(top(&internal(&node), &["--once"]));
    assert!(code == Some(2) && text.contains("401") && text.contains("--secret-file"), "{text}");
    let (code, text) = complained(top(&format!("http://{}", node.public), &["--once"]));
    assert!(code == Some(2) && text.contains("404") && text.contains("internal listener"), "{text}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (code, text) = complained(top(&nobody, &["--json"]));
    assert!(code == Some(1) && text.contains("cannot reach") && text.contains(&nobody), "{text}");
    let (code, text) = complained(top("127.0.0.1:8081", &[]));
    assert!(code == Some(2) && text.contains("http://HOST"), "{text}");
    let (code, text) = complained(top(&nobody, &["--secret-file", "/nowhere"]));
    assert!(code == Some(2) && text.contains("/nowhere"), "{text}");
    let (code, text) = complained(top(&nobody, &["--once", "--json"]));
    assert!(code == Some(2) && text.contains("cannot be used with"), "{text}");
}
