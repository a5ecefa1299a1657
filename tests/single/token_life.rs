//! Tokens over time: streams that end with theirs and are renewed, keys that change. Each test is named after what it
//! prevents.

use crate::support;
use serde_json::json;
use support::http::{Answer, Client};
use support::node::Node;
use support::sse::Stream;
use support::token::{
    BEARER, Guarded, SECRET, as_bearer, assert_unquoted, bad_tokens, claims, publish_inside, send, signed, token,
    unix_seconds, with,
};

/// Sends a token for an open stream, in the body.
fn renew(node: &Node, stream: &Stream, token: &str) -> Answer {
    let body = json!({ "token": token }).to_string();
    node.post(&format!("/v1/connections/{}/token", stream.connection()), body)
}

/// The topics of a stream, sorted.
fn topics(node: &Node, stream: &Stream, token: &str) -> Vec<String> {
    let answer = as_bearer(node, token, "POST", &format!("/v1/connections/{}/topics", stream.connection()), "{}");
    let list = answer.json()["topics"].clone();
    let mut topics: Vec<String> = serde_json::from_value(list).expect("a list of topics");
    // Every member has one that comes without asking, and stays.
    let before = topics.len();
    topics.retain(|topic| !topic.starts_with("user:"));
    assert_eq!(topics.len() + 1, before);
    topics.sort();
    topics
}

#[test]
fn stream_outlives_its_token() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ends = unix_seconds() + 6;
    let short = signed(SECRET, &with(claims("ana", &["live:*"], &[]), "exp", ends));
    let long = token("ana", &["live:*"], &[]);
    let mut left = node.stream(&format!("topic=live:42&access_token={short}"));
    let mut renewed = node.stream(&format!("topic=live:42&topic=live:43&access_token={short}"));
    let mut untouched = node.stream(&format!("topic=live:42&access_token={long}"));
    // A topic that came by a token keeps the stream no longer than that token lasts.
    let mut added = node.stream(&format!("topic=live:42&access_token={long}"));
    let target = format!("/v1/connections/{}/topics", added.connection());
    assert_eq!(as_bearer(node, &short, "POST", &target, r#"{"add":["live:1"]}"#).status, 200);
    for stream in [&mut left, &mut renewed, &mut added] {
        let notice = stream.next().expect("a notice");
        assert_eq!((notice.name.as_str(), notice.json()), ("token", json!({"expires_at": ends * 1000})));
    }
    assert_eq!(renew(node, &renewed, &long).status, 204);
    for stream in [&mut left, &mut added] {
        let bye = stream.next().expect("a bye");
        assert_eq!((bye.name.as_str(), bye.json()["reason"].as_str()), ("bye", Some("token")));
        let retry_ms = bye.json()["retry_ms"].as_u64().expect("milliseconds");
        assert_eq!(stream.messages.retries.last(), Some(&retry_ms));
        assert_eq!(stream.next(), None);
        assert!(unix_seconds() >= ends, "it was ended early");
    }
    support::becomes("streams ended for their token", 2, || {
        node.metric("fanfare_disconnects_total", "reason=\"token\"")
    });
    for topic in ["live:42", "live:43"] {
        publish_inside(node, topic, &json!({"type": "note", "data": topic}));
        assert_eq!(renewed.event()["data"], topic);
    }
    // It was told of nothing else, and nobody else was told anything.
    assert_eq!(untouched.event()["data"], "live:42");
    let answer = as_bearer(node, &long, "POST", &format!("/v1/connections/{}/topics", left.connection()), "{}");
    answer.problem(412);
    renew(node, &left, &long).problem(412);
    guarded.assert_silent([short.as_str(), long.as_str()]);
}

#[test]
fn slow_reader_outlives_its_token() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let short = signed(SECRET, &with(claims("ana", &["live:*"], &[]), "exp", unix_seconds() + 6));
    let mut slow = node.stream(&format!("topic=live:slow&access_token={short}"));
    let mut keeps_up = node.stream(&format!("topic=live:42&access_token={short}"));
    // More than socket buffers hold, until what follows waits for it.
    // Of a class that past its backlog is dropped: others would end the stream for that.
    let large = json!({"type": "note", "data": "x".repeat(16_000)});
    support::eventually("a stream that lags", || {
        for _ in 0..64 {
            publish_inside(node, "live:slow", &large);
        }
        match node.metric("fanfare_connections", "kind=\"lagging\"") {
            1 => Ok(()),
            count => Err(format!("{count} lag")),
        }
    });
    assert_eq!(keeps_up.next().expect("a notice").name, "token");
    assert_eq!(keeps_up.next().expect("a bye").name, "bye");
    // What was on its way comes whole, and then the reason.
    let mut names = Vec::new();
    let last = loop {
        let message = slow.next().expect("a bye before the end");
        if message.name == "bye" {
            break message;
        }
        names.push(message.name);
    };
    assert_eq!(last.json()["reason"], "token");
    assert_eq!(slow.next(), None);
    assert_eq!(names.iter().filter(|name| *name == "token").count(), 1, "{names:?}");
    support::becomes("streams ended for their token", 2, || {
        node.metric("fanfare_disconnects_total", "reason=\"token\"")
    });
    support::becomes("streams that lag", 0, || node.metric("fanfare_connections", "kind=\"lagging\""));
}

