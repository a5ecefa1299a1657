use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::canary::Sums;

const SECOND: Duration = Duration::from_secs(1);
/// Sums a second by a way.
const SUMS: u64 = 3;

fn by(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// A backend with some dispatchers, a second a step, whose events reach one viewer unless they are lost.
struct World {
    began: Instant,
    round: u64,
    ways: Vec<u16>,
    /// From which round on there are how many of them.
    joins: u64,
    audit: Audit,
    found: Findings,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an `Instant`")]
    fn new(ways: Vec<u16>) -> World {
        World { began: Instant::now(), round: 0, ways, joins: 1, audit: Audit::default(), found: Findings::default() }
    }

    fn note(&self, way: u16, number: u64) -> Note {
        let (backend, url) = ("b".to_owned(), "http://b".to_owned());
        Note { backend, url, by: by(way), number, sent_us: 0, settled: Vec::new() }
    }

    fn since(&self, way: u16) -> u64 {
        if way == self.ways[0] { 1 } else { self.joins }
    }

    fn settled(&self, way: u16) -> Settled {
        let (since, over) = (self.since(way), self.round.saturating_sub(CANARY_SETTLED));
        let sums = group(over).checked_sub(1).filter(|last| *last >= group(since)).map(|last| {
            let rounds = (last * CANARY_GROUP..(last + 1) * CANARY_GROUP).filter(|round| *round >= since);
            Sums { group: last, count: SUMS * rounds.count() as u64 }
        });
        Settled { by: by(way), since, every: over.max(since - 1), sums }
    }

    /// A second passes, in which `is_lost` says what is lost.
    fn second(&mut self, is_lost: impl Fn(Class, u16) -> u64) {
        self.round += 1;
        let now = self.began + SECOND * self.round as u32;
        let ways: Vec<u16> = self.ways.iter().copied().filter(|way| self.since(*way) <= self.round).collect();
        let settled: Vec<Settled> = ways.iter().map(|way| self.settled(*way)).collect();
        for way in ways {
            for class in [Class::Ephemeral, Class::Every, Class::Latest] {
                let mut note = self.note(way, self.round);
                if class == Class::Ephemeral {
                    note.settled = settled.clone();
                }
                if is_lost(class, way) == 0 {
                    self.audit.comes(class, &note, now, &mut self.found);
                }
            }
            let count = SUMS - is_lost(Class::Sum, way);
            if count > 0 {
                self.audit.sums(("b", by(way), group(self.round)), count, &mut self.found);
            }
        }
    }

    fn seconds(&mut self, count: u64) {
        (0..count).for_each(|_| self.second(|_, _| 0));
    }

    /// Until all that was lost must have been found.
    fn end(&mut self) -> &Findings {
        self.seconds(CANARY_SETTLED + 2 * CANARY_GROUP);
        &self.found
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let mut world = World { joins: 40, ..World::new(vec![1, 2]) };
    world.seconds(200);
    let found = Findings { heard: world.found.heard, ..Findings::default() };
    assert_eq!(world.end().lost, found.lost);
    assert_eq!((world.found.repeated, world.found.late, world.found.disordered), ([0; 4], [0; 4], 0));
    assert_eq!(world.audit.pairs(world.began + SECOND * world.round as u32), 2);
}

#[test]
fn a_dispatcher_of_which_nothing_comes_is_missed() {
    let mut world = World::new(vec![1, 2]);
    world.seconds(40);
    (0..30)
        .for_each(|_| world.second(|class, way| if way == 2 { if class == Class::Sum { SUMS } else { 1 } } else { 0 }));
    let lost = world.end().lost;
    // Of class `latest` the newest of each topic counts.
    assert_eq!(lost, [30 * SUMS, 30 / CANARY_GROUP, 30, 30]);
    assert!(world.found.ways.iter().all(|(_, way, _)| *way == by(2)), "{:?}", world.found.ways);
}

#[test]
fn what_comes_after_all_is_told_from_what_comes_again() {
    let mut world = World::new(vec![1]);
    world.seconds(30);
    world.second(|class, _| u64::from(class == Class::Every));
    let (lacks, here) = (world.note(1, world.round), world.note(1, world.round - 1));
    world.seconds(CANARY_SETTLED + 1);
    assert_eq!(world.found.lost, [0, 0, 0, 1]);
    let now = world.began + SECOND * world.round as u32;
    for (note, late, repeated) in [(&lacks, 1, 0), (&lacks, 1, 1), (&here, 1, 2)] {
        world.audit.comes(Class::Every, note, now, &mut world.found);
        assert_eq!((world.found.late[3], world.found.repeated[3]), (late, repeated));
    }
    assert_eq!(world.found.disordered, 1, "others of its topic came before it");
    world.audit.sums(("b", by(1), group(world.round - CANARY_SETTLED - CANARY_GROUP)), 2, &mut world.found);
    assert_eq!(world.found.repeated[0], 2);
}

#[test]
fn what_is_missing_where_viewers_were_told_of_a_gap_is_no_loss() {
    let mut world = World::new(vec![1]);
    world.seconds(30);
    world.second(|class, _| u64::from(class == Class::Every));
    world.audit.gap(world.began + SECOND * world.round as u32);
    let found = world.end();
    assert_eq!((found.lost, found.gaps), ([0; 4], 1));
}

#[test]
fn after_a_pause_there_is_time_for_what_waited() {
    let mut world = World::new(vec![1]);
    world.seconds(30);
    // The viewer's node stands still, and its mail comes at once, that of class `every` last.
    let paused: Vec<Note> = (1..=20).map(|later| world.note(1, world.round + later)).collect();
    (0..20).for_each(|_| world.second(|_, _| 1));
    world.second(|_, _| 0);
    let now = world.began + SECOND * world.round as u32;
    paused.iter().for_each(|note| world.audit.comes(Class::Every, note, now, &mut world.found));
    let found = world.end();
    assert_eq!((found.lost[3], found.late[3], found.lost[2]), (0, 0, 20));
}

#[test]
fn a_backend_that_is_gone_lost_nothing() {
    let mut world = World::new(vec![1]);
    world.seconds(30);
    let (now, gone) = (world.began + SECOND * 30, world.began + SECOND * 30 + CANARY_FORGOTTEN);
    assert_eq!(world.audit.backends().count(), 1);
    world.audit.forget(now);
    assert_eq!(world.audit.backends().count(), 1);
    world.audit.forget(gone);
    assert_eq!((world.audit.backends().count(), world.found.lost), (0, [0; 4]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn each_loss_is_found_and_no_other(
        lost in proptest::collection::vec((0..4usize, 1..3u16, 30..90u64), 0..20),
    ) {
        let mut world = World { joins: 20, ..World::new(vec![1, 2]) };
        let lost: BTreeSet<(usize, u16, u64)> = lost.into_iter().collect();
        for round in 1..=90 {
            let is_lost = |class: Class, way| u64::from(lost.contains(&(class as usize, way, round)));
            // That a report is lost takes nothing away from others.
            world.second(is_lost);
        }
        let found = world.end().clone();
        let of = |class: Class| lost.iter().filter(|(of, ..)| *of == class as usize).count() as u64;
        let is_newest = |(class, _, round): &&(usize, u16, u64)| {
            *class == Class::Latest as usize && *round == last_of(group(*round))
        };
        let newest = lost.iter().filter(is_newest).count() as u64;
        prop_assert_eq!(found.lost, [of(Class::Sum), newest, of(Class::Ephemeral), of(Class::Every)]);
        prop_assert_eq!((found.repeated, found.late, found.disordered), ([0; 4], [0; 4], 0));
    }
}
