//! Viewer counts.

use std::sync::Arc;

use fanfare::kv::{Answer, NodeCounts, Notice, Request};
use fanfare::limits::REDIS_COUNTS;
use fanfare::wire::connection_id::NodeId;

use super::driver::{Store, counts, topic};
use crate::support::redis::{Cluster, Redis};
use crate::support::{becomes, eventually};

fn set(store: &Store, change: &NodeCounts) {
    assert_eq!(store.ask(Request::SetCounts(change.clone())), Answer::Applied);
}

fn held(node: u64, number: u64, list: &[(&str, u32)]) -> NodeCounts {
    counts(node, number, true, list)
}

/// Holds for every store.
pub fn hold(store: &Store) {
    assert_eq!(store.counts(), []);
    assert!(!store.recount(7, 0));
    let first = counts(7, 1, false, &[("live:1", 3), ("live:2", 1), ("live:3", 0)]);
    set(store, &first);
    store.hears(&Notice::Counts(Arc::new(first)));
    assert_eq!(store.counts(), [held(7, 1, &[("live:1", 3), ("live:2", 1)])]);
    assert!(!store.recount(7, 1) && store.recount(7, 2) && store.recount(7, 0));
    // What comes late or again changes nothing, and is told to nobody.
    store.notices();
    set(store, &counts(7, 1, false, &[("live:1", 9)]));
    set(store, &counts(7, 1, true, &[]));
    let second = counts(7, 2, false, &[("live:1", 0)]);
    set(store, &second);
    store.hears(&Notice::Counts(Arc::new(second)));
    assert!(store.notices().is_empty());
    assert_eq!(store.counts(), [held(7, 2, &[("live:2", 1)])]);
    // One that follows what is not there waits for a full one.
    set(store, &counts(7, 4, false, &[("live:5", 5)]));
    assert_eq!(store.counts(), [held(7, 2, &[("live:2", 1)])]);
    assert!(store.recount(7, 4));
    let full = counts(7, 5, true, &[("live:5", u32::MAX)]);
    set(store, &full);
    store.hears(&Notice::Counts(Arc::new(full.clone())));
    set(store, &counts(8, 1, true, &[("live:5", 1)]));
    assert_eq!(store.counts(), [full, held(8, 1, &[("live:5", 1)])]);
    assert!(!store.recount(7, 5));
    // Who has no viewers any more is known still; who left is not.
    set(store, &counts(8, 2, true, &[]));
    assert_eq!(store.counts()[1], held(8, 2, &[]));
    assert_eq!(store.ask(Request::Leave(NodeId(7))), Answer::Left);
    assert_eq!(store.counts(), [held(8, 2, &[])]);
    set(store, &counts(7, 6, false, &[("live:1", 1)]));
    assert!(store.recount(7, 6));
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for Notice {
    /// The order of topics says nothing.
    fn sorted(self) -> Notice {
        match self {
            Notice::Counts(counts) => {
                let mut counts = Arc::unwrap_or_clone(counts);
                counts.counts.sort_by(|one, other| one.0.cmp(&other.0));
                Notice::Counts(Arc::new(counts))
            }
            other => other,
        }
    }
}

/// More topics than go in one part, whatever the kind of change.
pub fn hold_for_many_topics(store: &Store) {
    let names: Vec<String> = (0..REDIS_COUNTS * 2 + 7).map(|number| format!("live:{number:05}")).collect();
    let with = |count: u32| names.iter().map(move |name| (name.as_str(), count)).collect::<Vec<_>>();
    set(store, &counts(7, 1, false, &with(1)));
    assert_eq!(store.counts(), [held(7, 1, &with(1))]);
    set(store, &counts(7, 2, true, &with(2)));
    assert_eq!(store.counts(), [held(7, 2, &with(2))]);
    assert!(!store.recount(7, 2));
    set(store, &counts(7, 2, true, &with(9)));
    set(store, &counts(7, 4, false, &with(9)));
    assert_eq!(store.counts(), [held(7, 2, &with(2))]);
    let half = &with(3)[..REDIS_COUNTS + 1];
    set(store, &counts(7, 3, false, half));
    let both = [half, &with(2)[REDIS_COUNTS + 1..]].concat();
    assert_eq!(store.counts(), [held(7, 3, &both)]);
    set(store, &counts(7, 4, true, &with(1)[1..REDIS_COUNTS + 2]));
    assert_eq!(store.counts(), [held(7, 4, &with(1)[1..REDIS_COUNTS + 2])]);
    set(store, &counts(7, 5, false, &with(0)));
    assert_eq!(store.counts(), [held(7, 5, &[])]);
}

/// What a process knows that only listens.
fn heard(store: &Store) -> Vec<NodeCounts> {
    let notices = store.notices().into_iter().filter(|(shard, _)| *shard == 1);
    let counts = notices.filter_map(|(_, notice)| match notice.sorted() {
        Notice::Counts(counts) => Some(Arc::unwrap_or_clone(counts)),
        _ => None,
    });
    counts.collect()
}

#[test]
fn one_process_hears_of_anothers_counts() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    let elsewhere = Store::redis(&redis.url(), "dc2");
    let change = counts(7, 1, false, &[("live:1", 1)]);
    set(&one, &change);
    other.hears(&Notice::Counts(Arc::new(change)));
    one.notices();
    other.notices();
    // Of very many it reads what there is.
    let names: Vec<String> = (0..REDIS_COUNTS * 2).map(|number| format!("live:{number:05}")).collect();
    let list: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let full = counts(7, 2, true, &list);
    set(&one, &full);
    becomes("what is heard", vec![full], || heard(&other));
    set(&one, &counts(7, 3, false, &list[1..]));
    becomes("what is heard", vec![counts(7, 3, true, &list)], || heard(&other));
    assert_eq!(heard(&elsewhere), []);
}

