//! Removes what dead nodes wanted, how many viewers they had, what is known of peers that are long gone, and newest values
//! whose time is over: by one process at a time, over all dispatchers.

use std::collections::HashSet;
use std::rc::Rc;

use redis::{Value, cmd};
use tokio::time::sleep;
use tracing::{debug, info};

use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Call, Lane};
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{text, unreadable, value};
use crate::kv::redis::topology::jittered;
use crate::kv::redis::{keys, replies};
use crate::kv::{BUCKETS, Unavailable};
use crate::limits::{NODE_LEASE, PEER_FORGOTTEN, REDIS_SWEEP_EVERY, REDIS_VALUES_SLICES};
use crate::wire::connection_id::NodeId;

/// Sweeps for as long as the store is used.
pub async fn run(store: Rc<Store>) {
    let me = format!("{:016x}", getrandom::u64().unwrap_or_else(|_| std::process::id().into()));
    loop {
        sleep(jittered(REDIS_SWEEP_EVERY)).await;
        if let Err(problem) = store.sweep(&me).await {
            debug!(%problem, "Redis: sweeping was put off");
        }
    }
}

impl Store {
    /// The lock is not given back: so there is one sweep in [`REDIS_SWEEP_EVERY`] over all, not one a dispatcher.
    async fn holds_lock(&self, me: &str) -> Result<bool, Unavailable> {
        let arguments = vec![text(me), text(REDIS_SWEEP_EVERY.as_millis())];
        let call = Call::Script(Script::Lock, vec![self.keys.sweeper()], arguments);
        let (value, _) = self.call(Place::Nodes, Lane::Commands, call).await?;
        Ok(matches!(value, Value::Int(1)))
    }

    async fn sweep(&self, me: &str) -> Result<(), Unavailable> {
        if self.is_young(NODE_LEASE) || !self.holds_lock(me).await? {
            return Ok(());
        }
        let leases = self.leases(None).await?;
        // Leases that a new or empty store lacks may come yet.
        if leases.age_ms < NODE_LEASE.as_millis() as u64 || self.is_young(NODE_LEASE) {
            return Ok(());
        }
        let live: HashSet<NodeId> = leases.live.iter().map(|node| node.id).collect();
        let mut slices = 0;
        let mut dead = HashSet::new();
        for number in 0..BUCKETS as u8 {
            let mut command = cmd("HKEYS");
            command.arg(self.keys.digests(number));
            let held = match self.call(Place::Bucket(number), Lane::Commands, Call::Plain(command)).await {
                Ok(held) => held,
                // A master that is away keeps nobody from sweeping the others.
                Err(_) => continue,
            };
            let members = replies::list(value(Ok(held))?).ok_or_else(|| unreadable("HKEYS"))?;
            let nodes = members.into_iter().filter_map(|member| keys::node(&replies::text(member)?));
            for node in nodes.filter(|node| !live.contains(node)) {
                if !self.holds_lock(me).await? {
                    return Ok(());
                }
                slices += self.sweep_node(number, node).await?;
                dead.insert(node);
            }
        }
        let forgotten = PEER_FORGOTTEN.as_millis() as u64;
        for (peer, _) in leases.peers.iter().filter(|(_, silent_ms)| *silent_ms > forgotten) {
            let mut command = cmd("HDEL");
            command.arg(self.keys.peers()).arg(&peer.dc);
            value(self.call(Place::Nodes, Lane::Commands, Call::Plain(command)).await)?;
        }
        for node in self.counted().await?.into_keys().filter(|node| !live.contains(node)) {
            let keys = vec![self.keys.leases(), self.keys.counted(), self.keys.counts(node)];
            let call = Call::Script(Script::SweepCounts, keys, vec![text(node)]);
            value(self.call(Place::Nodes, Lane::Commands, call).await)?;
            dead.insert(node);
        }
        for number in 0..BUCKETS as u8 {
            // A master that is away keeps nobody from sweeping the others.
            while let Ok(true) = self.give_up_values(number, REDIS_VALUES_SLICES).await {
                if !self.holds_lock(me).await? {
                    return Ok(());
                }
            }
        }
        if !dead.is_empty() {
            info!(nodes = dead.len(), slices, "swept what dead nodes wanted and counted");
        }
        Ok(())
    }
}
