//! At a prefix's home: its topics are compared with those that the store has, now and then and for streams that come back, and
//! all cores hear of those that have news.

use std::sync::Arc;
use std::time::Duration;

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::frame_page::FramePage;
use crate::ground::message::{Asker, Message, ReplayAsk, Replayed};
use crate::ground::prefixes::{Listing, PrefixNews};
use crate::kv::{Found, Request, TopicsAsk, Unavailable};
use crate::limits::{ENDS_ACTIVE, ENDS_QUIET, PREFIX_AGAIN, PREFIX_LISTED_MAX, PREFIX_REPLAYED_MAX, REGISTER_RETRY};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::mercure;
use crate::wire::position::{Position, Reach, Shown};
use crate::wire::prefix::ANY;
use crate::wire::topic::Topic;

/// A stream that comes back, and the place behind which it is to have all.
type Back = (Asker, Position);

/// A prefix that streams of this node have.
#[derive(Debug, Default)]
pub(crate) struct PrefixHome {
    /// By which it is told from those of the same prefix that were here before.
    number: u64,
    /// Streams that wait for a list of its topics.
    backs: Vec<Back>,
    /// Some of them are in a question to the store.
    asking: Vec<Back>,
    /// It is being compared.
    comparing: bool,
}

/// What follows once topics of a prefix are open.
#[derive(Debug)]
pub(crate) enum Then {
    /// Its viewers on a core lose nothing from now on.
    Ready(usize),
    /// Streams that come back are given the list.
    Listed(Vec<Back>),
    /// It was compared, since this reason for doubt at the newest.
    Compared(u64),
}

/// What all cores were asked.
#[derive(Debug)]
pub(crate) struct Exchange {
    prefix: Topic,
    found: Found,
    then: Then,
    missing: usize,
    whole: bool,
    active: bool,
    full: bool,
}

fn any() -> Topic {
    Topic::parse(ANY).expect("it is one")
}

impl Frontend {
    /// The node's first stream of a prefix at home here came, or it lets go of it.
    pub(crate) fn register_prefix(&mut self, ground: &mut Ground, prefix: &Topic, wanted: bool) {
        let before = self.prefixes.homes.len();
        if wanted {
            self.prefixes.number += 1;
            let home = PrefixHome { number: self.prefixes.number, ..PrefixHome::default() };
            self.prefixes.homes.insert(prefix.clone(), home);
        } else {
            self.prefixes.homes.remove(prefix);
            for shard in 0..ground.node.shards() {
                ground.send(shard, Message::Prefix(Box::new(PrefixNews::Gone(prefix.clone()))));
            }
        }
        // That any is wanted stands beside, so that dispatchers look no further where none is.
        match (before, self.prefixes.homes.len()) {
            (0, 1) => self.want(ground, &any(), true),
            (1, 0) => {
                self.prefixes.is_told = false;
                self.want(ground, &any(), false);
            }
            _ => {}
        }
    }

    /// The store holds that this node wants some prefix.
    pub(crate) fn on_prefixes_told(&mut self, ground: &mut Ground) {
        self.prefixes.is_told = !self.prefixes.homes.is_empty();
        let homes: Vec<Topic> = self.prefixes.homes.keys().cloned().collect();
        homes.iter().for_each(|prefix| self.check_ready(ground, prefix));
    }

    /// Streams of a core are to hear that a prefix is in place, once every core knows where they are.
    pub(crate) fn ready_prefix(&mut self, ground: &mut Ground, prefix: &Topic, core: usize) {
        let found = Found {
            topics: Vec::new(),
            more: false,
            since: Reach::START,
            reaches: Reach::START,
            clock: Position::START,
        };
        self.tell_found(ground, prefix, found, Then::Ready(core), false);
    }

    /// Tells every core which topics of a prefix at home there have news.
    fn tell_found(&mut self, ground: &mut Ground, prefix: &Topic, found: Found, then: Then, again: bool) {
        let known = self.homes.homes.get(prefix).and_then(|home| home.order.end());
        let (Some(known), shards) = (known, ground.node.shards()) else {
            // Where it begins is yet to be known.
            let at = ground.clock.instant + PREFIX_AGAIN;
            return self.prefixes.again.push_back((at, prefix.clone(), found, then));
        };
        self.prefixes.number += 1;
        let number = self.prefixes.number;
        let mut told = vec![Vec::new(); shards];
        for (topic, end) in &found.topics {
            told[ground.node.home(topic.as_str())].push((topic.clone(), *end));
        }
        for (shard, topics) in told.into_iter().enumerate() {
            let (prefix, home, known) = (prefix.clone(), ground.id, known.place());
            let news = PrefixNews::Found { prefix, home, number, known, topics, again };
            ground.send(shard, Message::Prefix(Box::new(news)));
        }
        let prefix = prefix.clone();
        let exchange = Exchange { prefix, found, then, missing: shards, whole: true, active: false, full: false };
        self.prefixes.exchanges.insert(number, exchange);
    }

