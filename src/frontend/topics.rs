//! A shard's table of topics and their viewers, and the order in which viewers are served.
//!
//! Every viewer has a cursor into its topic's log. Serving goes round the viewers: each gets, in one write, all that it
//! lacks at that moment, so what arrives while the shard is busy is batched by itself, and nobody waits longer than one
//! round.

pub mod served;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::frontend::log::{Cursor, Log};
use crate::frontend::merging::{Merging, log_bytes_max};
use crate::frontend::newest::Newest;
use crate::frontend::rounds::Rounds;
use crate::ground::all::All;
use crate::ground::slots::TopicIndex;
use crate::limits::{LOG_BYTES_MAX, LOG_KEYS_MAX, WATCHED_BYTES};
use crate::queue::{Bounds, Pushed, Queue};
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::frame::Frame;
use crate::wire::position::{Position, Reach, Shown};
use crate::wire::topic::Topic;

/// One subscription of one connection, as the topic knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer {
    /// The connection's slot.
    pub slot: u32,
    /// What it has got of the topic's log.
    pub cursor: Cursor,
}

/// One topic that has, or lately had, viewers on this shard.
#[derive(Debug)]
pub struct TopicEntry {
    /// Its name.
    pub topic: Topic,
    /// Who watches, in the order of serving.
    pub viewers: Vec<Viewer>,
    /// What some viewer lacks.
    pub log: Log,
    /// The bytes of the log and of what waits behind it.
    held: Reservation,
    /// What came while the log was full: the fan-out falls behind, so events merge by class before they are served.
    overflow: Option<Box<Overflow>>,
    /// More came lately than can be given one by one, so what comes merges.
    merging: Merging,
    /// Events of class `ephemeral` that expired there and nobody has counted yet.
    pub expired: u64,
    /// Whether the node's registration of the topic is known to be in place.
    pub registered: bool,
    /// The viewer to serve next.
    next: u32,
    /// Viewers to visit until all have all.
    remaining: u32,
    /// The log's end when the present round began.
    round_began: Cursor,
    /// How long it takes to go round them.
    pub rounds: Rounds,
    /// Whether it is in the queue of topics to serve.
    pub queued: bool,
    /// Class `latest`: what a new viewer gets at once.
    pub newest: Newest,
    /// Class `every`: the place of the newest event that the log was given.
    pub delivered_to: Option<Shown>,
    /// Class `every`: the place of the newest event in the log itself, not counting what waits behind it.
    logged_to: Option<Shown>,
    /// Events of class `every` found no room: they are to be read from history.
    pub behind: Option<Box<Behind>>,
    /// Viewers were told that something before this place may be missing, which is not to say that they were given the rest.
    pub told: Reach,
    /// What its viewers get of types that have a pace.
    pub all: All,
    /// Another place of the topic, whose viewers get another part of it.
    pub other: Option<TopicIndex>,
}

/// What waits behind a full log.
#[derive(Debug)]
pub(crate) struct Overflow {
    queue: Queue,
    /// Values of class `latest`, from this version on, found no room: what is newest follows once there is some.
    unshown: Option<u64>,
}

/// Where a topic's viewers on a shard lost track of its class `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// They have everything up to here.
    pub after: Shown,
    /// What followed was asked for.
    pub asked: bool,
    /// That events may be missing found no room either.
    pub gap: bool,
}

/// What [`Topics::leave`] changed: viewers that moved to another place, as (slot, new place).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// At most two moves.
    pub moved: [Option<(u32, u32)>; 2],
    /// Nobody watches this part of the topic any more, and whether its history was being asked for.
    pub gone: Option<bool>,
    /// Nobody watches any more; the topic is forgotten on this shard.
    pub empty: Option<Topic>,
}

/// A shard's topics.
#[derive(Debug)]
pub struct Topics {
    account: Account,
    names: Map<Topic, TopicIndex>,
    /// Each has memory of its own, which goes with it.
    entries: Vec<Option<Box<TopicEntry>>>,
    free: Vec<TopicIndex>,
    viewers: usize,
}

impl Topics {
    /// None yet, on a shard with this account.
    pub fn new(account: &Account) -> Topics {
        let (names, entries, free) = Default::default();
        Topics { account: account.clone(), names, entries, free, viewers: 0 }
    }

    /// Topics with viewers.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Subscriptions, over all topics.
    pub fn viewers(&self) -> usize {
        self.viewers
    }

    /// A place of a topic, if it has viewers here; see [`Topics::views`].
    pub fn find(&self, topic: &str) -> Option<TopicIndex> {
        self.names.get(topic).copied()
    }

