use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::*;
use crate::kv::{SetLatest, digest};
use crate::wire::node_url::NodeUrl;

fn topic() -> Topic {
    Topic::parse("live:1").unwrap()
}

fn ask(kv: &MemoryKv, request: Request) -> (Answer, Vec<Notice>) {
    let mut notices = Vec::new();
    let answer = kv.submit(0, 0, request, &mut notices).expect("it answers at once");
    (answer.expect("it is always there"), notices)
}

fn batch(number: u64, full: bool, changes: &[(&str, bool)]) -> Request {
    let changes = changes.iter().map(|(topic, wanted)| (Topic::parse(topic).unwrap(), *wanted)).collect();
    Request::Apply(Batch { node: NodeId(7), bucket: bucket("live:1"), number, full, changes })
}

#[test]
fn caches_hear_of_changes_and_of_nothing_else() {
    let kv = MemoryKv::new(1000, Times::machine());
    let invalidated = vec![Notice::Invalidated(topic())];
    assert_eq!(ask(&kv, batch(1, false, &[("live:1", true)])), (Answer::Applied, invalidated.clone()));
    let subscribers = |nodes: &[NodeId]| (Answer::Subscribers(nodes.into()), vec![]);
    assert_eq!(ask(&kv, Request::Subscribers(topic())), subscribers(&[NodeId(7)]));
    assert_eq!(ask(&kv, batch(2, false, &[("live:1", true)])), (Answer::Applied, vec![]));
    // An older batch that comes late changes nothing.
    assert_eq!(ask(&kv, batch(2, false, &[("live:1", false)])), (Answer::Applied, vec![]));
    assert_eq!(ask(&kv, Request::Subscribers(topic())), subscribers(&[NodeId(7)]));
    assert_eq!(ask(&kv, batch(3, false, &[("live:1", false)])), (Answer::Applied, invalidated));
    assert_eq!(ask(&kv, Request::Subscribers(topic())), subscribers(&[]));
}

#[test]
fn a_heartbeat_finds_what_differs_and_a_full_batch_mends_it() {
    let start = Instant::now();
    let kv = MemoryKv::new(1000, Times::simulated(move || (start, Duration::from_millis(5_000))));
    ask(&kv, batch(1, false, &[("live:1", true)]));
    let node = NodeInfo {
        id: NodeId(7),
        roles: vec!["frontend".to_owned()],
        url: NodeUrl::parse("http://127.0.0.1:1").unwrap(),
        database: None,
    };
    let number = bucket("live:1");
    let beat = |digest| {
        let digests = vec![(number, digest)];
        Request::Heartbeat(Heartbeat { node: node.clone(), digests, counts: None, since: None })
    };
    let since = Some(kv.0.lock().histories.since());
    let alive = |differing| {
        let (nodes, peers) = (vec![node.clone()], vec![]);
        (
            Answer::Alive(Alive { nodes, differing, recount: false, peers, since, lost: false, now_ms: Some(5_000) }),
            vec![],
        )
    };
    assert_eq!(ask(&kv, beat(digest(["live:1"]))), alive(vec![]));
    assert_eq!(ask(&kv, beat(0)), alive(vec![number]));
    ask(&kv, batch(2, true, &[]));
    assert_eq!(ask(&kv, beat(0)), alive(vec![]));
    ask(&kv, batch(3, true, &[("live:1", true)]));
    assert_eq!(ask(&kv, Request::Leave(NodeId(7))), (Answer::Left, vec![Notice::Invalidated(topic())]));
    assert_eq!(ask(&kv, Request::Subscribers(topic())).0, Answer::Subscribers([].into()));
}

