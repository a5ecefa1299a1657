//! Calls to other nodes: connections as slots of the shard, in the same readiness set as all others. What comes of calls
//! is settled at the end of a turn, in order, so that nobody is called back while calling.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;
use tracing::{info, warn};
use url::Url;

use crate::ground::Ground;
use crate::ground::link::{Call, Called, Destination, Filled, Lane, Link, LinkKey, Outcome, State};
use crate::ground::node::Node;
use crate::ground::peers::Peer;
use crate::ground::slots::{Conn, Kind};
use crate::ground::tls::Tls;
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::random::Map;
use crate::runtime::readiness::Ready;
use crate::runtime::resolver;
use crate::wire::batch::VERSION;

/// A shard's links.
#[derive(Debug, Default)]
pub struct Links {
    ids: Map<LinkKey, u32>,
    table: Map<u32, Box<Link>>,
    next: u32,
}

/// A link as `/v1/node` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct LinkView {
    /// Where to.
    pub(crate) to: String,
    lane: &'static str,
    shard: usize,
    state: &'static str,
    in_flight: usize,
    /// For how long the oldest call has had no answer, in ms.
    pub(crate) unanswered_ms: u64,
    waiting_bytes: u64,
    failures: u64,
}

impl Links {
    fn find(&self, key: LinkKey) -> Option<&Link> {
        self.ids.get(&key).map(|id| &*self.table[id])
    }

    fn get(&self, id: u32) -> &Link {
        self.table.get(&id).expect("a link's slot lives no longer than the link")
    }

    fn get_mut(&mut self, id: u32) -> &mut Link {
        self.table.get_mut(&id).expect("a link's slot lives no longer than the link")
    }

    /// Connections, which are slots of the shard.
    pub fn connections(&self) -> usize {
        self.table.values().filter(|link| link.conn.is_some()).count()
    }

    /// All of them.
    pub fn views(&self, shard: usize, peers: &[Peer], now: Instant) -> Vec<LinkView> {
        let view = |link: &Link| LinkView {
            to: match link.key.0 {
                Destination::Node(node) => node.to_string(),
                Destination::Dispatcher(address) => address.to_string(),
                Destination::Peer { peer, url } => peers[peer].urls[url].to_string(),
            },
            lane: link.key.1.name(),
            shard,
            state: link.state.name(),
            in_flight: link.pending.len(),
            unanswered_ms: link.unanswered(now).as_millis() as u64,
            waiting_bytes: link.waiting_bytes(),
            failures: link.failures_total,
        };
        self.table.values().map(|link| view(link)).collect()
    }
}

/// What operators are told of a link's other end.
fn named(node: &Node, to: Destination) -> String {
    match to {
        Destination::Peer { peer, .. } => format!("data center {}", node.peers[peer].name),
        Destination::Node(id) => format!("node {id}"),
        Destination::Dispatcher(address) => format!("the dispatcher at {address}"),
    }
}

impl Ground {
    /// Whether a call would go out now.
    pub(crate) fn link_takes(&self, key: LinkKey) -> bool {
        self.cluster.links.find(key).is_none_or(|link| link.takes_calls(self.clock.instant))
    }

    /// Whether a call there goes out now, and will not wait behind one that is late.
    pub(crate) fn link_is_quick(&self, key: LinkKey) -> bool {
        self.cluster
            .links
            .find(key)
            .is_none_or(|link| link.takes_calls(self.clock.instant) && !link.is_slow(self.clock.instant))
    }

    /// One of the dispatchers that the settings name and that take calls, chosen at random; one that keeps nobody waiting
    /// if there is one, and another one than `not`.
    pub(crate) fn pick_dispatcher(&mut self, lane: Lane, not: Option<Destination>) -> Option<Destination> {
        let number = self.random.number();
        let all = self.cluster.dispatchers.iter().map(|address| Destination::Dispatcher(*address));
        let able: Vec<Destination> = all.filter(|to| self.link_takes((*to, lane))).collect();
        let is_slow = |to: &Destination| {
            Some(*to) == not
                || self.cluster.links.find((*to, lane)).is_some_and(|link| link.is_slow(self.clock.instant))
        };
        let quick: Vec<Destination> = able.iter().copied().filter(|to| !is_slow(to)).collect();
        let from = if quick.is_empty() { &able } else { &quick };
        from.get((number % from.len().max(1) as u64) as usize).copied()
    }

