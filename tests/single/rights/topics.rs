//! Which topics a right covers.

use serde_json::json;

use crate::support::http::Answer;
use crate::support::reaction;
use crate::support::token::{Guarded, as_bearer, publish_inside, token};

#[test]
fn topics_widened_by_spelling() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let token = token("ana", &["live:42", "room:*"], &["live:42", "room:*"]);
    let stream = node.stream(&format!("access_token={token}"));
    // A topic as it stands in a path or query, what it is after decoding once, and the answer.
    for (spelled, status) in [
        ("live:42", 200),
        ("live:4%32", 200),
        ("%6Cive%3A42", 200),
        ("room::", 200),
        ("room:%252F", 200),
        ("live:43", 403),
        ("live:421", 403),
        ("live:4", 403),
        ("live:042", 403),
        ("live:42.", 403),
        ("LIVE:42", 403),
        ("Live:42", 403),
        ("live::42", 403),
        ("roomX:1", 403),
        ("Room:1", 403),
        ("room%253A1:2", 403),
        ("live:%252a", 403),
        ("live:%252A", 403),
        // Another spelling of the very topic (RFC 3986, 6.2.2).
        ("live:4%2532", 200),
        ("live:4%2533", 403),
        ("live:42%252F", 403),
        ("live:42%2500", 403),
        ("*", 400),
        ("live%253A42", 400),
        ("live:42%2F", 400),
        ("live:42%2F..%2Flive:43", 400),
        ("live:42%00", 400),
        ("live:42%20", 400),
        ("live:42%0d%0a", 400),
        ("live:42,live:43", 400),
        ("live:42%23", 400),
        ("live:42%EF%BC%8A", 400),
        ("live:42%zz", 400),
    ] {
        let answer = as_bearer(node, &token, "GET", &format!("/v1/events?topic={spelled}"), "");
        assert_eq!(answer.status, status, "{spelled} in the query: {}", answer.text());
        // One topic that is allowed does not carry another one in.
        let target = format!("/v1/events?topic=live:42&topic={spelled}&topic=room:1");
        assert_eq!(as_bearer(node, &token, "GET", &target, "").status, status, "{spelled} among others");
        let target = format!("/v1/topics/{spelled}/events");
        let published = if status == 200 { 202 } else { status };
        let answer = as_bearer(node, &token, "POST", &target, r#"{"type":"note","topic":"live:42"}"#);
        assert_eq!(answer.status, published, "{spelled} in the path: {}", answer.text());
        // JSON is not percent-decoded at all.
        if !spelled.contains('%') {
            let target = format!("/v1/connections/{}/topics", stream.connection());
            let answer = as_bearer(node, &token, "POST", &target, &json!({ "add": [spelled] }).to_string());
            assert_eq!(answer.status, status, "{spelled} in JSON: {}", answer.text());
        }
    }
    // All topics of a kind are more than some of them, and no topic.
    for (spelled, watched) in [("live:*", 403), ("live:%2a", 403), ("live:%2A", 403), ("room:*", 200)] {
        let answer = as_bearer(node, &token, "GET", &format!("/v1/events?topic={spelled}"), "");
        assert_eq!(answer.status, watched, "{spelled} in the query: {}", answer.text());
        let target = format!("/v1/topics/{spelled}/events");
        let answer = as_bearer(node, &token, "POST", &target, r#"{"type":"note","topic":"live:42"}"#);
        assert_eq!(answer.status, 400, "{spelled} in the path: {}", answer.text());
    }
    for (target, status) in [
        ("/v1/topics/live:42/../live:43/events", 404),
        ("/v1/topics/live:42%2F..%2Flive:43/events", 400),
        ("//v1/topics/live:43/events", 404),
        ("/v1//topics/live:43/events", 404),
        ("/V1/topics/live:43/events", 404),
        ("/v1/%74opics/live:43/events", 404),
        ("http://test/v1/topics/live:43/events", 403),
        ("/v1/topics/live:43/events?topic=live:42", 400),
        ("/v1/topics/live:43;live:42/events", 400),
    ] {
        let answer = as_bearer(node, &token, "POST", target, r#"{"type":"note"}"#);
        assert_eq!(answer.status, status, "{target} {}", answer.text());
    }
    // A video's name is decoded once and encoded into its topic.
    let like = reaction("ana", "like");
    for (video, status) in
        [("42", 201), ("4%32", 200), ("%2A", 403), ("*", 403), ("42%2F", 403), ("4%2532", 403), ("42%20", 403)]
    {
        let answer = as_bearer(node, &token, "POST", &format!("/v1/videos/{video}/likes"), &like);
        assert_eq!(answer.status, status, "{video} {}", answer.text());
        let read = if status == 403 { 403 } else { 200 };
        assert_eq!(as_bearer(node, &token, "GET", &format!("/v1/videos/{video}/likes"), "").status, read, "{video}");
    }
}

#[test]
fn line_without_a_right_published() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let token = token("ana", &["*"], &["live:42", "chat:*"]);
    let mut stream = node.stream(&format!("topic=live:42&topic=live:43&topic=chat:1&access_token={token}"));
    let lines = [
        r#"{"topic":"live:42","type":"note","data":1}"#,
        r#"{"topic":"live:43","type":"note","data":2}"#,
        r#"{"topic":"live:\u0034\u0033","type":"note","data":3}"#,
        r#"{"topic":"live:42","type":"note","data":4,"topic":"live:43"}"#,
        r#"{"topic":"live:42","type":"viewers","data":5}"#,
        r#"{"topic":"live:42","type":"view\u0065rs","data":6}"#,
        r#"{"topic":"chat:1","type":"receipt","data":7}"#,
        r#"{"topic":"chat:1","type":"presence","data":8}"#,
        r#"{"topic":"LIVE:42","type":"note","data":9}"#,
        r#"{"topic":"live:\u0034\u0032","type":"note","data":10}"#,
        r#"{"topics":["live:42","live:43"],"type":"note","data":11}"#,
    ];
    let answer = as_bearer(node, &token, "POST", "/v1/events", &lines.join("\n"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(2), &json!(9)));
    let rejected: Vec<(u64, &str)> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    let numbers: Vec<u64> = rejected.iter().map(|(line, _)| *line).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 8, 9, 11]);
    for (line, detail) in rejected {
        let says = match line {
            4 => "\"topic\" is given twice",
            5..=8 => "only from nodes",
            _ => "lacks the right fanfare.publish on",
        };
        assert!(detail.contains(says), "{line}: {detail}");
    }
    for expected in [1, 10] {
        assert_eq!(stream.event()["data"], expected);
    }
    for kind in ["viewers", "presence", "receipt", "view\\u0065rs"] {
        let body = format!(r#"{{"type":"{kind}"}}"#);
        let detail = as_bearer(node, &token, "POST", "/v1/topics/live:42/events", &body).problem(403);
        assert!(detail.contains("only from nodes"), "{detail}");
    }
    // Nodes do send them, by the internal listener, which asks for no token.
    stream.messages.viewers = true;
    publish_inside(node, "live:42", &json!({"type": "viewers", "data": {"viewers": 3}}));
    // The node counts its viewers meanwhile.
    let mut seen = 0;
    while seen != 3 {
        let event = stream.event();
        assert_eq!(event["type"], "viewers");
        seen = event["data"]["viewers"].as_u64().expect("a number");
    }
}

