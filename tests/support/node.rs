//! `fanfare all` as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::described;
use super::http::{Answer, Client, request};
use super::sse::Stream;
use super::{DEADLINE, eventually};

/// A running node. It is killed when this is dropped; what it logged is shown if the test failed.
pub struct Node {
    child: Child,
    pub public: SocketAddr,
    pub internal: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// The cluster's secret, where it has one.
    secret: Option<String>,
    /// The folder of its database, unless the test keeps that.
    _folder: Option<TempDir>,
}

/// The program under test.
pub fn program() -> Command {
    program_behind(&[])
}

/// The program under test, started by other programs that become it, such as `env`.
pub fn program_behind(words: &[String]) -> Command {
    // Another build of it may be given, such as a release for tests that run for long.
    let built = std::env::var("FANFARE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_fanfare").to_owned());
    let mut words = words.iter().map(String::as_str).chain([&*built]);
    let mut command = Command::new(words.next().expect("there is one at least"));
    command.args(words);
    // Settings of whoever runs the tests are not the test's.
    command.env_clear();
    // On a machine that is busy with other tests turns are long, and new streams would be refused; tests of that give
    // the flag.
    command.env("FANFARE_MAX_TURN", "0s");
    // They are events like others to whoever counts those in stores and on links; tests of them give the flag.
    command.env("FANFARE_CANARY", "off");
    command
}

