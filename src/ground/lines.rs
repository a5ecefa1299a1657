//! A body of lines (NDJSON), taken one by one as they come: never more than a line of it is held.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{LINE_BYTES_MAX, REJECTED_LISTED_MAX};
use crate::runtime::random::Map;
use crate::wire::authorize::Who;
use crate::wire::chunked::Chunked;
use crate::wire::response::AnswerTo;

/// What of the body is still to come.
#[derive(Debug)]
pub enum Remaining {
    /// So many bytes.
    Known(u64),
    /// Chunks.
    Chunked(Chunked),
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Its event is where it must be before the answer.
    Now,
    /// The operator's server is asked about it.
    Asks,
    /// So many will be: one for each of its topics that keeps history.
    Later {
        /// How many.
        events: u32,
        /// Why one more cannot be.
        failed: Option<String>,
    },
}

/// The state between two reads of such a body.
#[derive(Debug)]
pub struct Lines {
    /// What the answer depends on.
    pub to: AnswerTo,
    /// What is still to come.
    pub remaining: Remaining,
    /// Whose rate they count to.
    pub publisher: u64,
    /// Who publishes, where a server is asked about each line.
    pub who: Option<Arc<Who>>,
    /// A line of this number that is asked about, and those behind it: they go on in their order. Never more than was read at once.
    stalled: VecDeque<(u64, Box<[u8]>)>,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// The present line is too long; the rest of it is passed over.
    skipping: bool,
    /// Lines that ended.
    line: u64,
    accepted: u64,
    /// Lines whose events are on their way into history.
    pending: u64,
    /// Of those the ones of several topics: events on their way, and what is wrong with one.
    several: Map<u64, (u32, Option<String>)>,
    rejected: u64,
    listed: Vec<serde_json::Value>,
}

impl Lines {
    /// At the start of a body.
    pub fn new(to: AnswerTo, remaining: Remaining) -> Lines {
        Lines {
            to,
            remaining,
            publisher: 0,
            who: None,
            stalled: VecDeque::new(),
            partial: Vec::new(),
            skipping: false,
            line: 0,
            accepted: 0,
            pending: 0,
            several: Map::default(),
            rejected: 0,
            listed: Vec::new(),
        }
    }

    /// Bytes that it holds of a line whose end has not come.
    pub fn bytes(&self) -> usize {
        self.partial.capacity()
            + self.stalled.iter().map(|(_, line)| line.len() + size_of::<(u64, Box<[u8]>)>()).sum::<usize>()
    }

    /// Lines that ended.
    pub fn ended(&self) -> u64 {
        self.line
    }

    /// Whether an event of it was taken.
    pub fn took_some(&self) -> bool {
        self.accepted + self.pending > 0
    }

