//! Files of keys and secrets, read again when they change, so that these can be rotated while viewers watch.

use super::KEY_FILE_INTERVAL;
use super::keys::{KeyError, Keys, READABLE};
use arc_swap::{ArcSwap, Guard};
use crossbeam_channel::{RecvTimeoutError, Sender};
use std::convert::Infallible;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that changed less than this before it was read is read again at the next look: the time stamps of two
/// changes within a tick of the file system's clock may be the same (2 s on the coarsest).
const SETTLED: Duration = Duration::from_secs(2);

/// What a file that is watched holds.
pub trait Content: PartialEq + Send + Sync + Sized + 'static {
    /// What it is, for the log.
    const WHAT: &'static str;

    /// Reads it from its files.
    ///
    /// # Errors
    /// A file that cannot be read, or will not do.
    fn read(paths: &[PathBuf]) -> Result<Self, KeyError>;

    /// What the log says of new content, without showing any of it.
    fn describe(&self) -> String;
}

impl Content for Keys {
    const WHAT: &'static str = "keys for tokens";

    fn read(paths: &[PathBuf]) -> Result<Keys, KeyError> {
        Keys::load(&paths[0])
    }

    fn describe(&self) -> String {
        format!("{} of {}", self.count(), self.algorithms())
    }
}

/// What holds now, for any number of shards: cloning copies a pointer, loading takes no lock.
#[derive(Debug)]
pub struct Shared<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

/// The keys that hold now.
pub type SharedKeys = Shared<Keys>;

impl<T> Shared<T> {
    /// One that holds this until its file is watched.
    pub fn new(content: T) -> Shared<T> {
        Shared(Arc::new(ArcSwap::from_pointee(content)))
    }

    /// From now on this holds.
    pub(super) fn replace(&self, content: T) {
        self.0.store(Arc::new(content));
    }

    /// What holds at present. Keep the guard for one request only, so that what is old is let go.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    fn of(path: &PathBuf) -> Result<Stamp, KeyError> {
        let file = std::fs::metadata(path).map_err(|error| KeyError {
            path: path.clone(),
            problem: error.to_string(),
            remedy: READABLE,
        })?;
        Ok(Stamp {
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            size: file.size(),
            inode: (file.dev(), file.ino()),
        })
    }

    /// Those of several files, in their order.
    fn of_all(paths: &[PathBuf]) -> Result<Vec<Stamp>, KeyError> {
        paths.iter().map(Stamp::of).collect()
    }

    /// Whether a change after `now` would show in the stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let settled = SETTLED.as_secs() as i64;
        now.saturating_sub(self.modified.0.max(self.changed.0)) > settled
    }
}

/// What a look at the file came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Nothing new.
    Same,
    /// New content holds.
    Reloaded,
    /// The file will not do; the old content still holds. Told once for each way in which it will not.
    Kept(KeyError),
}

/// Decides when to read, and what holds. It does the reading too, but knows no clock and no thread.
struct Reloader<T> {
    paths: Vec<PathBuf>,
    /// The files' states at the last read; `None` makes the next look read.
    seen: Option<Vec<Stamp>>,
    /// What was last found wrong.
    problem: Option<KeyError>,
    keys: Shared<T>,
}

impl<T: Content> Reloader<T> {
    fn new(paths: &[PathBuf], now: SystemTime) -> Result<Reloader<T>, KeyError> {
        let seen = Stamp::of_all(paths).ok().filter(|stamps| stamps.iter().all(|stamp| stamp.is_settled(now)));
        Ok(Reloader { paths: paths.to_owned(), seen, problem: None, keys: Shared::new(T::read(paths)?) })
    }

    fn look(&mut self, now: SystemTime) -> Look {
        // The stamp comes before the reading: what changes in between makes the next look read again.
        let stamps = match Stamp::of_all(&self.paths) {
            Ok(stamps) => stamps,
            Err(error) => {
                self.seen = None;
                return self.keep(error);
            }
        };
        if self.seen.as_ref() == Some(&stamps) {
            return Look::Same;
        }
        self.seen = Some(stamps).filter(|stamps| stamps.iter().all(|stamp| stamp.is_settled(now)));
        match T::read(&self.paths) {
            Ok(keys) => {
                self.problem = None;
                if keys == **self.keys.load() {
                    return Look::Same;
                }
                self.keys.0.store(Arc::new(keys));
                Look::Reloaded
            }
            Err(error) => self.keep(error),
        }
    }

    fn keep(&mut self, error: KeyError) -> Look {
        if self.problem.as_ref() == Some(&error) {
            return Look::Same;
        }
        self.problem = Some(error.clone());
        Look::Kept(error)
    }
}

/// Keeps what a file holds up to date, by a thread of its own that ends when this is dropped.
pub struct Watcher<T = Keys> {
    keys: Shared<T>,
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Content> Watcher<T> {
    /// Reads the file, and from then on looks every [`KEY_FILE_INTERVAL`] whether it changed. A new file that will
    /// not do is logged, and the old content holds until one does.
    ///
    /// # Errors
    /// The file will not do at the start.
    pub fn start(path: &Path) -> Result<Watcher<T>, KeyError> {
        Watcher::start_all(&[path.to_owned()])
    }

    /// Same, of content that is in several files.
    ///
    /// # Errors
    /// The files will not do at the start.
    pub fn start_all(paths: &[PathBuf]) -> Result<Watcher<T>, KeyError> {
        Watcher::run(Reloader::new(paths, SystemTime::now())?)
    }

    /// Watches the file that this was read from a moment ago.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn of(path: &Path, keys: &Shared<T>) -> Result<Watcher<T>, KeyError> {
        Watcher::run(Reloader { paths: vec![path.to_owned()], seen: None, problem: None, keys: keys.clone() })
    }

