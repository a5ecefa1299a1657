//! Clients that are broken, slow or ill-willed. Each test is named after what it prevents.

use crate::support;
use std::time::Duration;

use serde_json::json;
use support::http::{Client, request};
use support::node::Node;
use support::sse::Stream;
use support::{becomes, reaction};

const TIME: &[u8] = b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asserts that the node serves others as if nothing had been, and keeps nothing of who went.
#[track_caller]
fn unharmed(node: &mut Node) {
    assert_eq!(node.get("/v1/time").status, 200);
    // The one that asks is open itself.
    becomes("connections that are no streams", 1, || node.requests_open());
    assert!(node.runs());
    let errors: Vec<String> = node.log().into_iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn head_in_single_bytes_refused() {
    let mut node = Node::start();
    let mut client = Client::connect(node.public);
    let body = reaction("ana", "like");
    for byte in request("POST", "/v1/videos/42/likes", &[("X-Other", "value")], body.as_bytes()) {
        client.send([byte]);
    }
    assert_eq!(client.answer().json(), json!({"likes": 1}));
    for byte in b"GET /v1/events?topic=live:42 HTTP/1.1\r\nHost: localhost\r\n\r\n" {
        client.send([*byte]);
    }
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    node.publish("live:42", &json!({"type": "note"}));
    assert_eq!(stream.event()["type"], "note");
    drop(stream);
    unharmed(&mut node);
}

#[test]
fn huge_head_kept_in_memory() {
    let mut node = Node::start();
    let before = node.rss_kib();
    let fills: [(&str, Vec<u8>); 3] = [
        ("one header", [b"GET /v1/time HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("the target", [b"GET /".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("headers", [b"GET /v1/time HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(200_000)].concat()),
    ];
    for (what, bytes) in &fills {
        let clients: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = Client::connect(node.public);
                client.send_unless_closed(bytes);
                client
            })
            .collect();
        for mut client in clients {
            let answer = client.answer();
            assert_eq!(answer.status, 431, "{what}: {answer:?}");
            answer.problem(431);
            client.finish();
            client.assert_closed();
        }
    }
    let grown = node.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    // 200 headers fit the bytes, and are too many.
    let mut client = Client::connect(node.public);
    client.send(
        [b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n".to_vec(), b"X: y\r\n".repeat(200), b"\r\n".to_vec()].concat(),
    );
    client.answer().problem(431);
    drop(client);
    unharmed(&mut node);
}

