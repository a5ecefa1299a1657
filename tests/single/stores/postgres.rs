//! What PostgreSQL adds: servers that crash, hang, come late, or belong to somebody else. Each test is named after what
//! it prevents.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fanfare::db::postgres::{Refused, start};
use fanfare::db::{Command, Outcome, PostKind, StoreError};
use fanfare::limits::{POSTGRES_BATCH, POSTGRES_CONNECTIONS, STORE_NAME_BYTES_MAX};

use super::likes::{check_tables, counts, like};
use super::posts::{post, posted};
use super::support::certificate::certified;
use super::support::http::Client;
use super::support::node::{Node, program};
use super::support::postgres::Postgres;
use super::support::{becomes, eventually, reaction};
use super::{Answer, Caller, Database, Ticket};

pub fn refused(url: &str) -> Refused {
    start(url, |ticket: Ticket, answer: Answer| drop(ticket.send(answer)))
        .err()
        .unwrap_or_else(|| panic!("{url} is taken"))
}

fn unavailable(answer: &Answer) -> bool {
    matches!(answer, Err(StoreError::Unavailable { .. }))
}

/// Asks until the store works again.
fn works_again(caller: &Caller, command: &Command) -> Outcome {
    eventually("the store to work again", || match caller.ask(command.clone()) {
        Ok(outcome) => Ok(outcome),
        Err(error @ StoreError::Unavailable { .. }) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn acknowledged_like_lost_when_the_server_is_killed() {
    let mut database = Database::postgres();
    let callers = [database.open(), database.open()];
    let Database::Postgres(server) = &mut database else { unreachable!("it was made so") };
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let likes = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let (caller, stop, likes) = (&callers[thread % 2], &stop, &likes);
                    scope.spawn(move || {
                        let (mut stored, mut failed, mut number) = (Vec::new(), 0, 0);
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            let members: Vec<String> =
                                (0..16).map(|one| format!("{round}-{thread}-{}", number + one)).collect();
                            number += 16;
                            let commands = members.iter().map(|member| like(&format!("v{}", member.len()), member));
                            for (member, answer) in members.iter().zip(caller.ask_all(commands)) {
                                match answer {
                                    Ok(Outcome::Liked { created: true, .. }) => {
                                        likes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                        stored.push(member.clone());
                                    }
                                    Err(StoreError::Unavailable { .. }) => failed += 1,
                                    other => panic!("{other:?}"),
                                }
                            }
                        }
                        (stored, failed)
                    })
                })
                .collect();
            eventually("some likes", || {
                let likes = likes.load(std::sync::atomic::Ordering::Relaxed);
                if likes > 400 { Ok(()) } else { Err(likes.to_string()) }
            });
            server.kill();
            eventually("the store to notice", || callers[0].store.health().err().ok_or("it is well".to_owned()));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let mut failed = 0;
            for thread in threads {
                let (stored, failures) = thread.join().expect("a thread");
                acknowledged.extend(stored);
                failed += failures;
            }
            assert!(failed > 0, "the kill came in the middle");
        });
        server.launch();
        for caller in &callers {
            works_again(caller, &like("again", &format!("{round}")));
        }
    }
    let stored: BTreeSet<String> =
        server.sql("fanfare", "SELECT member FROM fanfare.likes").into_iter().map(|mut row| row.remove(0)).collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged.len() > 3 * 400);
    for caller in &callers {
        eventually("readiness", || caller.store.health());
    }
    check_tables(&database);
}

