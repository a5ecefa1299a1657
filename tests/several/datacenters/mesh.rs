//! Data centers, each with a network, a store and nodes of its own, and a link between each two.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::network::{Link, Network};
use crate::support::eventually;
use crate::support::http::{Answer, Client};
use crate::support::node::program_behind;
use crate::support::redis::{FORGETFUL, Redis};
use crate::support::site::{Plan, Site};
use crate::support::sse::Stream;
use crate::support::viewers::Viewers;

/// The first dispatcher's ports; the next one's are the next.
const PUBLIC_PORT: u16 = 9001;
const INTERNAL_PORT: u16 = 9101;
const DISPATCHERS: u16 = 2;

/// What a data center is to be.
pub struct Wanted {
    pub name: String,
    /// Peers by name: their URLs, and the file with the secret.
    pub peers: Vec<Peer>,
    /// What its processes are started by, such as `env`.
    pub behind: Vec<String>,
    /// More in the environment of its dispatchers.
    pub environment: Vec<(String, String)>,
}

pub struct Peer {
    pub name: String,
    pub urls: Vec<String>,
    pub secret: PathBuf,
}

/// A data center. It ends when this is dropped.
pub struct Center {
    pub name: String,
    pub site: Site,
    _redis: Redis,
    pub network: Network,
}

/// All of them.
pub struct Mesh {
    pub centers: Vec<Center>,
    links: Vec<Link>,
    pub folder: TempDir,
}

/// The address of a dispatcher's internal listener.
pub fn internal(center: usize, dispatcher: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, center as u8 + 1], INTERNAL_PORT + dispatcher))
}

/// Those of both of its listeners: the same when it is started again.
fn addresses(center: usize, dispatcher: u16) -> [String; 2] {
    [format!("127.0.0.1:{}", PUBLIC_PORT + dispatcher), internal(center, dispatcher).to_string()]
}

/// The URLs of a data center's dispatchers, for its peers.
pub fn urls(center: usize) -> Vec<String> {
    (0..DISPATCHERS).map(|dispatcher| format!("http://{}", internal(center, dispatcher))).collect()
}

/// The secret that opens a data center's own nodes to each other.
pub fn cluster_secret(name: &str) -> String {
    format!("the-secret-of-the-cluster-{name}")
}

/// The secret of two data centers.
pub fn peer_secret(one: &str, other: &str) -> String {
    format!("the-secret-between-{}-and-{}", one.min(other), one.max(other))
}

/// Writes a secret to a file.
pub fn secret_file(folder: &Path, name: &str, secret: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, format!("{secret}\n")).expect("the folder is ours");
    file
}

impl Mesh {
    /// Data centers of these names, each the peer of all others, once all their nodes are ready.
    pub fn start(names: &[&str]) -> Mesh {
        Mesh::with(names, |_, _, _| {})
    }

    /// The same, each after this change: it is given the folder, the data center's place, and what is wanted.
    pub fn with(names: &[&str], change: impl Fn(&Path, usize, &mut Wanted)) -> Mesh {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut networks: Vec<Network> = (1..).take(names.len()).map(Network::new).collect();
        let all: Vec<&Network> = networks.iter().collect();
        let pairs = (0..names.len()).flat_map(|other| (0..other).map(move |one| [one, other]));
        let links = pairs.map(|ends| Link::between(&all, ends)).collect();
        let center = |(at, network): (usize, Network)| {
            let mut wanted = wanted(folder.path(), names, at);
            change(folder.path(), at, &mut wanted);
            Center::start(folder.path(), at, wanted, network)
        };
        let centers = networks.drain(..).enumerate().map(center).collect();
        Mesh { centers, links, folder }
    }

    fn networks(&self) -> Vec<&Network> {
        self.centers.iter().map(|center| &center.network).collect()
    }

    fn link(&self, one: usize, other: usize) -> &Link {
        self.links.iter().find(|link| link.joins(one, other)).expect("each two have one")
    }

    /// Cuts the link between two data centers, without a word to anybody.
    pub fn cut(&self, one: usize, other: usize) {
        self.link(one, other).cut(&self.networks());
    }

    /// Heals it.
    pub fn heal(&self, one: usize, other: usize) {
        self.link(one, other).heal(&self.networks());
    }

    /// Waits until each data center is connected to each other.
    pub fn wait_joined(&self) {
        for center in &self.centers {
            for other in self.centers.iter().filter(|other| other.name != center.name) {
                center.wait_connected(&other.name, true);
            }
        }
    }

    /// `count` viewers of these topics in each data center, spread over its frontends.
    pub fn viewers(&self, topics: &[String], count: usize) -> Vec<Viewers> {
        self.centers.iter().map(|center| center.viewers(topics, count)).collect()
    }
}

/// What a data center is without a change.
fn wanted(folder: &Path, names: &[&str], at: usize) -> Wanted {
    let peer = |(other, name): (usize, &&str)| {
        let secret = peer_secret(names[at], name);
        let secret = secret_file(folder, &secret, &secret);
        Peer { name: (*name).to_owned(), urls: urls(other), secret }
    };
    let others = names.iter().enumerate().filter(|(other, _)| *other != at);
    let (behind, environment) = Default::default();
    Wanted { name: names[at].to_owned(), peers: others.map(peer).collect(), behind, environment }
}

