//! Canaries of the built program: what is lost is seen, and nobody else is a part of it.

use std::time::Duration;

use serde_json::json;

use crate::support;
use support::eventually;
use support::http::Client;
use support::node::{Node, program};
use support::site::{for_the_length_of, within};

const FLAGS: [&str; 4] = ["--cores", "2", "--canary", "on"];

/// Waits until a node hears canaries of each class.
fn wait_heard(node: &Node) {
    eventually("canaries of each class", || {
        let heard = |class: &str| node.metric("fanfare_canary_heard_total", &format!("class=\"{class}\""));
        let metrics = Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
        let is_there = metrics.contains("fanfare_canary_heard_total");
        match is_there.then(|| ["sum", "latest", "ephemeral", "every"].map(heard)) {
            Some(heard) if heard.iter().all(|heard| *heard > 0) => Ok(()),
            heard => Err(heard),
        }
    });
}

#[test]
fn event_in_a_thousand_dropped_unseen() {
    // Beside one that drops some, one that drops none.
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let mut drops = program();
    drops.env("PLANTED_MISTAKE", "EventDropped");
    let drops = Node::launch(drops, folders[0].path(), &FLAGS);
    let well = Node::in_folder(folders[1].path(), &FLAGS);
    [&drops, &well].into_iter().for_each(wait_heard);
    within(Duration::from_secs(60), "the loss to be found", || match drops.metric("fanfare_canary_lost_total", "") {
        0 => Err("nothing is lost yet".to_owned()),
        _ => Ok(()),
    });
    drops.until_logged(&["canaries are lost", "127.0.0.1"]);
    let wrong = ["lost", "late", "repeated", "disordered", "gaps"]
        .map(|what| well.metric(&format!("fanfare_canary_{what}_total"), ""));
    assert_eq!(wrong, [0; 5], "nothing is wrong with the other one");
}

#[test]
fn canaries_seen_or_forged_by_clients_or_counted_as_theirs() {
    let node = Node::with(&FLAGS);
    wait_heard(&node);
    for target in
        ["/v1/events?topic=canary:local.0", "/v1/poll?topic=canary:local.0", "/v1/topics/canary:local.0/events"]
    {
        let answer = node.get(target);
        assert_eq!(answer.status, 403, "{target}: {answer:?}");
        assert!(answer.text().contains("nobody else may watch"), "{answer:?}");
    }
    for (topic, kind) in [("canary:local.0", "note"), ("canary:local.0", "canary.sum"), ("live:1", "canary.every")] {
        let body = json!({"type": kind, "data": 1}).to_string();
        let answer = node.post(&format!("/v1/topics/{topic}/events"), body);
        assert_eq!(answer.status, 403, "{topic} {kind}: {answer:?}");
        assert!(answer.text().contains("only from nodes"), "{answer:?}");
    }
    assert_eq!(node.counts(), [0; 3], "no streams, subscriptions or topics");
    for class in ["sum", "latest", "ephemeral", "every"] {
        let label = format!("class=\"{class}\"");
        let counted = ["fanfare_events_total", "fanfare_deliveries_total"].map(|name| node.metric(name, &label));
        assert_eq!(counted, [0; 2], "{class}");
        assert_eq!(node.metric("fanfare_delivery_seconds_count", &label), 0, "{class}");
    }
    assert_eq!((node.metric("fanfare_writes_total", ""), node.metric("fanfare_windowed_total", "")), (0, 0));
    // Nor is one who watches counted twice.
    let _stream = node.stream("topic=live:1");
    eventually("the stream to be counted", || match node.counts() {
        [1, 1, 1] => Ok(()),
        counts => Err(counts),
    });
}

#[test]
fn canaries_that_go_on_though_they_are_off() {
    let node = Node::with(&["--cores", "1", "--canary", "off"]);
    let _stream = node.stream("topic=live:1");
    let metrics = || Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
    for_the_length_of(Duration::from_secs(3), || assert!(!metrics().contains("fanfare_canary_")));
}

#[test]
fn canaries_that_hold_up_a_drain() {
    let mut node = Node::with(&FLAGS);
    wait_heard(&node);
    node.signal(rustix::process::Signal::TERM);
    assert!(node.ended().success(), "{:?}", node.log());
}
