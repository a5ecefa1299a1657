//! Hops as spans, for a collector that reads them by OpenTelemetry's own messages, and for some that are out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::setup::Pair;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::{becomes, eventually};

/// A collector, with the spans that it took.
struct Collector {
    child: Child,
    url: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Collector {
        let here = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let python = here("target/python/bin/python3");
        assert!(python.exists(), "{} is missing; scripts/test installs it", python.display());
        let mut command = Command::new(python);
        command.arg(here("tests/clients/collector.py")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let port = lines.next().expect("it says its port").expect("it is a text");
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let taken = Arc::clone(&spans);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                taken.lock().unwrap().push(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Collector { child, url: format!("http://127.0.0.1:{port}"), spans }
    }

    /// What it took of an event, once there are so many of these and what they follow: each node sends its own when it likes.
    fn of(&self, event: &str, wanted: &[(&str, usize)]) -> Vec<Value> {
        eventually("its spans to be taken", || {
            let all = self.spans.lock().unwrap().clone();
            let own: Vec<Value> = all.into_iter().filter(|span| span["attributes"]["fanfare.event"] == event).collect();
            let has = |(name, count): &(&str, usize)| own.iter().filter(|span| span["name"] == *name).count() >= *count;
            if wanted.iter().all(has) && roots(&own).len() == 1 { Ok(own) } else { Err(own) }
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text<'a>(span: &'a Value, field: &str) -> &'a str {
    span[field].as_str().expect("a text")
}

/// Those that hang on none of these.
fn roots(spans: &[Value]) -> Vec<&Value> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
    spans.iter().filter(|span| !ids.contains(text(span, "parent"))).collect()
}

/// Each span is of that trace, has a name of its own, and hangs on another one or on `root`.
#[track_caller]
fn assert_one_tree(spans: &[Value], trace: &str, root: &str) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
    assert_eq!(ids.len(), spans.len(), "each once: {spans:#?}");
    for span in spans {
        assert_eq!(text(span, "trace"), trace);
        assert!(
            span["from_ns"].as_u64() <= span["to_ns"].as_u64() && text(span, "id") != text(span, "parent"),
            "{span:#}"
        );
    }
    let roots = roots(spans);
    assert_eq!(roots.iter().map(|span| text(span, "parent")).collect::<Vec<_>>(), [root], "{roots:#?}");
}

#[test]
fn event_of_two_data_centers_in_several_traces() {
    let collector = Collector::start();
    let pair = Pair::with(&["--trace-sample", "1", "--otlp", &collector.url]);
    let [a, b] = &pair.centers;
    let mut streams = [a, b].map(|center| center.frontend.stream("topic=chat:1"));
    let id = a.all.publish("chat:1", &json!({"type": "message", "data": {}}));
    streams.iter_mut().for_each(|stream| assert_eq!(stream.event()["id"], *id));
    let spans = collector.of(&id, &[("last_write", 2), ("history", 2)]);
    let trace = text(&spans[0], "trace").to_owned();
    assert_eq!((trace.len(), text(&spans[0], "id").len()), (32, 16));
    assert_one_tree(&spans, &trace, "");
    let mut hops: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for span in &spans {
        let of = |name: &str| text(&span["resource"], name).to_owned();
        hops.entry(text(span, "name")).or_default().push(format!(
            "{} {}",
            of("fanfare.role"),
            of("fanfare.data_center")
        ));
        let attributes = &span["attributes"];
        let named = ["fanfare.class", "fanfare.topic_kind", "fanfare.type"].map(|name| text(attributes, name));
        assert_eq!(named, ["every", "chat", "message"]);
        assert_eq!(
            (&*of("service.name"), text(span, "scope"), of("service.instance.id").len()),
            ("fanfare", "fanfare", 13)
        );
    }
    hops.values_mut().for_each(|nodes| nodes.sort());
    let (all, viewers) = ("frontend+dispatcher+backend", "frontend");
    let at = |role: &str, dcs: &[&str]| dcs.iter().map(|dc| format!("{role} {dc}")).collect::<Vec<_>>();
    assert_eq!(hops["read"], at(all, &["a"]));
    assert_eq!(hops["history"], at(all, &["a", "b"]));
    assert_eq!(hops["sent"], at(all, &["a", "a", "b"]), "to a frontend and a peer, and to that one's frontend");
    assert_eq!(hops["taken"], [at(viewers, &["a", "b"]), at(all, &["b"])].concat());
    assert_eq!(hops["last_write"], at(viewers, &["a", "b"]));
    let kinds: BTreeSet<&str> = spans.iter().map(|span| text(span, "kind")).collect();
    let known = ["INTERNAL", "SERVER", "PRODUCER", "CONSUMER"].map(|kind| format!("SPAN_KIND_{kind}"));
    assert_eq!(kinds, known.iter().map(String::as_str).collect());
}

#[test]
fn stored_event_that_leaves_its_publishers_trace() {
    let collector = Collector::start();
    let node = Node::with(&["--cores", "2", "--trace-sample", "0", "--otlp", &collector.url]);
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{parent}-01");
    let headers = [("traceparent", &*traceparent)];
    let mut stream = node.stream("topic=live:7&topic=chat:1");
    for (target, kind, body) in [
        ("/v1/videos/7/likes", "like", json!({"member": "ana"})),
        ("/v1/videos/7/taps", "tap", json!({"member": "ana"})),
        ("/v1/videos/7/comments", "comment", json!({"member": "ana", "text": "Goal!"})),
        ("/v1/conversations/1/messages", "message", json!({"member": "ana", "text": "Hi"})),
    ] {
        let mut body = body;
        body["sent_at"] = json!(1_732_313_131_123u64);
        let answer = Client::connect(node.public).request("POST", target, &headers, body.to_string().as_bytes());
        assert!((200..300).contains(&answer.status), "{target}: {answer:?}");
        let event = std::iter::from_fn(|| Some(stream.event())).find(|event| event["type"] == kind).expect("it comes");
        let spans = collector.of(text(&event, "id"), &[("last_write", 1)]);
        assert_one_tree(&spans, trace, parent);
        let first = spans.iter().find(|span| text(span, "parent") == parent).expect("it was looked for");
        assert_eq!(
            (text(first, "name"), &first["to_ns"]),
            ("published", &json!(1_732_313_131_123_000_000u64)),
            "{kind}"
        );
        assert_eq!(spans.iter().any(|span| span["name"] == "stored"), kind != "tap", "{spans:#?}");
        // What is no time is as if it were not said.
        body["sent_at"] = json!("now");
        let answer = Client::connect(node.public).request("POST", target, &[], body.to_string().as_bytes());
        assert!((200..300).contains(&answer.status), "{target}: {answer:?}");
    }
    becomes("what it took to be counted", true, || taken(&node) >= collector.spans.lock().unwrap().len() as u64);
    // A node that ends sends what it has.
    let before = collector.spans.lock().unwrap().len();
    let body = json!({"type": "score", "data": 1}).to_string();
    let answer = Client::connect(node.public).request("POST", "/v1/topics/chat:1/events", &headers, body.as_bytes());
    assert_eq!(answer.status, 202);
    let mut node = node;
    node.signal(Signal::TERM);
    assert!(node.ended().success());
    becomes("the last spans", true, || collector.spans.lock().unwrap().len() > before);
}

/// Spans that a collector took, as the node counts them.
fn taken(node: &Node) -> u64 {
    let metrics = Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("fanfare_spans_total "));
    line.and_then(|count| count.parse().ok()).expect("a number")
}

/// What does as a collector that is out of order would.
fn broken(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            if answer.is_empty() {
                open.push(stream);
                continue;
            }
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                let header = line.to_ascii_lowercase();
                length = header
                    .strip_prefix("content-length:")
                    .map_or(length, |text| text.trim().parse().expect("a number"));
                line.clear();
            }
            // All of it: what is not read when the connection is closed has the kernel take the answer back.
            let _ = stream.read_exact(&mut vec![0; length]);
            let _ = stream.get_mut().write_all(answer);
        }
    });
    url
}

