//! What reaches whom.

use serde_json::json;

use super::setup::*;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::{becomes, eventually, reaction};

#[test]
fn frontend_without_viewers_gets_events() {
    let dispatcher = Node::start();
    let (watching, idle) = (start("frontend", &[&dispatcher], &[]), start("frontend", &[&dispatcher], &[]));
    // No topics of videos: their viewers are counted, which makes events of its own.
    let mut stream = watching.stream("topic=chat:1");
    let mut other = idle.stream("topic=chat:2");
    for number in 0..50 {
        dispatcher.publish("chat:1", &json!({"type": "note", "data": number}));
    }
    assert_eq!(numbers(&mut stream, 50), (0..50).collect::<Vec<_>>());
    assert_eq!(idle.metric("fanfare_frames_received_total", ""), 0);
    // It does get what its own viewers want, and nothing more once they left.
    dispatcher.publish("chat:2", &json!({"type": "note", "data": 7}));
    assert_eq!(other.event()["data"], 7);
    drop(other);
    eventually("the topic to be let go", || {
        let before = idle.metric("fanfare_frames_received_total", "");
        dispatcher.publish("chat:2", &json!({"type": "note"}));
        let unwanted = dispatcher.metric("fanfare_events_unwanted_total", "");
        let after = idle.metric("fanfare_frames_received_total", "");
        if unwanted > 0 && before == after { Ok(()) } else { Err(format!("{unwanted} unwanted, {after} received")) }
    });
}

#[test]
fn like_shown_twice_or_never() {
    let dispatcher = Node::start();
    let frontend = start("frontend", &[&dispatcher], &[]);
    let backends = [start("backend", &[&dispatcher], &[]), start("backend", &[&dispatcher], &[])];
    let mut stream = frontend.stream("topic=live:42");
    for number in 0..40 {
        let body = reaction(&format!("member-{number}"), "like");
        let answer = backends[number % 2].post("/v1/videos/42/likes", &body);
        assert_eq!(answer.status, 201, "{answer:?}");
        // Again: stored before, and shown once.
        assert_eq!(backends[number % 2].post("/v1/videos/42/likes", &body).status, 200);
    }
    let mut shown = 0;
    while shown < 40 {
        let event = stream.event();
        assert_eq!((&event["type"], &event["key"]), (&json!("like"), &json!("like")));
        shown += event["count"].as_u64().expect("a count");
    }
    assert_eq!(shown, 40);
    assert_quiet(&mut stream);
    // A backend serves its own requests, and no others.
    assert_eq!(backends[0].get("/v1/events?topic=live:1").status, 404);
    assert_eq!(backends[0].post("/v1/topics/live:1/events", "{}").status, 405, "it lists them only");
    assert_eq!(frontend.get("/v1/videos/42/likes").status, 404);
    assert_eq!(frontend.get("/").status, 404);
}

#[test]
fn stream_changed_only_where_it_is() {
    let dispatcher = Node::start();
    let (holder, other) = (start("frontend", &[&dispatcher], &[]), start("frontend", &[&dispatcher], &[]));
    let mut stream = holder.stream("topic=live:1");
    let target = format!("/v1/connections/{}/topics", stream.connection());
    becomes("the nodes to know each other", 3, || living(&other));
    let answer = other.post(&target, r#"{"add":["live:2"],"remove":["live:1"]}"#);
    assert_eq!((answer.status, answer.json()), (200, json!({"topics": ["live:2"], "pending": []})), "{answer:?}");
    dispatcher.publish("live:1", &json!({"type": "note", "data": 1}));
    dispatcher.publish("live:2", &json!({"type": "note", "data": 2}));
    assert_eq!(stream.event()["data"], 2);
    let answer = other.post(&target, r#"{"add":["nonsense"]}"#);
    assert!(answer.problem(400).contains("kind"), "{answer:?}");
    let gone = holder.stream("topic=live:1");
    let target = format!("/v1/connections/{}/topics", gone.connection());
    drop(gone);
    becomes("the stream to be gone", 412, || other.post(&target, r#"{"add":["live:2"]}"#).status);
    // The node that held it is gone, too.
    let held = holder.stream("topic=live:1");
    let target = format!("/v1/connections/{}/topics", held.connection());
    holder.kill();
    eventually("a node that is dead to be known as such", || {
        let answer = other.post(&target, r#"{"add":["live:2"]}"#);
        if answer.status == 412 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

#[test]
fn node_does_not_show_the_cluster() {
    let dispatcher = Node::start();
    let frontend = start("frontend", &[&dispatcher], &[]);
    let _stream = frontend.stream("topic=live:1");
    dispatcher.publish("live:1", &json!({"type": "note"}));
    becomes("both to be known here", 2, || living(&dispatcher));
    becomes("both to be known there", 2, || living(&frontend));
    let info = frontend.info();
    assert_eq!(info["roles"], json!(["frontend"]));
    assert_eq!(info["waits_for"], json!(null));
    let names: Vec<&str> = info["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&info["node"].as_str().unwrap()), "{info}");
    eventually("a link of each kind", || {
        let lanes = |node: &Node| -> Vec<String> {
            let info = node.info();
            let links = info["links"].as_array().unwrap().clone();
            links
                .iter()
                .filter(|link| link["state"] == "open")
                .map(|link| link["lane"].as_str().unwrap().to_owned())
                .collect()
        };
        let seen = (lanes(&dispatcher), lanes(&frontend));
        let fits = seen.0.contains(&"frames".to_owned()) && seen.1.contains(&"questions".to_owned());
        if fits { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!(Client::connect(dispatcher.internal).request("GET", "/health/ready", &[], b"").status, 200);
}

#[test]
fn history_listed_by_dispatchers_alone() {
    let dispatcher = Node::start();
    let frontend = start("frontend", &[&dispatcher], &[]);
    (0..300).for_each(|number| drop(dispatcher.publish("chat:1", &json!({"type": "message", "data": number}))));
    let answer = frontend.get("/v1/topics/chat:1/events?limit=2").json();
    assert_eq!((answer["events"][1]["data"].as_u64(), answer["more"] == true), (Some(299), true), "{answer}");
    assert_eq!(answer, dispatcher.get("/v1/topics/chat:1/events?limit=2").json());
    // It takes no events.
    let refused = frontend.post("/v1/topics/chat:1/events", r#"{"type":"message"}"#);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}
