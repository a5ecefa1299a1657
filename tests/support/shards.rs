//! What shards do, and where they run.

use serde_json::json;

use super::node::Node;
use super::reaction;

/// The processors that each thread of a process may use, as the kernel writes them.
pub fn allowed(pid: i32) -> Vec<(String, String)> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = entry.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap().trim().to_owned();
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        threads.push((name, list.trim().to_owned()));
    }
    threads
}

/// Likes, events and topic changes work with whatever shards there are.
pub fn works(node: &Node, shards: usize) {
    assert_eq!(node.info()["shards"].as_array().unwrap().len(), shards);
    let mut streams = node.stream_on_each_shard("topic=live:1");
    assert_eq!(streams.len(), shards);
    assert_eq!(node.post("/v1/videos/1/likes", reaction("ana", "like")).status, 201);
    for stream in &mut streams {
        assert_eq!(stream.event()["type"], "like");
        let target = format!("/v1/connections/{}/topics", stream.connection());
        let answer = node.post(&target, json!({"add": ["live:2"]}).to_string());
        assert_eq!(answer.json(), json!({"topics": ["live:1", "live:2"], "pending": []}));
    }
    let id = node.publish("live:2", &json!({"type": "note"}));
    for stream in &mut streams {
        assert_eq!(stream.event()["id"], json!(id));
    }
}
