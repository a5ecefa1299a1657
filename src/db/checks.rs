//! What every store refuses, whatever its database could hold.
use crate::db::post_id::PostIds;
use crate::db::{Command, StoreError};
use crate::limits::POST_TEXT_BYTES_MAX;

/// A time as databases hold it.
pub(crate) fn time(at: u64) -> Result<i64, StoreError> {
    i64::try_from(at).map_err(|_| invalid(format!("the time {at} ms is beyond what the database holds")))
}

/// Refuses texts that are too long, times that are too late, and ids that no database of this name gave.
pub(crate) fn command(command: &Command, ids: &PostIds) -> Result<(), StoreError> {
    match command {
        Command::Once { once, command: inner } => time(once.at).and_then(|_| self::command(inner, ids)),
        Command::Like { at, .. }
        | Command::DeletePost { at, .. }
        | Command::SetRules { at, .. }
        | Command::TimeOut { at, .. } => time(*at).map(drop),
        Command::Post { text, at, .. } => {
            if text.len() > POST_TEXT_BYTES_MAX {
                return Err(invalid(format!("a text of {} bytes; at most {POST_TEXT_BYTES_MAX} are kept", text.len())));
            }
            time(*at).map(drop)
        }
        Command::ListPosts { part, .. } => part.id().map_or(Ok(()), |id| post(ids, id).map(drop)),
        Command::Receipt { message, at, .. } => post(ids, message).and(time(*at)).map(drop),
        _ => Ok(()),
    }
}

/// The number of a post that must be one of this database.
pub(crate) fn post(ids: &PostIds, id: &str) -> Result<i64, StoreError> {
    ids.number(id).ok_or_else(|| {
        let example = ids.text(42);
        invalid(format!(
            "{:?} is no id of this database, which look like {example:?}; a post's answer has its id",
            shortened(id)
        ))
    })
}

/// What to say of a message that its conversation never had.
pub(crate) fn no_such_message(id: &str) -> StoreError {
    invalid(format!("the conversation has no message {:?}", shortened(id)))
}

pub(crate) fn invalid(detail: String) -> StoreError {
    StoreError::Invalid { detail }
}

/// What is shown of text that somebody sent.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
