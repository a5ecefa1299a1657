//! Viewers of a Frontend's own, one a core and data center, which watch canaries as any client would watch topics: they are
//! registered, ordered, repaired from history and served like others. Only what would be written to a socket is read here instead,
//! so that the system calls, what stands in front of a node, and its clients are what they do not see.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use tracing::warn;

use crate::frontend::Frontend;
use crate::frontend::audit::{Audit, Findings};
use crate::frontend::ending::Ended;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::slots::{Body, Conn, Kind};
use crate::limits::{CANARY_BEGINS, CANARY_SILENCE, CANARY_TOPICS, HEARTBEAT};
use crate::observe::canary::CanaryCounters;
use crate::runtime::net::Socket;
use crate::runtime::trouble::Told;
use crate::wire::canary::{self, Note};
use crate::wire::connection_id::NodeId;

/// The viewer of one data center's canaries.
#[derive(Debug)]
struct Watcher {
    dc: String,
    conn: Conn,
    /// When it begins to look, once all its topics are registered.
    begins: Option<Instant>,
    audit: Audit,
    counters: Arc<[CanaryCounters]>,
}

/// A core's viewers of canaries.
#[derive(Debug, Default)]
pub struct Watchers {
    watchers: Vec<Watcher>,
    told: Told,
}

/// An event as its viewer is shown it.
#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    count: Option<u64>,
    #[serde(borrow)]
    counts: Option<BTreeMap<Cow<'a, str>, u64>>,
    data: Note,
}

impl Watchers {
    /// How many there are: they are no viewers that anybody counts.
    pub(crate) fn len(&self) -> usize {
        self.watchers.len()
    }

    /// The topics that they watch.
    pub(crate) fn topics(&self) -> usize {
        self.watchers.len() * CANARY_TOPICS as usize
    }
}

impl Watcher {
    /// It was written these bytes, which are whole events of a stream.
    fn read(&mut self, text: &str, now: Instant, unix_us: u64, counters: &CanaryCounters, found: &mut Findings) {
        for block in text.split("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            match (field("event: "), field("data: ")) {
                (Some("gap"), _) => self.audit.gap(now),
                (None, Some(data)) => {
                    let Ok(shown) = serde_json::from_str::<Shown<'_>>(data) else { continue };
                    let Some(class) = canary::class(&shown.kind) else { continue };
                    counters.latency[class as usize].observe(unix_us.saturating_sub(shown.data.sent_us));
                    if !class.adds_up() {
                        self.audit.comes(class, &shown.data, now, found);
                        continue;
                    }
                    let alone = shown.key.map(|key| (key, shown.count.unwrap_or(1)));
                    let counts = shown.counts.map_or_else(|| alone.into_iter().collect(), Vec::from_iter);
                    for (key, count) in counts {
                        if let Some(of) = canary::read_key(&key) {
                            self.audit.sums(of, count, found);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

impl Frontend {
    /// A viewer of canaries would be written this.
    pub(crate) fn hear_canaries(&mut self, ground: &Ground, slot: u32, bytes: &[u8]) {
        let now = ground.clock.instant;
        let Some(watcher) = self.watchers.watchers.iter_mut().find(|watcher| watcher.conn.slot == slot) else { return };
        if watcher.begins.is_none_or(|begins| now < begins) {
            return;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let (all, mut found) = (Arc::clone(&watcher.counters), Findings::default());
        let counters = &all[ground.id];
        watcher.read(text, now, ground.unix_us(), counters, &mut found);
        for (counts, found) in [
            (&counters.heard, found.heard),
            (&counters.lost, found.lost),
            (&counters.late, found.late),
            (&counters.repeated, found.repeated),
        ] {
            counts.iter().zip(found).filter(|(_, found)| *found > 0).for_each(|(count, found)| count.add(found));
        }
        counters.disordered.add(found.disordered);
        counters.gaps.add(found.gaps);
        if let Some((class, by, backend)) = found.ways.first()
            && self.watchers.told.fails(now)
        {
            let (dc, lost) = (&watcher.dc, found.lost.iter().sum::<u64>());
            warn!(shard = ground.id, dc, %class, backend, dispatcher = %by, lost, "canaries are lost; told once a minute");
        }
    }

    /// Once a tick: once a second sees that there is one for each data center, and what of each is silent.
    pub(crate) fn tick_canaries(&mut self, ground: &mut Ground) {
        if !ground.is_whole_second() {
            return;
        }
        let is_wanted = ground.live.canary && !ground.is_draining();
        let is_open = |conn| ground.slots.get(conn).is_some();
        self.watchers.watchers.retain(|watcher| is_open(watcher.conn));
        if !is_wanted && !ground.is_draining() {
            for watcher in std::mem::take(&mut self.watchers.watchers) {
                self.close_stream(ground, watcher.conn, Ended::Drain);
            }
        }
        if is_wanted {
            let others = Arc::clone(&ground.cluster.others);
            let own = ground.node.dc.clone();
            for dc in std::iter::once(&own).chain(others.iter().map(|other| &other.dc)) {
                if self.watchers.watchers.iter().all(|watcher| watcher.dc != *dc) {
                    self.watch_canaries(ground, dc);
                }
            }
        }
        self.look_for_silence(ground);
    }

    fn watch_canaries(&mut self, ground: &mut Ground, dc: &str) {
        let conn = ground.slots.insert(Socket::none(), Kind::Stream);
        let slot = ground.slots.at_mut(conn.slot);
        (slot.body, slot.waiting) = (Body::Watched, true);
        self.streams += 1;
        ground.set_due(conn, HEARTBEAT.as_secs() as u32);
        let counters = ground.node.canaries.of(dc, ground.node.shards());
        let watcher = Watcher { dc: dc.to_owned(), conn, begins: None, audit: Audit::default(), counters };
        self.watchers.watchers.push(watcher);
        self.begin_stream(ground, conn, (&canary::topics(dc), &[]), &Access::Node, None, Vec::new());
    }

    fn look_for_silence(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let mut watchers = std::mem::take(&mut self.watchers.watchers);
        for watcher in &mut watchers {
            let Some(slot) = ground.slots.get(watcher.conn) else { continue };
            let topics = slot.subscriptions.as_slice();
            if watcher.begins.is_none() && topics.iter().all(|topic| self.topics.get(topic.topic).registered) {
                watcher.begins = Some(now + CANARY_BEGINS);
            }
            watcher.audit.forget(now);
            let is_silent = |heard: Instant| now.saturating_duration_since(heard) >= CANARY_SILENCE;
            let silent = if watcher.dc == ground.node.dc {
                let lives = |name: &str| {
                    let node = name.parse::<NodeId>().ok().and_then(|node| ground.alive_node(node));
                    name == ground.node.name || node.is_some_and(|node| node.is("backend"))
                };
                watcher.audit.backends().filter(|(name, heard)| is_silent(*heard) && lives(name)).count()
            } else {
                // Which nodes live there is not known here, only whether it does.
                let lives = ground.cluster.others.iter().any(|other| other.dc == watcher.dc && other.alive);
                let last = watcher.audit.backends().map(|(_, heard)| heard).max();
                usize::from(lives && last.is_some_and(is_silent))
            };
            let counters = &watcher.counters[ground.id];
            counters.silent.set(silent as u64);
            counters.pairs.set(watcher.audit.pairs(now) as u64);
        }
        self.watchers.watchers = watchers;
    }
}
