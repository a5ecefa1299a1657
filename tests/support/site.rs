//! A data center's processes around a key-value store, and requests that may fail.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::eventually;
use super::http::{Client, request};
use super::node::{Node, program};

/// How long a request may take: longer than any promise of an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What a site is to be.
pub struct Plan {
    pub kv: String,
    /// An SQLite file of its own without one.
    pub database: Option<String>,
    /// Public and internal addresses of dispatchers.
    pub dispatchers: Vec<[String; 2]>,
    pub frontends: usize,
    pub backends: usize,
    /// Flags of every node.
    pub flags: Vec<String>,
    /// More of the file of settings.
    pub more_settings: String,
    /// More flags, of dispatchers.
    pub dispatcher_flags: Vec<String>,
    /// What starts every node: the program, or something that becomes it.
    pub command: Box<dyn Fn() -> Command>,
    /// More in the environment, of dispatchers.
    pub dispatcher_environment: Vec<(String, String)>,
}

impl Plan {
    /// Two Dispatchers, three Frontends and two Backends with an SQLite file.
    pub fn new(kv: &str) -> Plan {
        Plan {
            kv: kv.to_owned(),
            database: None,
            dispatchers: vec![["127.0.0.1:0", "127.0.0.1:0"].map(str::to_owned); 2],
            frontends: 3,
            backends: 2,
            flags: Vec::new(),
            more_settings: String::new(),
            dispatcher_flags: Vec::new(),
            command: Box::new(program),
            dispatcher_environment: Vec::new(),
        }
    }
}

/// One type of class `latest`, and one with a pace.
const CONFIG: &str = "[events.score]\nclass = \"latest\"\n[events.cheer]\nclass = \"every\"\npace = \"1/s\"\n";

/// Dispatchers, Frontends and Backends, all ready. Backends share a database.
pub struct Site {
    pub dispatchers: Vec<Node>,
    pub frontends: Vec<Node>,
    pub backends: Vec<Node>,
    pub plan: Plan,
    folder: TempDir,
}

impl Site {
    /// The usual plan.
    pub fn start(kv: &str) -> Site {
        Site::of(Plan::new(kv))
    }

    /// The same, with this database.
    pub fn on(kv: &str, database: &str) -> Site {
        Site::of(Plan { database: Some(database.to_owned()), ..Plan::new(kv) })
    }

    /// Of this plan, once its nodes know each other.
    pub fn of(plan: Plan) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("fanfare.toml"), format!("{CONFIG}{}", plan.more_settings))
            .expect("the folder is ours");
        let (dispatchers, frontends, backends) = Default::default();
        let mut site = Site { dispatchers, frontends, backends, plan, folder };
        site.dispatchers = (0..site.plan.dispatchers.len()).map(|at| site.dispatcher(at)).collect();
        let urls: Vec<String> = site.dispatchers.iter().map(|node| format!("http://{}", node.internal)).collect();
        let more = ["--dispatchers".to_owned(), urls.join(",")];
        let node = |role| site.launch((site.plan.command)(), role, "127.0.0.1:0", &more);
        let frontends = (0..site.plan.frontends).map(|_| node("frontend")).collect();
        let backends = (0..site.plan.backends).map(|_| node("backend")).collect();
        (site.frontends, site.backends) = (frontends, backends);
        site.wait_whole();
        site
    }

    /// Starts the dispatcher of this number, which does not run yet, or no longer.
    pub fn dispatcher(&self, at: usize) -> Node {
        let mut command = (self.plan.command)();
        command.envs(self.plan.dispatcher_environment.iter().cloned());
        let [public, internal] = &self.plan.dispatchers[at];
        let flags =
            ["--listen".to_owned(), public.clone()].into_iter().chain(self.plan.dispatcher_flags.iter().cloned());
        self.launch(command, "dispatcher", internal, &flags.collect::<Vec<_>>())
    }

    fn launch(&self, command: Command, role: &str, internal: &str, more: &[String]) -> Node {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let own = || format!("sqlite:{}", file("fanfare.db"));
        let database = match role {
            "backend" => self.plan.database.clone().unwrap_or_else(own),
            // Not used.
            _ => format!("sqlite:{}", file("unused.db")),
        };
        let config = file("fanfare.toml");
        let flags = ["--cores", "1", "--kv", &self.plan.kv, "--config", &config].into_iter();
        let flags: Vec<&str> = flags.chain(self.plan.flags.iter().chain(more).map(String::as_str)).collect();
        Node::run_on(command, role, internal, &database, &flags)
    }

    /// Waits until all nodes are ready and dispatchers know them all.
    pub fn wait_whole(&self) {
        let nodes = || self.dispatchers.iter().chain(&self.frontends).chain(&self.backends);
        nodes().for_each(wait_ready);
        eventually("the nodes to know each other", || {
            let known: Vec<usize> = self.dispatchers.iter().map(living).collect();
            if known.iter().all(|count| *count == nodes().count()) { Ok(()) } else { Err(format!("{known:?}")) }
        });
    }

    /// Where publishers go.
    pub fn intakes(&self) -> Vec<SocketAddr> {
        self.dispatchers.iter().map(|node| node.public).collect()
    }

    /// Where viewers go.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.frontends.iter().map(|node| node.public).collect()
    }

    /// Where likes and comments go.
    pub fn desks(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(|node| node.public).collect()
    }
}

/// Nodes that `node` knows to live.
pub fn living(node: &Node) -> usize {
    node.info()["nodes"].as_array().expect("a list").len()
}

/// Waits until a node says that it is ready.
pub fn wait_ready(node: &Node) {
    eventually("a node to be ready", || {
        let answer = Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
}

/// Waits for something that may take longer than the usual deadline.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > limit => panic!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

pub fn unix_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis() as u64
}

/// An answer that came, whatever it says.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub retry_after: bool,
    pub body: Value,
}

/// A request on a connection of its own, which may fail as the node may.
///
/// # Errors
/// No connection, or no whole answer in time.
pub fn post(address: SocketAddr, target: &str, body: &str) -> Result<Reply, Error> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    socket.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    socket.write_all(&request("POST", target, &[("Connection", "close")], body.as_bytes()))?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(Error::other)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    let body = serde_json::from_str(body).map_err(|_| Error::from(ErrorKind::UnexpectedEof))?;
    Ok(Reply { status, retry_after: head.to_ascii_lowercase().contains("\r\nretry-after:"), body })
}

/// Waits a given time, during which the test's load goes on.
pub fn for_the_length_of(duration: Duration, mut each: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < duration {
        each();
        std::thread::sleep(Duration::from_millis(100));
    }
}
