//! `GET /v1/watch`: a snapshot of the node once a second, for its operators. It is made once for all who watch, and only while
//! somebody does.
//!
//! The first shard makes it of what the shards count, of what each said when it was asked last, and of what other nodes answered.
//! It waits for nobody: who does not answer is shown to be late.

mod cluster;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};

use crate::ground::answering::{Handled, Incoming};
use crate::ground::listing::Wanted;
use crate::ground::message::{Message, Part};
use crate::ground::slots::{Conn, Kind};
use crate::ground::{Ground, Reply};
use crate::limits::{MAILBOX_MESSAGES, TICK, WATCH_EVERY, WATCH_FIRST, WATCHED_ROWS, WATCHED_TOPICS, WATCHERS_MAX};
use crate::observe::snapshot::{Meter, read};
use crate::shard::services::{Services, with};
use crate::shard::watching::cluster::Neighbours;
use crate::wire::http::{HttpError, Method};
use crate::wire::snapshot::{Bounded, HotTopic, Snapshot};

/// A shard's part in it.
#[derive(Debug, Default)]
pub struct Watching {
    /// Those who watch by a connection of this shard.
    watchers: Vec<Conn>,
    /// When this shard was asked last.
    asked: Option<Instant>,
    /// On the first shard, while anybody watches.
    maker: Option<Box<Maker>>,
}

/// What makes snapshots.
#[derive(Debug)]
struct Maker {
    meter: Meter,
    /// The last look at the numbers.
    looked: Instant,
    /// The next snapshot, for which it has asked around, or has not yet.
    next: Instant,
    has_asked: bool,
    shards: Vec<Asked>,
    neighbours: Neighbours,
}

/// What one shard said last.
#[derive(Debug)]
struct Asked {
    part: Part,
    heard: Instant,
    /// It has not answered since it was asked again. Until it does nothing more is sent to it.
    waits: bool,
}

