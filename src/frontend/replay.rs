//! What one stream that comes back is given from history: everything after its position, over all its topics merged in
//! order of position, page by page as its socket drains. Live events of class `every` wait behind it. No IO, no clock.

#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;

use crate::frontend::held_pages::HeldPages;
use crate::frontend::replay::topic::{State, TopicReplay, newest};
use crate::ground::all::All;
use crate::ground::frame_page::FramePage;
use crate::limits::{PREFIX_REPLAYED_MAX, REPLAY_BYTES, REPLAY_EVENT_BYTES, REPLAY_LEAD_MS};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::frame::update::Audience;
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

/// Where what a stream is given of a topic begins: the place, up to where its client has surely seen all, and, if it is to have
/// the newest events only, how many.
type Begin = (Position, Option<Shown>, Option<Option<usize>>);

/// Behind what it was given.
fn behind(shown: Shown) -> Begin {
    (shown.place(), Some(shown), None)
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
    begin: Begin,
    /// Some topic was live, though others' past may be read again.
    was_live: bool,
    /// What was left while a prefix of it was yet to be listed: it is gone on with if it is found there.
    left: Vec<TopicReplay>,
    /// Everything was written once up to the topics' ends; what came meanwhile follows, topic by topic.
    catching_up: bool,
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

    /// The place that its client came with is perhaps of an event of another topic, which it had before and gave up. If so
    /// nobody can say what it has seen.
    pub fn if_it_has_the_place(mut self) -> Replay {
        for entry in &mut self.topics {
            entry.may_not_have_the_place = true;
        }
        self
    }

    /// A topic joins, and is given from there on unless it is gone on with. False if there are too many of prefixes.
    fn add(&mut self, topic: &Topic, all: All, (after, seen, newest): Begin) -> bool {
        if self.topics.iter().any(|entry| entry.topic == *topic) {
            return true;
        }
        let by_prefix = self.topics.iter().filter(|entry| entry.all.is_by_prefix());
        if all.is_by_prefix() && by_prefix.count() >= PREFIX_REPLAYED_MAX {
            return false;
        }
        if let Some(at) = self.left.iter().position(|entry| entry.topic == *topic) {
            self.topics.push(TopicReplay { all, ..self.left.swap_remove(at) });
            return true;
        }
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
            fits &= all.is_none_or(|all| self.add(topic, all, self.begin));
        }
        self.topics[at].gap |= more || !fits;
        self.page(prefix.as_str(), page, 0, |_| false);
    }

    /// A live event of a topic that is had by a prefix: it waits for the others' past, and so comes from history.
    fn joins_by_prefix(&mut self, frame: &Frame) -> bool {
        let topic = frame.topic();
        let covering = self.topics.iter().position(|entry| entry.is_to_list(topic));
        covering.is_some_and(|at| {
            let Some(all) = self.topics[at].all.by_prefix(topic, self.subscriber.as_deref()) else { return false };
            // Where some were live it came live before this one did, and others' past holds it up only since.
            let begin = if self.was_live { behind(Shown::to(frame.prev())) } else { self.begin };
            let fits = frame.position().is_some() && self.add(&Topic::of_frame(topic), all, begin);
            self.topics[at].gap |= !fits && frame.position().is_some();
            fits
        })
    }

    /// A page that was asked for. It holds nothing that viewers of the topic were not given yet. `is_named` says whether the stream
    /// has a topic by its name, whether or not it is given anything of that from history.
    pub fn page(&mut self, topic: &str, page: &FramePage, from: usize, is_named: impl Fn(&Topic) -> bool) {
        let bytes_max = self.page_bytes();
        let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic) else { return };
        if entry.state != State::Asked {
            return;
        }
        if entry.may_not_have_the_place {
            let has_it = page.frames.iter().any(|frame| frame.position() == Some(self.had));
            let reaches_it = page.complete || page.frames.last().is_some_and(|last| last.position() > Some(self.had));
            entry.may_not_have_the_place = !has_it && !reaches_it;
            if reaches_it && !has_it {
                (entry.complete_to, entry.gap) = (None, true);
            }
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
            let (all, subscriber) = (&entry.all, self.subscriber.as_deref());
            let has = |audience: &Audience| audience.has(all.has_private(), all.is_by_prefix(), subscriber, &is_named);
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
        // Before it is live it has what came meanwhile.
        let complete = page.complete && !(self.catching_up && entry.missed());
        entry.state = match complete {
            false => State::More,
            true if self.catching_up => State::Live,
            true => State::Complete,
        };
        // Live events wait behind the replay: an id of this page would say that the client has those.
        let last = entry.after.earlier(REPLAY_LEAD_MS);
        let behind = |other: &TopicReplay| other.state == State::Live && other.missed() && other.after < last;
        let is_ahead = !page.frames.is_empty() && self.topics.iter().any(behind);
        if self.catching_up && (!complete || is_ahead) {
            // More came than a page holds, or it took a while: no topic may run ahead of it meanwhile.
            self.catching_up = false;
            let live = self.topics.iter_mut().filter(|entry| entry.state == State::Live);
            live.for_each(TopicReplay::give_in_place);
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
        entry.came = entry.came.max(frame.position());
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
        if self.topics.iter().any(|prefix| prefix.is_to_list(topic)) && entry.state != State::Live {
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

    /// It was given a topic up to `had`, of which more came up to `to`, and goes on from there: or from where all of a prefix of it is
    /// yet to be given.
    pub fn go_on_with(&mut self, topic: &Topic, all: All, had: Shown, to: Shown) {
        if let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic == *topic) {
            if entry.state == State::Live {
                entry.give_in_place();
                (entry.after, entry.written, entry.page_to) = (had.place(), had.place(), had);
                entry.came = entry.came.max(Some(to.place()));
                self.catching_up = false;
            }
            return;
        }
        let is_to_list = self.topics.iter().any(|prefix| prefix.is_to_list(topic.as_str()));
        let fits = self.add(topic, all, if is_to_list { self.begin } else { behind(had) });
        let covering = self.topics.iter_mut().filter(|entry| !fits && entry.topic.covers(topic.as_str()));
        covering.for_each(|entry| entry.gap = true);
    }

    /// Topics of which a page is on its way.
    pub fn asked(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().filter(|entry| entry.state == State::Asked).map(|entry| &entry.topic)
    }

    /// Bytes that one page may hold.
    pub fn page_bytes(&self) -> usize {
        (REPLAY_BYTES / self.topics.len().max(1)).max(REPLAY_EVENT_BYTES)
    }

    /// It holds pages.
    pub fn holds_pages(&self) -> bool {
        self.topics.iter().any(|entry| entry.page.is_some())
    }

    /// Bytes that the pages on their way will hold. Those that are here count among all that are held.
    pub fn asked_bytes(&self) -> usize {
        self.topics.iter().filter(|entry| entry.state == State::Asked).map(|entry| entry.asked_bytes).sum()
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

    /// Whether it gave this event, which came live as well.
    pub fn gave(&self, frame: &Frame) -> bool {
        let again = |entry: &TopicReplay| {
            entry.again.as_ref().zip(frame.position()).is_some_and(|(again, at)| again.contains(&at))
        };
        self.topics.iter().any(|entry| entry.topic.as_str() == frame.topic() && again(entry))
    }

    /// What comes next.
    pub fn step(&mut self) -> Step {
        let page_bytes = self.page_bytes();
        for entry in &mut self.topics {
            if std::mem::take(&mut entry.gap) {
                return Step::Gap(entry.topic.clone());
            }
            if entry.page.is_none() && entry.state == State::More {
                entry.state = State::Lacks;
            }
            if entry.state == State::Lacks {
                return entry.ask(page_bytes);
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
                    && entry.missed()
                    && entry.page.is_none()
                    && entry.after < position.earlier(REPLAY_LEAD_MS)
            };
            if let Some(entry) = self.topics.iter_mut().find(lags) {
                return entry.ask(page_bytes);
            }
        }
        if let Some((_, number)) = first {
            return Step::Frame(self.topics[number].give());
        }
        if !self.catching_up {
            // The topics that stood still are live at once; the others are read once more, each up to where it is live.
            (self.catching_up, self.was_live) = (true, true);
            for entry in &mut self.topics {
                entry.state = if entry.missed() { State::Lacks } else { State::Live };
            }
            return self.step();
        }
        Step::Done
    }
}
