use proptest::prelude::*;

use super::*;
use crate::wire::frame::tests::frame;
use crate::wire::frame::{Event, Stranger};
use crate::wire::version::Version;

const ROOMY: Bounds = Bounds { bytes: 1 << 20, keys: 256 };

fn data(frame: &Frame) -> String {
    frame.json().rsplit("\"data\":").next().expect("a part of it").to_owned()
}

fn drained(backlog: &mut Queue, now: u64) -> (Vec<(String, u64)>, Drained) {
    let mut out = Vec::new();
    let rest = backlog.drain(now, |frame, count| {
        out.push((String::from_utf8(frame.recounted(count).event().to_vec()).unwrap(), count));
    });
    (out, rest)
}

#[test]
fn past_its_budget_every_is_overrun_and_sums_go_on() {
    let mut backlog = Queue::new(Bounds { bytes: 1000, keys: 2 });
    let comment = frame("live:1", "comment", None, Class::Every, &format!("\"{}\"", "x".repeat(700)));
    assert_eq!(backlog.push(&comment, 1, 0), Pushed::Queued);
    assert_eq!(backlog.push(&comment, 1, 0), Pushed::Overrun);
    let like = |key: &str| frame("live:1", "like", Some(key), Class::Sum, &format!("\"{}\"", "y".repeat(200)));
    assert_eq!(backlog.push(&like("a"), 1, 0), Pushed::Queued);
    assert_eq!(backlog.push(&like("a"), 1, 0), Pushed::Merged);
    assert_eq!(backlog.push(&like("b"), 1, 0), Pushed::Queued);
    assert_eq!(backlog.push(&like("c"), 1, 0), Pushed::Displaced(2));
    let typing = frame("chat:1", "typing", None, Class::Ephemeral, "1");
    assert_eq!(backlog.push(&typing, 1, 0), Pushed::Dropped);
    assert_eq!(drained(&mut backlog, 0).0.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(backlog.is_empty() && backlog.bytes() == 0);
    assert_eq!(backlog.push(&comment, 1, 0), Pushed::Queued, "what it lacks is its reader's to know");
}

#[test]
fn frames_of_other_data_centers_merge_while_their_numbers_fit() {
    use crate::wire::connection_id::NodeId;
    use crate::wire::frame::{ORIGINS_MAX, Origin};
    let mut backlog = Queue::new(Bounds { bytes: 400, keys: 2 });
    let like = frame("live:1", "like", None, Class::Sum, "1");
    let mut pushed = [0; 5];
    for number in 0..5 * ORIGINS_MAX as u64 {
        let origin = Origin { sender: Stranger::of("b", NodeId(1)), shard: 0, number, count: 1 };
        pushed[match backlog.push(&like.with_origins(&[origin]), 1, 0) {
            Pushed::Queued => 0,
            Pushed::Merged => 1,
            Pushed::Dropped => 2,
            other => panic!("{other:?}"),
        }] += 1;
    }
    let mut seen = Vec::new();
    let drained = backlog.drain(0, |frame, count| {
        assert_eq!((frame.origins().len(), count), (ORIGINS_MAX, ORIGINS_MAX as u64));
        seen.extend(frame.origins().iter().map(|origin| origin.number));
    });
    assert_eq!(drained.frames, pushed[0] as u64);
    assert_eq!(pushed[0] + pushed[1], seen.len(), "each number waits, or is counted as dropped");
    assert!(seen.is_sorted() && pushed[0] > 1 && pushed[2] > 0, "{pushed:?}");
}

#[test]
fn more_latest_keys_than_fit_is_an_overrun_not_a_silent_loss() {
    let mut backlog = Queue::new(Bounds { bytes: 0, keys: 1 });
    let receipt = |key: &str| frame("chat:1", "receipt", Some(key), Class::Latest, "1");
    assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Queued);
    assert_eq!(backlog.push(&receipt("b"), 1, 0), Pushed::Overrun);
    assert_eq!(backlog.push(&receipt("a"), 1, 0), Pushed::Merged);
}

#[test]
fn ephemeral_frames_expire() {
    let mut backlog = Queue::new(ROOMY);
    let typing = frame("chat:1", "typing", None, Class::Ephemeral, "1");
    for at in [0, 1000] {
        assert_eq!(backlog.push(&typing, 1, at), Pushed::Queued);
    }
    assert_eq!(drained(&mut backlog, 5500).1, Drained { frames: 1, expired: 1 });
}

