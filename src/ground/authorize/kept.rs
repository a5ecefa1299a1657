//! Answers of the operator's server that still hold.

use std::sync::Arc;

use crate::limits::AUTHORIZE_KEPT_BYTES;
use crate::runtime::random::Map;
use crate::wire::authorize::Answer;

type Answers = Map<Arc<str>, (Arc<Answer>, u64)>;

/// A shard's, by the whole text of each question, so that none passes for another. They come in two generations, of which the older
/// one goes when the younger one is full.
#[derive(Debug, Default)]
pub struct Kept {
    young: Answers,
    old: Answers,
    young_bytes: usize,
}

impl Kept {
    /// What was answered to this, and until when it holds, in Unix ms.
    pub fn get(&mut self, text: &str, now_ms: u64) -> Option<(Arc<Answer>, u64)> {
        if let Some((answer, until_ms)) = self.young.get(text) {
            return (*until_ms > now_ms).then(|| (Arc::clone(answer), *until_ms));
        }
        let (text, (answer, until_ms)) = self.old.remove_entry(text)?;
        if until_ms <= now_ms {
            return None;
        }
        self.put(text, Arc::clone(&answer), until_ms);
        Some((answer, until_ms))
    }

    /// Keeps an answer until a time in Unix ms.
    pub fn put(&mut self, text: Arc<str>, answer: Arc<Answer>, until_ms: u64) {
        let bytes = bytes(&text, &answer);
        if self.young_bytes + bytes > AUTHORIZE_KEPT_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&text);
        self.young_bytes += bytes;
        if let Some((before, _)) = self.young.insert(Arc::clone(&text), (answer, until_ms)) {
            self.young_bytes -= self::bytes(&text, &before);
        }
    }
}

/// What one takes, with the table's own.
fn bytes(text: &str, answer: &Answer) -> usize {
    text.len() + answer.bytes() + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(number: u64) -> Arc<Answer> {
        Arc::new(Answer::Refused { detail: Some(number.to_string().into()), kept: None })
    }

    proptest! {
        /// Against a plain table: what is found was put last and holds, and as long as all fits all is found.
        #[test]
        fn what_is_found_holds(steps in prop::collection::vec((0u8..30, any::<bool>(), 0u64..50), 1..200)) {
            let (mut kept, mut model) = (Kept::default(), std::collections::BTreeMap::new());
            for (now_ms, (name, puts, time)) in steps.into_iter().enumerate() {
                let (now_ms, text) = (now_ms as u64, format!("question {name}"));
                if puts {
                    kept.put(text.as_str().into(), answer(now_ms), now_ms + time);
                    model.insert(text, (answer(now_ms), now_ms + time));
                } else {
                    let wanted = model.get(&text).filter(|(_, until_ms)| *until_ms > now_ms).cloned();
                    prop_assert_eq!(kept.get(&text, now_ms), wanted);
                }
            }
        }
    }

    #[test]
    fn its_memory_is_bounded_and_what_is_used_stays() {
        let mut kept = Kept::default();
        let text = |number: u64| format!("{number:01000}");
        kept.put(text(0).into(), answer(0), u64::MAX);
        for number in 1..20_000 {
            kept.put(text(number).into(), answer(number), u64::MAX);
            assert_eq!(kept.get(&text(0), 7), Some((answer(0), u64::MAX)), "{number}");
        }
        let held: usize = kept.young.iter().chain(&kept.old).map(|(text, (answer, _))| bytes(text, answer)).sum();
        assert!(held <= AUTHORIZE_KEPT_BYTES && kept.get(&text(1), 0).is_none(), "{held}");
    }

    #[test]
    fn the_same_put_again_and_again_takes_its_room_once() {
        let mut kept = Kept::default();
        for number in 0..100_000 {
            kept.put("often".into(), answer(number), 1);
        }
        assert!(kept.young_bytes < 1_000 && kept.old.is_empty());
    }
}
