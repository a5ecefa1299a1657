//! Comments, messages, receipts and the outbox.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare::db::rules::Standing;
use fanfare::db::{
    Change, Command, Deletion, Marks, OutboxAsk, Outcome, Part, Post, PostKind, Record, StoreError, Unpublished,
};
use fanfare::limits::{OUTBOX_PAGE_BYTES, POST_TEXT_BYTES_MAX, POSTS_PAGE_BYTES_MAX};

use super::support::eventually;
use super::{Caller, Database, on_both};

on_both! {
    pages_lose_repeat_or_mix_posts
    reader_misses_a_post_that_is_committed_late
    post_is_deleted_by_a_stranger_or_twice
    outbox_forgets_or_repeats
    moderators_comment_is_one_of_many_once_it_was_in_the_outbox
    outbox_given_to_two_backends_at_once
    receipt_goes_back
    bad_post_is_stored
}

pub fn post(kind: PostKind, place: &str, member: &str, text: &str) -> Command {
    let (place, member, text, standing) = (place.into(), member.into(), text.into(), Standing::Guest);
    Command::Post { kind, place, member, text, standing, at: 1_732_313_131_123, hooks: [].into() }
}

fn comment(place: &str, text: &str) -> Command {
    post(PostKind::Comment, place, "ana", text)
}

#[track_caller]
pub fn posted(outcome: Outcome) -> String {
    match outcome {
        Outcome::Posted { id, at: 1_732_313_131_123 } => id,
        other => panic!("{other:?}"),
    }
}

fn before(caller: &Caller, place: &str, id: &str, limit: u32) -> (Vec<Post>, bool) {
    let part = Part::Before(id.to_owned());
    match caller.run(Command::ListPosts { kind: PostKind::Comment, place: place.into(), part, limit }) {
        Outcome::Posts { posts, more } => (posts, more),
        other => panic!("{other:?}"),
    }
}

fn list(kind: PostKind, place: &str, after: Option<&str>, limit: u32) -> Command {
    let part = after.map_or(Part::Newest, |id| Part::After(id.to_owned()));
    Command::ListPosts { kind, place: place.into(), part, limit }
}

#[track_caller]
fn page(caller: &Caller, place: &str, after: Option<&str>, limit: u32) -> (Vec<Post>, bool) {
    match caller.run(list(PostKind::Comment, place, after, limit)) {
        Outcome::Posts { posts, more } => (posts, more),
        other => panic!("{other:?}"),
    }
}

fn texts((posts, more): (Vec<Post>, bool)) -> (Vec<String>, bool) {
    (posts.into_iter().map(|post| post.text).collect(), more)
}

fn delete(place: &str, id: &str, by: Option<&str>) -> Command {
    let by = by.map(str::to_owned);
    Command::DeletePost { kind: PostKind::Comment, place: place.into(), id: id.into(), by, at: 1_732_313_139_999 }
}

/// One backend's question for what is at least so old.
fn unpublished(older_than_ms: u64, limit: u32) -> Command {
    unpublished_to(1, 60_000, None, older_than_ms, limit)
}

fn unpublished_to(holder: i64, lease_ms: u64, after: Option<&Unpublished>, older_than_ms: u64, limit: u32) -> Command {
    let after = after.map(|post| post.record.clone());
    Command::Unpublished(OutboxAsk { holder, lease_ms, after, older_than_ms, limit })
}

