//! What a viewer of canaries concludes from those that it is shown: what is lost, comes again, or out of order. No IO, no clock.
//!
//! A backend says what is to have come by now, in events of class `ephemeral` that go by every dispatcher: so a dispatcher from
//! which nothing comes is missed. Of class `every` all numbers must be there, of each topic in their order; of class
//! `ephemeral` all rounds; of class `latest` no older value may be the newest; of class `sum` the count must be that of the
//! group.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use crate::limits::{
    CANARY_BACKENDS_MAX, CANARY_DISPATCHERS_MAX, CANARY_FORGOTTEN, CANARY_GAP, CANARY_GROUP, CANARY_GROUPS_MAX,
    CANARY_HOLD, CANARY_MISSING_MAX, CANARY_PAUSE, CANARY_SETTLED, CANARY_SILENCE,
};
use crate::runtime::random::Map;
use crate::wire::canary::{Note, Settled, group};
use crate::wire::event::Class;

/// What was found; numbers of events by class in the order of [`Class::ALL`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Came as they should.
    pub heard: [u64; Class::ALL.len()],
    /// Did not come in time.
    pub lost: [u64; Class::ALL.len()],
    /// Of those, came after all.
    pub late: [u64; Class::ALL.len()],
    /// Came again.
    pub repeated: [u64; Class::ALL.len()],
    /// Of class `every`, came behind one that follows it.
    pub disordered: u64,
    /// Of class `every`, are missing where viewers were told of a gap.
    pub gaps: u64,
    /// By which way something was lost, and its class.
    pub ways: Vec<(Class, SocketAddr, String)>,
}

/// What became of a number that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    New,
    Again,
    Late,
    /// From before anybody looked.
    Before,
}

/// Numbers that follow each other without a hole, of which some are yet to come.
#[derive(Debug)]
struct Numbers {
    /// Nothing up to this was looked for.
    from: u64,
    /// The highest that came or was to come.
    top: u64,
    missing: BTreeSet<u64>,
    /// Missing for too long.
    given_up: BTreeSet<u64>,
}

impl Numbers {
    fn behind(from: u64) -> Numbers {
        Numbers { from, top: from, missing: BTreeSet::new(), given_up: BTreeSet::new() }
    }

    fn reach(&mut self, number: u64) {
        let first = (self.top + 1).max(number.saturating_sub(CANARY_MISSING_MAX as u64));
        self.missing.extend(first..=number);
        self.top = self.top.max(number);
    }

    fn comes(&mut self, number: u64) -> Came {
        if number <= self.from {
            return Came::Before;
        }
        self.reach(number);
        if self.missing.remove(&number) {
            Came::New
        } else if self.given_up.remove(&number) {
            Came::Late
        } else {
            Came::Again
        }
    }

    /// Whether some number behind this one, up to `last`, is here.
    fn is_passed(&self, number: u64, last: u64) -> bool {
        (number + 1..=last.min(self.top)).any(|later| !self.missing.contains(&later) && !self.given_up.contains(&later))
    }

    /// All numbers up to this are to have come. Gives how many did not.
    fn settle(&mut self, number: u64) -> u64 {
        if number > self.top {
            self.reach(number);
        }
        let later = self.missing.split_off(&(number + 1));
        let mut lost = std::mem::replace(&mut self.missing, later);
        let count = lost.len() as u64;
        self.given_up.append(&mut lost);
        while self.given_up.len() > CANARY_MISSING_MAX {
            self.given_up.pop_first();
        }
        while self.missing.len() > CANARY_MISSING_MAX {
            self.missing.pop_first();
        }
        count
    }
}

/// A backend and a dispatcher.
#[derive(Debug)]
struct Pair {
    heard: Instant,
    since: u64,
    ephemeral: Numbers,
    /// None until it is known where those of class `every` are.
    every: Option<Numbers>,
    /// The round of the newest of class `latest`, by group, which has a topic to itself.
    latest: BTreeMap<u64, u64>,
    /// Groups that are over, and whose newest one was not shown.
    stale: BTreeSet<u64>,
    /// The last group that was looked at.
    latest_settled: u64,
    /// Events of class `sum`, by group.
    sums: BTreeMap<u64, u64>,
    /// How many lacked, and how many were too many already, of groups that are over.
    short: BTreeMap<u64, u64>,
    /// The last group that was looked at.
    sums_settled: u64,
}

