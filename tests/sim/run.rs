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

/// What a seed makes of a cluster.
pub fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut draw = |from: usize, to: usize| from + (random.number() % (to - from + 1) as u64) as usize;
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
        posters: draw(1, 3),
        data_centers: [1, 1, 2, 3][draw(0, 3)],
        members: draw(0, 3),
        tokens: draw(0, 2) == 0,
        seconds: 40,
        faults,
        hurries: draw(0, 2) == 0,
        without: Without::default(),
    }
}

/// Runs a new world: faults, then none, and time to catch up. Then events come as they are to, at once. Gives what is wrong.
fn go(world: &mut World) -> Vec<String> {
    let seconds = world.plan.seconds;
    world.run(seconds * SECOND);
    world.heal();
    world.run((seconds + 25) * SECOND);
    world.retire();
    world.run((seconds + 30) * SECOND);
    world.finish();
    world.run((seconds + 60) * SECOND);
    world.reload();
    world.run((seconds + 62) * SECOND);
    world.strike();
    world.run((seconds + 75) * SECOND);
    let mut wrong = oracle::counted(world);
    world.run((seconds + 85) * SECOND);
    world.like_all();
    world.run((seconds + 90) * SECOND);
    wrong.extend(oracle::lacking(world));
    world.publish(true);
    world.run((seconds + 92) * SECOND);
    world.publish(false);
    world.run((seconds + 92) * SECOND + AT_ONCE);
    wrong.extend(oracle::judge(world));
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
    let World { trace, counts, befell, log, now, .. } = world;
    Told { wrong, trace, counts, befell, log, clients, time: now }
}
