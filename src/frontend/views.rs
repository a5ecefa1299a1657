//! What a stream gets of topics whose types have a pace: what is shown, or all of some types. Streams of a topic that get the
//! same share one entry of a shard's table; nearly always that is all of them.

use crate::frontend::topics::{TopicEntry, Topics};
use crate::ground::all::All;
use crate::ground::slots::TopicIndex;
use crate::wire::topic::Topic;

impl Topics {
    /// The places of a topic, one for each part of it that somebody watches here.
    pub fn views(&self, topic: &str) -> impl Iterator<Item = TopicIndex> {
        std::iter::successors(self.find(topic), |index| self.get(*index).other)
    }

    /// Of a topic's parts those of streams that have it by its own name: who watches it is counted by these.
    pub fn by_name(&self, topic: &str) -> impl Iterator<Item = &TopicEntry> {
        self.views(topic).map(|index| self.get(index)).filter(|entry| !entry.all.is_by_prefix())
    }

    /// The same of those who get all of these types.
    pub fn view(&self, topic: &str, all: &All) -> Option<TopicIndex> {
        self.views(topic).find(|index| self.get(*index).all == *all)
    }

    /// A topic's place that nobody watches any more is no longer one of the topic's. True if it was the last.
    pub(crate) fn unlink(&mut self, topic: &Topic, index: TopicIndex, other: Option<TopicIndex>) -> bool {
        let before = self.views(topic.as_str()).take_while(|view| *view != index).last();
        match before {
            Some(before) => self.get_mut(before).other = other,
            None => self.set_first(topic, other),
        }
        before.is_none() && other.is_none()
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::runtime::account::Account;
    use crate::wire::frame::Frame;
    use crate::wire::frame::Paced;
    use crate::wire::frame::tests::paced;
    use crate::wire::position::{Position, Shown};
    use std::sync::Arc;

    fn comment(number: u64, made_of_it: Paced) -> Arc<Frame> {
        paced("live:1", number, made_of_it)
    }

    #[test]
    fn each_part_of_a_topic_has_its_own_log_and_goes_by_itself() {
        let mut topics = Topics::new(&Account::unbounded());
        let topic = Topic::parse("live:1").unwrap();
        let parts = [All::default(), All::of(vec!["comment".into()]), All::of(vec!["note".into()])];
        let places: Vec<TopicIndex> = parts.iter().map(|all| topics.join(&topic, all, 0).0).collect();
        assert!(!topics.join(&topic, &parts[1], 1).2);
        assert_eq!((topics.len(), topics.views("live:1").count()), (1, 3));
        for index in &places {
            let entry = topics.get_mut(*index);
            entry.delivered_to = Some(Shown::to(Position::at(1)));
            entry.append_ordered(&comment(2, Paced::LEFT_OUT), false, 0);
            entry.append_ordered(&comment(3, Paced::shown(1)), false, 0);
            assert!(entry.behind.is_none(), "what is left out is no hole");
        }
        let lengths: Vec<usize> = places.iter().map(|index| topics.get(*index).log.frames_since(0)).collect();
        assert_eq!(lengths, [1, 2, 1]);
        for (left, wanted) in [(1, 3), (1, 2), (0, 1), (2, 0)] {
            let gone = topics.leave(places[left], 0);
            assert_eq!((topics.views("live:1").count(), gone.empty.is_some()), (wanted, wanted == 0));
        }
    }
}