#[test]
fn a_silent_node_is_dead_and_then_swept() {
    let kv = MemoryKv::new(1000, Times::machine());
    ask(&kv, batch(1, false, &[("live:1", true)]));
    let url = NodeUrl::parse("http://h").unwrap();
    let node = |id| NodeInfo { id: NodeId(id), roles: Vec::new(), url: url.clone(), database: None };
    let beat = |id, now_ms| {
        let mut notices = Vec::new();
        let heartbeat = Heartbeat { node: node(id), digests: Vec::new(), counts: None, since: None };
        let alive = kv.0.lock().heartbeat(heartbeat, now_ms, &mut notices);
        (alive.nodes.iter().map(|node| node.id.0).collect::<Vec<_>>(), notices.len())
    };
    let lease = NODE_LEASE.as_millis() as u64;
    assert_eq!(beat(7, 1000), (vec![7], 0));
    assert_eq!(beat(3, 1000 + lease - 1), (vec![3, 7], 0), "in the order of their ids");
    assert_eq!(beat(3, 1000 + lease), (vec![3], 0), "what it wants stays for a while, in case it was only slow");
    assert_eq!(beat(7, 1000 + lease + 1), (vec![3, 7], 0));
    assert_eq!(beat(3, 1000 + NODE_SWEEP.as_millis() as u64), (vec![3], 1), "swept");
    assert_eq!(ask(&kv, Request::Subscribers(topic())).0, Answer::Subscribers([].into()));
    // A batch of it that was still on its way does not stay forever.
    ask(&kv, batch(2, false, &[("live:1", true)]));
    assert_eq!(beat(3, Times::machine().unix_ms() + NODE_SWEEP.as_millis() as u64), (vec![3], 1), "swept again");
    assert_eq!(ask(&kv, Request::Subscribers(topic())).0, Answer::Subscribers([].into()));
}

#[test]
fn what_it_keeps_is_a_part_of_what_the_process_may_have() {
    let kv = MemoryKv::new(1_000_000, Times::machine());
    let keep = |kv: &MemoryKv, number: u64| {
        let topic = Topic::parse(&format!("live:{number}")).unwrap();
        let event: Arc<str> = format!("\"{number} {}\"", "x".repeat(15_000)).into();
        let append = Append {
            topic: topic.clone(),
            event: Arc::clone(&event),
            kind: "comment".to_owned(),
            count_max: 9,
            age_max_ms: 1_000_000,
            withdraws: None,
            peers: Vec::new(),
            pace: None,
        };
        ask(kv, Request::Append(append));
        let latest =
            SetLatest { topic, field: "x".to_owned(), event, version: None, dc: "dc".to_owned(), age_ms: None };
        ask(kv, Request::SetLatest(latest));
        // Those who are online stay.
        let tables = &mut *kv.0.lock();
        tables.members.beat(vec![format!("{number} {}", "n".repeat(1_000))], number * 60_000);
        let buckets: Vec<u8> = (0..64).collect();
        tables.members.due(&buckets, 9, number * 60_000 + 59_000);
    };
    let within = |kv: &MemoryKv, memory: usize| {
        let [history, values, members, ..] = kv.kept();
        assert!(history <= memory / 4 + 32_768 && values <= memory / 8 && members <= memory / 8, "{:?}", kv.kept());
        [history, values, members].iter().sum::<usize>() > memory / 4
    };
    kv.bound(1 << 20);
    (0..300).for_each(|number| keep(&kv, number));
    assert!(within(&kv, 1 << 20), "{:?}", kv.kept());
    // Less, by a change of the settings.
    kv.bound(1 << 19);
    (300..400).for_each(|number| keep(&kv, number));
    within(&kv, 1 << 19);
}

/// A node whose memory is full takes no events, so nothing but the time makes room in it again.
#[test]
fn history_that_expired_goes_while_nothing_is_appended() {
    let unix_ms = Arc::new(AtomicU64::new(1_000_000));
    let (read, start) = (Arc::clone(&unix_ms), Instant::now());
    let times = Times::simulated(move || (start, Duration::from_millis(read.load(Relaxed))));
    let kv = MemoryKv::new(1000, times);
    for number in 0..3 * SWEPT_AT_ONCE {
        let append = Append {
            topic: Topic::parse(&format!("live:{number}")).unwrap(),
            event: "1".into(),
            kind: "comment".to_owned(),
            count_max: 9,
            age_max_ms: 1000,
            withdraws: None,
            peers: Vec::new(),
            pace: None,
        };
        ask(&kv, Request::Append(append));
    }
    let full = kv.kept()[0];
    let url = NodeUrl::parse("http://h").unwrap();
    let node = NodeInfo { id: NodeId(1), roles: Vec::new(), url, database: None };
    let beat = || {
        let node = node.clone();
        ask(&kv, Request::Heartbeat(Heartbeat { node, digests: Vec::new(), counts: None, since: None }));
        kv.kept()[0]
    };
    assert_eq!(beat(), full, "nothing has expired");
    unix_ms.fetch_add(1_000_000, Relaxed);
    let left: Vec<usize> = (0..3).map(|_| beat()).collect();
    assert!(full > left[0] && left[0] > left[1] && left[1] > 0, "a part a heartbeat: {full} {left:?}");
    assert_eq!(left[2], 0);
}
