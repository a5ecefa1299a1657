//! A cluster around one node that has every role and the embedded store: it is everyone's dispatcher.

use std::time::Duration;

use crate::support::eventually;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::sse::Stream;

/// How long a test goes on looking for what must not come.
pub const QUIET: Duration = Duration::from_millis(500);

/// The URL of a node's internal listener.
pub fn url(node: &Node) -> String {
    format!("http://{}", node.internal)
}

/// Waits until a node says that it is ready.
pub fn wait_ready(node: &Node) {
    eventually("a node to be ready", || {
        let answer = Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
}

/// A node of one role whose dispatchers are these, once it is ready.
pub fn start(role: &str, dispatchers: &[&Node], flags: &[&str]) -> Node {
    let urls: Vec<String> = dispatchers.iter().map(|node| url(node)).collect();
    let urls = urls.join(",");
    // A backend has to name a store, and asks its dispatchers instead.
    let all = ["--cores", "2", "--dispatchers", &urls, "--kv", "redis://127.0.0.1:1"];
    let node = Node::role(role, &[&all[..], flags].concat());
    wait_ready(&node);
    node
}

/// Nodes that `node` knows to live.
pub fn living(node: &Node) -> usize {
    node.info()["nodes"].as_array().expect("a list").len()
}

/// The `data` of the next `count` events of a stream, sorted: shards, and nodes, take their own time.
#[track_caller]
pub fn numbers(stream: &mut Stream, count: usize) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).map(|_| stream.event()["data"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Asserts that nothing but comment lines comes on a stream for a while.
#[track_caller]
pub fn assert_quiet(stream: &mut Stream) {
    stream.socket.set_read_timeout(Some(QUIET)).expect("a socket option");
    let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.next()));
    stream.socket.set_read_timeout(Some(crate::support::DEADLINE)).expect("a socket option");
    if let Ok(message) = came {
        panic!("an event too many: {message:?}");
    }
}

/// Nodes that want a topic, as a dispatcher's store has it.
pub fn subscribers(dispatcher: &Node, topic: &str) -> usize {
    let question = serde_json::json!([{"subscribers": topic}]).to_string();
    let answer = Client::connect(dispatcher.internal).request("POST", "/v1/internal/kv", &[], question.as_bytes());
    answer.json()[0]["Ok"]["subscribers"].as_array().expect("a list").len()
}
