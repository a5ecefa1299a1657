//! Why a command was not done.

/// Why a command was not done, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used at the moment (disk full, I/O error, locked by another process, out of reach): HTTP 503.
    /// Whether the command was stored is certain unless the commit itself failed half-way; all commands are safe to repeat,
    /// though a [`Post`](super::Command::Post) may then be there twice.
    #[error("the database is unavailable: {detail}")]
    Unavailable { detail: String },
    /// This very command will not do, now and later: HTTP 400. The detail is a sentence for whoever sent it.
    #[error("this will not do: {detail}")]
    Invalid { detail: String },
    /// The database refuses this very command, now and later: HTTP 400. The detail is the database's own, with whatever it
    /// quotes of statements and addresses: for the log only.
    #[error("the database refuses this: {detail}")]
    Refused { detail: String },
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
