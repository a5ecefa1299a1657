//! The real code of a whole cluster in one thread, under virtual time and one seed. What is simulated, and what must hold,
//! is in the modules; `scripts/simulate --story 7` tells the story of one seed.

#![deny(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types)]

mod batch;
mod clients;
mod crowds;
mod fabric;
mod faults;
mod oracle;
mod publisher;
mod run;
mod shrink;
mod store;
mod streams;
mod turns;
mod viewer;
mod world;

use batch::Batch;
use clients::SECOND;
use fanfare::runtime::planted::{self, Mistake};
use publisher::Kinds;
use run::{Told, plan, run};
use shrink::shrink;
use world::{Plan, World};

#[test]
fn same_seed_other_story() {
    let [first, again, other] = [1, 1, 2].map(|seed| run(&plan(seed), false));
    assert_eq!((first.trace, &first.counts), (again.trace, &again.counts));
    assert_ne!(first.trace, other.trace);
}

#[test]
fn seeds_that_depend_on_how_many_run_beside_them() {
    let [one, three] =
        [1, 3].map(|threads| Batch { from: 0, seeds: 6, threads, plan: &plan, mistake: None }.run(|_| true));
    assert_eq!(one, three);
}

/// What is not left out happens as it did, at the same times.
#[test]
fn chance_that_is_used_up_by_what_is_left_out() {
    let whole = run(&plan(3), true);
    let (left_out, ..) = whole.befell[0];
    let mut less = plan(3);
    less.without.befalls.insert(left_out);
    less.without.clients.insert(0);
    let less = run(&less, true);
    assert_eq!(less.befell, whole.befell[1..]);
    // What a client does later may depend on others; what it sends does not.
    let sent = |told: &Told, client: usize| -> Vec<String> {
        let who = format!("publisher {client} sends ");
        let lines = told.log.iter().filter_map(|line| line.split_once(&who).filter(|(_, what)| what.ends_with(" 1")));
        lines.map(|(_, what)| what.to_owned()).take(20).collect()
    };
    for client in &less.clients {
        assert_eq!(sent(&less, *client), sent(&whole, *client));
    }
    assert_eq!(less.clients, whole.clients[1..]);
    assert_ne!(less.trace, whole.trace);
}

/// The tool finds what a failure needs, and tells it in lines.
#[test]
fn story_longer_than_it_needs_to_be() {
    planted::plant(Some(Mistake::FrameTorn));
    let failed = (2000..).map(|seed| (plan(seed), run(&plan(seed), false)));
    let (long, told) = failed.into_iter().find(|(_, told)| !told.wrong.is_empty()).expect("it shows");
    let shortest = shrink(long.clone(), told);
    let story = run(&shortest.plan, true);
    planted::plant(None);
    println!("{:#?}\n{}", shortest.plan, story.log.join("\n"));
    assert!(!story.wrong.is_empty() && story.wrong == shortest.told.wrong, "{:?}", story.wrong);
    assert!(shortest.plan.faults.len() < long.faults.len() && shortest.plan.seconds < long.seconds);
    // One who publishes, one who watches, and one thing that goes wrong.
    assert!(story.clients.len() <= 2 && story.befell.len() <= 1, "{:?} {:?}", story.clients, story.befell);
    assert!(story.log.iter().any(|line| line.contains("is shown")), "it tells what was seen");
}

/// Runs seeds from `from` on; a batch that never saw something that it is to see fails as well.
fn batch(from: u64) {
    let sum = Batch { from, seeds: SEEDS, threads: 1, plan: &plan, mistake: None }.run(|_| true);
    println!("{:?}", sum.counts);
    assert!(sum.failed.is_empty(), "{:#?}", sum.failed);
    let unseen = sum.unseen();
    assert!(unseen.is_empty(), "never happened: {unseen:?} of {:?}", sum.counts);
}

/// Seeds of one test.
const SEEDS: u64 = 20;

#[test]
fn promises_broken_by_the_first_seeds() {
    batch(0);
}

#[test]
fn promises_broken_by_more_seeds() {
    batch(1000);
}

/// Seeds that showed a fault, and what it was.
const ONCE_FAILED: [(u64, &str); 1] = [(
    1030,
    "a store that lost all twice took an event for the first one of its topic: what it lost in between went untold",
)];

#[test]
fn promises_broken_by_seeds_that_once_failed() {
    for (seed, story) in ONCE_FAILED {
        let wrong = run(&plan(seed), false).wrong;
        assert!(wrong.is_empty(), "seed {seed}, where {story}: {wrong:#?}");
    }
}

/// The most seeds that it may take until a planted mistake shows.
const SEEDS_OF_MISTAKES: u64 = 100;

/// Where a mistake showed soonest when it was planted first, so that the search begins there.
fn first_seed(mistake: Mistake) -> u64 {
    match mistake {
        Mistake::EndsUncompared => 2029,
        Mistake::RepairForgotten => 2031,
        Mistake::AcknowledgedEarly => 2003,
        Mistake::HolesUnread => 2003,
        Mistake::PrevUnchecked | Mistake::LastIdIgnored => 2002,
        Mistake::GapUntold => 2011,
        Mistake::FrameTorn | Mistake::WritableMissed => 2000,
    }
}

/// The oracle sees what it is there for: each of these is one changed line.
#[test]
fn mistakes_that_nobody_would_notice() {
    let mut unseen = Vec::new();
    for mistake in planted::ALL {
        let seen = (0..SEEDS_OF_MISTAKES).find_map(|seed| {
            planted::plant(Some(mistake));
            let told = run(&plan(first_seed(mistake) + seed), false);
            planted::plant(None);
            told.wrong.into_iter().next().map(|wrong| (seed + 1, wrong))
        });
        match seen {
            Some((seeds, wrong)) => println!("{mistake:?}: {seeds} seeds, {wrong}"),
            None => unseen.push(mistake),
        }
    }
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// A Frontend that hung for longer than its lease gives its viewers all that history kept meanwhile, though a type of which
/// little is kept left holes in it.
#[test]
fn comments_skipped_where_events_of_another_type_expired() {
    for shards in 1..=2 {
        let faults = std::collections::BTreeSet::new();
        let (viewers, publishers, topics, seconds) = (4, 2, 1, 16);
        let plan = Plan {
            seed: 7,
            dispatchers: 1,
            frontends: 1,
            shards,
            viewers,
            publishers,
            topics,
            kinds: Kinds { notes: true, ..Kinds::default() },
            seconds,
            faults,
            without: world::Without::default(),
        };
        let mut world = World::new(plan);
        world.run(5 * SECOND);
        world.machines[1].paused_until = 14 * SECOND;
        world.run(seconds * SECOND);
        world.heal();
        world.run(100 * SECOND);
        let wrong = oracle::judge(&mut world);
        assert!(wrong.is_empty(), "{shards} shards: {} wrong, such as {}; {:?}", wrong.len(), wrong[0], world.counts);
    }
}
