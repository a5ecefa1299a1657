//! Who typed when: within a second, one member's typing in one conversation is one event.

use std::time::Instant;

use crate::limits::{TYPING_PAUSE, TYPISTS_MAX};
use crate::runtime::random::Map;
use crate::wire::topic::Topic;

/// Members that typed within the last second.
#[derive(Debug, Default)]
pub struct Typists {
    since: Map<(Topic, String), Instant>,
}

impl Typists {
    /// Whether viewers are to be told that `member` types: not if they were within [`TYPING_PAUSE`].
    pub fn is_news(&mut self, topic: &Topic, member: &str, now: Instant) -> bool {
        let over = |told: &Instant| now.saturating_duration_since(*told) >= TYPING_PAUSE;
        if self.since.len() >= TYPISTS_MAX {
            self.since.retain(|_, told| !over(told));
            if self.since.len() >= TYPISTS_MAX {
                // Forgetting costs a repeated event each, which is harmless.
                self.since.clear();
            }
        }
        match self.since.get_mut(&(topic.clone(), member.to_owned())) {
            Some(told) if !over(told) => false,
            Some(told) => {
                *told = now;
                true
            }
            None => {
                self.since.insert((topic.clone(), member.to_owned()), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_within_a_second_are_one() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        let (one, other) = (Topic::parse("chat:1").unwrap(), Topic::parse("chat:2").unwrap());
        assert!(typists.is_news(&one, "ana", now));
        assert!(!typists.is_news(&one, "ana", now + TYPING_PAUSE / 2));
        assert!(typists.is_news(&one, "bob", now) && typists.is_news(&other, "ana", now));
        assert!(typists.is_news(&one, "ana", now + TYPING_PAUSE));
        assert!(!typists.is_news(&one, "ana", now + TYPING_PAUSE * 3 / 2));
        for number in 0..TYPISTS_MAX {
            typists.is_news(&one, &number.to_string(), now + TYPING_PAUSE);
        }
        assert!(typists.since.len() <= TYPISTS_MAX);
    }
}
