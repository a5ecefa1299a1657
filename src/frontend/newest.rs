//! The newest value of each type and key of one topic: what a new subscriber gets, in pages as its socket drains.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::Newer;
use crate::limits::{LATEST_KEYS_MAX, NEWEST_ENTRY_BYTES};
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::random::Map;
use crate::wire::frame::{ByIdentity, Frame};

/// A place in the order in which a topic's newest values came: behind some of them and before the others.
pub type Turn = u64;

/// Whose memory the values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// They are kept here, so their bytes count here.
    Own,
    /// The topic's home on this node keeps them for as long; only the places in the table count.
    Shared,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// It is the newest of its type and key.
    Kept,
    /// It is the newest, but there is no memory to keep it: who comes later does not get it at once. It was counted.
    NotKept,
    /// A newer one, or this one, is known.
    Known,
}

impl Taken {
    /// Viewers are to get it.
    pub fn is_news(self) -> bool {
        self != Taken::Known
    }
}

#[derive(Debug)]
struct Table {
    turns: Map<ByIdentity, Turn>,
    /// A value that is replaced moves to the end.
    values: BTreeMap<Turn, Arc<Frame>>,
    next: Turn,
    /// Some value is not kept.
    lacks: bool,
    /// The highest number of a version that came.
    version: u64,
    held: Reservation,
}

/// A topic's newest values. Most topics have none, and cost a pointer.
#[derive(Debug, Default)]
pub struct Newest {
    table: Option<Box<Table>>,
}

/// The bytes that a value counts with.
fn size(frame: &Frame, keeping: Keeping) -> usize {
    match keeping {
        Keeping::Own => NEWEST_ENTRY_BYTES + frame.bytes().len(),
        Keeping::Shared => NEWEST_ENTRY_BYTES,
    }
}

impl Table {
    fn remove(&mut self, turn: Turn, keeping: Keeping) -> Option<Arc<Frame>> {
        let frame = self.values.remove(&turn)?;
        self.turns.remove(&ByIdentity(Arc::clone(&frame)));
        self.held.settle(self.held.bytes() - size(&frame, keeping));
        Some(frame)
    }
}

impl Newest {
    /// Takes a value of class `latest`, whose bytes are reserved first. Where there is no room the topic's oldest values
    /// make it, and if that does not do it is not kept.
    pub fn take(&mut self, frame: &Arc<Frame>, keeping: Keeping, account: &Account) -> Taken {
        let table = self.table.get_or_insert_with(|| {
            let (turns, values) = Default::default();
            Box::new(Table { turns, values, next: 1, lacks: false, version: 0, held: account.open(Use::Topics) })
        });
        table.version = table.version.max(frame.version().number);
        let key = ByIdentity(Arc::clone(frame));
        let known = table.turns.get(&key).copied();
        if let Some(turn) = known {
            if !frame.replaces(&table.values[&turn]) {
                return Taken::Known;
            }
            table.remove(turn, keeping);
        }
        if table.values.len() >= LATEST_KEYS_MAX
            && let Some(oldest) = table.values.iter().min_by_key(|(_, frame)| frame.version()).map(|(turn, _)| *turn)
        {
            table.remove(oldest, keeping);
        }
        while table.held.grow(size(frame, keeping)).is_err() {
            table.lacks = true;
            let Some((&oldest, _)) = table.values.first_key_value() else { return Taken::NotKept };
            table.remove(oldest, keeping);
        }
        table.turns.insert(key, table.next);
        table.values.insert(table.next, Arc::clone(frame));
        table.next += 1;
        Taken::Kept
    }

    /// Those of a type are of no use any more to who comes. Gives the highest number of a version among them; 0 where there are
    /// none.
    pub fn forget(&mut self, kind: &str, keeping: Keeping) -> u64 {
        let Some(table) = &mut self.table else { return 0 };
        let of_kind = table.values.iter().filter(|(_, frame)| frame.kind() == kind);
        let turns: Vec<Turn> = of_kind.map(|(turn, _)| *turn).collect();
        let removed = turns.into_iter().filter_map(|turn| table.remove(turn, keeping));
        removed.map(|frame| frame.version().number).max().unwrap_or(0)
    }

    /// What there is newer than a version; nothing where some are not kept.
    pub fn newer(&self, after: u64) -> Option<Newer> {
        let Some(table) = &self.table else { return Some(Newer::default()) };
        (!table.lacks).then(|| Newer::of(table.values.values().map(|frame| frame.version().number), after))
    }

    /// Those behind a place, in the order in which they came, each with the place behind it.
    pub fn behind(&self, place: Turn) -> impl Iterator<Item = (Turn, &Arc<Frame>)> {
        let values = self.table.iter().flat_map(move |table| table.values.range(place + 1..));
        values.map(|(turn, frame)| (*turn, frame))
    }

    /// Whether one of those behind a place takes the place of this value, or is it.
    pub fn has_behind(&self, place: Turn, frame: &Arc<Frame>) -> bool {
        let turn = self.table.as_ref().and_then(|table| table.turns.get(&ByIdentity(Arc::clone(frame))));
        turn.is_some_and(|turn| *turn > place)
    }

