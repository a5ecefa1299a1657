//! What a backend publishes so that frontends see whether any of it is lost: every second, by each dispatcher that it knows and in
//! the way of all its events, one of each class, and some of class `sum`. One shard of a backend does so.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::Backend;
use crate::ground::Ground;
use crate::ground::own::Own;
use crate::ground::publishing::Publisher;
use crate::limits::{CANARY_DISPATCHERS_MAX, CANARY_SETTLED, CANARY_SUMS, TICK};
use crate::runtime::random::Map;
use crate::wire::canary::{Note, Settled, Sums, TYPES, group, key, topic};
use crate::wire::event::Class;

/// Ticks of a second, over which sums are spread.
const TICKS: u64 = 1000 / TICK.as_millis() as u64;

/// A dispatcher by which canaries go.
#[derive(Debug)]
struct Way {
    since: u64,
    /// The last of class `every`.
    every: u64,
    /// It is yet to be taken, and the next one waits.
    waits: bool,
    /// How it stood in each of the last rounds.
    taken: VecDeque<u64>,
    /// Sums by group, the newest last.
    sums: VecDeque<Sums>,
}

impl Way {
    fn begin(round: u64) -> Way {
        Way { since: round, every: round - 1, waits: false, taken: VecDeque::new(), sums: VecDeque::new() }
    }

    /// The number of the next one of class `every`, unless the last one is still on its way.
    fn next_every(&mut self) -> Option<u64> {
        let last = self.every - u64::from(self.waits);
        self.taken.push_back(last);
        if self.taken.len() as u64 > CANARY_SETTLED + 1 {
            self.taken.pop_front();
        }
        if std::mem::replace(&mut self.waits, true) {
            return None;
        }
        self.every += 1;
        Some(self.every)
    }

    /// What became of one. One that was not taken is published again.
    fn told(&mut self, number: u64, is_taken: bool) {
        if self.waits && number == self.every {
            self.waits = false;
            self.every -= u64::from(!is_taken);
        }
    }

    fn count(&mut self, group: u64, count: u64) {
        match self.sums.back_mut().filter(|sums| sums.group == group) {
            Some(sums) => sums.count += count,
            None => self.sums.push_back(Sums { group, count }),
        }
    }

    /// What of it is to have come by a round.
    fn settled(&mut self, by: SocketAddr, round: u64) -> Settled {
        let over = round.saturating_sub(CANARY_SETTLED);
        while self.sums.get(1).is_some_and(|next| next.group < group(over)) {
            self.sums.pop_front();
        }
        Settled {
            by,
            since: self.since,
            every: self.taken.front().copied().unwrap_or(self.since - 1),
            sums: self.sums.front().copied().filter(|sums| sums.group < group(over)),
        }
    }
}

/// A backend's canaries.
#[derive(Debug, Default)]
pub struct Canaries {
    /// The seconds since it began.
    round: u64,
    /// Ticks of the present one.
    tick: u64,
    ways: Map<SocketAddr, Way>,
}

impl Backend {
    /// Once a tick.
    pub(crate) fn tick_canaries(&mut self, ground: &mut Ground) {
        let is_here = ground.id as u64 == ground.node.id.0 % ground.node.shards() as u64;
        if !is_here || !ground.live.canary || ground.is_draining() {
            return;
        }
        let ways = Self::ways(ground);
        let canaries = &mut self.canaries;
        canaries.tick = (canaries.tick + 1) % TICKS;
        let begins = canaries.tick == 1;
        if begins {
            canaries.round += 1;
            canaries.ways.retain(|by, _| ways.contains(by));
        }
        let round = canaries.round;
        if round == 0 {
            return;
        }
        if begins {
            ways.iter().for_each(|by| {
                canaries.ways.entry(*by).or_insert_with(|| Way::begin(round));
            });
            self.publish_round(ground, &ways);
        }
        self.publish_sums(ground, &ways);
    }

    /// The dispatchers by which it publishes: itself, or those that the settings name.
    fn ways(ground: &Ground) -> Vec<SocketAddr> {
        if ground.node.roles.dispatcher {
            return vec![ground.node.internal];
        }
        ground.cluster.dispatchers.iter().take(CANARY_DISPATCHERS_MAX).copied().collect()
    }

    fn note(ground: &Ground, by: SocketAddr, number: u64) -> Note {
        Note {
            backend: ground.node.name.clone(),
            url: ground.node.info.as_ref().map(|info| info.url.to_string()).unwrap_or_default(),
            by,
            number,
            sent_us: ground.unix_us(),
            settled: Vec::new(),
        }
    }

