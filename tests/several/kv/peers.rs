//! How peers are, and their viewers.

use std::sync::Arc;

use fanfare::kv::crowd::Crowd;
use fanfare::kv::datacenter::{HelloNumber, PeerNote, PeerState, PeerViewers};
use fanfare::kv::{Answer, Notice, Request};
use fanfare::limits::{PEER_LACKED_AGE, PEER_SILENT, REDIS_COUNTS};
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::topic::Topic;

use super::driver::{Store, crowd, topic};
use crate::support::eventually;
use crate::support::redis::Redis;

fn viewers(list: &[(&str, u32)]) -> Vec<(Topic, Crowd)> {
    list.iter().map(|(name, count)| (topic(name), crowd(*count))).collect()
}

#[track_caller]
fn note(store: &Store, dc: &str, heard: Option<i64>, lacks: Option<u64>, list: &[(&str, u32)]) -> u64 {
    let note = PeerNote { dc: dc.to_owned(), hello: None, heard, lacks, restart: false, viewers: viewers(list) };
    let Answer::Noted(number) = store.ask(Request::NotePeer(note)) else { panic!("noted") };
    number
}

fn part(dc: &str, full: bool, list: &[(&str, u32)]) -> PeerViewers {
    PeerViewers { dc: dc.to_owned(), full, viewers: viewers(list) }
}

/// In order, topics as well.
#[track_caller]
fn held(store: &Store) -> Vec<PeerViewers> {
    let Answer::PeerViewers(mut all) = store.ask(Request::PeerViewers) else { panic!("viewers") };
    all.sort_by(|one, other| one.dc.cmp(&other.dc));
    all.iter_mut().for_each(|peer| peer.viewers.sort_by(|one, other| one.0.cmp(&other.0)));
    all
}

/// Whether it was told of a peer's viewers since the last look.
fn is_told(store: &Store) -> bool {
    store.notices().iter().any(|(_, notice)| matches!(notice, Notice::PeerViewers(_)))
}

fn state(dc: &str, alive: bool, clock_ahead_ms: i64, lacked: Option<(u64, u64)>) -> PeerState {
    PeerState { dc: dc.to_owned(), alive, clock_ahead_ms, lacked }
}

/// Holds for every store.
pub fn are_known(store: &Store) {
    assert_eq!((held(store), store.beat(7, &[]).peers), (vec![], vec![]));
    let number = note(store, "eu", Some(-1500), None, &[]);
    assert!(number > 0 && held(store) == [part("eu", true, &[])]);
    assert_eq!(store.beat(7, &[]).peers, [state("eu", true, -1500, None)]);
    assert!(!is_told(store), "no viewers, no news of them");
    let list = [("live:1", 3), ("live:2", 1), ("live:3", 0)];
    assert_eq!(note(store, "eu", Some(7), None, &list), number);
    store.hears(&Notice::PeerViewers(Arc::new(part("eu", false, &list))));
    assert_eq!(held(store), [part("eu", true, &[("live:1", 3), ("live:2", 1)])]);
    note(store, "eu", Some(7), None, &[("live:1", 0), ("live:2", u32::MAX)]);
    assert_eq!(held(store), [part("eu", true, &[("live:2", u32::MAX)])]);
    // What it lacks says nothing of whether it lives, and is remembered from the first time on.
    note(store, "us", None, Some(900), &[]);
    let lacked = |store: &Store| {
        let peers = store.beat(7, &[]).peers;
        assert_eq!(peers[0], state("eu", true, 7, None));
        let lacked = peers[1].lacked.expect("it lacks something");
        assert_eq!(peers[1], state("us", false, 0, Some(lacked)));
        lacked
    };
    let first = lacked(store);
    note(store, "us", None, Some(950), &[]);
    let second = lacked(store);
    note(store, "us", None, Some(800), &[]);
    assert_eq!((first.0, second.0, lacked(store).0), (900, 900, 800));
    assert!(first.1 > 1_700_000_000_000 && first.1 <= second.1 && second.1 <= lacked(store).1);
    assert_eq!(held(store).len(), 1, "only of those that live");
    assert!(note(store, "us", Some(0), None, &[("live:2", 5)]) > 0);
    assert_eq!(held(store), [part("eu", true, &[("live:2", u32::MAX)]), part("us", true, &[("live:2", 5)])]);
    // Who said so before is gone: it says all again.
    let restart = PeerNote {
        dc: "eu".to_owned(),
        hello: None,
        heard: Some(7),
        lacks: None,
        restart: true,
        viewers: viewers(&[("live:4", 1)]),
    };
    let Answer::Noted(later) = store.ask(Request::NotePeer(restart)) else { panic!("noted") };
    assert!(later > number, "{later} follows {number}");
    store.hears(&Notice::PeerViewers(Arc::new(part("eu", true, &[("live:4", 1)]))));
    assert_eq!(held(store)[0], part("eu", true, &[("live:4", 1)]));
    // One that was given up comes after a newer one; of another shard there is no newer one.
    for (shard, number, count, counts) in [(0, 2, 7, 7), (0, 1, 8, 7), (0, 2, 9, 9), (0, 3, 6, 6), (1, 1, 5, 5)] {
        let hello = Some(HelloNumber { node: NodeId(42), shard, number });
        let (late, list) = (counts != count, [("live:5", count)]);
        let viewers = viewers(&list);
        is_told(store);
        let hello = PeerNote { dc: "eu".to_owned(), hello, heard: Some(7), lacks: None, restart: late, viewers };
        assert_eq!(store.ask(Request::NotePeer(hello)), Answer::Noted(later));
        assert_eq!(held(store)[0], part("eu", true, &[("live:4", 1), ("live:5", counts)]));
        match late {
            true => assert!(!is_told(store), "others hear of what is known to be old"),
            false => store.hears(&Notice::PeerViewers(Arc::new(part("eu", false, &list)))),
        }
    }
}

