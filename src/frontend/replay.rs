//! What one stream that comes back is given from history: everything after its position, over all its topics merged in
//! order of position, page by page as its socket drains. Live events of class `every` wait behind it. No IO, no clock.

use std::sync::Arc;

use super::held_pages::{HeldPage, HeldPages};
use super::order::FramePage;
use crate::limits::{REPLAY_BYTES, REPLAY_EVENT_BYTES, REPLAY_LEAD_MS};
use crate::wire::frame::{Frame, Withdrawn};
use crate::wire::position::{Position, Shown};
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
    gap: bool,
}

/// A stream's replay.
#[derive(Debug)]
pub struct Replay {
    topics: Vec<TopicReplay>,
    /// Where its pages count.
    held: HeldPages,
    /// Everything was written once up to the topics' ends; what came meanwhile follows, topic by topic.
    catching_up: bool,
}

impl TopicReplay {
    /// What is yet to be written of the page.
    fn rest(&self) -> &[Arc<Frame>] {
        self.page.as_deref().map_or(&[], |page| &page[self.at..])
    }

    /// All of the page is written.
    fn read_out(&mut self) {
        (self.page, self.at) = (None, 0);
        self.complete_to = self.complete_to.max(Some(Shown::to(self.after)));
        self.written = self.after;
    }

    /// An event was taken back: it is left out of what is yet to be written of the page.
    fn withdraw(&mut self, withdrawn: &Withdrawn, held: &HeldPages) {
        let rest = self.rest();
        let topic = self.topic.as_str();
        if !rest.iter().any(|frame| frame.is(topic, withdrawn)) {
            return;
        }
        let left: Arc<[Arc<Frame>]> = rest.iter().filter(|frame| !frame.is(topic, withdrawn)).cloned().collect();
        if left.is_empty() {
            return self.read_out();
        }
        (self.page, self.at) = (Some(held.hold(left)), 0);
    }
}

impl Replay {
    /// For a stream of these topics that is to get everything after `after`, and has surely seen all up to `seen`; none if
    /// nobody can say. Its pages are among those that are `held` on its shard.
    pub fn new(
        topics: impl IntoIterator<Item = Topic>,
        after: Position,
        seen: Option<Shown>,
        held: &HeldPages,
    ) -> Replay {
        let topic = |topic| TopicReplay {
            topic,
            after,
            page: None,
            at: 0,
            written: after,
            state: State::Lacks,
            missed: false,
            complete_to: seen,
            gap: seen.is_none(),
        };
        Replay { topics: topics.into_iter().map(topic).collect(), held: held.clone(), catching_up: false }
    }

