//! History in Redis against history in memory: whatever is appended and read, both say the same.

use std::sync::atomic::{AtomicU32, Ordering};

use fanfare::kv::{Answer, Page, Request};
use fanfare::wire::position::Position;
use fanfare::wire::topic::Topic;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::driver::{AGE_MS, Store, deletion, event_at, topic, with_id};
use crate::support::redis::Redis;

#[derive(Debug, Clone)]
enum Op {
    /// An event of this type, of which so many are kept.
    Append(&'static str, u32),
    /// One that takes another one back.
    TakeBack(prop::sample::Index, u32),
    Read(prop::sample::Index, u32),
    Ends,
}

/// Events by the numbers of their places and of those before them; whether that is all; whether something is missing.
type Seen = (Vec<(usize, Option<usize>, String)>, bool, bool);

/// Positions given so far, in order; another store's differ in time and agree in number.
struct Places<'a> {
    store: &'a Store,
    given: Vec<Position>,
}

impl Places<'_> {
    fn number(&self, position: Option<Position>) -> Option<usize> {
        position.map(|position| self.given.iter().position(|given| *given == position).expect("it was given"))
    }

    fn append(&mut self, topic: &Topic, kind: &str, count_max: u32) -> (usize, Option<usize>) {
        let text = with_id(&self.given.len().to_string());
        let placed = self.store.append_of(topic, kind, &text, count_max, AGE_MS);
        self.placed(placed)
    }

    fn take_back(&mut self, topic: &Topic, which: usize, count_max: u32) -> (usize, Option<usize>) {
        let append = deletion(topic, &which.to_string(), count_max, &[]);
        let Answer::Appended { position, prev, .. } = self.store.ask(Request::Append(append)) else {
            panic!("appended")
        };
        self.placed((position, event_at(prev)))
    }

    fn placed(&mut self, (position, prev): (Position, Option<Position>)) -> (usize, Option<usize>) {
        assert!(self.given.last().is_none_or(|last| *last < position));
        self.given.push(position);
        (self.given.len() - 1, self.number(prev))
    }

    /// What a page says, and whether something is missing behind `after`.
    fn read(&self, topic: &Topic, after: Position, limit: u32) -> Seen {
        let Page { events, complete, reaches, since } = self.store.read(topic, after, limit);
        assert!(since <= reaches, "what was lost is not there");
        let event = |event: fanfare::kv::Stored| {
            (self.number(Some(event.position)).expect("a place"), self.number(event.prev), event.event.to_string())
        };
        (events.into_iter().map(event).collect(), complete, reaches.place() > after)
    }
}

#[test]
fn both_say_the_same() {
    let server = Redis::start();
    let (memory, redis) = (Store::memory(), Store::redis(&server.url(), "dc1"));
    let cases = AtomicU32::new(0);
    let ops = prop::collection::vec(
        prop_oneof![
            3 => (prop::sample::select(vec!["comment", "message", "note"]), 1u32..6)
                .prop_map(|(kind, count_max)| Op::Append(kind, count_max)),
            1 => (any::<prop::sample::Index>(), 1u32..6).prop_map(|(which, count_max)| Op::TakeBack(which, count_max)),
            2 => (any::<prop::sample::Index>(), 1u32..5).prop_map(|(from, limit)| Op::Read(from, limit)),
            1 => Just(Op::Ends),
        ],
        1..60,
    );
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let result = runner.run(&ops, |ops| {
        let live = topic(&format!("live:case-{}", cases.fetch_add(1, Ordering::Relaxed)));
        let mut model = Places { store: &memory, given: Vec::new() };
        let mut tested = Places { store: &redis, given: Vec::new() };
        for op in ops {
            match op {
                Op::Append(kind, count_max) => {
                    prop_assert_eq!(tested.append(&live, kind, count_max), model.append(&live, kind, count_max));
                }
                Op::TakeBack(which, count_max) => {
                    let which = which.index(model.given.len() + 1);
                    prop_assert_eq!(
                        tested.take_back(&live, which, count_max),
                        model.take_back(&live, which, count_max)
                    );
                }
                Op::Read(from, limit) => {
                    let at = from.index(model.given.len() + 1);
                    // From before all events: from the end of an empty history, which nothing precedes.
                    let after = |places: &Places<'_>| match at.checked_sub(1) {
                        Some(at) => places.given[at],
                        None => places.store.ends(std::slice::from_ref(&live))[0].since.place(),
                    };
                    let (one, other) = (after(&tested), after(&model));
                    prop_assert_eq!(tested.read(&live, one, limit), model.read(&live, other, limit));
                }
                Op::Ends => {
                    let end =
                        |places: &Places<'_>| places.number(places.store.ends(std::slice::from_ref(&live))[0].position);
                    prop_assert_eq!(end(&tested), end(&model));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
