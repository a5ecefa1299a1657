use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::kv::memory::history::Histories;
use crate::kv::{Append, Read};
use crate::wire::frame::Stored;
use crate::wire::frame::tests::every;
use crate::wire::topic::Topic;

/// Of a page that nobody's viewers are compared with.
const EVERYTHING: Shown = Shown::to(Position::at(u64::MAX));

fn topic() -> Topic {
    Topic::parse("live:1").unwrap()
}

fn frame(number: u64, position: Position, prev: Position) -> Arc<Frame> {
    every(&number.to_string(), "live:1", "comment", Some((position, prev)), "1")
}

/// History as the embedded store keeps it, and what travels.
struct World {
    histories: Histories,
    now_ms: u64,
    all: Vec<Arc<Frame>>,
}

impl World {
    fn publish(&mut self, count_max: u32) -> Arc<Frame> {
        let number = self.all.len() as u64;
        let event = number.to_string().into();
        let append = Append {
            topic: topic(),
            event,
            kind: "comment".into(),
            count_max,
            age_max_ms: 1_000_000,
            withdraws: None,
            peers: Vec::new(),
            pace: None,
        };
        let (position, prev) = self.histories.append(&append, self.now_ms);
        let frame = frame(number, position, self.histories.follows(prev));
        self.all.push(Arc::clone(&frame));
        frame
    }

    fn read(&mut self, after: Position, limit: u32) -> FramePage {
        let page = self.histories.read(&Read { topic: topic(), after, limit }, self.now_ms);
        let frames = page
            .events
            .iter()
            .map(|stored| frame(stored.event.parse().unwrap(), stored.position, stored.prev.unwrap_or_default()))
            .collect();
        FramePage {
            frames,
            complete: page.complete,
            reaches: page.reaches,
            since: page.since,
            shown: EVERYTHING,
            told: Reach::START,
        }
    }

