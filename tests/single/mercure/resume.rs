//! Subscribers that come back.

use super::support::mercure::{next, open, target, texts, update};
use super::support::node::Node;
use super::support::sse::Stream;

fn publish(node: &Node, topics: &[&str], texts: std::ops::RangeInclusive<u32>) {
    for number in texts {
        let text = number.to_string();
        let fields: Vec<(&str, &str)> =
            topics.iter().map(|topic| ("topic", *topic)).chain([("data", text.as_str())]).collect();
        update(node.public, None, &fields);
    }
}

fn header(stream: &Stream) -> Option<&str> {
    stream.head.header("last-event-id")
}

/// Subscribers of this protocol cannot tell what comes again, as far as the place that they come with says all.
#[test]
fn update_missed_or_repeated_by_who_comes_back_to_one_topic() {
    let node = Node::with(&["--cores", "2"]);
    let mut stream = open(node.public, &target(&["a"], &[]), &[]);
    assert_eq!(header(&stream), None);
    // Also a client that was cut before its first update.
    let begins = stream.begins.clone().expect("a place");
    publish(&node, &["a"], 1..=5);
    let ids: Vec<String> = (0..3).map(|_| next(&mut stream).id.expect("an id")).collect();
    drop(stream);
    publish(&node, &["b", "a"], 6..=7);
    for (id, from) in [(&ids[2], 4), (&ids[0], 2), (&begins, 1)] {
        let wanted: Vec<String> = (from..=7).map(|number: u32| number.to_string()).collect();
        for name in ["lastEventID", "last_event_id", "Last-Event-ID"] {
            let mut stream = open(node.public, &target(&["a"], &[(name, id)]), &[]);
            assert_eq!(header(&stream), Some(&**id), "{name}");
            assert_eq!(texts(&mut stream, wanted.len()), wanted, "{name} {id}");
        }
        let mut stream = open(node.public, &target(&["a"], &[]), &[("Last-Event-ID", id.clone())]);
        assert_eq!(header(&stream), Some(&**id));
        assert_eq!(texts(&mut stream, wanted.len()), wanted);
    }
    // And then what comes.
    let mut stream = open(node.public, &target(&["a"], &[("lastEventID", &ids[2])]), &[]);
    publish(&node, &["a"], 8..=8);
    assert_eq!(texts(&mut stream, 5), ["4", "5", "6", "7", "8"]);
}

/// Each has its own place, so some may come again, under the id that it had.
#[test]
fn update_missed_by_who_comes_back_to_two_topics() {
    let node = Node::with(&["--cores", "2"]);
    let mut stream = open(node.public, &target(&["a", "b"], &[]), &[]);
    publish(&node, &["a", "b"], 1..=2);
    publish(&node, &["b"], 3..=3);
    let mut came: Vec<(String, String)> =
        (0..3).map(|_| next(&mut stream)).map(|one| (one.data, one.id.expect("an id"))).collect();
    let last = came.last().expect("three").1.clone();
    drop(stream);
    publish(&node, &["b", "a"], 4..=4);
    publish(&node, &["a"], 5..=5);
    let mut stream = open(node.public, &target(&["a", "b"], &[("lastEventID", &last)]), &[]);
    let mut again = Vec::new();
    while again.last().is_none_or(|(text, _)| text != "5") {
        let one = next(&mut stream);
        again.push((one.data, one.id.expect("an id")));
    }
    let of = |list: &[(String, String)]| list.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    let mut each = of(&again);
    each.sort();
    each.dedup();
    assert_eq!(each.len(), again.len(), "on one stream nothing comes twice: {again:?}");
    assert!(each.ends_with(&["4".to_owned(), "5".to_owned()]), "{again:?}");
    let name = |id: &str| id.split('#').next().expect("an id").to_owned();
    came.retain(|(text, _)| each.contains(text));
    for (text, id) in came {
        let repeated = again.iter().find(|(other, _)| *other == text).expect("it was just found");
        assert_eq!(name(&repeated.1), name(&id), "{text}");
    }
}

#[test]
fn history_that_nobody_can_read() {
    let node = Node::start();
    publish(&node, &["a"], 1..=3);
    let mut stream = open(node.public, &target(&["a"], &[("lastEventID", "earliest")]), &[]);
    assert_eq!(header(&stream), Some("earliest"));
    assert_eq!(texts(&mut stream, 3), ["1", "2", "3"]);
    // An id that another hub gave, or that is a publisher's own: all that there is, and the word that some may be missing.
    for id in ["urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb", "x#local:soon", "#", "\u{e9}"] {
        let mut stream = open(node.public, &target(&["a"], &[("lastEventID", id)]), &[]);
        assert_eq!(header(&stream), Some("earliest"), "{id}");
        let gap = stream.next().expect("a gap");
        assert_eq!((gap.name.as_str(), gap.data.as_str()), ("gap", r#"{"after":null,"topic":"mercure:a"}"#), "{id}");
        assert_eq!(texts(&mut stream, 3), ["1", "2", "3"], "{id}");
    }
}

#[test]
fn history_that_was_forgotten_in_silence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.toml");
    std::fs::write(&file, "[events.mercure]\nhistory = 2\n").expect("the folder is ours");
    let node = Node::in_folder(folder.path(), &["--config", file.to_str().expect("a path of the tests")]);
    let mut stream = open(node.public, &target(&["a"], &[]), &[]);
    publish(&node, &["a"], 1..=1);
    let last = next(&mut stream).id.expect("an id");
    drop(stream);
    // More than a node has at hand beside history.
    publish(&node, &["a"], 2..=300);
    let mut stream = open(node.public, &target(&["a"], &[("lastEventID", &last)]), &[]);
    let gap = stream.next().expect("a gap");
    assert_eq!((gap.name.as_str(), gap.json()["topic"].as_str()), ("gap", Some("mercure:a")));
    assert_eq!(texts(&mut stream, 2), ["299", "300"]);
}
