//! What a receiving thread makes of the frames it reads: what it counts, and how late they were.
use std::collections::HashMap;

use super::check::Checker;
use super::known::Known;
use super::message::{Extractor, Sample};
use super::receiver::Measured;

/// Of events that merged, those due within this time of each other are timed as one.
const MERGED_STEP_US: f64 = 1_000.0;

/// Likes that came within 2^6 µs of each other, in one frame, are timed as one.
const SAME_TIME_BITS: u32 = 6;
/// Frames of likes whose times wait to be recorded.
const SEEN_MAX: usize = 256;

/// Where frames end up.
#[derive(Debug)]
pub struct Sink {
    pub extractor: Extractor,
    pub known: Known,
    pub measured: Measured,
    pub from_us: u64,
    pub interval_us: f64,
    pub likes: bool,
    /// Likes' frames, which all viewers get alike. To read each of them, and to record each one's times, would cost as much
    /// of the machine as a server spends on them.
    seen: HashMap<Box<[u8]>, Seen, foldhash::fast::RandomState>,
}

/// A frame that came before.
#[derive(Debug)]
struct Seen {
    sample: Sample,
    /// When it came, in 2^[`SAME_TIME_BITS`] µs, and to how many connections at that time.
    came: Vec<(u64, u64)>,
}

impl Sink {
    pub fn new(likes: bool) -> Sink {
        Sink {
            extractor: Extractor::new(likes),
            known: Known::default(),
            measured: Measured::default(),
            from_us: u64::MAX,
            interval_us: 0.0,
            likes,
            seen: HashMap::default(),
        }
    }

    /// Takes a frame that was read at `now_us`; returns whether it was the `connected` event.
    pub fn take(&mut self, frame: &[u8], topic: u32, chunked: bool, checker: &mut Checker, now_us: u64) -> bool {
        if let Some(seen) = self.seen.get_mut(frame) {
            seen.came(now_us);
            checker.take_unordered(seen.sample.count, &mut self.measured.tally);
            return false;
        }
        let Some(sample) = self.extractor.extract(frame) else {
            if self.likes
                && let Some(total) = self.extractor.total(frame)
            {
                checker.show(total);
                return false;
            }
            self.note_control(frame);
            return frame.starts_with(b"event: connected")
                || memchr::memmem::find(frame, b"\nevent: connected").is_some();
        };
        if sample.topic.is_some_and(|named| named != topic) {
            self.measured.tally.misrouted += sample.count;
            return false;
        }
        if self.likes {
            checker.take_unordered(sample.count, &mut self.measured.tally);
            if self.seen.len() == SEEN_MAX {
                self.settle();
            }
            let mut seen = Seen { sample, came: Vec::new() };
            seen.came(now_us);
            self.seen.insert(frame.into(), seen);
        } else {
            if sample.count == 1 && sample.sequence == checker.next() {
                self.known.learn(topic, sample.sequence, sample.due_us, frame, chunked);
            }
            checker.take(sample.sequence, sample.count, &mut self.measured.tally);
            self.time(&sample, now_us, 1);
        }
        false
    }

    /// Records the times that wait for it.
    pub fn settle(&mut self) {
        for (_, seen) in std::mem::take(&mut self.seen) {
            for (came, connections) in seen.came {
                self.time(&seen.sample, came << SAME_TIME_BITS, connections);
            }
        }
    }

    /// Takes the frames at the start of `bytes` that other connections had before. Gives how many bytes they were.
    pub fn take_known(&mut self, bytes: &[u8], topic: u32, checker: &mut Checker, now_us: u64) -> usize {
        let Measured { tally, latency, timed, .. } = &mut self.measured;
        let from_us = self.from_us;
        self.known.take(topic, bytes, checker, tally, |due_us| {
            if due_us >= from_us {
                latency.saturating_record(now_us.saturating_sub(due_us));
                *timed += 1;
            }
        })
    }

