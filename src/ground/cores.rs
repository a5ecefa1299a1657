//! Sets of cores.

/// A set of cores of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreSet(pub(crate) u128);

impl CoreSet {
    /// The set of one core.
    pub fn of(core: usize) -> CoreSet {
        CoreSet(1 << core)
    }

    /// Whether no core is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `core` is in it.
    pub fn contains(self, core: usize) -> bool {
        self.0 >> core & 1 == 1
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// With or without `core`.
    #[must_use]
    pub fn with(self, core: usize, present: bool) -> CoreSet {
        if present { CoreSet(self.0 | 1 << core) } else { CoreSet(self.0 & !(1 << core)) }
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: CoreSet) -> CoreSet {
        CoreSet(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: CoreSet) -> CoreSet {
        CoreSet(self.0 & other.0)
    }

    /// What is in this one alone.
    #[must_use]
    pub fn without(self, other: CoreSet) -> CoreSet {
        CoreSet(self.0 & !other.0)
    }

    /// Its members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let core = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            (core < 128).then_some(core)
        })
    }

    /// The member that puts this topic's events in order: the same one on every core, another one for another topic, and
    /// one that has viewers itself, so that ordering costs no extra crossing. `None` for the empty set.
    pub fn sequencer(self, topic_hash: u64) -> Option<usize> {
        let count = self.len();
        if count == 0 {
            return None;
        }
        self.iter().nth((topic_hash % count as u64) as usize)
    }
}
