//! The path of a like: from a POST through the database to every viewer. Each test is named after what it prevents.

use crate::support;
use std::collections::HashSet;
use std::sync::{Arc, Barrier};

use serde_json::json;
use support::http::{Answer, Client};
use support::node::Node;
use support::reaction;
use support::sse::Stream;

fn like(node: &Node, video: &str, member: &str, name: &str) -> Answer {
    node.post(&format!("/v1/videos/{video}/likes"), reaction(member, name))
}

fn unlike(node: &Node, video: &str, member: &str, name: &str) -> Answer {
    let target = format!("/v1/videos/{video}/likes");
    Client::connect(node.public).request("DELETE", &target, &[], reaction(member, name).as_bytes())
}

/// Publishes something that comes after whatever was sent before, and asserts that it is what the streams get next.
#[track_caller]
fn nothing_more(node: &Node, topic: &str, streams: &mut [Stream]) {
    let id = node.publish(topic, &json!({"type": "marker"}));
    for stream in streams {
        let event = stream.event();
        assert_eq!((&event["type"], &event["id"]), (&json!("marker"), &json!(id)), "{event}");
    }
}

#[test]
fn like_unseen_on_some_shard() {
    let node = Node::start();
    let mut streams = node.stream_on_each_shard("topic=live:42");
    let answer = like(&node, "42", "ana", "like");
    assert_eq!((answer.status, answer.json()), (201, json!({"likes": 1})));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    for stream in &mut streams {
        let event = stream.event();
        assert!(event["id"].as_str().is_some_and(|id| !id.is_empty()), "{event}");
        assert!(event["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{event}");
        for (name, value) in [
            ("topic", json!("live:42")),
            ("type", json!("like")),
            ("key", json!("like")),
            ("count", json!(1)),
            ("data", json!({"member": "ana", "reaction": "like", "likes": 1})),
        ] {
            assert_eq!(event[name], value, "{name} in {event}");
        }
    }
    nothing_more(&node, "live:42", &mut streams);
}

#[test]
fn repeated_like_sent_twice() {
    let node = Node::start();
    let mut streams = [node.stream("topic=live:1")];
    assert_eq!(like(&node, "1", "ana", "like").status, 201);
    let again = like(&node, "1", "ana", "like");
    assert_eq!((again.status, again.json()), (200, json!({"likes": 1})));
    assert_eq!(streams[0].event()["type"], "like");
    nothing_more(&node, "live:1", &mut streams);
}

#[test]
fn simultaneous_repeats_stored_twice() {
    const THREADS: usize = 16;
    let node = Arc::new(Node::start());
    for round in 0..10 {
        let video = format!("round-{round}");
        let topic = format!("live:{video}");
        let mut streams = node.stream_on_each_shard(&format!("topic={topic}"));
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (node, start, video) = (Arc::clone(&node), Arc::clone(&start), video.clone());
                std::thread::spawn(move || {
                    let mut client = Client::connect(node.public);
                    start.wait();
                    let target = format!("/v1/videos/{video}/likes");
                    let answer = client.request("POST", &target, &[], reaction("ana", "like").as_bytes());
                    assert_eq!(answer.json(), json!({"likes": 1}));
                    answer.status
                })
            })
            .collect();
        let mut statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [&[200; THREADS - 1][..], &[201]].concat());
        for stream in &mut streams {
            assert_eq!(stream.event()["type"], "like");
        }
        nothing_more(&node, &topic, &mut streams);
    }
}

#[test]
fn like_cannot_be_taken_back() {
    let node = Node::start();
    let mut streams = node.stream_on_each_shard("topic=live:9");
    for (member, name) in [("ana", "like"), ("bo", "like"), ("ana", "love")] {
        assert_eq!(like(&node, "9", member, name).status, 201);
        streams.iter_mut().for_each(|stream| assert_eq!(stream.event()["type"], "like"));
    }
    let answer = unlike(&node, "9", "ana", "like");
    assert_eq!((answer.status, answer.json()), (200, json!({"likes": 2})));
    // What is not there cannot be taken back.
    assert_eq!(unlike(&node, "9", "ana", "like").json(), json!({"likes": 2}));
    assert_eq!(unlike(&node, "9", "nobody", "like").status, 200);
    nothing_more(&node, "live:9", &mut streams);
    assert_eq!(like(&node, "9", "ana", "like").status, 201, "a like that was taken back can be given again");
}

