//! Streams of all topics that begin so. Each test is named after what it prevents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::becomes;
use crate::support::node::Node;
use crate::support::sse::{Message, Stream};
use crate::support::token::{Guarded, as_bearer, token};

/// Publishes an event of each class to each topic, of class `every` two. Gives the ids of class `every`.
fn publish(node: &Node, topics: &[String], round: u64) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for topic in topics {
        ids.insert(node.publish(topic, &json!({"type": "message", "data": round})));
        node.publish(topic, &json!({"type": "tap", "key": "heart", "data": round}));
        node.publish(topic, &json!({"type": "note", "data": round}));
        ids.insert(node.publish(topic, &json!({"type": "message", "data": round})));
    }
    ids
}

/// What a stream was shown.
#[derive(Default)]
struct Seen {
    /// Of class `every`, how often each id came.
    every: BTreeMap<String, u64>,
    sums: BTreeMap<String, u64>,
    notes: u64,
    topics: BTreeSet<String>,
    last: String,
}

impl Seen {
    fn take(&mut self, message: &Message) {
        assert_eq!(message.name, "message", "{message:?}");
        let event = message.json();
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        match event["type"].as_str().expect("a type") {
            "message" => {
                *self.every.entry(event["id"].as_str().expect("an id").to_owned()).or_default() += 1;
                self.last = message.id.clone().expect("a place");
            }
            "tap" => *self.sums.entry(topic.clone()).or_default() += event["count"].as_u64().expect("a count"),
            "note" => self.notes += 1,
            _ => {}
        }
        self.topics.insert(topic);
    }

    /// Reads on until all of class `every` came, and so many taps and notes of each topic.
    fn until(&mut self, stream: &mut Stream, ids: &BTreeSet<String>, topics: &[String], each: u64) {
        let has_all = |seen: &Seen| {
            ids.iter().all(|id| seen.every.contains_key(id))
                && topics.iter().all(|topic| seen.sums.get(topic) == Some(&each))
                && seen.notes == each * topics.len() as u64
        };
        while !has_all(self) {
            let message = stream.next().expect("the stream goes on");
            self.take(&message);
        }
    }
}

fn crew(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("chat:crew.{number}")).collect()
}

