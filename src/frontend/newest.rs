//! The newest value of each type and key of one topic: what a new subscriber gets at once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::LATEST_KEYS_MAX;
use crate::wire::frame::{ByIdentity, Frame};

/// A topic's newest values. Most topics have none, and cost a pointer.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // Six words less in each of very many topics.
pub struct Newest {
    values: Option<Box<HashMap<ByIdentity, Arc<Frame>, foldhash::fast::RandomState>>>,
}

impl Newest {
    /// Takes a value of class `latest`. False if a newer one, or this one, is known.
    pub fn take(&mut self, frame: &Arc<Frame>) -> bool {
        let values = self.values.get_or_insert_default();
        let key = ByIdentity(Arc::clone(frame));
        let known = values.get(&key).map(|known| known.version());
        // Without a version there is nothing to compare: what comes later is newer.
        if known.is_some_and(|known| frame.version() != 0 && frame.version() <= known) {
            return false;
        }
        if known.is_none()
            && values.len() >= LATEST_KEYS_MAX
            && let Some(oldest) = values.values().min_by_key(|frame| frame.version()).cloned()
        {
            values.remove(&ByIdentity(oldest));
        }
        // The key refers to the frame, too: the old one must not be kept alive by it.
        values.remove(&key);
        values.insert(key, Arc::clone(frame));
        true
    }

    /// How far those newer than a version are beyond it, added up.
    pub fn beyond(&self, version: u64) -> u64 {
        let values = self.values.iter().flat_map(|values| values.values());
        values.map(|frame| frame.version().saturating_sub(version)).sum()
    }

    /// All of them, oldest first.
    pub fn values(&self) -> Vec<Arc<Frame>> {
        let Some(values) = &self.values else { return Vec::new() };
        let mut frames: Vec<_> = values.values().cloned().collect();
        frames.sort_by_key(|frame| frame.version());
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::Event;

    fn value(key: &str, version: u64) -> Arc<Frame> {
        let (id, topic, kind, class) = ("i", "live:1", "viewers", Class::Latest);
        let event =
            Event { id, topic, kind, key: Some(key), at: 7, data: b"1", class, ttl_ms: 0, place: None, version };
        Arc::new(Frame::encode(&event))
    }

    #[test]
    fn older_values_are_ignored() {
        let mut newest = Newest::default();
        assert!(newest.values().is_empty());
        for (key, version, taken) in [("a", 5, true), ("a", 5, false), ("a", 4, false), ("b", 3, true), ("a", 6, true)]
        {
            assert_eq!(newest.take(&value(key, version)), taken, "{key} {version}");
        }
        assert_eq!(newest.values().iter().map(|frame| frame.version()).collect::<Vec<_>>(), [3, 6]);
        assert_eq!([0, 3, 5, 6].map(|version| newest.beyond(version)), [9, 3, 1, 0]);
        assert!(newest.take(&value("a", 0)), "one without a version counts as newer");
    }

    #[test]
    fn their_number_is_bounded_and_the_oldest_goes() {
        let mut newest = Newest::default();
        for number in 0..LATEST_KEYS_MAX as u64 + 5 {
            newest.take(&value(&number.to_string(), number + 1));
        }
        let values = newest.values();
        assert_eq!((values.len(), values[0].version()), (LATEST_KEYS_MAX, 6));
    }
}
