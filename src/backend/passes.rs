//! When a backend looks into the outbox, how much it takes at a time, and when a pass through it is over. No IO, no clock.

use std::time::Instant;

use crate::db::Record;
use crate::ground::posts::Told;
use crate::limits::{OUTBOX_EVERY, OUTBOX_LEASE, OUTBOX_LISTED_MIN, OUTBOX_PAGE_MAX, OUTBOX_RETRY};

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask for a page of at most `limit` records that follow `after`.
    Ask { after: Option<Record>, limit: u32 },
    /// Ask for more time for what was listed.
    Hold,
    /// The pass is given up; say so to all.
    GiveUp,
}

/// A pass under way.
#[derive(Debug)]
struct Pass {
    began: Instant,
    asked: Instant,
    /// A page is asked for and not answered.
    asks: bool,
    /// Up to where it came.
    after: Option<Record>,
    /// There is more behind that.
    more: bool,
}

/// The passes of a node.
#[derive(Debug)]
pub struct Passes {
    pass: Option<Pass>,
    /// Posts that were given to their homes and are not settled.
    open: usize,
    /// Of those since none was open.
    told: Told,
    /// The last of them could not be published, not one.
    stuck: bool,
    limit: u32,
    /// The next pass begins, or one that is stuck goes on.
    next: Instant,
    ended: Instant,
    /// When the database was asked last, which prolongs the lease.
    asked: Instant,
}

impl Passes {
    /// The first pass begins at once.
    pub fn new(now: Instant) -> Passes {
        let (told, limit) = (Told::default(), OUTBOX_LISTED_MIN);
        Passes { pass: None, open: 0, told, stuck: false, limit, next: now, ended: now, asked: now }
    }

    /// What to do now. `is_away` says that the key-value store is known not to answer.
    pub fn step(&mut self, now: Instant, is_away: bool) -> Option<Step> {
        let step = self.next_step(now, is_away);
        if matches!(step, Some(Step::Ask { .. })) {
            self.asked = now;
        } else if step.is_none() && self.open > 0 && now.saturating_duration_since(self.asked) >= OUTBOX_LEASE / 3 {
            self.asked = now;
            return Some(Step::Hold);
        }
        step
    }

    fn next_step(&mut self, now: Instant, is_away: bool) -> Option<Step> {
        let is_due = now >= self.next;
        let Some(pass) = &mut self.pass else {
            if self.open > 0 || !is_due {
                return None;
            }
            self.pass = Some(Pass { began: now, asked: now, asks: true, after: None, more: true });
            return Some(Step::Ask { after: None, limit: self.limit });
        };
        if pass.asks || !pass.more || self.open > self.limit as usize / 2 {
            return None;
        }
        if self.stuck && (is_away || !is_due) {
            return is_away.then_some(Step::GiveUp);
        }
        pass.asks = true;
        pass.asked = now;
        Some(Step::Ask { after: pass.after.clone(), limit: self.limit })
    }

    /// When the pass began, and when its last page was asked for.
    pub fn times(&self) -> Option<(Instant, Instant)> {
        self.pass.as_ref().map(|pass| (pass.began, pass.asked))
    }

    /// A page came, of so many posts up to `last`. True if the pass has listed all.
    pub fn listed(&mut self, posts: usize, last: Option<Record>, more: bool, now: Instant) -> bool {
        let Some(pass) = &mut self.pass else { return false };
        pass.asks = false;
        pass.more = more;
        pass.after = last.or_else(|| pass.after.take());
        self.open += posts;
        if !more {
            self.end(now);
        }
        !more
    }

    /// The pass is over, whatever it has not listed.
    pub fn end(&mut self, now: Instant) {
        self.pass = None;
        self.ended = now;
        self.next = now + if self.stuck { OUTBOX_RETRY } else { OUTBOX_EVERY };
    }

    /// Another backend publishes them. What it has left is worth knowing as a whole.
    pub fn elsewhere(&mut self, now: Instant) {
        self.limit = OUTBOX_PAGE_MAX;
        self.end(now);
    }

    /// Some of what was listed came to an end.
    pub fn settled(&mut self, told: Told, now: Instant) {
        self.open = self.open.saturating_sub(told.told + told.failed + told.passed_over);
        self.told.told += told.told;
        self.told.failed += told.failed;
        if self.open > 0 {
            return;
        }
        let Told { told, failed, .. } = std::mem::take(&mut self.told);
        self.stuck = told == 0 && failed > 0;
        if self.stuck {
            self.limit = OUTBOX_LISTED_MIN;
            self.next = now + OUTBOX_RETRY;
        } else if failed == 0 {
            self.limit = (self.limit * 2).min(OUTBOX_PAGE_MAX);
        }
    }

    /// Topics wait for what the outbox has: the next pass comes soon.
    pub fn hasten(&mut self) {
        if self.pass.is_none() {
            self.next = self.next.min(self.ended + OUTBOX_RETRY);
        }
    }
}
