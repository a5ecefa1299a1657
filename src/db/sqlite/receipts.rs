//! How far members have read.
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::post_id::PostIds;
use crate::db::sqlite::batch::Failure;
use crate::db::sqlite::posts::kind_number;
use crate::db::{Outcome, PostKind, Receipt, checks};
use crate::limits::RECEIPTS_PAGE_MAX;

/// Moves a receipt forward. One statement changes the database.
pub(crate) fn receipt(
    connection: &Connection,
    ids: &PostIds,
    conversation: &str,
    member: &str,
    message: &str,
    at: u64,
) -> Result<Outcome, Failure> {
    let at = checks::time(at)?;
    let number = checks::post(ids, message)?;
    let known = connection
        .prepare_cached("SELECT 1 FROM posts WHERE id = ?1 AND kind = ?2 AND place = ?3")?
        .exists(params![number, kind_number(PostKind::Message), conversation])?;
    if !known {
        return Err(checks::no_such_message(message).into());
    }
    let stored: Option<i64> = connection
        .prepare_cached("SELECT message FROM receipts WHERE conversation = ?1 AND member = ?2")?
        .query_row(params![conversation, member], |row| row.get(0))
        .optional()?;
    if let Some(stored) = stored.filter(|stored| *stored >= number) {
        return Ok(Outcome::Receipt { moved: false, message: ids.text(stored) });
    }
    connection
        .prepare_cached(
            "INSERT INTO receipts (conversation, member, message, at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET message = excluded.message, at = excluded.at",
        )?
        .execute(params![conversation, member, number, at])?;
    Ok(Outcome::Receipt { moved: true, message: message.to_owned() })
}

/// Lists a conversation's receipts by member.
pub(crate) fn receipts(
    connection: &Connection,
    ids: &PostIds,
    conversation: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Outcome, Failure> {
    let limit = limit.clamp(1, RECEIPTS_PAGE_MAX) as usize;
    // No name is empty, so every one follows the empty text.
    let mut receipts = connection
        .prepare_cached(
            "SELECT member, message, at FROM receipts WHERE conversation = ?1 AND member > ?2 ORDER BY member LIMIT ?3",
        )?
        .query_map(params![conversation, after.unwrap_or(""), limit as i64 + 1], |row| {
            let at: i64 = row.get(2)?;
            Ok(Receipt { member: row.get(0)?, message: ids.text(row.get(1)?), at: at.max(0).cast_unsigned() })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = receipts.len() > limit;
    receipts.truncate(limit);
    Ok(Outcome::Receipts { receipts, more })
}
