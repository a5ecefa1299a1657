//! Histograms that one shard writes and anyone reads.

use super::metrics::Counter;

/// Upper bounds of the buckets in microseconds: fine around the 75 ms that the design asks for, and coarse elsewhere.
pub const BOUNDS_US: [u64; 17] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Finer ones, for parts of an event's way: within a node they take microseconds.
pub const FINE_BOUNDS_US: [u64; 17] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// How long something took, counted in buckets, which may be fine ones.
#[derive(Debug, Default)]
pub struct Histogram<const FINE: bool = false> {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl<const FINE: bool> Histogram<FINE> {
    const BOUNDS_US: [u64; 17] = if FINE { FINE_BOUNDS_US } else { BOUNDS_US };

    /// Counts one that took so many microseconds.
    #[inline]
    pub fn observe(&self, us: u64) {
        self.buckets[Self::BOUNDS_US.partition_point(|bound| *bound < us)].add(1);
        self.sum_us.add(us);
    }

    /// Each bucket's own count.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::get)
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// The sum in seconds, the count, and each bucket's upper bound in seconds with its own count.
    pub fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = Self::BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum_us.get() as f64 / 1e6, count, buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::<false>::default();
        for us in [0, 500, 501, 30_000_000, 30_000_001] {
            histogram.observe(us);
        }
        let (sum, count, buckets) = histogram.read();
        assert_eq!((sum, count), (60.001_002, 5));
        assert_eq!((buckets[0], buckets[1], buckets[16].1, buckets[17].1), ((0.000_5, 2), (0.001, 1), 1, 1));
    }
}
