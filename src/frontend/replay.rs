//! What one stream that comes back is given from history: everything after its position, over all its topics merged in
//! order of position, page by page as its socket drains. Live events of class `every` wait behind it. No IO, no clock.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::frontend::held_pages::{HeldPage, HeldPages};
use crate::ground::all::All;
use crate::ground::frame_page::FramePage;
use crate::limits::{PREFIX_REPLAYED_MAX, REPLAY_BYTES, REPLAY_EVENT_BYTES, REPLAY_LEAD_MS};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::update::Audience;
use crate::wire::frame::{Frame, Withdrawn};
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::position::{Position, Reach, Shown};
use crate::wire::topic::Topic;

/// What comes next for the stream.
#[derive(Debug)]
pub enum Step {
    /// Ask the topic's home for what follows this position.
    Ask(Topic, Position),
    /// Events of the topic may be missing.
    Gap(Topic),
    /// Write this.
    Frame(Arc<Frame>),
    /// Nothing, until a page comes.
    Wait,
    /// Nothing more: the stream is live.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A page is to be asked for.
    Lacks,
    /// A page is on its way.
    Asked,
    /// A page is here, and more follows it.
    More,
    /// The page here reaches the topic's end as it was when the page was given.
    Complete,
    /// Its live events go the usual way.
    Live,
}

#[derive(Debug)]
struct TopicReplay {
    topic: Topic,
    /// What the stream gets of types that have a pace.
    all: All,
    /// Where the next page begins.
    after: Position,
    page: Option<HeldPage>,
    at: usize,
    /// What precedes what is yet to be written of the page: where it begins anew if it is given up.
    written: Position,
    state: State,
    /// A live event came since the last page: it is read.
    missed: bool,
    /// The client has everything up to here, or was told that it may not: what history must reach back to. None if nobody
    /// can say, which is a gap anyway.
    complete_to: Option<Shown>,
    /// The same, once the page is written.
    page_to: Shown,
    /// Only the newest events are wanted: how many of them, and those that were found so far.
    newest: Option<(usize, Option<HeldPage>)>,
    /// The client is to be told that something may be missing.
    gap: bool,
    /// It is, or was, told so of what lies before this place.
    told: Option<Reach>,
}

/// A stream's replay.
#[derive(Debug)]
pub struct Replay {
    topics: Vec<TopicReplay>,
    /// The place that the client came with.
    had: Position,
    /// The newest place that was known as it came: a gap that it is told of at once is one of what lies before this.
    began: Shown,
    /// Where its pages count.
    held: HeldPages,
    /// Of Mercure's protocol, what the stream wants beyond the topics that it names, and may have.
    pub subscriber: Option<Arc<Subscriber>>,
    /// Of a topic that joins later: what of it is wanted, as of those that were there from the beginning.
    begin: (Position, Option<Shown>, Option<Option<usize>>),
    /// Some topic was live, though others' past may be read again.
    was_live: bool,
    /// What was left while a prefix of it was yet to be listed: it is gone on with if it is found there.
    left: Vec<TopicReplay>,
    /// Everything was written once up to the topics' ends; what came meanwhile follows, topic by topic.
    catching_up: bool,
}

impl TopicReplay {
    /// Of a topic that is wanted behind `after`, and surely seen up to `seen`.
    fn new(topic: Topic, all: All, after: Position, seen: Option<Shown>) -> TopicReplay {
        TopicReplay {
            topic,
            all,
            after,
            page: None,
            at: 0,
            written: after,
            state: State::Lacks,
            missed: false,
            complete_to: seen,
            page_to: Shown::to(after),
            newest: None,
            gap: seen.is_none(),
            told: None,
        }
    }

    /// What is yet to be written of the page.
    fn rest(&self) -> &[Arc<Frame>] {
        self.page.as_deref().map_or(&[], |page| &page[self.at..])
    }

    /// All of the page is written.
    fn read_out(&mut self) {
        (self.page, self.at) = (None, 0);
        self.complete_to = self.complete_to.max(Some(self.page_to));
        self.written = self.after;
    }

    /// Its page is read again.
    fn give_up_page(&mut self) {
        self.after = self.written;
        (self.page, self.at) = (None, 0);
        self.state = State::Lacks;
    }

    /// Something before this place may be missing. The client is told of it once, however many say so.
    fn lost(&mut self, before: Reach) {
        // Until the first page comes what it was told holds for whatever may be lost.
        let Some(complete_to) = self.complete_to else { return };
        if self.told < Some(before) {
            (self.gap, self.told) = (true, Some(before));
            self.complete_to = Some(complete_to.max(Shown::told(before)));
        }
    }

