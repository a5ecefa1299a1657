//! Events that the embedded store was given by a key, so that whoever repeats one publishes it once.

use std::collections::VecDeque;

use crate::kv::kept::KeptOnce;
use crate::kv::{Answer, Claim};
use crate::limits::{ID_BYTES_MAX, ONCE_AGE, ONCE_KEPT_EVENTS, ONCE_SWEPT};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;

/// What is kept of one.
#[derive(Debug)]
struct Kept {
    at_ms: u64,
    body: String,
    id: String,
}

/// Keys, and in the order of their coming which to forget.
#[derive(Debug, Default)]
pub struct Onces {
    kept: Map<String, Kept>,
    order: VecDeque<(u64, String)>,
    /// Of the ids.
    id_bytes: usize,
}

/// What one costs beside the id that its sender gave it: keys and bodies are hashes, all of one length, and the key is there
/// twice.
const ONCE_BYTES: usize = 448;
const _: () = assert!(ONCE_KEPT_EVENTS * (ONCE_BYTES + ID_BYTES_MAX) <= 96 * 1024 * 1024);

impl Onces {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.order.len() * ONCE_BYTES + self.id_bytes
    }

    /// What is known of the key, if it is not too long ago.
    pub fn repeated(&self, claim: &Claim, now_ms: u64) -> Option<Answer> {
        let kept = self.kept.get(&claim.key).filter(|kept| !is_past(kept.at_ms, now_ms))?;
        Some(Answer::Repeated { id: (kept.body == claim.body).then(|| kept.id.clone()) })
    }

    /// Keeps a key that is new.
    pub fn keep(&mut self, once: KeptOnce) {
        let KeptOnce { key, body, id, at_ms: now_ms } = once;
        for _ in 0..ONCE_SWEPT {
            let is_due = |(at_ms, _): &(u64, String)| is_past(*at_ms, now_ms);
            if self.order.len() < ONCE_KEPT_EVENTS && !self.order.front().is_some_and(is_due) {
                break;
            }
            let Some((at_ms, key)) = self.order.pop_front() else { break };
            if self.kept.get(&key).is_some_and(|kept| kept.at_ms == at_ms) {
                self.remove(&key);
            }
        }
        shrink(&mut self.order);
        self.order.push_back((now_ms, key.clone()));
        self.id_bytes += id.len();
        self.id_bytes -= self.kept.insert(key, Kept { at_ms: now_ms, body, id }).map_or(0, |old| old.id.len());
    }

    fn remove(&mut self, key: &str) {
        self.id_bytes -= self.kept.remove(key).map_or(0, |kept| kept.id.len());
        shrink(&mut self.kept);
    }

    /// Forgets a key whose event was not published.
    pub fn release(&mut self, key: &str, id: &str) {
        if self.kept.get(key).is_some_and(|kept| kept.id == id) {
            self.remove(key);
        }
    }
}

fn is_past(at_ms: u64, now_ms: u64) -> bool {
    at_ms.saturating_add(ONCE_AGE.as_millis() as u64) <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::topic::Topic;

    fn claim(key: &str, body: &str, id: &str) -> Claim {
        Claim { topic: Topic::parse("live:1").unwrap(), key: key.into(), body: body.into(), id: id.into() }
    }

    #[test]
    fn keys_are_known_for_a_day_and_bounded() {
        let (mut onces, day) = (Onces::default(), ONCE_AGE.as_millis() as u64);
        let keep = |onces: &mut Onces, key: &str, at_ms| onces.keep(KeptOnce::new(claim(key, "x", "1"), at_ms));
        keep(&mut onces, "a", 5);
        let same = Some(Answer::Repeated { id: Some("1".into()) });
        assert_eq!(onces.repeated(&claim("a", "x", "2"), 4 + day), same);
        assert_eq!(onces.repeated(&claim("a", "y", "2"), 4 + day), Some(Answer::Repeated { id: None }));
        assert_eq!(onces.repeated(&claim("a", "x", "2"), 5 + day), None);
        onces.release("a", "2");
        assert_eq!(onces.repeated(&claim("a", "x", "2"), 6), same, "another one's");
        onces.release("a", "1");
        assert_eq!(onces.repeated(&claim("a", "x", "2"), 6), None);
        for number in 0..ONCE_KEPT_EVENTS + 9 {
            keep(&mut onces, &number.to_string(), 6);
        }
        assert!(onces.kept.len() <= ONCE_KEPT_EVENTS && onces.order.len() <= ONCE_KEPT_EVENTS);
        (0..ONCE_KEPT_EVENTS).for_each(|number| keep(&mut onces, &format!("later {number}"), 6 + day));
        assert!(onces.kept.len() <= ONCE_KEPT_EVENTS);
        assert_eq!(onces.id_bytes, onces.kept.values().map(|kept| kept.id.len()).sum::<usize>());
    }
}
