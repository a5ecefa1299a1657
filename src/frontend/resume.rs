//! A stream that comes back: what it missed is read from its topics' homes and written as its socket drains.

use std::borrow::Cow;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::beginning::{Joined, beginning};
use crate::frontend::held_pages::HeldPages;
use crate::frontend::homes::within;
use crate::frontend::mercure::is_named;
use crate::frontend::polls::split_told;
use crate::frontend::replay::{Replay, Step};
use crate::ground::Ground;
use crate::ground::all::All;
use crate::ground::message::{Asker, Message, ReplayAsk, Replayed};
use crate::ground::opening::LastEvent;
use crate::ground::slots::{Conn, TopicIndex};
use crate::limits::{FROM_MAX, PAGE_BYTES, REPLAY_WRITE_BYTES, RESUME_LOST_MS, RESUME_OVERLAP_MS, RESUME_SKEW_MS};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::queue::Pushed;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::http::HttpError;
use crate::wire::position::{Position, Reach, Resume, Shown};
use crate::wire::query::{Parameter, Query};
use crate::wire::request::Request;
use crate::wire::sse;
use crate::wire::sse::Framing;
use crate::wire::topic::Topic;

/// The id of a client that has nothing yet: no position, so that it is given what history holds.
pub(crate) const NOTHING_YET: &str = "0";

/// A stream's replay, and what its gaps name.
#[derive(Debug)]
pub struct Replaying {
    /// What comes next.
    pub replay: Replay,
    /// The id that the client sent, if it could be read.
    last_id: Option<String>,
    /// Nothing can be written until a page comes.
    pub waits: bool,
}

/// What of a replay is ready to be written.
#[derive(Debug, Default)]
pub struct Replayable {
    /// Pages to ask for.
    pub asks: Vec<(Topic, Position)>,
    /// Events among the bytes.
    pub events: u64,
    /// Gaps that they tell of.
    pub gaps: u64,
    /// Nothing more will come.
    pub done: bool,
}

impl Replaying {
    /// For a stream of these topics.
    /// `newest_ms` is at least the newest time of a place that was given out, as far as this shard knows. What was before `lost`
    /// the store lost.
    pub fn new(
        topics: Vec<(Topic, All)>,
        last: &LastEvent,
        newest_ms: u64,
        lost: Reach,
        held: &HeldPages,
    ) -> Replaying {
        let began = Shown::to(Position::at(newest_ms));
        let (replay, last_id) = match last.resume.within(newest_ms) {
            Resume::After(position) => {
                let are_several = topics.len() > 1 || topics.iter().any(|(topic, _)| topic.is_prefix());
                let is_exact = last.takes_no_repeats && !are_several;
                let overlap_ms = if planted(Mistake::NoOverlap) { 0 } else { RESUME_OVERLAP_MS };
                let after = if is_exact { position } else { position.earlier(overlap_ms) };
                // One topic comes in order, so the id of an event of it says all. Of several, that one may have been ahead of
                // what is missing. The place where a stream began, and a time of another data center, hold for all of them.
                let of_event = !position.is_between();
                // Each topic's viewers are told of a loss when its end is compared with history's: perhaps this stream was not
                // yet of all, though one of them had gone on with what the store has since.
                let is_untold = of_event && lost.lacks_after(Shown::to(position.earlier(RESUME_LOST_MS)));
                let seen = if are_several && of_event { position.earlier(RESUME_SKEW_MS) } else { position };
                let seen = (!is_untold || !are_several).then_some(Shown::to(seen));
                let mut replay = Replay::new(topics, after, position, seen, began, held);
                // The id may be of a topic that was given up. Without a loss, its event may be one that its type keeps for
                // less long than others.
                if is_untold && !are_several && !is_exact {
                    replay = replay.if_it_has_the_place();
                }
                (replay, Some(last.id.clone()))
            }
            Resume::Since(position) => {
                (Replay::new(topics, position, position, Some(Shown::to(position)), began, held), Some(last.id.clone()))
            }
            Resume::Newest(most) => {
                (Replay::new(topics, Position::START, Position::START, None, began, held).newest(most), None)
            }
            Resume::Unreadable => (Replay::new(topics, Position::START, Position::START, None, began, held), None),
        };
        Replaying { replay, last_id, waits: false }
    }

    /// Appends what comes next to `out`, up to about [`REPLAY_WRITE_BYTES`]. Ids go no further than `floor`,
    /// a place of the data center `dc`.
    pub fn fill(&mut self, out: &mut Vec<u8>, framing: Framing, dc: &str, floor: Option<Position>) -> Replayable {
        let mut ready = Replayable::default();
        self.waits = false;
        while out.len() < REPLAY_WRITE_BYTES {
            match self.replay.step() {
                Step::Ask(topic, after) => ready.asks.push((topic, after)),
                Step::Gap(_) if planted(Mistake::GapUntold) => {}
                Step::Gap(topic) => {
                    ready.gaps += 1;
                    framing.wrap(out, |out| sse::gap(out, topic.as_str(), self.last_id.as_deref()));
                }
                Step::Frame(frame) => {
                    ready.events += 1;
                    let frame = within(dc, &frame, floor);
                    out.extend_from_slice(if framing == Framing::Chunked { frame.bytes() } else { frame.event() });
                }
                Step::Wait => {
                    self.waits = true;
                    break;
                }
                Step::Done => {
                    ready.done = true;
                    break;
                }
            }
        }
        ready
    }
}

