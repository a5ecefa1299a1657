//! A whole node over Redis.

use serde_json::json;

use fanfare::kv::bucket;

use super::driver::{Store, topic};
use crate::support::becomes;
use crate::support::node::Node;
use crate::support::redis::Redis;

#[test]
fn subscriptions_are_back_after_redis_restarted_empty() {
    let mut redis = Redis::start();
    let node = Node::with(&["--cores", "2", "--kv", &redis.url(), "--dc", "dc1"]);
    let mut stream = node.stream("topic=live:1&topic=live:2");
    let others = Store::redis(&redis.url(), "dc1");
    let live = topic("live:1");
    becomes("the nodes that want the topic", 1, || others.subscribers(&live).len());
    node.publish("live:1", &json!({"type": "like", "data": {"n": 1}}));
    assert_eq!(stream.event()["data"]["n"], 1);
    redis.kill();
    redis.restart();
    becomes("the nodes that want the topic", 1, || others.kv_subscribers(&live));
    assert_ne!(bucket("live:1"), bucket("live:2"), "the two are repaired on their own");
    becomes("the nodes that want the other", 1, || others.kv_subscribers(&topic("live:2")));
    node.publish("live:1", &json!({"type": "like", "data": {"n": 2}}));
    // Who looks at the new store before the like comes is told of a gap.
    let mut next = || stream.next().expect("the stream goes on");
    let like = std::iter::repeat_with(&mut next).find(|message| message.name == "message").expect("it comes");
    assert_eq!(like.json()["data"]["n"], 2);
}

#[test]
fn a_node_that_ends_is_forgotten_at_once() {
    let redis = Redis::start();
    let mut node = Node::with(&["--cores", "2", "--kv", &redis.url(), "--dc", "dc1", "--drain", "0s"]);
    let _stream = node.stream("topic=live:1");
    let others = Store::redis(&redis.url(), "dc1");
    becomes("the nodes that want the topic", 1, || others.subscribers(&topic("live:1")).len());
    becomes("the nodes that live", 2, || others.live(9).len());
    node.signal(rustix::process::Signal::TERM);
    assert!(node.ended().success());
    assert_eq!(others.subscribers(&topic("live:1")), [0u64; 0]);
    // Nothing is left of it but the other node's lease, since that is all this process does not remember.
    assert_eq!(redis.command(&["HLEN", "fanfare:{dc1:nodes}:infos"]), ":1");
}
