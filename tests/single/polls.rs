//! Polls, for networks that hold streams back. Each test is named after what it prevents.

use std::collections::BTreeSet;
use std::thread;

use crate::support;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::http::Client;
use support::node::Node;
use support::token::{Guarded, as_bearer, token};
use support::{becomes, reaction};

fn poll(node: &Node, query: &str) -> Value {
    let answer = node.get(&format!("/v1/poll?{query}"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    answer.json()
}

fn id(answer: &Value) -> String {
    answer["last_event_id"].as_str().expect("a place").replace('@', "%40")
}

fn types(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().expect("a list").iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

fn comment(node: &Node, text: &str) -> String {
    let answer = node.post("/v1/videos/1/comments", json!({"member": "ana", "text": text}).to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// A poll that waits, beside so many other subscriptions: what `act` does is what it is answered.
fn while_polling(node: &Node, others: u64, query: &str, act: impl FnOnce()) -> Value {
    becomes("polls before it to be over", others, || node.counts()[1]);
    thread::scope(|scope| {
        let waits = scope.spawn(|| poll(node, query));
        becomes("the poll to wait", others + 1, || node.counts()[1]);
        act();
        waits.join().expect("it is answered")
    })
}

#[test]
fn poll_that_does_not_wait_or_misses_what_it_waits_for() {
    let node = Node::start();
    node.post("/v1/videos/1/likes", reaction("ana", "like"));
    // The first one has newest values, as a stream has at once.
    let first = poll(&node, "topic=live:1");
    assert!(types(&first).contains(&"likes"), "{first}");
    assert!((1_000..=3_000).contains(&first["retry_ms"].as_u64().expect("a time")), "{first}");
    let posted = std::cell::RefCell::new(Vec::new());
    let post = |text: &str| posted.borrow_mut().push(comment(&node, text));
    let second = while_polling(&node, 0, &format!("topic=live:1&last_event_id={}", id(&first)), || post("one"));
    assert!(types(&second).contains(&"comment"), "{second}");
    // Between two polls, and while one waits; what came before is no reason to answer.
    post("two");
    let third = poll(&node, &format!("topic=live:1&last_event_id={}", id(&second)));
    let fourth = while_polling(&node, 0, &format!("topic=live:1&last_event_id={}", id(&third)), || post("three"));
    let fifth = while_polling(&node, 0, &format!("topic=live:1&last_event_id={}", id(&fourth)), || {
        node.post("/v1/videos/1/likes", reaction("bob", "like"));
    });
    assert!(types(&fifth).iter().any(|kind| ["like", "likes"].contains(kind)), "{fifth}");
    let (mut known, mut shown) = (BTreeSet::new(), Vec::new());
    for event in [&second, &third, &fourth, &fifth].into_iter().flat_map(|answer| answer["events"].as_array().unwrap())
    {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        if event["type"] == "comment" && known.insert(id.clone()) {
            shown.push(id);
        }
        assert_ne!(event["type"], "gap", "{event}");
    }
    assert_eq!(shown, *posted.borrow());
    // A stream goes on where a poll ended.
    let mut stream = node.stream(&format!("topic=live:1&last_event_id={}", id(&second)));
    let missed = posted.borrow()[1].clone();
    while stream.next().expect("it goes on").json()["id"] != missed.as_str() {}
}

#[test]
fn poll_that_is_never_answered() {
    let node = Node::start();
    let mut stream = node.stream("topic=chat:1");
    let empty = poll(&node, "topic=chat:1");
    assert_eq!(empty["events"], json!([]));
    let id = id(&empty);
    node.publish("chat:1", &json!({"type": "message", "data": 1}));
    let answer = poll(&node, &format!("topic=chat:1&last_event_id={id}"));
    assert_eq!(answer["events"], json!([stream.next().expect("it goes on").json()]));
    // Of a client that is gone nothing stays.
    let mut client = Client::connect(node.public);
    client.send(b"GET /v1/poll?topic=chat:1 HTTP/1.1\r\nHost: h\r\n\r\n");
    becomes("the poll to be there", 2, || node.counts()[1]);
    drop(client);
    becomes("the poll to be gone", 1, || node.counts()[1]);
    // A node that ends answers those that wait.
    let answer = while_polling(&node, 1, "topic=chat:1", || node.signal(Signal::TERM));
    assert_eq!(answer["events"], json!([]));
}

#[test]
fn poll_that_gives_more_or_other_than_a_stream() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:1"], &["live:1"]);
    node.get("/v1/poll?topic=live:1").problem(401);
    as_bearer(node, &ana, "GET", "/v1/poll?topic=live:2", "").problem(403);
    as_bearer(node, &ana, "GET", "/v1/poll?topic=live:1&offset=1", "").problem(400);
    as_bearer(node, &ana, "POST", "/v1/poll", "").problem(405);
    let answer = as_bearer(node, &ana, "GET", "/v1/poll?topic=live:1&last_event_id=0", "");
    assert_eq!(types(&answer.json())[0], "gap", "{answer:?}");
    let head = as_bearer(node, &ana, "HEAD", "/v1/poll?topic=live:1", "");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
}

#[test]
fn poll_cut_short_by_more_than_one_answer_holds() {
    let node = Node::start();
    let text = "x".repeat(16_000);
    let posted: Vec<String> =
        (0..60).map(|_| node.publish("chat:1", &json!({"type": "message", "data": text}))).collect();
    let (mut last, mut shown, mut polls) = ("0".to_owned(), Vec::new(), 0);
    while shown.len() < posted.len() {
        let answer = poll(&node, &format!("topic=chat:1&last_event_id={last}"));
        let ids = answer["events"].as_array().expect("a list").iter().filter_map(|event| event["id"].as_str());
        for id in ids {
            if !shown.iter().any(|shown| shown == id) {
                shown.push(id.to_owned());
            }
        }
        last = id(&answer);
        polls += 1;
        assert!(polls < 60, "{} of {} were shown", shown.len(), posted.len());
    }
    assert_eq!(shown, posted);
    assert!(polls >= 3, "a poll held all of it: {polls}");
}