    /// Sends a request to another node. What comes of it is settled later; where it cannot go out now, what it was for
    /// comes back at once.
    pub(crate) fn call(&mut self, key: LinkKey, call: Call) -> Result<(), Called> {
        let now = self.clock.instant;
        if !self.link_takes(key) {
            return Err(call.what);
        }
        let Some((address, authority)) = self.address_of(key.0) else { return Err(call.what) };
        let mut head = format!("POST {} HTTP/1.1\r\nHost: {authority}\r\nFanfare-Version: {VERSION}\r\n", call.path);
        self.say_who(key.0, &mut head);
        head += &format!("Content-Type: {}\r\nContent-Length: {}\r\n\r\n", call.content_type, call.body.len());
        let (links, account) = (&mut self.cluster.links, &self.account);
        let id = *links.ids.entry(key).or_insert_with(|| {
            links.next = links.next.wrapping_add(1);
            links.table.insert(links.next, Box::new(Link::new(key, now, account)));
            links.next
        });
        let link = links.get_mut(id);
        link.push(head.into_bytes(), call, now);
        match link.state {
            State::Open => self.flush_link(id),
            State::Connecting(_) => {}
            State::Idle | State::Resting(_) => self.connect(id, address),
        }
        Ok(())
    }

    /// Where a node is reached, and how it is named in `Host`. Names of hosts are looked up elsewhere; until they are
    /// known there is no address.
    fn address_of(&mut self, destination: Destination) -> Option<(SocketAddr, String)> {
        let url = match destination {
            Destination::Dispatcher(address) => return Some((address, address.to_string())),
            Destination::Node(_) | Destination::Peer { .. } => self.url_of(destination)?,
        };
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let known = resolver::literal(&url).or_else(|| self.cluster.hosts.get(&url).copied());
        if known.is_none() {
            self.resolve(&url);
        }
        known.map(|address| (address, authority.to_owned()))
    }

    /// The URL of a node or peer; nodes of one data center speak plain HTTP.
    fn url_of(&self, destination: Destination) -> Option<Url> {
        match destination {
            Destination::Dispatcher(_) => None,
            Destination::Node(node) => {
                Some(self.alive_node(node)?.url.url()).filter(|url| url.scheme() == "http").cloned()
            }
            Destination::Peer { peer, url } => Some(self.node.peers[peer].urls[url].clone()),
        }
    }

    /// The headers that say who is meant, and who asks.
    fn say_who(&self, destination: Destination, head: &mut String) {
        let secret = match destination {
            Destination::Peer { peer, .. } => {
                let peer = &self.node.peers[peer];
                *head += &format!("Fanfare-From: {}\r\nFanfare-To: {}\r\n", self.node.dc, peer.name);
                &peer.secret
            }
            Destination::Node(node) => {
                *head += &format!("Fanfare-Node: {node}\r\n");
                &self.node.cluster_secret
            }
            Destination::Dispatcher(_) => &self.node.cluster_secret,
        };
        if let Some(secret) = secret {
            let secret = secret.load();
            *head += &format!("Authorization: Bearer {}\r\n", secret.expose());
            if let Some(previous) = secret.previous() {
                *head += &format!("Fanfare-Previous-Secret: {previous}\r\n");
            }
        }
    }

    fn connect(&mut self, id: u32, address: SocketAddr) {
        let tls = self.tls_of(self.cluster.links.get(id).key.0);
        let (socket, tls) = match self.net.connect(address).and_then(|socket| Ok((socket, tls?))) {
            Ok(both) => both,
            Err(error) => return self.break_link(id, &error.to_string()),
        };
        let conn = self.slots.insert(socket, Kind::Link(id));
        let link = self.cluster.links.get_mut(id);
        link.conn = Some(conn);
        link.tls = tls;
        link.state = State::Connecting(self.clock.instant + LINK_CONNECT_TIMEOUT);
        // Its writability tells that it is connected.
        if let Err(error) = self.net.watch(self.slots.at(conn.slot).socket(), conn.token()) {
            self.break_link(id, &error.to_string());
        }
    }

    /// What encrypts a connection there, if something is to.
    fn tls_of(&self, destination: Destination) -> std::io::Result<Option<Tls>> {
        let Destination::Peer { peer, url } = destination else { return Ok(None) };
        let (peer, url) = (&self.node.peers[peer], &self.node.peers[peer].urls[url]);
        let config = peer.tls.as_ref().filter(|_| url.scheme() == "https");
        config.map(|config| Tls::new(config, url)).transpose()
    }

    /// A link's connection is ready for something.
    pub(crate) fn on_link_ready(&mut self, conn: Conn, id: u32, event: &Ready) {
        let socket = self.slots.at(conn.slot).socket();
        let connecting = matches!(self.cluster.links.get_mut(id).state, State::Connecting(_));
        if connecting && (event.writable || event.hung_up) {
            match self.net.error(socket) {
                Ok(()) => self.cluster.links.get_mut(id).state = State::Open,
                Err(error) => return self.break_link(id, &error.to_string()),
            }
        }
        if event.writable {
            self.flush_link(id);
        }
        // Writing may have broken it.
        if event.readable && self.slots.get(conn).is_some() {
            self.read_link(conn, id);
        }
    }

    /// Sends what the kernel takes.
    fn flush_link(&mut self, id: u32) {
        let link = self.cluster.links.get_mut(id);
        let Some(conn) = link.conn else { return };
        if let Err(error) = link.flush(&mut self.net, self.slots.at(conn.slot).socket()) {
            self.break_link(id, &error.to_string());
        }
    }

