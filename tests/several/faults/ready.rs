//! Ready means that a node can do its work: what it last tried of each kind, and not whether somebody answers.

use crate::support::becomes;
use crate::support::node::Node;
use crate::support::redis::Redis;

fn ready(node: &Node) -> u16 {
    crate::support::http::Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status
}

/// A line is read from the node a moment after it was written: what is counted is waited for.
fn logged(node: &Node, text: &str) -> usize {
    node.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn ready_with_a_store_that_takes_no_writes() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url()]);
    becomes("ready", 200, || ready(&node));
    for (setting, refuses, takes, word) in
        [("maxmemory", "1mb", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        redis.command(&["CONFIG", "SET", setting, refuses]);
        becomes("not ready", 503, || ready(&node));
        // Reads work, and change nothing.
        (0..20).for_each(|_| assert_eq!((node.get("/v1/topics/live:1/events").status, ready(&node)).1, 503));
        becomes("unavailable", 0, || node.metric("fanfare_kv_available", ""));
        becomes("lines of the log", 1, || logged(&node, word));
        redis.command(&["CONFIG", "SET", setting, takes]);
        becomes("ready", 200, || ready(&node));
    }
    becomes("lines of the log", 2, || logged(&node, "does again what it is asked"));
    // One right of many: what needs no such right works on, and does not say otherwise.
    redis.command(&["ACL", "SETUSER", "default", "-xadd"]);
    assert_eq!(node.post("/v1/topics/live:1/events", r#"{"type":"comment","data":1}"#).status, 503);
    assert_eq!(ready(&node), 503);
    redis.command(&["ACL", "SETUSER", "default", "+@all"]);
    assert_eq!(node.post("/v1/topics/live:1/events", r#"{"type":"comment","data":1}"#).status, 202);
    becomes("ready", 200, || ready(&node));
}

#[test]
fn ready_by_reads_while_another_holds_the_database() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::in_folder(folder.path(), &["--cores", "1"]);
    let file = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("it is there");
    file.busy_timeout(crate::support::DEADLINE).expect("a setting");
    file.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    // Nobody has to ask for it.
    becomes("not ready", 503, || ready(&node));
    for _ in 0..20 {
        assert_eq!(node.get("/v1/videos/1/likes").status, 200);
        assert_eq!(ready(&node), 503);
    }
    becomes("lines of the log", 1, || logged(&node, "the database fails"));
    file.execute_batch("ROLLBACK").expect("the lock ends");
    becomes("ready", 200, || ready(&node));
    becomes("lines of the log", 1, || logged(&node, "the database works again"));
}
