//! One batch of commands as one transaction, and recovery after one that failed.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::db::health::{Disk, Failing, Health, Work};
use crate::db::post_id::PostIds;
use crate::db::sqlite::likes::Counts;
use crate::db::sqlite::memory::Befalls;
use crate::db::sqlite::place::{Claim, Claimant, Files};
use crate::db::sqlite::posts::Tables;
use crate::db::sqlite::schema::Missing;
use crate::db::sqlite::{history, hooks, likes, once, posts, receipts, rules, schema};
use crate::db::{Command, OpenError, Outcome, PostKind, StoreError, checks};
use crate::limits::{
    ONCE_SWEEP_PAGE, STORE_IDLE, STORE_LOOK, STORE_LOOK_BUSY, STORE_PROBE, STORE_PROBE_BYTES, STORE_PROBE_FAILED_BYTES,
};
use crate::runtime::clock::Times;
use crate::runtime::planted::{Mistake, planted};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
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

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Refused(error)
    }
}

/// The database connection with what it takes to run batches on it; knows nothing of threads or queues.
#[derive(Debug)]
pub(crate) struct Writer {
    place: Place,
    times: Times,
    /// None after a failure that a rollback may not have mended; the next batch opens it again.
    database: Option<Database>,
    counts: Counts,
    failing: Failing,
    health: Health,
    /// When the database is to be tried by a write that nobody asked for: only writes that somebody asks for put it off.
    probe_at: Instant,
    /// When it was last seen that the database's files are those that are open.
    looked: Instant,
    /// What was seen then.
    moved: Option<String>,
}

/// Where a database is.
#[derive(Debug)]
enum Place {
    File {
        path: PathBuf,
        /// Held for as long as this runs on the database.
        _claim: Claim,
    },
    /// One that other connections hold too: its name there.
    Memory(String),
}

/// An open database.
#[derive(Debug)]
struct Database {
    connection: Connection,
    ids: PostIds,
    /// None in memory.
    files: Option<Files>,
    times: Times,
    befalls: Befalls,
}

impl Database {
    fn open(path: &Path, missing: Missing) -> Result<Database, OpenError> {
        let connection = schema::open(path, missing)?;
        let ids = schema::post_ids(&connection, path)?;
        let (files, times) = (Some(Files::of(path)), Times::machine());
        Ok(Database { connection, ids, files, times, befalls: Befalls::Nothing })
    }

    fn open_again(place: &Place, times: &Times) -> Result<Database, OpenError> {
        match place {
            Place::File { path, .. } => Database::open(path, Missing::Refuse),
            Place::Memory(name) => {
                let connection = schema::open_in_memory(name)?;
                let ids = schema::post_ids(&connection, Path::new(name))?;
                Ok(Database { connection, ids, files: None, times: times.clone(), befalls: Befalls::Nothing })
            }
        }
    }

    fn posts(&self) -> Tables<'_> {
        let now = i64::try_from(self.times.unix_ms()).unwrap_or(i64::MAX);
        Tables { connection: &self.connection, ids: &self.ids, now }
    }
}

/// The disk that a database is on.
fn disk(path: &Path) -> Option<Disk> {
    let disk = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(Disk { bytes: disk.f_blocks.saturating_mul(disk.f_frsize), free: disk.f_bavail.saturating_mul(disk.f_frsize) })
}

impl Writer {
    /// A writer on a database in memory.
    pub(crate) fn in_memory(name: &str, times: Times) -> Result<Writer, OpenError> {
        let place = Place::Memory(name.to_owned());
        let database = Database::open_again(&place, &times)?;
        Ok(Writer::new(place, database, times))
    }

    pub(crate) fn open(path: &Path) -> Result<Writer, OpenError> {
        let path = std::path::absolute(path)
            .map_err(|error| OpenError::Failed { path: path.to_owned(), detail: error.to_string() })?;
        let claim = Claim::take(&path, Claimant::Node)?;
        let missing = if claim.was_made() { Missing::Refuse } else { Missing::Create };
        let database = Database::open(&path, missing).map_err(|error| match error {
            OpenError::Failed { .. } if missing == Missing::Refuse && !path.exists() => claim.gone(),
            OpenError::Empty { .. } => claim.gone(),
            error => error,
        })?;
        if let Err(error) = claim.keep() {
            tracing::warn!(%error, path = %path.display(), "if the database is deleted, that will not be noticed at the next start");
        }
        Ok(Writer::new(Place::File { path, _claim: claim }, database, Times::machine()))
    }

    fn new(place: Place, database: Database, times: Times) -> Writer {
        let now = times.instant();
        Writer {
            place,
            times,
            database: Some(database),
            counts: Counts::default(),
            failing: Failing::default(),
            health: Health::default(),
            probe_at: now + STORE_IDLE,
            looked: now,
            moved: None,
        }
    }