    /// A page that was asked for. It holds nothing that viewers of the topic were not given yet.
    pub fn page(&mut self, topic: &str, page: &FramePage, from: usize) {
        let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic) else { return };
        if entry.state != State::Asked {
            return;
        }
        // Later pages are compared, too: history may forget what comes next while a slow client takes the last one.
        let lacks = entry.complete_to.is_some_and(|shown| page.reaches.lacks_after(shown));
        entry.gap |= lacks;
        entry.after = page.frames.last().and_then(|frame| frame.position()).unwrap_or_default().max(entry.after);
        if lacks || entry.complete_to.is_none() {
            entry.complete_to = Some(Shown::told(page.reaches));
        }
        if from < page.frames.len() {
            (entry.page, entry.at) = (Some(self.held.hold(Arc::clone(&page.frames))), from);
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

    /// Whether a live event of class `every` is to be passed over, since it comes from history. What it takes back is not
    /// written any more.
    pub fn passes_over(&mut self, frame: &Frame) -> bool {
        let topic = frame.topic();
        let Some(entry) = self.topics.iter_mut().find(|entry| entry.topic.as_str() == topic) else { return false };
        entry.missed = true;
        if let Some(withdrawn) = frame.withdraws() {
            entry.withdraw(&withdrawn, &self.held);
        }
        entry.state != State::Live
    }

    /// The stream left this topic. True if a page of it is on its way, which nobody waits for any more.
    #[must_use = "whoever was asked is to be told"]
    pub fn leave(&mut self, topic: &str) -> bool {
        let left = self.topics.extract_if(.., |entry| entry.topic.as_str() == topic);
        left.last().is_some_and(|entry| entry.state == State::Asked)
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
                entry.after = entry.written;
                (entry.page, entry.at) = (None, 0);
                entry.state = State::Lacks;
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
            self.catching_up = true;
            for entry in &mut self.topics {
                entry.state = if entry.missed { State::Lacks } else { State::Live };
            }
            return self.step();
        }
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RESUME_OVERLAP_MS;
    use crate::runtime::account::Account;
    use crate::wire::event::Class;
    use crate::wire::frame::{Event, Place};
    use crate::wire::position::Reach;
    use crate::wire::version::Version;
    use proptest::prelude::*;

    const TOPICS: [&str; 3] = ["live:a", "live:b", "live:c"];

    fn held() -> HeldPages {
        HeldPages::new(&Account::unbounded())
    }

    fn frame(topic: &str, ms: u64) -> Arc<Frame> {
        let place = Some(Place { dc: "dc", position: Position { ms, seq: 1 }, prev: Position::START });
        let (id, kind, data, class) = ("i", "comment", b"1".as_slice(), Class::Every);
        Arc::new(Frame::encode(&Event {
            id,
            topic,
            kind,
            key: None,
            at: 7,
            data,
            class,
            ttl_ms: 0,
            place,
            version: Version::NONE,
        }))
    }

    #[derive(Debug, Clone)]
    enum Op {
        Publish(usize),
        Answer,
        Drain(u8),
        GiveUp,
    }

    proptest! {
        /// Events are published, to history and live, while a stream replays in small pages: in the end it has had each
        /// event after its position, in order within its topic but for repeats; what was there when it came, in order
        /// over all topics; and wherever it is cut, what its newest id would not bring back it has had.
        #[test]
        fn history_and_live_join_without_seam(
            before in prop::collection::vec(0usize..3, 0..40),
            ops in prop::collection::vec(prop_oneof![
                2 => (0usize..3).prop_map(Op::Publish),
                2 => Just(Op::Answer),
                2 => (0u8..9).prop_map(Op::Drain),
                1 => Just(Op::GiveUp),
            ], 0..150),
            seen in 0u64..30,
            limit in 1usize..5,
            pace_ms in prop::sample::select(vec![1u64, 1_500, 4_000]),
        ) {
            let mut history: Vec<Vec<Arc<Frame>>> = vec![Vec::new(); 3];
            let mut ms = 0;
            for &topic in &before {
                ms += pace_ms;
                history[topic].push(frame(TOPICS[topic], ms));
            }
            let there = ms;
            let topics = TOPICS.map(|topic| Topic::parse(topic).unwrap());
            let after = Position::at(seen * pace_ms);
            let held = held();
            let mut replay = Replay::new(topics, after, Some(Shown::to(after)), &held);
            let (mut asked, mut got, mut backlog, mut done) = (Vec::new(), Vec::new(), Vec::new(), false);
            let finish = std::iter::repeat_n([Op::Drain(200), Op::Answer], 200).flatten();
            for op in ops.into_iter().chain(finish) {
                match op {
                    Op::Publish(topic) => {
                        ms += pace_ms;
                        let frame = frame(TOPICS[topic], ms);
                        history[topic].push(Arc::clone(&frame));
                        if done || !replay.passes_over(&frame) {
                            backlog.push(frame);
                        }
                    }
                    Op::Answer if !asked.is_empty() => {
                        let (topic, after): (Topic, Position) = asked.remove(0);
                        let all = &history[TOPICS.iter().position(|name| *name == topic.as_str()).unwrap()];
                        let lacking: Vec<_> = all.iter().filter(|f| f.position() > Some(after)).cloned().collect();
                        let complete = lacking.len() <= limit;
                        let frames = lacking.into_iter().take(limit).collect();
                        replay.page(topic.as_str(), &FramePage { frames, complete, reaches: Reach::START }, 0);
                    }
                    Op::Answer => {}
                    Op::GiveUp => replay.give_up_pages(),
                    Op::Drain(steps) => for _ in 0..steps {
                        match replay.step() {
                            Step::Ask(topic, after) => asked.push((topic, after)),
                            Step::Gap(_) => prop_assert!(false, "history reaches back"),
                            Step::Frame(frame) => got.push(frame),
                            Step::Wait => break,
                            Step::Done => { done = true; break }
                        }
                    }
                }
            }
            prop_assert!(done);
            prop_assert_eq!(held.bytes(), 0);
            got.extend(backlog);
            let old: Vec<_> = got.iter().filter(|frame| frame.position().unwrap().ms <= there).map(|f| f.position()).collect();
            prop_assert!(old.is_sorted(), "{:?}", old);
            for (topic, all) in TOPICS.iter().zip(&history) {
                let of = |frames: &[Arc<Frame>]| frames.iter().filter(|f| f.topic() == *topic && f.position() > Some(after)).map(|f| f.position()).collect::<Vec<_>>();
                let mut once = of(&got);
                let mut seen = std::collections::HashSet::new();
                once.retain(|position| seen.insert(*position));
                prop_assert_eq!(once, of(all));
            }
            let mut all: Vec<_> = history.iter().flatten().map(|f| f.position().unwrap()).filter(|p| *p > after).collect();
            all.sort_unstable();
            let mut had = std::collections::HashSet::new();
            for frame in &got {
                let id = frame.position().unwrap();
                had.insert(id);
                let lost = all.iter().take_while(|p| **p <= id.earlier(RESUME_OVERLAP_MS)).find(|p| !had.contains(p));
                prop_assert_eq!(lost, None, "cut after {}", id);
            }
        }
    }

    #[test]
    fn what_history_forgets_while_a_page_is_taken_is_a_gap() {
        let topic = Topic::parse("live:a").unwrap();
        let mut replay = Replay::new([topic], Position::at(1), Some(Shown::to(Position::at(5))), &held());
        let mut pages = [(&[6, 7][..], 3), (&[8], 7), (&[12], 10)].into_iter().peekable();
        let mut got = Vec::new();
        loop {
            match replay.step() {
                Step::Ask(..) => {
                    let (events, reaches) = pages.next().expect("the last one is complete");
                    let frames = events.iter().map(|ms| frame("live:a", *ms)).collect();
                    let page = FramePage {
                        frames,
                        complete: pages.peek().is_none(),
                        reaches: Reach::back_to(Position::at(reaches)),
                    };
                    replay.page("live:a", &page, 0);
                }
                Step::Gap(_) => got.push(0),
                Step::Frame(frame) => got.push(frame.position().unwrap().ms),
                Step::Done => break,
                Step::Wait => panic!("nothing is on its way"),
            }
        }
        assert_eq!(got, [6, 7, 8, 0, 12]);
    }

    #[test]
    fn gaps_are_said_once() {
        let topics = || [Topic::parse("live:a").unwrap()];
        let page = |reaches| FramePage {
            frames: Arc::new([]),
            complete: true,
            reaches: Reach::back_to(Position::at(reaches)),
        };
        for (seen, reaches, gap) in [(Some(5), 6, true), (Some(5), 5, false), (Some(5), 3, false), (None, 0, true)] {
            let mut replay =
                Replay::new(topics(), Position::at(1), seen.map(|ms| Shown::to(Position::at(ms))), &held());
            let mut gaps = 0;
            loop {
                match replay.step() {
                    Step::Ask(topic, _) => replay.page(topic.as_str(), &page(reaches), 0),
                    Step::Gap(_) => gaps += 1,
                    Step::Done => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(gaps, usize::from(gap), "{seen:?} {reaches}");
        }
    }

    #[test]
    fn what_is_taken_back_is_not_written_any_more() {
        let topic = Topic::parse("live:a").unwrap();
        let event = |id: &str, kind: &str, ms: u64, data: &str| {
            let place = Some(Place { dc: "dc", position: Position { ms, seq: 1 }, prev: Position::START });
            let (data, class, topic) = (data.as_bytes(), Class::Every, "live:a");
            Arc::new(Frame::encode(&Event {
                id,
                topic,
                kind,
                key: None,
                at: 7,
                data,
                class,
                ttl_ms: 0,
                place,
                version: Version::NONE,
            }))
        };
        let frames: Vec<_> = (1..=4).map(|number| event(&number.to_string(), "comment", number, "1")).collect();
        let held = held();
        let mut replay = Replay::new([topic], Position::START, Some(Shown::to(Position::START)), &held);
        assert!(matches!(replay.step(), Step::Ask(..)));
        let page = FramePage { frames: frames.clone().into(), complete: true, reaches: Reach::START };
        replay.page("live:a", &page, 0);
        let mut written = Vec::new();
        let mut write = |step: Step| match step {
            Step::Frame(frame) => written.push(frame.position().unwrap().ms),
            other => panic!("{other:?}"),
        };
        write(replay.step());
        let deleted = |id: &str| event(&format!("{id}.deleted"), "deleted", 9, &format!("{{\"id\":\"{id}\"}}"));
        for id in ["1", "3", "4"] {
            assert!(replay.passes_over(&deleted(id)));
        }
        assert_eq!(held.bytes(), frames[1].bytes().len());
        write(replay.step());
        assert_eq!(written, [1, 2]);
        // What takes them back is read from where the page ended.
        assert!(matches!(replay.step(), Step::Ask(_, after) if after == Position { ms: 4, seq: 1 }));
    }
}
