//! What a stream is given in pages as its socket drains: history that it missed, and newest values. A page is made only
//! once there is memory for it; until then the stream waits in a queue.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::lag::{Lag, Showing};
use crate::frontend::newest::{Keeping, Newest, Turn};
use crate::frontend::topics::TopicEntry;
use crate::ground::Ground;
use crate::ground::slots::{Conn, TopicIndex};
use crate::limits::{NEWEST_LOGGED_BYTES, PAGE_BUFFER_BYTES, PAGES_PART, PAGES_STREAMS_BURST, REPLAY_WRITE_BYTES};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::Use;
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::position::Position;
use crate::wire::sse::Framing;
use crate::wire::topic::Topic;

impl Showing {
    /// Appends the values that come next to `out`, up to about [`REPLAY_WRITE_BYTES`]. True if that was the last of them.
    pub fn fill(&mut self, newest: &Newest, out: &mut Vec<u8>, framing: Framing) -> bool {
        let until = self.until;
        for (turn, frame) in newest.behind(self.at).take_while(|(turn, _)| *turn <= until) {
            let bytes = if framing == Framing::Chunked { frame.bytes() } else { frame.event() };
            if !out.is_empty() && out.len() + bytes.len() > REPLAY_WRITE_BYTES {
                return false;
            }
            out.extend_from_slice(bytes);
            self.at = turn;
        }
        true
    }
}

impl Lag {
    /// The next page is one of newest values: before history, whose events wait behind them, but behind live events, so
    /// that a client that takes its time with very many values loses none of those meanwhile.
    fn shows_next(&self) -> bool {
        !self.showing.is_empty() && (self.replay.is_some() || (self.backlog.is_empty() && !self.backlog.overrun()))
    }

    /// It holds pages of history, beside what is being written.
    pub fn holds_pages(&self) -> bool {
        self.replay.as_ref().is_some_and(|replaying| replaying.replay.holds_pages())
    }

    /// There is a page to be made.
    pub fn has_pages(&self) -> bool {
        self.replay.is_some() || self.shows_next()
    }

    /// Bytes that the next page may need beside what is held.
    fn page_asks(&self) -> usize {
        let replay = self.replay.as_ref().filter(|_| self.showing.is_empty());
        PAGE_BUFFER_BYTES + replay.map_or(0, |replaying| replaying.replay.asks())
    }
}

impl Frontend {
    /// A stream is to be given newest values, behind what waits for it.
    pub(crate) fn show(&mut self, ground: &mut Ground, conn: Conn, showing: Vec<Showing>) {
        if showing.is_empty() || ground.slots.get(conn).is_none() {
            return;
        }
        self.lag(ground, conn.slot);
        let lag = self.lags.get_mut(conn.slot).expect("it lags");
        for Showing { topic, at, .. } in &showing {
            // What waits since it had the topic before is older, and would go out later.
            let TopicEntry { topic, newest, .. } = self.topics.get(*topic);
            lag.backlog.forget(|frame| {
                frame.class().has_versions() && frame.topic() == topic.as_str() && newest.has_behind(*at, frame)
            });
        }
        lag.showing.extend(showing);
        self.on_stream_writable(ground, conn);
    }

    /// Topics that a stream was just added to show their newest values.
    pub(crate) fn show_topics(&mut self, ground: &mut Ground, conn: Conn, topics: &[Topic]) {
        if ground.slots.get(conn).is_none_or(|slot| slot.waiting) {
            return;
        }
        let by_prefix = self.had_by_prefix(ground, conn).into_iter().filter(|index| {
            let topic = self.topics.get(*index).topic.as_str();
            topics.iter().any(|prefix| prefix.covers(topic))
        });
        let named = topics.iter().filter_map(|topic| self.watched(ground, conn, topic.as_str()));
        let newest = named.chain(by_prefix).filter_map(|index| {
            let until = self.topics.get(index).newest.end();
            (until > 0).then_some(Showing { topic: index, at: 0, until })
        });
        let newest: Vec<Showing> = newest.collect();
        self.show(ground, conn, newest);
    }

    /// A topic's home tells its newest values: viewers on this core get those that are news here.
    pub(crate) fn take_newest(&mut self, ground: &mut Ground, index: TopicIndex, newest: &[Arc<Frame>]) {
        let entry = self.topics.get_mut(index);
        let known = entry.newest.end();
        for frame in newest {
            // What there is no room for was counted; home has it.
            let _ = entry.newest.take(frame, Keeping::Shared, &ground.account);
        }
        self.show_newest(ground, index, known);
    }

