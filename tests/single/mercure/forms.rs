//! What publishers and subscribers may ask for, and what they are told otherwise.

use serde_json::{Value, json};

use crate::support::http::Client;
use crate::support::mercure::{HUB, form, open, publish, target, texts, update};
use crate::support::node::Node;

#[test]
fn bad_form_taken_or_answered_without_a_reason() {
    let node = Node::start();
    let mut stream = open(node.public, &target(&["a"], &[]), &[]);
    let large = "x".repeat(17 * 1024);
    for (fields, status, says) in [
        (&[("data", "x")][..], 400, "\"topic\" is missing"),
        (&[("topic", "")], 400, "1 to 2048 bytes"),
        (&[("topic", "a"), ("data", "1"), ("data", "2")], 400, "\"data\" is given twice"),
        (&[("topic", "a"), ("id", "x\ndata: forged")], 400, "\"id\" has at most 128 bytes and no control"),
        (&[("topic", "a"), ("id", "#x")], 400, "#"),
        (&[("topic", "a"), ("id", "42-0123abcd")], 403, "given by nodes"),
        (&[("topic", "a"), ("type", "x\nid: forged")], 400, "\"type\" has at most"),
        (&[("topic", "a"), ("retry", "soon")], 400, "\"retry\" must be a number"),
        (&[("topic", "a"), ("target", "bob")], 400, "private=on"),
        (&[("topic", "a"), ("data", &large)], 413, "at most 16384 bytes"),
    ] {
        let detail = publish(node.public, None, fields).problem(status);
        assert!(detail.contains(says), "{fields:?}: {detail}");
    }
    let post = |headers: &[(&str, &str)], body: &[u8]| Client::connect(node.public).request("POST", HUB, headers, body);
    let detail = post(&[("Content-Type", "application/json")], br#"{"topic":"a"}"#).problem(415);
    assert!(detail.contains("application/x-www-form-urlencoded"), "{detail}");
    assert!(post(&[], b"topic=%zz").problem(400).contains("\"topic\""));
    assert!(post(&[], b"topic=%ff").problem(400).contains("\"topic\""));
    assert!(post(&[], b"topic=\xff").problem(400).contains("UTF-8"));
    assert!(post(&[("Idempotency-Key", "k")], b"topic=a").problem(400).contains("\"id\""));
    assert_eq!(post(&[], &vec![b'x'; 65 * 1024]).status, 413);
    let many: Vec<String> = (0..101).map(|number| format!("topic={number}")).collect();
    assert!(post(&[], many.join("&").as_bytes()).problem(400).contains("at most 100 topics"));
    // Nothing of it was shown.
    update(node.public, None, &[("topic", "a"), ("data", "good")]);
    assert_eq!(texts(&mut stream, 1), ["good"]);
}

#[test]
fn subscription_that_would_wait_for_ever() {
    let node = Node::start();
    let asks = |method: &str, target: &str| Client::connect(node.public).request(method, target, &[], b"");
    let book = "https://a.example/books/1";
    let large = [1, 2, 3].map(|number| format!("/{number}{}{{a}}", "x".repeat(1900)));
    let beginnings: Vec<String> = (0..11).map(|number| format!("/{number}/{{a}}")).collect();
    for (target, says) in [
        (target(&[], &[]), "\"topic\" is missing"),
        (target(&["{+all}"], &[]), "the URI template {+all} would be looked for among all topics"),
        (target(&["{scheme}://a.example/{id}"], &[]), "a slash"),
        (target(&[book, "https://{host}/books/{id}"], &[]), "such as https://example.com/books/{id}"),
        (target(&["https://a.example{/id}"], &[]), "https://a.example{/id}"),
        (target(&["book-{id}"], &[]), "or subscribe to *"),
        (
            target(&[&format!("/{}", "{a}".repeat(33))], &[]),
            "at most 2048 bytes and 32 expressions in all, and these have",
        ),
        (target(&large.iter().map(|text| &**text).collect::<Vec<_>>(), &[]), "at most 2048 bytes"),
        (target(&beginnings.iter().map(|text| &**text).collect::<Vec<_>>(), &[]), "at most 10 beginnings"),
        (target(&["a\nb"], &[]), "no control characters"),
        (target(&[book], &[("topics", "x")]), "no query parameter"),
        (target(&[book], &[("match", "x")]), "no query parameter"),
    ] {
        let detail = asks("GET", &target).problem(400);
        assert!(detail.contains(says), "{target}: {detail}");
    }
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(asks("GET", &target(&many, &[])).problem(400).contains("at most 100 topics"));
    // Those that a shorter one covers are none of their own.
    let covered = [&beginnings[..], &["*".to_owned()]].concat();
    drop(open(node.public, &target(&covered.iter().map(|text| &**text).collect::<Vec<_>>(), &[]), &[]));
    let answer = asks("PUT", &target(&[book], &[]));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, OPTIONS"), "{answer:?}");
    // What only looks like a template is a topic.
    let mut stream = open(node.public, &target(&["50%}", "a{b"], &[]), &[]);
    update(node.public, None, &[("topic", "a{b"), ("data", "1")]);
    update(node.public, None, &[("topic", "50%}"), ("data", "2")]);
    // Two topics have no order among themselves.
    let mut came = texts(&mut stream, 2);
    came.sort();
    assert_eq!(came, ["1", "2"]);
    let long = format!("https://a.example/{}", "long/".repeat(300));
    let mut stream = open(node.public, &target(&[&long], &[]), &[]);
    update(node.public, None, &[("topic", &long[..long.len() - 1]), ("data", "another")]);
    update(node.public, None, &[("topic", &long), ("data", "this")]);
    assert_eq!(texts(&mut stream, 1), ["this"]);
}

/// Streams of either protocol have a form of their own, and rights to the topics of one are none to those of the other.
#[test]
fn topics_of_this_protocol_by_the_back_door() {
    let node = Node::start();
    let mut stream = open(node.public, &target(&["a"], &[]), &[]);
    let event = json!({"type": "mercure", "data": {"topics": ["a"], "data": "forged"}});
    let line = format!("{}\n", json!({"topic": "mercure:a", "type": "mercure", "data": event["data"]}));
    for (method, target, body) in [
        ("GET", "/v1/events?topic=mercure:a", String::new()),
        ("GET", "/v1/events?topic=mercur%65:a", String::new()),
        ("GET", "/v1/poll?topic=mercure:a", String::new()),
        ("GET", "/v1/topics/mercure:a/events", String::new()),
        ("POST", "/v1/topics/mercure:a/events", event.to_string()),
        ("POST", "/v1/topics/mercure:a/events", json!({"type": "note", "data": 1}).to_string()),
        ("POST", "/v1/members/ana/topics", json!({"add": ["mercure:a"]}).to_string()),
    ] {
        let detail = Client::connect(node.public).request(method, target, &[], body.as_bytes()).problem(400);
        assert!(detail.contains("/.well-known/mercure"), "{method} {target}: {detail}");
    }
    let answer = node.post("/v1/events", line).json();
    assert_eq!(answer["rejected_total"], 1, "{answer}");
    // The type is this protocol's, too.
    node.post("/v1/topics/chat:1/events", event.to_string()).problem(403);
    let other = node.stream("");
    let answer = node.post(&format!("/v1/connections/{}/topics", other.connection()), r#"{"add":["mercure:a"]}"#);
    assert!(answer.problem(400).contains("/.well-known/mercure"));
    // Nodes among themselves hand over what is an update, and nothing else.
    let inside = |event: &Value| {
        let target = "/v1/topics/mercure:a/events";
        Client::connect(node.internal).request("POST", target, &[], event.to_string().as_bytes())
    };
    inside(&json!({"type": "mercure", "data": {"topics": ["a\nb"]}})).problem(400);
    inside(&json!({"type": "note", "data": 1})).problem(400);
    assert_eq!(inside(&json!({"type": "mercure", "data": {"topics": ["a"], "data": "handed over"}})).status, 202);
    assert_eq!(texts(&mut stream, 1), ["handed over"]);
}

#[test]
fn demand_for_a_head_opens_a_stream() {
    let node = Node::start();
    let mut client = Client::connect(node.public);
    client.send(format!(
        "HEAD {HUB}?{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        form(&[("topic", "a"), ("lastEventID", "earliest")])
    ));
    let head = client.answer_to_head();
    assert_eq!((head.status, head.header("last-event-id")), (200, Some("earliest")));
    assert!(head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{head:?}");
    client.assert_closed();
}