    /// Says from now on there whether the database works.
    pub(crate) fn report_to(&mut self, health: Health) {
        if let Some(database) = &self.database {
            health.opened(database.ids.database());
        }
        self.health = health;
    }

    /// Runs `commands` in order in one transaction and returns a result for each, after it is on disk. If the
    /// transaction fails, all that write are [`StoreError::Unavailable`] and none is stored.
    pub(crate) fn run(&mut self, commands: &[Command]) -> Vec<Result<Outcome, StoreError>> {
        self.counts.clear();
        let work = Work::of(commands);
        let result = match work {
            Work::Write => self.stays(STORE_LOOK_BUSY),
            Work::Read => {
                // Reads go on by the files that are open; who asks for nothing else is to learn of it all the same.
                if self.looked_before(STORE_LOOK) {
                    self.look_at_files();
                }
                Ok(())
            }
        };
        let result = result.and_then(|()| self.transact(commands));
        self.attempted(work, result.as_ref().map(drop).map_err(String::as_str));
        let detail = match result {
            Ok(results) => return results,
            Err(detail) => detail,
        };
        // They count what was not stored.
        self.counts.clear();
        let each = commands.iter().map(|command| {
            // What only reads failed in the company of what writes, and goes on without it.
            let goes_on = work == Work::Write && !command.writes();
            let alone = goes_on.then(|| self.transact(std::slice::from_ref(command)).ok()?.pop()).flatten();
            alone.unwrap_or_else(|| Err(StoreError::Unavailable { detail: detail.clone() }))
        });
        each.collect()
    }

    fn attempted(&mut self, work: Work, result: Result<(), &str>) {
        let failed = self.failing.what().is_some();
        if self.failing.attempted(work, result) {
            self.probe_later();
        }
        self.health.set(self.failing.what());
        if failed && self.times.instant() >= self.probe_at {
            self.probe();
        }
    }

    fn probe_later(&mut self) {
        let pause = if self.failing.what().is_none() { STORE_IDLE } else { STORE_PROBE };
        self.probe_at = self.times.instant() + pause;
    }

    /// How long the queue may stay empty before [`Writer::look`] is due.
    pub(crate) fn next_look(&self) -> Duration {
        self.probe_at.min(self.looked + STORE_LOOK).saturating_duration_since(self.times.instant())
    }

    /// Looks whether the database's files are still there, and now and then whether it works.
    pub(crate) fn look(&mut self) {
        self.look_at_files();
        if self.times.instant() >= self.probe_at {
            self.probe();
        }
    }

    /// Looks whether the database's files are those that are open; says so where they are no more.
    fn look_at_files(&mut self) {
        if let Err(moved) = self.stays(Duration::ZERO) {
            self.attempted(Work::Write, Err(&moved));
        }
    }

    fn looked_before(&self, age: Duration) -> bool {
        self.times.instant().saturating_duration_since(self.looked) >= age
    }

    /// Whether the files are those that are open, as of `age` ago at the earliest.
    fn stays(&mut self, age: Duration) -> Result<(), String> {
        if self.moved.is_some() || self.looked_before(age) {
            self.looked = self.times.instant();
            if let Place::File { path, .. } = &self.place {
                self.health.set_disk(disk(path));
            }
            self.moved = self.database.as_ref().and_then(|database| database.files.as_ref()?.check().err());
        }
        self.moved.clone().map_or(Ok(()), Err)
    }

    /// Finds out whether the database works, by writing to it as much as a post would; where it did not, as much as many would,
    /// since on a full disk there are often some pages left that are enough for one write and not for the next.
    pub(crate) fn probe(&mut self) {
        let bytes = if self.failing.what().is_some() { STORE_PROBE_FAILED_BYTES } else { STORE_PROBE_BYTES };
        let sql = format!(
            "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS probe (bytes BLOB);
             INSERT INTO probe VALUES (zeroblob({bytes})); COMMIT; DROP TABLE probe"
        );
        let stays = self.stays(Duration::ZERO);
        let result = stays.and_then(|()| self.with(|database, _| database.connection.execute_batch(&sql)));
        self.failing.tried(result.as_ref().map(drop).map_err(String::as_str));
        self.probe_later();
        self.health.set(self.failing.what());
    }

    fn transact(&mut self, commands: &[Command]) -> Result<Vec<Result<Outcome, StoreError>>, String> {
        self.with(|database, counts| transact(database, counts, commands))
    }

