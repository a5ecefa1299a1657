//! Opening a database file: connection settings, ownership, migrations.
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::db::OpenError;
use crate::db::post_id::PostIds;
use crate::db::sqlite::history;
use crate::limits::{RESTORED_IDS, STORE_BUSY_MS, STORE_CACHE_KIB, STORE_PAGE_BYTES, STORE_WAL_PAGES};

/// Marks a file as Fanfare's in `PRAGMA application_id`: "Fanf".
const APPLICATION_ID: i64 = 0x4661_6e66;

/// Statements that lead from version `index` to `index + 1`. Append only: databases in the field have run the others.
const MIGRATIONS: &[&str] = &[
    // The counts are kept beside the likes so that one like costs the same on a video with ten million of them.
    "CREATE TABLE likes (
         video TEXT NOT NULL, member TEXT NOT NULL, reaction TEXT NOT NULL, at INTEGER NOT NULL,
         PRIMARY KEY (video, member, reaction)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE like_counts (
         video TEXT NOT NULL, reaction TEXT NOT NULL, likes INTEGER NOT NULL CHECK (likes > 0),
         PRIMARY KEY (video, reaction)
     ) STRICT, WITHOUT ROWID;",
    // The name makes ids of posts differ from those of other databases. A deleted post keeps its row, without its text, so
    // that its id is never given again and receipts that name it hold.
    "CREATE TABLE database (name TEXT NOT NULL) STRICT;
     INSERT INTO database VALUES (lower(hex(randomblob(4))));
     CREATE TABLE posts (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         kind INTEGER NOT NULL, place TEXT NOT NULL, member TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL,
         deleted_at INTEGER
     ) STRICT;
     CREATE INDEX posts_of_place ON posts (kind, place, id) WHERE deleted_at IS NULL;
     CREATE TABLE outbox (
         post INTEGER NOT NULL, change INTEGER NOT NULL, stored_at INTEGER NOT NULL, claimed_until INTEGER NOT NULL,
         PRIMARY KEY (post, change)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX outbox_by_age ON outbox (stored_at, post, change);
     CREATE TABLE receipts (
         conversation TEXT NOT NULL, member TEXT NOT NULL, message INTEGER NOT NULL, at INTEGER NOT NULL,
         PRIMARY KEY (conversation, member)
     ) STRICT, WITHOUT ROWID;",
    // Numbers tell the oldest and how many there are without counting.
    "CREATE TABLE once (
         number INTEGER PRIMARY KEY AUTOINCREMENT,
         key TEXT NOT NULL UNIQUE, body TEXT NOT NULL, status INTEGER NOT NULL, answer TEXT NOT NULL, at INTEGER NOT NULL
     ) STRICT;",
    // Of the embedded key-value store: its events by place, the newest that each topic gave up, and since when nothing else
    // is missing; no row there is history that was not kept here.
    "CREATE TABLE history (
         topic TEXT NOT NULL, ms INTEGER NOT NULL, seq INTEGER NOT NULL, prev_ms INTEGER, prev_seq INTEGER,
         kind TEXT NOT NULL, age_ms INTEGER NOT NULL, event TEXT,
         PRIMARY KEY (topic, ms, seq)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE history_reach (
         topic TEXT PRIMARY KEY, ms INTEGER NOT NULL, seq INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE history_since (ms INTEGER NOT NULL) STRICT;",
    // Who publishes what is due in the outbox, and until when nobody else does.
    "CREATE TABLE outbox_lease (
         one INTEGER PRIMARY KEY CHECK (one = 0), holder INTEGER NOT NULL, until INTEGER NOT NULL
     ) STRICT;",
    "CREATE TABLE taps (
         video TEXT NOT NULL, reaction TEXT NOT NULL, taps INTEGER NOT NULL CHECK (taps > 0),
         PRIMARY KEY (video, reaction)
     ) STRICT, WITHOUT ROWID;",
    // What binds who comments on a video. The index finds a member's newest comment, deleted or not, for slow mode.
    "CREATE TABLE rules (
         video TEXT PRIMARY KEY, slow_seconds INTEGER NOT NULL, comments INTEGER NOT NULL, version INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE timeouts (
         video TEXT NOT NULL, member TEXT NOT NULL, until INTEGER NOT NULL,
         PRIMARY KEY (video, member)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX comments_of_member ON posts (place, member, id) WHERE kind = 0;",
    // 1 of what is shown whatever the pace: its author may moderate the topic.
    "ALTER TABLE outbox ADD COLUMN always INTEGER NOT NULL DEFAULT 0;",
    // A hook's deliveries, until its receiver took them: when each is due, and its number once it was taken first, else 0. A
    // comment's data is made of the comment. States are those that receivers were told of; of a limit, when it was told last.
    "CREATE TABLE hooks (
         hook TEXT PRIMARY KEY, sequence INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0,
         is_full INTEGER NOT NULL DEFAULT 0,
         left_out INTEGER NOT NULL DEFAULT 0
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE hook_deliveries (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         hook TEXT NOT NULL, subject TEXT NOT NULL, event INTEGER NOT NULL, data TEXT NOT NULL, post INTEGER,
         at INTEGER NOT NULL, stored_at INTEGER NOT NULL, sequence INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
         next_try INTEGER NOT NULL DEFAULT 0
     ) STRICT;
     CREATE INDEX hook_deliveries_due ON hook_deliveries (hook, next_try, id);
     CREATE INDEX hook_deliveries_of_subject ON hook_deliveries (hook, subject, next_try);
     CREATE INDEX hook_deliveries_by_age ON hook_deliveries (hook, stored_at);
     CREATE TABLE hook_states (
         hook TEXT NOT NULL, subject TEXT NOT NULL, version INTEGER NOT NULL,
         PRIMARY KEY (hook, subject)
     ) STRICT, WITHOUT ROWID;",
];

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;

