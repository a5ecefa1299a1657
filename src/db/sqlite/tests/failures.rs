//! Full disks, write errors, locks and kills, the last three with another process.
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use crossbeam_channel::unbounded;
use rusqlite::Connection;

use super::{check_counts, collecting, counts, like, make_room, number};
use crate::db::health::Health;
use crate::db::rules::Standing;
use crate::db::sqlite::batch::Writer;
use crate::db::sqlite::start;
use crate::db::{Command, Outcome, PostKind, StoreError};

#[test]
fn a_full_disk_is_unavailable_until_there_is_room() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut writer = Writer::open(&path).expect("opens");
    make_room(&writer, 20);
    let mut stored = 0;
    let batch = |round: u64| (0..50).map(|member| like("42", &format!("{round}-{member}"))).collect::<Vec<_>>();
    let full = (0..1_000).find(|round| {
        let results = writer.run(&batch(*round));
        let ok = results.iter().filter(|result| result.is_ok()).count() as u64;
        assert!(ok == 0 || ok == 50, "all of a batch or nothing: {results:?}");
        stored += ok;
        ok == 0
    });
    let full = full.expect("20 pages fill up");
    assert!(stored > 0);
    let results = writer.run(&batch(full));
    assert!(matches!(&results[0], Err(StoreError::Unavailable { detail }) if detail.contains("full")), "{results:?}");
    let expected = Ok(Outcome::Counts { likes: stored, reactions: vec![("like".into(), stored)], taps: vec![] });
    assert_eq!(writer.run(&[counts("42")]), std::slice::from_ref(&expected), "reads go on");
    let mut mixed = batch(full);
    mixed.insert(7, counts("42"));
    let results = writer.run(&mixed);
    assert_eq!(results[7], expected, "also in the company of writes");
    assert!(results[6].is_err() && results[8].is_err(), "{results:?}");
    make_room(&writer, 100_000);
    let results = writer.run(&batch(full));
    let last = Outcome::Liked { created: true, likes: stored + 50, reaction_likes: stored + 50 };
    assert_eq!(results.last(), Some(&Ok(last)), "counts go on from what is stored");
    check_counts(&Connection::open(&path).expect("reopens"));
}

/// A disk is seldom full to the last page: what is left is enough for a small write, and not for the next batch.
#[test]
fn a_disk_that_is_nearly_full_works_by_turns() {
    let directory = tempfile::tempdir().expect("directory");
    let mut writer = Writer::open(&directory.path().join("fanfare.db")).expect("opens");
    let health = Health::default();
    writer.report_to(health.clone());
    let limit = |writer: &Writer, more: u32| {
        let connection = writer.connection().expect("a full disk needs no new connection");
        let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("pragma");
        make_room(writer, pages + more);
    };
    let batch: Vec<_> = (0..2_000).map(|member| like("42", &format!("a-member-with-a-long-name-{member}"))).collect();
    limit(&writer, 20);
    assert!(writer.run(&batch)[0].is_err());
    writer.probe();
    assert!(health.get().is_err_and(|detail| detail.contains("full")), "ready, and the next batch finds no room");
    limit(&writer, 1_000);
    writer.probe();
    assert_eq!(health.get(), Ok(()));
    assert!(writer.run(&batch)[0].is_ok());
}

/// A failure after which the old connection is not trusted: the next batch works on a new one.
#[test]
fn a_database_that_went_away_and_came_back_is_opened_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut writer = Writer::open(&path).expect("opens");
    assert!(writer.run(&[like("42", "ana")])[0].is_ok());
    writer.connection().expect("open").execute_batch("PRAGMA query_only = 1").expect("pragma");
    assert!(matches!(writer.run(&[like("42", "bo")])[0], Err(StoreError::Unavailable { .. })));
    assert!(writer.connection().is_none(), "a connection that refuses writes is not kept");
    let aside = directory.path().join("aside.db");
    std::fs::rename(&path, &aside).expect("rename");
    let results = writer.run(&[counts("42")]);
    assert!(
        matches!(&results[0], Err(StoreError::Unavailable { detail }) if detail.contains("fanfare.db")),
        "{results:?}"
    );
    assert!(!path.exists(), "no empty database in its place");
    std::fs::rename(&aside, &path).expect("rename");
    assert_eq!(writer.run(&[like("42", "bo")]), [Ok(Outcome::Liked { created: true, likes: 2, reaction_likes: 2 })]);
}