    /// Does something with the database, which is opened if it has to be, and given up where it may not be whole.
    fn with<R>(&mut self, run: impl FnOnce(&Database, &mut Counts) -> rusqlite::Result<R>) -> Result<R, String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::open_again(&self.place, &self.times).map_err(|error| error.to_string())?,
        };
        match run(&database, &mut self.counts) {
            Ok(results) => {
                self.database = Some(database);
                Ok(results)
            }
            Err(error) => {
                if recovers(&database.connection, &error) {
                    self.database = Some(database);
                }
                Err(error.to_string())
            }
        }
    }

    /// What befalls all that comes from now on.
    pub(crate) fn befall(&mut self, befalls: Befalls) {
        let database = self.database.take().or_else(|| Database::open_again(&self.place, &self.times).ok());
        self.database = database.map(|database| Database { befalls, ..database });
        if let Some(Database { connection, .. }) = &self.database {
            // No less than there are. Where somebody has it locked nothing is stored, whatever the limit.
            let pages = if befalls == Befalls::Full { 1 } else { u32::MAX - 1 };
            let _ = connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()));
        }
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.database.as_ref().map(|database| &database.connection)
    }
}

fn transact(
    database: &Database,
    counts: &mut Counts,
    commands: &[Command],
) -> rusqlite::Result<Vec<Result<Outcome, StoreError>>> {
    let connection = &database.connection;
    let writes = commands.iter().any(Command::writes);
    // Taking the write lock at once lets the busy timeout work: a reader that wants to become a writer while another
    // wrote fails at once. Reads alone need no lock, so they work on a database that is locked or full.
    let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
    connection.prepare_cached(begin)?.execute([])?;
    let mut results = Vec::with_capacity(commands.len());
    for command in commands {
        results.push(match execute(database, counts, command) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Statement(error)) if !connection.is_autocommit() && concerns_one(&error) => {
                Err(StoreError::Refused { detail: error.to_string() })
            }
            Err(Failure::Statement(error)) => return Err(error),
        });
    }
    if writes {
        counts.flush(connection)?;
    }
    let committed = database.befalls.commit(|| connection.prepare_cached("COMMIT")?.execute([]));
    if planted(Mistake::CommitUnchecked) {
        return Ok(results);
    }
    committed.map(|()| results)
}

fn execute(database: &Database, counts: &mut Counts, command: &Command) -> Result<Outcome, Failure> {
    let Database { connection, ids, .. } = database;
    checks::command(command, ids)?;
    match command {
        Command::Once { once, command } => {
            if let Some(outcome) = once::find(connection, once)? {
                return Ok(outcome);
            }
            let outcome = execute(database, counts, command)?;
            once::keep(connection, once, &outcome)?;
            Ok(outcome)
        }
        Command::Like { video, member, reaction, at } => counts.like(connection, video, member, reaction, *at),
        Command::Unlike { video, member, reaction } => counts.unlike(connection, video, member, reaction),
        Command::Taps { video, reaction, taps } => likes::tap(connection, video, reaction, *taps),
        Command::Counts { video } => counts.counts(connection, video),
        Command::Post { kind, place, member, text, standing, at, hooks } => {
            if *kind == PostKind::Comment
                && let Some(bar) = rules::bar(connection, place, member, *standing, *at)?
            {
                return Ok(Outcome::Barred(bar));
            }
            let author = (member.as_str(), *standing);
            posts::post(database.posts(), *kind, place, author, text, *at, hooks)
        }
        Command::DeletePost { kind, place, id, by, at } => {
            posts::delete(database.posts(), *kind, place, id, by.as_deref(), *at)
        }
        Command::ListPosts { kind, place, part, limit } => posts::list(database.posts(), *kind, place, part, *limit),
        Command::Mark(marks) => posts::mark(database.posts(), marks),
        Command::Unpublished(ask) => {
            let tables = database.posts();
            if ask.after.is_none() {
                once::sweep(connection, tables.now, ONCE_SWEEP_PAGE)?;
            }
            posts::unpublished(tables, ask)
        }
        Command::Receipt { conversation, member, message, at } => {
            receipts::receipt(connection, ids, conversation, member, message, *at)
        }
        Command::Receipts { conversation, after, limit } => {
            receipts::receipts(connection, ids, conversation, after.as_deref(), *limit)
        }
        Command::Rules { video } => rules::rules(connection, video),
        Command::SetRules { video, change, at } => rules::set(connection, video, *change, *at),
        Command::TimeOut { video, member, seconds, at } => {
            whole(connection, || rules::time_out(connection, video, member, *seconds, *at))
        }
        Command::Hooks(command) => hooks::run(database.posts(), command).map(Outcome::Hooks),
        Command::Keep(changes) => whole(connection, || history::keep(connection, changes)),
    }
}

/// Runs several changing statements of one command so that either all or none have an effect.
pub(crate) fn whole<R>(connection: &Connection, run: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    connection.prepare_cached("SAVEPOINT command")?.execute([])?;
    let result = run();
    // After some errors SQLite has ended the transaction, and the savepoint with it.
    if !connection.is_autocommit() {
        if result.is_err() {
            connection.prepare_cached("ROLLBACK TO command")?.execute([])?;
        }
        connection.prepare_cached("RELEASE command")?.execute([])?;
    }
    result
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
