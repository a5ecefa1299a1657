//! How far other nodes' clocks are ahead of this one's, as NTP finds it: an answer says what its node's clock showed, and that
//! was between the call and the answer.

use std::sync::Mutex;
use std::time::Instant;

use crate::ground::Ground;
use crate::limits::{CLOCK_DRIFT_PPM, CLOCK_KNOWN, CLOCKS_MAX};
use crate::runtime::random::Map;
use crate::wire::connection_id::NodeId;
use crate::wire::hops::Ahead;
use crate::wire::reply::ClockSaid;

/// What is known of one clock.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    ahead: Ahead,
    at: Instant,
}

impl Estimate {
    /// What is left of it now: two clocks drift apart.
    fn aged(&self, now: Instant) -> Ahead {
        let age_us = now.saturating_duration_since(self.at).as_micros() as u64;
        Ahead { error_us: self.ahead.error_us + age_us / 1_000_000 * CLOCK_DRIFT_PPM, ..self.ahead }
    }

    /// Whether a new one says more: its error is smaller, or they cannot both be true, since a clock was set.
    fn gives_way_to(&self, new: Ahead, now: Instant) -> bool {
        let old = self.aged(now);
        new.error_us <= old.error_us || new.us.abs_diff(old.us) > old.error_us.saturating_add(new.error_us)
    }
}

/// The clocks of other nodes, of this data center and of others. All shards look them up, for sampled events alone.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<Map<NodeId, Estimate>>);

impl Clocks {
    /// A node's clock was so far ahead.
    fn hear(&self, node: NodeId, ahead: Ahead, now: Instant) {
        // Another answer comes soon: no shard waits for another one.
        let Ok(mut known) = self.0.try_lock() else { return };
        if known.get(&node).is_none_or(|estimate| estimate.gives_way_to(ahead, now)) {
            if known.len() >= CLOCKS_MAX && !known.contains_key(&node) {
                // Those of nodes that live are heard again.
                known.clear();
            }
            known.insert(node, Estimate { ahead, at: now });
        }
    }

    /// How far this clock is at least from the middle of those that were heard of late: of three of which one is wrong, it is
    /// that one, and of two either. 0 where nothing is known.
    pub fn off_us(&self, now: Instant) -> u64 {
        let Ok(known) = self.0.lock() else { return 0 };
        let is_recent = |estimate: &&Estimate| now.saturating_duration_since(estimate.at) < CLOCK_KNOWN;
        let mut known: Vec<Ahead> = known.values().filter(is_recent).map(|estimate| estimate.aged(now)).collect();
        known.sort_unstable_by_key(|ahead| ahead.us);
        let (Some(low), Some(high)) = (known.get(known.len().saturating_sub(1) / 2), known.get(known.len() / 2)) else {
            return 0;
        };
        // Of an even number either middle one may be right.
        [low, high].map(|ahead| ahead.us.unsigned_abs().saturating_sub(ahead.error_us)).into_iter().min().unwrap_or(0)
    }

    /// How far a node's clock is ahead, if it was ever heard.
    pub fn ahead(&self, node: NodeId, now: Instant) -> Option<Ahead> {
        Some(self.0.try_lock().ok()?.get(&node)?.aged(now))
    }
}

/// What an answer of this node's clock says of it, which was called `took_us` before it was heard at `now_us`.
fn between(said_us: u64, now_us: u64, took_us: u64) -> Ahead {
    let error_us = took_us.div_ceil(2);
    Ahead { us: (said_us as i64).wrapping_sub(now_us.saturating_sub(took_us / 2) as i64), error_us }
}

impl Ground {
    /// An answer to a call that was made at `since` said what its node's clock showed.
    pub(crate) fn on_clock_said(&mut self, said: ClockSaid, since: Instant) {
        let now = self.clock.times.instant();
        let took_us = now.saturating_duration_since(since).as_micros() as u64;
        self.node.clocks.hear(said.node, between(said.unix_us, self.unix_us(), took_us), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NODE: NodeId = NodeId(7);

    #[test]
    fn the_truth_is_within_the_error() {
        // The other clock is 5 s ahead, and read at any time between call and answer.
        for read_at in [1_000_000, 1_000_300, 1_000_999] {
            let Ahead { us, error_us } = between(read_at + 5_000_000, 1_000_999, 999);
            assert!(us.abs_diff(5_000_000) <= error_us && error_us == 500, "{us} ± {error_us}");
        }
    }

    #[test]
    fn the_best_answer_counts_until_it_is_old() {
        let (clocks, start) = (Clocks::default(), Instant::now());
        let ahead = |us, error_us| Ahead { us, error_us };
        assert_eq!(clocks.ahead(NODE, start), None);
        clocks.hear(NODE, ahead(10, 300), start);
        clocks.hear(NODE, ahead(90, 200), start);
        clocks.hear(NODE, ahead(400, 100_000), start);
        assert_eq!(clocks.ahead(NODE, start), Some(ahead(90, 200)));
        let later = start + Duration::from_secs(60);
        assert_eq!(clocks.ahead(NODE, later), Some(ahead(90, 200 + 60 * CLOCK_DRIFT_PPM)));
        clocks.hear(NODE, ahead(150, 300), later);
        assert_eq!(clocks.ahead(NODE, later), Some(ahead(150, 300)));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        let (clocks, now) = (Clocks::default(), Instant::now());
        clocks.hear(NODE, Ahead { us: 0, error_us: 100 }, now);
        let set = Ahead { us: 5_000_000, error_us: 900 };
        clocks.hear(NODE, set, now);
        assert_eq!(clocks.ahead(NODE, now), Some(set));
    }

    #[test]
    fn one_clock_of_three_that_is_off_is_told_from_the_others() {
        let (clocks, now) = (Clocks::default(), Instant::now());
        assert_eq!(clocks.off_us(now), 0);
        clocks.hear(NodeId(1), Ahead { us: 5_000_000, error_us: 400 }, now);
        assert_eq!(clocks.off_us(now), 4_999_600, "one of two is");
        clocks.hear(NodeId(2), Ahead { us: 20, error_us: 300 }, now);
        assert_eq!(clocks.off_us(now), 0, "the first is");
        clocks.hear(NodeId(2), Ahead { us: 5_000_100, error_us: 300 }, now);
        assert_eq!(clocks.off_us(now), 4_999_600, "this one is");
        clocks.hear(NodeId(3), Ahead { us: 5_000_050, error_us: 10 }, now);
        assert_eq!(clocks.off_us(now + CLOCK_KNOWN), 0, "nobody was heard for long");
    }

    #[test]
    fn clocks_of_nodes_that_are_gone_find_an_end() {
        let (clocks, now) = (Clocks::default(), Instant::now());
        (0..2 * CLOCKS_MAX as u64 + 1).for_each(|node| clocks.hear(NodeId(node), Ahead { us: 0, error_us: 1 }, now));
        assert!(clocks.0.lock().unwrap().len() <= CLOCKS_MAX);
        assert!(clocks.ahead(NodeId(2 * CLOCKS_MAX as u64), now).is_some());
    }
}
