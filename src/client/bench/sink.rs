//! What a thread makes of the frames that its viewers get: what it counts, and how late they were.
use std::collections::HashMap;

use super::message::Extractor;
use crate::client::fleet::check::Checker;
use crate::client::fleet::frames::{Broken, Stream};
use crate::client::fleet::known::{Known, Last, Said, Sample};
use crate::client::fleet::measured::Measured;

/// Of events that merged, those due within this time of each other are timed as one.
const MERGED_STEP_US: f64 = 1_000.0;
/// Merged events that came within 2^6 µs of each other are timed as one.
const SAME_TIME_BITS: u32 = 6;
/// Times of merged events that wait to be recorded.
const WAITING_MAX: usize = 4096;
/// Topics whose viewers are many enough each to get frames that others had.
const TOPICS_MAX: usize = 8;
/// Bytes of a control event that a note tells.
const NOTE_BYTES_MAX: usize = 120;

/// Where frames end up.
#[derive(Debug)]
pub struct Sink {
    known: Known<Extractor>,
    pub counts: Counts,
}

/// What is counted and timed.
#[derive(Debug)]
pub struct Counts {
    pub measured: Measured,
    pub from_us: u64,
    pub interval_us: f64,
    pub likes: bool,
    /// When merged events came: events and due time of a frame, time of receipt in 2^[`SAME_TIME_BITS`] µs, and to how many
    /// viewers. To record the times of all that are in it at each of them would cost as much of the machine as a server
    /// spends on them.
    waiting: HashMap<(u64, u64, u64), u64, foldhash::fast::RandomState>,
}

/// How far a viewer has read.
#[derive(Debug)]
pub struct Reading {
    pub topic: u32,
    pub checker: Checker,
    last: Last,
}

impl Reading {
    /// A viewer of that topic who was there from event number `first` on.
    pub fn new(topic: u32, first: u64) -> Self {
        Self { topic, checker: Checker::new(first), last: Last::default() }
    }
}

impl Sink {
    pub fn new(likes: bool, topics: usize) -> Sink {
        let counts = Counts {
            measured: Measured::default(),
            from_us: u64::MAX,
            interval_us: 0.0,
            likes,
            waiting: HashMap::default(),
        };
        Sink { known: Known::new(Extractor::new(likes), topics <= TOPICS_MAX), counts }
    }

    /// Takes the next bytes of a viewer's stream, read at `now_us`; shows each frame to `on`.
    ///
    /// # Errors
    /// When the stream cannot be read on.
    pub fn take(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        reading: &mut Reading,
        now_us: u64,
        mut on: impl FnMut(&[u8], Said),
    ) -> Result<(), Broken> {
        self.counts.measured.tally.bytes += bytes.len() as u64;
        let Reading { topic, checker, last } = reading;
        self.known.take(stream, bytes, last, |frame, said| {
            self.counts.count(frame, said, *topic, checker, now_us);
            on(frame, said);
        })
    }
}

impl Counts {
    fn count(&mut self, frame: &[u8], said: Said, topic: u32, checker: &mut Checker, now_us: u64) {
        match said {
            Said::Event(sample) if sample.topic.is_some_and(|named| named != topic) => {
                self.measured.tally.misrouted += sample.count;
            }
            Said::Event(sample) => {
                if self.likes {
                    checker.take_unordered(sample.count, &mut self.measured.tally);
                } else {
                    checker.take(sample.number, sample.count, &mut self.measured.tally);
                }
                self.came(&sample, now_us);
            }
            Said::Total(total) => checker.show(total),
            Said::Bye(_) | Said::Gap => {
                let begin = memchr::memmem::find(frame, b"event: ").unwrap_or(0);
                let text = String::from_utf8_lossy(&frame[begin..frame.len().min(begin + NOTE_BYTES_MAX)]);
                self.measured.note(text.trim().replace('\n', " "));
            }
            Said::Connected | Said::Other(..) | Said::Nothing => {}
        }
    }

