//! Redis servers and Clusters as processes of their own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::ports::free_port;
use super::{DEADLINE, eventually, send_signal};

/// A server. It is killed when this is dropped.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    folder: TempDir,
    /// What starts it.
    program: Vec<String>,
    arguments: Vec<String>,
    password: Option<String>,
}

/// Arguments of a server that keeps nothing on disk.
pub const FORGETFUL: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// Arguments of a server that has on disk whatever it answered.
pub const DURABLE: [&str; 6] = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];

impl Redis {
    /// An empty server that keeps nothing on disk.
    pub fn start() -> Redis {
        Redis::with(&FORGETFUL)
    }

    /// A server that has on disk whatever it answered.
    pub fn durable() -> Redis {
        Redis::with(&DURABLE)
    }

    /// A server with these arguments.
    pub fn with(arguments: &[&str]) -> Redis {
        Redis::behind(&[], arguments)
    }

    /// The same, started by other programs that become it, such as `env`.
    pub fn behind(words: &[String], arguments: &[&str]) -> Redis {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let program = words.iter().cloned().chain(["redis-server".to_owned()]).collect();
        let mut redis = Redis { child: None, port: free_port(), folder, program, arguments, password: None };
        redis.launch();
        redis
    }

    /// A server that wants this password.
    pub fn with_password(password: &str) -> Redis {
        let mut redis = Redis::start();
        assert_eq!(redis.command(&["CONFIG", "SET", "requirepass", password]), "+OK");
        redis.password = Some(password.to_owned());
        redis
    }

    #[track_caller]
    fn launch(&mut self) {
        let port = self.port.to_string();
        let plain = if self.arguments.iter().any(|argument| argument == "--tls-port") { "0" } else { &port };
        let arguments = self.arguments.iter().map(|argument| argument.replace("{port}", &port));
        let mut child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .args(["--bind", "127.0.0.1", "--port", plain, "--dir"])
            .arg(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(self.log()).expect("the folder is ours"))
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let said = || std::fs::read_to_string(self.log()).unwrap_or_default();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                panic!("redis-server at port {port} ended with {status}: {}", said());
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("redis-server at port {port} answers nothing for {DEADLINE:?}: {}", said());
            }
            if plain == "0" && TcpStream::connect(self.address()).is_ok() {
                break;
            }
            if self.try_command(&["PING"]).is_some_and(|answer| answer == "+PONG" || answer.starts_with("-NOAUTH")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
    }

    /// What it said since it was started last.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What `--kv` takes.
    pub fn url(&self) -> String {
        let who = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis://{who}127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Whether it was not killed.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Starts it again, with what it has on disk.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        self.launch();
    }

    /// Stops it without ending it.
    pub fn pause(&self) {
        send_signal(self.pid(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        send_signal(self.pid(), Signal::CONT);
    }

    /// Sends a command; gives the first line of the answer, or, of a bulk, the text.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("it answers")
    }

    /// How many replicas a Sentinel on this port knows of the master `kv`.
    pub fn sentinel_replicas(&self, port: u16) -> usize {
        let info = self.try_command_at(port, &["INFO", "sentinel"]).unwrap_or_default();
        let slaves = info.split("slaves=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        slaves.unwrap_or(0)
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        self.try_command_at(self.port, words)
    }

    fn try_command_at(&self, port: u16, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut sent = String::new();
        let mut write = |words: &[&str]| {
            sent.push_str(&format!("*{}\r\n", words.len()));
            words.iter().for_each(|word| sent.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        };
        if let Some(password) = &self.password {
            write(&["AUTH", password]);
        }
        write(words);
        stream.write_all(sent.as_bytes()).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if self.password.is_some() {
            reader.read_line(&mut line).ok()?;
            line.clear();
        }
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        match line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => {
                let mut bulk = vec![0; length];
                reader.read_exact(&mut bulk).ok()?;
                String::from_utf8(bulk).ok()
            }
            None => Some(line),
        }
    }

    /// A field of `INFO`.
    pub fn info(&self, section: &str, name: &str) -> Option<String> {
        let info = self.try_command(&["INFO", section])?;
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A Cluster of masters, each with as many replicas.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    /// Three masters and three replicas, once each of them knows all.
    pub fn start() -> Cluster {
        Cluster::with(&FORGETFUL)
    }

    /// The same, whose nodes have these arguments.
    pub fn with(arguments: &[&str]) -> Cluster {
        let more =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-config-file", "nodes.conf"];
        // A new replica waits no longer than it must before it is filled, and wants to take over however long that takes.
        let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let lasting = ["--cluster-replica-validity-factor", "0"];
        let arguments: Vec<&str> = arguments.iter().copied().chain(more).chain(quick).chain(lasting).collect();
        // Where each listens for the others: 10,000 above its port by default, which may be somebody's.
        let buses: [String; 6] = std::array::from_fn(|_| free_port().to_string());
        let node = |bus: &String| Redis::with(&[&arguments[..], &["--cluster-port", bus]].concat());
        let nodes: Vec<Redis> = buses.iter().map(node).collect();
        let addresses = nodes.iter().zip(&buses).map(|(node, bus)| format!("127.0.0.1:{}@{bus}", node.port));
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Cluster { nodes };
        cluster.settled();
        cluster
    }

    /// Waits until every node that runs says that all is well, and each master has a replica if there are enough. That is so
    /// again after a master was killed once a replica has taken over from it and all have heard of that.
    #[track_caller]
    pub fn settled(&self) {
        eventually("the Cluster to be whole", || {
            for node in self.running() {
                let info = node.command(&["CLUSTER", "INFO"]);
                if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
                    return Err(info);
                }
            }
            let masters = self.masters();
            let online =
                |node: &Redis| node.info("replication", "slave0").is_some_and(|line| line.contains("state=online"));
            let covered = masters.iter().filter(|at| online(&self.nodes[**at])).count();
            if masters.len() == 3 && covered + 3 >= self.running().count() {
                Ok(())
            } else {
                Err(self.running().map(|node| node.command(&["CLUSTER", "NODES"])).collect())
            }
        });
    }

    /// Nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter().filter(|node| node.runs())
    }

    /// Which nodes are masters now.
    pub fn masters(&self) -> Vec<usize> {
        let is_master = |node: &Redis| node.runs() && node.info("replication", "role").as_deref() == Some("master");
        (0..self.nodes.len()).filter(|at| is_master(&self.nodes[*at])).collect()
    }

    /// What `--kv` takes.
    pub fn url(&self) -> String {
        let seeds: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", seeds.join(","))
    }
}
