//! What the loads make, without a network.
use std::sync::Arc;

use clap::Parser;

use super::args::{Common, PublishMode};
use super::load::{Events, Likes, Request};
use super::message::Encoder;
use super::schedule::Schedule;
use crate::client::fleet::poster::{Load, Next, Tag};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    common: Common,
}

fn events(topics: u32, rate: f64, mode: PublishMode) -> Events {
    let common = Cli::parse_from(["bench"]).common;
    let names = (0..topics).map(|topic| format!("live:{topic}")).collect();
    let request = Request::new("/v1/topics/{topic}/events", "host", "application/json", "");
    Events::new(Schedule::new(topics, 1, rate), mode, 100, Encoder::new(&common, 0), Arc::new(names), vec![request])
}

fn body(out: &[u8]) -> String {
    let text = String::from_utf8(out.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
    body.to_owned()
}

#[test]
fn nothing_is_posted_before_its_time_and_all_of_it_after() {
    let mut events = events(2, 1000.0, PublishMode::Single);
    events.begin(1_000_000, 10_000, 1000.0);
    let mut out = Vec::new();
    assert_eq!(events.next(0, 999_999, &mut out), Next::Wait(1_000_000));
    let mut made = 0;
    // The publisher was kept from running until long after the end: all is made up for, at the times it was due.
    while let Next::Request(tag) = events.next(0, 9_000_000, &mut out) {
        assert_eq!(tag, Tag { due_us: 1_000_000 + made * 1000, events: 1 });
        let topic = made % 2;
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with(&format!("POST /v1/topics/live:{topic}/events HTTP/1.1\r\nHost: host\r\n")));
        let json: serde_json::Value = serde_json::from_str(&body(&out)).unwrap();
        assert_eq!(json["data"]["seq"], made / 2);
        assert_eq!(json["data"]["sent"], tag.due_us);
        assert_eq!(json["data"]["t"], topic);
        out.clear();
        made += 1;
    }
    assert_eq!(made, 10);
    assert_eq!(events.posted.behind_us_max, 8_000_000);
    assert_eq!((events.published().on(0), events.published().on(1)), (5, 5));
    // The next step goes on where this one ended.
    events.begin(20_000_000, 1_000, 1000.0);
    assert!(matches!(events.next(0, 20_000_000, &mut out), Next::Request(_)));
    assert!(body(&out).contains("\"seq\":5,"));
}

#[test]
fn lines_are_batched_by_time_and_by_number() {
    let mut events = events(1, 100_000.0, PublishMode::Ndjson);
    events.begin(0, 10_000, 100_000.0);
    let mut out = Vec::new();
    let mut sizes = Vec::new();
    let mut now_us = 0;
    loop {
        match events.next(0, now_us, &mut out) {
            Next::Request(tag) => sizes.push(tag.events),
            Next::Wait(until_us) => {
                assert!(until_us > now_us);
                now_us = until_us;
            }
            Next::Done => break,
        }
    }
    assert_eq!(sizes.iter().sum::<u32>(), 1000);
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
    assert!(sizes.len() <= 12, "one request a ms, not one an event: {sizes:?}");
    let lines = String::from_utf8(out).unwrap();
    for line in lines.lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn refused_and_unanswered_events_are_failures() {
    let mut single = events(1, 10.0, PublishMode::Single);
    let tag = Tag { due_us: 0, events: 1 };
    single.answered(tag, 202, b"{}", 5_000);
    single.answered(tag, 503, b"busy", 5_000);
    single.unanswered(tag, "gone");
    assert_eq!((single.posted.accepted, single.posted.failed, single.posted.requests), (1, 2, 2));
    let mut lines = events(1, 10.0, PublishMode::Ndjson);
    let tag = Tag { due_us: 0, events: 10 };
    lines.answered(tag, 202, br#"{"accepted":7,"rejected_total":3,"rejected":[]}"#, 1);
    assert_eq!((lines.posted.accepted, lines.posted.failed), (7, 3));
}

#[test]
fn every_like_has_a_member_of_its_own() {
    let request = Request::new("/v1/videos/{topic}/likes", "host", "application/json", "");
    let mut members = std::collections::BTreeSet::new();
    for thread in 0..2 {
        let mut likes = Likes::new(request.clone(), 2, (thread, 2), (0, 1_000), 100.0);
        let mut made = 0;
        for connection in [0, 1] {
            let mut out = Vec::new();
            while let Next::Request(tag) = likes.next(connection, 5_000, &mut out) {
                let json: serde_json::Value = serde_json::from_str(&body(&out)).unwrap();
                let member = json["member"].as_str().unwrap().to_owned();
                assert!(member.ends_with(&format!("-{}", tag.due_us)) && tag.due_us < 1_000);
                assert!(members.insert(member.split('-').next().unwrap().to_owned()));
                out.clear();
                made += 1;
            }
        }
        assert_eq!(made, 20);
        likes.answered(Tag { due_us: 0, events: 1 }, 200, b"{}", 1);
        assert_eq!(likes.posted.failed, 1, "200 says that the like was there before");
    }
}