#[test]
fn a_like_that_comes_late_does_not_take_the_place_of_a_newer_total() {
    let mut backlog = Queue::new(ROOMY);
    let like = |version: u64| {
        let (id, topic, kind, class) = ("i", "live:1", "like", Class::Sum);
        let version = Version { number: version, dc: "" };
        let event =
            Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version, hops: None };
        Arc::new(Frame::encode(&event))
    };
    for (version, pushed) in [(7, Pushed::Queued), (9, Pushed::Merged), (8, Pushed::Merged)] {
        assert_eq!(backlog.push(&like(version), 1, 0), pushed);
    }
    let mut left = Vec::new();
    assert_eq!(backlog.drain(0, |frame, count| left.push((frame.version().number, count))).frames, 1);
    assert_eq!((left, backlog.bytes()), (vec![(9, 3)], 0));
}

#[test]
fn a_value_that_comes_late_does_not_take_the_place_of_a_newer_one() {
    let mut backlog = Queue::new(ROOMY);
    let value = |number: u64, dc: &str| {
        let (id, topic, kind, class) = ("i", "live:1", "score", Class::Latest);
        let version = Version { number, dc };
        let event =
            Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version, hops: None };
        Arc::new(Frame::encode(&event))
    };
    let mut newest = |values: &[(u64, &str)]| {
        for (number, dc) in values {
            let _ = backlog.push(&value(*number, dc), 1, 0);
        }
        let mut left = Vec::new();
        assert_eq!(backlog.drain(0, |frame, _| left.push(Arc::clone(frame))).frames, 1);
        let version = left[0].version();
        (version.number, version.dc.to_owned(), backlog.bytes())
    };
    assert_eq!(newest(&[(7, "a"), (9, "a"), (8, "b")]), (9, "a".to_owned(), 0));
    assert_eq!(newest(&[(9, "b"), (9, "a")]), (9, "b".to_owned(), 0), "of one number the data center decides");
    assert_eq!(newest(&[(9, "a"), (9, "b")]), (9, "b".to_owned(), 0));
    assert_eq!(newest(&[(9, "a"), (0, "")]), (0, String::new(), 0), "one without a version is newer");
}

proptest! {
    /// Against a model without bounds: sums exact, newest of latest, all of the rest, newest events in order.
    #[test]
    fn merges_and_loses_nothing(
        ops in prop::collection::vec((0usize..2, 0usize..4, 0usize..3), 1..300), way in 0..3,
    ) {
        let mut backlog = Queue::new(ROOMY);
        let mut events = Vec::new();
        for (number, &(topic, kind, key)) in ops.iter().enumerate() {
            let class = Class::ALL[kind];
            let frame = frame(&format!("t:{topic}"), class.name(), Some(&key.to_string()), class, &number.to_string());
            let pushed = backlog.push(&frame, 1, 0);
            prop_assert!(matches!(pushed, Pushed::Queued | Pushed::Merged), "{:?}", pushed);
            events.push(frame);
        }
        prop_assert_eq!(backlog.bytes(), backlog.entries.iter().flatten().map(|e| e.frame.bytes().len()).sum::<usize>());
        let (mut seen, mut counts) = (Vec::new(), Map::default());
        let mut each = |frame: &Arc<Frame>, count| {
            seen.push(Arc::clone(frame));
            counts.insert(ByIdentity(Arc::clone(frame)), count);
        };
        let mut piece = 0;
        match way {
            0 => while backlog.take_front(0, 300, 3, &mut each).frames > 0 {},
            // Every third time the reader has no room.
            1 => while !backlog.is_empty() {
                let passed = backlog.pass(0, |frame| {
                    piece += 1;
                    let takes = piece % 3 > 0;
                    if takes {
                        each(&frame, u64::from(frame.count()));
                    }
                    takes
                });
                prop_assert_eq!(passed.expired, 0);
            },
            _ => prop_assert_eq!(backlog.drain(0, each).expired, 0),
        }
        prop_assert!(backlog.index.is_empty() && backlog.bytes() == 0 && backlog.is_empty());
        // What should be left: each event that is not followed by another of its identity, where its class merges.
        let expected: Vec<_> = events.iter().enumerate().filter(|(at, frame)| {
            !matches!(frame.class(), Class::Sum | Class::Latest)
                || !events[at + 1..].iter().any(|later| later.identity() == frame.identity())
        }).map(|(_, frame)| data(frame)).collect();
        prop_assert_eq!(seen.iter().map(|frame| data(frame)).collect::<Vec<_>>(), expected);
        for frame in seen.iter().filter(|frame| frame.class() == Class::Sum) {
            let total = events.iter().filter(|event| event.identity() == frame.identity()).count() as u64;
            prop_assert_eq!(counts[&ByIdentity(Arc::clone(frame))], total);
        }
    }
}

