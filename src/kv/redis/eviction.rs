//! Whether a server drops keys when its memory is full. All keys are needed: a subscription, a history. What it may do changes
//! while it runs, and that it did so shows nowhere but in its own count. No IO, no clock.

use std::time::Instant;

use crate::runtime::trouble::Told;

/// What a server says of its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The bytes that it may use; none for no bound.
    pub limit: Option<usize>,
    /// What it does when it has used them.
    pub policy: String,
    /// Keys that it dropped for room since it was started.
    pub evicted: u64,
}

/// What is new of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It may drop keys from now on.
    MayDrop,
    /// It may no more.
    Keeps,
    /// It dropped so many that nobody was told of.
    Dropped(u64),
}

/// What is known of a server.
#[derive(Debug, Default)]
pub struct Eviction {
    may_drop: bool,
    /// Its count when it was last looked at.
    evicted: Option<u64>,
    /// Dropped since that was told.
    dropped: u64,
    told: Told,
}

impl Eviction {
    /// Hears what a server says now. Keys that it dropped are told of once a minute.
    pub fn hear(&mut self, memory: &Memory, now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        let may_drop = memory.limit.is_some() && memory.policy != "noeviction";
        if may_drop != std::mem::replace(&mut self.may_drop, may_drop) {
            findings.push(if may_drop { Finding::MayDrop } else { Finding::Keeps });
        }
        if let Some(before) = self.evicted.replace(memory.evicted) {
            // Somebody may set the count back.
            self.dropped += memory.evicted.checked_sub(before).unwrap_or(memory.evicted);
        }
        if self.dropped > 0 && self.told.fails(now) {
            findings.push(Finding::Dropped(std::mem::take(&mut self.dropped)));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TROUBLE_LOGGED;

    #[test]
    fn what_is_set_or_dropped_later_is_found() {
        let (mut eviction, mut now) = (Eviction::default(), Instant::now());
        let mut hear = |limit, policy: &str, evicted, pause| {
            now += pause;
            eviction.hear(&Memory { limit, policy: policy.to_owned(), evicted }, now)
        };
        let second = std::time::Duration::from_secs(1);
        assert_eq!(
            hear(None, "allkeys-lru", 7, second),
            [],
            "without a bound it drops nothing; what was before is not ours"
        );
        assert_eq!(hear(Some(9), "noeviction", 7, second), []);
        assert_eq!(hear(Some(9), "allkeys-lru", 7, second), [Finding::MayDrop]);
        assert_eq!(hear(Some(9), "volatile-ttl", 9, second), [Finding::Dropped(2)]);
        assert_eq!(hear(Some(9), "volatile-ttl", 12, second), [], "it was told just now");
        assert_eq!(hear(Some(9), "noeviction", 1, TROUBLE_LOGGED), [Finding::Keeps, Finding::Dropped(4)]);
        assert_eq!(hear(Some(9), "noeviction", 1, TROUBLE_LOGGED), []);
    }
}
