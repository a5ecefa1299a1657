mod another;
mod room;

use proptest::prelude::*;

use super::*;
use crate::limits::RESUME_OVERLAP_MS;
use crate::runtime::account::Account;
use crate::wire::frame::Paced;
use crate::wire::frame::tests::{every, paced};
use crate::wire::frame::update::tests::{PLACE, update};
use crate::wire::mercure;

const TOPICS: [&str; 3] = ["live:a", "live:b", "live:c"];

/// Behind all that happens.
const LATER: Shown = Shown::to(Position::at(u64::MAX));

fn held() -> HeldPages {
    HeldPages::new(&Account::unbounded())
}

/// What is shown of these topics.
fn shown(topics: impl IntoIterator<Item = Topic>) -> impl Iterator<Item = (Topic, All)> {
    topics.into_iter().map(|topic| (topic, All::default()))
}

/// A replay of topics for a client that comes with this place, and has all up to there.
fn replay(topics: impl IntoIterator<Item = Topic>, after: u64, had: Option<u64>) -> Replay {
    let place = Position::at(had.unwrap_or(0));
    Replay::new(shown(topics), Position::at(after), place, had.map(|_| Shown::to(place)), LATER, &held())
}

/// A page that viewers were given, of a store that lost nothing since `since`.
fn page(frames: Arc<[Arc<Frame>]>, complete: bool, reaches: u64, since: u64) -> FramePage {
    let [reaches, since] = [reaches, since].map(|ms| Reach::back_to(Position::at(ms)));
    let last = frames.last().and_then(|frame| frame.position()).unwrap_or_default();
    FramePage { frames, complete, reaches, since, shown: Shown::to(last.max(reaches.place())), told: Reach::START }
}

/// What a stream is told, to its end, where each page that it asks for is the next of these: the times of events, and 0 for a
/// gap.
fn told(replay: &mut Replay, pages: impl IntoIterator<Item = FramePage>) -> Vec<u64> {
    let (mut pages, mut got) = (pages.into_iter(), Vec::new());
    loop {
        match replay.step() {
            Step::Ask(topic, _) => {
                replay.page(topic.as_str(), &pages.next().expect("the last one is complete"), 0, |_| false)
            }
            Step::Gap(_) => got.push(0),
            Step::Frame(frame) => got.push(frame.position().unwrap().ms),
            Step::Done => return got,
            Step::Wait => panic!("nothing is on its way"),
        }
    }
}

/// Where an event of this time stands.
fn at(ms: u64) -> Option<(Position, Position)> {
    Some((Position { ms, seq: 1 }, Position::START))
}

fn frame(topic: &str, ms: u64) -> Arc<Frame> {
    every("i", topic, "comment", at(ms), "1")
}

#[derive(Debug, Clone)]
enum Op {
    Publish(usize),
    Answer,
    Drain(u8),
    GiveUp,
}

