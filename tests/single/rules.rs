//! Slow mode, time-outs and who may comment, as clients see them. Each test is named after what it prevents.

use crate::support;
use serde_json::{Value, json};
use support::http::{Answer, Client};
use support::node::Node;
use support::postgres::Postgres;
use support::redis::Redis;
use support::site::Site;
use support::sse::Stream;
use support::token::{Guarded, as_bearer, token};

const RULES: &str = "/v1/videos/42/rules";
const TIMEOUTS: &str = "/v1/videos/42/timeouts";
const COMMENTS: &str = "/v1/videos/42/comments";

fn put(node: &Node, rules: &Value) -> Answer {
    Client::connect(node.public).request("PUT", RULES, &[], rules.to_string().as_bytes())
}

fn comment(node: &Node, member: &str) -> Answer {
    node.post(COMMENTS, json!({"member": member, "text": "hello"}).to_string())
}

/// Asserts that a comment has to wait, up to so many seconds, and gives what is said of it.
#[track_caller]
fn waits(answer: &Answer, most: u64) -> String {
    let detail = answer.problem(429);
    let seconds: u64 = answer.header("retry-after").expect("how long").parse().expect("a number");
    assert!((1..=most).contains(&seconds) && detail.contains(&format!("in {seconds} s")), "{seconds}: {detail}");
    detail
}

/// Reads on until rules are told, and gives them.
#[track_caller]
fn told(stream: &mut Stream) -> Value {
    loop {
        let event = stream.event();
        if event["type"] == "rules" {
            assert!(event.get("key").is_none() && event.get("count").is_none(), "{event}");
            return event["data"].clone();
        }
    }
}

