//! Rules of videos and time-outs of members: what they bar, and whom.

use std::sync::Barrier;

use fanfare::db::rules::{Bar, Change, Comments, Rules, Standing};
use fanfare::db::{Command, Outcome, PostKind, StoreError};

use super::{Caller, Database, on_both};

on_both! {
    member_comments_too_soon
    comment_deleted_to_write_another
    time_out_forgotten_or_kept
    comments_closed_to_the_wrong_ones
    rules_of_the_same_batch_forgotten
    rules_of_another_backend_unknown
    two_backends_take_a_members_comments_at_once
}

const AT: u64 = 1_732_313_131_123;

fn comment_by(member: &str, standing: Standing, at: u64) -> Command {
    let (place, member, text) = ("7".to_owned(), member.to_owned(), "x".to_owned());
    Command::Post { kind: PostKind::Comment, place, member, text, standing, at, hooks: [].into() }
}

fn comment(member: &str, at: u64) -> Command {
    comment_by(member, Standing::Guest, at)
}

fn set(slow_seconds: Option<u32>, comments: Option<Comments>, at: u64) -> Command {
    Command::SetRules { video: "7".into(), change: Change { slow_seconds, comments }, at }
}

fn slow(seconds: u32) -> Command {
    set(Some(seconds), None, AT)
}

fn time_out(member: &str, seconds: u32, at: u64) -> Command {
    Command::TimeOut { video: "7".into(), member: member.into(), seconds, at }
}

fn rules(slow_seconds: u32, comments: Comments, version: u64) -> Outcome {
    Outcome::Rules { rules: Rules { slow_seconds, comments }, version }
}

fn read(caller: &Caller) -> Outcome {
    caller.run(Command::Rules { video: "7".into() })
}

fn waits(slow_seconds: u32, wait_ms: u64) -> Outcome {
    Outcome::Barred(Bar::Slow { slow_seconds, wait_ms })
}

