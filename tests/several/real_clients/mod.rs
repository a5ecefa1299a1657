//! Clients that nobody here wrote: a browser, the usual SSE packages, the usual load generators. Each test is named after
//! what it prevents. `scripts/test` installs what they need.

mod between;
mod matrix;
mod secure;

use crate::support;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::setup::{start, url};
use serde_json::{Value, json};
use support::eventually;
use support::load::{Load, What};
use support::mercure;
use support::node::Node;
use support::sse::Stream;
use support::token::Guarded;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a client in `folder`. Gives what it printed, if it ended well.
#[track_caller]
fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
    let mut stdout = child.stdout.take().unwrap();
    let printing = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    let status = child.wait().unwrap();
    let printed = printing.join().unwrap().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}\n{printed}\n{complaints}");
    printed
}

/// What must have been installed.
#[track_caller]
fn needs(path: &str) -> PathBuf {
    let path = here(path);
    assert!(path.exists(), "{} is missing; scripts/test installs it", path.display());
    path
}

/// A node with these settings, which lie in the folder.
fn configured(settings: &str) -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fanfare.toml");
    std::fs::write(&config, settings).unwrap();
    (Node::with(&["--cores", "2", "--config", config.to_str().unwrap()]), folder)
}

fn base(node: &Node) -> String {
    format!("http://{}", node.public)
}

/// Runs a script of `tests/browser` against a node of its own with these settings; its screenshots stay in `target/screenshots`.
#[track_caller]
fn in_chromium(script: &str, settings: &str, says: &str, last_screenshot: &str) {
    needs("tests/browser/node_modules/playwright-core");
    let (node, _folder) = configured(settings);
    let screenshots = here("target/screenshots");
    let printed = run(&here("tests/browser"), "node", &[script, &base(&node), screenshots.to_str().unwrap()]);
    assert!(printed.contains(says), "{printed}");
    let last = screenshots.join(last_screenshot);
    eventually("screenshots", || if last.exists() { Ok(()) } else { Err("none".to_owned()) });
}

#[test]
fn demo_page_broken_in_chromium() {
    in_chromium("demo_page.mjs", "", "ok   a like in one tab is seen in the other", "crowd.png");
}

#[test]
fn what_people_say_is_not_seen_in_chromium() {
    in_chromium("talk_page.mjs", "", "ok   comments are there after a reload, and none twice", "simulated-crowd.png");
}

#[test]
fn comments_too_many_to_be_read_in_chromium() {
    let says = "ok   of too many comments both are shown the same few, and told of the others";
    in_chromium("many_comments.mjs", "[events.comment]\npace = \"10/s\"\n", says, "phone-top-comments.png");
}

/// Runs the script about a node's page against a dispatcher with a frontend beside it; with a secret, if there is one.
#[track_caller]
fn operators_page(secret: &str) {
    needs("tests/browser/node_modules/playwright-core");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let flags = ["--trace-sample", "1", "--cluster-secret-file", file.to_str().unwrap()];
    let flags = if secret.is_empty() { &flags[..2] } else { &flags[..] };
    let node = Node::with(&[&["--cores", "2"], flags].concat());
    let frontend = start("frontend", &[&node], flags);
    let _streams = [node.stream("topic=live:42"), frontend.stream("topic=live:42")];
    // The topic stays hot for as long as the page is looked at.
    let load = Load::start(What::Likes, vec![node.public], &["42".to_owned()]);
    let (internal, pid) = (url(&node), frontend.pid().to_string());
    let id = frontend.internal_json("/v1/node")["node"].as_str().expect("an id").to_owned();
    let screenshots = here("target/screenshots");
    let screenshots = screenshots.to_str().unwrap();
    let printed =
        run(&here("tests/browser"), "node", &["operators_page.mjs", &internal, screenshots, secret, &pid, &id]);
    load.stop();
    assert!(printed.contains("ok   a stopped frontend is late, and is well once it goes on"), "{printed}");
    assert_eq!(printed.contains("ok   nothing is shown without the secret"), !secret.is_empty(), "{printed}");
}

#[test]
fn page_of_a_node_broken_in_chromium() {
    operators_page("");
}

#[test]
fn page_of_a_node_shows_it_to_anybody_in_chromium() {
    operators_page("a-secret-of-the-cluster-0123456789abcdef");
}

#[test]
fn browser_that_comes_back_misses_comments() {
    needs("tests/browser/node_modules/playwright-core");
    let (node, _folder) = configured("[events.comment]\nhistory = 50\n");
    let printed = run(&here("tests/browser"), "node", &["resume.mjs", &base(&node)]);
    for way in ["a plain EventSource", "fanfare.js"] {
        assert!(printed.contains(&format!("ok   {way} is told of comments that history forgot")), "{printed}");
    }
}

#[test]
fn npm_eventsource_does_not_understand_the_stream() {
    needs("tests/clients/node_modules/eventsource");
    let node = Node::start();
    let printed = run(&here("tests/clients"), "node", &["eventsource_client.mjs", &base(&node)]);
    assert!(printed.contains("ok, live:7 delivered"), "{printed}");
}