/// What is to be published, and whether more is.
#[track_caller]
fn page_of_outbox(outcome: Outcome) -> (Vec<Unpublished>, bool) {
    match outcome {
        Outcome::Unpublished { posts, more, elsewhere: false } => (posts, more),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn pending(outcome: Outcome) -> Vec<Unpublished> {
    page_of_outbox(outcome).0
}

fn mark(published: &[(&str, Change)], left: &[(&str, Change)]) -> Command {
    let records = |records: &[(&str, Change)]| {
        records.iter().map(|(id, change)| Record { id: (*id).into(), change: *change }).collect()
    };
    Command::Mark(Marks { published: records(published), left: records(left) }.into())
}

fn pages_lose_repeat_or_mix_posts(database: &Database) {
    let caller = database.open();
    assert_eq!(page(&caller, "v", None, 10), (vec![], false), "an unknown place is empty");
    let answers = caller.ask_all((0..5).map(|number| comment("v", &format!("{number} \" 💙"))));
    let ids: Vec<String> = answers.into_iter().map(|answer| posted(answer.unwrap())).collect();
    posted(caller.run(comment("w", "elsewhere")));
    posted(caller.run(post(PostKind::Message, "v", "ana", "a message")));
    let named = |numbers: std::ops::Range<usize>| numbers.map(|number| format!("{number} \" 💙")).collect::<Vec<_>>();

    assert_eq!(texts(page(&caller, "v", None, 3)), (named(2..5), true), "the newest, in ascending order");
    assert_eq!(texts(page(&caller, "v", None, 5)), (named(0..5), false));
    assert_eq!(texts(page(&caller, "v", Some(&ids[0]), 2)), (named(1..3), true));
    assert_eq!(texts(page(&caller, "v", Some(&ids[2]), 2)), (named(3..5), false));
    assert_eq!(texts(page(&caller, "v", Some(&ids[4]), 2)), (vec![], false));
    assert_eq!(
        texts(before(&caller, "v", &ids[4], 2)),
        (named(2..4), true),
        "the newest before it, in ascending order"
    );
    assert_eq!(texts(before(&caller, "v", &ids[2], 2)), (named(0..2), false));
    assert_eq!(texts(before(&caller, "v", &ids[0], 2)), (vec![], false));
    let whole = &page(&caller, "v", None, 10).0[1];
    assert_eq!((&whole.id, whole.member.as_str(), whole.at), (&ids[1], "ana", 1_732_313_131_123));
    let messages = caller.run(list(PostKind::Message, "v", None, 10));
    assert!(
        matches!(messages, Outcome::Posts { posts, more: false } if posts.len() == 1 && posts[0].text == "a message")
    );

    assert_eq!(caller.run(delete("v", &ids[2], None)), Outcome::Deletion(Deletion::Deleted));
    assert_eq!(texts(page(&caller, "v", None, 10)).0.len(), 4, "a deleted one is left out");
    assert_eq!(texts(page(&caller, "v", Some(&ids[2]), 10)), (named(3..5), false), "its id is still a position");
    assert_eq!(texts(before(&caller, "v", &ids[2], 10)), (named(0..2), false), "in both directions");
    for after in
        ["", "x", "1", "99999999999999999999-00000000", ids[0].to_uppercase().as_str(), &format!("0{}", ids[0])]
    {
        if ids.contains(&after.to_owned()) {
            continue;
        }
        let answer = caller.ask(list(PostKind::Comment, "v", Some(after), 10));
        let Err(StoreError::Invalid { detail }) = answer else { panic!("{after}: {answer:?}") };
        let looks_like = format!("42-{}", ids[0].split_once('-').unwrap().1);
        assert!(detail.contains(&looks_like), "says what one looks like: {detail}");
    }

    // Long ones make short pages, which lose nothing.
    let long = "x".repeat(POST_TEXT_BYTES_MAX);
    let count = 2 * POSTS_PAGE_BYTES_MAX / POST_TEXT_BYTES_MAX + 1;
    caller
        .ask_all((0..count).map(|_| comment("long", &long)))
        .into_iter()
        .for_each(|answer| drop(posted(answer.unwrap())));
    let (newest, more) = page(&caller, "long", None, 200);
    assert_eq!((newest.len(), more), (POSTS_PAGE_BYTES_MAX / POST_TEXT_BYTES_MAX, true));
    let (first, _) = page(&caller, "long", Some(&ids[4]), 1);
    let (mut seen, mut after) = (1, first[0].id.clone());
    while let (posts, more) = page(&caller, "long", Some(&after), 200)
        && let Some(last) = posts.last()
    {
        seen += posts.len();
        after = last.id.clone();
        assert_eq!(more, seen < count);
    }
    assert_eq!(seen, count);
    let (mut seen, mut first, mut more) = (newest.len(), newest[0].id.clone(), true);
    while more {
        let posts;
        (posts, more) = before(&caller, "long", &first, 200);
        seen += posts.len();
        first = posts[0].id.clone();
    }
    assert_eq!(seen, count, "and backwards");
}

fn reader_misses_a_post_that_is_committed_late(database: &Database) {
    const THREADS: usize = 4;
    const POSTS: usize = 150;
    let callers = [database.open(), database.open()];
    let start = posted(callers[0].run(comment("v", "first")));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let caller = &callers[thread % 2];
                scope.spawn(move || {
                    // With another place in the same batch, so that batches take longer, and in another order.
                    (0..POSTS)
                        .map(|number| {
                            let other = caller.submit(comment(&format!("w{thread}"), "x"));
                            let id = posted(caller.run(comment("v", &format!("{thread} {number}"))));
                            other.recv().expect("an answer").ok();
                            id
                        })
                        .collect::<Vec<String>>()
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let (mut seen, mut after) = (Vec::new(), start.clone());
            loop {
                // Looked at before the page is: then a page that is empty is the end.
                let last = done.load(Ordering::Acquire);
                let (posts, _) = page(&callers[0], "v", Some(&after), 7);
                match posts.last() {
                    Some(post) => after = post.id.clone(),
                    None if last => return seen,
                    None => {}
                }
                seen.extend(posts.into_iter().map(|post| post.id));
            }
        });
        let written: Vec<Vec<String>> = writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
        done.store(true, Ordering::Release);
        let seen = reader.join().expect("the reader");
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "none twice");
        for ids in &written {
            // A writer's own posts are in the order in which it got the answers.
            let mut places = ids.iter().map(|id| seen.iter().position(|seen| seen == id).expect("the reader saw it"));
            let mut last = places.next().expect("some");
            assert!(places.all(|place| std::mem::replace(&mut last, place) < place), "in order");
        }
    });
}