    fn run(mut reloader: Reloader<T>) -> Result<Watcher<T>, KeyError> {
        let (keys, path) = (reloader.keys.clone(), reloader.paths[0].clone());
        let (stop, stopped) = crossbeam_channel::bounded::<Infallible>(0);
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(KEY_FILE_INTERVAL) {
                match reloader.look(SystemTime::now()) {
                    Look::Same => {}
                    Look::Reloaded => {
                        let (path, new) = (reloader.paths[0].display(), reloader.keys.load().describe());
                        tracing::info!(%path, new, "{} changed", T::WHAT);
                    }
                    Look::Kept(error) => tracing::warn!(%error, "{} stay as they were", T::WHAT),
                }
            }
        };
        let spawned = std::thread::Builder::new().name("watch-file".to_owned()).spawn(run);
        let thread = spawned.map_err(|error| KeyError {
            path,
            problem: format!("no thread to watch it: {error}"),
            remedy: "raise the limit of threads",
        })?;
        Ok(Watcher { keys, stop: Some(stop), thread: Some(thread) })
    }

    /// What holds, for the shards.
    pub fn keys(&self) -> Shared<T> {
        self.keys.clone()
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        // Its end is what the thread waits for.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ONE: &str = "the first secret, which has more than 32 bytes";
    const TWO: &str = "a second secret that has more than 32 bytes...";

    struct Fixture {
        _folder: tempfile::TempDir,
        path: PathBuf,
        reloader: Reloader<Keys>,
    }

    impl Fixture {
        fn new(now: SystemTime) -> Fixture {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            fs::write(&path, ONE).unwrap();
            let reloader = Reloader::new(std::slice::from_ref(&path), now).unwrap();
            Fixture { _folder: folder, path, reloader }
        }

        fn holds(&self, secret: &str) -> bool {
            Keys::parse(secret.as_bytes()).unwrap() == **self.reloader.keys.load()
        }
    }

    /// Long after the files of these tests were written.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(3600)
    }

    #[test]
    fn a_bad_file_keeps_the_old_keys_and_is_told_once() {
        let mut fixture = Fixture::new(later());
        assert_eq!(fixture.reloader.look(later()), Look::Same);
        for (bad, says) in [("short", "guessed"), ("", "empty"), ("{", "JSON"), ("-----BEGIN X-----", "other than")] {
            fs::write(&fixture.path, bad).unwrap();
            let Look::Kept(error) = fixture.reloader.look(later()) else { panic!("{bad} was taken") };
            assert!(error.to_string().contains(says) && error.path == fixture.path, "{error}");
            assert_eq!(fixture.reloader.look(later()), Look::Same);
            assert!(fixture.holds(ONE));
        }
        fs::remove_file(&fixture.path).unwrap();
        assert!(matches!(fixture.reloader.look(later()), Look::Kept(_)));
        assert_eq!(fixture.reloader.look(later()), Look::Same);
        assert!(fixture.holds(ONE));
        fs::write(&fixture.path, TWO).unwrap();
        assert_eq!(fixture.reloader.look(later()), Look::Reloaded);
        assert!(fixture.holds(TWO) && !fixture.holds(ONE));
        // A new time of trouble is told again.
        fs::remove_file(&fixture.path).unwrap();
        assert!(matches!(fixture.reloader.look(later()), Look::Kept(_)));
    }

    #[test]
    fn a_change_within_one_tick_of_the_clock_is_seen() {
        // Of the same size, in the same inode, perhaps with the same time stamps.
        let mut fixture = Fixture::new(SystemTime::now());
        assert_eq!(ONE.len(), TWO.len());
        for secret in [TWO, ONE, TWO, ONE] {
            fs::write(&fixture.path, secret).unwrap();
            assert_eq!(fixture.reloader.look(SystemTime::now()), Look::Reloaded);
            assert!(fixture.holds(secret));
        }
        // Where the stamps do differ that proves little; what does is that the stamp is not relied on until later.
        let before = SystemTime::now() - SETTLED;
        assert_eq!(fixture.reloader.look(before), Look::Same);
        assert!(fixture.reloader.seen.is_none());
        assert_eq!(fixture.reloader.look(later()), Look::Same);
        assert!(fixture.reloader.seen.is_some());
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let mut fixture = Fixture::new(later());
        assert!(fixture.reloader.seen.is_some());
        // Were it read, the new content would show.
        fs::write(&fixture.path, TWO).unwrap();
        fixture.reloader.seen = Stamp::of_all(&fixture.reloader.paths).ok();
        assert_eq!(fixture.reloader.look(later()), Look::Same);
        assert!(fixture.holds(ONE));
    }

    #[test]
    fn a_file_behind_a_link_is_followed_when_the_link_moves() {
        // As Kubernetes mounts secrets.
        let mut fixture = Fixture::new(later());
        let (target, link) = (fixture.path.with_extension("new"), fixture.path.with_extension("link"));
        fs::write(&target, TWO).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        fs::rename(&link, &fixture.path).unwrap();
        assert_eq!(fixture.reloader.look(later()), Look::Reloaded);
        assert!(fixture.holds(TWO));
    }

    #[test]
    fn a_watcher_does_not_start_on_a_bad_file() {
        let error = Watcher::<Keys>::start(Path::new("/nowhere/key")).err().unwrap();
        assert!(error.to_string().starts_with("/nowhere/key: "), "{error}");
    }
}
