//! Starts the roles of a node, and ends them.

#[expect(clippy::disallowed_methods, reason = "threads of its own")]
mod authorize;
pub(crate) mod certificates;
mod greeting;
#[expect(clippy::disallowed_methods, reason = "threads of its own")]
mod hooks;
mod kv;
pub mod notify;
mod panics;
mod secrets;
mod signals;

use std::any::Any;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tracing::{error, info, warn};

use crate::admission::Admission;
use crate::auth::certificates::Certificates;
use crate::auth::watch::Shared;
use crate::auth::{Fetcher, Watcher};
use crate::db::{OpenError, Outcome, Store, StoreError};
use crate::db::{postgres, sqlite};
use crate::ground::Parts;
use crate::ground::access::Tokens;
use crate::ground::authorize::Authorizer;
use crate::ground::clocks::Clocks;
use crate::ground::hooks::{HookSender, TAKES_HOOKS};
use crate::ground::live::Live;
use crate::ground::message::{Message, Then, Ticket};
use crate::ground::node::{Node, Roles};
use crate::ground::peers::Peer;
use crate::kv::{BUCKETS, KeyValue, NodeInfo, Unavailable};
use crate::limits::{FILES_RESERVED, FILES_RESERVED_PER_SHARD, MAILBOX_MESSAGES, SHARDS_MAX};
use crate::observe::canary::CanaryMetrics;
use crate::observe::expiry::Expiry;
use crate::observe::metrics::Counters;
use crate::observe::otlp::message::Resource;
use crate::observe::otlp::{Exporter, Spans};
use crate::observe::peers::{PeerCounters, PeerMetrics};
use crate::observe::{exposition, log};
use crate::runtime::account::{Common, Use};
use crate::runtime::clock::Times;
use crate::runtime::cores::Engine;
use crate::runtime::listener::{self, Sharing};
use crate::runtime::net::{Kernel, Net};
use crate::runtime::resolver::Resolver;
use crate::runtime::{cores, mailbox, open_files, planted, process, random, tls};
use crate::settings::{self, Auth, Cores, Database, Flags, Io, KeySource, Settings, SettingsError};
use crate::shard::Shard;
use crate::wire::connection_id::NodeId;
use crate::wire::node_url::NodeUrl;

/// Exit status for a setting that will not do.
const USAGE: u8 = 2;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("io_uring: {0}: {cost}. {remedy}", cost = cores::COST, remedy = cores::REMEDY)]
    Executor(std::io::Error),
    #[error("no randomness from the kernel: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// Runs a node until it is told to stop. 0 after a clean drain, 1 when something broke, 2 for settings that will not do.
