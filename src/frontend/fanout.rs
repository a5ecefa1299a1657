//! To the viewers: each gets, in one write, all that it lacks at that moment, of all its topics.

use std::io;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::frontend::log::{Cursor, Log};
use crate::frontend::mercure::is_for;
use crate::frontend::paging::Made;
use crate::frontend::resume::Replaying;
use crate::ground::Ground;
use crate::ground::admitting::bye;
use crate::ground::slots::{Body, Conn, Kind, Slot, Subscription, TopicIndex};
use crate::limits::{
    FAN_OUT_SLICE, FANOUT_BURST, FANOUT_SLICE, HEARTBEAT, PAGES_BURST, SENDFILE_BYTES_MIN, SENDFILE_VIEWERS_MIN,
};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::observe::metrics::MEASURES;
use crate::observe::track;
use crate::runtime::clock::Slice;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::canary::is_canary;
use crate::wire::event::{ByClass, Class};
use crate::wire::frame::Frame;
use crate::wire::sse::{ByeReason, Framing};

/// What a slice of a topic's viewers got: counted at its end, since counting each by itself would cost as much as choosing it.
#[derive(Debug, Default)]
struct Served {
    writes: u64,
    bytes: u64,
    classes: ByClass,
    /// What followed a cursor up to an end of the log, which mostly is the same for the next viewer.
    last: Option<(Cursor, Cursor, ByClass)>,
    /// When the newest of what the first viewer got was accepted, and its class.
    sample: Option<(u64, Class)>,
}

/// A viewer whose turn came, and that is to get what its topic's log has for it in one go with others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    place: u32,
    slot: u32,
}

impl Ground {
    /// A viewer is given all of a topic that is behind this place, for who tracks it through the log.
    #[cold]
    fn track_written(&self, slot: u32, log: &Log, from: Cursor) {
        let Some(conn) = self.slots.owner(slot) else { return };
        for frame in log.split(from, 0).1 {
            track::tell_written("written", &Subject { frame: Some(frame), ..self.subject(conn) });
        }
    }
}

impl Served {
    /// A viewer at `cursor` got all that follows.
    fn all(&mut self, log: &Log, cursor: Cursor) {
        let end = log.end();
        let classes = match self.last {
            Some((from, to, classes)) if (from, to) == (cursor, end) => classes,
            _ => log.classes_since(cursor),
        };
        self.last = Some((cursor, end, classes));
        add(&mut self.classes, classes);
    }
}

impl Frontend {
    /// Serves a burst of viewers, topic by topic in turns, so that a topic with many viewers does not delay one with few.
    pub(crate) fn fan_out(&mut self, ground: &mut Ground) {
        if self.unserved.is_empty() {
            return self.close_broken(ground);
        }
        let (mut left, mut time) = (FANOUT_BURST, ground.clock.slice(FAN_OUT_SLICE));
        while left > 0 {
            let Some(index) = self.unserved.pop_front() else { break };
            let slice = FANOUT_SLICE.min(left);
            let mut counted = Served::default();
            let (served, more) = self.serve_topic(ground, index, slice, &mut time, &mut counted);
            let counters = ground.counters();
            counters.writes.add(counted.writes);
            counters.delivered_bytes.add(counted.bytes);
            counters.count_delivered(counted.classes);
            left -= served.min(left).max(1);
            if more && let Some(entry) = self.topics.try_get_mut(index) {
                self.unserved.push_back(index);
                // A busy topic may never come to an end, and its history is read all the same.
                if entry.should_catch_up() {
                    self.catch_up_topic(ground, index);
                }
            }
            if time.is_over() {
                break;
            }
        }
        // Ending a stream moves viewers, so it waits until nobody looks at them.
        self.close_broken(ground);
    }

