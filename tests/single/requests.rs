//! Requests that other servers' clients send: what is not understood is refused aloud, never ignored.

use crate::support;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::{Answer, Client};
use support::node::Node;
use support::sse::Stream;

#[test]
fn a_parameter_that_nobody_reads_is_refused_and_the_known_ones_are_named() {
    let node = Node::start();
    for query in ["topic[]=live:1", "topics=live:1,live:2", "channel=live:1", "topic=live:1&last-event-id=local:1-1"] {
        let detail = node.get(&format!("/v1/events?{query}")).problem(400);
        assert!(detail.contains("topic, member, all, from, last_event_id"), "{query}: {detail}");
    }
    for target in ["/v1/videos/1/comments?offset=3", "/v1/videos/1/likes?x", "/v1/time?x=1", "/fanfare.js?v=2"] {
        node.get(target).problem(400);
    }
    let like = json!({"member": "ana"}).to_string();
    node.post("/v1/videos/1/likes?dry_run=1", like).problem(400);
    assert_eq!(node.get("/v1/videos/1/likes").json()["likes"], 0, "nothing was done");
    node.post("/v1/events?topic=live:1", "{}").problem(400);
    assert_eq!(node.get("/?video=7&member=ana").status, 200, "the page reads these by itself");
}

#[test]
fn a_stream_resumes_by_the_names_that_polyfills_and_other_servers_clients_use() {
    let node = Node::start();
    let say = |text: &str| {
        let answer = node.post("/v1/videos/1/comments", json!({"member": "ana", "text": text}).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
    };
    let mut stream = node.stream("topic=live:1");
    say("one");
    let position = loop {
        let message = stream.next().expect("the comment comes");
        if message.data.contains("\"one\"") {
            break message.id.expect("a comment has a position");
        }
    };
    drop(stream);
    say("two");
    for name in ["last_event_id", "lastEventId", "lastEventID", "Last-Event-ID", "last_event_id=&lastEventId"] {
        let mut stream = Stream::connected(node.public, &format!("topic=live:1&{name}={position}"));
        loop {
            let message = stream.next().expect("what was missed comes");
            if message.data.contains("\"two\"") {
                break;
            }
        }
    }
}

#[test]
fn what_a_store_says_of_itself_stays_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fanfare.db");
    let node = Node::in_folder(folder.path(), &[]);
    assert_eq!(node.post("/v1/videos/1/likes", json!({"member": "ana"}).to_string()).status, 201);
    let database = rusqlite::Connection::open(&path).expect("the node made it");
    let trigger = "CREATE TRIGGER poison BEFORE INSERT ON likes BEGIN SELECT RAISE(ABORT, 'secret.internal:5432'); END";
    database.execute_batch(trigger).expect("a trigger");
    let detail = node.post("/v1/videos/1/likes", json!({"member": "bob"}).to_string()).problem(400);
    assert!(detail.contains("database") && !detail.contains("secret.internal"), "{detail}");
    node.until_logged(&["secret.internal"]);
}

