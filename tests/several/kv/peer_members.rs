//! Who is online in whichever data center.

use std::sync::atomic::{AtomicU32, Ordering};

use fanfare::kv::datacenter::{PeerTurns, anywhere};
use fanfare::kv::{Answer, Request, Turn};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::driver::{Store, signs};
use crate::support::redis::Redis;

pub fn turn(member: &str, online: bool, at: u64, version: u64) -> Turn {
    Turn { member: member.to_owned(), online, at, version }
}

#[track_caller]
pub fn said(store: &Store, dc: &str, turns: &[Turn]) -> Vec<Option<Turn>> {
    let said = PeerTurns { dc: dc.to_owned(), turns: turns.to_vec() };
    let Answer::Presence(found) = store.ask(Request::PeerTurns(said)) else { panic!("presence") };
    found
}

/// Holds for every store.
pub fn are_known(store: &Store) {
    let own = store.turned(signs(["ana"])).remove(0);
    let later = own.at + 50;
    assert_eq!(said(store, "eu", &[]), []);
    let away = [turn("ana", false, later, 7), turn("bob b ö", true, later, 8), turn("cy", false, later, 9)];
    let all = |other: &Turn| anywhere([&own, other]);
    assert_eq!(said(store, "eu", &away), [all(&away[0]), Some(away[1].clone()), Some(away[2].clone())]);
    assert_eq!(said(store, "eu", &away), [None, None, None], "no news");
    let known = [all(&away[0]), Some(away[1].clone()), Some(away[2].clone()), None];
    assert_eq!(store.presence(&["ana", "bob b ö", "cy", "dan"]), known);
    // Since the earliest; last seen at the latest.
    let earlier = turn("ana", true, own.at - 50, 8);
    assert_eq!(
        said(store, "eu", std::slice::from_ref(&earlier)),
        [Some(turn("ana", true, own.at - 50, own.version + 8))]
    );
    let other = [turn("cy", false, later - 9, 1), turn("bob b ö", false, later + 9, 2)];
    assert_eq!(
        said(store, "us-1", &other),
        [Some(turn("cy", false, later, 10)), Some(turn("bob b ö", true, later, 10))]
    );
    // An older turn that comes late changes nothing; a newer one that comes with it does.
    let late = [turn("bob b ö", false, later, 7), turn("bob b ö", false, later + 1, 9)];
    assert_eq!(said(store, "eu", &late), [None, Some(turn("bob b ö", false, later + 9, 11))]);
    assert_eq!(store.presence(&["bob b ö"]), [Some(turn("bob b ö", false, later + 9, 11))]);
    // A sign of life here is a turn, whoever is online elsewhere.
    let here = store.turned(signs(["bob b ö"])).remove(0);
    assert_eq!(store.presence(&["bob b ö"]), [Some(turn("bob b ö", true, here.at, here.version + 11))]);
    // Many, over all buckets, in one go.
    let many: Vec<Turn> = (0..3_000).map(|number| turn(&format!("m{number}"), true, later, number + 1)).collect();
    let known: Vec<Option<Turn>> = many.iter().cloned().map(Some).collect();
    assert_eq!(said(store, "eu", &many), known);
    let names: Vec<&str> = many.iter().map(|turn| turn.member.as_str()).collect();
    assert_eq!(store.presence(&names), known);
}

#[test]
fn both_stores_know_the_same() {
    let redis = Redis::start();
    let (memory, redis) = (Store::memory(), Store::redis(&redis.url(), "dc1"));
    let cases = AtomicU32::new(0);
    let start =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later").as_millis() as u64;
    let turns = prop::collection::vec((0u8..3, any::<bool>(), 0u64..9, 1u64..6), 0..5);
    let ops = prop::collection::vec((0u8..3, turns), 1..20);
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let result = runner.run(&ops, |ops| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        let names: Vec<String> = (0..3).map(|number| format!("{case}-{number}")).collect();
        for (dc, turns) in ops {
            let turns: Vec<Turn> = turns
                .into_iter()
                .map(|(who, online, at, version)| turn(&names[usize::from(who)], online, start + at, version))
                .collect();
            let dc = format!("dc-{dc}");
            prop_assert_eq!(said(&redis, &dc, &turns), said(&memory, &dc, &turns));
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(redis.presence(&names), memory.presence(&names));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
