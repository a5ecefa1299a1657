//! A thousand comments a second of which ten are shown: a crowd is shown the same ten, evenly, a moderator gets all, and whoever
//! is cut again and again has each of the ten once.
//!
//! At the size of a large event, with an optimized program:
//! `FANFARE_PROGRAM=… FANFARE_PACE_VIEWERS=2000 FANFARE_PACE_SECONDS=20 FANFARE_PACE_CUT=1 cargo nextest run --test single paced_crowd --no-capture`

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare::kv::pace::QUARTER_MS;
use serde_json::json;

use super::support::crowd::Crowd;
use super::support::http::{Client, request};
use super::support::sse::Stream;
use super::{configured, line, ms_of, publish_lines};

/// Comments a second, in bodies of so many.
const RATE: usize = 1000;
const BODY: usize = 25;

fn given(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One who comes back after each cut, from where it was. Gives what it saw, in the order in which that came first, and how
/// often it was cut.
fn restless(node: SocketAddr, mut last: String) -> (Vec<String>, usize) {
    let (mut seen, mut order, mut cuts) = (BTreeSet::new(), Vec::new(), 0);
    loop {
        let again = request("GET", "/v1/events?topic=live:1", &[("Last-Event-ID", &last)], b"");
        let mut stream = Stream::with_request(node, &again);
        stream.wait_connected();
        loop {
            let message = stream.next().expect("the stream goes on");
            let event = message.json();
            assert_eq!((message.name.as_str(), event.get("shown")), ("message", None), "{event}");
            let id = event["id"].as_str().expect("an id").to_owned();
            if id == "end" {
                return (order, cuts);
            }
            last = message.id.expect("comments have ids");
            if id != "begin" && seen.insert(id.clone()) {
                order.push(id);
                break;
            }
        }
        cuts += 1;
    }
}

/// One who asks for all, and comes back where it could not keep up. Gives of each comment its id, the time of its place, and
/// whether all are shown it.
fn moderator(mut stream: Stream, node: SocketAddr) -> Vec<(String, u64, bool)> {
    let (mut seen, mut all, mut last) = (BTreeSet::new(), Vec::new(), String::new());
    loop {
        let message = stream.next().expect("the stream goes on");
        let event = message.json();
        match (message.name.as_str(), event["type"].as_str()) {
            ("bye", _) => {
                let again = request("GET", "/v1/events?topic=live:1&all=comment", &[("Last-Event-ID", &last)], b"");
                stream = Stream::with_request(node, &again);
                stream.wait_connected();
            }
            ("message", Some("comment")) => {
                last = message.id.expect("comments have ids");
                let id = event["id"].as_str().expect("an id").to_owned();
                if seen.insert(id.clone()) {
                    all.push((id, ms_of(&last), event["shown"] != false));
                }
            }
            ("message", Some("message")) if event["id"] == "end" => return all,
            (name, _) => assert_ne!(name, "gap", "{event}"),
        }
    }
}

#[test]
fn crowd_is_shown_comments_unevenly_or_not_all_alike() {
    let (viewers, seconds) = (given("FANFARE_PACE_VIEWERS", 200), given("FANFARE_PACE_SECONDS", 3));
    // Those who are cut whenever they were shown something new. Each time ten seconds of all comments are read again.
    let cut = given("FANFARE_PACE_CUT", 10);
    let count = seconds * RATE;
    let (node, _folder) = configured(&format!("[events.comment]\npace = \"10/s\"\nhistory = {}\n", count + 1));
    node.publish("live:1", &json!({"type": "message", "id": "begin"}));
    let begin = node.get("/v1/topics/live:1/events").json()["events"][0]["position"].as_str().unwrap().to_owned();
    let mut crowd = Crowd::new();
    crowd.join(node.public, |_| "topic=live:1".to_owned(), viewers);
    let (stream, address) = (node.stream("topic=live:1&all=comment"), node.public);
    let moderator = std::thread::spawn(move || moderator(stream, address));
    let began = Instant::now();
    let publisher = std::thread::spawn(move || {
        let (mut client, began) = (Client::connect(address), Instant::now());
        for first in (0..count).step_by(BODY) {
            let due = Duration::from_secs(1) * first as u32 / RATE as u32;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let lines = (first..first + BODY).map(|number| line("live:1", &number.to_string(), 80));
            publish_lines(&mut client, &lines.collect::<String>());
        }
        let took = began.elapsed();
        let end = json!({"type": "message", "id": "end"}).to_string();
        assert_eq!(client.request("POST", "/v1/topics/live:1/events", &[], end.as_bytes()).status, 202);
        took
    });
    let restless: Vec<_> = (0..cut)
        .map(|_| {
            let from = begin.clone();
            std::thread::spawn(move || restless(address, from))
        })
        .collect();
    let mut given: Vec<Vec<String>> = vec![Vec::new(); viewers];
    let mut ended = 0;
    crowd.until("all comments", |number, message| {
        let event = message.json();
        assert_eq!(message.name, "message", "{event}");
        match event["type"].as_str() {
            Some("comment") => given[number].push(event["id"].as_str().expect("an id").to_owned()),
            Some("message") => ended += 1,
            _ => {}
        }
        ended == viewers
    });
    let (took, all) = (publisher.join().expect("all were published"), moderator.join().expect("it saw the end"));
    assert!(all.iter().map(|(id, ..)| id.clone()).eq((0..count).map(|number| number.to_string())));
    // As many in each quarter of a second as there is room for, where there are enough.
    let first = all[0].1 / QUARTER_MS;
    let quarters = (all[count - 1].1 / QUARTER_MS - first + 1) as usize;
    let mut of_quarters = vec![(0, 0); quarters];
    for (_, ms, is_shown) in &all {
        let (came, shown) = &mut of_quarters[(ms / QUARTER_MS - first) as usize];
        (*came, *shown) = (*came + 1, *shown + usize::from(*is_shown));
    }
    for (quarter, (came, shown)) in of_quarters.iter().enumerate() {
        assert!(*shown <= 3 && *shown >= 2.min(*came), "{shown} of {came} in quarter {quarter}");
    }
    let shown: Vec<&String> = all.iter().filter(|(_, _, is_shown)| *is_shown).map(|(id, ..)| id).collect();
    for (number, viewer) in given.iter().enumerate() {
        assert_eq!(viewer.iter().collect::<Vec<_>>(), shown, "viewer {number}");
    }
    let mut all_cuts = 0;
    for restless in restless {
        let (order, cuts) = restless.join().expect("it saw the end");
        assert_eq!(order.iter().collect::<Vec<_>>(), shown);
        assert_eq!(cuts, shown.len());
        all_cuts += cuts;
    }
    eprintln!(
        "{count} comments in {took:?} ({:?} until all had all), of which {viewers} viewers were shown {} each, 2 or 3 in each \
         of {quarters} quarters of a second; {all_cuts} cuts",
        began.elapsed(),
        shown.len(),
    );
}
