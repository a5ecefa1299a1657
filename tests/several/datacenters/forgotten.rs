//! What a data center's store forgets of the others, it is told again.

use crate::support::node::{Node, program};
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::viewers::{Viewer, Viewers};

#[test]
fn viewers_of_another_data_center_lost_with_the_store() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a temporary folder"));
    let addresses = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let node = |at: usize, names: [&str; 2], kv: &str| {
        let database = format!("sqlite:{}", folder.path().join(names[0]).display());
        let peer = format!("{}=http://{}", names[1], addresses[1 - at]);
        let flags = ["--cores", "2", "--dc", names[0], "--peer", &peer, "--kv", kv];
        Node::run_on(program(), "all", &addresses[at], &database, &flags)
    };
    let (here, there) = (node(0, ["a", "b"], &redis.url()), node(1, ["b", "a"], "memory"));
    // Each shard is the home of some, and tells the other data center of those.
    let topics: Vec<String> = (0..20).map(|number| format!("live:{number}")).collect();
    let told = |viewers: &Viewers, count: u64| {
        let is_told = |viewer: &Viewer| topics.iter().all(|topic| viewer.counts.get(topic) == Some(&count));
        viewers.until(&format!("to be told that they are {count}"), is_told);
    };
    let (first, elsewhere) = (Viewers::of(vec![here.public], &topics, 1), Viewers::of(vec![there.public], &topics, 2));
    told(&first, 3);
    told(&elsewhere, 3);
    assert_eq!(redis.command(&["FLUSHALL"]), "+OK");
    // Whoever comes is counted, and told of all.
    let more = Viewers::of(vec![here.public], &topics, 4);
    [&first, &elsewhere, &more].into_iter().for_each(|viewers| told(viewers, 7));
    drop(elsewhere);
    [&first, &more].into_iter().for_each(|viewers| told(viewers, 5));
}