#[test]
fn member_writes_as_fast_as_ever() {
    let node = Node::start();
    assert_eq!(node.get(RULES).json(), json!({"slow_seconds": 0, "comments": "open"}));
    let mut streams = node.stream_on_each_shard("topic=live:42");
    let slow = json!({"slow_seconds": 3600, "comments": "open"});
    assert_eq!(put(&node, &slow).json(), slow);
    assert_eq!(node.get(RULES).json(), slow);
    streams.iter_mut().for_each(|stream| assert_eq!(told(stream), slow));
    assert_eq!(comment(&node, "ana").status, 201);
    assert!(waits(&comment(&node, "ana"), 3600).contains("slow mode"));
    assert_eq!(comment(&node, "bob").status, 201);
    let elsewhere = || node.post("/v1/videos/43/comments", r#"{"member":"ana","text":"hello"}"#).status;
    assert_eq!((elsewhere(), elsewhere()), (201, 201));
    // What came is what was stored, and nothing besides.
    assert_eq!(node.get(COMMENTS).json()["comments"].as_array().map(Vec::len), Some(2));
    // What is left out stays as it is.
    assert_eq!(put(&node, &json!({"slow_seconds": 0})).json(), json!({"slow_seconds": 0, "comments": "open"}));
    assert_eq!(comment(&node, "ana").status, 201);
    assert_eq!(put(&node, &json!({"comments": "members"})).json(), json!({"slow_seconds": 0, "comments": "members"}));
    for stream in &mut streams {
        while told(stream) != json!({"slow_seconds": 0, "comments": "members"}) {}
    }
}

#[test]
fn comment_taken_twice_by_its_key_in_slow_mode() {
    let node = Node::start();
    put(&node, &json!({"slow_seconds": 3600}));
    let ask = |key| {
        let body = br#"{"member":"ana","text":"hello"}"#;
        Client::connect(node.public).request("POST", COMMENTS, &[("Idempotency-Key", key)], body)
    };
    let first = ask("a");
    assert_eq!((first.status, ask("a").json()), (201, first.json()), "it is no second comment");
    waits(&ask("b"), 3600);
    put(&node, &json!({"slow_seconds": 0}));
    assert_eq!(ask("b").status, 201, "what was refused may be tried again");
}

#[test]
fn member_who_was_given_a_time_out_writes() {
    let node = Node::start();
    let before = support::site::unix_ms();
    let answer = node.post(TIMEOUTS, r#"{"member":"ana","seconds":3600}"#);
    let until = answer.json()["until"].as_u64().expect("a time");
    assert!(answer.status == 200 && answer.json()["member"] == "ana" && until >= before + 3_600_000, "{answer:?}");
    assert!(waits(&comment(&node, "ana"), 3600).contains("time-out"));
    assert_eq!(comment(&node, "bob").status, 201);
    let like = node.post("/v1/videos/42/likes", support::reaction("ana", "like"));
    assert_eq!(like.status, 201, "only comments have to wait");
    let answer = node.post(TIMEOUTS, r#"{"member":"ana","seconds":0}"#);
    assert_eq!(answer.json(), json!({"member": "ana", "until": null}));
    assert_eq!(comment(&node, "ana").status, 201);
}

#[test]
fn rules_that_nobody_meant_are_stored() {
    let node = Node::start();
    for (body, says) in [
        ("", "the body must be"),
        ("[5]", "the body must be"),
        ("{}", "slow_seconds"),
        (r#"{"slow_seconds":-1}"#, "the body must be"),
        (r#"{"slow_seconds":86401}"#, "86400"),
        (r#"{"comments":"closed"}"#, "moderators"),
    ] {
        let answer = Client::connect(node.public).request("PUT", RULES, &[], body.as_bytes());
        assert!(answer.problem(400).contains(says), "{body}: {answer:?}");
    }
    for (body, says) in [
        ("{}", "\"member\""),
        (r#"{"member":"ana"}"#, "\"seconds\""),
        (r#"{"member":"","seconds":5}"#, "the member's name"),
        (r#"{"member":"ana","seconds":31536001}"#, "31536000"),
        (r#"{"member":"ana","seconds":"5"}"#, "the body must be"),
    ] {
        assert!(node.post(TIMEOUTS, body).problem(400).contains(says), "{body}");
    }
    assert_eq!(node.get(RULES).json(), json!({"slow_seconds": 0, "comments": "open"}));
    assert_eq!(comment(&node, "ana").status, 201);
}

#[test]
fn anybody_moderates() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let publish = |name: &str, topics: &[&str]| token(name, &["live:42"], topics);
    let moderator = publish("mia", &["live:42", "moderate:live:42"]);
    let (guest, member) = (publish("gil", &["live:42"]), publish("mo", &["live:42", "members:live:42"]));
    let others = [&guest, &member, &publish("eve", &["live:*", "moderate:live:4", "moderate:chat:42", "moderate:42"])];
    for (method, target, body) in [
        ("GET", RULES, ""),
        ("PUT", RULES, r#"{"slow_seconds":5,"comments":"open"}"#),
        ("POST", TIMEOUTS, r#"{"member":"gil","seconds":3600}"#),
    ] {
        for token in others {
            assert!(as_bearer(node, token, method, target, body).problem(403).contains("moderate:live:42"), "{target}");
        }
        assert_eq!(as_bearer(node, &moderator, method, target, body).status, 200, "{target}");
    }
    let write = |token: &str| as_bearer(node, token, "POST", COMMENTS, r#"{"text":"hello"}"#);
    waits(&write(&guest), 3600);
    // Nothing binds who could change it.
    as_bearer(node, &moderator, "POST", TIMEOUTS, r#"{"member":"mia","seconds":3600}"#);
    assert_eq!((write(&moderator).status, write(&moderator).status), (201, 201));
    assert_eq!(write(&member).status, 201);
    waits(&write(&member), 5);
    as_bearer(node, &moderator, "POST", TIMEOUTS, r#"{"member":"gil","seconds":0}"#);
    let close = |comments: &str| {
        let body = json!({"slow_seconds": 0, "comments": comments}).to_string();
        assert_eq!(as_bearer(node, &moderator, "PUT", RULES, &body).status, 200);
    };
    close("members");
    assert!(write(&guest).problem(403).contains("members:live:42"));
    assert_eq!(write(&member).status, 201);
    close("moderators");
    assert!(write(&member).problem(403).contains("moderate:live:42"));
    assert_eq!(write(&moderator).status, 201);
    // Nobody makes rules up.
    let event = r#"{"type":"rules","data":{"slow_seconds":0,"comments":"open"}}"#;
    as_bearer(node, &moderator, "POST", "/v1/topics/live:42/events", event).problem(403);
}

/// Also of rules that were there before all that the node remembers.
#[test]
fn newcomer_does_not_know_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let rules = json!({"slow_seconds": 30, "comments": "members"});
    assert_eq!(put(&node, &rules).status, 200, "nobody watches");
    assert_eq!(told(&mut node.stream("topic=live:42")), rules);
    node.kill();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    for mut stream in node.stream_on_each_shard("topic=live:42") {
        assert_eq!(told(&mut stream), rules);
    }
    assert_eq!(comment(&node, "ana").status, 201);
    waits(&comment(&node, "ana"), 30);
}

#[test]
fn two_backends_with_rules_of_their_own() {
    let (redis, server) = (Redis::start(), Postgres::start());
    let site = Site::on(&redis.url(), &server.url());
    let [one, other] = [&site.backends[0], &site.backends[1]];
    let mut stream = site.frontends[0].stream("topic=live:42");
    assert_eq!(comment(other, "ana").status, 201);
    let slow = json!({"slow_seconds": 3600, "comments": "open"});
    assert_eq!(put(one, &slow).status, 200);
    assert_eq!(told(&mut stream), slow);
    // At once, by what either has stored.
    waits(&comment(other, "ana"), 3600);
    assert_eq!(comment(one, "bob").status, 201);
    waits(&comment(other, "bob"), 3600);
    assert_eq!(other.get(RULES).json(), slow);
    assert_eq!(other.post(TIMEOUTS, r#"{"member":"cid","seconds":60}"#).status, 200);
    assert!(waits(&comment(one, "cid"), 60).contains("time-out"));
    assert_eq!(one.post(TIMEOUTS, r#"{"member":"cid","seconds":0}"#).status, 200);
    assert_eq!(comment(other, "cid").status, 201);
    // The last word is what all are told, whichever backend tells it.
    for round in 1..=20u64 {
        let rules = json!({"slow_seconds": round, "comments": "open"});
        assert_eq!(put(site.backends.get(round as usize % 2).expect("there are two"), &rules).status, 200);
    }
    let last = json!({"slow_seconds": 20, "comments": "open"});
    while told(&mut stream) != last {}
    assert_eq!(told(&mut site.frontends[1].stream("topic=live:42")), last);
}