/// `flags` are those that the settings came from, for when they are read again.
pub fn run(settings: &Settings, flags: &Flags) -> ExitCode {
    let ended = log::start(&settings.log).map_err(StartError::Io).and_then(|()| start(settings, flags));
    log::flush();
    match ended {
        Ok(code) => code,
        Err(error) => {
            // What reads it may be gone, or its disk full, which is no reason to panic.
            let _ = writeln!(std::io::stderr(), "fanfare: {error}");
            match error {
                StartError::Settings(_) | StartError::Executor(_) => ExitCode::from(USAGE),
                StartError::Io(_) | StartError::Randomness(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Refuses what the settings can say and this build cannot do.
fn refuse_unbuilt(settings: &Settings) -> Result<(), SettingsError> {
    for (name, url) in settings
        .dispatchers
        .iter()
        .map(|url| ("dispatchers", url))
        .chain(settings.advertise.iter().map(|url| ("advertise", url)))
    {
        if url.scheme() != "http" {
            let problem = "nodes of one data center speak plain HTTP to each other, not TLS";
            return Err(settings.refuse(
                name,
                problem,
                "give http:// URLs, and a network of your own between the nodes",
            ));
        }
    }
    Ok(())
}

/// The other data centers that the settings name, with what it takes to reach them.
fn peers(settings: &Settings, shards: usize) -> Result<Vec<Peer>, SettingsError> {
    let peer = |(name, peer): (&String, &settings::Peer)| {
        let tls = peer.urls.iter().any(|url| url.scheme() == "https").then(|| tls::client_config(None)).transpose();
        let tls = tls.map_err(|problem| settings.refuse("peer", &problem, "install ca-certificates"))?;
        Ok(Peer {
            name: name.clone(),
            urls: peer.urls.clone(),
            secret: peer.secret.clone().map(Shared::new),
            tls,
            metrics: Arc::new(PeerMetrics {
                dc: name.clone(),
                shards: (0..shards).map(|_| PeerCounters::default()).collect(),
            }),
        })
    };
    settings.peers.iter().map(peer).collect()
}

/// What keeps keys up to date for as long as it lives.
type Keeper = Box<dyn Any>;

/// Begins to watch the key file, or to fetch keys, where tokens are asked for. What does it is to live as long as the node.
fn watch_keys(settings: &Settings) -> Result<Option<(Keeper, Tokens)>, SettingsError> {
    let Auth::Jwt { keys, cookie, terms } = &settings.auth else { return Ok(None) };
    let (keeper, keys, refetch): (Keeper, _, _) = match keys {
        KeySource::File(file) => {
            let watcher =
                Watcher::start(file).map_err(|error| settings.refuse("jwt_key_file", &error.problem, error.remedy))?;
            let keys = watcher.keys();
            (Box::new(watcher), keys, None)
        }
        KeySource::Url(url) => {
            let fetcher = Fetcher::start(url)
                .map_err(|problem| settings.refuse("jwt_key_url", &problem, "or give --jwt-key-file"))?;
            let (keys, refetch) = (fetcher.keys(), fetcher.refetch());
            (Box::new(fetcher), keys, Some(refetch))
        }
    };
    let tokens = Tokens { keys, cookie: cookie.clone(), terms: terms.clone(), refetch };
    Ok(Some((keeper, tokens)))
}

/// Connections that a node can have, where its process may open so many files.
fn connections(shards: usize, open_files: Option<u64>) -> usize {
    let files = open_files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let reserved = FILES_RESERVED + shards * FILES_RESERVED_PER_SHARD;
    // Where so few are allowed that the reserve is most of it, a quarter.
    files.saturating_sub(reserved).max(files / 4).max(1)
}

/// The processors that shards run on.
pub(crate) fn choose_cores(settings: &Settings) -> Result<Vec<usize>, SettingsError> {
    let available = cores::available();
    let problem = |text: String| settings.refuse("cores", &text, &format!("this process may use {available:?}"));
    let chosen = match &settings.cores {
        Cores::All => available,
        Cores::Count(count) if count.get() > available.len() => {
            return Err(problem(format!("more than the {} processors that this process may use", available.len())));
        }
        Cores::Count(count) => available[..count.get()].to_vec(),
        Cores::List(list) => match list.iter().find(|core| !available.contains(core)) {
            Some(core) => return Err(problem(format!("processor {core} is not one that this process may use"))),
            None => list.clone(),
        },
    };
    Ok(chosen.into_iter().take(SHARDS_MAX).collect())
}

/// By what shards wait, where these are their processors.
fn choose_engine(settings: &Settings, cores: &[usize]) -> Result<Engine, StartError> {
    if settings.io == Io::Epoll {
        return Ok(Engine::Epoll);
    }
    match cores::try_rings(cores) {
        Ok(()) => Ok(Engine::Uring),
        Err(error) if settings.io == Io::Uring => Err(StartError::Executor(error)),
        Err(error) => {
            warn!(%error, remedy = cores::REMEDY, "io_uring is not to be had: {}", cores::COST_ON_EPOLL);
            Ok(Engine::Epoll)
        }
    }
}

fn listen(
    settings: &Settings,
    name: &str,
    address: SocketAddr,
    shards: usize,
    sharing: Sharing,
) -> Result<Vec<std::net::TcpListener>, SettingsError> {
    listener::bind(address, shards, sharing).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "stop what listens there, or give another port (0 takes a free one)",
            std::io::ErrorKind::PermissionDenied => "give a port from 1024 up, or the capability CAP_NET_BIND_SERVICE",
            _ => "give an address of this machine, such as 127.0.0.1:8080",
        };
        settings.refuse(name, &error.to_string(), remedy)
    })
}

/// What a node is given of the outside world.
pub struct Ways {
    /// Its name.
    pub id: NodeId,
    /// What the time is.
    pub times: Times,
    /// The address of its public listener.
    pub public: SocketAddr,
    /// The address of its internal listener.
    pub internal: SocketAddr,
    /// What tokens are checked by; none with `--auth none`.
    pub tokens: Option<Tokens>,
    /// The certificates of the listener that speaks TLS.
    pub certificates: Option<Shared<Certificates>>,
    /// Into each shard's mailbox.
    pub mail: Vec<mailbox::Sender<Message>>,
    /// The key-value store; without one, dispatchers are asked.
    pub kv: Option<Arc<dyn KeyValue>>,
    /// Makes addresses of names.
    pub resolver: Option<Resolver>,
    /// The database of a backend.
    pub store: Option<Store<Ticket>>,
    /// Sends what hooks are told; needed where there are some.
    pub hook_sender: Option<Arc<dyn HookSender>>,
    /// Takes spans of sampled events.
    pub spans: Option<Spans>,
    /// Asks the operator's server; needed where the settings name one.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Memory that it may use, in bytes.
    pub memory: u64,
    /// Connections that it can have.
    pub connections: usize,
}

/// Puts together what the shards of a node share, and their settings.
///
/// # Errors
/// A setting that will not do.
pub fn assemble(settings: &Settings, ways: Ways) -> Result<(Arc<Node>, Arc<Live>), SettingsError> {
    let (shards, started) = (ways.mail.len(), ways.times.instant());
    let counters: Arc<[Counters]> = (0..shards).map(|_| Counters::default()).collect();
    let (most, trusted) = (&settings.most, &settings.trusted_proxy);
    let admission = Arc::new(Admission::new(most, trusted, shards, ways.memory, ways.connections, started));
    let peers = peers(settings, shards)?;
    let peer_metrics = peers.iter().map(|peer| Arc::clone(&peer.metrics)).collect();
    let live = Arc::new(Live::of(settings, &admission));
    if let Some(kv) = &ways.kv {
        kv.bound(admission.memory().1);
    }
    let times = ways.times;
    let canaries = CanaryMetrics::default();
    let mut metrics =
        exposition::registry(Arc::clone(&counters), Arc::clone(&admission), peer_metrics, canaries.clone(), times);
    if let Some(certificates) = ways.certificates {
        metrics.register_collector(Box::new(Expiry(certificates)));
    }
    let roles = Roles::of(settings.role);
    let node = Node {
        id: ways.id,
        name: ways.id.to_string(),
        dc: settings.dc.clone(),
        roles,
        started,
        public: ways.public,
        internal: ways.internal,
        tokens: ways.tokens,
        cluster_secret: settings.cluster_secret_file.clone().map(Shared::new),
        peers,
        alone: settings.is_alone(),
        mail: ways.mail,
        metrics,
        counters,
        admission,
        info: Some(node_info(settings, ways.id, roles, ways.internal)?),
        digests: [const { AtomicU64::new(0) }; BUCKETS],
        settled: AtomicU64::new(0),
        kv: ways.kv,
        host_name: host_name(),
        heard_ms: AtomicU64::new(0),
        trouble: Mutex::new(None),
        resolver: ways.resolver,
        spans: ways.spans,
        clocks: Clocks::default(),
        canaries,
        links: (0..shards).map(|_| Mutex::default()).collect(),
        nodes: Mutex::default(),
        store: ways.store,
        hooks: settings.hooks.iter().map(hooks::as_shards_know_it).collect(),
        hook_sender: ways.hook_sender,
        authorizer: ways.authorizer,
        storing: Common::new(live.held_max[Use::Questions as usize].saturating_mul(shards)),
        watchers: AtomicUsize::new(0),
        draining: AtomicBool::new(false),
        drained: AtomicUsize::new(0),
    };
    Ok((Arc::new(node), live))
}

/// This machine's own name, if it is one that a `Host` may have.
fn host_name() -> Option<Box<str>> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!name.is_empty() && name.bytes().all(is_plain)).then(|| name.into())
}

