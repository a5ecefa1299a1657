//! Nodes' leases, and which nodes want a topic.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use redis::{Value, cmd};

use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::peers::Known;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::{Answered, Store};
use crate::kv::redis::{keys, peers, replies};
use crate::kv::{Alive, Answer, BUCKETS, Batch, Heartbeat, NodeInfo, Unavailable, bucket, stable_hash};
use crate::limits::{NODE_LEASE, NODE_SWEEP, REDIS_SWEEP_SLICE};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// An argument that is a text.
pub fn text(text: impl ToString) -> Argument {
    Argument::Text(text.to_string())
}

/// A server gave an answer of another form than it should.
pub fn unreadable(what: &str) -> Unavailable {
    Unavailable(format!("the answer to {what} is unreadable"))
}

/// What leases say.
#[derive(Debug)]
pub struct Leases {
    /// Nodes whose lease holds.
    pub live: Vec<NodeInfo>,
    /// For how long the store has known of leases, by its own time, in ms.
    pub age_ms: u64,
    /// What the store's clock shows, in Unix ms.
    pub now_ms: u64,
    /// The number of the node's last change of its counts; 0 if there is none.
    pub counted: u64,
    /// What is known of peers.
    pub peers: Vec<Known>,
}

impl Store {
    /// Who wants a topic?
    pub async fn subscribers(&self, topic: Topic) -> Result<Answer, Unavailable> {
        let number = bucket(topic.as_str());
        let mut command = cmd("SMEMBERS");
        command.arg(format!("{}{topic}", self.keys.subscribers_prefix(number)));
        let (value, _) = self.call(Place::Bucket(number), Lane::Lookups, Call::Plain(command)).await?;
        let members = replies::list(value).ok_or_else(|| unreadable("SMEMBERS"))?;
        let nodes = members.into_iter().map(|member| keys::node(&replies::text(member)?));
        let nodes: Option<Vec<NodeId>> = nodes.collect();
        Ok(Answer::Subscribers(nodes.ok_or_else(|| unreadable("SMEMBERS"))?.into()))
    }

    /// The call that changes what a node wants of a bucket.
    pub fn apply_call(&self, batch: Batch) -> (Place, Call) {
        let mut arguments = vec![
            text(keys::member(batch.node)),
            text(batch.number),
            text(u8::from(batch.full)),
            text(self.keys.subscribers_prefix(batch.bucket)),
        ];
        // The last word on a topic counts.
        let changes: HashMap<Topic, bool> = batch.changes.into_iter().collect();
        for (topic, wanted) in changes {
            let hash = stable_hash(topic.as_str().as_bytes());
            arguments.extend([text(topic), text(u8::from(wanted)), text(hash >> 32), text(hash & 0xffff_ffff)]);
        }
        let keys = vec![self.keys.digests(batch.bucket), self.keys.wanted(batch.bucket, batch.node)];
        (Place::Bucket(batch.bucket), Call::Script(Script::Apply, keys, arguments))
    }

