//! Telling viewers of posts, at their topics' homes: each topic's in the order of their ids, those that were just stored and
//! those that the outbox kept. No IO, no clock.
//!
//! Some events of a topic are under way at a time; the next follow once all of these are answered. One that fails stays in
//! the outbox, and its topic lags: what is stored from then on waits, until a pass through the outbox came to its end and
//! brought all that precedes it. So a topic's order outlasts the outage of a store. What waits does so in memory for a short
//! while and in the outbox for a long one.

pub mod lag;
#[cfg(test)]
mod tests;

use crate::backend::telling::lag::Lag;
use crate::db::{Change, Marks, Record};

pub use crate::ground::posts::{Due, PassEnd};
use crate::ground::posts::{Marking, Telling, Told};
use crate::limits::{MARKS_AT_ONCE, TOLD_AT_ONCE, TOLD_BYTES, TOLD_WAIT, TOLD_WAITING_MAX};
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::topic::Topic;
use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// What is not answered yet. All of it came from the outbox, or none.
    under_way: Vec<Record>,
    is_listed: bool,
    /// Something of what was under way failed.
    failed: bool,
    /// What the outbox listed, to be published next.
    listed: VecDeque<Telling>,
    /// What was stored since, and when that was heard.
    live: VecDeque<(Instant, Telling)>,
    lag: Option<Lag>,
    /// It lags no longer once what is listed is published.
    catches_up: bool,
    is_ready: bool,
    is_watched: bool,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.listed.is_empty() && self.live.is_empty() && self.lag.is_none()
    }

    fn may_go_on(&self) -> bool {
        self.under_way.is_empty()
            && (!self.listed.is_empty()
                || (!self.live.is_empty() && (self.lag.is_none() || planted(Mistake::OutboxOvertaken))))
    }
}

/// All topics of this home whose viewers are being told, or wait.
#[derive(Debug)]
pub struct Lines {
    lines: Map<Topic, Line>,
    /// Lines that may go on.
    ready: VecDeque<Topic>,
    /// Lines in which something waits, by when that was heard: it does not wait here for long.
    watched: VecDeque<(Instant, Topic)>,
    /// Every topic may lag that is not known not to: at first, since nobody knows what an earlier process left, and where there
    /// was no room to note which.
    lag: Option<Lag>,
    /// What is to be marked as published, and whether it came from the outbox.
    published: VecDeque<(Record, bool)>,
    /// What is to be marked as left; without a topic where there was no room to note it.
    lost: VecDeque<(Record, Option<Topic>)>,
    told: Told,
    /// Marks are on their way.
    marking: bool,
    /// They could not be stored: the next try is with the next tick.
    marks_wait: bool,
    left: u64,
    bytes: usize,
    held: Reservation,
}

impl Lines {
    /// Nothing waits.
    pub fn new(account: &Account, now: Instant) -> Lines {
        Lines {
            lines: Map::default(),
            ready: VecDeque::new(),
            watched: VecDeque::new(),
            lag: Some(Lag::since(now)),
            published: VecDeque::new(),
            lost: VecDeque::new(),
            told: Told::default(),
            marking: false,
            marks_wait: false,
            left: 0,
            bytes: 0,
            held: account.open(Use::Questions),
        }
    }

    /// A post was stored, or deleted, a moment ago.
    pub fn add(&mut self, topic: &Topic, telling: Telling, now: Instant) {
        let is_new = !self.lines.contains_key(topic);
        let bytes = telling.bytes() + if is_new { TOLD_BYTES } else { 0 };
        if !self.reserve(bytes) {
            return match self.lines.get_mut(topic) {
                Some(_) => {
                    self.spill(topic, now);
                    self.leave(topic, telling.record);
                    self.look_at(topic);
                }
                None => {
                    self.lag.get_or_insert(Lag::since(now)).leave(&telling.record);
                    self.left += 1;
                    self.lost.push_back((telling.record, None));
                }
            };
        }
        let lag = self.lag.map(|lag| Lag { failed: lag.failed, ..Lag::since(now) });
        let line = self.lines.entry(topic.clone()).or_insert_with(|| Line { lag, ..Line::default() });
        if telling.record.change == Change::Deleted {
            // Nobody needs to see any more what is deleted.
            let posted = Record { id: telling.record.id.clone(), change: Change::Posted };
            let waiting = line.live.iter().position(|(_, telling)| telling.record == posted);
            let listed = line.listed.iter().position(|telling| telling.record == posted);
            let gone = waiting.and_then(|at| line.live.remove(at)).map(|(_, telling)| telling);
            let taken_back = listed.and_then(|at| line.listed.remove(at));
            self.told.told += usize::from(taken_back.is_some());
            self.bytes -= gone.iter().chain(&taken_back).map(Telling::bytes).sum::<usize>();
        }
        line.live.push_back((now, telling));
        if !std::mem::replace(&mut line.is_watched, true) {
            self.watched.push_back((now, topic.clone()));
        }
        if line.live.len() > TOLD_WAITING_MAX {
            self.spill(topic, now);
        }
        self.look_at(topic);
    }

