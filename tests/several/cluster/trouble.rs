//! Nodes that hang, die, end, and come too late.

use rustix::process::Signal;
use serde_json::json;

use super::setup::*;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::ports::free_port;
use crate::support::{becomes, eventually, reaction};

#[test]
fn dead_frontend_fills_memory() {
    let dispatcher = Node::start();
    let (well, dead) = (start("frontend", &[&dispatcher], &[]), start("frontend", &[&dispatcher], &[]));
    // Of a video the counts of viewers would be dropped as well.
    let mut stream = well.stream("topic=chat:1");
    let _gone = dead.stream("topic=chat:1");
    dispatcher.publish("chat:1", &json!({"type": "note", "data": 0}));
    assert_eq!(stream.event()["data"], 0);
    becomes("the other one to have it", 1, || dead.metric("fanfare_frames_received_total", ""));
    dead.kill();
    for number in 1..100 {
        dispatcher.publish("chat:1", &json!({"type": "note", "data": number}));
    }
    assert_eq!(numbers(&mut stream, 99), (1..100).collect::<Vec<_>>());
    eventually("what waits for the dead to be dropped", || {
        // The first one's acknowledgement may have died with the node.
        match dispatcher.metric("fanfare_dropped_total", "reason=\"absent\"") {
            99..=100 => Ok(()),
            other => Err(format!("{other} dropped")),
        }
    });
    becomes("nothing to wait", 0, || dispatcher.metric("fanfare_frames_waiting", ""));
    becomes("the dead to be forgotten", 2, || living(&dispatcher));
    // Later ones are not even kept.
    dispatcher.publish("chat:1", &json!({"type": "note", "data": 100}));
    assert_eq!(stream.event()["data"], 100);
}

#[test]
fn likes_lost_without_a_dispatcher() {
    let internal = format!("127.0.0.1:{}", free_port());
    let dispatcher = Node::with_internal(&internal);
    let frontend = start("frontend", &[&dispatcher], &[]);
    let backend = start("backend", &[&dispatcher], &[]);
    let mut stream = frontend.stream("topic=live:42");
    assert_eq!(backend.post("/v1/videos/42/likes", reaction("a", "like")).status, 201);
    assert_eq!(stream.event()["count"], 1);
    dispatcher.kill();
    eventually("the nodes to see that there is no dispatcher", || {
        let seen =
            [&frontend, &backend].map(|node| Client::connect(node.internal).request("GET", "/health/ready", &[], b""));
        if seen.iter().all(|answer| answer.status == 503 && answer.text().contains("dispatcher")) {
            Ok(())
        } else {
            Err(format!("{:?}", seen.map(|answer| answer.text())))
        }
    });
    // Stored and acknowledged. A dispatcher comes back in its place, with nothing of what it knew.
    assert_eq!(backend.post("/v1/videos/42/likes", reaction("b", "like")).status, 201);
    let dispatcher = Node::with_internal(&internal);
    [&frontend, &backend].into_iter().for_each(wait_ready);
    becomes("the topic to be wanted again", 1, || subscribers(&dispatcher, "live:42"));
    assert_eq!(backend.post("/v1/videos/42/likes", reaction("c", "like")).status, 201);
    // The second one may have come before the topic was wanted; the total heals the display. That history went with the first
    // dispatcher is told, too.
    eventually("the total", || {
        let message = stream.next().expect("the stream stays open");
        if message.name != "gap" && message.json()["data"]["likes"] == 3 { Ok(()) } else { Err(message) }
    });
}

#[test]
fn ended_node_still_counted_as_living() {
    let dispatcher = Node::start();
    let mut frontend = start("frontend", &[&dispatcher], &["--drain", "100ms"]);
    let mut backend = start("backend", &[&dispatcher], &["--drain", "100ms"]);
    let stream = frontend.stream("topic=live:1");
    becomes("all to be known", 3, || living(&dispatcher));
    drop(stream);
    for node in [&mut frontend, &mut backend] {
        node.signal(Signal::TERM);
        assert_eq!(node.ended().code(), Some(0), "{:?}", node.log());
    }
    // Well before its lease would have lapsed, what it wanted is gone, too.
    assert_eq!(subscribers(&dispatcher, "live:1"), 0);
    becomes("only one to live", 1, || living(&dispatcher));
}

#[test]
fn end_without_a_dispatcher_takes_forever() {
    let dispatcher = Node::start();
    let mut frontend = start("frontend", &[&dispatcher], &["--drain", "100ms"]);
    let _stream = frontend.stream("topic=live:1");
    dispatcher.kill();
    frontend.signal(Signal::TERM);
    assert_eq!(frontend.ended().code(), Some(0), "{:?}", frontend.log());
}
