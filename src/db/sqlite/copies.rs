//! Copies of a database: made while a node runs on it, and put in its place when none does.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::db::OpenError;
use crate::db::sqlite::place::{Claim, Claimant, belong_to, files};
use crate::db::sqlite::schema;
use crate::limits::STORE_BUSY_MS;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database, or the copy, will not do.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// There is something at the place of a new copy.
    #[error("{} is there already; give the path of a file that is not there yet", .0.display())]
    Exists(PathBuf),
    /// Somebody runs on the database.
    #[error("a node, or another program, has the database {} open; stop it first (systemctl stop 'fanfare-*')", .0.display())]
    InUse(PathBuf),
    /// The copy is broken.
    #[error("{}: the copy is broken: {found}; use another one", path.display())]
    Broken {
        /// The copy.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CopyError + '_ {
    move |error| CopyError::Io { path: path.to_owned(), error }
}

fn absolute(path: &Path) -> Result<PathBuf, CopyError> {
    std::path::absolute(path).map_err(at(path))
}

/// `path` with more at the end of its name.
fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Copies the database at `from`, which a node may be using, to the new file `to`: what was committed when this began, whole,
/// in one file that its owner alone may read. Blocks until it is on disk. Gives its size in bytes.
///
/// # Errors
/// Why there is no copy; then there is no file either.
pub fn backup(from: &Path, to: &Path) -> Result<u64, CopyError> {
    let (from, to) = (absolute(from)?, absolute(to)?);
    if to.try_exists().map_err(at(&to))? {
        return Err(CopyError::Exists(to));
    }
    let part = with(&to, ".part");
    copy(&from, &part, false).and_then(|()| rename(&part, &to)).inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    std::fs::metadata(&to).map(|file| file.len()).map_err(at(&to))
}

/// What [`restore`] did.
#[derive(Debug)]
pub struct Restored {
    /// Where the database is that was there before, if one was.
    pub before: Option<PathBuf>,
}

/// Puts a copy of the database at `from` in the place of the one at `path`, which is kept beside it with its log. Ids of new
/// comments and messages go on far beyond those that it holds, since some after them were given before.
///
/// # Errors
/// Why it was not done. The old database is where it was, unless renaming the new one failed last.
pub fn restore(path: &Path, from: &Path) -> Result<Restored, CopyError> {
    let (path, from) = (absolute(path)?, absolute(from)?);
    let claim = Claim::take(&path, Claimant::Restore).map_err(|error| match error {
        OpenError::Locked { path } => CopyError::InUse(path),
        error => CopyError::Open(error),
    })?;
    let exists = path.try_exists().map_err(at(&path))?;
    if exists && is_open(&path) {
        return Err(CopyError::InUse(path));
    }
    let part = with(&path, ".restoring");
    let remove = || drop(std::fs::remove_file(&part));
    remove();
    let directory = path.parent().unwrap_or(&path);
    let ready = copy(&from, &part, true).and_then(|()| {
        let like = if exists { &path } else { directory };
        belong_to(&part, like).map_err(at(&part))?;
        let mode =
            if exists { std::fs::metadata(&path).map_err(at(&path))?.permissions().mode() & 0o777 } else { 0o640 };
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(mode)).map_err(at(&part))
    });
    ready.inspect_err(|_| remove())?;
    // The database goes first: should this end here, a node finds it gone and says so, and does not take the rest for it.
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace([':', '-'], "");
    let before = with(&path, &format!(".before-{now}"));
    for (file, kept) in files(&path).iter().zip(files(&before)) {
        match std::fs::rename(file, &kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(file)(error)),
            _ => {}
        }
    }
    claim.keep().map_err(at(&path))?;
    rename(&part, &path)?;
    Ok(Restored { before: exists.then_some(before) })
}

fn rename(from: &Path, to: &Path) -> Result<(), CopyError> {
    std::fs::rename(from, to).map_err(at(to))?;
    let directory = to.parent().unwrap_or(to);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Whether anybody, such as a node of an older version, has the database open: alone one may have it exclusively.
fn is_open(path: &Path) -> bool {
    let Ok(connection) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE) else { return false };
    let alone = "PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema";
    // Looking changes nothing: what the log holds stays there.
    let left = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    let result = left.and_then(|_| connection.execute_batch(alone));
    // Any other failure is that of a broken database, which is a reason to restore one.
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    result.is_err_and(|error| matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)))
}

/// Copies a database to a new file in one read transaction, and looks whether the copy is whole.
fn copy(from: &Path, to: &Path, restored: bool) -> Result<(), CopyError> {
    let named = |path: &Path| {
        let path = path.to_owned();
        move |error| CopyError::Open(schema::named(&path, error))
    };
    // SQLite's own words for it are no help.
    File::open(from).map_err(at(from))?;
    // Where it may not be written SQLite falls back to reading.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags | OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(named(from))?;
    source.busy_timeout(Duration::from_millis(STORE_BUSY_MS)).map_err(named(from))?;
    schema::check_owner(&source, from, schema::Missing::Refuse)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(at(to))?;
    let mut target = Connection::open_with_flags(to, flags | OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(named(to))?;
    {
        let copying = Backup::new(&source, &mut target).map_err(named(to))?;
        // All pages in one step, so in one read transaction: with several, each commit of a node would begin it anew.
        loop {
            match copying.step(-1).map_err(named(to))? {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked => std::thread::sleep(Duration::from_millis(100)),
                _ => {}
            }
        }
    }
    let found: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(named(to))?;
    if found != "ok" {
        return Err(CopyError::Broken { path: from.to_owned(), found });
    }
    target.execute_batch("PRAGMA journal_mode = DELETE").map_err(named(to))?;
    if restored {
        schema::skip_ids(&target).map_err(named(to))?;
    }
    target.close().map_err(|(_, error)| named(to)(error))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(at(to))
}
