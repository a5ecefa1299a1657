//! Streams of topics that nobody named: by URI templates, and by `*`.

use serde_json::json;

use super::support::becomes;
use super::support::http::{Client, request};
use super::support::mercure::{bearer, next, open, pass, target, texts, update};
use super::support::node::Node;
use super::support::sse::Stream;
use super::support::token::Guarded;

const SITE: &str = "https://a.example";

fn site(path: &str) -> String {
    format!("{SITE}{path}")
}

/// Publishes an update of this text to topics.
fn publish(node: &Node, token: Option<&str>, topics: &[&str], text: &str, more: &[(&str, &str)]) -> String {
    let topics: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", *topic)).collect();
    update(node.public, token, &[&topics[..], &[("data", text)], more].concat())
}

/// The next texts, without an order: topics do not wait for each other.
fn sorted(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut came = texts(stream, count);
    came.sort();
    came
}

#[test]
fn update_missed_by_a_template_or_shown_to_who_has_another() {
    let node = Node::with(&["--cores", "2"]);
    let (books, reviews, authors) = (site("/books/{id}"), site("/books/{id}/reviews"), site("/authors/{id}"));
    let (feed, first) = (site("/feed{?page}"), site("/books/1"));
    let long = site(&format!("/books/{}", "long".repeat(60)));
    let longer = format!("{long}/reviews");
    // Each topic, and by which of these it is had, beside `*`.
    let sent: [(&str, &[&str]); 8] = [
        (&first, &[&books, &first]),
        (&site("/books/2"), &[&books]),
        (&site("/books/1/reviews"), &[&reviews]),
        (&site("/authors/1"), &[&authors]),
        (&site("/feed?page=2"), &[&feed]),
        ("name", &[]),
        (&long, &[&books]),
        (&longer, &[&reviews]),
    ];
    let watching: [&[&str]; 9] = [
        &["*"],
        &[&books],
        &[&reviews],
        &[&authors, &feed],
        &[&books, &first],
        &[&first, "name"],
        &[&books, &reviews, "*"],
        &[&longer],
        &[&site("/nothing/{id}"), "name"],
    ];
    // On either core, and what comes again once a topic is open.
    let streams = || watching.iter().map(|topics| (topics.to_vec(), open(node.public, &target(topics, &[]), &[])));
    let mut streams: Vec<(Vec<&str>, Stream)> = streams().chain(streams()).chain(streams()).collect();
    for round in 0..2 {
        for (topic, _) in sent {
            publish(&node, None, &[topic], &format!("{round} {topic}"), &[]);
        }
        for (topics, stream) in &mut streams {
            let is_had = |(topic, by): &&(&str, &[&str])| {
                topics.iter().any(|has| *has == "*" || has == topic || by.contains(has))
            };
            let mut wanted: Vec<String> =
                sent.iter().filter(is_had).map(|(topic, _)| format!("{round} {topic}")).collect();
            wanted.sort();
            assert_eq!(sorted(stream, wanted.len()), wanted, "{topics:?}");
        }
    }
    streams.iter_mut().for_each(|(topics, stream)| assert_eq!(stream.come(), [], "{topics:?}"));
    // Who comes later has what is open at once.
    let mut stream = open(node.public, &target(&[&books], &[]), &[]);
    publish(&node, None, &[&first], "later", &[]);
    assert_eq!(texts(&mut stream, 1), ["later"]);
}

#[test]
fn update_of_several_topics_shown_twice_or_not_at_all_by_a_template() {
    let node = Node::with(&["--cores", "2"]);
    let (books, authors) = (site("/books/{id}"), site("/authors/{id}"));
    let [book, other, author] = ["/books/1", "/books/2", "/authors/1"].map(site);
    let long = site(&format!("/books/{}", "long".repeat(60)));
    let watching: [&[&str]; 7] =
        [&["*"], &[&books], &[&authors], &[&books, &authors], &[&books, &author], &[&book, &authors], &["*", &other]];
    let mut streams: Vec<(Vec<&str>, Stream)> =
        watching.iter().map(|topics| (topics.to_vec(), open(node.public, &target(topics, &[]), &[]))).collect();
    let sent: [&[&str]; 7] = [
        &[&book, &other, &author],
        &[&author, &book],
        &["name", &author],
        &["name", &other, &long],
        &[&long, &author],
        &[&author, &long, &book],
        &[&book, &author],
    ];
    for (number, topics) in sent.iter().enumerate() {
        publish(&node, None, topics, &number.to_string(), &[]);
    }
    for (topics, stream) in &mut streams {
        let has = |topic: &str| {
            topics.iter().any(|has| match *has {
                "*" => true,
                has if has.ends_with("{id}") => topic.starts_with(has.trim_end_matches("{id}")),
                has => has == topic,
            })
        };
        let is_had = |(_, topics): &(usize, &&[&str])| topics.iter().any(|topic| has(topic));
        let wanted: Vec<String> =
            sent.iter().enumerate().filter(is_had).map(|(number, _)| number.to_string()).collect();
        assert_eq!(sorted(stream, wanted.len()), wanted, "{topics:?}");
    }
    streams.iter_mut().for_each(|(topics, stream)| assert_eq!(stream.come(), [], "{topics:?}"));
}