proptest! {
    /// Events are published, to history and live, while a stream replays in small pages: in the end it has had each
    /// event after its position once, in order within its topic; what was there when it came, in order over all topics;
    /// and wherever it is cut, what its newest id would not bring back it has had.
    #[test]
    fn history_and_live_join_without_seam(
        before in prop::collection::vec(0usize..3, 0..40),
        ops in prop::collection::vec(prop_oneof![
            2 => (0usize..3).prop_map(Op::Publish),
            2 => Just(Op::Answer),
            2 => (0u8..9).prop_map(Op::Drain),
            1 => Just(Op::GiveUp),
        ], 0..150),
        seen in 0u64..30,
        limit in 1usize..5,
        pace_ms in prop::sample::select(vec![1u64, 1_500, 4_000]),
    ) {
        let mut history: Vec<Vec<Arc<Frame>>> = vec![Vec::new(); 3];
        let mut ms = 0;
        for &topic in &before {
            ms += pace_ms;
            history[topic].push(frame(TOPICS[topic], ms));
        }
        let there = ms;
        let topics = TOPICS.map(|topic| Topic::parse(topic).unwrap());
        let after = Position::at(seen * pace_ms);
        let held = held();
        let mut replay = Replay::new(shown(topics), after, after, Some(Shown::to(after)), LATER, &held);
        let (mut asked, mut got, mut backlog, mut done) = (Vec::new(), Vec::new(), Vec::new(), false);
        let finish = std::iter::repeat_n([Op::Drain(200), Op::Answer], 200).flatten();
        for op in ops.into_iter().chain(finish) {
            match op {
                Op::Publish(topic) => {
                    ms += pace_ms;
                    let frame = frame(TOPICS[topic], ms);
                    history[topic].push(Arc::clone(&frame));
                    if done || !replay.passes_over(&frame) {
                        backlog.push(frame);
                    }
                }
                Op::Answer if !asked.is_empty() => {
                    let (topic, after): (Topic, Position) = asked.remove(0);
                    let all = &history[TOPICS.iter().position(|name| *name == topic.as_str()).unwrap()];
                    let lacking: Vec<_> = all.iter().filter(|f| f.position() > Some(after)).cloned().collect();
                    let complete = lacking.len() <= limit;
                    let frames = lacking.into_iter().take(limit).collect();
                    replay.page(topic.as_str(), &page(frames, complete, 0, 0), 0, |_| false);
                }
                Op::Answer => {}
                Op::GiveUp => replay.give_up_pages(),
                Op::Drain(steps) => for _ in 0..steps {
                    match replay.step() {
                        Step::Ask(topic, after) => asked.push((topic, after)),
                        Step::Gap(_) => prop_assert!(false, "history reaches back"),
                        Step::Frame(frame) => got.push(frame),
                        Step::Wait => break,
                        Step::Done => {
                            done = true;
                            backlog.retain(|frame| !replay.gave(frame));
                            break;
                        }
                    }
                }
            }
        }
        prop_assert!(done);
        prop_assert_eq!(held.bytes(), 0);
        got.extend(backlog);
        let old: Vec<_> = got.iter().filter(|frame| frame.position().unwrap().ms <= there).map(|f| f.position()).collect();
        prop_assert!(old.is_sorted(), "{:?}", old);
        for (topic, all) in TOPICS.iter().zip(&history) {
            let of = |frames: &[Arc<Frame>]| frames.iter().filter(|f| f.topic() == *topic && f.position() > Some(after)).map(|f| f.position()).collect::<Vec<_>>();
            prop_assert_eq!(of(&got), of(all));
        }
        let mut all: Vec<_> = history.iter().flatten().map(|f| f.position().unwrap()).filter(|p| *p > after).collect();
        all.sort_unstable();
        let mut had = std::collections::HashSet::new();
        for frame in &got {
            let id = frame.position().unwrap();
            had.insert(id);
            let lost = all.iter().take_while(|p| **p <= id.earlier(RESUME_OVERLAP_MS)).find(|p| !had.contains(p));
            prop_assert_eq!(lost, None, "cut after {}", id);
        }
    }
}

fn topic() -> [Topic; 1] {
    [Topic::parse("live:a").unwrap()]
}

fn events(of: &[u64]) -> Arc<[Arc<Frame>]> {
    of.iter().map(|ms| frame("live:a", *ms)).collect()
}

#[test]
fn what_history_forgets_while_a_page_is_taken_is_a_gap() {
    let pages = [(&[6, 7][..], 3), (&[8], 7), (&[12], 10)];
    let pages = pages.map(|(of, reaches)| page(events(of), of == [12], reaches, 0));
    assert_eq!(told(&mut replay(topic(), 1, Some(5)), pages), [6, 7, 8, 0, 12]);
}

#[test]
fn gaps_are_said_once() {
    for (had, reaches, gap) in [(Some(5), 6, true), (Some(5), 5, false), (Some(5), 3, false), (None, 0, true)] {
        let mut replay = replay(topic(), 1, had);
        let got = told(&mut replay, [page(events(&[]), true, reaches, 0)]);
        assert_eq!(got, vec![0; usize::from(gap)], "{had:?} {reaches}");
    }
}

