//! Class `sum` at a topic's home: what comes within a window goes as one event. `frontend/pauses.rs` says when, and
//! `wire/frame/sums.rs` adds. Elsewhere likes merge only where they wait in a `queue`: to other nodes, cores and slow viewers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frontend::Frontend;
use crate::frontend::pauses::Taken;
use crate::ground::Ground;
use crate::limits::{CROWD_SLICE, ROUNDS_A_WINDOW};
use crate::wire::canary::is_canary;
use crate::wire::frame::Frame;
use crate::wire::topic::Topic;

impl Frontend {
    /// An event of class `sum` comes: it goes on its way, or waits for its window's end.
    pub(crate) fn sum(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let (now, length) = (ground.clock.instant, ground.live.types.get(frame.kind()).window);
        // A node that ends keeps nothing back.
        let home = self.homes.homes.get_mut(frame.topic()).filter(|_| !length.is_zero() && !ground.is_draining());
        let Some(home) = home else { return self.sequence(ground, frame) };
        let taken = home.pauses.take(frame, length, now);
        match taken {
            Taken::Goes => return self.sequence(ground, frame),
            Taken::Until(at) => {
                home.settle();
                let topic = Topic::of_frame(frame.topic());
                self.homes.busy.insert((at, topic));
                self.wake_at(ground, at);
            }
            Taken::Joined => home.settle(),
            Taken::Full => {
                let topic = Topic::of_frame(frame.topic());
                self.end_window(ground, &topic, now);
            }
        }
        ground.counters().windowed.add(u64::from(!is_canary(frame.topic())));
    }

    /// Sends what windows that ended have merged, for as long as one turn may. True if there is more.
    pub(crate) fn end_windows(&mut self, ground: &mut Ground) -> bool {
        let now = ground.clock.instant;
        let due = |frontend: &Frontend| frontend.homes.busy.first().is_some_and(|(at, _)| *at <= now);
        if due(self) {
            let mut slice = ground.clock.slice(CROWD_SLICE);
            while due(self)
                && let Some((_, topic)) = self.homes.busy.pop_first()
            {
                self.end_window(ground, &topic, now);
                if slice.is_over() {
                    break;
                }
            }
        }
        if due(self) {
            return true;
        }
        if let Some((at, _)) = self.homes.busy.first() {
            self.wake_at(ground, *at);
        }
        false
    }

    /// Sends what waits for the end of any window.
    pub(crate) fn end_all_windows(&mut self, ground: &mut Ground) {
        while let Some((at, topic)) = self.homes.busy.pop_first() {
            self.end_window(ground, &topic, at.max(ground.clock.instant));
        }
    }

    /// Sends what a topic's windows have merged. The next ones are longer than what was set where it takes long to go round the
    /// topic's viewers on this core, if it has any; others are not asked: what a window saves, the next round's writes would take from all who wait.
    fn end_window(&mut self, ground: &mut Ground, topic: &Topic, now: Instant) {
        let least = self
            .topics
            .find(topic.as_str())
            .map_or(Duration::ZERO, |index| self.topics.get(index).rounds.took().saturating_mul(ROUNDS_A_WINDOW));
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        let mut sums = Vec::new();
        home.pauses.end(now, least, |frame| sums.push(frame));
        home.settle();
        let totals = home.totals.is_due(now);
        sums.iter().for_each(|frame| self.sequence(ground, frame));
        if totals {
            self.show_totals(ground, topic);
        }
    }
}
