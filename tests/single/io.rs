//! What shards wait by: io_uring, or epoll where that is not to be had. Each test is named after what it prevents.

use crate::support;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use support::node::{Node, program, program_behind};
use support::seccomp::refusing;
use support::shards::{allowed, works};
use support::tls::Secured;

/// The like path, a stream on each shard, a change of topics, by a node that waits by epoll; and that it ends as it should.
fn ends_well(mut node: Node, shards: usize) {
    works(&node, shards);
    let mut pinned: Vec<(String, String)> =
        allowed(node.pid()).into_iter().filter(|(name, _)| name.starts_with("shard-")).collect();
    pinned.sort();
    pinned.dedup_by(|one, other| one.1 == other.1);
    assert!(pinned.len() == shards && pinned.iter().all(|(_, list)| list.parse::<usize>().is_ok()), "{pinned:?}");
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
}

/// Lines of the log that tell of epoll, and those of panics.
fn told(node: &Node) -> (usize, usize) {
    let log = node.log();
    let count = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    (count("shards wait by epoll"), count("panicked"))
}

fn start(command: Command, flags: &[&str]) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Node::launch(command, folder.path(), &[&["--cores", "2"], flags].concat()), folder)
}

#[test]
fn node_without_io_uring_does_not_start() {
    for (call, errno) in [
        (libc::SYS_io_uring_setup, libc::EPERM),
        (libc::SYS_io_uring_setup, libc::ENOSYS),
        (libc::SYS_io_uring_register, libc::EPERM),
        (libc::SYS_io_uring_enter, libc::EPERM),
    ] {
        let (node, _folder) = start(refusing(program(), call, errno), &[]);
        assert_eq!(told(&node), (1, 0));
        ends_well(node, 2);
    }
}

#[test]
fn too_little_lockable_memory_keeps_a_node_from_starting() {
    let mut command = program_behind(&["prlimit".to_owned(), "--memlock=65536".to_owned()]);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let (node, _folder) = start(command, &[]);
    assert_eq!(told(&node), (1, 0));
    ends_well(node, 2);
}

#[test]
fn epoll_that_was_asked_for_is_warned_of_or_has_rings() {
    let (node, _folder) = start(program(), &["--io", "epoll"]);
    assert_eq!(told(&node), (0, 0));
    let rings = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().filter(|file| {
        let link = std::fs::read_link(file.as_ref().unwrap().path()).unwrap_or_default();
        link.to_string_lossy().contains("io_uring")
    });
    assert_eq!(rings.count(), 0);
    ends_well(node, 2);
}

#[test]
fn machine_with_io_uring_is_told_of_epoll() {
    let (node, _folder) = start(program(), &[]);
    assert_eq!(told(&node), (0, 0));
    assert!(node.log().iter().any(|line| line.contains("\"io\":\"Uring\"")), "{:?}", node.log());
}

#[test]
fn tls_is_another_on_epoll() {
    let secured = Secured::start(&["a.example"], &["--io", "epoll"]);
    let mut viewer = secured.view("topic=live:1");
    secured.node.publish("live:1", &json!({"type": "like", "data": {}}));
    assert_eq!(viewer.event()["type"], "like");
}