    fn came(&mut self, sample: &Sample, now_us: u64) {
        if sample.due_us < self.from_us {
            return;
        }
        if sample.count == 1 {
            self.measured.latency.saturating_record(now_us.saturating_sub(sample.due_us));
            self.measured.timed += 1;
            return;
        }
        *self.waiting.entry((sample.count, sample.due_us, now_us >> SAME_TIME_BITS)).or_default() += 1;
        if self.waiting.len() > WAITING_MAX {
            self.settle();
        }
    }

    /// Records the times that wait for it.
    pub fn settle(&mut self) {
        for ((count, due_us, came), viewers) in std::mem::take(&mut self.waiting) {
            self.time(count, due_us, came << SAME_TIME_BITS, viewers);
        }
    }

    /// Records the newest event's latency, and that of the older ones merged into it, which were due earlier: those of one
    /// [`MERGED_STEP_US`] together, since of a burst there are hundreds in each event. All that at so many viewers.
    fn time(&mut self, count: u64, due_us: u64, now_us: u64, viewers: u64) {
        let newest = now_us.saturating_sub(due_us);
        self.measured.latency.saturating_record_n(newest, viewers);
        self.measured.timed += viewers;
        let step = ((MERGED_STEP_US / self.interval_us.max(1.0)) as u64).max(1);
        let mut older = 1;
        while older < count {
            let some = step.min(count - older);
            let earlier_us = ((older as f64 + (some - 1) as f64 / 2.0) * self.interval_us) as u64;
            if due_us.saturating_sub(earlier_us) < self.from_us {
                break;
            }
            self.measured.latency.saturating_record_n(newest + earlier_us, some * viewers);
            self.measured.timed += some * viewers;
            older += some;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(number: u64, count: u64, due_us: u64) -> String {
        format!(
            "id: 1\ndata: {{\"type\":\"like\",\"count\":{count},\"data\":{{\"member\":\"s{number}-{due_us}\"}}}}\n\n"
        )
    }

    #[test]
    fn what_many_viewers_get_alike_is_timed_at_each() {
        let mut sink = Sink::new(true, 1);
        (sink.counts.from_us, sink.counts.interval_us) = (1_000_000, 500.0);
        let mut viewers = std::array::from_fn::<_, 3, _>(|_| (Stream::default(), Reading::new(0, 0)));
        let mut take = |sink: &mut Sink, viewer: usize, text: &str, now_us: u64| {
            let (stream, reading) = &mut viewers[viewer];
            sink.take(stream, text.as_bytes(), reading, now_us, |_, _| {}).unwrap();
            reading.checker.shown()
        };
        let merged = like(4, 4, 1_010_000);
        for (viewer, now_us) in [1_012_032, 1_012_033, 1_030_016].into_iter().enumerate() {
            take(&mut sink, viewer, "HTTP/1.1 200 OK\r\n\r\n", now_us);
            take(&mut sink, viewer, &merged, now_us);
        }
        assert_eq!(sink.counts.measured.latency.len(), 0, "merged ones wait");
        // Other likes of that time, and one that is too early to count.
        take(&mut sink, 0, &like(5, 1, 1_020_000), 1_021_056);
        take(&mut sink, 0, &like(6, 1, 999_999), 1_021_120);
        sink.counts.settle();
        let measured = &sink.counts.measured;
        assert_eq!((measured.tally.received, measured.timed), (14, 13));
        assert_eq!(measured.latency.len(), 13);
        let at_most = |us: u64| measured.latency.count_between(0, us);
        // One alone, then two times a merged one at two viewers, whose older three were due up to 1.5 ms earlier.
        assert_eq!((at_most(1_060), at_most(2_050), at_most(4_000)), (1, 3, 9));
        assert_eq!(measured.latency.max() / 1_000, 21);
        for (viewer, total) in [6, 4].into_iter().enumerate() {
            let told = format!("data: {{\"type\":\"likes\",\"at\":1,\"data\":{{\"likes\":{total}}}}}\n\n");
            assert_eq!(take(&mut sink, viewer, &told, 1_040_000), total);
        }
        assert_eq!(take(&mut sink, 2, "", 1_040_000), 0);
    }
}
