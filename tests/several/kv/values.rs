//! Newest values that pile up: what nobody watches goes by age, and what is too much goes for what comes.

use fanfare::kv::{bucket, digest};
use fanfare::limits::REDIS_VALUES_BYTES;

use super::driver::{Store, batch, of_one_bucket};
use crate::support::eventually;
use crate::support::redis::{Cluster, Redis};

/// Of the bucket of `live:1`.
fn key(rest: &str) -> String {
    format!("fanfare:{{dc1:{}}}:{rest}", bucket("live:1"))
}

fn number(answer: &str) -> usize {
    answer.trim_start_matches([':', '$']).lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or_default()
}

#[test]
fn topics_that_nobody_watches_stay_in_redis() {
    let redis = Redis::start();
    let held = |name: &str| redis.command(&["EXISTS", &key(name)]) == ":1";
    given_up_by_age(&Store::redis_with(&redis.url(), "dc1", true), &held);
    assert_eq!(number(&redis.command(&["ZCARD", &key("values")])), 3);
    let sum = |topic: &str| number(&redis.command(&["HGET", &key("values:bytes"), topic]));
    assert!(sum("") > 0 && sum("") == of_one_bucket(9).iter().map(|topic| sum(topic.as_str())).sum::<usize>());
}

#[test]
fn topics_that_nobody_watches_stay_in_a_cluster() {
    let cluster = Cluster::start();
    let held = |name: &str| cluster.running().any(|redis| redis.command(&["EXISTS", &key(name)]) == ":1");
    given_up_by_age(&Store::redis_with(&cluster.url(), "dc1", true), &held);
}

fn given_up_by_age(store: &Store, held: &dyn Fn(&str) -> bool) {
    let topics = of_one_bucket(4);
    let [short, long, both, watched] = &topics[..] else { unreachable!("as many as were asked for") };
    for (topic, age_ms) in [(short, Some(1)), (long, None), (both, None), (both, Some(1)), (watched, Some(1))] {
        store.set_for(topic, &format!("{age_ms:?}"), "{}", age_ms);
    }
    store.ask(batch(7, 1, true, &[(watched, true)]));
    let number = bucket("live:1");
    let alive = || store.beat(7, &[(number, digest([watched.as_str()]))]);
    eventually("nobody to be shown what is past its time", || {
        let found = [short, both, long].map(|topic| store.latest(topic).len());
        if found == [0, 1, 1] { Ok(()) } else { Err(found) }
    });
    assert_eq!(store.latest(watched).len(), 1, "somebody watches");
    eventually("it to be given up", || {
        alive();
        if held(&format!("l:{short}")) || held(&format!("v:{short}")) { Err("it is there") } else { Ok(()) }
    });
    for topic in [long, both, watched] {
        assert!(held(&format!("l:{topic}")), "{topic}");
    }
    assert_eq!([long, both, watched].map(|topic| store.latest(topic).len()), [1, 1, 1]);
}

#[test]
fn newest_values_fill_redis() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let topics = of_one_bucket(5_002);
    store.ask(batch(7, 1, true, &[(&topics[0], true)]));
    let used = || number(&redis.info("memory", "used_memory").expect("it says so"));
    let sum = || number(&redis.command(&["HGET", &key("values:bytes"), ""]));
    let before = used();
    let agrees = || {
        let (told, taken) = (sum(), used() - before);
        assert!(told <= REDIS_VALUES_BYTES && taken < told * 5 / 4, "{taken} bytes, told as {told}");
    };
    topics[..5_000].iter().for_each(|topic| store.set_for(topic, "viewers", "{}", None));
    agrees();
    let large = "x".repeat(16_000);
    for number in 0..2 * REDIS_VALUES_BYTES / large.len() {
        store.set_for(&topics[1 + number % 500], &number.to_string(), &large, None);
        assert!(sum() <= REDIS_VALUES_BYTES);
    }
    agrees();
    assert_eq!(store.latest(&topics[0]).len(), 1, "somebody watches the oldest");
    for number in 0..2 * REDIS_VALUES_BYTES / large.len() {
        store.set_for(&topics[5_001], &number.to_string(), &large, None);
    }
    agrees();
}
