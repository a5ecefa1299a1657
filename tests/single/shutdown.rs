//! How a node ends, and how it refuses to start. Each test is named after what it prevents.

use crate::support;
use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use support::http::{Client, request};
use support::node::{Node, program};
use support::sse::Stream;
use support::{eventually, reaction};

fn ready(client: &mut Client) -> u16 {
    client.request("GET", "/health/ready", &[], b"").status
}

/// Reads a stream to its end, which must be a `bye` for this reason with a `retry:` of its own.
#[track_caller]
fn said_bye(stream: &mut Stream, reason: &str) -> u64 {
    let bye = stream.next().expect("bye comes before the end");
    assert_eq!(bye.name, "bye", "{bye:?}");
    let bye = bye.json();
    assert_eq!(bye["reason"], reason);
    let retry = bye["retry_ms"].as_u64().expect("a number");
    assert!((1000..=3000).contains(&retry), "{retry}");
    assert_eq!(stream.messages.retries.last(), Some(&retry));
    assert_eq!(stream.next(), None, "nothing comes after bye");
    retry
}

#[test]
fn streams_cut_without_a_word() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::with(&["--cores", "2", "--drain", "2s"]);
        let mut streams = node.stream_on_each_shard("topic=live:1");
        streams.extend((0..10).map(|_| node.stream("topic=live:2")));
        streams.push(Stream::with_request(node.public, b"GET /v1/events?topic=live:1 HTTP/1.0\r\n\r\n"));
        streams.last_mut().unwrap().wait_connected();
        let deadly: std::collections::HashSet<u64> =
            streams.iter().flat_map(|stream| stream.messages.retries.iter().copied()).collect();
        assert!(deadly.len() > 1, "nor do they if the node dies without a word: {deadly:?}");
        node.signal(signal);
        let retries: std::collections::HashSet<u64> =
            streams.iter_mut().map(|stream| said_bye(stream, "drain")).collect();
        assert!(retries.len() > 1, "clients do not all come back in the same moment");
        assert_eq!(node.ended().code(), Some(0));
        node.until_logged(&["\"drained\""]);
    }
}

#[test]
fn viewers_of_a_node_that_is_alone_wait_for_long() {
    let mut node = Node::with(&["--cores", "2"]);
    let mut streams: Vec<Stream> = (0..50).map(|_| node.stream("topic=live:1")).collect();
    // One that has asked nothing yet is not waited for beyond the drain.
    let fresh = Client::connect(node.public);
    node.signal(Signal::TERM);
    let retries: Vec<u64> = streams.iter_mut().map(|stream| said_bye(stream, "drain")).collect();
    assert_eq!(node.ended().code(), Some(0));
    drop(fresh);
    let told = streams.iter().flat_map(|stream| &stream.messages.retries);
    assert!(told.clone().all(|retry| (1000..=2500).contains(retry)), "by connected, and by bye: {retries:?}");
    assert!(retries.iter().collect::<std::collections::HashSet<_>>().len() > 25, "they are spread: {retries:?}");
}