#[test]
fn private_update_shown_to_strangers_by_a_template() {
    let guarded = Guarded::start(&["--mercure-anonymous"]);
    let node = &guarded.node;
    let (books, book, user) = (site("/books/{id}"), site("/books/1"), site("/users/ana"));
    let long = site(&format!("/books/{}", "long".repeat(60)));
    let claims = [
        (None, &[][..]),
        (Some(json!({"subscribe": []})), &[]),
        (Some(json!({"subscribe": [site("/authors/{id}"), site("/books/2")]})), &[]),
        (Some(json!({"subscribe": [book]})), &["book", "both"]),
        (Some(json!({"subscribe": [user]})), &["both"]),
        (Some(json!({"subscribe": [long]})), &["long"]),
        (Some(json!({"subscribe": [site("/{kind}/{id}")]})), &["book", "both", "long"]),
        (Some(json!({"subscribe": ["*"]})), &["book", "both", "long"]),
    ];
    let by = pass(&json!({"publish": ["*"]}));
    let all = |round: u32| {
        let private = &[("private", "on")];
        publish(node, Some(&by), &[&book], &format!("{round} public"), &[]);
        publish(node, Some(&by), &[&book], &format!("{round} book"), private);
        publish(node, Some(&by), &[&book, &user], &format!("{round} both"), private);
        publish(node, Some(&by), &[&user], &format!("{round} hers"), private);
        publish(node, Some(&by), &[&long], &format!("{round} long"), private);
        publish(node, Some(&by), &[&site("/books/2")], &format!("{round} end"), &[]);
    };
    let opened = |claim: &Option<serde_json::Value>, more: &[(&str, &str)]| {
        let token = claim.as_ref().map(pass);
        open(node.public, &target(&[&books], more), &bearer(token.as_deref()))
    };
    let mut streams: Vec<Stream> = claims.iter().map(|(claim, _)| opened(claim, &[])).collect();
    for round in 0..2 {
        all(round);
        for ((claim, may), stream) in claims.iter().zip(&mut streams) {
            let wanted = ["public", "book", "both", "long", "end"].map(|text| (text, may.contains(&text)));
            let wanted = wanted.iter().filter(|(text, may)| *may || ["public", "end"].contains(text));
            let mut wanted: Vec<String> = wanted.map(|(text, _)| format!("{round} {text}")).collect();
            wanted.sort();
            assert_eq!(sorted(stream, wanted.len()), wanted, "{claim:?}");
            assert_eq!(stream.come(), [], "{claim:?}");
        }
    }
    // Nor is what history has of it.
    for (claim, may) in &claims {
        let mut stream = opened(claim, &[("lastEventID", "earliest")]);
        let wanted = 2 * (2 + may.len());
        let came = sorted(&mut stream, wanted);
        assert!(
            came.iter().all(|text| may.iter().chain(&["public", "end"]).any(|may| text.ends_with(may))),
            "{came:?}"
        );
        assert_eq!(stream.come(), [], "{claim:?}");
    }
}

