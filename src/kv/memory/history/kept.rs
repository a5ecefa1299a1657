//! History that outlives its process: what is to be kept of a change, and how it begins from what was.

use std::collections::VecDeque;

use crate::kv::kept::{Forgotten, Kept};
use crate::kv::memory::history::{Entry, Histories, History, SHELF_BYTES, Shelf, of};
use crate::kv::pace::Room;
use crate::limits::KEPT_FORGETS;
use crate::wire::frame::Withdrawn;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

/// What was given up and is yet to be given up where it is kept; none where nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Forgets(Option<VecDeque<Forgotten>>);

impl Forgets {
    /// A topic gave up events.
    pub(crate) fn events(&mut self, topic: &Topic, gone: &mut Vec<Position>) {
        match &mut self.0 {
            Some(all) => all.extend(gone.drain(..).map(|position| Forgotten::Event(topic.clone(), position))),
            None => gone.clear(),
        }
    }

    pub(crate) fn push(&mut self, forgotten: impl FnOnce() -> Forgotten) {
        if let Some(all) = &mut self.0 {
            all.push_back(forgotten());
        }
    }
}

impl Histories {
    /// Whether somebody keeps it beyond the process.
    pub fn is_kept(&self) -> bool {
        self.forgets.0.is_some()
    }

    /// The event at this place is kept, with all before it: readers are shown it, and what it withdraws no more.
    pub fn show(&mut self, topic: &Topic, place: Position, withdraws: Option<&str>) {
        let Some(history) = self.topics.get_mut(topic) else { return };
        history.shown = Some(place);
        if let Some(id) = withdraws {
            self.bytes -= history.bytes;
            history.withdraw(&Withdrawn::of(id), place);
            self.bytes += history.bytes;
        }
    }

    /// The newest event of a topic, at this place, could not be kept: it is as if it had never come. `room` is what its type had
    /// before, if that has a pace.
    pub fn take_back(&mut self, topic: &Topic, place: Position, room: Option<Room>) {
        // Its place is given to no other: a database may have kept it and failed to say so.
        self.clock_ms = self.clock_ms.max(place.ms + 1);
        let Some(history) = self.topics.get_mut(topic) else { return };
        self.bytes -= history.bytes;
        let is_at = |shelf: &Shelf| shelf.events.back().is_some_and(|entry| entry.position == place);
        if let Some(at) = history.shelves.iter().position(is_at) {
            history.take_newest(at, room);
        }
        history.let_go(place);
        self.bytes += history.bytes;
    }

    /// What was given up is yet to be given up where it is kept, after all.
    pub fn give_back(&mut self, forgets: &[Forgotten]) {
        if let Some(all) = &mut self.forgets.0 {
            forgets.iter().rev().for_each(|forgotten| all.push_front(forgotten.clone()));
        }
    }

    /// Some of what was given up since it was last asked: no change of what is kept takes long.
    pub fn take_forgotten(&mut self) -> Vec<Forgotten> {
        let Some(all) = &mut self.forgets.0 else { return Vec::new() };
        let count = all.len().min(KEPT_FORGETS);
        all.drain(..count).collect()
    }

    /// Begins with what was kept of an earlier process, and notes from now on what it gives up.
    pub fn restore(&mut self, kept: Kept, now_ms: u64) {
        self.forgets = Forgets(Some(VecDeque::new()));
        self.since = Reach::back_to(Position::at(kept.since_ms));
        for (topic, position) in kept.reaches {
            let history = of((&mut self.topics, &mut self.names), &mut self.bytes, &mut self.round, topic);
            history.reaches = history.reaches.max(Reach::back_to(position));
            history.end = history.end.max(Some(position));
            history.shown = history.end;
        }
        for kept in kept.events {
            let history = of((&mut self.topics, &mut self.names), &mut self.bytes, &mut self.round, kept.topic);
            self.bytes -= history.bytes;
            // One that should precede it was not kept, or not yet given up where it was.
            let is_known = |prev: Position| history.last() == Some(prev) || history.reaches.place() >= prev;
            if let Some(prev) = kept.prev.filter(|prev| !is_known(*prev)) {
                history.reaches = Reach::back_to(prev);
            }
            if let Some(event) = &kept.event {
                history.hold_back_again(&kept.kind, event, kept.position);
                history.saw_paced(&kept.kind, event);
            }
            let (at, shelf_bytes) = history.shelf(&kept.kind);
            let entry = Entry { position: kept.position, prev: kept.prev, event: kept.event };
            history.bytes += entry.bytes() + shelf_bytes;
            history.end = history.end.max(Some(kept.position));
            history.shown = history.end;
            history.shelves[at].age_max_ms = kept.age_max_ms;
            history.shelves[at].events.push_back(entry);
            self.bytes += history.bytes;
            self.clock_ms = self.clock_ms.max(kept.position.ms);
        }
        let now_ms = self.time(now_ms);
        self.sweep(now_ms);
    }
}

