//! Newest values in memory: what the embedded key-value store keeps of class `latest`. Their bytes are bounded, names
//! included, and those of topics that nobody watches are given up by age.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kv::{LatestValue, Newer, SetLatest};
use crate::limits::{LATEST_AGE, LATEST_KEYS_MAX, LATEST_LOOK, MEMORY_VALUES_BYTES, VALUES_LOOKED_AT};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// What one value costs beside its text and its names: its entry, its part of the table, and three allocations.
const VALUE_BYTES: usize = 224;

/// What a topic costs beside its name: its entries in two tables, and a table of its own.
const TOPIC_BYTES: usize = 512;

#[derive(Debug)]
struct Value {
    version: u64,
    dc: Box<str>,
    event: Arc<str>,
    /// It is given up then, unless somebody watches its topic.
    until_ms: u64,
}

#[derive(Debug, Default)]
struct TopicValues {
    values: Map<Box<str>, Value>,
    bytes: usize,
    /// When it is looked at next: it is given up then, unless somebody watches it.
    until_ms: u64,
}

/// All topics' newest values.
#[derive(Debug)]
pub struct Values {
    topics: Map<Topic, TopicValues>,
    /// Topics by when they are looked at, each once.
    ends: BTreeSet<(u64, Topic)>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Values {
    fn default() -> Values {
        let (topics, ends) = Default::default();
        Values { topics, ends, bytes: 0, bytes_max: MEMORY_VALUES_BYTES }
    }
}

impl Value {
    fn version(&self) -> Version<'_> {
        Version { number: self.version, dc: &self.dc }
    }
}

fn value_bytes(field: &str, value: &Value) -> usize {
    VALUE_BYTES + field.len() + value.dc.len() + value.event.len()
}

impl TopicValues {
    fn remove(&mut self, field: &str) -> usize {
        let Some((field, value)) = self.values.remove_entry(field) else { return 0 };
        let bytes = value_bytes(&field, &value);
        self.bytes -= bytes;
        bytes
    }
}

impl Values {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is to hold no more than this, from the next value on.
    pub fn bound(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// Keeps a newest value. Gives its version, and whether it is the newest. Past their bound the topics that
    /// would be given up first are given up now, those that nobody watches before others.
    pub fn set(&mut self, latest: SetLatest, now_ms: u64, is_watched: impl Fn(&Topic) -> bool) -> (u64, bool) {
        let SetLatest { topic, field, event, version, dc, age_ms } = latest;
        let is_new = !self.topics.contains_key(&topic);
        let entry = self.topics.entry(topic.clone()).or_default();
        let held = entry.values.get(&*field);
        let stored = held.map_or(0, |held| held.version);
        let version = version.unwrap_or_else(|| now_ms.max(stored + 1));
        if held.is_some_and(|held| held.version() >= Version { number: version, dc: &dc }) {
            return (version, false);
        }
        if is_new {
            entry.bytes = TOPIC_BYTES + topic.as_str().len();
            self.bytes += entry.bytes;
        }
        if held.is_none()
            && entry.values.len() >= LATEST_KEYS_MAX
            && let Some(oldest) =
                entry.values.iter().min_by_key(|(_, value)| value.version).map(|(field, _)| field.clone())
        {
            self.bytes -= entry.remove(&oldest);
        }
        self.bytes -= entry.remove(&field);
        let until_ms = now_ms.saturating_add(age_ms.unwrap_or(LATEST_AGE.as_millis() as u64));
        let value = Value { version, dc: dc.into(), event, until_ms };
        let bytes = value_bytes(&field, &value);
        entry.bytes += bytes;
        self.bytes += bytes;
        entry.values.insert(field.into(), value);
        let until_ms = match age_ms {
            // The others of the topic may stay for longer.
            Some(_) => entry.values.values().map(|value| value.until_ms).max().unwrap_or(until_ms),
            None => until_ms.max(entry.until_ms),
        };
        self.look_at(topic, until_ms);
        if self.bytes > self.bytes_max {
            self.give_up(is_watched);
        }
        (version, true)
    }

    /// The topic is looked at then, and not before.
    fn look_at(&mut self, topic: Topic, until_ms: u64) {
        let entry = self.topics.get_mut(&topic).expect("it is there");
        let before = std::mem::replace(&mut entry.until_ms, until_ms);
        let mut key = (before, topic);
        if before != until_ms {
            self.ends.remove(&key);
            key.0 = until_ms;
        }
        self.ends.insert(key);
    }

    /// Gives up topics until there is some room, so that it is not to be done again at once.
    fn give_up(&mut self, is_watched: impl Fn(&Topic) -> bool) {
        while self.bytes > self.bytes_max / 64 * 63 {
            let near = self.ends.iter().take(VALUES_LOOKED_AT);
            let nobodys = near.map(|(_, topic)| topic).find(|topic| !is_watched(topic));
            let Some(topic) = nobodys.or_else(|| self.ends.first().map(|(_, topic)| topic)).cloned() else { return };
            self.forget(&topic);
        }
    }

    fn forget(&mut self, topic: &Topic) {
        if let Some(entry) = self.topics.remove(topic) {
            shrink(&mut self.topics);
            self.bytes -= entry.bytes;
            self.ends.remove(&(entry.until_ms, topic.clone()));
        }
    }

    /// Gives up topics that nobody watches and whose time is over, at most `most` of them.
    pub fn sweep(&mut self, most: usize, now_ms: u64, is_watched: impl Fn(&Topic) -> bool) {
        for _ in 0..most {
            let Some((_, topic)) = self.ends.first().filter(|(until_ms, _)| *until_ms <= now_ms).cloned() else {
                break;
            };
            if is_watched(&topic) {
                self.look_at(topic, now_ms + LATEST_LOOK.as_millis() as u64);
            } else {
                self.forget(&topic);
            }
        }
        if self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to(self.topics.len() * 2);
        }
    }

