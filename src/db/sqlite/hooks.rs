//! Deliveries of hooks, and the states that receivers were told of.
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::checks;
use crate::db::hooks::{
    Delivery, HookAsk, HookCommand, HookKey, HookLook, HookOutcome, Note, Settling, Step, comment_data,
    comment_subject, delivery_id,
};
use crate::db::post_id::PostIds;
use crate::db::sqlite::batch::{Failure, whole};
use crate::db::sqlite::posts::Tables;
use crate::limits::{HOOK_AGE, HOOK_EXPIRED_AT_ONCE, HOOK_LIMIT_EVERY, HOOK_WAITING_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::hooks::HookEvent;

/// Does something for hooks, all of it or nothing.
pub(crate) fn run(tables: Tables<'_>, command: &HookCommand) -> Result<HookOutcome, Failure> {
    let connection = tables.connection;
    whole(connection, || match command {
        HookCommand::Open(hooks) => open(tables, hooks),
        HookCommand::Note(notes) => note(tables, notes),
        HookCommand::Take(ask) => take(tables, ask),
        HookCommand::Settle { hook, settled, ends } => settle(tables, hook, settled, *ends),
        HookCommand::States { hook, after, limit } => states(connection, hook, after, *limit),
    })
}

/// Makes hooks known, those whose receivers had ended them among them. What is left of others goes: their states at once, since
/// whoever comes back is told anew, and deliveries when they are too old.
fn open(tables: Tables<'_>, hooks: &[HookKey]) -> Result<HookOutcome, Failure> {
    let Tables { connection, now, .. } = tables;
    for hook in hooks {
        connection
            .prepare_cached("INSERT INTO hooks (hook) VALUES (?1) ON CONFLICT (hook) DO UPDATE SET ended = 0")?
            .execute([hook])?;
    }
    connection.prepare_cached("DELETE FROM hook_deliveries WHERE stored_at <= ?1")?.execute([now - ms(HOOK_AGE)])?;
    let known = serde_json::to_string(hooks).expect("keys are text");
    connection
        .prepare_cached("DELETE FROM hook_states WHERE hook NOT IN (SELECT value FROM json_each(?1))")?
        .execute([known])?;
    Ok(HookOutcome::Done)
}

fn ms(time: Duration) -> i64 {
    time.as_millis() as i64
}

/// Whether something is stored for a hook: it has not ended, and there is room, or nobody knows. Where there is none, that is
/// counted.
fn takes(connection: &Connection, hook: &str) -> rusqlite::Result<bool> {
    let mut known = connection.prepare_cached("SELECT ended, is_full FROM hooks WHERE hook = ?1")?;
    let known = known.query_row([hook], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?))).optional()?;
    if known == Some((false, true)) {
        connection.prepare_cached("UPDATE hooks SET left_out = left_out + 1 WHERE hook = ?1")?.execute([hook])?;
    }
    Ok(known.is_none_or(|(ended, is_full)| !ended && !is_full))
}

/// Keeps a new comment for hooks; its text stays with the comment.
pub(crate) fn comment(tables: Tables<'_>, hooks: &[HookKey], video: &str, post: i64, at: i64) -> rusqlite::Result<()> {
    let Tables { connection, now, .. } = tables;
    for hook in hooks {
        if takes(connection, hook)? {
            connection
                .prepare_cached(
                    "INSERT INTO hook_deliveries (hook, subject, event, data, post, at, stored_at)
                     VALUES (?1, ?2, ?3, '', ?4, ?5, ?6)",
                )?
                .execute(params![hook, comment_subject(video), HookEvent::CommentPosted.number(), post, at, now])?;
        }
    }
    Ok(())
}

