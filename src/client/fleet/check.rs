//! Checks one connection's deliveries: nothing lost, nothing twice, in order. Costs three numbers a connection as long
//! as all is well.
use std::ops::AddAssign;

/// Holes that a connection remembers so that a late event is told from a repeated one; the oldest beyond are forgotten,
/// and stay lost.
const HOLES_MAX: usize = 64;

/// What went wrong, and how much came, in events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Events received, merged ones with their count.
    pub received: u64,
    /// Bytes of streams, of whatever they are.
    pub bytes: u64,
    /// Frames that stood for more than one event.
    pub merged_frames: u64,
    /// Events that came in such frames.
    pub merged: u64,
    /// Events that never came.
    pub lost: u64,
    /// Events that had come before.
    pub duplicated: u64,
    /// Events that came after a later one of their topic.
    pub out_of_order: u64,
    /// Events that came after they had been counted as lost.
    pub late: u64,
    /// Events of a topic that the connection did not ask for.
    pub misrouted: u64,
    /// Likes: the least and the greatest total that connections show.
    pub totals: Option<(u64, u64)>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.bytes += other.bytes;
        self.merged_frames += other.merged_frames;
        self.merged += other.merged;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.late += other.late;
        self.misrouted += other.misrouted;
        if let Some((least, greatest)) = other.totals {
            self.shows(least);
            self.shows(greatest);
        }
    }
}

impl Tally {
    /// A connection shows this total.
    pub fn shows(&mut self, total: u64) {
        let (least, greatest) = self.totals.unwrap_or((total, total));
        self.totals = Some((least.min(total), greatest.max(total)));
    }

    /// Whether every delivery was right.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.misrouted == 0
    }
}

/// A connection's place in its topic's sequence.
#[derive(Debug)]
pub struct Checker {
    /// The number that is due next.
    next: u64,
    /// Numbers below this one are settled: counted as received or as lost.
    settled: u64,
    /// Likes: the total that a page would show, which never goes back because of one that comes late.
    shown: u64,
    /// Ranges (first, end) below `next` that have not come.
    #[allow(clippy::box_collection, reason = "holes are rare, and an idle connection pays 8 bytes for them, not 24")]
    holes: Option<Box<Vec<(u64, u64)>>>,
}

impl Checker {
    /// A checker for a connection that was there from number `first` on.
    pub fn new(first: u64) -> Self {
        Self { next: first, settled: first, shown: 0, holes: None }
    }

    /// Takes a frame of `count` events, the newest of which is `sequence`.
    pub fn take(&mut self, sequence: u64, count: u64, tally: &mut Tally) {
        tally.received += count;
        if count != 1 {
            tally.merged_frames += 1;
            tally.merged += count;
        }
        let end = sequence + 1;
        let mut first = end.saturating_sub(count);
        if first == self.next {
            self.next = end;
            return;
        }
        if first > self.next {
            let holes = self.holes.get_or_insert_default();
            if holes.len() == HOLES_MAX {
                // It is settled early, as lost.
                let (hole_first, hole_end) = holes.remove(0);
                tally.lost += hole_end - hole_first;
            }
            holes.push((self.next, first));
            self.next = end;
            return;
        }
        if first < self.settled {
            tally.late += self.settled.min(end) - first;
            first = self.settled.min(end);
        }
        let known_end = self.next.min(end);
        let known = known_end.saturating_sub(first);
        let filled = self.fill(first, known_end);
        tally.out_of_order += filled;
        tally.duplicated += known - filled;
        self.next = self.next.max(end);
    }

    /// Likes: the total that a page would show.
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Likes: a total was told.
    pub fn show(&mut self, total: u64) {
        self.shown = self.shown.max(total);
    }

    /// Takes a frame of `count` likes, whose order is not known: only how many came is checked.
    pub fn take_unordered(&mut self, count: u64, tally: &mut Tally) {
        tally.received += count;
        if count != 1 {
            tally.merged_frames += 1;
            tally.merged += count;
        }
        self.next += count;
    }

