//! What must hold of what canaries found.

use std::collections::BTreeMap;

use fanfare::observe::canary::CanaryCounters;
use fanfare::observe::metrics::Counter;

use crate::world::World;

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
