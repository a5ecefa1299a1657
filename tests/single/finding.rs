//! What an operator looks for: a client, an event on its way, and what happened before it was looked at.

use crate::support;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::becomes;
use support::http::Client;
use support::node::Node;

/// What is told at this address, as `what` and `detail`.
fn happenings(node: &Node, query: &str) -> Vec<(String, String)> {
    let answer = node.internal_json(&format!("/v1/happenings{query}"));
    let list = answer["happenings"].as_array().expect("a list").clone();
    let at: Vec<u64> = list.iter().map(|row| row["at"].as_u64().expect("Unix ms")).collect();
    assert!(at.is_sorted_by(|one, next| one >= next), "the newest first: {list:?}");
    let keys = |row: &Value| row.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert!(list.iter().all(|row| keys(row) == ["at", "detail", "level", "shard", "what"]), "{list:?}");
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    list.iter().map(|row| (text(row, "what"), text(row, "detail"))).collect()
}

fn shown(stream: &support::sse::Stream) -> String {
    stream.connection()[..24].to_owned()
}

#[test]
fn what_happened_not_found_or_without_whom_it_was_about() {
    let node = Node::with(&["--cores", "2", "--drain", "20s"]);
    // One that comes back from a place that nobody knows.
    let mut stream = node.stream("topic=live:7&member=ana&last_event_id=garbage");
    while stream.next().expect("it is open").name != "gap" {}
    let gap = |query: &str| happenings(&node, query).into_iter().find(|(what, _)| what == "gap");
    let (_, detail) = gap("?level=warn").expect("viewers were told");
    let named = format!("connection={} member=ana", shown(&stream));
    assert!(detail.starts_with(&named), "{detail}");
    // The rest is no warning.
    let resumed =
        |query: &str| happenings(&node, query).iter().any(|(what, detail)| what == "resumed" && *detail == named);
    assert!(resumed("?level=info") && resumed("") && !resumed("?level=warn"));
    // Which is looked at now and then.
    becomes("told that it is ready", true, || happenings(&node, "").iter().any(|(what, _)| what == "ready"));
    assert_eq!(happenings(&node, "?limit=1").len(), 1);
    // What is logged is there, too, whatever the filter says.
    assert!(happenings(&node, "").iter().any(|(what, detail)| what == "process" && detail.starts_with("ready node")));
    for (query, says) in [("level=debug", "give info or warn"), ("limit=0", "1 to 1000"), ("what=gap", "it knows")] {
        let detail =
            Client::connect(node.internal).request("GET", &format!("/v1/happenings?{query}"), &[], b"").problem(400);
        assert!(detail.contains(says), "{detail}");
    }
    node.signal(Signal::TERM);
    becomes("the drain", true, || happenings(&node, "").iter().any(|(what, _)| what == "drain"));
}

#[test]
fn happenings_of_one_kind_that_leave_no_room_for_others() {
    let node = Node::with(&["--cores", "1", "--max-address-connects", "1"]);
    let refused = || node.metric("fanfare_refused_total", "reason=\"address_connects\"");
    while refused() < 40 {
        drop(std::net::TcpStream::connect(node.public).expect("it listens"));
    }
    // 16 in ten seconds, which may be two windows.
    let told = happenings(&node, "?limit=1000").into_iter().filter(|(what, _)| what == "refused_address_connects");
    let addresses: Vec<String> = told.map(|(_, detail)| detail).collect();
    assert!((16..=33).contains(&addresses.len()), "{addresses:?}");
    assert!(addresses.iter().any(|detail| detail.contains("address=127.0.0.1")), "{addresses:?}");
}

#[test]
fn what_happened_lost_with_the_process() {
    let node = Node::with(&["--cores", "1"]);
    let mut stream = node.stream("topic=live:7&member=ana&last_event_id=garbage");
    while stream.next().expect("it is open").name != "gap" {}
    node.signal(Signal::USR1);
    node.until_logged(&["\"what\":\"gap\"", &shown(&stream), "member=ana", "\"level\":\"WARN\""]);
    let lines = node.log();
    let is_json = |line: &String| serde_json::from_str::<Value>(line).is_ok_and(|line| line["message"] == "happened");
    assert!(lines.iter().filter(|line| is_json(line)).count() >= 3, "{lines:?}");
    assert_eq!(node.get("/v1/time").status, 200, "it goes on");
}

