//! What binds who comments on a video: its rules, and members' time-outs.
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::db::rules::{Bar, Change, Kept, Past, Standing};
use crate::db::sqlite::batch::Failure;
use crate::db::{Outcome, checks};

fn read(connection: &Connection, video: &str) -> Result<Kept, Failure> {
    let kept = connection
        .prepare_cached("SELECT slow_seconds, comments, version FROM rules WHERE video = ?1")?
        .query_row([video], |row| Ok(Kept::stored(row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(kept.unwrap_or_default())
}

/// Why a comment is not taken, if it is not.
pub(crate) fn bar(
    connection: &Connection,
    video: &str,
    member: &str,
    standing: Standing,
    at: u64,
) -> Result<Option<Bar>, Failure> {
    if standing == Standing::Moderator {
        return Ok(None);
    }
    let rules = read(connection, video)?.rules;
    let until = connection
        .prepare_cached("SELECT until FROM timeouts WHERE video = ?1 AND member = ?2")?
        .query_row([video, member], |row| row.get(0))
        .optional()?;
    let commented = match rules.slow_seconds {
        0 => None,
        _ => connection
            .prepare_cached(
                "SELECT at FROM posts WHERE kind = 0 AND place = ?1 AND member = ?2 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([video, member], |row| row.get(0))
            .optional()?,
    };
    Ok(rules.bar(standing, Past { commented, until }, at))
}

/// Reads the rules.
pub(crate) fn rules(connection: &Connection, video: &str) -> Result<Outcome, Failure> {
    let Kept { rules, version } = read(connection, video)?;
    Ok(Outcome::Rules { rules, version })
}

/// Changes the rules.
pub(crate) fn set(connection: &Connection, video: &str, change: Change, at: u64) -> Result<Outcome, Failure> {
    let Kept { rules, version } = read(connection, video)?.changed(change, at);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO rules (video, slow_seconds, comments, version) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![video, rules.slow_seconds, rules.comments.number(), checks::time(version)?])?;
    Ok(Outcome::Rules { rules, version })
}

/// Gives a time-out, or ends one; of others of the video those that are over go.
pub(crate) fn time_out(
    connection: &Connection,
    video: &str,
    member: &str,
    seconds: u32,
    at: u64,
) -> Result<Outcome, Failure> {
    let (until, now) = (checks::time(at + u64::from(seconds) * 1_000)?, checks::time(at)?);
    connection
        .prepare_cached("INSERT OR REPLACE INTO timeouts (video, member, until) VALUES (?1, ?2, ?3)")?
        .execute(params![video, member, until])?;
    connection.prepare_cached("DELETE FROM timeouts WHERE video = ?1 AND until <= ?2")?.execute(params![video, now])?;
    Ok(Outcome::TimedOut { until: (seconds > 0).then_some(until.cast_unsigned()) })
}
