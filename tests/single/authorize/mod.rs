//! An operator's own server is asked before somebody subscribes or publishes, and what it says holds. Each test is named after what
//! it prevents.

mod settings;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::authorize::{Says, Server, secret};
use crate::support::http::{Client, chunked, request};
use crate::support::mercure;
use crate::support::node::{Node, program};
use crate::support::ports::free_port;
use crate::support::sse::Stream;
use crate::support::token::{SECRET, token};
use crate::support::{becomes, eventually};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn like(member: &str) -> String {
    json!({"member": member, "reaction": "like"}).to_string()
}

fn text(member: &str) -> String {
    json!({"member": member, "text": "hi"}).to_string()
}

/// The last question, without what is the same for all.
fn last(server: &Server) -> Value {
    let mut asked = server.asked().pop().expect("it was asked");
    assert_eq!(asked.as_object_mut().expect("an object").remove("address"), Some(json!("127.0.0.1")));
    asked
}

/// Streams that have a topic, by whichever name.
fn viewers(node: &Node, topic: &str) -> u64 {
    let row = node.internal_json(&format!("/v1/topics/{topic}"));
    ["viewers", "by_prefix"].iter().filter_map(|of| row[*of].as_u64()).sum()
}

#[test]
fn something_done_that_nobody_was_asked_about() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &["--authorize-keep", "0s"]);
    let event = r#"{"type":"score","data":{}}"#;
    let form = "topic=https%3A%2F%2Fexample.com%2Fa&data=x";
    let asks = |method: &str, target: &str, body: &str, wanted: Value| {
        let before = server.asked().len();
        let kind = if target.starts_with("/.well") { "application/x-www-form-urlencoded" } else { "application/json" };
        let answer = Client::connect(node.public).request(method, target, &[("Content-Type", kind)], body.as_bytes());
        assert!(answer.status < 300 || answer.status == 404, "{method} {target}: {answer:?} {}", answer.text());
        assert_eq!(server.asked().len(), before + 1, "{method} {target}");
        assert_eq!(last(&server), wanted, "{method} {target}");
    };
    let subscribe = |topics: &[&str]| json!({"action": "subscribe", "topics": topics});
    let publish = |topic: &str, kind: &str| json!({"action": "publish", "topics": [topic], "type": kind});
    let by_ana = |mut question: Value| {
        question["member"] = "ana".into();
        question
    };
    asks("HEAD", "/v1/events?topic=live:1&topic=chat:%2537", "", subscribe(&["live:1", "chat:7"]));
    asks("HEAD", "/v1/events?topic=live:1&member=ana", "", by_ana(subscribe(&["live:1"])));
    asks("HEAD", "/v1/poll?topic=live:1", "", subscribe(&["live:1"]));
    asks("GET", "/v1/topics/live:1/events", "", subscribe(&["live:1"]));
    asks("GET", "/v1/topics/live:1/members", "", subscribe(&["live:1"]));
    asks("GET", "/v1/presence?member=a&member=b", "", subscribe(&["presence:a", "presence:b"]));
    asks("POST", "/v1/topics/game:1/events", event, publish("game:1", "score"));
    asks("POST", "/v1/events", r#"{"topics":["game:1","game:2"],"type":"score"}"#, {
        json!({"action": "publish", "topics": ["game:1", "game:2"], "type": "score"})
    });
    asks("POST", "/v1/videos/1/likes", &like("ana"), by_ana(publish("live:1", "like")));
    asks("DELETE", "/v1/videos/1/likes", &like("ana"), by_ana(publish("live:1", "like")));
    asks("GET", "/v1/videos/1/likes", "", subscribe(&["live:1"]));
    asks("POST", "/v1/videos/1/taps", &like("ana"), by_ana(publish("live:1", "tap")));
    asks("POST", "/v1/videos/1/comments", &text("ana"), by_ana(publish("live:1", "comment")));
    asks("GET", "/v1/videos/1/comments", "", subscribe(&["live:1"]));
    asks("DELETE", "/v1/videos/1/comments/x", "", publish("live:1", "deleted"));
    asks("GET", "/v1/videos/1/rules", "", publish("moderate:live:1", "rules"));
    asks("PUT", "/v1/videos/1/rules", r#"{"slow_seconds":0}"#, publish("moderate:live:1", "rules"));
    let body = r#"{"member":"bob","seconds":0}"#;
    asks("POST", "/v1/videos/1/timeouts", body, publish("moderate:live:1", "rules"));
    asks("POST", "/v1/conversations/7/messages", &text("ana"), by_ana(publish("chat:7", "message")));
    asks("GET", "/v1/conversations/7/messages", "", subscribe(&["chat:7"]));
    asks("POST", "/v1/conversations/7/typing", r#"{"member":"ana"}"#, by_ana(publish("chat:7", "typing")));
    let message = node.post("/v1/conversations/7/messages", text("ana")).json()["id"].clone();
    let body = json!({"member": "ana", "message": message}).to_string();
    asks("POST", "/v1/conversations/7/receipts", &body, by_ana(publish("chat:7", "receipt")));
    asks("GET", "/v1/conversations/7/receipts", "", subscribe(&["chat:7"]));
    asks("POST", "/v1/members/ana/disconnect", "", publish("control:members", "control"));
    asks("POST", "/.well-known/mercure", form, publish("https://example.com/a", "mercure"));
    let target = "/.well-known/mercure?topic=https%3A%2F%2Fexample.com%2Fa";
    let mercure = json!({"action": "subscribe", "topics": ["https://example.com/a"], "type": "mercure"});
    asks("HEAD", target, "", mercure);
    let target = "/.well-known/mercure?topic=https%3A%2F%2Fexample.com%2F%7Bid%7D&topic=*";
    let mercure = json!({"action": "subscribe", "topics": ["https://example.com/{id}", "*"], "type": "mercure"});
    asks("HEAD", target, "", mercure);
    asks("HEAD", "/v1/events?topic=chat:crew.*", "", subscribe(&["chat:crew.*"]));
    // A change of topics is asked about as what it adds, and what takes away by nobody.
    let stream = node.stream("topic=live:1");
    let target = format!("/v1/connections/{}/topics", stream.connection());
    asks("POST", &target, r#"{"add":["chat:8"],"remove":["live:1"]}"#, subscribe(&["chat:8"]));
    let before = server.asked().len();
    assert_eq!(node.post(&target, r#"{"remove":["chat:8"]}"#).status, 200);
    // Nor is what is everybody's, a bad request, or what a node does.
    assert_eq!(node.get("/v1/time").status, 200);
    assert_eq!(node.get("/openapi.json").status, 200);
    node.get("/v1/events?topic=nonsense").problem(400);
    node.post("/v1/topics/game:1/events", "{").problem(400);
    let answer = Client::connect(node.internal).request("POST", "/v1/topics/game:1/events", &[], event.as_bytes());
    assert_eq!(answer.status, 202);
    assert_eq!(server.asked().len(), before);
}

#[test]
fn something_done_that_was_refused() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    let mut stream = node.stream("topic=live:1");
    server.say(Says::refused("members of the club only"));
    let long = json!({"type": "x", "data": "y".repeat(10_000)}).to_string();
    let mut by_chunks =
        b"POST /v1/topics/live:1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    by_chunks.extend(chunked(long.as_bytes(), 1_000));
    for bytes in [
        request("GET", "/v1/events?topic=live:1&member=bob", &[], b""),
        request("GET", "/v1/poll?topic=live:1&member=bob", &[], b""),
        request("POST", "/v1/videos/1/comments", &[], text("bob").as_bytes()),
        request("POST", "/v1/topics/live:1/events", &[], br#"{"type":"w","data":1}"#),
        by_chunks,
    ] {
        let mut client = Client::connect(node.public);
        client.send(&bytes);
        assert_eq!(client.answer().problem(403), "members of the club only");
        // The connection is good for what follows.
        assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 200);
    }
    let target = format!("/v1/connections/{}/topics", stream.connection());
    assert_eq!(node.post(&target, r#"{"add":["live:2"]}"#).problem(403), "members of the club only");
    server.say(Says::Status(401, "who?".to_owned()));
    let detail = node.post("/v1/videos/2/comments", text("bob")).problem(403);
    assert!(detail.contains("who may publish"), "{detail}");
    // Of several topics all are to be allowed.
    server.say(Says::json(json!({"topics": ["live:3"]})));
    let detail = node.get("/v1/events?topic=live:3&topic=live:4").problem(403);
    assert!(detail.contains("live:4"), "{detail}");
    let mut allowed = node.stream("topic=live:3");
    server.say(Says::allowed());
    node.publish("live:1", &json!({"type": "end", "data": 1}));
    assert_eq!(stream.event()["type"], "end", "nothing that was refused came");
    node.publish("live:3", &json!({"type": "end", "data": 1}));
    assert_eq!(allowed.event()["type"], "end");
}

#[test]
fn server_that_does_not_answer_taken_for_one_that_allows() {
    let (folder, server) = (folder(), Server::start());
    // Long enough for an answer on a machine that is busy.
    let node = server.node(folder.path(), &["--authorize-deadline", "3s"]);
    let reasons = [
        (Says::Nothing, "timeout"),
        (Says::Close, "answer"),
        (Says::Redirect, "redirect"),
        (Says::Garbage, "answer"),
        (Says::Half, "answer"),
        (Says::Huge, "answer"),
        (Says::json(json!({"topics": "live:1"})), "answer"),
        (Says::Status(500, "{}".to_owned()), "status"),
    ];
    for (number, (says, reason)) in reasons.into_iter().enumerate() {
        server.say(says.clone());
        let failed = |reason: &str| node.metric("fanfare_authorize_failed_total", &format!("reason=\"{reason}\""));
        let before = failed(reason);
        let answer = node.post(&format!("/v1/topics/live:{number}/events"), r#"{"type":"w","data":1}"#);
        let detail = answer.problem(503);
        assert!(detail.contains("does not answer") && answer.header("retry-after").is_some(), "{says:?}: {answer:?}");
        assert_eq!(failed(reason), before + 1, "{says:?}");
    }
    node.until_logged(&["the server that is asked who may do what fails", "told once a minute"]);
    let log = node.log().join("\n");
    assert!(!log.contains("hidden"), "the URL's query may be a secret: {log}");
    // Those were eight in a row: it is away, and asked now and then.
    becomes("away", 1, || node.metric("fanfare_authorize_away", ""));
    let before = server.asked().len();
    for number in 0..20 {
        node.post(&format!("/v1/topics/more:{number}/events"), r#"{"type":"w","data":1}"#).problem(503);
    }
    assert!(server.asked().len() <= before + 4, "it is asked less: {} and {before}", server.asked().len());
    assert!(node.metric("fanfare_authorize_failed_total", "reason=\"paused\"") >= 10);
    server.say(Says::allowed());
    eventually("it answers again", || match node.post("/v1/topics/live:9/events", r#"{"type":"w","data":1}"#).status {
        202 => Ok(()),
        status => Err(status),
    });
    assert_eq!(node.metric("fanfare_authorize_away", ""), 0);
    node.until_logged(&["answers again"]);
    let warned = node.log().into_iter().filter(|line| line.contains("who may do what fails")).count();
    assert_eq!(warned, 1, "{:?}", node.log());
}

#[test]
fn request_refused_for_a_connection_that_was_just_closed() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    let tries = AtomicUsize::new(0);
    server.answer(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Says::Close,
        _ => Says::allowed(),
    });
    node.publish("live:1", &json!({"type": "wave", "data": 1}));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn nobody_let_in_where_a_server_that_is_away_allows() {
    let folder = folder();
    let url = format!("http://127.0.0.1:{}/ask", free_port());
    let [flag, file] = secret(folder.path());
    let flags = ["--cores", "2", "--authorize", &url, flag, file, "--authorize-away", "allow"];
    let node = Node::launch(program(), folder.path(), &flags);
    let mut stream = node.stream("topic=live:1");
    for number in 0..20 {
        node.publish("live:1", &json!({"type": "wave", "data": number}));
        assert_eq!(stream.event()["data"], number);
    }
    assert!(node.metric("fanfare_authorize_failed_total", "reason=\"connect\"") >= 8);
}

#[test]
fn as_many_questions_as_clients() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &["--authorize-deadline", "10s"]);
    server.hold();
    let mut clients: Vec<Client> = (0..1_000)
        .map(|_| {
            let mut client = Client::connect(node.public);
            client.send(request("GET", "/v1/events?topic=live:1", &[("Accept", "text/event-stream")], b""));
            client
        })
        .collect();
    becomes("a question", 1, || server.asked().len());
    becomes("all connections", 1_000, || node.requests_open() as usize);
    // Some leave before they are answered.
    clients.truncate(900);
    server.go_on();
    let mut streams: Vec<Stream> = clients.into_iter().map(Stream::from_client).collect();
    streams.iter_mut().for_each(Stream::wait_connected);
    assert_eq!(server.asked().len(), 1);
    node.publish("live:1", &json!({"type": "wave", "data": 1}));
    for stream in &mut streams {
        assert_eq!(stream.event()["type"], "wave");
    }
    // What was answered is kept, on both shards.
    node.stream("topic=live:1");
    assert_eq!(server.asked().len(), 2, "the event was the other one");
    becomes("streams", [900, 0, 0], || {
        let counts = node.counts();
        [counts[0], 0, 0]
    });
}

#[test]
fn answer_of_another_question_taken() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &["--authorize-headers", "cookie"]);
    server.answer(|asked| match asked["headers"]["cookie"].as_str() {
        Some("session=ana") => Says::json(json!({"for": 3600})),
        _ => Says::refused("sign in"),
    });
    let comment = |cookie: &[(&str, &str)]| {
        let mut client = Client::connect(node.public);
        client.request("POST", "/v1/videos/1/comments", cookie, text("ana").as_bytes()).status
    };
    let ana = ("Cookie", "session=ana");
    assert_eq!(comment(&[ana, ("Authorization", "Bearer secret")]), 201);
    assert_eq!((comment(&[]), comment(&[("Cookie", "session=bob")]), comment(&[ana])), (403, 403, 201));
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[0]["headers"], json!({"cookie": "session=ana"}), "what is not listed is not told");
    assert_eq!(asked[1].get("headers"), None);
}

#[test]
fn token_or_server_that_is_not_heard() {
    let (folder, server) = (folder(), Server::start());
    let key = folder.path().join("key");
    std::fs::write(&key, SECRET).expect("the folder is ours");
    let node = server.node(folder.path(), &["--auth", "jwt", "--jwt-key-file", key.to_str().expect("a path")]);
    let bearer = format!("Bearer {}", token("ana", &["live:*"], &["live:*"]));
    let comment = |video: &str, token: &str| {
        let target = format!("/v1/videos/{video}/comments");
        Client::connect(node.public).request("POST", &target, &[("Authorization", token)], br#"{"text":"hi"}"#)
    };
    assert_eq!(comment("1", &bearer).status, 201);
    assert_eq!(last(&server)["member"], "ana");
    let other = format!("Bearer {}", token("bob", &[], &["chat:*"]));
    comment("1", &other).problem(403);
    comment("1", "Bearer nonsense").problem(401);
    let lines = b"{\"topic\":\"live:9\",\"type\":\"x\"}";
    let answer = Client::connect(node.public).request("POST", "/v1/events", &[("Authorization", &other)], lines);
    assert_eq!(answer.json()["rejected_total"], 1, "{answer:?}");
    assert_eq!(server.asked().len(), 1, "nobody is asked about what a token refuses");
    server.say(Says::refused("not today"));
    assert_eq!(comment("2", &bearer).problem(403), "not today");
    // A member's own topic is the token's to give.
    server.say(Says::json(json!({"topics": ["live:1"]})));
    let open = request("GET", "/v1/events?topic=live:1", &[("Authorization", &bearer)], b"");
    let mut stream = Stream::with_request(node.public, &open);
    stream.wait_connected();
    assert_eq!(last(&server)["topics"], json!(["live:1"]));
}

#[test]
fn stream_that_keeps_what_was_allowed_once() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    server.say(Says::json(json!({"for": 0})));
    let mut streams: Vec<Stream> = (0..2).map(|_| node.stream("topic=live:1&topic=live:2")).collect();
    let connection = streams[0].connection().to_owned();
    let target = format!("/v1/connections/{connection}/topics");
    assert_eq!(node.post(&target, r#"{"add":["live:3"]}"#).status, 200);
    let asked = server.asked().len();
    // While it does not answer, streams keep what they have.
    server.say(Says::Status(500, String::new()));
    eventually("it is asked again", || {
        let asked_now = server.asked().len();
        if asked_now >= asked + 2 { Ok(()) } else { Err(asked_now) }
    });
    let topics = |wanted: &str| viewers(&node, wanted);
    assert_eq!((topics("live:1"), topics("live:2"), topics("live:3")), (2, 2, 1));
    server.answer(|asked| {
        let topics = asked["topics"].as_array().expect("topics");
        let left: Vec<&Value> = topics.iter().filter(|topic| **topic != "live:1").collect();
        Says::json(json!({"topics": left, "for": 3600}))
    });
    eventually("live:1 is left", || match topics("live:1") {
        0 => Ok(()),
        viewers => Err(viewers),
    });
    let questions = server.asked();
    assert!(questions.iter().any(|asked| asked["topics"] == json!(["live:1", "live:2", "live:3"])), "{questions:?}");
    assert_eq!((topics("live:2"), topics("live:3")), (2, 1));
    server.say(Says::allowed());
    for topic in ["live:1", "live:2"] {
        node.publish(topic, &json!({"type": "wave", "data": topic}));
    }
    for stream in &mut streams {
        assert_eq!(stream.event()["data"], "live:2");
    }
}

/// A prefix is asked about as such, and left with all that it brought.
#[test]
fn prefix_that_nobody_was_asked_about_or_that_stays() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    server.say(Says::json(json!({"for": 0})));
    let mut stream = node.stream("topic=chat:crew.*&topic=live:1");
    assert_eq!(server.asked()[0]["topics"], json!(["chat:crew.*", "live:1"]));
    // Who publishes is asked about by another question.
    node.publish("chat:crew.7", &json!({"type": "wave", "data": 1}));
    assert_eq!(stream.event()["topic"], "chat:crew.7");
    server.say(Says::json(json!({"topics": ["live:1"], "for": 3600})));
    let left = || {
        let asked = server.asked();
        asked.iter().filter(|asked| asked["topics"] == json!(["chat:crew.*", "live:1"])).count()
    };
    eventually("it is asked again", || match left() {
        0..2 => Err(left()),
        _ => Ok(()),
    });
    server.say(Says::allowed());
    eventually("the prefix is left", || {
        let id = node.publish("chat:crew.7", &json!({"type": "wave", "data": 2}));
        node.publish("live:1", &json!({"type": "wave", "data": 2}));
        let event = stream.event();
        if event["topic"] == "live:1" {
            return Ok(());
        }
        assert_eq!((&event["id"], &stream.event()["topic"]), (&json!(id), &json!("live:1")));
        Err(event)
    });
}

/// A URI template, `*` or a prefix that the server refuses by and by is left with all that a stream has by it alone.
#[test]
fn template_or_prefix_that_keeps_what_was_allowed_once() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    server.say(Says::json(json!({"for": 0})));
    let [books, authors] = ["/books/{id}", "/authors/{id}"];
    let mut selected = mercure::open(node.public, &mercure::target(&[books, authors, "*", "/books/9"], &[]), &[]);
    let mut prefixed = node.stream("topic=chat:crew.*&topic=chat:crew.9&topic=chat:*");
    let update = |topic: &str| {
        mercure::update(node.public, None, &[("topic", topic), ("data", topic)]);
    };
    let note = |topic: &str| {
        node.publish(topic, &json!({"type": "note", "data": topic}));
    };
    let topics = ["/books/1", "/books/9", "/authors/1", "name"];
    topics.iter().for_each(|topic| update(topic));
    let mut came = mercure::texts(&mut selected, 4);
    came.sort();
    assert_eq!(came, ["/authors/1", "/books/1", "/books/9", "name"]);
    let chats = ["chat:crew.1", "chat:crew.9", "chat:other"];
    chats.iter().for_each(|topic| note(topic));
    let notes = |stream: &mut Stream, count: usize| {
        let mut data: Vec<String> =
            (0..count).map(|_| stream.event()["data"].as_str().expect("a text").to_owned()).collect();
        data.sort();
        data
    };
    assert_eq!(notes(&mut prefixed, 3), chats);
    server.answer(|asked| {
        let refused = ["*", "/books/9", "chat:*", "chat:crew.9"];
        let topics = asked["topics"].as_array().expect("topics").iter();
        let left: Vec<&Value> = topics.filter(|topic| refused.iter().all(|refused| *topic != refused)).collect();
        Says::json(json!({"topics": left, "for": 3600}))
    });
    for topic in ["mercure:name", "chat:other"] {
        eventually("it is left", || match viewers(&node, topic) {
            0 => Ok(()),
            viewers => Err(viewers),
        });
    }
    server.say(Says::allowed());
    topics.iter().rev().for_each(|topic| update(topic));
    let mut came = mercure::texts(&mut selected, 3);
    came.sort();
    assert_eq!(came, ["/authors/1", "/books/1", "/books/9"], "by a template it is had still");
    chats.iter().rev().for_each(|topic| note(topic));
    assert_eq!(notes(&mut prefixed, 2), ["chat:crew.1", "chat:crew.9"]);
}

#[test]
fn lines_out_of_order_or_past_a_refusal() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &[]);
    let mut stream = node.stream("topic=live:1&topic=live:2");
    server.answer(
        |asked| if asked["topics"] == json!(["live:2"]) { Says::refused("not there") } else { Says::allowed() },
    );
    let lines: Vec<String> = (0..300)
        .map(|number| {
            let topic = if number % 3 == 2 { "live:2" } else { "live:1" };
            json!({"topic": topic, "type": format!("wave{}", number % 2), "data": number}).to_string()
        })
        .collect();
    let mut bytes = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend(chunked(lines.join("\n").as_bytes(), 777));
    let mut client = Client::connect(node.public);
    client.send(&bytes);
    let answer = client.answer().json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(200), &json!(100)), "{answer}");
    assert_eq!(answer["rejected"][0], json!({"line": 3, "detail": "not there"}));
    for number in (0..300).filter(|number| number % 3 != 2) {
        assert_eq!(stream.event()["data"], number);
    }
    assert_eq!(client.request("GET", "/v1/time", &[], b"").status, 200);
    let topics = server.asked().into_iter().filter(|asked| asked["action"] == "publish").count();
    assert!((4..=8).contains(&topics), "two types on two topics: {topics}");
}

