//! What history has of a topic, asked for by requests. Each test is named after what it prevents.

use crate::support;
use serde_json::{Value, json};
use support::node::Node;
use support::site::unix_ms;

const TOPIC: &str = "/v1/topics/chat:7/events";

/// Numbers and places of what is listed, and whether there is more.
fn listed(node: &Node, query: &str) -> (Vec<u64>, Vec<String>, bool) {
    let answer = node.get(&format!("{TOPIC}?{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let events = answer["events"].as_array().expect("a list");
    let text = |event: &Value| event["position"].as_str().expect("a place").to_owned();
    let number = |event: &Value| event["data"].as_u64().expect("a number");
    (events.iter().map(number).collect(), events.iter().map(text).collect(), answer["more"] == true)
}

fn publish(node: &Node, count: u64) {
    (0..count).for_each(|number| drop(node.publish("chat:7", &json!({"type": "message", "data": number}))));
}

#[test]
fn page_that_skips_or_repeats_events() {
    let node = Node::start();
    assert_eq!(node.get(TOPIC).json(), json!({"events": [], "more": false}));
    let mut stream = node.stream("topic=chat:7");
    publish(&node, 600);
    let (newest, places, more) = listed(&node, "limit=2");
    assert_eq!((newest, more), (vec![598, 599], true));
    assert_eq!(listed(&node, "").0, (550..600).collect::<Vec<_>>());
    assert_eq!(listed(&node, "limit=100000").0, (400..600).collect::<Vec<_>>());
    // Back to the first one, and on to the last.
    let (mut at, mut all) = (places[0].clone(), vec![598, 599]);
    loop {
        let (numbers, places, more) = listed(&node, &format!("before={at}&limit=97"));
        all.splice(0..0, numbers);
        if !more {
            break;
        }
        at.clone_from(&places[0]);
    }
    assert_eq!(all, (0..600).collect::<Vec<_>>());
    // A stream's id is a place, and what is listed behind it is what the stream is given.
    let ids: Vec<String> = (0..600).map(|_| stream.next().expect("it goes on").id.expect("its place")).collect();
    let (numbers, places, more) = listed(&node, &format!("after={}&limit=3", ids[9]));
    assert_eq!((numbers, more), (vec![10, 11, 12], true));
    assert_eq!(places, ids[10..13]);
    assert_eq!(listed(&node, &format!("after={}", ids[599])), (vec![], vec![], false));
    for query in ["after=x", "before=", "limit=0", "limit=x", &format!("after={0}&before={0}", ids[0])] {
        node.get(&format!("{TOPIC}?{query}")).problem(400);
    }
    node.get("/v1/topics/nothing/events").problem(400);
}

#[test]
fn events_that_history_forgot_missing_in_silence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.toml");
    std::fs::write(&file, "[events.message]\nhistory = 5\n").expect("it can be written");
    let node = Node::with(&["--config", file.to_str().expect("UTF-8")]);
    publish(&node, 3);
    let (_, places, _) = listed(&node, "");
    publish(&node, 9);
    let answer = node.get(&format!("{TOPIC}?after={}", places[0])).json();
    assert_eq!((&answer["gap"], answer["events"].as_array().map(Vec::len)), (&json!(true), Some(5)));
    assert_eq!(listed(&node, "").0, [4, 5, 6, 7, 8], "what came last");
}

#[test]
fn stream_that_begins_with_other_events_than_were_asked_for() {
    let node = Node::start();
    let publish = |topic: &str, number: u64| node.publish(topic, &json!({"type": "message", "data": number}));
    (0..30).for_each(|number| drop(publish("chat:7", number)));
    // The next ones are of a later millisecond.
    let (before, mut begin) = (unix_ms(), unix_ms());
    while begin <= before + 1 {
        begin = unix_ms();
    }
    (100..105).for_each(|number| drop(publish("chat:8", number)));
    let got = |query: &str, count: usize| -> Vec<u64> {
        let mut stream = node.stream(&format!("topic=chat:7&topic=chat:8&{query}"));
        let messages = std::iter::from_fn(|| stream.next());
        // Nobody knows what was there so long ago, nor what who says "0" had.
        let is_behind_gap = ["from=1", "from=-3&last_event_id=0"].contains(&query);
        let events = messages.skip_while(|message| is_behind_gap && message.name == "gap");
        events.take(count).map(|message| message.json()["data"].as_u64().expect("an event")).collect()
    };
    let all: Vec<u64> = (0..30).chain(100..105).collect();
    assert_eq!(got("from=earliest", 35), all);
    assert_eq!(got("from=-3", 6), [27, 28, 29, 102, 103, 104]);
    assert_eq!(got("from=-30", 35), all);
    assert_eq!(got("from=1", 35), all);
    assert_eq!(got(&format!("from={begin}"), 5), [100, 101, 102, 103, 104]);
    // Whoever came before knows better.
    assert_eq!(got("from=-3&last_event_id=0", 35), all);
    let mut stream = node.stream("topic=chat:7&from=-1");
    assert_eq!(stream.begins.as_deref(), Some(""), "whoever is cut now asks the same again");
    publish("chat:7", 30);
    let numbers = [(); 2].map(|()| stream.next().expect("it goes on").json()["data"].as_u64());
    assert_eq!(numbers, [Some(29), Some(30)]);
    for from in ["", "-0", "-1001", "latest", "99999999999999", "-1.5", "-"] {
        node.get(&format!("/v1/events?topic=chat:7&from={from}")).problem(400);
    }
}
