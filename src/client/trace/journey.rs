//! One event's ways, as nodes kept them, put together: from this command over nodes to viewers, and back to its own streams.

use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::wire::connection_id::{ConnectionId, NodeId};
use crate::wire::hops::{Ahead, Checkpoint, Leg};

/// What one shard of a node kept.
#[derive(Debug, Clone, Deserialize)]
pub struct Shard {
    shard: u16,
    hops: Vec<Passed>,
}

/// A checkpoint, as a node tells it.
#[derive(Debug, Clone, Deserialize)]
struct Passed {
    hop: String,
    node: Option<NodeId>,
    at_us: u64,
    ahead_us: Option<i64>,
    error_us: Option<u64>,
}

/// What a node kept.
#[derive(Debug, Clone)]
pub struct Row {
    /// The node.
    pub node: NodeId,
    /// What its shard kept.
    pub shard: Shard,
}

impl Row {
    /// The first node and the last one, which this command's own clock is compared with.
    pub fn ends(&self) -> [NodeId; 2] {
        let first = self.shard.hops.iter().find_map(|passed| passed.node);
        [first.unwrap_or(self.node), self.node]
    }

    /// Whether it is of the shard that holds this connection.
    pub fn is_of(&self, connection: &ConnectionId) -> bool {
        (self.node, self.shard.shard) == (connection.node, connection.shard)
    }
}

/// A step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was passed.
    pub name: String,
    /// Where; this command, if nowhere.
    pub node: Option<NodeId>,
    /// Which shard there, where only one is meant.
    pub shard: Option<u16>,
    at_us: u64,
    /// The way there from the step before; none to the first one.
    pub leg: Option<Signed>,
}

/// A way's time as the clocks say: by their errors it may be less than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// In microseconds.
    pub us: i64,
    /// How wrong that may be; none where that is not known.
    pub error_us: Option<u64>,
}

impl Signed {
    /// As it is shown.
    pub fn shown(self) -> Leg {
        Leg { us: self.us.max(0) as u64, error_us: self.error_us }
    }
}

/// From one moment to another, of two clocks of which the first is `ahead` of the second.
fn between(from_us: u64, to_us: u64, ahead: Option<Ahead>) -> Signed {
    let us = (to_us as i64).wrapping_sub(from_us as i64) + ahead.map_or(0, |ahead| ahead.us);
    Signed { us, error_us: ahead.map(|ahead| ahead.error_us) }
}

/// What this command did, and what a node kept of what followed.
pub fn way(row: &Row, sent_us: u64, cluster: &Cluster) -> Vec<Step> {
    let mut steps =
        vec![Step { name: Checkpoint::Sent.name().to_owned(), node: None, shard: None, at_us: sent_us, leg: None }];
    for passed in row.shard.hops.iter().filter(|passed| passed.node.is_some()) {
        let before = steps.last().expect("there is one");
        let ahead = if before.node == passed.node {
            Some(Ahead { us: 0, error_us: 0 })
        } else if before.node.is_none() {
            // This command's clock is behind by what the node's is ahead.
            let node = passed.node.and_then(|node| cluster.node(node)?.ahead);
            node.map(|ahead| Ahead { us: -ahead.us, ..ahead })
        } else {
            passed.error_us.map(|error_us| Ahead { us: passed.ahead_us.unwrap_or(0), error_us })
        };
        let is_write = [Checkpoint::FirstWrite, Checkpoint::LastWrite].map(Checkpoint::name).contains(&&*passed.hop);
        steps.push(Step {
            name: passed.hop.clone(),
            node: passed.node,
            shard: is_write.then_some(row.shard.shard),
            at_us: passed.at_us,
            leg: Some(between(before.at_us, passed.at_us, ahead)),
        });
    }
    steps
}

/// The way to a stream of this command's own: up to the first write, and from there to its receipt.
pub fn back(way: &[Step], received_us: u64, cluster: &Cluster) -> Vec<Step> {
    let last = Checkpoint::LastWrite.name();
    let mut steps: Vec<Step> = way.iter().filter(|step| step.name != last).cloned().collect();
    let from = steps.last().expect("the first step is this command's own");
    let ahead = from.node.and_then(|node| cluster.node(node)?.ahead);
    let leg = Some(between(from.at_us, received_us, ahead));
    steps.push(Step { name: "received".to_owned(), node: None, shard: None, at_us: received_us, leg });
    steps
}

/// All legs together; how wrong that may be is not known where that of one is not.
pub fn total(way: &[Step]) -> Signed {
    way.iter().filter_map(|step| step.leg).fold(Signed { us: 0, error_us: Some(0) }, |sum, leg| Signed {
        us: sum.us + leg.us,
        error_us: sum.error_us.zip(leg.error_us).map(|(sum, error)| sum + error),
    })
}

