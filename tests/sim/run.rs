//! A seed's cluster, from its plan to what is wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use fanfare::runtime::random::Random;

use crate::clients::{MILLISECOND, SECOND};
use crate::faults::{self, Fault};
use crate::oracle;
use crate::publisher::Kinds;
use crate::world::{Client, Plan, Without, World};

/// What a seed makes of a cluster. Most are small and short, since a second of many of them finds more than one of a large one;
/// some have all that there is, and a few have a crowd.
pub fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x517e);
    let whole = whole(seed);
    match random.number() % 200 {
        0 => Plan { data_centers: 1, viewers: 200, publishers: 2, backends: 1, posters: 2, ..whole },
        // Canaries are many, and watch over all classes.
        1..=2 => Plan { canary: true, ..whole },
        3..=8 => whole,
        _ => small(whole, &mut random),
    }
}

fn between(random: &mut Random, from: usize, to: usize) -> usize {
    from + (random.number() % (to - from + 1) as u64) as usize
}

/// A cluster with all that there may be.
pub fn whole(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut draw = |from, to| between(&mut random, from, to);
    // In some worlds nothing is lost by right.
    let is_calm = draw(0, 4) == 0;
    let drawn = faults::ALL.into_iter().filter(|_| draw(0, 2) > 0);
    let faults = drawn.filter(|fault| !is_calm || faults::CALM.contains(fault)).collect();
    Plan {
        seed,
        dispatchers: draw(1, 2),
        frontends: draw(1, 3),
        shards: draw(1, 3),
        viewers: draw(2, 12),
        publishers: draw(1, 4),
        topics: draw(1, 4),
        kinds: Kinds { notes: draw(0, 1) == 1, sums: draw(0, 1) == 1, latest: draw(0, 1) == 1 },
        backends: draw(0, 2),
        hooks: Random::new(seed ^ 0x400c).number().is_multiple_of(3),
        prefixes: Random::new(seed ^ 0x9ef1).number().is_multiple_of(3),
        restless: Random::new(seed ^ 0x4e57).number().is_multiple_of(3),
        nested: Random::new(seed ^ 0x9e57).number().is_multiple_of(2),
        posters: draw(1, 3),
        data_centers: [1, 1, 2, 3][draw(0, 3)],
        members: draw(0, 3),
        tokens: draw(0, 2) == 0,
        slow: Random::new(seed ^ 0x510e).number() % 3,
        seconds: 40,
        faults,
        hurries: draw(0, 2) == 0,
        kept: Random::new(seed ^ 0x4ee9).number().is_multiple_of(4),
        canary: false,
        ends_soon: false,
        without: Without::default(),
    }
}

/// A cluster of which everything is little, but for what befalls it.
fn small(plan: Plan, random: &mut Random) -> Plan {
    let mut draw = |from, to| between(random, from, to);
    Plan {
        frontends: draw(1, 2),
        shards: draw(1, 2),
        viewers: draw(1, 4),
        publishers: draw(1, 2),
        topics: draw(1, 2),
        backends: plan.backends.min(1),
        posters: 1,
        data_centers: [1, 1, 1, 2][draw(0, 3)],
        members: 0,
        seconds: draw(6, 15) as u64,
        hurries: true,
        ends_soon: true,
        ..plan
    }
}

/// When what happens at the end of a world, in seconds after its faults.
struct Ends {
    retires: u64,
    finishes: u64,
    reloads: u64,
    strikes: u64,
    counts: u64,
    likes: u64,
    lacks: u64,
}

/// Where topics may be quiet, and members are watched.
const LONG: Ends = Ends { retires: 25, finishes: 30, reloads: 60, strikes: 62, counts: 75, likes: 85, lacks: 90 };
/// Elsewhere.
const SHORT: Ends = Ends { retires: 12, finishes: 17, reloads: 22, strikes: 24, counts: 37, likes: 38, lacks: 43 };

/// Runs a new world: faults, then none, and time to catch up. Then events come as they are to, at once. Gives what is wrong.
fn go(world: &mut World) -> Vec<String> {
    let seconds = world.plan.seconds;
    let ends = if world.plan.ends_soon { SHORT } else { LONG };
    let at = |after| (seconds + after) * SECOND;
    world.run(seconds * SECOND);
    world.heal();
    world.run(at(ends.retires));
    world.retire();
    world.run(at(ends.finishes));
    world.finish();
    world.run(at(ends.reloads));
    let heard = oracle::canaries::heard(world);
    let mut wrong = oracle::hooks::lacking(world);
    world.reload();
    world.run(at(ends.strikes));
    world.strike();
    world.run(at(ends.counts));
    wrong.extend(oracle::counted(world));
    world.run(at(ends.likes));
    world.like_all();
    world.run(at(ends.lacks));
    wrong.extend(oracle::lacking(world));
    world.publish(true);
    world.run(at(ends.lacks + 2));
    world.publish(false);
    world.run(at(ends.lacks + 2) + AT_ONCE);
    wrong.extend(oracle::judge(world));
    wrong.extend(oracle::canaries::wrong(world, &heard));
    wrong
}

/// How long an event may take where nothing is wrong.
const AT_ONCE: u64 = 300 * MILLISECOND;

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Told {
    /// Nothing, if all is well.
    pub wrong: Vec<String>,
    /// A digest of all that happened.
    pub trace: u64,
    pub counts: BTreeMap<&'static str, u64>,
    pub befell: Vec<(u64, u64, Fault)>,
    /// Lines, if they were asked for.
    pub log: Vec<String>,
    /// Those that took part, by number.
    pub clients: Vec<usize>,
    /// How long it lasted in there, in nanoseconds.
    pub time: u64,
}

thread_local! {
    /// What this thread's world panicked with, and where: none before it does, and no world outside of [`run`].
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Panics of worlds print nothing: they are told with what else is wrong.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let is_world = PANIC.with_borrow_mut(|heard| heard.as_mut().map(|heard| *heard = Some(panic.to_string())));
            if is_world.is_none() {
                usual(panic);
            }
        }));
    });
}

/// Runs a plan to its end, or to a panic, which is wrong too.
pub fn run(plan: &Plan, verbose: bool) -> Told {
    hear_panics();
    PANIC.set(Some(None));
    let mut world = None;
    let result = panic::catch_unwind(AssertUnwindSafe(|| go(world.insert(World::new(plan.clone(), verbose)))));
    let panic = PANIC.take().flatten();
    let wrong = result.unwrap_or_else(|_| vec![panic.expect("the hook heard of it")]);
    let Some(world) = world else { return Told { wrong, ..Told::default() } };
    let clients = world.present().map(Client::number).collect();
    let World { trace, mut counts, turns, befell, log, now, .. } = world;
    counts.insert("turns", turns);
    Told { wrong, trace, counts, befell, log, clients, time: now }
}
