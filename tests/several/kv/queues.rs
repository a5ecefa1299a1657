//! What waits for peers, and what of theirs was taken.

use fanfare::kv::datacenter::{QueuePage, Taking};
use fanfare::kv::{Notice, bucket};
use fanfare::limits::{PEER_QUEUE_BYTES, PEER_QUEUE_ENTRY_BYTES, PEER_QUEUE_PAGE, PEER_QUEUE_PAGE_BYTES};
use fanfare::wire::position::Position;
use fanfare::wire::topic::Topic;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::driver::{Store, event_at, event_for, of_one_bucket};
use crate::support::redis::{Cluster, Redis};

fn texts(page: &QueuePage) -> Vec<&str> {
    page.events.iter().map(|event| &*event.event).collect()
}

/// The peer has all of this page.
pub fn done(page: &QueuePage) -> Option<(u64, Position)> {
    page.events.last().map(|last| (page.epoch, last.number))
}

/// What another data center gets of a page, all for one topic unless `topic` says otherwise.
pub fn taking(page: &QueuePage, topic: impl Fn(&str) -> Topic) -> Taking {
    let event = |event: &fanfare::kv::datacenter::Queued| {
        (event.number, event_for(&topic(&event.event), &event.event, 100_000, &[]))
    };
    let events = page.events.iter().map(event).collect();
    Taking { dc: "a".to_owned(), bucket: bucket("live:1"), epoch: page.epoch, events }
}

/// Holds for every store.
pub fn hold(store: &Store) {
    let [one, two] = <[Topic; 2]>::try_from(of_one_bucket(2)).expect("two");
    let queued = Notice::Queued(bucket("live:1"));
    assert_eq!(store.waiting("b", None, 9), QueuePage { epoch: 0, events: vec![], more: false, lost: 0 });
    store.append(&one, "for nobody", 9);
    assert_eq!(store.waiting("b", None, 9).epoch, 0);
    store.append_for(&one, "1", &["b", "c"]);
    store.hears(&queued);
    store.append_for(&two, "ü 2", &["b"]);
    store.append_for(&one, "", &["c", "b"]);
    let all = store.waiting("b", None, 9);
    assert_eq!((texts(&all), all.more, all.lost), (vec!["1", "ü 2", ""], false, 0));
    assert!(all.epoch > 0 && all.events.is_sorted_by_key(|event| event.number));
    assert!(all.events.windows(2).all(|two| two[0].number < two[1].number));
    assert!(all.events[0].number.ms > 1_700_000_000_000);
    assert_eq!(store.waiting("b", Some((all.epoch + 1, all.events[2].number)), 9), all, "another queue's numbers");
    let first = store.waiting("b", None, 2);
    assert_eq!((texts(&first), first.more), (vec!["1", "ü 2"], true));
    assert_eq!(texts(&store.waiting("b", None, 0)), ["1"], "one is the least");
    let rest = store.waiting("b", done(&first), 1);
    assert_eq!((texts(&rest), rest.more, rest.epoch), (vec![""], false, all.epoch));
    assert_eq!(store.waiting("b", done(&first), 9), rest, "a repeat changes nothing");
    assert_eq!(texts(&store.waiting("c", None, 9)), ["1", ""], "each peer has its own");
    let empty = store.waiting("b", done(&rest), 9);
    assert_eq!((empty.epoch, empty.events.len(), empty.more), (all.epoch, 0, false));
    // It goes on where it was.
    store.notices();
    store.append_for(&one, "4", &["b"]);
    store.hears(&queued);
    let next = store.waiting("b", done(&rest), 9);
    assert_eq!((texts(&next), next.epoch), (vec!["4"], all.epoch));
    assert!(next.events[0].number > all.events[2].number);
    let far = Position { ms: u64::MAX, seq: u64::MAX };
    assert_eq!(store.waiting("b", Some((all.epoch, far)), 9).events, []);
}

