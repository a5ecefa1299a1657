//! What a receiving thread makes of the frames it reads: what it counts, and how late they were.

use super::check::Checker;
use super::known::Known;
use super::message::{Extractor, Sample};
use super::receiver::Measured;

/// Of events that merged, those due within this time of each other are timed as one.
const MERGED_STEP_US: f64 = 1_000.0;

/// Where frames end up.
#[derive(Debug)]
pub struct Sink {
    pub extractor: Extractor,
    pub known: Known,
    pub measured: Measured,
    pub from_us: u64,
    pub interval_us: f64,
    pub likes: bool,
}

impl Sink {
    /// Takes a frame that was read at `now_us`; returns whether it was the `connected` event.
    pub fn take(&mut self, frame: &[u8], topic: u32, chunked: bool, checker: &mut Checker, now_us: u64) -> bool {
        let Some(sample) = self.extractor.extract(frame) else {
            self.note_control(frame);
            return frame.starts_with(b"event: connected")
                || memchr::memmem::find(frame, b"\nevent: connected").is_some();
        };
        if sample.topic.is_some_and(|named| named != topic) {
            self.measured.tally.misrouted += sample.count;
            return false;
        }
        if self.likes {
            checker.take_unordered(sample.count, sample.total, &mut self.measured.tally);
        } else {
            if sample.count == 1 && sample.sequence == checker.next() {
                self.known.learn(topic, sample.sequence, sample.due_us, frame, chunked);
            }
            checker.take(sample.sequence, sample.count, &mut self.measured.tally);
        }
        if sample.due_us >= self.from_us {
            self.time(&sample, now_us);
        }
        false
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
    /// [`MERGED_STEP_US`] together, since of a burst there are hundreds in each event of each connection.
    fn time(&mut self, sample: &Sample, now_us: u64) {
        let newest = now_us.saturating_sub(sample.due_us);
        self.measured.latency.saturating_record(newest);
        self.measured.timed += 1;
        let step = ((MERGED_STEP_US / self.interval_us.max(1.0)) as u64).max(1);
        let mut older = 1;
        while older < sample.count {
            let some = step.min(sample.count - older);
            let earlier_us = ((older as f64 + (some - 1) as f64 / 2.0) * self.interval_us) as u64;
            if sample.due_us.saturating_sub(earlier_us) < self.from_us {
                break;
            }
            self.measured.latency.saturating_record_n(newest + earlier_us, some);
            self.measured.timed += some;
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