/// A store lost all before 20, which a page says that reaches back to there, and the topic's home, sooner or later.
#[test]
fn a_loss_that_is_said_in_several_ways_is_told_once() {
    let lost = Frame::gap("live:a", "dc:7-1", Reach::back_to(Position::at(20)));
    // The home that answers knows nothing of it yet: its viewers were given all up to 8.
    let unaware = FramePage { shown: Shown::to(Position::at(8)), ..page(events(&[]), false, 20, 20) };
    for had in [Some(5), None] {
        for steps_before in 0..3 {
            let mut replay = replay(topic(), 1, had);
            let mut got = Vec::new();
            for number in 0..3 {
                if number == steps_before {
                    assert!(replay.passes_over(&lost), "it is told before what follows");
                }
                match replay.step() {
                    Step::Gap(_) => got.push(0),
                    Step::Ask(..) => replay.page("live:a", &unaware, 0, |_| false),
                    step => panic!("{step:?}"),
                }
            }
            // What comes live meanwhile makes it read once more.
            replay.passes_over(&frame("live:a", 30));
            got.extend(told(&mut replay, [page(events(&[30]), true, 20, 20)]));
            assert_eq!(got, [0, 30], "{had:?} {steps_before}");
            let more = Frame::gap("live:a", "dc:7-1", Reach::back_to(Position::at(40)));
            assert!(replay.passes_over(&more) && matches!(replay.step(), Step::Gap(_)), "another loss is another gap");
        }
    }
}

/// Viewers who were there were given all up to 8, told of what was lost before 20, and are yet to be given what history has.
/// Who comes then with 8 was not told.
#[test]
fn a_loss_that_others_were_told_of_before_a_stream_came_back() {
    let (shown, lost) = (Shown::to(Position::at(8)), Reach::back_to(Position::at(20)));
    for (told, gap) in [(Reach::START, false), (lost, true)] {
        let mut replay = replay(topic(), 1, Some(8));
        let page = page(events(&[30]), true, 20, 20).up_to(shown, told);
        assert!(page.frames.is_empty(), "they come live");
        assert!(matches!(replay.step(), Step::Ask(..)));
        replay.page("live:a", &page, 0, |_| false);
        assert_eq!(matches!(replay.step(), Step::Gap(_)), gap, "{told:?}");
    }
}

/// Of a topic without events a store says that it reaches as far back as any type is kept, which moves with time.
#[test]
fn what_was_complete_does_not_begin_to_lack_as_time_goes_by() {
    let mut replay = replay(topic(), 1, Some(5));
    let page = |reaches| FramePage { shown: Shown::to(Position::at(90)), ..page(events(&[]), true, reaches, 0) };
    assert!(matches!(replay.step(), Step::Ask(..)));
    replay.page("live:a", &page(20), 0, |_| false);
    replay.passes_over(&frame("live:a", 95));
    assert_eq!(told(&mut replay, [page(21)]), [0]);
}

/// Of several topics one may have been behind the event whose place the client has. But what lies before all that the store
/// ever had was not its own to lose.
#[test]
fn whoever_has_a_place_of_a_young_store_is_told_of_no_gap() {
    let (had, seen) = (Position { ms: 50, seq: 1 }, Shown::to(Position::at(10)));
    for (reaches, since, gap) in [(40, 40, false), (45, 40, true), (60, 60, true)] {
        let mut replay = Replay::new(shown(topic()), Position::START, had, Some(seen), LATER, &held());
        let got = told(&mut replay, [page(events(&[]), true, reaches, since)]);
        assert_eq!(got, vec![0; usize::from(gap)], "{reaches} {since}");
    }
}

#[test]
fn what_is_taken_back_is_not_written_any_more() {
    let event = |id: &str, kind: &str, ms: u64, data: &str| every(id, "live:a", kind, at(ms), data);
    let frames: Vec<_> = (1..=4).map(|number| event(&number.to_string(), "comment", number, "1")).collect();
    let held = held();
    let start = Position::START;
    let mut replay = Replay::new(shown(topic()), start, start, Some(Shown::to(start)), LATER, &held);
    assert!(matches!(replay.step(), Step::Ask(..)));
    replay.page("live:a", &page(frames.clone().into(), true, 0, 0), 0, |_| false);
    let mut written = Vec::new();
    let mut write = |step: Step| match step {
        Step::Frame(frame) => written.push(frame.position().unwrap().ms),
        other => panic!("{other:?}"),
    };
    write(replay.step());
    let deleted = |id: &str| event(&format!("{id}.deleted"), "deleted", 9, &format!("{{\"id\":\"{id}\"}}"));
    for id in ["1", "3", "4"] {
        assert!(replay.passes_over(&deleted(id)));
    }
    assert_eq!(held.bytes(), frames[1].bytes().len());
    write(replay.step());
    assert_eq!(written, [1, 2]);
    // What takes them back is read from where the page ended.
    assert!(matches!(replay.step(), Step::Ask(_, after) if after == Position { ms: 4, seq: 1 }));
}

