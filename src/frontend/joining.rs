//! On a core: its streams that have a prefix join the topics that are open for it.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::all::All;
use crate::ground::frame_page::FramePage;
use crate::ground::message::Message;
use crate::ground::opening::LastEvent;
use crate::ground::prefixes::PrefixNews;
use crate::ground::slots::{Conn, Subscription, TopicIndex};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::position::{Position, Resume, Shown};
use crate::wire::topic::Topic;

impl Frontend {
    /// A topic is open for a prefix: streams of this core that have it join, and are given what follows `begin`.
    pub(crate) fn on_prefix_open(&mut self, ground: &mut Ground, prefix: &Topic, topic: Topic, begin: Position) {
        self.prefixes.leaving.retain(|leaving| *leaving != topic);
        self.prefixes.here.entry(prefix.clone()).or_default().insert(topic.clone());
        let views: Vec<TopicIndex> = self.topics.views(prefix.as_str()).collect();
        for view in views {
            for (conn, all) in self.joining(ground, view, &topic) {
                self.join_by_prefix(ground, conn, &topic, &all, Some(begin));
            }
        }
        let home = ground.node.home(topic.as_str());
        // Where the prefix has streams the topic is had until it is quiet, though none of them wants it: or each event would
        // have it opened anew.
        let wanted = [&topic, prefix].iter().any(|topic| self.topics.find(topic.as_str()).is_some());
        let news = PrefixNews::Joined { topic, core: ground.id, wanted };
        ground.send(home, Message::Prefix(Box::new(news)));
    }

    /// The streams of a view of a prefix that are to have a topic of it, and what of it they get. Many want the same.
    fn joining(&self, ground: &Ground, view: TopicIndex, topic: &Topic) -> Vec<(Conn, All)> {
        let entry = self.topics.get(view);
        let mut known: Map<Option<&Subscriber>, Option<All>> = Map::default();
        let joins = entry.viewers.iter().filter_map(|viewer| {
            let subscriber = ground.slots.subscriber(viewer.slot);
            let all = known.entry(subscriber).or_insert_with(|| entry.all.by_prefix(topic.as_str(), subscriber));
            ground.slots.owner(viewer.slot).zip(all.clone())
        });
        joins.collect()
    }

    /// A stream has a topic by a prefix, unless it has it already: from `begin` on, if that is known.
    fn join_by_prefix(&mut self, ground: &mut Ground, conn: Conn, topic: &Topic, all: &All, begin: Option<Position>) {
        if self.watched(ground, conn, topic.as_str()).is_none() {
            self.join_surely(ground, conn, topic, all, begin);
        }
    }

    fn join_surely(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        topic: &Topic,
        all: &All,
        begin: Option<Position>,
    ) -> TopicIndex {
        let (index, place, first) = self.topics.join(topic, all, conn.slot);
        let slot = ground.slots.get_mut(conn).expect("the stream is open");
        slot.subscriptions.push(Subscription { topic: index, place });
        match begin {
            // Whoever opened it hears of it by its answer.
            Some(begin) if first => {
                let entry = self.topics.get_mut(index);
                (entry.registered, entry.delivered_to) = (true, Some(Shown::to(begin)));
            }
            // Others have it by another prefix.
            Some(begin) => self.go_on_from(ground, conn, index, Shown::to(begin)),
            None if first => self.want(ground, topic, true),
            None => {}
        }
        index
    }

    /// Up to where a stream was given a topic by its prefixes: by the view that it has it by, or else by what is known of them.
    pub(crate) fn shown_by_prefix(&self, ground: &Ground, conn: Conn, topic: &str) -> Option<Shown> {
        let entries = self.all_watched(ground, conn).map(|(_, entry)| entry);
        match entries.clone().find(|entry| entry.topic.as_str() == topic) {
            Some(entry) => entry.shown_to().filter(|_| entry.all.is_by_prefix()),
            None => entries.filter(|entry| entry.topic.covers(topic)).filter_map(|entry| entry.delivered_to).max(),
        }
    }