    /// Serves up to `slice` viewers of one topic; fewer when all have all, or the time is over. Gives how many, and whether
    /// there are more.
    fn serve_topic(
        &mut self,
        ground: &mut Ground,
        index: TopicIndex,
        slice: usize,
        time: &mut Slice,
        counted: &mut Served,
    ) -> (usize, bool) {
        let served = self.serve_turns(ground, index, slice, time, counted);
        self.send_picked(ground, index, counted);
        if !self.followed.is_empty() {
            self.follow_up(ground, index);
        }
        if let Some((at, class)) = counted.sample.filter(|(at, _)| *at > 0)
            && self.topics.try_get_mut(index).is_none_or(|entry| !is_canary(entry.topic.as_str()))
        {
            let took_ms = ground.clock.times.unix_ms().saturating_sub(at);
            ground.node.counters[ground.id].delivery[class as usize].observe(took_ms * 1000);
        }
        served
    }

    fn serve_turns(
        &mut self,
        ground: &mut Ground,
        index: TopicIndex,
        slice: usize,
        time: &mut Slice,
        counted: &mut Served,
    ) -> (usize, bool) {
        let now_ms = ground.clock.unix_ms;
        for served in 0..slice {
            // The last viewer may have left since the topic was put in the queue.
            if self.topics.try_get_mut(index).is_none_or(|entry| entry.ends_round()) {
                self.send_picked(ground, index, counted);
            }
            let Some(entry) = self.topics.try_get_mut(index) else { return (served, false) };
            let Some(place) = entry.next_viewer(now_ms) else {
                entry.queued = false;
                let (behind, rest) = (entry.should_catch_up(), entry.rest_ms(now_ms));
                let expired = std::mem::take(&mut entry.expired);
                ground.happened(What::DroppedExpired, expired, Subject::topic(entry.topic.as_str()));
                if behind {
                    self.catch_up_topic(ground, index);
                }
                if let Some(ms) = rest {
                    self.rest_topic(ground, index, ms);
                }
                return (served, false);
            };
            // One delivery of each slice has its time taken: that costs some 50 ns in a slice of 32 writes.
            if served == 0 && MEASURES {
                self.sampled = self.sampled.wrapping_add(1);
                let cursor = entry.viewers[place as usize].cursor;
                counted.sample = entry.log.sample(cursor, self.sampled).map(|frame| (frame.at(), frame.class()));
            }
            if self.serve_viewer(ground, index, place, counted) && time.is_over() {
                return (served + 1, true);
            }
        }
        (slice, true)
    }

    /// Writes what one viewer lacks, or puts it among those that get it together. True if that may have taken long.
    fn serve_viewer(&mut self, ground: &mut Ground, index: TopicIndex, place: u32, counted: &mut Served) -> bool {
        let entry = self.topics.get_mut(index);
        let viewer = &mut entry.viewers[place as usize];
        let end = entry.log.end();
        if viewer.cursor == end {
            return false;
        }
        let (number, chooses) = (viewer.slot, entry.log.chooses_since(viewer.cursor));
        let slot = ground.slots.at_mut(number);
        if slot.waiting {
            viewer.cursor = end;
            return false;
        }
        let lacks = |subscription: &Subscription| {
            let entry = self.topics.get(subscription.topic);
            subscription.topic != index && entry.viewers[subscription.place as usize].cursor != entry.log.end()
        };
        let only = matches!(slot.kind, Kind::Stream) && slot.body == Body::Chunked && !chooses;
        if !only || slot.subscriptions.as_slice().iter().any(lacks) {
            self.serve_viewer_of_many(ground, number);
            return true;
        }
        let entry = self.topics.get(index);
        let viewer = &entry.viewers[place as usize];
        let bytes = entry.log.since(viewer.cursor);
        if bytes.len() >= SENDFILE_BYTES_MIN
            && entry.viewers.len() >= SENDFILE_VIEWERS_MIN
            && let Some(taken) =
                self.pages.send(index, &entry.log, viewer.cursor, slot.socket(), ground.clock.seconds())
        {
            return self.took(ground, index, Picked { place, slot: number }, taken, counted);
        }
        if slot.socket().is_secure() {
            let taken = ground.net.send(slot.socket(), bytes);
            return self.took(ground, index, Picked { place, slot: number }, taken, counted);
        }
        self.picked.push(Picked { place, slot: number });
        false
    }

