//! What operators ask of all shards at once.

use std::net::IpAddr;

use crate::ground::present::PresentAsk;
use crate::ground::slots::Conn;
use crate::wire::topic::Topic;

/// Which clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Those who watch this topic.
    pub topic: Option<Topic>,
    /// Those of this member.
    pub member: Option<String>,
    /// Those who connect from this address, which is a proxy's where one stands in front.
    pub address: Option<IpAddr>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Listing {
    /// Clients, those with the most waiting first, so many.
    Connections(Wanted, usize),
    /// A topic.
    Topic(Topic),
    /// Members who watch a topic.
    Members(PresentAsk),
    /// Journeys of the event of this id, or of any; so many, the newest first.
    Traces(Option<String>, usize),
}

/// A question to a shard.
#[derive(Debug)]
pub struct ListingAsk {
    /// What.
    pub listing: Listing,
    /// The shard that asks, and the connection whose request it is: it has one at a time.
    pub asker: (usize, Conn),
}