#[test]
fn update_missed_by_who_comes_back_to_a_template() {
    let node = Node::with(&["--cores", "2"]);
    let books = site("/books/{id}");
    let all = |round: u32| {
        for number in 0..4 {
            publish(&node, None, &[&site(&format!("/books/{number}"))], &format!("{round} {number}"), &[]);
            publish(&node, None, &[&site(&format!("/books/{number}/reviews"))], "a review", &[]);
        }
        publish(&node, None, &[&site(&format!("/books/{}", "long".repeat(60)))], &format!("{round} long"), &[]);
    };
    let of = |rounds: &[u32]| {
        let each = rounds.iter().flat_map(|round| ["0", "1", "2", "3", "long"].map(|name| format!("{round} {name}")));
        each.collect::<Vec<_>>()
    };
    let mut stream = open(node.public, &target(&[&books], &[]), &[]);
    all(1);
    let ids: Vec<String> = (0..5).map(|_| next(&mut stream).id.expect("an id")).collect();
    drop(stream);
    all(2);
    // Those of 10 s before come again, and no gap.
    let mut stream = open(node.public, &target(&[&books], &[("lastEventID", &ids[4])]), &[]);
    assert_eq!(stream.head.header("last-event-id"), Some(&*ids[4]));
    assert_eq!(sorted(&mut stream, 10), of(&[1, 2]));
    all(3);
    assert_eq!(sorted(&mut stream, 5), of(&[3]));
    assert_eq!(stream.come(), []);
    for earliest in [&books, "*"] {
        let mut stream = open(node.public, &target(&[earliest], &[("lastEventID", "earliest")]), &[]);
        let wanted =
            if *earliest == *"*" { [of(&[1, 2, 3]), vec!["a review".to_owned(); 12]].concat() } else { of(&[1, 2, 3]) };
        assert_eq!(sorted(&mut stream, wanted.len()), wanted);
    }
    // What nobody can read is told by a gap of the prefix.
    let mut stream = open(node.public, &target(&[&books], &[("lastEventID", "urn:uuid:elsewhere")]), &[]);
    let gap = stream.next().expect("a gap");
    let prefix = "mercure:https%3A%2F%2Fa.example%2Fbooks%2F*";
    assert_eq!((gap.name.as_str(), gap.json()["topic"].as_str()), ("gap", Some(prefix)));
    assert_eq!(sorted(&mut stream, 15), of(&[1, 2, 3]));
}

/// What shares a template's beginning and is not selected takes no room of what a stream that comes back is given.
#[test]
fn many_other_topics_hide_those_of_a_template() {
    let node = Node::start();
    let reviews = site("/books/{id}/reviews");
    let mut stream = open(node.public, &target(&[&reviews], &[]), &[]);
    publish(&node, None, &[&site("/books/1/reviews")], "1", &[]);
    let last = next(&mut stream).id.expect("an id");
    drop(stream);
    publish(&node, None, &[&site("/books/2/reviews")], "2", &[]);
    for number in 0..300 {
        publish(&node, None, &[&site(&format!("/books/{number}"))], "a book", &[]);
    }
    let mut stream = open(node.public, &target(&[&reviews], &[("lastEventID", &last)]), &[]);
    assert_eq!(texts(&mut stream, 2), ["1", "2"]);
    publish(&node, None, &[&site("/books/3/reviews")], "3", &[]);
    assert_eq!(texts(&mut stream, 1), ["3"]);
    assert_eq!(stream.come(), []);
}

/// It is had for the streams of its prefix while there are some, though none of them wants it.
#[test]
fn topic_that_no_stream_wants_kept_for_ever() {
    let node = Node::start();
    let mut stream = open(node.public, &target(&["/books/{id}/reviews"], &[]), &[]);
    publish(&node, None, &["/books/1"], "a book", &[]);
    publish(&node, None, &["/books/1/reviews"], "a review", &[]);
    assert_eq!(texts(&mut stream, 1), ["a review"]);
    let nodes = || {
        let question = json!([{"subscribers": "mercure:%2Fbooks%2F1"}]).to_string();
        let mut client = Client::connect(node.internal);
        let answer = client.request("POST", "/v1/internal/kv", &[], question.as_bytes()).json();
        answer[0]["Ok"]["subscribers"].as_array().map(Vec::len)
    };
    becomes("the topic to be had", Some(1), nodes);
    drop(stream);
    becomes("the topic to be let go", Some(0), nodes);
}

#[test]
fn client_of_a_template_that_speaks_http_1_0_or_asks_for_a_head() {
    let node = Node::start();
    let target = target(&[&site("/books/{id}"), "*"], &[]);
    let mut client = Client::connect(node.public);
    client.send(String::from_utf8(request("HEAD", &target, &[], b"")).expect("text"));
    assert_eq!(client.answer_to_head().status, 200);
    let mut client = Client::connect(node.public);
    client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    publish(&node, None, &[&site("/books/1"), "name"], "1", &[]);
    publish(&node, None, &["name", &site("/books/1")], "2", &[]);
    assert_eq!(sorted(&mut stream, 2), ["1", "2"]);
}
