//! The simulated database: the real SQLite code on a database in memory, whose batches run when the simulation says, and what
//! befalls a database.

use std::collections::BTreeMap;

use fanfare::db::sqlite::{Batches, Befalls, Memory};
use fanfare::db::{Outcome, Store, StoreError};
use fanfare::ground::message::Ticket;
use fanfare::limits::STORE_BUSY_MS;
use fanfare::runtime::clock::Times;
use fanfare::runtime::random::Random;

use crate::agenda::Now;
use crate::clients::MILLISECOND;

/// The answer to a command, and whose it is.
pub type Answered = (Ticket, Result<Outcome, StoreError>);

/// What happens at a machine's way to its database.
#[derive(Debug)]
pub enum Step {
    /// What waits is stored.
    Runs,
    /// Those who asked are answered.
    Answers(Vec<Answered>),
    /// Nobody asked for a while: it finds out whether it works.
    Looks,
}

/// A database, which outlives its backends.
pub struct Disk {
    pub memory: Memory,
    /// That of its own machine.
    times: Times,
    random: Random,
    pub now: Now,
    /// What befalls about half of all batches until then.
    pub befalls: (Befalls, u64),
    /// Somebody else holds its lock until then.
    pub locked_until: u64,
    /// The most that a batch takes, until then, in nanoseconds.
    pub slow: (u64, u64),
    /// Batches, by what befell them.
    pub batches: BTreeMap<&'static str, u64>,
}

/// A backend's way to its database.
pub struct Way {
    batches: Batches<Ticket>,
    /// A batch is under way, or planned.
    pub is_busy: bool,
}

impl Disk {
    pub fn new(seed: u64, now: Now, times: Times) -> Disk {
        let memory = Memory::new(seed as u32).expect("there is memory");
        let random = Random::new(seed);
        Disk {
            memory,
            times,
            random,
            now,
            befalls: (Befalls::Nothing, 0),
            locked_until: 0,
            slow: (0, 0),
            batches: BTreeMap::new(),
        }
    }

    pub fn store(&self) -> (Store<Ticket>, Way) {
        let (store, batches) = self.memory.store(self.times.clone()).expect("it is in memory");
        (store, Way { batches, is_busy: false })
    }

    /// Nothing befalls it any more.
    pub fn heal(&mut self) {
        (self.befalls.1, self.locked_until, self.slow.1) = (0, 0, 0);
    }

    /// How long something takes.
    pub fn takes(&mut self) -> u64 {
        let most = if self.now.get() < self.slow.1 { self.slow.0 } else { MILLISECOND };
        20_000 + self.random.number() % most
    }

    fn befalls(&mut self) -> Befalls {
        let strikes = self.random.number().is_multiple_of(2);
        // A full disk is full for all.
        let (befalls, until) = self.befalls;
        if self.now.get() < until && (strikes || befalls == Befalls::Full) { befalls } else { Befalls::Nothing }
    }

    /// Does something while the lock may be another one's. Gives how long that takes.
    fn locked(&mut self, run: impl FnOnce()) -> u64 {
        if self.now.get() >= self.locked_until {
            run();
            return self.takes();
        }
        let lock = |sql| self.memory.connection().execute_batch(sql).expect("nobody else has the lock");
        lock("BEGIN IMMEDIATE");
        run();
        lock("ROLLBACK");
        STORE_BUSY_MS * MILLISECOND
    }

    /// Stores what waits. Gives the answers, and after how long they come.
    pub fn run(&mut self, way: &mut Way) -> (u64, Vec<Answered>) {
        let befalls = self.befalls();
        let is_locked = self.now.get() < self.locked_until;
        let what = match befalls {
            _ if is_locked => "batches locked out",
            Befalls::Nothing => "batches",
            Befalls::Fails => "batches failed",
            Befalls::AnswerLost => "batches without answer",
            Befalls::Full => "batches on a full disk",
        };
        *self.batches.entry(what).or_default() += 1;
        let mut answers = Vec::new();
        let takes = self.locked(|| {
            way.batches.run(befalls, |ticket, result| answers.push((ticket, result)));
        });
        (takes, answers)
    }

    /// A backend that stores nothing finds out whether it could. Gives when it does so next.
    pub fn look(&mut self, way: &mut Way) -> u64 {
        let befalls = self.befalls();
        self.locked(|| way.batches.look(befalls));
        self.now.get() + (way.batches.next_look().as_nanos() as u64).max(MILLISECOND)
    }
}
