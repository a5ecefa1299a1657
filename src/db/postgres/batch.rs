//! One batch of commands as one transaction: lock, read, work out, write, commit. A round trip for each, whatever the
//! number of commands.
use std::collections::{BTreeSet, HashSet};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use crate::db;
use crate::db::postgres::hooks;
use crate::db::postgres::likes::Likes;
use crate::db::postgres::once::Onces;
use crate::db::postgres::options::cause;
use crate::db::postgres::posts::{Known, Posts, Record, change_number, kind_number, kind_of};
use crate::db::postgres::rules::Rules;
use crate::db::postgres::session::{Session, ends_session};
use crate::db::postgres::statements::Asked;
use crate::db::rules::Past;
use crate::db::{
    Change, Command, OutboxAsk, Outcome, Part, Post, PostKind, Receipt, StoreError, Unpublished, checks, once,
};
use crate::limits::{
    ONCE_KEPT_MAX, ONCE_SWEEP_PAGE, ONCE_SWEPT, OUTBOX_PAGE_BYTES, OUTBOX_PAGE_MAX, POSTS_PAGE_BYTES_MAX,
    POSTS_PAGE_MAX, RECEIPTS_PAGE_MAX, STORE_NAME_BYTES_MAX,
};
use crate::wire::hooks::HookEvent;

/// Why a batch failed, and what may follow.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) detail: String,
    /// The connection can be used on, once the transaction is rolled back.
    pub(crate) kept: bool,
    /// Nothing is stored for sure, and the same may well work now.
    pub(crate) again: bool,
    /// Nothing is stored for sure, since a command will never be taken.
    pub(crate) refused: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().map_or("", |code| code.code());
        let kept = !ends_session(&error);
        Failure {
            detail: cause(&error),
            kept,
            // A connection that was found dead, a deadlock, a row that somebody made without the lock.
            again: !kept || code.starts_with("40") || code == UNIQUE,
            // What the values are about: data, constraints, sizes.
            refused: ["22", "23", "54"].iter().any(|class| code.starts_with(class)) && code != UNIQUE,
        }
    }
}

/// The state of a statement that would have made a row twice.
const UNIQUE: &str = "23505";

type Results = Vec<Option<Result<Outcome, StoreError>>>;

/// Rows that are locked: their kinds, and the videos and conversations.
#[derive(Debug, Default)]
struct Places<'a> {
    kinds: Vec<i16>,
    names: Vec<&'a str>,
}

/// What a batch locks for a command that changes what depends on what is stored.
const LIKES: i16 = 0;
const COMMENTS: i16 = 1;
const RECEIPTS: i16 = 3;

/// Refuses a command that PostgreSQL could not store, before it spoils the batch.
pub(crate) fn refuse(session: &Session, command: &Command) -> Result<(), StoreError> {
    checks::command(command, &session.ids)?;
    let none = "";
    let (names, text): ([&str; 3], &str) = match command.inner() {
        Command::Once { .. } => unreachable!("a request that is done once is one of another kind"),
        Command::Keep(_) => return Err(StoreError::Refused { detail: "history is kept in SQLite only".to_owned() }),
        Command::Like { video, member, reaction, .. } | Command::Unlike { video, member, reaction } => {
            ([video, member, reaction], none)
        }
        Command::Taps { video, reaction, .. } => ([video, reaction, none], none),
        Command::Counts { video } => ([video, none, none], none),
        Command::Post { place, member, text, .. } => ([place, member, none], text),
        Command::DeletePost { place, by, .. } => ([place, by.as_deref().unwrap_or(none), none], none),
        Command::ListPosts { place, .. } => ([place, none, none], none),
        Command::Mark(_) | Command::Unpublished(_) | Command::Hooks(_) => ([none; 3], none),
        Command::Receipt { conversation, member, .. } => ([conversation, member, none], none),
        Command::Receipts { conversation, after, .. } => ([conversation, after.as_deref().unwrap_or(none), none], none),
        Command::Rules { video } | Command::SetRules { video, .. } => ([video, none, none], none),
        Command::TimeOut { video, member, .. } => ([video, member, none], none),
    };
    if let Some(name) = names.iter().find(|name| name.len() > STORE_NAME_BYTES_MAX) {
        let detail = format!("a name of {} bytes; at most {STORE_NAME_BYTES_MAX} are kept", name.len());
        return Err(StoreError::Invalid { detail });
    }
    if names.iter().chain([&text]).any(|text| text.contains('\0')) {
        return Err(StoreError::Invalid { detail: "PostgreSQL keeps no text with U+0000".into() });
    }
    Ok(())
}

