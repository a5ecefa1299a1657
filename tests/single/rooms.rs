//! The folders of `src` are rooms on floors: each uses rooms of the floors below its own, and none beside it or above. So a reader
//! of one room need not open another one of its floor, and no two are in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest. Rooms on one floor know nothing of each other.
const FLOORS: [&[&str]; 11] = [
    &["limits", "figures", "web"],
    &["runtime"],
    &["wire"],
    &["auth", "kv", "queue"],
    &["db", "settings"],
    &["admission", "backup", "check"],
    &["observe"],
    &["ground"],
    &["http", "frontend", "dispatcher", "backend"],
    &["shard"],
    &["roles", "client"],
];

/// What the program is asked for, which is read by who does it.
const COMMANDS: [&str; 3] = ["args", "generate", "main"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that the text of a file names, but for its tests and what is said in comments.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list[..list.find('}').unwrap()].to_owned(),
            None => rest.to_owned(),
        };
        let all = if rest.starts_with('{') { usize::MAX } else { 1 };
        for name in names.split(',').map(str::trim_start).take(all).filter(|name| !name.is_empty()) {
            let end = name.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            rooms.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    rooms
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Each use that goes up or aside, as `room/file -> room`.
fn wrong(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, text) in files {
        let room = file.split(['/', '.']).next().unwrap();
        if COMMANDS.contains(&room) || room == "lib" || file.contains("tests") {
            continue;
        }
        let own = floor(room).unwrap_or_else(|| panic!("{room} is on no floor: name it in FLOORS"));
        for used in used(text).into_iter().filter(|used| used != room) {
            if floor(&used).is_none_or(|floor| floor >= own) {
                wrong.push(format!("{file} -> {used}"));
            }
        }
    }
    wrong
}

#[test]
fn a_room_uses_one_beside_it_or_above() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&source, &mut found);
    let files: BTreeMap<String, String> = found
        .iter()
        .map(|path| (path.strip_prefix(&source).unwrap().display().to_string(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(files.len() > 300, "{} files", files.len());
    assert_eq!(wrong(&files), Vec::<String>::new());
}

#[test]
fn uses_that_go_aside_or_up_are_not_seen() {
    let of = |file: &str, text: &str| wrong(&BTreeMap::from([(file.to_owned(), text.to_owned())]));
    assert_eq!(
        of("frontend/mod.rs", "use crate::ground::Ground;\nuse crate::wire::{event, frame};"),
        Vec::<String>::new()
    );
    assert_eq!(of("frontend/mod.rs", "use crate::backend::Backend;"), ["frontend/mod.rs -> backend"]);
    assert_eq!(of("ground/mod.rs", "use crate::{\n    kv::Answer,\n    shard::Shard,\n};"), ["ground/mod.rs -> shard"]);
    assert_eq!(of("wire/frame.rs", "fn f(x: crate::queue::Queue) {}"), ["wire/frame.rs -> queue"]);
    assert_eq!(
        of("wire/frame.rs", "// crate::queue\n#[cfg(test)]\nmod tests { use crate::queue::Queue; }"),
        Vec::<String>::new()
    );
}
