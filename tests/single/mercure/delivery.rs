//! What reaches whom, and how it looks.

use crate::support::http::Client;
use crate::support::mercure::{HUB, next, open, target, texts, update};
use crate::support::node::Node;
use crate::support::sse::{Message, Stream};

#[test]
fn update_that_looks_other_than_it_was_published() {
    let node = Node::start();
    let mut stream = open(node.public, &target(&["https://a.example/books/1"], &[]), &[]);
    let topic = ("topic", "https://a.example/books/1");
    let id = update(
        node.public,
        None,
        &[topic, ("data", "{\"a\":\n1}"), ("id", "urn:x:1"), ("type", "book"), ("retry", "2500")],
    );
    assert_eq!(id, "urn:x:1");
    let first = stream.next().expect("an update");
    assert_eq!((first.name.as_str(), first.data.as_str()), ("book", "{\"a\":\n1}"));
    let shown = first.id.expect("it has an id");
    assert!(shown.starts_with("urn:x:1#local:"), "{shown}");
    assert_eq!(stream.messages.retries.last(), Some(&2500));
    let id = update(node.public, None, &[topic, ("data", "a\r\nb\rc\n\u{e9}\u{1f389}")]);
    assert!(id.starts_with("urn:uuid:") && id.len() == 9 + 36 && &id[23..24] == "8", "{id}");
    let Message { id: shown, name, data } = stream.next().expect("an update");
    assert_eq!((name.as_str(), data.as_str()), ("message", "a\nb\nc\n\u{e9}\u{1f389}"));
    assert!(shown.is_some_and(|shown| shown.starts_with(&format!("{id}#local:"))));
    // Nothing at all is an update, too.
    update(node.public, None, &[topic]);
    assert_eq!(next(&mut stream).data, "");
}

/// Whoever watches several of an update's topics gets it by one of them, whichever shard is theirs and whatever else they watch.
#[test]
fn update_to_several_topics_shown_twice_or_not_at_all() {
    let node = Node::with(&["--cores", "2"]);
    let watching =
        [&["a"][..], &["b"], &["c"], &["a", "b"], &["b", "a"], &["c", "b"], &["a", "b", "c"], &["c", "d"], &["d"]];
    let mut streams: Vec<(&[&str], Stream)> =
        watching.iter().map(|topics| (*topics, open(node.public, &target(topics, &[]), &[]))).collect();
    let sent =
        [("1", &["a", "b", "c"][..]), ("2", &["b"]), ("3", &["c", "a", "a"]), ("4", &["b", "a"]), ("5", &["d", "c"])];
    for (text, topics) in sent {
        let fields: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", *topic)).chain([("data", text)]).collect();
        update(node.public, None, &fields);
    }
    // Everybody has an end to wait for.
    let all: Vec<(&str, &str)> =
        ["a", "b", "c", "d"].map(|topic| ("topic", topic)).into_iter().chain([("data", "end")]).collect();
    update(node.public, None, &all);
    for (watched, stream) in &mut streams {
        let wanted = sent.iter().filter(|(_, topics)| topics.iter().any(|topic| watched.contains(topic)));
        let mut wanted: Vec<String> = wanted.map(|(text, _)| (*text).to_owned()).collect();
        wanted.push("end".to_owned());
        let mut came = texts(stream, wanted.len());
        // Of several topics none waits for the others.
        came.sort();
        wanted.sort();
        assert_eq!(came, wanted, "{watched:?}");
        assert_eq!(stream.come(), [], "{watched:?}");
    }
}

#[test]
fn client_of_http_1_0_left_out() {
    let node = Node::start();
    let mut client = Client::connect(node.public);
    client.send(format!("GET {} HTTP/1.0\r\n\r\n", target(&["a", "b"], &[])));
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    for text in ["1", "2"] {
        update(node.public, None, &[("topic", "a"), ("topic", "b"), ("data", text)]);
    }
    assert_eq!(texts(&mut stream, 2), ["1", "2"]);
}

/// Its backlog has each update once, too, and ends in a `bye`; what it missed comes with the next stream.
#[test]
fn slow_reader_of_two_topics_misses_updates() {
    let node = Node::start();
    let mut stream = open(node.public, &target(&["a", "b"], &[]), &[]);
    socket2::SockRef::from(&stream.socket).set_recv_buffer_size(4096).expect("a socket option");
    let text = "x".repeat(12 * 1024);
    const COUNT: usize = 600;
    let mut publisher = Client::connect(node.public);
    for number in 0..COUNT {
        let body = format!("topic=a&topic=b&data={number}+{text}");
        assert_eq!(publisher.request("POST", HUB, &[], body.as_bytes()).status, 200);
    }
    let (mut seen, mut last) = (vec![0; COUNT], None);
    let mut take = |message: &Message| {
        let number: usize = message.data.split(' ').next().expect("a number").parse().expect("a number");
        seen[number] += 1;
        last.clone_from(&message.id);
        number + 1 < COUNT
    };
    let is_cut = loop {
        match stream.next().expect("it says bye") {
            message if message.name == "message" => {
                if !take(&message) {
                    break false;
                }
            }
            message => {
                assert_eq!((message.name.as_str(), message.json()["reason"].as_str()), ("bye", Some("backlog")));
                break true;
            }
        }
    };
    assert!(is_cut, "the test is to fill what a stream may have waiting");
    assert!(seen.iter().all(|count| *count < 2), "{seen:?}");
    let mut last = last.expect("it got some");
    while seen[COUNT - 1] == 0 {
        let mut stream = open(node.public, &target(&["a", "b"], &[("lastEventID", &last)]), &[]);
        loop {
            let message = stream.next().expect("it goes on");
            if message.name != "message" {
                break;
            }
            let number: usize = message.data.split(' ').next().expect("a number").parse().expect("a number");
            seen[number] += 1;
            last = message.id.expect("an id");
            if number + 1 == COUNT {
                break;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
