//! Viewer counts: each Frontend's own.

use std::collections::HashMap;

use redis::cmd;

use crate::kv::crowd::Crowd;
use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{join_all, text, unreadable, value};
use crate::kv::{Answer, NodeCounts, Unavailable};
use crate::limits::{REDIS_COUNTS, REDIS_STAGED};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

impl Store {
    /// A Frontend's viewers changed.
    pub async fn set_counts(&self, change: NodeCounts) -> Result<Answer, Unavailable> {
        let NodeCounts { node, number, full, counts } = change;
        let calls = if full && counts.len() > REDIS_COUNTS {
            self.gather(node, number, counts)
        } else {
            let last = counts.len().div_ceil(REDIS_COUNTS).max(1) - 1;
            let slice = |at: usize| counts.chunks(REDIS_COUNTS).nth(at).unwrap_or(&[]);
            let kind = |at: usize| match (full, last, at) {
                (true, ..) => "f",
                (false, 0, _) => "d",
                (false, _, at) if at < last => "p",
                (false, ..) => "r",
            };
            (0..=last).map(|at| self.change_call(node, number, kind(at), slice(at))).collect()
        };
        // Where a part is refused, the number stays what it was, or the caller sends all again.
        self.run(Place::Nodes, Lane::Commands, calls)
            .await
            .into_iter()
            .try_for_each(|answer| value(answer).map(drop))?;
        Ok(Answer::Applied)
    }

    fn change_call(&self, node: NodeId, number: u64, kind: &str, counts: &[(Topic, Crowd)]) -> Call {
        let mut arguments = vec![text(self.keys.counts_channel()), text(node), text(number), text(kind)];
        arguments.extend(counts.iter().flat_map(|(topic, count)| [text(topic), text(count)]));
        Call::Script(Script::Counts, vec![self.keys.counts(node), self.keys.counted()], arguments)
    }

    /// The calls that gather all of a node's counts, and then put them in their place at once.
    fn gather(&self, node: NodeId, number: u64, counts: Vec<(Topic, Crowd)>) -> Vec<Call> {
        // The last word on a topic counts. None comes twice, so that it can be seen whether all are there.
        let counts: HashMap<Topic, Crowd> = counts.into_iter().collect();
        let counts: Vec<(Topic, Crowd)> = counts.into_iter().filter(|(_, crowd)| !crowd.is_none()).collect();
        let staged = self.keys.staged_counts(node, number);
        let mut calls = Vec::new();
        for slice in counts.chunks(REDIS_COUNTS) {
            let mut command = cmd("HSET");
            command.arg(&staged);
            slice.iter().for_each(|(topic, count)| {
                command.arg(topic.as_str()).arg(count.to_string());
            });
            calls.push(Call::Plain(command));
            let mut command = cmd("PEXPIRE");
            command.arg(&staged).arg(REDIS_STAGED.as_millis() as u64);
            calls.push(Call::Plain(command));
        }
        let keys = vec![self.keys.counts(node), self.keys.counted(), staged];
        let arguments: Vec<Argument> =
            vec![text(self.keys.counts_channel()), text(node), text(number), text(counts.len())];
        if counts.is_empty() {
            return vec![self.change_call(node, number, "f", &[])];
        }
        calls.push(Call::Script(Script::CountsAll, keys, arguments));
        calls
    }

    /// The number of each Frontend's last change.
    pub async fn counted(&self) -> Result<HashMap<NodeId, u64>, Unavailable> {
        let mut command = cmd("HGETALL");
        command.arg(self.keys.counted());
        let held = value(self.call(Place::Nodes, Lane::Commands, Call::Plain(command)).await)?;
        let pairs = replies::pairs(held).ok_or_else(|| unreadable("HGETALL"))?;
        // What another version wrote and this one cannot read is no node for it.
        let read = |(node, number)| Some((replies::text(node)?.parse().ok()?, replies::number(&number)?));
        Ok(pairs.into_iter().filter_map(read).collect())
    }

    /// What all Frontends have.
    pub async fn counts(&self) -> Result<Answer, Unavailable> {
        let counted = self.counted().await?;
        let read = join_all(counted.into_iter().map(|(node, number)| self.node_counts(node, number))).await;
        read.into_iter().collect::<Result<_, _>>().map(Answer::Counts)
    }

    /// What one Frontend has. `number` was read before: what is found is as of that or newer, topic by topic.
    pub async fn node_counts(&self, node: NodeId, number: u64) -> Result<NodeCounts, Unavailable> {
        let counts = self.viewers(self.keys.counts(node)).await?;
        Ok(NodeCounts { node, number, full: true, counts })
    }

    /// Topics and their viewers, as a hash has them, in slices that are short for the server.
    pub async fn viewers(&self, key: String) -> Result<Vec<(Topic, Crowd)>, Unavailable> {
        let broken = || unreadable("HSCAN");
        // A slice may repeat what an earlier one had, and is the newer one then.
        let (mut counts, mut cursor) = (HashMap::new(), "0".to_owned());
        loop {
            let mut command = cmd("HSCAN");
            command.arg(&key).arg(&cursor).arg("COUNT").arg(REDIS_COUNTS);
            let slice = value(self.call(Place::Nodes, Lane::Commands, Call::Plain(command)).await)?;
            let mut fields = replies::list(slice).ok_or_else(broken)?.into_iter();
            cursor = fields.next().and_then(replies::text).ok_or_else(broken)?;
            let pairs = fields.next().and_then(replies::pairs).ok_or_else(broken)?;
            counts.extend(pairs.into_iter().filter_map(|(topic, count)| {
                Some((Topic::parse(&replies::text(topic)?).ok()?, replies::text(count)?.parse().ok()?))
            }));
            if cursor == "0" {
                return Ok(counts.into_iter().collect());
            }
        }
    }
}
