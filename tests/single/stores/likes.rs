//! Likes and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;

use fanfare::db::{Command, Outcome, StoreError};

use super::{Caller, Database, on_both};

on_both! {
    commands_do_what_they_would_one_by_one
    counts_are_exact_with_two_backends
    the_same_like_by_two_backends_is_created_once
    a_refused_command_does_not_touch_the_others
    taps_are_added_up_by_video_and_reaction
    what_is_stored_stays_after_a_restart
}

pub fn like(video: &str, member: &str) -> Command {
    Command::Like { video: video.into(), member: member.into(), reaction: "like".into(), at: 1_732_313_131_123 }
}

pub fn counts(video: &str) -> Command {
    Command::Counts { video: video.into() }
}

/// What the store should be.
#[derive(Default)]
struct Model(BTreeSet<(String, String, String)>);

impl Model {
    fn run(&mut self, command: &Command) -> Outcome {
        let (video, reaction, changed) = match command.clone() {
            Command::Like { video, member, reaction, .. } => {
                let created = self.0.insert((video.clone(), member, reaction.clone()));
                (video, reaction, created)
            }
            Command::Unlike { video, member, reaction } => {
                let removed = self.0.remove(&(video.clone(), member, reaction.clone()));
                (video, reaction, removed)
            }
            Command::Counts { video } => (video, String::new(), false),
            other => unreachable!("not about likes: {other:?}"),
        };
        let mut reactions = BTreeMap::<String, u64>::new();
        for (_, _, reaction) in self.0.iter().filter(|like| like.0 == video) {
            *reactions.entry(reaction.clone()).or_default() += 1;
        }
        let likes = reactions.values().sum();
        let reaction_likes = reactions.get(&reaction).copied().unwrap_or(0);
        match command {
            Command::Like { .. } => Outcome::Liked { created: changed, likes, reaction_likes },
            Command::Unlike { .. } => Outcome::Unliked { removed: changed, likes, reaction_likes },
            _ => Outcome::Counts { likes, reactions: reactions.into_iter().collect(), taps: vec![] },
        }
    }
}

/// A series of numbers that looks random, the same in every run.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % below
    }
}

/// Few enough names that likes repeat, are taken back, and are given again within one batch.
fn command(number: &mut impl FnMut(u64) -> u64) -> Command {
    let (video, member) = (format!("v{}", number(5)), format!("m{}", number(6)));
    let reaction = ["like", "love", "ünïcode 💙"][number(3) as usize].to_owned();
    match number(7) {
        0..=2 => Command::Like { video, member, reaction, at: 5 },
        3..=5 => Command::Unlike { video, member, reaction },
        _ => Command::Counts { video },
    }
}

fn commands_do_what_they_would_one_by_one(database: &Database) {
    let caller = database.open();
    let mut number = numbers(1);
    let mut model = Model::default();
    for round in 0..60 {
        let size = 1 + number(120) as usize;
        let commands: Vec<_> = (0..size).map(|_| command(&mut number)).collect();
        // Commands for one video keep their order, and no other touches its counts.
        let expected: Vec<_> = commands.iter().map(|command| Ok(model.run(command))).collect();
        let answers = caller.ask_all(commands.clone());
        for ((command, answer), expected) in commands.iter().zip(answers).zip(expected) {
            assert_eq!(answer, expected, "{command:?} in round {round}");
        }
    }
    check_tables(database);
}

/// The kept counts are what counting the likes gives.
pub fn check_tables(database: &Database) {
    let differing = |from: &str| {
        let counted = format!("SELECT video, reaction, count(*) FROM {from}likes GROUP BY video, reaction");
        let kept = format!("SELECT video, reaction, likes FROM {from}like_counts");
        format!(
            "SELECT count(*) FROM ((SELECT * FROM ({counted}) a EXCEPT SELECT * FROM ({kept}) b)) c
             UNION ALL SELECT count(*) FROM ((SELECT * FROM ({kept}) a EXCEPT SELECT * FROM ({counted}) b)) d"
        )
    };
    match database {
        // Parentheses around parts of a compound are PostgreSQL's only.
        Database::Sqlite(folder) => {
            let connection = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("reopens");
            let sql = differing("").replace("((", "(").replace(")) ", ") ");
            let mut statement = connection.prepare(&sql).expect("statement");
            let rows: Vec<i64> = statement.query_map([], |row| row.get(0)).expect("rows").map(Result::unwrap).collect();
            assert_eq!(rows, [0, 0], "counts differ from the likes");
        }
        Database::Postgres(server) | Database::Pooled(server, _) => {
            assert_eq!(server.sql("fanfare", &differing("fanfare.")), [["0"], ["0"]], "counts differ from the likes");
        }
    }
}

