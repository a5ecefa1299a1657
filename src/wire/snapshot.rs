//! What a node shows of itself once a second to whoever watches it: the data of each event of `GET /v1/watch`, as JSON. The
//! operator's page and `fanfare top` read it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One second of a node. What another version does not know of is left out, or empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When, in Unix ms.
    pub at: u64,
    /// The node's id.
    pub node: String,
    /// Its data center.
    pub data_center: String,
    /// Which settings hold: another number after they were read again.
    pub settings: u64,
    /// Processors that the process kept busy in the last second.
    pub processors: f64,
    /// Open connections to viewers, of those that there may be.
    pub connections: Bounded,
    /// Memory of the process in bytes, of what it may have before it takes no more.
    pub memory_bytes: Bounded,
    /// Bytes that wait for viewers who lag.
    pub backlog_bytes: Bounded,
    /// Bytes written to viewers.
    pub written_bytes: Figure,
    /// Each core's part.
    pub shards: Vec<ShardView>,
    /// Events taken from publishers, by class.
    pub events: Vec<Figure>,
    /// Events written to viewers, by class.
    pub deliveries: Vec<Figure>,
    /// What limits refused, by reason; reasons that never came up are left out, here and in what follows.
    pub refused: Vec<Figure>,
    /// Events dropped, by reason.
    pub dropped: Vec<Figure>,
    /// Streams ended, by reason.
    pub disconnects: Vec<Figure>,
    /// What else should not be, such as gaps.
    pub troubles: Vec<Figure>,
    /// The upper bounds of the buckets of `delivery`, in microseconds.
    pub delivery_bounds_us: Vec<u64>,
    /// From an event's `at` to the write to a viewer, by class, since the node's start.
    pub delivery: Vec<Spread>,
    /// The upper bounds of the buckets of `hops`, in microseconds.
    pub hop_bounds_us: Vec<u64>,
    /// From checkpoint to checkpoint of sampled events, in the order of the way, since the node's start.
    pub hops: Vec<Spread>,
    /// The topics with the most deliveries lately.
    pub topics: Vec<HotTopic>,
    /// The clients with the most waiting, as `GET /v1/connections` lists them.
    pub clients: Vec<Value>,
    /// The nodes of this data center, this one first.
    pub nodes: Vec<NodeView>,
    /// The other data centers.
    pub data_centers: Vec<DataCenterView>,
}

/// How much there is of something, and may be at most; 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounded {
    /// Now.
    pub now: u64,
    /// At most.
    pub max: u64,
}

/// A number that only grows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// What it counts, such as a class or a reason.
    pub name: String,
    /// Since the node's start.
    pub total: u64,
    /// In the last second.
    pub per_second: f64,
}

/// How long something took, in buckets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// What.
    pub name: String,
    /// The class of the events.
    pub class: String,
    /// How often it was longer than the bound before and not longer than this one; the last bucket has no bound.
    pub counts: Vec<u64>,
    /// Between two nodes: how wrong it may be, in microseconds, on average.
    pub error_us: Option<u64>,
}

/// One core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardView {
    /// Its number.
    pub shard: usize,
    /// Streams of viewers.
    pub streams: u64,
    /// Of which so many do not keep up.
    pub lagging: u64,
    /// Connections that send requests.
    pub requests: u64,
    /// Topics with viewers.
    pub topics: u64,
    /// Events written to viewers in the last second.
    pub deliveries_per_second: f64,
    /// Events taken from publishers in the last second.
    pub events_per_second: f64,
    /// The longest time in the last minute without turning to sockets, in microseconds.
    pub turn_max_us: u64,
    /// Messages of other cores that wait.
    pub mailbox: Bounded,
    /// Messages of this core that wait for a full mailbox of another.
    pub mesh_waiting: u64,
    /// Bytes that wait for viewers who lag.
    pub backlog_bytes: u64,
    /// How long ago it answered last, in ms: more than a second or two is a turn that does not end.
    pub silent_ms: u64,
}

/// A topic that much is delivered of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HotTopic {
    /// Its name.
    pub topic: String,
    /// Its viewers on this node.
    pub viewers: u64,
    /// Events that this node's viewers of it were to get, a second.
    pub events_per_second: f32,
    /// Those times its viewers.
    pub deliveries_per_second: f32,
}