#[test]
fn bad_chunk_guessed_at() {
    let mut node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let size = format!("5;{}\r\n", "x".repeat(5000));
    for chunks in [
        "zz\r\n{}\r\n",
        "-1\r\n",
        "5\r\nabcdefgh\r\n",
        "\r\n",
        "ffffffffffffffffff\r\n",
        "2 2\r\n{}\r\n",
        "2;\r\n{}\r\n",
        "2 \r\n{}\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA\u{a0}: b\r\n\r\n",
        "0\r\n\n",
        &size,
    ] {
        for target in ["/v1/events", "/v1/topics/live:1/events"] {
            let mut client = Client::connect(node.public);
            client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
            client.send_unless_closed(chunks);
            client.send_unless_closed(TIME);
            let answer = client.answer();
            assert_eq!(answer.status, 400, "{chunks:?} to {target}");
            answer.problem(400);
            client.finish();
            client.assert_closed();
        }
    }
    // Extensions and trailers are passed over.
    let mut client = Client::connect(node.public);
    client.send(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(b"21;a=\"b\"\r\n{\"topic\":\"live:1\",\"type\":\"note\"}\n\r\n0\r\nX-Trailer: y\r\n\r\n");
    client.send(TIME);
    assert_eq!(client.answer().json()["accepted"], 1);
    assert_eq!(client.answer().status, 200);
    assert_eq!(stream.event()["type"], "note");
    drop((client, stream));
    unharmed(&mut node);
}

#[test]
fn length_told_in_two_ways_smuggles_a_request() {
    let mut node = Node::start();
    for (headers, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: 18446744073709551616\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: \u{a0}5\r\n", 400),
        ("Content-Length: 5\u{85}\r\n", 400),
        ("Transfer-Encoding: \u{a0}chunked\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("X: y\nContent-Length: 5\r\n", 400),
        ("X: y\r\n Content-Length: 5\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("Host: other\r\n", 400),
        ("Expect: tea\r\n", 417),
    ] {
        let mut client = Client::connect(node.public);
        client.send(format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        client.send_unless_closed(TIME);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{headers:?}");
        answer.problem(status);
        client.finish();
        client.assert_closed();
    }
    unharmed(&mut node);
}

#[test]
fn body_shorter_than_it_says_published() {
    let mut node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let body = r#"{"type":"half"}"#;
    for head in [
        "POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
        "POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
    ] {
        let mut client = Client::connect(node.public);
        client.send(head);
        client.send(body);
        client.finish();
        // Nobody is there to read an answer to half a request; an error would do, a 2xx would be a lie.
        while client.read_more() {}
        let (_, answer) = client.into_parts();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let id = node.publish("live:1", &json!({"type": "whole"}));
    assert_eq!(stream.event()["id"], json!(id));
    drop(stream);
    unharmed(&mut node);
}

#[test]
fn body_longer_than_it_says_swallowed() {
    let mut node = Node::start();
    let mut client = Client::connect(node.public);
    let body = reaction("ana", "like");
    let mut bytes = request("POST", "/v1/videos/1/likes", &[], body.as_bytes());
    bytes.extend_from_slice(TIME);
    client.send(bytes);
    assert_eq!(client.answer().status, 201);
    assert!(client.answer().json()["now"].is_u64(), "what follows is the next request");
    client.send(request("POST", "/v1/videos/1/likes", &[], body.as_bytes()));
    client.send("surplus\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.answer().problem(400);
    client.finish();
    client.assert_closed();
    drop(client);
    unharmed(&mut node);
}

#[test]
fn noise_breaks_a_shard() {
    let mut node = Node::start();
    // A fixed generator (Knuth's constants), so that a failure can be repeated.
    let mut state = 42_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect()
    };
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let zeros = vec![0; 100_000];
    let mut inputs = vec![tls, http2, zeros, b"\r\n".repeat(50_000), b"\n".to_vec(), b"GET\r\n\r\n".to_vec()];
    inputs.extend((0..100).map(|round| noise(round * 100)));
    inputs.extend((0..50).map(|round| {
        [b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n".to_vec(), noise(round * 100)]
            .concat()
    }));
    for address in [node.public, node.internal] {
        for input in &inputs {
            let mut client = Client::connect(address);
            client.send_unless_closed(input);
            let _ = client.socket.shutdown(std::net::Shutdown::Write);
            let mut bytes = Vec::new();
            // It may be reset, since what was sent after the error is not read.
            let _ = std::io::Read::read_to_end(&mut client.socket, &mut bytes);
            assert!(
                bytes.is_empty()
                    || bytes.starts_with(b"HTTP/1.1 4")
                    || bytes.starts_with(b"HTTP/1.1 505")
                    || bytes.starts_with(b"HTTP/1.1 202"),
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    unharmed(&mut node);
}

#[test]
fn pipelined_requests_answered_out_of_order() {
    let mut node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let mut client = Client::connect(node.public);
    let mut bytes = Vec::new();
    for number in 0..500 {
        match number % 5 {
            // This answer comes from the database, later than the others would.
            0 => bytes.extend(request(
                "POST",
                "/v1/videos/1/likes",
                &[],
                reaction(&format!("m{number}"), "like").as_bytes(),
            )),
            1 => bytes.extend(request("GET", "/v1/videos/1/likes", &[], b"")),
            2 => bytes.extend(request(
                "POST",
                "/v1/topics/live:1/events",
                &[],
                format!(r#"{{"type":"n","id":"{number}"}}"#).as_bytes(),
            )),
            3 => bytes.extend(request("GET", "/nothing", &[], b"")),
            _ => bytes.extend(request("POST", "/v1/events", &[], b"{\"topic\":\"live:1\",\"type\":\"n\"}\n")),
        }
    }
    client.send(bytes);
    for number in 0..500 {
        let answer = client.answer();
        match number % 5 {
            0 => assert_eq!((answer.status, answer.json()["likes"].clone()), (201, json!(number / 5 + 1))),
            1 => assert_eq!(answer.json()["likes"], number / 5 + 1),
            2 => assert_eq!(answer.json()["id"], number.to_string()),
            3 => assert_eq!(answer.status, 404),
            _ => assert_eq!(answer.json()["accepted"], 1),
        }
    }
    let (mut likes, mut others) = (0, 0);
    while likes < 100 || others < 200 {
        let event = stream.event();
        match event["type"] == "like" {
            true => likes += event["count"].as_u64().expect("a number"),
            false => others += 1,
        }
    }
    assert_eq!((likes, others), (100, 200));
    drop((client, stream));
    unharmed(&mut node);
}

#[test]
fn answers_held_back_and_forgotten() {
    let mut node = Node::start();
    // Answers far larger than their requests, and than what may wait for a client: the node stops reading and goes on.
    const REQUESTS: usize = 2000;
    let page = node.get("/").body;
    assert!(page.len() * REQUESTS > 4 << 20, "the page is large enough for this test");
    for reads_at_once in [true, false] {
        let mut client = Client::connect(node.public);
        let mut sender = client.socket.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            std::io::Write::write_all(&mut sender, &request("GET", "/", &[], b"").repeat(REQUESTS)).unwrap();
            // It needs no more than the answers; none of them may be lost to that.
            sender.shutdown(std::net::Shutdown::Write).unwrap();
        });
        if !reads_at_once {
            // The node must have stopped reading by then: the kernel's buffers hold neither all requests nor all answers.
            becomes("requests served while nobody reads", true, || {
                let seen = node.metric("fanfare_requests_total", "");
                std::thread::sleep(Duration::from_millis(100));
                seen > 0 && node.metric("fanfare_requests_total", "") <= seen + 2
            });
        }
        for number in 0..REQUESTS {
            assert!(client.answer().body == page, "answer {number}, reads at once: {reads_at_once}");
        }
        client.assert_closed();
        sending.join().unwrap();
    }
    unharmed(&mut node);
}

#[test]
fn requests_behind_a_broken_one_answered() {
    let mut node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let publish = request("POST", "/v1/topics/live:1/events", &[], br#"{"type":"smuggled"}"#);
    for broken in [
        "GET /v1/time HTTP/1.1\r\nBad Header: x\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /v1/time HTTP/1.1\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
    ] {
        let mut client = Client::connect(node.public);
        client.send([TIME, broken.as_bytes(), &publish, TIME].concat());
        assert_eq!(client.answer().status, 200);
        let answer = client.answer();
        assert!(matches!(answer.status, 400 | 505), "{broken:?}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        client.send_unless_closed(&publish);
        client.finish();
        client.assert_closed();
    }
    // A bad request that ends where it says is an answer like any other.
    let mut client = Client::connect(node.public);
    let bad = request("POST", "/v1/topics/live:1/events", &[], b"nonsense");
    client.send([bad, TIME.to_vec()].concat());
    client.answer().problem(400);
    assert_eq!(client.answer().status, 200);
    let id = node.publish("live:1", &json!({"type": "note"}));
    assert_eq!(stream.event()["id"], json!(id));
    drop((client, stream));
    unharmed(&mut node);
}

#[test]
fn half_closed_connection_unanswered() {
    let mut node = Node::start();
    let mut client = Client::connect(node.public);
    let like = request("POST", "/v1/videos/1/likes", &[], reaction("ana", "like").as_bytes());
    client.send([&like[..], TIME, &like].concat());
    client.finish();
    assert_eq!(client.answer().status, 201);
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 200);
    client.assert_closed();
    // A client that says it is the last request, in either version.
    for head in
        ["GET /v1/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "GET /v1/time HTTP/1.0\r\n\r\n"]
    {
        let mut client = Client::connect(node.public);
        client.send(head);
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        client.assert_closed();
    }
    let mut client = Client::connect(node.public);
    client.send("GET /v1/time HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".repeat(2));
    assert_eq!(client.answer().header("connection"), Some("keep-alive"));
    assert_eq!(client.answer().status, 200);
    drop(client);
    unharmed(&mut node);
}

#[test]
fn reset_connection_left_behind() {
    let mut node = Node::start();
    let like = request("POST", "/v1/videos/1/likes", &[], reaction("ana", "like").as_bytes());
    let starts: [&[u8]; 6] = [
        b"",
        b"POST /v1/vid",
        &like[..like.len() - 3],
        // The answer comes from the database, to nobody.
        &like,
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"GET /v1/events?topic=live:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for round in 0..60 {
        let mut client = Client::connect(node.public);
        client.send(starts[round % starts.len()]);
        if round % 2 == 0 {
            // Without lingering the kernel sends a reset.
            socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    becomes("connections, subscriptions and topics", [0, 0, 0], || node.counts());
    unharmed(&mut node);
}

#[test]
fn client_that_waits_for_100_continue_hangs() {
    let mut node = Node::start();
    let body = reaction("ana", "like");
    let mut client = Client::connect(node.public);
    for (target, body) in
        [("/v1/videos/1/likes", body.as_str()), ("/v1/events", "{\"topic\":\"live:1\",\"type\":\"n\"}")]
    {
        let length = body.len();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.answer().status, 100, "{target}");
        client.send(body);
        assert!(matches!(client.answer().status, 201 | 202), "{target}");
    }
    client.send("POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send(support::http::chunked(br#"{"type":"n"}"#, 4));
    assert_eq!(client.answer().status, 202);
    // Who is refused need not send it.
    client.send(
        "POST /v1/videos/1/likes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
    );
    client.answer().problem(413);
    drop(client);
    unharmed(&mut node);
}
