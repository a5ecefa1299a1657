//! Who may publish and see what.

use serde_json::{Value, json};

use super::support::http::{Answer, request};
use super::support::mercure::{HUB, bearer, form, open, pass, publish, target, texts, update};
use super::support::node::Node;
use super::support::sse::Stream;
use super::support::token::{
    Guarded, SECRET, as_bearer, assert_unquoted, bad_tokens, claims, send, signed, unix_seconds, with,
};

const BOOK: &str = "https://a.example/books/1";

fn publisher() -> String {
    pass(&json!({"publish": ["*"]}))
}

#[test]
fn private_update_shown_to_strangers() {
    let guarded = Guarded::start(&["--mercure-anonymous"]);
    let node = &guarded.node;
    let user = "https://a.example/users/ana";
    let claims = [
        (None, false),
        (Some(json!({})), false),
        (Some(json!({"subscribe": []})), false),
        (Some(json!({"subscribe": ["https://a.example/books/2", "https://a.example/authors/{id}"]})), false),
        (Some(json!({"publish": ["*"]})), false),
        (Some(json!({"subscribe": [BOOK]})), true),
        (Some(json!({"subscribe": ["https://a.example/{kind}/{id}"]})), true),
        (Some(json!({"subscribe": ["*"]})), true),
    ];
    let opened = |claim: &Option<Value>, more: &[(&str, &str)]| {
        let token = claim.as_ref().map(pass);
        open(node.public, &target(&[BOOK], more), &bearer(token.as_deref()))
    };
    let mut streams: Vec<Stream> = claims.iter().map(|(claim, _)| opened(claim, &[])).collect();
    let by = publisher();
    update(node.public, Some(&by), &[("topic", BOOK), ("data", "public")]);
    update(node.public, Some(&by), &[("topic", BOOK), ("data", "private"), ("private", "on")]);
    update(node.public, Some(&by), &[("topic", "x"), ("topic", BOOK), ("data", "of two"), ("private", "")]);
    // A right to another topic of an update is one to the update.
    update(node.public, Some(&by), &[("topic", BOOK), ("topic", user), ("data", "ana's"), ("private", "on")]);
    update(node.public, Some(&by), &[("topic", BOOK), ("data", "end")]);
    let ana = json!({"subscribe": [user]});
    let wanted = |may: bool| match may {
        true => &["public", "private", "of two", "ana's", "end"][..],
        false => &["public", "end"],
    };
    for ((claim, may), stream) in claims.iter().zip(&mut streams) {
        assert_eq!(texts(stream, wanted(*may).len()), wanted(*may), "{claim:?}");
        // Nor what history has of it.
        let mut stream = opened(claim, &[("lastEventID", "earliest")]);
        assert_eq!(texts(&mut stream, wanted(*may).len()), wanted(*may), "{claim:?}");
    }
    let mut stream = opened(&Some(ana), &[("lastEventID", "earliest")]);
    assert_eq!(texts(&mut stream, 3), ["public", "ana's", "end"]);
    update(node.public, Some(&by), &[("topic", BOOK), ("topic", user), ("data", "hers"), ("private", "on")]);
    update(node.public, Some(&by), &[("topic", BOOK), ("data", "not hers"), ("private", "on")]);
    update(node.public, Some(&by), &[("topic", BOOK), ("data", "all's")]);
    assert_eq!(texts(&mut stream, 2), ["hers", "all's"]);
}

/// A topic that is too long to be named is known by its hash, and rights to it are those to its text.
#[test]
fn right_to_a_long_topic_lost() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let long = format!("https://a.example/{}", "long/".repeat(100));
    let token = pass(&json!({"subscribe": ["https://a.example/{+rest}"], "publish": [long]}));
    let mut stream = open(node.public, &target(&[&long], &[]), &bearer(Some(&token)));
    update(node.public, Some(&token), &[("topic", &long), ("data", "1"), ("private", "on")]);
    assert_eq!(texts(&mut stream, 1), ["1"]);
}