/// Symfony's client library publishes, and a library's `EventSource` receives: by an address and a key, as with Mercure's own hub.
#[test]
fn symfony_publishes_what_no_eventsource_understands() {
    needs("tests/clients/node_modules/eventsource");
    let guarded = Guarded::start(&[]);
    let file = |name: &str, claim: Value| {
        let path = guarded.key_file.with_file_name(name);
        std::fs::write(&path, mercure::pass(&claim)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let publisher = file("publisher", json!({"publish": ["*"]}));
    let subscriber = file("subscriber", json!({"subscribe": ["https://example.com/books{/id}"]}));
    let hub = base(&guarded.node);
    let topics = ["https://example.com/books/1", "https://example.com/books"];
    let url = hub.clone() + &mercure::target(&topics, &[]);
    let arguments = [
        "mercure_eventsource.mjs",
        "3",
        &subscriber,
        &url,
        "php",
        "symfony_mercure.php",
        &(hub + mercure::HUB),
        &publisher,
    ];
    let printed = run(&here("tests/clients"), "node", &arguments);
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (answers, mut shown): (Vec<Value>, Vec<Value>) =
        lines.into_iter().partition(|line| line.get("answered").is_some());
    let ids: Vec<&str> = answers[0]["answered"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[2]), (3, "urn:book:2"), "{printed}");
    let id = |one: &Value| one["id"].as_str().and_then(|id| id.split('#').next()).unwrap().to_owned();
    // Two topics do not wait for each other.
    shown.sort_by_key(|one| ids.iter().position(|known| *known == id(one)));
    let shown: Vec<(&str, &str, String)> =
        shown.iter().map(|one| (one["name"].as_str().unwrap(), one["data"].as_str().unwrap(), id(one))).collect();
    let book = "{\n    \"status\": \"Out of stock\"\n}";
    let wanted = [("message", book, ids[0]), ("message", "private", ids[1]), ("book", "named \u{e9}", ids[2])];
    assert_eq!(shown, wanted.map(|(name, data, id)| (name, data, id.to_owned())));
}

#[test]
fn python_sseclient_does_not_understand_the_stream() {
    let python = needs("target/python/bin/python3");
    let node = Node::start();
    let printed = run(&here("tests/clients"), python.to_str().unwrap(), &["sse_client.py", &base(&node)]);
    assert!(printed.contains("ok, live:7 delivered"), "{printed}");
}

/// The number behind `name` in what wrk printed, such as `Requests/sec:`.
fn wrk_requests(printed: &str) -> u64 {
    let line = printed.lines().find(|line| line.contains(" requests in ")).expect("wrk sums up");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Adds up the likes that a stream tells of until there are `wanted`.
#[track_caller]
fn counts_to(stream: &mut Stream, wanted: u64) {
    let mut counted = 0;
    while counted < wanted {
        counted += stream.event()["count"].as_u64().expect("likes have a count");
    }
    assert_eq!(counted, wanted);
}

#[test]
fn wrk_gets_an_error() {
    let node = Node::start();
    for (script, target) in [("publish.lua", "/v1/topics/live:wrk/events"), ("likes.lua", "/v1/videos/wrk/likes")] {
        let url = base(&node) + target;
        let printed =
            run(&here("tests/clients"), "wrk", &["-t2", "-c64", "-d3s", "--timeout", "30s", "-s", script, &url]);
        assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{script}: {printed}");
        assert!(wrk_requests(&printed) > 100, "{printed}");
    }
    // wrk leaves without waiting for its last answers, so there may be more likes than it counted, never fewer.
    let stored = node.get("/v1/videos/wrk/likes").json()["likes"].as_u64().unwrap();
    assert!(stored >= 100, "{stored}");
    assert_eq!(node.metric("fanfare_rejected_total", ""), 0);
}

#[test]
fn h2load_gets_an_error_or_a_viewer_counts_otherwise() {
    const REQUESTS: u64 = 20_000;
    let node = Node::start();
    let folder = tempfile::tempdir().unwrap();
    let likes = r#"{"member":"h2load","reaction":"like"}"#;
    let event = r#"{"type":"like","key":"like","data":{"likes":1}}"#;
    support::described::note_published(event.as_bytes());
    let load = |body: &str, urls: &[String]| {
        let (data, list) = (folder.path().join("body"), folder.path().join("urls"));
        std::fs::write(&data, body).unwrap();
        std::fs::write(&list, urls.join("\n") + "\n").unwrap();
        let number = REQUESTS.to_string();
        let common = ["--h1", "-n", &number, "-c", "64", "-H", "content-type: application/json"];
        let files = ["-d", data.to_str().unwrap(), "-i", list.to_str().unwrap()];
        let printed = run(folder.path(), "h2load", &[&common[..], &files].concat());
        assert!(printed.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{printed}");
    };
    let mut streams = node.stream_on_each_shard("topic=live:h2load");
    load(event, &[base(&node) + "/v1/topics/live:h2load/events"]);
    streams.iter_mut().for_each(|stream| counts_to(stream, REQUESTS));
    // The first like of one member is new, all others are repeats.
    load(likes, &[base(&node) + "/v1/videos/one/likes"]);
    assert_eq!(node.get("/v1/videos/one/likes").json()["likes"], json!(1));
    let many: Vec<String> = (0..100).map(|video| format!("{}/v1/videos/many-{video}/likes", base(&node))).collect();
    load(likes, &many);
    assert_eq!(node.get("/v1/videos/many-99/likes").json()["likes"], json!(1));
    assert_eq!(node.metric("fanfare_rejected_total", ""), 0);
    assert!(node.metric("fanfare_requests_total", "") >= 3 * REQUESTS, "all of them reached this node");
}
