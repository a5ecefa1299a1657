use proptest::prelude::*;

use super::*;

fn topic() -> Topic {
    Topic::parse("live:1").unwrap()
}

fn event(topic: Topic, kind: &str, event: &str, count_max: u32, age_max_ms: u64) -> Append {
    let (event, kind) = (event.into(), kind.to_owned());
    Append { topic, event, kind, count_max, age_max_ms, withdraws: None, peers: Vec::new(), pace: None }
}

fn append(histories: &mut Histories, text: &str, count_max: u32, now_ms: u64) -> (Position, Option<Position>) {
    histories.append(&event(topic(), "comment", text, count_max, 1000), now_ms)
}

/// Types, with how many events of each are kept, and for how long.
const KINDS: [(&str, usize, u64); 3] = [("comment", 5, 1000), ("note", 2, 300), ("deleted", 9, 500)];

proptest! {
    /// Each event is kept for its own type's count and time and no longer, unless it was taken back; its place is. Whoever reads from wherever: either all that was
    /// appended since, in order, or `reaches` says that some is gone, which it does only then.
    #[test]
    fn each_type_is_kept_by_itself_and_nothing_is_missing_unsaid(
        steps in prop::collection::vec(
            (0u64..400, 0..KINDS.len(), any::<bool>(), prop::option::weighted(0.2, any::<prop::sample::Index>())),
            1..60,
        ),
        from: prop::sample::Index,
        limit in 1u32..9,
    ) {
        let (mut histories, mut now_ms, mut all) = (Histories::new(1, 1000), 1, Vec::new());
        let mut withdrawn = std::collections::BTreeSet::new();
        for (pause, kind, sweeps, withdraws) in steps {
            now_ms += pause;
            let (name, count, age_ms) = KINDS[kind];
            let text = format!("{{\"id\":\"{}\",}}", all.len());
            let withdraws = withdraws.map(|which| which.index(all.len() + 1));
            withdrawn.extend(withdraws.filter(|which| *which < all.len()));
            let withdraws = withdraws.map(|which| which.to_string());
            let append = Append { withdraws, ..event(topic(), name, &text, count as u32, age_ms) };
            let (position, prev) = histories.append(&append, now_ms);
            if sweeps {
                histories.sweep(now_ms);
            }
            let last = all.last().map(|(position, _)| *position);
            prop_assert!(position.ms >= now_ms && Some(position) > last);
            prop_assert!(prev.is_none() || prev == last);
            all.push((position, kind));
        }
        let is_kept = |at: usize| {
            let (position, kind) = all[at];
            let (_, count, age_ms) = KINDS[kind];
            let newer = all[at + 1..].iter().filter(|(_, other)| *other == kind).count();
            newer < count && position.ms + age_ms >= now_ms
        };
        let places = all.iter().map(|(position, _)| *position);
        let mut after = std::iter::once(Position::at(1)).chain(places).nth(from.index(all.len() + 1)).unwrap();
        let behind = (0..all.len()).filter(|at| all[*at].0 > after);
        let (wanted, gone): (Vec<usize>, Vec<usize>) = behind.partition(|at| is_kept(*at));
        let wanted: Vec<_> =
            wanted.into_iter().filter(|at| !withdrawn.contains(at)).map(|at| all[at].0).collect();
        let (mut got, asked) = (Vec::new(), after);
        loop {
            let page = histories.read(&Read { topic: topic(), after, limit }, now_ms);
            // What is older than any type is kept may have been forgotten with its topic, and is said to be gone.
            let may_be_forgotten = asked.ms + 1000 < now_ms;
            let is_right = if page.reaches.covers(asked) { gone.is_empty() } else { may_be_forgotten || !gone.is_empty() };
            prop_assert!(is_right, "{:?}, asked from {}", page.reaches, asked);
            got.extend(page.events.iter().map(|event| event.position));
            if page.complete {
                break;
            }
            after = *got.last().unwrap();
        }
        prop_assert_eq!(got, wanted);
        prop_assert_eq!(histories.bytes, histories.topics.values().map(|history| history.bytes).sum::<usize>());
    }
}

