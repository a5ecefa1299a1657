//! The internal listener: what a node tells of itself, and publishing for backends.

use std::sync::Arc;

use serde_json::json;

use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::admitting::NOBODY;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::resources::Resource;
use crate::observe::exposition;
use crate::observe::happenings::subject::Subject;
use crate::observe::happenings::{self, Level};
use crate::observe::metrics::Counters;
use crate::shard::listing::listed;
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::response::NO_STORE;
use crate::wire::status::Status;

/// `GET /v1/happenings[?level=warn][&limit=n]`: what happened at all shards, be they busy or not.
fn happenings(ground: &Ground, query: Query<'_>) -> Result<String, HttpError> {
    let from = match query.last(Parameter::Level).as_deref() {
        None | Some("info") => Level::Info,
        Some("warn") => Level::Warn,
        Some(other) => return Err(HttpError::bad(format!("there is no level {other:?}; give info or warn"))),
    };
    let found = happenings::newest(&ground.node.counters, from, listed(query)?);
    Ok(json!({"happenings": found}).to_string())
}

impl Services {
    /// A request to the internal listener that no page of others sent.
    pub(crate) fn handle_internal(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        resource: Option<Resource<'_>>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, .. } = incoming;
        // The page by itself shows nothing.
        let is_open = matches!(
            resource,
            Some(Resource::Metrics | Resource::Live | Resource::Ready | Resource::Peer(_) | Resource::Asset(..))
        );
        if !is_open {
            ground.check_secret(request)?;
        }
        let resource = resource.ok_or_else(HttpError::not_found)?;
        let query = resource.query(ground.node.roles, true, request)?;
        let (content_type, answer) = match resource {
            Resource::Metrics => {
                exposition::exposition(&ground.node.metrics, exposition::Format::asked(request.accept))
            }
            Resource::Live => ("application/json", r#"{"live":true}"#.to_owned()),
            Resource::Ready => match ground.not_ready() {
                None => ("application/json", r#"{"ready":true}"#.to_owned()),
                Some(reason) => return Err(HttpError::unavailable(reason.sentence)),
            },
            Resource::Node => ("application/json", self.node_info(ground)),
            Resource::Settings => ("application/json", ground.live.shown.to_string()),
            Resource::Watch => return self.watch(ground, incoming),
            Resource::Asset(asset, _) => return Ok(ground.asset(asset, request, to)),
            Resource::Connections => return self.list_connections(ground, conn, query),
            Resource::Traces => return self.list_traces(ground, conn, query),
            Resource::Happenings => ("application/json", happenings(ground, query)?),
            Resource::Topic(topic) => return self.list_topic(ground, conn, topic),
            Resource::TopicEvents(topic) => {
                ground.admit_event(NOBODY, |_| Subject::default())?;
                return self.publish_one(ground, incoming, topic, &Access::Node);
            }
            Resource::Neighbour(what) => return self.node_to_node(ground, incoming, what),
            Resource::Peer(what) => return self.peer_request(ground, incoming, what),
            // Publishing by lines is taken line by line, and never comes here; the rest is of the public listener.
            _ => return Err(HttpError::not_found()),
        };
        Ok(Handled::Answered(ground.answers().whole(to, Status::Ok, content_type, NO_STORE, answer.as_bytes())))
    }

    /// This node as it sees itself.
    fn node_info(&self, ground: &Ground) -> String {
        let node = &ground.node;
        let sum = |field: fn(&Counters) -> u64| node.counters.iter().map(field).sum::<u64>();
        let ((open, open_max), (memory, memory_max)) = (node.admission.connections(), node.admission.memory());
        let shards: Vec<_> = node
            .counters
            .iter()
            .enumerate()
            .map(|(shard, counters)| {
                json!({
                    "shard": shard,
                    "streams": counters.connections.get(),
                    "lagging": counters.lagging.get(),
                    "requests": counters.http_connections.get(),
                    "topics": counters.topics.get(),
                    "subscriptions": counters.subscriptions.get(),
                    "backlog_bytes": counters.backlog_bytes.get(),
                    "mailbox": node.mail[shard].len(),
                    "mesh_waiting": counters.mesh_waiting.get(),
                })
            })
            .collect();
        json!({
            "node": node.name,
            "version": env!("CARGO_PKG_VERSION"),
            "roles": node.roles.names(),
            "uptime_seconds": ground.clock.instant.saturating_duration_since(node.started).as_secs(),
            "draining": ground.is_draining(),
            "connections": sum(|counters| counters.connections.get()),
            "topics": sum(|counters| counters.topics.get()),
            "subscriptions": sum(|counters| counters.subscriptions.get()),
            "nodes": node.nodes.lock().map(|nodes| Arc::clone(&nodes)).unwrap_or_default(),
            "data_center": node.dc,
            "peers": self.dispatcher.as_ref().map(|dispatcher| dispatcher.peers_info(ground)).unwrap_or_default(),
            "links": node.links.iter().filter_map(|links| Some(links.lock().ok()?.clone())).flatten().collect::<Vec<_>>(),
            "waits_for": ground.not_ready().map(|reason| reason.whole()),
            "limits": {
                "connections": {"now": open, "max": open_max},
                "memory_bytes": {"now": memory, "max": memory_max, "full": node.admission.memory_is_full()},
                "backlog_bytes": {
                    "now": sum(|counters| counters.backlog_bytes.get()),
                    "max": ground.backlog_max(),
                },
            },
            "queues": {"frames": sum(|counters| counters.outbox_frames.get()), "store": node.store.as_ref().map(|store| store.queued())},
            "shards": shards,
        })
        .to_string()
    }
}