#[test]
fn own_topic_needs_asking() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:1"], &[]);
    let mut stream = node.stream(&format!("topic=live:1&access_token={ana}"));
    publish_inside(node, "user:ana", &json!({"type": "note", "data": "for you"}));
    assert_eq!(stream.event()["data"], "for you");
    // Another member's is not to be had by asking.
    assert!(as_bearer(node, &ana, "GET", "/v1/events?topic=user:bob", "").problem(403).contains("user:bob"));
}

/// It needs no right, counts as none of the stream's topics, and comes back to who asks for it again.
#[test]
fn own_topic_in_the_way_of_others_or_gone_for_good() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:*"], &[]);
    let most: Vec<String> = (0..100).map(|number| format!("topic=live:{number}")).collect();
    let mut stream = node.stream(&format!("{}&topic=user:ana&access_token={ana}", most[1..].join("&")));
    drop(node.stream(&format!("{}&access_token={ana}", most.join("&"))));
    let target = format!("/v1/connections/{}/topics", stream.connection());
    let change = |body: &str| as_bearer(node, &ana, "POST", &target, body);
    assert_eq!(change(r#"{"add":["live:0"]}"#).status, 200);
    assert_eq!(change("{}").status, 200);
    assert!(change(r#"{"add":["live:100"]}"#).problem(400).contains("100 topics"));
    let topics = |answer: Answer| answer.json()["topics"].as_array().expect("a list").contains(&json!("user:ana"));
    assert!(!topics(change(r#"{"remove":["user:ana"]}"#)));
    assert!(topics(change(r#"{"add":["user:ana"]}"#)));
    publish_inside(node, "user:ana", &json!({"type": "note", "data": "for you"}));
    assert_eq!(stream.event()["data"], "for you");
}