#[test]
fn databases_share_a_server_and_no_channel() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&format!("{}/1", redis.url()), "dc1"));
    for store in [&other, &one] {
        let change = counts(if std::ptr::eq(store, &one) { 1 } else { 2 }, 1, false, &[("live:1", 1)]);
        set(store, &change);
        store.hears(&Notice::Counts(Arc::new(change)));
    }
    assert_eq!((heard(&one), heard(&other)), (vec![], vec![]));
}

#[test]
fn a_redis_that_restarts_empty_is_told_all_again() {
    let mut redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    set(&one, &counts(7, 1, false, &[("live:1", 1), ("live:2", 2)]));
    assert!(!one.recount(7, 1));
    other.notices();
    redis.kill();
    for store in [&one, &other] {
        eventually("the store to be away", || store.kv.trouble().map_or(Err("it is there".to_owned()), |_| Ok(())));
    }
    redis.restart();
    for store in [&one, &other] {
        eventually("the store to be back", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    }
    other.hears(&Notice::InvalidatedAll);
    // A change that comes first does not make believe that all is there.
    set(&one, &counts(7, 2, false, &[("live:1", 3)]));
    assert!(one.recount(7, 2));
    let full = counts(7, 3, true, &[("live:1", 3), ("live:2", 2)]);
    set(&one, &full);
    assert!(!one.recount(7, 3));
    eventually("the other process to hear it", || {
        heard(&other).contains(&full).then_some(()).ok_or("not yet".to_owned())
    });
    assert_eq!(other.counts(), [full]);
}

#[test]
fn who_lost_the_channel_is_told_to_read_all() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    set(&one, &counts(7, 1, false, &[("live:1", 1)]));
    other.notices();
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    other.hears(&Notice::InvalidatedAll);
    let mut number = 1;
    eventually("the channel to be heard again", || {
        number += 1;
        let full = counts(7, number, true, &[("live:1", 2)]);
        one.try_ask(Request::SetCounts(full.clone())).map_err(|error| error.to_string())?;
        heard(&other).contains(&full).then_some(()).ok_or("not yet".to_owned())
    });
}

#[test]
fn counts_survive_the_master_of_nodes() {
    let mut cluster = Cluster::start();
    let (one, other) = (Store::redis(&cluster.url(), "dc1"), Store::redis(&cluster.url(), "dc1"));
    set(&one, &counts(7, 1, true, &[("live:1", 1)]));
    assert_eq!(one.append(&topic("live:1"), "x", 9).1, None);
    let victim = *cluster
        .masters()
        .iter()
        .find(|at| cluster.nodes[**at].command(&["EXISTS", "fanfare:{dc1:nodes}:counted"]) == ":1")
        .expect("a master has it");
    cluster.nodes[victim].kill();
    cluster.settled();
    for store in [&one, &other] {
        eventually("the store to find it", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    }
    other.hears(&Notice::InvalidatedAll);
    // What the new master has, or a recount, as the heartbeat says.
    let full = counts(7, 2, true, &[("live:1", 2)]);
    set(&one, &full);
    assert!(!one.recount(7, 2));
    becomes("the counts", vec![full.clone()], || other.counts());
    let change = counts(7, 3, false, &[("live:1", 5)]);
    set(&one, &change);
    other.hears(&Notice::Counts(Arc::new(change)));
}

#[test]
fn the_channel_follows_its_slot() {
    let cluster = Cluster::start();
    let (one, other) = (Store::redis(&cluster.url(), "dc1"), Store::redis(&cluster.url(), "dc1"));
    set(&one, &counts(7, 1, true, &[("live:1", 1)]));
    let masters: Vec<_> = cluster.masters().into_iter().map(|at| &cluster.nodes[at]).collect();
    let hears = |node: &Redis| node.command(&["PUBSUB", "CHANNELS", "fanfare:{dc1:nodes}:*"]) == "*1";
    let from = *masters.iter().find(|node| hears(node)).expect("one is heard");
    let to = *masters.iter().find(|node| !hears(node)).expect("others are not");
    let slot = from.command(&["CLUSTER", "KEYSLOT", "{dc1:nodes}"]).trim_start_matches(':').to_owned();
    let id = to.command(&["CLUSTER", "MYID"]);
    // Nothing is taken along, as if that master had been lost.
    from.command(&["DEL", "fanfare:{dc1:nodes}:counted"]);
    from.command(&["DEL", &format!("fanfare:{{dc1:nodes}}:c:{}", NodeId(7))]);
    other.notices();
    for node in [to, from].into_iter().chain(masters.iter().copied()) {
        assert_eq!(node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]), "+OK");
    }
    // Whoever asks is told where it is.
    for store in [&one, &other] {
        eventually("the nodes' place to be found", || {
            store.try_ask(Request::Counts).map(drop).map_err(|error| error.to_string())
        });
    }
    other.hears(&Notice::InvalidatedAll);
    becomes("who is heard", (false, true), || (hears(from), hears(to)));
    let change = counts(7, 1, true, &[("live:1", 2)]);
    set(&one, &change);
    other.hears(&Notice::Counts(Arc::new(change)));
}
