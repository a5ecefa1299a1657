//! Who sees what a type's pace leaves out, and who is never left out.

use serde_json::json;

use crate::support::node::Node;
use crate::support::sse::Stream;
use crate::support::token::{Guarded, as_bearer, token};

/// The ids of a stream's events until this one.
fn until(stream: &mut Stream, last: &str) -> Vec<String> {
    let ids = std::iter::from_fn(|| stream.next()).map(|message| message.json()["id"].as_str().map(str::to_owned));
    ids.flatten().take_while(|id| id != last).collect()
}

fn comment(node: &Node, token: &str) -> String {
    let answer = as_bearer(node, token, "POST", "/v1/videos/1/comments", r#"{"text":"hi"}"#);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn comments_left_out_that_anybody_may_ask_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("fanfare.toml");
    std::fs::write(&config, "[events.comment]\npace = \"1/s\"\n").expect("the folder is ours");
    let guarded = Guarded::start(&["--config", config.to_str().expect("a path of the tests")]);
    let node = &guarded.node;
    let ana = token("ana", &["live:1", "chat:1"], &["live:1", "chat:1"]);
    let eve = token("eve", &["live:1", "chat:1"], &["live:1", "chat:1", "moderate:live:1"]);
    // For each of the topics, when it is opened and later.
    for (token, topics, status) in
        [(&ana, "topic=live:1", 403), (&eve, "topic=live:1&topic=chat:1", 403), (&eve, "topic=live:1", 200)]
    {
        let answer = as_bearer(node, token, "GET", &format!("/v1/events?{topics}&all=comment"), "");
        assert_eq!(answer.status, status, "{topics}: {}", answer.text());
    }
    let mut plain = node.stream(&format!("topic=live:1&access_token={ana}"));
    let mut all = node.stream(&format!("topic=live:1&all=comment&access_token={eve}"));
    let target = format!("/v1/connections/{}/topics", all.connection());
    assert_eq!(as_bearer(node, &eve, "POST", &target, r#"{"add":["chat:1"]}"#).status, 403);
    // A moderator's are shown however many there are, those of others as room is left.
    let (mut moderators, mut everybodys) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        moderators.push(comment(node, &eve));
        everybodys.extend([comment(node, &ana), comment(node, &ana), comment(node, &ana)]);
    }
    let published = [&moderators[..], &everybodys[..]].concat();
    // Posts of a topic are told of in the order of their ids.
    let last = comment(node, &eve);
    let (shown, given) = (until(&mut plain, &last), until(&mut all, &last));
    let count = |ids: &[String], of: &[String]| of.iter().filter(|id| ids.contains(id)).count();
    assert_eq!(count(&given, &published), published.len());
    assert_eq!(count(&shown, &moderators), moderators.len());
    assert!(count(&shown, &everybodys) < everybodys.len(), "{shown:?}");
    // Who is no moderator any more gets the topic no more.
    let target = format!("/v1/connections/{}/token", all.connection());
    let less = token("eve", &["live:1"], &["live:1"]);
    assert_eq!(as_bearer(node, &eve, "POST", &target, &json!({ "token": less }).to_string()).status, 204);
    let target = format!("/v1/connections/{}/topics", all.connection());
    let answer = as_bearer(node, &less, "POST", &target, "{}");
    assert_eq!(answer.json()["topics"], json!(["user:eve"]), "{}", answer.text());
}