    /// A pass through the outbox, which began then, found this.
    pub fn list(&mut self, topic: &Topic, telling: Telling, began: Instant, now: Instant) {
        let is_new = !self.lines.contains_key(topic);
        // A topic that failed in this pass may be one for which there was no room to note it.
        let may_follow = self
            .lag
            .as_mut()
            .is_none_or(|lag| lag.comes_to(&telling.record, began) && !(is_new && lag.failed_after(began)));
        let has_room = may_follow && self.reserve(telling.bytes() + if is_new { TOLD_BYTES } else { 0 });
        if !has_room {
            *if may_follow { &mut self.told.failed } else { &mut self.told.passed_over } += 1;
        }
        if is_new && !has_room {
            self.lag.get_or_insert(Lag::since(now)).failed = Some(now);
            return;
        }
        let line = self.lines.entry(topic.clone()).or_default();
        // More of it may be in the pages that follow.
        let lag = line.lag.get_or_insert(Lag::since(now));
        // What is under way although it was stored long ago has its answer before it.
        let in_order = has_room && !lag.failed_after(began) && lag.comes_to(&telling.record, began);
        if !in_order {
            lag.failed = Some(now);
        }
        if !has_room {
            return;
        }
        if !in_order || line.under_way.contains(&telling.record) {
            self.bytes -= telling.bytes();
            self.told.passed_over += 1;
            return;
        }
        if let Some(at) = line.live.iter().position(|(_, live)| live.record == telling.record) {
            let (_, live) = line.live.remove(at).expect("it was just found");
            self.bytes -= live.bytes();
        }
        line.listed.push_back(telling);
        self.look_at(topic);
    }

    /// What the outbox has cannot be told of anybody, now and later.
    pub fn give_up(&mut self, record: Record) {
        self.published.push_back((record, true));
    }

    /// Some of a topic's posts, to be published now, in this order; each is answered by [`Lines::told`].
    pub fn next_tellings(&mut self) -> Option<(Topic, Vec<Telling>)> {
        loop {
            let topic = self.ready.pop_front()?;
            shrink(&mut self.ready);
            let Some(line) = self.lines.get_mut(&topic) else { continue };
            line.is_ready = false;
            if !line.may_go_on() {
                continue;
            }
            line.is_listed = !line.listed.is_empty();
            let tellings: Vec<Telling> = if line.is_listed {
                line.listed.drain(..line.listed.len().min(TOLD_AT_ONCE)).collect()
            } else {
                line.live.drain(..line.live.len().min(TOLD_AT_ONCE)).map(|(_, telling)| telling).collect()
            };
            line.under_way.extend(tellings.iter().map(|telling| telling.record.clone()));
            self.bytes -= tellings.iter().map(Telling::bytes).sum::<usize>();
            return Some((topic, tellings));
        }
    }

    /// Whether something may be published now.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What became of something that was published.
    pub fn told(&mut self, topic: &Topic, record: &Record, is_told: bool, now: Instant) {
        let Some(line) = self.lines.get_mut(topic) else { return };
        let Some(at) = line.under_way.iter().position(|under_way| under_way == record) else { return };
        let record = line.under_way.remove(at);
        if is_told {
            self.published.push_back((record, line.is_listed));
        } else {
            line.failed = true;
            line.lag.get_or_insert(Lag::since(now)).failed = Some(now);
            if line.is_listed {
                self.told.failed += 1;
            } else {
                self.leave(topic, record);
            }
        }
        let line = self.lines.get_mut(topic).expect("it was just there");
        if line.under_way.is_empty() && take(&mut line.failed) {
            line.catches_up = false;
            self.bytes -= line.listed.iter().map(Telling::bytes).sum::<usize>();
            self.told.failed += line.listed.len();
            line.listed.clear();
        }
        self.look_at(topic);
    }

    /// A pass through the outbox is over; all that it listed came before this.
    pub fn pass_ends(&mut self, end: &PassEnd, now: Instant) {
        if let (Some(lag), Due::Of(topics)) = (self.lag, &end.due)
            && lag.is_over(end, |_| false, now)
        {
            // From now on it is known which topics lag.
            let new: Vec<&Topic> = topics.iter().filter(|topic| !self.lines.contains_key(*topic)).collect();
            for topic in new {
                if self.held.resize(self.bytes + TOLD_BYTES).is_err() {
                    return;
                }
                self.bytes += TOLD_BYTES;
                self.lines.insert(topic.clone(), Line { lag: Some(Lag::since(now)), ..Line::default() });
            }
            self.lag = None;
        }
        if self.lag.is_some_and(|lag| lag.is_over(end, |_| true, now)) {
            self.lag = None;
        }
        if self.lag.is_some() {
            // It may have failed with any topic.
            return;
        }
        let mut changed = Vec::new();
        for (topic, line) in &mut self.lines {
            if line.lag.is_some_and(|lag| lag.is_over(end, |topics| topics.contains(topic), now)) {
                line.catches_up = true;
                changed.push(topic.clone());
            }
        }
        changed.iter().for_each(|topic| self.look_at(topic));
    }

