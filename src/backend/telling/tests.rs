use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::backend::passes::{Passes, Step};
use crate::db::PostKind;
use crate::limits::{OUTBOX_RETRY, TICK};
use crate::wire::hops::Begun;

fn topic(number: usize) -> Topic {
    Topic::parse(&format!("live:{number}")).unwrap()
}

fn telling(number: u64, change: Change) -> Telling {
    let record = Record { id: number.to_string(), change };
    Telling {
        kind: PostKind::Comment,
        record,
        member: "ana".into(),
        text: "x".repeat(100),
        always: false,
        begun: Begun::default(),
    }
}

/// A database with its outbox, a store that fails at times, and what viewers saw.
struct World {
    now: Instant,
    lines: Lines,
    passes: Passes,
    /// Whose post it is, and whether it was left.
    outbox: BTreeMap<u64, (usize, bool)>,
    last: u64,
    works: bool,
    database_works: bool,
    under_way: VecDeque<(Topic, Vec<Record>)>,
    marking: VecDeque<Marking>,
    asked: Option<(Option<Record>, u32)>,
    seen: BTreeMap<Topic, Vec<u64>>,
}

impl World {
    fn new(account: &Account) -> World {
        let now = Instant::now();
        World {
            now,
            lines: Lines::new(account, now),
            passes: Passes::new(now),
            outbox: BTreeMap::new(),
            last: 0,
            works: true,
            database_works: true,
            under_way: VecDeque::new(),
            marking: VecDeque::new(),
            asked: None,
            seen: BTreeMap::new(),
        }
    }

    fn post(&mut self, at: usize) {
        self.last += 1;
        self.outbox.insert(self.last, (at, false));
        self.lines.add(&topic(at), telling(self.last, Change::Posted), self.now);
    }

    /// The process ends and another one starts.
    fn crash(&mut self, account: &Account) {
        // What was marked for the database only is known to be there; the rest is as old as it must be when it is looked at.
        let seen = &self.seen;
        self.outbox.retain(|number, (at, _)| !seen.get(&topic(*at)).is_some_and(|seen| seen.contains(number)));
        self.outbox.values_mut().for_each(|(_, left)| *left = true);
        self.lines = Lines::new(account, self.now);
        self.passes = Passes::new(self.now);
        (self.under_way, self.marking, self.asked) = Default::default();
    }

    /// The store answers the oldest group: all of it, or where it fails only the first ones are published.
    fn answer(&mut self, published: usize) {
        let Some((topic, records)) = self.under_way.pop_front() else { return };
        for (at, record) in records.iter().enumerate() {
            let is_told = self.works || at < published;
            if is_told {
                self.seen.entry(topic.clone()).or_default().push(record.id.parse().unwrap());
            }
            self.lines.told(&topic, record, is_told, self.now);
        }
    }

    fn store_marks(&mut self) {
        let Some(marking) = self.marking.pop_front() else { return };
        if !self.database_works {
            return self.lines.unmarked(marking);
        }
        let number = |record: &Record| record.id.parse::<u64>().unwrap();
        for record in &marking.marks.published {
            self.outbox.remove(&number(record));
        }
        for record in &marking.marks.left {
            self.outbox.get_mut(&number(record)).expect("it was not published").1 = true;
        }
        self.lines.marked(marking, self.now);
    }

    fn list(&mut self) {
        let Some((after, limit)) = self.asked.take() else { return };
        let Some((began, asked)) = self.passes.times() else { return };
        let after = after.map_or(0, |record| record.id.parse().unwrap());
        let due: Vec<(u64, usize)> = self
            .outbox
            .range(after + 1..)
            .filter(|(_, (_, left))| *left)
            .map(|(number, (at, _))| (*number, *at))
            .collect();
        let page = &due[..due.len().min(limit as usize)];
        for (number, at) in page {
            self.lines.list(&topic(*at), telling(*number, Change::Posted), began, self.now);
        }
        let last = page.last().map(|(number, _)| telling(*number, Change::Posted).record);
        if self.passes.listed(page.len(), last, page.len() < due.len(), self.now) {
            self.lines.pass_ends(&PassEnd { began, asked, due: Due::Nothing }, self.now);
        }
    }