impl Frontend {
    /// What a request for a stream says of events that its client has.
    pub(crate) fn last_event(
        &self,
        ground: &Ground,
        request: &Request<'_>,
        query: Query<'_>,
    ) -> Result<Option<LastEvent>, HttpError> {
        let id = self.last_id(request, query).map(Cow::into_owned);
        // It is given back in a line of the stream, of which nobody may make two.
        let id = id.map(|id| if id.bytes().all(|byte| byte.is_ascii_graphic()) { id } else { NOTHING_YET.to_owned() });
        let from = || query.last(Parameter::From).map(|from| self.read_from(ground, &from)).transpose();
        id.map_or_else(from, |id| {
            let (place, told_ms) = split_told(&id);
            let (id, resume) = (place.to_owned(), ground.read_place(place));
            Ok(Some(LastEvent { id, resume, told_ms, takes_no_repeats: false }))
        })
    }

    /// What a client that has nothing yet asks for of history. The id is what it comes back with if it is cut before it got any of
    /// that: an empty one is none to a client, which asks the same again.
    fn read_from(&self, ground: &Ground, from: &str) -> Result<LastEvent, HttpError> {
        let now_ms = ground.clock.unix_ms;
        let (id, resume) = match (from, from.strip_prefix('-').map(str::parse), from.parse()) {
            ("earliest", ..) => (String::new(), Resume::Newest(None)),
            (_, Some(Ok(most @ 1..=FROM_MAX)), _) => (String::new(), Resume::Newest(Some(most))),
            (_, None, Ok(ms)) if ms <= now_ms => {
                (format!("{}:{}", ground.node.dc, Position::at(ms)), Resume::Since(Position::at(ms)))
            }
            _ => {
                return Err(HttpError::bad(format!(
                    "\"from\" must be earliest, -1 to -{FROM_MAX} for so many of each topic's newest events, or a time that is \
                     past in Unix ms, such as {now_ms}"
                )));
            }
        };
        Ok(LastEvent { id, resume, told_ms: 0, takes_no_repeats: false })
    }

    /// The id of a stream's `connected`: the place where it begins, or, until what it missed is replayed, the one that its
    /// client came with.
    pub(crate) fn beginning_id(&self, ground: &Ground, conn: Conn, last: Option<&LastEvent>) -> String {
        if let Some(last) = last {
            return last.id.clone();
        }
        let topics = self.all_watched(ground, conn).map(|(_, entry)| Joined::of(entry));
        format!("{}:{}", ground.node.dc, beginning(topics, ground.clock.unix_ms))
    }

    /// Begins to replay what a stream missed, behind what waits for it.
    pub(crate) fn start_replay(&mut self, ground: &mut Ground, conn: Conn, last: &LastEvent) {
        let entries = self.all_watched(ground, conn).map(|(_, entry)| entry);
        let shown_ms = entries.clone().filter_map(|entry| entry.delivered_to).map(|to| to.place().ms).max();
        let newest_ms = ground.clock.unix_ms.max(self.given_ms).max(shown_ms.unwrap_or(0));
        // Those that it has by a prefix come with the list of the prefix's topics.
        let entries = entries.filter(|entry| !entry.all.is_by_prefix());
        let topics: Vec<_> = entries.map(|entry| (entry.topic.clone(), entry.all.clone())).collect();
        if topics.is_empty() {
            return;
        }
        ground.happened(What::Resumed, 1, ground.subject(conn));
        self.replay_topics(ground, conn, topics, last, newest_ms);
        self.on_stream_writable(ground, conn);
    }

    /// Has a stream given what followed of these topics, once it is written to. At least up to `newest_ms` places were given out.
    pub(crate) fn replay_topics(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        topics: Vec<(Topic, All)>,
        last: &LastEvent,
        newest_ms: u64,
    ) {
        let mut replaying = Replaying::new(topics, last, newest_ms, ground.cluster.lost, &self.held_pages);
        replaying.replay.subscriber =
            ground.slots.at(conn.slot).rights.as_ref().and_then(|rights| rights.mercure.clone());
        self.lag(ground, conn.slot).replay = Some(Box::new(replaying));
    }

    /// Asks topics' homes for pages.
    pub(crate) fn ask_pages(&mut self, ground: &mut Ground, conn: Conn, asks: Vec<(Topic, Position)>, bytes: usize) {
        for (topic, after) in asks {
            let home = ground.node.home(topic.as_str());
            let asker = Asker::Stream { shard: ground.id, conn };
            ground.send(home, Message::Replay(Box::new(ReplayAsk { topic, after, bytes, asker })));
        }
    }

    /// A stream has no use any more for what it asked of a topic.
    pub(crate) fn end_replay(&mut self, ground: &mut Ground, conn: Conn, topic: Topic) {
        let home = ground.node.home(topic.as_str());
        let asker = Asker::Stream { shard: ground.id, conn };
        ground.send(home, Message::ReplayEnds { topic, asker });
    }

