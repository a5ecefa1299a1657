use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::frontend::newest::Keeping;
use crate::limits::{FLOOD_BYTES, MERGING_REST, MERGING_SLICE};
use crate::runtime::account::{Account, Use};
use crate::runtime::random::Map;
use crate::wire::event::Class;
use crate::wire::frame::tests::frame;
use crate::wire::frame::{Event, Paced, Place};
use crate::wire::version::Version;

#[derive(Debug, Clone)]
enum Op {
    Join,
    Leave(prop::sample::Index),
    Publish,
    Serve(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => Just(Op::Join),
        2 => any::<prop::sample::Index>().prop_map(Op::Leave),
        3 => Just(Op::Publish),
        3 => (0u8..12).prop_map(Op::Serve),
    ];
    prop::collection::vec(op, 1..200)
}

#[test]
fn without_memory_one_event_at_a_time_is_served_and_the_rest_is_told_of() {
    let account = Account::new([60_000; Use::ALL.len()]);
    let mut topics = Topics::new(&account);
    let (index, place, _) = topics.join(&Topic::parse("live:1").unwrap(), &All::default(), 0);
    let large = frame("live:1", "x", None, Class::Every, &format!("\"{}\"", "y".repeat(16_000)));
    let like = frame("live:1", "like", Some("like"), Class::Sum, "1");
    let mut others = account.open(Use::Topics);
    others.settle(60_000);
    let entry = topics.get_mut(index);
    for now_ms in [0, 10_000, 20_000] {
        assert_eq!(entry.append(&large, now_ms), Pushed::Queued, "the log is empty");
        assert_eq!(entry.append(&large, now_ms), Pushed::Overrun);
        assert_eq!([entry.append(&like, now_ms), entry.append(&like, now_ms)], [Pushed::Queued, Pushed::Merged]);
        assert!(account.held(Use::Topics) < 60_000 + 40_000, "{account:?}");
        // The viewer takes it, and then what waited.
        for rests in [100, 200, 300, 400] {
            if entry.next_viewer(now_ms + rests) == Some(0) {
                entry.viewers[0].cursor = entry.log.end();
            }
        }
        assert!(entry.log.is_empty());
    }
    others.settle(0);
    assert_eq!([entry.append(&large, 0), entry.append(&large, 0)], [Pushed::Queued; 2], "there is room again");
    topics.leave(index, place);
    assert_eq!(account.held(Use::Topics), 0);
}

#[test]
fn what_expires_behind_a_full_log_is_counted() {
    let mut topics = Topics::new(&Account::unbounded());
    let (index, place, _) = topics.join(&Topic::parse("live:1").unwrap(), &All::default(), 0);
    let entry = topics.get_mut(index);
    let large = frame("live:1", "x", None, Class::Every, &format!("\"{}\"", "y".repeat(16_000)));
    while entry.log.len() < LOG_BYTES_MAX {
        assert_eq!(entry.append(&large, 0), Pushed::Queued);
    }
    for at in [0, 9_000] {
        assert_eq!(entry.append(&frame("live:1", "typing", None, Class::Ephemeral, "1"), at), Pushed::Queued);
    }
    assert_eq!(entry.next_viewer(10_000), Some(place));
    entry.viewers[0].cursor = entry.log.end();
    // The log was seen by all, so what waited behind it follows after a rest; the first waited 10 s, twice its time and no more.
    assert_eq!((entry.next_viewer(10_000), entry.rest_ms(10_000)), (None, Some(MERGING_REST.as_millis() as u64)));
    assert_eq!(entry.next_viewer(10_025), Some(place));
    assert_eq!((entry.log.frames_since(entry.viewers[0].cursor), entry.expired), (1, 1));
}

/// An event of class `every`, at its place in history.
fn comment(number: u64, bytes: usize) -> Arc<Frame> {
    let at = |number| Position { ms: number, seq: 0 };
    let (id, data) = (number.to_string(), format!("\"{}\"", "y".repeat(bytes)));
    let event = Event {
        id: &id,
        topic: "live:1",
        kind: "comment",
        class: Class::Every,
        key: None,
        at: 1,
        ttl_ms: 0,
        version: Version::NONE,
        place: Some(Place {
            dc: "dc",
            position: at(number),
            prev: if number > 1 { at(number - 1) } else { Position::START },
            paced: Paced::SHOWN,
        }),
        data: data.as_bytes(),
        hops: None,
    };
    Arc::new(Frame::encode(&event))
}