/// A backend, for as long as it runs.
#[derive(Debug)]
struct Backend {
    url: Box<str>,
    heard: Instant,
    /// Nothing is settled before this.
    hold: Option<Instant>,
    /// The round in which it was heard first.
    base: u64,
    pairs: Map<SocketAddr, Pair>,
}

/// What one viewer knows of a data center's canaries.
#[derive(Debug, Default)]
pub struct Audit {
    backends: Map<Box<str>, Backend>,
    /// Viewers were told of a gap.
    gap: Option<Instant>,
}

/// The last round, or number, of a group.
const fn last_of(group: u64) -> u64 {
    (group + 1) * CANARY_GROUP - 1
}

impl Pair {
    /// One of which something was heard in a round, and that began in another.
    fn new(base: u64, since: u64, now: Instant) -> Pair {
        let is_new = since > base;
        let from = if is_new { since.saturating_sub(1) } else { base };
        Pair {
            heard: now,
            since,
            ephemeral: Numbers::behind(from),
            every: is_new.then(|| Numbers::behind(from)),
            latest: BTreeMap::new(),
            stale: BTreeSet::new(),
            latest_settled: group(from.max(since)),
            sums: BTreeMap::new(),
            short: BTreeMap::new(),
            // The first group was under way.
            sums_settled: group(from.max(since)),
        }
    }

    /// A value of class `latest` is shown.
    fn shows_newest(&mut self, number: u64) -> Came {
        let group = group(number);
        if group <= self.latest_settled {
            let heals = number == last_of(group) && self.stale.remove(&group);
            return if heals { Came::Late } else { Came::Before };
        }
        match self.latest.insert(group, number) {
            Some(newest) if newest >= number => {
                self.latest.insert(group, newest);
                if newest == number { Came::Again } else { Came::Before }
            }
            _ => Came::New,
        }
    }

    /// All that is to have come has come, or is lost.
    fn settle(&mut self, settled: &Settled, round: u64, is_gap: bool, found: &mut Findings) -> [u64; Class::ALL.len()] {
        let mut lost = [0; Class::ALL.len()];
        lost[Class::Ephemeral as usize] = self.ephemeral.settle(round);
        // Those groups whose last round this is, or was before.
        let over = group(round + 1);
        for group in (self.latest_settled + 1).max(over.saturating_sub(CANARY_GROUPS_MAX as u64))..over {
            if self.latest.get(&group) != Some(&last_of(group)) {
                lost[Class::Latest as usize] += 1;
                self.stale.insert(group);
            }
            self.latest_settled = group;
        }
        self.latest = self.latest.split_off(&(self.latest_settled + 1));
        while self.stale.len() > CANARY_GROUPS_MAX {
            self.stale.pop_first();
        }
        match &mut self.every {
            Some(every) => {
                let missing = every.settle(settled.every);
                *if is_gap { &mut found.gaps } else { &mut lost[Class::Every as usize] } += missing;
            }
            None => self.every = Some(Numbers::behind(settled.every)),
        }
        if let Some(sums) = settled.sums.filter(|sums| sums.group > self.sums_settled) {
            self.sums_settled = sums.group;
            let came = self.sums.get(&sums.group).copied().unwrap_or(0);
            lost[Class::Sum as usize] = sums.count.saturating_sub(came);
            found.repeated[Class::Sum as usize] += came.saturating_sub(sums.count);
            self.short.insert(sums.group, sums.count.saturating_sub(came));
            self.sums = self.sums.split_off(&(sums.group + 1));
            while self.short.len() > CANARY_GROUPS_MAX {
                self.short.pop_first();
            }
        }
        lost
    }
}

impl Audit {
    /// A canary came that is not of class `sum`.
    pub fn comes(&mut self, class: Class, note: &Note, now: Instant, found: &mut Findings) {
        if class == Class::Ephemeral && !note.settled.is_empty() {
            self.meet(note, now);
        }
        let at = class as usize;
        let Some(backend) = self.backends.get_mut(&*note.backend) else { return };
        let Some(pair) = backend.pairs.get_mut(&note.by) else { return };
        pair.heard = now;
        let came = match class {
            Class::Ephemeral => pair.ephemeral.comes(note.number),
            Class::Every => {
                let every = pair.every.get_or_insert_with(|| Numbers::behind(note.number.saturating_sub(1)));
                let is_passed = every.is_passed(note.number, last_of(group(note.number)));
                let came = every.comes(note.number);
                found.disordered += u64::from(is_passed && matches!(came, Came::New | Came::Late));
                came
            }
            Class::Latest => pair.shows_newest(note.number),
            Class::Sum => return,
        };
        match came {
            Came::New => found.heard[at] += 1,
            Came::Again => found.repeated[at] += 1,
            Came::Late => found.late[at] += 1,
            Came::Before => {}
        }
        if class == Class::Ephemeral {
            self.settle(note, now, found);
        }
    }