    /// An event was taken back: it is left out of what is yet to be written, of the page or of the newest that were found.
    fn withdraw(&mut self, withdrawn: &Withdrawn, held: &HeldPages) {
        let topic = self.topic.as_str();
        let without = |frames: &[Arc<Frame>]| -> Option<Arc<[Arc<Frame>]>> {
            let is_it = |frame: &&Arc<Frame>| frame.is(topic, withdrawn);
            let has_it = frames.iter().any(|frame| is_it(&frame));
            has_it.then(|| frames.iter().filter(|frame| !is_it(frame)).cloned().collect())
        };
        if let Some((_, Some(found))) = &mut self.newest
            && let Some(left) = without(found)
        {
            *found = held.hold(left);
        }
        let Some(left) = without(self.rest()) else { return };
        if left.is_empty() {
            return self.read_out();
        }
        (self.page, self.at) = (Some(held.hold(left)), 0);
    }
}

impl Replay {
    /// For a stream of these topics that is to get everything after `after`. Its client comes with the place `had`, and has
    /// surely seen all up to `seen`; none if nobody can say. Nothing newer than `began` was known then. Its pages are among those that are `held` on its shard.
    pub fn new(
        topics: impl IntoIterator<Item = (Topic, All)>,
        after: Position,
        had: Position,
        seen: Option<Shown>,
        began: Shown,
        held: &HeldPages,
    ) -> Replay {
        let topics = topics.into_iter().map(|(topic, all)| TopicReplay::new(topic, all, after, seen)).collect();
        Replay {
            topics,
            had,
            began,
            held: held.clone(),
            subscriber: None,
            begin: (after, seen, None),
            was_live: false,
            left: Vec::new(),
            catching_up: false,
        }
    }

    /// Its client says nothing of what it has, and is to get the newest events of each topic, at most so many, or all.
    pub fn newest(mut self, most: Option<usize>) -> Replay {
        for entry in &mut self.topics {
            (entry.gap, entry.newest) = (false, most.map(|most| (most, None)));
        }
        self.begin.2 = Some(most);
        self
    }

    /// A topic of a prefix joins, and is given what the others are. False if there are too many.
    fn add(&mut self, topic: &Topic, all: All) -> bool {
        if self.topics.iter().any(|entry| entry.topic == *topic) {
            return true;
        }
        if self.topics.iter().filter(|entry| entry.all.is_by_prefix()).count() >= PREFIX_REPLAYED_MAX {
            return false;
        }
        if let Some(at) = self.left.iter().position(|entry| entry.topic == *topic) {
            self.topics.push(TopicReplay { all, ..self.left.swap_remove(at) });
            return true;
        }
        let (after, seen, newest) = self.begin;
        self.topics.push(TopicReplay {
            newest: newest.flatten().map(|most| (most, None)),
            // Whether it is told of one is said of the prefix.
            gap: false,
            ..TopicReplay::new(topic.clone(), all, after, seen)
        });
        true
    }

    /// The topics of a prefix that have news came, with a page of the prefix itself, which has no events.
    pub fn listed(&mut self, prefix: &Topic, topics: Vec<Topic>, more: bool, page: &FramePage) {
        let Some(at) = self.topics.iter().position(|entry| entry.topic == *prefix) else { return };
        if self.topics[at].state != State::Asked {
            return;
        }
        let mut fits = true;
        for topic in &topics {
            let all = self.topics[at].all.by_prefix(topic.as_str(), self.subscriber.as_deref());
            fits &= all.is_none_or(|all| self.add(topic, all));
        }
        self.topics[at].gap |= more || !fits;
        self.page(prefix.as_str(), page, 0);
    }

    /// A live event of a topic that is had by a prefix: it waits for the others' past, and so comes from history.
    fn joins_by_prefix(&mut self, frame: &Frame) -> bool {
        let topic = frame.topic();
        let covering = self.topics.iter().position(|entry| entry.state != State::Live && entry.topic.covers(topic));
        covering.is_some_and(|at| {
            let Some(all) = self.topics[at].all.by_prefix(topic, self.subscriber.as_deref()) else { return false };
            let (topic, begin) = (Topic::of_frame(topic), self.begin);
            if self.was_live {
                // It came live before this one did, and others' past holds it up only since.
                self.begin = (frame.prev(), Some(Shown::to(frame.prev())), None);
            }
            let fits = frame.position().is_some() && self.add(&topic, all);
            self.begin = begin;
            self.topics[at].gap |= !fits && frame.position().is_some();
            fits
        })
    }