impl Center {
    fn start(folder: &Path, at: usize, wanted: Wanted, network: Network) -> Center {
        // Should the test be killed they go with it, and so does the network. Nodes with one shard would all be on the
        // first core.
        let cores = core_affinity::get_core_ids().expect("the kernel says which may be used");
        let core = cores[at % cores.len()].id.to_string();
        let mut behind: Vec<String> =
            ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", &core].map(str::to_owned).to_vec();
        behind.extend(wanted.behind);
        let redis = network.inside(|| Redis::behind(&behind, &FORGETFUL));
        let secret = secret_file(folder, &format!("cluster-{at}"), &cluster_secret(&wanted.name));
        let text = |path: &Path| path.to_str().expect("a path of the tests").to_owned();
        let name = wanted.name;
        let flags = ["--dc".to_owned(), name.clone(), "--cluster-secret-file".to_owned(), text(&secret)];
        let mut dispatcher_flags = vec!["--peer-insecure".to_owned()];
        for peer in wanted.peers {
            dispatcher_flags.extend(["--peer".to_owned(), format!("{}={}", peer.name, peer.urls.join(","))]);
            let secret = format!("{}={}", peer.name, text(&peer.secret));
            dispatcher_flags.extend(["--peer-secret-file".to_owned(), secret]);
        }
        let plan = Plan {
            dispatchers: (0..DISPATCHERS).map(|dispatcher| addresses(at, dispatcher)).collect(),
            frontends: 2,
            backends: 1,
            flags: flags.to_vec(),
            dispatcher_flags,
            command: Box::new(move || program_behind(&behind)),
            dispatcher_environment: wanted.environment,
            ..Plan::new(&redis.url())
        };
        let site = network.inside(|| Site::of(plan));
        Center { name, site, _redis: redis, network }
    }

    /// Publishes one event at a dispatcher, which must take it. Gives its id.
    pub fn publish(&self, dispatcher: usize, topic: &str, event: &Value) -> String {
        self.network.inside(|| self.site.dispatchers[dispatcher].publish(topic, event))
    }

    /// Posts to its backend.
    pub fn post(&self, target: &str, body: &Value) -> Answer {
        self.network.inside(|| self.site.backends[0].post(target, body.to_string()))
    }

    /// A connected stream at a frontend.
    pub fn stream(&self, frontend: usize, query: &str) -> Stream {
        self.network.inside(|| self.site.frontends[frontend].stream(query))
    }

    /// `count` viewers of these topics, spread over its frontends.
    pub fn viewers(&self, topics: &[String], count: usize) -> Viewers {
        self.network.inside(|| Viewers::of(self.site.doors(), topics, count))
    }

    /// A request to any address, from within.
    pub fn request(&self, to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.network.inside(|| Client::connect(to).request(method, target, headers, b""))
    }

    /// A metric about a peer, summed over the dispatchers.
    pub fn peer(&self, name: &str, peer: &str) -> f64 {
        self.measures(name, peer).iter().sum()
    }

    /// The same of each dispatcher.
    pub fn measures(&self, name: &str, peer: &str) -> Vec<f64> {
        let label = format!("dc=\"{peer}\"");
        self.network.inside(|| self.site.dispatchers.iter().map(|node| node.measure(name, &label)).collect())
    }

    /// Waits until each dispatcher is connected to a peer, or none is.
    pub fn wait_connected(&self, peer: &str, wanted: bool) {
        eventually(&format!("{} to be connected to {peer}: {wanted}", self.name), || {
            let seen = self.measures("fanfare_peer_connected", peer);
            if seen.iter().all(|value| *value == f64::from(u8::from(wanted))) { Ok(()) } else { Err(seen) }
        });
    }

    /// Waits until each dispatcher has logged a warning or an error that holds any of these texts.
    #[track_caller]
    pub fn wait_logged(&self, texts: &[&str]) {
        for (at, node) in self.site.dispatchers.iter().enumerate() {
            eventually(&format!("dispatcher {at} of {} to log any of {texts:?}", self.name), || {
                let log = node.log();
                let warns = |line: &String| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
                let fits = |line: &&String| warns(line) && texts.iter().any(|text| line.contains(text));
                if log.iter().any(|line| fits(&line)) { Ok(()) } else { Err(log) }
            });
        }
    }

    /// Kills a dispatcher as a crash would.
    pub fn kill_dispatcher(&mut self, at: usize) {
        self.site.dispatchers.remove(at).kill();
    }

    /// Starts that one again, once it was killed: a new node at the old address.
    pub fn start_dispatcher(&mut self, at: usize) {
        let node = self.network.inside(|| self.site.dispatcher(at));
        self.site.dispatchers.insert(at, node);
        self.wait_whole();
    }

    /// Waits until all its nodes are ready, and know each other.
    pub fn wait_whole(&self) {
        self.network.inside(|| self.site.wait_whole());
    }
}