/// Runs `commands`, each of which passed [`refuse`], in order in one transaction. Returns a result for each after the
/// commit.
pub(crate) async fn run(session: &Session, commands: &[Command]) -> Result<Vec<Result<Outcome, StoreError>>, Failure> {
    let mut batch = Batch::of(session, commands);
    let writes = commands.iter().any(Command::writes);
    if writes {
        batch.read_locked().await?;
    } else {
        batch.read().await?;
    }
    let mut results = batch.work_out();
    let changed = writes && batch.write(&mut results).await?;
    batch.list(&mut results).await?;
    if writes {
        // Of a batch that failed before this, nothing is stored. Of one whose commit got no answer, nobody knows. Where
        // nothing changed (likes that were there before), locks are all there is to end, and no flush is waited for.
        let end = if changed { "COMMIT" } else { "ROLLBACK" };
        session.client.batch_execute(end).await.map_err(|error| Failure {
            detail: cause(&error),
            kept: false,
            again: false,
            refused: false,
        })?;
    } else if !session.keeps {
        session.client.batch_execute("COMMIT").await?;
    }
    Ok(results.into_iter().map(|result| result.expect("every command has been run")).collect())
}

struct Batch<'a> {
    session: &'a Session,
    commands: &'a [Command],
    likes: Likes<'a>,
    posts: Posts<'a>,
    onces: Onces<'a>,
    rules: Rules<'a>,
    places: Places<'a>,
}

