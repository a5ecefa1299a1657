//! One process with every role dies, and its store lives.

use super::beneath::Store;
use super::load::{Load, What};
use super::setup::wait_ready;
use super::viewers::Viewers;
use crate::support::node::Node;
use crate::support::redis::free_port;

#[test]
fn comments_lost_across_a_kill_of_the_process() {
    process_killed(&Store::redis());
}

#[test]
fn comments_lost_across_a_kill_of_the_process_on_a_cluster() {
    process_killed(&Store::cluster());
}

fn process_killed(store: &Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (address, url) = (format!("127.0.0.1:{}", free_port()), store.url());
    let start = || {
        let node = Node::in_folder(folder.path(), &["--cores", "2", "--kv", &url, "--listen", &address]);
        wait_ready(&node);
        node
    };
    let mut node = start();
    let topics: Vec<String> = ["live:1", "live:2", "chat:3"].map(str::to_owned).into();
    let viewers = Viewers::of(vec![node.public], &topics, 120);
    let messages = Load::start(What::Events("message"), vec![node.public], &topics);
    let comments = Load::start(What::Comments, vec![node.public], &["1".to_owned(), "2".to_owned()]);
    for round in 1..=3 {
        messages.more(20);
        comments.more(20);
        if round == 1 {
            store.aged();
            // Whoever comes back says what it saw last.
            viewers.have(&messages.taken());
        }
        node.kill();
        node = start();
    }
    messages.more(20);
    comments.more(20);
    let (messages, comments) = (messages.stop(), comments.stop());
    viewers.have(&messages);
    viewers.have(&comments);
    viewers.in_order(&messages, |id| id.split('/').nth(1).expect("an id of the test").to_owned());
    viewers.without_gaps();
    assert!(viewers.lock().iter().all(|viewer| viewer.connected > 1));
}
