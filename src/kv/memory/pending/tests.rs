//! An embedded store whose keeper takes its time, fails, or takes no more, against what that keeper has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::kv::datacenter::Taking;
use crate::kv::kept::{Keep, Keeper, Kept};
use crate::kv::memory::MemoryKv;
use crate::kv::memory::pending::Batch;
use crate::kv::{Answer, Append, Claim, Heard, KeyValue, Read, Request, Unavailable, bucket};
use crate::runtime::clock::Times;
use crate::wire::frame::Stored;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// What a database would have, and what it was given since.
#[derive(Debug, Default)]
struct Database {
    kept: Kept,
    /// The ids of all events that it ever had.
    ids: BTreeSet<usize>,
    given: Option<(Vec<Keep>, Batch)>,
    is_full: bool,
    told: Vec<(u64, Result<Answer, Unavailable>)>,
}

#[derive(Debug, Default)]
struct Keeping(Mutex<Database>);

impl Keeper for Keeping {
    fn keep(&self, changes: Vec<Keep>, batch: Batch) -> Result<(), Unavailable> {
        let mut database = self.0.lock().unwrap();
        assert!(database.given.is_none() && !changes.is_empty(), "one at a time");
        if database.is_full {
            return Err(Unavailable("full".to_owned()));
        }
        database.given = Some((changes, batch));
        Ok(())
    }

    fn tell(&self, shard: Option<usize>, heard: Heard) {
        if let Heard::Answer { ticket, result } = heard {
            assert_eq!(shard, Some(ticket as usize % 3));
            self.0.lock().unwrap().told.push((ticket, result));
        }
    }
}

impl Keeping {
    /// Ends what it was given.
    fn done(&self, is_kept: bool) {
        let mut database = self.0.lock().unwrap();
        let Some((changes, batch)) = database.given.take() else { return };
        for change in changes.into_iter().filter(|_| is_kept) {
            let stored = Stored::read(change.event.event.as_deref().unwrap()).unwrap();
            database.ids.insert(stored.id.parse().unwrap());
            database.kept.apply(change);
        }
        drop(database);
        batch.done(if is_kept { Ok(()) } else { Err(Unavailable("the disk is full".to_owned())) });
    }

    fn kept(&self) -> Kept {
        Kept { since_ms: 1, ..self.0.lock().unwrap().kept.clone() }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        topic: usize,
        key: Option<u8>,
        withdraws: Option<usize>,
    },
    /// Of a peer's queue, up to this number, of which a part may have come before.
    Take {
        topic: usize,
        to: u64,
    },
    Done(bool),
    Full(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..2usize, prop::option::of(0u8..3), prop::option::weighted(0.3, 0..20usize));
    let step = prop_oneof![
        5 => append.prop_map(|(topic, key, withdraws)| Step::Append { topic, key, withdraws }),
        1 => (0..2usize, 1u64..9).prop_map(|(topic, to)| Step::Take { topic, to }),
        3 => any::<bool>().prop_map(Step::Done),
        1 => prop::bool::weighted(0.3).prop_map(Step::Full),
    ];
    prop::collection::vec(step, 1..60)
}

fn topic(number: usize) -> Topic {
    Topic::parse(["live:1", "chat:2"][number]).unwrap()
}