/// Whether a missing file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// At the first start: an empty database is what a new node has.
    Create,
    /// Ever after: a file that went away, or was emptied, must not silently turn into an empty database.
    Refuse,
}

/// Opens and checks the database at `path` and brings it to the newest version.
pub(crate) fn open(path: &Path, missing: Missing) -> Result<Connection, OpenError> {
    // SQLite gives a meaning to names such as ":memory:" and "file:…", but not to absolute paths; and a later change of
    // the working directory must not lead to another file.
    let absolute = std::path::absolute(path)
        .map_err(|error| OpenError::Failed { path: path.to_owned(), detail: error.to_string() })?;
    let path = absolute.as_path();
    let directory = path.parent().unwrap_or(path);
    if !directory.is_dir() {
        return Err(OpenError::DirectoryMissing { path: path.to_owned(), directory: directory.to_owned() });
    }
    // No mutex, since one thread at a time uses the connection.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if missing == Missing::Create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let named = |error| named(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(named)?;
    // SQLite falls back to reading when it may not write; that would only show at the first like.
    if connection.is_readonly("main").map_err(named)? {
        return Err(OpenError::ReadOnly { path: path.to_owned() });
    }
    connection.busy_timeout(Duration::from_millis(STORE_BUSY_MS)).map_err(named)?;
    // Checked before anything is changed, so that a file that is not ours stays as it was.
    check_owner(&connection, path, missing)?;
    configure(&connection, path)?;
    migrate(&mut connection, MIGRATIONS).map_err(named)?;
    Ok(connection)
}

/// Opens the database in memory of this name, which lives as long as somebody has it open.
pub(crate) fn open_in_memory(name: &str) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let named = |error| named(name.as_ref(), error);
    let mut connection = Connection::open_with_flags(format!("file:/{name}?vfs=memdb"), flags).map_err(named)?;
    keep_statements(&connection).map_err(named)?;
    // A lock is no reason to let time pass.
    connection.busy_timeout(Duration::ZERO).map_err(named)?;
    migrate(&mut connection, MIGRATIONS).map_err(named)?;
    Ok(connection)
}

/// Refuses a file of somebody else, one that this build does not know, and with [`Missing::Refuse`] one without anything.
pub(crate) fn check_owner(connection: &Connection, path: &Path, missing: Missing) -> Result<(), OpenError> {
    let read =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| named(path, error));
    let application = read("PRAGMA application_id")?;
    let objects = read("SELECT count(*) FROM sqlite_schema")?;
    if application != APPLICATION_ID && (application != 0 || objects != 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if application != APPLICATION_ID && missing == Missing::Refuse {
        return Err(OpenError::Empty { path: path.to_owned() });
    }
    let found = read("PRAGMA user_version")?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(())
}

