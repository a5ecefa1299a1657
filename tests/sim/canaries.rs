//! Canaries find what is lost, and nothing else: not what restarts, waits, or is told of.

use fanfare::runtime::planted::{self, Mistake};
use fanfare::settings::Role;
use fanfare::wire::event::Class;

use crate::clients::SECOND;
use crate::faults::{self, Fault};
use crate::oracle::canaries::{Count, Counts, heard, wrong};
use crate::small;
use crate::world::{Event, Plan, World};

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
            world.run(60 * SECOND);
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
