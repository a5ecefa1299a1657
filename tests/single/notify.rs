//! What systemd is told, by a socket that the test owns in its place.

use crate::support;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, setpriority_process};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use support::http::Client;
use support::node::{Node, program};
use support::{DEADLINE, eventually};
use tempfile::TempDir;

/// The watchdog's interval in these tests.
const INTERVAL: Duration = Duration::from_millis(800);

/// The other end of `NOTIFY_SOCKET`.
struct Manager {
    folder: TempDir,
    messages: Mutex<Receiver<String>>,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        // At once, since the kernel keeps few of them, and a node does not wait until there is room.
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                    return;
                }
            }
        });
        Manager { folder, messages: Mutex::new(messages) }
    }

    fn start(&self, environment: &[(&str, &str)], flags: &[&str]) -> Node {
        let mut command = program();
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).envs(environment.iter().copied());
        Node::launch(command, self.folder.path(), &[&["--cores", "2"], flags].concat())
    }

    /// The next message within `time`.
    fn next(&self, time: Duration) -> Option<String> {
        self.messages.lock().unwrap().recv_timeout(time).ok()
    }

    /// The next message with this line in it.
    #[track_caller]
    fn until(&self, line: &str) -> String {
        eventually(line, || {
            let text = self.next(DEADLINE).unwrap_or_default();
            if text.lines().any(|other| other == line) { Ok(text) } else { Err(text) }
        })
    }
}

#[test]
fn ready_comes_once_the_port_answers() {
    let manager = Manager::new();
    // Another thread reads, since the node logs that it is ready before every shard has turned.
    let node = std::thread::scope(|scope| {
        let starting = scope.spawn(|| manager.start(&[], &[]));
        let first = manager.next(DEADLINE).expect("a message");
        assert!(first.starts_with("READY=1\n"), "the first message is {first:?}");
        let address = first.rsplit("serving ").next().unwrap().trim().parse().unwrap();
        let answer = Client::connect(address).request("GET", "/v1/time", &[], b"");
        assert_eq!(answer.status, 200);
        starting.join().unwrap()
    });
    let _streams = node.stream_on_each_shard("topic=live:1");
    manager.until(&format!("STATUS={} streams, 2 shards, serving {}", _streams.len(), node.public));
}

#[test]
fn stopping_asks_for_as_much_time_as_the_drain_takes() {
    let manager = Manager::new();
    let mut node = manager.start(&[], &["--drain", "100s"]);
    manager.until("READY=1\n".trim());
    node.signal(Signal::TERM);
    let text = manager.until("STOPPING=1");
    let micros: u64 = text.split("EXTEND_TIMEOUT_USEC=").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(micros > 100_000_000, "{text}");
    assert!(node.ended().success());
}

#[test]
fn beats_stop_while_one_shard_is_stuck() {
    let manager = Manager::new();
    let usec = INTERVAL.as_micros().to_string();
    let node = manager.start(&[("WATCHDOG_USEC", &usec)], &[]);
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    let stopped = trace::Stopped::stop(thread(&node, "shard-1"));
    // Beats that were under way come first; from the moment that it is found out there are none.
    manager.until("STATUS=shard 1 does not turn");
    let quiet = Instant::now() + 3 * INTERVAL;
    while Instant::now() < quiet {
        let text = manager.next(INTERVAL / 8).unwrap_or_default();
        assert!(!text.contains("WATCHDOG"), "a beat while a shard is stopped: {text}");
    }
    node.until_logged(&["a shard does not turn"]);
    drop(stopped);
    manager.until("WATCHDOG=1");
    // What kept the shard from turning is in its metric for a minute.
    eventually("the longest turn", || {
        let answer = Client::connect(node.internal).request("GET", "/metrics", &[], b"");
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix("fanfare_shard_turn_max_seconds{shard=\"1\"} "));
        let seconds: f64 = line.expect("the metric").parse().unwrap();
        if seconds >= INTERVAL.as_secs_f64() { Ok(()) } else { Err(seconds.to_string()) }
    });
}

