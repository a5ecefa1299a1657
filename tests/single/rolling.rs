//! A rolling restart: Frontends are ended and started again one after the other, under viewers who come back by
//! `Last-Event-ID`. `scripts/rolling-restart` runs this with 15,000 of them and prints what it sees.

use crate::support;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::http::Client;
use support::node::Node;
use support::ports::free_port;
use support::redis::Redis;
use support::watchers::{Report, Watchers};
use support::{becomes, eventually};

const FRONTENDS: usize = 3;

/// A number that the script gives.
fn given(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn is_ready(node: &Node) -> bool {
    // One that has just ended answers nobody.
    std::panic::catch_unwind(|| Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status)
        .is_ok_and(|status| status == 200)
}

/// Publishes comments until told to stop.
fn publish(address: SocketAddr, every: Duration, done: &AtomicBool, published: &AtomicU64) {
    let mut client = Client::connect(address);
    while !done.load(Ordering::Relaxed) {
        publish_next(&mut client, published);
        std::thread::sleep(every);
    }
}

/// Publishes the comment with the next number, from 0 on.
fn publish_next(client: &mut Client, published: &AtomicU64) {
    let body = json!({"type": "comment", "data": {"n": published.load(Ordering::Relaxed)}}).to_string();
    let answer = client.request("POST", "/v1/topics/live:1/events", &[], body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    published.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn viewers_lost_in_a_rolling_restart() {
    let viewers = given("ROLLING_VIEWERS", 600) as usize;
    let drain = given("ROLLING_DRAIN_SECONDS", 5);
    let every = Duration::from_millis(given("ROLLING_EVENT_MS", 100));
    let redis = Redis::start();
    let dispatcher = Node::role("dispatcher", &["--cores", "1", "--kv", &redis.url()]);
    let url = format!("http://{}", dispatcher.internal);
    let drain_flag = format!("{drain}s");
    let start = |listen: &str| {
        let flags = ["--cores", "1", "--dispatchers", &url, "--kv", &redis.url(), "--drain", &drain_flag];
        let node = Node::role("frontend", &[&flags[..], &["--listen", listen]].concat());
        becomes("the frontend to be ready", true, || is_ready(&node));
        node
    };
    let mut frontends: Vec<Node> = (0..FRONTENDS).map(|_| start(&format!("127.0.0.1:{}", free_port()))).collect();
    let doors: Vec<SocketAddr> = frontends.iter().map(|node| node.public).collect();
    let watchers = Watchers::start(viewers, |_| "topic=live:1".to_owned());
    watchers.set_doors(&doors);
    becomes("all to be connected", viewers, || watchers.connected());

    let (done, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut restarts = Vec::new();
    // One who is sent away before any event has no id to come back with.
    publish_next(&mut Client::connect(dispatcher.public), &published);
    becomes("the first comment to reach all", viewers as u64, || watchers.seen());
    let began = watchers.started.elapsed();
    std::thread::scope(|scope| {
        scope.spawn(|| publish(dispatcher.public, every, &done, &published));
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..FRONTENDS {
                let node = &mut frontends[number];
                let told = Instant::now();
                node.signal(Signal::TERM);
                // What a load balancer does once it sees that the node is not ready.
                becomes("the node to be not ready", false, || is_ready(node));
                let others: Vec<SocketAddr> = doors.iter().copied().filter(|door| *door != doors[number]).collect();
                watchers.set_doors(&others);
                let deadline = Duration::from_secs(drain + 30);
                while node.runs() {
                    assert!(told.elapsed() < deadline, "the drain does not end");
                    std::thread::sleep(Duration::from_millis(20));
                }
                let ended = told.elapsed();
                assert_eq!(node.ended().code(), Some(0), "{:?}", node.log());
                becomes("all to be back", viewers, || watchers.connected());
                restarts.push((ended, told.elapsed()));
                frontends[number] = start(&doors[number].to_string());
                watchers.set_doors(&doors);
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = restarted {
            std::panic::resume_unwind(panic);
        }
    });
    let wanted = published.load(Ordering::Relaxed) * viewers as u64;
    eventually("every comment to reach every viewer", || match watchers.seen() {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{seen} of {wanted}")),
    });
    let report = watchers.stop();
    show(&report, began, drain, &restarts, published.load(Ordering::Relaxed));
    assert_eq!((report.cuts, report.gaps), (0, 0), "{:?}", report.byes);
    let reasons: Vec<&str> = report.byes.keys().map(String::as_str).filter(|reason| *reason != "busy").collect();
    assert_eq!(reasons, ["drain"], "{:?}", report.byes);
    assert!(report.byes["drain"] >= viewers as u64, "each was on a node that ended: {:?}", report.byes);
    let (least, most) = report.pauses_ms.expect("they were told");
    assert!(least >= 1000 && most <= 3000, "{least} to {most} ms");
}

/// Prints what the script is for. Times are of this machine, so nothing is asserted of them.
fn show(report: &Report, began: Duration, drain: u64, restarts: &[(Duration, Duration)], published: u64) {
    let mut seconds: Vec<u64> = Vec::new();
    for time in &report.returns {
        let second = time.saturating_sub(began).as_secs() as usize;
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    for (number, (ended, back)) in restarts.iter().enumerate() {
        println!(
            "frontend {number}: ended {:.1} s after SIGTERM, all viewers back after {:.1} s (drain {drain} s)",
            ended.as_secs_f64(),
            back.as_secs_f64()
        );
    }
    let most = seconds.iter().max().copied().unwrap_or(0);
    let average = report.returns.len() as f64 / seconds.len().max(1) as f64;
    println!(
        "reconnects: {} in {} s, {average:.0} a second, at most {most} ({:.2} × the average)",
        report.returns.len(),
        seconds.len(),
        most as f64 / average
    );
    println!("reconnects second by second: {seconds:?}");
    println!("bye: {:?}, retry {:?} ms; without bye: {}", report.byes, report.pauses_ms, report.cuts);
    println!("comments: {published}, each to every viewer: lost 0, gaps {}, repeats {}", report.gaps, report.repeats);
}
