//! What dead nodes leave behind.

use fanfare::kv::{Request, bucket, digest};
use fanfare::limits::{NODE_LEASE, NODE_SWEEP, PEER_FORGOTTEN};

use super::driver::{Store, batch, counts, of_one_bucket};
use crate::support::becomes;
use crate::support::redis::{Cluster, Redis};
use crate::support::site::within;

#[test]
fn in_a_redis() {
    let redis = Redis::start();
    let peers = "fanfare:{dc1:nodes}:peers";
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later").as_millis() as u64;
    for (peer, heard_ms) in [("gone", now - PEER_FORGOTTEN.as_millis() as u64 - 1), ("silent", now)] {
        redis.command(&["HSET", peers, peer, &format!("{heard_ms} 0 1 0 0")]);
    }
    dead_nodes_are_swept(&redis.url());
    assert_eq!(["gone", "silent"].map(|peer| redis.command(&["HEXISTS", peers, peer])), [":0", ":1"]);
}

#[test]
fn in_a_cluster() {
    let cluster = Cluster::start();
    dead_nodes_are_swept(&cluster.url());
}

fn dead_nodes_are_swept(url: &str) {
    // Two dispatchers could sweep, and one more process only asks.
    let dispatchers = [Store::redis_with(url, "dc1", true), Store::redis_with(url, "dc1", true)];
    let store = Store::redis(url, "dc1");
    let topics = of_one_bucket(600);
    let changes: Vec<_> = topics.iter().map(|topic| (topic, true)).collect();
    store.ask(batch(7, 1, true, &changes));
    store.ask(batch(8, 1, true, &changes[..3]));
    let number = bucket("live:1");
    let (all, three) = (|count: usize| digest(topics[..count].iter().map(|topic| topic.as_str())), 3);
    assert_eq!(store.beat(7, &[(number, all(600))]).differing, [0u8; 0]);
    for node in [7, 8] {
        store.ask(Request::SetCounts(counts(node, 1, false, &[("live:1", 2)])));
    }
    assert_eq!(store.live(8), [7, 8]);
    // Its lease ends; its entries are there still, and are no one's business.
    becomes("the nodes that live", vec![8], || store.live(8));
    within(NODE_SWEEP, "the dead node to be swept", || {
        dispatchers[0].live(8);
        let left = topics.iter().filter(|topic| store.subscribers(topic).contains(&7)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} of {} topics", topics.len())) }
    });
    assert!(topics[..three].iter().all(|topic| store.subscribers(topic) == [8]));
    assert_eq!(store.beat(8, &[(number, all(three))]).differing, [0u8; 0]);
    becomes("the nodes whose viewers count", vec![8], || {
        store.live(8);
        store.counts().iter().map(|counts| counts.node.0).collect()
    });
    assert!(store.recount(7, 1) && !store.recount(8, 1));
    // It only slept: what it wants is not what is held, so it sends all again.
    assert_eq!(store.beat(7, &[(number, all(600))]).differing, [number]);
    store.ask(batch(7, 2, true, &changes));
    assert_eq!(store.beat(7, &[(number, all(600))]).differing, [0u8; 0]);
    assert!(topics[3..].iter().all(|topic| store.subscribers(topic) == [7]));
    const { assert!(NODE_LEASE.as_secs() == 6) };
}