    /// Once a tick: what has waited for long waits in the outbox from now on, and marks are tried again.
    pub fn tick(&mut self, now: Instant) {
        self.marks_wait = false;
        while self.watched.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= TOLD_WAIT) {
            let (_, topic) = self.watched.pop_front().expect("it was just seen");
            shrink(&mut self.watched);
            let Some(line) = self.lines.get_mut(&topic) else { continue };
            line.is_watched = false;
            if line.live.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= TOLD_WAIT) {
                self.spill(&topic, now);
            }
            let line = self.lines.get_mut(&topic).expect("it was just there");
            if let Some((since, _)) = line.live.front() {
                line.is_watched = true;
                self.watched.push_back((*since, topic));
            }
        }
    }

    /// Nothing waits in memory any more.
    pub fn spill_all(&mut self, now: Instant) {
        let topics: Vec<Topic> = self.lines.keys().cloned().collect();
        topics.iter().for_each(|topic| self.spill(topic, now));
    }

    /// Whether topics wait for the outbox.
    pub fn lags(&self) -> bool {
        self.lag.is_some() || self.lines.values().any(|line| line.lag.is_some())
    }

    /// Whether nothing is under way, and all marks are made.
    pub fn is_settled(&self) -> bool {
        !self.marking
            && self.published.is_empty()
            && self.lost.is_empty()
            && self.lines.values().all(|line| line.under_way.is_empty() && line.live.is_empty())
    }

    /// Marks for the database, unless others are on their way: they gather meanwhile.
    pub fn next_marks(&mut self) -> Option<Marking> {
        if self.marking || self.marks_wait || (self.published.is_empty() && self.lost.is_empty()) {
            return None;
        }
        self.marking = true;
        let published = self.published.drain(..self.published.len().min(MARKS_AT_ONCE));
        let mut listed = 0;
        let published: Vec<Record> = published
            .map(|(record, was_listed)| {
                listed += usize::from(was_listed);
                record
            })
            .collect();
        let (left, topics) = self.lost.drain(..self.lost.len().min(MARKS_AT_ONCE)).unzip();
        shrink(&mut self.published);
        shrink(&mut self.lost);
        Some(Marking { marks: Arc::new(Marks { published, left }), topics, listed })
    }

    /// They are stored.
    pub fn marked(&mut self, marking: Marking, now: Instant) {
        self.marking = false;
        self.told.told += marking.listed;
        for (topic, record) in marking.topics.into_iter().zip(&marking.marks.left) {
            let lag = match &topic {
                Some(topic) => self.lines.get_mut(topic).and_then(|line| line.lag.as_mut()),
                None => self.lag.as_mut(),
            };
            if let Some(lag) = lag {
                lag.mark(record, now);
            }
        }
    }

    /// They could not be stored: they wait for the next tick.
    pub fn unmarked(&mut self, marking: Marking) {
        (self.marking, self.marks_wait) = (false, true);
        let Marks { published, left } = Arc::unwrap_or_clone(marking.marks);
        self.published.extend(published.into_iter().enumerate().map(|(at, record)| (record, at < marking.listed)));
        // What was stored first becomes due first.
        left.into_iter().zip(marking.topics).rev().for_each(|lost| self.lost.push_front(lost));
    }

    /// What came to an end of the outbox's since this was asked last.
    pub fn take_told(&mut self) -> Told {
        take(&mut self.told)
    }

    /// How many were left to the outbox since this was asked last.
    pub fn take_left(&mut self) -> u64 {
        take(&mut self.left)
    }

    fn leave(&mut self, topic: &Topic, record: Record) {
        let line = self.lines.get_mut(topic).expect("whoever leaves something has a line");
        line.lag.as_mut().expect("it lags").leave(&record);
        self.left += 1;
        self.lost.push_back((record, Some(topic.clone())));
    }

    /// What waits of a topic does so in the outbox from now on.
    fn spill(&mut self, topic: &Topic, now: Instant) {
        let Some(line) = self.lines.get_mut(topic) else { return };
        line.lag.get_or_insert(Lag::since(now));
        line.catches_up = false;
        for (_, telling) in take(&mut line.live) {
            self.bytes -= telling.bytes();
            self.leave(topic, telling.record);
        }
    }

    /// A line has changed: it goes on, waits, or ends.
    fn look_at(&mut self, topic: &Topic) {
        let Some(line) = self.lines.get_mut(topic) else { return };
        if line.catches_up && line.listed.is_empty() && line.under_way.is_empty() {
            line.catches_up = false;
            line.lag = None;
        }
        if line.may_go_on() && !line.is_ready {
            line.is_ready = true;
            self.ready.push_back(topic.clone());
        }
        if line.is_empty() {
            self.lines.remove(topic);
            shrink(&mut self.lines);
            self.bytes -= TOLD_BYTES;
        }
        self.held.settle(self.bytes);
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let has_room = self.held.resize(self.bytes + bytes).is_ok();
        self.bytes += if has_room { bytes } else { 0 };
        has_room
    }
}
