//! A listing of a topic's history, put together from pages.

use std::collections::VecDeque;

use crate::ground::slots::Conn;
use crate::kv::{Page, Read, Stored};
use crate::limits::{PAGE_EVENTS, PAST_BYTES};
use crate::wire::hops::Hops;
use crate::wire::position::{Position, Shown};
use crate::wire::topic::Topic;

/// Which events of a topic are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The oldest that follow this place.
    After(Position),
    /// The newest before this one.
    Before(Position),
}

/// A listing, and what was found for it.
#[derive(Debug)]
pub struct Past {
    pub(crate) conn: Conn,
    topic: Topic,
    part: Part,
    pub(crate) limit: usize,
    /// History is read on behind this place.
    from: Position,
    found: VecDeque<Stored>,
    pub(crate) bytes: usize,
    /// There are more of them.
    more: bool,
    /// Some that followed the place may be missing.
    gap: bool,
}

impl Past {
    pub(crate) fn new(conn: Conn, topic: Topic, part: Part, limit: usize) -> Past {
        let from = match part {
            Part::After(position) => position,
            Part::Before(_) => Position::START,
        };
        Past { conn, topic, part, limit, from, found: VecDeque::new(), bytes: 0, more: false, gap: false }
    }

    /// What is to be read next.
    pub(crate) fn read(&self) -> Read {
        let limit = match self.part {
            // One more tells whether there are more.
            Part::After(_) => (self.limit - self.found.len()) as u32 + 1,
            Part::Before(_) => PAGE_EVENTS,
        };
        Read { topic: self.topic.clone(), after: self.from, limit }
    }

    /// Takes the next page. Whether that was the last.
    pub(crate) fn take(&mut self, page: Page) -> bool {
        if let Part::After(position) = self.part {
            self.gap |= self.found.is_empty() && page.reaches.lacks_after(Shown::to(position));
        }
        let complete = page.complete;
        for stored in page.events {
            self.from = stored.position;
            match self.part {
                Part::Before(position) if stored.position >= position => return true,
                Part::After(_) if self.is_full(stored.event.len()) => {
                    self.more = true;
                    return true;
                }
                _ => {}
            }
            self.bytes += stored.event.len();
            self.found.push_back(stored);
            while self.found.len() > self.limit || (self.bytes > PAST_BYTES && self.found.len() > 1) {
                self.bytes -= self.found.pop_front().map_or(0, |older| older.event.len());
                self.more = true;
            }
        }
        complete
    }

    /// There is no room for one more event of so many bytes; the first one always has some.
    fn is_full(&self, bytes: usize) -> bool {
        self.found.len() >= self.limit || (self.bytes + bytes > PAST_BYTES && !self.found.is_empty())
    }

    pub(crate) fn body(&self, dc: &str) -> String {
        let mut body = String::with_capacity(self.bytes + 64 * (self.found.len() + 1));
        body.push_str("{\"events\":[");
        for (at, stored) in self.found.iter().enumerate() {
            let (_, event) = Hops::split(&stored.event);
            let event = event.strip_suffix('}').unwrap_or("{\"\":null");
            let comma = if at == 0 { "" } else { "," };
            body += &format!("{comma}{event},\"position\":\"{dc}:{}\"}}", stored.position);
        }
        body += &format!("],\"more\":{}{}}}", self.more, if self.gap { ",\"gap\":true" } else { "" });
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::position::Reach;
    use proptest::prelude::*;

    proptest! {
        /// Pages of any size, of events of any size: what is listed is a run of what there is, on the side that was asked for,
        /// and `more` says whether that side goes on.
        #[test]
        fn a_part_of_history(
            sizes in prop::collection::vec(2usize..60_000, 0..40),
            at in 0u64..50,
            limit in 1usize..12,
            page in 1usize..7,
            is_after: bool,
        ) {
            let all: Vec<Stored> = (1..).zip(&sizes).map(|(ms, size)| {
                let event = format!("{{\"\":\"{}\"}}", "x".repeat(*size)).into();
                Stored { position: Position { ms, seq: 1 }, prev: None, event }
            }).collect();
            let place = Position { ms: at, seq: 1 };
            let part = if is_after { Part::After(place) } else { Part::Before(place) };
            let mut past = Past::new(Conn { slot: 0, generation: 0 }, Topic::parse("a:b").unwrap(), part, limit);
            loop {
                let read = past.read();
                let next = all.iter().filter(|stored| stored.position > read.after).take(page.min(read.limit as usize));
                let events: Vec<Stored> = next.cloned().collect();
                let complete = events.last().is_none_or(|last| Some(last.position) == all.last().map(|last| last.position));
                if past.take(Page { events, complete, reaches: Reach::START, since: Reach::START }) {
                    break;
                }
            }
            let side: Vec<u64> = all.iter().map(|stored| stored.position).filter(|position| {
                if is_after { *position > place } else { *position < place }
            }).map(|position| position.ms).collect();
            let found: Vec<u64> = past.found.iter().map(|stored| stored.position.ms).collect();
            prop_assert!(found.len() <= limit && (side.is_empty() || !found.is_empty()));
            prop_assert!(past.bytes <= PAST_BYTES || found.len() == 1);
            prop_assert_eq!(if is_after { side.starts_with(&found) } else { side.ends_with(&found) }, true);
            prop_assert_eq!(past.more, found.len() < side.len());
            let body: serde_json::Value = serde_json::from_str(&past.body("dc")).unwrap();
            prop_assert_eq!(body["events"].as_array().unwrap().len(), found.len());
        }
    }
}