#[test]
fn collector_out_of_order_that_holds_up_events_or_whose_losses_nobody_counts() {
    const PARTIAL: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n\x0a\x06\x08\x02\x12\x02no";
    let busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let down = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let moved =
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for (answer, reason) in [
        (&busy[..], "busy"),
        (down, "busy"),
        (gone, "refused"),
        (moved, "refused"),
        (PARTIAL, "rejected"),
        (b"SSH-2.0\r\n\r\n", "unreachable"),
    ] {
        let node = Node::with(&["--cores", "1", "--trace-sample", "1", "--otlp", &broken(answer)]);
        let mut stream = node.stream("topic=chat:1");
        let id = node.publish("chat:1", &json!({"type": "message", "data": {}}));
        assert_eq!(stream.event()["id"], *id);
        becomes("lost spans to be counted", true, || {
            node.metric("fanfare_spans_lost_total", &format!("reason=\"{reason}\"")) >= 2
        });
        assert_eq!(taken(&node) > 0, reason == "rejected", "{reason}");
        node.until_logged(&["spans are lost", reason]);
        let told = node.internal_json("/v1/happenings?level=warn")["happenings"].clone();
        assert!(told.as_array().expect("a list").iter().any(|row| row["what"] == "spans"), "{told}");
    }
}

#[test]
fn collector_that_never_answers_holds_up_events_or_the_end() {
    let mut node = Node::with(&["--cores", "1", "--trace-sample", "1", "--drain", "0s", "--otlp", &broken(b"")]);
    let line = "{\"topic\":\"live:1\",\"type\":\"reaction\",\"data\":1}\n";
    // Two spans for each: it is read, and a dispatcher takes it.
    for _ in 0..60 {
        let answer = Client::connect(node.public).request("POST", "/v1/events", &[], line.repeat(100).as_bytes());
        assert_eq!(answer.json()["accepted"], 100);
    }
    becomes("spans that find no room", true, || node.metric("fanfare_spans_lost_total", "reason=\"queue\"") > 0);
    let mut stream = node.stream("topic=live:1");
    let id = node.publish("live:1", &json!({"type": "comment", "data": {}}));
    while stream.event()["id"] != *id {}
    node.signal(Signal::TERM);
    assert!(node.ended().success());
}
