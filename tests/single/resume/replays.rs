//! What one client that comes back is given.

use std::time::Duration;

use serde_json::json;

use super::support::http::{Client, request};
use super::support::node::{Node, program_behind};
use super::support::redis::Redis;
use super::support::site::unix_ms;
use super::support::sse::{Message, Stream};
use super::support::{becomes, with_another_date};
use super::{configured, line, ms_of, name, publish_comments, publish_lines, resume, take};

/// What clients say that never had anything from this node.
const LONG_AGO: &str = "local:1-1";

/// The ids that [`publish_comments`] gives, of one topic.
fn ids(topic: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{topic}/{number}")).collect()
}

/// The time of the newest comment of a topic, from its `id:` line.
fn newest_ms(node: &Node, topic: &str, count: usize) -> u64 {
    let mut stream = resume(node, &format!("topic={topic}"), LONG_AGO);
    let messages: Vec<_> = (0..=count).map(|_| stream.next().expect("the stream goes on")).collect();
    ms_of(messages.last().and_then(|message| message.id.as_deref()).expect("comments have ids"))
}

#[test]
fn topics_of_one_stream_replayed_one_after_the_other() {
    let node = Node::start();
    let topics = ["live:1", "live:2", "chat:3"];
    publish_comments(&node, &topics, 40, 10);
    let mut stream = resume(&node, "topic=live:1&topic=live:2&topic=chat:3", LONG_AGO);
    let gaps = take(&mut stream, 3);
    assert!(gaps.iter().all(|gap| gap.starts_with("gap ") && gap.ends_with(" \"local:1-1\"")), "{gaps:?}");
    let messages: Vec<_> = (0..120).map(|_| stream.next().expect("the stream goes on")).collect();
    let times: Vec<u64> = messages.iter().map(|message| ms_of(message.id.as_deref().unwrap())).collect();
    assert!(times.is_sorted(), "{times:?}");
    let mut names: Vec<String> = messages.iter().map(name).collect();
    for topic in topics {
        let of: Vec<&String> = names.iter().filter(|id| id.starts_with(topic)).collect();
        assert_eq!(of, ids(topic, 40).iter().collect::<Vec<_>>());
    }
    names.clear();
    // What comes now comes live.
    node.publish("chat:3", &json!({"type": "comment", "id": "live"}));
    assert_eq!(take(&mut stream, 1), ["live"]);
}

#[test]
fn streams_that_ended_waited_for() {
    // The store hangs, so nobody who comes back with an old id can be answered.
    let redis = Redis::start();
    let node = Node::with(&["--kv", &redis.url(), "--cores", "1"]);
    let _kept = node.stream("topic=live:1&topic=chat:2");
    redis.pause();
    let waiting = || {
        ["live:1", "chat:2"].map(|topic| {
            let answer = Client::connect(node.internal).request("GET", &format!("/v1/topics/{topic}"), &[], b"").json();
            answer["shards"][0]["waiting_for_history"].as_u64()
        })
    };
    let mut streams: Vec<Stream> =
        (0..30).map(|_| node.stream("topic=live:1&topic=chat:2&last_event_id=local:1-0")).collect();
    becomes("those who wait", [Some(30); 2], waiting);
    streams.truncate(10);
    becomes("those who wait", [Some(10); 2], waiting);
    // One leaves a topic and stays.
    let target = format!("/v1/connections/{}/topics", streams[0].connection());
    assert_eq!(node.post(&target, json!({"remove": ["live:1"]}).to_string()).status, 200);
    becomes("those who wait", [Some(9), Some(10)], waiting);
    drop(streams);
    becomes("those who wait", [Some(0); 2], waiting);
    redis.resume();
}

