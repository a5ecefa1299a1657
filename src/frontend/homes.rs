//! At a topic's home shard: what there must be one of on a node. The order of class `every`, the ring of its recent events, the newest
//! values of class `latest`, windows of class `sum`, totals of likes over data centers, and one look-up in history at a time.

pub mod doubting;
pub mod ends;
pub mod pages;
pub mod prefixes;
pub mod registering;
pub mod shown;
pub mod totals;
pub mod values;
pub mod windows;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::frontend::Frontend;
use crate::frontend::homes::doubting::Doubted;
use crate::ground::Ground;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;

pub(crate) use crate::frontend::homes::doubting::within;
use crate::frontend::homes::pages::{bound, page_events, place};

use crate::frontend::asks::{Asking, Asks};
use crate::frontend::comparing::PRESENCE;
use crate::frontend::counting::is_counted;
use crate::frontend::homes::shown::Shown as Totals;
use crate::frontend::newest::{Keeping, Newest};
use crate::frontend::order::{Effect, Order, Recent};
use crate::frontend::pauses::Pauses;
use crate::ground::asking::Asked;
use crate::ground::frame_page::FramePage;
use crate::ground::message::Wish;
use crate::ground::message::{Asker, Message, ReplayAsk, Replayed};
use crate::kv::{End, LatestValue, Page, Read, Request, Unavailable};
use crate::limits::*;
use crate::runtime::account::{Account, Held, Reservation, Use};
use crate::runtime::once::Once;
use crate::runtime::random::Map;
use crate::wire::event::VIEWERS;
use crate::wire::frame::Frame;
use crate::wire::position::{Position, Reach, Shown};
use crate::wire::topic::Topic;

/// A topic that this node has, at its home: from its first viewer until the registry lets go of it.
#[derive(Debug)]
pub struct Home {
    order: Order,
    newest: Newest,
    /// Windows of class `sum`.
    pauses: Pauses,
    /// Totals of likes, added up over data centers: viewers are shown these, and not what each told.
    totals: Totals,
    /// The newest values that the store held were heard.
    newest_known: bool,
    /// The version of how many watched when nobody did any more: what the store has of that is no news.
    viewers_left: u64,
    /// Of values up to this version, the store has none that was not heard.
    heard: u64,
    /// The highest version that the store gave.
    found_to: u64,
    /// That it is wanted, as the key-value store is told.
    wish: Wish,
    /// The key-value store holds the registration.
    applied: bool,
    /// Streams that come back, and cores that lost track, for which memory does not reach back far enough.
    asks: Asks<Asker>,
    /// It is being asked where history ends.
    asks_end: bool,
    /// The newest values are being asked for.
    asks_newest: bool,
    /// The look-up under way, and where viewers were when it began.
    reading: Option<Reading>,
    /// When its end is compared with history's.
    compare_at: Instant,
    /// It may lack events until it is compared.
    doubted: bool,
    /// What it takes: its places in tables, and its recent events.
    held: Reservation,
}

#[derive(Debug)]
struct Reading {
    after: Position,
    /// What those who wait for it may be given at once.
    bytes: usize,
    end: Shown,
    for_order: bool,
}

impl Home {
    fn new(now: Instant, account: &Account, wish: Wish) -> Home {
        let mut held = account.open(Use::Topics);
        // Its viewers are bounded, and so are their topics.
        held.settle(HOME_BYTES);
        Home {
            order: Order::new(now),
            newest: Newest::default(),
            pauses: Pauses::default(),
            totals: Totals::default(),
            newest_known: false,
            viewers_left: 0,
            heard: 0,
            found_to: 0,
            wish,
            applied: false,
            asks: Asks::default(),
            asks_end: false,
            asks_newest: false,
            reading: None,
            compare_at: now,
            doubted: false,
            held,
        }
    }

    /// Its end is compared then, and not at another time.
    fn compare_at(&mut self, topic: &Topic, at: Instant, compare: &mut BTreeSet<(Instant, Topic)>) {
        compare.remove(&(self.compare_at, topic.clone()));
        self.compare_at = at;
        compare.insert((at, topic.clone()));
    }

    /// Its recent events stay if there is memory for them.
    fn settle(&mut self) {
        let waits = self.pauses.bytes() + self.totals.bytes();
        if self.held.resize(HOME_BYTES + self.order.bytes() + waits).is_err() {
            self.order.forget_recent();
            self.held.settle(HOME_BYTES + self.order.bytes() + waits);
        }
    }