#[test]
fn stream_renewed_by_what_no_request_may_use() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let good = token("ana", &["live:*"], &[]);
    let stream = node.stream(&format!("topic=live:42&access_token={good}"));
    for bad in bad_tokens() {
        let answer = renew(node, &stream, &bad.token);
        let detail = answer.problem(401);
        assert!(detail.contains(bad.says), "{} {detail}", bad.name);
        assert!(answer.header("www-authenticate").is_some_and(|header| header.starts_with(BEARER)));
        assert_unquoted(&bad.token, &answer.text());
    }
    let other = token("bob", &["*"], &["*"]);
    assert!(renew(node, &stream, &other).problem(403).contains("another member (sub)"));
    // The token in the body counts, whatever else the request carries: pages send both.
    let target = format!("/v1/connections/{}/token", stream.connection());
    let body = json!({ "token": good }).to_string();
    assert_eq!(as_bearer(node, &other, "POST", &target, &body).status, 204);
    let body = json!({ "token": other }).to_string();
    as_bearer(node, &good, "POST", &target, &body).problem(403);
    for body in
        [format!("{{\"token\":[\"{good}\"]}}"), format!("\"{good}\""), good.clone(), format!("{{\"token\":\"{good}")]
    {
        let answer = node.post(&target, &body);
        answer.problem(400);
        assert_unquoted(&good, &answer.text());
    }
    for gone in ["x", "", "%00"] {
        let body = json!({ "token": good }).to_string();
        node.post(&format!("/v1/connections/{gone}/token"), &body).problem(412);
        node.post(&format!("/v1/connections/{gone}/token"), "{}").problem(401);
    }
    assert_eq!(topics(node, &stream, &good), ["live:42"]);
}

#[test]
fn renewal_reaches_the_asking_shard_only() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let wide = token("ana", &["*"], &[]);
    let streams = node.stream_on_each_shard(&format!("access_token={wide}"));
    for (number, mut stream) in streams.into_iter().enumerate() {
        let (chat, live) = (format!("chat:{number}"), [format!("live:{number}-1"), format!("live:{number}-2")]);
        let target = format!("/v1/connections/{}/topics", stream.connection());
        let add = |token: &str, topics: &[&str]| {
            as_bearer(node, token, "POST", &target, &json!({ "add": topics }).to_string())
        };
        assert_eq!(add(&wide, &[&live[0], &live[1]]).status, 200);
        // Some of these connections are accepted by the other shard.
        for round in 0..8 {
            let narrow = token("ana", &["live:*"], &[]);
            add(&narrow, &[&chat]).problem(403);
            assert_eq!(add(&wide, &[&chat]).status, 200);
            assert_eq!(renew(node, &stream, &narrow).status, 204);
            assert_eq!(topics(node, &stream, &narrow), live, "what the new rights do not cover is left");
            publish_inside(node, &chat, &json!({"type": "note", "data": "of a topic that was left"}));
            publish_inside(node, &live[1], &json!({"type": "note", "data": round}));
            assert_eq!(stream.event()["data"], round);
            assert_eq!(renew(node, &stream, &wide).status, 204);
            assert_eq!(topics(node, &stream, &wide), live, "they do not come back by themselves");
        }
        assert_eq!(renew(node, &stream, &token("ana", &[], &[])).status, 204);
        assert_eq!(topics(node, &stream, &wide), [""; 0]);
    }
}

#[test]
fn old_keys_kept_after_a_rotation() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    const NEW: &str = "the new secret, which has more than 32 bytes, too";
    let (old, all) = (token("ana", &["*"], &["*"]), claims("ana", &["*"], &["*"]));
    let new = signed(NEW, &all);
    let mut stream = node.stream(&format!("topic=live:42&access_token={old}"));
    let status = |token: &str| as_bearer(node, token, "POST", "/v1/events", "").status;
    assert_eq!((status(&old), status(&new)), (202, 401));
    // A file that will not do changes nothing, and is told of.
    std::fs::write(&guarded.key_file, "short").unwrap();
    support::becomes("a warning of the bad file", true, || {
        node.log().iter().any(|line| line.contains("WARN") && line.contains("stay as they were"))
    });
    assert_eq!((status(&old), status(&new)), (202, 401));
    let next = guarded.key_file.with_extension("next");
    std::fs::write(&next, NEW).unwrap();
    std::fs::rename(&next, &guarded.key_file).unwrap();
    support::becomes("the status with the new key", 202, || status(&new));
    assert_eq!(status(&old), 401);
    // Who watches goes on watching, and can go on by a token of the new key.
    publish_inside(node, "live:42", &json!({"type": "note", "data": "still here"}));
    assert_eq!(stream.event()["data"], "still here");
    let target = format!("/v1/connections/{}/token", stream.connection());
    assert_eq!(as_bearer(node, &new, "POST", &target, "").status, 204);
    guarded.assert_silent([old.as_str(), new.as_str()]);
    assert!(!node.log().join("\n").contains(NEW));
}

