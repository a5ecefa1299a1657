//! `fanfare backup` and `fanfare restore`: the embedded database, as an operator takes care of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::db::sqlite;
use crate::db::sqlite::CopyError;
use crate::settings::{Database, Flags, Settings, SettingsError};

/// Exit status for settings, or a database or a copy, that will not do.
const USAGE: u8 = 2;

/// The flags of `fanfare backup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare backup --db sqlite:/var/lib/fanfare/fanfare.db /var/backups/fanfare-$(date +%F).db

The copy is whole and in one file, whatever is stored meanwhile; cp gives neither, since what was stored last is in a
log beside the database. For PostgreSQL use pg_dump.

Exit status: 0 when the copy is on disk, 2 when there is none.")]
pub struct BackupArgs {
    /// Write the copy to this file, which must not be there yet
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The settings of the node, of which `db` counts.
    #[command(flatten)]
    pub node: Flags,
}

/// The flags of `fanfare restore`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  systemctl stop fanfare-all
  fanfare restore --db sqlite:/var/lib/fanfare/fanfare.db /var/backups/fanfare-2026-11-27.db
  systemctl start fanfare-all

The database that is there is kept beside its place, with its log. What a database and its user may do to files stays as it
was, also when root restores.

Exit status: 0 when the database is restored, 2 when it is as it was.")]
pub struct RestoreArgs {
    /// Take the backup in this file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The settings of the node, of which `db` counts.
    #[command(flatten)]
    pub node: Flags,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Copy(#[from] CopyError),
}

/// Copies the database of the settings to the new file `to`. 0 when the copy is on disk, 2 when not.
pub fn backup(to: &Path, settings: &Settings) -> ExitCode {
    said(database(settings).and_then(|path| {
        let bytes = sqlite::backup(&path, to)?;
        Ok(format!("{} is a backup of {}: {bytes} bytes", to.display(), path.display()))
    }))
}

/// Puts the copy `from` in the place of the database of the settings. 0 when it is there, 2 when not.
pub fn restore(from: &Path, settings: &Settings) -> ExitCode {
    said(database(settings).and_then(|path| {
        let restored = sqlite::restore(&path, from)?;
        let before = match restored.before {
            Some(before) => format!("; the one before is {}, remove it when you are sure", before.display()),
            None => String::new(),
        };
        Ok(format!("{} is restored from {}{before}", path.display(), from.display()))
    }))
}

/// The embedded database, which must be known for sure: a relative path means another file in another directory.
fn database(settings: &Settings) -> Result<PathBuf, Problem> {
    match &settings.db {
        Database::Postgres(_) => {
            let problem = "that is no embedded database";
            Err(settings
                .refuse("db", problem, "use PostgreSQL's own pg_dump and pg_restore, see docs/backup.md")
                .into())
        }
        Database::Sqlite(path) if path.is_relative() && !path.exists() => {
            let problem = "it is not in this directory";
            let remedy = "give the whole path; that of the systemd units is --db sqlite:/var/lib/fanfare/fanfare.db";
            Err(settings.refuse("db", problem, remedy).into())
        }
        Database::Sqlite(path) => Ok(path.clone()),
    }
}

fn said(result: Result<String, Problem>) -> ExitCode {
    // Where nobody reads or a disk is full, the exit status still tells.
    match result {
        Ok(done) => {
            let _ = writeln!(std::io::stdout(), "{done}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "fanfare: {problem}");
            ExitCode::from(USAGE)
        }
    }
}
