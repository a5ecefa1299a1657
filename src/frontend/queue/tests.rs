use super::*;
use crate::wire::frame::tests::frame;
use crate::wire::frame::{Event, Stranger};
use crate::wire::version::Version;
use proptest::prelude::*;

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
        let event = Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
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
        let event = Event { id, topic, kind, key: None, at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
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
