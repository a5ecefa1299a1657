//! What was taken back of a topic: while history has the deletion, its id is taken by no other event.

use crate::kv::memory::history::{ENTRY_BYTES, History, REFUSED_MS};
use crate::wire::frame::{Stored, Withdrawn};
use crate::wire::position::Position;

impl History {
    /// An event was taken back by the one at this place: its text goes, wherever it stands before that.
    pub(crate) fn withdraw(&mut self, withdrawn: &Withdrawn, place: Position) {
        let events = self.shelves.iter_mut().flat_map(|shelf| &mut shelf.events);
        for entry in events.filter(|entry| entry.position < place) {
            self.bytes -= entry.event.take_if(|event| withdrawn.is(event)).map_or(0, |event| event.len());
        }
    }

    /// From now on what is taken back by the event at this place is refused, should it only come now.
    pub(crate) fn hold_back(&mut self, withdrawn: Withdrawn, place: Position) {
        let beginning = Box::from(withdrawn.beginning());
        let bytes = ENTRY_BYTES + withdrawn.beginning().len();
        self.bytes += if self.withdrawn.insert(beginning, place).is_none() { bytes } else { 0 };
    }

    /// The event at this place, which history has no more, was not kept: it takes nothing back.
    pub(crate) fn let_go(&mut self, place: Position) {
        let (bytes, withdrawn) = (&mut self.bytes, &mut self.withdrawn);
        let before = withdrawn.len();
        withdrawn.retain(|beginning, of| {
            let stays = *of != place;
            *bytes -= if stays { 0 } else { ENTRY_BYTES + beginning.len() };
            stays
        });
        if withdrawn.len() == before {
            return;
        }
        // An earlier one may have taken the same back.
        let by = self.shelves.iter().filter(|shelf| Withdrawn::may_be_by(&shelf.kind));
        let by = by.flat_map(|shelf| shelf.events.iter().map(|entry| (shelf.kind.clone(), entry)));
        let by: Vec<_> = by.filter_map(|(kind, entry)| Some((kind, entry.event.clone()?, entry.position))).collect();
        by.iter().for_each(|(kind, event, place)| self.hold_back_again(kind, event, *place));
    }

    /// An event that was kept of an earlier process: what it took back then stays back.
    pub(crate) fn hold_back_again(&mut self, kind: &str, event: &str, place: Position) {
        let stored = Withdrawn::may_be_by(kind).then(|| Stored::read(event)).flatten();
        if let Some(id) = stored.and_then(|stored| Withdrawn::id(kind, stored.data)) {
            self.hold_back(Withdrawn::of(&id), place);
        }
    }

    /// Whether an event was taken back before it came.
    pub(crate) fn refuses(&self, event: &str, now_ms: u64) -> bool {
        let place = Withdrawn::beginning_of(event).and_then(|beginning| self.withdrawn.get(beginning));
        place.is_some_and(|place| self.is_held_back(*place, now_ms))
    }

    /// Whether what was taken back by the event at this place is held back still: for as long as that is in history, which is
    /// never shorter than [`REFUSED_MS`].
    fn is_held_back(&self, place: Position, now_ms: u64) -> bool {
        let has = |events: &std::collections::VecDeque<crate::kv::memory::history::Entry>| {
            events.binary_search_by_key(&place, |entry| entry.position).is_ok()
        };
        place.ms.saturating_add(REFUSED_MS) >= now_ms || self.shelves.iter().any(|shelf| has(&shelf.events))
    }

    /// Forgets what is held back no longer. Gives the bytes.
    pub(crate) fn drop_withdrawn(&mut self, now_ms: u64) -> usize {
        let (mut all, mut dropped) = (std::mem::take(&mut self.withdrawn), 0);
        all.retain(|beginning, place| {
            let stays = self.is_held_back(*place, now_ms);
            dropped += if stays { 0 } else { ENTRY_BYTES + beginning.len() };
            stays
        });
        self.withdrawn = all;
        self.bytes -= dropped;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Append;
    use crate::kv::kept::{Kept, KeptEvent};
    use crate::kv::memory::history::Histories;
    use crate::wire::topic::Topic;

    const AGE_MS: u64 = 60 * REFUSED_MS;

    fn append(kind: &str, event: &str, withdraws: Option<&str>) -> Append {
        let topic = Topic::parse("live:1").unwrap();
        let withdraws = withdraws.map(str::to_owned);
        let (kind, event) = (kind.to_owned(), event.into());
        Append { topic, event, kind, count_max: 2, age_max_ms: AGE_MS, withdraws, peers: Vec::new(), pace: None }
    }

    const COMMENT: &str = r#"{"id":"c \"1\"","topic":"live:1","type":"comment","at":1,"data":1}"#;
    const DELETED: &str = r#"{"id":"d","topic":"live:1","type":"deleted","at":1,"data":{"id":"c \"1\""}}"#;

    #[test]
    fn an_id_is_held_back_while_its_deletion_is_in_history() {
        let mut histories = Histories::new(1, AGE_MS);
        let refuses = |histories: &Histories, now_ms| histories.refuses(&append("comment", COMMENT, None), now_ms);
        assert!(!refuses(&histories, 1));
        histories.append(&append("deleted", DELETED, Some("c \"1\"")), 1);
        assert!(refuses(&histories, 1) && refuses(&histories, AGE_MS));
        assert!(!histories.refuses(&append("comment", &COMMENT.replace('1', "2"), None), 1));
        // Others of its type take its place.
        for number in 0..2 {
            assert!(refuses(&histories, AGE_MS));
            histories.append(&append("deleted", &format!("{{\"id\":\"{number}\",}}"), None), AGE_MS);
        }
        assert!(!refuses(&histories, AGE_MS));
        let bytes = histories.bytes();
        histories.sweep(AGE_MS);
        assert_eq!(histories.bytes(), bytes - ENTRY_BYTES - Withdrawn::of("c \"1\"").beginning().len());
    }

    #[test]
    fn an_id_is_held_back_by_a_deletion_that_an_earlier_process_kept() {
        let mut histories = Histories::new(1, AGE_MS);
        let (topic, position) = (Topic::parse("live:1").unwrap(), Position { ms: 1, seq: 1 });
        let (kind, event) = ("deleted".to_owned(), Some(DELETED.into()));
        let deleted = KeptEvent { topic, kind, position, prev: None, event, age_max_ms: AGE_MS };
        histories.restore(Kept { since_ms: 1, events: vec![deleted], ..Kept::default() }, AGE_MS);
        assert!(histories.refuses(&append("comment", COMMENT, None), AGE_MS));
    }
}