#[test]
fn a_preflight_gets_the_headers_it_asks_for() {
    let node = Node::with(&["--cors-origin", "http://app.example"]);
    let ask = |origin: &str, names: &str| {
        let headers =
            [("Origin", origin), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", names)];
        let answer = Client::connect(node.public).request("OPTIONS", "/v1/events?topic=live:1", &headers, b"");
        assert_eq!(answer.status, 204, "{answer:?}");
        answer.header("access-control-allow-headers").map(str::to_owned)
    };
    for names in ["cache-control", "sentry-trace,baggage", "traceparent, x-requested-with"] {
        assert_eq!(ask("http://app.example", names).as_deref(), Some(names));
        assert_eq!(ask("http://evil.example", names), None);
    }
    assert_ne!(ask("http://app.example", "a: b").as_deref(), Some("a: b"), "no list of names");
    let headers = [("Origin", "http://app.example")];
    let answer = Client::connect(node.public).request("GET", "/v1/time", &headers, b"");
    let exposed = answer.header("access-control-expose-headers").expect("a page may read some").to_owned();
    for name in ["Retry-After", "Location", "WWW-Authenticate"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn an_idle_connection_ends_when_its_answers_say_and_no_sooner() {
    let node = Node::with(&["--idle-timeout", "2s"]);
    let asked = Instant::now();
    let mut client = Client::connect(node.public);
    let answer = client.request("GET", "/v1/time", &[], b"");
    assert_eq!(answer.header("keep-alive"), Some("timeout=2"));
    client.assert_closed();
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    // Links between nodes go by a time that all nodes know.
    let answer = Client::connect(node.internal).request("GET", "/health/live", &[], b"");
    assert_eq!(answer.header("keep-alive"), Some("timeout=75"));
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let node = Node::start();
    for (accept, kind, end) in [
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            true,
        ),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8", false),
    ] {
        let answer = Client::connect(node.internal).request("GET", "/metrics", &[("Accept", accept)], b"");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert_eq!(answer.text().ends_with("# EOF\n"), end, "{accept}");
    }
}

#[test]
fn two_spellings_of_a_topic_are_one_topic() {
    let node = Node::start();
    // As .NET's HttpUtility or libcurl's URL parser write it, encoded once more for the query.
    let mut stream = node.stream("topic=live:caf%25c3%25a9&topic=chat:%2534%2532");
    let comment = json!({"member": "ana", "text": "hi"}).to_string();
    assert_eq!(node.post("/v1/videos/caf%c3%a9/comments", comment).status, 201);
    loop {
        let event = stream.event();
        if event["type"] == "comment" {
            assert_eq!(event["topic"], "live:caf%C3%A9");
            break;
        }
    }
    let mut id = node.post("/v1/topics/chat:%2534%2532/events", r#"{"type":"note"}"#).json()["id"].clone();
    assert_eq!(stream.event()["id"], id);
    assert_eq!(node.post("/v1/events", r#"{"topic":"chat:%34%32","type":"note","id":"line"}"#).json()["accepted"], 1);
    id = json!("line");
    assert_eq!(stream.event()["id"], id);
    let target = format!("/v1/connections/{}/topics", stream.connection());
    let topics = node.post(&target, r#"{"add":["live:x%2Dy"],"remove":["chat:4%32"]}"#).json();
    assert_eq!(topics["topics"], json!(["live:caf%C3%A9", "live:x-y"]));
    for target in ["/v1/events?topic=live:50%25", "/v1/events?topic=live:%25zz"] {
        let detail = node.get(target).problem(400);
        assert!(detail.contains("%25"), "{detail}");
    }
    assert!(node.post("/v1/topics/live:50%25/events", r#"{"type":"note"}"#).problem(400).contains("%25"));
    let answer = node.post("/v1/events", r#"{"topic":"live:50%","type":"note"}"#).json();
    assert!(answer["rejected"][0]["detail"].as_str().is_some_and(|detail| detail.contains("%25")), "{answer}");
}

/// A request with this `Host`, and these headers besides.
fn ask(address: SocketAddr, line: &str, host: &str, headers: &str, body: &str) -> Answer {
    let mut client = Client::connect(address);
    let length = body.len();
    client.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"));
    client.answer()
}

#[test]
fn any_web_page_may_use_what_listens_on_this_box() {
    const LIKES: &str = "/v1/videos/1/likes";
    let node = Node::with(&["--cors-origin", "https://app.example"]);
    let (public, like) = (node.public, json!({"member": "ana"}).to_string());
    let own = format!("Origin: http://{public}\r\n");
    for page in ["Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://localhost:1\r\n"] {
        let page = &format!("{page}Content-Type: text/plain\r\n");
        for (line, body) in [
            (format!("POST {LIKES}"), &like),
            (format!("DELETE {LIKES}"), &like),
            ("POST /v1/topics/live:1/events".to_owned(), &r#"{"type":"note"}"#.to_owned()),
            ("POST /v1/events".to_owned(), &r#"{"topic":"live:1","type":"note"}"#.to_owned()),
            ("GET /v1/events?topic=live:1&member=ana".to_owned(), &String::new()),
        ] {
            let detail = ask(public, &line, &public.to_string(), page, body).problem(403);
            assert!(detail.contains("--cors-origin"), "{line}: {detail}");
        }
    }
    assert_eq!(node.get(LIKES).json()["likes"], 0, "nothing changed");
    assert_eq!(node.counts()[0], 0, "no stream is open");
    // A name of the page's author that leads here (DNS rebinding): to the browser, the node is the page's own server.
    let rebound = "Origin: http://evil.example\r\n";
    for line in ["GET /v1/time", "GET /v1/events?topic=live:1", "GET /", &format!("POST {LIKES}")] {
        let detail = ask(public, line, "evil.example", rebound, &like).problem(403);
        assert!(detail.contains("localhost"), "{line}: {detail}");
    }
    // Nor does a name without dots, which a neighbour in the local network may answer to.
    for (host, page) in
        [("evil:7101", "Origin: http://evil:7101\r\n"), ("evil", ""), ("evil%2eexample", ""), ("", rebound)]
    {
        let detail = ask(public, &format!("POST {LIKES}"), host, page, &like).problem(403);
        assert!(detail.contains("localhost"), "{host}: {detail}");
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("every machine has one");
    let machine = machine.trim().to_owned();
    for (host, page) in [
        (machine, ""),
        (String::new(), ""),
        (public.to_string(), own.as_str()),
        ("localhost".to_owned(), ""),
        (public.to_string(), "Origin: https://app.example\r\n"),
        ("app.example".to_owned(), "Origin: https://app.example\r\n"),
    ] {
        let status = ask(public, &format!("POST {LIKES}"), &host, page, &like).status;
        assert!(matches!(status, 200 | 201), "{host} {page}: {status}");
    }
    // Where a proxy stands in front, its visitors' names are what comes.
    let node = Node::with(&["--trusted-proxy", "127.0.0.1"]);
    let page = "Origin: https://www.example\r\n";
    assert_eq!(ask(node.public, &format!("POST {LIKES}"), "www.example", page, &like).status, 201);
}

#[test]
fn the_internal_listener_answers_to_its_own_name_only() {
    let node = Node::with(&["--advertise", "http://node-7.example:8081"]);
    let internal = node.internal;
    let note = r#"{"type":"note"}"#;
    for (line, body) in [
        ("GET /metrics", ""),
        ("GET /health/ready", ""),
        ("GET /v1/node", ""),
        ("POST /v1/topics/live:1/events", note),
        ("POST /v1/events", r#"{"topic":"live:1","type":"note"}"#),
    ] {
        for host in ["evil.example", "test", "10.0.0.7", "node-7.example.evil.example", ""] {
            ask(internal, line, host, "", body).problem(403);
        }
        let own = internal.to_string();
        for (host, page) in [
            (own.as_str(), "Origin: https://evil.example\r\n".to_owned()),
            (&own, "Origin: null\r\n".to_owned()),
            (&own, format!("Origin: http://{}\r\n", node.public)),
            ("evil.example", "Origin: http://evil.example\r\n".to_owned()),
        ] {
            ask(internal, line, host, &page, body).problem(403);
        }
        for host in [&own, "localhost", "localhost:8081", "node-7.example:8081", "NODE-7.example"] {
            let status = ask(internal, line, host, "", body).status;
            assert!((200..300).contains(&status), "{line} {host}: {status}");
        }
    }
}

#[test]
fn page_of_others_asks_the_internal_listener_or_reads_its_refusal() {
    // Whatever the public listener lets pages of others read.
    for allowed in ["*", "https://evil.example"] {
        let node = Node::with(&["--cors-origin", allowed]);
        let (internal, own) = (node.internal, node.internal.to_string());
        for (line, body) in [
            ("GET /metrics", ""),
            ("GET /health/live", ""),
            ("GET /v1/node", ""),
            ("GET /nowhere", ""),
            ("OPTIONS /v1/node", ""),
            ("OPTIONS *", ""),
            ("POST /v1/topics/live:1/events", r#"{"type":"note"}"#),
            ("POST /v1/events", r#"{"topic":"live:1","type":"note"}"#),
        ] {
            for page in [
                "Sec-Fetch-Site: cross-site\r\n",
                "Sec-Fetch-Site: same-site\r\n",
                "Origin: https://evil.example\r\n",
                "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
                &format!("Origin: http://{own}\r\nSec-Fetch-Site: cross-site\r\n"),
            ] {
                let answer = ask(internal, line, &own, page, body);
                answer.problem(403);
                assert_eq!(answer.header("access-control-allow-origin"), None, "{line} {page}: {answer:?}");
            }
            let own_page = format!("Origin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n");
            for page in ["", "Sec-Fetch-Site: none\r\n", "Sec-Fetch-Site: same-origin\r\n", &own_page] {
                let answer = ask(internal, line, &own, page, body);
                assert_ne!(answer.status, 403, "{line} {page}: {answer:?}");
                assert_eq!(answer.header("access-control-allow-origin"), None, "{line} {page}: {answer:?}");
            }
        }
    }
}

#[test]
fn host_with_two_ports_or_none_that_is_one() {
    let node = Node::start();
    for host in ["localhost:80:80", "127.0.0.1:1:1", "[::1]:1:1", "localhost:http", "::1", "[localhost]", ":8081"] {
        for address in [node.internal, node.public] {
            ask(address, "GET /health/live", host, "", "").problem(400);
        }
    }
}

#[test]
fn listing_ends_at_its_newest_page() {
    let node = Node::with(&["--cores", "1"]);
    let target = "/v1/conversations/c/messages";
    let ids: Vec<String> = (0..5)
        .map(|number| {
            let body = json!({"member": "ana", "text": format!("line {number}\r\nsecond")}).to_string();
            let answer = node.post(target, body);
            assert_eq!(answer.status, 201, "{answer:?}");
            answer.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let listed = |query: String| {
        let answer = node.get(&format!("{target}?{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let messages = answer.json()["messages"].as_array().unwrap().clone();
        let id = |message: &Value| message["id"].as_str().unwrap().to_owned();
        (messages.iter().map(id).collect::<Vec<_>>(), answer.json()["more"] == true)
    };
    assert_eq!(listed(format!("before={}&limit=2", ids[3])), (ids[1..3].to_vec(), true));
    assert_eq!(listed(format!("before={}&limit=200", ids[3])), (ids[..3].to_vec(), false));
    assert_eq!(node.get(target).json()["messages"][0]["text"], "line 0\nsecond", "line ends are line feeds");
    node.get(&format!("{target}?before={}&after={}", ids[3], ids[0])).problem(400);
    for place in ["after=0", "after=0-0", "before=x", "before="] {
        let detail = node.get(&format!("{target}?{place}")).problem(400);
        assert!(detail.contains("which look like"), "{place}: {detail}");
    }
}

#[test]
fn request_that_is_not_found_again_in_answers_and_the_log() {
    let node = Node::with(&["--log", "fanfare=debug"]);
    let ask = |method: &str, target: &str, id: &str, body: &str| {
        Client::connect(node.public).request(method, target, &[("X-Request-Id", id)], body.as_bytes())
    };
    // Answered at once, later, line by line, refused, and by a stream's head.
    for (number, (method, target, body, status)) in [
        ("GET", "/v1/time", "", 200),
        ("POST", "/v1/videos/1/likes", r#"{"member":"ana"}"#, 201),
        ("POST", "/v1/topics/chat:1/events", r#"{"type":"message"}"#, 202),
        ("POST", "/v1/events", "{\"topic\":\"chat:1\",\"type\":\"message\"}\n", 202),
        ("GET", "/v1/nothing", "", 404),
        ("HEAD", "/v1/events", "", 200),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("request-{number}");
        let answer = ask(method, target, &id, body);
        assert_eq!((answer.status, answer.header("x-request-id")), (status, Some(&*id)), "{target}");
        node.until_logged(&[&id, target]);
    }
    node.until_logged(&["request-4", "refused"]);
    for id in ["", "two words", &"x".repeat(129)] {
        assert_eq!(ask("GET", "/v1/time", id, "").header("x-request-id"), None, "{id:?}");
    }
    // Those behind it on the same connection have none.
    let mut client = Client::connect(node.public);
    assert_eq!(client.request("GET", "/v1/time", &[("X-Request-Id", "a")], b"").header("x-request-id"), Some("a"));
    assert_eq!(client.request("GET", "/v1/time", &[], b"").header("x-request-id"), None);
}