fn change(node: &Node, stream: &Stream, body: &Value) -> Value {
    let answer = node.post(&format!("/v1/connections/{}/topics", stream.connection()), body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn topics_of_a_prefix_that_nobody_named() {
    let node = Node::start();
    // On both shards, one of them beside a topic by its name.
    let mut streams = node.stream_on_each_shard("topic=chat:crew.*&topic=chat:crew.3&topic=chat:*");
    let (first, others) = (crew(0..20), ["chat:crew", "chat:other.1", "room:crew.1"].map(str::to_owned));
    let mut ids = publish(&node, &first, 1);
    for stream in &mut streams {
        let mut seen = Seen::default();
        seen.until(stream, &ids, &first, 1);
        assert!(seen.every.values().all(|count| *count == 1), "{:?}", seen.every);
    }
    // Of a prefix alone: nothing of other topics, and what comes again is not shown again.
    let mut stream = node.stream("topic=chat:crew.*");
    ids = publish(&node, &others, 2);
    let (again, new) = (crew(10..30), crew(20..30));
    let more = publish(&node, &again, 3);
    let mut seen = Seen::default();
    seen.until(&mut stream, &more, &again, 1);
    assert!(seen.every.keys().all(|id| more.contains(id)), "{:?}", seen.topics);
    assert!(seen.every.values().all(|count| *count == 1), "{:?}", seen.every);
    assert!(new.iter().all(|topic| seen.topics.contains(topic)));
    // Who comes back has what came meanwhile, of topics that are new as well.
    let last = seen.last.clone();
    drop(stream);
    let missed = publish(&node, &crew(25..40), 4);
    let mut stream = node.stream(&format!("topic=chat:crew.*&last_event_id={last}"));
    let mut back = Seen::default();
    while !missed.iter().all(|id| back.every.contains_key(id)) {
        let message = stream.next().expect("the stream goes on");
        back.take(&message);
    }
    assert!(!back.topics.iter().any(|topic| !topic.starts_with("chat:crew.")), "{:?}", back.topics);
    assert!(!ids.iter().any(|id| back.every.contains_key(id)));
    // And goes on.
    let live = publish(&node, &crew(30..45), 5);
    while !live.iter().all(|id| back.every.contains_key(id)) {
        let message = stream.next().expect("the stream goes on");
        back.take(&message);
    }
    assert!(back.every.values().all(|count| *count == 1), "{:?}", back.every);
}

#[test]
fn changes_of_prefixes_that_lose_topics() {
    let node = Node::start();
    let mut stream = node.stream("topic=room:1");
    let answer = change(&node, &stream, &json!({"add": ["live:hall.*", "live:hall.1"]}));
    assert_eq!(answer, json!({"topics": ["room:1", "live:hall.*", "live:hall.1"], "pending": []}));
    let of = |stream: &mut Stream, kind: &str| loop {
        let event = stream.event();
        if event["type"] == kind {
            return event["data"].clone();
        }
    };
    node.publish("live:hall.1", &json!({"type": "note", "data": 1}));
    node.publish("live:hall.2", &json!({"type": "note", "data": 2}));
    assert_eq!([of(&mut stream, "note"), of(&mut stream, "note")], [json!(1), json!(2)]);
    // By a prefix alone it is no viewer.
    let members = |topic: &str| node.get(&format!("/v1/topics/{topic}/members")).json()["viewers"].clone();
    becomes("who watches what is named", json!(1), || members("live:hall.1"));
    assert_eq!(members("live:hall.2"), 0);
    // Without its name the topic is had by the prefix, and named again it counts.
    change(&node, &stream, &json!({"remove": ["live:hall.1"], "add": ["live:hall.2"]}));
    becomes("who watches what is named no more", json!(0), || members("live:hall.1"));
    becomes("who watches what is named now", json!(1), || members("live:hall.2"));
    node.publish("live:hall.1", &json!({"type": "note", "data": 3}));
    assert_eq!(of(&mut stream, "note"), 3);
    // Without the prefix only what is named is left.
    let answer = change(&node, &stream, &json!({"remove": ["live:hall.*"]}));
    assert_eq!(answer["topics"], json!(["room:1", "live:hall.2"]));
    for (topic, number) in [("live:hall.1", 4), ("live:hall.9", 5), ("live:hall.2", 6)] {
        node.publish(topic, &json!({"type": "note", "data": number}));
    }
    assert_eq!(of(&mut stream, "note"), 6);
    becomes("the prefix to be let go", json!([]), || {
        let question = json!([{"subscribers": "control:prefix:live:hall."}]).to_string();
        let mut client = crate::support::http::Client::connect(node.internal);
        client.request("POST", "/v1/internal/kv", &[], question.as_bytes()).json()[0]["Ok"]["subscribers"].clone()
    });
}

#[test]
fn prefixes_without_a_right_or_an_end() {
    let node = Node::start();
    for (topic, says) in [
        ("*", "ends with a : or a ."),
        ("chat*", "ends with a : or a ."),
        ("chat:crew*", "ends with a : or a ."),
        ("chat.*", "kind"),
        ("a:b.c.d.e.f.g.h.i.*", "up to 8"),
        ("mercure:*", "mercure"),
    ] {
        let answer = node.get(&format!("/v1/events?topic={topic}"));
        assert!(answer.problem(400).contains(says), "{topic}: {answer:?}");
    }
    for topic in ["control:*", "canary:*", "control:prefix:chat:", "control:prefixes"] {
        assert!(node.get(&format!("/v1/events?topic={topic}")).problem(403).contains("topics are"), "{topic}");
    }
    let many: Vec<String> = (0..11).map(|number| format!("topic=chat:{number}.*")).collect();
    assert!(node.get(&format!("/v1/events?{}", many.join("&"))).problem(400).contains("at most 10 prefixes"));
    assert_eq!(node.post("/v1/topics/chat:crew.*/events", r#"{"type":"note"}"#).status, 400, "nobody publishes to all");
    let guarded = Guarded::start(&[]);
    let token = token("ana", &["chat:crew.*", "room:1", "hall:7*"], &["chat:*"]);
    for (topic, status) in [
        ("chat:crew.*", 200),
        ("chat:crew.7.*", 200),
        ("hall:7.*", 200),
        ("chat:*", 403),
        ("chat:cre.*", 403),
        ("room:1.*", 403),
        ("room:*", 403),
        ("hall:*", 403),
        ("control:*", 403),
    ] {
        let answer = as_bearer(&guarded.node, &token, "GET", &format!("/v1/events?topic={topic}"), "");
        assert_eq!(answer.status, status, "{topic}: {}", answer.text());
        if status == 403 && topic != "control:*" {
            assert!(answer.text().contains(&format!("fanfare.subscribe on {topic}")), "{}", answer.text());
        }
    }
}

#[test]
fn polls_that_miss_topics_of_a_prefix() {
    let node = Node::start();
    let poll = |query: &str| {
        let answer = node.get(&format!("/v1/poll?topic=chat:crew.*{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let events = answer["events"].as_array().expect("a list").iter();
        let numbers: Vec<u64> = events.filter_map(|event| event["data"].as_u64()).collect();
        (numbers, answer["last_event_id"].as_str().expect("a place").replace('@', "%40"))
    };
    let message = |topic: &str, number: u64| node.publish(topic, &json!({"type": "message", "data": number}));
    message("chat:crew.1", 1);
    message("chat:else", 2);
    message("chat:crew.2", 3);
    let (numbers, last) = poll("&from=earliest");
    assert_eq!(numbers, [1, 3]);
    message("chat:crew.3", 4);
    // What came within the ten seconds before comes again.
    let (numbers, last) = poll(&format!("&last_event_id={last}"));
    assert_eq!(numbers, [1, 3, 4]);
    // Nothing is new until something comes.
    let waits = std::thread::scope(|scope| {
        let waits = scope.spawn(|| poll(&format!("&last_event_id={last}")));
        becomes("the poll to wait", true, || node.counts()[0] > 0);
        message("chat:crew.4", 5);
        waits.join().expect("it is answered")
    });
    assert!(waits.0.contains(&5), "{:?}", waits.0);
}