#[test]
fn publisher_without_the_right() {
    let guarded = Guarded::start(&["--mercure-anonymous"]);
    let node = &guarded.node;
    let mut stream = open(node.public, &target(&[BOOK], &[]), &[]);
    let fields = [("topic", BOOK), ("data", "x")];
    publish(node.public, None, &fields).problem(401);
    for claim in [
        json!({"subscribe": ["*"]}),
        json!({"publish": []}),
        json!({"publish": ["https://a.example/books/2", "https://b.example/{x}", "https://a.example/{x}"]}),
    ] {
        let detail = publish(node.public, Some(&pass(&claim)), &fields).problem(403);
        assert!(detail.contains("mercure.publish") && detail.contains(BOOK), "{detail}");
    }
    // Rights of Fanfare's own are none here.
    let own = signed(SECRET, &claims("ana", &["*"], &["*"]));
    publish(node.public, Some(&own), &fields).problem(403);
    let half = pass(&json!({"publish": [BOOK]}));
    let detail = publish(node.public, Some(&half), &[("topic", BOOK), ("topic", "b"), ("data", "x")]).problem(403);
    assert!(detail.ends_with("the topic b"), "{detail}");
    for claim in [json!("x"), json!([]), json!({"publish": "x"}), json!({"subscribe": [1]})] {
        assert!(publish(node.public, Some(&pass(&claim)), &fields).problem(401).contains("mercure"), "{claim}");
    }
    update(node.public, Some(&half), &[("topic", BOOK), ("data", "good")]);
    assert_eq!(texts(&mut stream, 1), ["good"]);
    // As issuers say it whose claims must be URIs.
    let named = json!({"exp": unix_seconds() + 60, "https://mercure.rocks/": {"publish": [BOOK]}});
    update(node.public, Some(&signed(SECRET, &named)), &[("topic", BOOK), ("data", "named")]);
    assert_eq!(texts(&mut stream, 1), ["named"]);
}

#[test]
fn bad_token_let_in_as_nobody() {
    let guarded = Guarded::start(&["--mercure-anonymous"]);
    let node = &guarded.node;
    for bad in bad_tokens() {
        for answer in [
            as_bearer(node, &bad.token, "GET", &target(&[BOOK], &[]), ""),
            as_bearer(node, &bad.token, "POST", HUB, &form(&[("topic", BOOK)])),
            send(node, "GET", &target(&[BOOK], &[("authorization", &bad.token)]), &[], b""),
        ] {
            let detail = answer.problem(401);
            assert!(detail.contains(bad.says), "{}: {detail}", bad.name);
            assert_unquoted(&bad.token, &detail);
        }
    }
    let strict = Guarded::start(&[]);
    send(&strict.node, "GET", &target(&[BOOK], &[]), &[], b"").problem(401);
}

