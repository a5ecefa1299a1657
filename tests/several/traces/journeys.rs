//! Ways of events, hop by hop.

use std::time::Duration;

use super::setup::{Pair, Trace, trace};
use crate::cluster::setup::{start, url, wait_ready};
use crate::support::node::{Node, program, program_behind};
use crate::support::{becomes, eventually, with_another_date};

/// What is put on one way.
const DELAY: Duration = Duration::from_millis(200);

/// Traces until each node has heard the others' clocks: they do with the heartbeats.
#[track_caller]
fn known(trace: impl Fn() -> Trace) -> Trace {
    eventually("every clock on the way to be known", || Some(trace()).filter(Trace::is_known).ok_or("not yet"))
}

#[test]
fn hop_of_one_process_left_out() {
    let node = Node::start();
    let [public, internal] = [node.public, node.internal].map(|address| format!("http://{address}"));
    let flags = ["--url", &public, "--internal", &internal];
    for (kind, kept) in [("message", &["history local"][..]), ("score", &[]), ("receipts", &[])] {
        let found = trace("chat:1", kind, &flags);
        let wanted = [
            &["sent", "read local", "dispatched local"][..],
            kept,
            &["ordered local", "first_write local", "received"],
        ];
        assert_eq!(found.way(0), wanted.concat(), "{kind}");
        found.adds_up();
    }
    // For people.
    let output = program().args(["trace", "chat:1", "message"]).args(flags).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && text.contains("history") && text.contains("its hops add up to"), "{text}");
    // What was measured is in the metrics.
    let count = |labels: &str| node.metric("fanfare_hop_seconds_count", labels);
    assert_eq!(count("hop=\"history\""), 2);
    assert_eq!(count("hop=\"first_write\""), 4);
}