    /// A node lives: renews its lease, and compares what is held for it with what it wants.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Answer, Unavailable> {
        let id = heartbeat.node.id;
        let (leases, differing) =
            tokio::join!(self.leases(Some(&heartbeat.node)), self.differing(id, &heartbeat.digests));
        let leases = leases?;
        let peers = leases.peers.into_iter().map(|(peer, _)| peer).collect();
        let recount = heartbeat.counts.is_some_and(|number| number != leases.counted);
        let mut known = self.known.borrow_mut();
        let mut live: HashMap<NodeId, NodeInfo> = leases.live.into_iter().map(|node| (node.id, node)).collect();
        if self.is_young(NODE_LEASE) {
            // Leases that were known before count on.
            for (id, node) in known.iter() {
                live.entry(*id).or_insert_with(|| node.clone());
            }
        }
        known.clone_from(&live);
        let mut nodes: Vec<NodeInfo> = live.into_values().collect();
        nodes.sort_unstable_by_key(|node| node.id);
        let since = self.topology.since();
        let lost = self.losses.borrow_mut().hear(heartbeat.since, since);
        Ok(Answer::Alive(Alive { nodes, differing, recount, peers, since, lost, now_ms: Some(leases.now_ms) }))
    }

    /// What leases say, after renewing that of `node`.
    pub async fn leases(&self, node: Option<&NodeInfo>) -> Result<Leases, Unavailable> {
        let keys =
            vec![self.keys.leases(), self.keys.infos(), self.keys.born(), self.keys.counted(), self.keys.peers()];
        let said = node.map(|node| serde_json::to_string(node).expect("a node is plain data"));
        let arguments = vec![
            text(node.map_or_else(String::new, |node| node.id.to_string())),
            text(said.unwrap_or_default()),
            text(NODE_LEASE.as_millis()),
            Argument::RunId,
            text(NODE_SWEEP.as_millis()),
        ];
        let call = Call::Script(Script::Heartbeat, keys, arguments);
        let (value, _) = self.call(Place::Nodes, Lane::Commands, call).await?;
        let broken = || unreadable("a heartbeat");
        let mut fields = replies::list(value).ok_or_else(broken)?.into_iter();
        let mut number = || fields.next().and_then(|value| replies::number(&value)).ok_or_else(broken);
        let (now, born) = (number()?, number()?);
        let infos = fields.next().and_then(replies::list).ok_or_else(broken)?;
        let counted = fields.next().and_then(|value| replies::number(&value)).ok_or_else(broken)?;
        let peers = fields.next().and_then(|value| peers::known(value, now)).ok_or_else(broken)?;
        // What another version wrote and this one cannot read is no node for it.
        let live = infos.into_iter().filter_map(|info| serde_json::from_str(&replies::text(info)?).ok()).collect();
        if self.born.get().is_none_or(|(seen, _)| seen != born) {
            self.born.set(Some((born, Instant::now())));
        }
        Ok(Leases { live, age_ms: now.saturating_sub(born), now_ms: now, counted, peers })
    }

    /// Buckets of which something else is held for a node than it wants. A master that is away says nothing of its own.
    async fn differing(&self, node: NodeId, digests: &[(u8, u64)]) -> Vec<u8> {
        let member = keys::member(node);
        let looks = digests.iter().map(|(number, wanted)| {
            let mut command = cmd("HGET");
            command.arg(self.keys.digests(*number)).arg(&member);
            async move {
                let held = self.call(Place::Bucket(*number), Lane::Commands, Call::Plain(command)).await;
                held.is_ok_and(|(value, _)| digest(value) != *wanted).then_some(*number)
            }
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// A node ends: its lease first, so that it is ignored at once, then what it wanted.
    pub async fn leave(self: &Rc<Store>, node: NodeId) -> Result<Answer, Unavailable> {
        self.known.borrow_mut().remove(&node);
        let keys = vec![self.keys.leases(), self.keys.infos(), self.keys.counted(), self.keys.counts(node)];
        let call = Call::Script(Script::Leave, keys, vec![text(node)]);
        self.call(Place::Nodes, Lane::Commands, call).await?;
        self.known.borrow_mut().remove(&node);
        let swept = join_all((0..BUCKETS).map(|number| self.sweep_node(number as u8, node))).await;
        // Whoever sweeps finds what is left of it.
        swept.into_iter().collect::<Result<Vec<usize>, _>>()?;
        Ok(Answer::Left)
    }

    /// Removes what a node wanted of a bucket, in slices that are short for the server. Gives how many slices.
    pub async fn sweep_node(&self, number: u8, node: NodeId) -> Result<usize, Unavailable> {
        let mut slices = 0;
        loop {
            let keys = vec![self.keys.digests(number), self.keys.wanted(number, node)];
            let arguments = vec![
                text(keys::member(node)),
                text(self.keys.subscribers_prefix(number)),
                text(REDIS_SWEEP_SLICE),
                text(u8::from(slices == 0)),
            ];
            let call = Call::Script(Script::Sweep, keys, arguments);
            let (more, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
            slices += 1;
            if !matches!(more, Value::Int(1)) {
                return Ok(slices);
            }
        }
    }
}

/// What a bucket holds for a node: `<number> <high half> <low half>`, or something else for none.
fn digest(value: Value) -> u64 {
    let halves = |text: &str| {
        let mut words = text.split(' ').skip(1);
        let (high, low): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(high << 32 | low)
    };
    replies::text(value).and_then(|text| halves(&text)).unwrap_or(0)
}

/// Waits for all of them together.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        let mut pending = false;
        for (future, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => *done = Some(output),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(waiting.iter_mut().filter_map(|(_, done)| done.take()).collect())
    })
    .await
}

/// The value of an answer.
pub fn value(answered: Answered) -> Result<Value, Unavailable> {
    answered.map(|(value, _)| value)
}