#[test]
fn values_that_find_no_room_behind_a_full_log_follow_once_there_is_some() {
    let mut topics = Topics::new(&Account::unbounded());
    let account = Account::unbounded();
    let (index, place, _) = topics.join(&Topic::parse("live:1").unwrap(), &All::default(), 0);
    let entry = topics.get_mut(index);
    let value = |key: usize, version: u64, size: usize| {
        let (key, data) = (key.to_string(), format!("\"{}\"", "y".repeat(size)));
        let (id, topic, kind, class) = ("i", "live:1", "receipt", Class::Latest);
        let (data, version) = (data.as_bytes(), Version { number: version, dc: "" });
        let event =
            Event { id, topic, kind, class, key: Some(&key), at: 1, ttl_ms: 0, version, place: None, data, hops: None };
        Arc::new(Frame::encode(&event))
    };
    let mut last = Map::default();
    let (mut version, mut refused) = (0, 0);
    // More keys than fit behind it, large ones first.
    for key in 0..LOG_KEYS_MAX + 500 {
        version += 1;
        let frame = value(key, version, if key < 200 { 16_000 } else { 1 });
        assert!(entry.newest.take(&frame, Keeping::Own, &account).is_news());
        match entry.append(&frame, 0) {
            Pushed::Overrun => refused += 1,
            pushed => assert_eq!(pushed, Pushed::Queued),
        }
        last.insert(key.to_string(), version);
    }
    assert!(refused > 0);
    let mut seen = Map::default();
    for now_ms in 0..1_000 {
        while entry.next_viewer(now_ms).is_some() {
            let viewer = &mut entry.viewers[place as usize];
            for frame in entry.log.split(viewer.cursor, 0).1 {
                let json: serde_json::Value = serde_json::from_str(frame.json()).unwrap();
                let shown = seen.insert(json["key"].as_str().unwrap().to_owned(), frame.version().number);
                assert!(shown.is_none_or(|shown| shown <= frame.version().number), "no key goes back");
            }
            viewer.cursor = entry.log.end();
        }
    }
    assert_eq!(seen, last);
}

/// Whether a burst keeps the log small and lets events merge behind it, or not.
#[test]
fn what_history_holds_follows_in_order_wherever_room_ends() {
    for floods in [false, true] {
        let mut topics = Topics::new(&Account::unbounded());
        let (index, place, _) = topics.join(&Topic::parse("live:1").unwrap(), &All::default(), 0);
        let entry = topics.get_mut(index);
        let history: Vec<Arc<Frame>> =
            (1..=400).map(|number| comment(number, if number % 2 == 0 { 16_000 } else { 10 })).collect();
        if floods {
            let like = frame("live:1", "like", Some("like"), Class::Sum, &format!("\"{}\"", "y".repeat(16_000)));
            while !entry.merging.is_on() {
                assert_eq!(entry.append(&like, 1_000), Pushed::Queued);
            }
        }
        entry.fall_behind(Shown::to(Position::START));
        let (mut got, mut pages, mut now_ms) = (Vec::new(), 0, 1_000);
        // Its viewer reads for as long as there is something.
        let mut read = |entry: &mut TopicEntry, now_ms: &mut u64| {
            while entry.next_viewer(*now_ms).is_some() || entry.rest_ms(*now_ms).is_some() {
                let viewer = &mut entry.viewers[place as usize];
                got.extend(entry.log.split(viewer.cursor, 0).1.filter_map(|frame| frame.position()));
                viewer.cursor = entry.log.end();
                *now_ms += 1;
            }
        };
        while entry.behind.is_some() {
            let after = entry.delivered_to.map_or(Position::START, Shown::place);
            let lacked = history.partition_point(|frame| frame.position().unwrap() <= after);
            entry.catch_up(&history[lacked..], true, Reach::START, now_ms);
            pages += 1;
            now_ms += MERGING_SLICE.as_millis() as u64;
            if pages % 3 == 0 {
                read(entry, &mut now_ms);
            }
        }
        read(entry, &mut now_ms);
        assert_eq!(got, history.iter().filter_map(|frame| frame.position()).collect::<Vec<_>>(), "{floods}");
        assert!((5..60).contains(&pages), "{pages} pages: it all has room only in several parts");
    }
}

/// What the home told of is not told again by a core, and what a store gives that begins its places anew is no repeat.
#[test]
fn a_gap_says_up_to_where() {
    let mut topics = Topics::new(&Account::unbounded());
    let (index, ..) = topics.join(&Topic::parse("live:1").unwrap(), &All::default(), 0);
    let entry = topics.get_mut(index);
    let at = |number| Reach::back_to(Position { ms: number, seq: 0 });
    let gap = |told| Arc::new(Frame::gap("live:1", "dc:1-0", told));
    entry.delivered_to = Some(Shown::told(at(3)));
    assert_eq!(entry.append_ordered(&gap(at(9)), false, 1), Some(Pushed::Queued));
    assert_eq!((entry.told, entry.behind.as_ref().map(|behind| behind.gap)), (at(9), Some(false)));
    assert_eq!(entry.append_ordered(&gap(at(9)), false, 1), None, "whoever found out first told of it");
    entry.catch_up(&[comment(11, 10)], true, at(9), 1);
    assert!(entry.behind.is_none() && entry.delivered_to == Some(Shown::told(at(11))));
    entry.append_ordered(&gap(at(5)), false, 1);
    assert_eq!(entry.append_ordered(&comment(6, 10), false, 1), Some(Pushed::Queued));
    assert!(entry.behind.is_none());
}

