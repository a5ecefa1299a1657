//! Who may do what, with `--auth jwt`, on every endpoint. Each test is named after what it prevents.

mod support;

use serde_json::json;
use support::http::Answer;
use support::node::Node;
use support::reaction;
use support::token::{
    BEARER, Guarded, SECRET, as_bearer, assert_unquoted, bad_tokens, claims, publish_inside, send, signed, token,
};

/// What a token must allow for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Subscribe,
    Publish,
    /// Any token.
    Token,
    /// A token of the stream's member.
    Member,
}

/// A request that concerns the topic `live:42`, `chat:42` or `presence:bob`, and how it is answered.
#[derive(Debug)]
struct Endpoint {
    method: &'static str,
    target: String,
    body: String,
    needs: Needs,
    works: &'static [u16],
}

/// Every endpoint that asks for a token; `connection` is an open stream of ana's.
fn endpoints(connection: &str) -> Vec<Endpoint> {
    let endpoint = |method, target: &str, body: &str, needs, works| Endpoint {
        method,
        target: target.replace("{connection}", connection),
        body: body.to_owned(),
        needs,
        works,
    };
    let like = reaction("ana", "like");
    let said = json!({"member": "ana", "text": "hello"}).to_string();
    vec![
        endpoint("GET", "/v1/events?topic=live:42", "", Needs::Subscribe, &[200]),
        endpoint("HEAD", "/v1/events?topic=live:42", "", Needs::Subscribe, &[200]),
        endpoint("GET", "/v1/events?topic=live:1&topic=live:42", "", Needs::Subscribe, &[200]),
        endpoint("GET", "/v1/events", "", Needs::Token, &[200]),
        endpoint("POST", "/v1/topics/live:42/events", r#"{"type":"note"}"#, Needs::Publish, &[202]),
        endpoint("POST", "/v1/events", "", Needs::Token, &[202]),
        endpoint("POST", "/v1/events", "{\"topic\":\"live:1\",\"type\":\"note\"}\n", Needs::Token, &[202]),
        endpoint("POST", "/v1/videos/42/likes", &like, Needs::Publish, &[200, 201]),
        endpoint("GET", "/v1/videos/42/likes", "", Needs::Subscribe, &[200]),
        endpoint("HEAD", "/v1/videos/42/likes", "", Needs::Subscribe, &[200]),
        endpoint("DELETE", "/v1/videos/42/likes", &like, Needs::Publish, &[200]),
        endpoint("POST", "/v1/connections/{connection}/topics", r#"{"add":["live:42"]}"#, Needs::Subscribe, &[200]),
        endpoint("POST", "/v1/connections/{connection}/topics", r#"{"remove":["live:42"]}"#, Needs::Member, &[200]),
        endpoint("POST", "/v1/connections/{connection}/token", "", Needs::Member, &[204]),
        endpoint("POST", "/v1/connections/{connection}/token", "{}", Needs::Member, &[204]),
        endpoint("POST", "/v1/received", r#"{"samples":[]}"#, Needs::Token, &[204]),
        endpoint("POST", "/v1/videos/42/comments", &said, Needs::Publish, &[201]),
        endpoint("GET", "/v1/videos/42/comments", "", Needs::Subscribe, &[200]),
        endpoint("HEAD", "/v1/videos/42/comments?limit=1", "", Needs::Subscribe, &[200]),
        endpoint("DELETE", "/v1/videos/42/comments/7-0123abcd", "", Needs::Publish, &[404]),
        endpoint("POST", "/v1/conversations/42/messages", &said, Needs::Publish, &[201]),
        endpoint("GET", "/v1/conversations/42/messages", "", Needs::Subscribe, &[200]),
        endpoint("DELETE", "/v1/conversations/42/messages/7-0123abcd", "", Needs::Publish, &[404]),
        endpoint("POST", "/v1/conversations/42/typing", "{}", Needs::Publish, &[202]),
        endpoint("POST", "/v1/conversations/42/receipts", r#"{"message":"7-0123abcd"}"#, Needs::Publish, &[400]),
        endpoint("GET", "/v1/conversations/42/receipts", "", Needs::Subscribe, &[200]),
        endpoint("GET", "/v1/presence?member=bob", "", Needs::Subscribe, &[200]),
    ]
}

/// Where a request carries its token.
#[derive(Debug, Clone, Copy)]
enum Carry {
    Header,
    Query,
}

fn ask(node: &Node, endpoint: &Endpoint, carried: Option<(&str, Carry)>) -> Answer {
    let (mut target, mut headers) = (endpoint.target.clone(), Vec::new());
    let value;
    match carried {
        None => {}
        Some((token, Carry::Header)) => {
            value = format!("Bearer {token}");
            headers.push(("Authorization", value.as_str()));
        }
        Some((token, Carry::Query)) => {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&format!("access_token={token}"));
        }
    }
    send(node, endpoint.method, &target, &headers, endpoint.body.as_bytes())
}

/// Asserts a refusal, and gives its detail, which a HEAD request has none of.
#[track_caller]
fn refused(endpoint: &Endpoint, answer: &Answer, status: u16, challenge: &str) -> String {
    assert_eq!(answer.status, status, "{endpoint:?} {answer:?} {}", answer.text());
    let header = answer.header("www-authenticate").unwrap_or_else(|| panic!("no challenge: {endpoint:?} {answer:?}"));
    assert!(header.starts_with(challenge), "{endpoint:?} {header}");
    if endpoint.method == "HEAD" { String::new() } else { answer.problem(status) }
}

#[test]
fn some_endpoint_without_a_check() {
    let guarded = Guarded::start(&["--log", "debug"]);
    let node = &guarded.node;
    let good = token("ana", &["live:*", "chat:42", "presence:*"], &["live:*", "chat:42"]);
    let bad = bad_tokens();
    let stream = node.stream(&format!("topic=live:1&access_token={good}"));
    for endpoint in endpoints(stream.connection()) {
        let answer = ask(node, &endpoint, None);
        let detail = refused(&endpoint, &answer, 401, BEARER);
        assert_eq!(answer.header("www-authenticate"), Some(BEARER), "a request without a token gets no error code");
        assert!(endpoint.method == "HEAD" || detail.contains("needs a token"), "{endpoint:?} {detail}");
        for bad in &bad {
            for carry in [Carry::Header, Carry::Query] {
                let answer = ask(node, &endpoint, Some((&bad.token, carry)));
                let detail = refused(&endpoint, &answer, 401, &format!("{BEARER}, error=\"invalid_token\""));
                assert!(endpoint.method == "HEAD" || detail.contains(bad.says), "{} {carry:?}: {detail}", bad.name);
                assert_unquoted(&bad.token, &format!("{answer:?} {}", answer.text()));
            }
        }
        for other in ["Basic YW5hOnNlY3JldA==", "Bearer", &format!("Bearer {good}, Bearer {good}"), &good] {
            let target = &endpoint.target;
            let answer = send(node, endpoint.method, target, &[("Authorization", other)], endpoint.body.as_bytes());
            refused(&endpoint, &answer, 401, &format!("{BEARER}, error=\"invalid_token\""));
        }
        let twice = [("Authorization", format!("Bearer {good}")), ("Authorization", format!("Bearer {good}"))];
        let twice = twice.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(send(node, endpoint.method, &endpoint.target, &twice, endpoint.body.as_bytes()).status, 400);
        let both = Endpoint { target: with_query(&endpoint.target, &good), ..endpoint_of(&endpoint) };
        let answer = ask(node, &both, Some((&good, Carry::Header)));
        refused(&both, &answer, 400, &format!("{BEARER}, error=\"invalid_request\""));
        let answer = ask(node, &both, Some((&good, Carry::Query)));
        refused(&both, &answer, 400, &format!("{BEARER}, error=\"invalid_request\""));
        for carry in [Carry::Header, Carry::Query] {
            let answer = ask(node, &endpoint, Some((&good, carry)));
            assert!(endpoint.works.contains(&answer.status), "{endpoint:?} {carry:?} {answer:?} {}", answer.text());
        }
    }
    guarded.assert_silent(bad.iter().map(|bad| bad.token.as_str()).chain([good.as_str()]));
}

fn with_query(target: &str, token: &str) -> String {
    let sign = if target.contains('?') { '&' } else { '?' };
    format!("{target}{sign}access_token={token}")
}

fn endpoint_of(endpoint: &Endpoint) -> Endpoint {
    let Endpoint { method, needs, works, .. } = *endpoint;
    Endpoint { method, needs, works, target: endpoint.target.clone(), body: endpoint.body.clone() }
}

#[test]
fn some_endpoint_without_a_right() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let stream = node.stream(&format!("access_token={}", token("ana", &["live:*"], &[])));
    // Of each right the one on another topic, and the other right on this one.
    let no_subscribe =
        token("ana", &["live:1", "live:4", "live:421", "Live:*", "chat:4", "presence:b", "user:*"], &["*"]);
    let no_publish = token("ana", &["*"], &["live:1", "live:4", "live:421", "Live:*", "chat:4", "moderate:42"]);
    let nothing = token("ana", &[], &[]);
    let other = token("bob", &["*"], &["*"]);
    let nobody = {
        let mut claims = claims("", &["*"], &["*"]);
        claims.as_object_mut().unwrap().remove("sub");
        signed(SECRET, &claims)
    };
    for endpoint in endpoints(stream.connection()) {
        let (tokens, says): (&[&String], &str) = match endpoint.needs {
            Needs::Subscribe => (&[&no_subscribe, &nothing], "lacks the right fanfare.subscribe on "),
            Needs::Publish => (&[&no_publish, &nothing], "lacks the right fanfare.publish on "),
            Needs::Token => (&[], ""),
            Needs::Member => (&[&other, &nobody], "another member (sub)"),
        };
        for token in tokens {
            let answer = ask(node, &endpoint, Some((token, Carry::Header)));
            let detail = refused(&endpoint, &answer, 403, &format!("{BEARER}, error=\"insufficient_scope\""));
            assert!(endpoint.method == "HEAD" || detail.contains(says), "{endpoint:?} {detail}");
        }
        // What has the right does work, with no other right.
        let rights: [&[&str]; 2] = match endpoint.needs {
            Needs::Subscribe => [&["live:42", "live:1", "chat:42", "presence:bob"], &[]],
            Needs::Publish => [&[], &["live:42", "chat:42"]],
            Needs::Token | Needs::Member => [&[], &[]],
        };
        let answer = ask(node, &endpoint, Some((&token("ana", rights[0], rights[1]), Carry::Header)));
        assert!(endpoint.works.contains(&answer.status), "{endpoint:?} {answer:?} {}", answer.text());
    }
    // Another member's stream stays as it is, whatever the token allows.
    let topics = format!("/v1/connections/{}/topics", stream.connection());
    for token in [&other, &nobody] {
        assert!(as_bearer(node, token, "POST", &topics, r#"{"add":["live:42"]}"#).problem(403).contains("sub"));
    }
}

#[test]
fn open_endpoint_closed() {
    let guarded = Guarded::start(&["--cors-origin", "https://page.example"]);
    let node = &guarded.node;
    for target in ["/", "/fanfare.js", "/v1/time"] {
        assert_eq!(node.get(target).status, 200, "{target}");
    }
    assert_eq!(node.get("/v1/nothing").status, 404);
    let preflight = [("Origin", "https://page.example"), ("Access-Control-Request-Method", "POST")];
    let answer = send(node, "OPTIONS", "/v1/topics/live:42/events", &preflight, b"");
    assert_eq!(answer.status, 204);
    assert!(answer.header("access-control-allow-headers").is_some_and(|list| list.contains("Authorization")));
    // A page must be able to read why it was refused.
    let line = b"{\"topic\":\"live:1\",\"type\":\"note\"}\n";
    let answer = send(node, "POST", "/v1/events", &[("Origin", "https://page.example")], line);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some("https://page.example")));
}

#[test]
fn topics_widened_by_spelling() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let token = token("ana", &["live:42", "room:*"], &["live:42", "room:*"]);
    let stream = node.stream(&format!("access_token={token}"));
    // A topic as it stands in a path or query, what it is after decoding once, and the answer.
    for (spelled, status) in [
        ("live:42", 200),
        ("live:4%32", 200),
        ("%6Cive%3A42", 200),
        ("room::", 200),
        ("room:%252F", 200),
        ("live:43", 403),
        ("live:421", 403),
        ("live:4", 403),
        ("live:042", 403),
        ("live:42.", 403),
        ("LIVE:42", 403),
        ("Live:42", 403),
        ("live::42", 403),
        ("roomX:1", 403),
        ("Room:1", 403),
        ("room%253A1:2", 403),
        ("live:%252a", 403),
        ("live:%252A", 403),
        // Another spelling of the very topic (RFC 3986, 6.2.2).
        ("live:4%2532", 200),
        ("live:4%2533", 403),
        ("live:42%252F", 403),
        ("live:42%2500", 403),
        ("live:*", 400),
        ("live:%2a", 400),
        ("live:%2A", 400),
        ("room:*", 400),
        ("*", 400),
        ("live%253A42", 400),
        ("live:42%2F", 400),
        ("live:42%2F..%2Flive:43", 400),
        ("live:42%00", 400),
        ("live:42%20", 400),
        ("live:42%0d%0a", 400),
        ("live:42,live:43", 400),
        ("live:42%23", 400),
        ("live:42%EF%BC%8A", 400),
        ("live:42%zz", 400),
    ] {
        let answer = as_bearer(node, &token, "GET", &format!("/v1/events?topic={spelled}"), "");
        assert_eq!(answer.status, status, "{spelled} in the query: {}", answer.text());
        // One topic that is allowed does not carry another one in.
        let target = format!("/v1/events?topic=live:42&topic={spelled}&topic=room:1");
        assert_eq!(as_bearer(node, &token, "GET", &target, "").status, status, "{spelled} among others");
        let target = format!("/v1/topics/{spelled}/events");
        let published = if status == 200 { 202 } else { status };
        let answer = as_bearer(node, &token, "POST", &target, r#"{"type":"note","topic":"live:42"}"#);
        assert_eq!(answer.status, published, "{spelled} in the path: {}", answer.text());
        // JSON is not percent-decoded at all.
        if !spelled.contains('%') {
            let target = format!("/v1/connections/{}/topics", stream.connection());
            let answer = as_bearer(node, &token, "POST", &target, &json!({ "add": [spelled] }).to_string());
            assert_eq!(answer.status, status, "{spelled} in JSON: {}", answer.text());
        }
    }
    for (target, status) in [
        ("/v1/topics/live:42/../live:43/events", 404),
        ("/v1/topics/live:42%2F..%2Flive:43/events", 400),
        ("//v1/topics/live:43/events", 404),
        ("/v1//topics/live:43/events", 404),
        ("/V1/topics/live:43/events", 404),
        ("/v1/%74opics/live:43/events", 404),
        ("http://test/v1/topics/live:43/events", 403),
        ("/v1/topics/live:43/events?topic=live:42", 400),
        ("/v1/topics/live:43;live:42/events", 400),
    ] {
        let answer = as_bearer(node, &token, "POST", target, r#"{"type":"note"}"#);
        assert_eq!(answer.status, status, "{target} {}", answer.text());
    }
    // A video's name is decoded once and encoded into its topic.
    let like = reaction("ana", "like");
    for (video, status) in
        [("42", 201), ("4%32", 200), ("%2A", 403), ("*", 403), ("42%2F", 403), ("4%2532", 403), ("42%20", 403)]
    {
        let answer = as_bearer(node, &token, "POST", &format!("/v1/videos/{video}/likes"), &like);
        assert_eq!(answer.status, status, "{video} {}", answer.text());
        let read = if status == 403 { 403 } else { 200 };
        assert_eq!(as_bearer(node, &token, "GET", &format!("/v1/videos/{video}/likes"), "").status, read, "{video}");
    }
}

#[test]
fn line_without_a_right_published() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let token = token("ana", &["*"], &["live:42", "chat:*"]);
    let mut stream = node.stream(&format!("topic=live:42&topic=live:43&topic=chat:1&access_token={token}"));
    let lines = [
        r#"{"topic":"live:42","type":"note","data":1}"#,
        r#"{"topic":"live:43","type":"note","data":2}"#,
        r#"{"topic":"live:\u0034\u0033","type":"note","data":3}"#,
        r#"{"topic":"live:42","type":"note","data":4,"topic":"live:43"}"#,
        r#"{"topic":"live:42","type":"viewers","data":5}"#,
        r#"{"topic":"live:42","type":"view\u0065rs","data":6}"#,
        r#"{"topic":"chat:1","type":"receipt","data":7}"#,
        r#"{"topic":"chat:1","type":"presence","data":8}"#,
        r#"{"topic":"LIVE:42","type":"note","data":9}"#,
        r#"{"topic":"live:\u0034\u0032","type":"note","data":10}"#,
    ];
    let answer = as_bearer(node, &token, "POST", "/v1/events", &lines.join("\n"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(2), &json!(8)));
    let rejected: Vec<(u64, &str)> = answer["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    let numbers: Vec<u64> = rejected.iter().map(|(line, _)| *line).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 8, 9]);
    for (line, detail) in rejected {
        let says = match line {
            4 => "\"topic\" is given twice",
            5..=8 => "only from nodes",
            _ => "lacks the right fanfare.publish on",
        };
        assert!(detail.contains(says), "{line}: {detail}");
    }
    for expected in [1, 10] {
        assert_eq!(stream.event()["data"], expected);
    }
    for kind in ["viewers", "presence", "receipt", "view\\u0065rs"] {
        let body = format!(r#"{{"type":"{kind}"}}"#);
        let detail = as_bearer(node, &token, "POST", "/v1/topics/live:42/events", &body).problem(403);
        assert!(detail.contains("only from nodes"), "{detail}");
    }
    // Nodes do send them, by the internal listener, which asks for no token.
    stream.messages.viewers = true;
    publish_inside(node, "live:42", &json!({"type": "viewers", "data": {"viewers": 3}}));
    // The node counts its viewers meanwhile.
    let mut seen = 0;
    while seen != 3 {
        let event = stream.event();
        assert_eq!(event["type"], "viewers");
        seen = event["data"]["viewers"].as_u64().expect("a number");
    }
}

/// Types that speak for a member or of what is stored.
const NAMED: [&str; 6] = ["like", "tap", "comment", "message", "deleted", "typing"];
/// Types of what only nodes know.
const OF_NODES: [&str; 6] = ["likes", "unlike", "viewers", "presence", "receipt", "rules"];

#[test]
fn speaking_for_others_by_publishing() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let viewer = token("ana", &["*"], &["live:42"]);
    let mut service = claims("service", &[], &["live:42"]);
    service["fanfare"]["types"] = json!(NAMED);
    let service = signed(SECRET, &service);
    let mut stream = node.stream(&format!("topic=live:42&access_token={viewer}"));
    let one = |token: &str, event: &str| as_bearer(node, token, "POST", "/v1/topics/live:42/events", event);
    let line = |token: &str, event: &str| {
        let line = event.replacen('{', r#"{"topic":"live:42","#, 1);
        let answer = as_bearer(node, token, "POST", "/v1/events", &line).json();
        answer["rejected"][0]["detail"].as_str().map(str::to_owned)
    };
    for kind in NAMED.into_iter().chain(OF_NODES) {
        let (named, says) = match NAMED.contains(&kind) {
            true => (true, format!("lacks the type {kind} (fanfare.types)")),
            false => (false, "come only from nodes".to_owned()),
        };
        let event = json!({"type": kind, "data": {"member": "bob", "text": "hi", "likes": 999_999_999}}).to_string();
        assert!(one(&viewer, &event).problem(403).contains(&says), "{kind}");
        assert!(line(&viewer, &event).is_some_and(|detail| detail.contains(&says)), "{kind}");
        if named {
            assert_eq!(one(&service, &event).status, 202, "{kind}");
            assert_eq!(line(&service, &event), None, "{kind}");
        } else {
            assert!(one(&service, &event).problem(403).contains(&says), "{kind}");
        }
    }
    // What was refused was not shown: there is nothing but the service's.
    let shown: Vec<_> = (0..2 * NAMED.len()).map(|_| stream.event()["type"].clone()).collect();
    assert!(NAMED.iter().all(|kind| shown.iter().filter(|shown| *shown == kind).count() == 2), "{shown:?}");
    // A right is no right on another topic.
    let event = r#"{"type":"comment"}"#;
    as_bearer(node, &service, "POST", "/v1/topics/live:43/events", event).problem(403);
    // A claim that asks for what nobody is given.
    for (types, says) in
        [(json!(["viewers"]), "only from nodes"), (json!(["*"]), "no wildcards"), (json!("like"), "not a list")]
    {
        let mut claims = claims("eve", &[], &["live:42"]);
        claims["fanfare"]["types"] = types;
        assert!(one(&signed(SECRET, &claims), r#"{"type":"note"}"#).problem(401).contains(says));
    }
}

#[test]
fn id_of_a_post_taken_before_it() {
    let guarded = Guarded::start(&[]);
    let open = Node::start();
    let mut claims = claims("ana", &["*"], &["live:42"]);
    claims["fanfare"]["types"] = json!(NAMED);
    let token = signed(SECRET, &claims);
    for (node, token) in [(&guarded.node, Some(token.as_str())), (&open, None)] {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
        let ask = |target: &str, body: &str| send(node, "POST", target, &headers, body.as_bytes());
        let query = token.map(|token| format!("&access_token={token}")).unwrap_or_default();
        let mut stream = node.stream(&format!("topic=live:42{query}"));
        let said = r#"{"member":"ana","text":"hello"}"#;
        let post = || {
            let answer = ask("/v1/videos/42/comments", said);
            assert_eq!(answer.status, 201, "{answer:?}");
            answer.json()["id"].as_str().expect("an id").to_owned()
        };
        let id = post();
        assert_eq!(stream.event()["id"], id.as_str());
        let (number, database) = id.split_once('-').expect("a number and a database");
        let next = format!("{}-{database}", number.parse::<u64>().expect("a number") + 1);
        let given = ask("/v1/topics/live:42/events", r#"{"type":"note"}"#).json()["id"].as_str().unwrap().to_owned();
        assert_eq!(stream.event()["id"], given.as_str());
        for taken in [&next, &format!("{id}.deleted"), &given] {
            for kind in ["note", "comment"] {
                let event = json!({"topic": "live:42", "type": kind, "id": taken}).to_string();
                assert!(ask("/v1/topics/live:42/events", &event).problem(403).contains("given by nodes"), "{taken}");
                assert_eq!(ask("/v1/events", &event).json()["rejected_total"], 1, "{taken}");
            }
        }
        assert_eq!(post(), next);
        assert_eq!(stream.event()["id"], next.as_str(), "the owner's comment is shown");
        assert_eq!(ask("/v1/topics/live:42/events", r#"{"type":"note","id":"mine-1"}"#).status, 202);
    }
}

#[test]
fn what_nodes_count_made_up_where_there_are_no_tokens() {
    let node = Node::start();
    for kind in OF_NODES {
        let event = json!({"type": kind, "data": {"viewers": 1_000_000}}).to_string();
        let detail = node.post("/v1/topics/live:42/events", event).problem(403);
        assert!(detail.contains("come only from nodes"), "{detail}");
    }
    // Who may name any member may as well publish as one.
    for kind in NAMED {
        node.publish("live:42", &json!({"type": kind, "data": {"member": "ana"}}));
    }
}

#[test]
fn member_made_up() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:*"], &["live:*"]);
    let mut stream = node.stream(&format!("topic=live:42&member=ana&access_token={ana}"));
    let likes = "/v1/videos/42/likes";
    assert_eq!(as_bearer(node, &ana, "POST", likes, "{}").status, 201);
    let event = stream.event();
    assert_eq!((&event["type"], &event["data"]["member"]), (&json!("like"), &json!("ana")));
    assert_eq!(as_bearer(node, &ana, "POST", likes, &reaction("ana", "like")).status, 200, "it is the same like");
    for method in ["POST", "DELETE"] {
        for name in ["bob", "Ana", "", "ana "] {
            as_bearer(node, &ana, method, likes, &reaction(name, "like")).problem(403);
        }
    }
    let mut nobody = claims("", &["live:*"], &["live:*"]);
    nobody.as_object_mut().unwrap().remove("sub");
    let nobody = signed(SECRET, &nobody);
    for body in ["{}", &reaction("ana", "like")] {
        assert!(as_bearer(node, &nobody, "POST", likes, body).problem(403).contains("names no member"));
    }
    for member in ["bob", "an%61a", ""] {
        let target = format!("/v1/events?topic=live:42&member={member}");
        as_bearer(node, &ana, "GET", &target, "").problem(403);
        as_bearer(node, &ana, "GET", &format!("{target}&member=ana"), "").problem(403);
    }
    // Nobody in particular may watch.
    assert_eq!(as_bearer(node, &nobody, "GET", "/v1/events?topic=live:42", "").status, 200);
    assert_eq!(as_bearer(node, &ana, "DELETE", likes, "{}").json(), json!({"likes": 0}));
    assert_eq!(stream.event()["type"], "unlike");
}

#[test]
fn cookie_used_by_a_foreign_page() {
    let guarded = Guarded::start(&["--jwt-cookie", "sid", "--cors-origin", "https://page.example"]);
    let node = &guarded.node;
    let good = token("ana", &["live:*", "chat:42", "presence:*"], &["live:*", "chat:42"]);
    let cookie = format!("theme=dark; sid={good}");
    let stream = node.stream(&format!("access_token={good}"));
    for endpoint in endpoints(stream.connection()) {
        let ask = |headers: &[(&str, &str)]| {
            let headers = [&[("Cookie", cookie.as_str())], headers].concat();
            send(node, endpoint.method, &endpoint.target, &headers, endpoint.body.as_bytes())
        };
        // What the tests send as Host is "localhost".
        for headers in [
            [("Origin", "https://page.example")],
            [("Origin", "https://localhost")],
            [("Sec-Fetch-Site", "same-origin")],
        ] {
            let answer = ask(&headers);
            assert!(endpoint.works.contains(&answer.status), "{endpoint:?} {headers:?} {answer:?} {}", answer.text());
        }
        for headers in [
            &[][..],
            &[("Origin", "https://evil.example")],
            &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "same-origin")],
            &[("Origin", "https://page.example.evil.example")],
            &[("Origin", "http://localhost:81")],
            // A page in plain HTTP may be made up by whoever is on the way.
            &[("Origin", "http://test")],
            &[("Origin", "https://localhost"), ("Sec-Fetch-Site", "cross-site")],
            &[("Origin", "null")],
            &[("Origin", "")],
            &[("Sec-Fetch-Site", "cross-site")],
            &[("Sec-Fetch-Site", "same-site")],
            &[("Referer", "http://test/")],
        ] {
            let answer = ask(headers);
            let detail = refused(&endpoint, &answer, 403, BEARER);
            assert!(endpoint.method == "HEAD" || detail.contains("allowed origin"), "{headers:?} {detail}");
        }
        // What a page puts there itself needs no origin.
        let bearer = format!("Bearer {good}");
        let headers = [("Authorization", bearer.as_str()), ("Origin", "https://evil.example")];
        let answer = send(node, endpoint.method, &endpoint.target, &headers, endpoint.body.as_bytes());
        assert!(endpoint.works.contains(&answer.status), "{endpoint:?} {answer:?}");
    }
    // A neighbour's cookie of the same name, and one of another name.
    let own = ("Origin", "https://localhost");
    for (cookie, status) in [
        (format!("sid={good}; sid={good}"), 400),
        (format!("Sid={good}"), 401),
        ("sid=".to_owned(), 401),
        (format!("xsid={good}"), 401),
    ] {
        let answer = send(node, "GET", "/v1/events", &[("Cookie", &cookie), own], b"");
        assert_eq!(answer.status, status, "{cookie}");
    }
    let without = Guarded::start(&[]);
    let answer = send(&without.node, "GET", "/v1/events", &[("Cookie", &cookie), own], b"");
    assert_eq!(answer.status, 401, "no cookie is configured");
}

#[test]
fn post_deleted_by_anybody() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let (ana, bob) = (token("ana", &["live:42"], &["live:42"]), token("bob", &["live:42"], &["live:42"]));
    let moderator = token("mia", &[], &["moderate:live:42"]);
    // A conversation, and the right as it was before it named the topic.
    let elsewhere = token("mia", &[], &["moderate:42", "moderate:chat:42", "moderate:live:4", "moderate:live:421"]);
    let comments = "/v1/videos/42/comments";
    let post = || {
        let answer = as_bearer(node, &ana, "POST", comments, r#"{"text":"hello"}"#);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let delete = |token: &str, id: &str| as_bearer(node, token, "DELETE", &format!("{comments}/{id}"), "");
    let id = post();
    assert!(delete(&bob, &id).problem(403).contains("author"));
    // Naming the author does not make one.
    let named = as_bearer(node, &bob, "DELETE", &format!("{comments}/{id}"), r#"{"member":"ana"}"#);
    assert!(named.problem(403).contains("member"));
    delete(&elsewhere, &id).problem(403);
    let watches = token("mia", &[], &["live:42", "moderate:42", "moderate:chat:*"]);
    assert!(delete(&watches, &id).problem(403).contains("moderate:live:42"));
    assert_eq!(delete(&ana, &id).status, 200);
    let id = post();
    assert_eq!(delete(&moderator, &id).status, 200);
    let left = as_bearer(node, &ana, "GET", comments, "").json();
    assert_eq!(left["comments"], json!([]));
    // A conversation of the video's name has moderators of its own.
    let writer = token("ana", &[], &["chat:42"]);
    let messages = "/v1/conversations/42/messages";
    let id = as_bearer(node, &writer, "POST", messages, r#"{"text":"hello"}"#).json()["id"].clone();
    let target = format!("{messages}/{}", id.as_str().expect("an id"));
    as_bearer(node, &moderator, "DELETE", &target, "").problem(403);
    let moderator = token("mia", &[], &["moderate:chat:42"]);
    assert_eq!(as_bearer(node, &moderator, "DELETE", &target, "").status, 200);
}

#[test]
fn own_topic_needs_asking() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:1"], &[]);
    let mut stream = node.stream(&format!("topic=live:1&access_token={ana}"));
    publish_inside(node, "user:ana", &json!({"type": "note", "data": "for you"}));
    assert_eq!(stream.event()["data"], "for you");
    // Another member's is not to be had by asking.
    assert!(as_bearer(node, &ana, "GET", "/v1/events?topic=user:bob", "").problem(403).contains("user:bob"));
}

/// It needs no right, counts as none of the stream's topics, and comes back to who asks for it again.
#[test]
fn own_topic_in_the_way_of_others_or_gone_for_good() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ana = token("ana", &["live:*"], &[]);
    let most: Vec<String> = (0..100).map(|number| format!("topic=live:{number}")).collect();
    let mut stream = node.stream(&format!("{}&topic=user:ana&access_token={ana}", most[1..].join("&")));
    drop(node.stream(&format!("{}&access_token={ana}", most.join("&"))));
    let target = format!("/v1/connections/{}/topics", stream.connection());
    let change = |body: &str| as_bearer(node, &ana, "POST", &target, body);
    assert_eq!(change(r#"{"add":["live:0"]}"#).status, 200);
    assert_eq!(change("{}").status, 200);
    assert!(change(r#"{"add":["live:100"]}"#).problem(400).contains("100 topics"));
    let topics = |answer: Answer| answer.json()["topics"].as_array().expect("a list").contains(&json!("user:ana"));
    assert!(!topics(change(r#"{"remove":["user:ana"]}"#)));
    assert!(topics(change(r#"{"add":["user:ana"]}"#)));
    publish_inside(node, "user:ana", &json!({"type": "note", "data": "for you"}));
    assert_eq!(stream.event()["data"], "for you");
}