    /// Viewers of a topic on this core get its newest values behind this place: by its log if they are few.
    fn show_newest(&mut self, ground: &mut Ground, index: TopicIndex, at: Turn) {
        let now_ms = ground.clock.unix_ms;
        let entry = self.topics.get_mut(index);
        let values: Vec<_> = entry.newest.behind(at).map(|(_, frame)| Arc::clone(frame)).collect();
        if values.iter().map(|frame| frame.bytes().len()).sum::<usize>() <= NEWEST_LOGGED_BYTES {
            for frame in &values {
                let pushed = entry.append(frame, now_ms);
                ground.node.counters[ground.id].count_pushed(pushed, Subject::frame(frame));
            }
            if !values.is_empty() {
                self.queue_topic(index);
            }
            return;
        }
        self.show_all(index, at);
    }

    /// Makes the next page of a stream, whose slot is empty meanwhile.
    pub(crate) fn make_page(&mut self, ground: &mut Ground, conn: Conn, lag: &mut Lag, framing: Framing) -> Made {
        let (part, whole) = PAGES_PART;
        let most = ground.account.most(Use::Streams) / whole * part;
        if lag.held.resize_within(lag.bytes() + lag.page_asks(), most).is_err() {
            lag.hungry_since.get_or_insert(ground.clock.seconds());
            self.queue_for_pages(conn, lag);
            return Made::Nothing;
        }
        lag.hungry_since = None;
        let floor = self.floor(ground);
        // Whatever waited until now, the client did not.
        lag.progress = ground.clock.seconds();
        lag.unsent = Vec::with_capacity(PAGE_BUFFER_BYTES);
        while let Some(showing) = lag.showing.first_mut() {
            if !showing.fill(&self.topics.get(showing.topic).newest, &mut lag.unsent, framing) {
                break;
            }
            lag.showing.remove(0);
        }
        let mut made = Made::Page;
        if lag.showing.is_empty()
            && let Some(replaying) = &mut lag.replay
        {
            let ready = replaying.fill(&mut lag.unsent, framing, &ground.node.dc, floor);
            let counters = ground.counters();
            counters.deliveries[Class::Every as usize].add(ready.events);
            counters.replayed.add(ready.events);
            if ready.events > 0 {
                let says = Some(format_args!("{} events of history", ready.events));
                ground.track("written", Subject { says, ..ground.subject(conn) });
            }
            counters.happened(What::Gap, ready.gaps, ground.subject(conn));
            if !ready.asks.is_empty() {
                made = Made::Asks(ready.asks, replaying.replay.page_bytes());
            } else if replaying.waits && lag.unsent.is_empty() {
                made = Made::Nothing;
            }
            if ready.done {
                lag.backlog.forget(|frame| replaying.replay.gave(frame));
                lag.replay = None;
            }
        }
        if lag.unsent.len() < lag.unsent.capacity() / 2 {
            lag.unsent.shrink_to_fit();
        }
        made
    }

    /// Streams wait for memory: some of those whose clients take nothing give up what can be read again. True if that freed
    /// some, or may yet: what many hold is free once the last of them gave it up.
    fn reclaim_pages(&mut self, ground: &mut Ground) -> bool {
        let held = ground.account.held(Use::Streams);
        for _ in 0..self.sated.len().min(PAGES_STREAMS_BURST) {
            let Some(conn) = self.sated.pop_front() else { break };
            let lag = ground.slots.get(conn).and_then(|_| self.lags.get_mut(conn.slot));
            let Some(lag) = lag else { continue };
            lag.sated = false;
            if let Some(replaying) = lag.replay.as_mut().filter(|_| lag.sent < lag.unsent.len()) {
                replaying.replay.give_up_pages();
            }
        }
        ground.account.held(Use::Streams) < held || !self.sated.is_empty()
    }

    /// The next page of a stream waits for memory, or for its turn.
    pub(crate) fn queue_for_pages(&mut self, conn: Conn, lag: &mut Lag) {
        if !std::mem::replace(&mut lag.starves, true) {
            self.starving.push_back(conn);
        }
    }

    /// Once a turn: those whose pages waited go on, in the order in which they came. True if more is to be done at once.
    pub(crate) fn feed_starving(&mut self, ground: &mut Ground) -> bool {
        for _ in 0..self.starving.len().min(PAGES_STREAMS_BURST) {
            let Some(conn) = self.starving.pop_front() else { return false };
            let lag = ground.slots.get(conn).and_then(|_| self.lags.get_mut(conn.slot));
            let Some(lag) = lag else { continue };
            lag.starves = false;
            let refused = ground.account.refused(Use::Streams);
            self.on_stream_writable(ground, conn);
            if ground.account.refused(Use::Streams) > refused {
                // There is still no room. It stays the first, if that was for its page.
                if self.starving.back() == Some(&conn) {
                    self.starving.rotate_right(1);
                }
                return self.reclaim_pages(ground);
            }
        }
        !self.starving.is_empty()
    }
}

/// What came of making a page.
#[derive(Debug)]
pub(crate) enum Made {
    /// It is to be written.
    Page,
    /// Same, if there is any of it, and pages of history are to be asked for, each of so many bytes.
    Asks(Vec<(Topic, Position)>, usize),
    /// Nothing for now.
    Nothing,
}
