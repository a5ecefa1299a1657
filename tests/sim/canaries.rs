//! Canaries find what is lost, and nothing else: not what restarts, waits, or is told of.

use std::collections::BTreeMap;

use fanfare::observe::canary::CanaryCounters;
use fanfare::observe::metrics::Counter;
use fanfare::runtime::planted::{self, Mistake};
use fanfare::settings::Role;
use fanfare::wire::event::Class;

use crate::clients::SECOND;
use crate::faults::{self, Fault};
use crate::world::{Event, Plan, World, small};

/// What a Frontend has counted of a data center's canaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub heard: [u64; 4],
    pub lost: [u64; 4],
    pub late: [u64; 4],
    pub repeated: [u64; 4],
    pub disordered: u64,
    pub gaps: u64,
    /// At the moment.
    pub silent: u64,
    pub pairs: u64,
}

/// By machine, its life, and data center.
pub type Counts = BTreeMap<(usize, u64, String), Count>;

fn sum(shards: &[CanaryCounters], of: impl Fn(&CanaryCounters) -> &Counter) -> u64 {
    shards.iter().map(|shard| of(shard).get()).sum()
}

/// What all Frontends that run have counted.
pub fn heard(world: &World) -> Counts {
    let mut counts = Counts::new();
    for (number, machine) in world.machines.iter().enumerate() {
        let Some(node) = &machine.node else { continue };
        for (dc, shards) in node.canaries.all() {
            let of = |of: fn(&CanaryCounters) -> &[Counter; 4]| {
                [0, 1, 2, 3].map(|class| sum(&shards, |shard| &of(shard)[class]))
            };
            let count = Count {
                heard: of(|shard| &shard.heard),
                lost: of(|shard| &shard.lost),
                late: of(|shard| &shard.late),
                repeated: of(|shard| &shard.repeated),
                disordered: sum(&shards, |shard| &shard.disordered),
                gaps: sum(&shards, |shard| &shard.gaps),
                silent: sum(&shards, |shard| &shard.silent),
                pairs: shards.iter().map(|shard| shard.pairs.get()).min().unwrap_or(0),
            };
            counts.insert((number, machine.life, dc), count);
        }
    }
    counts
}

/// What is wrong with what was heard since all was well.
pub fn wrong(world: &World, before: &Counts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, now) in heard(world) {
        let Some(then) = before.get(&at) else { continue };
        let (machine, _, dc) = &at;
        let fell = [then.lost, then.repeated] != [now.lost, now.repeated] || then.disordered != now.disordered;
        if fell || now.silent > 0 {
            wrong.push(format!("machine {machine} lacks canaries of {dc} though all is well: {then:?}, then {now:?}"));
        }
    }
    wrong
}

fn world(plan: Plan) -> World {
    World::new(Plan { canary: true, backends: 1, ..plan }, false)
}

/// The sum of what all Frontends counted of one thing.
fn total(counts: &Counts, of: impl Fn(&Count) -> u64) -> u64 {
    counts.values().map(of).sum()
}

/// One event in 1,000 that a Frontend drops is found within a minute, and without that nothing is.
#[test]
fn loss_that_nobody_notices() {
    for seed in [31, 32, 33] {
        for mistake in [None, Some(Mistake::EventDropped)] {
            let mut world = world(Plan { shards: 2, ..small(seed) });
            world.run(30 * SECOND);
            let before = heard(&world);
            assert!(total(&before, |count| count.heard.iter().sum()) > 1_000, "{before:?}");
            planted::plant(mistake);
            world.run(90 * SECOND);
            planted::plant(None);
            let lost = total(&heard(&world), |count| count.lost.iter().sum());
            assert_eq!((total(&before, |count| count.lost.iter().sum()), lost > 0), (0, mistake.is_some()), "{seed}");
        }
    }
}

/// Every class of every pair is heard, in each data center from each.
#[test]
fn canary_that_does_not_come_over_to_another_data_center() {
    let plan = Plan { data_centers: 2, dispatchers: 2, frontends: 2, shards: 2, ..small(34) };
    let mut world = World::new(Plan { canary: true, backends: 2, ..plan }, false);
    world.run(60 * SECOND);
    let counts = heard(&world);
    let frontends = world.machines.iter().filter(|machine| machine.role == Role::Frontend).count();
    assert_eq!((frontends, counts.len()), (4, 8), "{counts:#?}");
    for (at, count) in &counts {
        assert!(count.pairs == 4 && count.heard.iter().all(|heard| *heard > 100), "{at:?} {count:?}");
        let nothing = Count { heard: count.heard, pairs: 4, ..Count::default() };
        assert_eq!(*count, nothing, "{at:?}");
    }
}

/// Frontends and backends that are killed and start again, and all by which nodes lose nothing of each other, are no loss.
#[test]
fn restart_taken_for_a_loss() {
    for seed in 40..46 {
        let calm = faults::CALM.into_iter().chain([Fault::Frontend, Fault::Backend]);
        let plan =
            Plan { frontends: 2, shards: 1 + seed as usize % 2, seconds: 60, faults: calm.collect(), ..small(seed) };
        let mut world = World::new(Plan { canary: true, backends: 2, ..plan }, false);
        for second in 1..=110 {
            if second == 60 {
                world.heal();
            }
            world.run(second * SECOND);
            let counts = heard(&world);
            let bad = |count: &Count| count.lost.iter().sum::<u64>() + count.disordered + count.gaps;
            assert_eq!(total(&counts, bad), 0, "seed {seed}, second {second}: {counts:#?}");
        }
        assert!(total(&heard(&world), |count| count.heard.iter().sum()) > 1_000);
    }
}

/// Whatever else befalls a cluster whose store keeps what it has, canaries of class `every` come, each in its order; and once
/// nothing befalls it any more, so do all others.
#[test]
fn loss_that_no_promise_permits() {
    for seed in 50..56 {
        let faults = faults::ALL.into_iter().filter(|fault| *fault != Fault::Empty).collect();
        let plan =
            Plan { dispatchers: 2, frontends: 2, shards: 1 + seed as usize % 2, seconds: 40, faults, ..small(seed) };
        let mut world = world(plan);
        world.run(40 * SECOND);
        world.heal();
        world.run(100 * SECOND);
        let before = heard(&world);
        let every = Class::Every as usize;
        let lost = |count: &Count| count.lost[every].saturating_sub(count.late[every]) + count.disordered;
        assert_eq!(total(&before, lost), 0, "seed {seed}: {before:#?}");
        world.run(160 * SECOND);
        let wrong = wrong(&world, &before);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    }
}

/// Backends that live, and of which none is heard since the store forgot who wants what and nobody told it again, are missed;
/// one that is gone is not.
#[test]
fn silence_taken_for_peace() {
    let mut world = world(small(60));
    world.run(30 * SECOND);
    assert_eq!(total(&heard(&world), |count| count.silent), 0);
    planted::plant(Some(Mistake::RepairForgotten));
    world.stores[0].lock().empty();
    world.run(70 * SECOND);
    planted::plant(None);
    assert_eq!(total(&heard(&world), |count| count.silent), 1);
    let backend = world.machines.iter().position(|machine| machine.role == Role::Backend).expect("there is one");
    world.crash(backend);
    world.run(90 * SECOND);
    assert_eq!(total(&heard(&world), |count| count.silent), 0, "it lives no more");
    world.at(world.now, Event::Start(backend));
    world.run(150 * SECOND);
    let back = heard(&world);
    assert_eq!((total(&back, |count| count.silent), total(&back, |count| count.pairs)), (0, 1), "{back:?}");
}
