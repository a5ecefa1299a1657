//! Two data centers, each a node with every role and a frontend beside it, and ways between them that take as long as wanted.

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::setup::{start, url};
use crate::support::delay::Delay;
use crate::support::node::{Node, program};

/// A data center.
pub struct Center {
    /// Everyone's dispatcher there.
    pub all: Node,
    /// Its viewers' frontend.
    pub frontend: Node,
    /// The way to the frontend.
    pub inside: Delay,
}

/// Two of them.
pub struct Pair {
    pub centers: [Center; 2],
    /// The way to each of them from the other one.
    pub between: [Delay; 2],
    _folder: TempDir,
}

impl Pair {
    /// Data centers `a` and `b`, connected.
    pub fn start() -> Pair {
        Pair::with(&[])
    }

    /// The same, of nodes that have these flags, too.
    pub fn with(flags: &[&str]) -> Pair {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("fanfare.toml");
        std::fs::write(&config, "[events.score]\nclass = \"latest\"\n").expect("the folder is ours");
        let config = config.to_str().expect("a path of the tests").to_owned();
        let between = [Delay::new(), Delay::new()];
        let center = |at: usize| {
            let peer = format!("{}={}", ["b", "a"][at], between[1 - at].url());
            let common = [&["--dc", ["a", "b"][at], "--config", &config], flags].concat();
            let all = Node::with(&[&["--cores", "2", "--peer", &peer], &*common].concat());
            between[at].leads_to(all.internal);
            let inside = Delay::new();
            let frontend = start("frontend", &[&all], &[&["--advertise", &inside.url()], &*common].concat());
            inside.leads_to(frontend.internal);
            Center { all, frontend, inside }
        };
        let centers = [center(0), center(1)];
        Pair { centers, between, _folder: folder }
    }

    /// Traces an event of this type from the first data center, with a stream in each.
    pub fn trace(&self, kind: &str) -> Trace {
        let [a, b] = &self.centers;
        let [to, here, there] = [&a.all, &a.frontend, &b.frontend].map(|node| format!("http://{}", node.public));
        let [one, other] = [&a.all, &b.all].map(url);
        // The way to a frontend that it advertises may take long; nobody is to wait for that but events.
        let more = ["--url", &to, "--watch", &here, "--watch", &there, "--internal", &one, "--internal", &other];
        let [here, there] = [&a.frontend, &b.frontend].map(url);
        trace("chat:1", kind, &[&more[..], &["--internal", &here, "--internal", &there]].concat())
    }
}

/// What `fanfare trace --json` says.
#[derive(Debug)]
pub struct Trace(pub Value);

/// Runs it.
#[track_caller]
pub fn trace(topic: &str, kind: &str, flags: &[&str]) -> Trace {
    let output = program().args(["trace", topic, kind, "{}", "--json"]).args(flags).output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Trace(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

impl Trace {
    /// The checkpoints on the way to a stream, each with the data center where it is.
    pub fn way(&self, stream: usize) -> Vec<String> {
        let hops = self.0["streams"][stream]["hops"].as_array().expect("a way").iter();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        hops.map(|hop| format!("{} {}", text(&hop["hop"]), text(&hop["data_center"])).trim_end().to_owned()).collect()
    }

    /// Whether it is known of every clock how wrong it may be.
    pub fn is_known(&self) -> bool {
        self.0["streams"].as_array().expect("streams").iter().all(|stream| stream["error_us"].is_u64())
    }

    /// A checkpoint on the way to a stream, by its number.
    pub fn hop(&self, stream: usize, hop: usize) -> &Value {
        &self.0["streams"][stream]["hops"][hop]
    }

    /// The hops of each stream's way add up to the time from end to end, but for the error that is stated.
    #[track_caller]
    pub fn adds_up(&self) {
        for stream in self.0["streams"].as_array().expect("streams") {
            let number = |name: &str| stream[name].as_i64().unwrap_or_else(|| panic!("{name} of {stream:#}"));
            let apart = (number("sum_us") - number("end_to_end_us")).abs();
            assert!(apart <= number("error_us"), "{apart} µs apart: {stream:#}");
        }
    }
}