    /// Reads answers. Each is for the oldest call.
    pub(crate) fn read_link(&mut self, conn: Conn, id: u32) {
        let link = self.cluster.links.get_mut(id);
        let mut end = match link.fill(&mut self.net, self.slots.at(conn.slot).socket(), &mut self.read_buffer) {
            Ok(Filled::Emptied) => None,
            Ok(Filled::More) => {
                self.again.push(conn);
                None
            }
            Ok(Filled::Ended) => Some("the other node ended the connection".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let (mut at, mut closes, mut said) = (0, false, None);
        while !closes {
            match link.replies.next(&link.input[at..]) {
                Ok(None) => break,
                Ok(Some(reply)) => {
                    let Some(pending) = link.pending.pop_front() else {
                        end = Some("an answer that nobody asked for".to_owned());
                        break;
                    };
                    let body = link.input[at + reply.body.start..at + reply.body.end].to_vec();
                    at += reply.body.end;
                    closes = reply.closes;
                    said = reply.clock.map(|clock| (clock, pending.since)).or(said);
                    if std::mem::take(&mut link.failures) > 0 {
                        let (to, lane) = (link.key.0, link.key.1.name());
                        let says = format!("to {}, {lane}", named(&self.node, to));
                        self.node.counters[self.id].happened(What::LinkBack, 1, Subject::says(format_args!("{says}")));
                    }
                    link.used = self.clock.instant;
                    self.cluster.outcomes.push_back((pending.what, Outcome::Answer(reply.status, body)));
                }
                Err(error) => {
                    end = Some(error.to_string());
                    break;
                }
            }
        }
        link.input.drain(..at);
        if let Some((clock, since)) = said {
            self.on_clock_said(clock, since);
        }
        if closes {
            // It drains: what was asked behind this it did not hear, and others are asked from now on.
            self.drop_link_connection(id, State::Resting(self.clock.instant + LINK_BACKOFF_MAX), true);
        } else if let Some(why) = end {
            let link = self.cluster.links.get_mut(id);
            if link.pending.is_empty() && link.input.is_empty() {
                self.drop_link_connection(id, State::Idle, true);
            } else {
                self.break_link(id, &why);
            }
        }
    }

    /// Ends a link's connection, and rests.
    pub(crate) fn break_link(&mut self, id: u32, why: &str) {
        let jitter = self.random.number();
        let link = self.cluster.links.get_mut(id);
        let (to, lane) = (link.key.0, link.key.1.name());
        let until = self.clock.instant + link.rest(jitter);
        let says = format!("to {}, {lane}: {why}", named(&self.node, to));
        self.node.counters[self.id].happened(What::LinkFailed, 1, Subject::says(format_args!("{says}")));
        if link.is_news(why, self.clock.instant) {
            match to {
                // Somebody may have to set something right.
                Destination::Peer { peer, .. } => {
                    let peer = &self.node.peers[peer].name;
                    warn!(peer, lane, why, "a link to another data center failed; trying again");
                }
                _ => info!(?to, lane, why, "a link to another node failed; trying again"),
            }
        }
        // A name may have moved.
        if let Some(url) = self.url_of(to) {
            self.cluster.hosts.remove(&url);
        }
        self.drop_link_connection(id, State::Resting(until), false);
    }

    fn drop_link_connection(&mut self, id: u32, state: State, heard_none: bool) {
        let link = self.cluster.links.get_mut(id);
        if let Some(conn) = link.conn {
            self.net.close(self.slots.remove(conn));
        }
        let fates = self.cluster.links.get_mut(id).reset(state, heard_none);
        self.cluster.outcomes.extend(fates);
    }

    /// Once a tick: calls without an answer in time, and connections without a call for long.
    pub(crate) fn tick_links(&mut self) {
        let now = self.clock.instant;
        let (mut overdue, mut unused) = (Vec::new(), Vec::new());
        for (&id, link) in &mut self.cluster.links.table {
            link.settle();
            if link.is_overdue(now) {
                overdue.push(id);
            } else if link.pending.is_empty() && now.saturating_duration_since(link.used) >= LINK_IDLE {
                unused.push(id);
            }
        }
        for id in overdue {
            self.break_link(id, "no answer in time");
        }
        for id in unused {
            self.drop_link_connection(id, State::Idle, true);
            if let Some(link) = self.cluster.links.table.remove(&id) {
                self.cluster.links.ids.remove(&link.key);
            }
        }
    }

    /// One line a minute: somebody has to set something right.
    pub(crate) fn warn_of_refusal(&mut self, status: u16) {
        if self.cluster.warned.fails(self.clock.instant) {
            match status {
                401 => warn!(
                    "another node refuses this one's cluster secret; give all nodes the same --cluster-secret-file"
                ),
                _ => warn!("another node than the one meant answers at its address; see --advertise"),
            }
        }
    }
}