fn configure(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let named = |error| named(path, error);
    // Only a new file takes this. Likes land on random pages and a commit writes each page it touched, so a smaller page than
    // the usual 4 KiB writes less: likes over 10,000 videos gained 10 to 15 %, and 1 KiB pages nothing more.
    connection.pragma_update(None, "page_size", STORE_PAGE_BYTES).map_err(named)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(named)?;
    if mode != "wal" {
        return Err(OpenError::Failed {
            path: path.to_owned(),
            detail: format!("its file system allows no write-ahead log (journal mode {mode}); use a local disk"),
        });
    }
    // FULL flushes the log at every commit: an answer means that a power cut loses nothing.
    connection.pragma_update(None, "synchronous", "FULL").map_err(named)?;
    connection.pragma_update(None, "cache_size", -i64::from(STORE_CACHE_KIB)).map_err(named)?;
    // The pragma answers with a row, which pragma_update does not take.
    connection.query_row(&format!("PRAGMA wal_autocheckpoint = {STORE_WAL_PAGES}"), [], |_| Ok(())).map_err(named)?;
    keep_statements(connection).map_err(named)
}

/// Statements are prepared once. Without the stability of plans one whose LIMIT is bound would be anew with each number that is.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// How ids of posts look in this database.
pub(crate) fn post_ids(connection: &Connection, path: &Path) -> Result<PostIds, OpenError> {
    let name = connection.query_row("SELECT name FROM database", [], |row| row.get(0));
    Ok(PostIds::new(name.map_err(|error| named(path, error))?))
}

/// Leaves out ids of posts, far more than can have been given since this copy of a database was made: viewers take what
/// comes under an id that they know for a repeat. And forgets history, which lacks what came since.
pub(crate) fn skip_ids(copy: &Connection) -> rusqlite::Result<()> {
    let has = |table: &str| -> rusqlite::Result<bool> {
        copy.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)", [table], |row| row.get(0))
    };
    if has("history_since")? {
        history::forget_all(copy)?;
    }
    if !has("posts")? {
        return Ok(());
    }
    copy.execute_batch(&format!(
        "INSERT INTO sqlite_sequence SELECT 'posts', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'posts');
         UPDATE sqlite_sequence SET seq = seq + {RESTORED_IDS} WHERE name = 'posts'"
    ))
}

/// Runs what is missing of `migrations`, each in a transaction with the version it leads to.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    loop {
        // The version is read under the write lock, since another process may be starting on the same file.
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version >= migrations.len() as i64 {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if let Some(migration) = usize::try_from(version).ok().and_then(|version| migrations.get(version)) {
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version + 1)?;
        }
        transaction.commit()?;
    }
}

