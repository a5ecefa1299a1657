//! What the store promises, against a model; under failures and across kills in `failures`.

pub mod failures;
pub mod posts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Barrier;

use crossbeam_channel::{Receiver, unbounded};
use proptest::prelude::*;
use rusqlite::Connection;

use super::start;
use crate::db::sqlite::batch::Writer;
use crate::db::{Command, Outcome, Store, StoreError};
use crate::limits::{STORE_BATCH_COMMANDS, STORE_QUEUE_COMMANDS};

type Answer = (u64, Result<Outcome, StoreError>);

fn like(video: &str, member: &str) -> Command {
    Command::Like { video: video.into(), member: member.into(), reaction: "like".into(), at: 1_732_313_131_123 }
}

fn counts(video: &str) -> Command {
    Command::Counts { video: video.into() }
}

/// Lets the database have so many pages: a full disk, for it.
fn make_room(writer: &Writer, pages: u32) {
    let connection = writer.connection().expect("a full disk needs no new connection");
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("pragma");
}

/// A store whose answers come out of a channel in the order in which they were given.
fn collecting(path: &Path) -> (Store<u64>, Receiver<Answer>, std::thread::JoinHandle<()>) {
    let (sender, answers) = unbounded();
    let (store, thread) = start(path, move |ticket, result| sender.send((ticket, result)).expect("it is received"))
        .expect("the database opens");
    (store, answers, thread)
}

fn number(connection: &Connection, sql: &str) -> u64 {
    connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0)).expect("a number").unwrap_or(0)
}

/// What the store should be: a set of likes, and everything else worked out from it.
#[derive(Debug, Default, Clone)]
struct Model {
    likes: BTreeSet<(String, String, String)>,
}

impl Model {
    fn reactions(&self, video: &str) -> BTreeMap<String, u64> {
        let mut reactions = BTreeMap::new();
        for (_, _, reaction) in self.likes.iter().filter(|like| like.0 == video) {
            *reactions.entry(reaction.clone()).or_default() += 1;
        }
        reactions
    }

    fn run(&mut self, command: &Command) -> Outcome {
        let (video, reaction, changed) = match command.clone() {
            Command::Like { video, member, reaction, .. } => {
                let created = self.likes.insert((video.clone(), member, reaction.clone()));
                (video, reaction, created)
            }
            Command::Unlike { video, member, reaction } => {
                let removed = self.likes.remove(&(video.clone(), member, reaction.clone()));
                (video, reaction, removed)
            }
            Command::Counts { video } => (video, String::new(), false),
            other => unreachable!("not about likes: {other:?}"),
        };
        let reactions = self.reactions(&video);
        let likes = reactions.values().sum();
        let reaction_likes = reactions.get(&reaction).copied().unwrap_or(0);
        match command {
            Command::Like { .. } => Outcome::Liked { created: changed, likes, reaction_likes },
            Command::Unlike { .. } => Outcome::Unliked { removed: changed, likes, reaction_likes },
            _ => Outcome::Counts { likes, reactions: reactions.into_iter().collect(), taps: vec![] },
        }
    }

    /// The tables hold exactly the model, read through a connection of its own.
    fn check(&self, path: &Path) {
        let connection = Connection::open(path).expect("reopens");
        let stored: BTreeSet<(String, String, String)> = connection
            .prepare("SELECT video, member, reaction FROM likes")
            .expect("statement")
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .expect("rows")
            .collect::<Result<_, _>>()
            .expect("rows");
        assert_eq!(stored, self.likes);
        check_counts(&connection);
    }
}

/// The kept counts are what counting the likes gives, in both directions.
fn check_counts(connection: &Connection) {
    let counted = "SELECT video, reaction, count(*) FROM likes GROUP BY video, reaction";
    let kept = "SELECT video, reaction, likes FROM like_counts";
    for (one, other) in [(counted, kept), (kept, counted)] {
        let differing = number(connection, &format!("SELECT count(*) FROM ({one} EXCEPT {other})"));
        assert_eq!(differing, 0, "counts differ from the likes");
    }
}

