//! A PostgreSQL server of the test's own, with its data in a temporary folder.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::ports::free_port;
use super::{DEADLINE, becomes, eventually};

/// Memory that its processes share is in its folder. Elsewhere, one that is killed would leave it behind for good.
const OWN_FILES: &str = "dynamic_shared_memory_type = mmap";

/// A running server that takes everybody from 127.0.0.1 without a password, but for `locked`, who has one: `secret`.
pub struct Postgres {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// A server with the empty database `fanfare`.
    pub fn start() -> Postgres {
        // As an operator may set it who does not know better: what is acknowledged must be on disk all the same.
        let mut server = Postgres::stopped(&["synchronous_commit = off"]);
        server.launch();
        server
    }

    /// The same, not started yet. `settings` are lines of its configuration.
    pub fn stopped(settings: &[&str]) -> Postgres {
        let folder = own_folder();
        copy_initialized(folder.path());
        configure(folder.path(), &settings.join("\n"));
        Postgres { child: None, port: free_port(), folder }
    }

    /// What `initdb` makes, with the database and the role, in a folder that goes with this.
    fn initialize() -> Postgres {
        let folder = own_folder();
        let data = folder.path().join("data");
        let made = command("initdb", folder.path())
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let access = data.join("pg_hba.conf");
        let rules = std::fs::read_to_string(&access).expect("initdb made it");
        std::fs::write(&access, format!("host all locked 127.0.0.1/32 scram-sha-256\n{rules}")).expect("written");
        configure(folder.path(), OWN_FILES);
        let mut server = Postgres { child: None, port: free_port(), folder };
        server.launch();
        server.sql("postgres", "CREATE DATABASE fanfare");
        server.sql("postgres", "CREATE ROLE locked LOGIN PASSWORD 'secret'");
        server.shut_down();
        server
    }

    /// Starts it, for the first time or again, and waits until it takes connections.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let child = command("postgres", self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log()).expect("the log"))
            .spawn()
            .expect("postgres starts");
        self.child = Some(child);
        eventually("PostgreSQL to take connections", || {
            if let Ok(Some(status)) = self.child.as_mut().expect("it was started").try_wait() {
                panic!("PostgreSQL ended with {status}: {}", std::fs::read_to_string(self.log()).unwrap_or_default());
            }
            self.try_sql("postgres", "SELECT 1").map(drop).map_err(|error| error.to_string())
        });
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The database `fanfare`.
    pub fn url(&self) -> String {
        self.url_of("postgres", "fanfare")
    }

    /// A database, for `user`, who may be `name:password`.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Puts a file that only it may read into its data, such as `server.key`.
    pub fn put(&self, name: &str, content: &str) {
        let path = self.folder.path().join("data").join(name);
        std::fs::write(&path, content).expect("the data is there");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the file is there");
        give(&path);
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements and returns the rows of all of them, each value as text.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> Vec<Vec<String>> {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The one value that a statement gives.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        self.sql("fanfare", sql).remove(0).remove(0)
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url_of("postgres", database), NoTls).await?;
            let driver = tokio::spawn(connection);
            let rows = rows(&client, sql).await;
            drop(client);
            drop(driver.await);
            rows
        })
    }

    /// Ends every process of it at once, as a crash does, and waits until they are gone.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let all = family(child.id());
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        child.wait().expect("it was killed");
        becomes("processes of PostgreSQL", Vec::<u32>::new(), || {
            all.iter().copied().filter(|pid| Path::new(&format!("/proc/{pid}/cwd")).read_link().is_ok()).collect()
        });
    }

    /// Stops every process of it, so that it takes connections and answers nothing.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Goes on after [`Postgres::pause`].
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Ends it as a machine's shutdown does, so that its files are whole.
    fn shut_down(&mut self) {
        self.end(Signal::INT);
        let ended = self.child.take().expect("it ran").try_wait().expect("it is ours");
        assert!(ended.is_some_and(|status| status.success()), "PostgreSQL ended with {ended:?}");
    }

    /// Asks it to end in one of its ways, and waits until it has.
    fn end(&mut self, how: Signal) {
        let child = self.child.as_mut().expect("it runs");
        signal(child.id(), how);
        let deadline = Instant::now() + DEADLINE;
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal_all(&self, what: Signal) {
        for pid in family(self.child.as_ref().expect("it runs").id()) {
            signal(pid, what);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            // One that is killed leaves a piece of shared memory to the machine, which has room for some thousand.
            self.signal_all(Signal::CONT);
            self.end(Signal::QUIT);
            self.kill();
        }
    }
}

/// Copies the folder of a server that was set up once into another, in an eighth of the time. Whichever test comes first
/// after a build sets it up.
fn copy_initialized(into: &Path) {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
    let lock = File::create(made.with_extension("lock")).expect("the folder is cargo's");
    flock(&lock, FlockOperation::LockExclusive).expect("the lock is free at some time");
    let of = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    if of(&made) < of(&std::env::current_exe().expect("it runs")) {
        let (server, half) = (Postgres::initialize(), made.with_extension("half"));
        // That of an older build may be there, or what one left that was killed.
        for old in [&made, &half] {
            drop(std::fs::remove_dir_all(old));
        }
        std::fs::create_dir(&half).expect("it was removed");
        copy(&server.folder.path().join("data"), &half);
        std::fs::rename(&half, &made).expect("it was removed");
    }
    copy(&made.join("data"), into);
}

/// Copies a folder into another, with its owners and rights.
fn copy(from: &Path, into: &Path) {
    let status = Command::new("cp").arg("--archive").arg(from).arg(into).status().expect("cp starts");
    assert!(status.success(), "cp --archive {} {}: {status}", from.display(), into.display());
}

/// A folder for its data, into which nobody else may look, as PostgreSQL asks.
fn own_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    give(folder.path());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("the folder is there");
    folder
}

/// Adds lines to the configuration of a server whose data is in this folder.
fn configure(folder: &Path, lines: &str) {
    let configuration = folder.join("data/postgresql.conf");
    let defaults = std::fs::read_to_string(&configuration).expect("initdb made it");
    std::fs::write(&configuration, format!("{defaults}\n{lines}\n")).expect("written");
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

/// A program of PostgreSQL, from the path or from where Debian puts it, run by a user that it accepts.
pub fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // The newest version that is installed.
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    folders.push("/usr/sbin".into());
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    let found = folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    // Through links, since it looks for its other programs beside itself.
    found.and_then(|program| program.canonicalize().ok()).unwrap_or_else(|| {
        panic!("{name} is missing; install the packages postgresql and pgbouncer (scripts/test --setup)")
    })
}

/// Gives a file or folder to the user whom it runs as.
pub fn give(path: &Path) {
    if let Some((user, group)) = unprivileged() {
        chown(path, Some(user), Some(group)).expect("root may give it away");
    }
}

/// The user and group to run it as: PostgreSQL refuses root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("every system has it");
    let user = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(user("postgres").or_else(|| user("nobody")).expect("the user postgres or nobody"))
}

/// A process and its children.
fn family(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok());
    let child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field after the name, which is in parentheses and may hold anything.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
    };
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    std::iter::once(parent).chain(pids.filter(child)).collect()
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("no process has the id 0");
    // One that has just ended needs none.
    let _ = kill_process(pid, signal);
}
