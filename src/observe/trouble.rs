//! What the log hears of something that fails: a line when it begins, one a minute while it lasts, and one when it ends.

use std::time::Instant;

use crate::limits::TROUBLE_LOGGED;

/// What has been said of one thing.
#[derive(Debug, Default)]
pub struct Told(Option<Instant>);

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

#[cfg(test)]
mod tests {
    use super::*;

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
