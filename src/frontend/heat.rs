//! Which topics most is delivered of, counted while somebody watches the node. A topic whose events are many is met early in any
//! second, so those that find no room are not among the first.

use crate::frontend::Frontend;
use crate::limits::{HEAT_TOPICS, HEAT_WEIGHT, WATCHED_ROWS};
use crate::runtime::random::Map;
use crate::wire::snapshot::HotTopic;

/// The counts of a shard.
#[derive(Debug, Default)]
pub struct Heat {
    counts: Map<Box<str>, Count>,
    looks: u16,
}

#[derive(Debug, Default)]
struct Count {
    /// Since the last look: events, and those times their viewers.
    new: (u32, u64),
    /// A second, over some seconds.
    rates: (f32, f32),
}

impl Heat {
    /// A topic with so many viewers on this shard had an event.
    pub fn count(&mut self, topic: &str, viewers: usize) {
        if let Some(count) = self.counts.get_mut(topic) {
            count.new.0 += 1;
            count.new.1 += viewers as u64;
        } else if self.counts.len() < HEAT_TOPICS {
            self.counts.insert(topic.into(), Count { new: (1, viewers as u64), ..Count::default() });
        }
    }

    /// A look, so many seconds after the one before. Gives the hottest topics, which are kept; of the others there is room for new
    /// ones.
    fn look(&mut self, seconds: f32) -> Vec<(&str, (f32, f32))> {
        self.looks = self.looks.saturating_add(1);
        // Of the first seconds each counts as much.
        let weight = HEAT_WEIGHT.max(1.0 / f32::from(self.looks));
        for count in self.counts.values_mut() {
            let (events, deliveries) = std::mem::take(&mut count.new);
            let mix = |rate: &mut f32, new: f32| *rate += (new / seconds - *rate) * weight;
            mix(&mut count.rates.0, events as f32);
            mix(&mut count.rates.1, deliveries as f32);
        }
        self.counts.retain(|_, count| count.rates.0 >= 0.01);
        if self.counts.len() > HEAT_TOPICS / 2 {
            let mut rates: Vec<f32> = self.counts.values().map(|count| count.rates.1).collect();
            rates.sort_unstable_by(|one, other| other.total_cmp(one));
            let least = rates[HEAT_TOPICS / 2];
            self.counts.retain(|_, count| count.rates.1 > least);
        }
        let mut all: Vec<_> = self.counts.iter().map(|(topic, count)| (&**topic, count.rates)).collect();
        all.sort_unstable_by(|one, other| other.1.1.total_cmp(&one.1.1).then(one.0.cmp(other.0)));
        all
    }
}

impl Frontend {
    /// The hottest topics of this shard since the last look, so many seconds ago.
    pub(crate) fn hottest(&mut self, seconds: f32) -> Vec<HotTopic> {
        let Some(heat) = &mut self.heat else {
            // From now on they are counted.
            self.heat = Some(Heat::default());
            return Vec::new();
        };
        let row = |(topic, (events_per_second, deliveries_per_second)): (&str, _)| HotTopic {
            topic: topic.to_owned(),
            viewers: self.topics.views(topic).map(|index| self.topics.get(index).viewers.len() as u64).sum(),
            events_per_second,
            deliveries_per_second,
        };
        heat.look(seconds).into_iter().take(WATCHED_ROWS).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_topics_are_first_and_what_cools_is_forgotten() {
        let mut heat = Heat::default();
        for _ in 0..3 {
            (0..4).for_each(|_| heat.count("live:few", 100));
            (0..50).for_each(|_| heat.count("live:many", 2));
            heat.look(1.0);
        }
        let hottest = heat.look(1.0);
        assert_eq!(hottest.iter().map(|(topic, _)| *topic).collect::<Vec<_>>(), ["live:few", "live:many"]);
        let (events, deliveries) = hottest[0].1;
        assert!((1.0..4.0).contains(&events) && (100.0..400.0).contains(&deliveries), "{events} {deliveries}");
        (0..40).for_each(|_| drop(heat.look(1.0)));
        assert!(heat.counts.is_empty());
    }

    #[test]
    fn however_many_topics_there_are_it_keeps_few_and_the_hottest() {
        let mut heat = Heat::default();
        for second in 0..5 {
            for number in 0..10_000 {
                heat.count(&format!("live:{second}.{number}"), 1);
                if number % 100 == 0 {
                    heat.count("live:hot", 1);
                }
            }
            assert!(heat.counts.len() <= HEAT_TOPICS);
            assert_eq!(heat.look(1.0)[0].0, "live:hot");
            assert!(heat.counts.len() <= HEAT_TOPICS / 2);
        }
    }
}