    /// A stream that was given a topic up to `shown` has it by another view from now on, and is given what follows: from
    /// history, as far as that view's viewers had it.
    pub(crate) fn go_on_from(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex, shown: Shown) {
        if planted(Mistake::NameUnread) {
            return;
        }
        let entry = self.topics.get_mut(index);
        let Some(theirs) = entry.shown_to() else {
            entry.delivered_to = Some(shown);
            return;
        };
        // One that is not connected yet begins where it will be.
        if shown.has(theirs.place()) || ground.slots.at(conn.slot).waiting {
            return;
        }
        let (topic, all) = (entry.topic.clone(), entry.all.clone());
        match self.lags.get_mut(conn.slot).and_then(|lag| lag.replay.as_mut()) {
            Some(replaying) => replaying.replay.go_on_with(&topic, all, shown, theirs),
            None => {
                let id = format!("{}:{}", ground.node.dc, shown.place());
                let resume = Resume::After(shown.place());
                let last = LastEvent { id, resume, told_ms: 0, takes_no_repeats: true };
                let newest_ms = ground.clock.unix_ms.max(self.given_ms).max(theirs.place().ms);
                self.replay_topics(ground, conn, vec![(topic, all)], &last, newest_ms);
            }
        }
    }

    /// A stream has a prefix from now on: it joins what is open for it here.
    pub(crate) fn join_open(&mut self, ground: &mut Ground, conn: Conn, prefix: &Topic, all: &All) {
        let Some(open) = self.prefixes.here.get(prefix) else { return };
        let subscriber = ground.slots.subscriber(conn.slot);
        let joins = open.iter().filter_map(|topic| Some((topic.clone(), all.by_prefix(topic.as_str(), subscriber)?)));
        let joins: Vec<(Topic, All)> = joins.collect();
        joins.iter().for_each(|(topic, all)| self.join_by_prefix(ground, conn, topic, all, None));
    }

    /// Topics that a stream has by prefixes.
    pub(crate) fn had_by_prefix(&self, ground: &Ground, conn: Conn) -> Vec<TopicIndex> {
        let had = self.all_watched(ground, conn).filter(|(_, entry)| entry.all.is_by_prefix());
        had.map(|(index, _)| index).collect()
    }

    /// A stream that has a topic by a prefix has it by its name from now on, or the other way round: what waits for it in
    /// the log of the view that it had goes on its way, and its past is gone on with.
    pub(crate) fn change_view(&mut self, ground: &mut Ground, conn: Conn, had: TopicIndex, all: &All) {
        if ground.slots.get(conn).is_some_and(|slot| !slot.waiting) {
            self.lag(ground, conn.slot);
            self.merge_what_waits(ground, conn.slot);
        }
        if let Some(replaying) = self.lags.get_mut(conn.slot).and_then(|lag| lag.replay.as_mut()) {
            replaying.replay.has_as(self.topics.get(had).topic.as_str(), all);
        }
        self.leave_view(ground, conn, had);
    }

    /// A stream gives up what it asked for: a topic, or a prefix of topics.
    pub(crate) fn give_up(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex) {
        match self.topics.get(index).topic.is_prefix() {
            true => self.unwatch_prefix(ground, conn, index),
            false => self.unwatch_named(ground, conn, index),
        }
    }

    /// A stream gives up a topic that it named: where one of its prefixes covers the topic it has it by that.
    fn unwatch_named(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex) {
        let topic = self.topics.get(index).topic.clone();
        let subscriber = ground.slots.subscriber(conn.slot);
        let covering = self.prefixes_of(ground, conn).into_iter().find_map(|(prefix, all)| {
            let is_open = self.prefixes.here.get(&prefix).is_some_and(|open| open.contains(&topic));
            all.by_prefix(topic.as_str(), subscriber).filter(|_| is_open && prefix.covers(topic.as_str()))
        });
        match covering {
            Some(all) => {
                let shown = self.topics.get(index).shown_to();
                let by_prefix = self.join_surely(ground, conn, &topic, &all, None);
                self.change_view(ground, conn, index, &all);
                if let Some(shown) = shown {
                    self.go_on_from(ground, conn, by_prefix, shown);
                }
            }
            None => self.unwatch(ground, conn, index),
        }
    }

    /// The prefixes of a stream, and what it gets of their types.
    fn prefixes_of(&self, ground: &Ground, conn: Conn) -> Vec<(Topic, All)> {
        let prefixes = self.all_watched(ground, conn).filter(|(_, entry)| entry.topic.is_prefix());
        prefixes.map(|(_, entry)| (entry.topic.clone(), entry.all.clone())).collect()
    }

    /// A stream gives up a prefix, and what it has by that alone.
    fn unwatch_prefix(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex) {
        let prefix = self.topics.get(index).topic.clone();
        self.unwatch(ground, conn, index);
        let left = self.prefixes_of(ground, conn);
        for index in self.had_by_prefix(ground, conn) {
            let topic = self.topics.get(index).topic.as_str();
            if prefix.covers(topic) && !left.iter().any(|(other, _)| other.covers(topic)) {
                self.unwatch(ground, conn, index);
            }
        }
    }

