//! Viewer counts: each core says how many it has, the node's first shard adds them up and tells the key-value store, and the
//! dispatcher that ranks highest for a topic tells the topic's viewers.

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::message::{Message, Move};
use crate::kv::{Alive, Answer, Request, Unavailable};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::topic::Topic;

/// The kind of topics whose viewers are counted.
pub const COUNTED: &str = "live:";

/// Whether a topic's viewers are counted. Others may be told a number of another making.
pub fn is_counted(topic: &Topic) -> bool {
    topic.as_str().starts_with(COUNTED) && !topic.is_prefix()
}

/// What befell a topic's viewers on a core since it said how many it has.
#[derive(Debug, Default)]
pub(crate) struct Recount {
    /// Whose streams came and left.
    pub(crate) moves: Vec<Move>,
    /// There were none for a moment: who came then was told nothing, though there may be as many as before.
    pub(crate) emptied: bool,
}

impl Recount {
    /// What the core says of a topic that has so many now.
    pub(crate) fn counts(self, topic: Topic, count: u32) -> impl Iterator<Item = (u32, Topic, Vec<Move>)> {
        let none = self.emptied.then(|| (0, topic.clone(), Vec::new()));
        none.into_iter().chain([(count, topic, self.moves)])
    }
}

impl Frontend {
    /// A stream came to a topic or left it, of this member, if it names one.
    pub(crate) fn recount(&mut self, topic: &Topic, moved: Option<Move>) {
        if is_counted(topic) {
            self.recounted.entry(topic.clone()).or_default().moves.extend(moved);
        }
    }

    /// The last stream of a topic on this core left it.
    pub(crate) fn recount_none(&mut self, topic: &Topic) {
        if is_counted(topic) {
            self.recounted.entry(topic.clone()).or_default().emptied = true;
        }
    }

    /// Once a tick: says what changed on this core, and on the first one also what changed on the node.
    pub(crate) fn tick_audience(&mut self, ground: &mut Ground) {
        if !self.recounted.is_empty() {
            let recounted = std::mem::take(&mut self.recounted);
            let count =
                |topic: &Topic| self.topics.by_name(topic.as_str()).map(|entry| entry.viewers.len() as u32).sum();
            let counts = recounted.into_iter().map(|(topic, recount)| (count(&topic), topic, recount));
            let counts = counts.flat_map(|(count, topic, recount)| recount.counts(topic, count)).collect();
            ground.send(0, Message::Counts { core: ground.id, counts });
        }
        if ground.id == 0
            && let Some(change) = self.audience.due(ground.node.id, ground.clock.instant)
        {
            ground.ask(Request::SetCounts(change), Asked::SetCounts);
        }
    }

    /// A core's counts.
    pub(crate) fn on_counts(&mut self, core: usize, counts: Vec<(u32, Topic, Vec<Move>)>) {
        for (count, topic, moves) in counts {
            self.audience.report(topic, core, count, &moves);
        }
    }

    /// The store has this node's counts, or nobody knows.
    pub(crate) fn on_counts_set(&mut self, result: Result<Answer, Unavailable>) {
        match result {
            Ok(_) => self.audience.done(),
            Err(_) => self.audience.failed(),
        }
    }

    /// Who lives changed, or may have.
    pub(crate) fn on_alive_counts(&mut self, alive: &Alive) {
        if alive.recount && !planted(Mistake::CountsUnrepaired) {
            self.audience.repair();
        }
    }
}