#[test]
fn a_burst_beyond_what_can_be_written_merges_round_by_round() {
    let topic = Topic::parse("live:1").unwrap();
    let mut topics = Topics::new(&Account::unbounded());
    let viewers = 8_192;
    let index = (0..viewers).map(|slot| topics.join(&topic, &All::default(), slot).0).last().unwrap();
    let entry = topics.get_mut(index);
    let like = frame("live:1", "like", Some("like"), Class::Sum, "1");
    let mut counts = vec![0; viewers as usize];
    // A round: everybody gets what there is, as one write, and 100 likes come meanwhile.
    let mut round = |entry: &mut TopicEntry, now_ms: u64, likes: u32| {
        let (mut published, mut frames_max) = (0, 0);
        for served in 0..viewers {
            let Some(place) = entry.next_viewer(now_ms) else { break };
            let end = entry.log.end();
            let viewer = &mut entry.viewers[place as usize];
            let cursor = std::mem::replace(&mut viewer.cursor, end);
            let frames = entry.log.split(cursor, 0).1;
            counts[viewer.slot as usize] += frames.map(|frame| u64::from(frame.count())).sum::<u64>();
            frames_max = frames_max.max(entry.log.frames_since(cursor));
            if served * likes / viewers > published {
                published += 1;
                let pushed = entry.append(&like, now_ms);
                assert!(matches!(pushed, Pushed::Queued | Pushed::Merged), "{pushed:?}");
            }
        }
        (u64::from(published), frames_max)
    };
    let mut published = 0;
    while entry.append(&like, 0) == Pushed::Queued {
        published += 1;
    }
    published += 1;
    assert!(published as usize * like.bytes().len() < FLOOD_BYTES / viewers as usize + 3 * like.bytes().len());
    for number in 0..15 {
        let (came, frames) = round(entry, number * 100, 1_000);
        published += came;
        assert!(number < 2 || frames <= 2, "{frames} frames in round {number}");
    }
    // It is calm again: each like by itself.
    for number in 0..20 {
        published += round(entry, 1_500 + number * 100, 3).0;
    }
    assert!(!entry.merging.is_on() && entry.overflow.is_none());
    round(entry, 4_000, 0);
    round(entry, 4_000, 0);
    assert!(counts.iter().all(|count| *count == published), "{published}: {:?}", &counts[..3]);
}

proptest! {
    /// Whoever joins, leaves or is served when: each viewer gets just the frames published while it watched, in order.
    #[test]
    fn every_viewer_gets_all_since_it_joined(ops in ops()) {
        let topic = Topic::parse("live:1").unwrap();
        let mut topics = Topics::new(&Account::unbounded());
        let mut places: BTreeMap<u32, u32> = BTreeMap::new();
        let mut got: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut due: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let (mut slots, mut published) = (0, 0);
        let serve = |topics: &mut Topics, got: &mut BTreeMap<u32, Vec<u8>>, times: usize| {
            let Some(index) = topics.find("live:1") else { return };
            for _ in 0..times {
                let entry = topics.get_mut(index);
                let Some(place) = entry.next_viewer(0) else { return };
                let viewer = entry.viewers[place as usize];
                got.get_mut(&viewer.slot).unwrap().extend_from_slice(entry.log.since(viewer.cursor));
                entry.viewers[place as usize].cursor = entry.log.end();
            }
        };
        for op in ops {
            match op {
                Op::Join => {
                    let (_, place, first) = topics.join(&topic, &All::default(), slots);
                    prop_assert_eq!(first, places.is_empty());
                    places.insert(slots, place);
                    got.insert(slots, Vec::new());
                    due.insert(slots, Vec::new());
                    slots += 1;
                }
                Op::Leave(index) if !places.is_empty() => {
                    let slot = *places.keys().nth(index.index(places.len())).unwrap();
                    let place = places.remove(&slot).unwrap();
                    let index = topics.find("live:1").unwrap();
                    let left = topics.leave(index, place);
                    for (slot, place) in left.moved.into_iter().flatten() {
                        places.insert(slot, place);
                    }
                    due.remove(&slot);
                    prop_assert_eq!(left.empty.is_some(), places.is_empty());
                }
                Op::Publish => if let Some(index) = topics.find("live:1") {
                    published += 1;
                    let frame = frame("live:1", "x", None, Class::Every, &published.to_string());
                    prop_assert_eq!(topics.get_mut(index).append(&frame, 0), Pushed::Queued);
                    due.values_mut().for_each(|bytes| bytes.extend_from_slice(frame.bytes()));
                },
                Op::Serve(times) => serve(&mut topics, &mut got, usize::from(times)),
                Op::Leave(_) => {}
            }
            if let Some(index) = topics.find("live:1") {
                for (slot, place) in &places {
                    prop_assert_eq!(topics.get(index).viewers[*place as usize].slot, *slot);
                }
            }
            prop_assert_eq!(topics.viewers(), places.len());
        }
        serve(&mut topics, &mut got, usize::MAX);
        for (slot, bytes) in &due {
            prop_assert_eq!(&got[slot], bytes);
        }
        if let Some(index) = topics.find("live:1") {
            prop_assert!(topics.get(index).log.is_empty());
        }
    }
}