impl Services {
    /// `GET /v1/watch`
    pub(crate) fn watch(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, .. } = incoming;
        if request.method == Method::Head {
            return Ok(Handled::AnsweredLast(ground.answers().stream_head(to, None)));
        }
        if ground.is_draining() {
            return Err(HttpError::unavailable("this node drains: watch another one, which shows it, too"));
        }
        let one_more = |watchers| (watchers < WATCHERS_MAX).then_some(watchers + 1);
        if ground.node.watchers.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            let detail =
                format!("{WATCHERS_MAX} watch this node already: close a page or a `fanfare top`, or ask another node");
            return Err(HttpError::unavailable(detail));
        }
        self.watching.watchers.push(conn);
        let framing = ground.answers().stream(to);
        // So that whoever waits for the body sees at once that there is one.
        ground.out.extend_from_slice(framing.heartbeat());
        Ok(Handled::GoesOn(framing))
    }

    /// Once a tick.
    pub(crate) fn tick_watching(&mut self, ground: &mut Ground) {
        let before = self.watching.watchers.len();
        self.watching.watchers.retain(|conn| {
            matches!(ground.slots.get(*conn).map(|slot| &slot.kind), Some(Kind::Http(http)) if http.goes_on.is_some())
        });
        let watchers = &ground.node.watchers;
        watchers.fetch_sub(before - self.watching.watchers.len(), Ordering::AcqRel);
        if watchers.load(Ordering::Acquire) == 0 {
            self.watching = Watching::default();
            with(&mut self.frontend, |frontend| frontend.heat = None);
        } else if ground.id == 0 {
            self.tick_maker(ground);
        }
    }

    fn tick_maker(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let Some(maker) = &mut self.watching.maker else {
            let mut meter = Meter::default();
            read(&ground.node.counters, &mut meter, &mut Snapshot::default());
            let new = || Asked { part: Part::default(), heard: now, waits: false };
            let shards = (0..ground.node.shards()).map(|_| new()).collect();
            let (looked, next, neighbours) = (now, now + WATCH_FIRST, Neighbours::default());
            self.watching.maker = Some(Box::new(Maker { meter, looked, next, has_asked: false, shards, neighbours }));
            return self.ask_around(ground);
        };
        // A tick before, so that what it says is new.
        if now + TICK >= maker.next && !std::mem::replace(&mut maker.has_asked, true) {
            return self.ask_around(ground);
        }
        if now < maker.next {
            return;
        }
        maker.has_asked = false;
        // From when it was due, so that there is one each second; but not two at once after a long turn.
        maker.next = (maker.next + WATCH_EVERY).max(now + WATCH_EVERY / 2);
        let snapshot = self.snapshot(ground);
        let text = serde_json::to_string(&snapshot).expect("it is plain data");
        let piece = Arc::new(format!("event: snapshot\ndata: {text}\n\n").into_bytes());
        let shards = self.watching.maker.iter().flat_map(|maker| &maker.shards).enumerate();
        for (shard, _) in shards.filter(|(_, asked)| !asked.waits) {
            ground.send(shard, Message::Snapshot(Arc::clone(&piece)));
        }
    }

    /// Asks every shard, and every node of the data center, for what the next snapshot is to say of them.
    fn ask_around(&mut self, ground: &mut Ground) {
        let Some(maker) = &mut self.watching.maker else { return };
        for (shard, asked) in maker.shards.iter_mut().enumerate().filter(|(_, asked)| !asked.waits) {
            asked.waits = true;
            ground.send(shard, Message::AskPart);
        }
        maker.neighbours.ask(ground);
    }

    /// A snapshot is there for those who watch by this shard.
    pub(crate) fn on_snapshot(&mut self, ground: &mut Ground, piece: &Arc<Vec<u8>>) {
        for conn in &self.watching.watchers {
            ground.reply(*conn, Reply::Piece(Arc::clone(piece)));
        }
    }

    /// The first shard asks for this one's part.
    pub(crate) fn on_ask_part(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let asked = self.watching.asked.replace(now);
        let seconds = asked.map_or(WATCH_FIRST, |asked| now.saturating_duration_since(asked)).as_secs_f32().max(0.1);
        let mut part = Part::default();
        with(&mut self.frontend, |frontend| {
            part = Part {
                topics: frontend.hottest(seconds),
                clients: frontend.connections(ground, &Wanted::default(), WATCHED_ROWS),
            };
        });
        part.clients.iter_mut().for_each(|(_, row)| cut_topics(row));
        ground.send(0, Message::Part(ground.id, Box::new(part)));
    }

    /// A shard's part came.
    pub(crate) fn on_part(&mut self, ground: &Ground, shard: usize, part: Part) {
        if let Some(maker) = &mut self.watching.maker {
            maker.shards[shard] = Asked { part, heard: ground.clock.instant, waits: false };
        }
    }

    fn snapshot(&mut self, ground: &Ground) -> Snapshot {
        let own = self.glance(ground);
        let maker = self.watching.maker.as_mut().expect("it asks for a snapshot");
        let (node, now) = (&ground.node, ground.clock.instant);
        maker.meter.look(now.saturating_duration_since(maker.looked).as_secs_f64());
        maker.looked = now;
        let mut snapshot = Snapshot {
            at: ground.clock.unix_ms,
            node: node.name.clone(),
            data_center: node.dc.clone(),
            settings: ground.live.number,
            connections: own.connections,
            memory_bytes: own.memory_bytes,
            ..Snapshot::default()
        };
        read(&node.counters, &mut maker.meter, &mut snapshot);
        snapshot.backlog_bytes = Bounded {
            now: snapshot.shards.iter().map(|shard| shard.backlog_bytes).sum(),
            max: ground.backlog_max() as u64,
        };
        for (shard, asked) in snapshot.shards.iter_mut().zip(&maker.shards) {
            shard.mailbox = Bounded { now: node.mail[shard.shard].len() as u64, max: MAILBOX_MESSAGES as u64 };
            shard.silent_ms = now.saturating_duration_since(asked.heard).as_millis() as u64;
        }
        let mut clients: Vec<&(u64, Value)> = maker.shards.iter().flat_map(|asked| &asked.part.clients).collect();
        clients.sort_by_key(|(pending, _)| std::cmp::Reverse(*pending));
        snapshot.clients = clients.into_iter().take(WATCHED_ROWS).map(|(_, row)| row.clone()).collect();
        snapshot.topics = hottest(maker.shards.iter().flat_map(|asked| &asked.part.topics));
        (snapshot.nodes, snapshot.data_centers) = maker.neighbours.views(ground, own, &snapshot);
        snapshot
    }
}

/// What shards say of topics, put together. Each of them that has viewers of a topic has all its events.
fn hottest<'a>(parts: impl Iterator<Item = &'a HotTopic>) -> Vec<HotTopic> {
    let mut all: Vec<HotTopic> = Vec::new();
    for part in parts {
        match all.iter_mut().find(|hot| hot.topic == part.topic) {
            Some(hot) => {
                hot.viewers += part.viewers;
                hot.deliveries_per_second += part.deliveries_per_second;
                hot.events_per_second = hot.events_per_second.max(part.events_per_second);
            }
            None => all.push(part.clone()),
        }
    }
    all.sort_by(|one, other| other.deliveries_per_second.total_cmp(&one.deliveries_per_second));
    all.truncate(WATCHED_ROWS);
    all
}

/// A client may watch a hundred topics: the first ones, and how many there are, have to do.
fn cut_topics(row: &mut Value) {
    if let Some(topics) = row["topics"].as_array_mut() {
        let count = topics.len();
        topics.truncate(WATCHED_TOPICS);
        row["topics_count"] = json!(count);
    }
}
