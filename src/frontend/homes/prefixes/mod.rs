//! Streams that have a prefix of topics: `chat:crew.*`. Each topic of it that has an event is opened for them, which makes them its
//! viewers; from then on it is like one that they named.
//!
//! There are three parts, each on a core of its own. The *home of the prefix* knows up to which place nothing of its topics is
//! missing, by comparing them with those that the store has, and has those opened that have news behind it. The *home of a
//! topic* opens it for prefixes of it: before it gives its first event, and from where the home of the prefix stood. The
//! *cores with streams* have these join it.

pub mod comparing;
pub mod opening;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::frontend::Frontend;
use crate::frontend::homes::prefixes::comparing::{Exchange, PrefixHome, Then};
use crate::frontend::homes::prefixes::opening::{Answering, Open, Watched};
use crate::ground::Ground;
use crate::ground::prefixes::PrefixNews;
use crate::kv::Found;
use crate::runtime::random::Map;
use crate::wire::topic::Topic;

/// A shard's part in it.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// The prefixes with streams on this node, by what they begin with.
    watched: Map<Box<str>, Watched>,
    /// The topics at home here that are open for some.
    open: Map<Topic, Open>,
    /// Who waits until topics are open.
    answering: Vec<Answering>,
    /// The prefixes at home here.
    homes: BTreeMap<Topic, PrefixHome>,
    /// The store is known to hold that this node wants some prefix.
    is_told: bool,
    /// What all cores were asked, by number.
    exchanges: Map<u64, Exchange>,
    number: u64,
    /// What is to be looked at again, and when.
    again: VecDeque<(Instant, Topic, Found, Then)>,
    /// The topics that are open for streams of this core, by prefix.
    pub(crate) here: Map<Topic, BTreeSet<Topic>>,
    /// Topics that such streams are to leave.
    pub(crate) leaving: VecDeque<Topic>,
}

impl Prefixes {
    /// Whether any stream of this node has a prefix.
    pub fn are_any(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Whether the store is known to hold that this node wants some prefix.
    pub fn are_told(&self) -> bool {
        self.is_told
    }
}

impl Frontend {
    /// Another core, or this one, tells of prefixes.
    pub(crate) fn on_prefix_news(&mut self, ground: &mut Ground, news: PrefixNews) {
        match news {
            PrefixNews::Found { prefix, home, number, known, topics, again } => {
                self.on_prefix_known(&prefix, known);
                self.on_prefix_found(ground, prefix, (home, number), topics, again);
            }
            PrefixNews::Opened { number, whole, active, full } => {
                self.on_prefix_opened(ground, number, whole, active, full)
            }
            PrefixNews::Known { prefix, known } => self.on_prefix_known(&prefix, known),
            PrefixNews::Gone(prefix) => self.on_prefix_gone(ground, &prefix),
            PrefixNews::Open { prefix, topic, begin } => self.on_prefix_open(ground, &prefix, topic, begin),
            PrefixNews::Joined { topic, core, wanted } => self.on_prefix_joined(ground, &topic, core, wanted),
            PrefixNews::Quiet(topic) => self.on_prefix_quiet(topic),
            PrefixNews::Listed { prefix, conn, topics, more, page } => {
                self.on_prefix_listed(ground, &prefix, conn, &topics, more, &page);
            }
        }
    }

    /// Once a tick.
    pub(crate) fn tick_prefixes(&mut self, ground: &mut Ground) {
        self.leave_quiet(ground);
        self.look_again(ground);
        if ground.is_whole_second() && !self.prefixes.open.is_empty() {
            self.close_quiet(ground);
        }
    }
}
