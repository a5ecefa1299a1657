//! What frames say, and frames that some client of this thread has had already. Viewers of one topic get the same bytes in the
//! same order, so what follows a client's last frame is mostly found right by one comparison, and need not be read again. What
//! differs in a single byte takes the long way.
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use memchr::memmem;

use super::frames::{Broken, Stream};

/// Frames kept: more than a client falls behind while all is well.
const FRAMES_MAX: usize = 8192;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Connected,
    /// The server ends the stream and names the wait before the next, in ms.
    Bye(u64),
    Gap,
    /// An event of this run, or several that were merged.
    Event(Sample),
    /// An event that is none of this run.
    Other(Kind, u64),
    /// The likes of a video in all.
    Total(u64),
    /// A comment line, or a control event that asks for nothing.
    Nothing,
}

/// What an event of this run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub kind: Kind,
    /// Number of the newest event in it within its kind or topic, from 0.
    pub number: u64,
    /// When that event was due, in µs since the epoch.
    pub due_us: u64,
    /// Its topic's index; `None` when the frame does not say.
    pub topic: Option<u32>,
    /// Events in the frame: more than one when the server merged.
    pub count: u64,
    /// So many before it were left out by its type's pace.
    pub skipped: u64,
}

/// Kinds of events, as far as they are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Like,
    Comment,
    Message,
    Other,
}

/// Finds in frames what a run has put there.
pub trait Reader {
    fn read(&mut self, frame: &[u8]) -> Said;
}

/// What a frame says that is none of the run's events.
pub fn control(frame: &[u8]) -> Said {
    match line(frame, b"event: ") {
        Some(b"connected") => Said::Connected,
        Some(b"gap") => Said::Gap,
        Some(b"bye") => Said::Bye(number_after(frame, b"\"retry_ms\":").unwrap_or(1_000)),
        _ => Said::Nothing,
    }
}

/// The rest of the line that begins so.
pub fn line<'a>(frame: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    frame.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(begin))
}

/// The number behind the first `name`.
pub fn number_after(frame: &[u8], name: &[u8]) -> Option<u64> {
    Some(number(&frame[memmem::find(frame, name)? + name.len()..])?.0)
}

/// The decimal number that the bytes begin with, and what follows it.
pub fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut length = 0;
    // Times have 16 digits: eight at once are three multiplications instead of eight.
    while let Some(Ok(eight)) = bytes.get(length..length + 8).map(<[u8; 8]>::try_from) {
        let Some(part) = eight_digits(u64::from_le_bytes(eight)) else {
            break;
        };
        value = value.checked_mul(100_000_000)?.checked_add(part)?;
        length += 8;
    }
    while let Some(byte) = bytes.get(length).filter(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        length += 1;
    }
    (length > 0).then(|| (value, &bytes[length..]))
}

/// The value of eight ASCII digits, the first of which is in the lowest byte; `None` if one is no digit.
fn eight_digits(bytes: u64) -> Option<u64> {
    let high_nibbles = bytes & 0xf0f0_f0f0_f0f0_f0f0;
    let past_nine = bytes.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if high_nibbles != 0x3030_3030_3030_3030 || past_nine != 0x3030_3030_3030_3030 {
        return None;
    }
    let digits = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let quads = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(quads.wrapping_mul(10_000).wrapping_add(quads >> 32) & 0xffff_ffff)
}

/// The frame that a client got last, if it is known; frames are counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Last(u64);

/// A frame as it was received.
#[derive(Debug)]
struct Frame {
    /// As it stood on the wire, and where in that the frame itself begins and ends.
    wire: Box<[u8]>,
    begins: usize,
    ends: usize,
    hash: u64,
    said: Said,
    /// The one that followed it where it was followed first.
    next: Last,
}

/// Reads frames, and keeps the newest.
#[derive(Debug)]
pub struct Known<R> {
    reader: R,
    /// Clients get frames alike, so keeping them pays.
    keeps: bool,
    first: u64,
    frames: VecDeque<Frame>,
    by_hash: HashMap<u64, Last, RandomState>,
    hashing: RandomState,
}

