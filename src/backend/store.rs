//! What a store takes and answers, and the handle by which shards reach it.
//!
//! A store is one thread that may block, behind a bounded queue. Shards submit without waiting and get each answer
//! through the function given at start, after the commit that holds it is durable. So no shard ever waits for a disk,
//! and a disk that cannot keep up shows as [`Full`], which is a 503, never as memory that grows.
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::limits::STORE_QUEUE_COMMANDS;

/// One thing to do. The caller has checked lengths and characters; the store keeps any valid UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stores that `member` reacted to `video`; the same again changes nothing and keeps the first `at`.
    ///
    /// `reaction` must come from the configured set: what one like costs grows with the number of different
    /// reactions of its video.
    Like {
        video: String,
        member: String,
        reaction: String,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// Takes that reaction back; one that is not there changes nothing.
    Unlike { video: String, member: String, reaction: String },
    /// Reads the counts of a video, with every command submitted before it on the same thread applied.
    Counts { video: String },
}

impl Command {
    /// Whether it may change the database, so that its batch needs the write lock.
    pub fn writes(&self) -> bool {
        match self {
            Command::Like { .. } | Command::Unlike { .. } => true,
            Command::Counts { .. } => false,
        }
    }
}

/// What came of a command. Counts are those right after it, as if commands had run one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Liked {
        /// False when it was stored before.
        created: bool,
        /// Over all reactions of the video.
        likes: u64,
        /// Of this reaction alone.
        reaction_likes: u64,
    },
    Unliked {
        /// False when there was nothing to take back.
        removed: bool,
        /// Over all reactions of the video.
        likes: u64,
        /// Of this reaction alone.
        reaction_likes: u64,
    },
    Counts {
        /// Over all reactions of the video; 0 for an unknown video.
        likes: u64,
        /// Each reaction that has any, by name.
        reactions: Vec<(String, u64)>,
    },
}

/// Why a command was not done. Nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used at the moment (disk full, I/O error, locked by another process): HTTP 503.
    /// Whether the command was stored is certain unless the commit itself failed half-way in the kernel; all commands
    /// are safe to repeat.
    #[error("the database is unavailable: {detail}")]
    Unavailable { detail: String },
    /// The database refuses this very command, now and later: HTTP 400.
    #[error("the database refuses this: {detail}")]
    Invalid { detail: String },
}

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database {path}: the directory {directory} does not exist; create it or choose another path", path = .path.display(), directory = .directory.display())]
    DirectoryMissing { path: PathBuf, directory: PathBuf },
    #[error("database {path}: the file is not an SQLite database; choose another path", path = .path.display())]
    NotADatabase { path: PathBuf },
    #[error("database {path}: it belongs to another program; choose another path", path = .path.display())]
    Foreign { path: PathBuf },
    #[error("database {path}: it has schema version {found}, but this build knows versions up to {known}; run a newer fanfare", path = .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("database {path}: it is read-only for this user; make the file and its directory writable", path = .path.display())]
    ReadOnly { path: PathBuf },
    #[error("database {path}: another process keeps it locked", path = .path.display())]
    Locked { path: PathBuf },
    #[error("database {path}: {detail}", path = .path.display())]
    Failed { path: PathBuf, detail: String },
}

/// A command that was not taken, because the queue is full or the store is closed: HTTP 503.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", if *.closed { "the store is closed" } else { "the store's queue is full" })]
pub struct Full<T> {
    /// What was submitted with the command; the answer function will not see it.
    pub ticket: T,
    /// True once the store is closed or its thread has ended: a later try cannot succeed.
    pub closed: bool,
}

/// A handle to a running store; clones share its queue. The store ends when all handles are gone or one was closed.
#[derive(Debug)]
pub struct Store<T: Send + 'static> {
    /// The one sender, taken out by `close`. Submitting holds the lock for reading while it sends, so nothing enters
    /// the queue after the thread saw it disconnected: every ticket taken is answered.
    sender: Arc<RwLock<Option<Sender<Submitted<T>>>>>,
}

/// A command in the queue, with what its answer goes to.
pub(super) type Submitted<T> = (Command, T);

impl<T: Send + 'static> Clone for Store<T> {
    fn clone(&self) -> Self {
        Store { sender: Arc::clone(&self.sender) }
    }
}

impl<T: Send + 'static> Store<T> {
    /// A handle and the end of the queue from which a storage thread takes.
    pub(super) fn channel() -> (Store<T>, Receiver<Submitted<T>>) {
        let (sender, receiver) = bounded(STORE_QUEUE_COMMANDS);
        (Store { sender: Arc::new(RwLock::new(Some(sender))) }, receiver)
    }

    /// Queues a command; never waits for the disk. The answer comes to the function given at start, with `ticket`.
    ///
    /// # Errors
    /// [`Full`] gives the ticket back when [`STORE_QUEUE_COMMANDS`] are waiting, or when the store is closed.
    pub fn try_submit(&self, command: Command, ticket: T) -> Result<(), Full<T>> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref() else {
            return Err(Full { ticket, closed: true });
        };
        sender.try_send((command, ticket)).map_err(|error| match error {
            TrySendError::Full((_, ticket)) => Full { ticket, closed: false },
            TrySendError::Disconnected((_, ticket)) => Full { ticket, closed: true },
        })
    }

    /// Commands waiting in the queue, not counting those of the batch being stored; 0 once closed.
    pub fn queued(&self) -> usize {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().map_or(0, Sender::len)
    }

    /// Takes no more commands through any handle. What was taken is stored and answered, then the thread ends.
    pub fn close(&self) {
        self.sender.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Command {
        Command::Counts { video: "42".into() }
    }

    #[test]
    fn a_full_queue_gives_the_ticket_back_and_has_room_again_after_a_take() {
        let (store, receiver) = Store::channel();
        for ticket in 0..STORE_QUEUE_COMMANDS {
            store.try_submit(counts(), ticket).expect("there is room");
        }
        assert_eq!(store.queued(), STORE_QUEUE_COMMANDS);
        assert_eq!(store.try_submit(counts(), 7_000_000), Err(Full { ticket: 7_000_000, closed: false }));
        assert_eq!(receiver.try_recv(), Ok((counts(), 0)));
        assert_eq!(store.try_submit(counts(), 7_000_001), Ok(()));
    }

    #[test]
    fn closing_through_one_handle_keeps_what_was_taken_and_refuses_the_rest() {
        let (store, receiver) = Store::channel();
        let other = store.clone();
        store.try_submit(counts(), 1).expect("there is room");
        other.close();
        assert_eq!(store.try_submit(counts(), 2), Err(Full { ticket: 2, closed: true }));
        assert_eq!(store.queued(), 0);
        assert_eq!(receiver.iter().map(|(_, ticket)| ticket).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_thread_that_ended_refuses_commands() {
        let (store, receiver) = Store::channel();
        drop(receiver);
        assert_eq!(store.try_submit(counts(), 3), Err(Full { ticket: 3, closed: true }));
    }
}
