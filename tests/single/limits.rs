//! Limits and what clients are told at them: by address, by member, and for the node as a whole.

use crate::support;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;
use support::http::{Answer, Client, request};
use support::node::{Node, program_behind};
use support::sse::Stream;
use support::token::{Guarded, token};
use support::{becomes, eventually};

const EVENT_STREAM: (&str, &str) = ("Accept", "text/event-stream");

/// A connection from an address of the loopback network.
fn from(address: [u8; 4], node: &Node) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), 0).into()).expect("127/8 is ours");
    socket.connect(&node.public.into()).expect("the node accepts");
    Client::from_socket(TcpStream::from(socket))
}

/// Asks for a stream, which always gets 200. Gives the first event's name, and the pause that `bye` asks for.
fn open(mut client: Client, headers: &[(&str, &str)]) -> (Stream, String, u64) {
    client.send(request("GET", "/v1/events?topic=live:1", &[&[EVENT_STREAM], headers].concat(), b""));
    let mut stream = Stream::from_client(client);
    let first = stream.next().expect("a first event");
    if first.name == "bye" {
        assert_eq!(first.json()["reason"], "busy");
        assert_eq!(stream.next(), None);
    }
    let pause = first.json()["retry_ms"].as_u64().unwrap_or(0);
    (stream, first.name, pause)
}

/// Asks for streams until one is let in.
#[track_caller]
fn let_in(what: &str, mut client: impl FnMut() -> Client) -> Stream {
    eventually(what, || match open(client(), &[]) {
        (stream, name, _) if name == "connected" => Ok(stream),
        (_, name, _) => Err(name),
    })
}

fn refused(node: &Node, reason: &str) -> u64 {
    node.metric("fanfare_refused_total", &format!("reason=\"{reason}\""))
}

