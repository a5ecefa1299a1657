//! What is to happen, in the order of its time, and of being planned where that is the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The time of a world, in nanoseconds since it began, as all its parts read it.
#[derive(Debug, Clone, Default)]
pub struct Now(Arc<AtomicU64>);

impl Now {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// Something planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    pub at: u64,
    number: u64,
    slot: usize,
}

/// What is planned lies still in its slot, since the heap moves all that it holds again and again.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Each with its number, by which one that took a slot anew is told from the one before.
    slots: Vec<Option<(u64, T)>>,
    free: Vec<usize>,
    planned: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Agenda<T> {
        Agenda { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), planned: 0 }
    }
}

impl<T> Agenda<T> {
    pub fn plan(&mut self, at: u64, what: T) -> Planned {
        self.planned += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some((self.planned, what));
        self.heap.push(Reverse((at, self.planned, slot)));
        Planned { at, number: self.planned, slot }
    }

    /// It does not happen, unless it did.
    pub fn cancel(&mut self, planned: Planned) {
        self.take(planned.slot, planned.number);
    }

    /// The next one that is due by then, and its time.
    pub fn next(&mut self, until: u64) -> Option<(u64, T)> {
        loop {
            let Reverse((at, number, slot)) = self.heap.peek().copied().filter(|Reverse((at, ..))| *at <= until)?;
            self.heap.pop();
            if let Some(what) = self.take(slot, number) {
                return Some((at, what));
            }
        }
    }

    fn take(&mut self, slot: usize, number: u64) -> Option<T> {
        let (_, what) = self.slots[slot].take_if(|(holds, _)| *holds == number)?;
        self.free.push(slot);
        Some(what)
    }
}
