//! Rests of topics that merge: what ends them when nothing else wakes the shard.

use std::time::Duration;

use super::shard::Shard;
use crate::frontend::topics::TopicIndex;

impl Shard {
    /// A topic is to be served again after so many milliseconds, or a little later if others rest already.
    pub(super) fn rest_topic(&mut self, index: TopicIndex, ms: u64) {
        if self.resting.is_empty() && self.net.rest(Duration::from_millis(ms)).is_err() {
            self.queue_topic(index);
        } else if !self.resting.contains(&index) {
            self.resting.push(index);
        }
    }

    /// The timer ran out.
    pub(super) fn end_rests(&mut self) {
        for index in std::mem::take(&mut self.resting) {
            if self.topics.try_get_mut(index).is_some() {
                self.queue_topic(index);
            }
        }
    }
}
