//! The database is away, or the store is while comments go into the database.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare::limits::{HANDOVER_PATIENCE, STORE_QUEUE_COMMANDS};

use super::beneath::Store;
use super::frontends::videos;
use super::load::{Load, What};
use super::setup::*;
use super::viewers::{Viewer, Viewers};
use crate::support::http::{Client, request};
use crate::support::node::{Node, program};
use crate::support::postgres::Postgres;
use crate::support::{eventually, reaction};

#[test]
fn like_acknowledged_that_a_crashed_database_does_not_have() {
    database_crashes(Store::redis());
}

fn database_crashes(mut store: Store) {
    let mut postgres = Postgres::start();
    let site = Site::on(&store.url(), &postgres.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 30);
    let loads: Vec<Load> =
        videos.iter().map(|video| Load::start(What::Likes, site.desks(), std::slice::from_ref(video))).collect();
    for round in 0..2 {
        loads.iter().for_each(|load| load.more(20));
        postgres.kill();
        let before: Vec<usize> = loads.iter().map(Load::refused).collect();
        eventually("each to be refused", || {
            let now: Vec<usize> = loads.iter().map(Load::refused).collect();
            if now.iter().zip(&before).all(|(now, before)| now > before) { Ok(()) } else { Err(format!("{now:?}")) }
        });
        postgres.launch();
        if round == 0 {
            store.lose_master_of(&wanted_key(&topics[0]));
        }
    }
    loads.iter().for_each(|load| load.more(20));
    assert_eq!(loads.iter().map(Load::failed).sum::<usize>(), 0, "each gets an answer");
    let taken: BTreeSet<String> = loads.into_iter().flat_map(Load::stop).collect();
    let rows = postgres.sql("fanfare", "SELECT video || '/' || member FROM fanfare.likes");
    let rows: BTreeSet<String> = rows.into_iter().map(|mut row| row.remove(0)).collect();
    let absent: Vec<_> = taken.difference(&rows).collect();
    assert!(absent.is_empty(), "acknowledged and absent: {absent:?}");
    assert_eq!(rows.len(), taken.len(), "each was tried until it was stored");
    // The next one heals every display.
    for (topic, video) in topics.iter().zip(&videos) {
        let stored = rows.iter().filter(|row| row.starts_with(&format!("{video}/"))).count();
        let mut answer = None;
        // A server that has just started may be too slow for one.
        eventually("it to be taken", || {
            let like = post(site.desks()[0], &format!("/v1/videos/{video}/likes"), &reaction("last", "like"));
            match answer.insert(like.expect("an answer")).status {
                503 => Err(503),
                _ => Ok(()),
            }
        });
        let answer = answer.expect("it was taken");
        assert_eq!((answer.status, answer.body["likes"].as_u64()), (201, Some(stored as u64 + 1)), "{topic}");
        let total = answer.body["likes"].as_u64();
        viewers.until("to be shown the total", |viewer| viewer.totals.get(topic).copied() == total);
    }
}

/// As one that has just started and is short of processors, which needs longer for a connection than it is given at first.
#[test]
fn likes_refused_for_good_by_a_server_that_is_slow_to_take_connections() {
    let mut postgres = Postgres::start();
    let node = Node::launch_on(program(), &postgres.url(), &["--cores", "1"]);
    let load = Load::start(What::Likes, vec![node.public], &["1".to_owned()]);
    load.more(20);
    let slow = "SET synchronous_commit = on; ALTER TABLE fanfare.about RENAME TO real;
        CREATE VIEW fanfare.about AS SELECT real.* FROM fanfare.real, pg_sleep(3)";
    postgres.sql("fanfare", slow);
    postgres.kill();
    postgres.launch();
    load.more(20);
    load.stop();
}

#[test]
fn like_acknowledged_that_a_locked_file_does_not_have() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::in_folder(folder.path(), &["--cores", "1"]);
    let mut stream = node.stream("topic=live:1");
    let load = Load::start(What::Likes, vec![node.public], &["1".to_owned()]);
    load.more(20);
    let file = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("it is there");
    file.busy_timeout(crate::support::DEADLINE).expect("a setting");
    file.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let refused = load.refused();
    eventually("a refusal", || if load.refused() > refused { Ok(()) } else { Err("none".to_owned()) });
    let query = "SELECT count(*) FROM likes";
    let stored: usize = file.query_row(query, [], |row| row.get(0)).expect("a count");
    assert_eq!(load.count(), stored, "nothing is acknowledged that is not stored");
    file.execute_batch("COMMIT").expect("it was ours");
    load.more(20);
    let taken = load.stop();
    let stored: usize = file.query_row(query, [], |row| row.get(0)).expect("a count");
    // One may have been stored whose answer nobody waited for.
    assert!(stored == taken.len() || stored == taken.len() + 1, "{stored} stored, {} taken", taken.len());
    while stream.event()["data"]["likes"] != stored {}
}