#[test]
fn hanging_server_holds_commands_back() {
    let database = Database::postgres();
    let caller = database.open();
    let Database::Postgres(server) = &database else { unreachable!("it was made so") };
    // Every lane has worked.
    let videos: Vec<String> = (0..8 * POSTGRES_CONNECTIONS).map(|video| format!("v{video}")).collect();
    caller
        .ask_all(videos.iter().map(|video| like(video, "ana")))
        .into_iter()
        .for_each(|answer| assert!(answer.is_ok()));
    server.pause();
    // The first of a lane find out, the second were waiting behind them, the third come when it is known.
    for _ in 0..3 {
        let since = Instant::now();
        let answers = caller.ask_all(videos.iter().map(|video| like(video, "bo")));
        let waited = since.elapsed();
        assert!(answers.iter().all(unavailable), "{answers:?}");
        // Not a matter of speed: the bound has room for a busy machine, and without one nothing would ever come back.
        assert!(waited < POSTGRES_BATCH + Duration::from_secs(5), "{waited:?}");
        assert!(caller.store.health().is_err());
    }
    server.resume();
    for video in &videos {
        let Outcome::Liked { likes, .. } = works_again(&caller, &like(video, "bo")) else { panic!("a like") };
        assert_eq!(likes, 2, "the same like, whether the first try was stored or not");
    }
    eventually("readiness", || caller.store.health());
    check_tables(&database);
}

#[test]
fn idle_node_thinks_that_a_lost_server_is_there() {
    let mut server = Postgres::start();
    let caller = Caller::on(&server.url());
    caller.run(like("42", "ana"));
    assert_eq!(caller.store.health(), Ok(()));
    server.kill();
    let detail = eventually("the store to notice by itself", || caller.store.health().err().ok_or("well".to_owned()));
    assert!(!detail.is_empty());
    server.launch();
    eventually("the store to recover by itself", || caller.store.health());
}

#[test]
fn command_fails_on_a_connection_that_died_unnoticed() {
    let server = Postgres::start();
    let caller = Caller::on(&server.url());
    for round in 0..5 {
        caller.run(like("42", &format!("m{round}")));
        // Nothing was under way, so nothing is in doubt, and nobody has to hear of it.
        server.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fanfare'",
        );
    }
    assert_eq!(
        caller.run(counts("42")),
        Outcome::Counts { likes: 5, reactions: vec![("like".into(), 5)], taps: vec![] }
    );
}

