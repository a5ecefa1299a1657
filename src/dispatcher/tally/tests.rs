use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::kv::crowd::Members;

const ALL: usize = usize::MAX;

/// So many viewers, each a member; the same ones wherever they are.
fn crowd(viewers: u32) -> Crowd {
    Crowd { viewers, members: Members::of((0..viewers as usize).map(|member| member as u64)) }
}

fn topic(number: u8) -> Topic {
    Topic::parse(&format!("live:{number}")).unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Set { node: u8, topic: u8, count: u32, lost: bool },
    Read,
    Die(u8),
    Return(u8),
    Wait(u64),
}

proptest! {
    /// Changes get lost, nodes die: at most one telling a topic a second, only on change, and in the end the last one
    /// told is right.
    #[test]
    fn viewers_are_told_the_truth(ops in prop::collection::vec(prop_oneof![
        6 => (0u8..3, 0u8..3, 0u32..5, prop::bool::weighted(0.1)).prop_map(|(node, topic, count, lost)| Op::Set { node, topic, count, lost }),
        1 => Just(Op::Read),
        1 => (0u8..3).prop_map(Op::Die),
        1 => (0u8..3).prop_map(Op::Return),
        3 => (0u64..1500).prop_map(Op::Wait),
    ], 1..150)) {
        let (mut tally, mut now) = (Tally::new(), Instant::now());
        let mut store: BTreeMap<u8, NodeCounts> = BTreeMap::new();
        let mut alive = std::collections::BTreeSet::from([0, 1, 2]);
        let mut told: BTreeMap<Topic, ((u32, u32), Instant)> = BTreeMap::new();
        let settle = [Op::Wait(1000), Op::Read, Op::Wait(1000), Op::Wait(1000)];
        for op in ops.into_iter().chain(settle) {
            match op {
                Op::Set { node, topic: number, count, lost } => {
                    let id = NodeId(node.into());
                    let held = store.entry(node).or_insert(NodeCounts { node: id, number: 0, full: true, counts: vec![] });
                    held.number += 1;
                    held.counts.retain(|(other, _)| *other != topic(number));
                    if count > 0 { held.counts.push((topic(number), crowd(count))); }
                    let counts = vec![(topic(number), crowd(count))];
                    let change = NodeCounts { node: id, number: held.number, full: false, counts };
                    if !lost { tally.change(&change, |_| true); }
                }
                Op::Read => tally.doubt(),
                // The store still has what it had.
                Op::Die(node) => {
                    alive.remove(&node);
                    tally.keep(|id| alive.contains(&(id.0 as u8)));
                }
                Op::Return(node) => {
                    alive.insert(node);
                    tally.keep(|id| alive.contains(&(id.0 as u8)));
                }
                Op::Wait(ms) => now += Duration::from_millis(ms),
            }
            if tally.take_stale() {
                let held: Vec<NodeCounts> = store.values().cloned().collect();
                tally.read(&held, |id| alive.contains(&(id.0 as u8)), |_| true);
            }
            // However few are looked at at once.
            let one_by_one = (0..tally.changed()).flat_map(|_| tally.due(now, 1, |_| true)).collect::<Vec<_>>();
            for Due { topic, total, own, .. } in one_by_one {
                let own = own.map(|own| (own.viewers, own.members.count()));
                prop_assert!(own.is_none() || own == total || own == Some((0, 0)));
                let Some(total) = total else { continue };
                if let Some((_, at)) = told.insert(topic, (total, now)) {
                    prop_assert!(now - at >= COUNTS_PAUSE);
                }
            }
        }
        for number in 0..3 {
            let nodes = store.iter().filter(|(node, _)| alive.contains(node)).flat_map(|(_, node)| &node.counts);
            let crowds: Vec<u32> = nodes.filter(|(of, _)| *of == topic(number)).map(|(_, crowd)| crowd.viewers).collect();
            let total = (crowds.iter().sum(), crowds.iter().copied().max().unwrap_or(0));
            prop_assert!(total.0 == 0 || told.get(&topic(number)).map(|(told, _)| *told) == Some(total));
        }
    }
}

