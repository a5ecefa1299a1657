//! The nodes of all data centers whose internal listeners can be reached: what they kept of an event, and how far their clocks
//! are ahead of this machine's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::http::{self, Error, Request, Url, percent_encode};
use super::journey::{Row, Shard};
use super::{Untraced, unix_us};
use crate::client::trace::args::TraceArgs;
use crate::wire::batch::VERSION;
use crate::wire::connection_id::NodeId;
use crate::wire::hops::Ahead;
use crate::wire::reply::ClockSaid;

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a clock is looked at.
const CLOCK_LOOKS: usize = 16;

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its data center.
    pub dc: String,
    /// What it does, such as `frontend`.
    pub roles: Vec<String>,
    url: Url,
    secret: Option<String>,
    /// It did not answer, as was told.
    is_silent: bool,
    /// How far its clock is ahead of this machine's.
    pub ahead: Option<Ahead>,
}

/// All that are known.
#[derive(Debug, Default)]
pub struct Cluster(BTreeMap<NodeId, Node>);

/// What a node says of itself and of those beside it.
#[derive(Deserialize)]
struct Info {
    node: NodeId,
    data_center: String,
    roles: Vec<String>,
    nodes: Vec<Neighbour>,
}

#[derive(Deserialize)]
struct Neighbour {
    id: NodeId,
    roles: Vec<String>,
    url: String,
}

#[derive(Deserialize)]
struct Traces {
    traces: Vec<Shard>,
}

impl Cluster {
    /// Asks the nodes that the arguments name for all the others of their data centers.
    pub fn find(args: &TraceArgs) -> Result<Cluster, Untraced> {
        let secrets: Vec<String> = args.secret_file.iter().map(|file| secret(file)).collect::<Result<_, _>>()?;
        let mut cluster = Cluster::default();
        for (at, text) in args.internal.iter().enumerate() {
            let fails = |error| Untraced::At(text.clone(), error);
            let url = Url::parse(text).map_err(fails)?;
            let secret = secrets.get(at).or(secrets.last()).cloned();
            let (info, ahead) = ask::<Info>(&url, secret.as_deref(), "/v1/node").map_err(fails)?;
            let Info { node, data_center: dc, roles, nodes } = info;
            for Neighbour { id, roles, url } in nodes {
                if let Ok(url) = Url::parse(&url) {
                    let (dc, secret) = (dc.clone(), secret.clone());
                    cluster.0.entry(id).or_insert(Node { dc, roles, url, secret, is_silent: false, ahead: None });
                }
            }
            cluster.0.insert(node, Node { dc, roles, url, secret, is_silent: false, ahead });
        }
        Ok(cluster)
    }

    /// A node, if it is known.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.0.get(&id)
    }

    /// Asks nodes for their clocks, again and again, since some answers come sooner than others.
    pub fn hear_clocks(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            let Some(known) = self.0.get_mut(&node) else { continue };
            for _ in 0..CLOCK_LOOKS {
                // Of one that does not answer it is known what was heard before.
                if let Ok((Value::Object(_), ahead)) = ask(&known.url, known.secret.as_deref(), "/health/live") {
                    known.hear(ahead);
                }
            }
        }
    }

    /// What its nodes kept of an event. Of one that does not answer nothing is known.
    pub fn journeys(&mut self, id: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (&node, known) in &mut self.0 {
            let path = format!("/v1/traces?id={}", percent_encode(id));
            match ask::<Traces>(&known.url, known.secret.as_deref(), &path) {
                Ok((Traces { traces }, ahead)) => {
                    rows.extend(traces.into_iter().map(|shard| Row { node, shard }));
                    known.hear(ahead);
                }
                Err(_) if known.is_silent => {}
                Err(error) => {
                    known.is_silent = true;
                    eprintln!("fanfare trace: node {node} of {} does not say what it knows: {error}", known.dc);
                }
            }
        }
        rows
    }
}

impl Node {
    /// The best of what is heard of its clock counts: the sooner it answers the better.
    fn hear(&mut self, ahead: Option<Ahead>) {
        let error = |ahead: Option<Ahead>| ahead.map_or(u64::MAX, |ahead| ahead.error_us);
        if error(ahead) < error(self.ahead) {
            self.ahead = ahead;
        }
    }
}

fn secret(file: &str) -> Result<String, Untraced> {
    let text = std::fs::read_to_string(file).map_err(|error| Untraced::Secret(file.to_owned(), error))?;
    // Behind the present one there may be the one before.
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Asks a node, and finds how far its clock is ahead, as NTP does.
fn ask<T: DeserializeOwned>(url: &Url, secret: Option<&str>, path: &str) -> Result<(T, Option<Ahead>), Error> {
    let version = VERSION.to_string();
    let headers = &[("Fanfare-Version", version.as_str())];
    let request = Request { path, token: secret, headers, patience: Some(ANSWER_TIMEOUT), json: None };
    let (asked, asked_us) = (Instant::now(), unix_us());
    let answer = http::send(url, &request)?;
    let took_us = asked.elapsed().as_micros() as u64;
    let said = answer.header("fanfare-clock").and_then(ClockSaid::parse);
    let middle_us = asked_us + took_us / 2;
    let ahead = said.map(|said| Ahead { us: (said.unix_us as i64) - middle_us as i64, error_us: took_us.div_ceil(2) });
    Ok((answer.json()?, ahead))
}
