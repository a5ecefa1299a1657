//! A connection that sends requests: what was read and not understood yet, what was answered and not taken yet.

use crate::admission::Refusal;
use crate::ground::Reply;
use crate::ground::access::Access;
use crate::ground::lines::Lines;
use crate::limits::{BODY_BYTES_PER_SECOND_MIN, BODY_TIMEOUT, EVICT_AGE, HEAD_TIMEOUT, REQUEST_BYTES_MIN};
use crate::runtime::account::{Account, Full, Reservation, Use};
use crate::wire::chunked::Chunked;
use crate::wire::response::AnswerTo;
use crate::wire::sse::Framing;
use crate::wire::status::Status;

/// The state of a connection between requests, and within one.
#[derive(Debug, Default)]
pub struct Http {
    /// Bytes read that belong to requests not complete yet, or not yet to be answered.
    pub input: Vec<u8>,
    /// Of which so many were searched for the end of a head.
    pub scanned: usize,
    /// Bytes of the request at the start of `input`, once its head is known.
    pub need: usize,
    /// The bytes that the shard's account has for it; none while they are few.
    pub reserved: Option<Reservation>,
    /// Answers that the kernel has not taken.
    pub output: Vec<u8>,
    /// Of which so many are sent.
    pub sent: usize,
    /// What the bytes that come next are.
    pub body: Body,
    /// An answer is due that comes from elsewhere; later requests wait, since answers come in order.
    pub awaiting: Option<AnswerTo>,
    /// That answer is a stream of snapshots, delimited so. It never ends by itself, and whoever takes nothing is cut.
    pub goes_on: Option<Framing>,
    /// The id of the request that it is for, or whose body is on its way in, if it has one.
    pub request_id: Option<Box<str>>,
    /// A request ended since the last read: what follows it begins another, with a time of its own to arrive.
    pub ended_one: bool,
    /// The client was told to go on with its body.
    pub continued: bool,
    /// Answer, then close.
    pub closing: bool,
    /// The answer is out and our side is shut; what still comes is thrown away, so that the answer is not lost to a reset
    /// (RFC 9112 section 9.6).
    pub lingering: bool,
    /// The client will send nothing more.
    pub ended: bool,
    /// Reading stopped for want of room, or of a turn: there may be more in the socket.
    pub unread: bool,
    /// Too many answers wait: requests in `input`, or in the socket, are to be served once the kernel took them.
    pub held: bool,
    /// A request was served.
    pub served: bool,
    /// It came in by the internal listener.
    pub internal: bool,
    /// It is not let in, and its first request is told so.
    pub refused: Option<Refusal>,
    /// When the body, or the line, that is on its way in began, in the shard's seconds, and what came of it.
    body_began: Option<(u32, u64)>,
    /// Lines that had ended then.
    body_lines: u64,
}

/// What the bytes that come next are.
#[derive(Debug, Default)]
pub enum Body {
    /// A head, and a body of known length that is answered as a whole.
    #[default]
    Whole,
    /// A chunked body, collected.
    Chunked {
        /// The head it belongs to.
        head: Vec<u8>,
        /// Finds the chunks.
        decoder: Chunked,
        /// What came so far.
        body: Vec<u8>,
    },
    /// A body of lines, taken one by one as they come, and what it may do.
    Lines(Box<Lines>, Access),
    /// All of its lines came; some of their events are on their way into history, or waited about.
    LinesEnding(Box<Lines>, Access),
    /// A whole request, about which the operator's server is asked.
    Parked(Box<Parked>),
}

/// A request that is to be served once more.
#[derive(Debug)]
pub struct Parked {
    /// Its head.
    pub head: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Http {
    /// A fresh connection's.
    pub fn new(internal: bool) -> Http {
        Http { internal, ..Http::default() }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let body = match &self.body {
            Body::Chunked { head, body, .. } => head.capacity() + body.capacity(),
            Body::Lines(lines, _) | Body::LinesEnding(lines, _) => lines.bytes(),
            Body::Parked(parked) => parked.head.capacity() + parked.body.capacity(),
            Body::Whole => 0,
        };
        self.input.capacity() + self.output.capacity() + body
    }

    /// Reserves what it holds.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn reserve(&mut self, account: &Account) -> Result<(), Full> {
        let bytes = self.bytes();
        if bytes < REQUEST_BYTES_MIN {
            self.reserved = None;
            return Ok(());
        }
        self.reserved.get_or_insert_with(|| account.open(Use::Requests)).resize(bytes)
    }