    /// A page that was asked for. It holds nothing that viewers of the topic were not given yet.
    pub fn page(&mut self, topic: &str, page: &FramePage, from: usize) {
        let bytes_max = self.page_bytes();
        let chooses = page.frames.iter().any(|frame| frame.audience().is_some());
        let named = self.topics.iter().filter(|entry| chooses && !entry.all.is_by_prefix());
        let named: Vec<Topic> = named.map(|entry| entry.topic.clone()).collect();
        let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic) else { return };
        if entry.state != State::Asked {
            return;
        }
        // What lies before all that the store has was never its own to lose, where it gave the place that the client had.
        let is_all = page.reaches == page.since && page.since.covers(self.had);
        match entry.complete_to {
            // Later pages are compared, too: history may forget what comes next while a slow client takes the last one.
            Some(shown) if !is_all && page.lacks_after(shown) => entry.lost(page.reaches),
            Some(_) => {}
            None => {
                // What was lost while the page was on its way is another gap than the one that it was told of as it came.
                entry.gap |= page.reaches.lacks_after(self.began);
                (entry.told, entry.complete_to) = (Some(page.reaches), Some(Shown::told(page.reaches)));
            }
        }
        entry.after = page.frames.last().and_then(|frame| frame.position()).unwrap_or_default().max(entry.after);
        entry.page_to = Shown::to(entry.after);
        if page.complete {
            entry.page_to = entry.page_to.max(page.shown);
        }
        let is_for_others = |frame: &Arc<Frame>| {
            let is_named = |topic: &Topic| named.contains(topic);
            let (all, subscriber) = (&entry.all, self.subscriber.as_deref());
            let has = |audience: &Audience| audience.has(all.has_private(), all.is_by_prefix(), subscriber, is_named);
            frame.audience().is_some_and(|audience| !has(audience))
        };
        let left_out = |frame: &Arc<Frame>| {
            (entry.all.leaves_out(frame) && !planted(Mistake::PaceForgottenOnResume)) || is_for_others(frame)
        };
        let (frames, from) = if page.frames[from.min(page.frames.len())..].iter().any(left_out) {
            (page.frames[from..].iter().filter(|frame| !left_out(frame)).cloned().collect(), 0)
        } else {
            (Arc::clone(&page.frames), from)
        };
        let (frames, from) = match entry.newest.take() {
            None => (frames, from),
            Some((most, found)) => {
                let found =
                    newest(found.as_deref().unwrap_or_default(), &frames[from.min(frames.len())..], most, bytes_max);
                if !page.complete {
                    // What it does not hold any more is not wanted, and so not missing.
                    entry.complete_to = entry.complete_to.max(Some(entry.page_to));
                    (entry.newest, entry.state) = (Some((most, Some(self.held.hold(found)))), State::Lacks);
                    return;
                }
                entry.written = found.first().map_or(entry.written, |first| entry.written.max(first.prev()));
                (found, 0)
            }
        };
        if from < frames.len() {
            (entry.page, entry.at) = (Some(self.held.hold(frames)), from);
        } else {
            entry.read_out();
        }
        entry.missed = false;
        entry.state = match page.complete {
            false => State::More,
            true if self.catching_up => State::Live,
            true => State::Complete,
        };
        // Live events wait behind the replay: an id of this page would say that the client has those.
        let last = entry.after.earlier(REPLAY_LEAD_MS);
        let behind = |other: &TopicReplay| other.state == State::Live && other.missed && other.after < last;
        let is_ahead = !page.frames.is_empty() && self.topics.iter().any(behind);
        if self.catching_up && (!page.complete || is_ahead) {
            // More came than a page holds, or it took a while: no topic may run ahead of it meanwhile.
            self.catching_up = false;
            let live = self.topics.iter_mut().filter(|entry| entry.state == State::Live);
            live.for_each(|entry| entry.state = State::Complete);
        }
    }

    /// Whether what comes live of class `every` is to be passed over: an event, since it comes from history, or the word that
    /// some may be missing, which goes out before what follows. What an event takes back is not written any more.
    pub fn passes_over(&mut self, frame: &Frame) -> bool {
        let topic = frame.topic();
        if !self.topics.iter().any(|entry| entry.topic.as_str() == topic) && !self.joins_by_prefix(frame) {
            return false;
        }
        let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic) else { return false };
        if frame.position().is_none() {
            entry.lost(Reach::back_to(frame.prev()));
            return true;
        }
        entry.missed = true;
        if let Some(withdrawn) = frame.withdraws() {
            entry.withdraw(&withdrawn, &self.held);
        }
        entry.state != State::Live
    }

    /// The stream left this topic. True if a page of it is on its way, which nobody waits for any more.
    #[must_use = "whoever was asked is to be told"]
    pub fn leave(&mut self, topic: &str) -> bool {
        let Some(at) = self.topics.iter().position(|entry| entry.topic.as_str() == topic) else { return false };
        let mut entry = self.topics.remove(at);
        let was_asked = entry.state == State::Asked;
        let is_to_list = |prefix: &TopicReplay| prefix.state != State::Live && prefix.topic.covers(topic);
        if self.topics.iter().any(is_to_list) && entry.state != State::Live {
            match entry.page {
                Some(_) => entry.give_up_page(),
                None => entry.state = State::Lacks,
            }
            self.left.push(entry);
        }
        was_asked
    }

    /// The stream goes on to have a topic, but by a prefix where it was by its name, or the other way round.
    pub fn has_as(&mut self, topic: &str, all: &All) {
        let entry = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic);
        entry.into_iter().for_each(|entry| entry.all.clone_from(all));
    }

    /// Topics of which a page is on its way.
    pub fn asked(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().filter(|entry| entry.state == State::Asked).map(|entry| &entry.topic)
    }

    /// What one page may hold, in bytes.
    pub fn page_bytes(&self) -> usize {
        (REPLAY_BYTES / self.topics.len().max(1)).max(REPLAY_EVENT_BYTES)
    }

    /// It holds pages.
    pub fn holds_pages(&self) -> bool {
        self.topics.iter().any(|entry| entry.page.is_some())
    }

    /// Bytes that the pages on their way will hold. Those that are here count among all that are held.
    pub fn asked_bytes(&self) -> usize {
        self.topics.iter().filter(|entry| entry.state == State::Asked).count() * self.page_bytes()
    }

    /// Bytes for which there must be room beyond those, before the next step: for the pages that it may ask for.
    pub fn asks(&self) -> usize {
        let may_ask = |entry: &&TopicReplay| entry.state != State::Asked && entry.page.is_none();
        self.topics.iter().filter(may_ask).count() * self.page_bytes()
    }

    /// Gives up the pages that can be read again, as if they had never come: others need the memory.
    pub fn give_up_pages(&mut self) {
        for entry in &mut self.topics {
            if entry.page.is_some() && entry.state != State::Live {
                entry.give_up_page();
            }
        }
    }

    /// What comes next.
    pub fn step(&mut self) -> Step {
        for entry in &mut self.topics {
            if std::mem::take(&mut entry.gap) {
                return Step::Gap(entry.topic.clone());
            }
            if entry.page.is_none() && entry.state == State::More {
                entry.state = State::Lacks;
            }
            if entry.state == State::Lacks {
                entry.state = State::Asked;
                return Step::Ask(entry.topic.clone(), entry.after);
            }
        }
        let mut waits = false;
        let mut first: Option<(Position, usize)> = None;
        for (number, entry) in self.topics.iter().enumerate() {
            match entry.rest().first() {
                Some(frame) => {
                    let position = frame.position().unwrap_or_default();
                    if first.is_none_or(|(lowest, _)| position < lowest) {
                        first = Some((position, number));
                    }
                }
                None => waits |= entry.state == State::Asked,
            }
        }
        // What is on its way may belong before what is here.
        if waits {
            return Step::Wait;
        }
        // The client's next id would say that it has what came earlier in other topics: what they missed is read first,
        // unless it is so near that the overlap of resuming covers it.
        if let Some((position, _)) = first {
            let lags = |entry: &&mut TopicReplay| {
                entry.state == State::Complete
                    && entry.missed
                    && entry.page.is_none()
                    && entry.after < position.earlier(REPLAY_LEAD_MS)
            };
            if let Some(entry) = self.topics.iter_mut().find(lags) {
                entry.state = State::Asked;
                return Step::Ask(entry.topic.clone(), entry.after);
            }
        }
        if let Some((_, number)) = first {
            let entry = &mut self.topics[number];
            let frame = Arc::clone(&entry.rest()[0]);
            entry.at += 1;
            entry.written = frame.position().unwrap_or_default().max(entry.written);
            if entry.rest().is_empty() {
                entry.read_out();
            }
            return Step::Frame(frame);
        }
        if !self.catching_up {
            // The topics that stood still are live at once; the others are read once more, each up to where it is live.
            (self.catching_up, self.was_live) = (true, true);
            for entry in &mut self.topics {
                entry.state = if entry.missed { State::Lacks } else { State::Live };
            }
            return self.step();
        }
        Step::Done
    }
}

/// The newest events of those found before and those that follow, at most so many and of so many bytes, but one.
fn newest(found: &[Arc<Frame>], more: &[Arc<Frame>], most: usize, bytes_max: usize) -> Arc<[Arc<Frame>]> {
    let mut bytes = 0;
    let fits = found.iter().chain(more).rev().take(most).take_while(|frame| {
        let is_first = bytes == 0;
        bytes += frame.bytes().len();
        is_first || bytes <= bytes_max
    });
    let passed_over = found.len() + more.len() - fits.count();
    found.iter().chain(more).skip(passed_over).cloned().collect()
}