impl<R: Reader> Known<R> {
    /// Without frames. `keeps` says that many clients will get the same.
    pub fn new(reader: R, keeps: bool) -> Self {
        let hashing = RandomState::default();
        Self { reader, keeps, first: 1, frames: VecDeque::new(), by_hash: HashMap::default(), hashing }
    }

    /// Takes the next bytes of a client's stream, of which `last` came last; calls `on` with each frame and what it says.
    ///
    /// # Errors
    /// When the stream cannot be read on; frames before that were passed on.
    pub fn take(
        &mut self,
        stream: &mut Stream,
        mut bytes: &[u8],
        last: &mut Last,
        mut on: impl FnMut(&[u8], Said),
    ) -> Result<(), Broken> {
        if stream.at_frame() {
            while let Some(next) = self.get(*last).map(|frame| frame.next)
                && let Some(frame) = self.get(next)
                && let Some(rest) = bytes.strip_prefix(&*frame.wire)
            {
                on(&frame.wire[frame.begins..frame.ends], frame.said);
                (*last, bytes) = (next, rest);
            }
        }
        let chunked = stream.is_chunked();
        stream.push(bytes, &mut |frame| on(frame, self.read(frame, chunked, last)))
    }

    fn get(&self, Last(number): Last) -> Option<&Frame> {
        self.frames.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Reads a frame, unless it is known, and notes that it came after `last`.
    fn read(&mut self, bytes: &[u8], chunked: bool, last: &mut Last) -> Said {
        if !self.keeps {
            return self.reader.read(bytes);
        }
        let hash = self.hashing.hash_one(bytes);
        let found = self.by_hash.get(&hash).copied();
        let found =
            found.filter(|at| self.get(*at).is_some_and(|frame| &frame.wire[frame.begins..frame.ends] == bytes));
        let at = match found {
            Some(at) => at,
            None => match self.reader.read(bytes) {
                said @ (Said::Event(_) | Said::Other(..) | Said::Total(_)) => self.keep(bytes, chunked, hash, said),
                // These are each client's own.
                said => return said,
            },
        };
        let is_free = |before: &Frame| self.get(before.next).is_none();
        if self.get(*last).is_some_and(is_free) {
            let index = (last.0 - self.first) as usize;
            self.frames[index].next = at;
        }
        *last = at;
        self.get(at).map_or(Said::Nothing, |frame| frame.said)
    }

    fn keep(&mut self, bytes: &[u8], chunked: bool, hash: u64, said: Said) -> Last {
        if self.frames.len() == FRAMES_MAX
            && let Some(oldest) = self.frames.pop_front()
        {
            if self.by_hash.get(&oldest.hash) == Some(&Last(self.first)) {
                self.by_hash.remove(&oldest.hash);
            }
            self.first += 1;
        }
        let size = if chunked { format!("{:x}\r\n", bytes.len()) } else { String::new() };
        let end: &[u8] = if chunked { b"\r\n" } else { b"" };
        let (begins, ends) = (size.len(), size.len() + bytes.len());
        let wire = [size.as_bytes(), bytes, end].concat().into();
        let at = Last(self.first + self.frames.len() as u64);
        self.frames.push_back(Frame { wire, begins, ends, hash, said, next: Last::default() });
        self.by_hash.insert(hash, at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says the number behind `data: `, and counts how often it is asked.
    struct Counting(u64);

    impl Reader for &mut Counting {
        fn read(&mut self, frame: &[u8]) -> Said {
            self.0 += 1;
            Said::Total(number_after(frame, b"data: ").unwrap())
        }
    }

    fn wire(number: u64) -> String {
        format!("9\r\ndata: {number}\n\n\r\n")
    }

    #[test]
    fn what_one_client_got_is_not_read_again_for_others_whatever_its_order() {
        let mut counting = Counting(0);
        let mut known = Known::new(&mut counting, true);
        let mut take = |client: &mut (Stream, Last), text: &str| {
            let mut said = Vec::new();
            let on = |frame: &[u8], what| said.push((String::from_utf8(frame.to_vec()).unwrap(), what));
            known.take(&mut client.0, text.as_bytes(), &mut client.1, on).unwrap();
            let number = |(frame, what): (String, Said)| match what {
                Said::Total(number) if frame == format!("data: {number}\n\n") => number,
                other => panic!("{frame:?} says {other:?}"),
            };
            (said.into_iter().map(number).collect::<Vec<_>>(), known.reader.0)
        };
        let mut clients: [(Stream, Last); 3] = Default::default();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for client in &mut clients {
            take(client, head);
        }
        let [one, two, three] = &mut clients;
        let all: String = (3..7).map(wire).collect();
        assert_eq!(take(one, &all), (vec![3, 4, 5, 6], 4));
        assert_eq!(take(two, &all), (vec![3, 4, 5, 6], 4));
        // One frame is left out, one is cut by a read, and one nobody had.
        assert_eq!(take(three, &(wire(3) + &wire(5) + &wire(6)[..6])), (vec![3, 5], 4));
        assert_eq!(take(three, &(wire(6)[6..].to_owned() + &wire(7))), (vec![6, 7], 5));
        assert_eq!(take(one, &(wire(7) + &wire(8))), (vec![7, 8], 6));
        assert_eq!(take(two, &(wire(7) + &wire(9) + &wire(8))), (vec![7, 9, 8], 7));
    }

    #[test]
    fn the_oldest_frames_are_forgotten() {
        let mut counting = Counting(0);
        let mut known = Known::new(&mut counting, true);
        let mut stream = Stream::default();
        let mut last = Last::default();
        known.take(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n", &mut last, |_, _| {}).unwrap();
        let mut came = 0;
        for _ in 0..2 {
            for number in 0..FRAMES_MAX + 10 {
                let text = format!("data: {number}\n\n");
                let on = |_: &[u8], said| came += u64::from(said == Said::Total(number as u64));
                known.take(&mut stream, text.as_bytes(), &mut last, on).unwrap();
            }
        }
        assert_eq!((known.frames.len(), known.by_hash.len()), (FRAMES_MAX, FRAMES_MAX));
        assert_eq!((came, known.reader.0), (2 * (FRAMES_MAX as u64 + 10), 2 * (FRAMES_MAX as u64 + 10)));
    }

    #[test]
    fn numbers_of_every_length() {
        let mut value = 0u64;
        for digit in (1..=9).cycle().take(19) {
            value = value * 10 + digit;
            let text = format!("{value},x");
            assert_eq!(number(text.as_bytes()), Some((value, &b",x"[..])));
        }
        assert_eq!(number(b"18446744073709551615"), Some((u64::MAX, &b""[..])));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"1234567/"), Some((1_234_567, &b"/"[..])));
        assert_eq!(number(b"1234567:"), Some((1_234_567, &b":"[..])));
        assert_eq!(number(b"x"), None);
    }

    #[test]
    fn control_events_are_told_apart() {
        let said = |text: &str| control(text.as_bytes());
        assert_eq!(said("retry: 900\nid: eu:5-0\nevent: connected\ndata: {\"connection\":\"x\"}\n\n"), Said::Connected);
        assert_eq!(said("retry: 900\nevent: bye\ndata: {\"reason\":\"drain\",\"retry_ms\":900}\n\n"), Said::Bye(900));
        assert_eq!(said("event: gap\ndata: {\"topic\":\"live:42\",\"after\":null}\n\n"), Said::Gap);
        assert_eq!(said(": heartbeat\n\n"), Said::Nothing);
        assert_eq!(line(b"id: eu:5-1\ndata: {}\n\n", b"id: "), Some(&b"eu:5-1"[..]));
    }
}