/// A viewer in another data center goes, and one comes here: the total is as it was, and nobody here was told of it.
#[test]
fn first_viewer_here_is_told_a_total_that_others_had() {
    let (mut tally, now) = (Tally::new(), Instant::now());
    let due = |total, own, occupied| [Due { topic: topic(1), total, own, occupied }];
    tally.set_peer("b", &topic(1), &crowd(1));
    assert_eq!(tally.due(now, ALL, |_| true), due(None, Some(crowd(0)), None), "nobody watches here");
    tally.set_peer("b", &topic(1), &crowd(0));
    let change = NodeCounts { node: NodeId(1), number: 1, full: false, counts: vec![(topic(1), crowd(1))] };
    tally.change(&change, |_| true);
    assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), due(Some((1, 1)), Some(crowd(1)), Some(true)));
}

/// Another node's viewer comes as one goes: the sum is the same, and whoever came was told nothing.
#[test]
fn first_viewer_of_a_node_is_told_what_others_know() {
    let (mut tally, now) = (Tally::new(), Instant::now());
    let change = |node, number, count| NodeCounts {
        node: NodeId(node),
        number,
        full: false,
        counts: vec![(topic(1), crowd(count))],
    };
    let due = |tally: &mut Tally, seconds| {
        let due = tally.due(now + seconds * COUNTS_PAUSE, ALL, |_| true);
        due.into_iter().map(|due| (due.total, due.own)).collect::<Vec<_>>()
    };
    tally.change(&change(1, 1, 2), |_| true);
    assert_eq!(due(&mut tally, 0), [(Some((2, 2)), Some(crowd(2)))]);
    tally.change(&change(1, 2, 2), |_| true);
    assert_eq!(due(&mut tally, 1), [(Some((2, 2)), None)], "others came there since all had left");
    tally.change(&change(1, 3, 1), |_| true);
    tally.change(&change(2, 1, 1), |_| true);
    assert_eq!(
        due(&mut tally, 2),
        [(Some((2, 1)), Some(Crowd { viewers: 2, ..crowd(1) }))],
        "one member, on two nodes"
    );
    tally.change(&change(3, 1, 1), |_| true);
    tally.change(&change(2, 2, 0), |_| true);
    assert_eq!(due(&mut tally, 3), [(Some((2, 1)), None)]);
}

#[test]
fn only_the_owner_tells_and_a_new_one_tells_at_once() {
    let (mut tally, now) = (Tally::new(), Instant::now());
    let change = NodeCounts { node: NodeId(1), number: 1, full: false, counts: vec![(topic(1), crowd(7))] };
    tally.change(&change, |_| true);
    assert_eq!(tally.due(now, ALL, |_| false), []);
    tally.look_again();
    assert_eq!(
        tally.due(now, ALL, |_| true),
        [Due { topic: topic(1), total: Some((7, 7)), own: Some(crowd(7)), occupied: Some(true) }]
    );
    tally.look_again();
    assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [], "nothing changed");
}

#[test]
fn what_the_store_did_not_take_is_told_again_when_it_can_be_read() {
    let (mut tally, now) = (Tally::new(), Instant::now());
    let change = NodeCounts { node: NodeId(1), number: 1, full: true, counts: vec![(topic(1), crowd(7))] };
    tally.change(&change, |_| true);
    assert!(tally.take_stale() && tally.due(now, ALL, |_| true).len() == 1);
    tally.untold(topic(1));
    assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [], "not yet");
    assert!(tally.take_stale());
    tally.read(&[change], |_| true, |_| true);
    let again = Due { topic: topic(1), total: Some((7, 7)), own: None, occupied: None };
    assert_eq!(tally.due(now + COUNTS_PAUSE, ALL, |_| true), [again]);
    assert_eq!(tally.due(now + 2 * COUNTS_PAUSE, ALL, |_| true), []);
}

#[test]
fn peers_count_for_viewers_and_are_not_told_back() {
    let (mut tally, mut now) = (Tally::new(), Instant::now());
    let mut due = |tally: &mut Tally| {
        now += COUNTS_PAUSE;
        tally.due(now, ALL, |_| true).into_iter().map(|due| (due.total, due.own)).collect::<Vec<_>>()
    };
    let change =
        |number, count| NodeCounts { node: NodeId(1), number, full: false, counts: vec![(topic(1), crowd(count))] };
    tally.set_peer("b", &topic(1), &crowd(5));
    assert_eq!(due(&mut tally), [(None, Some(crowd(0)))], "nobody watches here");
    tally.change(&change(1, 2), |_| true);
    assert_eq!(due(&mut tally), [(Some((7, 5)), Some(crowd(2)))]);
    tally.set_peer("c", &topic(1), &crowd(1));
    assert_eq!(due(&mut tally), [(Some((8, 5)), None)]);
    tally.forget_peer("b");
    tally.change(&change(2, 7), |_| true);
    assert_eq!(due(&mut tally), [(Some((8, 7)), Some(crowd(7)))]);
    assert_eq!(tally.own(), [(topic(1), crowd(7))]);
    tally.read_peer("c", &[], |_| true);
    tally.change(&change(3, 0), |_| true);
    assert_eq!(due(&mut tally), [(None, Some(crowd(0)))], "nobody is left to be told");
}

