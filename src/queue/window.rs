//! What this node has of each sender's frames, so that a batch sent again repeats nothing: a window of numbers, not of time, as those
//! are in which likes merge.
//!
//! A sender never runs more than [`NUMBERS_AHEAD_MAX`] ahead of its oldest unanswered number, so one bit for each of so
//! many numbers tells new from seen; what lies below is seen.

use std::hash::Hash;
use std::time::Instant;

use crate::limits::{NUMBERS_AHEAD_MAX, WINDOW_IDLE, WINDOWS_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;

const WORDS: usize = (NUMBERS_AHEAD_MAX / 64) as usize;

/// What was seen of one sender.
#[derive(Debug)]
pub struct Window {
    /// Below this everything was seen, or will never come.
    floor: u64,
    /// The numbers from `floor` on, each at its remainder.
    bits: Box<[u64; WORDS]>,
    heard: Instant,
}

impl Window {
    /// For a sender whose oldest unanswered number is `floor`.
    pub fn new(floor: u64, now: Instant) -> Window {
        Window { floor, bits: Box::new([0; WORDS]), heard: now }
    }

    fn place(number: u64) -> (usize, u64) {
        let at = number % NUMBERS_AHEAD_MAX;
        ((at / 64) as usize, 1 << (at % 64))
    }

    /// What the sender says is answered, or given up, needs no bit any more.
    pub fn advance(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        if floor - self.floor >= NUMBERS_AHEAD_MAX {
            self.bits.fill(0);
        } else {
            for number in self.floor..floor {
                let (word, bit) = Window::place(number);
                self.bits[word] &= !bit;
            }
        }
        self.floor = floor;
    }

    /// Moves the window on to where `number` is its last one, unless it is within. For senders whose oldest unanswered
    /// number nobody knows here: then the newest number seen says where the window is (RFC 4303, section 3.4.3).
    pub fn reach(&mut self, number: u64) {
        self.advance(number.saturating_sub(NUMBERS_AHEAD_MAX - 1));
    }

    /// Whether `number` was not seen yet. Numbers [`NUMBERS_AHEAD_MAX`] or more ahead of the floor are not the window's.
    pub fn is_new(&self, number: u64) -> bool {
        let (word, bit) = Window::place(number);
        if planted(Mistake::SeenIgnored) {
            return true;
        }
        number >= self.floor && number - self.floor < NUMBERS_AHEAD_MAX && self.bits[word] & bit == 0
    }

    /// Notes that `number`, which is new, was seen.
    pub fn see(&mut self, number: u64) {
        debug_assert!(self.is_new(number));
        let (word, bit) = Window::place(number);
        self.bits[word] |= bit;
    }
}

/// The windows of the senders that one shard answers for: 8 KiB each. `Sender` says how they were authenticated: nodes of
/// this data center and dispatchers of another one have names of two types, and so windows that do not mix.
#[derive(Debug)]
pub struct Windows<Sender> {
    senders: Map<(Sender, u16), Window>,
}

impl<Sender> Default for Windows<Sender> {
    fn default() -> Windows<Sender> {
        Windows { senders: Map::default() }
    }
}

impl<Sender: Copy + Eq + Hash> Windows<Sender> {
    /// The window of a sender whose batch says that its oldest unanswered number is `floor`; moved up to there.
    pub fn of(&mut self, sender: Sender, shard: u16, floor: u64, now: Instant) -> &mut Window {
        if self.senders.len() >= WINDOWS_MAX && !self.senders.contains_key(&(sender, shard)) {
            // More senders than any cluster has: the one silent for longest has the least to repeat.
            let oldest = self.senders.iter().min_by_key(|(_, window)| window.heard).map(|(key, _)| *key);
            oldest.and_then(|key| self.senders.remove(&key));
        }
        let window = self.senders.entry((sender, shard)).or_insert_with(|| Window::new(floor, now));
        window.heard = now;
        window.advance(floor);
        window
    }

    /// Forgets senders that `is_alive` does not know and that were silent for [`WINDOW_IDLE`]: their names never come
    /// back, and what they sent before has come or never will.
    pub fn tidy(&mut self, now: Instant, is_alive: impl Fn(Sender) -> bool) {
        self.senders
            .retain(|(node, _), window| now.saturating_duration_since(window.heard) < WINDOW_IDLE || is_alive(*node));
    }

    /// Senders known.
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::connection_id::NodeId;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn senders_are_forgotten_once_they_are_gone_and_silent() {
        let (mut windows, now) = (Windows::default(), Instant::now());
        for node in [1, 2] {
            windows.of(NodeId(node), 0, 5, now).see(5);
        }
        windows.tidy(now + WINDOW_IDLE - Duration::from_millis(1), |_| false);
        assert_eq!(windows.len(), 2);
        windows.tidy(now + WINDOW_IDLE, |node| node == NodeId(2));
        assert!(windows.len() == 1 && !windows.of(NodeId(2), 0, 5, now).is_new(5));
        for node in 0..WINDOWS_MAX as u64 + 9 {
            windows.of(NodeId(node), 1, 0, now + Duration::from_millis(node));
        }
        assert_eq!(windows.len(), WINDOWS_MAX);
    }

    proptest! {
        /// Against a set of all numbers ever seen.
        #[test]
        fn tells_new_from_seen(ops in prop::collection::vec((0u64..NUMBERS_AHEAD_MAX, 0u64..1000, any::<bool>(), any::<bool>()), 1..400)) {
            let (mut window, mut floor, mut seen) = (Window::new(10, Instant::now()), 10u64, HashSet::new());
            for (ahead, step, near, leap) in ops {
                floor += if leap && step < 5 { step * NUMBERS_AHEAD_MAX / 2 } else { step % 7 };
                window.advance(floor);
                let number = floor + if near { ahead % 100 } else { ahead };
                prop_assert_eq!(window.is_new(number), seen.insert(number), "{}", number);
                if window.is_new(number) {
                    window.see(number);
                }
                prop_assert!(!window.is_new(floor - 1) && !window.is_new(floor + NUMBERS_AHEAD_MAX));
            }
        }
    }
}
