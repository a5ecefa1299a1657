//! `Idempotency-Key`: what is repeated is done once, and answered as before.

mod support;

use serde_json::{Value, json};
use support::http::{Answer, Client};
use support::node::Node;
use support::token::{Guarded, send, token};
use support::{eventually, reaction};

fn post(node: &Node, target: &str, key: &str, body: &str) -> Answer {
    send(node, "POST", target, &[("Idempotency-Key", key)], body.as_bytes())
}

fn said(member: &str, text: &str) -> String {
    json!({"member": member, "text": text}).to_string()
}

fn count(node: &Node, target: &str, list: &str) -> usize {
    node.get(target).json()[list].as_array().expect("a list").len()
}

#[test]
fn post_or_like_done_again() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:7&topic=chat:7");
    for (target, list) in [("/v1/videos/7/comments", "comments"), ("/v1/conversations/7/messages", "messages")] {
        let first = post(&node, target, "\"a\"", &said("ana", "one"));
        assert_eq!(first.status, 201, "{first:?}");
        for key in ["\"a\"", "a"] {
            let again = post(&node, target, key, &said("ana", "one"));
            assert_eq!((again.status, again.text()), (201, first.text()));
        }
        let other = post(&node, target, "a", &said("ana", "two")).problem(422);
        assert!(other.contains("Idempotency-Key"), "{other}");
        // Another member's key, and another place's, are other keys.
        assert_ne!(post(&node, target, "a", &said("bob", "one")).text(), first.text());
        assert_eq!(post(&node, &target.replace('7', "8"), "a", &said("ana", "two")).status, 201);
        assert_eq!(count(&node, target, list), 2);
        let told = [stream.event(), stream.event()].map(|event| event["data"]["member"].clone());
        assert_eq!(told, [json!("ana"), json!("bob")]);
        post(&node, target, "", &said("ana", "one")).problem(400);
    }
    let likes = "/v1/videos/7/likes";
    let first = post(&node, likes, "a", &reaction("ana", "like"));
    assert_eq!((first.status, first.json()), (201, json!({"likes": 1})));
    assert_eq!(node.post(likes, reaction("bob", "like")).json(), json!({"likes": 2}));
    let again = post(&node, likes, "a", &reaction("ana", "like"));
    assert_eq!((again.status, again.json()), (201, json!({"likes": 1})));
    post(&node, likes, "a", &reaction("ana", "love")).problem(422);
    // Without a key it is what it was.
    assert_eq!(node.post(likes, reaction("ana", "like")).status, 200);
}

#[test]
fn key_of_another_member_answers() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ask = |member: &str, body: &str| {
        let bearer = format!("Bearer {}", token(member, &[], &["live:7"]));
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "a")];
        send(node, "POST", "/v1/videos/7/comments", &headers, body.as_bytes())
    };
    let body = r#"{"text":"one"}"#;
    let first = ask("ana", body).text();
    assert_eq!(ask("ana", body).text(), first);
    assert_ne!(ask("bob", body).text(), first);
}

#[test]
fn crash_between_commit_and_answer_or_many_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let target = "/v1/videos/7/comments";
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| post(&node, target, "many", &said("ana", "many")).json());
        (0..8).map(ask).collect::<Vec<_>>().into_iter().map(|asking| asking.join().expect("an answer")).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // Nobody hears the answer, and then the node is gone.
    let body = said("ana", "unheard");
    let head = format!("Content-Length: {}\r\nIdempotency-Key: unheard", body.len());
    Client::connect(node.public).send(format!("POST {target} HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n{body}"));
    eventually("the comment to be stored", || match count(&node, target, "comments") {
        2 => Ok(()),
        seen => Err(seen),
    });
    let id = node.get(target).json()["comments"][1]["id"].clone();
    node.kill();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let again = post(&node, target, "unheard", &body);
    assert_eq!((again.status, &again.json()["id"]), (201, &id));
    assert_eq!(post(&node, target, "many", &said("ana", "many")).json(), answers[0]);
    assert_eq!(count(&node, target, "comments"), 2);
}
