//! The order of one topic's class `every` events on this node: history's, whichever Dispatcher sent them and in which
//! order they came. Kept at the topic's home shard; no IO, no clock.
//!
//! Every event names the one before it (`prev`). One that comes before its predecessor waits a moment for it; then the
//! hole is read from history. Ends are compared now and then, so that an event nobody sent arrives all the same.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ground::frame_page::FramePage;
use crate::kv::End;
use crate::limits::{
    HELD_EVENT_BYTES_MAX, HELD_EVENTS_MAX, HELD_EVENTS_READ, HOLE_WAIT, RING_BYTES, RING_EVENTS, TOPIC_ACTIVE,
};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::position::{Position, Reach, Shown};

/// What the shell is to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// All viewers of the node get this now.
    Deliver(Arc<Frame>),
    /// All viewers are told that of what followed the position something may be missing, if it lies before `told`.
    Gap(Position, Reach),
}

/// What a client that comes back gets from memory.
#[derive(Debug, Clone)]
pub struct Recent {
    /// Recent events, oldest first; shared by all who ask before the next event.
    pub frames: Arc<[Arc<Frame>]>,
    /// The first of them that the client lacks.
    pub from: usize,
    /// How far back they reach.
    pub reaches: Reach,
    /// And how far forward.
    pub shown: Shown,
}

/// One topic's order.
#[derive(Debug)]
pub struct Order {
    /// Viewers were given everything up to here; none until history's end was noted.
    end: Option<Shown>,
    /// History is known to reach to here at least.
    target: Position,
    /// Events that came before their predecessors, and when.
    held: BTreeMap<Position, (Instant, Arc<Frame>)>,
    /// What those take.
    held_bytes: usize,
    /// Since when something is missing.
    hole_since: Option<Instant>,
    /// When the read under way began.
    reading_since: Option<Instant>,
    ring: VecDeque<Arc<Frame>>,
    ring_bytes: usize,
    /// The ring holds everything behind this position.
    ring_from: Reach,
    /// Viewers were told that something before this place may be missing.
    told: Reach,
    /// The ring, as handed out since it last changed.
    snapshot: Option<Arc<[Arc<Frame>]>>,
    /// When the last event came.
    active_at: Instant,
}

/// Since when something was missing that is to be read at once.
pub(crate) fn waited_for(now: Instant) -> Instant {
    now.checked_sub(HOLE_WAIT).unwrap_or(now)
}

impl Order {
    /// Of a topic that just got its first viewer.
    pub fn new(now: Instant) -> Order {
        Order {
            end: None,
            target: Position::START,
            held: BTreeMap::new(),
            held_bytes: 0,
            hole_since: None,
            reading_since: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_from: Reach::START,
            told: Reach::START,
            snapshot: None,
            active_at: now,
        }
    }

    /// What viewers were given everything up to; none until history's end was noted.
    pub fn end(&self) -> Option<Shown> {
        self.end
    }

    /// An event that has no place in this order arrived at this node.
    pub fn stir(&mut self, now: Instant) {
        self.active_at = now;
    }