/// For programs.
pub fn json(way: &[Step], cluster: &Cluster) -> Value {
    let step = |step: &Step| {
        let (leg, node) = (step.leg.map(Signed::shown), step.node.and_then(|node| cluster.node(node)));
        json!({
            "hop": step.name,
            "node": step.node,
            "data_center": node.map(|node| &node.dc),
            "roles": node.map(|node| &node.roles),
            "shard": step.shard,
            "took_us": leg.map(|leg| leg.us),
            "error_us": leg.and_then(|leg| leg.error_us),
            "sure": leg.map(Leg::is_sure),
        })
    };
    way.iter().map(step).collect()
}

/// Several ways as one tree: what they have in common stands once.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its root.
    pub step: Step,
    /// What follows, in the order in which it was found.
    pub branches: Vec<Tree>,
}

impl Tree {
    /// Of ways that begin alike.
    ///
    /// # Panics
    /// Without any.
    pub fn of<'a>(ways: impl IntoIterator<Item = &'a Vec<Step>>) -> Tree {
        let mut root: Option<Tree> = None;
        for way in ways {
            let mut at = root.get_or_insert_with(|| Tree { step: way[0].clone(), branches: Vec::new() });
            for step in &way[1..] {
                let next = at.branches.iter().position(|branch| branch.step == *step).unwrap_or_else(|| {
                    at.branches.push(Tree { step: step.clone(), branches: Vec::new() });
                    at.branches.len() - 1
                });
                at = &mut at.branches[next];
            }
        }
        root.expect("there is a way at least")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of a hop its name, node, time and, where the node is another one, how far the clock before is ahead, and how wrong that may be.
    type Kept<'a> = (&'a str, u64, u64, Option<(i64, u64)>);

    /// What a shard of a node kept.
    pub(in super::super) fn row(node: u64, shard: u16, hops: &[Kept<'_>]) -> Row {
        let hops = hops.iter().map(|(hop, node, at_us, ahead)| Passed {
            hop: (*hop).to_owned(),
            node: Some(NodeId(*node)),
            at_us: *at_us,
            ahead_us: ahead.map(|ahead| ahead.0),
            error_us: ahead.map(|ahead| ahead.1),
        });
        Row { node: NodeId(node), shard: Shard { shard, hops: hops.collect() } }
    }

    #[test]
    fn legs_add_up_to_the_time_from_end_to_end_whatever_the_clocks_show() {
        // The second node's clock is 5 s ahead, as the first one knows but for 30 µs.
        let row = row(
            2,
            1,
            &[
                ("read", 1, 1_000, None),
                ("sent", 1, 1_100, None),
                ("taken", 2, 5_001_400, Some((-4_999_980, 30))),
                ("first_write", 2, 5_001_500, None),
                ("last_write", 2, 5_001_900, None),
            ],
        );
        let mut way = way(&row, 700, &Cluster::default());
        // Nothing is known of the nodes' clocks here; let them be known.
        way[1].leg = Some(Signed { us: 310, error_us: Some(20) });
        assert_eq!(way[3].leg, Some(Signed { us: 320, error_us: Some(30) }));
        assert_eq!(way[5].leg, Some(Signed { us: 400, error_us: Some(0) }));
        let mut back = back(&way, 1_800, &Cluster::default());
        assert_eq!(
            back.iter().map(|step| &*step.name).collect::<Vec<_>>(),
            ["sent", "read", "sent", "taken", "first_write", "received"]
        );
        assert_eq!(total(&back).error_us, None, "of the last one nothing is known");
        back[5].leg = Some(Signed { us: 290, error_us: Some(10) });
        let Signed { us, error_us } = total(&back);
        assert_eq!(error_us, Some(60));
        assert!(us.abs_diff(1_800 - 700) <= 60, "{us}");
    }

    #[test]
    fn what_ways_have_in_common_stands_once() {
        let common = [("read", 1, 10, None), ("sent", 1, 20, None)];
        let to = |node: u64, at| row(node, 0, &[common[0], common[1], ("taken", node, at, Some((0, 1)))]);
        let ways = [to(2, 40), to(3, 50), to(2, 40)].map(|row| way(&row, 5, &Cluster::default()));
        let tree = Tree::of(&ways);
        let fork = &tree.branches[0].branches[0];
        assert_eq!((tree.branches.len(), tree.branches[0].branches.len(), fork.branches.len()), (1, 1, 2));
        assert_eq!(fork.branches[1].step.node, Some(NodeId(3)));
    }
}
