//! Canaries: events that backends publish every second, and frontends look for. Here is how they are written.
//!
//! A backend publishes, by each dispatcher, one event of each class but `sum` a second, and some of that. Those of a group of
//! seconds share one of a few topics of the data center. Events of class `sum` merge, so that of them only their key counts.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::limits::{CANARY_GROUP, CANARY_TOPICS};
use crate::wire::event::Class;
use crate::wire::topic::Topic;

/// The kind of their topics, which no client may watch or publish to.
pub const KIND: &str = "canary";

/// Their types, in the order of [`Class::ALL`].
pub const TYPES: [&str; Class::ALL.len()] = ["canary.sum", "canary.latest", "canary.ephemeral", "canary.every"];

/// Whether a topic is one of theirs.
pub fn is_canary(topic: &str) -> bool {
    topic.as_bytes().starts_with(b"canary:")
}

/// The class of a type of theirs.
pub fn class(kind: &str) -> Option<Class> {
    TYPES.iter().position(|name| *name == kind).map(|at| Class::ALL[at])
}

/// The topics of a data center.
pub fn topics(dc: &str) -> Vec<Topic> {
    (0..CANARY_TOPICS).filter_map(|number| topic(dc, number * CANARY_GROUP)).collect()
}

/// The topic of a round; none if the data center's name is too long for one.
pub fn topic(dc: &str, round: u64) -> Option<Topic> {
    Topic::encode(KIND, &format!("{dc}.{}", group(round) % CANARY_TOPICS)).ok()
}

/// The group of a round.
pub const fn group(round: u64) -> u64 {
    round / CANARY_GROUP
}

/// The data of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The backend, by a name that is new at every start.
    pub backend: String,
    /// Where it is.
    pub url: String,
    /// The dispatcher that was to take it.
    pub by: SocketAddr,
    /// Of class `every` the number of the event, which the next one follows without a hole; of others the round.
    pub number: u64,
    /// When it was published, in Unix microseconds by the backend's clock.
    pub sent_us: u64,
    /// Of class `ephemeral`: what is to have come by now, of each dispatcher.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
}

/// What a backend published by a dispatcher long enough ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The dispatcher.
    pub by: SocketAddr,
    /// The round of its first event, and the number of its first one of class `every`.
    pub since: u64,
    /// The number of the last of class `every` that a dispatcher had taken.
    pub every: u64,
    /// The last group of sums that is over, if one is.
    pub sums: Option<Sums>,
}

/// A group of events of class `sum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Which.
    pub group: u64,
    /// How many there were.
    pub count: u64,
}

/// By which events of class `sum` are told apart.
pub fn key(backend: &str, by: SocketAddr, group: u64) -> String {
    let mut key = String::with_capacity(64);
    write!(key, "{backend} {by} {group}").expect("a String takes all");
    key
}

/// What a key is made of.
pub fn read_key(key: &str) -> Option<(&str, SocketAddr, u64)> {
    let mut parts = key.split(' ');
    let read = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_was_written() {
        let by = "[::1]:8081".parse().unwrap();
        assert_eq!(read_key(&key("00ff", by, 7)), Some(("00ff", by, 7)));
        for bad in ["", "a", "a 127.0.0.1:1", "a 127.0.0.1:1 x", "a 127.0.0.1:1 1 2", "a b 1"] {
            assert_eq!(read_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn rounds_of_a_group_share_a_topic_and_all_topics_have_their_turn() {
        let all = topics("eu");
        assert_eq!(all.len() as u64, CANARY_TOPICS);
        for round in 0..3 * CANARY_TOPICS * CANARY_GROUP {
            let topic = topic("eu", round).unwrap();
            assert_eq!(topic, all[(round / CANARY_GROUP % CANARY_TOPICS) as usize]);
            assert!(is_canary(topic.as_str()) && topic.kind() == KIND);
        }
        assert!(!is_canary("canaries:1") && !is_canary("live:canary:1"));
    }
}
