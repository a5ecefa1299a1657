//! One member's stream, and what it must have seen: every comment that was acknowledged, from the first time that it
//! was connected on, also those posted while it was away.
use memchr::memmem;

use super::texts::{Run, Stamp};
use crate::client::fleet::known::{Kind, Last, Reader, Said, Sample, control, line, number_after};

/// A comment that the server acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Acknowledged {
    pub number: u64,
    /// When it was posted, in µs since the epoch.
    pub posted_us: u64,
}

/// Where a viewer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not arrived yet, or gone for a while.
    Away,
    /// Connecting, or waiting for `connected`.
    Coming,
    /// Its stream is open.
    Here,
}

impl Reader for Run {
    fn read(&mut self, frame: &[u8]) -> Said {
        let Some(at) = memmem::find(frame, b"\"type\":\"").filter(|_| line(frame, b"event: ").is_none()) else {
            return control(frame);
        };
        let kind = match &frame[at + 8..] {
            rest if rest.starts_with(b"like\"") => Kind::Like,
            rest if rest.starts_with(b"comment\"") => Kind::Comment,
            rest if rest.starts_with(b"message\"") => Kind::Message,
            _ => Kind::Other,
        };
        let (count, stamp) = match kind {
            Kind::Like => (number_after(frame, b"\"count\":").unwrap_or(1), self.in_like(frame)),
            Kind::Comment | Kind::Message => (1, self.in_text(frame)),
            Kind::Other => (1, None),
        };
        let Some(Stamp { number, posted_us: due_us }) = stamp else { return Said::Other(kind, count) };
        let skipped = number_after(frame, b"\"skipped\":").unwrap_or(0);
        Said::Event(Sample { kind, number, due_us, topic: None, count, skipped })
    }
}

/// A member and its stream.
#[derive(Debug)]
pub struct Viewer {
    pub state: State,
    /// The frame that it got last.
    pub last: Last,
    /// Distinguishes its connections, for times that are over.
    pub generation: u32,
    /// The wait before the next connection that a `bye` asked for, in µs.
    pub bye_us: Option<u64>,
    /// The last `id:` line, from where to resume; empty if there was none.
    pub position: String,
    /// When this stream was asked for: what was posted before was not received live.
    pub asked_us: u64,
    /// When it leaves.
    pub leaves_us: u64,
    /// It must have seen what was posted after this; `u64::MAX` before it was first connected.
    must_see_from_us: u64,
    /// Numbers of comments seen, a bit each.
    seen: Vec<u64>,
    /// Comments that it was told were left out.
    left_out: u64,
}

impl Default for Viewer {
    fn default() -> Self {
        Self {
            state: State::Away,
            last: Last::default(),
            generation: 0,
            bye_us: None,
            position: String::new(),
            asked_us: 0,
            leaves_us: u64::MAX,
            must_see_from_us: u64::MAX,
            seen: Vec::new(),
            left_out: 0,
        }
    }
}

impl Viewer {
    /// `connected` came, with the place where the stream begins. Without a position nothing could be resumed, so it begins
    /// anew.
    pub fn connected(&mut self, now_us: u64, begins: &[u8]) {
        self.state = State::Here;
        if self.position.is_empty() {
            self.must_see_from_us = now_us;
        }
        self.reached(begins);
    }

    /// An `id:` line came.
    pub fn reached(&mut self, position: &[u8]) {
        self.position.clear();
        self.position.push_str(&String::from_utf8_lossy(position));
    }

    /// The same, if the frame has one.
    pub fn reached_in(&mut self, frame: &[u8]) {
        if let Some(position) = line(frame, b"id: ") {
            self.reached(position);
        }
    }

    /// The server said that something may be missing: what was posted before now is not held against it.
    pub fn gap(&mut self, now_us: u64) {
        self.must_see_from_us = now_us;
    }

    /// Whether it was ever connected.
    pub fn came(&self) -> bool {
        self.must_see_from_us != u64::MAX
    }