/// Runs this test binary again as another process with one of the parts of `child_process`.
fn child(part: &str, path: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "db::sqlite::tests::failures::child_process", "--ignored", "--nocapture"])
        .env("FANFARE_TEST_CHILD", part)
        .env("FANFARE_TEST_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

#[test]
#[ignore = "a part of other tests, which run it as another process"]
fn child_process() {
    let Ok(part) = std::env::var("FANFARE_TEST_CHILD") else {
        return;
    };
    let path = std::env::var("FANFARE_TEST_PATH").expect("a path");
    match part.as_str() {
        "load" => load(Path::new(&path)),
        "lock" => lock(Path::new(&path)),
        "limit" => limit(Path::new(&path)),
        other => panic!("no such part: {other}"),
    }
}

/// Likes and comments without end (the parent kills it; 60 s at most), printing each one that is acknowledged.
fn load(path: &Path) {
    let salt = std::process::id();
    let (sender, answers) = unbounded::<u64>();
    let (store, _thread) = start(path, move |ticket: u64, result: Result<Outcome, StoreError>| {
        result.expect("it is stored");
        // Each line is one write, short enough for a pipe to take whole, so a kill cuts none in half.
        std::io::stdout().write_all(format!("acknowledged {salt}-{ticket}\n").as_bytes()).expect("the parent reads");
        sender.send(ticket).expect("it is received");
    })
    .expect("opens");
    let submit = |ticket: u64| {
        let (place, name) = (format!("v{}", ticket % 5), format!("{salt}-{ticket}"));
        let command = match ticket % 4 {
            0 => {
                let (kind, member, standing) = (PostKind::Comment, "ana".into(), Standing::Guest);
                Command::Post { kind, place, member, text: name, standing, at: 5, hooks: [].into() }
            }
            _ => like(&place, &name),
        };
        store.try_submit(command, ticket).expect("there is room");
    };
    (0..64).for_each(submit);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for ticket in 64.. {
        answers.recv().expect("an answer");
        if std::time::Instant::now() > end {
            break;
        }
        submit(ticket);
    }
}

#[test]
fn everything_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut acknowledged = BTreeSet::new();
    // Each round starts on what the kill before left; the log of the last one is recovered by the check's connection.
    for round in 1..=4 {
        let mut child = child("load", &path);
        let lines = BufReader::new(child.stdout.take().expect("piped")).split(b'\n');
        let mut count = 0;
        for line in lines {
            let line = String::from_utf8(line.expect("readable")).expect("UTF-8");
            if let Some(member) = line.strip_prefix("acknowledged ") {
                acknowledged.insert(member.to_owned());
                count += 1;
                if count == round * 700 {
                    child.kill().expect("SIGKILL");
                }
            }
        }
        assert!(count >= round * 700, "the child ended by itself after {count}");
        assert!(!child.wait().expect("it ended").success(), "it was killed");

        let connection = Connection::open(&path).expect("reopens");
        let sql = "SELECT member FROM likes UNION ALL SELECT text FROM posts JOIN outbox ON outbox.post = posts.id";
        let mut statement = connection.prepare(sql).expect("statement");
        let stored: BTreeSet<String> =
            statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        check_counts(&connection);
    }
}

