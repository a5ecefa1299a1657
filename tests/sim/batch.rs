//! Many seeds beside each other. What comes of them does not depend on how many run at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fanfare::runtime::planted::{self, Mistake};
use fanfare::runtime::random::Random;

use crate::run::{self, Told};
use crate::store::kinds;
use crate::world::Plan;

/// What every batch is to see.
const EXERCISED: [&str; 21] = [
    "acknowledged",
    "changes of streams",
    "clock jumps",
    "crashes",
    "cuts",
    "deeds",
    "doubtful ids",
    "emptied",
    "ends",
    "gaps",
    "left out",
    "newest",
    "outages",
    "pauses",
    "refusals",
    "repeats",
    "resumes",
    "shown",
    "stored",
    "sums",
    "weathers",
];

/// Seeds after which stores were asked everything: members are watched in one of some twenty worlds.
const SEEDS_OF_KINDS: u64 = 500;

/// What is to run.
pub struct Batch<'a> {
    pub from: u64,
    pub seeds: u64,
    pub threads: usize,
    pub plan: &'a (dyn Fn(u64) -> Plan + Sync),
    pub mistake: Option<Mistake>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub seeds: u64,
    /// How long all worlds lasted, in simulated nanoseconds.
    pub time: u64,
    /// The same, once for each client in them.
    pub client_time: u64,
    /// A digest of all that happened in all of them.
    pub trace: u64,
    pub counts: BTreeMap<&'static str, u64>,
    /// What is wrong, by seed.
    pub failed: BTreeMap<u64, Vec<String>>,
}

impl Sum {
    /// What never happened though it is to.
    pub fn unseen(&self) -> Vec<&'static str> {
        let kinds = kinds::ALL.iter().filter(|_| self.seeds >= SEEDS_OF_KINDS);
        EXERCISED
            .into_iter()
            .chain(kinds.copied())
            .filter(|what| self.counts.get(what).is_none_or(|count| *count == 0))
            .collect()
    }

    fn add(&mut self, seed: u64, told: Told) {
        self.seeds += 1;
        self.time += told.time;
        self.client_time += told.time * told.clients.len() as u64;
        // Seeds end in any order.
        self.trace ^= Random::new(told.trace ^ seed).number();
        for (what, by) in told.counts {
            *self.counts.entry(what).or_default() += by;
        }
        if !told.wrong.is_empty() {
            self.failed.insert(seed, told.wrong);
        }
    }
}

impl Batch<'_> {
    /// Runs all, or the first ones for as long as `goes_on` says so, which also sees how far it is after each.
    #[expect(clippy::disallowed_methods, reason = "each world stays in one thread")]
    pub fn run(&self, goes_on: impl Fn(&Sum) -> bool + Sync) -> Sum {
        let (next, sum) = (AtomicU64::new(self.from), Mutex::new(Sum::default()));
        let work = || {
            planted::plant(self.mistake);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed - self.from >= self.seeds {
                    return;
                }
                let told = run::run(&(self.plan)(seed), false);
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                sum.add(seed, told);
                if !goes_on(&sum) {
                    return next.store(self.from + self.seeds, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            (0..self.threads.max(1)).for_each(|_| drop(scope.spawn(work)));
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