    /// Writes what those lack that were picked, all of one topic, whose log is as it was when they were.
    fn send_picked(&mut self, ground: &mut Ground, index: TopicIndex, counted: &mut Served) {
        if self.picked.is_empty() {
            return;
        }
        let (mut picked, mut taken) = (std::mem::take(&mut self.picked), std::mem::take(&mut self.taken));
        let entry = self.topics.get(index);
        let sends = picked.iter().map(|picked| {
            let cursor = entry.viewers[picked.place as usize].cursor;
            (ground.slots.at(picked.slot).socket(), entry.log.since(cursor))
        });
        ground.net.send_each(sends, &mut taken);
        for (picked, taken) in picked.drain(..).zip(taken.drain(..)) {
            self.took(ground, index, picked, taken, counted);
        }
        (self.picked, self.taken) = (picked, taken);
    }

    /// So much of what a viewer lacked was taken. True if that it was not all has taken long.
    fn took(
        &mut self,
        ground: &mut Ground,
        index: TopicIndex,
        Picked { place, slot: number }: Picked,
        taken: io::Result<usize>,
        counted: &mut Served,
    ) -> bool {
        let entry = self.topics.get_mut(index);
        let viewer = &mut entry.viewers[place as usize];
        counted.writes += 1;
        match taken {
            Ok(taken) => {
                counted.bytes += taken as u64;
                if taken < entry.log.since(viewer.cursor).len() {
                    self.fall_behind(ground, number, taken);
                    return true;
                }
                if MEASURES {
                    counted.all(&entry.log, viewer.cursor);
                }
                if track::is_on() {
                    ground.track_written(number, &entry.log, viewer.cursor);
                }
                viewer.cursor = entry.log.end();
                ground.slots.at_mut(number).due = ground.clock.seconds() + HEARTBEAT.as_secs() as u32;
            }
            Err(_) => {
                viewer.cursor = entry.log.end();
                self.broken.extend(ground.slots.owner(number));
            }
        }
        false
    }

    /// Same for a viewer that lacks something of several topics, one that lags, or one without chunks.
    pub(crate) fn serve_viewer_of_many(&mut self, ground: &mut Ground, number: u32) {
        let slot = ground.slots.at(number);
        match slot.kind {
            Kind::Lagging { .. } => return self.merge_what_waits(ground, number),
            Kind::Stream => {}
            Kind::Free | Kind::Http(_) | Kind::Link(_) => unreachable!("only streams watch topics"),
        }
        ground.scratch.clear();
        let (mut classes, mut chosen) = (ByClass::default(), false);
        for subscription in slot.subscriptions.as_slice() {
            let entry = self.topics.get(subscription.topic);
            let cursor = entry.viewers[subscription.place as usize].cursor;
            if track::is_on() {
                ground.track_written(number, &entry.log, cursor);
            }
            let chooses = entry.log.chooses_since(cursor);
            if slot.framing() == Framing::Chunked && !chooses {
                add(&mut classes, entry.log.classes_since(cursor));
                ground.scratch.extend_from_slice(entry.log.since(cursor));
                continue;
            }
            chosen |= chooses;
            let frames = entry.log.split(cursor, 0).1;
            for frame in frames.filter(|frame| is_for(&self.topics, slot, &entry.all, frame)) {
                classes[frame.class() as usize] += 1;
                let bytes = if slot.framing() == Framing::Chunked { frame.bytes() } else { frame.event() };
                ground.scratch.extend_from_slice(bytes);
            }
        }
        if ground.scratch.is_empty() {
            return self.catch_up(ground, number);
        }
        if slot.body == Body::Watched {
            // It is no viewer that anybody counts.
            let scratch = std::mem::take(&mut ground.scratch);
            self.hear_canaries(ground, number, &scratch);
            ground.scratch = scratch;
            return self.catch_up(ground, number);
        }
        let counters = &ground.node.counters[ground.id];
        counters.writes.add(1);
        let scratch = std::mem::take(&mut ground.scratch);
        let given = self.send_to(ground, number, &scratch);
        ground.scratch = scratch;
        let (slot, counters) = (ground.slots.at(number), &ground.node.counters[ground.id]);
        match given {
            Ok(taken) if taken < ground.scratch.len() && (chosen || slot.framing() == Framing::Close) => {
                // Without chunks, or with some of its frames alone, the log's bytes are not what is sent: what is left waits as it is.
                counters.delivered_bytes.add(taken as u64);
                let unsent = ground.scratch[taken..].to_vec();
                self.catch_up(ground, number);
                self.lag_behind(ground, number, unsent);
            }
            Ok(taken) if taken < ground.scratch.len() => {
                counters.delivered_bytes.add(taken as u64);
                self.fall_behind(ground, number, taken);
            }
            Ok(taken) => {
                counters.delivered_bytes.add(taken as u64);
                counters.count_delivered(classes);
                self.catch_up(ground, number);
                let due = ground.clock.seconds() + HEARTBEAT.as_secs() as u32;
                ground.slots.at_mut(number).due = due;
            }
            Err(_) => {
                let conn = Conn { slot: number, generation: slot.generation };
                self.catch_up(ground, number);
                self.broken.push(conn);
            }
        }
    }

