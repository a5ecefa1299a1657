//! The node's first shard reads what was told to all nodes, and tells the other shards.

use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::control::{Command, News};
use crate::kv::{Page, Read, Request, Stored as Found};
use crate::limits::{CONTROL_LATE, CONTROL_READ, PAGE_EVENTS};
use crate::wire::event::{CONTROL_REVOKE, CONTROL_STREAMS, CONTROL_TOPIC};
use crate::wire::frame::Stored;
use crate::wire::position::Position;
use crate::wire::topic::Topic;

/// How far it has read.
#[derive(Debug)]
pub struct Reading {
    /// All up to here is told.
    pub(crate) at: Position,
    /// When it reads on.
    next: Option<Instant>,
    pub(crate) asking: bool,
    /// It was at the end once.
    pub(crate) caught_up: bool,
    /// What changed streams before this, in Unix ms, was not for this node's.
    began_ms: u64,
    /// For how long a revocation is kept.
    kept: Duration,
}

impl Reading {
    /// Of a node that begins now, in Unix ms, and keeps revocations for so long.
    pub fn new(now_ms: u64, kept: Duration) -> Reading {
        let began_ms = now_ms.saturating_sub(CONTROL_LATE.as_millis() as u64);
        Reading { at: Position::START, next: None, asking: false, caught_up: false, began_ms, kept }
    }

    /// What it reads next.
    pub(crate) fn ask(&self) -> Read {
        let topic = Topic::parse(CONTROL_TOPIC).expect("it is a topic");
        Read { topic, after: self.at, limit: PAGE_EVENTS }
    }

    /// What a part of history tells, and whether that is all there is.
    pub(crate) fn page(&mut self, page: &Page) -> (Vec<News>, bool) {
        let news = page.events.iter().filter_map(|found| self.take(found)).collect();
        self.caught_up |= page.complete;
        (news, page.complete)
    }

    /// What an event of history tells, if it is for this node.
    fn take(&mut self, found: &Found) -> Option<News> {
        self.at = found.position;
        let stored = Stored::read(&found.event)?;
        if !matches!(&*stored.kind, CONTROL_REVOKE | CONTROL_STREAMS) {
            return None;
        }
        if stored.kind == CONTROL_STREAMS && !self.caught_up && stored.at < self.began_ms {
            return None;
        }
        serde_json::from_slice::<Command>(stored.data).ok().map(|command| command.news(stored.at, self.kept))
    }
}

impl Ground {
    /// Whether this node has use for what is told.
    pub(crate) fn reads_control(&self) -> bool {
        self.node.roles.frontend || self.node.tokens.is_some()
    }

    /// Once a tick: reads on if it is time to, and forgets what no token lives to see.
    pub(crate) fn tick_control(&mut self) {
        if self.is_whole_second() && !self.control.revoked.is_empty() {
            self.control.revoked.forget(self.clock.unix_ms);
            self.control.held.settle(self.control.revoked.bytes());
        }
        let (now, reading) = (self.clock.instant, &self.control.reading);
        let is_due = !reading.asking && reading.next.is_none_or(|next| next <= now);
        if self.id == 0 && is_due && self.reads_control() {
            self.read_control();
        }
    }

    pub(crate) fn read_control(&mut self) {
        let reading = &mut self.control.reading;
        (reading.asking, reading.next) = (true, Some(self.clock.instant + CONTROL_READ));
        let read = reading.ask();
        self.ask(Request::Read(read), Asked::Control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::{Event, Frame};
    use crate::wire::version::Version;

    fn found(kind: &str, at: u64, data: &str) -> Found {
        let event = Event {
            id: "i",
            topic: CONTROL_TOPIC,
            kind,
            key: None,
            at,
            data: data.as_bytes(),
            class: Class::Every,
            ttl_ms: 0,
            place: None,
            version: Version::NONE,
            hops: None,
        };
        Found { position: Position::at(at), prev: None, event: Frame::encode(&event).json().into() }
    }

    #[test]
    fn a_node_that_begins_takes_old_revocations_and_no_old_changes_of_streams() {
        let late = CONTROL_LATE.as_millis() as u64;
        let mut reading = Reading::new(2 * late, CONTROL_LATE);
        let (revoke, end) = (r#"{"revoke":{"member":"ana","before_ms":1}}"#, r#"{"disconnect":{"member":"ana"}}"#);
        assert!(matches!(reading.take(&found(CONTROL_REVOKE, 1, revoke)), Some(News::Revoked(..))));
        assert!(reading.take(&found(CONTROL_STREAMS, late - 1, end)).is_none());
        assert!(matches!(reading.take(&found(CONTROL_STREAMS, late, end)), Some(News::Disconnected(..))));
        reading.caught_up = true;
        // Whose clock is far behind speaks to those that are there all the same.
        assert!(reading.take(&found(CONTROL_STREAMS, 1, end)).is_some());
        for (kind, data) in [("comment", end), (CONTROL_STREAMS, "{\"unheard_of\":{}}"), (CONTROL_REVOKE, "7")] {
            assert!(reading.take(&found(kind, 3 * late, data)).is_none(), "{kind} {data}");
        }
        assert_eq!(reading.at, Position::at(3 * late));
    }
}
