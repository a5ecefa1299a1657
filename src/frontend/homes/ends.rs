//! What a home gave its viewers, compared with what there is: its end with history's, its newest values with the store's, and
//! what cores with viewers have with both. So whatever was lost on its way arrives all the same.

use crate::frontend::Frontend;
use crate::frontend::homes::Homes;
use crate::frontend::homes::values::heard;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::kv::{End, Newer, Request, Unavailable};
use crate::limits::{ENDS_ACTIVE, ENDS_PER_QUESTION, ENDS_QUIET};
use crate::queue::crossing::Missed;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::shrink::shrink;
use crate::wire::position::Shown;
use crate::wire::topic::Topic;

impl Homes {
    /// Up to where viewers of a topic were given class `every`, and the highest version of class `latest`.
    pub fn given(&self, topic: &Topic) -> Option<(Shown, u64)> {
        let home = self.homes.get(topic).filter(|home| home.is_ready())?;
        Some((home.order.end()?, home.shown_version()))
    }
}

impl Frontend {
    /// Once a tick: asks of the topics that are due.
    pub(crate) fn compare_ends(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let (mut topics, mut values) = (Vec::new(), Vec::new());
        while topics.len() < ENDS_PER_QUESTION {
            let is_due = self.homes.compare.first().is_some_and(|(at, _)| *at <= now);
            let due = |homes: &mut Homes| is_due.then(|| homes.compare.pop_first()).flatten().map(|(_, topic)| topic);
            let Some(topic) = self.homes.doubted.to_compare.pop_front().or_else(|| due(&mut self.homes)) else { break };
            shrink(&mut self.homes.doubted.to_compare);
            if topic.is_prefix() {
                self.compare_prefix(ground, &topic);
                continue;
            }
            if let Some(home) = self.homes.homes.get(&topic)
                && let Some(end) = home.order.end()
            {
                values.push((topic.clone(), home.heard));
                topics.push((topic, end));
            }
        }
        if !topics.is_empty() {
            let names = topics.iter().map(|(topic, _)| topic.clone()).collect();
            ground.ask(Request::Ends(names), Asked::Ends(self.doubt.reason(), topics));
            ground.ask(Request::Newer(values.clone()), Asked::Newer(values));
        }
    }

    /// What the store has of values that are newer than those which were surely heard: of a topic that has more of them, or
    /// newer ones, than came here, all are read again.
    pub(crate) fn on_newer(&mut self, ground: &mut Ground, topics: Vec<(Topic, u64)>, found: Vec<Newer>) {
        for ((topic, after), found) in topics.into_iter().zip(found) {
            let Some(home) = self.homes.homes.get_mut(&topic) else { continue };
            if home.newest.newer(after).is_some_and(|known| known.lacks(&found)) {
                ground.ask(Request::Latest(topic.clone()), Asked::Newest(topic));
            } else {
                home.heard = home.heard.max(heard(found.newest));
            }
        }
    }

    /// Where histories end now, and what viewers had been given when that was asked, and for which reason there was doubt then.
    pub(crate) fn on_ends(
        &mut self,
        ground: &mut Ground,
        reason: u64,
        topics: Vec<(Topic, Shown)>,
        result: Result<Vec<End>, Unavailable>,
    ) {
        let now = ground.clock.instant;
        let ends = result.map_or_else(|_| vec![None; topics.len()], |ends| ends.into_iter().map(Some).collect());
        let names: Vec<Topic> = topics.iter().map(|(topic, _)| topic.clone()).collect();
        for ((topic, known), end) in topics.into_iter().zip(ends) {
            let Some(home) = self.homes.homes.get_mut(&topic) else { continue };
            let mut effects = Vec::new();
            if let Some(end) = end.filter(|_| !planted(Mistake::EndsUncompared)) {
                home.order.compared(end, known, now, &mut effects);
            }
            let wait = if home.order.is_active(now) || end.is_none() { ENDS_ACTIVE } else { ENDS_QUIET };
            home.compare_at(&topic, now + wait, &mut self.homes.compare);
            let is_doubted = home.doubted;
            if home.order.next_read().is_some() {
                self.homes.unsettle(&topic);
            }
            if is_doubted && end.is_none() {
                self.homes.doubted.to_compare.push_back(topic.clone());
            }
            self.do_order(ground, &topic, effects);
            if is_doubted && end.is_some() && reason == self.doubt.reason() {
                self.trust(ground, &topic);
            }
        }
        self.compare_cores(ground, &names);
    }

    /// The queue to this home was full, and something of a topic was left out.
    pub(crate) fn on_unordered(&mut self, ground: &mut Ground, topic: &Topic, missed: Missed) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        if let Some(to) = missed.every {
            home.order.reaches(to, now);
            self.homes.unsettle(topic);
        }
        if missed.latest {
            ground.ask(Request::Latest(topic.clone()), Asked::Newest(topic.clone()));
        }
    }
}
