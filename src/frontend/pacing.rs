//! What wakes a shard for what is to be done at a time, when nothing else does: rests of topics that merge, and windows of
//! class `sum`. One timer serves all of them.

use std::time::{Duration, Instant};

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::slots::TopicIndex;
use crate::limits::SUM_WINDOW_GRAIN;

impl Frontend {
    /// A topic is to be served again after so many milliseconds, or a little later if others rest already.
    pub(crate) fn rest_topic(&mut self, ground: &mut Ground, index: TopicIndex, ms: u64) {
        if self.resting.is_empty() && !self.sets_timer(ground, Duration::from_millis(ms)) {
            self.queue_topic(index);
        } else if !self.resting.contains(&index) {
            self.resting.push(index);
        }
    }

    /// A window ends then. Where no timer can be set, a tick finds it.
    pub(crate) fn wake_at(&mut self, ground: &mut Ground, at: Instant) {
        let time = at.saturating_duration_since(ground.clock.instant).max(SUM_WINDOW_GRAIN);
        self.sets_timer(ground, time);
    }

    /// The timer goes off after this time at the latest. False if it cannot be set.
    fn sets_timer(&mut self, ground: &mut Ground, time: Duration) -> bool {
        let at = ground.clock.instant + time;
        if self.timer.is_some_and(|set| set <= at) {
            return true;
        }
        let is_set = ground.net.rest(time).is_ok();
        self.timer = is_set.then_some(at);
        is_set
    }

    /// The timer ran out.
    pub(crate) fn end_rests(&mut self) {
        self.timer = None;
        for index in std::mem::take(&mut self.resting) {
            if self.topics.try_get_mut(index).is_some() {
                self.queue_topic(index);
            }
        }
    }
}
