//! The newest values of a topic that is new, or lacks some, as the key-value store gives them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::counting::is_counted;
use crate::frontend::newest::Keeping;
use crate::ground::Ground;
use crate::kv::{LatestValue, Unavailable};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::{Held, Use};
use crate::runtime::shrink::shrink;
use crate::wire::event::{Class, VIEWERS};
use crate::wire::frame::{Frame, Stored};
use crate::wire::topic::Topic;
use crate::wire::version::Version;

impl Frontend {
    /// The newest values of a topic that is new, or lacks some.
    pub(crate) fn on_newest(
        &mut self,
        ground: &mut Ground,
        topic: Topic,
        result: Result<Vec<LatestValue>, Unavailable>,
    ) {
        if let Some(home) = self.homes.homes.get_mut(&topic) {
            home.asks_newest = false;
        }
        let Ok(values) = result else {
            let at = ground.clock.instant + REGISTER_RETRY;
            return self.homes.again.push((at, topic));
        };
        if self.homes.homes.contains_key(&topic) {
            let mut held = ground.account.open(Use::Questions);
            // They are here already, and go as fast as they can be read.
            held.settle(values.iter().map(|value| size_of::<LatestValue>() + value.event.len()).sum());
            self.homes.found.push_back((topic, Held::new(values.into(), held)));
        }
    }

    /// Once a turn: takes the newest values that the store gave, as many as a turn may. True if there are more.
    pub(crate) fn take_found(&mut self, ground: &mut Ground) -> bool {
        let mut left = NEWEST_TURN_BYTES;
        while let Some((topic, mut values)) = self.homes.found.pop_front() {
            shrink(&mut self.homes.found);
            self.take_values(ground, &topic, &mut values, &mut left);
            if values.is_empty() {
                self.end_values(ground, &topic);
            } else {
                self.homes.found.push_front((topic, values));
            }
            if left == 0 {
                break;
            }
        }
        !self.homes.found.is_empty()
    }

    /// Takes values until so many bytes are used up, and each counts as some.
    pub(crate) fn take_values(
        &mut self,
        ground: &mut Ground,
        topic: &Topic,
        values: &mut VecDeque<LatestValue>,
        left: &mut usize,
    ) {
        while *left > 0
            && let Some(value) = values.pop_front()
        {
            *left = left.saturating_sub(value.event.len() + NEWEST_ENTRY_BYTES);
            let Some(stored) = Stored::read(&value.event) else { continue };
            let mut event = stored.event(Class::Latest, 0);
            event.version = Version { number: value.version, dc: &value.dc };
            let frame = Arc::new(Frame::encode(&event));
            let Some(home) = self.homes.homes.get_mut(topic) else { return values.clear() };
            let began = home.newest_known;
            home.found_to = home.found_to.max(value.version);
            // How many watched once is no news to the first viewer here, who changes that and is told.
            if event.kind == VIEWERS && is_counted(topic) && (!began || value.version <= home.viewers_left) {
                continue;
            }
            // Who came before this was known hears of it with the rest.
            if home.newest.take(&frame, Keeping::Own, &ground.account).is_news() {
                if began {
                    ground.happened(What::LatestHealed, 1, Subject::frame(&frame));
                }
                self.show_value(ground, &frame, began);
            }
        }
    }

    /// All newest values of a topic that the store gave are taken.
    pub(crate) fn end_values(&mut self, ground: &mut Ground, topic: &Topic) {
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        home.heard = home.heard.max(heard(home.found_to));
        if !std::mem::replace(&mut home.newest_known, true) {
            self.check_ready(ground, topic);
        }
    }
}

/// Up to which version values are taken for heard, if the newest one has this version: those of other data centers come
/// late, with the versions that they have there.
pub(crate) fn heard(newest: u64) -> u64 {
    newest.saturating_sub(LATEST_LATE.as_millis() as u64)
}
