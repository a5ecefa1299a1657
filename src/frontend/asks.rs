//! Who waits for a part of a topic's history, at the topic's home: each asks once at a time, and whoever has no use for the
//! answer any more is forgotten. Looking for one does not depend on how many there are.

use std::collections::BTreeSet;
use std::hash::Hash;

use crate::runtime::random::Map;
use crate::wire::position::Position;

/// What an asker asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking<A> {
    /// Who.
    pub asker: A,
    /// What followed this position,
    pub after: Position,
    /// up to so many bytes.
    pub bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Table<A> {
    askers: Map<A, (Position, usize)>,
    by_position: BTreeSet<(Position, A)>,
}

/// Those who wait. Most topics have none, and cost a pointer.
#[derive(Debug)]
pub struct Asks<A>(Option<Box<Table<A>>>);

impl<A> Default for Asks<A> {
    fn default() -> Asks<A> {
        Asks(None)
    }
}

impl<A: Copy + Eq + Hash + Ord> Asks<A> {
    /// Somebody waits; what the same asker waited for before it does not any more.
    pub fn insert(&mut self, asking: Asking<A>) {
        self.remove(asking.asker);
        let new = || Box::new(Table { askers: Map::default(), by_position: BTreeSet::new() });
        let table = self.0.get_or_insert_with(new);
        table.askers.insert(asking.asker, (asking.after, asking.bytes));
        table.by_position.insert((asking.after, asking.asker));
    }

    /// An asker does not wait any more.
    pub fn remove(&mut self, asker: A) {
        let Some(table) = &mut self.0 else { return };
        if let Some((after, _)) = table.askers.remove(&asker) {
            table.by_position.remove(&(after, asker));
        }
        if table.askers.is_empty() {
            self.0 = None;
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.askers.len())
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Who waits for the earliest part.
    pub fn first(&self) -> Option<Asking<A>> {
        let table = self.0.as_ref()?;
        let (after, asker) = *table.by_position.first()?;
        let (_, bytes) = table.askers[&asker];
        Some(Asking { asker, after, bytes })
    }

    /// Takes out those who wait for what follows a position from `from` on and before `to`; without that, all from there on.
    pub fn take(&mut self, from: Position, to: Option<Position>) -> Vec<Asking<A>> {
        let Some(table) = &mut self.0 else { return Vec::new() };
        let mut taken = Vec::new();
        let behind = |at: &(Position, A)| at.0 >= from && to.is_none_or(|to| at.0 < to);
        // Whoever waits for an earlier part came after that was read, so there are few of them.
        let found: Vec<_> =
            table.by_position.iter().skip_while(|at| at.0 < from).take_while(|at| behind(at)).copied().collect();
        for (after, asker) in found {
            table.by_position.remove(&(after, asker));
            let (_, bytes) = table.askers.remove(&asker).expect("both hold the same");
            taken.push(Asking { asker, after, bytes });
        }
        if table.askers.is_empty() {
            self.0 = None;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list.
        #[test]
        fn holds_each_asker_once_and_gives_those_of_a_part(
            steps in prop::collection::vec((0u8..4, 0u32..12, 0u64..20, 0u64..20), 1..120),
        ) {
            let (mut asks, mut model) = (Asks::default(), Vec::<(u32, u64)>::new());
            for (what, asker, one, other) in steps {
                match what {
                    0 | 1 => {
                        asks.insert(Asking { asker, after: Position::at(one), bytes: 7 });
                        model.retain(|(who, _)| *who != asker);
                        model.push((asker, one));
                    }
                    2 => {
                        asks.remove(asker);
                        model.retain(|(who, _)| *who != asker);
                    }
                    _ => {
                        let to = (other > 3).then(|| Position::at(other));
                        let mut taken: Vec<_> = asks.take(Position::at(one), to).iter().map(|ask| ask.asker).collect();
                        let inside = |at: u64| at >= one && to.is_none_or(|to| Position::at(at) < to);
                        let mut due: Vec<_> = model.extract_if(.., |(_, at)| inside(*at)).map(|(who, _)| who).collect();
                        taken.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(taken, due);
                    }
                }
                prop_assert_eq!(asks.is_empty(), model.is_empty());
                prop_assert_eq!(asks.first().map(|ask| ask.after), model.iter().map(|(_, at)| Position::at(*at)).min());
            }
        }
    }
}