    /// Viewers of it lose nothing from now on.
    fn is_ready(&self) -> bool {
        self.applied && self.newest_known && self.order.end().is_some()
    }
}

/// The topics at home on a shard.
#[derive(Debug, Default)]
pub struct Homes {
    /// Each in memory of its own, so that a table that grows moves little and holds little that is empty.
    homes: Map<Topic, Box<Home>>,
    /// The number of the newest wish.
    wishes: Wish,
    /// Topics to begin with at the end of this turn.
    new: Once<Topic>,
    /// Topics whose beginning failed, and when to try again.
    again: Vec<(Instant, Topic)>,
    /// Topics that wait for an event, or for a look-up that failed.
    unsettled: Once<Topic>,
    /// Newest values that the store gave, and how many of them were taken: the rest is for the next turns.
    found: VecDeque<(Topic, Held<VecDeque<LatestValue>>)>,
    /// When to compare the ends of which topic, each once.
    compare: BTreeSet<(Instant, Topic)>,
    doubted: Doubted,
    /// When windows end in which something waits, of which topics.
    busy: BTreeSet<(Instant, Topic)>,
}

impl Homes {
    /// Bytes of recent events held in memory.
    pub fn bytes(&self) -> usize {
        self.homes.values().map(|home| home.order.bytes()).sum()
    }

    /// Topics of presence that have viewers on this node.
    pub fn of_presence(&self) -> Vec<Topic> {
        self.homes.keys().filter(|topic| topic.as_str().starts_with(PRESENCE) && !topic.is_prefix()).cloned().collect()
    }

    /// The newest value that viewers of a topic were told; `None` if the topic has none any more.
    pub fn newest(&self, topic: &Topic) -> Option<Option<Arc<Frame>>> {
        self.homes.get(topic).map(|home| home.newest.values().pop())
    }

    /// Nobody watches a topic here any more: how many did is nothing to who comes next.
    pub fn left(&mut self, topic: &Topic) {
        if let Some(home) = self.homes.get_mut(topic).filter(|_| is_counted(topic)) {
            home.viewers_left = home.viewers_left.max(home.newest.forget(VIEWERS, Keeping::Own));
        }
    }

    /// Whether there are topics to begin with.
    pub fn are_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Streams and cores that wait for a part of a topic's history.
    pub fn waiting(&self, topic: &Topic) -> usize {
        self.homes.get(topic).map_or(0, |home| home.asks.len())
    }

    fn unsettle(&mut self, topic: &Topic) {
        self.unsettled.push(topic.clone());
    }
}

impl Frontend {
    /// Asks where the histories of new topics end, and for their newest values, of as many as one question may name. False if there
    /// are none.
    pub(crate) fn begin_homes(&mut self, ground: &mut Ground) -> bool {
        let (mut ends, mut values) = (Vec::new(), Vec::new());
        while ends.len().max(values.len()) < ENDS_PER_QUESTION
            && let Some(topic) = self.homes.new.pop()
        {
            let Some(home) = self.homes.homes.get_mut(&topic) else { continue };
            if home.order.end().is_none() && !std::mem::replace(&mut home.asks_end, true) {
                ends.push(topic.clone());
            }
            if !home.newest_known && !std::mem::replace(&mut home.asks_newest, true) {
                values.push(topic);
            }
        }
        let begins = !ends.is_empty() || !values.is_empty();
        if !ends.is_empty() {
            let names = ends.iter().map(Topic::wanted).collect();
            ground.ask(Request::Ends(names), Asked::Noted(ends));
        }
        for topic in values {
            ground.ask(Request::Latest(topic.clone()), Asked::Newest(topic));
        }
        begins
    }

    /// Where the histories of new topics ended.
    pub(crate) fn on_noted(&mut self, ground: &mut Ground, topics: Vec<Topic>, result: Result<Vec<End>, Unavailable>) {
        let now = ground.clock.instant;
        for topic in &topics {
            if let Some(home) = self.homes.homes.get_mut(topic) {
                home.asks_end = false;
            }
        }
        match result {
            Ok(ends) => {
                for (topic, end) in topics.iter().zip(ends) {
                    let Some(home) = self.homes.homes.get_mut(topic) else { continue };
                    let mut effects = Vec::new();
                    home.order.noted(end, now, &mut effects);
                    self.order_began(ground, topic, effects);
                }
            }
            Err(_) => self.homes.again.extend(topics.into_iter().map(|topic| (now + REGISTER_RETRY, topic))),
        }
    }