    /// A topic's home answered.
    pub(crate) fn on_replayed(&mut self, ground: &mut Ground, replayed: Replayed) {
        match replayed.asker {
            Asker::Stream { conn, .. } => {
                let lag = ground.slots.get(conn).and_then(|_| self.lags.get(conn.slot));
                if lag.is_none_or(|lag| lag.replay.is_none()) {
                    return;
                }
                self.tell_of_loss(ground, replayed.topic.as_str(), replayed.page.since);
                // What the topics' logs hold is on the page, or comes from history as well.
                self.merge_what_waits(ground, conn.slot);
                let topic = replayed.topic.as_str();
                let shown = self.watched(ground, conn, topic).and_then(|index| {
                    let entry = self.topics.get(index);
                    Some((entry.shown_to()?, entry.told))
                });
                let Some(lag) = self.lags.get_mut(conn.slot) else { return };
                let Some(replaying) = &mut lag.replay else { return };
                let is_named = |topic: &Topic| is_named(&self.topics, ground.slots.at(conn.slot), topic);
                let page =
                    shown.map_or_else(|| replayed.page.clone(), |(shown, told)| replayed.page.up_to(shown, told));
                replaying.replay.page(topic, &page, replayed.from.min(page.frames.len()), is_named);
                self.on_stream_writable(ground, conn);
            }
            Asker::Core { view: index, .. } => {
                let (now_ms, floor) = (ground.clock.unix_ms, self.floor(ground));
                let entry = self.topics.try_get_mut(index).filter(|entry| entry.topic == replayed.topic);
                let Some(entry) = entry else { return };
                let Some(behind) = entry.behind.as_mut() else { return };
                behind.asked = false;
                let (had, page) = (entry.delivered_to.unwrap_or(behind.after), &replayed.page);
                let reaches = page.reaches_here();
                if behind.gap || (reaches.lacks_after(had) && reaches > entry.told) {
                    // History forgot what the viewers lack, before there was room for it.
                    let gap =
                        Frame::gap(replayed.topic.as_str(), &format!("{}:{}", ground.node.dc, had.place()), reaches);
                    if entry.append(&Arc::new(gap), now_ms) == Pushed::Overrun {
                        return self.queue_topic(index);
                    }
                    let Some(behind) = entry.behind.as_mut() else { return };
                    behind.gap = false;
                    entry.told = entry.told.max(reaches);
                    ground.node.counters[ground.id].happened(What::Gap, 1, Subject::topic(entry.topic.as_str()));
                }
                let found = page.frames[replayed.from..].iter();
                let found: Vec<_> = found.map(|frame| within(&ground.node.dc, frame, floor).into_owned()).collect();
                entry.catch_up(&found, page.complete, reaches, now_ms);
                self.queue_topic(index);
            }
        }
    }

    /// A page that a stream asked for says that the store lost all from before `since`. All who watch the topic on this core
    /// are told at once, that stream among them, so that it is not told again when its home finds out.
    fn tell_of_loss(&mut self, ground: &mut Ground, topic: &str, since: Reach) {
        let (now_ms, mut next) = (ground.clock.unix_ms, self.topics.find(topic));
        while let Some(index) = next {
            let entry = self.topics.get_mut(index);
            next = entry.other;
            let untold = entry.delivered_to.filter(|had| since.lacks_after(*had) && since > entry.told);
            let Some(had) = untold else { continue };
            let gap = Arc::new(Frame::gap(topic, &format!("{}:{}", ground.node.dc, had.place()), since));
            if let Some(pushed) = entry.append_ordered(&gap, false, now_ms) {
                ground.node.counters[ground.id].count_pushed(pushed, Subject::frame(&gap));
            }
            let says = format_args!("behind {}: the store lost it", had.place());
            ground.happened(What::Gap, 1, Subject { says: Some(says), ..Subject::topic(topic) });
            self.queue_topic(index);
        }
    }

    /// Viewers of a topic on this core lack events that were too many for a queue: reads them from the topic's home, once
    /// there is room for them.
    pub(crate) fn catch_up_topic(&mut self, ground: &mut Ground, index: TopicIndex) {
        let entry = self.topics.get_mut(index);
        let Some(behind) = entry.behind.as_mut().filter(|behind| !behind.asked) else { return };
        behind.asked = true;
        let after = entry.delivered_to.unwrap_or(behind.after).place();
        let topic = entry.topic.clone();
        let home = ground.node.home(topic.as_str());
        let asker = Asker::Core { shard: ground.id, view: index };
        ground.send(home, Message::Replay(Box::new(ReplayAsk { topic, after, bytes: PAGE_BYTES, asker })));
    }

    /// Puts a topic in the queue of those whose viewers lack something.
    pub(crate) fn queue_topic(&mut self, index: TopicIndex) {
        let entry = self.topics.get_mut(index);
        if !std::mem::replace(&mut entry.queued, true) {
            self.unserved.push_back(index);
        }
    }
}