fn start(settings: &Settings, flags: &Flags) -> Result<ExitCode, StartError> {
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let mut signals = signals::harmless()?;
    let on_terminal = std::io::stderr().is_terminal();
    refuse_unbuilt(settings)?;
    let (_watcher, tokens) = watch_keys(settings)?.unzip();
    let certificates = certificates::watch(settings)?;
    let offer = certificates.as_ref().map(|watcher| certificates::offer(settings, watcher)).transpose()?;
    let open_files = open_files::raise();
    let cores = choose_cores(settings)?;
    // Before anybody is greeted, or a database made.
    let recorded = panics::abort();
    let engine = choose_engine(settings, &cores)?;
    let shards = cores.len();
    let sharing = if settings.reuse_port { Sharing::Processes } else { Sharing::Alone };
    let public = listen(settings, "listen", settings.listen, shards, sharing)?;
    let internal = listen(settings, "internal", settings.internal, shards, Sharing::Alone)?;
    let (public_address, internal_address) = (public[0].local_addr()?, internal[0].local_addr()?);
    let secure = settings.tls.as_ref().map(|tls| listen(settings, "tls_listen", tls.listen, shards, sharing));
    let mut secure = secure.transpose()?;
    let secure_address = secure.as_ref().map(|secure| secure[0].local_addr()).transpose()?;

    let mut mail = Vec::with_capacity(shards);
    let mut mailboxes = Vec::with_capacity(shards);
    for _ in 0..shards {
        let (sender, mailbox) = mailbox::mailbox::<Message>(MAILBOX_MESSAGES)?;
        mail.push(sender);
        mailboxes.push(mailbox);
    }
    let roles = Roles::of(settings.role);
    let (store, storage) = if roles.backend { Some(open_store(settings, &mail)?) } else { None }.unzip();
    let kv = kv::open(settings, &mail, store.as_ref())?;
    let found = mail.clone();
    let resolver = Resolver::start(settings.dispatchers.clone(), move |what| {
        for mail in &found {
            let _ = mail.send(Message::Found(Box::new(what.clone())));
        }
    })?;

    let hooks = hooks::Hooks::start(settings, &mail[0])?;
    let id = NodeId(getrandom::u64()?);
    let (exporter, spans) = start_exporter(settings, id, roles)?.unzip();
    let authorizing = authorize::Authorizing::start(settings, &mail[0])?;
    let ways = Ways {
        id,
        times: Times::machine(),
        public: public_address,
        internal: internal_address,
        tokens,
        certificates: certificates.as_ref().map(Watcher::keys),
        mail,
        kv,
        resolver: Some(resolver),
        store,
        hook_sender: hooks.as_ref().map(hooks::Hooks::sender),
        spans,
        authorizer: authorizing.as_ref().map(authorize::Authorizing::authorizer),
        memory: process::memory_available(),
        connections: connections(shards, open_files),
    };
    let (node, live) = assemble(settings, ways)?;
    let _ = recorded.set(Arc::clone(&node));
    let _secrets = secrets::watch(settings, &node)?;
    let _hook_secrets = hooks.as_ref().map(|hooks| hooks.watch(settings)).transpose()?;
    let _authorize_secret = authorizing.as_ref().map(|authorizing| authorizing.watch(settings)).transpose()?;

    signals::and_ends(&mut signals)?;
    let executors = cores
        .iter()
        .zip(mailboxes)
        .zip(public.into_iter().zip(internal))
        .enumerate()
        .map(|(shard, ((&core, mailbox), (public, internal)))| {
            let doors = [public, internal].into_iter().chain(secure.as_mut().and_then(Vec::pop)).collect();
            let offer = offer.clone();
            let (node, live) = (Arc::clone(&node), Arc::clone(&live));
            let (seed, key) = (random::kernel(), (random::kernel(), random::kernel()));
            let start = move || {
                planted::plant_named();
                let net = Net::Kernel(Kernel::new(engine, doors, offer, mailbox.signal())?);
                Ok(Shard::start(Parts { id: shard, node, live, mailbox, net, times: Times::machine(), seed, key })
                    .run())
            };
            cores::spawn(engine, shard, core, start).map_err(StartError::Executor)
        })
        .collect::<Result<Vec<_>, _>>()?;
    greeting::greet(&node, settings, secure_address, engine, &cores, open_files);
    let notifier = notify::start(&node, executors.iter().map(|executor| executor.thread).collect())?;

    let told = signals::Told {
        node: Arc::clone(&node),
        notifier,
        settings: settings.clone(),
        flags: flags.clone(),
        on_terminal,
    };
    told.listen(signals)?;

    let mut code = ExitCode::SUCCESS;
    for (shard, executor) in executors.into_iter().enumerate() {
        match executor.handle.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                error!(shard, %error, "a shard ended");
                code = ExitCode::FAILURE;
            }
            Err(_) => {
                error!(shard, "a shard's executor ended");
                code = ExitCode::FAILURE;
            }
        }
    }
    if let Some(exporter) = exporter {
        exporter.end();
    }
    // What was taken is stored before the process ends.
    if let Some(store) = &node.store {
        store.close();
    }
    if storage.is_some_and(|storage| storage.join().is_err()) {
        error!("the storage thread broke");
        code = ExitCode::FAILURE;
    }
    info!("drained");
    Ok(code)
}