fn append(topic: Topic, id: usize, withdraws: Option<usize>) -> Append {
    let (kind, data) = match withdraws {
        Some(other) => ("deleted", format!(r#"{{"id":"{other}"}}"#)),
        None => ("comment", "1".to_owned()),
    };
    let event = format!(r#"{{"id":"{id}","topic":"{topic}","type":"{kind}","at":1,"data":{data}}}"#).into();
    let (withdraws, kind) = (withdraws.map(|id| id.to_string()), kind.to_owned());
    Append { topic, event, kind, count_max: 99, age_max_ms: 9_000_000, withdraws, peers: Vec::new(), pace: None }
}

/// What readers are shown of a topic, and where it ends.
type Shown = (Vec<(Position, String)>, Option<Position>);

struct World {
    kv: MemoryKv,
    keeping: Arc<Keeping>,
    ticket: u64,
    /// The answers to all that was asked, at once or later.
    answers: BTreeMap<u64, Result<Answer, Unavailable>>,
}

impl World {
    fn new(keeping: Arc<Keeping>) -> World {
        let start = Instant::now();
        let times = Times::simulated(move || (start, Duration::from_millis(1_000)));
        let kv = MemoryKv::kept(9_000_000, times, keeping.kept(), Arc::clone(&keeping) as Arc<dyn Keeper>);
        World { kv, keeping, ticket: 0, answers: BTreeMap::new() }
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.ticket += 1;
        if let Some(result) = self.kv.submit(self.ticket as usize % 3, self.ticket, request, &mut Vec::new()) {
            self.answers.insert(self.ticket, result);
        }
        self.ticket
    }

    fn hear(&mut self) {
        for (ticket, result) in std::mem::take(&mut self.keeping.0.lock().unwrap().told) {
            assert!(self.answers.insert(ticket, result).is_none(), "{ticket} is answered once");
        }
    }

    /// Of each topic.
    fn shown(&mut self) -> Vec<Shown> {
        [0, 1]
            .map(|number| {
                let read = Read { topic: topic(number), after: Position::START, limit: 99 };
                let page = self.ask(Request::Read(read));
                let ends = self.ask(Request::Ends(vec![topic(number)]));
                let Some(Ok(Answer::Page(page))) = self.answers.remove(&page) else { panic!("it is answered at once") };
                let Some(Ok(Answer::Ends(ends))) = self.answers.remove(&ends) else { panic!("it is answered at once") };
                let events = page.events.iter().map(|event| (event.position, event.event.to_string()));
                (events.collect(), ends[0].position)
            })
            .to_vec()
    }
}

proptest! {
    /// Readers are shown what is kept, at every moment; who has an answer that says so has an event that is kept, and a key of
    /// one that is not is a new one.
    #[test]
    fn nobody_is_shown_or_told_what_is_not_kept(steps in steps()) {
        let mut world = World::new(Arc::default());
        let keeping = Arc::clone(&world.keeping);
        // What was asked: with its key, and the id of its event.
        let mut asked: BTreeMap<u64, (Option<u8>, usize)> = BTreeMap::new();
        let mut taken: Vec<u64> = Vec::new();
        let claim = |key: u8, id: usize| {
            Claim { topic: topic(0), key: key.to_string(), body: "b".to_owned(), id: id.to_string() }
        };
        for (number, step) in steps.into_iter().chain([Step::Done(true), Step::Done(true), Step::Done(false)]).enumerate() {
            match step {
                Step::Append { topic: of, key, withdraws } => {
                    let withdraws = withdraws.filter(|other| *other < number);
                    // A key is one topic's.
                    let append = append(topic(if key.is_some() { 0 } else { of }), number, withdraws);
                    let request = match key {
                        Some(key) => Request::AppendOnce(claim(key, number), append),
                        None => Request::Append(append),
                    };
                    let ticket = world.ask(request);
                    asked.insert(ticket, (key, number));
                }
                Step::Take { topic: of, to } => {
                    let event = |at: u64| append(topic(of), 1_000 + at as usize, None);
                    let events = (1..=to).map(|at| (Position::at(at), event(at))).collect();
                    let bucket = bucket(topic(of).as_str());
                    let ticket = world.ask(Request::Take(Taking { dc: "b".to_owned(), bucket, epoch: 1, events }));
                    taken.push(ticket);
                }
                Step::Done(is_kept) => keeping.done(is_kept),
                Step::Full(is_full) => keeping.0.lock().unwrap().is_full = is_full,
            }
            world.hear();
            let shown = world.shown();
            let kept = keeping.kept();
            for (number, (events, end)) in shown.iter().enumerate() {
                let of = || kept.events.iter().filter(|event| event.topic == topic(number));
                let texts = of().filter_map(|kept| Some((kept.position, kept.event.as_deref()?.to_owned())));
                prop_assert_eq!(events, &texts.collect::<Vec<_>>());
                prop_assert_eq!(*end, of().map(|kept| kept.position).max());
            }
        }
        keeping.done(true);
        keeping.0.lock().unwrap().is_full = false;
        world.hear();
        prop_assert!(world.kv.0.lock().pending.waiting.is_empty() && keeping.0.lock().unwrap().given.is_none());
        let has = |id: usize| keeping.0.lock().unwrap().ids.contains(&id);
        for (ticket, (key, id)) in &asked {
            match &world.answers[ticket] {
                Ok(Answer::Appended { .. }) => prop_assert!(has(*id), "{} was answered and is not kept", id),
                Ok(Answer::Repeated { id: Some(first) }) if key.is_some() => {
                    let first = first.parse().unwrap();
                    prop_assert!(first == *id || has(first), "{} was said to be known and is not kept", first);
                }
                Ok(Answer::Repeated { .. }) | Err(_) => {}
                Ok(other) => panic!("{other:?}"),
            }
        }
        for ticket in taken {
            if let Ok(Answer::Taken(placed)) = &world.answers[&ticket] {
                let last = 1_000 + placed.len();
                prop_assert!(has(last), "a peer's {} was taken and is not kept", last);
            }
        }
        // Whoever begins anew with what is kept has the same, and knows the same keys.
        let mut anew = World::new(Arc::clone(&keeping));
        prop_assert_eq!(anew.shown(), world.shown());
        for key in 0..3 {
            let again = |world: &mut World| {
                let ticket = world.ask(Request::AppendOnce(claim(key, 5_000), append(topic(0), 5_000, None)));
                matches!(world.answers.get(&ticket), Some(Ok(Answer::Repeated { .. })))
            };
            let [before, after] = [&mut world, &mut anew].map(|world| {
                let is_known = again(world);
                keeping.done(false);
                is_known
            });
            prop_assert_eq!(before, after, "key {}", key);
        }
    }
}

/// Events come faster than they are kept, and are given up in memory before they ever are.
#[test]
fn what_memory_gave_up_is_given_up_where_it_is_kept() {
    let mut world = World::new(Arc::default());
    let keeping = Arc::clone(&world.keeping);
    for round in [true, false, true] {
        for id in 0..20 {
            world.ask(Request::Append(Append { count_max: 3, ..append(topic(0), id, None) }));
        }
        keeping.done(round);
        keeping.done(true);
    }
    world.hear();
    assert_eq!(world.shown()[0].0.len(), 3);
    assert_eq!(keeping.kept().events.len(), 3, "the database has no more");
}
