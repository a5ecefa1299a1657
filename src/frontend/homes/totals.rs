//! Totals of likes at a topic's home. What each data center tells of its own is kept as a newest value like others; viewers are
//! shown the sum.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::homes::{Home, Homes};
use crate::ground::Ground;
use crate::wire::event::LIKES;
use crate::wire::frame::Frame;
use crate::wire::topic::Topic;

impl Home {
    /// The newest values that viewers are shown.
    fn shown_values(&self) -> Vec<Arc<Frame>> {
        let values = self.newest.values().into_iter().filter(|frame| frame.kind() != LIKES);
        values.chain(self.totals.frame().cloned()).collect()
    }

    /// The highest version of what viewers are shown.
    pub(crate) fn shown_version(&self) -> u64 {
        match self.totals.frame() {
            // What one data center tells is not shown, and may be newer.
            Some(_) => self.shown_values().iter().map(|frame| frame.version().number).max().unwrap_or(0),
            None => self.newest.version(),
        }
    }
}

impl Homes {
    /// All newest values of a topic that viewers are shown.
    pub fn newest_values(&self, topic: &Topic) -> Vec<Arc<Frame>> {
        self.homes.get(topic).map_or_else(Vec::new, |home| home.shown_values())
    }
}

impl Frontend {
    /// A newest value is news, and viewers are to be shown it; `began` is false where they are shown all of them soon.
    pub(crate) fn show_value(&mut self, ground: &mut Ground, frame: &Arc<Frame>, began: bool) {
        if frame.kind() != LIKES {
            if began {
                self.sequence(ground, frame);
            }
            return;
        }
        let topic = Topic::of_frame(frame.topic());
        if began {
            self.on_subtotals(ground, &topic);
        } else {
            self.sum_totals(ground, &topic);
        }
    }

    /// A data center told its totals: viewers are told the sum, now or when they may be.
    fn on_subtotals(&mut self, ground: &mut Ground, topic: &Topic) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        match home.totals.next().filter(|next| *next > now) {
            Some(next) => {
                if home.totals.wait() {
                    self.homes.busy.insert((next, topic.clone()));
                    self.wake_at(ground, next);
                }
            }
            None => self.show_totals(ground, topic),
        }
    }

    /// Adds up what data centers told, and tells viewers what that comes to, if it is news.
    pub(crate) fn show_totals(&mut self, ground: &mut Ground, topic: &Topic) {
        if let Some(frame) = self.sum_totals(ground, topic) {
            self.sequence(ground, &frame);
        }
    }

    /// The same without telling anybody who watches.
    fn sum_totals(&mut self, ground: &mut Ground, topic: &Topic) -> Option<Arc<Frame>> {
        let now = (ground.clock.instant, ground.clock.unix_ms);
        let mut id = std::mem::take(&mut ground.new_id);
        id.clear();
        ground.new_event_id(&mut id);
        let states = Arc::clone(&ground.cluster.others);
        // Who is not known to be silent counts: a store that came back empty has heard of nobody yet.
        let counts = |dc: &str| !states.iter().any(|state| !state.alive && state.dc == dc);
        let shown = self.homes.homes.get_mut(topic).and_then(|home| {
            let Home { newest, totals, .. } = &mut **home;
            let told = newest.behind(0).map(|(_, frame)| frame).filter(|frame| frame.kind() == LIKES);
            let shown = totals.sum(topic, told, counts, &id, now);
            home.settle();
            shown
        });
        ground.new_id = id;
        shown
    }

    /// A peer fell silent, or is heard of again: the sums of all topics may be others.
    pub(crate) fn sum_all_totals(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        for (topic, home) in &mut self.homes.homes {
            if home.totals.frame().is_some() && home.totals.wait() {
                self.homes.busy.insert((home.totals.next().map_or(now, |next| next.max(now)), topic.clone()));
            }
        }
        self.wake_at(ground, now);
    }
}