    /// The topic at a place that [`join`](Topics::join) or [`find`](Topics::find) gave and that still has viewers.
    pub fn get(&self, index: TopicIndex) -> &TopicEntry {
        self.entries[index as usize].as_ref().expect("a topic that is referred to exists")
    }

    /// Same, to change it.
    pub fn get_mut(&mut self, index: TopicIndex) -> &mut TopicEntry {
        self.entries[index as usize].as_mut().expect("a topic that is referred to exists")
    }

    /// The topic at a place that may be free by now.
    pub fn try_get_mut(&mut self, index: TopicIndex) -> Option<&mut TopicEntry> {
        self.entries.get_mut(index as usize)?.as_deref_mut()
    }

    /// The place by which a topic's others are found; none if it has none any more.
    pub(crate) fn set_first(&mut self, topic: &Topic, first: Option<TopicIndex>) {
        match first {
            Some(index) => drop(self.names.insert(topic.clone(), index)),
            None => {
                self.names.remove(topic);
                shrink(&mut self.names);
            }
        }
    }

    /// Adds a viewer, who gets all of these types. Gives the topic's place, the viewer's place in it, and whether it is the first
    /// there.
    pub fn join(&mut self, topic: &Topic, all: &All, slot: u32) -> (TopicIndex, u32, bool) {
        let (index, first) = match self.view(topic.as_str(), all) {
            Some(index) => (index, false),
            None => {
                let mut held = self.account.open(Use::Topics);
                // Whoever let the viewer in saw that there is room.
                held.settle(WATCHED_BYTES);
                let entry = Box::new(TopicEntry {
                    topic: topic.clone(),
                    viewers: Vec::new(),
                    log: Log::default(),
                    held,
                    overflow: None,
                    merging: Merging::default(),
                    expired: 0,
                    registered: false,
                    next: 0,
                    remaining: 0,
                    round_began: 0,
                    rounds: Rounds::default(),
                    queued: false,
                    newest: Newest::default(),
                    delivered_to: None,
                    logged_to: None,
                    behind: None,
                    told: Reach::START,
                    all: all.clone(),
                    other: self.find(topic.as_str()),
                });
                let index = match self.free.pop() {
                    Some(index) => {
                        self.entries[index as usize] = Some(entry);
                        index
                    }
                    None => {
                        self.entries.push(Some(entry));
                        u32::try_from(self.entries.len() - 1).expect("fewer topics than 2^32")
                    }
                };
                self.names.insert(topic.clone(), index);
                (index, true)
            }
        };
        self.viewers += 1;
        let entry = self.get_mut(index);
        // Behind all others: unvisited in this round, and with nothing to get yet.
        let viewer = Viewer { slot, cursor: entry.log.end() };
        entry.viewers.push(viewer);
        if entry.remaining > 0 {
            entry.remaining = entry.viewers.len() as u32;
        }
        (index, u32::try_from(entry.viewers.len() - 1).expect("fewer viewers than 2^32"), first)
    }

    /// Removes the viewer at `place`. Others may move; the caller keeps their places up to date.
    pub fn leave(&mut self, index: TopicIndex, place: u32) -> Left {
        self.viewers -= 1;
        let entry = self.get_mut(index);
        let mut left = Left::default();
        let place = place as usize;
        let next = entry.next as usize;
        // Those before `next` were visited in this round, the others not; removing must keep both sides apart, or a
        // viewer could be passed over while the log behind it is trimmed.
        let hole = if place < next {
            let last_visited = next - 1;
            entry.viewers[place] = entry.viewers[last_visited];
            if place != last_visited {
                left.moved[0] = Some((entry.viewers[place].slot, place as u32));
            }
            entry.next -= 1;
            last_visited
        } else {
            place
        };
        entry.viewers.swap_remove(hole);
        if let Some(viewer) = entry.viewers.get(hole) {
            left.moved[1] = Some((viewer.slot, hole as u32));
        }
        if entry.remaining > 0 {
            entry.remaining = entry.viewers.len() as u32;
        }
        if entry.viewers.is_empty() {
            let (topic, other) = (entry.topic.clone(), entry.other);
            let is_last = self.unlink(&topic, index, other);
            let entry = self.entries[index as usize].take().expect("it was just changed");
            self.free.push(index);
            left.gone = Some(entry.behind.is_some_and(|behind| behind.asked));
            left.empty = is_last.then_some(topic);
        }
        left
    }
}

impl TopicEntry {
    fn log_bytes_max(&self) -> usize {
        log_bytes_max(self.viewers.len())
    }