#[test]
fn node_needs_its_database_to_start() {
    let mut server = Postgres::stopped(&[]);
    let caller = Caller::on(&server.url_of("postgres", "later"));
    assert!(caller.store.health().is_err());
    assert!(unavailable(&caller.ask(like("42", "ana"))));
    server.launch();
    // There, but without the database: still no reason to end.
    assert!(unavailable(&caller.ask(like("42", "ana"))));
    eventually("another reason", || match caller.store.health() {
        Err(detail) if detail.contains("later") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    server.sql("postgres", "CREATE DATABASE later");
    works_again(&caller, &like("42", "ana"));
    eventually("readiness", || caller.store.health());
}

#[test]
fn two_backends_trip_over_each_other_at_the_first_start() {
    let server = Postgres::start();
    let callers: Vec<Caller> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Caller::on(&server.url()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it starts")).collect()
    });
    for (number, caller) in callers.iter().enumerate() {
        caller.run(like("42", &format!("m{number}")));
    }
    assert_eq!(server.value("SELECT count(*) FROM fanfare.about"), "1");
    assert_eq!(server.value("SELECT likes FROM fanfare.like_counts"), "4");
    // Ids of both backends name the same database.
    let ids: Vec<String> =
        callers.iter().map(|caller| posted(caller.run(post(PostKind::Comment, "v", "ana", "x")))).collect();
    let names: BTreeSet<&str> = ids.iter().map(|id| id.split_once('-').expect("number and name").1).collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn database_of_another_program_is_damaged() {
    let server = Postgres::start();
    let make = |name: &str, sql: &str| {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql(name, sql);
        server.url_of("postgres", name)
    };
    let shape = |name: &str| {
        let sql =
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'fanfare'
             ORDER BY 1, 2";
        server.sql(name, sql)
    };
    let foreign = make(
        "other",
        "CREATE SCHEMA fanfare; CREATE TABLE fanfare.likes (x integer); INSERT INTO fanfare.likes VALUES (7)",
    );
    let before = shape("other");
    assert!(refused(&foreign).problem.contains("another program"), "{:?}", refused(&foreign));
    assert_eq!(shape("other"), before, "it was left alone");

    let mark = "CREATE SCHEMA fanfare; CREATE TABLE fanfare.about (application text, version integer, database text)";
    let marked = make("marked", &format!("{mark}; INSERT INTO fanfare.about VALUES ('jazz', 1, 'x')"));
    assert!(refused(&marked).problem.contains("another program"));
    let half = make(
        "half",
        &format!(
            "{mark}; INSERT INTO fanfare.about VALUES ('fanfare', 0, '00000000'); CREATE TABLE fanfare.posts (x integer)"
        ),
    );
    assert!(refused(&half).problem.contains("another shape"), "{:?}", refused(&half));
    assert_eq!(server.sql("half", "SELECT version FROM fanfare.about"), [["0"]], "nothing was migrated");
    let about = make("about", "CREATE SCHEMA fanfare; CREATE TABLE fanfare.about (x integer)");
    assert!(refused(&about).problem.contains("another shape"), "{:?}", refused(&about));
    let newer = make("newer", &format!("{mark}; INSERT INTO fanfare.about VALUES ('fanfare', 99, '00000000')"));
    let error = refused(&newer);
    assert!(error.problem.contains("version 99") && error.remedy.contains("newer"), "{error}");
    // Of the right version, but somebody changed a table.
    let changed = make("changed", "");
    drop(Caller::on(&changed));
    server.sql("changed", "ALTER TABLE fanfare.likes RENAME COLUMN member TO fan");
    let before = shape("changed");
    assert!(refused(&changed).problem.contains("another shape"), "{:?}", refused(&changed));
    assert_eq!(shape("changed"), before);
    server.sql("changed", "ALTER TABLE fanfare.likes RENAME COLUMN fan TO member");
    server.sql("changed", "ALTER TABLE fanfare.like_counts ALTER COLUMN likes TYPE integer");
    assert!(refused(&changed).problem.contains("likes"), "{:?}", refused(&changed));
    // Tables of our names outside our schema are nobody's concern.
    let beside = make("beside", "CREATE TABLE likes (x integer); INSERT INTO likes VALUES (7)");
    Caller::on(&beside).run(like("42", "ana"));
    assert_eq!(server.sql("beside", "SELECT x FROM likes"), [["7"]]);
}

#[test]
fn hopeless_start_is_tried_for_ever() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'");
    for (url, problem) in [
        (server.url_of("locked:wrong", "fanfare"), "password"),
        (server.url_of("locked", "fanfare"), "password"),
        (server.url_of("nobody", "fanfare"), "nobody"),
        (server.url_of("postgres", "nowhere"), "nowhere"),
        (server.url_of("locked:secret", "fanfare"), "permission denied"),
        (server.url_of("postgres", "latin"), "LATIN1"),
        (format!("{}?sslmode=require", server.url()), "TLS"),
        (format!("{}?colour=red", server.url()), "colour"),
    ] {
        let refused = refused(&url);
        assert!(refused.problem.contains(problem), "{url}: {refused}");
        assert!(!refused.to_string().contains("wrong"), "no password is shown: {refused}");
    }
    server.sql("postgres", "GRANT CREATE ON DATABASE fanfare TO locked");
    Caller::on(&server.url_of("locked:secret", "fanfare")).run(like("42", "ana"));
}

#[test]
fn what_postgres_cannot_hold_spoils_a_batch() {
    let server = Postgres::start();
    let caller = Caller::on(&server.url());
    let long = "x".repeat(STORE_NAME_BYTES_MAX + 1);
    let longest = &long[1..];
    let widest = Command::Like { video: longest.into(), member: longest.into(), reaction: longest.into(), at: 1 };
    // One place, so that all share a lane, and most likely a batch. A lane that is not connected yet refuses what it waits for in
    // vain, so that one is asked for first.
    [
        like("42", "first"),
        Command::Like { video: longest.into(), member: "first".into(), reaction: "like".into(), at: 1 },
    ]
    .into_iter()
    .for_each(|first| drop(caller.run(first)));
    let answers = caller.ask_all([like("42", "ana"), like("42", "a\0b"), like("42", &long), like("42", "bo"), widest]);
    assert!(answers[0].is_ok() && answers[3].is_ok() && answers[4].is_ok(), "{answers:?}");
    assert!(matches!(&answers[1], Err(StoreError::Invalid { detail }) if detail.contains("U+0000")), "{answers:?}");
    assert!(matches!(&answers[2], Err(StoreError::Invalid { detail }) if detail.contains("513")), "{answers:?}");

    // What only the database knows of is found by cutting the batch in two, again and again.
    server.sql("fanfare", "ALTER TABLE fanfare.likes ADD CHECK (member <> 'poison')");
    let mut members: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    members[17] = "poison".into();
    let answers = caller.ask_all(members.iter().map(|member| like("43", member)));
    for (member, answer) in members.iter().zip(&answers) {
        match answer {
            Err(StoreError::Refused { detail }) => assert!(member == "poison" && detail.contains("check"), "{detail}"),
            other => assert!(member != "poison" && other.is_ok(), "{member}: {other:?}"),
        }
    }
    assert_eq!(
        caller.run(counts("43")),
        Outcome::Counts { likes: 49, reactions: vec![("like".into(), 49)], taps: vec![] }
    );
    assert_eq!(caller.store.health(), Ok(()), "the database is well");
    check_tables(&Database::Postgres(Box::new(server)));
}

#[test]
fn server_that_refuses_writes_is_taken_for_well() {
    let server = Postgres::start();
    let caller = Caller::on(&server.url());
    caller.run(like("42", "ana"));
    let set = |what: &str| {
        server.sql("postgres", &format!("ALTER DATABASE fanfare SET default_transaction_read_only = {what}"));
        // Sessions that are there do not hear of it.
        server.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fanfare'",
        );
    };
    set("on");
    assert!(unavailable(&caller.ask(like("42", "bo"))));
    assert!(caller.store.health().is_err());
    // One place, so that all share a lane, and most likely a batch; while the lane connects anew, it answers none.
    let stored = Ok(Outcome::Counts { likes: 1, reactions: vec![("like".into(), 1)], taps: vec![] });
    eventually("reads in the company of writes", || {
        let answers = caller.ask_all([like("42", "bo"), counts("42"), like("42", "cy"), counts("42")]);
        assert!(unavailable(&answers[0]) && unavailable(&answers[2]), "{answers:?}");
        if [&answers[1], &answers[3]] == [&stored, &stored] { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    set("off");
    let again = works_again(&caller, &like("42", "bo"));
    assert_eq!(again, Outcome::Liked { created: true, likes: 2, reaction_likes: 2 });
}

#[test]
fn lock_of_another_session_holds_commands_back() {
    let server = Postgres::start();
    let caller = Caller::on(&server.url());
    caller.run(like("42", "ana"));
    // Held for longer than a statement may wait.
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| {
            server
                .sql("fanfare", "BEGIN; LOCK TABLE fanfare.likes IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT")
        });
        eventually("the lock", || {
            let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
                AND relation = 'fanfare.likes'::regclass";
            if server.value(held) == "1" { Ok(()) } else { Err("not held".to_owned()) }
        });
        assert!(unavailable(&caller.ask(like("42", "bo"))));
        holding.join().expect("it let go");
    });
    let again = works_again(&caller, &like("42", "bo"));
    assert_eq!(again, Outcome::Liked { created: true, likes: 2, reaction_likes: 2 });
}

