//! Text that was deleted is not handed out again: not from history, and not from what nodes keep of recent events.

use serde_json::json;

use super::support::eventually;
use super::support::http::Client;
use super::support::node::Node;
use super::support::redis::Redis;
use super::{name, resume, take};

fn message(node: &Node, text: &str) -> String {
    let body = json!({"member": "ana", "text": text}).to_string();
    let answer = node.post("/v1/conversations/1/messages", body);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn deleted_text_handed_out(kv: &str) {
    let node = Node::with(&["--kv", kv]);
    let first = message(&node, "first");
    // Nobody watched when these came, so the node has none of them among its recent events.
    let unseen = message(&node, "unseen secret");
    eventually("both to be out, which is a moment after their answers", || {
        match node.metric("fanfare_events_unwanted_total", "") {
            2 => Ok(()),
            other => Err(other),
        }
    });
    let mut viewer = node.stream("topic=chat:1");
    let seen = message(&node, "seen secret");
    let last = message(&node, "last");
    let mut ids = Vec::new();
    let begin = viewer.next().expect("a message").id.expect("it has a place");
    ids.extend(take(&mut viewer, 1));
    for id in [&unseen, &seen] {
        let answer =
            Client::connect(node.public).request("DELETE", &format!("/v1/conversations/1/messages/{id}"), &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.extend(take(&mut viewer, 1));
    }
    let deleted = [&unseen, &seen].map(|id| format!("{id}.deleted"));
    assert_eq!(ids, [last.clone(), deleted[0].clone(), deleted[1].clone()]);
    let gap = "gap chat:1 \"local:1-1\"".to_owned();
    let left = [first, last, deleted[0].clone(), deleted[1].clone()];
    // A stranger is given all that there is, from history.
    let whole: Vec<String> = std::iter::once(gap).chain(left.clone()).collect();
    assert_eq!(take(&mut resume(&node, "topic=chat:1", "local:1-1"), 5), whole);
    // Who was cut off when the text was there lacks nothing. The overlap repeats what came before.
    let mut again = resume(&node, "topic=chat:1", &begin);
    let got: Vec<_> = (0..4).map(|_| again.next().expect("the stream goes on")).collect();
    assert_eq!(got.iter().map(name).collect::<Vec<_>>(), left);
    assert!(got.iter().all(|message| !message.data.contains("secret")), "{got:?}");
    // From memory, behind the overlap.
    let place = begin.strip_prefix("local:").and_then(|place| place.split_once('-')).expect("a place").0;
    let behind = format!("local:{}-0", place.parse::<u64>().expect("a time") + 10_000);
    let mut recent = resume(&node, "topic=chat:1", &behind);
    let names = std::iter::from_fn(|| recent.next()).map(|message| name(&message));
    let names: Vec<String> = names.take_while(|name| *name != deleted[1]).collect();
    assert!(names.contains(&deleted[0]) && !names.contains(&seen), "{names:?}");
    // The stranger's alone.
    assert_eq!(node.metric("fanfare_gaps_total", ""), 1);
}

/// An event whose id was deleted before it came is in no history, and whoever published it hears so at once, by each way.
fn late_event_of_a_deleted_id_unanswered(kv: &str) {
    let node = Node::with(&["--kv", kv]);
    node.publish("live:1", &json!({"type": "deleted", "data": {"id": "late"}}));
    let late = json!({"type": "comment", "id": "late", "data": "secret"});
    assert_eq!(node.publish("live:1", &late), "late");
    let key = [("Idempotency-Key", "k")];
    let target = "/v1/topics/live:1/events";
    let answer = Client::connect(node.public).request("POST", target, &key, late.to_string().as_bytes());
    assert_eq!((answer.status, answer.json()), (202, json!({"id": "late"})));
    let line = r#"{"topic":"live:1","type":"comment","id":"late","data":"secret"}"#;
    assert_eq!(node.post("/v1/events", line).json()["accepted"], 1);
    let listed = node.get(target).json();
    assert!(!listed.to_string().contains("secret"), "{listed}");
}

#[test]
fn late_event_of_a_deleted_id_unanswered_by_memory() {
    late_event_of_a_deleted_id_unanswered("memory");
}

#[test]
fn late_event_of_a_deleted_id_unanswered_by_redis() {
    let redis = Redis::start();
    late_event_of_a_deleted_id_unanswered(&redis.url());
}

#[test]
fn deleted_text_handed_out_by_memory() {
    deleted_text_handed_out("memory");
}

#[test]
fn deleted_text_handed_out_by_redis() {
    let redis = Redis::start();
    deleted_text_handed_out(&redis.url());
}
