//! What a server ends for others: streams, and tokens before their time.

use serde_json::{Value, json};

use crate::support::becomes;
use crate::support::http::{Answer, Client};
use crate::support::node::Node;
use crate::support::sse::Stream;
use crate::support::token::{Guarded, SECRET, as_bearer, claims, signed, token, unix_seconds, with};

/// A token of a server that may end all.
fn server() -> String {
    token("server", &[], &["control:members"])
}

fn order(node: &Node, target: &str, body: &str) {
    let answer = as_bearer(node, &server(), "POST", target, body);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert!(answer.json()["id"].is_string(), "{answer:?}");
}

#[track_caller]
fn is_revoked(answer: &Answer) {
    let detail = answer.problem(401);
    assert!(detail.contains("was revoked"), "{detail}");
    let header = answer.header("www-authenticate").expect("it says how");
    assert!(header.contains("error=\"invalid_token\""), "{header}");
}

/// The stream ends with `bye`, which says `token`.
fn is_told_to_go(mut stream: Stream) {
    let bye = stream.next().expect("a bye");
    assert_eq!((bye.name.as_str(), bye.json()["reason"].as_str()), ("bye", Some("token")));
    assert_eq!(stream.next(), None);
}

#[test]
fn door_left_open_to_a_revoked_token() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let all = ["*"];
    let now = unix_seconds();
    let issued = |member: &str, iat: u64| signed(SECRET, &with(claims(member, &all, &all), "iat", iat));
    let (old, bob, new) = (issued("ana", now - 9), issued("bob", now - 9), issued("ana", now));
    let mut undated = claims("ana", &all, &all);
    undated.as_object_mut().expect("an object").remove("iat");
    let undated = signed(SECRET, &undated);
    let streams: Vec<Stream> = [&old, &old, &undated]
        .map(|token| node.stream(&format!("topic=chat:7&access_token={token}")))
        .into_iter()
        .collect();
    let mut others = [&bob, &new].map(|token| node.stream(&format!("topic=chat:7&access_token={token}")));
    let renewed = node.stream(&format!("access_token={new}"));
    order(node, "/v1/members/ana/revoke", &json!({"before": now - 5}).to_string());
    streams.into_iter().for_each(is_told_to_go);
    becomes("streams ended for their token", 3, || node.metric("fanfare_disconnects_total", "reason=\"token\""));
    becomes("revocations that are kept", 1, || node.metric("fanfare_revocations", ""));
    let event = r#"{"type":"wave","data":1}"#;
    for token in [&old, &undated] {
        let line = format!("{{\"topic\":\"chat:7\",{}\n", &event[1..]);
        for (method, target, body) in [
            ("GET", "/v1/events?topic=chat:7", ""),
            ("POST", "/v1/topics/chat:7/events", event),
            ("GET", "/v1/topics/chat:7/events", ""),
            ("POST", "/v1/events", line.as_str()),
            ("POST", "/v1/videos/7/likes", r#"{"reaction":"like"}"#),
            ("GET", "/v1/videos/7/likes", ""),
            ("POST", "/v1/members/bob/disconnect", ""),
        ] {
            is_revoked(&as_bearer(node, token, method, target, body));
        }
        let target = format!("/v1/connections/{}/token", renewed.connection());
        is_revoked(&node.post(&target, json!({ "token": token }).to_string()));
        is_revoked(&as_bearer(node, token, "POST", &target, ""));
    }
    // Whoever is not meant gets on.
    assert_eq!(as_bearer(node, &new, "POST", "/v1/topics/chat:7/events", event).status, 202);
    others.iter_mut().for_each(|stream| assert_eq!(stream.event()["type"], "wave"));
}

/// One token of several that a member has.
#[test]
fn all_tokens_of_a_member_revoked_for_one() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let [lost, kept] = ["lost/1", "kept"].map(|jti| signed(SECRET, &with(claims("ana", &["*"], &[]), "jti", jti)));
    let stream = node.stream(&format!("topic=chat:7&access_token={lost}"));
    let mut other = node.stream(&format!("topic=chat:7&access_token={kept}"));
    order(node, "/v1/tokens/lost%2F1/revoke", "");
    is_told_to_go(stream);
    is_revoked(&as_bearer(node, &lost, "GET", "/v1/events?topic=chat:7", ""));
    assert_eq!(as_bearer(node, &kept, "GET", "/v1/events?topic=chat:7", "").status, 200);
    assert_eq!(other.come().len(), 0);
}

/// The body is in while its token is revoked.
#[test]
fn long_body_that_goes_on_with_a_revoked_token() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let pass = signed(SECRET, &with(claims("ana", &[], &["*"]), "jti", "x"));
    let mut client = Client::connect(node.public);
    let head = format!("POST /v1/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {pass}\r\n");
    let line = "{\"topic\":\"chat:7\",\"type\":\"wave\"}\n";
    client.send(format!("{head}Content-Length: {}\r\n\r\n{line}", 2 * line.len()));
    becomes("its first line is taken", 1, || node.metric("fanfare_events_total", "class=\"ephemeral\""));
    let streams = node.stream_on_each_shard(&format!("access_token={pass}"));
    order(node, "/v1/tokens/x/revoke", "");
    // Then every shard knows.
    streams.into_iter().for_each(is_told_to_go);
    client.send(line);
    let answer = client.answer().json();
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&json!(1), &json!(1)), "{answer}");
    assert!(answer["rejected"][0]["detail"].as_str().is_some_and(|detail| detail.contains("was revoked")), "{answer}");
}

