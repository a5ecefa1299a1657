//! What holds for every store.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use fanfare::kv::datacenter::Taking;
use fanfare::kv::pace::{Pace, Room};
use fanfare::kv::{Answer, Append, BUCKETS, Found, Notice, Page, Request, TopicsAsk, bucket, digest};
use fanfare::limits::LATEST_KEYS_MAX;
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::position::Position;

use super::driver::{
    AGE_MS, Store, append, batch, deletion, event_at, event_for, node_info, of_one_bucket, topic, with_id,
};
use crate::support::DEADLINE;
use crate::support::redis::{Cluster, Redis};

/// What holds, by name.
type Behaviour = (&'static str, fn(&Store));

/// Each one gets a store of its own that is empty.
const ALL: [Behaviour; 22] = [
    ("subscriptions", subscriptions),
    ("full_batches", full_batches),
    ("heartbeats", heartbeats),
    ("nodes_that_leave", nodes_that_leave),
    ("history", history),
    ("history_says_what_is_missing", history_says_what_is_missing),
    ("each_type_by_itself", each_type_by_itself),
    ("taken_back", taken_back),
    ("pace", pace),
    ("odd_positions", odd_positions),
    ("ends", ends),
    ("topics_that_begin_so", topics_that_begin_so),
    ("newest_values", newest_values),
    ("order", order),
    ("viewer_counts", super::counts::hold),
    ("many_viewer_counts", super::counts::hold_for_many_topics),
    ("presence", super::presence::holds),
    ("queues", super::queues::hold),
    ("full_queues", super::queues::are_bounded),
    ("taking", super::queues::are_taken_once),
    ("peers", super::peers::are_known),
    ("peers_members", super::peer_members::are_known),
];

#[test]
fn in_memory() {
    for (name, holds) in ALL {
        println!("{name}");
        holds(&Store::memory());
    }
}

#[test]
fn in_a_redis() {
    let redis = Redis::start();
    for (name, holds) in ALL {
        println!("{name}");
        holds(&Store::redis(&redis.url(), &name.replace('_', "-")));
    }
}

#[test]
fn in_a_cluster() {
    let cluster = Cluster::start();
    for (name, holds) in ALL {
        println!("{name}");
        holds(&Store::redis(&cluster.url(), &name.replace('_', "-")));
    }
    // The URL of one node is enough, whatever it says of a Cluster.
    subscriptions(&Store::redis(&cluster.nodes[4].url(), "one-node"));
}

/// Topics that begin so, by name.
fn found(store: &Store, begin: &str, after: Position, limit: u32) -> (Vec<String>, Found) {
    let ask = TopicsAsk { begin: begin.to_owned(), after, limit };
    let Answer::Topics(found) = store.ask(Request::Topics(ask)) else { panic!("it lists topics") };
    let mut names: Vec<String> = found.topics.iter().map(|(topic, _)| topic.to_string()).collect();
    names.sort_unstable();
    (names, found)
}

fn topics_that_begin_so(store: &Store) {
    assert_eq!(found(store, "chat:crew.", Position::START, 9).0, [""; 0]);
    let crew = ["chat:crew.1", "chat:crew.2", "chat:crew.20", "chat:crew.a:b"];
    let others = ["chat:crew", "chat:crewx.1", "chat:cre", "room:chat:crew.1"];
    let places: Vec<Position> = crew.iter().chain(&others).map(|name| store.append(&topic(name), "{}", 9).0).collect();
    let (names, all) = found(store, "chat:crew.", Position::START, 9);
    assert_eq!(names, crew);
    assert!(
        !all.more
            && all.topics.iter().all(|(topic, end)| crew.iter().zip(&places).any(|of| of == (&topic.as_str(), end)))
    );
    assert!(all.topics.is_sorted_by_key(|(_, end)| std::cmp::Reverse(*end)), "{all:?}");
    assert!(all.reaches.covers(Position { seq: 0, ..places[0] }) && all.since <= all.reaches);
    // What is appended later lies behind its clock, and is found by that.
    let later = store.append(&topic(crew[1]), "{}", 9).0;
    assert!(later > all.clock);
    let (names, newest) = found(store, "chat:crew.", all.clock, 9);
    assert!(names.contains(&crew[1].to_owned()), "{names:?}");
    assert_eq!(newest.topics[0], (topic(crew[1]), later));
    assert_eq!(found(store, "chat:crew.", later, 9).0, [""; 0]);
    assert_eq!(found(store, "chat:", Position::START, 99).0.len(), 7);
    let (names, some) = found(store, "chat:crew.", Position::START, 2);
    assert!(some.more && names.len() == 2 && some.topics[0].1 == later, "{some:?}");
}

fn subscriptions(store: &Store) {
    let topics = of_one_bucket(3);
    let [one, two, three] = [&topics[0], &topics[1], &topics[2]];
    assert_eq!(store.subscribers(one), [0u64; 0]);
    store.notices();
    assert_eq!(store.ask(batch(7, 1, false, &[(one, true), (two, true)])), Answer::Applied);
    store.hears(&Notice::Invalidated(one.clone()));
    assert_eq!((store.subscribers(one), store.subscribers(two)), (vec![7], vec![7]));
    store.ask(batch(u64::MAX, 1, false, &[(one, true)]));
    store.hears(&Notice::Invalidated(one.clone()));
    assert_eq!(store.subscribers(one), [7, u64::MAX]);
    // An older batch that comes late, or again, changes nothing.
    store.ask(batch(7, 1, false, &[(one, false)]));
    assert_eq!(store.subscribers(one), [7, u64::MAX]);
    store.ask(batch(7, 3, false, &[(one, false), (three, true), (three, true)]));
    store.hears(&Notice::Invalidated(one.clone()));
    assert_eq!((store.subscribers(one), store.subscribers(three)), (vec![u64::MAX], vec![7]));
    store.ask(batch(7, 2, false, &[(one, true)]));
    assert_eq!(store.subscribers(one), [u64::MAX]);
}

fn full_batches(store: &Store) {
    let topics = of_one_bucket(4);
    let [one, two, three, four] = [&topics[0], &topics[1], &topics[2], &topics[3]];
    store.ask(batch(7, 1, false, &[(one, true), (two, true)]));
    store.ask(batch(8, 1, false, &[(one, true), (two, true)]));
    store.subscribers(two);
    store.notices();
    store.ask(batch(7, 2, true, &[(one, true), (three, true), (four, false)]));
    store.hears(&Notice::Invalidated(two.clone()));
    assert_eq!(
        topics.iter().map(|topic| store.subscribers(topic)).collect::<Vec<_>>(),
        [vec![7, 8], vec![8], vec![7], vec![]]
    );
    let number = bucket(one.as_str());
    let held = digest([one.as_str(), three.as_str()]);
    assert_eq!(store.beat(7, &[(number, held)]).differing, [0u8; 0]);
    store.ask(batch(7, 3, true, &[]));
    assert_eq!(store.beat(7, &[(number, 0)]).differing, [0u8; 0]);
    assert_eq!(store.subscribers(one), [8]);
}

fn heartbeats(store: &Store) {
    let topics = of_one_bucket(2);
    let number = bucket(topics[0].as_str());
    store.ask(batch(7, 1, false, &[(&topics[0], true), (&topics[1], true)]));
    let all = digest([topics[0].as_str(), topics[1].as_str()]);
    let mut digests: Vec<(u8, u64)> = (0..BUCKETS as u8).map(|number| (number, 0)).collect();
    digests[usize::from(number)].1 = all;
    let alive = store.beat(7, &digests);
    assert_eq!((alive.nodes, alive.differing), (vec![node_info(7)], vec![]));
    digests[usize::from(number)].1 = digest([topics[0].as_str()]);
    assert_eq!(store.beat(7, &digests).differing, [number]);
    store.ask(batch(7, 2, false, &[(&topics[1], false)]));
    assert_eq!(store.beat(7, &digests).differing, [0u8; 0]);
    // A change that changes nothing leaves the digest.
    store.ask(batch(7, 3, false, &[(&topics[0], true), (&topics[1], false)]));
    assert_eq!(store.beat(7, &digests).differing, [0u8; 0]);
}

fn nodes_that_leave(store: &Store) {
    let topics = of_one_bucket(700);
    let changes: Vec<_> = topics.iter().map(|topic| (topic, true)).collect();
    store.ask(batch(7, 1, true, &changes));
    assert_eq!(
        store.beat(7, &[(bucket("live:1"), digest(topics.iter().map(|topic| topic.as_str())))]).differing,
        [0u8; 0]
    );
    store.ask(batch(8, 1, false, &changes[..1]));
    assert_eq!(store.subscribers(&topics[699]), [7]);
    store.notices();
    assert_eq!(store.ask(Request::Leave(NodeId(7))), Answer::Left);
    store.hears(&Notice::Invalidated(topics[699].clone()));
    assert!(topics[1..].iter().all(|topic| store.subscribers(topic).is_empty()));
    assert_eq!(store.subscribers(&topics[0]), [8]);
    // It is forgotten: the same name begins anew.
    store.ask(batch(7, 1, false, &changes[1..2]));
    assert_eq!(store.subscribers(&topics[1]), [7]);
}

fn history(store: &Store) {
    let one = topic("live:1");
    let page = store.read(&one, Position::START, 5);
    assert!(page.events.is_empty() && page.complete && page.reaches.place() > Position::START);
    let from = page.reaches.place();
    let events = ["{\"a\":1}", "ü", "3", "", "5"];
    let mut last = None;
    for event in events {
        let (position, prev) = store.append(&one, event, 100);
        assert_eq!(prev, last);
        assert!(position >= from && Some(position) > last);
        last = Some(position);
    }
    let page = store.read(&one, Position::START, 3);
    assert_eq!(page.events.iter().map(|event| &*event.event).collect::<Vec<_>>(), events[..3]);
    assert!(!page.complete && page.events[0].prev.is_none());
    assert_eq!(page.events[1].prev, Some(page.events[0].position));
    let rest = store.read(&one, page.events[2].position, 2);
    assert_eq!(rest.events.iter().map(|event| &*event.event).collect::<Vec<_>>(), events[3..]);
    assert!(rest.complete && rest.reaches.place() <= page.events[2].position);
    assert_eq!(store.read(&one, rest.events[1].position, 1).events, []);
    assert_eq!(store.append(&topic("live:2"), "x", 1).1, None);
}

fn history_says_what_is_missing(store: &Store) {
    let one = topic("live:1");
    let places: Vec<Position> = (0..6).map(|number| store.append(&one, &number.to_string(), 3).0).collect();
    let page = store.read(&one, places[0], 9);
    assert_eq!(page.events.iter().map(|event| event.position).collect::<Vec<_>>(), places[3..]);
    assert_eq!((page.reaches.place(), page.events[0].prev), (places[2], Some(places[2])));
    assert_eq!(store.read(&one, places[2], 9).events.len(), 3);
}

fn each_type_by_itself(store: &Store) {
    let one = topic("live:1");
    let texts = |page: &Page| page.events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>();
    let read = |after| store.read(&one, after, 99);
    let (first, _) = store.append_of(&one, "message", "first", 100, AGE_MS);
    // Those beyond its count go, and nothing else does.
    let notes: Vec<Position> =
        (0..5).map(|number| store.append_of(&one, "note", &number.to_string(), 2, AGE_MS).0).collect();
    let page = read(Position::START);
    assert_eq!((texts(&page), page.reaches.place()), (vec!["first".into(), "3".into(), "4".into()], notes[2]));
    // What is too old goes without another one of its type, and is the end of history all the same.
    let (short, prev) = store.append_of(&one, "short", "gone", 100, 1);
    assert_eq!(prev, Some(notes[4]));
    let page = becomes_of(|| Some(read(notes[4])).filter(|page| page.events.is_empty()));
    assert_eq!((page.complete, page.reaches.place()), (true, short));
    assert_eq!(store.ends(std::slice::from_ref(&one))[0].position, Some(short));
    assert_eq!(texts(&read(Position::START)), ["first", "3", "4"]);
    let (last, prev) = store.append_of(&one, "message", "last", 100, AGE_MS);
    assert_eq!(prev, Some(short));
    // In whatever pages it is read.
    let mut page = store.read(&one, Position::START, 1);
    let mut all = texts(&page);
    while !page.complete {
        page = store.read(&one, page.events[0].position, 1);
        all.extend(texts(&page));
    }
    assert_eq!(all, ["first", "3", "4", "last"]);
    assert_eq!(page.events[0].prev, Some(short));
    assert!(page.reaches.place() == short && first < last);
    // A topic that keeps nothing still knows that it had something.
    let two = topic("live:2");
    let (only, _) = store.append_of(&two, "short", "gone", 100, 1);
    let page = becomes_of(|| Some(store.read(&two, Position::START, 9)).filter(|page| page.events.is_empty()));
    assert_eq!((page.reaches.place(), store.ends(&[two])[0].position), (only, Some(only)));
}

/// The text of an event that was taken back is nowhere, whether it was told once or twice, and nothing seems to be missing.
fn taken_back(store: &Store) {
    let one = topic("live:1");
    let from = store.read(&one, Position::START, 9).reaches.place();
    let append = |append: Append| {
        let Answer::Appended { position, prev, .. } = store.ask(Request::Append(append)) else { panic!("appended") };
        (position, prev)
    };
    let place = |id: &str| append(event_for(&one, &with_id(id), 99, &["eu"])).0;
    let places: Vec<Position> = ["1", "2", "3", "4", "2"].into_iter().map(place).collect();
    let texts = |ids: &[&str]| ids.iter().map(|id| with_id(id)).collect::<Vec<_>>();
    let has = |ids: &[&str]| {
        let page = store.read(&one, from, 99);
        let found: Vec<String> = page.events.iter().map(|event| event.event.to_string()).collect();
        assert_eq!((found, page.complete, page.reaches.place()), (texts(ids), true, from));
        let queue = store.waiting("eu", None, 99);
        assert_eq!(queue.events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>(), texts(ids));
        page.events
    };
    has(&["1", "2", "3", "4", "2"]);
    let (deleted, prev) = append(deletion(&one, "2", 99, &["eu"]));
    assert_eq!(prev, places[4]);
    let events = has(&["1", "3", "4", "2.deleted"]);
    assert_eq!((events[1].prev, events[3].position), (Some(places[1]), deleted));
    // In whatever pages it is read.
    let page = store.read(&one, places[0], 2);
    assert_eq!((page.events.len(), page.complete), (2, false));
    let page = store.read(&one, places[2], 2);
    assert_eq!((page.events.len(), page.complete), (2, true));
    // The first ones, one after the other, and one that is not there.
    for (id, left) in [
        ("3", vec!["1", "4", "2.deleted", "3.deleted"]),
        ("1", vec!["4", "2.deleted", "3.deleted", "1.deleted"]),
        ("5", vec!["4", "2.deleted", "3.deleted", "1.deleted", "5.deleted"]),
    ] {
        append(deletion(&one, id, 99, &["eu"]));
        has(&left);
    }
    // One that comes only now, since whoever tells of it began before it was deleted.
    let late = Request::Append(event_for(&one, &with_id("5"), 99, &["eu"]));
    assert_eq!(store.ask(late), Answer::Repeated { id: Some("5".to_owned()) });
    has(&["4", "2.deleted", "3.deleted", "1.deleted", "5.deleted"]);
    // What comes behind goes on from there, and places are given up as if the events were still there.
    append(event_for(&one, &with_id("6"), 3, &["eu"]));
    let page = store.read(&one, from, 99);
    assert_eq!(page.events.iter().map(|event| &*event.event).collect::<Vec<_>>()[0], with_id("4"));
    assert_eq!(page.reaches.place(), places[2]);
    // A peer's event takes back what came from there before, also if that comes again.
    let two = of_one_bucket(2).pop().expect("two");
    store.append(&two, &with_id("1"), 99);
    let number = Position { ms: 7, seq: 1 };
    let taking = Taking {
        dc: "eu".to_owned(),
        bucket: bucket(two.as_str()),
        epoch: 7,
        events: vec![(number, deletion(&two, "1", 99, &[]))],
    };
    for is_new in [true, false] {
        assert_eq!(store.take(taking.clone())[0].is_some(), is_new);
        let page = store.read(&two, from, 9);
        assert_eq!(page.events.iter().map(|event| &*event.event).collect::<Vec<_>>(), [with_id("1.deleted")]);
        assert_eq!(page.reaches.place(), from);
    }
    let events = vec![(Position { ms: 7, seq: 2 }, event_for(&two, &with_id("1"), 99, &[]))];
    assert_eq!(store.take(Taking { events, ..taking }), [None]);
}

/// Waits until there is one.
#[track_caller]
fn becomes_of<T>(look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never becomes so");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn odd_positions(store: &Store) {
    let one = topic("live:1");
    let (place, _) = store.append(&one, "x", 3);
    for after in [
        Position { ms: u64::MAX, seq: u64::MAX },
        Position { ms: u64::MAX, seq: 0 },
        Position { ms: 9_999_999_999_999, seq: u64::MAX },
        Position { ms: place.ms, seq: u64::MAX },
    ] {
        assert!(store.read(&one, after, 9).events.is_empty());
    }
    assert_eq!(store.read(&one, Position { ms: place.ms - 1, seq: u64::MAX }, 9).events.len(), 1);
}

fn ends(store: &Store) {
    let topics: Vec<_> = (0..400).map(|number| topic(&format!("live:{number}"))).collect();
    let (first, _) = store.append(&topics[3], "x", 9);
    let (last, _) = store.append(&topics[399], "x", 9);
    let mut asked = topics.clone();
    asked.push(topics[3].clone());
    let found = store.ends(&asked);
    assert_eq!(found.len(), 401);
    assert_eq!((found[3].position, found[399].position, found[400]), (Some(first), Some(last), found[3]));
    assert!(found.iter().enumerate().all(|(at, end)| [3, 399, 400].contains(&at) || end.position.is_none()));
    assert!(found.iter().all(|end| end.since.place() > Position::START && end.since.place() <= first));
    assert_eq!(store.ends(&[]), []);
}

fn newest_values(store: &Store) {
    let one = topic("live:1");
    let (first, newest) = store.set(&one, "a", "1", None);
    assert!(newest && first > 0);
    let (second, newest) = store.set(&one, "a", "2", None);
    assert!(newest && second > first);
    assert_eq!(store.set(&one, "a", "3", Some((second - 1, "x"))), (second - 1, false));
    assert_eq!(store.set(&one, "a", "4", Some((second, "x"))), (second, true));
    assert_eq!(store.set(&one, "a", "5", Some((second, "x"))), (second, false));
    assert_eq!(store.set(&one, "a", "6", Some((second, "w-1"))), (second, false));
    assert_eq!(store.set(&one, "a", "7 1:ü", Some((second, "x-1"))), (second, true));
    assert_eq!(store.set(&one, "b \"k\"", "8", Some((7, "x"))), (7, true));
    assert_eq!(store.latest(&one), [(7, "8".to_owned()), (second, "7 1:ü".to_owned())]);
    assert_eq!(store.latest(&topic("live:2")), []);
    let asked = [(&one, 0), (&topic("live:2"), 0), (&one, 7), (&one, second), (&one, second - 1)];
    let newer = [(second + 7, second), (0, 0), (second - 7, second), (0, second), (1, second)];
    // A version that a database counted is none that is newer than a time.
    let counted = [7, 0, 7, 7, 7];
    let found: Vec<_> = newer.into_iter().zip(counted).map(|((beyond, newest), sum)| (beyond, newest, sum)).collect();
    assert_eq!(store.newer(&asked), found);
    let full = topic("live:3");
    for number in 0..=LATEST_KEYS_MAX as u64 {
        store.set(&full, &number.to_string(), "x", Some((number + 1, "x")));
    }
    let versions: Vec<u64> = store.latest(&full).iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (2..=LATEST_KEYS_MAX as u64 + 1).collect::<Vec<_>>());
}

