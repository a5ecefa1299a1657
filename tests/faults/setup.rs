//! A data center of processes around a key-value store, and requests that may fail.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use fanfare::wire::connection_id::NodeId;
use redis::Commands as _;
use serde_json::Value;
use tempfile::TempDir;

use super::beneath::Store;
use crate::support::eventually;
use crate::support::http::{Client, request};
use crate::support::node::Node;

/// How long a request may take: longer than any promise of an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Dispatchers, Frontends and Backends, all ready. Backends share a database.
pub struct Site {
    pub dispatchers: Vec<Node>,
    pub frontends: Vec<Node>,
    pub backends: Vec<Node>,
    _folder: TempDir,
}

impl Site {
    /// Two Dispatchers, three Frontends and two Backends with an SQLite file.
    pub fn start(kv: &str) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = format!("sqlite:{}", folder.path().join("fanfare.db").display());
        Site::with(kv, &database, folder)
    }

    /// The same, with this database.
    pub fn on(kv: &str, database: &str) -> Site {
        Site::with(kv, database, tempfile::tempdir().expect("a temporary folder"))
    }

    fn with(kv: &str, database: &str, folder: TempDir) -> Site {
        let config = folder.path().join("fanfare.toml");
        std::fs::write(&config, "[events.score]\nclass = \"latest\"\n").expect("the folder is ours");
        let config = config.to_str().expect("a path of the tests");
        let common = ["--cores", "1", "--kv", kv, "--config", config];
        let unused = format!("sqlite:{}", folder.path().join("unused.db").display());
        let dispatchers: Vec<Node> = (0..2).map(|_| Node::role_on("dispatcher", &unused, &common)).collect();
        let urls: Vec<String> = dispatchers.iter().map(|node| format!("http://{}", node.internal)).collect();
        let urls = urls.join(",");
        let flags = [&common[..], &["--dispatchers", &urls]].concat();
        let frontends: Vec<Node> = (0..3).map(|_| Node::role_on("frontend", &unused, &flags)).collect();
        let backends: Vec<Node> = (0..2).map(|_| Node::role_on("backend", database, &flags)).collect();
        for node in dispatchers.iter().chain(&frontends).chain(&backends) {
            wait_ready(node);
        }
        let site = Site { dispatchers, frontends, backends, _folder: folder };
        eventually("the nodes to know each other", || {
            let known: Vec<usize> = site.dispatchers.iter().map(living).collect();
            if known == [7, 7] { Ok(()) } else { Err(format!("{known:?}")) }
        });
        site
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

    /// Waits until the store holds, for each topic, exactly the Frontends.
    pub fn wait_wanted(&self, store: &Store, topics: &[String]) {
        let mut names: Vec<String> = self.frontends.iter().map(|node| member(&name(node))).collect();
        names.sort();
        eventually("the subscriptions to be in the store", || {
            for topic in topics {
                let mut held: Vec<String> = store.read(&wanted_key(topic), |kv, key| kv.smembers(key))?;
                held.sort();
                if held != names {
                    return Err(format!("{topic}: {held:?} instead of {names:?}"));
                }
            }
            Ok(())
        });
    }
}

/// The key of who wants a topic, as a pattern.
pub fn wanted_key(topic: &str) -> String {
    format!("fanfare:*:s:{topic}")
}

/// A node's name.
pub fn name(node: &Node) -> String {
    node.info()["node"].as_str().expect("a name").to_owned()
}

/// How the store's sets name a node.
pub fn member(name: &str) -> String {
    let id: NodeId = name.parse().expect("a node's name");
    (id.0 as i64).to_string()
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