/// A client that is told of a gap as it comes knows nothing of what is lost before its first page comes.
#[test]
fn loss_before_the_first_page_hides_behind_the_gap_that_was_told_at_once() {
    for (reaches, gaps) in [(99, vec![0]), (100, vec![0]), (101, vec![0, 0])] {
        let topic = Topic::parse(TOPICS[0]).unwrap();
        let (start, began) = (Position::START, Shown::to(Position::at(100)));
        let mut replay = Replay::new(shown([topic]), start, start, None, began, &held());
        assert!(matches!(replay.step(), Step::Gap(_)));
        let after: Vec<u64> =
            told(&mut replay, [page([].into(), true, reaches, reaches), page([].into(), true, reaches, reaches)]);
        assert_eq!([vec![0], after].concat(), gaps, "{reaches}");
    }
}

#[test]
fn what_a_pace_left_out_is_given_to_those_who_ask_for_all() {
    let frame = |ms, made_of_it| paced(TOPICS[0], ms, made_of_it);
    let frames: Arc<[_]> =
        [frame(2, Paced::SHOWN), frame(3, Paced::LEFT_OUT), frame(4, Paced::LEFT_OUT), frame(5, Paced::shown(2))]
            .into();
    for (all, wanted) in [(All::default(), &[2, 5][..]), (All::of(vec!["comment".into()]), &[2, 3, 4, 5])] {
        let (topic, start) = (Topic::parse(TOPICS[0]).unwrap(), Position::at(1));
        let mut replay = Replay::new([(topic, all)], start, start, Some(Shown::to(start)), LATER, &held());
        assert!(matches!(replay.step(), Step::Ask(..)));
        replay.page(TOPICS[0], &page(Arc::clone(&frames), true, 1, 1), 0, |_| false);
        let given = std::iter::from_fn(|| match replay.step() {
            Step::Frame(frame) => frame.position().map(|position| position.ms),
            _ => None,
        });
        assert_eq!(given.collect::<Vec<_>>(), wanted);
    }
}

/// Pages come oldest first; only what is newest is written, in its order, and what follows it.
#[test]
fn whoever_asks_for_the_newest_gets_no_others() {
    let frames: Vec<_> = (1..=9).map(|ms| frame(TOPICS[0], ms)).collect();
    let page = |range: std::ops::Range<usize>, complete| page(frames[range].into(), complete, 1, 1);
    for (most, wanted) in [(None, 1..=9), (Some(3), 7..=9), (Some(8), 2..=9), (Some(50), 1..=9)] {
        let (topic, start, held) = (Topic::parse(TOPICS[0]).unwrap(), Position::START, held());
        let mut replay = Replay::new(shown([topic]), start, start, None, LATER, &held).newest(most);
        let pages = [page(0..4, false), page(4..8, false), page(8..9, true)];
        assert_eq!(told(&mut replay, pages), wanted.collect::<Vec<_>>(), "{most:?}: no gap, as nothing was promised");
        assert_eq!(held.bytes(), 0);
    }
    // Where pages are given up they are read again from before the first that is wanted.
    let (topic, start) = (Topic::parse(TOPICS[0]).unwrap(), Position::START);
    let mut replay = Replay::new(shown([topic]), start, start, None, LATER, &held()).newest(Some(2));
    assert!(matches!(replay.step(), Step::Ask(..)));
    replay.page(TOPICS[0], &page(0..4, true), 0, |_| false);
    replay.give_up_pages();
    assert!(matches!(replay.step(), Step::Ask(_, after) if after == frames[2].prev()));
}