    /// So many events of class `sum` came of a group.
    pub fn sums(&mut self, (backend, by, group): (&str, SocketAddr, u64), count: u64, found: &mut Findings) {
        let pair = self.backends.get_mut(backend).and_then(|backend| backend.pairs.get_mut(&by));
        let Some(pair) = pair else { return };
        let at = Class::Sum as usize;
        if group > pair.sums_settled {
            *pair.sums.entry(group).or_default() += count;
            found.heard[at] += count;
            while pair.sums.len() > CANARY_GROUPS_MAX {
                pair.sums.pop_first();
            }
        } else if let Some(short) = pair.short.get_mut(&group) {
            let late = count.min(*short);
            *short -= late;
            found.late[at] += late;
            found.repeated[at] += count - late;
        }
    }

    /// Viewers were told that something of class `every` may be missing.
    pub fn gap(&mut self, now: Instant) {
        self.gap = Some(now);
    }

    /// Backends that were heard of, and when last.
    pub fn backends(&self) -> impl Iterator<Item = (&str, Instant)> {
        self.backends.iter().map(|(name, backend)| (&**name, backend.heard))
    }

    /// Pairs of which something was heard a short while ago.
    pub fn pairs(&self, now: Instant) -> usize {
        let is_heard = |pair: &&Pair| now.saturating_duration_since(pair.heard) < CANARY_SILENCE;
        self.backends.values().flat_map(|backend| backend.pairs.values()).filter(is_heard).count()
    }

    /// Forgets backends that were silent for long.
    pub fn forget(&mut self, now: Instant) {
        self.backends.retain(|_, backend| now.saturating_duration_since(backend.heard) < CANARY_FORGOTTEN);
    }

    /// A backend says by which dispatchers it publishes.
    fn meet(&mut self, note: &Note, now: Instant) {
        if self.backends.len() >= CANARY_BACKENDS_MAX && !self.backends.contains_key(&*note.backend) {
            return;
        }
        let backend = self.backends.entry(note.backend.as_str().into()).or_insert_with(|| Backend {
            url: note.url.as_str().into(),
            heard: now,
            hold: None,
            base: note.number,
            pairs: Map::default(),
        });
        if now.saturating_duration_since(backend.heard) >= CANARY_PAUSE {
            backend.hold = Some(now + CANARY_HOLD);
        }
        backend.heard = now;
        for settled in note.settled.iter().take(CANARY_DISPATCHERS_MAX) {
            if backend.pairs.get(&settled.by).is_none_or(|pair| pair.since < settled.since) {
                backend.pairs.insert(settled.by, Pair::new(backend.base, settled.since, now));
            }
        }
        // What one that it no longer publishes by was yet to bring is nobody's loss.
        backend.pairs.retain(|by, pair| {
            note.settled.iter().any(|settled| settled.by == *by)
                || now.saturating_duration_since(pair.heard) < CANARY_SILENCE
        });
    }

    fn settle(&mut self, note: &Note, now: Instant, found: &mut Findings) {
        let Some(backend) = self.backends.get_mut(&*note.backend) else { return };
        let round = note.number.saturating_sub(CANARY_SETTLED);
        if backend.hold.is_some_and(|hold| now < hold) || round <= backend.base {
            return;
        }
        let is_gap = self.gap.is_some_and(|gap| now.saturating_duration_since(gap) < CANARY_GAP);
        for settled in &note.settled {
            let Some(pair) = backend.pairs.get_mut(&settled.by) else { continue };
            if round < settled.since {
                continue;
            }
            let lost = pair.settle(settled, round, is_gap, found);
            for class in Class::ALL.into_iter().filter(|class| lost[*class as usize] > 0) {
                found.lost[class as usize] += lost[class as usize];
                found.ways.push((class, settled.by, backend.url.to_string()));
            }
        }
    }
}