    /// It is known from where on a topic's events are given: by what its history says, or for a prefix of it.
    fn order_began(&mut self, ground: &mut Ground, topic: &Topic, effects: Vec<Effect>) {
        self.do_order(ground, topic, effects);
        self.check_ready(ground, topic);
        self.serve_replays(ground, topic);
    }

    /// An event of class `every` or `latest` arrived at this node.
    pub(crate) fn order(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(frame.topic()) else { return };
        if !home.order.is_active(now) && home.compare_at > now + ENDS_ACTIVE {
            let topic = Topic::of_frame(frame.topic());
            home.compare_at(&topic, now + ENDS_ACTIVE, &mut self.homes.compare);
        }
        if frame.class().has_versions() {
            home.order.stir(now);
            if home.newest.take(frame, Keeping::Own, &ground.account).is_news() {
                self.show_value(ground, frame, true);
            }
            return;
        }
        let mut effects = Vec::new();
        home.order.frame(Arc::clone(frame), now, &mut effects);
        home.settle();
        let next_read = home.order.next_read();
        match effects.as_slice() {
            // Mostly it is the next one.
            [Effect::Deliver(frame)] => self.give(ground, frame),
            [] => {}
            _ => {
                let topic = Topic::of_frame(frame.topic());
                self.do_order(ground, &topic, effects);
            }
        }
        if let Some(at) = next_read {
            let topic = Topic::of_frame(frame.topic());
            if at <= now {
                self.look_back(ground, &topic);
            }
            self.homes.unsettle(&topic);
        }
    }

