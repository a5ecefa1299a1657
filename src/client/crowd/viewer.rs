//! One member's stream, and what it must have seen: every comment that was acknowledged, from the first time that it
//! was connected on, also those posted while it was away.
use memchr::memmem;
use socket2::Socket;

use super::texts::{Run, Stamp};
use crate::client::bench::frames::Stream;

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

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Connected,
    /// The server ends the stream and names the wait before the next, in ms.
    Bye(u64),
    Gap,
    /// An event, or several that were merged.
    Event {
        kind: Kind,
        count: u64,
        /// Of this run's posts.
        stamp: Option<Stamp>,
        /// So many before it were left out by its type's pace.
        skipped: u64,
    },
    /// A comment line, or a control event that asks for nothing.
    Nothing,
}

/// Kinds of events, as far as they are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Like,
    Comment,
    Message,
    Other,
}

/// Reads a frame.
pub fn hear(frame: &[u8], run: &Run) -> Heard {
    if let Some(name) = line(frame, b"event: ") {
        return match name {
            b"connected" => Heard::Connected,
            b"gap" => Heard::Gap,
            b"bye" => Heard::Bye(number_after(frame, b"\"retry_ms\":").unwrap_or(1_000)),
            _ => Heard::Nothing,
        };
    }
    let Some(at) = memmem::find(frame, b"\"type\":\"") else { return Heard::Nothing };
    let kind = match &frame[at + 8..] {
        rest if rest.starts_with(b"like\"") => Kind::Like,
        rest if rest.starts_with(b"comment\"") => Kind::Comment,
        rest if rest.starts_with(b"message\"") => Kind::Message,
        _ => Kind::Other,
    };
    let (count, stamp) = match kind {
        Kind::Like => (number_after(frame, b"\"count\":").unwrap_or(1), run.in_like(frame)),
        Kind::Comment | Kind::Message => (1, run.in_text(frame)),
        Kind::Other => (1, None),
    };
    let skipped = number_after(frame, b"\"skipped\":").unwrap_or(0);
    Heard::Event { kind, count, stamp, skipped }
}

/// The rest of the line that begins so.
pub fn line<'a>(frame: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    frame.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(begin))
}

fn number_after(frame: &[u8], name: &[u8]) -> Option<u64> {
    let at = memmem::find(frame, name)? + name.len();
    let digits = frame[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&frame[at..at + digits]).ok()?.parse().ok()
}

/// A member and its stream.
#[derive(Debug)]
pub struct Viewer {
    pub state: State,
    pub socket: Option<Socket>,
    pub stream: Stream,
    /// The request is on its way.
    pub asked: bool,
    pub watched: bool,
    /// Distinguishes its connections, for events that are late.
    pub generation: u32,
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
            socket: None,
            stream: Stream::default(),
            asked: false,
            watched: false,
            generation: 0,
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
        let run = Run::new(5_000_000);
        let hear = |text: &str| super::hear(text.as_bytes(), &run);
        assert_eq!(
            hear("retry: 900\nid: eu:5-0\nevent: connected\ndata: {\"connection\":\"x\"}\n\n"),
            Heard::Connected
        );
        assert_eq!(hear("retry: 900\nevent: bye\ndata: {\"reason\":\"drain\",\"retry_ms\":900}\n\n"), Heard::Bye(900));
        assert_eq!(hear("event: gap\ndata: {\"topic\":\"live:42\",\"after\":null}\n\n"), Heard::Gap);
        assert_eq!(hear(": heartbeat\n\n"), Heard::Nothing);
        let liker = run.liker(9, 6_000_000);
        let like = format!("data: {{\"type\":\"like\",\"at\":1,\"count\":12,\"data\":{{\"member\":\"{liker}\"}}}}\n\n");
        let stamp = Some(Stamp { number: 9, posted_us: 6_000_000 });
        assert_eq!(hear(&like), Heard::Event { kind: Kind::Like, count: 12, stamp, skipped: 0 });
        let typing = "data: {\"type\":\"typing\",\"data\":{\"member\":\"ana\"}}\n\n";
        assert_eq!(hear(typing), Heard::Event { kind: Kind::Other, count: 1, stamp: None, skipped: 0 });
        let comment = "data: {\"type\":\"comment\",\"data\":{\"text\":\"\\\"skipped\\\":9\"},\"skipped\":3}\n\n";
        assert_eq!(hear(comment), Heard::Event { kind: Kind::Comment, count: 1, stamp: None, skipped: 3 });
        assert_eq!(line(b"id: eu:5-1\ndata: {}\n\n", b"id: "), Some(&b"eu:5-1"[..]));
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
