//! At a topic's home: it is opened for the prefixes of it that streams of this node have.

use std::sync::Arc;
use std::time::Instant;

use crate::frontend::Frontend;
use crate::frontend::homes::Homes;
use crate::frontend::order::waited_for;
use crate::ground::Ground;
use crate::ground::cores::CoreSet;
use crate::ground::message::Message;
use crate::ground::prefixes::PrefixNews;
use crate::limits::{HOME_BYTES, PREFIX_QUIET, PREFIX_TOPICS_MAX, WATCHED_BYTES};
use crate::runtime::shrink::shrink;
use crate::wire::frame::Frame;
use crate::wire::mercure;
use crate::wire::position::{Position, Shown};
use crate::wire::prefix::begins;
use crate::wire::topic::Topic;

/// A prefix that streams of this node have.
#[derive(Debug)]
pub(crate) struct Watched {
    prefix: Topic,
    /// Where those streams are.
    cores: CoreSet,
    /// Of its topics that are not open nothing is missing up to here; none until that is known.
    known: Option<Position>,
    /// Topics at home here that are open for it.
    open: usize,
    /// Some topic found no room.
    full: bool,
}

/// A topic that is open for prefixes.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// For which, and the cores that have it for them.
    by: Vec<(Topic, CoreSet)>,
    /// Cores that have yet to say that their streams joined.
    joining: CoreSet,
}

impl Open {
    fn cores(&self, prefix: &Topic) -> CoreSet {
        self.by.iter().find(|(by, _)| by == prefix).map_or(CoreSet::default(), |(_, cores)| *cores)
    }
}

/// The home of a prefix waits until topics are open.
#[derive(Debug)]
pub(crate) struct Answering {
    prefix: Topic,
    asker: (usize, u64),
    topics: Vec<Topic>,
}

impl Homes {
    /// Whether nothing is known to be missing of a topic that its viewers are to have.
    fn is_whole(&self, topic: &Topic) -> bool {
        self.homes.get(topic).is_none_or(|home| home.order.is_whole())
    }
}

impl Frontend {
    /// Where streams of this node are that have a prefix.
    pub(crate) fn on_prefix_announced(&mut self, prefix: &Topic, cores: CoreSet) {
        let begin = prefix.begin().expect("it is a prefix");
        let new = || Watched { prefix: prefix.clone(), cores, known: None, open: 0, full: false };
        self.prefixes.watched.entry(begin.into()).or_insert_with(new).cores = cores;
    }

    /// The node lets go of a prefix: no stream has it any more.
    pub(crate) fn on_prefix_gone(&mut self, ground: &mut Ground, prefix: &Topic) {
        self.prefixes.watched.remove(prefix.begin().expect("it is a prefix"));
        shrink(&mut self.prefixes.watched);
        let left = self.prefixes.here.remove(prefix).unwrap_or_default();
        // Of Mercure's there may be some that no stream wanted. The others were left with the last stream.
        for topic in left.iter().filter(|_| prefix.kind() == mercure::KIND) {
            if self.topics.find(topic.as_str()).is_none() {
                self.want(ground, topic, false);
            }
        }
        self.prefixes.open.retain(|_, open| {
            open.by.retain(|(by, _)| by != prefix);
            !open.by.is_empty()
        });
    }

    /// Of topics of a prefix that are not open nothing is missing up to here.
    pub(crate) fn on_prefix_known(&mut self, prefix: &Topic, known: Position) {
        if let Some(watched) = self.prefixes.watched.get_mut(prefix.begin().expect("it is a prefix")) {
            watched.known = watched.known.max(Some(known));
        }
        let views: Vec<_> = self.topics.views(prefix.as_str()).collect();
        for index in views {
            let entry = self.topics.get_mut(index);
            entry.delivered_to = entry.delivered_to.max(Some(Shown::to(known)).filter(|_| entry.registered));
        }
    }

    /// Whether some prefix of a topic is watched on this node.
    pub(crate) fn is_by_prefix(&self, topic: &str) -> bool {
        self.prefixes.are_any() && begins(topic).any(|begin| self.prefixes.watched.contains_key(begin))
    }

    /// An event of a topic at home here is on its way to viewers: streams that have the topic by a prefix are to be among them.
    pub(crate) fn open_for(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        if self.open_by_prefix(ground, frame.topic(), None)
            && let Some(home) = self.homes.homes.get_mut(frame.topic())
        {
            home.order.stir(ground.clock.instant);
        }
    }

