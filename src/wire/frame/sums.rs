//! Events of class `sum` of one topic and type, merged over their keys: how many of each key there were, and the newest.
//! `count` says how many in all, `counts` how many of each key where there is more than one; what has no key is the rest.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Frame, place};
use crate::limits::{SUM_KEYS_MAX, SUM_MEMBER_DATA_BYTES_MAX, SUM_MEMBERS_MAX, SUM_NAMED_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::wire::json;

/// What stands between an event's type and its key.
const KEY_LABEL: &[u8] = b",\"key\":";

/// A key as JSON; none for events without one.
type Key = Option<Arc<[u8]>>;

/// What a merged frame has beside the newest event.
#[derive(Debug)]
pub(super) struct Merged {
    /// Keys, and how many events each stands for.
    counts: Vec<(Key, u64)>,
    /// Members as JSON, of whom its events speak.
    members: Vec<Box<[u8]>>,
    /// Bytes behind the count that say so.
    pub(super) len: u16,
}

impl Merged {
    fn bytes(&self) -> usize {
        size_of::<Merged>() + held(&self.counts, &self.members)
    }
}

fn held(counts: &[(Key, u64)], members: &[Box<[u8]>]) -> usize {
    let keys: usize = counts.iter().map(|(key, _)| KEY_BYTES + key.as_ref().map_or(0, |key| key.len())).sum();
    keys + members.iter().map(|member| KEY_BYTES + member.len()).sum::<usize>()
}

/// What a key takes beside its text, in a group and in the table of groups.
const KEY_BYTES: usize = 64;

impl Frame {
    /// Where its type ends, with the quotation mark.
    fn kind_end(&self) -> usize {
        let start = usize::from(self.topic.end) + super::transfer::TYPE_LABEL.len();
        start + memchr::memchr(b'"', &self.bytes[start..]).expect("a type ends") + 1
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        let start = usize::from(self.topic.end) + super::transfer::TYPE_LABEL.len();
        std::str::from_utf8(&self.bytes[start..self.kind_end() - 1]).expect("a type is ASCII")
    }

    /// Topic and type, as encoded: equal just when both are.
    pub fn family(&self) -> &[u8] {
        &self.bytes[usize::from(self.identity.start)..self.kind_end()]
    }

    /// Its key as JSON, if it has one.
    fn key(&self) -> Option<&[u8]> {
        let key = &self.bytes[self.kind_end()..usize::from(self.identity.end)];
        key.strip_prefix(KEY_LABEL)
    }

    /// How many keys its events have.
    pub fn keys(&self) -> usize {
        self.merged.as_ref().map_or(1, |merged| merged.counts.len())
    }

    /// Bytes that it holds beside [`OWN_BYTES`](Frame::OWN_BYTES).
    pub fn held(&self) -> usize {
        self.bytes.len() + self.merged.as_ref().map_or(0, |merged| merged.bytes())
    }

    /// Keys, and how many of its events each stands for.
    fn each_count(&self, count: u64, mut each: impl FnMut(Option<&[u8]>, u64)) {
        match &self.merged {
            None => each(self.key(), count),
            Some(merged) => merged.counts.iter().for_each(|(key, count)| each(key.as_deref(), *count)),
        }
    }

    /// The member of whom the event speaks, as JSON.
    fn member(&self) -> Option<&[u8]> {
        let event = self.event();
        let data = usize::from(self.count_at.end - self.start);
        let data = data + self.merged.as_ref().map_or(0, |merged| usize::from(merged.len)) + b",\"data\":".len();
        let data = &event[data..event.len() - b"}\n\n".len()];
        let mut found = None;
        if data.len() <= SUM_MEMBER_DATA_BYTES_MAX && data.starts_with(b"{") {
            let _ = json::members(data, |name, value| {
                if name == b"member" && value.starts_with(b"\"") {
                    found = Some(value);
                }
                Ok(())
            });
        }
        found
    }

    /// The same event, standing for so many of these keys.
    fn summed(self: &Arc<Frame>, counts: Vec<(Key, u64)>, members: Vec<Box<[u8]>>) -> Arc<Frame> {
        let count = counts.iter().map(|(_, count)| count).sum::<u64>();
        if counts.len() == 1 && members.len() < 2 && self.merged.is_none() {
            return self.recounted(count);
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut more = Vec::new();
        // The newest of a group may have merged before, and be named after a key that another group counts.
        if counts.len() > 1 || counts.iter().any(|(key, _)| key.as_deref() != self.key()) {
            more.extend_from_slice(b",\"counts\":{");
            let keyed = counts.iter().filter_map(|(key, count)| Some((key.as_ref()?, count)));
            for (at, (key, count)) in keyed.enumerate() {
                more.extend_from_slice(if at > 0 { b"," } else { b"" });
                more.extend_from_slice(key);
                more.push(b':');
                more.extend_from_slice(itoa::Buffer::new().format(*count).as_bytes());
            }
            more.push(b'}');
        }
        if members.len() > 1 {
            more.extend_from_slice(b",\"members\":[");
            more.extend_from_slice(&members.join(&b','));
            more.push(b']');
        }
        let merged = Some(Arc::new(Merged { counts, members, len: place(more.len()) }));
        Arc::new(Frame { dc: None, origins: None, merged, ..self.spelled(count, Some(&more)) })
    }
}

/// A frame as a key of a table of what merges with it.
#[derive(Debug, Clone)]
pub struct ByIdentity(pub Arc<Frame>);

impl PartialEq for ByIdentity {
    fn eq(&self, other: &ByIdentity) -> bool {
        self.0.identity() == other.0.identity()
    }
}

impl Eq for ByIdentity {}

impl Hash for ByIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

/// The same of what merges with it over all keys.
#[derive(Debug, Clone)]
pub struct ByFamily(pub Arc<Frame>);

impl PartialEq for ByFamily {
    fn eq(&self, other: &ByFamily) -> bool {
        self.0.family() == other.0.family()
    }
}

impl Eq for ByFamily {}

impl Hash for ByFamily {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.family().hash(state);
    }
}

/// What goes as one event.
#[derive(Debug)]
struct Group {
    newest: Arc<Frame>,
    counts: Vec<(Key, u64)>,
    /// Members as JSON, each once, without the newest's: some of whom the older ones speak.
    members: Vec<Box<[u8]>>,
}

impl Group {
    fn bytes(&self) -> usize {
        self.newest.held() + held(&self.counts, &self.members)
    }

    fn name(&mut self, member: &[u8]) {
        if self.members.len() < SUM_MEMBERS_MAX && !self.members.iter().any(|named| **named == *member) {
            self.members.push(member.into());
        }
    }

    /// Takes the name of whom `frame` speaks.
    fn name_those_of(&mut self, frame: &Frame) {
        if self.members.len() >= SUM_MEMBERS_MAX {
            return;
        }
        match &frame.merged {
            Some(merged) if !merged.members.is_empty() => merged.members.iter().for_each(|member| self.name(member)),
            _ => frame.member().into_iter().for_each(|member| self.name(member)),
        }
    }

    fn frame(&self) -> Arc<Frame> {
        let mut members = Vec::new();
        let count: u64 = self.counts.iter().map(|(_, count)| count).sum();
        if !self.members.is_empty() && count <= SUM_NAMED_MAX {
            let newest = self.newest.member();
            members.extend(newest.map(Box::from));
            let others = self.members.iter().filter(|member| newest != Some(&***member)).cloned();
            members.extend(others.take(SUM_MEMBERS_MAX - members.len()));
        }
        self.newest.summed(self.counts.clone(), members)
    }
}

/// Events of one topic and type that merge: one event for each so many keys.
#[derive(Debug)]
pub struct Sums {
    groups: VecDeque<Group>,
    /// Groups that were handed out: the number of the first one.
    first: u32,
    /// Where each key is counted, once there is more than one group.
    places: Map<Key, u32>,
    keys: usize,
    count: u64,
    bytes: usize,
}

impl Sums {
    /// Of one event, or some that merged.
    pub fn of(frame: &Arc<Frame>, count: u64) -> Sums {
        let mut sums = Sums { groups: VecDeque::new(), first: 0, places: Map::default(), keys: 0, count: 0, bytes: 0 };
        sums.add(frame, count);
        sums
    }

    /// Adds an event that stands for `count`.
    pub fn add(&mut self, frame: &Arc<Frame>, count: u64) {
        let mut last = usize::MAX;
        frame.each_count(count, |key, count| {
            let place = self.count_key(frame, key, count);
            let group = &mut self.groups[place];
            if std::mem::replace(&mut last, place) == place || Arc::ptr_eq(&group.newest, frame) {
                return;
            }
            self.bytes -= group.bytes();
            // What came by another way may be older, and its total would be shown for good.
            let older = if group.newest.version() > frame.version() {
                Arc::clone(frame)
            } else {
                std::mem::replace(&mut group.newest, Arc::clone(frame))
            };
            group.name_those_of(&older);
            self.bytes += group.bytes();
        });
    }

    /// Counts events of one key. Gives the place of the group that does.
    fn count_key(&mut self, frame: &Arc<Frame>, key: Option<&[u8]>, count: u64) -> usize {
        self.count += count;
        let found = match self.groups.len() {
            0 => None,
            1 => Some(0),
            _ => self.places.get(&key.map(Arc::from)).map(|group| (group - self.first) as usize),
        };
        if let Some(group) = found
            && let Some((_, sum)) = self.groups[group].counts.iter_mut().find(|(known, _)| known.as_deref() == key)
        {
            *sum += if planted(Mistake::CountOfKeyDropped) { 0 } else { count };
            return group;
        }
        if self.groups.back().is_none_or(|group| group.counts.len() >= SUM_KEYS_MAX) {
            if self.groups.len() == 1 {
                let counts = &self.groups[0].counts;
                self.places.extend(counts.iter().map(|(key, _)| (key.clone(), self.first)));
            }
            let (newest, counts, members) = (Arc::clone(frame), Vec::new(), Vec::new());
            self.bytes += newest.held();
            self.groups.push_back(Group { newest, counts, members });
        }
        let key: Key = key.map(Arc::from);
        let group = self.groups.len() - 1;
        if group > 0 || self.first > 0 {
            self.places.insert(key.clone(), self.first + group as u32);
        }
        let count = if planted(Mistake::MergedCountLost) && self.keys > 0 { 0 } else { count };
        self.bytes += KEY_BYTES + key.as_ref().map_or(0, |key| key.len());
        self.groups[group].counts.push((key, count));
        self.keys += 1;
        group
    }

    /// Whether it counts all keys of a frame already.
    pub fn has_keys_of(&self, frame: &Frame) -> bool {
        let mut all = true;
        frame.each_count(1, |key, _| {
            all &= match self.groups.len() {
                1 => self.groups[0].counts.iter().any(|(known, _)| known.as_deref() == key),
                _ => self.places.contains_key(&key.map(Arc::from)),
            };
        });
        all
    }

    /// Keys that it counts.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Events that it stands for.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first of the events that it goes as.
    pub fn first(&self) -> Option<Arc<Frame>> {
        self.groups.front().map(Group::frame)
    }

    /// That one was handed out.
    pub fn pass_first(&mut self) {
        let Some(group) = self.groups.pop_front() else { return };
        self.first += 1;
        self.bytes -= group.bytes();
        self.keys -= group.counts.len();
        self.count -= group.counts.iter().map(|(_, count)| count).sum::<u64>();
        if !self.places.is_empty() {
            for (key, _) in &group.counts {
                self.places.remove(key);
            }
        }
    }

    /// Whether all was handed out.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The events that it goes as.
    pub fn frames(&self) -> impl Iterator<Item = Arc<Frame>> {
        self.groups.iter().map(Group::frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use serde_json::{Value, json};

    fn like(key: Option<&str>, member: &str) -> Arc<Frame> {
        let data = json!({"member": member, "reaction": key}).to_string();
        frame("live:1", "like", key, Class::Sum, &data)
    }

    fn merged(frames: &[Arc<Frame>]) -> Arc<Frame> {
        let mut sums = Sums::of(&frames[0], u64::from(frames[0].count()));
        frames[1..].iter().for_each(|frame| sums.add(frame, u64::from(frame.count())));
        assert_eq!(sums.frames().count(), 1);
        sums.first().expect("it has one")
    }

    fn read(frame: &Frame) -> Value {
        let chunk = format!("{:x}\r\n", frame.event().len());
        assert!(frame.bytes().starts_with(chunk.as_bytes()) && frame.bytes().ends_with(b"\r\n"));
        serde_json::from_str(frame.json()).expect("it is JSON")
    }

    #[test]
    fn a_merged_event_says_how_many_of_what_and_names_some() {
        let all = [
            like(Some("like"), "ana"),
            like(Some("like"), "bob"),
            like(Some("lo\"ve"), "eve"),
            like(Some("like"), "joe"),
        ];
        let sum = merged(&all);
        let expected = "{\"id\":\"i\",\"topic\":\"live:1\",\"type\":\"like\",\"key\":\"like\",\"at\":7,\"count\":4,\
            \"counts\":{\"like\":3,\"lo\\\"ve\":1},\"members\":[\"joe\",\"ana\",\"bob\"],\
            \"data\":{\"member\":\"joe\",\"reaction\":\"like\"}}";
        assert_eq!(sum.json(), expected);
        assert_eq!((sum.topic(), sum.kind(), sum.count()), ("live:1", "like", 4));
        // Merged events merge like others.
        let more = merged(&[sum, merged(&[like(Some("sad"), "kim"), like(None, "kim")])]);
        let event = read(&more);
        assert_eq!(
            (&event["count"], &event["counts"]),
            (&json!(6), &json!({"like": 3, "lo\"ve": 1, "sad": 1})),
            "the rest has no key"
        );
        assert_eq!((&event["members"], &event["key"]), (&json!(["kim", "joe", "ana"]), &Value::Null));
    }

    #[test]
    fn one_key_has_no_counts_and_one_member_no_list() {
        let ana = like(Some("like"), "ana");
        let same = merged(&[Arc::clone(&ana), like(Some("like"), "ana").recounted(6)]);
        assert_eq!(same.json(), ana.recounted(7).json());
        let event = read(&merged(&[ana, like(Some("like"), "bob")]));
        assert_eq!(
            (&event["count"], &event["counts"], &event["members"]),
            (&json!(2), &Value::Null, &json!(["bob", "ana"]))
        );
        let many = |count| read(&merged(&[like(Some("like"), "ana").recounted(count), like(Some("like"), "bob")]));
        assert_eq!(many(SUM_NAMED_MAX - 1)["members"], json!(["bob", "ana"]));
        assert_eq!(many(SUM_NAMED_MAX)["members"], Value::Null);
        let bare = frame("live:1", "beat", None, Class::Sum, "1");
        assert_eq!(merged(&[Arc::clone(&bare), Arc::clone(&bare)]).json(), bare.recounted(2).json());
    }

    #[test]
    fn a_seventeenth_key_goes_in_an_event_of_its_own() {
        let key = |number: usize| number.to_string();
        let mut sums = Sums::of(&like(Some(&key(0)), "ana"), 1);
        (1..=SUM_KEYS_MAX).for_each(|number| sums.add(&like(Some(&key(number)), "ana"), 1));
        sums.add(&like(Some(&key(3)), "bob"), 5);
        assert_eq!((sums.keys(), sums.count(), sums.frames().count()), (17, 22, 2));
        let first = read(&sums.first().unwrap());
        assert_eq!(
            (&first["count"], &first["counts"]["3"], &first["data"]["member"]),
            (&json!(21), &json!(6), &json!("bob"))
        );
        sums.pass_first();
        let own = read(&sums.first().unwrap());
        assert_eq!((&own["key"], &own["count"], &own["counts"]), (&json!("16"), &json!(1), &Value::Null));
        sums.add(&like(Some("3"), "bob"), 2);
        assert_eq!(
            read(&sums.first().unwrap())["counts"],
            json!({"16": 1, "3": 2}),
            "what was handed out is not counted on"
        );
        sums.pass_first();
        assert!(sums.is_empty() && (sums.keys(), sums.count(), sums.bytes()) == (0, 0, 0));
    }

    #[test]
    fn what_merged_before_is_counted_as_of_the_newest_key() {
        for (first, counts) in [(Some("new"), json!({"new": 1})), (None, json!({}))] {
            let key = |number: usize| number.to_string();
            let mut sums = Sums::of(&like(Some(&key(0)), "ana"), 1);
            (1..SUM_KEYS_MAX).for_each(|number| sums.add(&like(Some(&key(number)), "ana"), 1));
            // Its first key begins a group, and its newest is one of the group before.
            sums.add(&merged(&[like(first, "bob"), like(Some("3"), "bob")]), 2);
            assert_eq!((sums.keys(), sums.count(), sums.frames().count()), (17, 18, 2));
            assert_eq!(read(&sums.first().unwrap())["counts"]["3"], 2);
            sums.pass_first();
            let own = read(&sums.first().unwrap());
            assert_eq!((&own["count"], &own["counts"]), (&json!(1), &counts), "{own}");
        }
    }
}
