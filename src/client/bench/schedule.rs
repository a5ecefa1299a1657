//! When each event is due, and on which topic: fixed before the load begins, so that a server that stalls is charged
//! for every event that it kept waiting (no coordinated omission).

/// Events of all topics, one after the other, at a steady rate. Topics are divided among the publishing connections
/// (lanes), since only events of one connection have an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub topics: u32,
    pub lanes: u32,
    /// Events a second over all lanes; infinite means: as fast as they are taken.
    pub rate: f64,
}

impl Schedule {
    /// A schedule with no more lanes than topics.
    pub fn new(topics: u32, lanes: u32, rate: f64) -> Self {
        let topics = topics.max(1);
        Self { topics, lanes: lanes.clamp(1, topics), rate }
    }

    /// Topics of a lane: `lane`, `lane + lanes`, …
    fn topics_of(&self, lane: u32) -> u64 {
        u64::from((self.topics - lane).div_ceil(self.lanes))
    }

    /// The topic of a lane's event number `index`.
    pub fn topic(&self, lane: u32, index: u64) -> u32 {
        lane + (index % self.topics_of(lane)) as u32 * self.lanes
    }

    /// That event's number within its topic.
    pub fn sequence(&self, lane: u32, index: u64) -> u64 {
        index / self.topics_of(lane)
    }

    /// µs from the begin until a lane's event number `index` is due.
    pub fn due_us(&self, lane: u32, index: u64) -> u64 {
        let lane_rate = self.rate * self.topics_of(lane) as f64 / f64::from(self.topics);
        let phase = f64::from(lane) * 1e6 / self.rate;
        (phase + index as f64 * 1e6 / lane_rate) as u64
    }

    /// Events that a lane has due before `duration_us`.
    pub fn due_before(&self, lane: u32, duration_us: u64) -> u64 {
        let lane_rate = self.rate * self.topics_of(lane) as f64 / f64::from(self.topics);
        let estimate = (duration_us as f64 * lane_rate / 1e6) as u64;
        // The rounding of the estimate and of the due times may differ by an event or two.
        let mut count = estimate.saturating_sub(2);
        while self.due_us(lane, count) < duration_us {
            count += 1;
        }
        count
    }

    /// µs between two events of the same topic.
    pub fn interval_us(&self) -> f64 {
        f64::from(self.topics) * 1e6 / self.rate
    }
}

/// How much was published on each topic, in as few numbers as the schedule allows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    pub topics: u32,
    /// Events of each lane.
    pub lanes: Vec<u64>,
}

impl Published {
    /// Nothing yet.
    pub fn nothing(schedule: &Schedule) -> Self {
        Self { topics: schedule.topics, lanes: vec![0; schedule.lanes as usize] }
    }

    /// Events of one topic.
    pub fn on(&self, topic: u32) -> u64 {
        let lanes = self.lanes.len() as u32;
        let (lane, place) = (topic % lanes, u64::from(topic / lanes));
        let topics_of_lane = u64::from((self.topics - lane).div_ceil(lanes));
        (self.lanes[lane as usize] + topics_of_lane - 1 - place) / topics_of_lane
    }

    /// Events that connections 0 to `connections` get in all, when connection `i` has topic `i % topics`.
    pub fn deliveries(&self, connections: u32) -> u64 {
        let (rounds, rest) = (u64::from(connections / self.topics), connections % self.topics);
        let all: u64 = self.lanes.iter().sum();
        rounds * all + (0..rest).map(|topic| self.on(topic)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_its_events_in_order_and_at_the_rate() {
        for (topics, lanes, rate) in [(1, 1, 1000.0), (1, 8, 7.0), (7, 3, 333.0), (5000, 4, 20_000.0)] {
            let schedule = Schedule::new(topics, lanes, rate);
            let second = 3_000_000;
            let mut published = Published::nothing(&schedule);
            let mut counts = vec![0u64; topics as usize];
            for lane in 0..schedule.lanes {
                let due = schedule.due_before(lane, second);
                published.lanes[lane as usize] = due;
                let mut last = 0;
                for index in 0..due {
                    let topic = schedule.topic(lane, index);
                    assert_eq!(topic % schedule.lanes, lane, "a topic has one lane");
                    assert_eq!(schedule.sequence(lane, index), counts[topic as usize]);
                    counts[topic as usize] += 1;
                    let at = schedule.due_us(lane, index);
                    assert!(at >= last && at < second);
                    last = at;
                }
                assert!(schedule.due_us(lane, due) >= second);
            }
            let all: u64 = counts.iter().sum();
            let wanted = (rate * 3.0) as u64;
            assert!(all.abs_diff(wanted) <= u64::from(topics.max(lanes)), "{all} events, not {wanted}");
            for (topic, count) in counts.iter().enumerate() {
                assert_eq!(published.on(topic as u32), *count);
            }
            let viewers = topics * 2 + 1;
            let deliveries: u64 = (0..viewers).map(|c| counts[(c % topics) as usize]).sum();
            assert_eq!(published.deliveries(viewers), deliveries);
        }
    }

    #[test]
    fn without_a_rate_all_is_due_at_once() {
        let schedule = Schedule::new(1, 1, f64::INFINITY);
        assert_eq!(schedule.due_us(0, 1_000_000), 0);
        assert!(schedule.interval_us().abs() < 1e-9);
    }
}