    /// A core has them open.
    pub(crate) fn on_prefix_opened(&mut self, ground: &mut Ground, number: u64, whole: bool, active: bool, full: bool) {
        let Some(exchange) = self.prefixes.exchanges.get_mut(&number) else { return };
        exchange.missing -= 1;
        exchange.whole &= whole;
        exchange.active |= active;
        exchange.full |= full;
        if exchange.missing > 0 {
            return;
        }
        let Some(exchange) = self.prefixes.exchanges.remove(&number) else { return };
        let Exchange { prefix, found, then, whole, active, full, .. } = exchange;
        if !self.homes.homes.contains_key(&prefix) {
            return;
        }
        if full {
            self.tell_prefix_gap(ground, &prefix);
        }
        match then {
            Then::Ready(core) => self.say_ready(ground, core, prefix),
            Then::Listed(backs) => backs.into_iter().for_each(|back| self.give_list(ground, &prefix, &found, back)),
            Then::Compared(reason) if !whole => {
                let at = ground.clock.instant + PREFIX_AGAIN;
                self.prefixes.again.push_back((at, prefix, found, Then::Compared(reason)));
            }
            Then::Compared(reason) => self.end_comparing(ground, &prefix, &found, reason, active),
        }
    }

    /// Once a tick: what was not with viewers yet.
    pub(crate) fn look_again(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        while self.prefixes.again.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, prefix, found, then)) = self.prefixes.again.pop_front() else { break };
            if self.homes.homes.contains_key(&prefix) {
                self.tell_found(ground, &prefix, found, then, true);
            }
        }
        let waits = |home: &PrefixHome| !home.backs.is_empty() && home.asking.is_empty();
        let waiting = self.prefixes.homes.iter().filter(|(_, home)| waits(home));
        let waiting: Vec<Topic> = waiting.map(|(prefix, _)| prefix.clone()).collect();
        waiting.iter().for_each(|prefix| self.ask_for_backs(ground, prefix));
    }

    /// A stream that comes back, or a core that lags, asks what followed in a prefix, which has no events of its own.
    pub(crate) fn on_prefix_replay(&mut self, ground: &mut Ground, ask: ReplayAsk) {
        let ReplayAsk { topic, after, asker, .. } = ask;
        let Asker::Stream { .. } = asker else {
            let shown = self.homes.homes.get(&topic).and_then(|home| home.order.end());
            let page = empty_page(Reach::START, shown.unwrap_or(Shown::to(Position::START)));
            return ground.send(asker.shard(), Message::Replayed(Box::new(Replayed { topic, page, from: 0, asker })));
        };
        if let Some(home) = self.prefixes.homes.get_mut(&topic) {
            home.backs.push((asker, after));
            self.ask_for_backs(ground, &topic);
        }
    }

    /// It has no use for that any more.
    pub(crate) fn on_prefix_replay_ends(&mut self, prefix: &Topic, asker: Asker) {
        if let Some(home) = self.prefixes.homes.get_mut(prefix) {
            home.backs.retain(|(back, _)| *back != asker);
        }
    }

    /// Asks the store for all streams that wait, at once.
    fn ask_for_backs(&mut self, ground: &mut Ground, prefix: &Topic) {
        let Some(home) = self.prefixes.homes.get_mut(prefix).filter(|home| home.asking.is_empty()) else { return };
        home.asking = std::mem::take(&mut home.backs);
        if let Some(after) = home.asking.iter().map(|(_, after)| *after).min() {
            ask(ground, prefix, home.number, after, Listing::Streams);
        }
    }

    /// A prefix is to be compared with what the store has.
    pub(crate) fn compare_prefix(&mut self, ground: &mut Ground, prefix: &Topic) {
        let known = self.homes.homes.get(prefix).and_then(|home| home.order.end());
        let home = self.prefixes.homes.get_mut(prefix);
        let (Some(home), Some(known)) = (home, known) else { return };
        if planted(Mistake::PrefixUncompared) || std::mem::replace(&mut home.comparing, true) {
            return self.compare_prefix_in(ground, prefix, ENDS_ACTIVE);
        }
        let why = Listing::Comparing { reason: self.doubt.reason(), known };
        ask(ground, prefix, home.number, known.place(), why);
    }

    fn compare_prefix_in(&mut self, ground: &mut Ground, prefix: &Topic, wait: Duration) {
        let at = ground.clock.instant + wait;
        if let Some(home) = self.homes.homes.get_mut(prefix) {
            home.compare_at(prefix, at, &mut self.homes.compare);
        }
    }

    /// The store has these topics of a prefix.
    pub(crate) fn on_topics_found(
        &mut self,
        ground: &mut Ground,
        prefix: &Topic,
        number: u64,
        why: Listing,
        result: Result<Found, Unavailable>,
    ) {
        let now = ground.clock.instant;
        let state = self.prefixes.homes.get_mut(prefix).filter(|state| state.number == number);
        let (Some(home), Some(state)) = (self.homes.homes.get_mut(prefix), state) else { return };
        match (why, result) {
            (Listing::Streams, Ok(found)) => {
                let backs = std::mem::take(&mut state.asking);
                self.tell_found(ground, prefix, found, Then::Listed(backs), false);
                self.ask_for_backs(ground, prefix);
            }
            // The tick asks again.
            (Listing::Streams, Err(_)) => state.backs.append(&mut state.asking),
            (Listing::Comparing { reason, known }, Ok(found)) => {
                let mut effects = Vec::new();
                home.order.compared(found.end(), known, now, &mut effects);
                self.do_order(ground, prefix, effects);
                self.tell_found(ground, prefix, found, Then::Compared(reason), false);
            }
            (Listing::Comparing { .. }, Err(_)) => {
                state.comparing = false;
                if home.doubted {
                    home.compare_at(prefix, now + REGISTER_RETRY, &mut self.homes.compare);
                } else {
                    self.compare_prefix_in(ground, prefix, ENDS_ACTIVE);
                }
            }
        }
    }

    /// All that the store had of a prefix is with its viewers.
    fn end_comparing(&mut self, ground: &mut Ground, prefix: &Topic, found: &Found, reason: u64, active: bool) {
        if found.more {
            self.tell_prefix_gap(ground, prefix);
        }
        if let Some(state) = self.prefixes.homes.get_mut(prefix) {
            state.comparing = false;
        }
        let Some(home) = self.homes.homes.get_mut(prefix) else { return };
        home.order.compared_to(found.clock);
        let known = home.order.end().map_or(found.clock, Shown::place);
        for shard in 0..ground.node.shards() {
            let news = PrefixNews::Known { prefix: prefix.clone(), known };
            ground.send(shard, Message::Prefix(Box::new(news)));
        }
        let is_busy = active || !found.topics.is_empty();
        self.compare_prefix_in(ground, prefix, if is_busy { ENDS_ACTIVE } else { ENDS_QUIET });
        if reason == self.doubt.reason() {
            self.trust(ground, prefix);
        } else if self.homes.homes.get(prefix).is_some_and(|home| home.doubted) {
            self.compare_prefix(ground, prefix);
        }
    }

    /// More topics had events than can be given: all who have the prefix are told.
    fn tell_prefix_gap(&mut self, ground: &mut Ground, prefix: &Topic) {
        let known =
            self.homes.homes.get(prefix).and_then(|home| home.order.end()).map_or(Position::START, Shown::place);
        ground.counters().gaps.add(1);
        let gap = Frame::gap(prefix.as_str(), &format!("{}:{known}", ground.node.dc), Reach::START);
        self.sequence(ground, &Arc::new(gap));
    }

    /// A stream that comes back is given the list of topics that have news for it.
    fn give_list(&mut self, ground: &mut Ground, prefix: &Topic, found: &Found, (asker, after): Back) {
        let Asker::Stream { shard, conn } = asker else { return };
        let shown = self.homes.homes.get(prefix).and_then(|home| home.order.end());
        let mut news = found.topics.iter().filter(|(_, end)| *end > after).map(|(topic, _)| topic.clone());
        // Of those that begin as a URI template does the stream's core takes what that selects.
        let most = if prefix.kind() == mercure::KIND { usize::MAX } else { PREFIX_REPLAYED_MAX };
        let topics = news.by_ref().take(most).collect();
        let mut page = empty_page(found.reaches, shown.unwrap_or(Shown::to(Position::START)));
        page.since = found.since;
        let more = news.next().is_some() || found.more;
        let news = PrefixNews::Listed { prefix: prefix.clone(), conn, topics, more, page };
        ground.send(shard, Message::Prefix(Box::new(news)));
    }
}

fn ask(ground: &mut Ground, prefix: &Topic, home: u64, after: Position, why: Listing) {
    let begin = prefix.begin().expect("it is a prefix").to_owned();
    let ask = TopicsAsk { begin, after, limit: PREFIX_LISTED_MAX };
    ground.ask(Request::Topics(ask), Asked::Topics { prefix: prefix.clone(), home, why });
}

fn empty_page(reaches: Reach, shown: Shown) -> FramePage {
    FramePage { frames: [].into(), complete: true, reaches, since: Reach::START, shown, told: Reach::START }
}