/// Between two pages, of which only the newest events are wanted.
#[test]
fn what_is_taken_back_is_not_among_the_newest() {
    let event = |id: &str, kind: &str, ms: u64, data: &str| every(id, TOPICS[0], kind, at(ms), data);
    let frames: Vec<_> = (1..=4).map(|number| event(&number.to_string(), "comment", number, "1")).collect();
    let start = Position::START;
    let mut replay = Replay::new(shown(topic()), start, start, None, LATER, &held()).newest(Some(3));
    assert!(matches!(replay.step(), Step::Ask(..)));
    replay.page(TOPICS[0], &page(frames[..3].into(), false, 1, 1), 0, |_| false);
    assert!(replay.passes_over(&event("3.deleted", "deleted", 9, "{\"id\":\"3\"}")));
    let got = told(&mut replay, [page(frames[3..].into(), true, 1, 1), page([].into(), true, 1, 1)]);
    assert_eq!(got, [1, 2, 4]);
}

/// A stream that comes back with a prefix is given its topics as they are listed, those that have live events meanwhile as
/// well, and nothing before it is known which there are.
#[test]
fn topics_of_a_prefix_are_merged_once_they_are_known() {
    let prefix = Topic::subscribed("live:*").unwrap();
    let mut replay = replay([prefix.clone()], 5, Some(5));
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == prefix));
    assert!(matches!(replay.step(), Step::Wait));
    // Live events wait, of topics that nobody listed yet as well.
    assert!(replay.passes_over(&frame("live:b", 9)));
    assert!(!replay.passes_over(&frame("chat:b", 9)));
    let [a, b] = ["live:a", "live:b"].map(|topic| Topic::parse(topic).unwrap());
    replay.listed(&prefix, vec![a.clone(), b], false, &page([].into(), true, 1, 1));
    let frames =
        |topic: &str, times: &[u64]| -> Arc<[Arc<Frame>]> { times.iter().map(|ms| frame(topic, *ms)).collect() };
    let mut got = Vec::new();
    loop {
        match replay.step() {
            Step::Ask(topic, after) => {
                let times: &[u64] = if topic == a { &[6, 8] } else { &[7, 9] };
                let times: Vec<u64> = times.iter().copied().filter(|ms| Position { ms: *ms, seq: 1 } > after).collect();
                replay.page(topic.as_str(), &page(frames(topic.as_str(), &times), true, 1, 1), 0, |_| false);
            }
            Step::Frame(frame) => got.push(frame.position().unwrap().ms),
            Step::Done => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(got, [6, 7, 8, 9]);
}

/// Where history may not reach back, or there are more topics than are given, the prefix's gap says so.
#[test]
fn what_a_prefix_lost_is_told() {
    let prefix = Topic::subscribed("live:*").unwrap();
    for (more, reaches, topics, gaps) in
        [(false, 1, 2, 0), (true, 1, 2, 1), (false, 50, 2, 1), (false, 1, PREFIX_REPLAYED_MAX + 1, 1)]
    {
        let mut replay = replay([prefix.clone()], 5, Some(5));
        assert!(matches!(replay.step(), Step::Ask(..)));
        let topics = (0..topics).map(|number| Topic::parse(&format!("live:{number}")).unwrap()).collect();
        replay.listed(&prefix, topics, more, &page([].into(), true, reaches, 1));
        let (mut told, mut asked) = (0, 0);
        loop {
            match replay.step() {
                Step::Gap(topic) => told += usize::from(topic == prefix),
                Step::Ask(topic, _) => {
                    asked += 1;
                    replay.page(topic.as_str(), &page([].into(), true, 1, 1), 0, |_| false);
                }
                Step::Done => break,
                step => panic!("{step:?}"),
            }
        }
        assert_eq!(told, gaps, "{more} {reaches}");
        assert!(asked <= PREFIX_REPLAYED_MAX);
    }
}

/// A stream that gives up a topic's name goes on where it was with it, once its prefix finds the topic.
#[test]
fn what_a_stream_had_by_name_is_not_given_again_by_a_prefix() {
    let prefix = Topic::subscribed("live:*").unwrap();
    let named = Topic::parse("live:a").unwrap();
    let mut replay = replay([named.clone(), prefix.clone()], 5, Some(5));
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == named));
    let frames: Vec<Arc<Frame>> = [6, 7, 8].map(|ms| frame("live:a", ms)).to_vec();
    replay.page("live:a", &page(frames[..2].into(), true, 1, 1), 0, |_| false);
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == prefix));
    // Nothing of it is written yet, and then one event is.
    replay.page(prefix.as_str(), &page([].into(), true, 1, 1), 0, |_| false);
    assert!(matches!(replay.step(), Step::Frame(frame) if frame.position().unwrap().ms == 6));
    replay.topics[1].state = State::Asked;
    assert!(!replay.leave("live:a"), "nothing of it is on its way");
    replay.listed(&prefix, vec![named.clone()], false, &page([].into(), true, 1, 1));
    assert!(matches!(replay.step(), Step::Ask(topic, after) if topic == named && after.ms == 6));
    replay.page("live:a", &page(frames[1..].into(), true, 1, 1), 0, |_| false);
    assert_eq!(told(&mut replay, []), [7, 8]);
}