    /// Moves a viewer's cursors to the ends of its topics' logs.
    fn catch_up(&mut self, ground: &mut Ground, number: u32) {
        for subscription in ground.slots.at(number).subscriptions.as_slice() {
            let entry = self.topics.get_mut(subscription.topic);
            let end = entry.log.end();
            entry.viewers[subscription.place as usize].cursor = end;
        }
    }

    /// The kernel took `taken` bytes of what a viewer lacks, and no more: the rest of the frame that was cut goes first, whole
    /// frames behind it wait and merge.
    fn fall_behind(&mut self, ground: &mut Ground, number: u32, mut taken: usize) {
        self.lag_behind(ground, number, Vec::new());
        let now_ms = ground.clock.unix_ms;
        let counters = &ground.node.counters[ground.id];
        let slot = ground.slots.at(number);
        let about = ground.subject(Conn { slot: number, generation: slot.generation });
        let lag = self.lags.get_mut(number).expect("it was just made");
        for subscription in slot.subscriptions.as_slice() {
            let entry = self.topics.get_mut(subscription.topic);
            let viewer = &mut entry.viewers[subscription.place as usize];
            let lacked = entry.log.since(viewer.cursor).len();
            let here = taken.min(lacked);
            taken -= here;
            let (torn, whole) = entry.log.split(viewer.cursor, here);
            let mut written = entry.log.classes_since(viewer.cursor);
            for frame in whole {
                written[frame.class() as usize] -= 1;
                let pushed = lag.backlog.push(frame, u64::from(frame.count()), now_ms);
                counters.count_pushed(pushed, Subject { frame: Some(frame), ..about });
            }
            if !planted(Mistake::FrameTorn) {
                lag.unsent.extend_from_slice(entry.log.slice(torn));
            }
            counters.count_delivered(written);
            viewer.cursor = entry.log.end();
        }
        self.settle(number);
    }

    /// A viewer that lags gets nothing now: what came joins what waits for it.
    pub(crate) fn merge_what_waits(&mut self, ground: &mut Ground, number: u32) {
        let now_ms = ground.clock.unix_ms;
        let slot = ground.slots.at(number);
        let about = ground.subject(Conn { slot: number, generation: slot.generation });
        let lag = self.lags.get_mut(number).expect("called for viewers that lag");
        let counters = &ground.node.counters[ground.id];
        for subscription in slot.subscriptions.as_slice() {
            let entry = self.topics.get(subscription.topic);
            let viewer = &entry.viewers[subscription.place as usize];
            for frame in entry.log.split(viewer.cursor, 0).1 {
                if passes_over(&mut lag.replay, frame) || !is_for(&self.topics, slot, &entry.all, frame) {
                    continue;
                }
                let pushed = lag.backlog.push(frame, u64::from(frame.count()), now_ms);
                counters.count_pushed(pushed, Subject { frame: Some(frame), ..about });
            }
            let entry = self.topics.get_mut(subscription.topic);
            entry.viewers[subscription.place as usize].cursor = entry.log.end();
        }
        self.settle(number);
    }