#[test]
fn password_is_told_to_an_impostor() {
    let (certificate, key) = certified(&["localhost"]);
    let mut server = Postgres::stopped(&["ssl = on"]);
    server.put("server.crt", &certificate);
    server.put("server.key", &key);
    server.launch();
    server.sql("postgres", "GRANT CREATE ON DATABASE fanfare TO locked");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = |name: &str, certificate: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, certificate).expect("written");
        path.display().to_string()
    };
    let (ours, others) = (trusted("ours", &certificate), trusted("others", &certified(&["localhost"]).0));
    let url = |host: &str, authorities: &str| {
        let port = server.port();
        format!("postgres://locked:secret@{host}:{port}/fanfare?sslmode=verify-full&sslrootcert={authorities}")
    };
    for (host, authorities) in [("localhost", &others), ("127.0.0.1", &ours)] {
        let refused = refused(&url(host, authorities));
        assert!(refused.problem.contains("certificate"), "{host}: {refused}");
    }
    let caller = Caller::on(&url("localhost", &ours));
    caller.run(like("42", "ana"));
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'fanfare'";
    assert_eq!(server.sql("fanfare", encrypted), [["t"]]);
}

#[test]
fn built_program_cannot_use_it() {
    let server = Postgres::start();
    // A node starts before its database is reached.
    let start = || {
        let node = Node::launch_on(program(), &server.url(), &["--cores", "1"]);
        let ready = || Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status;
        becomes("the node to have its database", 200, ready);
        node
    };
    // A machine that is busy for a moment answers 503, as anybody must expect who posts.
    let like = |node: &Node| {
        eventually("a like to be stored", || match node.post("/v1/videos/42/likes", reaction("ana", "like")) {
            answer if answer.status == 503 => Err(answer.text()),
            answer => Ok((answer.status, answer.json()["likes"].as_u64())),
        })
    };
    let node = start();
    let stored = like(&node);
    assert!(stored == (201, Some(1)) || stored == (200, Some(1)), "{stored:?}");
    assert_eq!(like(&start()), (200, Some(1)), "both are one backend");

    let mut late = Postgres::stopped(&[]);
    let node = Node::launch_on(program(), &late.url_of("postgres", "postgres"), &["--cores", "1"]);
    let ready = || Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    assert!(ready().problem(503).contains("database"), "{:?}", ready());
    assert!(node.post("/v1/videos/42/likes", reaction("ana", "like")).problem(503).contains("database"));
    late.launch();
    becomes("readiness", 200, || ready().status);
    assert_eq!(like(&node).1, Some(1));

    // A password from a file is in no list of processes, and may change.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&file, "secret\n").expect("it is ours");
    server.sql("postgres", "GRANT CREATE ON DATABASE fanfare TO locked");
    server.sql("fanfare", "GRANT ALL ON SCHEMA fanfare TO locked; GRANT ALL ON ALL TABLES IN SCHEMA fanfare TO locked");
    server.sql("fanfare", "GRANT ALL ON ALL SEQUENCES IN SCHEMA fanfare TO locked");
    let path = file.path().to_str().expect("a path of the tests");
    let locked = server.url_of("locked", "fanfare");
    let node = Node::launch_on(program(), &locked, &["--cores", "1", "--db-password-file", path]);
    assert_eq!(like(&node), (200, Some(1)));
    server.sql("postgres", "ALTER ROLE locked PASSWORD 'another'");
    std::fs::write(&file, "another").expect("it is ours");
    server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'locked'");
    assert_eq!(like(&node), (200, Some(1)));

    let url = server.url_of("locked:hunter2", "fanfare");
    let output = program()
        .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", &url])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--db") && text.contains("password") && !text.contains("hunter2"), "{text}");
}