#[test]
fn like_of_a_burst_beyond_the_queue_acknowledged_and_lost() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let mut stream = node.stream("topic=live:1");
    let file = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("it is there");
    file.busy_timeout(crate::support::DEADLINE).expect("a setting");
    file.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let like = |member: usize| {
        let mut client = Client::connect(node.public);
        let body = reaction(&format!("m{member}"), "like");
        client.send(request("POST", "/v1/videos/1/likes", &[], body.as_bytes()));
        client
    };
    let clients: Vec<Client> = (0..STORE_QUEUE_COMMANDS + 1_000).map(like).collect();
    eventually("some to be refused", || match node.metric("fanfare_store_errors_total", "") {
        0 => Err("none"),
        _ => Ok(()),
    });
    file.execute_batch("COMMIT").expect("it was ours");
    let mut taken = BTreeSet::new();
    for (member, mut client) in clients.into_iter().enumerate() {
        let answer = client.answer();
        match answer.status {
            201 => drop(taken.insert(format!("m{member}"))),
            503 => assert!(answer.header("retry-after").is_some(), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
    }
    let mut members = file.prepare("SELECT member FROM likes").expect("there is such a table");
    let rows = members.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let stored: BTreeSet<String> = rows.map(|row| row.expect("a name")).collect();
    assert_eq!(stored, taken, "what is acknowledged is stored, and what is refused is not");
    assert!(!taken.is_empty(), "it went on");
    let (mut count, mut total) = (0, 0);
    while count < taken.len() as u64 {
        let event = stream.event();
        count += event["count"].as_u64().expect("a number");
        total = total.max(event["data"]["likes"].as_u64().expect("a number"));
    }
    assert_eq!((count, total), (taken.len() as u64, taken.len() as u64));
}

#[test]
fn comment_stored_and_never_published() {
    store_hangs_after_the_database(&Store::redis());
}

fn store_hangs_after_the_database(store: &Store) {
    let postgres = Postgres::start();
    let site = Site::on(&store.url(), &postgres.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 30);
    let load = Load::start(What::Comments, site.desks(), &videos);
    load.more(20);
    viewers.have(&load.taken());
    store.pause();
    // Longer than a backend tries to hand over what it has just stored.
    for_the_length_of(HANDOVER_PATIENCE + Duration::from_secs(2), || load.more(1));
    let during = load.taken();
    store.resume();
    load.more(20);
    let taken = load.stop();
    assert!(taken.len() > during.len());
    // Those that found no dispatcher at once come again, under the ids that were answered.
    viewers.have(&taken);
    viewers.without_gaps();
    let rows = postgres.value("SELECT count(*) FROM fanfare.posts");
    let ids: BTreeSet<&String> = taken.iter().collect();
    assert!(ids.len() == taken.len() && rows == taken.len().to_string(), "{rows} stored, {} taken", taken.len());
    viewers.until("to have each once, and nothing else", |viewer| viewer.seen.len() == taken.len());
    eventually("the outbox to be empty", || match postgres.value("SELECT count(*) FROM fanfare.outbox").as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn comment_of_a_dead_backend_never_published() {
    backend_killed(&Store::redis());
}

fn backend_killed(store: &Store) {
    let postgres = Postgres::start();
    let mut site = Site::on(&store.url(), &postgres.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 30);
    store.pause();
    let load = Load::start(What::Comments, vec![site.desks()[0]], &videos);
    load.more(20);
    let stored = load.stop();
    site.backends.remove(0).kill();
    store.resume();
    // What one claims and does not publish is another's after a while.
    within(Duration::from_secs(60), "the other backend to publish all", || {
        let viewers = viewers.lock();
        let missing = |viewer: &Viewer| stored.iter().filter(|id| !viewer.has(id)).count();
        match viewers.iter().map(missing).max() {
            Some(0) => Ok(()),
            other => Err(format!("{other:?} missing of {}", stored.len())),
        }
    });
    viewers.without_gaps();
}