    /// A viewer that lagged reads again: what was cut, then what waits, then it keeps up, or is told to resume.
    pub(crate) fn on_stream_writable(&mut self, ground: &mut Ground, conn: Conn) {
        if planted(Mistake::WritableMissed) {
            return;
        }
        self.write_what_waits(ground, conn);
        self.settle(conn.slot);
    }

    fn write_what_waits(&mut self, ground: &mut Ground, conn: Conn) {
        let (now_ms, seconds, retry_ms) = (ground.clock.unix_ms, ground.clock.seconds(), ground.retry_jitter());
        let node = Arc::clone(&ground.node);
        let counters = &node.counters[ground.id];
        let Some(framing) = ground.slots.get(conn).map(Slot::framing) else { return };
        let Some(mut lag) = self.lags.remove(conn.slot) else { return };
        lag.is_full = false;
        let mut pages = 0;
        loop {
            if lag.sent < lag.unsent.len() {
                counters.writes.add(1);
                let sent = self.send_to(ground, conn.slot, &lag.unsent[lag.sent..]);
                let taken = sent.as_ref().map_or(0, |taken| *taken);
                if taken > 0 {
                    lag.sent += taken;
                    lag.progress = seconds;
                    counters.delivered_bytes.add(taken as u64);
                }
                if lag.sent < lag.unsent.len() {
                    lag.is_full = true;
                    if lag.holds_pages() && !std::mem::replace(&mut lag.sated, true) {
                        self.sated.push_back(conn);
                    }
                    self.lags.insert(conn.slot, lag);
                    if sent.is_err() {
                        self.close_stream(ground, conn, Ended::Client);
                    }
                    return;
                }
                lag.unsent = Vec::new();
                lag.sent = 0;
                if let Some(why) = lag.ends {
                    self.lags.insert(conn.slot, lag);
                    return self.close_stream(ground, conn, why);
                }
            } else if lag.has_pages() && pages == PAGES_BURST {
                self.queue_for_pages(conn, &mut lag);
                self.lags.insert(conn.slot, lag);
                return;
            } else if lag.has_pages() {
                pages += 1;
                let made = self.make_page(ground, conn, &mut lag, framing);
                if let Made::Page = made {
                    continue;
                }
                let goes_on = !lag.unsent.is_empty();
                self.lags.insert(conn.slot, lag);
                if let Made::Asks(asks, bytes) = made {
                    self.ask_pages(ground, conn, asks, bytes);
                }
                // What is written already goes out once the kernel says that there is room, or now.
                if goes_on {
                    self.on_stream_writable(ground, conn);
                }
                return;
            } else if !lag.backlog.is_empty() {
                lag.unsent = Vec::with_capacity(lag.backlog.bytes());
                let unsent = &mut lag.unsent;
                let drained = lag.backlog.drain(now_ms, |frame, count| {
                    counters.deliveries[frame.class() as usize].add(1);
                    if track::is_on() {
                        let says = Some(format_args!("after it lagged"));
                        track::tell_written("written", &Subject { says, frame: Some(frame), ..ground.subject(conn) });
                    }
                    let frame = frame.recounted(count);
                    unsent.extend_from_slice(if framing == Framing::Chunked { frame.bytes() } else { frame.event() });
                });
                counters.happened(What::DroppedExpired, drained.expired, ground.subject(conn));
            } else if lag.backlog.overrun() {
                // What it lacks is in history only: it is to come back and resume from there.
                bye(&mut lag.unsent, framing, ByeReason::Backlog, retry_ms);
                lag.ends = Some(Ended::Backlog);
                ground.slots.at_mut(conn.slot).kind = Kind::Lagging { ends: true };
            } else {
                let slot = ground.slots.at_mut(conn.slot);
                slot.kind = Kind::Stream;
                slot.due = seconds + HEARTBEAT.as_secs() as u32;
                return;
            }
        }
    }
}

fn add(sum: &mut ByClass, more: ByClass) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Whether what comes live reaches a stream by its replay instead.
fn passes_over(replay: &mut Option<Box<Replaying>>, frame: &Frame) -> bool {
    replay.as_mut().is_some_and(|replaying| frame.class().has_history() && replaying.replay.passes_over(frame))
}
