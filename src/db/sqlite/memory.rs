//! A database in memory, for simulations: they say when each batch runs, and what befalls it. All but files and the thread is the
//! real thing.
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, ffi};

use crate::db::OpenError;
use crate::db::sqlite::batch::Writer;
use crate::db::sqlite::{Batches, Store, schema};
use crate::runtime::clock::Times;

/// What befalls a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Befalls {
    /// Nothing: it is stored.
    #[default]
    Nothing,
    /// Its commit fails.
    Fails,
    /// It is stored, though the commit says that it failed.
    AnswerLost,
    /// The disk has no room for what makes the database larger.
    Full,
}

impl Befalls {
    /// Commits, or does what befalls.
    pub(crate) fn commit(self, commit: impl FnOnce() -> rusqlite::Result<usize>) -> rusqlite::Result<()> {
        if self != Befalls::Fails {
            commit()?;
        }
        if matches!(self, Befalls::Fails | Befalls::AnswerLost) {
            let what = Some("simulated: the disk failed".to_owned());
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR), what));
        }
        Ok(())
    }
}

/// A database, which outlives the nodes that run on it.
#[derive(Debug)]
pub struct Memory {
    name: String,
    connection: Connection,
}

impl Memory {
    /// An empty one. Ids of its posts differ from those of another `number`.
    ///
    /// # Errors
    /// None that is known.
    pub fn new(number: u32) -> Result<Memory, OpenError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("fanfare-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let connection = schema::open_in_memory(&name)?;
        let named = connection.execute("UPDATE database SET name = ?1", [format!("{number:08x}")]);
        named.map_err(|error| schema::named(name.as_ref(), error))?;
        Ok(Memory { name, connection })
    }

    /// A node's way to it, and what runs the node's batches, by this clock.
    ///
    /// # Errors
    /// None that is known.
    pub fn store<T: Send + 'static>(&self, times: Times) -> Result<(Store<T>, Batches<T>), OpenError> {
        Ok(Batches::over(Writer::in_memory(&self.name, times)?))
    }

    /// A connection to it, which looks at it and may lock it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Command, Outcome, StoreError};

    fn like(member: u64) -> Command {
        Command::Like { video: "42".into(), member: format!("{member}"), reaction: "like".into(), at: 1 }
    }

    #[test]
    fn what_befalls_a_batch_befalls_no_other() {
        let memory = Memory::new(1).unwrap();
        let (store, mut batches) = memory.store::<u64>(Times::machine()).unwrap();
        let count = || memory.connection().query_row("SELECT count(*) FROM likes", [], |row| row.get(0)).unwrap();
        let mut number = 0;
        let mut run = |befalls, size| {
            for _ in 0..size {
                number += 1;
                store.try_submit(like(number), number).unwrap();
            }
            let mut results = Vec::new();
            batches.run(befalls, |_, result| results.push(result));
            assert_eq!(results.len(), size, "each has its answer");
            let kept = results.iter().filter(|result| result.is_ok()).count();
            assert!(kept == size || kept == 0, "{results:?}");
            assert!(
                results.iter().flatten().all(|outcome| matches!(outcome, Outcome::Liked { created: true, .. }))
                    && results.iter().all(|result| !matches!(result, Err(StoreError::Refused { .. }))),
                "{results:?}"
            );
            kept
        };
        assert_eq!((run(Befalls::Nothing, 2), count()), (2, 2));
        assert_eq!((run(Befalls::Fails, 2), count()), (0, 2));
        assert_eq!((run(Befalls::AnswerLost, 3), count()), (0, 5));
        assert_eq!((run(Befalls::Full, 500), count()), (0, 5));
        memory.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!((run(Befalls::Nothing, 1), count()), (0, 5));
        memory.connection().execute_batch("ROLLBACK").unwrap();
        assert_eq!((run(Befalls::Nothing, 500), count()), (500, 505));
        assert_eq!(batches.run(Befalls::Nothing, |_, _| panic!("nothing waits")), 0);
    }

    #[test]
    fn nodes_share_a_database_and_other_ones_have_none_of_it() {
        let memory = Memory::new(1).unwrap();
        for member in 0..2 {
            let (store, mut batches) = memory.store::<u64>(Times::machine()).unwrap();
            store.try_submit(like(member), 0).unwrap();
            batches.run(Befalls::Nothing, |_, result| {
                let likes = member + 1;
                assert_eq!(result, Ok(Outcome::Liked { created: true, likes, reaction_likes: likes }));
            });
        }
        let other = Memory::new(1).unwrap();
        let likes: u64 = other.connection().query_row("SELECT count(*) FROM likes", [], |row| row.get(0)).unwrap();
        assert_eq!(likes, 0);
    }
}
