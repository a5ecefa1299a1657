//! Frames that some connection of this thread has had already, as they stood on the wire. Viewers of one topic get the
//! same bytes, so the next connection's frames are mostly found right by one comparison, and need not be read again. What
//! differs in a single byte, or is not next in order, takes the long way.
use std::collections::{HashMap, VecDeque};

use super::check::{Checker, Tally};

/// Topics whose frames are kept: the busiest scenarios have one.
const TOPICS_MAX: usize = 8;
/// Frames kept of a topic: more than a connection falls behind while all is well.
const FRAMES_MAX: usize = 8192;

/// A frame as it was received.
#[derive(Debug)]
struct Frame {
    wire: Box<[u8]>,
    due_us: u64,
}

/// The newest frames of one topic, numbered without a gap.
#[derive(Debug, Default)]
struct Run {
    first: u64,
    frames: VecDeque<Frame>,
}

/// Frames by topic.
#[derive(Debug, Default)]
pub struct Known {
    topics: HashMap<u32, Run>,
}

impl Known {
    /// Notes a frame of one event that a connection got in order. `chunked` says how it stood on the wire.
    pub fn learn(&mut self, topic: u32, sequence: u64, due_us: u64, frame: &[u8], chunked: bool) {
        if !self.topics.contains_key(&topic) && self.topics.len() >= TOPICS_MAX {
            return;
        }
        let run = self.topics.entry(topic).or_default();
        let next = run.first + run.frames.len() as u64;
        if sequence < next && !run.frames.is_empty() {
            return;
        }
        if sequence != next {
            run.frames.clear();
        }
        if run.frames.is_empty() {
            run.first = sequence;
        }
        let wire = if chunked {
            [format!("{:x}\r\n", frame.len()).as_bytes(), frame, b"\r\n"].concat()
        } else {
            frame.to_vec()
        };
        run.frames.push_back(Frame { wire: wire.into(), due_us });
        if run.frames.len() > FRAMES_MAX {
            run.frames.pop_front();
            run.first += 1;
        }
    }

    /// Takes the frames at the start of `bytes` that are known and next in order; calls `timed` with each one's due time.
    /// Gives how many bytes they were.
    pub fn take(
        &self,
        topic: u32,
        bytes: &[u8],
        checker: &mut Checker,
        tally: &mut Tally,
        mut timed: impl FnMut(u64),
    ) -> usize {
        let Some(run) = self.topics.get(&topic) else { return 0 };
        let mut at = 0;
        while let Some(index) = checker.next().checked_sub(run.first)
            && let Some(frame) = run.frames.get(index as usize)
            && bytes[at..].starts_with(&frame.wire)
        {
            at += frame.wire.len();
            checker.take(checker.next(), 1, tally);
            timed(frame.due_us);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_and_next_is_taken() {
        let mut known = Known::default();
        for sequence in 3..6 {
            known.learn(0, sequence, sequence * 10, format!("data: {sequence}\n\n").as_bytes(), true);
        }
        let bytes = b"9\r\ndata: 3\n\n\r\n9\r\ndata: 4\n\n\r\n9\r\ndata: 7\n\n\r\n";
        let (mut checker, mut tally, mut due) = (Checker::new(3), Tally::default(), Vec::new());
        assert_eq!(known.take(0, bytes, &mut checker, &mut tally, |at| due.push(at)), 28);
        assert_eq!((due, tally.received, checker.next()), (vec![30, 40], 2, 5));
        let mut behind = Checker::new(0);
        assert_eq!(known.take(0, bytes, &mut behind, &mut tally, |_| {}), 0, "not next for this one");
        assert_eq!(known.take(1, bytes, &mut checker, &mut tally, |_| {}), 0, "of another topic");
        known.learn(0, 9, 90, b"data: 9\n\n", true);
        assert_eq!(known.take(0, &bytes[28..], &mut checker, &mut tally, |_| {}), 0, "a gap starts a new run");
    }
}