#[test]
fn header_ignored_for_the_query() {
    let node = Node::start();
    publish_comments(&node, &["live:1"], 3, 10);
    let ms = newest_ms(&node, "live:1", 3);
    // The page's URL still has the id that the page began with; the header is what its EventSource had last.
    let (header, query) = (format!("local:{}-0", ms + 1), "topic=live:1&last_event_id=unreadable");
    assert_eq!(take(&mut resume(&node, query, &header), 3), ids("live:1", 3));
    let query = format!("topic=live:1&last_event_id=local:{}-0", ms + 1);
    let mut wanted = ids("live:1", 3);
    assert_eq!(take(&mut node.stream(&query), 3), wanted);
    // An empty one says nothing.
    assert_eq!(take(&mut resume(&node, &query, ""), 3), wanted);
    wanted.insert(0, "gap live:1 null".to_owned());
    assert_eq!(take(&mut resume(&node, &query, "unreadable"), 4), wanted);
}

#[test]
fn unreadable_id_met_with_silence() {
    let node = Node::start();
    publish_comments(&node, &["live:1", "live:2"], 2, 10);
    // The last one is from a time that is yet to come: nothing would ever follow it.
    for id in ["7", "local:", "local:1-1-1", "%00", ":1-1", "local:18446744073709551615-1", "local:9999999999999-1"] {
        let mut stream = resume(&node, "topic=live:1&topic=live:2&topic=live:3", id);
        let mut got = take(&mut stream, 7);
        got.sort_unstable();
        let gaps = ["gap live:1 null", "gap live:2 null", "gap live:3 null"];
        let wanted: Vec<&str> = gaps.into_iter().chain(["live:1/0", "live:1/1", "live:2/0", "live:2/1"]).collect();
        assert_eq!(got, wanted, "{id}");
    }
}

#[test]
fn id_that_is_no_text_taken_for_none() {
    let node = Node::start();
    publish_comments(&node, &["live:1"], 2, 10);
    let mut head = request("GET", "/v1/events?topic=live:1", &[("Last-Event-ID", "!")], b"");
    let mark = head.iter().position(|byte| *byte == b'!').expect("it stands there");
    head[mark] = 0xE9;
    let mut stream = Stream::with_request(node.public, &head);
    stream.wait_connected();
    assert_eq!(take(&mut stream, 3), ["gap live:1 null", "live:1/0", "live:1/1"]);
}

#[test]
fn restart_without_a_word_of_what_was_lost() {
    let node = Node::start();
    publish_comments(&node, &["live:1"], 5, 10);
    let ms = newest_ms(&node, "live:1", 5);
    node.kill();
    let node = Node::start();
    let id = format!("local:{ms}-1");
    let mut stream = resume(&node, "topic=live:1", &id);
    node.publish("live:1", &json!({"type": "comment", "id": "new"}));
    assert_eq!(take(&mut stream, 2), [format!("gap live:1 \"{id}\""), "new".to_owned()]);
}

#[test]
fn page_forgotten_or_given_twice() {
    let (node, _folder) = configured("[events.comment]\nhistory = 5000\n");
    publish_comments(&node, &["live:1"], 3_000, 100);
    publish_comments(&node, &["live:2"], 150, 16_000);
    for (topic, count) in [("live:1", 3_000), ("live:2", 150)] {
        let mut stream = resume(&node, &format!("topic={topic}"), LONG_AGO);
        assert_eq!(take(&mut stream, count + 1)[1..], ids(topic, count));
        node.publish(topic, &json!({"type": "comment", "id": "live"}));
        assert_eq!(take(&mut stream, 1), ["live"]);
    }
    // Without chunks, by HTTP/1.0.
    let mut client = Client::connect(node.public);
    client.send(b"GET /v1/events?topic=live:1 HTTP/1.0\r\nLast-Event-ID: local:1-1\r\n\r\n");
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    assert_eq!(take(&mut stream, 3_001)[1..], ids("live:1", 3_000));
    node.publish("live:1", &json!({"type": "comment", "id": "later"}));
    assert_eq!(take(&mut stream, 2), ["live", "later"]);
}

