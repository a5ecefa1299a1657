//! What tests ask of the store beneath a site.

use fanfare::limits::RESUME_SKEW_MS;
use fanfare::wire::connection_id::NodeId;
use redis::{Commands as _, Connection};

use crate::support::eventually;
use crate::support::node::Node;
use crate::support::redis::Redis;
pub use crate::support::site::*;

impl Site {
    /// Waits until the store holds, for each topic, exactly these Frontends.
    pub fn wait_wanted(&self, redis: &mut Connection, topics: &[String], wanted: &[usize]) {
        let mut names: Vec<String> = wanted.iter().map(|at| member(&name(&self.frontends[*at]))).collect();
        names.sort();
        eventually("the subscriptions to be in the store", || {
            for topic in topics {
                let keys: Vec<String> =
                    redis.keys(format!("fanfare:*:s:{topic}")).map_err(|error| error.to_string())?;
                let mut held: Vec<String> = match keys.first() {
                    Some(key) => redis.smembers(key).map_err(|error| error.to_string())?,
                    None => Vec::new(),
                };
                held.sort();
                if held != names {
                    return Err(format!("{topic}: {held:?} instead of {names:?}"));
                }
            }
            Ok(())
        });
    }
}

/// A node's name.
pub fn name(node: &Node) -> String {
    node.info()["node"].as_str().expect("a name").to_owned()
}

/// How the store's sets name a node.
pub fn member(name: &str) -> String {
    let id: NodeId = name.parse().expect("a node's name");
    (id.0 as i64).to_string()
}

/// Waits until a store is so old that it knows of all that a stream of several topics asks for when it comes back: younger
/// ones say `gap`, to be sure.
pub fn aged(redis: &Redis) {
    let wanted = RESUME_SKEW_MS / 1_000 + 1;
    eventually("the store to be old enough", || {
        let uptime = redis.info("server", "uptime_in_seconds").unwrap_or_default();
        if uptime.parse::<u64>().is_ok_and(|uptime| uptime > wanted) { Ok(()) } else { Err(uptime) }
    });
}

/// A plain client of a store.
pub fn plain(port: u16) -> Connection {
    eventually("a plain client to connect", || {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("a URL");
        client.get_connection().map_err(|error| error.to_string())
    })
}
