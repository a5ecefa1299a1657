//! The shortest trace that still fails: what befalls a world, its clients and its time are left out piece by piece. Chance
//! comes in streams of their own, so that the rest stays as it was.

use crate::run::{self, Told};
use crate::world::Plan;

/// The most runs that it may take.
const RUNS_MAX: u32 = 400;

/// A plan that fails, and what was seen of it.
pub struct Shortest {
    pub plan: Plan,
    pub told: Told,
    pub runs: u32,
}

/// Makes a plan that fails as short as may be.
pub fn shrink(plan: Plan, told: Told) -> Shortest {
    let mut shortest = Shortest { plan, told, runs: 0 };
    loop {
        let before = shortest.plan.clone();
        // First what makes all further runs shorter.
        let simpler: [fn(&mut Plan); 16] = [
            |plan| plan.shards = 1,
            |plan| plan.frontends = 1,
            |plan| plan.dispatchers = 1,
            |plan| plan.data_centers = 1,
            |plan| plan.backends = plan.backends.min(1),
            |plan| plan.hooks = false,
            |plan| plan.prefixes = false,
            |plan| plan.kept = false,
            |plan| plan.nested = false,
            |plan| plan.restless = false,
            |plan| plan.members = 0,
            |plan| plan.tokens = false,
            |plan| plan.hurries = false,
            |plan| plan.kinds.notes = false,
            |plan| plan.kinds.sums = false,
            |plan| plan.kinds.latest = false,
        ];
        simpler.into_iter().for_each(|change| _ = shortest.try_with(change));
        for fault in before.faults.clone() {
            shortest.try_with(|plan| _ = plan.faults.remove(&fault));
        }
        shortest.leave_out(
            |told| told.befell.iter().map(|(number, ..)| *number).collect(),
            |plan, some| {
                plan.without.befalls.extend(some);
            },
        );
        shortest.leave_out(|told| told.clients.clone(), |plan, some| plan.without.clients.extend(some));
        for part in [2, 4, 1] {
            // Half of it, then a quarter less, then a second less, each as often as that still fails.
            while shortest.plan.seconds > 1
                && shortest.try_with(|plan| plan.seconds -= if part == 1 { 1 } else { plan.seconds.div_ceil(part) })
            {
            }
        }
        if shortest.plan == before || shortest.runs >= RUNS_MAX {
            return shortest;
        }
    }
}

impl Shortest {
    /// Takes a change if the plan still fails with it.
    fn try_with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.plan.clone();
        change(&mut plan);
        if plan == self.plan || self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let told = run::run(&plan, false);
        let fails = !told.wrong.is_empty();
        if fails {
            (self.plan, self.told) = (plan, told);
        }
        fails
    }

    /// Leaves out as many as may be: the half of them, quarters, and so on down to single ones.
    fn leave_out<T: Copy>(&mut self, all: impl Fn(&Told) -> Vec<T>, out: impl Fn(&mut Plan, Vec<T>)) {
        let mut size = all(&self.told).len();
        while size > 0 {
            let mut at = 0;
            loop {
                let left = all(&self.told);
                let Some(some) = left.get(at..(at + size).min(left.len())).filter(|some| !some.is_empty()) else {
                    break;
                };
                if !self.try_with(|plan| out(plan, some.to_vec())) {
                    at += size;
                }
            }
            size /= 2;
        }
    }
}