    /// Records the newest event's latency, and that of the older ones merged into it, which were due earlier: those of one
    /// [`MERGED_STEP_US`] together, since of a burst there are hundreds in each event. All that at `connections`.
    fn time(&mut self, sample: &Sample, now_us: u64, connections: u64) {
        if sample.due_us < self.from_us {
            return;
        }
        let newest = now_us.saturating_sub(sample.due_us);
        self.measured.latency.saturating_record_n(newest, connections);
        self.measured.timed += connections;
        let step = ((MERGED_STEP_US / self.interval_us.max(1.0)) as u64).max(1);
        let mut older = 1;
        while older < sample.count {
            let some = step.min(sample.count - older);
            let earlier_us = ((older as f64 + (some - 1) as f64 / 2.0) * self.interval_us) as u64;
            if sample.due_us.saturating_sub(earlier_us) < self.from_us {
                break;
            }
            self.measured.latency.saturating_record_n(newest + earlier_us, some * connections);
            self.measured.timed += some * connections;
            older += some;
        }
    }

    fn note_control(&mut self, frame: &[u8]) {
        if frame.starts_with(b"event: bye") || frame.starts_with(b"event: gap") {
            let text = String::from_utf8_lossy(&frame[..frame.len().min(120)]);
            self.note(text.trim().replace('\n', " "));
        }
    }

    pub fn note(&mut self, error: String) {
        if self.measured.errors.len() < 8 && !self.measured.errors.contains(&error) {
            self.measured.errors.push(error);
        }
    }
}

impl Seen {
    /// It came to a connection.
    fn came(&mut self, now_us: u64) {
        let time = now_us >> SAME_TIME_BITS;
        match self.came.last_mut() {
            Some((last, connections)) if *last == time => *connections += 1,
            _ => self.came.push((time, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(number: u64, count: u64, due_us: u64) -> Vec<u8> {
        format!(
            "id: 1\ndata: {{\"type\":\"like\",\"count\":{count},\"data\":{{\"member\":\"s{number}-{due_us}\"}}}}\n\n"
        )
        .into_bytes()
    }

    #[test]
    fn what_many_viewers_get_alike_is_timed_at_each() {
        let mut sink = Sink::new(true);
        (sink.from_us, sink.interval_us) = (1_000_000, 500.0);
        let frame = like(4, 4, 1_010_000);
        let mut checkers = std::array::from_fn::<Checker, 3, _>(|_| Checker::new(0));
        for (checker, now_us) in checkers.iter_mut().zip([1_012_032, 1_012_033, 1_030_016]) {
            assert!(!sink.take(&frame, 0, true, checker, now_us));
        }
        // Other likes of that time, and one that is too early to count.
        assert!(!sink.take(&like(5, 1, 1_020_000), 0, true, &mut checkers[0], 1_021_056));
        assert!(!sink.take(&like(6, 1, 999_999), 0, true, &mut checkers[0], 1_021_120));
        assert_eq!(sink.measured.latency.len(), 0, "they wait");
        sink.settle();
        assert_eq!((sink.measured.tally.received, sink.measured.timed), (14, 13));
        assert_eq!(sink.measured.latency.len(), 13);
        let at_most = |us: u64| sink.measured.latency.count_between(0, us);
        // One alone, then two times a merged one at two viewers, whose older three were due up to 1.5 ms earlier.
        assert_eq!((at_most(1_060), at_most(2_050), at_most(4_000)), (1, 3, 9));
        assert_eq!(sink.measured.latency.max() / 1_000, 21);
        for (checker, total) in checkers.iter_mut().zip([6, 4]) {
            let told = format!("data: {{\"type\":\"likes\",\"at\":1,\"data\":{{\"likes\":{total}}}}}\n\n");
            assert!(!sink.take(told.as_bytes(), 0, true, checker, 1_040_000));
        }
        assert_eq!(checkers.map(|checker| checker.shown()), [6, 4, 0]);
    }
}
