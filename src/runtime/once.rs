//! A queue in which each is once.

use crate::runtime::random::Set;
use crate::runtime::shrink::shrink;
use std::collections::VecDeque;
use std::hash::Hash;

/// A queue in which each thing waits at most once.
#[derive(Debug)]
pub struct Once<T> {
    queue: VecDeque<T>,
    waiting: Set<T>,
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once { queue: VecDeque::new(), waiting: Set::default() }
    }
}

impl<T: Clone + Eq + Hash> Once<T> {
    /// Adds one, unless it waits already.
    pub fn push(&mut self, one: T) {
        if self.waiting.insert(one.clone()) {
            self.queue.push_back(one);
        }
    }

    /// The one that waits longest.
    pub fn pop(&mut self) -> Option<T> {
        let one = self.queue.pop_front()?;
        self.waiting.remove(&one);
        shrink(&mut self.queue);
        shrink(&mut self.waiting);
        Some(one)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_twice() {
        let mut once = Once::default();
        [1, 2, 1, 3, 2].into_iter().for_each(|one| once.push(one));
        assert_eq!((once.len(), once.pop()), (3, Some(1)));
        once.push(1);
        assert_eq!(std::iter::from_fn(|| once.pop()).collect::<Vec<_>>(), [2, 3, 1]);
        assert!(once.is_empty());
    }
}