impl History {
    /// Takes the newest event of a shelf, which is the topic's newest, away again.
    fn take_newest(&mut self, at: usize, room: Option<Room>) {
        let shelf = &mut self.shelves[at];
        let entry = shelf.events.pop_back().expect("it was just seen");
        self.bytes -= entry.bytes();
        self.end = entry.prev;
        if let Some(room) = room
            && let Some(now) = self.rooms.get_mut(&shelf.kind)
        {
            *now = room;
        }
        if shelf.events.is_empty() {
            self.bytes -= SHELF_BYTES + shelf.kind.len();
            self.shelves.swap_remove(at);
        }
    }

    /// The newest event that it has.
    fn last(&self) -> Option<Position> {
        self.shelves.iter().filter_map(|shelf| shelf.events.back()).map(|entry| entry.position).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::kept::{Keep, KeptEvent};
    use crate::kv::{Append, Page, Read};
    use proptest::prelude::*;

    const TOPICS: [&str; 2] = ["live:1", "chat:2"];
    const KINDS: [(&str, u32, u64); 2] = [("comment", 4, 3000), ("note", 2, 300)];

    fn topic(at: usize) -> Topic {
        Topic::parse(TOPICS[at]).unwrap()
    }

    fn read(histories: &mut Histories, at: usize, after: Position, now_ms: u64) -> Page {
        histories.read(&Read { topic: topic(at), after, limit: 100 }, now_ms)
    }

    proptest! {
        /// Wherever a process ends, the next one's history says the same as the one that never ended: the same events at the
        /// same places, a gap where it has one, and the same places for what comes next.
        #[test]
        fn a_history_that_begins_anew_is_the_one_that_never_ended(
            steps in prop::collection::vec((0u64..400, 0usize..2, 0usize..2, any::<bool>()), 1..60),
            after: prop::sample::Index,
        ) {
            let mut now_ms = 1;
            let mut never = Histories::new(now_ms, 3000);
            never.restore(Kept { since_ms: 1, ..Kept::default() }, now_ms);
            let (mut database, mut places) = (Kept { since_ms: 1, ..Kept::default() }, vec![Position::at(1)]);
            for (number, (pause, at, kind, sweeps)) in steps.into_iter().enumerate() {
                now_ms += pause;
                let (kind, count_max, age_max_ms) = KINDS[kind];
                let text: std::sync::Arc<str> = format!("{{\"id\":\"{number}\"}}").into();
                let append = Append {
                    topic: topic(at), event: text.clone(), kind: kind.to_owned(), count_max, age_max_ms, withdraws: None, peers: Vec::new(), pace: None,
                };
                if sweeps {
                    never.sweep(now_ms);
                }
                let (position, prev) = never.append(&append, now_ms);
                never.show(&topic(at), position, None);
                places.push(position);
                let event = KeptEvent { topic: topic(at), kind: kind.to_owned(), position, prev, event: Some(text), age_max_ms };
                database.apply(Keep { event, withdraws: None, forgets: never.take_forgotten(), once: None });
            }
            let mut anew = Histories::new(now_ms, 3000);
            anew.restore(database, now_ms);
            // As the other one did when it began: where a topic ended that nobody expects anything of is known until then.
            never.sweep(now_ms);
            for at in 0..TOPICS.len() {
                let after = places[after.index(places.len())];
                prop_assert_eq!(read(&mut anew, at, after, now_ms), read(&mut never, at, after, now_ms));
                let (next, same) = (anew.end(&topic(at), now_ms), never.end(&topic(at), now_ms));
                prop_assert_eq!((next.position, next.since), (same.position, same.since));
            }
        }
    }

    #[test]
    fn an_event_that_was_not_kept_is_missing_and_said() {
        let event = |ms, prev: Option<u64>| KeptEvent {
            topic: topic(0),
            kind: "comment".to_owned(),
            position: Position { ms, seq: 1 },
            prev: prev.map(|ms| Position { ms, seq: 1 }),
            event: Some("{}".into()),
            age_max_ms: 9_000,
        };
        let mut histories = Histories::new(100, 9_000);
        let events = vec![event(10, None), event(30, Some(20)), event(40, Some(30))];
        histories.restore(Kept { since_ms: 1, events, ..Kept::default() }, 100);
        let page = read(&mut histories, 0, Position::at(11), 100);
        assert_eq!((page.events.len(), page.reaches), (2, Reach::back_to(Position { ms: 20, seq: 1 })));
    }
}
