//! Which of a topic's events are shown, where their type has a pace.

use crate::kv::Append;
use crate::kv::memory::history::{Histories, History, SHELF_BYTES, of};
use crate::kv::pace::Room;
use crate::wire::frame::Paced;

impl Histories {
    /// What there is of a type that has a pace, before an event of it.
    pub fn room(&self, append: &Append) -> Option<Room> {
        append.pace?;
        let history = self.topics.get(&append.topic);
        Some(history.and_then(|history| history.rooms.get(&*append.kind).copied()).unwrap_or_default())
    }

    /// Decides whether an event that is about to be appended is shown, and says so in its text.
    pub fn pace(&mut self, append: &mut Append, now_ms: u64) -> Paced {
        let Some(pace) = append.pace else { return Paced::SHOWN };
        let now_ms = self.time(now_ms);
        let history = of((&mut self.topics, &mut self.names), &mut self.bytes, &mut self.round, append.topic.clone());
        self.bytes -= history.bytes;
        let paced = history.room(&append.kind).decide(pace, now_ms);
        self.bytes += history.bytes;
        append.event = paced.mark(&append.event).into();
        paced
    }
}

impl History {
    fn room(&mut self, kind: &str) -> &mut Room {
        if !self.rooms.contains_key(kind) {
            self.bytes += SHELF_BYTES + kind.len();
            self.rooms.insert(kind.into(), Room::default());
        }
        self.rooms.get_mut(kind).expect("it was just there, or put there")
    }

    /// An event of this type that was kept of an earlier process.
    pub(crate) fn saw_paced(&mut self, kind: &str, event: &str) {
        let paced = Paced::of(event);
        if paced != Paced::SHOWN || self.rooms.contains_key(kind) {
            self.room(kind).saw(paced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::kept::{Kept, KeptEvent};
    use crate::kv::memory::history::Histories;
    use crate::kv::pace::Pace;
    use crate::wire::position::Position;
    use crate::wire::topic::Topic;

    fn append(number: u32) -> Append {
        let event = format!(r#"{{"id":"{number}","topic":"live:1","type":"comment","at":1,"data":1}}"#);
        let pace = Some(Pace { per_second: std::num::NonZeroU32::MIN, always: false });
        let (kind, topic) = ("comment".to_owned(), Topic::parse("live:1").unwrap());
        let (count_max, age_max_ms, event) = (9, 9_000, event.into());
        Append { topic, event, kind, count_max, age_max_ms, withdraws: None, peers: Vec::new(), pace }
    }

    #[test]
    fn what_an_earlier_process_left_out_is_counted() {
        let mut histories = Histories::new(1_000, 9_000);
        let mut events = Vec::new();
        for number in 0..3 {
            let mut append = append(number);
            histories.pace(&mut append, 1_000);
            let (event, kind) = (Some(append.event.clone()), append.kind.clone());
            let (position, prev) = histories.append(&append, 1_000);
            let topic = Topic::parse("live:1").unwrap();
            events.push(KeptEvent { topic, kind, position, prev, event, age_max_ms: 9_000 });
        }
        let mut anew = Histories::new(2_000, 9_000);
        anew.restore(
            Kept {
                since_ms: 1,
                events,
                reaches: vec![(Topic::parse("live:1").unwrap(), Position::at(1))],
                ..Kept::default()
            },
            2_000,
        );
        assert_eq!(anew.pace(&mut append(3), 2_000), Paced::shown(2));
    }
}