#[test]
fn password_in_the_servers_own_file_is_not_found() {
    let server = Postgres::start();
    server.sql("postgres", "GRANT CREATE ON DATABASE fanfare TO locked");
    let url = server.url_of("locked", "fanfare");
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join(".pgpass");
    let write = |path: &Path, mode: u32| {
        std::fs::write(path, "*:*:*:bo:another\n127.0.0.1:*:fanfare:locked:secret\n").expect("it is ours");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let launch = |variable: &str, path: &Path| {
        let mut command = program();
        command.env_remove("PGPASSFILE").env("HOME", "/nowhere").env(variable, path);
        Node::launch_on(command, &url, &["--cores", "1"])
    };
    let ready = |node: &Node| Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status;
    write(&file, 0o600);
    let node = launch("HOME", home.path());
    becomes("the node to have its database", 200, || ready(&node));
    let elsewhere = home.path().join("elsewhere");
    write(&elsewhere, 0o600);
    let node = launch("PGPASSFILE", &elsewhere);
    becomes("the node to have its database", 200, || ready(&node));

    // One that others may read is not used, and the operator hears of it.
    write(&file, 0o644);
    let output = program()
        .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", &url])
        .env_remove("PGPASSFILE")
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("chmod 600") && text.contains("--db-password-file"), "{text}");
}