/// How a node of a data center is, as one of it sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It answers, and does its work.
    #[default]
    Well,
    /// It takes no more streams and ends soon.
    Draining,
    /// It cannot do its work.
    Unready,
    /// It has not answered for a while.
    Late,
    /// Its lease lapsed, or it ended.
    Gone,
    /// A word of another version.
    #[serde(other)]
    Unknown,
}

/// A node, or data center, seen from another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeView {
    /// Its id.
    pub id: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its internal listener.
    pub url: String,
    /// How it is.
    pub standing: Standing,
    /// Why it is not well.
    pub why: Option<String>,
    /// How long ago it was heard last, in ms.
    pub heard_ms: u64,
    /// For how long the oldest call to it has had no answer, in ms; 0 where that is not long.
    pub unanswered_ms: u64,
    /// What it said then of itself.
    pub glance: Option<Glance>,
    /// Events that it wrote to viewers in the last second.
    pub deliveries_per_second: f64,
    /// Events that it took from publishers.
    pub events_per_second: f64,
}

/// What a node says of itself to the one that is watched: the answer to `POST /v1/internal/glance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Glance {
    /// Its version.
    pub version: String,
    /// Since its start.
    pub uptime_seconds: u64,
    /// It takes no more streams.
    pub draining: bool,
    /// Why it cannot do its work.
    pub waits_for: Option<String>,
    /// Streams of viewers.
    pub connections: Bounded,
    /// Of which so many do not keep up.
    pub lagging: u64,
    /// Memory in bytes.
    pub memory_bytes: Bounded,
    /// Events written to viewers since its start.
    pub deliveries: u64,
    /// Events taken from publishers since its start.
    pub events: u64,
    /// Events dropped since its start.
    pub dropped: u64,
    /// The longest turn of a shard in the last minute, in microseconds.
    pub turn_max_us: u64,
    /// Of a dispatcher: other data centers.
    pub peers: Vec<PeerGlance>,
}

/// Another data center, as a dispatcher sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerGlance {
    /// Its name.
    pub name: String,
    /// It answers.
    pub connected: bool,
    /// It told of itself lately, to any dispatcher.
    pub heard: bool,
    /// How long what is oldest has waited for it, in ms.
    pub lag_ms: u64,
    /// How far its clock is ahead, in ms.
    pub clock_ahead_ms: i64,
}

/// Another data center, as this one's dispatchers see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataCenterView {
    /// Its name.
    pub name: String,
    /// How it is.
    pub standing: Standing,
    /// Why it is not well.
    pub why: Option<String>,
    /// Dispatchers that tell of it.
    pub dispatchers: u64,
    /// Of which so many reach it.
    pub connected: u64,
    /// How long what is oldest has waited for it, in ms.
    pub lag_ms: u64,
    /// How far its clock is ahead, in ms.
    pub clock_ahead_ms: i64,
}

impl Spread {
    /// How often it was measured.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time in microseconds that this part of all was within, such as 0.99, as far as buckets with these bounds tell: straight
    /// between the bounds of its bucket. None where nothing was measured.
    pub fn quantile_us(&self, part: f64, bounds_us: &[u64]) -> Option<f64> {
        let wanted = part * self.count() as f64;
        let mut before = 0.0;
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if before + count >= wanted {
                let low = at.checked_sub(1).and_then(|at| bounds_us.get(at)).copied().unwrap_or(0) as f64;
                let high = bounds_us.get(at).map_or(low, |bound| *bound as f64);
                return Some(low + (high - low) * ((wanted - before) / count));
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_its_bucket() {
        let spread = Spread { counts: vec![0, 10, 0, 90, 1], ..Spread::default() };
        let bounds = [10, 20, 40, 80];
        assert_eq!(spread.quantile_us(0.05, &bounds), Some(15.05));
        let median = spread.quantile_us(0.5, &bounds).unwrap();
        assert!((40.0..=80.0).contains(&median), "{median}");
        // Past the last bound nothing more is known.
        assert_eq!(spread.quantile_us(1.0, &bounds), Some(80.0));
        assert_eq!(Spread::default().quantile_us(0.5, &bounds), None);
    }

    #[test]
    fn a_snapshot_of_another_version_is_read() {
        let text = r#"{"at":7,"nodes":[{"id":"a","standing":"dreaming","new":1}],"later":{}}"#;
        let snapshot: Snapshot = serde_json::from_str(text).unwrap();
        assert_eq!((snapshot.at, snapshot.nodes[0].standing), (7, Standing::Unknown));
    }
}
