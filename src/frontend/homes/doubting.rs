//! A node that may lack events compares all its topics with history, and promises less with its ids until it has.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::homes::Homes;
use crate::ground::Ground;
use crate::ground::cluster::among;
use crate::ground::message::Message;
use crate::kv::NodeInfo;
use crate::limits::UNSETTLED_BURST;
use crate::wire::frame::Frame;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// Topics of which this node may lack events.
#[derive(Debug, Default)]
pub(crate) struct Doubted {
    /// To be compared with history at once.
    pub to_compare: VecDeque<Topic>,
    /// They were, and lack some.
    unsure: VecDeque<Topic>,
    /// Both, and those that are being compared.
    count: usize,
}

impl Doubted {
    /// A topic is in doubt no more, if it was. Whether none is.
    pub fn forget(&mut self, was: bool) -> bool {
        self.count -= usize::from(was);
        was && self.count == 0
    }
}

impl Homes {
    /// All topics are to be compared but those that are new, whose viewers expect nothing yet. Whether there are some.
    fn doubt_all(&mut self) -> bool {
        let mut to_compare = VecDeque::new();
        for (topic, home) in &mut self.homes {
            home.doubted = home.order.end().is_some();
            to_compare.extend(home.doubted.then(|| topic.clone()));
        }
        let count = to_compare.len();
        self.doubted = Doubted { to_compare, unsure: VecDeque::new(), count };
        count > 0
    }

    /// A topic was compared, and nothing of it is missing once what was found missing is read. Whether none is in doubt any more.
    fn trust(&mut self, topic: &Topic) -> bool {
        let Some(home) = self.homes.get_mut(topic).filter(|home| home.doubted) else { return false };
        if !home.order.is_whole() {
            self.doubted.unsure.push_back(topic.clone());
            return false;
        }
        self.doubted.forget(std::mem::take(&mut home.doubted))
    }
}

impl Frontend {
    /// At the shard that sends heartbeats: the number of the newest reason for doubt, when one was answered.
    pub(crate) fn reason_for_doubt(&self, ground: &Ground, nodes: &[NodeInfo]) -> u64 {
        let mut gone = ground.alive.iter().filter(|node| node.is("dispatcher") && among(nodes, node.id).is_none());
        let doubts =
            ground.node.kv_is_away_at_times() && (self.doubt.is_silent(ground.clock.instant) || gone.next().is_some());
        self.doubt.reason() + u64::from(doubts)
    }

    /// A heartbeat was answered, just after the store's clock showed `store_ms`.
    pub(crate) fn on_beat(&mut self, ground: &mut Ground, store_ms: Option<u64>, reason: u64) {
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        if self.doubt.heard(now, unix_ms, store_ms, self.given_ms, reason) && !self.homes.doubt_all() {
            self.tell_settled(ground);
        }
    }

    /// All topics at home here were compared since the newest reason.
    pub(crate) fn tell_settled(&mut self, ground: &mut Ground) {
        let (core, reason) = (ground.id, self.doubt.reason());
        for shard in 0..ground.node.shards() {
            ground.send(shard, Message::Settled { core, reason });
        }
    }

    /// A topic was compared since the newest reason.
    pub(crate) fn trust(&mut self, ground: &mut Ground, topic: &Topic) {
        if self.homes.trust(topic) {
            self.tell_settled(ground);
        }
    }

    /// Once a tick: topics of which something was missing.
    pub(crate) fn look_at_unsure(&mut self, ground: &mut Ground) {
        for _ in 0..self.homes.doubted.unsure.len().min(UNSETTLED_BURST) {
            let Some(topic) = self.homes.doubted.unsure.pop_front() else { break };
            self.trust(ground, &topic);
        }
    }

    /// The place that ids are not to go beyond now.
    pub(crate) fn floor(&self, ground: &Ground) -> Option<Position> {
        self.doubt.floor(ground.clock.instant).filter(|_| ground.node.kv_is_away_at_times())
    }

    /// Viewers get the next event of class `every`.
    pub(crate) fn give(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        if self.prefixes.are_any() && frame.position().is_some() {
            // What was read from history was not seen as it came.
            self.open_by_prefix(ground, frame.topic(), Some(frame.prev()));
        }
        self.given_ms = self.given_ms.max(frame.position().map_or(0, |position| position.ms));
        let frame = within(&ground.node.dc, frame, self.floor(ground));
        self.sequence(ground, &frame);
    }
}

/// An event whose id goes no further than `floor`.
pub(crate) fn within<'a>(dc: &str, frame: &'a Arc<Frame>, floor: Option<Position>) -> Cow<'a, Arc<Frame>> {
    let beyond = floor.filter(|floor| frame.position().is_some_and(|position| position > *floor));
    let resuming = beyond.and_then(|floor| frame.resuming_from(dc, floor));
    resuming.map_or(Cow::Borrowed(frame), |frame| Cow::Owned(Arc::new(frame)))
}