/// Holds the write lock until the parent closes the pipe.
fn lock(path: &Path) {
    let connection = Connection::open(path).expect("opens");
    connection.execute_batch("BEGIN IMMEDIATE").expect("lock");
    println!("\nlocked");
    std::io::stdin().read_line(&mut String::new()).expect("the parent lets go");
    connection.execute_batch("ROLLBACK").expect("unlock");
}

fn locked_by_child(path: &Path) -> Child {
    let mut child = child("lock", path);
    let lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
    assert!(lines.map(|line| line.expect("readable")).any(|line| line == "locked"), "the child has the lock");
    child
}

#[test]
fn a_lock_of_another_process_is_unavailable_and_a_short_one_is_waited_for() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let (store, answers, _thread) = collecting(&path);

    let mut child = locked_by_child(&path);
    store.try_submit(counts("42"), 0).expect("room");
    let nothing = Outcome::Counts { likes: 0, reactions: vec![], taps: vec![] };
    assert_eq!(answers.recv().expect("an answer"), (0, Ok(nothing)), "reads need no lock");
    store.try_submit(like("42", "ana"), 1).expect("room");
    let (_, result) = answers.recv().expect("an answer");
    assert!(matches!(&result, Err(StoreError::Unavailable { detail }) if detail.contains("locked")), "{result:?}");

    // Let go before or while the store waits for it: either way the like is stored. A child that is slow to let go costs
    // a try, not the test.
    drop(child.stdin.take());
    let stored = (0..30).find_map(|_| {
        store.try_submit(like("42", "ana"), 2).expect("room");
        answers.recv().expect("an answer").1.ok()
    });
    assert_eq!(stored, Some(Outcome::Liked { created: true, likes: 1, reaction_likes: 1 }));
    assert!(child.wait().expect("it ended").success());
}

/// Nobody sends commands to a node that is not ready, so none must be needed to become ready again.
#[test]
fn a_store_that_failed_finds_out_by_itself_that_it_works() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let (store, answers, _thread) = collecting(&path);
    assert_eq!(store.health(), Ok(()));
    let mut child = locked_by_child(&path);
    store.try_submit(like("42", "ana"), 1).expect("room");
    assert!(answers.recv().expect("an answer").1.is_err());
    assert!(store.health().expect_err("it failed").contains("locked"));
    drop(child.stdin.take());
    assert!(child.wait().expect("it ended").success());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.health().is_err() {
        assert!(std::time::Instant::now() < deadline, "it never finds out");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Meets a file size limit, which fails writes as a broken disk does, then lifts it.
fn limit(path: &Path) {
    let (store, answers, thread) = collecting(path);
    let mut members = 0..;
    let mut run = || {
        for member in members.by_ref().take(100) {
            store.try_submit(like("42", &format!("member-{member}")), member).expect("there is room");
        }
        answers.iter().take(100).filter(|(_, result)| result.is_ok()).count() as u64
    };
    let mut stored = run();
    assert_eq!(stored, 100);
    set_file_size_limit(Some(300_000));
    let failed = (0..1_000).any(|_| {
        let ok = run();
        stored += ok;
        ok == 0
    });
    assert!(failed, "300 kB fill up");
    stored += run() + run();
    set_file_size_limit(None);
    assert_eq!(run(), 100, "it works again");
    stored += 100;
    drop(store);
    thread.join().expect("the storage thread ends");
    let connection = Connection::open(path).expect("reopens");
    assert_eq!(number(&connection, "SELECT count(*) FROM likes"), stored, "all that was acknowledged, nothing else");
    check_counts(&connection);
}

/// Sets this process's soft limit of file sizes in bytes, and ignores the signal that a write beyond it raises.
fn set_file_size_limit(bytes: Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid structure for both calls, and ignoring a signal installs no handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.unwrap_or(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[test]
fn write_errors_are_unavailable_and_pass() {
    let directory = tempfile::tempdir().expect("directory");
    let output = child("limit", &directory.path().join("fanfare.db")).wait_with_output().expect("it ended");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
