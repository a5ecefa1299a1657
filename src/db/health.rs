//! Whether a store works, and on which database, between the thread that knows and the shards that are asked.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::db::Command;
use crate::runtime::trouble::{Say, Told};

/// What a store must be able to do. Each is judged by the last attempt of its own kind: a disk that is full lets reads
/// work, which says nothing of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Answer what is stored.
    Read,
    /// Store. What is written is read first, so whoever can write can read.
    Write,
}

impl Work {
    /// What a batch of these attempts.
    pub(crate) fn of(commands: &[Command]) -> Work {
        if commands.iter().any(Command::writes) { Work::Write } else { Work::Read }
    }
}

/// What failed when each kind of work was last attempted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failing([Option<String>; 2]);

impl Failing {
    /// Takes in an attempt. A write that works ends no failure of writing: on a disk that is full there is often room for a
    /// small one, and not for the next. True if it puts off the next probe, which nothing does that is asked for while one is to
    /// tell when all works again.
    #[must_use]
    pub(crate) fn attempted(&mut self, work: Work, result: Result<(), &str>) -> bool {
        let puts_off = work == Work::Write && self.what().is_none();
        match (work, result) {
            (Work::Write, Ok(())) => self.0[Work::Read as usize] = None,
            (work, result) => self.0[work as usize] = result.err().map(str::to_owned),
        }
        puts_off
    }

    /// Takes in what came of a write that nobody asked for, and that takes as much room as what is asked for.
    pub(crate) fn tried(&mut self, result: Result<(), &str>) {
        *self = Failing([None, result.err().map(str::to_owned)]);
    }

    /// What is wrong, if something is.
    pub(crate) fn what(&self) -> Option<&str> {
        self.0.iter().flatten().next().map(String::as_str)
    }
}

/// Whether a store works, as its thread last saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    database: Option<Box<str>>,
    wrong: Option<String>,
    disk: Option<Disk>,
    told: Told,
}

/// The disk that a database is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that there are.
    pub bytes: u64,
    /// Bytes that its user may still write.
    pub free: u64,
}

impl Health {
    /// What is wrong now, if something is. Logs that where it is news.
    pub(crate) fn set(&self, wrong: Option<&str>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.wrong = wrong.map(str::to_owned);
        match state.told.hear(wrong.is_some(), Instant::now()) {
            Some(Say::Fails) => {
                tracing::error!(detail = wrong, "the database fails; answering 503 until it works");
            }
            Some(Say::Works) => tracing::info!("the database works again"),
            None => {}
        }
    }

    /// How much room there is, as its thread last saw.
    pub(crate) fn set_disk(&self, disk: Option<Disk>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).disk = disk;
    }

    /// The disk that it is on, where that is known.
    pub(crate) fn disk(&self) -> Option<Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).disk
    }

    /// The database of this name, which ids of posts end with, was opened.
    pub(crate) fn opened(&self, database: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).database = Some(database.into());
    }

    /// The name of the database that was opened last.
    pub(crate) fn database(&self) -> Option<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).database.clone()
    }

    /// What is wrong, if something is.
    pub(crate) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wrong.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_work_say_nothing_of_writes() {
        let mut failing = Failing::default();
        assert!(failing.attempted(Work::Write, Err("full")));
        assert!(!failing.attempted(Work::Read, Ok(())));
        assert_eq!(failing.what(), Some("full"));
        assert!(!failing.attempted(Work::Write, Ok(())));
        assert_eq!(failing.what(), Some("full"), "a smaller one found room");
        assert!(!failing.attempted(Work::Read, Err("gone")));
        failing.tried(Ok(()));
        assert_eq!(failing.what(), None);
    }
}