#[test]
fn a_topic_that_lost_all_for_want_of_memory_says_so() {
    let mut histories = Histories::new(0, 1000);
    append(&mut histories, "first", 10, 5);
    let text = "x".repeat(1 << 20);
    for number in 0..300 {
        let topic = Topic::parse("live:other").unwrap();
        histories.append(&event(topic, "comment", &text, 1000, 1000), 10 + number);
    }
    histories.sweep(320);
    let page = histories.read(&Read { topic: topic(), after: Position::at(4), limit: 9 }, 320);
    assert!(page.events.is_empty() && !page.reaches.covers(Position::at(4)), "{page:?}");
    assert_eq!(append(&mut histories, "second", 10, 330).1, Some(Position { ms: 5, seq: 1 }));
    histories.sweep(2_000);
    assert_eq!(histories.end(&topic(), 2_000).position, None, "a second later nobody expects it");
}

#[test]
fn what_is_too_old_stays_until_something_new_comes() {
    let mut histories = Histories::new(0, 1_000);
    for number in 0..100 {
        let topic = Topic::parse(&format!("live:{number}")).unwrap();
        histories.append(&event(topic, "comment", "text", 9, 100), 10);
    }
    // In turn, however few at a time; the topics are known for as long as their events are missed.
    (0..10).for_each(|_| histories.sweep_some(10, 200));
    assert!(histories.topics.values().all(|history| history.shelves.is_empty()) && histories.topics.len() == 100);
    (0..10).for_each(|_| histories.sweep_some(10, 2_000));
    assert_eq!((histories.bytes(), histories.topics.len(), histories.round.len()), (0, 0, 0));
}

#[test]
fn a_clock_that_is_set_back_makes_no_place_before_one_that_was_given() {
    let mut histories = Histories::new(1_000, 1_000);
    let (first, _) = append(&mut histories, "1", 9, 10_000);
    histories.end(&topic(), 20_000);
    histories.sweep(20_000);
    let other = Topic::parse("live:other").unwrap();
    let end = histories.end(&other, 5_000);
    assert_eq!((end.position, end.place()), (None, Some(Position::at(20_000))));
    let (second, prev) = append(&mut histories, "2", 9, 5_000);
    assert!(second > first && prev.is_none(), "{second}");
    let page = histories.read(&Read { topic: topic(), after: first, limit: 9 }, 5_000);
    assert_eq!(page.events.iter().map(|event| event.position).collect::<Vec<_>>(), [second]);
}

#[test]
fn memory_is_bounded_and_what_went_is_said() {
    let mut histories = Histories::new(0, 1000);
    let text = "x".repeat(1 << 20);
    for number in 0..300 {
        append(&mut histories, &text, 1_000_000, 1 + number);
        assert!(histories.bytes <= MEMORY_HISTORY_BYTES + text.len() + ENTRY_BYTES);
    }
    let page = histories.read(&Read { topic: topic(), after: Position::at(0), limit: 1 }, 300);
    assert!(!page.reaches.covers(Position::at(0)) && page.events.len() == 1);
}

#[test]
fn names_and_emptied_topics_count() {
    let mut histories = Histories::new(0, 3_600_000);
    let name = "n".repeat(180);
    for number in 0..500_000 {
        let topic = Topic::parse(&format!("c:{name}{number}")).unwrap();
        histories.append(&event(topic, "comment", "1", 1, 3_600_000), 1 + number);
        assert!(histories.bytes <= MEMORY_HISTORY_BYTES + 1024, "{number}");
    }
    // What was forgotten with its topic is not passed over in silence.
    let first = Topic::parse(&format!("c:{name}0")).unwrap();
    let page = histories.read(&Read { topic: first, after: Position::at(0), limit: 1 }, 500_000);
    assert!(!page.reaches.covers(Position::at(0)), "{page:?}");
}