    /// Whether the log holds as much as it may. Where the shard has no memory left for topics, one event may still be served.
    pub fn is_full(&self) -> bool {
        self.log.len() >= self.log_bytes_max() || (self.held.room() == 0 && !self.log.is_empty())
    }

    /// Keeps the account true.
    fn settle(&mut self) {
        let waits = self.overflow.as_ref().map_or(0, |overflow| overflow.queue.held());
        self.held.settle(WATCHED_BYTES + self.log.held() + waits);
    }

    /// Whether a frame is to wait for a slice of time, or for room, and merge with what comes meanwhile. Without that, a
    /// burst beyond what can be written would keep everybody as late as the log is long.
    fn merges(&mut self, frame: &Frame, now_ms: u64) -> bool {
        let held = self.log.len();
        self.merging.came(frame.bytes().len(), held, self.viewers.len(), now_ms);
        self.is_full() || self.overflow.is_some() || (self.merging.is_on() && held > 0)
    }

    /// Appends a frame that every viewer is to get. A value of class `latest` that finds no room follows all the same; class
    /// `every` is to be read from history, see [`append_ordered`](TopicEntry::append_ordered).
    pub fn append(&mut self, frame: &Arc<Frame>, now_ms: u64) -> Pushed {
        if self.merges(frame, now_ms) {
            let bounds = Bounds { bytes: LOG_BYTES_MAX, keys: LOG_KEYS_MAX };
            let new = || Box::new(Overflow { queue: Queue::for_viewers(bounds), unshown: None });
            let room = self.held.room();
            let overflow = self.overflow.get_or_insert_with(new);
            overflow.queue.limit(LOG_BYTES_MAX.min(overflow.queue.bytes().saturating_add(room)));
            let pushed = overflow.queue.push(frame, u64::from(frame.count()), now_ms);
            if pushed == Pushed::Overrun && frame.class().has_versions() {
                let from = overflow.unshown.map_or(frame.version().number, |from| from.min(frame.version().number));
                overflow.unshown = Some(from);
            }
            if self.merging.slice_ends(now_ms) {
                self.refill(now_ms);
            }
            self.settle();
            return pushed;
        }
        self.push(frame, now_ms);
        self.settle();
        Pushed::Queued
    }

    /// Appends an event that has a place in history, unless viewers have it, or lack one before it: then it is left to be
    /// read from history, and so is what follows. What was `read` from there follows whatever viewers have.
    pub fn append_ordered(&mut self, frame: &Arc<Frame>, read: bool, now_ms: u64) -> Option<Pushed> {
        let Some(position) = frame.position() else { return self.append_gap(frame, now_ms) };
        if self.delivered_to.is_some_and(|to| to.has(position)) {
            return None;
        }
        let lacks = !read && self.delivered_to.is_some_and(|to| !to.has(frame.prev()));
        let pushed = if lacks {
            Pushed::Overrun
        } else if self.all.leaves_out(frame) {
            Pushed::Queued
        } else {
            self.append(frame, now_ms)
        };
        if pushed == Pushed::Overrun {
            let after = self.delivered_to.unwrap_or(Shown::to(frame.prev()));
            self.fall_behind(after);
        } else {
            self.delivered_to = Some(Shown::to(position));
        }
        Some(pushed)
    }

    /// Appends that something may be missing, unless viewers were told of the same by whoever found out first. What history
    /// has of it they get.
    fn append_gap(&mut self, frame: &Arc<Frame>, now_ms: u64) -> Option<Pushed> {
        let lost = Reach::back_to(frame.prev());
        if lost != Reach::START && lost == self.told {
            return None;
        }
        let pushed = self.append(frame, now_ms);
        if pushed == Pushed::Overrun {
            let after = self.delivered_to.unwrap_or(Shown::to(Position::START));
            self.fall_behind(after).gap = true;
            return Some(pushed);
        }
        self.told = lost;
        if let Some(had) = self.delivered_to.filter(|_| lost != Reach::START) {
            if lost.lacks_after(had) {
                self.fall_behind(had);
            } else {
                // The store lost its places as well, and begins anew before those that it gave.
                self.delivered_to = Some(Shown::told(lost));
            }
        }
        Some(pushed)
    }

    /// Whether something waits for room in the log.
    pub fn has_overflow(&self) -> bool {
        self.overflow.is_some()
    }

    /// What a stream that comes back may be given from history; what follows is yet to come by the log.
    pub fn shown_to(&self) -> Option<Shown> {
        if self.overflow.is_some() { self.logged_to } else { self.delivered_to }
    }

