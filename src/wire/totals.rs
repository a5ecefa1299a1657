//! Totals of likes, as nodes tell them and viewers are shown them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one data center, or all, have.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sums {
    pub(crate) likes: u64,
    pub(crate) reactions: BTreeMap<String, u64>,
    pub(crate) taps: BTreeMap<String, u64>,
}

impl Sums {
    pub(crate) fn add(&mut self, more: Sums) {
        self.likes = self.likes.saturating_add(more.likes);
        for (sums, more) in [(&mut self.reactions, more.reactions), (&mut self.taps, more.taps)] {
            for (name, count) in more {
                let sum = sums.entry(name).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}
