//! Who is refused, and how.

use fanfare::kv::bucket;
use serde_json::json;

use super::setup::*;
use crate::support::http::Client;
use crate::support::node::{Node, program};
use crate::support::{becomes, eventually, sse::Stream};

const FRAMES: &str = "/v1/internal/frames";
const KV: &str = "/v1/internal/kv";

#[test]
fn node_without_the_secret_taken_for_one_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("good", "a-secret-that-nobody-guesses-of-more-than-32-bytes");
    let wrong = file("wrong", "another-secret-that-nobody-guesses-either");
    let dispatcher = Node::with(&["--cores", "2", "--cluster-secret-file", &good]);
    let mut client = Client::connect(dispatcher.internal);
    for target in [FRAMES, KV, "/v1/internal/connections", "/v1/internal/nothing"] {
        for headers in [&[][..], &[("Authorization", "Bearer wrong")]] {
            let answer = client.request("POST", target, headers, b"[]");
            let detail = answer.problem(401);
            assert_eq!(detail, "this needs the cluster's secret");
        }
    }
    // The scheme's case does not count (RFC 9110 section 11.1).
    let shown = ("Authorization", "bearer a-secret-that-nobody-guesses-of-more-than-32-bytes");
    assert_eq!(client.request("GET", "/v1/node", &[shown], b"").status, 200);
    // Not even its length is looked at.
    let large = vec![b'x'; 300_000];
    let answer = Client::connect(dispatcher.internal);
    let mut answer_to = answer;
    answer_to.send_unless_closed(crate::support::http::request("POST", FRAMES, &[], &large));
    answer_to.answer().problem(401);
    // A node with another secret is not let in, and says so.
    let urls = url(&dispatcher);
    let stranger = Node::role("frontend", &["--cores", "1", "--dispatchers", &urls, "--cluster-secret-file", &wrong]);
    eventually("the node to say why it is not ready", || {
        let answer = Client::connect(stranger.internal).request("GET", "/health/ready", &[], b"");
        let (text, reason) = (answer.text(), stranger.info()["waits_for"].to_string());
        let is_hushed = text.contains("dispatcher") && !text.contains("401") && !text.contains("http://");
        if answer.status == 503 && reason.contains("401") && is_hushed { Ok(()) } else { Err(text + &reason) }
    });
    eventually("the log to say which secret", || {
        let log = stranger.log();
        if log.iter().any(|line| line.contains("cluster-secret-file")) { Ok(()) } else { Err(log) }
    });
    let friend = start("frontend", &[&dispatcher], &["--cluster-secret-file", &good]);
    let _stream: Stream = friend.stream("topic=live:1");
}

#[test]
fn request_for_another_node_answered() {
    let node = Node::start();
    let name = node.info()["node"].as_str().unwrap().to_owned();
    let mut client = Client::connect(node.internal);
    let answer = client.request("POST", KV, &[("Fanfare-Node", &name), ("Fanfare-Version", "1")], b"[]");
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
    let answer = client.request("POST", KV, &[("Fanfare-Node", "0000000000000")], b"[]");
    assert!(answer.problem(421).contains(&name));
    // The next version is a neighbour; the one after it is not.
    assert_eq!(client.request("POST", KV, &[("Fanfare-Version", "2")], b"[]").status, 200);
    for version in ["3", "0", "x", ""] {
        let answer = client.request("POST", KV, &[("Fanfare-Version", version)], b"[]");
        assert!(answer.problem(400).contains("one version at a time"));
    }
}