    fn do_order(&mut self, ground: &mut Ground, topic: &Topic, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Deliver(frame) => self.give(ground, &frame),
                Effect::Gap(after, told) => {
                    let says = Subject {
                        says: Some(format_args!("behind {after}, to all who watch")),
                        ..Subject::topic(topic.as_str())
                    };
                    ground.happened(What::Gap, 1, says);
                    let frame = Frame::gap(topic.as_str(), &format!("{}:{after}", ground.node.dc), told);
                    self.sequence(ground, &Arc::new(frame));
                }
            }
        }
    }

    /// Once a tick: holes that waited long enough, look-ups that failed, and ends to compare.
    pub(crate) fn tick_homes(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let due: Vec<Topic> = self.homes.again.extract_if(.., |(at, _)| *at <= now).map(|(_, topic)| topic).collect();
        for topic in due {
            if self.homes.homes.get(&topic).is_some_and(|home| !home.is_ready()) {
                self.homes.new.push(topic);
            }
        }
        for _ in 0..self.homes.unsettled.len().min(UNSETTLED_BURST) {
            let Some(topic) = self.homes.unsettled.pop() else { break };
            self.look_back(ground, &topic);
            let Some(home) = self.homes.homes.get(&topic) else { continue };
            if home.order.next_read().is_some() || (!home.asks.is_empty() && home.reading.is_none()) {
                self.homes.unsettle(&topic);
            }
        }
        self.look_at_unsure(ground);
        self.compare_ends(ground);
    }

    /// Whoever asked for a part of history has no use for it any more.
    pub(crate) fn on_replay_ends(&mut self, topic: &Topic, asker: Asker) {
        if topic.is_prefix() {
            return self.on_prefix_replay_ends(topic, asker);
        }
        if let Some(home) = self.homes.homes.get_mut(topic) {
            home.asks.remove(asker);
        }
    }

    /// A stream, or a core, asks for what followed a position.
    pub(crate) fn on_replay_ask(&mut self, ground: &mut Ground, ask: ReplayAsk) {
        if ask.topic.is_prefix() {
            return self.on_prefix_replay(ground, ask);
        }
        let ReplayAsk { topic, after, bytes, asker } = ask;
        self.serve_replay(ground, &topic, Asking { asker, after, bytes });
        self.look_back(ground, &topic);
    }

    /// Answers those for whom memory suffices, now that it is known where history ends, and reads it for the others.
    fn serve_replays(&mut self, ground: &mut Ground, topic: &Topic) {
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        for ask in home.asks.take(Position::START, None) {
            self.serve_replay(ground, topic, ask);
        }
        self.look_back(ground, topic);
    }

    /// Answers from memory if that reaches back far enough; else it waits for a look-up.
    fn serve_replay(&mut self, ground: &mut Ground, topic: &Topic, ask: Asking<Asker>) {
        let Some(home) = self.homes.homes.get_mut(topic) else { return };
        let Some(recent) = home.order.recent(ask.after) else { return home.asks.insert(ask) };
        let Recent { frames, from, reaches, shown } = recent;
        let page = FramePage { frames, complete: true, reaches, since: Reach::START, shown, told: Reach::START };
        let (page, from) = page.within(from, ask.bytes);
        ground.counters().replays_from_memory.add(1);
        let answer = Replayed { topic: topic.clone(), page, from, asker: ask.asker };
        ground.send(ask.asker.shard(), Message::Replayed(Box::new(answer)));
    }

    /// Begins a look-up in a topic's history, if one is due and none is under way.
    fn look_back(&mut self, ground: &mut Ground, topic: &Topic) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(topic).filter(|home| home.reading.is_none()) else { return };
        let Some(end) = home.order.end() else { return };
        let for_order = home.order.read_due(now);
        let first = home.asks.first();
        let Some(after) = first.map(|ask| ask.after).into_iter().chain(for_order).min() else { return };
        // Others who may be given more ask on.
        let bytes = first.map(|ask| ask.bytes).max(for_order.map(|_| PAGE_BYTES)).unwrap_or(PAGE_BYTES);
        home.reading = Some(Reading { after, bytes, end, for_order: for_order.is_some() });
        ground.counters().history_reads.add(1);
        let read = Read { topic: topic.clone(), after, limit: page_events(bytes) };
        ground.ask(Request::Read(read), Asked::Page(topic.clone()));
    }

    /// A part of a topic's history.
    pub(crate) fn on_page(&mut self, ground: &mut Ground, topic: Topic, result: Result<Page, Unavailable>) {
        let now = ground.clock.instant;
        let Some(home) = self.homes.homes.get_mut(&topic) else { return };
        let Some(reading) = home.reading.take() else { return };
        let Ok(mut page) = result else {
            if reading.for_order {
                home.order.read_failed(now);
            }
            // The tick tries again.
            self.homes.unsettle(&topic);
            return;
        };
        bound(&mut page, reading.bytes);
        let frames: Vec<Arc<Frame>> =
            page.events.iter().filter_map(|stored| place(&ground.node.dc, stored, page.reaches)).collect();
        let last = frames.last().and_then(|frame| frame.position()).unwrap_or(reading.after);
        let mut effects = Vec::new();
        if reading.for_order {
            let Page { complete, reaches, since, .. } = page;
            let (frames, shown) = (frames.clone().into(), reading.end);
            let page = FramePage { frames, complete, reaches, since, shown, told: Reach::START };
            home.order.page(&page, now, &mut effects);
            home.settle();
        }
        // Streams get nothing that live viewers were not given: that comes to them live.
        let end = home.order.end().unwrap_or(Shown::to(Position::START));
        let shown = frames.partition_point(|frame| frame.position().is_some_and(|position| end.has(position)));
        let complete = shown < frames.len() || (page.complete && end <= reading.end.max(Shown::to(last)));
        let (frames, reaches, since) = (frames[..shown].into(), page.reaches, page.since);
        let shown = FramePage { frames, complete, reaches, since, shown: end, told: Reach::START };
        let to = (!page.complete).then_some(last);
        let answers: Vec<Replayed> = home
            .asks
            .take(reading.after, to)
            .into_iter()
            .map(|ask| {
                let behind = |frame: &Arc<Frame>| frame.position().is_some_and(|position| position <= ask.after);
                let (page, from) = shown.within(shown.frames.partition_point(behind), ask.bytes);
                Replayed { topic: topic.clone(), page, from, asker: ask.asker }
            })
            .collect();
        if home.order.next_read().is_some() {
            self.homes.unsettle(&topic);
        }
        self.do_order(ground, &topic, effects);
        for answer in answers {
            ground.send(answer.asker.shard(), Message::Replayed(Box::new(answer)));
        }
        self.look_back(ground, &topic);
    }
}
