//! What the integration tests share: the built program as a process, clients that speak raw HTTP and SSE, and waiting
//! for conditions with a deadline.
//!
//! Every test binary takes from it what it needs, so each sees some of it unused.
#![allow(dead_code)]

pub mod authorize;
pub mod certificate;
pub mod crowd;
pub mod delay;
pub mod described;
pub mod hooks;
pub mod http;
pub mod load;
pub mod mercure;
pub mod nginx;
pub mod node;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod redis;
pub mod seccomp;
pub mod shards;
pub mod site;
pub mod sse;
pub mod tls;
pub mod token;
pub mod viewers;
pub mod watchers;

use std::time::{Duration, Instant};

/// How long a test waits for something that must come. Generous: it ends at once when the thing is there.
pub const DEADLINE: Duration = Duration::from_secs(100);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives something, and fails with `what` and the last thing seen after [`DEADLINE`].
#[track_caller]
pub fn eventually<T, E: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("waited {DEADLINE:?} for {what}; last seen: {seen:?}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Sends a signal to a process that was not waited for. One that stops it has done so by then: each of its threads does that
/// when it is its turn, until when those that have one go on.
#[track_caller]
pub fn send_signal(pid: rustix::process::Pid, signal: rustix::process::Signal) {
    rustix::process::kill_process(pid, signal).expect("the process is ours and was not waited for");
    if signal != rustix::process::Signal::STOP {
        return;
    }
    let stands =
        |stat: String| stat.rsplit_once(')').is_none_or(|(_, after)| after.trim_start().starts_with(['T', 'Z']));
    eventually("all threads to stand still", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))?;
        let stats = threads.map(|thread| Ok(std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default()));
        let stats: Vec<String> = stats.collect::<std::io::Result<_>>()?;
        if stats.into_iter().all(stands) { Ok(()) } else { Err(std::io::Error::other("some run")) }
    });
}

/// Waits until `look` gives `wanted`.
#[track_caller]
pub fn becomes<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, mut look: impl FnMut() -> T) {
    eventually(&format!("{what} to become {wanted:?}"), || match look() {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// The body that likes and takes back a like.
pub fn reaction(member: &str, reaction: &str) -> String {
    serde_json::json!({"member": member, "reaction": reaction}).to_string()
}

/// Adds up how many events of each key one of class `sum` stands for.
pub fn add_counts(sums: &mut std::collections::BTreeMap<String, u64>, event: &serde_json::Value) {
    let count = event["count"].as_u64().expect("a sum has a count");
    match event["counts"].as_object() {
        Some(counts) => {
            let each = counts.iter().map(|(key, count)| (key.clone(), count.as_u64().expect("a number")));
            assert_eq!(each.clone().map(|(_, count)| count).sum::<u64>(), count, "{event}");
            each.for_each(|(key, count)| *sums.entry(key).or_default() += count);
        }
        None => *sums.entry(event["key"].as_str().expect("a sum of one key names it").to_owned()).or_default() += count,
    }
}

/// What a program is started by to be shown a date that is off, by the words in `offset`, such as `+60s`, or by those in the
/// file that `offset` names. Time that has passed is told truly; only the date is wrong.
pub fn with_another_date(offset: &str) -> Vec<String> {
    // Debian puts it beside the machine's name.
    let folders = std::fs::read_dir("/usr/lib").expect("every Linux has it").flatten();
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = files.find(|file| file.exists()).expect("libfaketime; scripts/test installs it");
    let from = if offset.starts_with('/') { "FAKETIME_TIMESTAMP_FILE" } else { "FAKETIME" };
    vec![
        "env".to_owned(),
        // Redis' own allocator asks for the time while the library is not ready yet, and hangs: the C library's takes its place.
        format!("LD_PRELOAD={}:libc.so.6", library.display()),
        format!("{from}={offset}"),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}
