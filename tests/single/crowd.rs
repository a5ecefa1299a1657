//! `fanfare crowd` against a node. Each test is named after what it prevents.

use crate::support;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};

use serde_json::Value;
use support::node::{Node, program};

/// A crowd that comes and goes quickly.
fn crowd(target: SocketAddr, more: &[&str]) -> Child {
    program()
        .args(["crowd", "--url", &format!("http://{target}"), "-d", "6s", "--arrive", "1s", "--goal", "3s"])
        .args(["--stay", "1s", "-l", "50", "--comments", "10", "--json"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Its report.
#[track_caller]
fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn a_crowd_is_lost_on_the_way_or_is_told_wrong_figures() {
    let node = Node::start();
    let output = crowd(node.public, &["-n", "60", "--processes", "2", "--video", "né 7"]).wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!((output.status.code(), report["ok"].as_bool()), (Some(0), Some(true)), "{report}");
    assert_eq!((number(&report, "streams_held"), number(&report, "comments_lost")), (60, 0), "{report}");
    let (left, back) = (number(&report, "members_that_left"), number(&report, "of_them_came_back"));
    assert!(left > 0 && left == back, "{report}");
    // What it says was stored is what the node has.
    let likes = node.get("/v1/videos/n%C3%A9%207/likes").json()["likes"].as_u64().unwrap();
    assert_eq!((number(&report, "likes_acknowledged"), number(&report, "likes_stored")), (likes, likes), "{report}");
    assert!(likes > 50, "{report}");
    let stored = node.get("/v1/videos/n%C3%A9%207/comments?limit=200").json();
    let comments = stored["comments"].as_array().unwrap();
    assert_eq!(number(&report, "comments_acknowledged"), comments.len() as u64, "{report}");
    assert!(number(&report, "deliveries") > likes, "{report}");
    for name in ["like_to_receipt_p50_ms", "comment_to_receipt_p99_ms", "POST_to_answer_p90_ms"] {
        assert!(report[name].as_f64().is_some_and(|ms| ms > 0.0), "{name} in {report}");
    }
}

#[test]
fn the_same_seed_acts_otherwise() {
    let said = |seed: &str| {
        let node = Node::start();
        let output = crowd(node.public, &["-n", "5", "--seed", seed]).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", report(&output));
        let stored = node.get("/v1/videos/42/comments?limit=200").json();
        let words = |one: &Value| {
            let text = one["text"].as_str().unwrap();
            (one["member"].as_str().unwrap().to_owned(), text.split(" · ").next().unwrap().to_owned())
        };
        // In which order those of one moment were stored is not the seed's.
        let mut all: Vec<_> = stored["comments"].as_array().unwrap().iter().map(words).collect();
        all.sort();
        all
    };
    let once = said("11");
    assert!(once.len() > 5, "{once:?}");
    assert_eq!(once, said("11"));
    assert_ne!(once, said("12"));
}

/// Passes connections on to `to`, and makes the numbers of comments illegible on their way back.
fn garbling(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pass = |mut from: TcpStream, mut into: TcpStream, garble: bool| {
        let mut buffer = [0; 16_384];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let bytes = &mut buffer[..read];
            if garble {
                bytes.iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = b'!');
            }
            if into.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = into.shutdown(Shutdown::Both);
    };
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(to).unwrap();
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(client, server, false));
            std::thread::spawn(move || pass(server_too, client_too, true));
        }
    });
    address
}

#[test]
fn comments_that_do_not_arrive_go_unnoticed() {
    let node = Node::start();
    let output = crowd(garbling(node.public), &["-n", "10"]).wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let (lost, acknowledged) = (number(&report, "comments_lost"), number(&report, "comments_acknowledged"));
    assert!(acknowledged > 5 && lost > acknowledged, "each of several streams misses most of them: {report}");
    assert!(report["problems"].to_string().contains("did not reach"), "{report}");
}

#[test]
fn a_server_that_goes_away_is_waited_for_without_end_or_not_told_of() {
    let node = Node::start();
    let child = crowd(node.public, &["-n", "10"]);
    support::eventually("likes", || match node.get("/v1/videos/42/likes").json()["likes"].as_u64() {
        Some(5..) => Ok(()),
        likes => Err(format!("{likes:?}")),
    });
    node.kill();
    let output = child.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(number(&report, "streams_held"), 0, "{report}");
    assert!(report["problems"].to_string().contains("were not open at the end"), "{report}");
}

#[test]
fn bad_arguments_and_absent_servers_are_taken_for_a_bad_run() {
    let refused = |arguments: &[&str], status: i32, says: &str| {
        let output = program().arg("crowd").args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
    };
    // Nobody listens on the discard port.
    refused(&["--url", "http://127.0.0.1:9"], 1, "cannot reach 127.0.0.1:9");
    refused(&["--url", "127.0.0.1:8080"], 2, "is not of the form http://");
    refused(&["-n", "0"], 2, "--members");
    refused(&["-d", "2days"], 2, "give 1s to 1day");
    refused(&["--video", ""], 2, "");
    let node = Node::start();
    let url = format!("http://{}", node.public);
    refused(&["--url", &url, "-d", "5s", "--arrive", "6s"], 2, "--arrive must not be longer");
}
