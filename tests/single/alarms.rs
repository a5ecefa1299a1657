//! Faults that an alert is named after move its metric, on real processes: stores that hang, a disk that is full, a clock that is
//! off. The alerts themselves are fired in alerts.test.yml.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::support;
use support::node::{Node, program_behind};
use support::postgres::Postgres;
use support::redis::Redis;
use support::{becomes, eventually, reaction, with_another_date};

/// Waits until a metric is above, or no more above, a bound.
#[track_caller]
fn until(node: &Node, metric: &str, is_above: bool, bound: f64) {
    eventually(&format!("{metric} above {bound} to be {is_above}"), || match node.measure(metric, "shard=\"0\"") {
        value if (value > bound) == is_above => Ok(()),
        value => Err(value),
    });
}

#[test]
fn database_that_hangs_unseen() {
    let server = Postgres::start();
    let node = Node::run_on(support::node::program(), "all", "127.0.0.1:0", &server.url(), &["--cores", "1"]);
    assert_eq!(node.post("/v1/videos/1/likes", reaction("ana", "like")).status, 201);
    assert!(node.measure("fanfare_store_wait_seconds", "") < 1.0);
    server.pause();
    // What asks is given up after a while, so that more has to.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..100_000).take_while(|_| !done.load(Ordering::Relaxed)) {
                node.post("/v1/videos/1/likes", reaction(&format!("m{number}"), "like"));
            }
        });
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&node, "fanfare_store_wait_seconds", true, 0.5);
            becomes("the database to be given up", 0, || node.metric("fanfare_store_available", ""));
        }));
        server.resume();
        done.store(true, Ordering::Relaxed);
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let within = |bound: &str| node.metric("fanfare_store_answer_seconds_bucket", &format!("le=\"{bound}\""));
    assert!(within("1.0") < within("+Inf"), "some waited for longer");
    until(&node, "fanfare_store_wait_seconds", false, 0.0);
    becomes("the database to work", 1, || node.metric("fanfare_store_available", ""));
}

#[test]
fn key_value_store_that_hangs_unseen() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url()]);
    until(&node, "fanfare_kv_wait_seconds", false, 0.5);
    redis.pause();
    until(&node, "fanfare_kv_wait_seconds", true, 0.5);
    becomes("the store to be given up", 0, || node.metric("fanfare_kv_available", ""));
    redis.resume();
    becomes("the store to be back", 1, || node.metric("fanfare_kv_available", ""));
    until(&node, "fanfare_kv_wait_seconds", false, 0.5);
}

#[test]
fn disk_that_is_full_unseen() {
    const SIZE: u64 = 3 << 20;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mount = format!("mount -t tmpfs -o size={SIZE} tmpfs {} && exec \"$0\" \"$@\"", folder.path().display());
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", &mount].map(str::to_owned);
    let node = Node::launch(program_behind(&words), folder.path(), &["--cores", "1"]);
    becomes("the disk to be seen", SIZE, || node.metric("fanfare_store_disk_bytes", ""));
    assert_eq!(node.metric("fanfare_store_available", ""), 1);
    let before = node.metric("fanfare_store_disk_free_bytes", "");
    let comment = serde_json::json!({"member": "ana", "text": "x".repeat(4000)}).to_string();
    eventually("a comment to be refused", || match node.post("/v1/videos/1/comments", &comment).status {
        503 => Ok(()),
        status => Err(status),
    });
    becomes("the store to refuse writes", 0, || node.metric("fanfare_store_available", ""));
    eventually("the disk to have less room", || match node.metric("fanfare_store_disk_free_bytes", "") {
        free if free < before / 2 => Ok(()),
        free => Err(free),
    });
    assert!(node.metric("fanfare_store_errors_total", "") > 0);
    node.signal(Signal::KILL);
}

#[test]
fn clock_that_is_off_unseen() {
    let dispatcher = Node::start();
    let url = format!("http://{}", dispatcher.internal);
    let flags = ["--cores", "1", "--dispatchers", &url, "--kv", "redis://127.0.0.1:1"];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite:{}", folder.path().join("unused.db").display());
    let start = |words: &[String]| Node::run_on(program_behind(words), "frontend", "127.0.0.1:0", &database, &flags);
    let (off, well) = (start(&with_another_date("+5s")), start(&[]));
    until(&off, "fanfare_clock_off_seconds", true, 4.0);
    assert!(off.measure("fanfare_clock_off_seconds", "") < 6.0);
    // It hears of the dispatcher, as the one whose clock is off does.
    eventually("the other one to hear", || match well.metric("fanfare_ready", "") {
        1 => Ok(()),
        ready => Err(ready),
    });
    assert!(well.measure("fanfare_clock_off_seconds", "") < 1.0);
}