    /// Whether an event came within [`TOPIC_ACTIVE`].
    pub fn is_active(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.active_at) < TOPIC_ACTIVE
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.ring_bytes + self.held_bytes
    }

    /// There is no memory for recent events: whoever comes back is given them from history.
    pub fn forget_recent(&mut self) {
        self.forget_ring(self.end.map_or(Reach::START, Reach::live_from));
    }

    fn let_held_go(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    /// Where history ended when the topic's first viewer came: what follows is delivered.
    pub fn noted(&mut self, end: End, now: Instant, effects: &mut Vec<Effect>) {
        if self.end.is_none() {
            // Viewers who come now expect nothing of what was lost before.
            let begin = Shown::told(end.since);
            let end = end.place().map_or(begin, |place| begin.max(Shown::to(place)));
            self.end = Some(end);
            self.ring_from = Reach::live_from(end);
            self.drain_held(now, effects);
        }
    }

    /// Where viewers of a prefix of the topic are, which had no viewers of its own: what follows is delivered.
    pub fn begin_at(&mut self, place: Position, now: Instant, effects: &mut Vec<Effect>) {
        self.noted(End { position: Some(place), since: Reach::START, clock: None }, now, effects);
    }

    /// Of a prefix, which has no events of its own: its topics were compared with history up to here.
    pub fn compared_to(&mut self, place: Position) {
        self.end = self.end.max(Some(Shown::to(place)));
    }

    /// For how long nothing came.
    pub fn quiet_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.active_at)
    }

    /// An event arrived at this node.
    pub fn frame(&mut self, frame: Arc<Frame>, now: Instant, effects: &mut Vec<Effect>) {
        let Some(position) = frame.position() else {
            effects.push(Effect::Deliver(frame));
            return;
        };
        self.active_at = now;
        let follows = |end: Shown| end.has(frame.prev()) || planted(Mistake::PrevUnchecked);
        match self.end {
            Some(end) if end.has(position) => {}
            Some(end) if follows(end) => {
                self.deliver(frame, position, effects);
                self.drain_held(now, effects);
            }
            _ => {
                self.target = self.target.max(position);
                if let Entry::Vacant(place) = self.held.entry(position) {
                    self.held_bytes += frame.held();
                    place.insert((now, frame));
                }
                // The newest ones stay in history for longest, and are read from there.
                while self.held.len() > HELD_EVENTS_MAX || self.held_bytes > HELD_EVENT_BYTES_MAX {
                    let Some((_, (_, newest))) = self.held.pop_last() else { break };
                    self.held_bytes -= newest.held();
                }
                self.hole_since.get_or_insert(now);
            }
        }
    }

    /// Something up to this position is in history that did not arrive here: it is read from there.
    pub fn reaches(&mut self, position: Position, now: Instant) {
        if self.end.is_none_or(|end| !end.has(position)) {
            self.target = self.target.max(position);
            self.hole_since.get_or_insert(now);
        }
    }

    fn deliver(&mut self, frame: Arc<Frame>, position: Position, effects: &mut Vec<Effect>) {
        self.end = Some(Shown::to(position));
        self.snapshot = None;
        if let Some(withdrawn) = frame.withdraws() {
            // Whoever comes back is told that it was taken back, and needs nothing of it.
            self.ring.retain(|recent| !recent.is(frame.topic(), &withdrawn));
            self.ring_bytes = self.ring.iter().map(|recent| recent.bytes().len()).sum();
        }
        self.ring_bytes += frame.held();
        self.ring.push_back(Arc::clone(&frame));
        while self.ring.len() > RING_EVENTS || self.ring_bytes > RING_BYTES {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.bytes().len();
            self.ring_from = self.ring_from.max(Reach::back_to(oldest.position().unwrap_or_default()));
        }
        effects.push(Effect::Deliver(frame));
    }

    /// Delivers what waited and follows now.
    fn drain_held(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(mut end) = self.end else { return };
        let before = end;
        while let Some(first) = self.held.first_entry() {
            let position = *first.key();
            if end.has(position) {
                self.held_bytes -= first.remove().1.held();
            } else if end.has(first.get().1.prev()) {
                let (_, frame) = first.remove();
                self.held_bytes -= frame.held();
                self.deliver(frame, position, effects);
                end = Shown::to(position);
            } else {
                break;
            }
        }
        if self.held.is_empty() && end.has(self.target) {
            self.hole_since = None;
        } else if end > before {
            // What is missing now may have been sent later than what was missing before.
            self.hole_since = Some(now);
        }
    }

    /// Where to read history from, if it is to be read now. The shell reads, and says how that ended.
    pub fn read_due(&mut self, now: Instant) -> Option<Position> {
        if self.next_read().is_none_or(|at| at > now) || self.reading_since.is_some() || planted(Mistake::HolesUnread) {
            return None;
        }
        let end = self.end?;
        self.reading_since = Some(now);
        Some(end.place())
    }

    /// When [`read_due`](Order::read_due) is worth asking.
    pub fn next_read(&self) -> Option<Instant> {
        let since = self.hole_since.filter(|_| self.end.is_some() && self.reading_since.is_none())?;
        // Where events come this fast, history would let go of what is missing.
        Some(if self.held.len() >= HELD_EVENTS_READ { since } else { since + HOLE_WAIT })
    }

    /// Nothing is known to be missing.
    pub fn is_whole(&self) -> bool {
        self.hole_since.is_none() && self.reading_since.is_none()
    }

    /// History could not be read: it will be due again.
    pub fn read_failed(&mut self, now: Instant) {
        if self.reading_since.take().is_some() {
            self.hole_since = Some(now);
        }
    }

    /// What [`read_due`](Order::read_due) asked for.
    pub fn page(&mut self, page: &FramePage, now: Instant, effects: &mut Vec<Effect>) {
        let began = self.reading_since.take();
        let Some(end) = self.end else { return };
        let lacks = page.reaches.lacks_after(end);
        if lacks && page.reaches > self.told {
            effects.push(Effect::Gap(end.place(), page.reaches));
            self.told = page.reaches;
            self.forget_ring(page.reaches);
        }
        // What a server still has from before it took over is not lost.
        for frame in page.frames.iter() {
            match (frame.position(), self.end) {
                (Some(position), Some(end)) if !end.has(position) => self.deliver(Arc::clone(frame), position, effects),
                _ => {}
            }
        }
        if lacks && page.complete {
            self.end = self.end.max(Some(Shown::told(page.reaches)));
        }
        self.drain_held(now, effects);
        let Some(end) = self.end else { return };
        if !page.complete {
            // The next page, at once.
            self.hole_since = Some(waited_for(now));
            return;
        }
        if let Some((came, first)) = self.held.values().next()
            && began.is_some_and(|began| *came < began)
        {
            // History was read to its end after this came, and does not have what should precede it.
            let lost = Reach::back_to(first.prev());
            effects.push(Effect::Gap(end.place(), lost));
            self.skip_to(lost);
            self.drain_held(now, effects);
        }
        if self.held.is_empty() {
            self.target = self.end.map_or(Position::START, Shown::place);
            self.hole_since = None;
        }
    }

    /// What lies before `reach` is lost to this node, which viewers were just told.
    fn skip_to(&mut self, reach: Reach) {
        let end = self.end.max(Some(Shown::told(reach)));
        self.end = end;
        self.forget_ring(end.map_or(reach, Reach::live_from));
    }

    /// From here on the ring holds what lies behind this.
    fn forget_ring(&mut self, from: Reach) {
        self.ring.clear();
        self.ring_bytes = 0;
        self.snapshot = None;
        self.ring_from = from;
    }

    /// Where history ended when it was asked, which was when viewers had been given everything up to `known`.
    pub fn compared(&mut self, history: End, known: Shown, now: Instant, effects: &mut Vec<Effect>) {
        let Some(end) = self.end else { return };
        // What came while the answer was on its way is no sign of a loss.
        // A place between events may lie behind all that there are, but not behind the store's time.
        let place = if known.place().is_between() { history.clock.max(history.position) } else { history.place() };
        let fell_back = place.is_some_and(|place| place < known.place());
        if fell_back {
            // It lost what it had, and perhaps what nobody here has seen. What it has since then is all new.
            effects.push(Effect::Gap(end.place(), history.since));
            self.told = self.told.max(history.since);
            self.let_held_go();
            self.end = Some(Shown::told(history.since));
            self.target = Position::START;
            self.forget_ring(history.since.max(Reach::live_from(end)));
        } else if history.since.lacks_after(end) && history.since > self.told {
            // The same, but what it has from before is to be read.
            effects.push(Effect::Gap(end.place(), history.since));
            self.told = history.since;
            self.forget_ring(history.since.max(Reach::live_from(end)));
        }
        if history.position > self.end.map(Shown::place) {
            self.target = self.target.max(history.position.unwrap_or_default());
            self.hole_since.get_or_insert(now);
        }
    }

    /// What followed `after`, if memory reaches back that far. `after` is within what viewers were given.
    pub fn recent(&mut self, after: Position) -> Option<Recent> {
        let shown = self.end.filter(|_| self.ring_from.covers(after))?;
        let ring = &self.ring;
        let frames = Arc::clone(self.snapshot.get_or_insert_with(|| ring.iter().cloned().collect()));
        let from = frames.partition_point(|frame| frame.position().is_none_or(|position| position <= after));
        Some(Recent { frames, from, reaches: self.ring_from, shown })
    }
}
