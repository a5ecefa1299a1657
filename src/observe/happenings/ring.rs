//! A ring of records that one thread at a time writes and any reads meanwhile. Nobody waits: a reader does without the record
//! that is just being written. Nothing is allocated once it is there.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::limits::HAPPENING_BYTES;

/// Words of a record: how often its place was written, when it happened, what it is and how long its text, and that.
const WORDS: usize = HAPPENING_BYTES / 8;
const HEAD: usize = 3;
/// Bytes of a record's text.
pub const TEXT_BYTES: usize = 8 * (WORDS - HEAD);

/// A text of bounded length, which ends in `…` where there was more to say.
#[derive(Clone)]
pub struct Line {
    bytes: [u8; TEXT_BYTES],
    length: usize,
    is_cut: bool,
}

const CUT: &str = "…";

impl Line {
    /// With nothing in it.
    pub const fn new() -> Line {
        Line { bytes: [0; TEXT_BYTES], length: 0, is_cut: false }
    }

    /// That says this.
    pub fn of(what: impl fmt::Display) -> Line {
        let mut line = Line::new();
        let _ = write!(line, "{what}");
        line
    }

    /// What it says.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    fn push(&mut self, text: &str) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES - CUT.len() - self.length.min(TEXT_BYTES - CUT.len());
        if text.len() <= room {
            self.push(text);
        } else if !self.is_cut {
            let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            self.push(&text[..end]);
            self.push(CUT);
            self.is_cut = true;
        }
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// What one says, but for its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// When, in Unix ms.
    pub at: u64,
    /// The number of its kind.
    pub kind: u8,
    /// The shard.
    pub shard: u16,
}

#[derive(Debug)]
struct Record([AtomicU64; WORDS]);

/// See the [module](self).
#[derive(Debug)]
pub struct Ring {
    records: Box<[Record]>,
    /// How many were ever written.
    written: AtomicU64,
}

impl Ring {
    /// With room for so many.
    pub fn new(records: usize) -> Ring {
        let record = |_| Record([const { AtomicU64::new(0) }; WORDS]);
        Ring { records: (0..records).map(record).collect(), written: AtomicU64::new(0) }
    }

    /// How many were ever written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Writes one in the place of the oldest. By one thread at a time.
    pub fn write(&self, head: Head, line: &Line) {
        let number = self.written.load(Ordering::Relaxed);
        let Record(words) = &self.records[(number % self.records.len() as u64) as usize];
        // An odd number says that it is being written.
        words[0].store(2 * number + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        words[1].store(head.at, Ordering::Relaxed);
        let length = line.length as u64;
        words[2].store(u64::from(head.kind) | u64::from(head.shard) << 8 | length << 32, Ordering::Relaxed);
        for (word, bytes) in words[HEAD..].iter().zip(line.bytes.chunks(8)).take(line.length.div_ceil(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().expect("a text is of whole words")), Ordering::Relaxed);
        }
        words[0].store(2 * number + 2, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// The one of this number, from 0; `None` if it is not there any more, or not yet.
    pub fn read(&self, number: u64) -> Option<(Head, Line)> {
        let Record(words) = &self.records[(number % self.records.len() as u64) as usize];
        if words[0].load(Ordering::Acquire) != 2 * number + 2 {
            return None;
        }
        let (at, what) = (words[1].load(Ordering::Relaxed), words[2].load(Ordering::Relaxed));
        let mut line = Line::new();
        line.length = ((what >> 32) as usize).min(TEXT_BYTES);
        for (word, bytes) in words[HEAD..].iter().zip(line.bytes.chunks_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        fence(Ordering::Acquire);
        let is_whole = words[0].load(Ordering::Relaxed) == 2 * number + 2;
        is_whole.then_some((Head { at, kind: what as u8, shard: (what >> 8) as u16 }, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let ring = Ring::new(4);
        assert!(ring.read(0).is_none());
        for at in 0..6 {
            ring.write(Head { at, kind: 7, shard: 900 }, &Line::of(format_args!("number {at}")));
        }
        assert_eq!(ring.written(), 6);
        assert!(ring.read(1).is_none() && ring.read(6).is_none());
        let (head, line) = ring.read(5).unwrap();
        assert_eq!((head, line.text()), (Head { at: 5, kind: 7, shard: 900 }, "number 5"));
        assert_eq!(ring.read(2).unwrap().1.text(), "number 2");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_letters() {
        for before in 0..4 {
            let text = "x".repeat(before) + &"é".repeat(TEXT_BYTES);
            let line = Line::of(format_args!("{text}{}", "never there"));
            assert!(line.text().ends_with("é…") && line.text().len() >= TEXT_BYTES - 1, "{}", line.text());
        }
        let full = "x".repeat(TEXT_BYTES - 3);
        assert_eq!(Line::of(&full).text(), full);
        assert!(Line::of(format_args!("{full}é")).text().ends_with("x…"));
    }

    #[test]
    fn who_reads_while_it_is_written_sees_whole_records() {
        const WRITTEN: u64 = 20_000;
        let ring = Ring::new(8);
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| {
                scope.spawn(|| {
                    while ring.written() < WRITTEN {
                        let number = ring.written().saturating_sub(1);
                        let Some((head, line)) = ring.read(number) else { continue };
                        let is_of_one = line.text().bytes().all(|byte| u64::from(byte - b'a') == head.at % 26);
                        assert!(head.at == number && is_of_one, "{head:?} {}", line.text());
                    }
                })
            });
            for at in 0..WRITTEN {
                let letter = char::from(b'a' + (at % 26) as u8);
                ring.write(Head { at, kind: 0, shard: 0 }, &Line::of(String::from(letter).repeat(at as usize % 200)));
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}
