//! The embedded database as a file that operators copy, put back, and lose. Each test is named after what it prevents.

use crate::support;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::json;
use support::http::Client;
use support::node::{Node, program};
use support::{becomes, eventually, reaction};

const FLAGS: [&str; 4] = ["--cores", "2", "--drain", "0s"];

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn node(&self) -> Node {
        Node::in_folder(self.0.path(), &FLAGS)
    }

    /// A command of the program about the database.
    fn run(&self, words: &[&str]) -> Output {
        let database = format!("sqlite:{}", self.path("fanfare.db").display());
        program().args(words).args(["--db", &database]).output().unwrap()
    }

    /// A command that must fail, with this in what it says.
    #[track_caller]
    fn refused(&self, words: &[&str], says: &str) {
        let output = self.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(says), "{words:?}: {:?}: {said}", output.status);
    }

    #[track_caller]
    fn done(&self, words: &[&str]) {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn like(node: &Node, member: &str) -> u16 {
    node.post("/v1/videos/1/likes", reaction(member, "like")).status
}

fn likes(node: &Node) -> u64 {
    node.get("/v1/videos/1/likes").json()["likes"].as_u64().expect("a number")
}

fn comment(node: &Node, text: &str) -> String {
    let answer = node.post("/v1/videos/1/comments", json!({"member": "ana", "text": text}).to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn stop(mut node: Node) {
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
}

#[test]
fn likes_answered_into_a_file_that_is_gone() {
    for suffix in ["", "-wal"] {
        let place = Place::new();
        let node = place.node();
        assert_eq!(like(&node, "ana"), 201);
        let (file, aside) = (place.path(&format!("fanfare.db{suffix}")), place.path("aside"));
        std::fs::rename(&file, &aside).unwrap();
        becomes("likes to be refused", 503, || like(&node, "bob"));
        let ready = Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
        assert_eq!(ready.problem(503), "the database fails", "which stands open, and names no files");
        let reason = node.info()["waits_for"].to_string();
        assert!(reason.contains(&file.display().to_string()), "{reason}");
        let lines = |says: &str| node.log().into_iter().filter(|line| line.contains(says)).count();
        eventually("a line of it", || match lines("deleted or moved") {
            1 => Ok(()),
            lines => Err(lines),
        });
        // A node that nobody asks anything finds out by itself, and that the file is back, too.
        std::fs::rename(&aside, &file).unwrap();
        becomes("readiness", 200, || Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status);
        assert_eq!(like(&node, "cid"), 201);
        std::fs::copy(&file, &aside).unwrap();
        std::fs::rename(&aside, &file).unwrap();
        becomes("readiness to end", 503, || {
            Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status
        });
        assert_eq!(like(&node, "dan"), 503);
        becomes("lines of it", (1, 1), || (lines("deleted or moved"), lines("was replaced")));
    }
}

#[test]
fn empty_database_made_in_the_place_of_one_that_was_lost() {
    let place = Place::new();
    let node = place.node();
    assert_eq!(like(&node, "ana"), 201);
    stop(node);
    let all = ["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0"];
    for name in place.names().iter().filter(|name| name.starts_with("fanfare.db")) {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    place.refused(&all, "remove");
    place.refused(&all, "fanfare restore");
    assert_eq!(place.names(), [".fanfare.db.made"], "nothing was made");
    // One that was emptied is as good as gone.
    std::fs::write(place.path("fanfare.db"), "").unwrap();
    place.refused(&all, "was there before");
    std::fs::remove_file(place.path("fanfare.db")).unwrap();
    // What it says to do to begin anew does that.
    std::fs::remove_file(place.path(".fanfare.db.made")).unwrap();
    let node = place.node();
    assert_eq!(likes(&node), 0);
}

#[test]
fn volume_that_is_not_mounted_taken_for_a_new_one() {
    let (place, state) = (Place::new(), tempfile::tempdir().unwrap());
    let volume = place.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let service = || {
        let mut command = program();
        command.env("STATE_DIRECTORY", state.path());
        command
    };
    let node = Node::launch(service(), &volume, &FLAGS);
    assert_eq!(like(&node, "ana"), 201);
    stop(node);
    // Away with all that is on it, as if it were not there.
    std::fs::rename(&volume, place.path("aside")).unwrap();
    std::fs::create_dir(&volume).unwrap();
    let database = format!("sqlite:{}", volume.join("fanfare.db").display());
    let output = service()
        .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", &database])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let remembers = std::fs::read_dir(state.path()).unwrap().next().expect("the state remembers").unwrap().path();
    assert!(output.status.code() == Some(2) && said.contains(remembers.to_str().unwrap()), "{said}");
    assert!(!volume.join("fanfare.db").exists());
    // It is back.
    std::fs::remove_dir_all(&volume).unwrap();
    std::fs::rename(place.path("aside"), &volume).unwrap();
    let node = Node::launch(service(), &volume, &FLAGS);
    assert_eq!(likes(&node), 1);
}

#[test]
fn deleted_file_that_cannot_be_had_back_as_the_page_says() {
    let place = Place::new();
    let node = place.node();
    assert_eq!(like(&node, "ana"), 201);
    for name in ["fanfare.db", "fanfare.db-wal", "fanfare.db-shm"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    for entry in std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap() {
        let entry = entry.unwrap().path();
        let target = std::fs::read_link(&entry).unwrap_or_default().into_os_string().into_string().unwrap();
        for suffix in ["", "-wal"] {
            if target == format!("{}{suffix} (deleted)", place.path("fanfare.db").display()) {
                std::fs::copy(&entry, place.path(&format!("rescued{suffix}"))).unwrap();
            }
        }
    }
    stop(node);
    place.done(&["restore", place.path("rescued").to_str().unwrap()]);
    assert_eq!(likes(&place.node()), 1);
}

#[test]
fn backup_that_lacks_what_was_answered_and_restore_that_brings_the_old_back() {
    let place = Place::new();
    let node = place.node();
    let before = comment(&node, "before");
    let (answered, stops) = (AtomicU64::new(0), AtomicBool::new(false));
    let known = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(node.public);
            for number in 0.. {
                let body = reaction(&format!("member-{number}"), "like");
                let answer = client.request("POST", "/v1/videos/1/likes", &[], body.as_bytes());
                assert_eq!(answer.status, 201, "a backup stops nothing: {answer:?}");
                answered.fetch_add(1, Ordering::Relaxed);
                if stops.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        becomes("likes to come", true, || answered.load(Ordering::Relaxed) > 20);
        let known = answered.load(Ordering::Relaxed);
        let backup = place.path("backup");
        place.done(&["backup", backup.to_str().unwrap()]);
        stops.store(true, Ordering::Relaxed);
        known
    });
    let names = place.names();
    assert_eq!(names.iter().filter(|name| name.starts_with("backup")).count(), 1, "one file: {names:?}");
    let backup = Connection::open_with_flags(place.path("backup"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let stored: u64 = backup.query_row("SELECT count(*) FROM likes", [], |row| row.get(0)).unwrap();
    assert!((known..=answered.load(Ordering::Relaxed)).contains(&stored), "{known} {stored} {answered:?}");
    drop(backup);
    let (from, old) = (place.path("backup"), answered.load(Ordering::Relaxed));
    let from = from.to_str().unwrap();
    place.refused(&["backup", from], "is there already");
    let after = comment(&node, "after");
    place.refused(&["restore", from], "open; stop it first");
    assert_eq!(likes(&node), old, "and nothing happened");
    // What a killed node leaves is a log that holds what the database lacks.
    node.kill();
    assert!(place.names().contains(&"fanfare.db-wal".to_owned()));
    place.done(&["restore", from]);
    let names = place.names();
    for kept in ["", "-wal"] {
        let is_kept = |name: &&String| name.starts_with("fanfare.db.before-") && name.ends_with(&format!("Z{kept}"));
        assert_eq!(names.iter().filter(is_kept).count(), 1, "{names:?}");
    }
    let node = place.node();
    assert_eq!(likes(&node), stored);
    let comments = node.get("/v1/videos/1/comments").json();
    let texts: Vec<&str> =
        comments["comments"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["before"]);
    // Viewers know the ids that were given after the backup.
    let new = comment(&node, "new");
    assert!(new != after && new != before, "{new} {after}");
    stop(node);
    // The old one is whole, should it have been the better one.
    let old_name = names.iter().find(|name| name.starts_with("fanfare.db.before-") && name.ends_with('Z')).unwrap();
    place.done(&["restore", place.path(old_name).to_str().unwrap()]);
    let node = place.node();
    assert_eq!(likes(&node), old);
}

#[test]
fn history_of_a_restored_database_taken_for_whole() {
    let place = Place::new();
    let node = place.node();
    let begins = node.stream("topic=live:1").begins.expect("connected has an id");
    let backup = place.path("good");
    place.done(&["backup", backup.to_str().unwrap()]);
    comment(&node, "after the backup");
    stop(node);
    // As it was the next start goes on with it.
    let node = place.node();
    let resumed = |node: &Node| node.stream(&format!("topic=live:1&last_event_id={begins}")).next().unwrap();
    assert_eq!(resumed(&node).json()["data"]["text"], "after the backup");
    stop(node);
    place.done(&["restore", backup.to_str().unwrap()]);
    let node = place.node();
    comment(&node, "later");
    assert_eq!(resumed(&node).name, "gap");
}

#[test]
fn restore_of_what_is_no_backup_or_over_what_is_in_use() {
    let place = Place::new();
    let node = place.node();
    assert_eq!(like(&node, "ana"), 201);
    stop(node);
    let before = std::fs::read(place.path("fanfare.db")).unwrap();
    let good = place.path("good");
    place.done(&["backup", good.to_str().unwrap()]);
    let whole = std::fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(place.path(name), bytes).unwrap();
        place.path(name).to_str().unwrap().to_owned()
    };
    Connection::open(place.path("other")).unwrap().execute_batch("CREATE TABLE likes (x)").unwrap();
    let bad = [
        (write("empty", b""), "empty"),
        (write("text", "no database ".repeat(1000).as_bytes()), "not an SQLite database"),
        (write("half", &whole[..whole.len() / 2]), ""),
        (place.path("other").to_str().unwrap().to_owned(), "another program"),
        (place.path("missing").to_str().unwrap().to_owned(), "No such file"),
    ];
    for (path, says) in &bad {
        place.refused(&["restore", path], says);
    }
    // A node of a version that claims no place, or whatever else has the database open.
    let user = Connection::open(place.path("fanfare.db")).unwrap();
    let _: u64 = user.query_row("SELECT count(*) FROM likes", [], |row| row.get(0)).unwrap();
    place.refused(&["restore", good.to_str().unwrap()], "stop it first");
    drop(user);
    assert_eq!(std::fs::read(place.path("fanfare.db")).unwrap(), before, "nothing was changed");
    assert!(
        !place.names().iter().any(|name| name.contains("restoring") || name.contains("before")),
        "{:?}",
        place.names()
    );
    // A relative path that leads nowhere is more likely a wrong directory than a new database.
    let elsewhere = |words: &[&str]| program().args(words).current_dir(Path::new("/")).output().unwrap();
    for words in [["backup", "/nowhere/copy"], ["restore", good.to_str().unwrap()]] {
        let output = elsewhere(&words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("give the whole path"), "{said}");
    }
    place.done(&["restore", good.to_str().unwrap()]);
}

/// What was answered 503 since somebody else held the database is not there, for nobody and by no key; what was answered 202 is,
/// also after a crash, and is known by its key.
#[test]
fn event_shown_or_acknowledged_that_was_not_kept() {
    let place = Place::new();
    let node = place.node();
    let target = "/v1/topics/chat:7/events";
    let publish = |node: &Node, text: &str| {
        let body = json!({"type": "message", "data": {"text": text}}).to_string();
        Client::connect(node.public).request("POST", target, &[("Idempotency-Key", text)], body.as_bytes())
    };
    let listed = |node: &Node| -> Vec<String> {
        let answer = node.get(target).json();
        let events = answer["events"].as_array().expect("a list").iter();
        events.map(|event| event["data"]["text"].as_str().expect("a text").to_owned()).collect()
    };
    let mut stream = node.stream("topic=chat:7");
    assert_eq!(publish(&node, "first").status, 202);
    assert_eq!(stream.event()["data"]["text"], "first");
    let other = Connection::open(place.path("fanfare.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..2 {
        assert_eq!(publish(&node, "second").status, 503, "by its key, too");
        assert_eq!(listed(&node), ["first"]);
    }
    let mut late = node.stream("topic=chat:7&from=-10");
    assert_eq!(late.event()["data"]["text"], "first");
    other.execute_batch("ROLLBACK").unwrap();
    becomes("the database to work", 202, || publish(&node, "second").status);
    let id = publish(&node, "second").json()["id"].clone();
    assert_eq!(publish(&node, "third").status, 202);
    for stream in [&mut stream, &mut late] {
        let told = [stream.event(), stream.event()].map(|event| event["data"]["text"].clone());
        assert_eq!(told, [json!("second"), json!("third")]);
    }
    node.kill();
    let node = place.node();
    assert_eq!(listed(&node), ["first", "second", "third"]);
    let again = publish(&node, "second");
    assert_eq!((again.status, again.json()["id"].clone()), (202, id));
    assert_eq!(listed(&node), ["first", "second", "third"]);
}