/// Holds for every store: the oldest are given up for want of room, are counted once, and pages are bounded by bytes.
pub fn are_bounded(store: &Store) {
    let one = &of_one_bucket(1)[0];
    let text = |number: u64| format!("{number:06}{}", "x".repeat(15_994));
    let fit = PEER_QUEUE_BYTES / (16_000 + PEER_QUEUE_ENTRY_BYTES);
    let tickets: Vec<u64> = (0..fit + 3).map(|number| store.submit(0, request(one, &text(number)))).collect();
    tickets.into_iter().for_each(|ticket| drop(store.wait(ticket).expect("it is there")));
    let page = store.waiting("b", None, PEER_QUEUE_PAGE);
    assert_eq!((page.lost, page.more, page.events.len()), (3, true, PEER_QUEUE_PAGE_BYTES / 16_000));
    assert_eq!(*page.events[0].event, *text(3));
    assert_eq!(store.waiting("b", None, 1).lost, 0, "said once");
    // What the peer has makes room for as much, to the byte; many small ones go for one large one.
    let done = Some((page.epoch, page.events[1].number));
    assert_eq!(store.waiting("b", done, 1).lost, 0);
    let left = PEER_QUEUE_BYTES - (fit - 2) * (16_000 + PEER_QUEUE_ENTRY_BYTES);
    store.append_for(one, &"y".repeat((left - PEER_QUEUE_ENTRY_BYTES) as usize), &["b"]);
    assert_eq!(store.waiting("b", None, 1).lost, 0);
    store.append_for(one, "", &["b"]);
    let page = store.waiting("b", None, 1);
    assert_eq!((page.lost, &*page.events[0].event), (1, &*text(6)));
    let (mut done, mut seen) = (None, Vec::new());
    loop {
        let page = store.waiting("b", done, PEER_QUEUE_PAGE);
        assert_eq!(page.lost, 0);
        seen.extend(page.events.iter().map(|event| event.event.len()));
        done = self::done(&page);
        if !page.more {
            break;
        }
    }
    assert_eq!((seen.len() as u64, seen.last()), (fit - 1, Some(&0)));
}

fn request(topic: &Topic, event: &str) -> fanfare::kv::Request {
    fanfare::kv::Request::Append(event_for(topic, event, 9, &["b"]))
}