    /// What a turn of a shard does.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        while let Some((topic, tellings)) = self.lines.next_tellings() {
            self.under_way.push_back((topic, tellings.into_iter().map(|telling| telling.record).collect()));
        }
        self.marking.extend(self.lines.next_marks());
        let told = self.lines.take_told();
        if told != Told::default() {
            self.passes.settled(told, self.now);
        }
        if self.lines.lags() {
            self.passes.hasten();
        }
        match self.passes.step(self.now, false) {
            Some(Step::Ask { after, limit }) => self.asked = Some((after, limit)),
            Some(Step::GiveUp) => unreachable!("the store is not known to be away"),
            Some(Step::Hold) | None => {}
        }
    }

    fn tick(&mut self, time: Duration) {
        self.now += time;
        self.lines.tick(self.now);
    }

    fn settle(&mut self) {
        (self.works, self.database_works) = (true, true);
        for _ in 0..10_000 {
            if self.outbox.is_empty() && self.lines.is_settled() {
                return;
            }
            self.tick(TICK);
            self.turn();
            self.answer(0);
            self.list();
            self.store_marks();
        }
        panic!("{:?} are left of {}: {:?}", self.outbox, self.last, self.lines);
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Post(usize),
    Answer(usize),
    Fails(bool),
    DatabaseFails(bool),
    Marks,
    Lists,
    Time(u64),
    Crash,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => (0usize..4).prop_map(Happens::Post),
        10 => (0usize..70).prop_map(Happens::Answer),
        1 => any::<bool>().prop_map(Happens::Fails),
        1 => any::<bool>().prop_map(Happens::DatabaseFails),
        8 => Just(Happens::Marks),
        8 => Just(Happens::Lists),
        4 => (0u64..3_000).prop_map(Happens::Time),
        1 => Just(Happens::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever fails, and when: viewers see every post, each once, and a topic's in the order of storing. Memory is bounded
    /// and given back.
    #[test]
    fn each_once_and_in_order(steps in prop::collection::vec(happens(), 1..400), bytes in prop_oneof![Just(usize::MAX), 3_000usize..20_000]) {
        let mut most = [usize::MAX; Use::ALL.len()];
        most[Use::Questions as usize] = bytes;
        let account = Account::new(most);
        let mut world = World::new(&account);
        for step in steps {
            match step {
                Happens::Post(at) => world.post(at),
                Happens::Answer(published) => world.answer(published),
                Happens::Fails(fails) => world.works = !fails,
                Happens::DatabaseFails(fails) => world.database_works = !fails,
                Happens::Marks => world.store_marks(),
                Happens::Lists => world.list(),
                Happens::Time(ms) => world.tick(Duration::from_millis(ms)),
                Happens::Crash => world.crash(&account),
            }
            world.turn();
            prop_assert!(account.held(Use::Questions) <= bytes);
        }
        world.settle();
        let seen: usize = world.seen.values().map(Vec::len).sum();
        prop_assert_eq!(seen as u64, world.last);
        for (topic, numbers) in &world.seen {
            prop_assert!(numbers.is_sorted(), "{}: {:?}", topic, numbers);
        }
        world.tick(OUTBOX_RETRY);
        world.turn();
        world.list();
        prop_assert_eq!(account.held(Use::Questions), 0, "{:?}", world.lines);
    }
}

#[test]
fn what_is_deleted_while_it_waits_is_not_shown() {
    let now = Instant::now();
    let mut lines = Lines::new(&Account::unbounded(), now);
    (1..=2).for_each(|number| lines.add(&topic(1), telling(number, Change::Posted), now));
    lines.add(&topic(1), telling(1, Change::Deleted), now);
    let end = PassEnd { began: now, asked: now, due: Due::Nothing };
    assert!(lines.next_tellings().is_none(), "nobody knows what the outbox has");
    lines.pass_ends(&end, now);
    let (_, tellings) = lines.next_tellings().unwrap();
    let records: Vec<(&str, Change)> =
        tellings.iter().map(|telling| (telling.record.id.as_str(), telling.record.change)).collect();
    assert_eq!(records, [("2", Change::Posted), ("1", Change::Deleted)]);
}

#[test]
fn topic_waits_for_what_another_backend_publishes_and_no_other_does() {
    let now = Instant::now();
    let mut lines = Lines::new(&Account::unbounded(), now);
    let end = |due| PassEnd { began: now, asked: now + TICK, due };
    (1..=2).for_each(|at| lines.add(&topic(at), telling(at as u64, Change::Posted), now));
    lines.pass_ends(&end(Due::Unknown), now);
    assert!(!lines.is_ready());
    lines.pass_ends(&end(Due::Of(Arc::new([topic(1)].into_iter().collect()))), now);
    assert_eq!(lines.next_tellings().unwrap().0, topic(2));
    assert!(lines.next_tellings().is_none());
    lines.pass_ends(&end(Due::Of(Arc::default())), now);
    assert_eq!(lines.next_tellings().unwrap().0, topic(1));
}

/// A pass that began while some of a topic's posts were marked as left can bring none behind those. It does not walk through
/// all of them at the pace of tries that fail.
#[test]
fn thousands_of_a_topic_wait_for_a_pass_that_came_too_early() {
    let account = Account::unbounded();
    let mut world = World::new(&account);
    world.works = false;
    (0..5_000).for_each(|_| world.post(1));
    world.turn();
    world.list();
    world.tick(TOLD_WAIT);
    world.turn();
    world.answer(0);
    // A pass lists what the first marks have made due; the other marks follow while it is under way.
    world.store_marks();
    world.tick(OUTBOX_RETRY);
    world.turn();
    world.list();
    while !world.marking.is_empty() {
        world.store_marks();
        world.turn();
    }
    world.works = true;
    let began = world.now;
    while !world.outbox.is_empty() {
        world.turn();
        world.answer(0);
        world.list();
        world.store_marks();
        assert!(world.now - began < Duration::from_secs(5), "{} are left", world.outbox.len());
    }
}

/// A pass that is beyond a post as it becomes due goes on to its end without it.
#[test]
fn posts_that_are_left_behind_a_pass_that_is_under_way() {
    let mut now = Instant::now();
    let mut lines = Lines::new(&Account::unbounded(), now);
    let end = |began, asked| PassEnd { began, asked, due: Due::Nothing };
    lines.pass_ends(&end(now, now), now);
    let posted = |number: u64| telling(number, Change::Posted).record;
    let given = |lines: &mut Lines| {
        let given =
            lines.next_tellings().map(|(topic, tellings)| (topic, tellings.into_iter().map(|telling| telling.record)));
        given.map(|(topic, records)| (topic, records.collect::<Vec<_>>()))
    };
    lines.add(&topic(0), telling(1, Change::Posted), now);
    assert_eq!(given(&mut lines), Some((topic(0), vec![posted(1)])));
    lines.add(&topic(0), telling(2, Change::Posted), now);
    // Meanwhile a pass lists a later post of another topic.
    now += TOLD_WAIT;
    let began = now;
    lines.list(&topic(1), telling(3, Change::Posted), began, now);
    assert_eq!(given(&mut lines), Some((topic(1), vec![posted(3)])));
    lines.tick(now);
    let marking = lines.next_marks().expect("it waited for long");
    assert_eq!(marking.marks.left, [posted(2)]);
    lines.marked(marking, now);
    lines.told(&topic(0), &posted(1), true, now);
    lines.told(&topic(1), &posted(3), true, now);
    now += TICK;
    lines.pass_ends(&end(began, now), now);
    lines.add(&topic(0), telling(4, Change::Posted), now);
    assert_eq!(given(&mut lines), None, "the second is to come first");
    now += TICK;
    lines.list(&topic(0), telling(2, Change::Posted), now, now);
    lines.pass_ends(&end(now, now), now);
    assert_eq!(given(&mut lines), Some((topic(0), vec![posted(2)])));
    lines.told(&topic(0), &posted(2), true, now);
    assert_eq!(given(&mut lines), Some((topic(0), vec![posted(4)])));
}