#[test]
fn client_that_is_not_found() {
    let node = Node::with(&["--cores", "2"]);
    let ana = node.stream("topic=live:1&topic=chat:1&member=ana");
    let _bob = node.stream("topic=live:1&member=bob");
    let _nobody = node.stream("topic=live:2");
    let found = |query: &str| {
        let answer = node.internal_json(&format!("/v1/connections?{query}"));
        let rows = answer["connections"].as_array().expect("a list").clone();
        let mut members: Vec<String> =
            rows.iter().map(|row| row["member"].as_str().unwrap_or("-").to_owned()).collect();
        members.sort();
        (members.join(" "), rows)
    };
    assert_eq!(found("topic=live:1").0, "ana bob");
    assert_eq!(found("topic=live:1&limit=1").1.len(), 1);
    assert_eq!(found("topic=live:2").0, "-");
    assert_eq!(found("topic=live:3").0, "");
    let (members, rows) = found("member=ana");
    assert_eq!(members, "ana");
    assert_eq!(rows[0]["connection"], format!("{}…", shown(&ana)), "its whole name, and nothing of its secret");
    assert_eq!((&rows[0]["topics"], &rows[0]["pending_bytes"]), (&json!(["live:1", "chat:1"]), &json!(0)));
    assert_eq!(found("address=127.0.0.1").0, "- ana bob");
    assert_eq!(found("address=%3a%3affff:127.0.0.1&topic=live:1").0, "ana bob");
    assert_eq!(found("address=127.0.0.2").0, "");
    assert_eq!(found("member=ana&topic=live:2").0, "");
    assert_eq!(found("sort=pending").0, "", "where nothing is asked for, those that lag");
    for (query, says) in [("address=here", "IP address"), ("topic=live", "topic"), ("sort=age", "sort=pending")] {
        let target = format!("/v1/connections?{query}");
        let detail = Client::connect(node.internal).request("GET", &target, &[], b"").problem(400);
        assert!(detail.contains(says), "{detail}");
    }
}

#[test]
fn client_behind_a_proxy_found_by_the_proxys_address() {
    let flags = ["--cores", "1", "--trusted-proxy", "127.0.0.1", "--max-address-connections", "9"];
    let node = Node::with(&flags);
    let request = b"GET /v1/events?topic=live:1&member=ana HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    let mut stream = support::sse::Stream::with_request(node.public, request);
    stream.wait_connected();
    let found = |address: &str| {
        let answer = node.internal_json(&format!("/v1/connections?address={address}"));
        answer["connections"].as_array().expect("a list").len()
    };
    assert_eq!((found("192.0.2.7"), found("192.0.2.8"), found("127.0.0.1")), (1, 0, 0));
}

/// The steps that the log has of what is tracked, each with the names that it was found by.
fn steps(node: &Node) -> Vec<Value> {
    let lines = node.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let names = ["connection", "member", "topic", "event"];
    lines.filter(|line| line["level"] == "INFO" && names.iter().any(|name| line[name].is_string())).collect()
}

#[test]
fn event_or_member_lost_sight_of_in_the_log() {
    let node = Node::with(&["--cores", "1", "--log", "info,event=mine,member=ana"]);
    let (mut ana, mut bob) = (node.stream("topic=chat:1&member=ana"), node.stream("topic=chat:1&member=bob"));
    for id in ["mine", "other"] {
        node.publish("chat:1", &json!({"type": "message", "id": id, "data": {}}));
        ana.event();
        bob.event();
    }
    let said = |step: &str, name: &str, value: &str| {
        steps(&node).iter().any(|line| line["message"] == step && line[name] == value)
    };
    for step in ["read", "history", "ordered"] {
        becomes(step, true, || said(step, "event", "mine"));
    }
    // Of the member all that was written, of the event not to whom.
    for event in ["mine", "other"] {
        becomes("what ana was given", true, || {
            steps(&node)
                .iter()
                .any(|line| line["message"] == "written" && line["event"] == event && line["member"] == "ana")
        });
    }
    assert!(said("watches", "member", "ana") && steps(&node).iter().all(|line| line["member"] != "bob"));
    drop(ana);
    becomes("that ana left", true, || said("the client left", "member", "ana"));
    assert!(!said("read", "event", "other"), "{:?}", steps(&node));
}

#[test]
fn connection_or_topic_lost_sight_of_in_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.toml");
    std::fs::write(&file, "log = \"topic=live:caf%c3%a9\"\n").expect("a file");
    let node = Node::with(&["--cores", "1", "--config", file.to_str().expect("a path of the tests")]);
    let mut stream = node.stream("topic=live:1");
    let other = node.stream("topic=live:caf%25C3%25A9");
    becomes("who watches the topic", true, || {
        steps(&node)
            .iter()
            .any(|line| line["topic"] == "live:caf%C3%A9" && line["connection"] == shown(&other).as_str())
    });
    // Once one is seen, it is named, as its client or a listing calls it.
    std::fs::write(&file, format!("log = \"connection={}\"\n", stream.connection())).expect("a file");
    node.signal(Signal::HUP);
    node.until_logged(&["settings read again"]);
    let seen = steps(&node).len();
    node.publish("live:1", &json!({"type": "comment", "data": 1}));
    stream.event();
    becomes("what was written to it", 1, || steps(&node).len() - seen);
    assert_eq!(steps(&node)[seen]["connection"], shown(&stream).as_str());
    assert!(!node.log().iter().any(|line| line.contains(&stream.connection()[24..])), "its secret");
}

#[test]
fn happenings_shown_to_who_has_no_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").expect("a file");
    let node = Node::with(&["--cores", "1", "--cluster-secret-file", file.to_str().expect("a path of the tests")]);
    let ask =
        |headers: &[(&str, &str)]| Client::connect(node.internal).request("GET", "/v1/happenings", headers, b"").status;
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[("Authorization", "Bearer 0123456789abcdef0123456789abcdef")]), 200);
    assert_eq!(node.get("/v1/happenings").status, 404, "the public listener has none");
}