/// A browser adds a cookie to the requests of any page.
#[test]
fn page_of_another_origin_by_its_visitors_cookie() {
    let guarded = Guarded::start(&["--cors-origin", "https://page.example"]);
    let node = &guarded.node;
    let token = pass(&json!({"subscribe": ["*"], "publish": ["*"]}));
    let cookie = format!("theme=dark; mercureAuthorization={token}");
    let ask = |method: &str, origin: &str, more: &[(&str, &str)]| -> Answer {
        let headers = [&[("Cookie", cookie.as_str()), ("Origin", origin)], more].concat();
        let form = form(&[("topic", BOOK), ("data", "by cookie")]);
        let (target, body) =
            if method == "GET" { (target(&[BOOK], &[]), &b""[..]) } else { (HUB.to_owned(), form.as_bytes()) };
        send(node, method, &target, &headers, body)
    };
    for method in ["GET", "POST"] {
        assert!(ask(method, "https://evil.example", &[]).problem(403).contains("Origin"));
        let answer = ask(method, "https://page.example", &[]);
        assert_eq!((answer.status, answer.header("access-control-allow-credentials")), (200, Some("true")));
        assert!(answer.header("access-control-expose-headers").is_some_and(|names| names.contains("Last-Event-ID")));
        // What a client says outright counts, whatever the browser adds.
        let spoken = format!("Bearer {token}");
        assert_eq!(ask(method, "https://evil.example", &[("Authorization", &spoken)]).status, 200);
    }
    let headers = [("Cookie", cookie.clone()), ("Origin", "https://page.example".to_owned())];
    let mut stream = open(node.public, &target(&[BOOK], &[]), &headers);
    update(node.public, Some(&token), &[("topic", BOOK), ("data", "private"), ("private", "on")]);
    assert_eq!(texts(&mut stream, 1), ["private"]);
    // By another name, if the settings say one; and for this protocol alone where they say none.
    send(node, "GET", "/v1/events?topic=a:b", &[("Cookie", &cookie), ("Origin", "https://page.example")], b"")
        .problem(401);
    let renamed = Guarded::start(&["--cors-origin", "https://page.example", "--jwt-cookie", "sid"]);
    let ask = |cookie: String| {
        send(
            &renamed.node,
            "GET",
            &target(&[BOOK], &[]),
            &[("Cookie", &cookie), ("Origin", "https://page.example")],
            b"",
        )
    };
    ask(format!("mercureAuthorization={token}")).problem(401);
    assert_eq!(ask(format!("sid={token}")).status, 200);
}

/// A form is what any page may send to any server, without asking before.
#[test]
fn page_of_another_origin_where_there_are_no_tokens() {
    let node = Node::start();
    for (method, target, body) in [("GET", target(&["a"], &[]), &b""[..]), ("POST", HUB.to_owned(), b"topic=a")] {
        for header in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            assert!(send(&node, method, &target, &[header], body).problem(403).contains("page of another origin"));
        }
        assert_eq!(send(&node, method, &target, &[], body).status, 200);
    }
}

#[test]
fn stream_that_outlives_its_token() {
    let guarded = Guarded::start(&["--mercure-anonymous"]);
    let node = &guarded.node;
    let token = pass(&json!({"subscribe": ["*"]}));
    let (by_header, in_query) = (bearer(Some(&token)), target(&[BOOK], &[("authorization", &token)]));
    let mut streams = [open(node.public, &target(&[BOOK], &[]), &by_header), open(node.public, &in_query, &[])];
    // It has no other topics, and no other token, in whoever's name.
    let nobodys = open(node.public, &target(&[BOOK], &[]), &[]);
    for stream in streams.iter().chain([&nobodys]) {
        let own = signed(SECRET, &claims("ana", &["*"], &["*"]));
        for (what, body) in [("topics", r#"{"add":["chat:7"]}"#), ("token", "")] {
            let target = format!("/v1/connections/{}/{what}", stream.connection());
            let detail = as_bearer(node, &own, "POST", &target, body).problem(403);
            assert!(detail.contains("/.well-known/mercure"), "{detail}");
        }
    }
    let server = signed(SECRET, &claims("server", &[], &["control:members"]));
    let told = |target: &str, body: &str| assert_eq!(as_bearer(node, &server, "POST", target, body).status, 202);
    told("/v1/members/ana/topics", r#"{"add":["chat:7"]}"#);
    told("/v1/members/ana/revoke", "");
    for stream in &mut streams {
        let bye = stream.next().expect("a bye");
        assert_eq!((bye.name.as_str(), bye.json()["reason"].as_str()), ("bye", Some("token")));
        assert_eq!(stream.next(), None);
    }
    // By its end, too: 5 s later, as clocks may differ.
    let short = signed(SECRET, &with(json!({"mercure": {"subscribe": ["*"]}}), "exp", unix_seconds() + 1));
    let mut stream =
        Stream::with_request(node.public, &request("GET", &target(&[BOOK], &[("authorization", &short)]), &[], b""));
    stream.wait_connected();
    let names: Vec<String> = std::iter::from_fn(|| stream.next()).map(|message| message.name).collect();
    assert_eq!(names, ["token", "bye"]);
}
