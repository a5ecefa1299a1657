//! Nodes that hang, die, end, and come too late.

use rustix::process::Signal;
use serde_json::json;

use crate::setup::*;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::ports::free_port;
use crate::support::{becomes, eventually, reaction};

#[test]
fn stopped_frontend_holds_up_others() {
    let dispatcher = Node::start();
    let (well, stopped) = (start("frontend", &[&dispatcher], &[]), start("frontend", &[&dispatcher], &[]));
    let (mut stream, mut behind) = (well.stream("topic=live:1"), stopped.stream("topic=live:1"));
    dispatcher.publish("live:1", &json!({"type": "like", "key": "like"}));
    assert_eq!((&stream.event()["count"], &behind.event()["count"]), (&json!(1), &json!(1)));
    becomes("all to be known", 3, || living(&dispatcher));
    let name = stopped.info()["node"].clone();
    let mut nodes = dispatcher.info()["nodes"].as_array().expect("a list").clone();
    nodes.retain(|node| node["id"] == name);
    let beat = json!([{"heartbeat": {"node": nodes[0], "digests": []}}]).to_string();
    stopped.signal(Signal::STOP);
    // Until the dispatcher has waited in vain. However long that takes on a busy machine, the node does not count as dead,
    // whose events would be dropped: the test says that it lives.
    let in_vain = || dispatcher.metric("fanfare_link_failures_total", "");
    let (before, mut published) = (in_vain(), 0);
    while in_vain() == before {
        let answer = Client::connect(dispatcher.internal).request("POST", "/v1/internal/kv", &[], beat.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        dispatcher.publish("live:1", &json!({"type": "like", "key": "like"}));
        published += 1;
        assert_eq!(stream.event()["count"], 1, "the others notice nothing");
    }
    stopped.signal(Signal::CONT);
    let mut counted = 0;
    while counted < published {
        counted += behind.event()["count"].as_u64().unwrap();
    }
    assert_eq!(counted, published, "sent again, and counted once");
    assert_quiet(&mut behind);
}

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
    // The second one may have come before the topic was wanted; the total heals the display.
    eventually("the total", || match stream.event()["data"]["likes"].as_u64() {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn dispatcher_that_is_gone_tried_in_vain() {
    // Nobody listens there, but it is the first of two.
    let gone = Node::with_internal(&format!("127.0.0.1:{}", free_port()));
    let dispatcher = Node::start();
    let flags = format!("{},{}", url(&gone), url(&dispatcher));
    gone.kill();
    let all = ["--cores", "2", "--dispatchers", &flags, "--kv", "redis://127.0.0.1:1"];
    let (frontend, backend) = (Node::role("frontend", &all), Node::role("backend", &all));
    [&frontend, &backend].into_iter().for_each(wait_ready);
    let mut stream = frontend.stream("topic=live:42");
    for number in 0..30 {
        let body = reaction(&format!("member-{number}"), "like");
        assert_eq!(backend.post("/v1/videos/42/likes", body).status, 201);
    }
    let mut shown = 0;
    while shown < 30 {
        shown += stream.event()["count"].as_u64().expect("a count");
    }
    assert_eq!(shown, 30);
    assert_quiet(&mut stream);
    for reason in ["unsure", "handover"] {
        assert_eq!(backend.metric("fanfare_dropped_total", &format!("reason=\"{reason}\"")), 0);
    }
}

#[test]
fn dispatcher_that_hangs_waited_for() {
    let (hanging, dispatcher) = (Node::start(), Node::start());
    let urls = format!("{},{}", url(&hanging), url(&dispatcher));
    hanging.signal(Signal::STOP);
    let frontend = Node::role("frontend", &["--cores", "2", "--dispatchers", &urls]);
    wait_ready(&frontend);
    let mut stream = frontend.stream("topic=live:1");
    becomes("the topic to be wanted", 1, || subscribers(&dispatcher, "live:1"));
    for number in 0..10 {
        dispatcher.publish("live:1", &json!({"type": "note", "data": number}));
    }
    assert_eq!(numbers(&mut stream, 10), (0..10).collect::<Vec<_>>());
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