    /// Opens a topic for the prefixes of it whose streams do not have it yet: what follows `begin` is theirs, or if that is not
    /// said what was not given to its viewers yet. Whether it is open for any.
    pub(crate) fn open_by_prefix(&mut self, ground: &mut Ground, topic: &str, begin: Option<Position>) -> bool {
        let (mut lacking, held) = (Vec::new(), self.prefixes.open.get(topic));
        let viewers = self.registry.cores(topic);
        for watched in begins(topic).filter_map(|begin| self.prefixes.watched.get(begin)) {
            let Some(known) = watched.known else { continue };
            let has = held.map_or(CoreSet::default(), |open| open.cores(&watched.prefix)).and(viewers);
            let cores = watched.cores.without(has);
            if !cores.is_empty() {
                lacking.push((watched.prefix.clone(), cores, known));
            }
        }
        if lacking.is_empty() {
            return held.is_some();
        }
        let topic = Topic::of_frame(topic);
        let most = PREFIX_TOPICS_MAX / ground.node.shards();
        let is_new = held.is_none();
        let has_room = !is_new || ground.node.admission.has_room((HOME_BYTES + WATCHED_BYTES) as u64);
        lacking.retain(|(prefix, ..)| {
            let watched = self.prefixes.watched.get_mut(prefix.begin().expect("it is a prefix"));
            let watched = watched.expect("it was just found");
            let is_here = self.prefixes.open.get(&topic).is_some_and(|open| open.by.iter().any(|(by, _)| by == prefix));
            let fits = is_here || (has_room && watched.open < most);
            watched.open += usize::from(fits && !is_here);
            watched.full |= !fits;
            fits
        });
        // From where nothing of any of them is missing.
        let Some(known) = lacking.iter().map(|(.., known)| *known).min() else { return false };
        let cores = lacking.iter().fold(CoreSet::default(), |all, (_, cores, _)| all.or(*cores));
        let now = ground.clock.instant;
        cores.iter().for_each(|core| self.registry.want(&topic, core, true, now, &mut self.effects));
        self.apply_effects(ground);
        // What is given next goes there already.
        self.routes.insert(topic.clone(), self.registry.cores(topic.as_str()));
        let mut effects = Vec::new();
        let home = self.homes.homes.get_mut(&topic);
        let begins = home.as_ref().is_some_and(|home| home.order.end().is_none());
        let order = home.and_then(|home| {
            home.order.begin_at(known, now, &mut effects);
            home.order.end()
        });
        let end = begin.or(order.map(Shown::place)).unwrap_or(known);
        let open = self.prefixes.open.entry(topic.clone()).or_default();
        open.joining = open.joining.or(cores);
        let mut opens = Vec::new();
        for (prefix, cores, known) in lacking {
            let begin = match open.by.iter_mut().find(|(by, _)| *by == prefix) {
                // Others have it by this prefix, and all that came.
                Some((_, has)) => {
                    *has = has.or(cores);
                    end
                }
                // What viewers who named it were not to have, from before they came, may be news to those who have the prefix; and
                // what those are yet to be given may lie before what is known of topics that are not open.
                None => {
                    open.by.push((prefix.clone(), cores));
                    known.min(end)
                }
            };
            opens.push((prefix, cores, begin));
        }
        let lack = opens.iter().any(|(.., begin)| *begin < end);
        for (prefix, cores, begin) in opens {
            for core in cores.iter() {
                if core == ground.id {
                    self.on_prefix_open(ground, &prefix, topic.clone(), begin);
                } else {
                    let news = PrefixNews::Open { prefix: prefix.clone(), topic: topic.clone(), begin };
                    ground.send(core, Message::Prefix(Box::new(news)));
                }
            }
        }
        if lack {
            self.compare_cores(ground, std::slice::from_ref(&topic));
        }
        if begins {
            self.order_began(ground, &topic, effects);
        }
        true
    }

    /// Streams of a core joined a topic, or there were none.
    pub(crate) fn on_prefix_joined(&mut self, ground: &mut Ground, topic: &Topic, core: usize, wanted: bool) {
        if let Some(open) = self.prefixes.open.get_mut(topic) {
            open.joining = open.joining.with(core, false);
        }
        self.on_want(ground, topic, core, wanted);
        self.answer_prefixes(ground);
    }