#[test]
fn totals_are_told_where_somebody_watches_whom_nobody_told_them() {
    let mut tally = Tally::new();
    let change =
        |number, count| NodeCounts { node: NodeId(1), number, full: false, counts: vec![(topic(1), crowd(count))] };
    let due = |tally: &mut Tally| tally.totals_due(ALL, |_| true);
    tally.change(&change(1, 2), |_| true);
    assert_eq!(due(&mut tally), [topic(1)], "the first who watches here");
    tally.change(&change(2, 3), |_| true);
    assert_eq!(due(&mut tally), [], "others have them already");
    tally.set_peer("b", &topic(1), &crowd(1));
    tally.set_peer("b", &topic(1), &crowd(2));
    assert_eq!(due(&mut tally), [topic(1)], "the first who watches there");
    tally.read_peer("b", &[(topic(1), crowd(2))], |_| true);
    assert_eq!(due(&mut tally), [topic(1)], "the peer forgot what it was told");
    tally.doubt_totals();
    assert_eq!(tally.totals_due(ALL, |_| false), [], "another node sees to it");
    tally.doubt_totals();
    tally.doubt_totals_of(&topic(2));
    tally.set_peer("b", &topic(1), &crowd(0));
    assert_eq!(due(&mut tally), [topic(1)], "a node died");
    tally.change(&change(3, 1), |_| true);
    tally.change(&change(4, 0), |_| true);
    tally.doubt_totals();
    assert_eq!(due(&mut tally), [], "nobody watches");
}

/// Hooks are told when a topic has its first viewer and when the last one left, by the node that tells its viewers; and again by
/// one that may have been the only one to know.
#[test]
fn first_and_last_viewers_are_told_of_once_until_that_is_doubted() {
    let (mut tally, now) = (Tally::new(), Instant::now());
    let mut number = 0;
    let mut has = |tally: &mut Tally, count| {
        number += 1;
        let change = NodeCounts { node: NodeId(1), number, full: false, counts: vec![(topic(1), crowd(count))] };
        tally.change(&change, |_| true);
    };
    let mut seconds = 0;
    let mut told = |tally: &mut Tally, ours: bool| {
        seconds += 1;
        let due = tally.due(now + seconds * COUNTS_PAUSE, ALL, |_| ours);
        due.into_iter().filter_map(|due| due.occupied).collect::<Vec<_>>()
    };
    has(&mut tally, 1);
    assert_eq!(told(&mut tally, true), [true]);
    has(&mut tally, 2);
    assert!(told(&mut tally, true).is_empty());
    tally.doubt_occupied();
    assert_eq!(told(&mut tally, true), [true]);
    has(&mut tally, 0);
    assert_eq!(told(&mut tally, true), [false]);
    assert!(told(&mut tally, true).is_empty());
    // Another node tells of it for a while.
    has(&mut tally, 1);
    assert!(told(&mut tally, false).is_empty());
    tally.look_again();
    assert_eq!(told(&mut tally, true), [true]);
}

#[test]
fn what_others_may_have_told_since_is_told_again_and_no_sooner_than_viewers_may_be() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let change = NodeCounts { node: NodeId(1), number: 1, full: false, counts: vec![(topic(1), crowd(2))] };
    tally.change(&change, |_| true);
    let due = |tally: &mut Tally, at: Duration| {
        let due = tally.due(now + at, ALL, |_| true).pop();
        due.map(|due| (due.total, due.own.map(|own| own.viewers), due.occupied))
    };
    let all = Some((Some((2, 2)), Some(2), Some(true)));
    assert_eq!(due(&mut tally, Duration::ZERO), all);
    tally.tell_again();
    assert_eq!(due(&mut tally, COUNTS_PAUSE / 2), None);
    assert_eq!(due(&mut tally, COUNTS_PAUSE), all);
    assert_eq!(due(&mut tally, 2 * COUNTS_PAUSE), None);
}