    /// Viewers are to have everything up to here: what they lack of it is read from history. True if they lack something. Without
    /// a place to go on from nothing was promised.
    pub fn reaches(&mut self, to: Position) -> bool {
        let lacks = self.delivered_to.filter(|had| !had.has(to));
        if let Some(had) = lacks {
            // Asked again if it was asked before, since that answer is late.
            self.fall_behind(had).asked = false;
        }
        lacks.is_some()
    }

    /// From now on class `every` is read from history, until viewers have all again.
    pub fn fall_behind(&mut self, after: Shown) -> &mut Behind {
        self.behind.get_or_insert_with(|| Box::new(Behind { after, asked: false, gap: false }))
    }

    /// Appends what history holds of what viewers lack, up to the first event without room: with what follows that, they would
    /// pass over it. They lack no more if this was the end of it, `complete`, and all of it went in: then what lies before
    /// `reaches` will never come.
    pub fn catch_up(&mut self, found: &[Arc<Frame>], complete: bool, reaches: Reach, now_ms: u64) {
        for frame in found {
            if self.is_full() || self.append_ordered(frame, true, now_ms) == Some(Pushed::Overrun) {
                break;
            }
        }
        let last = found.last().and_then(|frame| frame.position());
        if complete && last.is_none_or(|last| self.delivered_to >= Some(Shown::to(last))) {
            let after = self.behind.take().map(|behind| self.delivered_to.unwrap_or(behind.after));
            if after.is_some_and(|after| reaches.lacks_after(after)) {
                self.delivered_to = Some(Shown::told(reaches));
            }
        }
    }

    /// It is behind, nobody asked for what is missing yet, and there is room for it.
    pub fn should_catch_up(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| !behind.asked)
            && self.overflow.is_none()
            && self.log.len() < self.log_bytes_max() / 2
    }

    fn push(&mut self, frame: &Arc<Frame>, now_ms: u64) {
        if self.log.is_empty() {
            self.round_began = self.log.end();
            self.rounds.begins(self.next, now_ms);
        }
        match self.all.chooses(frame) {
            true => self.log.push_chosen(frame),
            false => self.log.push(frame),
        }
        self.logged_to = self.logged_to.max(frame.position().map(Shown::to));
        self.remaining = self.viewers.len() as u32;
    }

    /// Lets what overflowed follow, merged, once the log has room.
    fn refill(&mut self, now_ms: u64) {
        if self.log.len() < self.log_bytes_max() / 2
            && let Some(mut overflow) = self.overflow.take()
        {
            let drained = overflow.queue.drain(now_ms, |frame, count| self.push(&frame.recounted(count), now_ms));
            self.expired += drained.expired;
            if let Some(from) = overflow.unshown {
                let newest = self.newest.values().into_iter();
                newest.filter(|frame| frame.version().number >= from).for_each(|frame| self.push(&frame, now_ms));
            }
        }
    }

    /// For how many milliseconds nobody is served though something waits.
    pub fn rest_ms(&self, now_ms: u64) -> Option<u64> {
        if self.remaining > 0 { self.merging.rest_ms(now_ms) } else { None }
    }

    /// The log is cut before the next viewer is served: who was given a place in it until now is to have what it lacks.
    pub fn ends_round(&self) -> bool {
        self.remaining == 0 || self.next as usize >= self.viewers.len()
    }

    /// The place of the viewer to serve next; `None` when all have all, and then the log is empty, or when
    /// what waits is to wait on.
    pub fn next_viewer(&mut self, now_ms: u64) -> Option<u32> {
        if self.remaining == 0 {
            self.rounds.looks(self.next, self.viewers.len(), now_ms);
            let end = self.log.end();
            self.log.trim(end);
            self.refill(now_ms);
            self.settle();
            if self.remaining == 0 {
                return None;
            }
        }
        if self.next as usize >= self.viewers.len() {
            if self.merging.rests(now_ms) {
                return None;
            }
            self.merging.round_begins(now_ms);
            self.next = 0;
            self.rounds.wraps(self.viewers.len(), now_ms);
            // Everyone was visited since the round began, and got at least what there was then.
            let seen = self.round_began;
            self.log.trim(seen);
            self.refill(now_ms);
            self.settle();
            self.round_began = self.log.end();
        }
        let place = self.next;
        self.next += 1;
        self.remaining -= 1;
        if self.next as usize >= self.viewers.len() {
            // From now on, however long it takes until somebody asks for the next round.
            self.merging.rests(now_ms);
        }
        Some(place)
    }
}