#[test]
fn draining_node_called_ready() {
    // The drain lasts longer than the test looks: a hundred streams end one by one.
    let mut node = Node::with(&["--cores", "2", "--drain", "300s"]);
    let streams: Vec<Stream> = (0..100).map(|_| node.stream("topic=live:1")).collect();
    assert_eq!(ready(&mut Client::connect(node.internal)), 200);
    node.signal(Signal::TERM);
    eventually("readiness to end", || match ready(&mut Client::connect(node.internal)) {
        503 => Ok(()),
        status => Err(status.to_string()),
    });
    let answer = Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    assert!(answer.problem(503).contains("drain"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(Client::connect(node.internal).request("GET", "/health/live", &[], b"").status, 200);
    assert_eq!(node.info()["draining"], true);
    // A new stream is sent elsewhere: a browser in the only way that lets it come back, others by a status.
    let mut browser = Stream::open(node.public, "topic=live:1");
    said_bye(&mut browser, "busy");
    let answer = node.get("/v1/events?topic=live:1");
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    // Nor does a connection that was opened before, or asked for more than one answer, stay for another.
    for (address, target) in
        [(node.public, "/v1/time"), (node.public, "/v1/videos/1/likes"), (node.internal, "/v1/node")]
    {
        let mut client = Client::connect(address);
        let answer = client.request("GET", target, &[], b"");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{target}");
        client.assert_closed();
    }
    let line = json!({"topic": "live:1", "type": "like"}).to_string();
    let mut client = Client::connect(node.public);
    let answer = client.request("POST", "/v1/events", &[], line.as_bytes());
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    client.assert_closed();
    // Who is still connected goes on getting what is published.
    node.publish("live:1", &json!({"type": "note"}));
    let mut streams = streams.into_iter();
    eventually("a stream that goes on", || {
        let mut stream = streams.next_back().expect("one of a hundred is left");
        match stream.next().expect("an event or bye") {
            message if message.name == "message" => Ok(()),
            message => Err(format!("{message:?}")),
        }
    });
    // A second signal ends it at once, with 300 s to go.
    node.signal(Signal::TERM);
    let status = node.ended();
    assert_ne!(status.code(), Some(0), "that was no clean drain");
}

#[test]
fn draining_node_waits_for_who_never_ends() {
    let mut node = Node::with(&["--cores", "2", "--drain", "100ms"]);
    let mut idle = Client::connect(node.public);
    assert_eq!(idle.request("GET", "/v1/time", &[], b"").status, 200);
    let mut half = Client::connect(node.public);
    half.send(&request("POST", "/v1/topics/live:1/events", &[], b"{}")[..20]);
    let lagging = node.stream("topic=live:1");
    for _ in 0..300 {
        node.publish("live:1", &json!({"type": "comment", "data": "x".repeat(8000)}));
    }
    node.signal(Signal::TERM);
    idle.assert_closed();
    assert_eq!(node.ended().code(), Some(0));
    drop((half, lagging));
}

#[test]
fn like_answered_and_dropped_in_a_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::in_folder(folder.path(), &["--cores", "2", "--drain", "1s"]);
    let address = node.public;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut acknowledged = 0;
                let mut client = Client::connect(address);
                for number in 0..1_000_000 {
                    let body = reaction(&format!("member-{thread}-{number}"), "like");
                    let like = request("POST", "/v1/videos/1/likes", &[], body.as_bytes());
                    // The node closes between two requests, or is gone: no answer, no like that counts.
                    if std::io::Write::write_all(&mut client.socket, &like).is_err() {
                        break;
                    }
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.answer())) {
                        Ok(answer) if answer.status == 201 => acknowledged += 1,
                        Ok(answer) => panic!("{answer:?}"),
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        })
        .collect();
    eventually("likes to be stored", || match node.metric("fanfare_likes_stored_total", "") {
        0..100 => Err("few".to_owned()),
        _ => Ok(()),
    });
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
    let acknowledged: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    let stored = node.get("/v1/videos/1/likes").json()["likes"].as_u64().unwrap();
    // One of each thread may be stored whose answer the end of the node cut off.
    assert!((acknowledged..=acknowledged + 4).contains(&stored), "{acknowledged} acknowledged, {stored} stored");
}

fn refused(flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(["all", "--db"])
        .arg(format!("sqlite:{}", folder.path().join("fanfare.db").display()))
        .args(flags)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the process to end", || child.try_wait().unwrap().ok_or("it runs".to_owned()));
    child.wait_with_output().unwrap()
}

#[test]
fn port_in_use_not_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (setting, flags) in [
        ("--listen", ["--listen", &address, "--internal", "127.0.0.1:0"]),
        ("--internal", ["--internal", &address, "--listen", "127.0.0.1:0"]),
    ] {
        let output = refused(&flags);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(setting) && message.contains(&address), "{message}");
        assert!(message.contains("another port"), "it says what would do: {message}");
        assert!(output.stdout.is_empty());
    }
    // Nor do two nodes share one unless both say so.
    let first = Node::with(&["--cores", "2", "--reuse-port"]);
    let address = first.public.to_string();
    assert_eq!(refused(&["--listen", &address, "--internal", "127.0.0.1:0"]).status.code(), Some(2));
    let internal = first.internal.to_string();
    let flags = ["--reuse-port", "--listen", "127.0.0.1:0", "--internal", &internal];
    let output = refused(&flags);
    assert_eq!(output.status.code(), Some(2), "the internal port is never shared");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--internal"));
}

#[test]
fn bad_database_or_core_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite:{}", folder.path().join("no/such/folder/x.db").display());
    let ports = ["--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0"];
    for (setting, value) in [("--db", missing.as_str()), ("--cores", "5000"), ("--cores", "0"), ("--kv", "redis://")] {
        // A second --db is one too many for the helper's own, so that one goes by the environment.
        let output = if setting == "--db" {
            program().arg("all").args(ports).env("FANFARE_DB", value).output().unwrap()
        } else {
            refused(&[&ports[..], &[setting, value]].concat())
        };
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{setting} {value}: {message}");
        assert!(message.to_lowercase().contains(&setting.trim_start_matches('-').to_lowercase()), "{message}");
    }
}

#[test]
fn idle_node_uses_a_processor() {
    let node = Node::start();
    let _stream = node.stream("topic=live:1");
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    let started = std::time::Instant::now();
    // Two seconds of the wall clock, in which a shard that spins would burn some 200 ticks, and two of them 400.
    while started.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = ticks() - before;
    assert!(used < 100, "{used} ticks of processor time in two idle seconds");
}