fn peers_key(redis: &Redis, dc: &str) -> Vec<u64> {
    let held = redis.command(&["HGET", "fanfare:{dc1:nodes}:peers", dc]);
    held.split(' ').map(|word| word.parse().expect("a number")).collect()
}

/// Makes the last hour pass for what is known of a peer.
fn age(redis: &Redis, dc: &str, ms: u64) {
    let held = peers_key(redis, dc);
    let text = format!("{} {} {} {} {}", held[0] - ms, held[1], held[2] - ms, held[3], held[4].saturating_sub(ms));
    redis.command(&["HSET", "fanfare:{dc1:nodes}:peers", dc, &text]);
}

#[test]
fn a_peer_that_was_silent_says_all_again() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let number = note(&store, "eu", Some(7), Some(500), &[("live:1", 4)]);
    age(&redis, "eu", PEER_SILENT.as_millis() as u64 / 2);
    assert!(note(&store, "eu", Some(7), None, &[]) < number, "as it was when it was made older");
    assert_eq!(held(&store), [part("eu", true, &[("live:1", 4)])]);
    age(&redis, "eu", PEER_SILENT.as_millis() as u64);
    assert_eq!(held(&store), []);
    let dead = store.beat(7, &[]).peers;
    assert_eq!(dead, [state("eu", false, 7, dead[0].lacked)]);
    let later = note(&store, "eu", Some(7), None, &[]);
    assert!(later >= number && held(&store) == [part("eu", true, &[])]);
    assert_eq!(note(&store, "eu", Some(7), None, &[]), later);
    // Also where nobody can tell how long it was silent.
    assert_eq!(redis.command(&["FLUSHALL"]), "+OK");
    assert_ne!(note(&store, "eu", Some(7), None, &[("live:1", 4)]), later);
    // A lack is forgotten after its time, and one that begins then begins anew.
    note(&store, "eu", Some(7), Some(500), &[]);
    age(&redis, "eu", PEER_LACKED_AGE.as_millis() as u64);
    assert_eq!(store.beat(7, &[]).peers, [state("eu", false, 7, None)]);
    note(&store, "eu", None, Some(900), &[]);
    assert_eq!(store.beat(7, &[]).peers[0].lacked.map(|(from, _)| from), Some(900));
    // Viewers of a peer that is gone for good go as well.
    assert!(redis.command(&["PTTL", "fanfare:{dc1:nodes}:p:eu"]).len() > 2);
}

#[test]
fn one_process_hears_of_a_peers_viewers() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    let elsewhere = Store::redis(&redis.url(), "dc2");
    note(&one, "eu", Some(0), None, &[("live:1", 1)]);
    other.hears(&Notice::PeerViewers(Arc::new(part("eu", false, &[("live:1", 1)]))));
    // Of very many it reads what there is.
    let names: Vec<String> = (0..REDIS_COUNTS * 2 + 7).map(|number| format!("live:{number:05}")).collect();
    let list: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    note(&one, "eu", Some(0), None, &list);
    let full = part("eu", true, &[&list[..], &[("live:1", 1)]].concat());
    eventually("the viewers to be read", || {
        let read = other.notices().into_iter().any(|(_, notice)| match notice {
            Notice::PeerViewers(viewers) => {
                let mut viewers = Arc::unwrap_or_clone(viewers);
                viewers.viewers.sort_by(|one, other| one.0.cmp(&other.0));
                viewers == full
            }
            _ => false,
        });
        read.then_some(()).ok_or("not yet")
    });
    assert_eq!(held(&other), [full]);
    assert!(!is_told(&elsewhere) && held(&elsewhere).is_empty());
}
