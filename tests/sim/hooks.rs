//! A simulated receiver of hooks: it takes deliveries, or not, and what it says comes back later, or never.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fanfare::db::hooks::Delivery;
use fanfare::ground::hooks::{Attempt, Failure, HookSender, Ran, Run};
use fanfare::limits::HOOK_TIMEOUT;
use fanfare::runtime::random::Random;

use crate::clients::MILLISECOND;
use crate::world::BEGIN;

/// The settings of backends that have a hook: those of all nodes, and the hook.
pub const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/hooks.toml");

/// What happens to a machine's deliveries, in a life of it.
#[derive(Debug)]
pub enum Step {
    /// They are sent.
    Sent(Run),
    /// Their sender hears what became of them.
    Heard(Ran),
}

/// The receiver of a data center, and what is on its way there.
#[derive(Debug)]
pub struct Receiver {
    random: Random,
    /// What it took, in its order, repeats among it.
    pub taken: Vec<Delivery>,
    pub tries: u64,
    /// Machine and life.
    pub handed: Vec<(usize, u64, Run)>,
}

impl Receiver {
    /// Sends a run at a time of the world; where all works, all of it is taken.
    pub fn send(&mut self, run: Run, now: u64, works: bool) -> Ran {
        let instant: Instant = *BEGIN + Duration::from_nanos(now);
        let in_time = run.until.saturating_duration_since(instant) > HOOK_TIMEOUT;
        let (mut goes_on, mut attempts) = (in_time, Vec::new());
        for delivery in run.deliveries {
            let attempt = match self.random.number() % 8 {
                _ if !goes_on => Attempt::Untried,
                0 if !works => Attempt::Failed(Failure::Connect),
                1 if !works => Attempt::Failed(Failure::Status(500)),
                // It has it, and nobody hears that.
                2 if !works => {
                    self.taken.push(delivery.clone());
                    Attempt::Failed(Failure::Timeout)
                }
                _ => {
                    self.taken.push(delivery.clone());
                    Attempt::Taken
                }
            };
            self.tries += u64::from(attempt != Attempt::Untried);
            goes_on &= attempt == Attempt::Taken;
            attempts.push((delivery.number, delivery.tries, attempt));
        }
        Ran { hook: run.hook, attempts }
    }

    /// How long a way takes, in nanoseconds: now and then so long that a claim may end.
    pub fn takes(&mut self, works: bool) -> u64 {
        match self.random.number() % 32 {
            0 if !works => self.random.number() % (25_000 * MILLISECOND),
            _ => MILLISECOND + self.random.number() % (50 * MILLISECOND),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Receiver>>);

impl Shared {
    pub fn new(seed: u64) -> Shared {
        let receiver = Receiver { random: Random::new(seed), taken: Vec::new(), tries: 0, handed: Vec::new() };
        Shared(Arc::new(Mutex::new(receiver)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Receiver> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// A machine's way to it.
pub struct Way {
    pub shared: Shared,
    pub machine: usize,
    pub life: u64,
}

impl HookSender for Way {
    fn submit(&self, run: Run) {
        self.shared.lock().handed.push((self.machine, self.life, run));
    }
}

#[test]
fn backends_with_a_hook_have_other_settings_than_the_rest() {
    assert!(include_str!("hooks.toml").starts_with(include_str!("fanfare.toml")));
}