/// Few enough values that likes repeat and are taken back often.
fn command() -> impl Strategy<Value = Command> {
    let reaction = prop_oneof![Just("like"), Just("love"), Just("ünïcode \0 💙")];
    (0..7u8, 0..3u8, 0..6u8, reaction).prop_map(|(kind, video, member, reaction)| {
        let (video, member) = (format!("v{video}"), format!("m{member}"));
        let reaction = reaction.to_owned();
        match kind {
            0..=2 => Command::Like { video, member, reaction, at: 5 },
            3..=5 => Command::Unlike { video, member, reaction },
            _ => Command::Counts { video },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Batches of any size, some of which fail as a whole and must then leave nothing, not even a count in memory.
    #[test]
    fn batches_do_what_the_commands_do_one_by_one(
        batches in prop::collection::vec((prop::collection::vec(command(), 1..40), prop::bool::weighted(0.2)), 1..12)
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fanfare.db");
        let mut writer = Writer::open(&path).expect("opens");
        let mut model = Model::default();
        let refuse = "CREATE TEMP TRIGGER refuse BEFORE INSERT ON like_counts BEGIN SELECT RAISE(ROLLBACK, 'refused'); END";
        for (batch, fails) in batches {
            if fails {
                // A batch without effect opens the database again if the one before failed.
                prop_assert!(writer.run(&[counts("none")])[0].is_ok());
                writer.connection().expect("open").execute_batch(refuse).expect("trigger");
            }
            let mut next = model.clone();
            let expected: Vec<_> = batch.iter().map(|command| Ok(next.run(command))).collect();
            let results = writer.run(&batch);
            if results.iter().any(|result| matches!(result, Err(StoreError::Unavailable { .. }))) {
                prop_assert!(fails, "{results:?}");
                for (command, result) in batch.iter().zip(results) {
                    // What only reads goes on.
                    prop_assert_eq!(result.is_ok(), !command.writes());
                    prop_assert!(result.is_err() || result == Ok(model.run(command)));
                }
            } else {
                prop_assert_eq!(results, expected);
                model = next;
            }
            if let Some(connection) = writer.connection() {
                connection.execute_batch("DROP TRIGGER IF EXISTS refuse").expect("trigger");
            }
        }
        drop(writer);
        model.check(&path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Eight threads, thousands of commands: answers come in the order of the commits, so a model that follows them
    /// must agree with each one.
    #[test]
    fn counts_are_exact_with_eight_threads(
        scripts in prop::collection::vec(prop::collection::vec(command(), 500), 8)
    ) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fanfare.db");
        let (store, answers, thread) = collecting(&path);
        std::thread::scope(|scope| {
            for (number, script) in scripts.iter().enumerate() {
                let store = store.clone();
                scope.spawn(move || {
                    for (index, command) in script.iter().enumerate() {
                        let ticket = (number * 500 + index) as u64;
                        while store.try_submit(command.clone(), ticket).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        drop(store);
        thread.join().expect("the storage thread ends");
        let mut model = Model::default();
        let mut last = [None; 8];
        let mut answered = 0;
        for (ticket, result) in answers {
            let (thread, index) = (ticket as usize / 500, ticket as usize % 500);
            prop_assert_eq!(result, Ok(model.run(&scripts[thread][index])));
            prop_assert!(last[thread].replace(index) < Some(index), "one thread's commands keep their order");
            answered += 1;
        }
        prop_assert_eq!(answered, 8 * 500);
        model.check(&path);
    }
}

#[test]
fn the_same_like_twice_at_once_is_created_once() {
    let directory = tempfile::tempdir().expect("directory");
    let (store, answers, _thread) = collecting(&directory.path().join("fanfare.db"));
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, barrier) = (store.clone(), &barrier);
            scope.spawn(move || {
                for round in 0..200_u64 {
                    barrier.wait();
                    store.try_submit(like("42", &format!("m{round}")), round * 2 + thread).expect("there is room");
                }
            });
        }
    });
    let mut created = vec![0; 200];
    for (ticket, result) in answers.iter().take(400) {
        let Ok(Outcome::Liked { created: new, .. }) = result else { panic!("{result:?}") };
        created[ticket as usize / 2] += u32::from(new);
    }
    assert_eq!(created, vec![1; 200]);
}

#[test]
fn an_answer_comes_after_its_commit() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    drop(Writer::open(&path).expect("opens"));
    let other = Connection::open(&path).expect("opens");
    let (sender, seen) = unbounded();
    let (store, thread) = start(&path, move |member: String, result: Result<Outcome, StoreError>| {
        let rows = other
            .query_row("SELECT count(*) FROM likes WHERE member = ?1", [member], |row| row.get::<_, u64>(0))
            .expect("a number");
        sender.send((rows, result.is_ok())).expect("it is received");
    })
    .expect("opens");
    for member in 0..500 {
        store.try_submit(like("42", &member.to_string()), member.to_string()).expect("there is room");
    }
    drop(store);
    thread.join().expect("the storage thread ends");
    assert_eq!(seen.iter().collect::<Vec<_>>(), vec![(1, true); 500], "another connection sees each answered like");
}

#[test]
fn closing_stores_and_answers_what_was_taken() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let (store, answers, thread) = collecting(&path);
    let taken = STORE_QUEUE_COMMANDS as u64;
    assert!(taken > STORE_BATCH_COMMANDS as u64, "more than a batch is waiting");
    for member in 0..taken {
        store.try_submit(like("42", &member.to_string()), member).expect("there is room");
    }
    store.close();
    assert!(store.try_submit(like("42", "late"), taken).expect_err("closed").closed);
    thread.join().expect("the storage thread ends");
    assert_eq!(answers.iter().filter(|(_, result)| result.is_ok()).count() as u64, taken);
    let connection = Connection::open(&path).expect("reopens");
    assert_eq!(number(&connection, "SELECT likes FROM like_counts"), taken);
}

#[test]
fn a_command_that_is_refused_does_not_touch_the_others_of_its_batch() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut writer = Writer::open(&path).expect("opens");
    let trigger = "CREATE TEMP TRIGGER poison BEFORE INSERT ON likes WHEN new.member = 'poison'
         BEGIN SELECT RAISE(ABORT, 'poisoned'); END";
    writer.connection().expect("open").execute_batch(trigger).expect("trigger");
    let late = Command::Like { video: "42".into(), member: "late".into(), reaction: "like".into(), at: u64::MAX };
    let results = writer.run(&[like("42", "ana"), like("42", "poison"), late, like("42", "bo"), counts("42")]);
    let liked = |likes| Ok(Outcome::Liked { created: true, likes, reaction_likes: likes });
    assert_eq!(results[0], liked(1));
    assert!(matches!(&results[1], Err(StoreError::Refused { detail }) if detail.contains("poisoned")), "{results:?}");
    assert!(matches!(&results[2], Err(StoreError::Invalid { detail }) if detail.contains("18446744073709551615")));
    assert_eq!(results[3], liked(2));
    assert_eq!(results[4], Ok(Outcome::Counts { likes: 2, reactions: vec![("like".into(), 2)], taps: vec![] }));
    let connection = Connection::open(&path).expect("reopens");
    assert_eq!(number(&connection, "SELECT count(*) FROM likes"), 2);
    check_counts(&connection);
}