    /// What there is one of a second, by each way.
    fn publish_round(&mut self, ground: &mut Ground, ways: &[SocketAddr]) {
        let canaries = &mut self.canaries;
        let round = canaries.round;
        let mut settled = Vec::with_capacity(ways.len());
        for by in ways {
            let Some(way) = canaries.ways.get_mut(by) else { continue };
            if let Some(number) = way.next_every() {
                let publisher = Publisher::Canary { by: *by, every: Some(number) };
                let id = Some(format!("{} {by} {number}", ground.node.name));
                let note = Self::note(ground, *by, number);
                ground.publish_canary(Class::Every, number, None, id, &note, publisher);
            }
            settled.push(way.settled(*by, round));
        }
        for by in ways {
            let note = Self::note(ground, *by, round);
            let publisher = Publisher::Canary { by: *by, every: None };
            // One value a pair, by names that stay.
            let pair = format!("{} {by}", note.url);
            ground.publish_canary(Class::Latest, round, Some(pair), None, &note, publisher.clone());
            let note = Note { settled: settled.clone(), ..note };
            ground.publish_canary(Class::Ephemeral, round, None, None, &note, publisher);
        }
    }

    /// This tick's part of what is counted.
    fn publish_sums(&mut self, ground: &mut Ground, ways: &[SocketAddr]) {
        let canaries = &mut self.canaries;
        let (round, tick) = (canaries.round, canaries.tick);
        let backends = ground.alive.iter().filter(|node| node.is("backend")).count().max(1);
        let each = CANARY_SUMS.div_ceil((backends * ways.len().max(1)) as u64);
        // The first tick of a second has number 1, the last 0.
        let place = (tick + TICKS - 1) % TICKS;
        let count = each * (place + 1) / TICKS - each * place / TICKS;
        for by in ways {
            let Some(way) = canaries.ways.get_mut(by) else { continue };
            way.count(group(round), count);
            let note = Self::note(ground, *by, round);
            let key = key(&ground.node.name, *by, group(round));
            for _ in 0..count {
                let publisher = Publisher::Canary { by: *by, every: None };
                ground.publish_canary(Class::Sum, round, Some(key.clone()), None, &note, publisher);
            }
        }
    }

    /// A canary of class `every` was taken, or not.
    pub(crate) fn on_canary_told(&mut self, by: SocketAddr, number: u64, is_taken: bool) {
        if let Some(way) = self.canaries.ways.get_mut(&by) {
            way.told(number, is_taken);
        }
    }
}

impl Ground {
    fn publish_canary(
        &mut self,
        class: Class,
        number: u64,
        key: Option<String>,
        id: Option<String>,
        note: &Note,
        publisher: Publisher,
    ) {
        let Some(topic) = topic(&Arc::clone(&self.node).dc, number) else { return };
        let data = serde_json::to_string(note).expect("it is plain data");
        let own = Own::new(&topic, TYPES[class as usize], data);
        self.publish(Own { key: key.map(Into::into), id, publisher, ..own });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn one_of_class_every_follows_the_other_and_one_that_was_not_taken_comes_again() {
        let mut way = Way::begin(8);
        assert_eq!(way.next_every(), Some(8));
        assert_eq!(way.next_every(), None, "it is on its way");
        way.told(8, false);
        assert_eq!(way.next_every(), Some(8));
        way.told(7, true);
        assert_eq!(way.next_every(), None, "another one was told of");
        way.told(8, true);
        assert_eq!(way.next_every(), Some(9));
        assert_eq!(way.settled(by(), 12).every, 7, "none was taken so long ago");
        for _ in 0..CANARY_SETTLED {
            way.told(9, false);
            way.next_every();
        }
        assert_eq!(way.settled(by(), 12 + CANARY_SETTLED).every, 8, "the ninth is not taken yet");
    }

    #[test]
    fn sums_are_settled_a_group_at_a_time() {
        let mut way = Way::begin(1);
        let mut told = Vec::new();
        for round in 1..60 {
            way.count(group(round), 3);
            told.extend(way.settled(by(), round).sums);
        }
        told.dedup();
        assert_eq!(told[..2], [Sums { group: 0, count: 12 }, Sums { group: 1, count: 15 }]);
        assert_eq!(told.last().unwrap().group, group(59 - CANARY_SETTLED) - 1);
    }
}
