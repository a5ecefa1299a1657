//! What the shards of a node share: read-only data, and the ways to reach each other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus_client::registry::Registry;

use crate::admission::Admission;
use crate::auth::watch::Shared;
use crate::db::Store;
use crate::ground::access::Tokens;
use crate::ground::authorize::Authorizer;
use crate::ground::clocks::Clocks;
use crate::ground::hooks::{Hook, HookSender};
use crate::ground::links::LinkView;
use crate::ground::message::{Message, Ticket};
use crate::ground::peers::Peer;
use crate::kv::{BUCKETS, KeyValue, NodeInfo, bucket};
use crate::observe::canary::CanaryMetrics;
use crate::observe::metrics::Counters;
use crate::observe::otlp::Spans;
use crate::runtime::account::Common;
use crate::runtime::mailbox::Sender;
use crate::runtime::resolver::Resolver;
use crate::runtime::trouble::Reason;
use crate::settings::{Role, Secret};
use crate::wire::connection_id::NodeId;
use crate::wire::frame::topic_hash;

/// Which roles a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Holds viewers.
    pub frontend: bool,
    /// Takes events.
    pub dispatcher: bool,
    /// Takes likes.
    pub backend: bool,
    /// Shows the demo page.
    pub demo: bool,
}

impl Roles {
    /// What a process of this role does.
    pub fn of(role: Role) -> Roles {
        let is = |other| role == Role::All || role == other;
        Roles {
            frontend: is(Role::Frontend),
            dispatcher: is(Role::Dispatcher),
            backend: is(Role::Backend),
            demo: role == Role::All,
        }
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.frontend, "frontend"), (self.dispatcher, "dispatcher"), (self.backend, "backend")];
        all.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
    }
}

/// One node: one process.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Its name, as clients see it.
    pub name: String,
    /// Its data center.
    pub dc: String,
    /// Its roles.
    pub roles: Roles,
    /// When it started.
    pub started: Instant,
    /// Its public address.
    pub public: SocketAddr,
    /// Its internal address.
    pub internal: SocketAddr,
    /// What tokens are checked by; none with `--auth none`.
    pub tokens: Option<Tokens>,
    /// The secret that internal requests carry, if there is one.
    pub cluster_secret: Option<Shared<Secret>>,
    /// Other data centers.
    pub peers: Vec<Peer>,
    /// Its clients can go nowhere else.
    pub alone: bool,
    /// Into each shard's mailbox.
    pub mail: Vec<Sender<Message>>,
    /// Each shard's numbers.
    pub counters: Arc<[Counters]>,
    /// All of what it tells in numbers.
    pub metrics: Registry,
    /// Who is let in.
    pub admission: Arc<Admission>,
    /// What it says of itself to the others; none where there can be no others.
    pub info: Option<NodeInfo>,
    /// Bucket by bucket, what the key-value store should hold of this node's wants; each written by the shard whose home
    /// it is.
    pub digests: [AtomicU64; BUCKETS],
    /// The buckets whose digest holds: one bit each.
    pub settled: AtomicU64,
    /// The key-value store; without one, dispatchers are asked.
    pub kv: Option<Arc<dyn KeyValue>>,
    /// This machine's own name, as the kernel had it when the node started.
    pub host_name: Option<Box<str>>,
    /// When a heartbeat was answered last, in Unix ms.
    pub heard_ms: AtomicU64,
    /// Why the last one was not, if it was not.
    pub trouble: Mutex<Option<Reason>>,
    /// Makes addresses of names, on a node with names to look up.
    pub resolver: Option<Resolver>,
    /// What takes spans of sampled events, where there is a collector of OpenTelemetry.
    pub spans: Option<Spans>,
    /// What is known of other nodes' clocks.
    pub clocks: Clocks,
    /// What viewers of canaries count.
    pub canaries: CanaryMetrics,
    /// Each shard's links, as of its last tick.
    pub links: Vec<Mutex<Vec<LinkView>>>,
    /// The nodes that live, as of the last heartbeat.
    pub nodes: Mutex<Arc<Vec<NodeInfo>>>,
    /// The database, on a node that is a backend.
    pub store: Option<Store<Ticket>>,
    /// Who is told of what happens, on a node that is a backend.
    pub hooks: Vec<Hook>,
    /// Sends what they are told; there is one where there are hooks.
    pub hook_sender: Option<Arc<dyn HookSender>>,
    /// Asks the operator's server who may do what, where there is one.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// What waits for the database, and the questions that it has not answered.
    pub storing: Common,
    /// Who watches it.
    pub watchers: AtomicUsize,
    /// The node takes no more streams.
    pub draining: AtomicBool,
    /// Shards with nothing left to end. They stay until all are, since they answer each other.
    pub drained: AtomicUsize,
}

impl Node {
    /// Shards.
    pub fn shards(&self) -> usize {
        self.mail.len()
    }

    /// Whether the key-value store may be away while this node lives.
    pub fn kv_is_away_at_times(&self) -> bool {
        self.kv.as_ref().is_none_or(|kv| !kv.is_here())
    }

    /// The shard that keeps what there must be one of for a topic. Nobody outside knows which that is, so nobody can aim many
    /// topics at one shard.
    pub fn home(&self, topic: &str) -> usize {
        self.home_of(topic_hash(topic))
    }

    /// Same, for a topic with this [`topic_hash`].
    pub fn home_of(&self, topic_hash: u64) -> usize {
        (topic_hash % self.shards() as u64) as usize
    }

    /// The shard that tells the key-value store what is wanted of a topic's bucket: one for each bucket, so that the store is
    /// told in order.
    pub fn registrar(&self, topic: &str) -> usize {
        usize::from(bucket(topic)) % self.shards()
    }
}
