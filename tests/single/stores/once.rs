//! Requests that are done once, by their keys.

use std::sync::Barrier;

use fanfare::db::once::{Asker, Once};
use fanfare::db::{Command, Outcome, Part, PostKind, StoreError};
use fanfare::limits::ONCE_AGE;
use fanfare::wire::status::Status;

use super::posts::{post, posted};
use super::{Caller, Database, on_both};

on_both! {
    repeated_request_is_done_twice
    repeated_request_is_done_by_two_backends
    request_of_yesterday_is_known_for_ever
    refused_request_is_remembered
}

const AT: u64 = 1_732_313_131_123;

fn once(key: &str, at: u64, command: Command) -> Command {
    let body = format!("{command:?}");
    let once = Once::new(Asker::Member("ana"), ["test", "live:7"], key, body.as_bytes(), at);
    Command::Once { once, command: Box::new(command) }
}

fn comment(text: &str) -> Command {
    post(PostKind::Comment, "7", "ana", text)
}

fn like(member: &str) -> Command {
    Command::Like { video: "7".into(), member: member.into(), reaction: "like".into(), at: AT }
}

fn comments(caller: &Caller) -> usize {
    let list = Command::ListPosts { kind: PostKind::Comment, place: "7".into(), part: Part::Newest, limit: 200 };
    match caller.run(list) {
        Outcome::Posts { posts, more: false } => posts.len(),
        other => panic!("{other:?}"),
    }
}

fn again(status: Status, answer: String) -> Outcome {
    Outcome::Again { status, answer }
}

fn repeated_request_is_done_twice(database: &Database) {
    let caller = database.open();
    let id = posted(caller.run(once("a", AT, comment("one"))));
    let first = again(Status::Created, format!(r#"{{"id":"{id}"}}"#));
    assert_eq!(caller.run(once("a", AT + 1, comment("one"))), first);
    assert_eq!(caller.run(once("a", AT + 1, comment("two"))), Outcome::OtherBody);
    assert_eq!(comments(&caller), 1);
    let second = posted(caller.run(once("b", AT, comment("one"))));
    assert_ne!(second, id);
    // In one batch, or several.
    let answers = caller.ask_all((0..20).map(|_| once("c", AT, comment("three"))));
    let done = answers.iter().filter(|answer| matches!(answer, Ok(Outcome::Posted { .. }))).count();
    let repeated =
        answers.iter().filter(|answer| matches!(answer, Ok(Outcome::Again { status: Status::Created, .. }))).count();
    assert_eq!((done, repeated, comments(&caller)), (1, 19, 3));
    // The first answer again, whatever came since.
    assert_eq!(
        caller.run(once("like", AT, like("ana"))),
        Outcome::Liked { created: true, likes: 1, reaction_likes: 1 }
    );
    caller.run(like("bob"));
    assert_eq!(caller.run(once("like", AT, like("ana"))), again(Status::Created, r#"{"likes":1}"#.into()));
    // What was stored is there after a restart.
    drop(caller);
    let caller = database.open();
    assert_eq!(caller.run(once("a", AT + 2, comment("one"))), first);
    assert_eq!(comments(&caller), 3);
}

fn repeated_request_is_done_by_two_backends(database: &Database) {
    const ROUNDS: usize = 20;
    let callers = [database.open(), database.open()];
    let start = Barrier::new(callers.len());
    let answers = std::thread::scope(|scope| {
        let ask = |caller| {
            let start = &start;
            scope.spawn(move || {
                let ask = |round: usize| {
                    start.wait();
                    Caller::run(caller, once(&format!("round {round}"), AT, comment(&round.to_string())))
                };
                (0..ROUNDS).map(ask).collect::<Vec<_>>()
            })
        };
        callers.each_ref().map(ask).map(|asking| asking.join().expect("it asked"))
    });
    for (one, other) in answers[0].iter().zip(&answers[1]) {
        let done = [one, other].iter().filter(|outcome| matches!(outcome, Outcome::Posted { .. })).count();
        assert_eq!(done, 1, "{one:?} {other:?}");
    }
    assert_eq!(comments(&callers[0]), ROUNDS);
}

fn request_of_yesterday_is_known_for_ever(database: &Database) {
    let caller = database.open();
    let day = ONCE_AGE.as_millis() as u64;
    posted(caller.run(once("a", AT, comment("one"))));
    assert!(matches!(caller.run(once("a", AT + day - 1, comment("one"))), Outcome::Again { .. }));
    posted(caller.run(once("a", AT + day, comment("one"))));
    // It counts from then on.
    assert!(matches!(caller.run(once("a", AT + day + 1, comment("one"))), Outcome::Again { .. }));
    assert_eq!(comments(&caller), 2);
    // A new one takes the old ones along, though nobody asks for them again.
    for key in ["b", "c", "d"] {
        posted(caller.run(once(key, AT + day, comment(key))));
    }
    for key in ["e", "f", "g", "h"] {
        posted(caller.run(once(key, AT + 3 * day, comment(key))));
    }
    assert_eq!(database.rows("once"), 4);
}

fn refused_request_is_remembered(database: &Database) {
    let caller = database.open();
    let late = Command::Like { video: "7".into(), member: "ana".into(), reaction: "like".into(), at: u64::MAX };
    assert!(matches!(caller.ask(once("a", AT, late)), Err(StoreError::Invalid { .. })));
    assert!(matches!(caller.run(once("a", AT, like("ana"))), Outcome::Liked { created: true, .. }));
}