/// Holds for every store.
pub fn are_taken_once(store: &Store) {
    let topics = of_one_bucket(2);
    let (first, _) = store.append(&topics[0], "own", 9);
    let event = |ms, topic: usize, text: &str| (Position { ms, seq: 0 }, event_for(&topics[topic], text, 9, &[]));
    let taking = |epoch, dc: &str, events| Taking { dc: dc.to_owned(), bucket: bucket("live:1"), epoch, events };
    let list = vec![event(5, 0, "5"), event(6, 1, "6"), event(8, 0, "8")];
    let placed = store.take(taking(7, "a", list.clone()));
    let places: Vec<_> = placed.iter().map(|placed| placed.expect("it is new").0).collect();
    let prevs: Vec<_> = placed.iter().map(|placed| placed.expect("it is new").1).collect();
    assert_eq!(prevs.into_iter().map(event_at).collect::<Vec<_>>(), [Some(first), None, Some(places[0])]);
    assert!(first < places[0] && places[0] < places[2]);
    // Again, and with one that is new behind them.
    assert_eq!(store.take(taking(7, "a", list.clone())), [None, None, None]);
    let more = [list.clone(), vec![event(8, 0, "again"), event(9, 1, "9")]].concat();
    let again = store.take(taking(7, "a", more));
    assert_eq!((&again[..4], again[4].map(|(_, prev)| prev)), (&[None; 4][..], Some(places[1])));
    assert_eq!(store.take(taking(7, "a", vec![])), []);
    assert_eq!(store.take(taking(7, "a", vec![event(9, 0, "9")])), [None]);
    // Another peer's numbers, and those of another queue, are others.
    assert!(store.take(taking(7, "c", vec![event(5, 0, "c")]))[0].is_some());
    assert!(store.take(taking(8, "a", vec![event(5, 0, "new")]))[0].is_some());
    assert_eq!(store.take(taking(8, "a", vec![event(5, 0, "new")])), [None]);
    // A request of the queue before comes late; what it lacks of that is new, and the present one's mark stands.
    assert_eq!(store.take(taking(7, "a", vec![event(9, 1, "9")])), [None]);
    assert!(store.take(taking(7, "a", vec![event(10, 1, "10")]))[0].is_some());
    assert_eq!(store.take(taking(8, "a", vec![event(5, 0, "new")])), [None]);
    assert_eq!(store.take(taking(7, "a", vec![event(10, 1, "10")])), [None]);
    let read = |topic| {
        let events = store.read(topic, Position::START, 9).events;
        assert!(events.windows(2).all(|two| two[1].prev == Some(two[0].position)));
        events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(read(&topics[0]), ["own", "5", "8", "c", "new"]);
    assert_eq!(read(&topics[1]), ["6", "9", "10"]);
    assert_eq!(store.waiting("c", None, 9).epoch, 0, "it goes no further");
    in_order(store, &topics);
}

/// Appends, takings and reads of one shard, all under way at once.
fn in_order(store: &Store, topics: &[Topic]) {
    use fanfare::kv::{Answer, Read, Request};
    let mut tickets = Vec::new();
    let text = |number: u64| number.to_string();
    for number in 0..60u64 {
        if number % 3 == 0 {
            tickets.push(store.submit(0, Request::Append(event_for(&topics[0], &text(number), 5000, &[]))));
        } else {
            let at = Position { ms: 100 + number, seq: 0 };
            let events = topics
                .iter()
                .enumerate()
                .map(|(half, topic)| (Position { seq: half as u64, ..at }, event_for(topic, &text(number), 5000, &[])));
            let taking = Taking { dc: "a".to_owned(), bucket: bucket("live:1"), epoch: 8, events: events.collect() };
            tickets.push(store.submit(0, Request::Take(taking)));
        }
    }
    let read = Read { topic: topics[0].clone(), after: Position::START, limit: 5000 };
    let read = store.submit(0, Request::Read(read));
    for ticket in tickets {
        let placed = store.wait(ticket).expect("it is there");
        assert!(!matches!(placed, Answer::Taken(placed) if placed.iter().any(Option::is_none)));
    }
    let Ok(Answer::Page(page)) = store.wait(read) else { panic!("a page") };
    let last: Vec<String> = page.events.iter().rev().take(60).rev().map(|event| event.event.to_string()).collect();
    assert_eq!(last, (0..60).map(text).collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Op {
    Append(u8),
    Ask(u32),
    /// A page arrives, again perhaps, and its answer too.
    Arrive(prop::sample::Index),
    /// A page arrives, and its answer is lost.
    Unheard(prop::sample::Index),
    /// An answer comes late.
    Late(prop::sample::Index),
}

/// Pages are sent and answered, or not, over and over, by more than one sender: each event arrives once, in order.
fn arrive_once(stores: impl Fn(u32) -> [Store; 2], cases: u32) {
    let op = prop_oneof![
        3 => (1u8..4).prop_map(Op::Append),
        2 => (1u32..5).prop_map(Op::Ask),
        3 => any::<prop::sample::Index>().prop_map(Op::Arrive),
        1 => any::<prop::sample::Index>().prop_map(Op::Unheard),
        1 => any::<prop::sample::Index>().prop_map(Op::Late),
    ];
    let case = std::sync::atomic::AtomicU32::new(0);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let topic = &of_one_bucket(1)[0];
    let result = runner.run(&prop::collection::vec(op, 1..60), |ops| {
        let [here, there] = stores(case.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (mut queued, mut pages) = (0, Vec::<QueuePage>::new());
        for op in ops {
            match op {
                Op::Append(count) => {
                    for _ in 0..count {
                        here.append_for(topic, &queued.to_string(), &["b"]);
                        queued += 1;
                    }
                }
                Op::Ask(limit) => pages.push(here.waiting("b", None, limit)),
                _ if pages.is_empty() => {}
                Op::Arrive(at) => {
                    let page = at.get(&pages).clone();
                    there.take(taking(&page, |_| topic.clone()));
                    pages.push(here.waiting("b", done(&page), 3));
                }
                Op::Unheard(at) => drop(there.take(taking(at.get(&pages), |_| topic.clone()))),
                Op::Late(at) => {
                    // Only what arrived is answered.
                    let page = at.get(&pages);
                    there.take(taking(page, |_| topic.clone()));
                    here.waiting("b", done(page), 1);
                }
            }
        }
        let mut page = here.waiting("b", None, 7);
        while !page.events.is_empty() {
            prop_assert_eq!(page.lost, 0);
            there.take(taking(&page, |_| topic.clone()));
            page = here.waiting("b", done(&page), 7);
        }
        let found = there.read(topic, Position::START, 10_000).events;
        let found: Vec<String> = found.iter().map(|event| event.event.to_string()).collect();
        prop_assert_eq!(found, (0..queued).map(|number| number.to_string()).collect::<Vec<_>>());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn events_arrive_once_in_memory() {
    arrive_once(|_| [Store::memory(), Store::memory()], 64);
}

#[test]
fn events_arrive_once_in_a_redis() {
    let redis = Redis::start();
    let stores = |case| ["a", "b"].map(|dc| Store::redis(&redis.url(), &format!("{dc}-{case}")));
    arrive_once(stores, 24);
}

#[test]
fn events_arrive_once_in_a_cluster() {
    let cluster = Cluster::start();
    let stores = |case| ["a", "b"].map(|dc| Store::redis(&cluster.url(), &format!("{dc}-{case}")));
    arrive_once(stores, 8);
}

#[test]
fn another_queue_begins_where_one_was_lost() {
    let redis = Redis::start();
    let (here, there) = (Store::redis(&redis.url(), "a"), Store::redis(&redis.url(), "b"));
    let topic = &of_one_bucket(1)[0];
    here.append_for(topic, "1", &["b"]);
    let before = here.waiting("b", None, 9);
    assert!(there.take(taking(&before, |_| topic.clone()))[0].is_some());
    let mut epochs = vec![before.epoch];
    for keys in [":q:b", ":q:b:state"] {
        // One of its keys alone is no queue. Numbers that the peer has may be given again: its clock is set back.
        let key = |rest: &str| format!("fanfare:{{a:{}}}{rest}", bucket("live:1"));
        redis.command(&["XSETID", &key(":q:b"), "9000000000000-7"]);
        redis.command(&["DEL", &key(keys)]);
        here.append_for(topic, "2", &["b"]);
        let page =
            here.waiting("b", Some((*epochs.last().expect("one"), Position { ms: 9_000_000_000_000, seq: 8 })), 9);
        assert_eq!(texts(&page), ["2"]);
        assert!(!epochs.contains(&page.epoch), "{epochs:?}");
        epochs.push(page.epoch);
    }
    assert_eq!(redis.command(&["FLUSHALL"]), "+OK");
    assert_eq!(here.waiting("b", done(&before), 9).epoch, 0);
    here.append_for(topic, "3", &["b"]);
    let after = here.waiting("b", done(&before), 9);
    assert_eq!((texts(&after), after.lost, after.epoch == before.epoch), (vec!["3"], 0, false));
    assert!(there.take(taking(&after, |_| topic.clone()))[0].is_some());
    assert_eq!(there.take(taking(&after, |_| topic.clone())), [None]);
}

/// Times that pass between tests are moved instead.
#[test]
fn what_waits_too_long_is_given_up_and_queues_do_not_last() {
    let redis = Redis::start();
    let store = Store::redis(&redis.url(), "a");
    let topic = &of_one_bucket(1)[0];
    let keys = ["", ":state"].map(|rest| format!("fanfare:{{a:{}}}:q:b{rest}", bucket("live:1")));
    store.append_for(topic, "1", &["b"]);
    let ends = keys.each_ref().map(|key| redis.command(&["PEXPIRETIME", key]));
    assert_eq!(ends[0], ends[1], "both go at once");
    assert!(ends[0].len() > 10, "{ends:?}");
    let epoch = store.waiting("b", None, 9).epoch;
    // As if the rest had been queued more than an hour ago, and this server's clock had been ahead.
    redis.command(&["DEL", &keys[0]]);
    for (id, text) in [("1000-1", "old"), ("1000-2", "old"), ("9000000000000-7", "new")] {
        redis.command(&["XADD", &keys[0], id, "e", text, "b", "0"]);
    }
    let page = store.waiting("b", None, 9);
    assert_eq!((texts(&page), page.lost, page.epoch), (vec!["new"], 2, epoch));
    store.append_for(topic, "newer", &["b"]);
    let page = store.waiting("b", done(&page), 9);
    assert_eq!((texts(&page), page.lost), (vec!["newer"], 0));
    assert!(page.events[0].number > Position { ms: 9_000_000_000_000, seq: 7 });
}
