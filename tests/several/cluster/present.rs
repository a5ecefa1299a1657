//! Who watches a topic, on several nodes.

use serde_json::{Value, json};

use super::setup::*;
use crate::support::becomes;
use crate::support::node::Node;

fn present(node: &Node, query: &str) -> Value {
    node.get(&format!("/v1/topics/live:1/members{query}")).json()
}

/// Whichever node is asked, each knows all: a member who watches on two nodes once.
#[test]
fn member_on_two_nodes_counts_twice_or_is_here_for_one_of_them() {
    let dispatcher = Node::start();
    let frontends = [start("frontend", &[&dispatcher], &[]), start("frontend", &[&dispatcher], &[])];
    let backend = start("backend", &[&dispatcher], &[]);
    let streams = [("topic=live:1&member=ana", 0), ("topic=live:1&member=ana", 1), ("topic=live:1&member=bob", 1)];
    let mut streams: Vec<_> = streams.iter().map(|(query, at)| frontends[*at].stream(query)).collect();
    let all =
        json!({"viewers": 3, "members": 2, "sample": ["ana", "bob"], "here": {"ana": true, "bob": true, "cy": false}});
    for node in [&dispatcher, &frontends[0], &frontends[1], &backend] {
        becomes("who is here", all.clone(), || present(node, "?of=ana,bob,cy"));
    }
    streams.remove(1);
    let left = json!({"viewers": 2, "members": 2, "sample": ["ana", "bob"], "here": {"ana": true}});
    becomes("who is left", left, || present(&backend, "?of=ana"));
    // A node that is stopped is told by what it said before, and names nobody.
    frontends[1].signal(rustix::process::Signal::STOP);
    let stopped = present(&dispatcher, "?of=ana,bob,cy");
    frontends[1].signal(rustix::process::Signal::CONT);
    assert_eq!(stopped["here"], json!({"ana": true, "bob": true, "cy": false}), "{stopped}");
    assert_eq!(stopped["sample"], json!(["ana"]), "{stopped}");
}