/// A stream that named a topic where others are ahead of what it had by a prefix reads what is between, whatever else it reads.
#[test]
fn what_a_stream_had_by_a_prefix_is_gone_on_with_by_name() {
    let [a, b, c] = ["live:a", "live:b", "live:c"].map(|topic| Topic::parse(topic).unwrap());
    let mut replay = replay([a.clone(), b.clone()], 5, Some(5));
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == a));
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == b));
    for topic in [&a, &b] {
        replay.page(topic.as_str(), &page([].into(), true, 1, 1), 0, |_| false);
    }
    assert!(replay.passes_over(&frame("live:b", 6)));
    assert!(matches!(replay.step(), Step::Ask(topic, _) if topic == b));
    assert!(!replay.passes_over(&frame("live:a", 6)), "it is live");
    for topic in [&a, &c] {
        replay.go_on_with(topic, All::default(), Shown::to(Position::at(7)), Shown::to(Position::at(8)));
    }
    assert!(matches!(replay.step(), Step::Ask(topic, after) if topic == c && after == Position::at(7)));
    for topic in [&b, &c] {
        replay.page(topic.as_str(), &page([].into(), true, 1, 1), 0, |_| false);
    }
    assert!(matches!(replay.step(), Step::Ask(topic, after) if topic == a && after == Position::at(7)));
    replay.page("live:a", &page([frame("live:a", 8)].into(), true, 1, 1), 0, |_| false);
    assert_eq!(told(&mut replay, []), [8]);
}

/// Mail of a core to itself, such as a page, is overtaken by what the topic's home gives its viewers there.
#[test]
fn event_that_overtakes_a_page_made_before_it() {
    let (a, b) = (frame("live:a", 6), frame("live:a", 7));
    let early = page(vec![Arc::clone(&a)].into(), true, 1, 1);
    let late = page(vec![Arc::clone(&b)].into(), true, 1, 1);
    for is_late in [false, true] {
        let mut replay = replay([Topic::parse("live:a").unwrap()], 5, Some(5));
        if is_late {
            // The last page but one, before the topic is live.
            assert!(matches!(replay.step(), Step::Ask(..)));
            replay.page("live:a", &page([].into(), true, 5, 1), 0, |_| false);
            assert!(replay.passes_over(&a));
        }
        assert!(matches!(replay.step(), Step::Ask(_, after) if after.ms == 5));
        assert!(replay.passes_over(&b), "it waits for the page");
        replay.page("live:a", &early, 0, |_| false);
        assert_eq!(told(&mut replay, [late.clone()]), [6, 7], "{is_late}");
    }
}

/// An update of several topics came by one that the stream names; of another one, which it has by a prefix, history has it, too.
#[test]
fn update_of_a_named_topic_given_again_by_another_one() {
    let data = r#"{"topics":["https://a.example/1","https://a.example/2"],"data":"x"}"#;
    let update = Arc::new(update("urn:x", "https://a.example/2", data, Some(PLACE)));
    for (is_named, shown) in [(true, vec![]), (false, vec![PLACE.position.ms])] {
        let [named, by_prefix] = ["https://a.example/1", "https://a.example/2"].map(mercure::topic);
        let mut replay = replay([by_prefix.clone()], 1, Some(1));
        assert!(matches!(replay.step(), Step::Ask(..)));
        let page = page([Arc::clone(&update)].into(), true, 1, 1);
        replay.page(by_prefix.as_str(), &page, 0, |topic| is_named && *topic == named);
        assert_eq!(told(&mut replay, []), shown);
    }
}
