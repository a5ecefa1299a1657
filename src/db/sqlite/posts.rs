//! Comments and messages, and the outbox of what viewers have to be told of them.
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::hooks::HookKey;
use crate::db::post_id::PostIds;
use crate::db::rules::Standing;
use crate::db::sqlite::batch::{Failure, whole};
use crate::db::sqlite::hooks;
use crate::db::{Change, Deletion, Marks, OutboxAsk, Outcome, Part, Post, PostKind, Record, Unpublished, checks};
use crate::limits::{OUTBOX_PAGE_BYTES, OUTBOX_PAGE_MAX, POSTS_PAGE_BYTES_MAX, POSTS_PAGE_MAX};
use crate::runtime::planted::{Mistake, planted};

/// The tables of posts, as of a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) ids: &'a PostIds,
    /// In Unix milliseconds. The age of a record is told by the clock that recorded it, not by that of whoever posted.
    pub(crate) now: i64,
}

/// As it is stored.
pub(crate) fn kind_number(kind: PostKind) -> i64 {
    match kind {
        PostKind::Comment => 0,
        PostKind::Message => 1,
    }
}

fn change_number(change: Change) -> i64 {
    match change {
        Change::Posted => 0,
        Change::Deleted => 1,
    }
}

/// Stores a post with its record in the outbox.
pub(crate) fn post(
    tables: Tables<'_>,
    kind: PostKind,
    place: &str,
    (member, standing): (&str, Standing),
    text: &str,
    at: u64,
    hooks: &[HookKey],
) -> Result<Outcome, Failure> {
    let Tables { connection, ids, now } = tables;
    let stored_at = checks::time(at)?;
    whole(connection, || {
        connection
            .prepare_cached("INSERT INTO posts (kind, place, member, text, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![kind_number(kind), place, member, text, stored_at])?;
        let number = connection.last_insert_rowid();
        record(connection, number, Change::Posted, standing == Standing::Moderator, now)?;
        hooks::comment(tables, hooks, place, number, stored_at)?;
        Ok(Outcome::Posted { id: ids.text(number), at })
    })
}

/// Deletes a post and records it.
pub(crate) fn delete(
    tables: Tables<'_>,
    kind: PostKind,
    place: &str,
    id: &str,
    by: Option<&str>,
    at: u64,
) -> Result<Outcome, Failure> {
    let Tables { connection, ids, now } = tables;
    let at = checks::time(at)?;
    let Some(number) = ids.number(id) else { return Ok(Outcome::Deletion(Deletion::NotFound)) };
    let found: Option<(String, bool)> = connection
        .prepare_cached("SELECT member, deleted_at IS NOT NULL FROM posts WHERE id = ?1 AND kind = ?2 AND place = ?3")?
        .query_row(params![number, kind_number(kind), place], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let deletion = match found {
        None => Deletion::NotFound,
        Some((author, _)) if by.is_some_and(|by| by != author) => Deletion::Forbidden,
        Some((_, true)) => Deletion::Already,
        Some((_, false)) => {
            whole(connection, || {
                connection
                    .prepare_cached("UPDATE posts SET text = '', deleted_at = ?2 WHERE id = ?1")?
                    .execute(params![number, at])?;
                unrecord(connection, number, Change::Posted)?;
                record(connection, number, Change::Deleted, false, now)
            })?;
            Deletion::Deleted
        }
    };
    Ok(Outcome::Deletion(deletion))
}

/// Lists the posts of a place.
pub(crate) fn list(
    tables: Tables<'_>,
    kind: PostKind,
    place: &str,
    part: &Part,
    limit: u32,
) -> Result<Outcome, Failure> {
    let Tables { connection, ids, .. } = tables;
    let id = part.id().map(|id| checks::post(ids, id)).transpose()?;
    let ascending = matches!(part, Part::After(_));
    let limit = limit.clamp(1, POSTS_PAGE_MAX) as usize;
    let mut statement = connection.prepare_cached(match ascending {
        true => {
            "SELECT id, member, text, at FROM posts WHERE kind = ?1 AND place = ?2 AND deleted_at IS NULL AND id > ?3
             ORDER BY id LIMIT ?4"
        }
        false => {
            "SELECT id, member, text, at FROM posts WHERE kind = ?1 AND place = ?2 AND deleted_at IS NULL AND id < ?3
             ORDER BY id DESC LIMIT ?4"
        }
    })?;
    // One more than asked for, to know whether there is one.
    let mut rows = statement.query(params![kind_number(kind), place, id.unwrap_or(i64::MAX), limit as i64 + 1])?;
    let (mut posts, mut bytes, mut more) = (Vec::new(), 0, false);
    while let Some(row) = rows.next()? {
        let text: String = row.get(2)?;
        bytes += text.len();
        if posts.len() == limit || (!posts.is_empty() && bytes > POSTS_PAGE_BYTES_MAX) {
            more = true;
            break;
        }
        let at: i64 = row.get(3)?;
        posts.push(Post { id: ids.text(row.get(0)?), member: row.get(1)?, text, at: at.max(0).cast_unsigned() });
    }
    if !ascending {
        posts.reverse();
    }
    Ok(Outcome::Posts { posts, more })
}

/// Takes records out of the outbox, and makes others due.
pub(crate) fn mark(tables: Tables<'_>, marks: &Marks) -> Result<Outcome, Failure> {
    let Tables { connection, ids, .. } = tables;
    whole(connection, || {
        let mut removed = 0;
        for Record { id, change } in &marks.published {
            if let Some(number) = ids.number(id) {
                removed += usize::from(unrecord(connection, number, *change)?);
            }
        }
        let mut leave = connection.prepare_cached("UPDATE outbox SET stored_at = 0 WHERE post = ?1 AND change = ?2")?;
        for Record { id, change } in &marks.left {
            if let Some(number) = ids.number(id) {
                leave.execute(params![number, change_number(*change)])?;
            }
        }
        Ok(Outcome::Marked { removed })
    })
}

/// Lists what is due in the outbox: what was stored before a time, or left. Takes the lease if there is something.
pub(crate) fn unpublished(tables: Tables<'_>, ask: &OutboxAsk) -> Result<Outcome, Failure> {
    let Tables { connection, ids, now } = tables;
    let OutboxAsk { holder, lease_ms, after, older_than_ms, limit } = ask;
    let limit = (*limit).clamp(1, OUTBOX_PAGE_MAX) as usize;
    let after =
        after.as_ref().map_or((0, 0), |after| (ids.number(&after.id).unwrap_or(0), change_number(after.change)));
    // By the key and not by age, since the order of ids is what counts.
    let (mut posts, mut bytes, mut more) = (Vec::new(), 0, false);
    let mut statement = connection.prepare_cached(
        "SELECT post, change, kind, place, member, text, always
         FROM outbox JOIN posts ON posts.id = outbox.post
         WHERE +stored_at <= ?1 AND (post, change) > (?2, ?3) ORDER BY post, change LIMIT ?4",
    )?;
    let before = now.saturating_sub_unsigned(*older_than_ms);
    let mut rows = statement.query(params![before, after.0, after.1, limit as i64 + 1])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(5)?;
        bytes += text.len();
        if posts.len() == limit || (!posts.is_empty() && bytes > OUTBOX_PAGE_BYTES) {
            more = true;
            break;
        }
        posts.push(Unpublished {
            kind: if row.get::<_, i64>(2)? == 0 { PostKind::Comment } else { PostKind::Message },
            place: row.get(3)?,
            record: Record {
                id: ids.text(row.get(0)?),
                change: if row.get::<_, i64>(1)? == 0 { Change::Posted } else { Change::Deleted },
            },
            member: row.get(4)?,
            text,
            always: row.get::<_, i64>(6)? != 0,
        });
    }
    let ended = if planted(Mistake::OutboxLeaseKept) { 0 } else { now };
    let elsewhere = !posts.is_empty() && {
        let taken = connection
            .prepare_cached(
                "INSERT INTO outbox_lease VALUES (0, ?1, ?2) ON CONFLICT (one)
                 DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE holder = ?1 OR until <= ?3",
            )?
            .execute(params![holder, now.saturating_add_unsigned(*lease_ms), ended])?;
        taken == 0
    };
    Ok(Outcome::Unpublished { posts, more, elsewhere })
}

fn record(connection: &Connection, number: i64, change: Change, always: bool, now: i64) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (post, change, stored_at, claimed_until, always) VALUES (?1, ?2, ?3, 0, ?4)",
        )?
        .execute(params![number, change_number(change), now, always])?;
    Ok(())
}

fn unrecord(connection: &Connection, number: i64, change: Change) -> Result<bool, Failure> {
    let changed = connection
        .prepare_cached("DELETE FROM outbox WHERE post = ?1 AND change = ?2")?
        .execute(params![number, change_number(change)])?;
    Ok(changed == 1)
}