    /// Takes a piece of the body; calls `each` with every line that ends in it.
    pub fn feed(&mut self, mut piece: &[u8], each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            piece = &rest[1..];
            if self.partial.is_empty() && !self.skipping {
                self.take(line, each);
            } else {
                self.extend(line);
                self.finish_partial(each);
            }
        }
        self.extend(piece);
    }

    /// The body ended: its last line needs no line end.
    pub fn finish(&mut self, each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>) {
        if !self.partial.is_empty() || self.skipping {
            self.finish_partial(each);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping || self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            self.skipping = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn finish_partial(&mut self, each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>) {
        if std::mem::take(&mut self.skipping) {
            self.line += 1;
            self.reject(self.line, format!("longer than {LINE_BYTES_MAX} bytes"));
        } else {
            let line = std::mem::take(&mut self.partial);
            self.take(&line, each);
        }
    }

    fn take(&mut self, line: &[u8], each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>) {
        self.line += 1;
        if line.len() > LINE_BYTES_MAX {
            return self.reject(self.line, format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        if line.trim_ascii().is_empty() {
            return;
        }
        if !self.stalled.is_empty() {
            return self.stalled.push_back((self.line, line.into()));
        }
        if !self.publish(self.line, line, each) {
            self.stalled.push_back((self.line, line.into()));
        }
    }

    /// Publishes a line. False if it is asked about.
    fn publish(
        &mut self,
        number: u64,
        line: &[u8],
        each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>,
    ) -> bool {
        match each(number, line) {
            Ok(Taken::Asks) => return false,
            Ok(Taken::Now) => self.accepted += 1,
            Ok(Taken::Later { events, failed }) => {
                self.pending += 1;
                if events > 1 || failed.is_some() {
                    self.several.insert(number, (events, failed));
                }
            }
            Err(detail) => self.reject(number, detail),
        }
        true
    }

    /// Whether lines wait for what the operator's server says of the first of them.
    pub fn has_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// That is known: calls `each` with that line, and with those behind it up to the next one that is asked about.
    pub fn go_on(&mut self, each: &mut impl FnMut(u64, &[u8]) -> Result<Taken, String>) {
        while let Some((number, line)) = self.stalled.pop_front() {
            if !self.publish(number, &line, each) {
                return self.stalled.push_front((number, line));
            }
        }
    }

    /// Lines whose events are on their way into history, and those that wait.
    pub fn pending(&self) -> u64 {
        self.pending + self.stalled.len() as u64
    }

    /// An event of a line is in history, or could not be put there.
    pub fn settle(&mut self, line: u64, mut result: Result<(), String>) {
        if let Some((left, failed)) = self.several.get_mut(&line) {
            *left -= 1;
            *failed = failed.take().or(result.err());
            if *left > 0 {
                return;
            }
            result = failed.take().map_or(Ok(()), Err);
            self.several.remove(&line);
        }
        self.pending -= 1;
        match result {
            Ok(()) => self.accepted += 1,
            Err(detail) => self.reject(line, detail),
        }
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.rejected += 1;
        if self.listed.len() < REJECTED_LISTED_MAX {
            self.listed.push(serde_json::json!({"line": line, "detail": detail}));
        }
    }

    /// The answer's body.
    pub fn answer(mut self) -> Vec<u8> {
        // Lines whose events went into history were settled later than those before and behind them.
        self.listed.sort_by_key(|rejected| rejected["line"].as_u64());
        let answer =
            serde_json::json!({"accepted": self.accepted, "rejected_total": self.rejected, "rejected": self.listed});
        answer.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, serde_json::Value) {
        let mut lines = Lines::new(AnswerTo::default(), Remaining::Known(0));
        let mut seen = Vec::new();
        let mut each = |_: u64, line: &[u8]| {
            if line.starts_with(b"bad") {
                return Err("bad".to_owned());
            }
            seen.push(line.to_vec());
            Ok(Taken::Now)
        };
        pieces.iter().for_each(|piece| lines.feed(piece, &mut each));
        lines.finish(&mut each);
        (seen, serde_json::from_slice(&lines.answer()).unwrap())
    }

    #[test]
    fn long_lines_are_passed_over_and_numbered() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let body = [b"a\n\nbad\n", &long[..], b"\n", &long[..], b"\nb"].concat();
        for cut in [0, 3, 9, LINE_BYTES_MAX, LINE_BYTES_MAX + 12, body.len()] {
            let (seen, answer) = run(&[&body[..cut], &body[cut..]]);
            assert_eq!(seen, [b"a", b"b"], "{cut}");
            assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&2.into(), &3.into()));
            let numbers: Vec<u64> =
                answer["rejected"].as_array().unwrap().iter().map(|r| r["line"].as_u64().unwrap()).collect();
            assert_eq!(numbers, [3, 4, 5]);
        }
    }

    #[test]
    fn only_the_first_rejected_are_listed() {
        let (_, answer) = run(&["bad\n".repeat(150).as_bytes()]);
        assert_eq!(answer["rejected_total"], 150);
        assert_eq!(answer["rejected"].as_array().unwrap().len(), 100);
    }

    proptest! {
        /// Lines that are asked about go on in their order, each once, whenever that is known; and nothing is forgotten for it.
        #[test]
        fn lines_that_are_asked_about_keep_their_order(asked in prop::collection::vec(any::<bool>(), 1..40), cuts in prop::collection::vec(1usize..9, 1..40)) {
            let body: String = (0..asked.len()).map(|number| format!("{number}\n")).collect();
            let mut lines = Lines::new(AnswerTo::default(), Remaining::Known(0));
            let (mut known, mut seen) = (vec![false; asked.len()], Vec::new());
            let mut rest = body.as_bytes();
            for cut in cuts.iter().cycle() {
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                rest = more;
                let mut each = |number: u64, line: &[u8]| {
                    let at = number as usize - 1;
                    if asked[at] && !known[at] {
                        return Ok(Taken::Asks);
                    }
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok(Taken::Now)
                };
                lines.feed(piece, &mut each);
                if lines.has_stalled() && (cut % 2 == 0 || rest.is_empty()) {
                    let first = (0..asked.len()).find(|at| asked[*at] && !known[*at]).unwrap();
                    known[first] = true;
                    let mut each = |number: u64, line: &[u8]| {
                        let at = number as usize - 1;
                        if asked[at] && !known[at] {
                            return Ok(Taken::Asks);
                        }
                        seen.push(String::from_utf8(line.to_vec()).unwrap());
                        Ok(Taken::Now)
                    };
                    lines.go_on(&mut each);
                } else if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, (0..asked.len()).map(|number| number.to_string()).collect::<Vec<_>>());
            prop_assert_eq!(lines.pending(), 0);
            let answer: serde_json::Value = serde_json::from_slice(&lines.answer()).unwrap();
            prop_assert_eq!(answer["accepted"].as_u64(), Some(asked.len() as u64));
        }

        #[test]
        fn cuts_do_not_matter(lines in prop::collection::vec("[a-z]{0,9}", 0..20), cut: prop::sample::Index) {
            let body = lines.join("\n");
            let cut = cut.index(body.len() + 1);
            let (seen, _) = run(&[&body.as_bytes()[..cut], &body.as_bytes()[cut..]]);
            let expected: Vec<_> = body.split('\n').filter(|l| !l.is_empty() && !l.starts_with("bad")).map(|l| l.as_bytes().to_vec()).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