#[test]
fn totals_wrong_under_concurrency() {
    const THREADS: usize = 8;
    const LIKES: usize = 50;
    let node = Arc::new(Node::start());
    let mut stream = node.stream("topic=live:busy");
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let node = Arc::clone(&node);
            std::thread::spawn(move || {
                let mut client = Client::connect(node.public);
                (0..LIKES)
                    .map(|number| {
                        let body = reaction(&format!("member-{thread}-{number}"), "love");
                        let answer = client.request("POST", "/v1/videos/busy/likes", &[], body.as_bytes());
                        assert_eq!(answer.status, 201);
                        answer.json()["likes"].as_u64().unwrap()
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let totals: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let all = (THREADS * LIKES) as u64;
    let distinct: HashSet<u64> = totals.iter().copied().collect();
    assert_eq!(distinct, (1..=all).collect(), "every like is answered with a total of its own");
    let answer = node.get("/v1/videos/busy/likes").json();
    assert_eq!((&answer["likes"], &answer["reactions"]["love"]), (&json!(all), &json!(all)));
    // The viewer's counts add up to the same, merged or not, and the newest data has the total.
    let (mut seen, mut highest) = (0, 0);
    while seen < all {
        let event = stream.event();
        seen += event["count"].as_u64().unwrap();
        highest = highest.max(event["data"]["likes"].as_u64().unwrap());
    }
    assert_eq!((seen, highest), (all, all));
}

#[test]
fn counts_mix_reactions_or_videos() {
    let node = Node::start();
    for (video, member, name) in
        [("a", "ana", "like"), ("a", "ana", "funny"), ("a", "bo", "funny"), ("b", "ana", "like")]
    {
        assert_eq!(like(&node, video, member, name).status, 201, "{video} {member} {name}");
    }
    let answer = node.get("/v1/videos/a/likes");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"likes": 3, "reactions": {"like": 1, "funny": 2}}));
    assert_eq!(node.get("/v1/videos/b/likes").json()["likes"], 1);
    let none = node.get("/v1/videos/c/likes").json();
    assert_eq!(none["likes"], 0);
    let head = Client::connect(node.public).request("HEAD", "/v1/videos/a/likes", &[], b"");
    assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
}

#[test]
fn acknowledged_like_lost_in_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    for member in 0..20 {
        assert_eq!(like(&node, "42", &format!("member-{member}"), "like").status, 201);
    }
    node.kill();
    let node = Node::in_folder(folder.path(), &["--cores", "2"]);
    assert_eq!(node.get("/v1/videos/42/likes").json()["likes"], 20);
    let again = like(&node, "42", "member-7", "like");
    assert_eq!((again.status, again.json()), (200, json!({"likes": 20})), "it knows who liked");
}

#[test]
fn names_that_need_encoding_reach_another_topic() {
    let node = Node::start();
    for (path, topic, other) in [
        ("caf%C3%A9%20%2F%3F%26%23", "live:caf%C3%A9%20%2F%3F%26%23", "live:caf"),
        ("a+b", "live:a%2Bb", "live:a%20b"),
        ("100%25", "live:100%25", "live:100"),
        ("x:y", "live:x%3Ay", "live:x"),
        ("%E2%80%A8", "live:%E2%80%A8", "live:%E2"),
    ] {
        let query = |topic: &str| format!("topic={}", topic.replace('%', "%25"));
        let mut streams = [node.stream(&query(topic))];
        let mut others = [node.stream(&query(other))];
        assert_eq!(like(&node, path, "ana", "like").status, 201, "{path}");
        let event = streams[0].event();
        assert_eq!(event["topic"], topic);
        assert_eq!(node.get(&format!("/v1/videos/{path}/likes")).json()["likes"], 1, "{path}");
        nothing_more(&node, &other.replace('%', "%25"), &mut others);
    }
    assert_eq!(node.get("/v1/videos/a%20b/likes").json()["likes"], 0, "+ in a path is no space");
    // Members are data: whatever they hold comes through as it is.
    let mut stream = node.stream("topic=live:names");
    let member = "Zoë \"ö\" \\ </script> \u{1F389}";
    assert_eq!(like(&node, "names", member, "like").status, 201);
    assert_eq!(stream.event()["data"]["member"], member);
}

#[test]
fn bad_like_stored() {
    let node = Node::start();
    let target = "/v1/videos/42/likes";
    let long = "x".repeat(129);
    for (body, names) in [
        (r#"{"member":"ana","reaction":"hate"}"#.to_owned(), "reaction"),
        (r#"{"reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":null,"reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":"","reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":7,"reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":"a\nb","reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":"a\u0000b","reaction":"like"}"#.to_owned(), "member"),
        (r#"{"member":"a\u0085b","reaction":"like"}"#.to_owned(), "member"),
        (reaction(&long, "like"), "member"),
        (r#"{"member":"ana","reaction":"like""#.to_owned(), "column"),
        (r#"["ana"]"#.to_owned(), "member"),
        (String::new(), "body"),
    ] {
        let answer = node.post(target, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.problem(400).contains(names), "{body}: {answer:?}");
    }
    node.post(target, b"{\"member\":\"\xff\"}").problem(400);
    for video in ["%00", "a%0Ab", "%7F", "%FF", "%zz", "%", ""] {
        node.post(&format!("/v1/videos/{video}/likes"), reaction("ana", "like")).problem(400);
    }
    assert!(node.post(&format!("/v1/videos/{long}/likes"), reaction("ana", "like")).problem(400).contains("video"));
    let answer = Client::connect(node.public).request("PUT", target, &[], b"");
    assert!(answer.problem(405).contains("POST"));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, DELETE, OPTIONS"));
    assert_eq!(node.get(target).json()["likes"], 0);
}

#[test]
fn first_viewer_misses_events_of_a_known_empty_topic() {
    let node = Node::start();
    for round in 0..20 {
        // Every core learns that nobody wants the topic.
        let topic = format!("live:empty-{round}");
        for _ in 0..8 {
            node.publish(&topic, &json!({"type": "before"}));
        }
        let mut streams = [node.stream(&format!("topic={topic}"))];
        // Whichever core takes these knows better from `connected` on.
        for number in 0..8 {
            node.publish(&topic, &json!({"type": "after", "data": number}));
        }
        let seen: Vec<u64> = (0..8).map(|_| streams[0].event()["data"].as_u64().unwrap()).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
