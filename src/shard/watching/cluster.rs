//! How the other nodes are, as the one that is watched sees it: each is asked once a second, by the links that nodes have anyway.

use std::sync::Arc;
use std::time::Instant;

use crate::ground::Ground;
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::kv::NodeInfo;
use crate::limits::{GLANCE_TIMEOUT, GLANCES_MAX, WATCH_EVERY};
use crate::observe::snapshot::totals;
use crate::runtime::random::Map;
use crate::shard::services::Services;
use crate::wire::connection_id::NodeId;
use crate::wire::snapshot::{Bounded, DataCenterView, Glance, NodeView, Snapshot, Standing};

/// A node that was not heard for so long is late: the answer to one question did not come before the next but one.
const LATE_MS: u64 = 2 * WATCH_EVERY.as_millis() as u64 + 500;

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub(super) struct Neighbours(Map<NodeId, Neighbour>);

#[derive(Debug)]
struct Neighbour {
    /// It has not answered yet.
    asked: bool,
    /// Its version knows no glances.
    mute: bool,
    /// When it answered last; at first, when it was asked first.
    heard: Instant,
    glance: Option<Glance>,
    /// Deliveries and events a second, between its last two answers.
    rates: (f64, f64),
}

impl Neighbour {
    fn hear(&mut self, glance: Glance, now: Instant) {
        if let Some(before) = &self.glance {
            let seconds = now.saturating_duration_since(self.heard).as_secs_f64();
            let rate = |new: u64, old: u64| if seconds > 0.0 { new.saturating_sub(old) as f64 / seconds } else { 0.0 };
            self.rates = (rate(glance.deliveries, before.deliveries), rate(glance.events, before.events));
        }
        (self.glance, self.heard) = (Some(glance), now);
    }
}

impl Neighbours {
    /// Asks each that lives, and has no question to answer.
    pub(super) fn ask(&mut self, ground: &mut Ground) {
        let (now, own, alive) = (ground.clock.instant, ground.node.id, Arc::clone(&ground.alive));
        self.0.retain(|node, _| alive.binary_search_by_key(node, |info| info.id).is_ok());
        for info in alive.iter().filter(|info| info.id != own) {
            if self.0.len() >= GLANCES_MAX && !self.0.contains_key(&info.id) {
                continue;
            }
            let new = Neighbour { asked: false, mute: false, heard: now, glance: None, rates: (0.0, 0.0) };
            let known = self.0.entry(info.id).or_insert(new);
            if !known.asked {
                let call = Call {
                    path: "/v1/internal/glance",
                    content_type: "application/json",
                    body: Arc::new(b"{}".to_vec()),
                    deadline: now + GLANCE_TIMEOUT,
                    what: Called::Glance(info.id),
                };
                known.asked = ground.call((Destination::Node(info.id), Lane::Glances), call).is_ok();
            }
        }
    }

    /// The nodes of this data center, and the other data centers.
    pub(super) fn views(
        &self,
        ground: &Ground,
        own: Glance,
        snapshot: &Snapshot,
    ) -> (Vec<NodeView>, Vec<DataCenterView>) {
        let now = ground.clock.instant;
        let itself = NodeView {
            id: ground.node.name.clone(),
            roles: ground.node.roles.names().into_iter().map(str::to_owned).collect(),
            url: ground.node.info.as_ref().map(|info| info.url.to_string()).unwrap_or_default(),
            deliveries_per_second: snapshot.shards.iter().map(|shard| shard.deliveries_per_second).sum(),
            events_per_second: snapshot.shards.iter().map(|shard| shard.events_per_second).sum(),
            glance: Some(own),
            ..NodeView::default()
        };
        let others = ground.alive.iter().filter(|info| info.id != ground.node.id);
        // Few links have calls that are late; nodes are many.
        let mut late: Map<String, u64> = Map::default();
        for links in ground.node.links.iter().filter_map(|links| links.lock().ok()) {
            for link in links.iter().filter(|link| link.unanswered_ms > LATE_MS) {
                let longest = late.entry(link.to.clone()).or_default();
                *longest = link.unanswered_ms.max(*longest);
            }
        }
        let others = others.map(|info| NodeView {
            unanswered_ms: late.get(&info.id.to_string()).copied().unwrap_or(0),
            ..self.view(info, now)
        });
        let gone = ground.cluster.gone.iter().map(|(info, at)| {
            let heard_ms = now.saturating_duration_since(*at).as_millis() as u64;
            NodeView {
                heard_ms,
                standing: Standing::Gone,
                why: Some("it ended, or lost its lease".to_owned()),
                ..named(info)
            }
        });
        let mut others: Vec<NodeView> = others.chain(gone).collect();
        others.sort_by(|one, other| (&other.roles, &one.url).cmp(&(&one.roles, &other.url)));
        let mut nodes = vec![itself];
        nodes.extend(others);
        for node in nodes.iter_mut().filter(|node| node.standing == Standing::Well) {
            (node.standing, node.why) = standing(node);
        }
        let data_centers = data_centers(&nodes);
        (nodes, data_centers)
    }