#[test]
fn past_its_keys_the_oldest_of_a_viewers_sums_go() {
    let mut backlog = Queue::for_viewers(Bounds { bytes: 0, keys: 20 });
    let like = |key: usize| frame("live:1", "like", Some(&key.to_string()), Class::Sum, "1");
    for key in 0..20 {
        assert_eq!(backlog.push(&like(key), 1, 0), if key == 0 { Pushed::Queued } else { Pushed::Merged });
    }
    assert_eq!(backlog.push(&like(3), 5, 0), Pushed::Merged, "that it has");
    assert_eq!(backlog.push(&like(20), 1, 0), Pushed::Displaced(21), "sixteen keys are one event");
    let mut left = Vec::new();
    assert_eq!(backlog.drain(0, |frame, count| left.push((frame.json().to_owned(), count))).frames, 1);
    assert!(
        left[0].1 == 5 && left[0].0.contains("\"counts\":{\"16\":1,\"17\":1,\"18\":1,\"19\":1,\"20\":1}"),
        "{left:?}"
    );
    assert_eq!((backlog.bytes(), backlog.sum_keys), (0, 0));
}

proptest! {
    /// Of what viewers get: sums exact key by key, however events come merged already, and newest values.
    #[test]
    fn a_viewers_sums_are_exact_key_by_key(
        ops in prop::collection::vec((0usize..2, 0usize..40, 1u64..4, 0usize..4), 1..300), passes: bool, budget in prop::sample::select(vec![0usize, 1 << 20]),
    ) {
        let mut backlog = Queue::for_viewers(Bounds { bytes: budget, keys: 1 << 10 });
        let (mut sent, mut shown) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        let mut each = |frame: &Arc<Frame>| {
            let event: serde_json::Value = serde_json::from_str(frame.json()).unwrap();
            let topic = event["topic"].as_str().unwrap().to_owned();
            let mut add = |key: &str, count: &serde_json::Value| *shown.entry((topic.clone(), key.to_owned())).or_insert(0) += count.as_u64().unwrap();
            match event["counts"].as_object() {
                Some(counts) => counts.iter().for_each(|(key, count)| add(key, count)),
                None => add(event["key"].as_str().unwrap(), &event["count"]),
            }
        };
        let mut sums: Option<Sums> = None;
        for &(topic, key, count, op) in &ops {
            let (topic, key) = (format!("t:{topic}"), key.to_string());
            let one = frame(&topic, "like", Some(&key), Class::Sum, "1").recounted(count);
            let mut push = |frame: &Arc<Frame>| assert!(matches!(backlog.push(frame, u64::from(frame.count()), 0), Pushed::Queued | Pushed::Merged));
            *sent.entry((topic, key)).or_insert(0) += count;
            match (&mut sums, op) {
                // Some come merged, as windows make them.
                (Some(sums), 1) if sums.first().is_some_and(|first| first.family() == one.family()) => sums.add(&one, count),
                (_, 1) => if let Some(old) = sums.replace(Sums::of(&one, count)) { old.frames().for_each(|frame| push(&frame)) },
                _ => push(&one),
            }
            if op == 3 {
                let mut room = 2;
                let _ = backlog.pass(0, |frame| { room -= 1; if room > 0 { each(&frame) } room > 0 });
            }
            let waits = backlog.entries.iter().flatten();
            prop_assert_eq!(backlog.bytes(), waits.clone().map(Entry::bytes).sum::<usize>());
            prop_assert_eq!(backlog.sum_keys, waits.map(Entry::keys).sum::<usize>());
        }
        sums.iter().flat_map(Sums::frames).for_each(|frame| { let _ = backlog.push(&frame, u64::from(frame.count()), 0); });
        if passes {
            let _ = backlog.pass(0, |frame| { each(&frame); true });
        } else {
            let _ = backlog.drain(0, |frame, count| { assert_eq!(u64::from(frame.count()), count); each(frame) });
        }
        prop_assert!(backlog.is_empty() && (backlog.bytes(), backlog.sum_keys) == (0, 0));
        prop_assert_eq!(shown, sent);
    }
}
