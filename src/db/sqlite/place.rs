//! Where a database is: whether one was there before, whether its files are still those that were opened, and who uses it.
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::db::OpenError;

/// A claim on the place of a database, by a file beside it, `.NAME.made`: who runs on the database shares its lock, who
/// replaces it has the lock alone. Text in it says that a database was made there, so that one that is gone is not taken for
/// one that never was. Its name begins with a dot, so that what deletes `fanfare.db*` leaves it. A service says the same in its
/// state directory too, where that is another one: a volume that is not mounted has neither the database nor the file beside it.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    marker: PathBuf,
    /// In the state directory.
    afar: Option<PathBuf>,
    file: File,
}

/// Who claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// Nodes, of which there may be several.
    Node,
    /// Who puts another database there.
    Restore,
}

impl Claim {
    /// Claims the place of the database at `path`, which is absolute. It is let go when this is dropped.
    pub(crate) fn take(path: &Path, claimant: Claimant) -> Result<Claim, OpenError> {
        let failed = |detail: String| OpenError::Failed { path: path.to_owned(), detail };
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed("it is not the path of a file".to_owned()));
        };
        if !directory.is_dir() {
            return Err(OpenError::DirectoryMissing { path: path.to_owned(), directory: directory.to_owned() });
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".made");
        let marker = directory.join(hidden);
        let refused = |error: io::Error| failed(format!("{} beside it: {error}", marker.display()));
        // One that is there is not written to yet: it may be another user's.
        let file = match File::open(&marker) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&marker);
                let made = made.map_err(refused)?;
                belong_to(&marker, directory).map_err(refused)?;
                made
            }
            opened => opened.map_err(refused)?,
        };
        let lock = match claimant {
            Claimant::Node => FlockOperation::NonBlockingLockShared,
            Claimant::Restore => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&file, lock) {
            Ok(()) => Ok(Claim { path: path.to_owned(), marker, afar: afar(path), file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(error) => Err(refused(error.into())),
        }
    }

    /// Whether a database was made here before.
    pub(crate) fn was_made(&self) -> bool {
        self.says_so() || self.afar.as_ref().is_some_and(|afar| afar.exists())
    }

    /// Whether the file beside the database says that one was made.
    fn says_so(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.len() > 0)
    }

    /// Says for good that there is a database here, where that is not said yet.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let text = format!(
            "There is a Fanfare database at {}. While this file says so and the database is gone, Fanfare makes no empty one\n\
             in its place. Remove this file to begin anew.\n",
            self.path.display()
        );
        let write = |mut file: File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if let Some(afar) = self.afar.as_ref().filter(|afar| !afar.exists()) {
            write(File::create(afar)?)?;
        }
        if self.says_so() { Ok(()) } else { write(OpenOptions::new().write(true).open(&self.marker)?) }
    }

    /// What the database's absence is to be answered with.
    pub(crate) fn gone(&self) -> OpenError {
        let afar = self.afar.iter().filter(|afar| afar.exists());
        let beside = self.says_so().then_some(&self.marker);
        OpenError::Gone { path: self.path.clone(), markers: beside.into_iter().chain(afar).cloned().collect() }
    }
}

/// Where a service's state directory says that there is a database at `path`; none where it is in that directory itself.
fn afar(path: &Path) -> Option<PathBuf> {
    let state = PathBuf::from(std::env::var_os("STATE_DIRECTORY").filter(|state| !state.is_empty())?);
    if !state.is_absolute() || path.parent() == Some(&state) {
        return None;
    }
    let name = path.to_string_lossy().replace('/', "-");
    Some(state.join(format!("{}.made", name.replacen('-', ".", 1))))
}

/// Gives a new file to whoever has `like`, where root made it for them: a node runs as a user of its own.
pub(crate) fn belong_to(path: &Path, like: &Path) -> io::Result<()> {
    let (has, wanted) = (std::fs::metadata(path)?, std::fs::metadata(like)?);
    if (has.uid(), has.gid()) != (wanted.uid(), wanted.gid()) && rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    Ok(())
}

/// The database's file and what SQLite has beside it: its log, and the index of that.
pub(crate) fn files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// The files of an open database. What is committed is lost with a file that was deleted or replaced, whatever SQLite says:
/// it goes on with what it has open.
#[derive(Debug)]
pub(crate) struct Files([(PathBuf, Option<(u64, u64)>); 3]);

impl Files {
    /// Those at `path`, just opened.
    pub(crate) fn of(path: &Path) -> Files {
        Files(files(path).map(|file| {
            let seen = identity(&file);
            (file, seen)
        }))
    }

    /// Whether they are still there.
    ///
    /// # Errors
    /// What happened, for an operator.
    pub(crate) fn check(&self) -> Result<(), String> {
        // SQLite keeps all of them for as long as one has the database open. One that it never made cannot be missed.
        let moved = self.0.iter().find(|(file, seen)| seen.is_some() && identity(file) != *seen);
        let Some((file, _)) = moved else { return Ok(()) };
        let what = if file.exists() { "replaced" } else { "deleted or moved" };
        Err(format!(
            "{} was {what} while this node has it open; nothing is stored until it is back. Before this node is stopped see \
             docs/backup.md, since it still has the file",
            file.display()
        ))
    }
}

/// Device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_share_a_place_and_who_replaces_the_database_has_it_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let claim = |claimant| Claim::take(&path, claimant);
        let nodes = [claim(Claimant::Node).unwrap(), claim(Claimant::Node).unwrap()];
        assert!(matches!(claim(Claimant::Restore), Err(OpenError::Locked { .. })));
        assert!(!nodes[0].was_made(), "a lock alone says nothing");
        nodes[1].keep().unwrap();
        drop(nodes);
        let restore = claim(Claimant::Restore).unwrap();
        assert!(restore.was_made());
        assert!(matches!(claim(Claimant::Node), Err(OpenError::Locked { .. })));
    }

    #[test]
    fn a_file_that_goes_or_is_replaced_is_missed_and_one_that_comes_back_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let [database, log, index] = files(&path);
        for file in [&database, &log, &index] {
            std::fs::write(file, "x").unwrap();
        }
        let open = Files::of(&path);
        for file in [&database, &log, &index] {
            let aside = directory.path().join("aside");
            assert_eq!(open.check(), Ok(()));
            std::fs::rename(file, &aside).unwrap();
            assert!(open.check().unwrap_err().contains("deleted"));
            std::fs::write(file, "x").unwrap();
            assert!(open.check().unwrap_err().contains(&format!("{} was replaced", file.display())));
            std::fs::rename(&aside, file).unwrap();
        }
        assert_eq!(open.check(), Ok(()));
    }
}