pub(crate) fn named(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path },
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Failed { path, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version")
    }

    #[test]
    fn migrations_run_in_order_once_and_from_where_the_file_is() {
        let mut connection = Connection::open_in_memory().expect("memory");
        let first = "CREATE TABLE a (x) ; INSERT INTO a VALUES (1)";
        let second = "INSERT INTO a SELECT x + 1 FROM a";
        migrate(&mut connection, &[first]).expect("first");
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, &[first, second]).expect("second");
        migrate(&mut connection, &[first, second]).expect("nothing left");
        assert_eq!(version(&connection), 2);
        let rows: i64 = connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).expect("rows");
        assert_eq!(rows, 2);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it_whole() {
        let mut connection = Connection::open_in_memory().expect("memory");
        let broken = "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)";
        migrate(&mut connection, &["CREATE TABLE a (x)", broken]).expect_err("the second is broken");
        assert_eq!(version(&connection), 1);
        let tables: String =
            connection.query_row("SELECT group_concat(name) FROM sqlite_schema", [], |row| row.get(0)).expect("tables");
        assert_eq!(tables, "a");
    }

    #[test]
    fn an_empty_file_is_version_0_and_becomes_a_durable_database_of_the_newest() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fanfare.db");
        std::fs::write(&path, b"").expect("file");
        assert!(matches!(open(&path, Missing::Refuse), Err(OpenError::Empty { .. })), "one that was emptied stays so");
        let connection = open(&path, Missing::Create).expect("opens");
        assert_eq!(version(&connection), MIGRATIONS.len() as i64);
        let pragma = |name: &str| {
            connection
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
                .expect("pragma")
        };
        assert_eq!(pragma("synchronous"), 2.into(), "FULL");
        assert_eq!(pragma("page_size"), i64::from(STORE_PAGE_BYTES).into());
        assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
        assert_eq!(pragma("busy_timeout"), (STORE_BUSY_MS as i64).into());
        assert_eq!(pragma("wal_autocheckpoint"), i64::from(STORE_WAL_PAGES).into());
    }

    #[test]
    fn a_database_of_the_first_version_keeps_its_likes_and_gets_a_name() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fanfare.db");
        let mut old = Connection::open(&path).expect("old");
        migrate(&mut old, &MIGRATIONS[..1]).expect("the first version");
        old.execute_batch(
            "INSERT INTO likes VALUES ('v', 'm', 'like', 1); INSERT INTO like_counts VALUES ('v', 'like', 1)",
        )
        .expect("a like");
        drop(old);
        let names: Vec<PostIds> = (0..2)
            .map(|_| {
                let connection = open(&path, Missing::Create).expect("opens");
                let likes: i64 =
                    connection.query_row("SELECT count(*) FROM likes", [], |row| row.get(0)).expect("likes");
                assert_eq!(likes, 1);
                post_ids(&connection, &path).expect("a name")
            })
            .collect();
        assert_eq!(names[0], names[1], "it stays");
        let other = open(&directory.path().join("other.db"), Missing::Create).expect("opens");
        assert_ne!(post_ids(&other, &path).expect("a name"), names[0], "another has another");
        let id = names[0].text(1);
        assert!(id.len() == 10 && id[2..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_names_the_path() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name);
        let check = |path: &Path, says: &str| {
            let error = open(path, Missing::Create).expect_err("cannot be opened");
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains(says), "{text}");
        };

        check(&at("missing/fanfare.db"), "does not exist");
        std::fs::write(at("text"), "no database ".repeat(1_000)).expect("file");
        check(&at("text"), "not an SQLite database");
        check(directory.path(), "unable to open");

        let other = Connection::open(at("other.db")).expect("other");
        other.execute_batch("CREATE TABLE likes (x)").expect("table");
        check(&at("other.db"), "another program");
        let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("tables");
        assert_eq!(tables, 1, "the other program's file was left alone");

        let newer = open(&at("newer.db"), Missing::Create).expect("opens");
        newer.pragma_update(None, "user_version", 99).expect("version");
        check(&at("newer.db"), "schema version 99");

        let locked = open(&at("locked.db"), Missing::Create).expect("opens");
        locked.pragma_update(None, "user_version", 0).expect("version");
        locked.execute_batch("BEGIN IMMEDIATE").expect("lock");
        check(&at("locked.db"), "locked");
    }

    #[test]
    fn a_name_that_means_something_to_sqlite_is_a_file_all_the_same() {
        for name in [":memory:", "file:a?mode=memory", "a b%20c#d"] {
            let directory = tempfile::tempdir().expect("directory");
            drop(open(&directory.path().join(name), Missing::Create).expect("opens"));
            let names: Vec<_> = std::fs::read_dir(directory.path())
                .expect("directory")
                .map(|entry| entry.expect("entry").file_name())
                .collect();
            assert_eq!(names, [name]);
        }
        assert!(open(Path::new(""), Missing::Create).is_err());
    }

    #[test]
    fn reopening_does_not_make_an_empty_database_of_one_that_went_away() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("gone.db");
        assert!(matches!(open(&path, Missing::Refuse), Err(OpenError::Failed { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn a_read_only_database_is_refused_at_start() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fanfare.db");
        drop(open(&path, Missing::Create).expect("opens"));
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
        };
        mode(directory.path(), 0o755);
        mode(&path, 0o444);
        let error = std::thread::spawn(move || {
            // Root may write anything, so this thread (and only it) sheds root's right on files first.
            // SAFETY: the call changes an attribute of the calling thread and touches no memory.
            unsafe { libc::setfsuid(65_534) };
            open(&path, Missing::Create).expect_err("read-only")
        })
        .join()
        .expect("thread");
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    }
}
