//! A type with a pace: all who watch are shown the same ones, also those who come back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::http::Client;
use super::support::node::Node;
use super::support::sse::{Message, Stream};
use super::{configured, line, ms_of, publish_lines, resume};

/// History holds what comes until enough were shown, however fast a machine publishes.
const PACE: &str = "[events.comment]\npace = \"10/s\"\nhistory = 200000\n";

/// Comments come in bodies of so many.
const BODY: usize = 25;

/// Publishes comments until there are 1,000, and a stream was shown so many of them. Gives how many, and what another stream was
/// given of them: who does not read meanwhile is cut.
fn publish_until_shown(
    node: &Node,
    stream: &mut Stream,
    shown: usize,
    moderator: &mut Stream,
) -> (usize, Vec<Message>) {
    let mut client = Client::connect(node.public);
    let (mut published, mut came, mut all) = (0, 0, Vec::new());
    while published < 1000 || came < shown {
        let numbers = published..published + BODY;
        let lines: String = numbers.map(|number| line("live:1", &number.to_string(), 10)).collect();
        publish_lines(&mut client, &lines);
        published += BODY;
        all.extend(moderator.come().into_iter().filter(|message| message.json()["type"] == "comment"));
        came += stream.come().iter().filter(|message| message.json()["type"] == "comment").count();
    }
    // Of a type without a pace, so that all are shown it.
    node.publish("live:1", &json!({"type": "message", "id": "end"}));
    all.extend(comments(moderator));
    (published, all)
}

/// The comments that a stream is given until the end.
fn comments(stream: &mut Stream) -> Vec<Message> {
    let messages = std::iter::from_fn(|| stream.next()).take_while(|message| message.json()["id"] != "end");
    messages.filter(|message| message.json()["type"] == "comment").collect()
}

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.json()["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn comments_that_one_viewer_is_shown_and_another_is_not() {
    let (node, _folder) = configured(PACE);
    let mut viewers = node.stream_on_each_shard("topic=live:1");
    viewers.push(node.stream("topic=live:1&topic=chat:2"));
    let mut moderator = node.stream("topic=live:1&all=comment");
    let mut reader = node.stream("topic=live:1");
    let (published, all) = publish_until_shown(&node, &mut reader, 30, &mut moderator);
    let numbers: Vec<String> = (0..published).map(|number| number.to_string()).collect();
    assert_eq!(ids(&all), numbers, "whoever asks for all gets all");
    let is_shown = |message: &&Message| message.json()["shown"] != false;
    let shown: Vec<&Message> = all.iter().filter(is_shown).collect();
    // Evenly: as many in each quarter of a second as there is room for.
    let mut quarters: Vec<(u64, usize)> = Vec::new();
    for message in &shown {
        let quarter = ms_of(message.id.as_deref().expect("comments have ids")) / 250;
        match quarters.last_mut().filter(|(last, _)| *last == quarter) {
            Some((_, count)) => *count += 1,
            None => quarters.push((quarter, 1)),
        }
    }
    assert!(quarters.iter().all(|(_, count)| *count <= 3), "{quarters:?}");
    let quarters_passed = quarters.last().expect("some").0 - quarters[0].0;
    assert!(shown.len() as u64 <= quarters_passed * 10 / 4 + 3 && shown.len() >= 30, "{quarters:?}");
    // Each says how many were left out before it.
    let mut left_out = 0;
    for message in &all {
        let json = message.json();
        if is_shown(&message) {
            assert_eq!(json.get("skipped").and_then(Value::as_u64).unwrap_or(0), left_out, "{json}");
            left_out = 0;
        } else {
            left_out += 1;
        }
    }
    let shown: Vec<String> =
        shown.into_iter().map(|message| message.json()["id"].as_str().unwrap().to_owned()).collect();
    for viewer in &mut viewers {
        assert_eq!(ids(&comments(viewer)), shown);
    }
    let listed = node.get("/v1/topics/live:1/events?limit=200").json();
    let listed: Vec<&str> =
        listed["events"].as_array().expect("events").iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(listed[..199], numbers[published - 199..], "listings hold all");
}

#[test]
fn comments_left_out_that_come_with_a_resume() {
    let (node, _folder) = configured(PACE);
    let mut moderator = node.stream("topic=live:1&all=comment");
    let mut reader = node.stream("topic=live:1");
    let begins = resume_place(&node);
    let (_, all) = publish_until_shown(&node, &mut reader, 20, &mut moderator);
    let shown = all.iter().filter(|message| message.json()["shown"] != false);
    let shown: Vec<String> = shown.map(|message| message.json()["id"].as_str().unwrap().to_owned()).collect();
    // Cut once it was shown something new, until it was shown all.
    let (mut seen, mut order, mut last, mut cuts) =
        (BTreeSet::from(["begin".to_owned()]), Vec::new(), begins.clone(), 0);
    while order.len() < shown.len() {
        let mut stream = resume(&node, "topic=live:1", &last);
        cuts += 1;
        loop {
            let message = stream.next().expect("the stream goes on");
            let json = message.json();
            assert!(json["shown"] != false && json["id"] != "end", "{json}");
            let id = json["id"].as_str().expect("an id").to_owned();
            last = message.id.clone().expect("comments have ids");
            if seen.insert(id.clone()) {
                order.push(id);
                break;
            }
        }
    }
    assert_eq!((order, cuts), (shown.clone(), shown.len()));
    let mut whole = resume(&node, "topic=live:1&all=comment", &begins);
    assert_eq!(ids(&comments(&mut whole)), ids(&all));
}

/// A place before all that is published later.
fn resume_place(node: &Node) -> String {
    node.publish("live:1", &json!({"type": "message", "id": "begin"}));
    let events = node.get("/v1/topics/live:1/events").json();
    events["events"][0]["position"].as_str().expect("a position").to_owned()
}

#[test]
fn topics_added_later_of_which_less_is_given() {
    let (node, _folder) = configured("[events.comment]\npace = \"1/s\"\n");
    let mut plain = node.stream("topic=live:1");
    let mut moderator = node.stream("topic=chat:2&all=comment");
    let target = format!("/v1/connections/{}/topics", moderator.connection());
    assert_eq!(node.post(&target, json!({"add": ["live:1"]}).to_string()).status, 200);
    let mut client = Client::connect(node.public);
    publish_lines(&mut client, &(0..9).map(|number| line("live:1", &number.to_string(), 10)).collect::<String>());
    node.publish("live:1", &json!({"type": "message", "id": "end"}));
    assert_eq!(comments(&mut moderator).len(), 9);
    let shown = ids(&comments(&mut plain));
    assert!(!shown.is_empty() && shown.len() < 9, "{shown:?}");
    // Others stay where they are when one of either kind goes.
    assert_eq!(node.post(&target, json!({"remove": ["live:1"]}).to_string()).status, 200);
    node.publish("live:1", &json!({"type": "message", "id": "later"}));
    while plain.event()["id"] != "later" {}
    assert_eq!(node.get("/v1/events?topic=live:1&all=like").status, 400);
}