    /// Notes a comment, before which so many were left out; gives whether it is new.
    pub fn see(&mut self, number: u64, skipped: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        // A number is one of ours, so there are no more of them than comments; the bound is against garbage.
        if word >= 1 << 20 {
            return false;
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        self.left_out += if new { skipped } else { 0 };
        new
    }

    /// How many of the acknowledged comments it should have seen and has not, beyond those that it was told were left out. Where
    /// some were, nobody knows yet whether those behind the newest one that it saw were, too.
    pub fn missing(&self, acknowledged: &[Acknowledged]) -> u64 {
        let last = self.seen.iter().rposition(|word| *word != 0);
        let newest = last.map_or(0, |word| word as u64 * 64 + u64::from(self.seen[word].ilog2()));
        let known = |one: &&Acknowledged| self.left_out == 0 || one.number <= newest;
        let lacks = |one: &&Acknowledged| {
            let word = self.seen.get((one.number / 64) as usize).copied().unwrap_or(0);
            one.posted_us > self.must_see_from_us && word & (1 << (one.number % 64)) == 0
        };
        (acknowledged.iter().filter(known).filter(lacks).count() as u64).saturating_sub(self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart() {
        let mut run = Run::new(5_000_000);
        let liker = run.liker(9, 6_000_000);
        let like = format!("data: {{\"type\":\"like\",\"at\":1,\"count\":12,\"data\":{{\"member\":\"{liker}\"}}}}\n\n");
        let sample = Sample { kind: Kind::Like, number: 9, due_us: 6_000_000, topic: None, count: 12, skipped: 0 };
        assert_eq!(run.read(like.as_bytes()), Said::Event(sample));
        let typing = "data: {\"type\":\"typing\",\"data\":{\"member\":\"ana\"}}\n\n";
        assert_eq!(run.read(typing.as_bytes()), Said::Other(Kind::Other, 1));
        let comment = "data: {\"type\":\"comment\",\"data\":{\"text\":\"hi\"},\"skipped\":3}\n\n";
        assert_eq!(run.read(comment.as_bytes()), Said::Other(Kind::Comment, 1), "a person's");
        let text = serde_json::json!({"text": run.text(super::super::texts::Mood::Calm, 0, 2, 7_000_000)});
        let comment = format!("data: {{\"type\":\"comment\",\"data\":{text},\"skipped\":3}}\n\n");
        let sample = Sample { kind: Kind::Comment, number: 2, due_us: 7_000_000, topic: None, count: 1, skipped: 3 };
        assert_eq!(run.read(comment.as_bytes()), Said::Event(sample));
        assert_eq!(run.read(b"event: gap\ndata: {\"topic\":\"live:42\",\"type\":\"like\"}\n\n"), Said::Gap);
    }

    #[test]
    fn what_is_missing_is_counted_from_the_first_connect_on() {
        let all: Vec<_> = (0..200).map(|number| Acknowledged { number, posted_us: 1_000 + number }).collect();
        let mut viewer = Viewer::default();
        assert_eq!(viewer.missing(&all), 0, "who never came lacks nothing");
        viewer.connected(1_099, b"eu:1-0");
        assert_eq!(viewer.position, "eu:1-0");
        assert_eq!(viewer.missing(&all), 100);
        for number in (100..200).filter(|number| *number != 163) {
            assert!(viewer.see(number, 0));
        }
        assert!(!viewer.see(150, 7), "seen before");
        assert_eq!(viewer.missing(&all), 1);
        viewer.reached(b"eu:1-1");
        viewer.connected(5_000, b"eu:1-1");
        assert_eq!(viewer.missing(&all), 1, "who resumes is owed what was posted meanwhile");
        viewer.gap(1_163);
        assert_eq!(viewer.missing(&all), 0, "the server owned up to it");
        assert!(!viewer.see(u64::MAX, 0));
    }

    #[test]
    fn what_was_left_out_is_not_missing() {
        let all: Vec<_> = (0..100).map(|number| Acknowledged { number, posted_us: 1_000 + number }).collect();
        let mut viewer = Viewer::default();
        viewer.connected(999, b"eu:1-0");
        viewer.see(0, 0);
        assert_eq!(viewer.missing(&all), 99);
        viewer.see(10, 9);
        assert_eq!(viewer.missing(&all), 0, "what follows may be left out as well");
        viewer.see(20, 8);
        assert_eq!(viewer.missing(&all), 1, "one more than was said");
    }
}
