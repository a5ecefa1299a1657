//! Publishing: what is taken, what is refused, and what reaches viewers unchanged. Each test is named after what it
//! prevents.

use crate::support;
use serde_json::{Value, json};
use support::http::{Client, chunked, request};
use support::node::Node;

const LINES: &str = "/v1/events";

#[test]
fn event_changed_on_its_way() {
    let node = Node::start();
    let mut stream = node.stream("topic=chat:7");
    let data = r#"{"b":1.50,"a":[ -0.0 , 1e+300,null,true,"\u0041\\\/ \u2028 é 😀"],"":{}}"#;
    let body = format!(r#"{{"type":"note","key":"k\"1","id":"given-1","data":{data}}}"#);
    let answer = node.post("/v1/topics/chat:7/events", body);
    assert_eq!((answer.status, answer.json()), (202, json!({"id": "given-1"})));
    let message = stream.next().unwrap();
    // Byte for byte: numbers keep their digits, objects their order, strings their escapes.
    assert!(message.data.ends_with(&format!(r#""data":{data}}}"#)), "{}", message.data);
    let event = message.json();
    assert_eq!((&event["id"], &event["key"], &event["type"]), (&json!("given-1"), &json!("k\"1"), &json!("note")));
    // Without data it is null; without an id it gets one that nothing else has.
    let ids: std::collections::HashSet<String> =
        (0..50).map(|_| node.publish("chat:7", &json!({"type": "note"}))).collect();
    assert_eq!(ids.len(), 50);
    for _ in 0..50 {
        let event = stream.event();
        assert!(ids.contains(event["id"].as_str().unwrap()) && event["data"] == Value::Null, "{event}");
    }
}

#[test]
fn order_within_a_topic_lost() {
    let node = Node::start();
    let mut streams = node.stream_on_each_shard("topic=chat:order");
    // Few enough to fit a connection's backlog whole, however slowly the streams are read here, one after the other.
    let mut client = Client::connect(node.public);
    let lines: String =
        (0..300).map(|n| format!("{{\"topic\":\"chat:order\",\"type\":\"message\",\"data\":{n}}}\n")).collect();
    assert_eq!(client.request("POST", LINES, &[], lines.as_bytes()).json()["accepted"], 300);
    for stream in &mut streams {
        for number in 0..300 {
            assert_eq!(stream.event()["data"], number);
        }
    }
}

#[test]
fn good_lines_lost_beside_bad_ones() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1&topic=live:2");
    let long = format!(r#"{{"topic":"live:1","type":"x","data":"{}"}}"#, "y".repeat(40_000));
    let lines = [
        r#"{"topic":"live:1","type":"note","data":1}"#,
        "",
        r#"{"topic":"live:1","type":"note","data":}"#,
        r#"{"topic":"live:2","type":"note","data":2}"#,
        r#"{"type":"note"}"#,
        r#"{"topic":"nonsense","type":"note"}"#,
        "\u{0}\u{1}binary",
        &long,
        r#"  {"data":3,"type":"note","topic":"live:1"}  "#,
        r#"{"topic":"live:1"}"#,
        r#"{"topic":"live:1","type":"note","data":4}"#,
    ];
    let answer = node.post(LINES, lines.join("\r\n"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(4), &json!(6)), "{answer}");
    let rejected = answer["rejected"].as_array().unwrap();
    let numbers: Vec<u64> = rejected.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 5, 6, 7, 8, 10], "lines count from 1, empty ones too");
    for (line, names) in rejected.iter().zip(["byte 39", "topic", "topic", "byte 0", "bytes", "type"]) {
        assert!(line["detail"].as_str().unwrap().contains(names), "{line} should name {names}");
    }
    // Order holds within a topic only.
    let mut seen: Vec<u64> = (0..4).map(|_| stream.event()["data"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
}

/// Of each class, and under one id everywhere, so that viewers know a repeat.
#[test]
fn event_for_several_topics_that_misses_one() {
    let node = Node::start();
    let topics = ["live:1", "chat:2", "room:3"];
    let mut streams = topics.map(|topic| node.stream(&format!("topic={topic}")));
    for kind in ["message", "note", "like", "receipt"] {
        let line = json!({"topics": ["live:1", "chat:2", "room:3", "chat:2"], "type": kind, "data": {"n": 7}});
        let answer = node.post(LINES, line.to_string());
        let taken = json!({"accepted": 1, "rejected_total": 0, "rejected": []});
        if kind == "receipt" {
            // It comes only from nodes, to whatever topic.
            assert_eq!(answer.json()["rejected_total"], 1, "{answer:?}");
            continue;
        }
        assert_eq!((answer.status, answer.json()), (202, taken), "{kind}");
        let mut ids = Vec::new();
        for (stream, topic) in streams.iter_mut().zip(topics) {
            let event = stream.event();
            assert_eq!((&event["topic"], &event["type"]), (&json!(topic), &json!(kind)));
            assert_eq!(event["data"], json!({"n": 7}));
            ids.push(event["id"].to_string());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    let given = json!({"topics": topics, "type": "message", "id": "once"}).to_string();
    let (again, last) = (given.clone(), json!({"topics": topics, "type": "message", "id": "last"}).to_string());
    assert_eq!(node.post(LINES, [given, again, last].join("\n")).json()["accepted"], 3);
    for stream in &mut streams {
        assert_eq!([(); 3].map(|()| stream.event()["id"].as_str().unwrap().to_owned()), ["once", "once", "last"]);
    }
    // One that it may not go to keeps it from all.
    for bad in [r#"["live:1","x"]"#, "[]", r#""live:1""#] {
        let answer = node.post(LINES, format!(r#"{{"topics":{bad},"type":"message"}}"#)).json();
        assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(0), &json!(1)), "{bad}: {answer}");
    }
    let in_path = node.post("/v1/topics/live:1/events", r#"{"topics":["chat:2"],"type":"message"}"#);
    assert_eq!(in_path.status, 400);
    assert!(in_path.json()["detail"].as_str().unwrap().contains("POST /v1/events"), "{in_path:?}");
    node.publish("live:1", &json!({"type": "message", "id": "end"}));
    assert_eq!(streams[0].event()["id"], "end");
}

#[test]
fn rejected_lines_listed_without_bound() {
    let node = Node::start();
    let answer = node.post(LINES, "bad\n".repeat(250)).json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(0), &json!(250)));
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 100);
    let nothing = json!({"accepted": 0, "rejected_total": 0, "rejected": []});
    for body in ["", "\n\n\n"] {
        assert_eq!(node.post(LINES, body).json(), nothing, "{body:?}");
    }
}

#[test]
fn long_body_of_lines_kept_in_memory() {
    let node = Node::start();
    let mut stream = node.stream("topic=chat:long");
    let line = |number: usize| {
        let kind = if number.is_multiple_of(500) { "long" } else { "none" };
        format!("{{\"topic\":\"chat:{kind}\",\"type\":\"message\",\"data\":[{number},\"{:300}\"]}}\n", "")
    };
    // 34 MiB: far more than waits for the store at a time. As chunks that are cut within lines.
    const LINES_SENT: usize = 100_000;
    let mut client = Client::connect(node.public);
    // What the store and its database hold of so many events is not the body's.
    let first: String = (0..40_000).map(|number| line(number * 2 + 1)).collect();
    assert_eq!(client.request("POST", LINES, &[], first.as_bytes()).json()["accepted"], 40_000);
    let before = node.rss_kib();
    client.send(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut body = Vec::new();
    for number in 0..LINES_SENT {
        body.extend_from_slice(line(number).as_bytes());
        if body.len() > 50_000 {
            client.send(format!("{:x}\r\n", 50_000));
            client.send(&body[..50_000]);
            client.send(b"\r\n");
            body.drain(..50_000);
        }
    }
    client.send(chunked(&body, 7));
    let answer = client.answer();
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(LINES_SENT)), "{}", answer.text());
    for number in (0..LINES_SENT).step_by(500) {
        assert_eq!(stream.event()["data"][0], number);
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more for a body of 34 MiB");
    // The same by its length, and the connection goes on.
    let body: String = (0..40_000).map(line).collect();
    assert!(body.len() > 1024 * 1024);
    assert_eq!(client.request("POST", LINES, &[], body.as_bytes()).json()["accepted"], 40_000);
    assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 200);
}

#[test]
fn too_large_an_event_taken() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let event = |bytes: usize| format!(r#"{{"type":"note","data":"{}"}}"#, "x".repeat(bytes - 2));
    let target = "/v1/topics/live:1/events";
    assert_eq!(node.post(target, event(16 * 1024)).status, 202);
    assert_eq!(stream.event()["data"].as_str().unwrap().len(), 16 * 1024 - 2);
    assert!(node.post(target, event(16 * 1024 + 1)).problem(413).contains("16384"));
    // A body beyond what is read whole is refused by its length, before it comes, or as it comes.
    let mut client = Client::connect(node.public);
    client.send(b"POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    client.answer().problem(413);
    let mut client = Client::connect(node.public);
    client.send(b"POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_unless_closed(chunked(&vec![b' '; 100_000], 1000));
    client.answer().problem(413);
    for (field, bytes) in [("key", 201), ("id", 129), ("type", 65)] {
        let mut body = json!({"type": "note"});
        body[field] = "x".repeat(bytes).into();
        assert!(node.post(target, body.to_string()).problem(400).contains(field));
    }
}

#[test]
fn bad_json_refused_without_its_place() {
    let node = Node::start();
    for (body, at) in [
        (&br#"{"type":"note","data":[1,2,}"#[..], "byte 27"),
        (br#"{"type":"note","data":nul}"#, "byte 22"),
        (br#"{"type":"note","data":01}"#, "byte"),
        (br#"{"type":"note","data":"\x"}"#, "byte"),
        (br#"{"type":"note","data":1"#, "byte 23"),
        (br#"{"type":"note"} trailing"#, "byte 16"),
        (b"", "byte 0"),
        (b"nonsense", "byte 0"),
        (b"{\"type\":\"note\",\"data\":\"a\nb\"}", "byte 24"),
        (b"{\"type\":\"note\",\"data\":\"\xff\"}", "byte 23"),
        (b"{\"type\":\"note\",\"data\":\"\xed\xa0\x80\"}", "byte 23"),
        (b"\xef\xbb\xbf{\"type\":\"note\"}", "byte 0"),
    ] {
        let answer = node.post("/v1/topics/live:1/events", body);
        let shown = String::from_utf8_lossy(body).into_owned();
        assert_eq!(answer.status, 400, "{shown}");
        let detail = answer.problem(400);
        assert!(detail.contains(at), "{shown}: {detail}");
    }
}

#[test]
fn line_breaks_in_json_forge_a_line_of_the_stream() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let forged = b"{\"type\":\"note\",\r\n\"data\":{\r\"a\":\n\n1,\r\n\r\nevent: bye\n\"b\":2}}";
    node.post("/v1/topics/live:1/events", forged).problem(400);
    // Between tokens line breaks are allowed in JSON: they become spaces.
    let broken = b"\r\n{\"type\":\"note\",\r\n\"data\":{\r\"a\"\n:\n\n[1,\r\n\r\n2]\n}\n}\n";
    assert_eq!(node.post("/v1/topics/live:1/events", broken).status, 202);
    let message = stream.next().unwrap();
    assert_eq!(message.json()["data"], json!({"a": [1, 2]}));
    assert!(!message.data.contains('\n'), "one data line: {:?}", message.data);
    // Nor by a key, an id, or a type; escaped ones stay escaped.
    let body = json!({"type": "note", "key": "a\n\nevent: bye", "id": "b\r\ndata: x", "data": "c\n\ndata: y"});
    assert_eq!(node.post("/v1/topics/live:1/events", body.to_string()).status, 202);
    let event = stream.event();
    for name in ["key", "id", "data"] {
        assert_eq!(event[name], body[name], "{name}");
    }
    node.post("/v1/topics/live:1/events", r#"{"type":"a\nb"}"#).problem(400);
    // A carriage return within a line of NDJSON is between tokens too.
    assert_eq!(node.post(LINES, "{\"topic\":\"live:1\",\r\"type\":\"note\",\"data\":[\r1]}\r\n").json()["accepted"], 1);
    assert_eq!(stream.event()["data"], json!([1]));
}

#[test]
fn deletion_that_gateways_and_viewers_read_differently_taken() {
    let node = Node::start();
    let deleted = r#"{"topic":"live:1","type":"deleted","data":{"id":"other","i\u0064":"seen"}}"#;
    let detail = node.post("/v1/topics/live:1/events", deleted).problem(400);
    assert!(detail.contains("twice"), "{detail}");
    assert_eq!(node.post(LINES, deleted).json()["rejected_total"], 1);
}

#[test]
fn deep_nesting_overflows_a_stack() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"type":"note","data":{}0{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    let target = "/v1/topics/live:1/events";
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        assert_eq!(node.post(target, nested(open, close, 64)).status, 202);
        let message = stream.next().unwrap();
        assert!(message.data.contains(&open.repeat(64)));
        node.post(target, nested(open, close, 65)).problem(400);
        node.post(target, nested(open, close, 10_000)).problem(400);
        node.post(target, format!(r#"{{"type":"note","data":{}"#, open.repeat(10_000))).problem(400);
        node.post("/v1/videos/1/likes", nested(open, close, 10_000)).problem(400);
        let add = format!(r#"{{"add":{}"#, open.repeat(10_000));
        node.post(&format!("/v1/connections/{}/topics", stream.connection()), add).problem(400);
    }
    let id = node.publish("live:1", &json!({"type": "note"}));
    assert_eq!(stream.event()["id"], json!(id), "the shard lives");
}

#[test]
fn unknown_path_or_method_unexplained() {
    let node = Node::start();
    for target in
        ["/nothing", "/v1", "/v1/", "/v1/events/", "/v1/topics/live:1", "/v1/topics/live:1/events/x", "/v2/events"]
    {
        node.get(target).problem(404);
        node.post(target, "{}").problem(404);
    }
    for (method, target, allow) in [
        ("DELETE", "/v1/topics/live:1/events", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/v1/events", "GET, HEAD, POST, OPTIONS"),
        ("PATCH", "/v1/time", "GET, HEAD, OPTIONS"),
        ("BREW", "/v1/topics/live:1/events", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ] {
        let answer = Client::connect(node.public).request(method, target, &[], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    // A bad topic in the path; one that is decoded once, and no more often.
    for topic in
        ["live", "live:", "live:%20", "live:%0A", "live:%FF", "live:%", &format!("live:{}", "x".repeat(10_240))]
    {
        node.post(&format!("/v1/topics/{topic}/events"), r#"{"type":"x"}"#).problem(400);
    }
    let mut stream = node.stream("topic=live:%252f");
    assert_eq!(node.post("/v1/topics/live%3A%252F/events", r#"{"type":"x"}"#).status, 202);
    assert_eq!(stream.event()["topic"], "live:%2F");
}

#[test]
fn internal_listener_publishes_nothing_for_backends() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let mut client = Client::connect(node.internal);
    let answer = client.request("POST", "/v1/topics/live:1/events", &[], br#"{"type":"note","data":1}"#);
    assert_eq!(answer.status, 202);
    let body = b"{\"topic\":\"live:1\",\"type\":\"note\",\"data\":2}\n";
    assert_eq!(client.request("POST", LINES, &[], body).json()["accepted"], 1);
    assert_eq!((stream.event()["data"].clone(), stream.event()["data"].clone()), (json!(1), json!(2)));
    // What belongs to people is not there, and what belongs to nodes is not public.
    assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 404);
    for target in ["/metrics", "/health/ready", "/health/live", "/v1/node"] {
        assert_eq!(client.request("GET", target, &[], b"").status, 200, "{target}");
        node.get(target).problem(404);
    }
}

#[test]
fn cluster_secret_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let node = Node::with(&["--cores", "1", "--cluster-secret-file", secret.to_str().unwrap()]);
    let body = b"{\"topic\":\"live:1\",\"type\":\"note\"}\n";
    for (method, target, body) in [
        ("GET", "/v1/node", &b""[..]),
        ("POST", "/v1/topics/live:1/events", br#"{"type":"note"}"#),
        ("POST", LINES, body),
        ("POST", LINES, b""),
        ("GET", "/v1/unknown", b""),
    ] {
        for given in [None, Some("Bearer wrong"), Some("Bearer "), Some("0123456789abcdef0123456789abcdef")] {
            let headers: Vec<_> = given.map(|value| ("Authorization", value)).into_iter().collect();
            let answer = Client::connect(node.internal).request(method, target, &headers, body);
            assert_eq!(answer.status, 401, "{method} {target} {given:?}");
            answer.problem(401);
        }
        let headers = [("Authorization", "Bearer 0123456789abcdef0123456789abcdef")];
        let answer = Client::connect(node.internal).request(method, target, &headers, body);
        assert_ne!(answer.status, 401, "{method} {target}");
    }
    let mut client = Client::connect(node.internal);
    client.send(request("GET", "/health/ready", &[], b""));
    assert_eq!(client.answer().status, 200, "probes need no secret");
}
