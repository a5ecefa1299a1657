//! One topic of a replay.

use std::sync::Arc;

use crate::frontend::held_pages::{HeldPage, HeldPages};
use crate::frontend::replay::Step;
use crate::ground::all::All;
use crate::wire::frame::{Frame, Withdrawn};
use crate::wire::position::{Position, Reach, Shown};
use crate::wire::topic::Topic;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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
pub(super) struct TopicReplay {
    pub(super) topic: Topic,
    /// What the stream gets of types that have a pace.
    pub(super) all: All,
    /// Where the next page begins.
    pub(super) after: Position,
    pub(super) page: Option<HeldPage>,
    pub(super) at: usize,
    /// What precedes what is yet to be written of the page: where it begins anew if it is given up.
    pub(super) written: Position,
    pub(super) state: State,
    /// What the page on its way may hold, whatever joins meanwhile.
    pub(super) asked_bytes: usize,
    /// The newest place of the live events that came since the last page was asked for, and were passed over unless it was live.
    pub(super) came: Option<Position>,
    /// The client has everything up to here, or was told that it may not: what history must reach back to. None if nobody
    /// can say, which is a gap anyway.
    pub(super) complete_to: Option<Shown>,
    /// The same, once the page is written.
    pub(super) page_to: Shown,
    /// The place that the client came with may be none of this topic's, which its first page says.
    pub(super) may_not_have_the_place: bool,
    /// Only the newest events are wanted: how many of them, and those that were found so far.
    pub(super) newest: Option<(usize, Option<HeldPage>)>,
    /// The client is to be told that something may be missing.
    pub(super) gap: bool,
    /// It is, or was, told so of what lies before this place.
    pub(super) told: Option<Reach>,
    /// Some went live that are given in their place after all: what is given from then on. None before.
    pub(super) again: Option<Vec<Position>>,
}

impl TopicReplay {
    /// Of a topic that is wanted behind `after`, and surely seen up to `seen`.
    pub(super) fn new(topic: Topic, all: All, after: Position, seen: Option<Shown>) -> TopicReplay {
        TopicReplay {
            topic,
            all,
            after,
            page: None,
            at: 0,
            written: after,
            state: State::Lacks,
            asked_bytes: 0,
            came: None,
            complete_to: seen,
            page_to: Shown::to(after),
            may_not_have_the_place: false,
            newest: None,
            gap: seen.is_none(),
            told: None,
            again: None,
        }
    }

    /// Whether it is a prefix of which more topics may be found, this one among them.
    pub(super) fn is_to_list(&self, topic: &str) -> bool {
        self.state != State::Live && self.topic.covers(topic)
    }

    /// What is yet to be written of the page.
    pub(super) fn rest(&self) -> &[Arc<Frame>] {
        self.page.as_deref().map_or(&[], |page| &page[self.at..])
    }

    /// A live event came that no page brought, and is to be read. What came before a page was asked for is on it; what came
    /// while it was on its way may not be.
    pub(super) fn missed(&self) -> bool {
        self.came.is_some_and(|came| !self.page_to.has(came))
    }

    /// Has the next page, of at most so many bytes, asked for.
    pub(super) fn ask(&mut self, bytes: usize) -> Step {
        (self.state, self.asked_bytes, self.came) = (State::Asked, bytes, None);
        Step::Ask(self.topic.clone(), self.after)
    }

    /// Gives the next of the page, which has one.
    pub(super) fn give(&mut self) -> Arc<Frame> {
        let frame = Arc::clone(&self.rest()[0]);
        let position = frame.position().unwrap_or_default();
        (self.at, self.written) = (self.at + 1, position.max(self.written));
        if let Some(again) = &mut self.again {
            again.push(position);
        }
        if self.rest().is_empty() {
            self.read_out();
        }
        frame
    }

    /// It was live, and is given in its place from now on.
    pub(super) fn give_in_place(&mut self) {
        self.state = State::Complete;
        self.again.get_or_insert_default();
    }

    /// All of the page is written.
    pub(super) fn read_out(&mut self) {
        (self.page, self.at) = (None, 0);
        self.complete_to = self.complete_to.max(Some(self.page_to));
        self.written = self.after;
    }

    /// Its page is read again.
    pub(super) fn give_up_page(&mut self) {
        self.after = self.written;
        (self.page, self.at) = (None, 0);
        self.state = State::Lacks;
    }

    /// Something before this place may be missing. The client is told of it once, however many say so.
    pub(super) fn lost(&mut self, before: Reach) {
        // Until the first page comes what it was told holds for whatever may be lost.
        let Some(complete_to) = self.complete_to else { return };
        if self.told < Some(before) {
            (self.gap, self.told) = (true, Some(before));
            self.complete_to = Some(complete_to.max(Shown::told(before)));
        }
    }

    /// An event was taken back: it is left out of what is yet to be written, of the page or of the newest that were found.
    pub(super) fn withdraw(&mut self, withdrawn: &Withdrawn, held: &HeldPages) {
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

/// The newest events of those found before and those that follow, at most so many and of so many bytes, but one.
pub(super) fn newest(found: &[Arc<Frame>], more: &[Arc<Frame>], most: usize, bytes_max: usize) -> Arc<[Arc<Frame>]> {
    let mut bytes = 0;
    let fits = found.iter().chain(more).rev().take(most).take_while(|frame| {
        let is_first = bytes == 0;
        bytes += frame.bytes().len();
        is_first || bytes <= bytes_max
    });
    let passed_over = found.len() + more.len() - fits.count();
    found.iter().chain(more).skip(passed_over).cloned().collect()
}
