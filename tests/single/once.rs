//! `Idempotency-Key`: what is repeated is done once, and answered as before.

use crate::support;
use serde_json::{Value, json};
use support::http::{Answer, Client};
use support::node::Node;
use support::redis::Redis;
use support::token::{Guarded, SECRET, claims, send, signed, token, with};
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
fn key_of_another_token_that_names_no_member_answers() {
    let guarded = Guarded::start(&[]);
    let target = "/v1/topics/live:7/events";
    let body = r#"{"type":"note"}"#;
    let of_nobody = |jti: &str| {
        let mut claims = with(claims("", &[], &["live:7"]), "jti", jti);
        claims.as_object_mut().expect("an object").remove("sub");
        signed(SECRET, &claims)
    };
    let (one, other) = (of_nobody("one"), of_nobody("other"));
    let ask = |address, token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "a")];
        Client::connect(address).request("POST", target, &headers, body.as_bytes())
    };
    let node = &guarded.node;
    let first = ask(node.public, &one, body);
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(ask(node.public, &one, body).text(), first.text(), "its own");
    let second = ask(node.public, &other, body);
    assert_ne!(second.text(), first.text());
    assert_eq!(ask(node.public, &other, r#"{"type":"other"}"#).status, 422, "its own");
    let inside = ask(node.internal, "", body);
    assert!(inside.status == 202 && ![first.text(), second.text()].contains(&inside.text()), "{inside:?}");
    assert_eq!(ask(node.internal, "", body).text(), inside.text(), "its own");
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
    Client::connect(node.public).send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}"));
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

#[test]
fn event_published_again() {
    let redis = Redis::start();
    let kv = redis.url();
    let memory = Node::with(&["--cores", "2"]);
    let on_redis = Node::with(&["--cores", "2", "--kv", &kv]);
    for node in [&memory, &on_redis] {
        let mut stream = node.stream("topic=live:7");
        // Of each delivery class, but what comes from nodes only.
        for kind in ["comment", "note", "like"] {
            let target = "/v1/topics/live:7/events";
            // How many it stands for is for nodes to say.
            let event = |data: u64| json!({"type": kind, "data": data, "count": 1000}).to_string();
            let key = format!("of-{kind}");
            let first = post(node, target, &key, &event(1));
            assert_eq!(first.status, 202, "{first:?}");
            let again = post(node, target, &key, &event(1));
            assert_eq!((again.status, again.text()), (202, first.text()), "{kind}");
            assert!(post(node, target, &key, &event(2)).problem(422).contains("another body"), "{kind}");
            assert_ne!(post(node, &target.replace('7', "8"), &key, &event(1)).text(), first.text(), "another topic");
            // An id of its own is what is answered, then and later.
            let named = json!({"type": kind, "id": format!("mine-{kind}"), "data": 3}).to_string();
            for _ in 0..2 {
                let answer = post(node, target, &format!("named-{kind}"), &named);
                assert_eq!(answer.json(), json!({"id": format!("mine-{kind}")}), "{answer:?}");
            }
            let ids: Vec<Value> = std::thread::scope(|scope| {
                let ask = |_| scope.spawn(|| post(node, target, &format!("many-{kind}"), &event(4)).json());
                (0..8)
                    .map(ask)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|asking| asking.join().expect("an answer"))
                    .collect()
            });
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            assert_eq!(post(node, target, &format!("last-{kind}"), &event(5)).status, 202);
            let (mut shown, mut count) = (Vec::new(), 0);
            while count < 4 {
                let event = stream.event();
                assert_eq!(event["type"], kind, "{event}");
                // Likes that come together may be one event.
                count += event["count"].as_u64().unwrap_or(1);
                shown.push(event["data"].as_u64().expect("a number"));
            }
            // Events that two cores took pass each other.
            shown.sort_unstable();
            assert_eq!(count, 4, "{kind} {shown:?}");
            assert!(kind == "like" || shown == [1, 3, 4, 5], "{kind} {shown:?}");
        }
        let line = "{\"topic\":\"live:7\",\"type\":\"note\"}\n";
        assert!(post(node, "/v1/events", "a", line).problem(400).contains("\"id\""));
    }
    // On Redis it outlives the node that answered.
    let target = "/v1/topics/live:9/events";
    let answers = ["comment", "note"].map(|kind| {
        let event = json!({"type": kind}).to_string();
        (event.clone(), post(&on_redis, target, kind, &event).text())
    });
    on_redis.kill();
    let other = Node::with(&["--kv", &kv]);
    for ((event, first), kind) in answers.iter().zip(["comment", "note"]) {
        assert_eq!(post(&other, target, kind, event).text(), *first);
    }
}
