//! A connection pooler before the server. Each test is named after what it prevents.

use std::process::Stdio;

use fanfare::db::{Outcome, PostKind};
use tokio_postgres::{Client, NoTls};

use super::Caller;
use super::likes::{counts, like};
use super::postgres::refused;
use super::posts::{post, posted};
use super::support::becomes;
use super::support::node::{Node, program};
use super::support::pgbouncer::PgBouncer;
use super::support::postgres::Postgres;

/// Another program in the pool.
async fn other(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the pooler takes it");
    tokio::spawn(connection);
    client
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn statements_of_one_transaction_are_missed_in_the_next() {
    let server = Postgres::start();
    let pooler = PgBouncer::before(&server, "transaction", 3);
    let first = Caller::on(&pooler.url());
    let all = |callers: &[&Caller], round: &str| {
        for (number, caller) in callers.iter().enumerate() {
            let likes = (0..40).map(|member| like(&format!("v{member}"), &format!("{round}{number}")));
            for answer in caller.ask_all(likes) {
                assert!(matches!(answer, Ok(Outcome::Liked { created: true, .. })), "{answer:?}");
            }
            posted(caller.run(post(PostKind::Comment, "v", "ana", "x")));
        }
    };
    all(&[&first], "alone");
    let runtime = runtime();
    // One leaves statements of likely names behind, and two hold a connection each: so all share the one that is left.
    let (_leaves, held) = runtime.block_on(async {
        let leaves = other(&pooler.url()).await;
        for number in 0..60 {
            leaves.batch_execute(&format!("PREPARE s{number} AS SELECT 1")).await.expect("it is prepared");
        }
        let held = [other(&pooler.url()).await, other(&pooler.url()).await];
        for holds in &held {
            holds.batch_execute("BEGIN").await.expect("a transaction");
        }
        (leaves, held)
    });
    let second = Caller::on(&pooler.url());
    all(&[&first, &second], "held");
    runtime.block_on(async {
        for holds in &held {
            holds.batch_execute("COMMIT").await.expect("it ends");
        }
    });
    all(&[&first, &second], "free");
    assert_eq!([&first, &second].map(|caller| caller.store.health()), [Ok(()), Ok(())]);
    assert_eq!(
        first.run(counts("v7")),
        Outcome::Counts { likes: 5, reactions: vec![("like".into(), 5)], taps: vec![] }
    );
    // What was set for a transaction stays with it.
    runtime.block_on(async {
        for _ in 0..3 {
            let settings = "SELECT current_setting('statement_timeout') || current_setting('enable_seqscan')";
            let row = other(&pooler.url()).await.query_typed_one(settings, &[]).await.expect("a row");
            assert_eq!(row.get::<_, &str>(0), "0on");
        }
    });
}

#[test]
fn tables_that_somebody_changed_are_found_out_later() {
    let server = Postgres::start();
    let pooler = PgBouncer::before(&server, "transaction", 3);
    Caller::on(&pooler.url()).run(like("42", "ana"));
    let problem = || refused(&pooler.url()).problem;
    server.sql("fanfare", "ALTER TABLE fanfare.likes RENAME COLUMN member TO fan");
    assert!(problem().contains("another shape"), "{}", problem());
    server.sql("fanfare", "ALTER TABLE fanfare.likes RENAME COLUMN fan TO member");
    server.sql("fanfare", "ALTER TABLE fanfare.like_counts ALTER COLUMN likes TYPE integer");
    assert!(problem().contains("likes"), "{}", problem());
}

#[test]
fn pool_of_sessions_is_refused() {
    let server = Postgres::start();
    let pooler = PgBouncer::before(&server, "session", 20);
    let callers = [Caller::on(&pooler.url()), Caller::on(&pooler.url())];
    for (number, caller) in callers.iter().enumerate() {
        caller.run(like("42", &number.to_string()));
        caller.run(post(PostKind::Comment, "42", "ana", "x"));
    }
    assert_eq!(
        callers[0].run(counts("42")),
        Outcome::Counts { likes: 2, reactions: vec![("like".into(), 2)], taps: vec![] }
    );
}

#[test]
fn pool_of_statements_is_taken_for_an_outage() {
    let server = Postgres::start();
    Caller::on(&server.url()).run(like("42", "ana"));
    let pooler = PgBouncer::before(&server, "statement", 3);
    let output = program()
        .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", &pooler.url()])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("pool_mode = transaction"), "{text}");
}

#[test]
fn built_program_cannot_use_it() {
    let server = Postgres::start();
    let pooler = PgBouncer::before(&server, "transaction", 2);
    let nodes = [(); 2].map(|()| Node::launch_on(program(), &pooler.url(), &["--cores", "1"]));
    for (number, node) in nodes.iter().enumerate() {
        let ready =
            || super::support::http::Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status;
        becomes("the node to have its database", 200, ready);
        let like = super::support::reaction(&number.to_string(), "like");
        becomes("a like to be stored", true, || node.post("/v1/videos/42/likes", like.clone()).status < 300);
    }
    assert_eq!(server.value("SELECT likes FROM fanfare.like_counts"), "2");
}