#[test]
fn request_that_waits_for_an_answer_lost_in_a_drain() {
    let (folder, server) = (folder(), Server::start());
    let mut node = server.node(folder.path(), &["--authorize-deadline", "10s", "--drain", "3s"]);
    server.hold();
    let mut client = Client::connect(node.public);
    client.send(request("POST", "/v1/videos/1/comments", &[], text("ana").as_bytes()));
    let mut stream = Client::connect(node.public);
    stream.send(request("GET", "/v1/events?topic=live:1", &[], b""));
    becomes("questions", 2, || server.asked().len());
    node.signal(rustix::process::Signal::TERM);
    node.until_logged(&["drain"]);
    server.go_on();
    assert_eq!(client.answer().status, 201);
    stream.answer().problem(503);
    assert!(node.ended().success());
}

#[test]
fn client_that_shuts_its_side_never_answered() {
    let (folder, server) = (folder(), Server::start());
    let node = server.node(folder.path(), &["--authorize-deadline", "10s"]);
    server.hold();
    let mut client = Client::connect(node.public);
    client.send(request("GET", "/v1/events?topic=live:1", &[], b""));
    client.finish();
    becomes("a question", 1, || server.asked().len());
    server.go_on();
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    // It is gone, which it had no way to say but this.
    drop(stream);
    becomes("streams", 0, || node.counts()[0]);
}