    fn end(&mut self) -> End {
        self.histories.end(&topic(), self.now_ms)
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Publish { lost: bool },
    Arrive(prop::sample::Index),
    Repeat(prop::sample::Index),
    Wait(u64),
    Answer { fails: bool },
    Compare,
    Empty,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = any::<prop::sample::Index>;
    prop::collection::vec(
        prop_oneof![
            6 => any::<bool>().prop_map(|lost| Op::Publish { lost }),
            6 => index().prop_map(Op::Arrive),
            1 => index().prop_map(Op::Repeat),
            3 => (0u64..300).prop_map(Op::Wait),
            3 => any::<bool>().prop_map(|fails| Op::Answer { fails }),
            1 => Just(Op::Compare),
        ],
        1..150,
    )
}

/// Runs a node's order against a store and a network that loses, repeats and reorders. Gives what viewers got, and
/// whether they were told of a gap.
fn run(ops: Vec<Op>, count_max: u32, limit: u32) -> (World, Vec<Arc<Frame>>, usize) {
    let mut world = World { histories: Histories::new(1, 1_000_000), now_ms: 1, all: Vec::new() };
    let (mut order, start, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    let (mut travelling, mut reads, mut got, mut gaps) = (Vec::<Arc<Frame>>::new(), Vec::new(), Vec::new(), 0);
    order.noted(world.end(), start, &mut effects);
    let settle = [Op::Wait(250), Op::Answer { fails: false }, Op::Compare].repeat(4 + 160 / limit as usize);
    for op in ops.into_iter().chain(settle) {
        let now = start + Duration::from_millis(world.now_ms);
        match op {
            Op::Publish { lost } => {
                let frame = world.publish(count_max);
                if !lost {
                    travelling.push(frame);
                }
            }
            Op::Arrive(which) if !travelling.is_empty() => {
                let frame = travelling.swap_remove(which.index(travelling.len()));
                order.frame(frame, now, &mut effects);
            }
            Op::Repeat(which) if !world.all.is_empty() => {
                order.frame(Arc::clone(which.get(&world.all)), now, &mut effects);
            }
            Op::Wait(ms) => world.now_ms += ms,
            Op::Answer { fails: true } if !reads.is_empty() => {
                reads.clear();
                order.read_failed(now);
            }
            Op::Answer { .. } => {
                if let Some(page) = reads.pop() {
                    order.page(&page, now, &mut effects);
                }
            }
            Op::Compare => {
                let known = order.end().unwrap();
                order.compared(world.end(), known, now, &mut effects);
            }
            Op::Empty => {
                world.histories = Histories::new(world.now_ms, 1_000_000);
                reads.clear();
                order.read_failed(now);
            }
            Op::Arrive(_) | Op::Repeat(_) => {}
        }
        if let Some(after) = order.read_due(now) {
            assert!(reads.is_empty(), "one read at a time");
            reads.push(world.read(after, limit));
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Deliver(frame) => got.push(frame),
                Effect::Gap(..) => gaps += 1,
            }
        }
        assert!(order.ring_bytes == order.ring.iter().map(|frame| frame.bytes().len()).sum::<usize>());
        if let Some(recent) = order.recent(order.ring_from.place()) {
            let behind = got.iter().filter(|frame| frame.position() > Some(order.ring_from.place()));
            assert!(recent.frames[recent.from..].iter().map(|f| f.position()).eq(behind.map(|f| f.position())));
        }
    }
    (world, got, gaps)
}

fn ids(frames: &[Arc<Frame>]) -> Vec<String> {
    frames.iter().map(|frame| frame.position().unwrap().to_string()).collect()
}

proptest! {
    /// Whatever the network does: all, once, in history's order.
    #[test]
    fn viewers_get_history(ops in ops(), limit in 1u32..5) {
        let (world, got, gaps) = run(ops, 1_000, limit);
        prop_assert_eq!(ids(&got), ids(&world.all));
        prop_assert_eq!(gaps, 0);
    }

    /// History forgets while the node is behind: what comes is in order and once, and what is missing is said.
    #[test]
    fn what_history_forgot_is_said(ops in ops(), count_max in 1u32..4, limit in 1u32..5) {
        let (world, got, gaps) = run(ops, count_max, limit);
        let positions: Vec<_> = got.iter().map(|frame| frame.position().unwrap()).collect();
        prop_assert!(positions.is_sorted_by(|a, b| a < b), "{:?}", positions);
        prop_assert!(got.len() == world.all.len() || gaps > 0, "{} of {}", got.len(), world.all.len());
        prop_assert_eq!(got.last().map(|f| f.position()), world.all.last().map(|f| f.position()), "the newest is never missing");
    }
}

#[test]
fn a_store_that_lost_everything_is_a_gap() {
    let publish = || Op::Publish { lost: true };
    let pause = || Op::Wait(10);
    let ops = vec![publish(), pause(), Op::Compare, publish(), pause(), Op::Empty, pause(), publish(), Op::Compare];
    let (world, got, gaps) = run(ops, 1_000, 9);
    // The second one was lost with the store, before anyone read it.
    assert_eq!(ids(&got), ids(&world.all[2..]));
    assert_eq!(gaps, 1);
    let mut order = Order::new(Instant::now());
    assert!(order.recent(Position::at(5)).is_none(), "before the end is noted nothing is known");
}

/// A replica takes over, which has what nobody sent to this node.
#[test]
fn what_outlived_a_takeover_is_no_part_of_the_gap() {
    let at = |ms| Position::at(ms);
    let (one, two) = (frame(1, at(10), Position::START), frame(2, at(20), at(10)));
    let three = frame(3, at(40), at(20));
    for compares in [true, false] {
        let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
        order.noted(End { position: None, since: Reach::back_to(at(1)), clock: None }, now, &mut effects);
        order.frame(Arc::clone(&one), now, &mut effects);
        if compares {
            order.compared(
                End { position: Some(at(20)), since: Reach::back_to(at(30)), clock: None },
                Shown::to(at(10)),
                now,
                &mut effects,
            );
        } else {
            order.frame(Arc::clone(&three), now, &mut effects);
        }
        assert_eq!(order.read_due(now + HOLE_WAIT), Some(at(10)));
        let frames = [Arc::clone(&two)].into_iter().chain((!compares).then(|| Arc::clone(&three)));
        let lost = Reach::back_to(at(30));
        let page = FramePage {
            frames: frames.collect(),
            complete: true,
            reaches: lost,
            since: lost,
            shown: EVERYTHING,
            told: Reach::START,
        };
        order.page(&page, now + HOLE_WAIT, &mut effects);
        order.compared(
            End { position: Some(at(40)), since: Reach::back_to(at(30)), clock: None },
            Shown::to(at(20)),
            now,
            &mut effects,
        );
        order.frame(Arc::clone(&three), now, &mut effects);
        let seen: Vec<Option<Position>> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Deliver(frame) => frame.position(),
                Effect::Gap(..) => None,
            })
            .collect();
        assert_eq!(seen, [Some(at(10)), None, Some(at(20)), Some(at(40))], "compares {compares}");
        // Who comes back with what it saw before is to be told, too.
        assert!(order.recent(at(20)).is_none() && order.recent(at(30)).is_some());
    }
}

