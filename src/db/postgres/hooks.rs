//! Deliveries of hooks, and the states that receivers were told of: commands that are run one by one, behind those of places.
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use crate::db::hooks::{
    Delivery, HookAsk, HookCommand, HookKey, HookLook, HookOutcome, Note, Settling, Step, comment_data, delivery_id,
};
use crate::db::post_id::PostIds;
use crate::db::postgres::session::Session;
use crate::limits::{HOOK_AGE, HOOK_EXPIRED_AT_ONCE, HOOK_LIMIT_EVERY, HOOK_WAITING_MAX};
use crate::wire::hooks::HookEvent;

/// Does something for hooks.
pub(crate) async fn run(session: &Session, command: &HookCommand) -> Result<HookOutcome, Error> {
    match command {
        HookCommand::Open(hooks) => {
            let hooks: Vec<&str> = hooks.iter().map(|hook| &**hook).collect();
            session.statements.open_hooks.execute(&session.client, &[&hooks]).await?;
            session.statements.forget_hooks.execute(&session.client, &[&hooks, &ms(HOOK_AGE)]).await?;
            Ok(HookOutcome::Done)
        }
        HookCommand::Note(notes) => note(session, notes).await,
        HookCommand::Take(ask) => take(session, ask).await,
        HookCommand::Settle { hook, settled, ends } => settle(session, hook, settled, *ends).await,
        HookCommand::States { hook, after, limit } => states(session, hook, after, *limit).await,
    }
}

fn ms(time: Duration) -> i64 {
    time.as_millis() as i64
}

async fn note(session: &Session, notes: &[Note]) -> Result<HookOutcome, Error> {
    let time = |at: u64| i64::try_from(at).unwrap_or(i64::MAX / 2);
    let steps: (Vec<i16>, Vec<i64>) = notes
        .iter()
        .map(|note| match note.step {
            Step::Begins => (1, 0),
            Step::Ends => (2, 0),
            Step::Repeats(pause_ms) => (3, time(pause_ms)),
        })
        .unzip();
    let column = |of: fn(&Note) -> &str| notes.iter().map(of).collect::<Vec<&str>>();
    let (hooks, subjects) = (column(|note| &note.hook), column(|note| &note.subject));
    let data = column(|note| note.delivery.as_ref().map_or("", |(_, data)| data));
    let event = |note: &Note| note.delivery.as_ref().map_or(-1, |(event, _)| event.number());
    let events: Vec<i16> = notes.iter().map(event).collect();
    let (versions, at): (Vec<i64>, Vec<i64>) = notes.iter().map(|note| (time(note.version), time(note.at))).unzip();
    let params: [&(dyn ToSql + Sync); 8] = [&hooks, &subjects, &steps.0, &steps.1, &versions, &events, &data, &at];
    session.statements.note.execute(&session.client, &params).await?;
    Ok(HookOutcome::Done)
}

async fn take(session: &Session, ask: &HookAsk) -> Result<HookOutcome, Error> {
    let Session { client, statements, ids, .. } = session;
    let HookAsk { hook, claim_ms, limit, look } = ask;
    let hook = &**hook;
    let look = if *look { Some(self::look(session, hook).await?) } else { None };
    let ended = statements.lock_hook.query(client, &[&hook]).await?.is_empty();
    let deliveries = match ended {
        true => Vec::new(),
        false => {
            let params: [&(dyn ToSql + Sync); 3] = [&hook, &i64::from(*limit), &claim_ms.cast_signed()];
            let rows = statements.take_deliveries.query(client, &params).await?;
            // What this version does not know stays, for a later one.
            rows.iter().filter_map(|row| read(ids, row)).collect()
        }
    };
    Ok(HookOutcome::Taken { deliveries, look, ended })
}

fn read(ids: &PostIds, row: &Row) -> Option<Delivery> {
    let unsigned = |at: usize| row.get::<_, i64>(at).max(0).cast_unsigned();
    let data = match row.get::<_, Option<i64>>(7) {
        None => row.get(4),
        Some(post) => {
            let [video, member, text] = [8, 9, 10].map(|at| row.get::<_, Option<&str>>(at));
            let text = text.filter(|_| row.get::<_, Option<i64>>(11).is_none());
            comment_data(video.unwrap_or_default(), &ids.text(post), member.unwrap_or_default(), text)
        }
    };
    Some(Delivery {
        number: row.get(0),
        id: delivery_id(ids, row.get(0)),
        sequence: unsigned(1),
        subject: row.get(2),
        event: HookEvent::of(row.get(3))?,
        data,
        at: unsigned(5),
        tries: u32::try_from(unsigned(6)).unwrap_or(u32::MAX),
    })
}

async fn look(session: &Session, hook: &str) -> Result<HookLook, Error> {
    let Session { client, statements, .. } = session;
    let most = i64::from(HOOK_EXPIRED_AT_ONCE);
    let expired = statements.expire_deliveries.execute(client, &[&hook, &ms(HOOK_AGE), &most]).await?;
    statements.forget_limited.execute(client, &[&hook, &(2 * ms(HOOK_LIMIT_EVERY))]).await?;
    let rows = statements.look_at_hook.query(client, &[&hook, &HOOK_WAITING_MAX.cast_signed()]).await?;
    let number = |row: &Row, at: usize| row.get::<_, Option<i64>>(at).map(|found| found.max(0).cast_unsigned());
    let found = |row: &Row| HookLook {
        waiting: number(row, 0).unwrap_or(0),
        oldest: number(row, 1),
        expired,
        left_out: number(row, 2).unwrap_or(0),
    };
    Ok(rows.first().map(found).unwrap_or_default())
}

async fn settle(
    session: &Session,
    hook: &HookKey,
    settled: &[(i64, Settling)],
    ends: bool,
) -> Result<HookOutcome, Error> {
    let Session { client, statements, .. } = session;
    let hook = &**hook;
    if ends {
        statements.end_hook.execute(client, &[&hook]).await?;
        return Ok(HookOutcome::Done);
    }
    let of =
        |wanted: Settling| settled.iter().filter(move |(_, settling)| *settling == wanted).map(|(number, _)| *number);
    let (done, untried): (Vec<i64>, Vec<i64>) = (of(Settling::Done).collect(), of(Settling::Untried).collect());
    let later = |(number, settling): &(i64, Settling)| match settling {
        Settling::Later(ms) => Some((*number, i64::try_from(*ms).unwrap_or(i64::MAX / 4))),
        _ => None,
    };
    let (failed, pauses): (Vec<i64>, Vec<i64>) = settled.iter().filter_map(later).unzip();
    if !done.is_empty() {
        statements.delivered.execute(client, &[&hook, &done]).await?;
    }
    if !untried.is_empty() {
        statements.untried.execute(client, &[&hook, &untried]).await?;
    }
    if !failed.is_empty() {
        statements.put_off.execute(client, &[&hook, &failed, &pauses]).await?;
    }
    Ok(HookOutcome::Done)
}

/// States that a hook's receiver was told of.
async fn states(session: &Session, hook: &str, after: &str, limit: u32) -> Result<HookOutcome, Error> {
    let statement = &session.statements.list_hook_states;
    let rows = statement.query(&session.client, &[&hook, &after, &i64::from(limit)]).await?;
    let state = |row: &Row| (row.get(0), row.get::<_, i64>(1).max(0).cast_unsigned());
    Ok(HookOutcome::States(rows.iter().map(state).collect()))
}