#[test]
fn stored_like_whose_way_begins_at_its_dispatcher() {
    let node = Node::with(&["--cores", "2", "--trace-sample", "1"]);
    let mut stream = node.stream("topic=live:7");
    let answer = node.post("/v1/videos/7/likes", r#"{"member":"ana"}"#);
    assert_eq!(answer.status, 201, "{answer:?}");
    let like = std::iter::from_fn(|| Some(stream.event())).find(|event| event["type"] == "like").expect("it comes");
    let id = like["id"].as_str().expect("an id");
    let hops = eventually("its journey to be kept", || {
        let traces = node.internal_json(&format!("/v1/traces?id={id}"));
        let hops = traces["traces"][0]["hops"].as_array().cloned();
        hops.ok_or(traces)
    });
    let names: Vec<&str> = hops.iter().filter_map(|hop| hop["hop"].as_str()).collect();
    assert_eq!(names, ["read", "stored", "dispatched", "ordered", "first_write", "last_write"]);
}

#[test]
fn hop_of_a_cluster_left_out() {
    let dispatcher = Node::start();
    let frontend = start("frontend", &[&dispatcher], &[]);
    let (to, watch) = (format!("http://{}", dispatcher.public), format!("http://{}", frontend.public));
    let flags = ["--url", &to, "--watch", &watch, "--internal", &url(&dispatcher)];
    let found = known(|| trace("chat:1", "message", &flags));
    assert_eq!(
        found.way(0),
        [
            "sent",
            "read local",
            "dispatched local",
            "history local",
            "sent local",
            "taken local",
            "ordered local",
            "first_write local",
            "received"
        ]
    );
    found.adds_up();
}

#[test]
fn hop_between_data_centers_left_out_or_a_delay_at_the_wrong_one() {
    let pair = Pair::start();
    for kind in ["message", "score", "like", "typing"] {
        let found = known(|| pair.trace(kind));
        let kept = |dc: &str| ["message", "score"].contains(&kind).then(|| format!("history {dc}"));
        let inside = |dc: &str| ["sent", "taken", "ordered", "first_write"].map(|hop| format!("{hop} {dc}"));
        let begin = || ["sent", "read a", "dispatched a"].map(str::to_owned).into_iter();
        let here = begin().chain(kept("a")).chain(inside("a")).chain(["received".to_owned()]);
        // What waits for a peer in the store is as it was before it came there.
        let before = kept("a").filter(|_| kind != "message");
        let there = begin().chain(before).chain(["sent a", "taken b"].map(str::to_owned));
        let there = there.chain(kept("b")).chain(inside("b"));
        assert_eq!(found.way(0), here.collect::<Vec<_>>(), "{kind}");
        assert_eq!(found.way(1), there.chain(["received".to_owned()]).collect::<Vec<_>>(), "{kind}");
        found.adds_up();
    }
    let long = |hop: &serde_json::Value| {
        let [took, error] = ["took_us", "error_us"].map(|name| hop[name].as_u64().expect("it is known"));
        took + error >= DELAY.as_micros() as u64
    };
    // Between them. The way there is the fourth of what goes to the other one.
    pair.between[1].takes(DELAY);
    let found = pair.trace("typing");
    assert_eq!((&found.hop(1, 4)["hop"], &found.hop(1, 4)["data_center"]), (&"taken".into(), &"b".into()));
    assert!(long(found.hop(1, 4)) && found.hop(1, 4)["sure"] == true, "{found:?}");
    found.adds_up();
    pair.between[1].takes(Duration::ZERO);
    // To one frontend.
    pair.centers[1].inside.takes(DELAY);
    let found = pair.trace("typing");
    assert_eq!((&found.hop(1, 6)["hop"], &found.hop(1, 6)["data_center"]), (&"taken".into(), &"b".into()));
    assert!(long(found.hop(1, 6)) && found.hop(1, 6)["sure"] == true, "{found:?}");
    found.adds_up();
}

#[test]
fn clock_that_is_off_taken_for_a_long_way() {
    let dispatcher = Node::start();
    let words = with_another_date("+5s");
    let urls = url(&dispatcher);
    let flags = ["--cores", "2", "--dispatchers", &urls];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite:{}", folder.path().join("unused.db").display());
    let frontend = Node::run_on(program_behind(&words), "frontend", "127.0.0.1:0", &database, &flags);
    wait_ready(&frontend);
    let (to, watch) = (format!("http://{}", dispatcher.public), format!("http://{}", frontend.public));
    let flags = ["--url", &to, "--watch", &watch, "--internal", &urls];
    let found = known(|| trace("chat:1", "score", &flags));
    assert_eq!(found.hop(0, 4)["hop"], "taken");
    found.adds_up();
    let [took, error] = ["took_us", "error_us"].map(|name| found.hop(0, 4)[name].as_u64().expect("it is known"));
    let end_to_end = found.0["streams"][0]["end_to_end_us"].as_u64().expect("a time");
    assert!(took <= end_to_end + error, "a hop is no longer than the whole: {found:?}");
}

#[test]
fn callers_who_sample_everything() {
    let node = Node::with(&["--cores", "1", "--trace-sample", "0"]);
    let _stream = node.stream("topic=chat:1");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0";
    let post = |flag: &str, data: &str| {
        let headers = [("traceparent", &*format!("{parent}{flag}"))];
        let body = format!(r#"{{"type":"score","sent_at":1732313131123,"data":{data}}}"#);
        let mut client = crate::support::http::Client::connect(node.public);
        let answer = client.request("POST", "/v1/topics/chat:1/events", &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    post("0", "1");
    post("1", "2");
    becomes("journeys that are kept", 1, || {
        node.internal_json("/v1/traces")["traces"].as_array().expect("a list").len()
    });
    let kept = node.internal_json("/v1/traces")["traces"][0].clone();
    assert_eq!((&kept["trace"], &kept["parent"]), (&parent[3..35].into(), &parent[36..52].into()), "{kept}");
    assert_eq!(
        (&kept["hops"][0]["hop"], &kept["hops"][0]["at_us"]),
        (&"published".into(), &1_732_313_131_123_000u64.into())
    );
    assert_eq!(kept["hops"][1]["sure"], false, "nothing is known of the publisher's clock: {kept}");
    assert!(node.metric("fanfare_hops_unsure_total", "") >= 1);
}