    /// Removes a range from the holes; returns how much of it was one.
    fn fill(&mut self, first: u64, end: u64) -> u64 {
        let Some(holes) = &mut self.holes else {
            return 0;
        };
        let mut filled = 0;
        let mut left = Vec::with_capacity(holes.len() + 1);
        for &(hole_first, hole_end) in holes.iter() {
            let (cut_first, cut_end) = (hole_first.max(first), hole_end.min(end));
            if cut_first >= cut_end {
                left.push((hole_first, hole_end));
                continue;
            }
            filled += cut_end - cut_first;
            left.extend([(hole_first, cut_first), (cut_end, hole_end)].iter().filter(|(from, to)| from < to));
        }
        self.holes = (!left.is_empty()).then(|| Box::new(left));
        filled
    }

    /// Counts as lost what has not come of the first `published` events of the topic, and goes on from there.
    pub fn settle(&mut self, published: u64, tally: &mut Tally) {
        for (first, end) in self.holes.take().into_iter().flat_map(|holes| *holes) {
            tally.lost += end - first;
        }
        tally.lost += published.saturating_sub(self.next);
        // More than was ever published can only be repeats.
        tally.duplicated += self.next.saturating_sub(published);
        self.next = published;
        self.settled = published;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(frames: &[(u64, u64)], published: u64) -> Tally {
        let mut checker = Checker::new(0);
        let mut tally = Tally::default();
        for &(sequence, count) in frames {
            checker.take(sequence, count, &mut tally);
        }
        checker.settle(published, &mut tally);
        tally
    }

    #[test]
    fn all_is_well() {
        let tally = run(&[(0, 1), (1, 1), (4, 3), (5, 1)], 6);
        assert!(tally.is_clean());
        assert_eq!((tally.received, tally.merged, tally.merged_frames), (6, 3, 1));
    }

    #[test]
    fn loss_is_seen_at_the_begin_in_the_middle_and_at_the_end() {
        assert_eq!(run(&[(1, 1), (2, 1)], 3).lost, 1);
        assert_eq!(run(&[(0, 1), (2, 1)], 3).lost, 1);
        assert_eq!(run(&[(0, 1), (1, 1)], 3).lost, 1);
        assert_eq!(run(&[], 3).lost, 3);
        assert_eq!(run(&[(3, 2)], 4).lost, 2, "a merged frame that counts too few");
    }

    #[test]
    fn repeats_are_seen() {
        let tally = run(&[(0, 1), (0, 1), (1, 1)], 2);
        assert_eq!((tally.duplicated, tally.lost, tally.out_of_order), (1, 0, 0));
        let tally = run(&[(0, 1), (1, 1), (2, 3)], 3);
        assert_eq!((tally.duplicated, tally.lost), (2, 0), "a merged frame with what came before");
        assert_eq!(run(&[(0, 1), (1, 1)], 1).duplicated, 1, "never published");
    }

    #[test]
    fn reordering_is_seen_and_is_no_loss() {
        let tally = run(&[(0, 1), (2, 1), (1, 1), (3, 1)], 4);
        assert_eq!((tally.out_of_order, tally.lost, tally.duplicated), (1, 0, 0));
    }

    #[test]
    fn what_comes_after_settling_is_late() {
        let mut checker = Checker::new(0);
        let mut tally = Tally::default();
        checker.take(0, 1, &mut tally);
        checker.settle(3, &mut tally);
        assert_eq!(tally.lost, 2);
        checker.take(2, 2, &mut tally);
        checker.take(3, 1, &mut tally);
        checker.settle(4, &mut tally);
        assert_eq!((tally.lost, tally.late, tally.duplicated), (2, 2, 0));
    }

    proptest! {
        /// Whatever comes in whatever order, the tally agrees with a count by hand.
        #[test]
        fn agrees_with_a_count_by_hand(sequences in proptest::collection::vec(0u64..60, 0..80)) {
            let frames: Vec<_> = sequences.iter().map(|sequence| (*sequence, 1)).collect();
            let tally = run(&frames, 60);
            let mut seen = std::collections::BTreeSet::new();
            let (mut repeats, mut reordered) = (0, 0);
            for sequence in &sequences {
                if seen.last().is_some_and(|last| sequence < last) && !seen.contains(sequence) {
                    reordered += 1;
                }
                repeats += u64::from(!seen.insert(*sequence));
            }
            prop_assert_eq!(tally.lost, 60 - seen.len() as u64);
            prop_assert_eq!(tally.duplicated, repeats);
            prop_assert_eq!(tally.out_of_order, reordered);
            prop_assert_eq!(tally.received, sequences.len() as u64);
        }
    }
}