    /// What a topic has of values newer than a version.
    pub fn newer(&self, topic: &Topic, after: u64) -> Newer {
        let values = self.topics.get(topic).into_iter().flat_map(|entry| entry.values.values());
        Newer::of(values.map(|value| value.version), after)
    }

    /// A topic's newest values, oldest first. Where nobody watches it, none whose time is over.
    pub fn latest(&self, topic: &Topic, now_ms: u64, is_watched: bool) -> Vec<LatestValue> {
        let Some(entry) = self.topics.get(topic) else { return Vec::new() };
        let kept = entry.values.values().filter(|value| is_watched || value.until_ms > now_ms);
        let found = kept.map(|value| LatestValue {
            version: value.version,
            dc: value.dc.clone(),
            event: Arc::clone(&value.event),
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|value| value.version);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::newest::{Keeping, Newest};
    use crate::queue::{Bounds, Queue};
    use crate::runtime::account::Account;
    use crate::wire::event::Class;
    use crate::wire::frame::{Event, Frame, Stored};
    use proptest::prelude::*;

    const AGE: u64 = LATEST_AGE.as_millis() as u64;

    fn topic(name: &str) -> Topic {
        Topic::parse(&format!("live:{name}")).unwrap()
    }

    fn value(name: &str, field: &str, event: &str, age_ms: Option<u64>) -> SetLatest {
        SetLatest {
            topic: topic(name),
            field: field.into(),
            event: event.into(),
            version: None,
            dc: "a".into(),
            age_ms,
        }
    }

    #[test]
    fn newest_values_win_by_version_then_by_name() {
        let mut values = Values::default();
        let mut set = |field: &str, event: &str, peers: Option<(u64, &str)>, now_ms| {
            let mut latest = value("1", field, event, None);
            if let Some((version, name)) = peers {
                (latest.version, latest.dc) = (Some(version), name.to_owned());
            }
            values.set(latest, now_ms, |_| false)
        };
        assert_eq!(set("a", "1", None, 50), (50, true));
        assert_eq!(set("a", "2", None, 40), (51, true));
        assert_eq!(set("a", "3", Some((50, "x")), 60), (50, false));
        assert_eq!(set("a", "4", Some((51, "x")), 60), (51, true));
        assert_eq!(set("a", "5", Some((51, "x")), 60), (51, false));
        assert_eq!(set("b", "6", Some((7, "x")), 60), (7, true));
        let found: Vec<_> = values.latest(&topic("1"), 70, false).into_iter().map(|value| value.event).collect();
        assert_eq!(found, ["6".into(), "4".into()] as [Arc<str>; 2]);
        assert_eq!(values.latest(&topic("1"), 70 + AGE, false), []);
        assert_eq!(values.latest(&topic("1"), 70 + AGE, true).len(), 2, "somebody watches");
    }

    #[test]
    fn what_nobody_watches_is_given_up_by_age_and_what_somebody_watches_is_not() {
        let mut values = Values::default();
        for (name, age) in [("short", Some(5)), ("long", None), ("both", None), ("both", Some(5)), ("watched", Some(5))]
        {
            values.set(value(name, &format!("{age:?}"), "{}", age), 100, |_| false);
        }
        let watched = |found: &Topic| *found == topic("watched");
        values.sweep(99, 104, watched);
        assert_eq!(values.topics.len(), 4);
        values.sweep(99, 105, watched);
        assert!(!values.topics.contains_key(&topic("short")) && values.topics.len() == 3);
        values.sweep(99, 100 + AGE, watched);
        assert_eq!(values.topics.keys().collect::<Vec<_>>(), [&topic("watched")]);
        values.sweep(99, 100 + 2 * AGE, |_| false);
        assert_eq!((values.bytes, values.topics.len(), values.ends.len()), (0, 0, 0));
    }

    #[test]
    fn their_bytes_are_bounded_names_included() {
        let (mut values, name) = (Values::default(), "n".repeat(150));
        for number in 0..400_000u64 {
            values.set(value(&format!("{name}{number}"), "x", "{}", None), number, |found| {
                *found == topic(&format!("{name}0"))
            });
            assert!(values.bytes <= MEMORY_VALUES_BYTES);
        }
        let kept = |number: u64| values.topics.contains_key(&topic(&format!("{name}{number}")));
        assert!(kept(0) && !kept(1) && kept(399_999), "the oldest go, but for what is watched");
    }

    /// A data center: its store, its viewers, and what is on its way to both.
    #[derive(Default)]
    struct Center {
        values: Values,
        viewers: Newest,
        /// From the other one.
        coming: Vec<(SetLatest, u64)>,
        frames: Vec<Arc<Frame>>,
    }

    impl Center {
        /// The store is given a value, and its dispatcher tells viewers of what is the newest.
        fn set(&mut self, latest: SetLatest, now_ms: u64) -> u64 {
            let (number, newest) = self.values.set(latest.clone(), now_ms, |_| true);
            if newest {
                let stored = Stored::read(&latest.event).unwrap();
                let version = Version { number, dc: &latest.dc };
                self.frames.push(Arc::new(Frame::encode(&Event { version, ..stored.event(Class::Latest, 0) })));
            }
            number
        }

        fn kept(&self) -> Vec<(u64, String, String)> {
            let kept = self.values.latest(&topic("1"), 0, true).into_iter();
            let mut kept: Vec<_> =
                kept.map(|kept| (kept.version, kept.dc.to_string(), kept.event.to_string())).collect();
            kept.sort();
            kept
        }

        fn shown(&self) -> Vec<(u64, String, String)> {
            let shown =
                |frame: Arc<Frame>| (frame.version().number, frame.version().dc.to_owned(), frame.json().to_owned());
            let mut shown: Vec<_> = self.viewers.values().into_iter().map(shown).collect();
            shown.sort();
            shown
        }
    }

    proptest! {
        /// Two data centers write the same keys in the same milliseconds. What they send each other, and to viewers, comes in
        /// any order, and what waits for viewers merges: in the end both keep and show the same.
        #[test]
        fn data_centers_agree_on_the_newest_values(
            steps in prop::collection::vec((0usize..2, 0u8..4, 0u8..3, 0usize..99), 1..60),
        ) {
            let mut centers = [Center::default(), Center::default()];
            let (mut now_ms, account) = (1_000, Account::unbounded());
            let drain = (0..999).map(|step: usize| (step % 2, 2 + (step / 2 % 2) as u8, 0, 0));
            for (number, (center, what, key, at)) in steps.iter().copied().chain(drain).enumerate() {
                let (name, key) = (["a", "b"][center], key.to_string());
                match what {
                    0 => now_ms += 1,
                    1 => {
                        let event = format!(
                            r#"{{"id":"{name}{number}","topic":"live:1","type":"score","key":"{key}","at":7,"data":1}}"#
                        );
                        let latest = SetLatest { dc: name.into(), ..value("1", &key, &event, None) };
                        let version = centers[center].set(latest.clone(), now_ms);
                        centers[1 - center].coming.push((latest, version));
                    }
                    2 if !centers[center].coming.is_empty() => {
                        let at = at % centers[center].coming.len();
                        let (latest, version) = centers[center].coming.swap_remove(at);
                        centers[center].set(SetLatest { version: Some(version), ..latest }, now_ms);
                    }
                    3 => {
                        // Some pass others, and what waits together merges.
                        let frames = &mut centers[center].frames;
                        let from = at % frames.len().max(1);
                        let mut queue = Queue::new(Bounds { bytes: 1 << 20, keys: 256 });
                        frames.drain(from..).for_each(|frame| {
                            let _ = queue.push(&frame, 1, 0);
                        });
                        let viewers = &mut centers[center].viewers;
                        let _ = queue.drain(0, |frame, _| {
                            let _ = viewers.take(frame, Keeping::Own, &account);
                        });
                    }
                    _ => {}
                }
            }
            let [a, b] = &centers;
            prop_assert!(a.coming.is_empty() && a.frames.is_empty() && b.coming.is_empty() && b.frames.is_empty());
            prop_assert_eq!(a.kept(), b.kept());
            prop_assert_eq!(a.shown(), a.kept());
            prop_assert_eq!(b.shown(), b.kept());
        }

        /// Whatever is set, replaced, swept: the bytes are those of what is there, and each topic is looked at once.
        #[test]
        fn the_sum_is_that_of_what_is_there(steps in prop::collection::vec((0u8..4, 0u8..4, 0u64..20, any::<bool>()), 1..80)) {
            let (mut values, mut now) = (Values::default(), 1);
            for (name, field, pause, short) in steps {
                now += pause;
                let event = "x".repeat(pause as usize);
                let latest = value(&name.to_string(), &field.to_string(), &event, short.then_some(9));
                prop_assert!(values.set(latest, now, |_| false).1);
                values.sweep(2, now, |found| *found == topic("1"));
                let sizes = values.topics.iter().map(|(topic, entry)| {
                    let of_values = entry.values.iter().map(|(field, value)| value_bytes(field, value)).sum::<usize>();
                    TOPIC_BYTES + topic.as_str().len() + of_values
                });
                prop_assert_eq!(sizes.sum::<usize>(), values.bytes);
                let ends: BTreeSet<_> = values.topics.iter().map(|(topic, entry)| (entry.until_ms, topic.clone())).collect();
                prop_assert_eq!(&ends, &values.ends);
            }
        }
    }
}
