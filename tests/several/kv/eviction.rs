//! A server that drops keys when its memory is full. Each test is named after what it prevents.

use fanfare::kv::{bucket, digest};

use super::driver::{Store, batch, topic};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::Redis;

#[test]
fn dropped_keys_are_missed_by_nobody() {
    let redis = Redis::start();
    let (store, node) =
        (Store::redis(&redis.url(), "dc1"), Node::with(&["--cores", "1", "--kv", &redis.url(), "--dc", "dc1"]));
    let logged = |text: &str| {
        eventually(&format!("{text} to be logged"), || {
            if node.log().iter().any(|line| line.contains(text)) { Ok(()) } else { Err(node.log()) }
        });
    };
    let live = topic("live:1");
    let (first, _) = store.append(&live, "1", 9);
    store.ask(batch(7, 1, true, &[(&live, true)]));
    let own = [(bucket("live:1"), digest([live.as_str()]))];
    assert_eq!(store.beat(7, &own).differing, [0u8; 0]);
    // Somebody sets it while all run.
    redis.command(&["CONFIG", "SET", "maxmemory", "20mb"]);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    logged("Redis may drop keys");
    assert!(store.read(&live, first, 9).reaches.place() <= first);
    redis.command(&[
        "EVAL",
        "local text = string.rep('x', 10000) for number = 1, 4000 do redis.call('SET', 'other' .. number, text) end",
        "0",
    ]);
    logged("Redis dropped keys");
    eventually("what may be missing to be told", || {
        let (page, differing) = (store.read(&live, first, 9), store.beat(7, &own).differing);
        if page.reaches.place() > first && differing == [own[0].0] { Ok(()) } else { Err((page.reaches, differing)) }
    });
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    logged("Redis drops no keys");
}