fn post_is_deleted_by_a_stranger_or_twice(database: &Database) {
    let caller = database.open();
    let deletion = |command| match caller.run(command) {
        Outcome::Deletion(deletion) => deletion,
        other => panic!("{other:?}"),
    };
    let id = posted(caller.run(comment("v", "mine")));
    assert_eq!(deletion(delete("v", &id, Some("bo"))), Deletion::Forbidden);
    assert_eq!(deletion(delete("w", &id, Some("ana"))), Deletion::NotFound, "of another video");
    let message = Command::DeletePost {
        kind: PostKind::Message,
        place: "v".into(),
        id: id.clone(),
        by: Some("ana".into()),
        at: 1,
    };
    assert_eq!(deletion(message), Deletion::NotFound, "of another kind");
    for other in ["", "x", "1", "0-00000000", "7-zzzzzzzz"] {
        assert_eq!(deletion(delete("v", other, None)), Deletion::NotFound, "{other}");
    }
    assert_eq!(texts(page(&caller, "v", None, 5)), (vec!["mine".to_owned()], false), "none of that deleted it");
    assert_eq!(deletion(delete("v", &id, Some("ana"))), Deletion::Deleted);
    assert_eq!(deletion(delete("v", &id, Some("ana"))), Deletion::Already);
    assert_eq!(deletion(delete("v", &id, None)), Deletion::Already);
    assert_eq!(deletion(delete("v", &id, Some("bo"))), Deletion::Forbidden);
    // A moderator may; of several at once, one does.
    let id = posted(caller.run(comment("v", "rude")));
    let other = database.open();
    let all: Vec<_> =
        (0..20).map(|number| if number % 2 == 0 { &caller } else { &other }.submit(delete("v", &id, None))).collect();
    let mut outcomes: Vec<_> = all.into_iter().map(|answer| answer.recv().expect("an answer")).collect();
    outcomes.retain(|outcome| *outcome == Ok(Outcome::Deletion(Deletion::Deleted)));
    assert_eq!(outcomes.len(), 1);
    match database {
        Database::Sqlite(folder) => {
            let connection = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("reopens");
            let left = "SELECT count(*) FROM posts WHERE text <> ''";
            assert_eq!(connection.query_row(left, [], |row| row.get::<_, i64>(0)), Ok(0), "their texts are gone");
        }
        Database::Postgres(server) | Database::Pooled(server, _) => {
            assert_eq!(
                server.value("SELECT count(*) FROM fanfare.posts WHERE text <> ''"),
                "0",
                "their texts are gone"
            );
        }
    }
}

