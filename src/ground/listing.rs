//! What operators ask of all shards at once.

use crate::ground::present::PresentAsk;
use crate::ground::slots::Conn;
use crate::wire::topic::Topic;

/// What is asked.
#[derive(Debug, Clone)]
pub enum Listing {
    /// The clients with the most waiting, so many.
    Pending(usize),
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
