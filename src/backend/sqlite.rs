//! The store on SQLite: one thread, one connection, group commit.
//!
//! The thread blocks for a first command, takes all that have queued up meanwhile, runs them in one transaction, and
//! answers them once it is committed with `synchronous=FULL`, that is, flushed to disk. While it commits, the next
//! batch gathers, so the slower the disk, the more commands share a flush.
mod batch;
mod copies;
mod history;
mod likes;
mod once;
mod place;
mod posts;
mod receipts;
mod schema;
#[cfg(test)]
mod tests;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::path::Path;
use std::thread::JoinHandle;

use super::store::{Command, OpenError, Outcome, Store, StoreError, Submitted};
use crate::limits::STORE_BATCH_COMMANDS;
use batch::Writer;
pub use copies::{CopyError, Restored, backup, restore};
pub use history::{forget_kept, kept};

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
    let mut writer = Writer::open(path)?;
    let (store, receiver) = Store::channel();
    writer.report_to(store.reports());
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || run(writer, &receiver, &answer))
        .map_err(|error| OpenError::Failed {
            path: path.to_owned(),
            detail: format!("its thread cannot be started: {error}"),
        })?;
    Ok((store, thread))
}

/// Serves the queue until every sender is gone and it is empty.
fn run<T, A>(mut writer: Writer, receiver: &Receiver<Submitted<T>>, answer: &A)
where
    A: Fn(T, Result<Outcome, StoreError>),
{
    let mut commands: Vec<Command> = Vec::with_capacity(STORE_BATCH_COMMANDS);
    let mut tickets: Vec<T> = Vec::with_capacity(STORE_BATCH_COMMANDS);
    loop {
        let first = match receiver.recv_timeout(writer.next_look()) {
            Ok(first) => first,
            // Nobody sends likes to a node that is not ready, so it finds out by itself that it is again; and of a quiet one
            // that it is no more.
            Err(RecvTimeoutError::Timeout) => {
                writer.look();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let rest = receiver.try_iter().take(STORE_BATCH_COMMANDS - 1);
        for (command, ticket) in std::iter::once(first).chain(rest) {
            commands.push(command);
            tickets.push(ticket);
        }
        let results = writer.run(&commands);
        assert_eq!(results.len(), tickets.len(), "every command has its result");
        for (ticket, result) in tickets.drain(..).zip(results) {
            answer(ticket, result);
        }
        commands.clear();
    }
}