#[test]
fn frontend_without_tokens_changes_streams_that_have_them() {
    let guarded = Guarded::start(&[]);
    let dispatcher = format!("http://{}", guarded.node.internal);
    let open = Node::role("frontend", &["--cores", "1", "--dispatchers", &dispatcher, "--kv", "redis://127.0.0.1:1"]);
    let all = token("ana", &["live:*"], &[]);
    let stream = guarded.node.stream(&format!("topic=live:42&access_token={all}"));
    let target = format!("/v1/connections/{}", stream.connection());
    support::becomes("the nodes to know each other", 2, || open.info()["nodes"].as_array().map_or(0, Vec::len));
    for (what, body) in [("topics", r#"{"add":["chat:8"]}"#), ("topics", r#"{"remove":["live:42"]}"#), ("token", "{}")]
    {
        let detail = open.post(&format!("{target}/{what}"), body).problem(403);
        assert!(detail.contains("token"), "{what} {body}: {detail}");
    }
    // Nor does what a node hands on go beyond the rights that it hands on with it.
    let rights = json!({"member": "ana", "expires_at_ms": u64::MAX, "subscribe": ["live:*"], "publish": []});
    let change =
        json!({"connection": stream.connection(), "rights": rights, "topics": {"add": ["chat:8"], "remove": []}});
    let inside = Client::connect(guarded.node.internal).request(
        "POST",
        "/v1/internal/connections",
        &[],
        change.to_string().as_bytes(),
    );
    inside.problem(403);
    assert_eq!(topics(&guarded.node, &stream, &all), ["live:42"]);
}

#[test]
fn bad_key_file_served_with() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let database = format!("sqlite:{}", folder.path().join("db").display());
    for (content, says) in [("hunter2hunter2", "guessed"), ("{\"keys\":[]}", "key"), ("-----BEGIN X-----", "PEM")] {
        std::fs::write(&key, content).unwrap();
        let path = key.to_str().unwrap();
        let flags = ["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--cores", "1", "--db", &database];
        let mut child = support::node::program()
            .args(flags)
            .args(["--auth", "jwt", "--jwt-key-file", path])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + support::DEADLINE;
        while child.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > deadline {
                child.kill().unwrap();
                panic!("it serves with {content:?} for a key");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(&format!("--jwt-key-file {path:?}")) && message.contains(says), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn tokens_asked_for_without_auth() {
    let node = Node::start();
    let mut stream = node.stream("topic=room:42&access_token=junk&member=anyone");
    let answer = send(
        &node,
        "POST",
        "/v1/topics/room:42/events",
        &[("Authorization", "Basic x"), ("Cookie", "sid=x")],
        br#"{"type":"comment","data":1}"#,
    );
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(stream.event()["data"], 1);
    // A page that renews its token need not know that there are none.
    let target = format!("/v1/connections/{}/token", stream.connection());
    assert_eq!(node.post(&target, r#"{"token":"junk"}"#).status, 204);
    node.post("/v1/connections/gone/token", "").problem(412);
    assert_eq!(node.get(&target).header("allow"), Some("POST, OPTIONS"));
}

#[test]
fn one_secret_opens_what_another_guards() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster");
    let secret = "the-cluster-has-a-secret-of-its-own-that-is-long";
    std::fs::write(&file, secret).unwrap();
    let guarded = Guarded::start(&["--cluster-secret-file", file.to_str().unwrap()]);
    let node = &guarded.node;
    let inside = |bearer: &str| {
        let bearer = format!("Bearer {bearer}");
        let target = "/v1/topics/live:42/events";
        let headers = [("Authorization", bearer.as_str())];
        Client::connect(node.internal).request("POST", target, &headers, br#"{"type":"receipt"}"#)
    };
    assert_eq!(inside(secret).status, 202);
    let answer = inside(&token("ana", &["*"], &["*"]));
    answer.problem(401);
    assert_eq!(answer.header("www-authenticate"), Some(BEARER));
    as_bearer(node, secret, "POST", "/v1/topics/live:42/events", r#"{"type":"note"}"#).problem(401);
    // Nor does what signs tokens open anything.
    as_bearer(node, SECRET, "GET", "/v1/events", "").problem(401);
}
