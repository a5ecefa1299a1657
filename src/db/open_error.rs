//! Why a store does not start.

use std::path::PathBuf;

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database {path}: the directory {directory} does not exist; create it or choose another path", path = .path.display(), directory = .directory.display())]
    DirectoryMissing { path: PathBuf, directory: PathBuf },
    #[error("database {path}: the file is not an SQLite database; choose another path", path = .path.display())]
    NotADatabase { path: PathBuf },
    #[error("database {path}: the file is empty; choose another path", path = .path.display())]
    Empty { path: PathBuf },
    #[error("database {path}: it was there before and is gone, and no empty one is made in its place; restore a backup (fanfare restore), or remove {} to begin anew without what it held", .markers.iter().map(|marker| marker.display().to_string()).collect::<Vec<_>>().join(" and "), path = .path.display())]
    Gone {
        path: PathBuf,
        /// What says that it was there.
        markers: Vec<PathBuf>,
    },
    #[error("database {path}: it belongs to another program; choose another path", path = .path.display())]
    Foreign { path: PathBuf },
    #[error("database {path}: it has schema version {found}, but this build knows versions up to {known}; run a newer fanfare", path = .path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("database {path}: it is read-only for this user; make the file and its directory writable", path = .path.display())]
    ReadOnly { path: PathBuf },
    #[error("database {path}: another process keeps it locked, such as fanfare restore", path = .path.display())]
    Locked { path: PathBuf },
    #[error("database {path}: {detail}", path = .path.display())]
    Failed { path: PathBuf, detail: String },
}