#[test]
fn comment_taken_a_moment_ago_not_shown_to_who_comes_back() {
    let node = Node::start();
    // Somebody watched, and left: the node still has the topic.
    let mut id = {
        let mut stream = node.stream("topic=live:1");
        node.publish("live:1", &json!({"type": "comment", "id": "first"}));
        stream.next().unwrap().id.unwrap()
    };
    for number in 0..100 {
        let event = format!("event {number}");
        node.publish("live:1", &json!({"type": "comment", "id": event}));
        let mut stream = resume(&node, "topic=live:1", &id);
        let message = loop {
            let message = stream.next().expect("the stream goes on");
            if name(&message) == event {
                break message;
            }
        };
        id = message.id.unwrap();
    }
    assert_eq!(node.metric("fanfare_gaps_total", ""), 0);
}

#[test]
fn removed_topic_replayed_all_the_same() {
    let (node, _folder) = configured("[events.comment]\nhistory = 5000\n");
    publish_comments(&node, &["live:1"], 1_000, 8_000);
    publish_comments(&node, &["live:2"], 20, 10);
    let mut client = Client::connect(node.public);
    socket2::SockRef::from(&client.socket).set_recv_buffer_size(4096).expect("a socket option");
    let target = "/v1/events?topic=live:1&topic=live:2";
    client.send(request("GET", target, &[("Last-Event-ID", LONG_AGO)], b""));
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    let body = json!({"remove": ["live:1"]}).to_string();
    let answer = node.post(&format!("/v1/connections/{}/topics", stream.connection()), body);
    assert_eq!((answer.status, answer.json()), (200, json!({"topics": ["live:2"], "pending": []})));
    let (mut removed, mut kept) = (0, Vec::new());
    while kept.len() < 20 {
        let name = name(&stream.next().expect("the stream goes on"));
        removed += usize::from(name.starts_with("live:1/"));
        kept.extend(Some(name).filter(|name| name.starts_with("live:2/")));
    }
    assert_eq!(kept, ids("live:2", 20));
    assert!(removed < 500, "{removed} of 1000 events of 8 KB came after the topic was removed");
}

#[test]
fn lines_of_comments_counted_or_ordered_wrongly() {
    let node = Node::start();
    let mut stream = node.stream("topic=live:1");
    let mut client = Client::connect(node.public);
    let good: String = (0..200).map(|number| line("live:1", &format!("live:1/{number}"), number)).collect();
    publish_lines(&mut client, &good);
    assert_eq!(take(&mut stream, 200), ids("live:1", 200));
    let lines = format!("{}oops\n{}", line("live:1", "a", 1), line("live:1", "b", 1));
    let answer = client.request("POST", "/v1/events", &[], lines.as_bytes()).json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(2), &json!(1)));
    assert_eq!(answer["rejected"][0]["line"], 2);
    assert_eq!(take(&mut stream, 2), ["a", "b"]);
}

/// A message is kept for a moment only in this store. A client that has all before one comes when that is gone, to a node
/// that never had a viewer of the topic.
fn back_after_history_expired(kv: &str, fill: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    std::fs::write(&path, "[events.message]\nmax_age = \"1s\"\n").expect("the folder is ours");
    let node = Node::in_folder(folder.path(), &["--kv", kv, "--config", path.to_str().expect("a path of the tests")]);
    let seen = format!("local:{}-0", unix_ms());
    node.publish("chat:1", &json!({"type": "message", "id": "missed", "data": {}}));
    let gone_ms = unix_ms() + 2_000;
    while unix_ms() < gone_ms {
        std::thread::sleep(Duration::from_millis(50));
    }
    // The embedded store forgets topics that hold nothing once enough was appended.
    if fill > 0 {
        publish_comments(&node, &["live:2"], fill, 1);
    }
    let mut stream = resume(&node, "topic=chat:1", &seen);
    node.publish("chat:1", &json!({"type": "message", "id": "live", "data": {}}));
    assert_eq!(take(&mut stream, 2), [format!("gap chat:1 \"{seen}\""), "live".to_owned()]);
}

#[test]
fn a_topic_whose_history_expired_in_memory_says_nothing() {
    back_after_history_expired("memory", 9_000);
}

