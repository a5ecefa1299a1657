//! What tests ask of the store beneath a site.

use fanfare::wire::connection_id::NodeId;
use redis::Commands as _;

use super::beneath::Store;
use crate::support::eventually;
use crate::support::node::Node;
pub use crate::support::site::*;

impl Site {
    /// Waits until the store holds, for each topic, exactly the Frontends.
    pub fn wait_wanted(&self, store: &Store, topics: &[String]) {
        let mut names: Vec<String> = self.frontends.iter().map(|node| member(&name(node))).collect();
        names.sort();
        eventually("the subscriptions to be in the store", || {
            for topic in topics {
                let mut held: Vec<String> = store.read(&wanted_key(topic), |kv, key| kv.smembers(key))?;
                held.sort();
                if held != names {
                    return Err(format!("{topic}: {held:?} instead of {names:?}"));
                }
            }
            Ok(())
        });
    }
}

/// The key of who wants a topic, as a pattern.
pub fn wanted_key(topic: &str) -> String {
    format!("fanfare:*:s:{topic}")
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
