//! Prefixes of topics where topics fall silent for long: they are let go, and what comes later is shown as if they never were.

use crate::clients::SECOND;
use crate::oracle;
use crate::publisher::Kinds;
use crate::small;
use crate::world::{Plan, World};

#[test]
fn topics_of_a_prefix_that_were_let_go() {
    for seed in [3, 4, 7] {
        let kinds = Kinds { sums: true, latest: true, notes: false };
        let plan = Plan {
            prefixes: true,
            shards: 1 + seed as usize % 3,
            viewers: 8,
            publishers: 3,
            topics: 3,
            frontends: 2,
            kinds,
            seconds: 10,
            ..small(seed)
        };
        let mut world = World::new(plan, false);
        let mut until = 10;
        world.run(until * SECOND);
        world.heal();
        for _ in 0..2 {
            world.publish(false);
            // Each is compared, found quiet, and left.
            until += 330;
            world.run(until * SECOND);
            world.publish(true);
            until += 5;
            world.run(until * SECOND);
        }
        world.publish(false);
        world.finish();
        world.run((until + 20) * SECOND);
        let wrong = oracle::judge(&mut world);
        assert!(wrong.is_empty(), "seed {seed}: {} wrong, such as {}", wrong.len(), wrong[0]);
    }
}