#[test]
fn a_topic_whose_history_expired_in_redis_says_nothing() {
    let redis = Redis::start();
    back_after_history_expired(&redis.url(), 0);
}

/// What a client that comes back is given of `chat:1`, less the messages of which each call publishes one as the last.
fn given(node: &Node, last_event_id: &str) -> Vec<Message> {
    let mut stream = resume(node, "topic=chat:1", last_event_id);
    let end = format!("end {}", unix_ms());
    node.publish("chat:1", &json!({"type": "message", "id": end, "data": {}}));
    let messages = std::iter::from_fn(|| stream.next()).take_while(|message| name(message) != end);
    messages.filter(|message| !name(message).starts_with("end ")).collect()
}

/// Notes are kept for a moment, and messages for an hour: a note takes no message with it, neither when it comes nor when it
/// goes, and only who lacks a note that is gone is told of a gap.
fn note_and_message(kv: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    std::fs::write(&path, "[events.note]\nclass = \"every\"\nmax_age = \"2s\"\n").expect("the folder is ours");
    let node = Node::in_folder(folder.path(), &["--kv", kv, "--config", path.to_str().expect("a path of the tests")]);
    node.publish("chat:1", &json!({"type": "message", "id": "first", "data": {}}));
    node.publish("chat:1", &json!({"type": "note", "id": "note", "data": {}}));
    let mut begin = given(&node, LONG_AGO);
    // A slow machine may have shown no note in time.
    let note_id = begin.pop_if(|message| name(message) == "note").and_then(|message| message.id);
    let message_id = begin.pop().and_then(|message| message.id).expect("a message has an id");
    let names = |last_event_id: &str| given(&node, last_event_id).iter().map(name).collect::<Vec<_>>();
    becomes("what is left", vec!["gap chat:1 \"local:1-1\"".to_owned(), "first".to_owned()], || names(LONG_AGO));
    // The overlap repeats the message.
    assert_eq!(names(&message_id), [format!("gap chat:1 \"{message_id}\""), "first".to_owned()]);
    if let Some(id) = note_id {
        assert_eq!(names(&id), ["first"]);
    }
    // One that comes when the message is older than notes may be.
    node.publish("chat:1", &json!({"type": "note", "id": "another", "data": {}}));
    assert_eq!(names(LONG_AGO)[1], "first");
}

#[test]
fn a_note_that_takes_the_messages_with_it_in_memory() {
    note_and_message("memory");
}

#[test]
fn a_note_that_takes_the_messages_with_it_in_redis() {
    let redis = Redis::start();
    note_and_message(&redis.url());
}

#[test]
fn a_clock_that_is_set_back_makes_a_gap_of_every_resume() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let date = folder.path().join("date");
    let set = |offset: &str| std::fs::write(&date, offset).expect("the folder is ours");
    set("+0");
    let words = with_another_date(date.to_str().expect("a path of the tests"));
    let node = Node::launch(program_behind(&words), folder.path(), &["--cores", "2"]);
    let now = || node.get("/v1/time").json()["now"].as_u64().expect("a time");
    let before = now();
    publish_comments(&node, &["live:1"], 3, 1);
    set("-1800");
    becomes("the clock to be set back", true, || now() < before);
    node.publish("live:1", &json!({"type": "comment", "id": "after", "data": {}}));
    let mut stream = resume(&node, "topic=live:1", &format!("local:{before}-0"));
    assert_eq!(take(&mut stream, 3), ["live:1/0", "live:1/1", "live:1/2"]);
    let after = stream.next().expect("the stream goes on");
    assert_eq!(name(&after), "after");
    let newest = after.id.expect("each comment has its place");
    // Who has all lacks nothing, whatever the clock says; those of the last ten seconds come once more.
    let mut stream = resume(&node, "topic=live:1", &newest);
    node.publish("live:1", &json!({"type": "comment", "id": "live", "data": {}}));
    assert_eq!(take(&mut stream, 5), ["live:1/0", "live:1/1", "live:1/2", "after", "live"]);
}