#[test]
fn an_event_that_overtakes_a_comparison_is_no_gap() {
    let mut world = World { histories: Histories::new(1, 1_000_000), now_ms: 10, all: Vec::new() };
    let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    order.noted(world.end(), now, &mut effects);
    order.frame(world.publish(9), now, &mut effects);
    let (known, answer) = (order.end().unwrap(), world.end());
    order.frame(world.publish(9), now, &mut effects);
    order.compared(answer, known, now, &mut effects);
    assert!(matches!(effects[..], [Effect::Deliver(_), Effect::Deliver(_)]), "{effects:?}");
    assert_eq!(order.next_read(), None);
}

#[test]
fn the_ring_is_bounded() {
    let mut world = World { histories: Histories::new(1, 1_000_000), now_ms: 1, all: Vec::new() };
    let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    order.noted(world.end(), now, &mut effects);
    for _ in 0..600 {
        world.now_ms += 1;
        let frame = world.publish(1_000);
        order.frame(frame, now, &mut effects);
    }
    assert_eq!((order.ring.len(), effects.len()), (RING_EVENTS, world.all.len()));
    let recent = order.recent(order.ring_from.place()).unwrap();
    assert_eq!((recent.from, recent.frames.len()), (0, RING_EVENTS));
    assert!(
        Arc::ptr_eq(&recent.frames, &order.recent(order.ring_from.place()).unwrap().frames),
        "one copy for a crowd"
    );
}

#[test]
fn what_was_taken_back_is_not_among_recent_events() {
    let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    let place = |seq| Position { ms: 5, seq };
    order.noted(End { position: Some(place(1)), since: Reach::START, clock: None }, now, &mut effects);
    for number in 2..=4 {
        order.frame(frame(number, place(number), place(number - 1)), now, &mut effects);
    }
    let id = |frame: &Arc<Frame>| Stored::read(frame.json()).unwrap().id.into_owned();
    let before = order.recent(place(1)).unwrap();
    let deleted = every("3.deleted", "live:1", "deleted", Some((place(5), place(4))), "{\"id\":\"3\"}");
    order.frame(deleted, now, &mut effects);
    let after = order.recent(place(1)).unwrap();
    assert_eq!(after.frames.iter().map(id).collect::<Vec<_>>(), ["2", "4", "3.deleted"]);
    assert_eq!((after.reaches, order.end()), (before.reaches, Some(Shown::to(place(5)))));
    assert_eq!(order.bytes(), after.frames.iter().map(|frame| frame.bytes().len()).sum::<usize>());
}

