//! What nodes say of their interface, each of its own. That it is true is tested wherever tests ask a public listener; see
//! `tests/support/described.rs`.

use crate::support;
use serde_json::{Value, json};
use support::http::Client;
use support::node::Node;
use support::token::SECRET;

/// The methods of a path, in alphabetical order.
fn methods<'a>(document: &'a Value, path: &str) -> Vec<&'a str> {
    document["paths"][path].as_object().into_iter().flatten().map(|(method, _)| method.as_str()).collect()
}

#[test]
fn a_role_that_describes_what_others_serve() {
    let away = ["--cores", "1", "--dispatchers", "http://127.0.0.1:1", "--kv", "redis://127.0.0.1:1"];
    let of = |role: &str| {
        let node = if role == "all" { Node::start() } else { Node::role(role, &away) };
        ["/openapi.json", "/asyncapi.json"].map(|path| node.get(path).json())
    };
    let [all, frontend, dispatcher, backend] = ["all", "frontend", "dispatcher", "backend"].map(of);
    assert_eq!(methods(&all[0], "/v1/events"), ["get", "post"]);
    assert_eq!(methods(&frontend[0], "/v1/events"), ["get"]);
    assert_eq!(methods(&dispatcher[0], "/v1/events"), ["post"]);
    assert!(methods(&backend[0], "/v1/events").is_empty());
    assert_eq!(methods(&backend[0], "/v1/videos/{video}/likes"), ["delete", "get", "post"]);
    assert!(all[1]["channels"]["events"].is_object() && frontend[1]["channels"]["events"].is_object());
    assert!(dispatcher[1].get("channels").is_none() && backend[1].get("channels").is_none());
}

#[test]
fn a_description_that_needs_what_it_describes() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, SECRET).unwrap();
    let node = Node::with(&["--cores", "1", "--auth", "jwt", "--jwt-key-file", key.to_str().unwrap()]);
    for path in ["/openapi.json", "/asyncapi.json"] {
        let answer = node.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let etag = answer.header("etag").expect("a tag").to_owned();
        let mut client = Client::connect(node.public);
        let again = client.request("GET", path, &[("If-None-Match", &etag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!((head.status, head.header("etag")), (200, Some(&*etag)));
        let refused = client.request("POST", path, &[], b"{}");
        refused.problem(405);
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
    assert_eq!(node.get("/openapi.json").json()["security"], json!([{"bearer": []}, {"query": []}]));
}
