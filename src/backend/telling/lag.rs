//! When a topic's posts wait for the outbox, and for how long.

use std::time::Instant;

use crate::db::{Change, Record};
use crate::ground::posts::{Due, PassEnd};
use crate::limits::TOLD_LAG_MAX;
use crate::runtime::random::Set;
use crate::wire::topic::Topic;

/// Some of a topic's posts are in the outbox, so that others have to wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    pub since: Instant,
    /// When something failed last.
    pub failed: Option<Instant>,
    /// Records of which it is not known yet that the database has them as left.
    pub unmarked: usize,
    /// The first of them.
    pub first_unmarked: Option<i64>,
    /// When that became known of the last of those that are.
    pub marked: Option<Instant>,
    /// The first of those of which it became known while a pass may have been beyond it, and when.
    pub late: Option<(i64, Instant)>,
}

impl Lag {
    pub fn since(now: Instant) -> Lag {
        Lag { since: now, failed: None, unmarked: 0, first_unmarked: None, marked: None, late: None }
    }

    /// Something failed in a pass that began then: what follows it waits for the next one.
    pub fn failed_after(&self, began: Instant) -> bool {
        self.failed.is_some_and(|failed| failed >= began)
    }

    /// The pass that began then came to this post. False if it went past one before it, which was not due yet.
    pub fn comes_to(&mut self, record: &Record, began: Instant) -> bool {
        if self.first_unmarked.is_some_and(|first| first < record.number()) {
            return false;
        }
        let late = self.late.filter(|(_, marked)| *marked >= began).map(|(number, _)| number);
        if late.is_none_or(|late| late >= record.number()) {
            self.late = self.late.filter(|_| late.is_some_and(|late| late > record.number()));
            return true;
        }
        false
    }

    /// A record is to be marked as left.
    pub fn leave(&mut self, record: &Record) {
        self.unmarked += 1;
        if record.change == Change::Posted {
            self.first_unmarked = Some(self.first_unmarked.map_or(record.number(), |first| first.min(record.number())));
        }
    }

    /// The database has a record as left.
    pub fn mark(&mut self, record: &Record, now: Instant) {
        self.unmarked = self.unmarked.saturating_sub(1);
        self.first_unmarked = self.first_unmarked.filter(|_| self.unmarked > 0);
        self.marked = Some(now);
        if record.change == Change::Posted && self.late.is_none_or(|(late, _)| late > record.number()) {
            self.late = Some((record.number(), now));
        }
    }

    /// Whether all that was left before is published, but for what is still listed.
    pub fn is_over(&self, end: &PassEnd, has_due: impl FnOnce(&Set<Topic>) -> bool, now: Instant) -> bool {
        // A pass that went past one of them before it was due lists it no more, however late its last page was asked for.
        let is_passed = self.late.is_some_and(|(_, marked)| marked >= end.began);
        let is_listed = self.unmarked == 0 && self.marked.is_none_or(|marked| marked < end.asked) && !is_passed;
        let nothing_due = match &end.due {
            Due::Nothing => !self.failed_after(end.began),
            Due::Of(topics) => !has_due(topics),
            Due::Unknown => false,
        };
        let last = self.failed.unwrap_or(self.since);
        (is_listed && nothing_due) || now.saturating_duration_since(last) >= TOLD_LAG_MAX
    }
}
