//! What wakes a shard for what is to be done at a time, when nothing else does: rests of topics that merge, and windows of
//! class `sum`. One timer serves all of them.

use std::time::{Duration, Instant};

use super::shard::Shard;
use crate::frontend::topics::TopicIndex;
use crate::limits::SUM_WINDOW_GRAIN;

impl Shard {
    /// A topic is to be served again after so many milliseconds, or a little later if others rest already.
    pub(super) fn rest_topic(&mut self, index: TopicIndex, ms: u64) {
        if self.resting.is_empty() && !self.sets_timer(Duration::from_millis(ms)) {
            self.queue_topic(index);
        } else if !self.resting.contains(&index) {
            self.resting.push(index);
        }
    }

    /// A window ends then. Where no timer can be set, a tick finds it.
    pub(super) fn wake_at(&mut self, at: Instant) {
        let time = at.saturating_duration_since(self.clock.instant).max(SUM_WINDOW_GRAIN);
        self.sets_timer(time);
    }

    /// The timer goes off after this time at the latest. False if it cannot be set.
    fn sets_timer(&mut self, time: Duration) -> bool {
        let at = self.clock.instant + time;
        if self.timer.is_some_and(|set| set <= at) {
            return true;
        }
        let is_set = self.net.rest(time).is_ok();
        self.timer = is_set.then_some(at);
        is_set
    }

    /// The timer ran out.
    pub(super) fn end_rests(&mut self) {
        self.timer = None;
        for index in std::mem::take(&mut self.resting) {
            if self.topics.try_get_mut(index).is_some() {
                self.queue_topic(index);
            }
        }
    }
}
