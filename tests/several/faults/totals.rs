//! Totals of likes after what told them died.

use std::sync::mpsc::channel;

use fanfare::db::sqlite;
use fanfare::db::{Command, Outcome};

use super::beneath::Store;
use super::setup::*;
use super::viewers::Viewers;

/// Nobody is told of these likes by who stores them, as if that died in between; each is the only one until something that
/// viewers are to be told again after.
#[test]
fn likes_that_died_with_a_backend_a_dispatcher_or_the_store_never_shown() {
    let (mut store, folder) = (Store::redis(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("likes.db");
    let mut site = Site::on(&store.url(), &format!("sqlite:{}", path.display()));
    let viewers = Viewers::of(site.doors(), &["live:1".to_owned()], 6);
    let told = |count: u64| {
        viewers.until(&format!("to be told that {count} like it"), |viewer| viewer.likes.get("live:1") == Some(&count));
    };
    told(0);
    let (sender, answers) = channel();
    let (database, _thread) = sqlite::start(&path, move |(), answer| {
        let _ = sender.send(answer);
    })
    .expect("the file is there");
    let like = |member: &str| {
        let (video, member, reaction) = ("1".to_owned(), member.to_owned(), "like".to_owned());
        database.try_submit(Command::Like { video, member, reaction, at: 7 }, ()).expect("there is room");
        let answer = answers.recv().expect("its thread lives");
        assert!(matches!(answer, Ok(Outcome::Liked { created: true, .. })), "{answer:?}");
    };
    like("a");
    site.backends.remove(0).kill();
    told(1);
    like("b");
    site.dispatchers.remove(0).kill();
    told(2);
    like("c");
    store.kill();
    store.restart();
    told(3);
    let late = Viewers::of(site.doors(), &["live:1".to_owned()], 3);
    late.until("to be told that 3 like it", |viewer| viewer.likes.get("live:1") == Some(&3));
}
