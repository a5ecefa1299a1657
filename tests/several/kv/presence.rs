//! Who is online.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare::kv::redis::PresenceTimes;
use fanfare::kv::{Answer, BUCKETS, Request, Turn, bucket};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::driver::{Store, due, signs};
use super::peer_members::{said, turn};
use crate::support::eventually;
use crate::support::redis::{Cluster, Redis};

fn settle(store: &Store, turns: &[Turn]) {
    let settled = turns.iter().map(|turn| (turn.member.clone(), turn.version)).collect();
    assert_eq!(store.ask(Request::Settled(settled)), Answer::Applied);
}

/// Holds for every store.
pub fn holds(store: &Store) {
    assert_eq!(store.turned(signs([])), []);
    let turns = store.turned(signs(["ana", "bob b ö", "ana"]));
    assert_eq!(turns.iter().map(|turn| turn.member.as_str()).collect::<Vec<_>>(), ["ana", "bob b ö"]);
    assert!(turns.iter().all(|turn| turn.online && turn.at == turn.version && turn.at > 1_700_000_000_000));
    assert_eq!(store.turned(signs(["bob b ö", "ana"])), []);
    let known = |at: usize| Some(turns[at].clone());
    assert_eq!(store.presence(&["bob b ö", "carl", "ana", "bob b ö"]), [known(1), None, known(0), known(1)]);
    assert_eq!(store.presence(&[]), []);
    // Neither is due, and nothing given so lately is given again.
    assert_eq!(store.turned(due(100)), []);
    settle(store, &turns);
    assert_eq!(store.turned(Request::Due(Vec::new(), 100)), []);
    // Many, over all buckets, in one go.
    let names: Vec<String> = (0..3_000).map(|number| format!("member {number:04}")).collect();
    let turns = store.turned(signs(names.iter().map(String::as_str)));
    assert_eq!(turns.iter().map(|turn| &turn.member).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert_eq!(store.turned(signs(names.iter().map(String::as_str))), []);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(store.presence(&names), turns.into_iter().map(Some).collect::<Vec<_>>());
}

const LONG: u64 = 1_000_000;

fn timed(url: &str, dc: &str, guard_ms: u64, resend_ms: u64, age_ms: u64) -> Store {
    Store::redis_timed(url, dc, false, PresenceTimes { guard_ms, resend_ms, age_ms })
}

#[test]
fn two_who_look_at_once_give_each_turn_once_in_a_redis() {
    let redis = Redis::start();
    each_turn_once(&redis.url());
}

#[test]
fn two_who_look_at_once_give_each_turn_once_in_a_cluster() {
    let cluster = Cluster::start();
    each_turn_once(&cluster.url());
}

fn each_turn_once(url: &str) {
    let stores = [timed(url, "dc1", 1, LONG, LONG), timed(url, "dc1", 1, LONG, LONG)];
    let names: Vec<String> = (0..5_000).map(|number| format!("m{number:04}")).collect();
    let online = stores[0].turned(signs(names.iter().map(String::as_str)));
    assert_eq!(online.len(), names.len());
    let both = std::sync::Barrier::new(2);
    let given = std::thread::scope(|scope| {
        let looks = stores.each_ref().map(|store| {
            scope.spawn(|| {
                let mut given = Vec::new();
                both.wait();
                loop {
                    let turns = store.turned(due(177));
                    assert!(turns.len() <= 177);
                    if turns.is_empty() {
                        return given;
                    }
                    given.extend(turns);
                }
            })
        });
        looks.map(|look| look.join().expect("it looks"))
    });
    assert!(given.iter().all(|turns| !turns.is_empty()));
    let mut all: Vec<Turn> = given.concat();
    all.sort_by(|one, other| one.member.cmp(&other.member));
    assert_eq!(all.len(), names.len());
    for (was, is) in online.iter().zip(&all) {
        assert!(was.member == is.member && !is.online && is.version > was.version && is.at == was.at, "{was:?} {is:?}");
    }
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(stores[1].presence(&asked), all.into_iter().map(Some).collect::<Vec<_>>());
}

#[test]
fn a_limit_is_shared_out_and_used_up() {
    let redis = Redis::start();
    let store = timed(&redis.url(), "dc1", 1, LONG, LONG);
    // All of one bucket: most of the others' shares are left to it.
    let names = (0..).map(|number| format!("m{number}")).filter(|name| bucket(name) == 3);
    let names: Vec<String> = names.take(100).collect();
    store.turned(signs(names.iter().map(String::as_str)));
    let mut left: BTreeSet<String> = names.into_iter().collect();
    for (limit, gives) in [(1, 1), (30, 30), (65, 65), (65, 4), (65, 0)] {
        let turns = store.turned(due(limit));
        assert_eq!(turns.len(), gives);
        assert!(turns.iter().all(|turn| left.remove(&turn.member)));
    }
}

#[test]
fn what_is_not_settled_is_given_again() {
    let redis = Redis::start();
    let store = timed(&redis.url(), "dc1", LONG, 1, LONG);
    let turns = store.turned(signs(["ana", "bob", "cy"]));
    let again = |wanted: &[Turn]| {
        let mut seen = Vec::new();
        eventually("what was not settled", || {
            seen = store.turned(due(100));
            // A look that takes longer than a turn may stay unsettled here comes by it twice.
            let mut members = BTreeSet::new();
            seen.retain(|turn| members.insert(turn.member.clone()));
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    };
    again(&turns);
    again(&turns);
    let mut other = turns[1].clone();
    other.version -= 1;
    settle(&store, &[turns[0].clone(), other]);
    again(&turns[1..]);
    settle(&store, &turns[1..]);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(store.turned(due(100)), []);
}

#[test]
fn who_was_not_seen_for_long_is_forgotten() {
    let redis = Redis::start();
    let store = timed(&redis.url(), "dc1", 1, LONG, 2);
    let turns = store.turned(signs(["ana", "bob"]));
    let away = ["ana", "cy"].map(|name| turn(name, false, turns[0].at, 1));
    said(&store, "eu", &away);
    let mut gone = Vec::new();
    eventually("both to go offline", || {
        gone.extend(store.turned(due(100)));
        if gone.len() == 2 { Ok(()) } else { Err(gone.len().to_string()) }
    });
    eventually("all to be forgotten", || {
        let (known, due) = (store.presence(&["ana", "bob", "cy"]), store.turned(due(100)));
        let keys = redis.command(&["DBSIZE"]);
        // What is left is what marks buckets.
        if known == [None, None, None] && due.is_empty() && keys == format!(":{BUCKETS}") { Ok(()) } else { Err(keys) }
    });
}

#[test]
fn a_redis_that_restarts_empty_hears_who_is_there() {
    let mut redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let before = store.turned(signs(["ana", "bob"]));
    redis.kill();
    eventually("the store to be away", || {
        store.kv.trouble().map(|reason| reason.whole()).map_or(Err("it is there".to_owned()), |_| Ok(()))
    });
    assert!(store.try_ask(signs(["ana"])).is_err());
    redis.restart();
    eventually("the store to be back", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    assert_eq!(store.presence(&["ana", "bob"]), [None, None]);
    let after = store.turned(signs(["ana"]));
    assert!(after.len() == 1 && after[0].online && after[0].version > before[0].version);
    assert_eq!(store.presence(&["ana", "bob"]), [Some(after[0].clone()), None]);
}

/// What must have become of a member, as far as two looks at the clock around each question tell.
#[derive(Default)]
struct Model {
    /// Online or not, and the turn that said so.
    turn: Option<Turn>,
    /// Between which times the last sign of life was heard.
    sign: (u64, u64),
    settled: bool,
    /// Between which times the turn was given last.
    given: (u64, u64),
}

#[derive(Debug, Clone)]
enum Op {
    Signs(BTreeSet<u8>),
    Due(u32),
    Settle(bool),
    Wait(u64),
}

/// Redis' clock, which nothing else in the test is compared with.
fn clock(redis: &Redis) -> u64 {
    // The answer's first line says how long it is, so it is asked for by a script.
    let text =
        redis.command(&["EVAL", "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)", "0"]);
    text.trim_start_matches(':').parse().expect("a number")
}

const GUARD: u64 = 60;
const RESEND: u64 = 40;

#[test]
fn turns_follow_from_signs() {
    let server = Redis::start();
    let names = ["a", "b", "c", "d"];
    let ops = prop::collection::vec(
        prop_oneof![
            4 => prop::collection::btree_set(0u8..4, 0..4).prop_map(Op::Signs),
            4 => (0u32..6).prop_map(Op::Due),
            2 => any::<bool>().prop_map(Op::Settle),
            3 => (0u64..90).prop_map(Op::Wait),
        ],
        1..40,
    );
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for case in 0..24 {
        let ops = ops.new_tree(&mut runner).expect("a case").current();
        let store = timed(&server.url(), &format!("case{case}"), GUARD, RESEND, LONG);
        let mut models: BTreeMap<&str, Model> = names.iter().map(|name| (*name, Model::default())).collect();
        for op in &ops {
            let context = format!("{op:?} of {ops:?}");
            let began = clock(&server);
            match op {
                Op::Wait(ms) => std::thread::sleep(Duration::from_millis(*ms)),
                Op::Signs(who) => {
                    let who: Vec<&str> = who.iter().map(|at| names[usize::from(*at)]).collect();
                    let turns = store.turned(signs(who.iter().copied()));
                    let ended = clock(&server);
                    for name in who {
                        let model = models.get_mut(name).expect("it is known");
                        let turn = turns.iter().find(|turn| turn.member == name);
                        let was_online = model.turn.as_ref().is_some_and(|turn| turn.online);
                        assert_eq!(turn.is_some(), !was_online, "{context}");
                        if let Some(turn) = turn {
                            assert!(turn.online && (began..=ended).contains(&turn.at), "{context}: {turn:?}");
                            assert!(turn.version >= turn.at, "{context}: {turn:?}");
                            took(model, turn, (began, ended), &context);
                        }
                        model.sign = (began, ended);
                    }
                }
                Op::Due(limit) => {
                    let turns = store.turned(due(*limit));
                    let ended = clock(&server);
                    assert!(turns.len() <= *limit as usize, "{context}");
                    for turn in &turns {
                        let model = models.get_mut(turn.member.as_str()).expect("it is known");
                        let before = model.turn.clone().expect("it had signs");
                        if *turn == before {
                            assert!(!model.settled && ended >= model.given.0 + RESEND, "{context}: {turn:?}");
                            model.given = (began, ended);
                            continue;
                        }
                        assert!(before.online && !turn.online && ended >= model.sign.0 + GUARD, "{context}: {turn:?}");
                        assert!((model.sign.0..=model.sign.1).contains(&turn.at), "{context}: {turn:?}");
                        took(model, turn, (began, ended), &context);
                    }
                    // Nobody is passed over unless the limit says so.
                    for (name, model) in &models {
                        let Some(turn) = &model.turn else { continue };
                        let over = turn.online && began >= model.sign.1 + GUARD;
                        let unsettled = !model.settled && began >= model.given.1 + RESEND;
                        let given = turns.iter().any(|given| given.member == *name);
                        assert!(given || turns.len() == *limit as usize || !(over || unsettled), "{context}: {name}");
                    }
                }
                Op::Settle(right) => {
                    for model in models.values_mut() {
                        let Some(mut turn) = model.turn.clone() else { continue };
                        turn.version -= u64::from(!right);
                        model.settled |= right;
                        settle(&store, &[turn]);
                    }
                }
            }
            let expected: Vec<Option<Turn>> = models.values().map(|model| model.turn.clone()).collect();
            assert_eq!(store.presence(&names), expected, "{context}");
        }
    }
}

fn took(model: &mut Model, turn: &Turn, given: (u64, u64), context: &str) {
    let newer = model.turn.as_ref().is_none_or(|before| before.version < turn.version);
    assert!(newer, "{context}: {turn:?}");
    (model.turn, model.given, model.settled) = (Some(turn.clone()), given, false);
}