#[test]
fn one_address_takes_all_connections() {
    let node = Node::with(&["--cores", "2", "--max-address-connections", "3"]);
    let streams: Vec<_> = (0..3).map(|_| open(from([127, 0, 0, 7], &node), &[])).collect();
    assert!(streams.iter().all(|(_, name, _)| name == "connected"));
    let mut fourth = from([127, 0, 0, 7], &node);
    let answer = fourth.request("GET", "/v1/time", &[("Origin", "https://x.example")], b"");
    assert!(answer.problem(429).contains("as many connections"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    fourth.finish();
    fourth.assert_closed();
    // EventSource never comes back after another status than 200.
    let (_, name, pause) = open(from([127, 0, 0, 7], &node), &[]);
    assert!(name == "bye" && (1000..3000).contains(&pause), "{name} {pause}");
    // A body that would be taken line by line is not looked at.
    let lines = b"{\"topic\":\"live:1\",\"type\":\"note\"}\n";
    from([127, 0, 0, 7], &node).request("POST", "/v1/events", &[], lines).problem(429);
    // Others are not concerned, and whoever goes makes room.
    assert_eq!(open(from([127, 0, 0, 8], &node), &[]).1, "connected");
    drop(streams);
    let_in("room for the address", || from([127, 0, 0, 7], &node));
    assert!(refused(&node, "address_connections") >= 3);
}

#[test]
fn one_address_connects_without_pause() {
    let node = Node::with(&["--cores", "2", "--max-address-connects", "5"]);
    let answers: Vec<Answer> =
        (0..40).map(|_| from([127, 0, 0, 7], &node).request("GET", "/v1/time", &[], b"")).collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((5..40).contains(&served), "{served}");
    let refusal = answers.iter().find(|answer| answer.status == 429).expect("one was refused");
    assert!(refusal.problem(429).contains("too often"));
    assert_eq!(refusal.header("retry-after"), Some("1"));
    assert_eq!(from([127, 0, 0, 8], &node).request("GET", "/v1/time", &[], b"").status, 200);
    // With the internal listener one can still see why.
    assert_eq!(refused(&node, "address_connects"), 40 - served as u64);
}

#[test]
fn a_proxys_clients_counted_as_one() {
    let flags = ["--cores", "2", "--max-address-connections", "1", "--trusted-proxy", "127.0.0.9"];
    let node = Node::with(&flags);
    let via = |proxy: [u8; 4], client: &str| {
        let (stream, name, _) = open(from(proxy, &node), &[("X-Forwarded-For", client)]);
        (stream, name)
    };
    let first = via([127, 0, 0, 9], "203.0.113.1");
    let second = via([127, 0, 0, 9], "203.0.113.2");
    assert_eq!((first.1.as_str(), second.1.as_str()), ("connected", "connected"));
    // What the client itself put in front changes nothing; and one /64 is one customer.
    assert_eq!(via([127, 0, 0, 9], "198.51.100.7, 203.0.113.1").1, "bye");
    let six = via([127, 0, 0, 9], "2001:db8::1");
    assert_eq!((six.1.as_str(), via([127, 0, 0, 9], "2001:db8::2").1.as_str()), ("connected", "bye"));
    // Nobody else is believed.
    let direct = via([127, 0, 0, 7], "203.0.113.5");
    assert_eq!((direct.1.as_str(), via([127, 0, 0, 7], "203.0.113.6").1.as_str()), ("connected", "bye"));
    drop(first);
    eventually("room for the address", || match via([127, 0, 0, 9], "203.0.113.1").1 {
        name if name == "connected" => Ok(()),
        name => Err(name),
    });
}

#[test]
fn a_full_node_falls_over() {
    let node = Node::with(&["--cores", "1", "--max-connections", "6"]);
    let mut streams: Vec<Stream> = (0..5).map(|_| node.stream("topic=live:1")).collect();
    eventually("the node to be full", || match open(Client::connect(node.public), &[]) {
        (_, name, _) if name == "bye" => Ok(()),
        (stream, name, _) => {
            streams.push(stream);
            Err(name)
        }
    });
    let answer = node.get("/v1/time");
    assert!(answer.problem(503).contains("as many connections"));
    // Who is connected is served, and the internal listener too.
    node_publish(&node);
    for stream in &mut streams {
        assert_eq!(stream.event()["type"], "note");
    }
    assert!(refused(&node, "connections") >= 2);
    let limits = &node.info()["limits"]["connections"];
    assert_eq!(limits["max"], 6, "{limits}");
    drop(streams);
    becomes("a new viewer's answer", 200, || node.get("/v1/time").status);
}

/// Whether the node says that it is ready, or why it is not.
fn ready(node: &Node) -> String {
    let answer = Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    if answer.status == 200 { "ready".to_owned() } else { answer.problem(503) }
}

#[test]
fn balancer_sends_viewers_to_a_node_that_turns_them_away() {
    let node = Node::with(&["--cores", "2", "--max-connections", "20"]);
    becomes("ready", "ready".to_owned(), || ready(&node));
    let mut streams = Vec::new();
    eventually("the node to be full", || match open(Client::connect(node.public), &[]) {
        (_, name, _) if name == "bye" => Ok(()),
        (stream, name, _) => {
            streams.push(stream);
            Err(name)
        }
    });
    becomes("not ready", true, || ready(&node).contains("max_connections is 20"));
    becomes("the metric", 0, || node.metric("fanfare_ready", "shard=\"1\""));
    assert!(node.info()["waits_for"].as_str().expect("a reason").starts_with("full: "));
    // Who is connected is served.
    node_publish(&node);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.event()["type"], "note"));
    drop(streams);
    becomes("ready", "ready".to_owned(), || ready(&node));
    node.until_logged(&["there is room again"]);
}

/// Clients that ask for a stream and keep their sockets whatever they are told, one after another over some seconds: long
/// enough that those who were refused first have been there for a while when the last ones come.
fn keep_coming(node: &Node, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = Client::connect(node.public);
            client.send_unless_closed(request("GET", "/v1/events?topic=live:1", &[EVENT_STREAM], b""));
            std::thread::sleep(std::time::Duration::from_millis(10));
            client
        })
        .collect()
}