    fn view(&self, info: &NodeInfo, now: Instant) -> NodeView {
        let mut view = named(info);
        if let Some(known) = self.0.get(&info.id) {
            view.heard_ms = now.saturating_duration_since(known.heard).as_millis() as u64;
            (view.deliveries_per_second, view.events_per_second) = known.rates;
            view.glance = known.glance.clone();
            if known.mute {
                (view.standing, view.why) = (Standing::Unknown, Some("its version does not say how it is".to_owned()));
            }
        }
        view
    }
}

fn named(info: &NodeInfo) -> NodeView {
    NodeView { id: info.id.to_string(), roles: info.roles.clone(), url: info.url.to_string(), ..NodeView::default() }
}

/// How a node is, by what is known of it.
fn standing(node: &NodeView) -> (Standing, Option<String>) {
    let seconds = |ms: u64| ms / 1000;
    if node.heard_ms > LATE_MS {
        return (Standing::Late, Some(format!("it has not answered for {} s", seconds(node.heard_ms))));
    }
    if node.unanswered_ms > LATE_MS {
        return (Standing::Late, Some(format!("a call to it has waited for {} s", seconds(node.unanswered_ms))));
    }
    match &node.glance {
        Some(glance) if glance.draining => {
            (Standing::Draining, Some("it takes no new streams and ends soon".to_owned()))
        }
        Some(Glance { waits_for: Some(why), .. }) => (Standing::Unready, Some(why.clone())),
        _ => (Standing::Well, None),
    }
}

