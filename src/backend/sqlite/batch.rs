//! One batch of commands as one transaction, and recovery after one that failed.
use rusqlite::{Connection, ErrorCode};
use std::path::{Path, PathBuf};

use super::likes::Counts;
use super::schema::{self, Missing};
use crate::backend::store::{Command, OpenError, Outcome, StoreError};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was refused before it reached the database.
    Refused(StoreError),
    /// A statement failed; whether that ends the batch is decided by [`transact`].
    Statement(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Statement(error)
    }
}

/// The database connection with what it takes to run batches on it; knows nothing of threads or queues.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    /// None after a failure that a rollback may not have mended; the next batch opens it again.
    connection: Option<Connection>,
    counts: Counts,
    /// So that a disk that stays full is logged once, not once a batch.
    failing: bool,
}

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Writer, OpenError> {
        let connection = schema::open(path, Missing::Create)?;
        Ok(Writer { path: path.to_owned(), connection: Some(connection), counts: Counts::default(), failing: false })
    }

    /// Runs `commands` in order in one transaction and returns a result for each, after it is on disk. If the
    /// transaction fails, all of them are [`StoreError::Unavailable`] and none is stored.
    pub(super) fn run(&mut self, commands: &[Command]) -> Vec<Result<Outcome, StoreError>> {
        self.counts.clear();
        match self.transact(commands) {
            Ok(results) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "the database works again");
                }
                results
            }
            Err(detail) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(path = %self.path.display(), detail, "the database fails; answering 503 until it works");
                }
                commands.iter().map(|_| Err(StoreError::Unavailable { detail: detail.clone() })).collect()
            }
        }
    }

    fn transact(&mut self, commands: &[Command]) -> Result<Vec<Result<Outcome, StoreError>>, String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::open(&self.path, Missing::Refuse).map_err(|error| error.to_string())?,
        };
        let result = transact(&connection, &mut self.counts, commands);
        match result {
            Ok(results) => {
                self.connection = Some(connection);
                Ok(results)
            }
            Err(error) => {
                if recovers(&connection, &error) {
                    self.connection = Some(connection);
                }
                Err(error.to_string())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }
}

fn transact(
    connection: &Connection,
    counts: &mut Counts,
    commands: &[Command],
) -> rusqlite::Result<Vec<Result<Outcome, StoreError>>> {
    let writes = commands.iter().any(Command::writes);
    // Taking the write lock at once lets the busy timeout work: a reader that wants to become a writer while another
    // wrote fails at once. Reads alone need no lock, so they work on a database that is locked or full.
    let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
    connection.prepare_cached(begin)?.execute([])?;
    let mut results = Vec::with_capacity(commands.len());
    for command in commands {
        results.push(match execute(connection, counts, command) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Statement(error)) if !connection.is_autocommit() && concerns_one(&error) => {
                Err(StoreError::Invalid { detail: error.to_string() })
            }
            Err(Failure::Statement(error)) => return Err(error),
        });
    }
    if writes {
        counts.flush(connection)?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(results)
}

fn execute(connection: &Connection, counts: &mut Counts, command: &Command) -> Result<Outcome, Failure> {
    match command {
        Command::Like { video, member, reaction, at } => counts.like(connection, video, member, reaction, *at),
        Command::Unlike { video, member, reaction } => counts.unlike(connection, video, member, reaction),
        Command::Counts { video } => counts.counts(connection, video),
        _ => Err(Failure::Refused(StoreError::Unavailable { detail: "posts are not kept yet".into() })),
    }
}

/// Whether the failed statement had no effect and the transaction can go on. SQLite undoes a statement that breaks a
/// constraint by itself, so a command of one changing statement needs no savepoint; one of several must put a savepoint
/// around them.
fn concerns_one(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch))
}

/// Ends the failed transaction; returns whether the connection can be used on. What is known to pass (a full disk, a
/// lock) leaves it whole; after anything else a new connection, which reads the log afresh, is the safe one.
fn recovers(connection: &Connection, error: &rusqlite::Error) -> bool {
    // SQLite ends the transaction by itself after some errors; after others it is up to us.
    let ended = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
    let passes = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    );
    ended && passes
}