#[test]
fn a_node_is_ended_because_other_programs_have_its_processor() {
    let manager = Manager::new();
    let usec = INTERVAL.as_micros().to_string();
    let node = manager.start(&[("WATCHDOG_USEC", &usec)], &[]);
    manager.until("WATCHDOG=1");
    let thread = Pid::from_raw(thread(&node, "shard-1")).unwrap();
    let core = sched_getaffinity(Some(thread)).unwrap();
    // It runs only while nobody else wants its processor, and these always do.
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads one live structure, and the thread is a child's.
    assert_eq!(unsafe { libc::sched_setscheduler(thread.as_raw_pid(), libc::SCHED_IDLE, &param) }, 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                sched_setaffinity(None, &core).unwrap();
                // Of what weighs less a thread gets its turn that wants no more than microseconds.
                setpriority_process(None, -20).expect("tests are root's");
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Until it stood still for longer than a shard may.
        let time = || fs::read_to_string(format!("/proc/{}/task/{thread}/schedstat", node.pid())).unwrap();
        let (mut before, mut since, mut beats, mut stuck) = (time(), Instant::now(), 0, false);
        while !stuck && since.elapsed() < 2 * INTERVAL {
            let text = manager.next(INTERVAL / 8).unwrap_or_default();
            stuck |= text.contains("does not turn");
            beats += usize::from(text.contains("WATCHDOG=1"));
            let now = time();
            if now.split(' ').next() != before.split(' ').next() {
                (before, since, beats) = (now, Instant::now(), 0);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(!stuck && beats > 0, "{beats} beats; stuck: {stuck}");
    });
    manager.until("WATCHDOG=1");
}

#[test]
fn no_beats_where_none_are_asked_for() {
    let manager = Manager::new();
    let usec = INTERVAL.as_micros().to_string();
    // The variable was meant for another process, such as the one that started this.
    let mut node = manager.start(&[("WATCHDOG_USEC", &usec), ("WATCHDOG_PID", "1")], &["--drain", "0s"]);
    manager.until("READY=1");
    node.signal(Signal::TERM);
    assert!(node.ended().success());
    while let Some(text) = manager.next(Duration::from_millis(1)) {
        assert!(!text.contains("WATCHDOG"), "{text}");
    }
}

#[test]
fn a_socket_that_is_not_there_does_not_stop_a_node() {
    for name in ["/nowhere/notify", "@nobody-listens-here", "vsock:1:2"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program();
        command.env("NOTIFY_SOCKET", name);
        let mut node = Node::launch(command, folder.path(), &["--drain", "0s"]);
        assert_eq!(node.get("/v1/time").status, 200);
        node.signal(Signal::TERM);
        assert!(node.ended().success(), "{name}");
    }
}

/// The thread of `node` whose name begins so.
fn thread(node: &Node, name: &str) -> i32 {
    let tasks = format!("/proc/{}/task", node.pid());
    let mut found = fs::read_dir(&tasks).unwrap().filter_map(|entry| {
        let id = entry.unwrap().file_name().into_string().unwrap();
        let comm = fs::read_to_string(format!("{tasks}/{id}/comm")).ok()?;
        (comm.trim() == name || comm.starts_with(&format!("{name}-"))).then(|| id.parse().unwrap())
    });
    found.next().unwrap_or_else(|| panic!("no thread {name}"))
}

/// Stops one thread of another process, which no signal can do.
mod trace {
    use std::ptr::null_mut;

    /// A thread that is stopped until this is dropped, by the test's thread that stopped it.
    pub struct Stopped(i32);

    impl Stopped {
        pub fn stop(thread: i32) -> Stopped {
            let none = null_mut::<libc::c_void>();
            // SAFETY: these requests take no memory of ours, and the thread is a child's.
            let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) };
            assert_eq!(seized, 0, "ptrace: {}", std::io::Error::last_os_error());
            // SAFETY: as above.
            let stopped = unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) };
            assert_eq!(stopped, 0, "ptrace: {}", std::io::Error::last_os_error());
            let mut status = 0;
            // SAFETY: `status` is a live integer.
            let waited = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
            assert!(waited == thread && libc::WIFSTOPPED(status), "{waited} {status}");
            Stopped(thread)
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            let none = null_mut::<libc::c_void>();
            // SAFETY: as in `stop`. A thread that died meanwhile is an error that says nothing.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
        }
    }
}