#[test]
fn clients_that_stay_though_refused_make_room_for_more() {
    let node = Node::with(&["--cores", "2", "--max-connections", "50"]);
    let clients = keep_coming(&node, 400);
    becomes("the streams", 50, || node.metric("fanfare_connections", "kind=\"stream\""));
    assert_eq!(
        node.metric("fanfare_evicted_total", ""),
        0,
        "nobody who has a stream, or was refused, has room to give"
    );
    assert!(refused(&node, "connections") >= 350);
    drop(clients);
    becomes("the streams", 0, || node.metric("fanfare_connections", "kind=\"stream\""));
    let _again: Vec<Stream> = (0..40).map(|_| node.stream("topic=live:1")).collect();
}

#[test]
fn open_files_run_out_for_those_who_look_after_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let command = program_behind(&["prlimit".to_owned(), "--nofile=400:400".to_owned()]);
    let flags = ["--cores", "2", "--max-connections", "100000"];
    let node = Node::launch(command, folder.path(), &flags);
    node.until_logged(&["too few open files for max_connections"]);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.extend(keep_coming(&node, 100));
        assert_eq!(Client::connect(node.internal).request("GET", "/health/live", &[], b"").status, 200);
    }
    let max = node.info()["limits"]["connections"]["max"].as_u64().unwrap();
    let files = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
    assert!((50..=200).contains(&max) && files < 350, "{max} connections, {files} files");
    let streams = || node.metric("fanfare_connections", "kind=\"stream\"");
    becomes("the node to be full of streams", true, || (max - 4..=max).contains(&streams()));
    assert_eq!(node.metric("fanfare_accept_errors_total", ""), 0);
}