    /// A stream of Mercure's protocol gives up a selector, and what it has by that alone.
    pub(crate) fn lose_selector(&mut self, ground: &mut Ground, conn: Conn, selector: &str) {
        let Some(rights) = ground.slots.get_mut(conn).and_then(|slot| slot.rights.as_mut()) else { return };
        let Some(subscriber) = rights.mercure.as_ref().map(|subscriber| Arc::new(subscriber.without(selector))) else {
            return;
        };
        rights.mercure = Some(Arc::clone(&subscriber));
        if let Some(replaying) = self.lags.get_mut(conn.slot).and_then(|lag| lag.replay.as_mut()) {
            replaying.replay.subscriber = Some(Arc::clone(&subscriber));
        }
        let wanted = subscriber.prefixes();
        for (prefix, _) in self.prefixes_of(ground, conn) {
            let begin = prefix.begin().expect("it is a prefix");
            if !wanted.iter().any(|wanted| wanted.as_str().starts_with(begin))
                && let Some(index) = self.watched(ground, conn, prefix.as_str())
            {
                self.unwatch_prefix(ground, conn, index);
            }
        }
        for index in self.had_by_prefix(ground, conn) {
            if subscriber.has(self.topics.get(index).topic.as_str()).is_none() {
                self.unwatch(ground, conn, index);
            }
        }
    }

    /// Nothing came of a topic for long: it is left once all that was given of it is with its viewers.
    pub(crate) fn on_prefix_quiet(&mut self, topic: Topic) {
        for open in self.prefixes.here.values_mut() {
            open.remove(&topic);
        }
        self.prefixes.leaving.push_back(topic);
    }

    /// Once a tick: streams leave topics that are quiet.
    pub(crate) fn leave_quiet(&mut self, ground: &mut Ground) {
        for _ in 0..self.prefixes.leaving.len() {
            let Some(topic) = self.prefixes.leaving.pop_front() else { break };
            let views = self.topics.views(topic.as_str()).filter(|index| self.topics.get(*index).all.is_by_prefix());
            let views: Vec<TopicIndex> = views.collect();
            if self.topics.find(topic.as_str()).is_none() {
                // No stream wanted it.
                self.want(ground, &topic, false);
            }
            let mut stays = false;
            for view in views {
                let entry = self.topics.get(view);
                let replays = |slot: u32| self.lags.get(slot).is_some_and(|lag| lag.replay.is_some());
                if !entry.has_served_all()
                    || entry.overflows()
                    || entry.behind.is_some()
                    || entry.viewers.iter().any(|viewer| replays(viewer.slot))
                {
                    stays = true;
                    continue;
                }
                let slots: Vec<u32> = entry.viewers.iter().map(|viewer| viewer.slot).collect();
                for slot in slots {
                    if let Some(conn) = ground.slots.owner(slot) {
                        self.unwatch(ground, conn, view);
                    }
                }
            }
            if stays {
                self.prefixes.leaving.push_back(topic);
            }
        }
    }

    /// A stream that comes back is given these topics of a prefix.
    pub(crate) fn on_prefix_listed(
        &mut self,
        ground: &mut Ground,
        prefix: &Topic,
        conn: Conn,
        topics: &[Topic],
        more: bool,
        page: &FramePage,
    ) {
        if self.watched(ground, conn, prefix.as_str()).is_none() {
            return;
        }
        let subscriber = ground.slots.subscriber(conn.slot);
        let is_wanted = |topic: &&Topic| All::default().by_prefix(topic.as_str(), subscriber).is_some();
        let topics: Vec<&Topic> = topics.iter().filter(is_wanted).collect();
        let is_had = |topic: &&&Topic| self.watched(ground, conn, topic.as_str()).is_some();
        let had: Vec<Topic> = topics.iter().filter(is_had).copied().cloned().collect();
        // What found no room is not given, and told of.
        let more = more || had.len() < topics.len();
        let Some(replaying) = self.lags.get_mut(conn.slot).and_then(|lag| lag.replay.as_mut()) else { return };
        let had = if planted(Mistake::PrefixUnreplayed) { Vec::new() } else { had };
        replaying.replay.listed(prefix, had, more, page);
        self.on_stream_writable(ground, conn);
    }
}
