//! What the log hears of something that fails: a line when it begins, one a minute while it lasts, and one when it ends.

use std::borrow::Cow;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::limits::{TROUBLE_LOGGED, TROUBLES_TOLD_MAX};
use crate::runtime::random::Map;

/// What has been said of one thing.
#[derive(Debug, Default)]
pub struct Told(Option<Instant>);

/// Why something cannot be used. `/health/ready` says it to anybody; the details may quote addresses, scripts and SQL, and
/// are for the log and for whoever knows the cluster's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A sentence for anybody.
    pub sentence: Cow<'static, str>,
    /// What failed, in the words of what failed, if there is more to say.
    pub details: Option<String>,
}

impl Reason {
    /// With details.
    pub fn new(sentence: &'static str, details: String) -> Reason {
        Reason { sentence: sentence.into(), details: Some(details) }
    }

    /// Without any.
    pub fn plain(sentence: impl Into<Cow<'static, str>>) -> Reason {
        Reason { sentence: sentence.into(), details: None }
    }

    /// All that there is to say, for operators.
    pub fn whole(&self) -> String {
        match &self.details {
            Some(details) => format!("{}: {details}", self.sentence),
            None => self.sentence.to_string(),
        }
    }
}

/// What is to be said now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It has begun to fail, or fails on.
    Fails,
    /// It works again.
    Works,
}

impl Told {
    /// Nothing was said yet.
    pub const fn new() -> Told {
        Told(None)
    }

    /// It was said that it fails, and not long ago.
    fn is_recent(&self, now: Instant) -> bool {
        self.0.is_some_and(|told| now.saturating_duration_since(told) < TROUBLE_LOGGED)
    }

    /// It fails now. Whether to say so.
    pub fn fails(&mut self, now: Instant) -> bool {
        self.hear(true, now).is_some()
    }

    /// It fails now, or does not. Gives what to say of that, if anything.
    pub fn hear(&mut self, fails: bool, now: Instant) -> Option<Say> {
        match self.0 {
            Some(told) if fails && now.saturating_duration_since(told) < TROUBLE_LOGGED => None,
            _ if fails => {
                self.0 = Some(now);
                Some(Say::Fails)
            }
            _ => self.0.take().map(|_| Say::Works),
        }
    }
}

/// What has been said of each of several things, such as names that have no address.
#[derive(Debug)]
pub struct ToldEach<K>(Map<K, Told>);

impl<K> Default for ToldEach<K> {
    fn default() -> ToldEach<K> {
        ToldEach(Map::default())
    }
}

impl<K: Hash + Eq> ToldEach<K> {
    /// This one fails now. Whether to say so. Where more fail at a time than are told apart, the others say enough.
    pub fn fails(&mut self, of: K, now: Instant) -> bool {
        if self.0.len() >= TROUBLES_TOLD_MAX && !self.0.contains_key(&of) {
            self.0.retain(|_, told| told.is_recent(now));
            if self.0.len() >= TROUBLES_TOLD_MAX {
                return false;
            }
        }
        self.0.entry(of).or_default().fails(now)
    }

    /// This one works. Whether to say so, since it was said that it fails.
    pub fn works(&mut self, of: &K) -> bool {
        self.0.remove(of).is_some()
    }
}

/// How long is waited before something is tried again that failed so often before: the shortest time, twice as long each time up to the
/// longest, less up to half of it by chance, which is any number.
pub fn pause(failures: u32, (shortest, longest): (Duration, Duration), chance: u64) -> Duration {
    let ms = shortest.saturating_mul(1 << failures.min(16)).min(longest).as_millis() as u64;
    Duration::from_millis(ms - chance % (ms / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_for_itself_and_their_number_is_bounded() {
        let (mut told, begin) = (ToldEach::default(), Instant::now());
        assert!(told.fails(1, begin) && told.fails(2, begin) && !told.fails(1, begin));
        assert!(told.works(&1) && !told.works(&1) && told.fails(1, begin));
        let many = (0..5_000).filter(|number| told.fails(*number, begin)).count();
        assert_eq!((many + 2, told.0.len()), (TROUBLES_TOLD_MAX, TROUBLES_TOLD_MAX));
        assert!(told.fails(9_999, begin + TROUBLE_LOGGED) && told.0.len() == 1, "those before are forgotten");
        assert!(!told.fails(9_999, begin + TROUBLE_LOGGED + Duration::from_secs(1)));
    }

    #[test]
    fn says_when_it_changes_and_once_a_minute() {
        let (mut told, begin) = (Told::default(), Instant::now());
        assert_eq!(told.hear(false, begin), None);
        let mut heard = |fails, seconds| told.hear(fails, begin + std::time::Duration::from_secs(seconds));
        assert_eq!([heard(true, 0), heard(true, 1), heard(true, 59)], [Some(Say::Fails), None, None]);
        assert_eq!([heard(true, 60), heard(true, 61)], [Some(Say::Fails), None]);
        assert_eq!([heard(false, 62), heard(false, 63), heard(true, 64)], [Some(Say::Works), None, Some(Say::Fails)]);
    }
}
