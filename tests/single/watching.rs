//! What a node shows once a second to those who look after it, the page that shows it, and who may see it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Client, request};
use crate::support::node::{Node, program};
use crate::support::sse::Stream;
use crate::support::{becomes, eventually};

const SECRET: &str = "a-secret-of-the-cluster-0123456789abcdef";

/// A node with a secret, and the folder of its file.
fn with_secret() -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    (Node::with(&["--cores", "2", "--cluster-secret-file", file.to_str().unwrap()]), folder)
}

#[test]
fn snapshot_shows_another_node_than_there_is() {
    let node = Node::start();
    let _streams = node.stream_on_each_shard("topic=live:42&topic=chat:7");
    let mut watch = node.watch();
    assert_eq!(watch.head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let first = watch.snapshot();
    let (id, dc) = (node.info()["node"].as_str().unwrap().to_owned(), &*first.data_center);
    assert_eq!((first.node.as_str(), dc, first.shards.len(), first.nodes.len()), (id.as_str(), "local", 2, 1));
    assert!(first.shards.iter().all(|shard| shard.streams >= 1 && shard.silent_ms < 30_000), "{:?}", first.shards);
    assert_eq!(first.connections.now, first.shards.iter().map(|shard| shard.streams).sum::<u64>());
    let own = first.nodes[0].glance.as_ref().expect("a node knows itself");
    assert_eq!((own.connections, &*own.version), (first.connections, env!("CARGO_PKG_VERSION")));
    for number in 0..5 {
        node.publish("live:42", &json!({"type": "note", "data": number}));
    }
    let viewers = first.connections.now;
    let total = watch.snapshot_with("the deliveries", |snapshot| {
        let total = snapshot.deliveries.iter().map(|figure| figure.total).sum::<u64>();
        (total >= 5 * viewers).then_some(total)
    });
    assert!(total >= 5 * viewers, "{total}");
    let hot = watch.snapshot_with("the topic", |snapshot| {
        snapshot.topics.iter().find(|hot| hot.topic == "live:42" && hot.deliveries_per_second > 0.0).cloned()
    });
    assert_eq!(hot.viewers, viewers);
    assert!(hot.events_per_second > 0.0 && hot.deliveries_per_second >= hot.events_per_second, "{hot:?}");
    let spread = watch.snapshot_with("the times", |snapshot| snapshot.delivery.first().cloned());
    assert!(spread.name == "delivery" && spread.count() > 0, "{spread:?}");
}

#[test]
fn refusals_are_not_seen() {
    let node = Node::with(&["--cores", "1", "--max-publishes", "1"]);
    let mut watch = node.watch();
    let many = (0..200).find(|_| node.post("/v1/topics/live:1/events", r#"{"type":"note"}"#).status == 429);
    assert!(many.is_some(), "nothing was refused");
    let refused = watch.snapshot_with("the refusal", |snapshot| snapshot.refused.first().cloned());
    let total = node.metric("fanfare_refused_total", &format!("reason=\"{}\"", refused.name));
    assert!(refused.total > 0 && refused.total <= total, "{refused:?} of {total}");
}

#[test]
fn whoever_has_no_secret_sees_the_node() {
    let (node, _folder) = with_secret();
    let get = |path: &str, headers: &[(&str, &str)]| Client::connect(node.internal).request("GET", path, headers, b"");
    let page = get("/", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert!(!page.text().contains(&node.info()["node"].as_str().unwrap()[..6]), "the page by itself shows nothing");
    for path in ["/v1/watch", "/v1/settings", "/v1/internal/glance"] {
        let method = if path.contains("internal") { "POST" } else { "GET" };
        for headers in [&[][..], &[("Authorization", "Bearer wrong")]] {
            let answer = Client::connect(node.internal).request(method, path, headers, b"");
            assert!(answer.problem(401).contains("secret"), "{path}");
        }
    }
    assert!(node.watch().snapshot().at > 0);
    // A page of another origin may not even ask.
    let headers = [("Authorization", &*format!("Bearer {SECRET}")), ("Origin", "http://evil.example")];
    assert_eq!(get("/v1/watch", &headers).status, 403);
}

#[test]
fn settings_are_shown_with_their_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("secret"), folder.path().join("fanfare.toml"));
    std::fs::write(&file, SECRET).unwrap();
    std::fs::write(&config, "max_topics = 50\nkv = \"redis://user:hush@127.0.0.1:1\"\n").unwrap();
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let dispatchers = ["--dispatchers", "http://127.0.0.1:1"];
    let flags = ["--cluster-secret-file", file, "--config", config, "--cores", "1"];
    let flags = [&dispatchers[..], &flags].concat();
    let node = Node::role("frontend", &flags);
    let shown = node.internal_json("/v1/settings");
    assert_eq!(shown["role"], "frontend");
    let text = shown.to_string();
    assert!(!text.contains(SECRET) && !text.contains("hush"), "{text}");
    let rows = shown["settings"].as_array().unwrap();
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} in {text}"));
    assert_eq!(of("max_topics")["value"], "\"50\"");
    assert!(of("max_topics")["from"].as_str().unwrap().ends_with("fanfare.toml line 1"), "{}", of("max_topics"));
    assert_eq!((&of("cores")["from"], &of("tls_cert")["value"]), (&json!("flag --cores"), &Value::Null));
    assert_eq!(of("kv")["value"], "\"redis://user:***@127.0.0.1:1\"");
    // They are those of --print-config.
    let printed = program().args(["frontend", "--print-config"]).args(flags).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    for row in rows {
        assert!(printed.contains(row["name"].as_str().unwrap()), "{row} is not in {printed}");
    }
}

#[test]
fn settings_that_changed_are_shown_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fanfare.toml");
    std::fs::write(&config, "max_topics = 50\n").unwrap();
    let node = Node::with(&["--cores", "1", "--config", config.to_str().unwrap()]);
    let mut watch = node.watch();
    let before = watch.snapshot().settings;
    std::fs::write(&config, "max_topics = 60\n").unwrap();
    node.signal(Signal::HUP);
    watch.snapshot_with("other settings", |snapshot| (snapshot.settings != before).then_some(()));
    let shown = node.internal_json("/v1/settings");
    let mut rows = shown["settings"].as_array().unwrap().iter();
    assert_eq!(rows.find(|row| row["name"] == "max_topics").unwrap()["value"], "\"60\"");
}

#[test]
fn watchers_beyond_measure() {
    let node = Node::start();
    let mut watchers: Vec<Stream> = (0..64).map(|_| node.watch()).collect();
    let detail = Client::connect(node.internal).request("GET", "/v1/watch", &[], b"").problem(503);
    assert!(detail.contains("64 watch this node already"), "{detail}");
    assert!(watchers.iter_mut().all(|watch| watch.snapshot().at > 0), "all of them are served");
    // Whoever goes makes room.
    watchers.pop();
    eventually("room for another one", || {
        let mut client = Client::connect(node.internal);
        client.send(request("GET", "/v1/watch", &[], b""));
        match client.answer_to_head().status {
            200 => Ok(()),
            other => Err(other),
        }
    });
    drop(watchers);
    becomes("nobody to be served", true, || node.requests_open() <= 1);
    let head = Client::connect(node.internal).request("HEAD", "/v1/watch", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn watcher_holds_up_a_drain() {
    // With nobody to be told, a drain is over at once, however long it may take.
    let mut node = Node::with(&["--cores", "2", "--drain", "10m"]);
    let mut watch = node.watch();
    watch.snapshot();
    node.signal(Signal::TERM);
    assert!(node.ended().success());
}
