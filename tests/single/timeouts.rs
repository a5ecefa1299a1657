//! What takes too long ends. Each part waits out one of the server's own times, so they do it side by side, in one test:
//! a runner with as many threads as processors would wait for one after the other.

use crate::support;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::becomes;
use support::http::{Client, request};
use support::node::Node;

/// Longer than every time that is waited out here.
const PATIENT: Duration = Duration::from_secs(90);

fn patient(node: &Node) -> Client {
    let client = Client::connect(node.public);
    client.socket.set_read_timeout(Some(PATIENT)).expect("a socket option");
    client
}

/// Waits until `done`, which takes about as long as one of the server's times.
#[track_caller]
fn at_last(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENT, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn a_head_that_never_ends() {
    let node = Node::with(&["--cores", "1"]);
    let mut slow = patient(&node);
    slow.send(b"GET /v1/time HTTP/1.1\r\nX-Slow: ");
    let mut socket = slow.socket.try_clone().expect("a socket");
    // However steadily its bytes come.
    let drip = std::thread::spawn(move || {
        use std::io::Write as _;
        while socket.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let answer = slow.answer();
    answer.problem(408);
    assert_eq!(answer.header("connection"), Some("close"));
    slow.assert_closed();
    assert!(node.metric("fanfare_timeouts_total", "") >= 1);
    drop(slow);
    drip.join().expect("the node closed");
}

fn a_body_of_single_bytes() {
    let node = Node::with(&["--cores", "1"]);
    let body = json!({"member": "ana", "pad": "x".repeat(2000)}).to_string();
    let whole = request("POST", "/v1/videos/1/likes", &[], body.as_bytes());
    let mut chunked =
        b"POST /v1/videos/1/likes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n".to_vec();
    chunked.resize(chunked.len() + 4000, b' ');
    let mut line = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n".to_vec();
    line.resize(line.len() + 4000, b' ');
    // One that sends a whole line now and then goes on.
    let mut lines = patient(&node);
    lines.send(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let clients: Vec<_> = [whole, chunked, line]
        .into_iter()
        .map(|bytes| {
            let mut client = patient(&node);
            std::thread::spawn(move || {
                let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
                client.send(&bytes[..head]);
                for byte in &bytes[head..] {
                    client.send_unless_closed([*byte]);
                    client.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
                    match client.socket.peek(&mut [0]) {
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        _ => break,
                    }
                }
                client.answer().problem(408);
            })
        })
        .collect();
    let event = "{\"topic\":\"live:1\",\"type\":\"note\"}\n";
    for _ in 0..10 {
        lines.send(format!("{:x}\r\n{event}\r\n", event.len()));
        std::thread::sleep(Duration::from_secs(5));
    }
    lines.send(b"0\r\n\r\n");
    let answer = lines.answer();
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(10)), "{answer:?}");
    for client in clients {
        client.join().expect("it was told that it is late");
    }
}

fn a_silent_stream_is_taken_for_a_dead_one() {
    let node = Node::with(&["--cores", "1"]);
    let mut stream = node.stream("topic=room:1");
    stream.socket.set_read_timeout(Some(PATIENT)).expect("a socket option");
    let mut bytes = [0; 256];
    for _ in 0..2 {
        let begun = Instant::now();
        let count = stream.socket.read(&mut bytes).expect("a comment");
        assert_eq!(&bytes[..count], b"2\r\n:\n\r\n", "{:?}", String::from_utf8_lossy(&bytes[..count]));
        // The promise of docs/http.md; a timing, but one of seconds.
        assert!(begun.elapsed() < Duration::from_secs(25 + 5), "{:?}", begun.elapsed());
    }
}

fn a_client_that_reads_nothing_stays() {
    let node = Node::with(&["--cores", "1"]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.connect(&node.public.into()).expect("the node accepts");
    let mut lazy = Client::from_socket(TcpStream::from(socket));
    lazy.send(request("GET", "/v1/events?topic=live:1", &[], b""));
    assert_eq!(lazy.answer_to_head().status, 200);
    becomes("a stream", [1, 1, 1], || node.counts());
    let data = "x".repeat(16_000);
    for _ in 0..40 {
        node.publish("live:1", &json!({"type": "comment", "data": data}));
    }
    becomes("streams that lag", 1, || node.metric("fanfare_connections", "kind=\"lagging\""));
    at_last("it is cut", || node.counts()[0] == 0);
    // By the server's time, or by the kernel's, which is as long: `TCP_USER_TIMEOUT`.
    let ended = |reason| node.metric("fanfare_disconnects_total", reason);
    assert_eq!(ended("reason=\"stalled\"") + ended("reason=\"client\""), 1);
    assert!(node.metric("fanfare_dropped_total", "reason=\"closed\"") > 0);
}

fn a_stream_whose_past_finds_no_memory_stands_still() {
    // A page of history takes more.
    let node = Node::with(&["--cores", "1", "--max-backlog", "64KiB"]);
    node.publish("chat:1", &json!({"type": "comment", "data": {"n": 1}}));
    let mut client = patient(&node);
    client.send(request("GET", "/v1/events?topic=chat:1&from=earliest", &[], b""));
    assert_eq!(client.answer_to_head().status, 200);
    let (begun, mut rest, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    while let count @ 1.. = client.socket.read(&mut buffer).expect("it goes on or ends") {
        rest.extend_from_slice(&buffer[..count]);
        assert!(begun.elapsed() < PATIENT, "it has signs of life alone");
    }
    let rest = String::from_utf8(rest).expect("a stream is UTF-8");
    assert!(rest.contains("event: bye\ndata: {\"reason\":\"backlog\"") && rest.contains("\nretry: "), "{rest}");
    assert_eq!(node.metric("fanfare_disconnects_total", "reason=\"budget\""), 1);
}

fn ip(words: &str) -> bool {
    let output = Command::new("ip").args(words.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

/// A namespace with one end of a cable of its own; both go when this does.
struct Elsewhere(String);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.0));
    }
}

fn a_client_that_vanished_stays() {
    let number = std::process::id() % 250;
    let (space, here, there) = (format!("fanfare{number}"), format!("ffh{number}"), format!("fft{number}"));
    if !ip(&format!("netns add {space}")) {
        // Only root may, and not in every container.
        assert!(std::env::var_os("FANFARE_TEST_NETNS").is_none(), "no network namespace can be made");
        eprintln!("skipped: no network namespace can be made here");
        return;
    }
    let elsewhere = Elsewhere(space.clone());
    let net = format!("10.213.{number}");
    for words in [
        format!("link add {here} type veth peer name {there} netns {space}"),
        format!("address add {net}.1/24 dev {here}"),
        format!("link set {here} up"),
        format!("-n {space} address add {net}.2/24 dev {there}"),
        format!("-n {space} link set {there} up"),
    ] {
        assert!(ip(&words), "ip {words}");
    }
    let node = Node::with(&["--cores", "1", "--listen", &format!("{net}.1:0")]);
    let mut client = Command::new("ip")
        .args(["netns", "exec", &space, "curl", "-sN", &format!("http://{}/v1/events?topic=live:1", node.public)])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("curl is there");
    becomes("a stream", [1, 1, 1], || node.counts());
    // The cable is pulled: nobody says goodbye.
    assert!(ip(&format!("-n {} link set {there} down", elsewhere.0)));
    let begun = Instant::now();
    at_last("it is gone", || node.counts()[0] == 0);
    assert!(begun.elapsed() < Duration::from_secs(55 + 5), "{:?}", begun.elapsed());
    assert_eq!(node.metric("fanfare_disconnects_total", "reason=\"client\""), 1);
    client.kill().expect("it is ours");
    client.wait().expect("it is ours");
}

#[test]
fn what_takes_too_long_ends() {
    let parts: [(&str, fn()); 6] = [
        ("a head that never ends", a_head_that_never_ends),
        ("a body of single bytes", a_body_of_single_bytes),
        ("a silent stream", a_silent_stream_is_taken_for_a_dead_one),
        ("a client that reads nothing", a_client_that_reads_nothing_stays),
        ("a client that vanished", a_client_that_vanished_stays),
        ("a past without memory", a_stream_whose_past_finds_no_memory_stands_still),
    ];
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let started: Vec<_> = parts.into_iter().map(|(name, part)| (name, scope.spawn(part))).collect();
        started.into_iter().filter_map(|(name, part)| part.join().err().map(|_| name)).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}