    /// What became of a line of its body is known. Gives the answer to the whole of it, if that was the last to be waited for.
    pub fn settle_line(&mut self, line: u64, result: Result<(), String>) -> Option<Reply> {
        match &mut self.body {
            Body::Lines(lines, _) => lines.settle(line, result),
            Body::LinesEnding(lines, _) => {
                lines.settle(line, result);
                if lines.pending() == 0
                    && let Body::LinesEnding(lines, _) = std::mem::take(&mut self.body)
                {
                    return Some(Reply::Answer(Status::Accepted, lines.answer()));
                }
            }
            Body::Whole | Body::Chunked { .. } | Body::Parked(_) => {}
        }
        None
    }

    /// Whether lines of its body wait, for what the operator's server says of the first of them.
    pub fn has_stalled(&self) -> bool {
        matches!(&self.body, Body::Lines(lines, _) if lines.has_stalled())
    }

    /// Whether answers wait for the client to read.
    pub fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    /// When a body is late, in the shard's seconds like `now`, given how much came in the last reading: without progress for
    /// [`BODY_TIMEOUT`], or with too little of it. A body of lines may take any time, each of its lines may not.
    pub fn body_due(&mut self, now: u32, received: usize) -> u32 {
        let lines = match &self.body {
            Body::Lines(lines, _) => lines.ended(),
            _ => 0,
        };
        if std::mem::take(&mut self.ended_one) || self.body_lines != lines {
            self.body_began = None;
        }
        self.body_lines = lines;
        let (began, bytes) = self.body_began.get_or_insert((now, 0));
        *bytes += received as u64;
        let timeout = BODY_TIMEOUT.as_secs() as u32;
        let granted = u32::try_from(*bytes / BODY_BYTES_PER_SECOND_MIN).unwrap_or(u32::MAX / 2);
        (now + timeout).min(began.saturating_add(timeout).saturating_add(granted))
    }

    /// Whether a body is on its way in, and so slowly that its place on a full node may be another's.
    pub fn has_slow_body(&self, now: u32) -> bool {
        let Some((began, bytes)) = self.body_began.filter(|_| self.needs_body()) else { return false };
        let patience = match &self.body {
            // Who publishes line by line may pause between two.
            Body::Lines(lines, _) if lines.took_some() => HEAD_TIMEOUT,
            _ => EVICT_AGE,
        };
        let age = u64::from(now.saturating_sub(began));
        age >= patience.as_secs() && bytes < age * BODY_BYTES_PER_SECOND_MIN
    }

    /// Whether an answer that goes on waits for its client.
    pub fn holds_up(&self) -> bool {
        self.goes_on.is_some() && self.has_output()
    }

    /// Whether a body is on its way in.
    pub fn needs_body(&self) -> bool {
        self.need > 0 || !matches!(self.body, Body::Whole)
    }

    /// Whether it is between two requests, with nothing of the next one.
    pub fn is_idle(&self) -> bool {
        self.input.is_empty() && self.awaiting.is_none() && matches!(self.body, Body::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::lines::{Remaining, Taken};

    #[test]
    fn a_body_of_single_bytes_has_an_end_and_a_steady_one_has_none() {
        let mut slow = Http { need: 1000, ..Http::default() };
        let due: Vec<u32> = (0..4).map(|turn| slow.body_due(100 + turn * 10, 1)).collect();
        assert_eq!(due, [130; 4]);
        let mut steady = Http { need: 1_000_000, ..Http::default() };
        for second in 0..600 {
            assert_eq!(steady.body_due(second, 600), second + 30, "{second}");
        }
        // The next body has a time of its own.
        slow.ended_one = true;
        assert_eq!(slow.body_due(500, 1), 530);
    }

    #[test]
    fn a_slow_body_gives_its_place_away_and_a_steady_one_or_none_does_not() {
        let mut http = Http { need: 1000, ..Http::default() };
        http.body_due(100, 200);
        assert!(!http.has_slow_body(100), "it just came");
        assert!(http.has_slow_body(101));
        http.body_due(101, 2000);
        assert!(!http.has_slow_body(102));
        assert!(http.has_slow_body(110));
        http.need = 0;
        assert!(!http.has_slow_body(110), "it is complete");
        let mut lines = Lines::new(AnswerTo::default(), Remaining::Known(1000));
        lines.feed(b"{}\n", &mut |_, _| Ok(Taken::Now));
        http.body = Body::Lines(Box::new(lines), Access::Open);
        http.body_due(200, 3);
        assert!(!http.has_slow_body(209), "between two lines");
        assert!(http.has_slow_body(210));
    }
}