fn moderators_comment_is_one_of_many_once_it_was_in_the_outbox(database: &Database) {
    let caller = database.open();
    let said = |text: &str, standing| {
        let (place, member, text) = ("v".into(), "ana".into(), text.into());
        Command::Post {
            kind: PostKind::Comment,
            place,
            member,
            text,
            standing,
            at: 1_732_313_131_123,
            hooks: [].into(),
        }
    };
    let ids: Vec<String> = caller
        .ask_all([said("one", Standing::Guest), said("two", Standing::Moderator), said("three", Standing::Member)])
        .into_iter()
        .map(|answer| posted(answer.unwrap()))
        .collect();
    let listed = pending(caller.run(unpublished(0, 10)));
    let listed: Vec<(String, bool)> = listed.into_iter().map(|due| (due.record.id, due.always)).collect();
    assert_eq!(listed, ids.iter().cloned().zip([false, true, false]).collect::<Vec<_>>());
    // It is deleted: of that nothing is said.
    caller.run(delete("v", &ids[1], None));
    assert!(pending(caller.run(unpublished(0, 10))).iter().all(|due| !due.always));
}

fn outbox_forgets_or_repeats(database: &Database) {
    let caller = database.open();
    assert_eq!(pending(caller.run(unpublished(0, 10))), []);
    let first = posted(caller.run(comment("v", "one")));
    let second = posted(caller.run(post(PostKind::Message, "c", "bo", "two")));
    assert_eq!(pending(caller.run(unpublished(60_000, 10))), [], "too young to have been forgotten");
    let listed = pending(caller.run(unpublished(0, 10)));
    let one = Unpublished {
        kind: PostKind::Comment,
        place: "v".into(),
        record: Record { id: first.clone(), change: Change::Posted },
        member: "ana".into(),
        text: "one".into(),
        always: false,
    };
    let two = Unpublished {
        kind: PostKind::Message,
        place: "c".into(),
        record: Record { id: second.clone(), change: Change::Posted },
        member: "bo".into(),
        text: "two".into(),
        always: false,
    };
    assert_eq!(listed, [one.clone(), two.clone()], "in the order of ids");
    assert_eq!(page_of_outbox(caller.run(unpublished(0, 1))), (vec![one.clone()], true), "the limit");
    let rest = caller.run(unpublished_to(1, 60_000, Some(&one), 0, 1));
    assert_eq!(page_of_outbox(rest), (vec![two.clone()], false), "what follows");

    let removed = |published: &[(&str, Change)]| match caller.run(mark(published, &[])) {
        Outcome::Marked { removed } => removed,
        other => panic!("{other:?}"),
    };
    let (posted_, deleted) = (Change::Posted, Change::Deleted);
    assert_eq!(removed(&[(&first, deleted)]), 0, "nobody deleted it");
    assert_eq!(removed(&[(&first, posted_), ("77", posted_), (&first, deleted)]), 1);
    assert_eq!(removed(&[(&first, posted_)]), 0, "once");
    assert_eq!(pending(caller.run(unpublished(0, 10))), std::slice::from_ref(&two));

    // A deletion leaves a record of its own, in the place of one that nobody needs any more.
    caller.run(delete("v", &first, None));
    let third = posted(caller.run(comment("v", "three")));
    caller.run(delete("v", &third, Some("ana")));
    let listed = pending(caller.run(unpublished(0, 10)));
    let gone = |id: &String| Unpublished {
        record: Record { id: id.clone(), change: deleted },
        text: String::new(),
        ..one.clone()
    };
    assert_eq!(listed, [gone(&first), two, gone(&third)]);
    assert_eq!(removed(&[(&first, deleted), (&third, deleted)]), 2);
    // What was left is due at once, and what is not published survives a restart.
    let fourth = posted(caller.run(comment("v", "four")));
    caller.run(mark(&[], &[(&fourth, posted_), (&third, posted_), ("x", posted_)]));
    drop(caller);
    let caller = database.open();
    let left: Vec<String> =
        pending(caller.run(unpublished(60_000, 10))).into_iter().map(|left| left.record.id).collect();
    assert_eq!(left, [fourth]);
    assert_eq!(pending(caller.run(unpublished(0, u32::MAX))).len(), 2);
    assert_eq!(pending(caller.run(unpublished_to(1, u64::MAX, None, u64::MAX, 10))), []);
    // Long texts make pages short.
    let long = "x".repeat(POST_TEXT_BYTES_MAX);
    let many = OUTBOX_PAGE_BYTES / POST_TEXT_BYTES_MAX + 5;
    caller.ask_all((0..many).map(|_| comment("v", &long))).into_iter().for_each(|answer| drop(answer.unwrap()));
    let (page, more) = page_of_outbox(caller.run(unpublished(0, 1_000)));
    assert!(more && page.iter().map(|post| post.text.len()).sum::<usize>() <= OUTBOX_PAGE_BYTES);
    let last = page.last();
    assert_eq!(pending(caller.run(unpublished_to(1, 60_000, last, 0, 1_000))).len(), many + 2 - page.len());
}