/// A client left, what it missed expired, and a node that knows nothing of the topic is asked.
#[test]
fn a_history_that_expired_is_no_proof_that_nothing_is_missing() {
    let mut world = World { histories: Histories::new(1, 1_000), now_ms: 10, all: Vec::new() };
    let place = |frame: Arc<Frame>| frame.position().expect("it was appended");
    let (had, missed) = (place(world.publish(9)), place(world.publish(9)));
    world.now_ms = 1_000_000_000;
    // The store forgets topics that hold nothing.
    world.histories.sweep_some(usize::MAX, world.now_ms);
    let end = world.end();
    assert_eq!(end.position, None);
    let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    order.noted(end, now, &mut effects);
    let shown = order.end().expect("it was noted");
    assert!(shown.has(missed), "what expired does not come live");
    assert!(order.recent(had).is_none(), "and the ring does not have it");
    for after in [had, had.earlier(5)] {
        let page = world.read(after, 9).up_to(shown, Reach::START);
        assert!(page.lacks_after(Shown::to(had)));
    }
    // Who was there lately lacks nothing.
    let lately = Position::at(world.now_ms - 500);
    assert!(!world.read(lately, 9).up_to(shown, Reach::START).lacks_after(Shown::to(lately)));
    // What comes next is shown, and is in the ring.
    let next = world.publish(9);
    order.frame(Arc::clone(&next), now, &mut effects);
    assert!(matches!(&effects[..], [Effect::Deliver(frame)] if frame.position() == next.position()), "{effects:?}");
    assert_eq!(order.recent(shown.place()).map(|recent| recent.frames.len()), Some(1));
}

/// History keeps a thousand events, five thousand come in a moment, and the first of them was never sent to this node.
#[test]
fn a_flood_behind_a_hole_outruns_history() {
    let mut world = World { histories: Histories::new(1, 1_000_000), now_ms: 10, all: Vec::new() };
    let (mut order, now, mut effects) = (Order::new(Instant::now()), Instant::now(), Vec::new());
    order.noted(world.end(), now, &mut effects);
    world.publish(1_000);
    // An answer takes as long as some hundred events do.
    let mut answer: Option<(u64, FramePage)> = None;
    for number in 1..6_000 {
        if number < 5_000 {
            let frame = world.publish(1_000);
            order.frame(frame, now, &mut effects);
        }
        if let Some((_, page)) = answer.take_if(|(at, _)| *at <= number) {
            order.page(&page, now, &mut effects);
        }
        if let Some(after) = order.read_due(now) {
            answer = Some((number + 200, world.read(after, 256)));
        }
    }
    let got: Vec<Arc<Frame>> = effects
        .into_iter()
        .map(|effect| match effect {
            Effect::Deliver(frame) => frame,
            Effect::Gap(after, told) => panic!("a gap behind {after} up to {told:?}"),
        })
        .collect();
    assert_eq!(ids(&got), ids(&world.all));
}

#[test]
fn who_asks_for_the_end_of_a_page_holds_no_more_than_it_asked_for() {
    let at = |ms| Position { ms, seq: 1 };
    let frames: Arc<[_]> = (1..=4).map(|number| frame(number, at(number), at(number - 1))).collect();
    let each = frames[0].bytes().len();
    let (reaches, since, shown) = (Reach::START, Reach::START, EVERYTHING);
    let page = FramePage { frames, complete: true, reaches, since, shown, told: Reach::START };
    let (whole, from) = page.within(2, 4 * each);
    assert_eq!((Arc::ptr_eq(&whole.frames, &page.frames), from, whole.complete), (true, 2, true));
    for (bytes, held, complete) in [(3 * each, 2, true), (2 * each, 2, true), (each, 1, false), (0, 1, false)] {
        let (part, from) = page.within(2, bytes);
        assert_eq!((part.frames.len(), from, part.complete), (held, 0, complete), "{bytes}");
        assert_eq!(part.frames[0].position(), Some(at(3)));
    }
}