/// Lines that a node logged, also of a test that failed while it held them.
fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// A node of two shards with an empty database.
    pub fn start() -> Node {
        Node::with(&["--cores", "2"])
    }

    /// Where it listens for TLS, as it says when it starts.
    #[track_caller]
    pub fn secure(&self) -> SocketAddr {
        let said = self.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        said.filter_map(|line| line["secure"].as_str()?.parse().ok()).next().expect("it says where")
    }

    /// A node with an empty database and these flags.
    pub fn with(flags: &[&str]) -> Node {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut node = Node::in_folder(folder.path(), flags);
        node._folder = Some(folder);
        node
    }

    /// A node whose database is in `folder`.
    pub fn in_folder(folder: &Path, flags: &[&str]) -> Node {
        Node::launch(program(), folder, flags)
    }

    /// A node started by `command`, which is the program, or something that becomes it.
    pub fn launch(command: Command, folder: &Path, flags: &[&str]) -> Node {
        Node::launch_on(command, &format!("sqlite:{}", folder.join("fanfare.db").display()), flags)
    }

    /// A node with this database.
    pub fn launch_on(command: Command, database: &str, flags: &[&str]) -> Node {
        Node::run_on(command, "all", "127.0.0.1:0", database, flags)
    }

    /// A node of one role, with an empty database if it is one that needs it.
    pub fn role(role: &str, flags: &[&str]) -> Node {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut node = Node::run(program(), role, folder.path(), flags);
        node._folder = Some(folder);
        node
    }

    /// A node with every role whose internal listener is where another one's was.
    pub fn with_internal(address: &str) -> Node {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut node = Node::run_at(program(), "all", address, folder.path(), &["--cores", "2"]);
        node._folder = Some(folder);
        node
    }

    fn run(command: Command, role: &str, folder: &Path, flags: &[&str]) -> Node {
        Node::run_at(command, role, "127.0.0.1:0", folder, flags)
    }

    fn run_at(command: Command, role: &str, internal: &str, folder: &Path, flags: &[&str]) -> Node {
        Node::run_on(command, role, internal, &format!("sqlite:{}", folder.join("fanfare.db").display()), flags)
    }

    /// A node of one role, with its internal listener and database where one says.
    pub fn run_on(mut command: Command, role: &str, internal: &str, database: &str, flags: &[&str]) -> Node {
        let mut child = command
            .args([role, "--internal", internal, "--db", database])
            .args(if flags.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] })
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lock(&kept).push(line.clone());
                // The test listens until the node is ready only.
                let _ = sender.send(line);
            }
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let file = flags.iter().skip_while(|flag| **flag != "--cluster-secret-file").nth(1);
        let secret = file.map(|path| std::fs::read_to_string(path).expect("the test's file").trim().to_owned());
        let mut node = Node { child, public: any, internal: any, log, secret, _folder: None };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|error| panic!("no line with the message \"ready\": {error}"));
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            if line["message"] == "ready" {
                let address = |name: &str| line[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
                (node.public, node.internal) = (address("public"), address("internal"));
                described::note_listeners(node.public, node.internal);
                return node;
            }
        }
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        super::send_signal(pid, signal);
    }

    /// Kills it as a crash would: nothing in it runs any more.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the process to end", || child.try_wait().expect("it is ours").ok_or("it runs".to_owned()))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until a line of its log has all of these: what it did is in the log a moment later.
    #[track_caller]
    pub fn until_logged(&self, texts: &[&str]) {
        eventually(&format!("{texts:?} to be logged"), || {
            let log = self.log();
            let fits = |line: &String| texts.iter().all(|text| line.contains(text));
            if log.iter().any(fits) { Ok(()) } else { Err(log) }
        });
    }

    /// Where its log is put. Nobody reads it for as long as this is locked.
    pub fn log_lines(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.log)
    }

    /// `GET` on the public listener.
    pub fn get(&self, target: &str) -> Answer {
        Client::connect(self.public).request("GET", target, &[], b"")
    }

    /// `POST` of a body to the public listener.
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        Client::connect(self.public).request("POST", target, &[], body.as_ref())
    }

    /// Publishes one event, which must be taken. Gives its id.
    pub fn publish(&self, topic: &str, event: &Value) -> String {
        let answer = self.post(&format!("/v1/topics/{topic}/events"), event.to_string());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Opens a stream and waits until it is connected.
    pub fn stream(&self, query: &str) -> Stream {
        Stream::connected(self.public, query)
    }

    /// A connected stream on each of the node's shards, in their order.
    pub fn stream_on_each_shard(&self, query: &str) -> Vec<Stream> {
        let shards = self.info()["shards"].as_array().expect("shards").len();
        let mut found: Vec<Option<Stream>> = (0..shards).map(|_| None).collect();
        // The kernel chooses the shard by a hash of the address: 64 in a row on one of two would be odd indeed.
        for _ in 0..64 {
            let stream = self.stream(query);
            let shard = stream.shard();
            found[shard].get_or_insert(stream);
            if found.iter().all(Option::is_some) {
                return found.into_iter().flatten().collect();
            }
        }
        panic!("64 connections did not reach every shard");
    }

    /// What the node says of itself: `/v1/node`.
    pub fn info(&self) -> Value {
        self.internal_json("/v1/node")
    }

    /// What its internal listener answers, as JSON.
    pub fn internal_json(&self, target: &str) -> Value {
        let bearer = self.secret.as_ref().map(|secret| format!("Bearer {secret}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
        let answer = Client::connect(self.internal).request("GET", target, &headers, b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// What it shows of itself once a second: the stream of `/v1/watch`.
    pub fn watch(&self) -> Stream {
        let bearer = self.secret.as_ref().map(|secret| format!("Bearer {secret}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
        Stream::with_request(self.internal, &request("GET", "/v1/watch", &headers, b""))
    }

    /// Connections, subscriptions and topics, as the node counts them.
    pub fn counts(&self) -> [u64; 3] {
        let info = self.info();
        ["connections", "subscriptions", "topics"].map(|name| info[name].as_u64().expect("a number"))
    }

    /// Connections that are no streams, but for the one that asks.
    pub fn requests_open(&self) -> u64 {
        let info = self.info();
        info["shards"]
            .as_array()
            .expect("shards")
            .iter()
            .map(|shard| shard["requests"].as_u64().expect("a number"))
            .sum()
    }

    /// A metric: the sum of the samples of `name` whose labels contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        self.measure(name, label) as u64
    }

    /// The same, of a metric that may be a fraction, or below zero.
    pub fn measure(&self, name: &str, label: &str) -> f64 {
        let answer = Client::connect(self.internal).request("GET", "/metrics", &[], b"");
        let text = answer.text();
        let samples: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with('{') && rest.contains(label)))
            .map(|rest| rest.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number"))
            .collect();
        assert!(!samples.is_empty(), "no metric {name} with {label} in {text}");
        samples.iter().sum()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for line in self.log() {
                eprintln!("node {}: {line}", self.child.id());
            }
        }
    }
}
