//! Requests that are done once.
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::once::{Once, Stored};
use crate::db::sqlite::batch::Failure;
use crate::db::{Outcome, checks, once};
use crate::limits::{ONCE_KEPT_MAX, ONCE_SWEPT};
use crate::runtime::planted::{Mistake, planted};

/// What the request came to before, if it did.
pub(crate) fn find(connection: &Connection, once: &Once) -> Result<Option<Outcome>, Failure> {
    let stored = connection
        .prepare_cached("SELECT body, status, answer, at FROM once WHERE key = ?1")?
        .query_row([&once.key], |row| {
            let at = row.get::<_, i64>(3)?.max(0).cast_unsigned();
            Ok(Stored { body: row.get(0)?, status: once::status(row.get(1)?), answer: row.get(2)?, at })
        })
        .optional()?;
    Ok(stored.filter(|_| !planted(Mistake::KeyIgnored)).and_then(|stored| once.repeated(&stored)))
}

/// Keeps what it comes to. A row of the same key is too old and goes.
pub(crate) fn keep(connection: &Connection, once: &Once, outcome: &Outcome) -> Result<(), Failure> {
    once.stored(outcome).map_or(Ok(()), |stored| put(connection, &once.key, &stored))
}

/// Keeps what is stored by a key.
pub(crate) fn put(connection: &Connection, key: &str, stored: &Stored) -> Result<(), Failure> {
    let at = checks::time(stored.at)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO once (key, body, status, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![key, stored.body, stored.status.code(), stored.answer, at])?;
    sweep(connection, at, ONCE_SWEPT)
}

/// Deletes of the `most` oldest what is too old at `now`, in Unix milliseconds, or too many.
pub(crate) fn sweep(connection: &Connection, now: i64, most: i64) -> Result<(), Failure> {
    let oldest = once::oldest(now.max(0).cast_unsigned()).cast_signed();
    connection
        .prepare_cached(
            "DELETE FROM once WHERE number IN (
                 SELECT number FROM (SELECT number, at FROM once ORDER BY number LIMIT ?1)
                 WHERE at <= ?2 OR number <= (SELECT max(number) FROM once) - ?3
             )",
        )?
        .execute(params![most, oldest, ONCE_KEPT_MAX])?;
    Ok(())
}
