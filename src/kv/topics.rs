//! Which topics there are: those that begin with some text and have events in history.

use serde::{Deserialize, Serialize};

use crate::kv::End;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

/// A question for topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicsAsk {
    /// What they begin with.
    pub begin: String,
    /// Only those whose newest event lies behind this place.
    pub after: Position,
    /// At most so many: those with the newest events.
    pub limit: u32,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Topics, and the place of the newest event of each; the newest first.
    pub topics: Vec<(Topic, Position)>,
    /// There are more.
    pub more: bool,
    /// The store lost nothing that it was given since then.
    pub since: Reach,
    /// What a topic had before this place may be forgotten with it.
    pub reaches: Reach,
    /// What is appended later, to whichever topic, lies behind this place.
    pub clock: Position,
}

impl Found {
    /// Those of all that were found, the newest first, at most so many.
    pub fn newest(
        mut topics: Vec<(Topic, Position)>,
        limit: u32,
        (since, reaches): (Reach, Reach),
        clock: Position,
    ) -> Found {
        topics.sort_unstable_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
        let more = topics.len() > limit as usize;
        topics.truncate(limit as usize);
        Found { topics, more, since, reaches, clock }
    }

    /// Where the history of the prefix ends, which has no events of its own.
    pub fn end(&self) -> End {
        End { position: None, since: self.since, clock: Some(self.clock) }
    }
}
