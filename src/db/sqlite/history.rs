//! History of the embedded key-value store, kept in the database of `fanfare all`.
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use crate::db::once::Stored;
use crate::db::sqlite::batch::Failure;
use crate::db::sqlite::once;
use crate::db::sqlite::schema::named;
use crate::db::{OpenError, Outcome};
use crate::kv::kept::{Forgotten, Keep, Kept, KeptEvent, KeptOnce};
use crate::limits::{ONCE_KEPT_EVENTS, STORE_BUSY_MS};
use crate::wire::position::Position;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Applies changes of history, in their order.
pub(crate) fn keep(connection: &Connection, changes: &[Keep]) -> Result<Outcome, Failure> {
    for change in changes {
        change.forgets.iter().try_for_each(|forgotten| forget(connection, forgotten))?;
        let event = &change.event;
        if let Some(id) = &change.withdraws {
            connection
                .prepare_cached("UPDATE history SET event = NULL WHERE topic = ?1 AND event ->> 'id' = ?2")?
                .execute(params![event.topic.as_str(), id])?;
        }
        let ((ms, seq), prev) = (numbers(event.position), event.prev.map(numbers).unzip());
        let age = i64::try_from(event.age_max_ms).unwrap_or(i64::MAX);
        connection.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
            event.topic.as_str(),
            ms,
            seq,
            prev.0,
            prev.1,
            event.kind,
            age,
            event.event.as_deref()
        ])?;
        if let Some(KeptOnce { key, body, id, at_ms }) = &change.once {
            let answer = json!({"id": id}).to_string();
            let stored = Stored { body: body.clone(), status: Status::Accepted, answer, at: *at_ms };
            once::put(connection, key, &stored)?;
        }
    }
    Ok(Outcome::Kept)
}

fn forget(connection: &Connection, forgotten: &Forgotten) -> rusqlite::Result<()> {
    match forgotten {
        Forgotten::Event(topic, position) => {
            let (ms, seq) = numbers(*position);
            connection
                .prepare_cached("DELETE FROM history WHERE topic = ?1 AND ms = ?2 AND seq = ?3")?
                .execute(params![topic.as_str(), ms, seq])?;
            connection
                .prepare_cached(
                    "INSERT INTO history_reach VALUES (?1, ?2, ?3) ON CONFLICT (topic) DO UPDATE
                     SET ms = excluded.ms, seq = excluded.seq WHERE (excluded.ms, excluded.seq) > (ms, seq)",
                )?
                .execute(params![topic.as_str(), ms, seq])?;
        }
        Forgotten::Topic(topic) => {
            connection.prepare_cached("DELETE FROM history_reach WHERE topic = ?1")?.execute([topic.as_str()])?;
        }
        Forgotten::Before(position) => {
            // A millisecond more says that it is not complete back to there.
            connection
                .prepare_cached("UPDATE history_since SET ms = max(ms, ?1)")?
                .execute([numbers(*position).0.saturating_add(1)])?;
        }
    }
    Ok(())
}

fn numbers(position: Position) -> (i64, i64) {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    (number(position.ms), number(position.seq))
}

fn position(ms: i64, seq: i64) -> Position {
    Position { ms: ms.max(0).cast_unsigned(), seq: seq.max(0).cast_unsigned() }
}

/// What is kept in the database at `path`, which a store has opened. History that was never kept there begins at `now_ms`.
///
/// # Errors
/// [`OpenError`] names the path.
pub fn kept(path: &Path, now_ms: u64) -> Result<Kept, OpenError> {
    let named = |error| named(path, error);
    let connection = beside(path).map_err(named)?;
    read(&connection, now_ms).map_err(named)
}

/// Forgets the history in the database at `path`: from now on it is kept elsewhere, so there would be a hole in it.
///
/// # Errors
/// [`OpenError`] names the path.
pub fn forget_kept(path: &Path) -> Result<(), OpenError> {
    let named = |error| named(path, error);
    let connection = beside(path).map_err(named)?;
    if connection.query_row("SELECT EXISTS (SELECT 1 FROM history_since)", [], |row| row.get(0)).map_err(named)? {
        forget_all(&connection).map_err(named)?;
    }
    Ok(())
}

/// Forgets all history, first of all that there is any.
pub(crate) fn forget_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM history_since; DELETE FROM history_reach; DELETE FROM history")
}

/// A connection of its own, for the start.
fn beside(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_millis(STORE_BUSY_MS))?;
    Ok(connection)
}

fn read(connection: &Connection, now_ms: u64) -> rusqlite::Result<Kept> {
    let since = connection.query_row("SELECT ms FROM history_since", [], |row| row.get::<_, i64>(0)).optional()?;
    let Some(since) = since else {
        forget_all(connection)?;
        connection.execute("INSERT INTO history_since VALUES (?1)", [now_ms.min(i64::MAX as u64).cast_signed()])?;
        return Ok(Kept { since_ms: now_ms, ..Kept::default() });
    };
    let mut statement = connection.prepare(
        "SELECT topic, ms, seq, prev_ms, prev_seq, kind, age_ms, event FROM history ORDER BY topic, ms, seq",
    )?;
    let rows = statement.query_map([], |row| {
        let prev = row.get::<_, Option<i64>>(3)?.zip(row.get::<_, Option<i64>>(4)?);
        // Whoever wrote it knew it for a topic.
        let topic = Topic::parse(row.get_ref(0)?.as_str()?).ok();
        let (place, event) = (position(row.get(1)?, row.get(2)?), row.get::<_, Option<String>>(7)?);
        let (kind, age_max_ms) = (row.get(5)?, row.get::<_, i64>(6)?.max(0).cast_unsigned());
        Ok(topic.map(|topic| KeptEvent {
            topic,
            kind,
            position: place,
            prev: prev.map(|(ms, seq)| position(ms, seq)),
            event: event.map(Into::into),
            age_max_ms,
        }))
    })?;
    let events = rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare("SELECT topic, ms, seq FROM history_reach")?;
    let rows = statement.query_map([], |row| {
        Ok(Topic::parse(row.get_ref(0)?.as_str()?).ok().zip(Some(position(row.get(1)?, row.get(2)?))))
    })?;
    let reaches = rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    Ok(Kept { since_ms: since.max(0).cast_unsigned(), events, reaches, onces: onces(connection)? })
}

/// The newest keys that events came with, the oldest first. Those of other requests stand beside them, with other statuses.
fn onces(connection: &Connection) -> rusqlite::Result<Vec<KeptOnce>> {
    let mut statement =
        connection.prepare("SELECT key, body, answer, at FROM once WHERE status = ?1 ORDER BY number DESC LIMIT ?2")?;
    let rows = statement.query_map(params![Status::Accepted.code(), ONCE_KEPT_EVENTS as i64], |row| {
        let answer: serde_json::Value = serde_json::from_str(row.get_ref(2)?.as_str()?).unwrap_or_default();
        let (key, body, at) = (row.get(0)?, row.get(1)?, row.get::<_, i64>(3)?);
        let at_ms = at.max(0).cast_unsigned();
        Ok(answer["id"].as_str().map(|id| KeptOnce { key, body, id: id.to_owned(), at_ms }))
    })?;
    let mut onces: Vec<KeptOnce> = rows.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    onces.reverse();
    Ok(onces)
}