fn order(store: &Store) {
    let one = topic("live:1");
    let tickets: Vec<u64> = (0..500).map(|number| store.submit(0, append(&one, &number.to_string(), 5000))).collect();
    let read =
        store.submit(0, Request::Read(fanfare::kv::Read { topic: one.clone(), after: Position::START, limit: 5000 }));
    let end = store.submit(0, Request::Ends(vec![topic("live:2"), one.clone()]));
    let applied = store.submit(0, batch(7, 1, false, &[(&one, true)]));
    let subscribers = store.submit(0, Request::Subscribers(one.clone()));
    let mut last = None;
    for ticket in tickets {
        let Ok(Answer::Appended { position, prev, .. }) = store.wait(ticket) else { panic!("appended") };
        assert_eq!(event_at(prev), last);
        last = Some(position);
    }
    let Ok(Answer::Page(page)) = store.wait(read) else { panic!("a page") };
    let texts: Vec<String> = page.events.iter().map(|event| event.event.to_string()).collect();
    assert_eq!(texts, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
    let Ok(Answer::Ends(ends)) = store.wait(end) else { panic!("ends") };
    assert_eq!(ends[1].position, last);
    assert_eq!(store.wait(applied), Ok(Answer::Applied));
    assert_eq!(store.wait(subscribers), Ok(Answer::Subscribers([NodeId(7)].into())));
}

/// Which events are shown is decided by their places' times alone, and stands in history and in what waits for peers.
fn pace(store: &Store) {
    let one = topic("live:1");
    let (mut room, mut texts) = (Room::default(), Vec::new());
    for number in 0..300u32 {
        let pace = Pace { per_second: NonZeroU32::new(9).expect("not 0"), always: number % 100 == 7 };
        let text = with_id(&number.to_string());
        let append = Append { pace: Some(pace), ..event_for(&one, &text, 999, &["eu"]) };
        let Answer::Appended { position, paced, .. } = store.ask(Request::Append(append)) else { panic!("appended") };
        assert_eq!(paced, room.decide(pace, position.ms), "{number}");
        texts.push(paced.mark(&text).into_owned());
    }
    assert!(
        texts.iter().any(|text| text.contains("\"shown\":false"))
            && texts.iter().any(|text| text.contains("\"skipped\":"))
    );
    let page = store.read(&one, Position::START, 999);
    assert_eq!(page.events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>(), texts);
    let queue = store.waiting("eu", None, 999);
    assert_eq!(queue.events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>(), texts);
}