    /// The highest number of a version that came, whether or not it is kept; 0 if none did.
    pub fn version(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.version)
    }

    /// The place behind all of them.
    pub fn end(&self) -> Turn {
        self.table.as_ref().map_or(0, |table| table.next - 1)
    }

    /// All of them, in the order in which they came.
    pub fn values(&self) -> Vec<Arc<Frame>> {
        self.behind(0).map(|(_, frame)| Arc::clone(frame)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::Event;
    use crate::wire::version::Version;
    use proptest::prelude::*;

    fn value(key: &str, number: u64) -> Arc<Frame> {
        of_center(key, Version { number, dc: "" })
    }

    fn of_center(key: &str, version: Version<'_>) -> Arc<Frame> {
        let (id, topic, kind, class) = ("i", "live:1", "viewers", Class::Latest);
        let event = Event {
            id,
            topic,
            kind,
            key: Some(key),
            at: 7,
            data: b"1",
            class,
            ttl_ms: 0,
            place: None,
            version,
            hops: None,
        };
        Arc::new(Frame::encode(&event))
    }

    fn versions(newest: &Newest) -> Vec<u64> {
        newest.values().iter().map(|frame| frame.version().number).collect()
    }

    #[test]
    fn older_values_are_ignored() {
        let (account, mut newest) = (Account::unbounded(), Newest::default());
        assert!(newest.values().is_empty());
        for (key, version, taken) in [("a", 5, true), ("a", 5, false), ("a", 4, false), ("b", 3, true), ("a", 6, true)]
        {
            assert_eq!(newest.take(&value(key, version), Keeping::Own, &account).is_news(), taken, "{key} {version}");
        }
        assert_eq!(versions(&newest), [3, 6]);
        assert_eq!([0, 3, 5, 6].map(|version| newest.newer(version).map(|newer| newer.beyond)), [9, 3, 1, 0].map(Some));
        assert_eq!(newest.take(&value("a", 0), Keeping::Own, &account), Taken::Kept, "one without a version is newer");
    }

    #[test]
    fn of_values_with_one_number_the_data_center_decides() {
        for order in [["a", "b"], ["b", "a"]] {
            let (account, mut newest) = (Account::unbounded(), Newest::default());
            let take = |dc| newest.take(&of_center("k", Version { number: 5, dc }), Keeping::Own, &account);
            assert_eq!(order.map(take), [Taken::Kept, if order[0] == "a" { Taken::Kept } else { Taken::Known }]);
            assert_eq!(newest.values()[0].version().dc, "b");
        }
    }

    #[test]
    fn their_number_is_bounded_and_the_oldest_goes() {
        let (account, mut newest) = (Account::unbounded(), Newest::default());
        for number in 0..LATEST_KEYS_MAX as u64 + 5 {
            assert_eq!(newest.take(&value(&number.to_string(), number + 1), Keeping::Shared, &account), Taken::Kept);
        }
        let values = versions(&newest);
        assert_eq!((values.len(), values[0]), (LATEST_KEYS_MAX, 6));
        assert_eq!(account.held(Use::Topics), LATEST_KEYS_MAX * NEWEST_ENTRY_BYTES);
        drop(newest);
        assert_eq!(account.held(Use::Topics), 0);
    }

    #[test]
    fn what_finds_no_room_takes_that_of_the_oldest_of_its_topic_and_of_no_other() {
        let each = size(&value("a", 1), Keeping::Own);
        let account = Account::new([3 * each; Use::ALL.len()]);
        let (mut newest, mut other) = (Newest::default(), Newest::default());
        assert_eq!(other.take(&value("x", 1), Keeping::Own, &account), Taken::Kept);
        for (key, version) in [("a", 1), ("b", 2), ("c", 3), ("b", 4)] {
            assert_eq!(newest.take(&value(key, version), Keeping::Own, &account), Taken::Kept);
        }
        assert_eq!((versions(&newest), versions(&other), newest.newer(0)), (vec![3, 4], vec![1], None));
        let mut third = Newest::default();
        assert_eq!(third.take(&value("z", 9), Keeping::Own, &account), Taken::NotKept);
        assert_eq!((third.values().len(), account.held(Use::Topics)), (0, 3 * each));
        assert!(account.refused(Use::Topics) > 0);
    }

    proptest! {
        /// Whoever reads page by page while values change: in the end each key was seen as it was at the end, or later, or
        /// it came after the reader began, and so comes live; and no key goes back.
        #[test]
        fn pages_show_all_and_nothing_twice_in_the_wrong_order(
            before in prop::collection::vec(0u8..20, 0..40),
            steps in prop::collection::vec(prop::option::of(0u8..20), 0..60),
        ) {
            let (account, mut newest, mut version) = (Account::unbounded(), Newest::default(), 0);
            let mut put = |newest: &mut Newest, key: u8| {
                version += 1;
                assert_eq!(newest.take(&value(&key.to_string(), version), Keeping::Own, &account), Taken::Kept);
                version
            };
            let (mut held, mut shown) = (Map::default(), Map::default());
            for key in before {
                held.insert(key, put(&mut newest, key));
            }
            let (mut at, until) = (0, newest.end());
            let read = |newest: &Newest, at: &mut Turn, shown: &mut Map<Vec<u8>, u64>| {
                let Some((turn, frame)) = newest.behind(*at).next().filter(|(turn, _)| *turn <= until) else { return false };
                *at = turn;
                let last = shown.insert(frame.identity().to_vec(), frame.version().number);
                assert!(last.is_none_or(|last| last < frame.version().number));
                true
            };
            let mut live = Map::default();
            for step in steps {
                match step {
                    Some(key) => { live.insert(key, put(&mut newest, key)); }
                    None => { read(&newest, &mut at, &mut shown); }
                }
            }
            while read(&newest, &mut at, &mut shown) {}
            for (key, version) in held {
                let seen = shown.get(value(&key.to_string(), 1).identity()).copied();
                prop_assert!(seen == Some(version) || live.contains_key(&key), "{} {:?}", key, seen);
            }
        }
    }
}