#[test]
fn garbage_from_a_node_taken() {
    let node = Node::start();
    let mut client = Client::connect(node.internal);
    for body in [&b""[..], b"garbage", b"FB\x01\xff\xff", b"FB\x63\x00\x00"] {
        client.request("POST", FRAMES, &[], body).problem(400);
    }
    for body in [&b""[..], b"{}", b"[{\"subscribers\":\"no topic\"}]", b"[{\"dance\":1}]"] {
        client.request("POST", KV, &[], body).problem(400);
    }
    // What reads well, and no store could do.
    let node_id = node.info()["node"].as_str().unwrap().to_owned();
    let batch = |bucket: u8, topic: &str| {
        let batch = json!({"node": node_id, "bucket": bucket, "number": 1, "full": true, "changes": [[topic, true]]});
        json!([{"subscribers": "live:1"}, {"apply": batch}])
    };
    let beat = json!({"id": node_id, "roles": ["frontend"], "url": "http://127.0.0.1:1"});
    let beat = json!([{"subscribers": "live:1"}, {"heartbeat": {"node": beat, "digests": [[64, 0]]}}]);
    let due = json!([{"subscribers": "live:1"}, {"due": [[255], 1]}]);
    let asks = |question: serde_json::Value| json!([{"subscribers": "live:1"}, question]);
    let elsewhere = (bucket("live:1") + 1) % 64;
    let append = json!({"topic": "live:1", "event": "{}", "kind": "note", "count_max": 1, "age_max_ms": 1});
    let latest =
        json!({"topic": "live:1", "field": "a", "event": "{}", "version": u64::MAX, "dc": "b", "age_ms": null});
    let turn = json!({"member": "ana", "online": true, "at": 1, "version": u64::MAX});
    for (body, problem) in [
        (batch(64, "live:1"), "no such bucket"),
        (batch((bucket("live:1") + 1) % 64, "live:1"), "another bucket"),
        (beat, "no such bucket"),
        (due, "no such bucket"),
        (asks(json!({"queue": {"peer": "b", "bucket": 64, "done": null, "limit": 1}})), "no such bucket"),
        (asks(json!({"take": {"dc": "b", "bucket": 200, "epoch": 1, "events": []}})), "no such bucket"),
        (
            asks(json!({"take": {"dc": "b", "bucket": elsewhere, "epoch": 1, "events": [["1-1", append]]}})),
            "another bucket",
        ),
        (asks(json!({"set_latest": latest})), "version"),
        (asks(json!({"peer_turns": {"dc": "b", "turns": [turn]}})), "version"),
    ] {
        let detail = client.request("POST", KV, &[], body.to_string().as_bytes()).problem(400);
        assert!(detail.contains("question 1") && detail.contains(problem), "{detail}");
    }
    client.request("POST", "/v1/internal/connections", &[], b"{}").problem(400);
    assert_eq!(client.request("GET", KV, &[], b"").status, 405);
    let answer = client.request("POST", KV, &[], br#"[{"subscribers":"live:1"},{"ends":["live:1"]}]"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()[0], serde_json::json!({"Ok": {"subscribers": []}}));
    // More than a client may send.
    let many = format!("[{}]", vec![r#"{"subscribers":"live:1"}"#; 10_000].join(","));
    assert_eq!(client.request("POST", KV, &[], many.as_bytes()).json().as_array().unwrap().len(), 10_000);
    assert_eq!(Client::connect(node.public).request("POST", KV, &[], b"[]").status, 404);
}

#[test]
fn node_that_says_it_is_where_nothing_can_be() {
    let node = Node::start();
    let beat = |url: &str, roles: &[&str]| {
        let info = json!({"id": "0123456789abc", "roles": roles, "url": url});
        let body = json!([{"heartbeat": {"node": info, "digests": []}}]).to_string();
        Client::connect(node.internal).request("POST", KV, &[], body.as_bytes())
    };
    becomes("the node to know itself", 1, || living(&node));
    let long = format!("http://{}", "h".repeat(9 * 1024));
    for url in [
        "",
        "h",
        "file:///etc/passwd",
        "http://",
        "http://h/\r\nX: y",
        "http://h/x",
        "http://u:p@h",
        "http://h:0",
        &long,
    ] {
        let detail = beat(url, &["frontend"]).problem(400);
        assert!(detail.len() < 500, "{detail}");
    }
    for roles in [&["front end"][..], &["\r\nX: y"], &[&"r".repeat(65)], &["frontend"; 17]] {
        beat("http://127.0.0.1:1", roles).problem(400);
    }
    assert_eq!(living(&node), 1, "none of them");
    let answer = beat("http://127.0.0.1:1", &["frontend", "of-a-later-version"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let known = answer.json()[0]["Ok"]["alive"]["nodes"].clone();
    assert!(
        known.as_array().is_some_and(|nodes| nodes.iter().any(|node| node["url"] == "http://127.0.0.1:1")),
        "{known}"
    );
}

#[test]
fn setting_that_cannot_work_accepted() {
    for (setting, flags) in [
        ("--dispatchers", &["frontend", "--dispatchers", "https://127.0.0.1:1"][..]),
        ("--advertise", &["all", "--advertise", "https://127.0.0.1:1"]),
    ] {
        let ports = ["--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", "sqlite:/nonexistent/x.db"];
        let output = program().args(flags).args(ports).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(setting) && message.contains("TLS") && message.contains("http://"), "{message}");
    }
}