/// What the dispatchers that were heard say of other data centers, put together.
fn data_centers(nodes: &[NodeView]) -> Vec<DataCenterView> {
    let mut all: Vec<DataCenterView> = Vec::new();
    let glances = nodes.iter().filter(|node| node.standing != Standing::Gone).filter_map(|node| node.glance.as_ref());
    for peer in glances.flat_map(|glance| &glance.peers) {
        let at = all.iter().position(|view| view.name == peer.name).unwrap_or_else(|| {
            let standing = Standing::Late;
            all.push(DataCenterView { name: peer.name.clone(), standing, ..DataCenterView::default() });
            all.len() - 1
        });
        let view = &mut all[at];
        view.dispatchers += 1;
        view.connected += u64::from(peer.connected);
        view.lag_ms = view.lag_ms.max(peer.lag_ms);
        if view.clock_ahead_ms.abs() < peer.clock_ahead_ms.abs() {
            view.clock_ahead_ms = peer.clock_ahead_ms;
        }
        if peer.heard {
            view.standing = Standing::Well;
        }
    }
    for view in &mut all {
        (view.standing, view.why) = if view.connected == 0 {
            (Standing::Late, Some("no dispatcher reaches it".to_owned()))
        } else if view.standing == Standing::Late {
            (Standing::Late, Some("it has not told of itself lately".to_owned()))
        } else if view.lag_ms > LATE_MS {
            (Standing::Late, Some(format!("events for it have waited for {} s", view.lag_ms / 1000)))
        } else {
            (Standing::Well, None)
        };
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

impl Services {
    /// How this node is, as others that are watched show it.
    pub(crate) fn glance(&self, ground: &Ground) -> Glance {
        let node = &ground.node;
        let ((_, open_max), (memory, memory_max)) = (node.admission.connections(), node.admission.memory());
        let (deliveries, events, dropped) = totals(&node.counters);
        Glance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: ground.clock.instant.saturating_duration_since(node.started).as_secs(),
            draining: ground.is_draining(),
            waits_for: ground.not_ready().map(|reason| reason.whole()),
            connections: Bounded {
                now: node.counters.iter().map(|counters| counters.connections.get()).sum(),
                max: open_max as u64,
            },
            lagging: node.counters.iter().map(|counters| counters.lagging.get()).sum(),
            memory_bytes: Bounded { now: memory, max: memory_max },
            deliveries,
            events,
            dropped,
            turn_max_us: node.counters.iter().map(|counters| counters.turn_max_us.get()).max().unwrap_or(0),
            peers: self.dispatcher.as_ref().map(|dispatcher| dispatcher.peer_glances(ground)).unwrap_or_default(),
        }
    }

    /// Another node said how it is, or did not.
    pub(crate) fn on_glance(&mut self, ground: &Ground, node: NodeId, outcome: &Outcome) {
        let Some(known) = self.watching.maker.as_mut().and_then(|maker| maker.neighbours.0.get_mut(&node)) else {
            return;
        };
        known.asked = false;
        let now = ground.clock.instant;
        match outcome {
            Outcome::Answer(200, body) => {
                if let Ok(glance) = serde_json::from_slice(body) {
                    known.hear(glance, now);
                }
            }
            Outcome::Answer(404, _) => (known.mute, known.heard) = (true, now),
            Outcome::Answer(..) | Outcome::NotTaken | Outcome::Unknown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::snapshot::PeerGlance;

    fn node(glance: Glance) -> NodeView {
        NodeView { glance: Some(glance), ..NodeView::default() }
    }

    #[test]
    fn who_does_not_answer_is_late_whatever_it_said_before() {
        let said = Glance { draining: true, ..Glance::default() };
        let stands = |heard_ms, unanswered_ms| standing(&NodeView { heard_ms, unanswered_ms, ..node(said.clone()) }).0;
        assert_eq!(stands(1_900, 0), Standing::Draining);
        assert_eq!(stands(4_000, 0), Standing::Late);
        assert_eq!(stands(900, 4_000), Standing::Late);
        let (stands, why) = standing(&NodeView { heard_ms: 4_200, ..NodeView::default() });
        assert_eq!((stands, why.as_deref()), (Standing::Late, Some("it has not answered for 4 s")));
        let waits = Glance { waits_for: Some("the database fails".to_owned()), ..Glance::default() };
        assert_eq!(standing(&node(waits)), (Standing::Unready, Some("the database fails".to_owned())));
    }

    #[test]
    fn a_data_center_is_as_its_dispatchers_say_together() {
        let says = |connected, lag_ms, clock_ahead_ms| {
            let peer = PeerGlance { name: "us".to_owned(), connected, heard: true, lag_ms, clock_ahead_ms };
            node(Glance { peers: vec![peer], ..Glance::default() })
        };
        let [us] = &data_centers(&[says(true, 40, -3), says(false, 0, 2), NodeView::default()])[..] else { panic!() };
        assert_eq!(
            (us.standing, us.dispatchers, us.connected, us.lag_ms, us.clock_ahead_ms),
            (Standing::Well, 2, 1, 40, -3)
        );
        let [us] = &data_centers(&[says(false, 9_000, 0)])[..] else { panic!() };
        assert_eq!((us.standing, us.why.as_deref()), (Standing::Late, Some("no dispatcher reaches it")));
        let [us] = &data_centers(&[says(true, 9_000, 0)])[..] else { panic!() };
        assert_eq!(us.why.as_deref(), Some("events for it have waited for 9 s"));
        assert!(data_centers(&[node(Glance::default())]).is_empty());
    }
}