fn counts_are_exact_with_two_backends(database: &Database) {
    const THREADS: usize = 4;
    const LIKES: usize = 300;
    let callers = [database.open(), database.open()];
    let mut totals: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let caller = &callers[thread % 2];
                scope.spawn(move || {
                    let mine = |number: usize| like("42", &format!("{thread}-{number}"));
                    // Ten in flight, beside others that are about other videos, in every thread in another order.
                    let others =
                        |number: usize| like(&format!("o{}", (number * (thread + 1)) % 7), &format!("{thread}"));
                    (0..LIKES / 10)
                        .flat_map(|ten| {
                            let numbers = ten * 10..ten * 10 + 10;
                            let commands = numbers.flat_map(|number| [mine(number), others(number)]);
                            answered(caller, commands.collect())
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    totals.sort_unstable();
    let all = (THREADS * LIKES) as u64;
    assert_eq!(totals, (1..=all).collect::<Vec<_>>(), "every like has a total of its own");
    for caller in &callers {
        assert_eq!(
            caller.run(counts("42")),
            Outcome::Counts { likes: all, reactions: vec![("like".into(), all)], taps: vec![] }
        );
    }
    check_tables(database);
}

/// Runs pairs of likes until each is stored; gives the totals of the first of each pair. Two processes on one SQLite file
/// may find it locked for longer than a batch waits.
fn answered(caller: &Caller, commands: Vec<Command>) -> Vec<u64> {
    let answers = caller.ask_all(commands.clone());
    let pairs = commands.chunks(2).zip(answers.chunks(2));
    pairs
        .map(|(commands, answers)| {
            let mut answer = answers[0].clone();
            loop {
                match answer {
                    Ok(Outcome::Liked { created: true, likes, reaction_likes }) => {
                        assert_eq!(likes, reaction_likes);
                        return likes;
                    }
                    Err(StoreError::Unavailable { .. }) => answer = caller.insist(commands[0].clone()),
                    other => panic!("{other:?}"),
                }
            }
        })
        .collect()
}

fn the_same_like_by_two_backends_is_created_once(database: &Database) {
    const ROUNDS: usize = 100;
    let callers = [database.open(), database.open()];
    let barrier = Barrier::new(2);
    let created: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let threads: Vec<_> = callers
            .iter()
            .map(|caller| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let once = |round| {
                        barrier.wait();
                        match caller.run(like("42", &format!("m{round}"))) {
                            Outcome::Liked { created, .. } => created,
                            other => panic!("{other:?}"),
                        }
                    };
                    (0..ROUNDS).map(once).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    for (round, (one, other)) in created[0].iter().zip(&created[1]).enumerate() {
        assert!(one ^ other, "created once in round {round}");
    }
    check_tables(database);
}

fn a_refused_command_does_not_touch_the_others(database: &Database) {
    let caller = database.open();
    let late = Command::Like { video: "42".into(), member: "late".into(), reaction: "like".into(), at: u64::MAX };
    let answers = caller.ask_all([like("42", "ana"), late, like("42", "bo"), counts("42")]);
    let liked = |likes| Ok(Outcome::Liked { created: true, likes, reaction_likes: likes });
    assert_eq!(answers[0], liked(1));
    assert!(matches!(&answers[1], Err(StoreError::Invalid { detail }) if detail.contains("18446744073709551615")));
    assert_eq!(answers[2], liked(2));
    assert_eq!(answers[3], Ok(Outcome::Counts { likes: 2, reactions: vec![("like".into(), 2)], taps: vec![] }));
    assert_eq!(caller.store.health(), Ok(()), "the database is well");
}

fn taps_are_added_up_by_video_and_reaction(database: &Database) {
    let caller = database.open();
    let tap =
        |video: &str, reaction: &str, taps| Command::Taps { video: video.into(), reaction: reaction.into(), taps };
    let counted = |likes: u64, taps: &[(&str, u64)]| {
        let reactions = if likes > 0 { vec![("like".into(), likes)] } else { vec![] };
        let taps = taps.iter().map(|(reaction, taps)| ((*reaction).into(), *taps)).collect();
        Outcome::Counts { likes, reactions, taps }
    };
    assert_eq!(caller.run(counts("42")), counted(0, &[]));
    let commands = [tap("42", "love", 7), counts("42"), tap("43", "love", 1), tap("42", "like", 2), like("42", "ana")];
    let answers = caller.ask_all(commands.into_iter().chain([tap("42", "love", 3), counts("42"), counts("43")]));
    assert_eq!(answers[0], Ok(Outcome::Tapped));
    assert_eq!(answers[1], Ok(counted(0, &[("love", 7)])));
    assert_eq!(answers[6], Ok(counted(1, &[("like", 2), ("love", 10)])));
    assert_eq!(answers[7], Ok(counted(0, &[("love", 1)])));
    drop(caller);
    let caller = database.open();
    assert_eq!(caller.run(tap("42", "like", 1)), Outcome::Tapped);
    assert_eq!(caller.run(counts("42")), counted(1, &[("like", 3), ("love", 10)]));
}

fn what_is_stored_stays_after_a_restart(database: &Database) {
    let caller = database.open();
    let answers: Vec<_> = (0..2_000).map(|member| caller.submit(like("42", &format!("m{member}")))).collect();
    // Closing stores and answers what was taken.
    drop(caller);
    assert!(answers.iter().all(|answer| matches!(answer.try_recv(), Ok(Ok(_)))));
    let caller = database.open();
    let again = Outcome::Liked { created: false, likes: 2_000, reaction_likes: 2_000 };
    assert_eq!(caller.run(like("42", "m7")), again);
}
