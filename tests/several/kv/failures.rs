//! A Redis that dies, hangs, restarts, comes late, or wants something else than it is given.

use fanfare::kv::datacenter::Taking;
use fanfare::kv::redis;
use fanfare::kv::redis::{Config, StartError};
use fanfare::kv::{Answer, Append, Heard, KeyValue as _, Notice, Request, Unavailable, bucket, digest};
use fanfare::limits::{REDIS_QUESTIONS, WITHDRAWN_REFUSED};
use fanfare::wire::position::Position;

use super::driver::{AGE_MS, Store, append, batch, deletion, event_for, node_info, of_one_bucket, topic, with_id};
use crate::support::eventually;
use crate::support::redis::Redis;

/// Waits until questions are answered again.
#[track_caller]
fn is_back(store: &Store) {
    eventually("the store to be back", || {
        store.try_ask(Request::Subscribers(topic("live:1"))).map_err(|error| error.to_string())?;
        store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err)
    });
}

/// Waits until questions are answered with errors, and the store says why.
#[track_caller]
fn is_away(store: &Store) {
    eventually("the store to be away", || {
        let answer = store.try_ask(Request::Subscribers(topic("live:1")));
        match (answer, store.kv.trouble().map(|reason| reason.whole())) {
            (Err(_), Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn killed_and_restarted_empty() {
    let mut redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    let topics = of_one_bucket(2);
    let held = [(bucket("live:1"), digest(topics.iter().map(|topic| topic.as_str())))];
    let begun = other.beat(8, &[]).since;
    assert!(begun.is_some() && !other.beat_since(8, &[], begun).lost, "it begins, and lost nothing");
    one.ask(batch(7, 1, false, &[(&topics[0], true), (&topics[1], true)]));
    assert_eq!(one.beat(7, &held).nodes, [node_info(7), node_info(8)]);
    assert_eq!(other.subscribers(&topics[0]), [7]);
    let (place, _) = one.append(&topics[0], "x", 9);
    let since = one.ends(&topics)[0].since.place();
    assert!(one.read(&topics[0], since, 9).reaches.place() <= place);
    other.notices();

    redis.kill();
    is_away(&one);
    is_away(&other);
    redis.restart();
    is_back(&one);
    is_back(&other);
    other.hears(&Notice::InvalidatedAll);

    // Its lease is gone, but nobody can say that it is dead.
    let alive = one.beat(7, &held);
    assert_eq!(alive.nodes, [node_info(7), node_info(8)]);
    assert_eq!(alive.differing, [held[0].0]);
    assert_eq!(other.subscribers(&topics[0]), [0u64; 0]);
    one.ask(batch(7, 2, true, &[(&topics[0], true), (&topics[1], true)]));
    assert_eq!(one.beat(7, &held).differing, [0u8; 0]);
    other.hears(&Notice::Invalidated(topics[0].clone()));
    assert_eq!(other.subscribers(&topics[0]), [7]);
    // Who comes back with what it had is told that some may be missing.
    let ends = one.ends(&topics);
    assert!(ends[0].position.is_none() && ends[0].since.place() > place);
    assert!(one.read(&topics[0], place, 9).reaches.place() > place);
    // That it did not only begin it cannot know; who knew it before says so, and others hear of it.
    let (told, fresh) = (one.beat_since(7, &[], begun), one.beat(9, &[]));
    assert!(told.since > begun && told.lost && fresh.lost && fresh.since == told.since, "{told:?} {fresh:?}");
    assert!(!other.beat_since(8, &[], told.since).lost, "nobody said so here");
}

#[test]
fn killed_and_restarted_with_what_was_on_disk() {
    let mut redis = Redis::durable();
    let store = Store::redis(&redis.url(), "dc1");
    let one = topic("live:1");
    let (place, _) = store.append(&one, "x", 9);
    store.ask(batch(7, 1, false, &[(&one, true)]));
    redis.kill();
    is_away(&store);
    redis.restart();
    is_back(&store);
    assert_eq!(store.subscribers(&one), [7]);
    let page = store.read(&one, Position::START, 9);
    assert_eq!(page.events[0].position, place);
    // What the disk did not get in time is gone, and nobody knows how much that was.
    assert!(page.reaches.place() > place);
    let (next, prev) = store.append(&one, "y", 9);
    // Whoever had only the first one is not to take the next for what follows it.
    assert!(next > place && prev.is_none());
}

#[test]
fn hanging() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let one = topic("live:1");
    store.append(&one, "x", 9);
    redis.pause();
    let requests = || {
        (0..300).map(|number| if number % 3 == 0 { append(&one, "y", 9) } else { Request::Subscribers(one.clone()) })
    };
    let tickets: Vec<u64> = requests().map(|request| store.submit(0, request)).collect();
    for ticket in tickets {
        store.wait(ticket).expect_err("it hangs");
    }
    is_away(&store);
    for ticket in requests().map(|request| store.submit(1, request)).collect::<Vec<u64>>() {
        store.wait(ticket).expect_err("it hangs");
    }
    redis.resume();
    is_back(&store);
    store.append(&one, "z", 9);
}

#[test]
fn more_questions_than_can_wait() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    redis.pause();
    let mut refused = 0;
    let request = || Request::Subscribers(topic("live:1"));
    for ticket in 0..REDIS_QUESTIONS as u64 + 10 {
        // The tickets are not the driver's: their answers are not waited for.
        let answer = store.kv.submit(0, 1 << 40 | ticket, request(), &mut Vec::new());
        refused += usize::from(matches!(answer, Some(Err(Unavailable(_)))));
    }
    assert!(refused >= 10, "{refused}");
    redis.resume();
    is_back(&store);
}

#[test]
fn away_at_the_start() {
    let mut redis = Redis::start();
    redis.kill();
    let store = Store::unfound(&redis.url(), "dc1");
    assert!(store.kv.trouble().map(|reason| reason.whole()).expect("it is away").contains("refused"));
    store.try_ask(Request::Subscribers(topic("live:1"))).expect_err("it is away");
    redis.restart();
    is_back(&store);
}

#[test]
fn a_wrong_password() {
    let redis = Redis::with_password("right");
    let store = Store::unfound(&redis.url().replace("right", "wrong"), "dc1");
    let trouble = store.kv.trouble().map(|reason| reason.whole()).expect("it is refused");
    assert!(trouble.contains("WRONGPASS") && !trouble.contains("wrong@"), "{trouble}");
    assert!(
        Store::unfound(&format!("redis://127.0.0.1:{}", redis.port), "dc1")
            .kv
            .trouble()
            .map(|reason| reason.whole())
            .is_some()
    );
    is_back(&Store::redis(&redis.url(), "dc1"));
    redis.command(&["CONFIG", "SET", "requirepass", "wrong"]);
    is_back(&store);
}

#[test]
fn addresses_that_cannot_be_meant() {
    for url in ["redis://", "redis://a,a", "rediss://kv?cacert=/no/such/file"] {
        let config =
            Config { dc: "dc1".to_owned(), history_age_ms: 1, sweeps: false, shards: 1, presence: Default::default() };
        let error = redis::start(url, config, std::sync::Arc::new(|_, _| {})).expect_err(url);
        assert!(matches!(error, StartError::Address(_)), "{error}");
    }
}

#[test]
fn forgotten_scripts() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    redis.command(&["SCRIPT", "FLUSH"]);
    let one = topic("live:1");
    let tickets: Vec<u64> = (0..50).map(|number| store.submit(0, append(&one, &number.to_string(), 99))).collect();
    for ticket in tickets {
        store.wait(ticket).expect("scripts are loaded again");
    }
    let texts: Vec<String> =
        store.read(&one, Position::START, 99).events.iter().map(|event| event.event.to_string()).collect();
    assert_eq!(texts, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn one_process_hears_what_another_changes() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc1"));
    let topics = of_one_bucket(2);
    assert_eq!(one.subscribers(&topics[0]), [0u64; 0]);
    one.notices();
    other.ask(batch(7, 1, false, &[(&topics[0], true), (&topics[1], true)]));
    one.hears(&Notice::Invalidated(topics[0].clone()));
    assert_eq!(one.subscribers(&topics[0]), [7]);
    assert_eq!(other.ask(Request::Leave(fanfare::wire::connection_id::NodeId(7))), Answer::Left);
    one.hears(&Notice::Invalidated(topics[0].clone()));
    assert_eq!(one.subscribers(&topics[0]), [0u64; 0]);
    // A topic that is looked up once and then hot costs the server nothing.
    let commands = || redis.info("commandstats", "cmdstat_smembers").unwrap_or_default();
    let before = commands();
    one.notices();
    assert_eq!(commands(), before);
    redis.command(&["FLUSHALL"]);
    one.hears(&Notice::InvalidatedAll);
}

#[test]
fn data_centers_share_a_server_and_nothing_else() {
    let redis = Redis::start();
    let (one, other) = (Store::redis(&redis.url(), "dc1"), Store::redis(&redis.url(), "dc2"));
    let live = topic("live:1");
    one.append(&live, "x", 9);
    one.ask(batch(7, 1, false, &[(&live, true)]));
    one.set(&live, "a", "x", None);
    assert_eq!(other.live(9), [9]);
    assert_eq!((other.subscribers(&live), other.latest(&live)), (vec![], vec![]));
    assert_eq!(other.ends(std::slice::from_ref(&live))[0].position, None);
}

#[test]
fn events_count_only_once_a_replica_has_them() {
    let master = Redis::start();
    let mut replica = Redis::with(&["--save", "", "--replicaof", &format!("127.0.0.1 {}", master.port)]);
    eventually("the replica to follow", || match master.info("replication", "slave0") {
        Some(line) if line.contains("state=online") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let store = Store::redis(&master.url(), "dc1");
    let one = topic("live:1");
    let (first, _) = store.append(&one, "1", 99);
    let number = Position { ms: 1, seq: 0 };
    let events = vec![(number, event_for(&one, "taken", 99, &[]))];
    let taking = Request::Take(Taking { dc: "eu".to_owned(), bucket: bucket("live:1"), epoch: 1, events });
    replica.pause();
    for request in [append(&one, "2", 99), taking.clone()] {
        let refused = store.try_ask(request).expect_err("nobody else has it");
        assert!(refused.0.contains("no replica"), "{refused}");
    }
    // Nothing else waits for replicas.
    assert_eq!(store.read(&one, first, 9).events.len(), 2);
    replica.resume();
    // It is there once, whoever was told.
    assert_eq!(store.ask(taking), Answer::Taken(vec![None]));
    let tickets: Vec<u64> = (0..200).map(|_| store.submit(0, append(&one, "3", 999))).collect();
    for ticket in tickets {
        store.wait(ticket).expect("the replica is back");
    }
    // A master that is known to be alone is taken at its word.
    replica.kill();
    eventually("events to be taken without a replica", || {
        store.try_ask(append(&one, "4", 99)).map(drop).map_err(|error| error.to_string())
    });
}

/// A cache as a dispatcher keeps it must not keep an answer that is older than a change it was told of before.
#[test]
fn no_answer_outlives_its_invalidation() {
    let redis = Redis::start();
    let changer = Store::redis(&redis.url(), "dc1");
    let (sender, heard) = std::sync::mpsc::channel();
    let config =
        Config { dc: "dc1".to_owned(), history_age_ms: 1, sweeps: false, shards: 1, presence: Default::default() };
    let tell = move |_, heard| drop(sender.send(heard));
    let kv = redis::start(&redis.url(), config, std::sync::Arc::new(tell)).expect("it starts");
    let topics = of_one_bucket(20);
    let mut wanted = false;
    let mut cached: Vec<Option<bool>> = vec![None; topics.len()];
    for number in 1..300u64 {
        wanted = !wanted;
        let changes: Vec<_> = topics.iter().map(|topic| (topic, wanted)).collect();
        let applied = changer.submit(0, batch(7, number, false, &changes));
        let mut open = 0;
        for (at, topic) in topics.iter().enumerate().filter(|(at, _)| cached[*at].is_none()) {
            let request = Request::Subscribers(topic.clone());
            assert!(kv.submit(0, at as u64, request, &mut Vec::new()).is_none());
            open += 1;
        }
        changer.wait(applied).expect("it is there");
        let deadline = std::time::Instant::now() + crate::support::DEADLINE;
        // Whatever is kept, is true; what is not kept may be looked up.
        while open > 0 || cached.iter().flatten().any(|kept| *kept != wanted) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match heard
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("round {number}: {cached:?} is kept, not {wanted}"))
            {
                Heard::Answer { ticket, result: Ok(Answer::Subscribers(nodes)) } => {
                    cached[ticket as usize] = Some(!nodes.is_empty());
                    open -= 1;
                }
                Heard::Answer { result, .. } => panic!("{result:?}"),
                Heard::Notice(Notice::Invalidated(topic)) => {
                    cached[topics.iter().position(|other| *other == topic).expect("one of them")] = None;
                }
                Heard::Notice(Notice::InvalidatedAll) => cached.fill(None),
                Heard::Notice(_) => {}
            }
        }
    }
}

/// Where no note can be taken of what is dropped, it stays: history is read all the same, and nothing is missing unsaid.
#[test]
fn history_is_read_while_the_server_takes_no_notes() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let one = topic("live:1");
    let (first, _) = store.append_of(&one, "message", "first", 9, AGE_MS);
    let (short, _) = store.append_of(&one, "short", "short", 9, 1);
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    // It is surely too old by then.
    while store.ends(std::slice::from_ref(&one))[0].clock.is_none_or(|clock| clock.ms <= short.ms + 1) {}
    let page = store.read(&one, first, 9);
    assert_eq!(page.events.iter().map(|event| &*event.event).collect::<Vec<_>>(), ["short"]);
    assert!(page.reaches.covers(first), "{page:?}");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let page = store.read(&one, first, 9);
    assert!(page.events.is_empty() && page.reaches.place() == short, "{page:?}");
}

/// Looking through a history costs the server as much as a thousand appends: a crowd of deletions, each by itself, held up all else.
#[test]
fn each_of_many_deletions_looks_through_the_history_by_itself() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    let live = topic("live:1");
    let all = |append: &dyn Fn(usize) -> Append| {
        let tickets: Vec<u64> = (0..600).map(|which| store.submit(0, Request::Append(append(which)))).collect();
        for ticket in tickets {
            assert!(matches!(store.wait(ticket), Ok(Answer::Appended { .. })), "it is appended");
        }
    };
    let looks = || {
        let calls = redis.info("commandstats", "cmdstat_xrevrange").unwrap_or_default();
        calls.split_once("calls=").map_or(0, |(_, rest)| rest.split(',').next().unwrap().parse::<u32>().unwrap())
    };
    all(&|which| event_for(&live, &with_id(&which.to_string()), 9_999, &["eu"]));
    let before = looks();
    all(&|which| deletion(&live, &which.to_string(), 9_999, &["eu"]));
    let looks = looks() - before;
    assert!(looks < 600 * 10, "{looks} looks for 600 deletions");
    let page = store.read(&live, Position::START, 2_000);
    let left: Vec<&str> = page.events.iter().map(|event| &*event.event).collect();
    let told: Vec<String> = (0..600).map(|which| with_id(&format!("{which}.deleted"))).collect();
    assert_eq!(left, told);
}

/// An event that was taken back is refused for as long as history may have its deletion, by which clients know that it is gone.
#[test]
fn deleted_event_that_comes_again_while_its_deletion_is_in_history() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "dc1");
    store.ask(Request::Append(deletion(&topic("live:1"), "7", 9, &[])));
    let script = "return redis.call('PTTL', redis.call('KEYS', '*without 7')[1])";
    let left: u64 = redis.command(&["EVAL", script, "0"]).trim_start_matches(':').parse().expect("a number");
    assert!(left > WITHDRAWN_REFUSED.as_millis() as u64 && left <= AGE_MS, "{left} ms");
}
