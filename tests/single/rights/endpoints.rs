//! Every endpoint, and what it asks for.

use serde_json::json;

use crate::support::http::Answer;
use crate::support::node::Node;
use crate::support::reaction;
use crate::support::token::{
    BEARER, Guarded, SECRET, as_bearer, assert_unquoted, bad_tokens, claims, send, signed, token,
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
        endpoint("GET", "/v1/topics/live:42/events", "", Needs::Subscribe, &[200]),
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