/// By the internal listener, as backends do.
fn node_publish(node: &Node) {
    let body = json!({"type": "note"}).to_string();
    let answer = Client::connect(node.internal).request("POST", "/v1/topics/live:1/events", &[], body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn slow_loris_sockets_keep_viewers_out() {
    viewers_get_past(&[b"GET /v1/ev"]);
}

#[test]
fn bodies_that_never_end_keep_viewers_out() {
    let head = |path: &str, body: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}").into_bytes();
    let (known, chunked) = ("Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n9\r\n{");
    let likes = "/v1/videos/1/likes";
    let starts = [head(likes, known), head(likes, chunked), head("/v1/events", known), head("/v1/events", chunked)];
    viewers_get_past(&starts.each_ref().map(|start| &start[..]));
}

/// A viewer joins a node that is full of sockets which began with one of `starts` and sent nothing more.
fn viewers_get_past(starts: &[&[u8]]) {
    let node = Node::with(&["--cores", "1", "--max-connections", "50"]);
    let mut viewer = node.stream("topic=live:1");
    let mut sockets: Vec<Client> = (0..80).map(|_| Client::connect(node.public)).collect();
    for (socket, start) in sockets.iter_mut().zip(starts.iter().cycle()) {
        socket.send_unless_closed(start);
    }
    // Long before the 10 s, or 30 s, that each of them may take for its head, or its body.
    let begun = std::time::Instant::now();
    let_in("room for a new viewer", || Client::connect(node.public));
    assert!(begun.elapsed() < std::time::Duration::from_secs(8), "it waited for them to time out");
    assert!(node.metric("fanfare_evicted_total", "") > 0);
    node_publish(&node);
    assert_eq!(viewer.event()["type"], "note");
}

#[test]
fn one_publisher_floods() {
    let node = Node::with(&["--cores", "2", "--max-publishes", "10"]);
    let body = json!({"type": "note"}).to_string();
    let publish = |client: &mut Client| client.request("POST", "/v1/topics/live:1/events", &[], body.as_bytes());
    let mut flood = from([127, 0, 0, 7], &node);
    let answers: Vec<Answer> = (0..200).map(|_| publish(&mut flood)).collect();
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    assert!((10..150).contains(&taken), "{taken}");
    let refusal = answers.iter().find(|answer| answer.status != 202).expect("one was refused");
    assert!(refusal.problem(429).contains("too fast") && refusal.header("retry-after") == Some("1"));
    // It stays connected, and may ask other things.
    assert_eq!(flood.request("GET", "/v1/time", &[], b"").status, 200);
    // Lines count one by one, also by another connection and path.
    let lines: String = (0..100).map(|_| "{\"topic\":\"live:1\",\"type\":\"note\"}\n").collect();
    let answer = from([127, 0, 0, 7], &node).request("POST", "/v1/events", &[], lines.as_bytes());
    assert_eq!(answer.status, 202);
    assert!(answer.json()["rejected_total"].as_u64().expect("a number") > 50, "{answer:?}");
    // Every 100 ms one more may come: then this one did, and the next is refused.
    eventually("a refusal", || {
        let answer = from([127, 0, 0, 7], &node).request("POST", "/v1/videos/1/likes", &[], b"{\"member\":\"ana\"}");
        if answer.status == 429 { Ok(()) } else { Err(answer.text()) }
    });
    assert_eq!(publish(&mut from([127, 0, 0, 8], &node)).status, 202);
    assert!(refused(&node, "publishes") > 100);
}

#[test]
fn a_new_token_is_a_new_allowance() {
    let guarded = Guarded::start(&["--max-publishes", "5"]);
    let node = &guarded.node;
    let post =
        |token: &str| support::token::as_bearer(node, token, "POST", "/v1/topics/live:1/events", "{\"type\":\"x\"}");
    // Each differs, by its topics.
    let ana: Vec<u16> = (0..30).map(|n| post(&token("ana", &[&format!("t:{n}")], &["live:*"])).status).collect();
    assert!(ana.contains(&202) && ana.contains(&429), "{ana:?}");
    assert_eq!(post(&token("ben", &[], &["live:*"])).status, 202);
    // The same token's signature is checked once a shard.
    let same = token("cid", &["live:*"], &[]);
    let before = node.metric("fanfare_tokens_verified_total", "");
    for _ in 0..20 {
        let answer = support::token::as_bearer(node, &same, "GET", "/v1/videos/1/likes", "");
        assert_eq!(answer.status, 200);
    }
    assert!((1..=2).contains(&(node.metric("fanfare_tokens_verified_total", "") - before)));
}

#[test]
fn a_box_without_memory_takes_more_viewers_or_events() {
    let node = Node::with(&["--cores", "2", "--max-memory", "1MiB"]);
    becomes("the node's memory to be full", true, || node.info()["limits"]["memory_bytes"]["full"] == true);
    node.get("/v1/events?topic=live:1").problem(503);
    assert_eq!(open(Client::connect(node.public), &[]).1, "bye");
    assert_eq!(node.get("/v1/time").status, 200);
    assert!(refused(&node, "memory") >= 2);
    becomes("not ready", true, || ready(&node).contains("max_memory is 1048576"));
    // What is published may have to be kept for them all.
    let comment = json!({"type": "comment", "data": {"text": "x"}}).to_string();
    let event = Client::connect(node.internal).request("POST", "/v1/topics/live:1/events", &[], comment.as_bytes());
    assert!(event.problem(503).contains("memory is full"), "{event:?}");
    assert!(event.header("retry-after").is_some());
    let line = format!("{}\n", json!({"topic": "live:1", "type": "comment"}));
    let lines = Client::connect(node.internal).request("POST", "/v1/events", &[], line.as_bytes()).json();
    assert!(lines["rejected"][0]["detail"].as_str().unwrap().contains("memory is full"), "{lines}");
    let like = node.post("/v1/videos/1/likes", support::reaction("ana", "like"));
    assert!(like.problem(503).contains("memory is full"));
    // What is taken back makes room.
    let answer = Client::connect(node.public).request(
        "DELETE",
        "/v1/videos/1/likes",
        &[],
        support::reaction("ana", "like").as_bytes(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_shard_that_cannot_keep_up_takes_more_viewers() {
    // No turn is as short as that.
    let node = Node::with(&["--cores", "1", "--max-turn", "1ns"]);
    becomes("overload", "bye".to_owned(), || open(Client::connect(node.public), &[]).1);
    assert!(node.get("/v1/events?topic=live:1").problem(503).contains("too much to do"));
    assert_eq!(node.get("/v1/time").status, 200);
    assert!(refused(&node, "turns") >= 2);
    // Without a bound there is none.
    let node = Node::with(&["--cores", "1", "--max-turn", "0s"]);
    assert!((0..20).all(|_| open(Client::connect(node.public), &[]).1 == "connected"));
}

#[test]
fn a_stream_with_too_many_topics() {
    let node = Node::with(&["--cores", "1", "--max-topics", "2"]);
    assert!(node.get("/v1/events?topic=live:1&topic=live:2&topic=live:3").problem(400).contains("at most 2 topics"));
    let stream = node.stream("topic=live:1&topic=live:2");
    let body = json!({"add": ["live:3"]}).to_string();
    node.post(&format!("/v1/connections/{}/topics", stream.connection()), body).problem(400);
}

#[test]
fn slow_readers_together_fill_the_memory() {
    // 64 KiB for each of many would be allowed, and all of them have 1 MiB.
    let node = Node::with(&["--cores", "1", "--max-backlog", "1MiB"]);
    let lazy: Vec<Client> = (0..60)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(4096).expect("a socket option");
            socket.connect(&node.public.into()).expect("the node accepts");
            let mut client = Client::from_socket(TcpStream::from(socket));
            client.send(request("GET", "/v1/events?topic=live:1", &[], b""));
            assert_eq!(client.answer_to_head().status, 200);
            client
        })
        .collect();
    let mut keen = node.stream("topic=live:1");
    let data = "x".repeat(8000);
    let mut most = 0;
    for number in 0..100 {
        node.publish("live:1", &json!({"type": "comment", "data": {"n": number, "fill": data}}));
        assert_eq!(keen.event()["data"]["n"], number);
        most = most.max(node.metric("fanfare_backlog_bytes", ""));
    }
    // It is told once a tick, and all of this may fit between two.
    becomes("bytes that wait", true, || {
        most = most.max(node.metric("fanfare_backlog_bytes", ""));
        most > 0
    });
    assert!(most < 1 << 20, "{most}");
    assert!(node.metric("fanfare_dropped_total", "reason=\"overrun\"") > 0);
    // The slowest, as an operator sees them.
    let list = Client::connect(node.internal).request("GET", "/v1/connections?sort=pending&limit=5", &[], b"").json();
    let list = list["connections"].as_array().expect("a list");
    assert_eq!(list.len(), 5, "{list:?}");
    let pending: Vec<u64> = list.iter().map(|row| row["pending_bytes"].as_u64().expect("bytes")).collect();
    assert!(pending.is_sorted_by(|one, other| one >= other) && pending[0] > 0, "{pending:?}");
    assert_eq!(list[0]["topics"], json!(["live:1"]));
    assert_eq!(list[0]["address"], "127.0.0.1");
    let shown = list[0]["connection"].as_str().expect("an id");
    assert!(shown.ends_with('…') && shown.chars().count() < keen.connection().len(), "{shown}");
    assert!(keen.connection().starts_with(&shown[..10]), "the same node's");
    drop(lazy);
    becomes("the backlog's bytes", 0, || node.metric("fanfare_backlog_bytes", ""));
}

#[test]
fn a_topics_viewers_over_all_shards() {
    let node = Node::start();
    let streams = node.stream_on_each_shard("topic=live:1");
    let ask = |target: &str| Client::connect(node.internal).request("GET", target, &[], b"");
    // Those that came to a shard twice were closed.
    becomes("the viewers", json!(streams.len()), || ask("/v1/topics/live:1").json()["viewers"].clone());
    let topic = ask("/v1/topics/live:1").json();
    assert_eq!((&topic["viewers"], &topic["registered"]), (&json!(streams.len()), &json!(true)), "{topic}");
    assert_eq!(topic["shards"].as_array().map(Vec::len), Some(2), "{topic}");
    assert_eq!(ask("/v1/topics/live:2").json()["viewers"], 0);
    ask("/v1/topics/nonsense").problem(400);
    ask("/v1/connections?sort=age").problem(400);
    ask("/v1/connections?limit=1001").problem(400);
    assert_eq!(ask("/v1/connections").json(), json!({"connections": []}));
    node.get("/v1/connections").problem(404);
}

#[test]
fn receive_times_are_counted_and_absurd_ones_are_not() {
    let node = Node::start();
    let now = node.get("/v1/time").json()["now"].as_u64().expect("a time");
    let samples = json!({"samples": [
        {"at": now - 60, "received": now}, {"at": now - 60, "received": now - 61}, {"at": 0, "received": now},
    ]});
    let answer = node.post("/v1/received", samples.to_string());
    assert_eq!(answer.status, 204);
    assert_eq!(node.metric("fanfare_received_seconds_count", ""), 1);
    assert_eq!(node.metric("fanfare_received_seconds_bucket", "le=\"0.075\""), 1);
    assert_eq!(node.metric("fanfare_received_seconds_bucket", "le=\"0.05\""), 0);
    assert_eq!(node.metric("fanfare_received_ignored_total", ""), 2);
    for bad in ["", "{}", "[]", "{\"samples\":[{\"at\":\"x\"}]}"] {
        node.post("/v1/received", bad).problem(400);
    }
    node.get("/v1/received").problem(405);
    let guarded = Guarded::start(&[]);
    let body = samples.to_string();
    guarded.node.post("/v1/received", &body).problem(401);
    let nobody = token("ana", &[], &[]);
    assert_eq!(support::token::as_bearer(&guarded.node, &nobody, "POST", "/v1/received", &body).status, 204);
}

#[test]
fn deliveries_are_timed_by_class() {
    let node = Node::start();
    // Viewers of it are not counted, which would be an event of class `latest`.
    let mut stream = node.stream("topic=chat:1");
    for kind in ["like", "comment", "note"] {
        node.publish("chat:1", &json!({"type": kind}));
        assert_eq!(stream.event()["type"], kind);
    }
    for (class, count) in [("sum", 1), ("every", 1), ("ephemeral", 1), ("latest", 0)] {
        let label = format!("class=\"{class}\"");
        becomes("timed deliveries", count, || node.metric("fanfare_delivery_seconds_count", &label));
        assert_eq!(node.metric("fanfare_deliveries_total", &label), count, "{class}");
        assert_eq!(node.metric("fanfare_events_total", &label), count, "{class}");
    }
}

#[test]
fn options_of_what_is_not_there() {
    let node = Node::start();
    let options = |target: &str| Client::connect(node.public).request("OPTIONS", target, &[], b"");
    for (target, other) in [
        ("/v1/events", "DELETE"),
        ("/v1/time", "POST"),
        ("/v1/received", "GET"),
        ("/v1/topics/live:1/events", "DELETE"),
        ("/v1/connections/x/topics", "GET"),
        ("/v1/connections/x/token", "GET"),
        ("/v1/videos/1/likes", "PUT"),
        ("/v1/videos/1/comments", "PUT"),
        ("/v1/videos/1/comments/2", "GET"),
        ("/v1/conversations/1/messages", "PUT"),
        ("/v1/conversations/1/messages/2", "GET"),
        ("/v1/conversations/1/receipts", "PUT"),
        ("/v1/conversations/1/typing", "GET"),
        ("/", "POST"),
    ] {
        let (answer, wrong) = (options(target), Client::connect(node.public).request(other, target, &[], b""));
        assert_eq!((answer.status, wrong.status), (204, 405), "{target} {wrong:?}");
        assert_eq!(answer.header("allow"), wrong.header("allow"), "{target}");
    }
    for target in ["/nothing", "/v1/videos/1/shares", "/v1/videos/1/likes/x", "/v1/a/b/c/d/e/f/g"] {
        options(target).problem(404);
    }
    assert_eq!(options("*").status, 204);
}
