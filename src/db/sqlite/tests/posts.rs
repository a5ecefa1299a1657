//! Posts under failures: what is stored is in the outbox, and what is not stored is nowhere.
use rusqlite::Connection;

use super::{make_room, number};
use crate::db::rules::Standing;
use crate::db::sqlite::batch::Writer;
use crate::db::{Command, Deletion, Outcome, PostKind, StoreError};

fn comment(text: &str) -> Command {
    let (kind, place, member, text) = (PostKind::Comment, "42".into(), "ana".into(), text.into());
    Command::Post { kind, place, member, text, standing: Standing::Guest, at: 5, hooks: [].into() }
}

fn delete(id: &str) -> Command {
    Command::DeletePost { kind: PostKind::Comment, place: "42".into(), id: id.into(), by: None, at: 6 }
}

fn id(result: &Result<Outcome, StoreError>) -> String {
    match result {
        Ok(Outcome::Posted { id, .. }) => id.clone(),
        other => panic!("{other:?}"),
    }
}

/// Every post that is there has one record, of its coming or its going.
fn check(connection: &Connection) {
    assert_eq!(number(connection, "SELECT count(*) FROM outbox"), number(connection, "SELECT count(*) FROM posts"));
    let wrong = "SELECT count(*) FROM posts LEFT JOIN outbox ON outbox.post = posts.id
         AND outbox.change = (posts.deleted_at IS NOT NULL) WHERE outbox.post IS NULL";
    assert_eq!(number(connection, wrong), 0);
}

/// The second statement of a command fails: the first has no effect either, and the rest of the batch goes on.
#[test]
fn a_post_without_its_record_is_not_stored_nor_half_deleted() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut writer = Writer::open(&path).expect("opens");
    let first = id(&writer.run(&[comment("first")])[0]);
    let refuse = |what: &str| {
        format!(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON outbox WHEN new.change = {what}
             BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
        )
    };
    let run = |writer: &mut Writer, trigger: &str, commands: &[Command]| {
        writer.connection().expect("open").execute_batch(trigger).expect("trigger");
        let results = writer.run(commands);
        writer.connection().expect("open").execute_batch("DROP TRIGGER refuse").expect("trigger");
        results
    };
    let results = run(&mut writer, &refuse("0"), &[comment("second"), delete(&first)]);
    assert!(matches!(&results[0], Err(StoreError::Refused { detail }) if detail.contains("poisoned")), "{results:?}");
    assert_eq!(results[1], Ok(Outcome::Deletion(Deletion::Deleted)));
    check(&Connection::open(&path).expect("reopens"));

    let third = id(&writer.run(&[comment("third")])[0]);
    let results = run(&mut writer, &refuse("1"), &[delete(&third), comment("fourth")]);
    assert!(matches!(&results[0], Err(StoreError::Refused { .. })), "{results:?}");
    assert!(results[1].is_ok());
    let connection = Connection::open(&path).expect("reopens");
    check(&connection);
    assert_eq!(number(&connection, "SELECT count(*) FROM posts WHERE text = 'third' AND deleted_at IS NULL"), 1);
}

#[test]
fn a_full_disk_leaves_posts_and_their_records_in_step() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("fanfare.db");
    let mut writer = Writer::open(&path).expect("opens");
    make_room(&writer, 60);
    let batch: Vec<Command> = (0..20).map(|number| comment(&"x".repeat(100 + number))).collect();
    let mut stored = 0;
    let full = (0..1_000).any(|_| {
        let ok = writer.run(&batch).iter().filter(|result| result.is_ok()).count();
        assert!(ok == 0 || ok == batch.len(), "all of a batch or nothing");
        stored += ok as u64;
        ok == 0
    });
    assert!(full && stored > 0);
    let connection = Connection::open(&path).expect("reopens");
    assert_eq!(number(&connection, "SELECT count(*) FROM posts"), stored);
    check(&connection);
    make_room(&writer, 100_000);
    let next = id(&writer.run(&batch)[0]);
    let last = number(&connection, "SELECT max(id) FROM posts") - batch.len() as u64 + 1;
    assert!(next.starts_with(&format!("{last}-")), "{next}");
    check(&connection);
}

/// What was deleted and what is newest keep their numbers for themselves, even if somebody empties the table by hand.
#[test]
fn an_id_is_never_given_twice() {
    let directory = tempfile::tempdir().expect("directory");
    let mut writer = Writer::open(&directory.path().join("fanfare.db")).expect("opens");
    let first = id(&writer.run(&[comment("first")])[0]);
    writer.connection().expect("open").execute_batch("DELETE FROM posts; DELETE FROM outbox").expect("emptied");
    assert_ne!(id(&writer.run(&[comment("second")])[0]), first);
}