#[track_caller]
fn taken(caller: &Caller, command: Command) -> String {
    match caller.run(command) {
        Outcome::Posted { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

fn member_comments_too_soon(database: &Database) {
    let caller = database.open();
    assert_eq!(read(&caller), rules(0, Comments::Open, 0), "none were ever set");
    taken(&caller, comment("ana", AT));
    taken(&caller, comment("ana", AT));
    assert_eq!(caller.run(slow(5)), rules(5, Comments::Open, AT));
    assert_eq!(caller.run(comment("ana", AT + 4_999)), waits(5, 1), "what was written before counts");
    taken(&caller, comment("bob", AT + 4_999));
    taken(&caller, comment("ana", AT + 5_000));
    assert_eq!(caller.run(comment("ana", AT + 5_000)), waits(5, 5_000));
    taken(&caller, comment_by("ana", Standing::Moderator, AT + 5_000));
    // Elsewhere nothing is slow.
    for (kind, place) in [(PostKind::Comment, "8"), (PostKind::Message, "7")] {
        for _ in 0..2 {
            let (member, text) = ("ana".to_owned(), "x".to_owned());
            let standing = Standing::Guest;
            taken(
                &caller,
                Command::Post { kind, place: place.into(), member, text, standing, at: AT + 5_000, hooks: [].into() },
            );
        }
    }
    assert_eq!(caller.run(set(None, Some(Comments::Members), AT - 1)), rules(5, Comments::Members, AT + 1));
    drop(caller);
    let caller = database.open();
    assert_eq!(read(&caller), rules(5, Comments::Members, AT + 1), "they outlive the process");
    assert_eq!(caller.run(set(Some(0), Some(Comments::Open), AT + 9)), rules(0, Comments::Open, AT + 9));
    taken(&caller, comment("ana", AT + 5_000));
    let late = set(Some(0), None, u64::MAX);
    assert!(matches!(caller.ask(late), Err(StoreError::Invalid { .. })));
}

fn comment_deleted_to_write_another(database: &Database) {
    let caller = database.open();
    caller.run(slow(5));
    let id = taken(&caller, comment("ana", AT));
    let (kind, place, by) = (PostKind::Comment, "7".to_owned(), Some("ana".to_owned()));
    caller.run(Command::DeletePost { kind, place, id, by, at: AT + 1 });
    assert_eq!(caller.run(comment("ana", AT + 2)), waits(5, 4_998));
}

fn time_out_forgotten_or_kept(database: &Database) {
    let caller = database.open();
    let barred = |wait_ms| Outcome::Barred(Bar::TimedOut { wait_ms });
    let until = |until| Outcome::TimedOut { until };
    assert_eq!(caller.run(time_out("ana", 60, AT)), until(Some(AT + 60_000)));
    assert_eq!(caller.run(comment("ana", AT + 59_999)), barred(1));
    taken(&caller, comment("bob", AT));
    taken(&caller, comment("ana", AT + 60_000));
    // The newest word counts, be it shorter.
    assert_eq!(caller.run(time_out("ana", 10, AT)), until(Some(AT + 10_000)));
    taken(&caller, comment("ana", AT + 10_000));
    assert_eq!(caller.run(time_out("ana", 600, AT)), until(Some(AT + 600_000)));
    drop(caller);
    let caller = database.open();
    assert_eq!(caller.run(comment("ana", AT)), barred(600_000), "it outlives the process");
    assert_eq!(caller.run(time_out("ana", 0, AT + 1)), until(None));
    taken(&caller, comment("ana", AT + 2));
    // What is over goes with the next one.
    for member in ["cid", "dan", "eve"] {
        caller.run(time_out(member, 1, AT));
    }
    assert_eq!(database.rows("timeouts"), 3);
    caller.run(time_out("bob", 1, AT + 1_000));
    assert_eq!(database.rows("timeouts"), 1);
}

fn comments_closed_to_the_wrong_ones(database: &Database) {
    let caller = database.open();
    for (comments, least) in [
        (Comments::Open, Standing::Guest),
        (Comments::Members, Standing::Member),
        (Comments::Moderators, Standing::Moderator),
    ] {
        caller.run(set(None, Some(comments), AT));
        for standing in [Standing::Guest, Standing::Member, Standing::Moderator] {
            let outcome = caller.run(comment_by("ana", standing, AT));
            assert_eq!(outcome == Outcome::Barred(Bar::Closed(comments)), standing < least, "{comments:?} {outcome:?}");
        }
    }
}

/// As if the commands ran one by one.
fn rules_of_the_same_batch_forgotten(database: &Database) {
    let caller = database.open();
    taken(&caller, comment("ana", AT));
    for round in 1..20 {
        let at = AT + round * 100_000;
        let answers = caller.ask_all([
            comment("bob", at),
            set(Some(5), None, at),
            comment("bob", at + 1),
            comment("cid", at),
            comment("cid", at + 2),
            time_out("dan", 60, at),
            comment("dan", at),
            time_out("dan", 0, at),
            comment("dan", at),
            set(Some(0), None, at),
            comment("cid", at + 3),
            Command::Rules { video: "7".into() },
        ]);
        let outcomes: Vec<Outcome> = answers.into_iter().map(|answer| answer.expect("it runs")).collect();
        let is_posted = |outcome: &Outcome| matches!(outcome, Outcome::Posted { .. });
        assert!([0, 3, 8, 10].iter().all(|at| is_posted(&outcomes[*at])), "{outcomes:?}");
        assert_eq!([&outcomes[2], &outcomes[4]], [&waits(5, 4_999), &waits(5, 4_998)]);
        assert_eq!(outcomes[6], Outcome::Barred(Bar::TimedOut { wait_ms: 60_000 }));
        assert!(matches!(&outcomes[11], Outcome::Rules { rules, .. } if *rules == Rules::default()), "{outcomes:?}");
    }
}

fn rules_of_another_backend_unknown(database: &Database) {
    let (one, other) = (database.open(), database.open());
    taken(&other, comment("ana", AT));
    one.run(slow(5));
    assert_eq!(read(&other), rules(5, Comments::Open, AT));
    assert_eq!(other.run(comment("ana", AT + 1)), waits(5, 4_999));
    taken(&one, comment("bob", AT));
    assert_eq!(other.run(comment("bob", AT)), waits(5, 5_000));
    other.run(time_out("cid", 60, AT));
    assert_eq!(one.run(comment("cid", AT)), Outcome::Barred(Bar::TimedOut { wait_ms: 60_000 }));
    one.run(time_out("cid", 0, AT));
    taken(&other, comment("cid", AT));
    // By the clock of the one or the other.
    other.run(set(None, Some(Comments::Moderators), AT - 60_000));
    assert_eq!(read(&one), rules(5, Comments::Moderators, AT + 1));
}

fn two_backends_take_a_members_comments_at_once(database: &Database) {
    const ROUNDS: u64 = 20;
    let callers = [database.open(), database.open()];
    callers[0].run(slow(5));
    let start = Barrier::new(callers.len());
    let outcomes = std::thread::scope(|scope| {
        let ask = |caller| {
            let start = &start;
            let round = move |round: u64| {
                start.wait();
                Caller::run(caller, comment("ana", AT + round * 5_000))
            };
            scope.spawn(move || (0..ROUNDS).map(round).collect::<Vec<_>>())
        };
        callers.each_ref().map(ask).map(|asking| asking.join().expect("it asked"))
    });
    for (one, other) in outcomes[0].iter().zip(&outcomes[1]) {
        let stored = [one, other].iter().filter(|outcome| matches!(outcome, Outcome::Posted { .. })).count();
        assert_eq!(stored, 1, "{one:?} {other:?}");
    }
}