#[test]
fn revocation_forgotten_by_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key_file = folder.path().join("secret");
    std::fs::write(&key_file, SECRET).expect("the folder is ours");
    let flags = ["--cores", "2", "--auth", "jwt", "--jwt-key-file", key_file.to_str().expect("a path of the tests")];
    let node = Node::in_folder(folder.path(), &flags);
    let [ana, bob] = ["ana", "bob"].map(|member| token(member, &["*"], &[]));
    order(&node, "/v1/members/ana/revoke", "");
    node.kill();
    let node = Node::in_folder(folder.path(), &flags);
    // The first request comes before there was time to read on.
    is_revoked(&as_bearer(&node, &ana, "GET", "/v1/events?topic=chat:7", ""));
    assert_eq!(as_bearer(&node, &bob, "GET", "/v1/events?topic=chat:7", "").status, 200);
}

#[test]
fn anybody_who_ends_others() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let member = token("ana", &["live:*", "chat:*"], &["live:*", "chat:*"]);
    for target in
        ["/v1/members/bob/disconnect", "/v1/members/bob/revoke", "/v1/members/bob/topics", "/v1/tokens/x/revoke"]
    {
        let detail = as_bearer(node, &member, "POST", target, "{}").problem(403);
        assert!(detail.contains("fanfare.publish on control:members"), "{detail}");
        node.post(target, "{}").problem(401);
        node.get(target).problem(405);
    }
    // What nodes tell each other is not for others to make up, whatever their tokens say.
    let all = token("server", &["*"], &["*"]);
    let data = json!({"revoke": {"member": "bob", "before_ms": 1}});
    for (topic, kind) in
        [("control:members", "control.revoke"), ("control:members", "wave"), ("live:1", "control.streams")]
    {
        let event = json!({"type": kind, "data": data}).to_string();
        let detail = as_bearer(node, &all, "POST", &format!("/v1/topics/{topic}/events"), &event).problem(403);
        assert!(detail.contains("only from nodes"), "{detail}");
    }
    as_bearer(node, &member, "GET", "/v1/events?topic=control:members", "").problem(403);
    as_bearer(node, &member, "GET", "/v1/topics/control:members/events", "").problem(403);
    // Who may read it does, and learns nothing that it could not do.
    order(node, "/v1/members/bob/disconnect", "");
    let told = as_bearer(node, &all, "GET", "/v1/topics/control:members/events", "").json();
    assert_eq!(told["events"][0]["data"], json!({"disconnect": {"member": "bob"}}));
    let mut stream = node.stream(&format!("topic=control:members&access_token={all}"));
    order(node, "/v1/members/bob/disconnect", "");
    assert_eq!(stream.event()["type"], "control.streams");
}

#[test]
fn orders_that_cannot_be_meant() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let ahead = unix_seconds() + 60;
    let long = "m".repeat(200);
    for (target, body, says) in [
        ("/v1/members/ana/revoke", json!({ "before": ahead }).to_string(), "lies ahead"),
        ("/v1/members/ana/revoke", json!({"before": ahead * 1000}).to_string(), "lies ahead"),
        ("/v1/members/ana/revoke", r#"{"before":"now"}"#.to_owned(), "Unix seconds"),
        ("/v1/members/ana/revoke", "[]".to_owned(), "the body must be"),
        ("/v1/members/ana/topics", r#"{"add":["nothing"]}"#.to_owned(), "kind:id"),
        ("/v1/members/ana/topics", String::new(), "the body must be"),
        (&format!("/v1/members/{long}/disconnect"), String::new(), "128 bytes"),
        ("/v1/members/a%00b/disconnect", String::new(), "control characters"),
        ("/v1/tokens//revoke", String::new(), "jti"),
    ] {
        let detail = as_bearer(node, &server(), "POST", target, &body).problem(400);
        assert!(detail.contains(says), "{target}: {detail}");
    }
    // Topics that no token gets, by whichever name, nor a server's word.
    for topic in ["canary:x", "canary:*", "control:*"] {
        let body = json!({"add": [topic]}).to_string();
        as_bearer(node, &server(), "POST", "/v1/members/ana/topics", &body).problem(403);
    }
    assert_eq!(node.metric("fanfare_revocations", ""), 0);
}

/// A member is who the query says.
#[test]
fn streams_without_tokens_that_no_server_can_change() {
    let node = Node::with(&["--cores", "2"]);
    let topics = |stream: &Stream| -> Value {
        node.post(&format!("/v1/connections/{}/topics", stream.connection()), "{}").json()["topics"].clone()
    };
    let anas: Vec<Stream> = node.stream_on_each_shard("topic=chat:7&member=ana");
    let bob = node.stream("topic=chat:7&member=bob");
    let body = r#"{"add":["live:1"],"remove":["chat:7"]}"#;
    assert_eq!(node.post("/v1/members/ana/topics", body).status, 202);
    for stream in &anas {
        becomes("their topics", json!(["live:1"]), || topics(stream));
    }
    assert_eq!(topics(&bob), json!(["chat:7"]));
    assert_eq!(node.post("/v1/members/ana/disconnect", "").status, 202);
    let count = anas.len() as u64;
    anas.into_iter().for_each(|mut stream| {
        // Before it may come how many watch.
        let last = std::iter::from_fn(|| stream.next()).last().expect("a bye");
        assert_eq!((last.name.as_str(), last.json()["reason"].as_str()), ("bye", Some("token")));
    });
    // Streams that the test let go of may have been among them.
    let ended = || node.metric("fanfare_disconnects_total", "reason=\"disconnect\"");
    becomes("all are ended", true, || ended() >= count);
    assert_eq!(topics(&bob), json!(["chat:7"]));
    let detail = node.post("/v1/members/ana/revoke", "").problem(400);
    assert!(detail.contains("--auth none"), "{detail}");
    node.get("/v1/events?topic=control:members").problem(403);
    assert_eq!(node.post("/v1/topics/control:members/events", r#"{"type":"wave"}"#).status, 403);
}
