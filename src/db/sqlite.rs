//! The store on SQLite: one thread, one connection, group commit.
//!
//! The thread blocks for a first command, takes all that have queued up meanwhile, runs them in one transaction, and
//! answers them once it is committed with `synchronous=FULL`, that is, flushed to disk. While it commits, the next
//! batch gathers, so the slower the disk, the more commands share a flush.

pub mod batch;
pub mod copies;
pub mod history;
pub mod hooks;
pub mod likes;
pub mod memory;
pub mod once;
pub mod place;
pub mod posts;
pub mod receipts;
pub mod rules;
pub mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::db::sqlite::batch::Writer;

pub use crate::db::sqlite::copies::{CopyError, Restored, backup, restore};
pub use crate::db::sqlite::history::{forget_kept, kept};
pub use crate::db::sqlite::memory::{Befalls, Memory};
use crate::db::{Command, OpenError, Outcome, Store, StoreError, Submitted};
use crate::limits::STORE_BATCH_COMMANDS;

/// Opens the database at `path`, creating or migrating it, and starts the storage thread.
///
/// `answer` is called on that thread, once for each command taken, in the order of the queue. It must neither block,
/// since all submitters wait behind it, nor panic, since that would end the thread. The thread ends when the store is closed or its last
/// handle dropped, after it has stored and answered what was taken; join it to know that this is done.
///
/// # Errors
/// [`OpenError`] names the path and what would help. Waits at most [`crate::limits::STORE_BUSY_MS`] for a lock.
pub fn start<T, A>(path: &Path, answer: A) -> Result<(Store<T>, JoinHandle<()>), OpenError>
where
    T: Send + 'static,
    A: Fn(T, Result<Outcome, StoreError>) + Send + 'static,
{
    let (store, batches) = Batches::over(Writer::open(path)?);
    let thread =
        std::thread::Builder::new().name("store".into()).spawn(move || batches.serve(answer)).map_err(|error| {
            OpenError::Failed { path: path.to_owned(), detail: format!("its thread cannot be started: {error}") }
        })?;
    Ok((store, thread))
}

/// What runs a node's commands, batch by batch.
#[derive(Debug)]
pub struct Batches<T> {
    writer: Writer,
    receiver: Receiver<Submitted<T>>,
    commands: Vec<Command>,
    tickets: Vec<T>,
}

impl<T: Send + 'static> Batches<T> {
    fn over(mut writer: Writer) -> (Store<T>, Batches<T>) {
        let (store, receiver) = Store::channel();
        writer.report_to(store.reports());
        let (commands, tickets) = (Vec::with_capacity(STORE_BATCH_COMMANDS), Vec::with_capacity(STORE_BATCH_COMMANDS));
        (store, Batches { writer, receiver, commands, tickets })
    }

    /// Serves the queue until every sender is gone and it is empty.
    fn serve(mut self, answer: impl Fn(T, Result<Outcome, StoreError>)) {
        loop {
            match self.receiver.recv_timeout(self.writer.next_look()) {
                Ok(first) => self.run_from(first, &answer),
                // Nobody sends likes to a node that is not ready, so it finds out by itself that it is again; and of a quiet
                // one that it is no more.
                Err(RecvTimeoutError::Timeout) => self.writer.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn run_from(&mut self, first: Submitted<T>, mut answer: impl FnMut(T, Result<Outcome, StoreError>)) {
        let rest = self.receiver.try_iter().take(STORE_BATCH_COMMANDS - 1);
        for (command, ticket) in std::iter::once(first).chain(rest) {
            self.commands.push(command);
            self.tickets.push(ticket);
        }
        let results = self.writer.run(&self.commands);
        assert_eq!(results.len(), self.tickets.len(), "every command has its result");
        for (ticket, result) in self.tickets.drain(..).zip(results) {
            answer(ticket, result);
        }
        self.commands.clear();
    }

    /// Runs what waits as one batch, and answers it. Gives how many commands that were. For simulations.
    pub fn run(&mut self, befalls: Befalls, answer: impl FnMut(T, Result<Outcome, StoreError>)) -> usize {
        let waiting = self.receiver.len().min(STORE_BATCH_COMMANDS);
        if let Ok(first) = self.receiver.try_recv() {
            self.writer.befall(befalls);
            self.run_from(first, answer);
        }
        waiting
    }

    /// How long the queue may stay empty before [`Batches::look`] is due.
    pub fn next_look(&self) -> Duration {
        self.writer.next_look()
    }

    /// Finds out, where it is time to, whether the database works.
    pub fn look(&mut self, befalls: Befalls) {
        self.writer.befall(befalls);
        self.writer.look();
    }
}