    /// Whether a core is about to say whether it has viewers of a topic.
    pub(crate) fn is_joining(&self, topic: &Topic, core: usize) -> bool {
        self.prefixes.open.get(topic).is_some_and(|open| open.joining.contains(core))
    }

    /// The home of a prefix found topics that have news.
    pub(crate) fn on_prefix_found(
        &mut self,
        ground: &mut Ground,
        prefix: Topic,
        asker: (usize, u64),
        topics: Vec<(Topic, Position)>,
        again: bool,
    ) {
        let now = ground.clock.instant;
        for (topic, end) in &topics {
            // What came before a topic is open does not come live any more, so nobody waits for it.
            let is_open = self.prefixes.open.contains_key(topic);
            let since = if is_open { now } else { waited_for(now) };
            self.open_by_prefix(ground, topic.as_str(), None);
            if let Some(home) = self.homes.homes.get_mut(topic).filter(|_| !again) {
                home.order.reaches(*end, since);
                self.homes.unsettle(topic);
            }
        }
        let topics = topics.into_iter().map(|(topic, _)| topic).collect();
        self.prefixes.answering.push(Answering { prefix, asker, topics });
        self.answer_prefixes(ground);
    }

    /// Answers homes of prefixes whose topics are open by now.
    fn answer_prefixes(&mut self, ground: &mut Ground) {
        if self.prefixes.answering.is_empty() {
            return;
        }
        let open = &self.prefixes.open;
        let joins = |topic: &Topic| open.get(topic).is_some_and(|open| !open.joining.is_empty());
        let is_due = |answering: &mut Answering| !answering.topics.iter().any(joins);
        let due: Vec<Answering> = self.prefixes.answering.extract_if(.., is_due).collect();
        for Answering { prefix, asker: (home, number), topics } in due {
            // What found no room is told of by a gap.
            let whole = topics.iter().all(|topic| self.homes.is_whole(topic));
            let active = self.prefixes.open.iter().any(|(topic, open)| {
                !open.cores(&prefix).is_empty() && self.homes.is_active(topic, ground.clock.instant)
            });
            let watched = self.prefixes.watched.get_mut(prefix.begin().expect("it is a prefix"));
            let full = watched.is_some_and(|watched| std::mem::take(&mut watched.full));
            let news = PrefixNews::Opened { number, whole, active, full };
            ground.send(home, Message::Prefix(Box::new(news)));
        }
    }

    /// Closes topics that had no event for long, and of which nothing that came before is missing.
    pub(crate) fn close_quiet(&mut self, ground: &mut Ground) {
        let (now, prefixes) = (ground.clock.instant, &self.prefixes);
        let is_quiet = |topic: &Topic, open: &Open| {
            let known = |prefix: &Topic| prefixes.watched.get(prefix.begin()?).and_then(|watched| watched.known);
            let given = self.homes.given_if_quiet(topic, now);
            open.joining.is_empty() && given.is_some_and(|given| open.by.iter().all(|(by, _)| known(by) >= Some(given)))
        };
        let quiet: Vec<Topic> = prefixes
            .open
            .iter()
            .filter(|(topic, open)| is_quiet(topic, open))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in quiet {
            let Some(open) = self.prefixes.open.remove(&topic) else { continue };
            let mut cores = CoreSet::default();
            for (prefix, has) in open.by {
                cores = cores.or(has);
                if let Some(watched) = self.prefixes.watched.get_mut(prefix.begin().expect("it is a prefix")) {
                    watched.open -= 1;
                }
            }
            for core in cores.iter() {
                ground.send(core, Message::Prefix(Box::new(PrefixNews::Quiet(topic.clone()))));
            }
        }
    }
}

impl Homes {
    /// Whether a topic had events lately.
    fn is_active(&self, topic: &Topic, now: Instant) -> bool {
        self.homes.get(topic).is_some_and(|home| home.order.is_active(now))
    }

    /// Up to where viewers of a topic were given all, if it had no event for long. The beginning where it has no home any more.
    fn given_if_quiet(&self, topic: &Topic, now: Instant) -> Option<Position> {
        let Some(home) = self.homes.get(topic) else { return Some(Position::START) };
        let is_quiet = home.order.is_whole() && home.order.quiet_for(now) >= PREFIX_QUIET;
        home.order.end().filter(|_| is_quiet).map(Shown::place)
    }
}