fn outbox_given_to_two_backends_at_once(database: &Database) {
    let callers = [database.open(), database.open()];
    let ids: Vec<String> =
        callers[0].ask_all((0..100).map(|_| comment("v", "x"))).into_iter().map(|a| posted(a.unwrap())).collect();
    // Each publishes what it is given until there is no more.
    let published = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (holder, caller) in (1..).zip(&callers) {
            let published = &published;
            scope.spawn(move || {
                loop {
                    match caller.insist(unpublished_to(holder, 60_000, None, 0, 7)) {
                        Ok(Outcome::Unpublished { posts, .. }) if posts.is_empty() => break,
                        Ok(Outcome::Unpublished { posts, elsewhere: false, .. }) => {
                            let records: Vec<_> =
                                posts.iter().map(|post| (post.record.id.as_str(), post.record.change)).collect();
                            published.lock().unwrap().extend(posts.iter().map(|post| post.record.id.clone()));
                            caller.run(mark(&records, &[]));
                        }
                        Ok(Outcome::Unpublished { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(published.into_inner().unwrap(), ids, "each once, and in order");
    // Who says nothing more has it no longer than it asked for.
    posted(callers[0].run(comment("v", "late")));
    // Whoever of the two had the lease last has it for a minute; a third one learns that there is something.
    let lists = |holder| match callers[1].ask(unpublished_to(holder, 300, None, 0, 10)) {
        Ok(Outcome::Unpublished { posts, elsewhere, .. }) => Some((posts.len(), elsewhere)),
        other => panic!("{other:?}"),
    };
    assert_eq!(lists(3), Some((1, true)));
    assert!([lists(1), lists(2)].contains(&Some((1, false))));
    eventually("the lease to end", || match lists(3) {
        Some((1, false)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn receipt(conversation: &str, member: &str, message: &str) -> Command {
    let (conversation, member) = (conversation.into(), member.into());
    Command::Receipt { conversation, member, message: message.into(), at: 5 }
}

fn receipt_goes_back(database: &Database) {
    let callers = [database.open(), database.open()];
    let ids: Vec<String> = callers[0]
        .ask_all((0..40).map(|_| post(PostKind::Message, "all", "bo", "x")))
        .into_iter()
        .map(|answer| posted(answer.unwrap()))
        .collect();
    let caller = &callers[0];
    let outcome = |moved, message: &str| Outcome::Receipt { moved, message: message.into() };
    assert_eq!(caller.run(receipt("all", "ana", &ids[3])), outcome(true, &ids[3]));
    assert_eq!(caller.run(receipt("all", "ana", &ids[3])), outcome(false, &ids[3]));
    assert_eq!(caller.run(receipt("all", "ana", &ids[1])), outcome(false, &ids[3]));
    let together = caller.ask_all([5, 4, 7, 6].map(|number: usize| receipt("all", "ana", &ids[number])));
    let expected = [(true, 5), (false, 5), (true, 7), (false, 7)].map(|(moved, at)| Ok(outcome(moved, &ids[at])));
    assert_eq!(together, expected, "one after the other within a batch");

    // Only messages of the conversation; a deleted one was one.
    let elsewhere = posted(caller.run(post(PostKind::Message, "d", "bo", "x")));
    let remark = posted(caller.run(comment("c", "x")));
    for message in [elsewhere.as_str(), &remark, "", "x", "9999999-00000000"] {
        let answer = caller.ask(receipt("all", "ana", message));
        assert!(matches!(&answer, Err(StoreError::Invalid { .. })), "{message}: {answer:?}");
    }
    let gone =
        Command::DeletePost { kind: PostKind::Message, place: "all".into(), id: ids[9].clone(), by: None, at: 1 };
    caller.run(gone);
    assert_eq!(caller.run(receipt("all", "ana", &ids[9])), outcome(true, &ids[9]));

    // Both backends at once: whatever comes last, the furthest stays.
    const THREADS: usize = 4;
    const ROUNDS: usize = 60;
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (caller, ids, barrier) = (&callers[thread % 2], &ids, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let number = (round * 7 + thread * 11) % ids.len();
                    barrier.wait();
                    let outcome = caller.run(receipt("all", &format!("m{round}"), &ids[number]));
                    let Outcome::Receipt { moved, message } = outcome else { panic!("{outcome:?}") };
                    let now = ids.iter().position(|id| *id == message).expect("one of them");
                    assert!(now >= number, "never behind what was said");
                    assert!(!moved || now == number);
                }
            });
        }
    });
    let Outcome::Receipts { receipts, .. } =
        callers[0].run(Command::Receipts { conversation: "all".into(), after: None, limit: 1_000 })
    else {
        panic!("a list")
    };
    assert_eq!(receipts.len(), ROUNDS + 1);
    for receipt in receipts.into_iter().filter(|receipt| receipt.member != "ana") {
        let round: usize = receipt.member[1..].parse().expect("a round");
        let furthest = (0..THREADS).map(|thread| (round * 7 + thread * 11) % ids.len()).max().expect("threads");
        assert_eq!(receipt.message, ids[furthest], "{}", receipt.member);
    }
    let list = |after: Option<&str>, limit| {
        let after = after.map(str::to_owned);
        match callers[1].run(Command::Receipts { conversation: "few".into(), after, limit }) {
            Outcome::Receipts { receipts, more } => {
                (receipts.into_iter().map(|receipt| (receipt.member, receipt.message)).collect::<Vec<_>>(), more)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(None, 10), (vec![], false));
    let message = posted(caller.run(post(PostKind::Message, "few", "bo", "x")));
    for member in ["zoe", "ana"] {
        assert_eq!(caller.run(receipt("few", member, &message)), outcome(true, &message));
    }
    let row = |member: &str| (member.to_owned(), message.clone());
    assert_eq!(list(None, 10), (vec![row("ana"), row("zoe")], false));
    assert_eq!(list(None, 1), (vec![row("ana")], true));
    assert_eq!(list(Some("ana"), 10), (vec![row("zoe")], false));
    assert_eq!(list(Some("zoe"), 10), (vec![], false));
}

fn bad_post_is_stored(database: &Database) {
    let caller = database.open();
    let long = "x".repeat(POST_TEXT_BYTES_MAX + 1);
    let late = Command::Post {
        kind: PostKind::Comment,
        place: "v".into(),
        member: "ana".into(),
        text: "x".into(),
        standing: Standing::Guest,
        at: u64::MAX,
        hooks: [].into(),
    };
    let answers = caller.ask_all([comment("v", "one"), comment("v", &long), late, comment("v", "two")]);
    assert!(matches!((&answers[0], &answers[3]), (Ok(_), Ok(_))), "{answers:?}");
    for answer in &answers[1..3] {
        assert!(matches!(answer, Err(StoreError::Invalid { .. })), "{answer:?}");
    }
    assert_eq!(texts(page(&caller, "v", None, 5)), (vec!["one".to_owned(), "two".to_owned()], false));
}
