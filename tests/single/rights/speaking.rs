//! Who speaks as whom: types, ids and members that belong to others.

use serde_json::json;

use crate::support::node::Node;
use crate::support::reaction;
use crate::support::token::{Guarded, SECRET, as_bearer, claims, send, signed, token};

/// Types that speak for a member or of what is stored.
const NAMED: [&str; 6] = ["like", "tap", "comment", "message", "deleted", "typing"];
/// Types of what only nodes know.
const OF_NODES: [&str; 5] = ["likes", "viewers", "presence", "receipt", "rules"];

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