impl<'a> Batch<'a> {
    fn of(session: &'a Session, commands: &'a [Command]) -> Batch<'a> {
        let (mut likes, mut posts, mut onces) = (Likes::default(), Posts::new(&session.ids), Onces::default());
        let (mut rules, mut places) = (Rules::default(), BTreeSet::new());
        for command in commands {
            onces.add(command);
            let command = command.inner();
            likes.add(command);
            posts.add(command);
            rules.add(command);
            match command {
                Command::Post { kind, place, .. } | Command::DeletePost { kind, place, .. } => {
                    places.insert((COMMENTS + kind_number(*kind), place.as_str()));
                }
                // What binds the video's comments.
                Command::SetRules { video, .. } | Command::TimeOut { video, .. } => {
                    places.insert((COMMENTS + kind_number(PostKind::Comment), video.as_str()));
                }
                Command::Receipt { conversation, .. } => {
                    places.insert((RECEIPTS, conversation.as_str()));
                }
                _ => {}
            }
        }
        places.extend(likes.written_videos().map(|video| (LIKES, video)));
        let (kinds, names) = places.into_iter().unzip();
        Batch { session, commands, likes, posts, onces, rules, places: Places { kinds, names } }
    }

    /// Begins the transaction, locks, and reads. All of it is on its way before the first answer comes; the server does one
    /// after the other, and each statement sees what was committed before it began, that is, before the locks were had.
    async fn read_locked(&mut self) -> Result<(), Failure> {
        let (session, statements) = (self.session, &self.session.statements);
        let Places { kinds, names } = &self.places;
        let (.., found) = tokio::try_join!(
            biased;
            session.client.batch_execute(&session.begin),
            query(session, &statements.make_places, names.is_empty(), [kinds, names]),
            query(session, &statements.lock_places, names.is_empty(), [kinds, names]),
            look_up(self),
        )?;
        self.take_in(found);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let session = self.session;
        let begin = async { if session.keeps { Ok(()) } else { session.client.batch_execute(&session.begin).await } };
        let ((), found) = tokio::try_join!(
            biased;
            begin,
            look_up(self),
        )?;
        self.take_in(found);
        Ok(())
    }

    fn take_in(&mut self, found: Found) {
        self.onces.found(&found.onces);
        let position = |row: &Row| usize::try_from(row.get::<_, i64>(0) - 1).expect("places in arrays count from 1");
        self.likes.found(found.likes.iter().map(position));
        for row in &found.counts {
            self.likes.count(row.get(0), row.get(1), row.get::<_, i64>(2).max(0).cast_unsigned());
        }
        for row in &found.taps {
            self.likes.tapped(row.get(0), row.get(1), row.get::<_, i64>(2).max(0).cast_unsigned());
        }
        let known = found.posts.iter().map(|row| {
            (row.get(0), Known { kind: row.get(1), place: row.get(2), member: row.get(3), deleted: row.get(4) })
        });
        let members = found.members.iter();
        let members = members.map(|row| (position(row), Past { until: row.get(1), commented: row.get(2) }));
        self.rules.found(&found.rules, members);
        let numbers = found.numbers.iter().map(|row| row.get(0)).collect();
        self.posts.found(numbers, known, found.receipts.iter().map(|row| (position(row), row.get(1))));
    }

    fn work_out(&mut self) -> Results {
        let commands = self.commands;
        let mut run = |command: &'a Command| {
            // Before posts, since rules may bar one.
            self.likes.run(command).or_else(|| self.rules.run(command)).or_else(|| self.posts.run(command))
        };
        let once = |command: &'a Command| match command {
            Command::Once { once, command } => Some(match self.onces.repeated(once) {
                Some(outcome) => Ok(outcome),
                None => {
                    let result = run(command)?;
                    self.onces.keep(once, &result);
                    result
                }
            }),
            command => run(command),
        };
        commands.iter().map(once).collect()
    }

    /// Writes what changed, and answers what the writing itself tells. Returns whether anything changed.
    async fn write(&mut self, results: &mut Results) -> Result<bool, Failure> {
        let (session, statements) = (self.session, &self.session.statements);
        let deleted = self.likes.deleted();
        let (inserted, inserted_at) = self.likes.inserted();
        let counts = self.likes.changed_counts();
        let (mut kept, mut gone) = ((Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (video, reaction, likes) in counts {
            if likes > 0 {
                kept.0.push(video);
                kept.1.push(reaction);
                kept.2.push(likes.cast_signed());
            } else {
                gone.0.push(video);
                gone.1.push(reaction);
            }
        }
        let taps = self.likes.added_taps();
        let posts = &self.posts.inserted;
        let (deleted_posts, deleted_at): (Vec<i64>, Vec<i64>) = self.posts.deleted.iter().unzip();
        let (unrecorded, unrecorded_changes): (Vec<i64>, Vec<i16>) = self.posts.unrecorded.iter().copied().unzip();
        let (recorded, recorded_changes, always) = self.posts.recorded();
        let receipts = self.posts.moved_receipts();
        let likes_changed =
            !(deleted.is_empty() && inserted.is_empty() && kept.0.is_empty() && gone.0.is_empty() && taps.0.is_empty());
        // Every new post and every deletion is recorded.
        let (left, left_changes): (Vec<i64>, Vec<i16>) = self.posts.left.iter().copied().unzip();
        let posts_changed = !(recorded.is_empty() && unrecorded.is_empty() && left.is_empty() && receipts.0.is_empty());
        let onces = self.onces.kept();
        let (most, oldest) =
            (onces.0.len() as i64 * ONCE_SWEPT, once::oldest(self.onces.newest().cast_unsigned()).cast_signed());
        let (rules, (timed_out, ended)) = (self.rules.changed(), self.rules.timed_out());
        let rules_changed = !(rules.0.is_empty() && timed_out.0.is_empty());
        let mut changed = likes_changed || posts_changed || rules_changed || !onces.0.is_empty();
        // Records are taken out before others are made: nobody can have published what is made here.
        let (hooked, commented) = (&posts.hooked, HookEvent::CommentPosted.number());
        let (.., removed, _, _, _, _, _, _, _, _, _, _) = tokio::try_join!(
            biased;
            query(session, &statements.delete_likes, deleted.is_empty(), [&deleted.videos, &deleted.members, &deleted.reactions]),
            query(session, &statements.insert_likes,
                inserted.is_empty(),
                [&inserted.videos, &inserted.members, &inserted.reactions, &inserted_at],
            ),
            query(session, &statements.write_counts, kept.0.is_empty(), [&kept.0, &kept.1, &kept.2]),
            query(session, &statements.delete_counts, gone.0.is_empty(), [&gone.0, &gone.1]),
            query(session, &statements.insert_posts,
                posts.numbers.is_empty(),
                [&posts.numbers, &posts.kinds, &posts.places, &posts.members, &posts.texts, &posts.at],
            ),
            query(session, &statements.delete_posts, deleted_posts.is_empty(), [&deleted_posts, &deleted_at]),
            query(session, &statements.unrecord, unrecorded.is_empty(), [&unrecorded, &unrecorded_changes]),
            query(session, &statements.leave, left.is_empty(), [&left, &left_changes]),
            query(session, &statements.hook_comments,
                hooked.0.is_empty(),
                [&hooked.0, &hooked.1, &hooked.2, &hooked.3, &commented],
            ),
            query(session, &statements.record, recorded.is_empty(), [&recorded, &recorded_changes, &always]),
            query(session, &statements.write_receipts,
                receipts.0.is_empty(),
                [&receipts.0, &receipts.1, &receipts.2, &receipts.3],
            ),
            query(session, &statements.keep_once,
                onces.0.is_empty(),
                [&onces.0, &onces.1, &onces.2, &onces.3, &onces.4],
            ),
            query(session, &statements.add_taps, taps.0.is_empty(), [&taps.0, &taps.1, &taps.2]),
            query(session, &statements.sweep_once, onces.0.is_empty(), [&most, &oldest, &ONCE_KEPT_MAX]),
            query(session, &statements.write_rules, rules.0.is_empty(), [&rules.0, &rules.1, &rules.2, &rules.3]),
            query(session, &statements.write_timeouts, timed_out.0.is_empty(), [&timed_out.0, &timed_out.1, &timed_out.2]),
            query(session, &statements.end_timeouts, timed_out.0.is_empty(), [&timed_out.0, &ended]),
        )?;
        let mut removed: HashSet<Record> = removed.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (command, result) in self.commands.iter().zip(results) {
            match command {
                Command::Mark(marks) => {
                    let number = |record: &db::Record| self.session.ids.number(&record.id);
                    let is_gone = |record: &&db::Record| {
                        number(record).is_some_and(|number| removed.remove(&(number, change_number(record.change))))
                    };
                    *result = Some(Ok(Outcome::Marked { removed: marks.published.iter().filter(is_gone).count() }));
                }
                Command::Unpublished(ask) => {
                    let (outcome, listing_changed) = self.unpublished(ask).await?;
                    changed |= listing_changed;
                    *result = Some(Ok(outcome));
                }
                Command::Hooks(command) if command.writes() => {
                    changed = true;
                    *result = Some(Ok(Outcome::Hooks(hooks::run(session, command).await?)));
                }
                _ => {}
            }
        }
        Ok(changed)
    }

    /// Answers the lists, after what was submitted before them.
    async fn list(&self, results: &mut Results) -> Result<(), Failure> {
        let Session { client, statements, ids, .. } = self.session;
        for (command, result) in self.commands.iter().zip(results) {
            match command {
                Command::ListPosts { kind, place, part, limit } => {
                    let limit = (*limit).clamp(1, POSTS_PAGE_MAX) as usize;
                    // One more than asked for, to know whether there is one.
                    let (kind, rows) = (kind_number(*kind), limit as i64 + 1);
                    let id = part.id().and_then(|id| ids.number(id)).unwrap_or(i64::MAX);
                    let ascending = matches!(part, Part::After(_));
                    let statement = if ascending { &statements.posts_after } else { &statements.posts_before };
                    let rows = statement.query(client, &[&kind, place, &id, &rows]).await?;
                    *result = Some(Ok(self.page(&rows, limit, !ascending)));
                }
                Command::Receipts { conversation, after, limit } => {
                    let limit = (*limit).clamp(1, RECEIPTS_PAGE_MAX) as usize;
                    let after = after.as_deref().unwrap_or("");
                    let params: [&(dyn ToSql + Sync); 3] = [conversation, &after, &(limit as i64 + 1)];
                    let rows = statements.list_receipts.query(client, &params).await?;
                    let receipt = |row: &Row| Receipt {
                        member: row.get(0),
                        message: ids.text(row.get(1)),
                        at: row.get::<_, i64>(2).max(0).cast_unsigned(),
                    };
                    let receipts = rows.iter().take(limit).map(receipt).collect();
                    *result = Some(Ok(Outcome::Receipts { receipts, more: rows.len() > limit }));
                }
                Command::Hooks(command) if !command.writes() => {
                    *result = Some(Ok(Outcome::Hooks(hooks::run(self.session, command).await?)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn page(&self, rows: &[Row], limit: usize, newest_first: bool) -> Outcome {
        let (mut posts, mut bytes) = (Vec::new(), 0);
        for row in rows.iter().take(limit) {
            let text: String = row.get(2);
            bytes += text.len();
            if !posts.is_empty() && bytes > POSTS_PAGE_BYTES_MAX {
                break;
            }
            let at = row.get::<_, i64>(3).max(0).cast_unsigned();
            posts.push(Post { id: self.session.ids.text(row.get(0)), member: row.get(1), text, at });
        }
        let more = posts.len() < rows.len();
        if newest_first {
            posts.reverse();
        }
        Outcome::Posts { posts, more }
    }

    /// Lists what is due in the outbox, with the lease if that is to be had: first the lease, since what is listed before may
    /// be published by who has it. Returns whether anything changed.
    async fn unpublished(&self, ask: &OutboxAsk) -> Result<(Outcome, bool), Failure> {
        let OutboxAsk { holder, lease_ms, after, older_than_ms, limit } = ask;
        let Session { client, statements, ids, .. } = self.session;
        // The longest times still leave a sum that fits.
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX).min(i64::MAX / 4);
        let (older_than, lease) = (ms(*older_than_ms), ms(*lease_ms));
        let mut changed = false;
        if after.is_none() {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_millis() as u64);
            let oldest = once::oldest(now).cast_signed();
            let swept = statements.sweep_once.execute(client, &[&ONCE_SWEEP_PAGE, &oldest, &ONCE_KEPT_MAX]).await?;
            changed = swept > 0;
        }
        let is_due = statements.is_due.query(client, &[&older_than]).await?;
        if !is_due.iter().any(|row| row.get(0)) {
            return Ok((Outcome::Unpublished { posts: Vec::new(), more: false, elsewhere: false }, changed));
        }
        let elsewhere = statements.take_lease.query(client, &[holder, &lease]).await?.is_empty();
        changed |= !elsewhere;
        let limit = (*limit).clamp(1, OUTBOX_PAGE_MAX) as usize;
        let (post, change) =
            after.as_ref().map_or((0, 0), |after| (ids.number(&after.id).unwrap_or(0), change_number(after.change)));
        let rows = statements.list_outbox.query(client, &[&older_than, &post, &change, &(limit as i64 + 1)]).await?;
        let (mut posts, mut bytes) = (Vec::new(), 0);
        for row in rows.iter().take(limit) {
            let post = self.unpublished_post(row);
            bytes += post.text.len();
            if !posts.is_empty() && bytes > OUTBOX_PAGE_BYTES {
                break;
            }
            posts.push(post);
        }
        let more = posts.len() < rows.len();
        Ok((Outcome::Unpublished { posts, more, elsewhere }, changed))
    }

    fn unpublished_post(&self, row: &Row) -> Unpublished {
        Unpublished {
            kind: kind_of(row.get(2)),
            place: row.get(3),
            record: db::Record {
                id: self.session.ids.text(row.get(0)),
                change: if row.get::<_, i16>(1) == 0 { Change::Posted } else { Change::Deleted },
            },
            member: row.get(4),
            text: row.get(5),
            always: row.get::<_, i16>(6) != 0,
        }
    }
}

/// What was looked up for a batch.
struct Found {
    likes: Vec<Row>,
    counts: Vec<Row>,
    taps: Vec<Row>,
    numbers: Vec<Row>,
    posts: Vec<Row>,
    receipts: Vec<Row>,
    onces: Vec<Row>,
    rules: Vec<Row>,
    members: Vec<Row>,
}

async fn look_up(batch: &Batch<'_>) -> Result<Found, Error> {
    let Batch { session, commands, likes, posts, onces, rules, .. } = batch;
    let statements = &session.statements;
    let (keys, videos, counted) = (likes.keys(), likes.videos(), likes.counted_videos());
    let new = commands.iter().filter(|command| matches!(command.inner(), Command::Post { .. })).count() as i64;
    let needed: BTreeSet<i64> = commands.iter().filter_map(|command| posts.needed(command)).collect();
    let needed: Vec<i64> = needed.into_iter().collect();
    let (conversations, members) = posts.receipt_keys();
    let onces = onces.keys();
    let ((videos_ruled, changing), (member_videos, names)) = (rules.videos(), rules.members());
    let (likes, counts, taps, numbers, posts, receipts, onces, rules, members) = tokio::try_join!(
        biased;
        query(session, &statements.find_likes, keys.is_empty(), [&keys.videos, &keys.members, &keys.reactions]),
        query(session, &statements.read_counts, videos.is_empty(), [&videos]),
        query(session, &statements.read_taps, counted.is_empty(), [&counted]),
        query(session, &statements.take_ids, new == 0, [&new]),
        query(session, &statements.find_posts, needed.is_empty(), [&needed]),
        query(session, &statements.find_receipts, conversations.is_empty(), [&conversations, &members]),
        query(session, &statements.find_once, onces.is_empty(), [&onces]),
        query(session, &statements.find_rules, videos_ruled.is_empty(), [&videos_ruled]),
        query(session, &statements.find_members, names.is_empty(), [&member_videos, &names, &changing]),
    )?;
    Ok(Found { likes, counts, taps, numbers, posts, receipts, onces, rules, members })
}

/// Asks, unless there is nothing to ask about.
async fn query<const N: usize>(
    session: &Session,
    statement: &Asked,
    nothing: bool,
    params: [&(dyn ToSql + Sync); N],
) -> Result<Vec<Row>, Error> {
    if nothing { Ok(Vec::new()) } else { statement.query(&session.client, &params).await }
}