/// Notes what hooks are to be told of.
fn note(tables: Tables<'_>, notes: &[Note]) -> Result<HookOutcome, Failure> {
    let Tables { connection, now, .. } = tables;
    for note in notes {
        if !takes(connection, &note.hook)? {
            continue;
        }
        let version = checks::time(note.version)?;
        let key = params![note.hook, note.subject, version];
        let changed = match note.step {
            Step::Begins => {
                let newer = "UPDATE hook_states SET version = ?3 WHERE hook = ?1 AND subject = ?2 AND version < ?3";
                let begun = "INSERT INTO hook_states VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                connection.prepare_cached(newer)?.execute(key)? == 0
                    && connection.prepare_cached(begun)?.execute(key)? > 0
            }
            Step::Ends => {
                let gone = "DELETE FROM hook_states WHERE hook = ?1 AND subject = ?2 AND version <= ?3";
                connection.prepare_cached(gone)?.execute(key)? > 0
            }
            Step::Repeats(pause_ms) => {
                let again = "INSERT INTO hook_states VALUES (?1, ?2, ?3) ON CONFLICT (hook, subject)
                    DO UPDATE SET version = excluded.version WHERE version + ?4 <= excluded.version";
                let key = params![note.hook, note.subject, version, pause_ms.cast_signed()];
                connection.prepare_cached(again)?.execute(key)? > 0
            }
        };
        if let Some((event, data)) = note.delivery.as_ref().filter(|_| changed) {
            connection
                .prepare_cached(
                    "INSERT INTO hook_deliveries (hook, subject, event, data, at, stored_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![note.hook, note.subject, event.number(), data, checks::time(note.at)?, now])?;
        }
    }
    Ok(HookOutcome::Done)
}

/// Takes what is due.
fn take(tables: Tables<'_>, ask: &HookAsk) -> Result<HookOutcome, Failure> {
    let Tables { connection, ids, now } = tables;
    let look = if ask.look { Some(look(connection, &ask.hook, now)?) } else { None };
    let mut hook = connection.prepare_cached("SELECT sequence FROM hooks WHERE hook = ?1 AND ended = 0")?;
    let Some(mut sequence) = hook.query_row([&ask.hook], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(HookOutcome::Taken { deliveries: Vec::new(), look, ended: true });
    };
    // First what was taken already, and then what never was, of subjects of which nothing is under way or put off.
    let mut due = connection.prepare_cached(
        "SELECT due.id, sequence, subject, event, data, due.at, tries, post, posts.place, posts.member, posts.text, deleted_at
         FROM (
             SELECT * FROM (
                 SELECT id FROM hook_deliveries AS due
                 WHERE hook = ?1 AND next_try > 0 AND next_try <= ?2 AND (?4 OR NOT EXISTS (
                     SELECT 1 FROM hook_deliveries AS older WHERE older.hook = due.hook AND older.subject = due.subject
                         AND older.next_try > due.next_try AND older.id < due.id
                 )) ORDER BY next_try, id LIMIT ?3
             )
             UNION ALL
             SELECT * FROM (
                 SELECT id FROM hook_deliveries AS new WHERE hook = ?1 AND next_try = 0 AND (?4 OR NOT EXISTS (
                     SELECT 1 FROM hook_deliveries AS tried WHERE tried.hook = new.hook AND tried.subject = new.subject
                         AND tried.next_try > 0
                 )) ORDER BY id LIMIT ?3
             )
             LIMIT ?3
         ) AS found JOIN hook_deliveries AS due USING (id) LEFT JOIN posts ON posts.id = due.post",
    )?;
    let rows =
        due.query_map(params![ask.hook, now, ask.limit, planted(Mistake::HookOvertaken)], |row| read(ids, row))?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<Delivery>>>()?;
    rows.sort_unstable_by_key(|delivery| delivery.number);
    let mut claim =
        connection.prepare_cached("UPDATE hook_deliveries SET next_try = ?2, sequence = ?3 WHERE id = ?1")?;
    let until = now.saturating_add_unsigned(ask.claim_ms);
    let before = sequence;
    for delivery in &mut rows {
        if delivery.sequence == 0 {
            sequence += 1;
            delivery.sequence = sequence.cast_unsigned();
        }
        claim.execute(params![delivery.number, until, delivery.sequence.cast_signed()])?;
    }
    if sequence > before {
        connection
            .prepare_cached("UPDATE hooks SET sequence = ?2 WHERE hook = ?1")?
            .execute(params![ask.hook, sequence])?;
    }
    Ok(HookOutcome::Taken { deliveries: rows, look, ended: false })
}

fn read(ids: &PostIds, row: &rusqlite::Row<'_>) -> rusqlite::Result<Delivery> {
    let number: i64 = row.get(0)?;
    let data = match row.get::<_, Option<i64>>(7)? {
        None => row.get(4)?,
        Some(post) => {
            let [video, member, text] = [8, 9, 10].map(|at| row.get::<_, Option<String>>(at));
            let is_deleted = row.get::<_, Option<i64>>(11)?.is_some();
            let (video, member, text) = (video?.unwrap_or_default(), member?.unwrap_or_default(), text?);
            comment_data(&video, &ids.text(post), &member, text.as_deref().filter(|_| !is_deleted))
        }
    };
    Ok(Delivery {
        number,
        id: delivery_id(ids, number),
        sequence: row.get::<_, i64>(1)?.cast_unsigned(),
        subject: row.get(2)?,
        // Of a later version, which wrote what this one does not know.
        event: HookEvent::of(row.get(3)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(3, row.get(3)?))?,
        data,
        at: row.get::<_, i64>(5)?.max(0).cast_unsigned(),
        tries: row.get(6)?,
    })
}

/// Gives up what is too old, and finds what waits.
fn look(connection: &Connection, hook: &str, now: i64) -> rusqlite::Result<HookLook> {
    let expired = connection
        .prepare_cached(
            "DELETE FROM hook_deliveries WHERE id IN (
                 SELECT id FROM hook_deliveries WHERE hook = ?1 AND stored_at <= ?2 ORDER BY stored_at LIMIT ?3)",
        )?
        .execute(params![hook, now - ms(HOOK_AGE), HOOK_EXPIRED_AT_ONCE])?;
    connection
        .prepare_cached(
            "DELETE FROM hook_states WHERE hook = ?1 AND subject >= 'limit:' AND subject < 'limit;' AND version <= ?2",
        )?
        .execute(params![hook, now - 2 * ms(HOOK_LIMIT_EVERY)])?;
    let mut found =
        connection.prepare_cached("SELECT count(*), min(stored_at) FROM hook_deliveries WHERE hook = ?1")?;
    let (waiting, oldest) =
        found.query_row([hook], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let waiting = waiting.cast_unsigned();
    connection
        .prepare_cached("UPDATE hooks SET is_full = ?2 WHERE hook = ?1 AND is_full <> ?2")?
        .execute(params![hook, waiting >= HOOK_WAITING_MAX])?;
    let mut left_out = connection.prepare_cached("SELECT left_out FROM hooks WHERE hook = ?1")?;
    let left_out = left_out.query_row([hook], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
    if left_out > 0 {
        connection.prepare_cached("UPDATE hooks SET left_out = 0 WHERE hook = ?1")?.execute([hook])?;
    }
    let (oldest, left_out) = (oldest.map(|at| at.max(0).cast_unsigned()), left_out.cast_unsigned());
    Ok(HookLook { waiting, oldest, expired: expired as u64, left_out })
}

/// Stores what became of deliveries. A hook whose receiver ended it has none any more, and no states.
fn settle(tables: Tables<'_>, hook: &str, settled: &[(i64, Settling)], ends: bool) -> Result<HookOutcome, Failure> {
    let Tables { connection, now, .. } = tables;
    if ends {
        for sql in [
            "UPDATE hooks SET ended = 1 WHERE hook = ?1",
            "DELETE FROM hook_deliveries WHERE hook = ?1",
            "DELETE FROM hook_states WHERE hook = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([hook])?;
        }
        return Ok(HookOutcome::Done);
    }
    for (number, settling) in settled {
        match settling {
            Settling::Done => {
                connection
                    .prepare_cached("DELETE FROM hook_deliveries WHERE id = ?1 AND hook = ?2")?
                    .execute(params![number, hook])?;
            }
            Settling::Later(ms) => {
                connection
                    .prepare_cached(
                        "UPDATE hook_deliveries SET next_try = ?3, tries = tries + (id = ?1) WHERE hook = ?2
                             AND subject = (SELECT subject FROM hook_deliveries WHERE id = ?1) AND (next_try > ?4 OR id = ?1)",
                    )?
                    .execute(params![number, hook, now.saturating_add_unsigned(*ms), now])?;
            }
            Settling::Untried => {
                connection
                    .prepare_cached("UPDATE hook_deliveries SET next_try = ?3 WHERE id = ?1 AND hook = ?2")?
                    .execute(params![number, hook, now])?;
            }
        }
    }
    Ok(HookOutcome::Done)
}

/// States that a hook's receiver was told of, in the order of their subjects.
fn states(connection: &Connection, hook: &str, after: &str, limit: u32) -> Result<HookOutcome, Failure> {
    let mut states = connection.prepare_cached(
        "SELECT subject, version FROM hook_states WHERE hook = ?1 AND subject > ?2
             AND NOT (subject >= 'limit:' AND subject < 'limit;') ORDER BY subject LIMIT ?3",
    )?;
    let rows = states.query_map(params![hook, after, limit], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.max(0).cast_unsigned()))
    })?;
    Ok(HookOutcome::States(rows.collect::<rusqlite::Result<_>>()?))
}