/// Opens the database, and starts the thread that stores.
fn open_store(
    settings: &Settings,
    mail: &[mailbox::Sender<Message>],
) -> Result<(Store<Ticket>, JoinHandle<()>), SettingsError> {
    let answer_to = mail.to_vec();
    let answer = move |ticket: Ticket, result: Result<Outcome, StoreError>| {
        match ticket.then {
            Then::Kept(batch) => batch.done(result.map(drop).map_err(|error| Unavailable(error.to_string()))),
            // The shard is gone only when the node is; then nobody waits for the answer.
            then => drop(answer_to[ticket.shard].send(Message::Stored(Box::new((Ticket { then, ..ticket }, result))))),
        }
    };
    match &settings.db {
        Database::Sqlite(path) => sqlite::start(path, answer).map_err(|error| {
            let remedy = match &error {
                OpenError::Gone { .. } => "no like that was answered is to be lost unseen",
                _ => "give a path that this user can write, as sqlite:PATH; a systemd unit needs ReadWritePaths=FOLDER for one beyond /var/lib/fanfare",
            };
            settings.refuse("db", &error.to_string(), remedy)
        }),
        Database::Postgres(url) => {
            postgres::start(url, answer).map_err(|refused| settings.refuse("db", &refused.problem, refused.remedy))
        }
    }
}

