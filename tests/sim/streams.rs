//! Streams of chance: one for each thing that draws, so that what one draws, or that it draws no more, leaves the others' as
//! they were.

use std::collections::BTreeMap;

use fanfare::runtime::random::Random;

/// Seeds of parts differ though they come from one.
pub fn part(seed: u64, number: u64) -> u64 {
    Random::new(seed.wrapping_mul(31).wrapping_add(number)).number()
}

/// Streams of one seed, by the numbers of those who draw.
#[derive(Debug)]
pub struct Streams {
    seed: u64,
    streams: BTreeMap<u64, Random>,
}

impl Streams {
    pub fn new(seed: u64) -> Streams {
        Streams { seed, streams: BTreeMap::new() }
    }

    /// The stream of one of them.
    pub fn of(&mut self, number: u64) -> &mut Random {
        let seed = self.seed;
        self.streams.entry(number).or_insert_with(|| Random::new(part(seed, number)))
    }
}