/// Starts what sends spans to a collector of OpenTelemetry, where the settings name one.
fn start_exporter(settings: &Settings, id: NodeId, roles: Roles) -> Result<Option<(Exporter, Spans)>, SettingsError> {
    let Some(url) = &settings.otlp else { return Ok(None) };
    let resource = Resource { node: id.to_string(), roles: roles.names().join("+"), dc: settings.dc.clone() };
    let started = Exporter::start(url, resource);
    started.map(Some).map_err(|problem| settings.refuse("otlp", &problem, "or give an http: URL of this box"))
}

/// What this node says of itself to the others.
fn node_info(settings: &Settings, id: NodeId, roles: Roles, internal: SocketAddr) -> Result<NodeInfo, SettingsError> {
    let url = match &settings.advertise {
        Some(url) => url.to_string(),
        None => format!("http://{}", greeting::reachable(internal)),
    };
    let url = NodeUrl::parse(&url).map_err(|error| {
        settings.refuse("internal", &format!("other nodes cannot be told of it: {url} is {error}"), "give --advertise")
    })?;
    // Its database says its name once it was reached.
    let takes_hooks = (!settings.hooks.is_empty()).then_some(TAKES_HOOKS);
    let roles = roles.names().into_iter().chain(takes_hooks).map(str::to_owned).collect();
    Ok(NodeInfo { id, roles, url, database: None })
}
