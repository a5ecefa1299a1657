//! A link: one kept-alive connection to another node, on which several calls may wait for their answers, in order. What
//! it knows and decides; [`links`](crate::ground::links) does the IO.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ground::handover::Handed;
use crate::ground::peers::{Sent, Told};
use crate::ground::slots::Conn;
use crate::ground::tls::Tls;
use crate::kv::Request as Question;
use crate::limits::{LINK_BACKOFF, LINK_BACKOFF_MAX, LINK_CALLS_MAX, LINK_READ_BURST, LINK_SLOW, TROUBLE_LOGGED};
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::net::{Net, Socket};
use crate::wire::connection_id::NodeId;
use crate::wire::reply::Replies;
use crate::wire::topic::Topic;

/// Another node, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The node of this name: another one at its address refuses.
    Node(NodeId),
    /// Whoever answers at an address of the setting `dispatchers`.
    Dispatcher(SocketAddr),
    /// Whoever answers for another data center.
    Peer {
        /// Which one, in the order of the settings.
        peer: usize,
        /// At which of its URLs.
        url: usize,
    },
}

/// What a link is for. Each has a connection of its own, so that what is slow, such as a key-value store, holds nothing
/// else up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Batches of frames.
    Frames,
    /// Questions to the key-value store.
    Questions,
    /// Events to publish.
    Events,
    /// Changes to streams.
    Changes,
    /// Events of class `every` for a peer's history.
    History,
    /// What peers tell each other again and again.
    Hello,
    /// Topics whose totals of likes a backend is to tell.
    Totals,
    /// How a node is, for those who watch this one.
    Glances,
}

impl Lane {
    /// As `/v1/node` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Frames => "frames",
            Lane::Questions => "questions",
            Lane::Events => "events",
            Lane::Changes => "changes",
            Lane::History => "history",
            Lane::Hello => "hello",
            Lane::Totals => "totals",
            Lane::Glances => "glances",
        }
    }
}

/// Which link.
pub type LinkKey = (Destination, Lane);

/// What a call was made for, and so what its answer is for.
#[derive(Debug)]
pub enum Called {
    /// The batch of the outbox of `node` that begins with `first`.
    Frames {
        /// Whose outbox.
        node: NodeId,
        /// The number of the batch's first frame.
        first: u64,
    },
    /// Questions to the key-value store, by their tickets.
    Questions(Vec<u64>),
    /// Events that a dispatcher is to publish.
    Events(Vec<Handed>),
    /// A change to a stream that another node holds; its answer is for this request.
    Change(Conn),
    /// A batch of the outbox of a peer.
    PeerFrames {
        /// The peer.
        peer: usize,
        /// The number of the batch's first frame.
        first: u64,
    },
    /// A page of a peer's queue.
    PeerPage(Sent),
    /// That this data center lives.
    Hello(Told),
    /// Who watches a topic on another node; a part of the answer to this request.
    Members(Conn),
    /// Who watches a topic, as a dispatcher answers this request.
    MembersRelayed(Conn),
    /// Topics whose totals of likes a backend is to tell.
    Totals(Vec<Topic>),
    /// News for hooks.
    HookNews,
    /// How this node is.
    Glance(NodeId),
}

/// A request to another node. Always a POST.
#[derive(Debug)]
pub struct Call {
    /// The path.
    pub path: &'static str,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Arc<Vec<u8>>,
    /// Until when an answer counts.
    pub deadline: Instant,
    /// What it is for.
    pub what: Called,
}

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// An answer.
    Answer(u16, Vec<u8>),
    /// The other node surely did nothing with it.
    NotTaken,
    /// Nobody knows what the other node did with it.
    Unknown,
}

/// How reading from a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// There is nothing more for now.
    Emptied,
    /// There may be more: others have their turn first.
    More,
    /// The connection ended.
    Ended,
}

/// A call without an answer.
#[derive(Debug)]
pub struct Pending {
    /// What it is for.
    pub what: Called,
    /// When it was made.
    pub since: Instant,
    /// Until when an answer counts.
    pub deadline: Instant,
    /// The bytes of this connection before its first one.
    pub begins: u64,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no connection; the next call makes one.
    Idle,
    /// The connection is being made, until then.
    Connecting(Instant),
    /// Calls go out at once.
    Open,
    /// It failed, and takes no calls until then.
    Resting(Instant),
}

impl State {
    /// As `/v1/node` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Connecting(_) => "connecting",
            State::Open => "open",
            State::Resting(_) => "resting",
        }
    }
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Which one.
    pub key: LinkKey,
    /// Where it stands.
    pub state: State,
    /// Its connection, while it has one.
    pub conn: Option<Conn>,
    /// Bytes that the kernel has not taken: heads, and bodies that others share.
    pub output: VecDeque<Arc<Vec<u8>>>,
    /// Of the first of which so many are sent.
    pub sent: usize,
    /// Bytes that the kernel took on this connection.
    pub written: u64,
    /// Bytes that were queued on this connection.
    queued: u64,
    /// Calls without an answer, in order.
    pub pending: VecDeque<Pending>,
    /// Read, and not understood yet.
    pub input: Vec<u8>,
    /// Finds answers in it.
    pub replies: Replies,
    /// Failures since the last answer.
    pub failures: u32,
    /// Failures since the start.
    pub failures_total: u64,
    /// The last call, or answer.
    pub used: Instant,
    /// Where it speaks TLS.
    pub tls: Option<Tls>,
    /// What it holds that nobody else counts.
    held: Reservation,
    /// Why it failed, as the log said since the last answer; a few reasons at most.
    told: Vec<(String, Instant)>,
}

impl Link {
    /// One without a connection.
    pub fn new(key: LinkKey, now: Instant, account: &Account) -> Link {
        Link {
            key,
            state: State::Idle,
            conn: None,
            output: VecDeque::new(),
            sent: 0,
            written: 0,
            queued: 0,
            pending: VecDeque::new(),
            input: Vec::new(),
            replies: Replies::default(),
            failures: 0,
            failures_total: 0,
            used: now,
            tls: None,
            held: account.open(Use::Nodes),
            told: Vec::new(),
        }
    }

    /// Whether it takes a call now.
    pub fn takes_calls(&self, now: Instant) -> bool {
        let rests = matches!(self.state, State::Resting(until) if now < until);
        !rests && self.pending.len() < LINK_CALLS_MAX
    }

    /// Whether it keeps callers waiting.
    pub fn is_slow(&self, now: Instant) -> bool {
        self.unanswered(now) >= LINK_SLOW
    }

    /// For how long the oldest call has had no answer.
    pub fn unanswered(&self, now: Instant) -> Duration {
        self.pending.front().map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest.since))
    }

    /// Queues a call whose head is `head`.
    pub fn push(&mut self, head: Vec<u8>, call: Call, now: Instant) {
        self.pending.push_back(Pending { what: call.what, since: now, deadline: call.deadline, begins: self.queued });
        self.queued += (head.len() + call.body.len()) as u64;
        self.output.push_back(Arc::new(head));
        if !call.body.is_empty() {
            self.output.push_back(call.body);
        }
        self.used = now;
    }

    /// The kernel took so many bytes of the first piece of output.
    pub fn took(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.sent += bytes;
        if self.output.front().is_some_and(|piece| piece.len() == self.sent) {
            self.output.pop_front();
            self.sent = 0;
        }
    }

    /// Sends what the kernel takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, net: &mut Net, socket: &Socket) -> io::Result<()> {
        let Some(mut tls) = self.tls.take() else { return self.flush_plain(net, socket) };
        let flushed = self.flush_tls(&mut tls, net, socket);
        self.tls = Some(tls);
        flushed
    }

    fn flush_plain(&mut self, net: &mut Net, socket: &Socket) -> io::Result<()> {
        while let Some(piece) = self.output.front() {
            match net.send_before(socket, &piece[self.sent..], self.output.len() > 1)? {
                0 => break,
                taken => self.took(taken),
            }
        }
        Ok(())
    }

    fn flush_tls(&mut self, tls: &mut Tls, net: &mut Net, socket: &Socket) -> io::Result<()> {
        loop {
            let mut took = false;
            while let Some(piece) = self.output.front() {
                let taken = tls.take(&piece[self.sent..])?;
                if taken == 0 {
                    break;
                }
                // What TLS has may have been sent: nobody knows any more whether the other node did nothing with it.
                self.took(taken);
                took = true;
            }
            if !tls.send(net, socket)? || !took {
                return Ok(());
            }
        }
    }

    /// Reads what there is, in pieces of the buffer's size, as many as one turn may.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn fill(&mut self, net: &mut Net, socket: &Socket, buffer: &mut [u8]) -> io::Result<Filled> {
        if let Some(mut tls) = self.tls.take() {
            // A handshake goes on by what is sent next.
            let ended = tls.receive(net, socket, &mut self.input).and_then(|ended| {
                self.flush_tls(&mut tls, net, socket)?;
                Ok(ended)
            });
            self.tls = Some(tls);
            return ended;
        }
        for _ in 0..LINK_READ_BURST {
            match net.recv(socket, buffer)? {
                Some(0) => return Ok(Filled::Ended),
                Some(count) => self.input.extend_from_slice(&buffer[..count]),
                None => return Ok(Filled::Emptied),
            }
        }
        Ok(Filled::More)
    }

    /// Bytes that wait for the kernel.
    pub fn waiting_bytes(&self) -> u64 {
        self.queued - self.written
    }

    /// Keeps the account true: bodies that an outbox sends again if need be are counted there. What a link holds is bounded by
    /// its calls.
    pub fn settle(&mut self) {
        let own = self.output.iter().filter(|piece| Arc::strong_count(piece) == 1);
        self.held.settle(self.input.capacity() + own.map(|piece| piece.capacity()).sum::<usize>());
    }

    /// Whether a call is overdue.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.pending.iter().any(|pending| pending.deadline <= now)
            || matches!(self.state, State::Connecting(until) if until <= now)
    }

    /// The connection is gone. Gives the calls that it had, each with what came of it: those of which no byte was sent
    /// were surely not taken, and none was if the other node said that it heard none of them.
    pub fn reset(&mut self, state: State, heard_none: bool) -> Vec<(Called, Outcome)> {
        let written = std::mem::take(&mut self.written);
        self.state = state;
        self.conn = None;
        self.tls = None;
        self.output.clear();
        self.sent = 0;
        self.queued = 0;
        self.input = Vec::new();
        self.replies = Replies::default();
        let fate = |pending: Pending| {
            let surely = heard_none || pending.begins >= written;
            (pending.what, if surely { Outcome::NotTaken } else { Outcome::Unknown })
        };
        self.pending.drain(..).map(fate).collect()
    }

    /// Whether the log is to say why it failed: each reason once, since the first may hide what is really wrong, and once a minute
    /// where it works in between.
    pub fn is_news(&mut self, why: &str, now: Instant) -> bool {
        if self.failures == 1 {
            self.told.retain(|(_, at)| now.saturating_duration_since(*at) < TROUBLE_LOGGED);
        }
        let is_news = self.told.len() < 4 && self.told.iter().all(|(told, _)| told != why);
        if is_news {
            self.told.push((why.to_owned(), now));
        }
        is_news
    }

    /// How long it rests after its latest failure. `jitter` is any number: 50 to 100 % of the time, so that not all come
    /// back at once.
    pub fn rest(&mut self, jitter: u64) -> Duration {
        let longest = LINK_BACKOFF_MAX.min(LINK_BACKOFF * 2u32.pow(self.failures.min(10)));
        self.failures += 1;
        self.failures_total += 1;
        longest / 2 + longest.mul_f64((jitter % 1024) as f64 / 2048.0)
    }
}

/// Whether a question may be asked again although nobody knows what became of it.
pub fn may_repeat(question: &Question) -> bool {
    !matches!(question, Question::Append(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &[u8], ticket: u64, now: Instant) -> Call {
        let what = Called::Questions(vec![ticket]);
        Call { path: "/", content_type: "", body: Arc::new(body.to_vec()), deadline: now, what }
    }

    fn link(now: Instant) -> Link {
        let mut link = Link::new((Destination::Node(NodeId(1)), Lane::Frames), now, &Account::unbounded());
        for (ticket, body) in [(1, &b"12345"[..]), (2, b""), (3, b"123")] {
            link.push(b"head".to_vec(), call(body, ticket, now), now);
        }
        link
    }

    /// What became of each call once `taken` bytes were sent and the connection broke.
    fn fates(taken: usize, heard_none: bool) -> Vec<bool> {
        let now = Instant::now();
        let mut link = link(now);
        let mut left = taken;
        while left > 0 {
            let piece = (link.output[0].len() - link.sent).min(left);
            link.took(piece);
            left -= piece;
        }
        assert_eq!(link.waiting_bytes(), 20 - taken as u64);
        let fates = link.reset(State::Idle, heard_none);
        assert!(link.pending.is_empty() && link.output.is_empty() && link.waiting_bytes() == 0);
        let tickets: Vec<_> = fates.iter().map(|(what, _)| format!("{what:?}")).collect();
        assert_eq!(tickets, ["Questions([1])", "Questions([2])", "Questions([3])"]);
        fates.iter().map(|(_, outcome)| matches!(outcome, Outcome::NotTaken)).collect()
    }

    #[test]
    fn a_link_that_fails_by_turns_fills_the_log() {
        let now = Instant::now();
        let mut link = link(now);
        let mut heard = |seconds| {
            link.failures = 0;
            link.rest(0);
            link.is_news("refused", now + Duration::from_secs(seconds))
        };
        assert_eq!([heard(0), heard(1), heard(59), heard(60), heard(61)], [true, false, false, true, false]);
    }

    #[test]
    fn what_was_sent_in_part_has_an_unknown_fate() {
        assert_eq!(fates(0, false), [true, true, true]);
        assert_eq!(fates(1, false), [false, true, true]);
        assert_eq!(fates(9, false), [false, true, true]);
        assert_eq!(fates(10, false), [false, false, true]);
        assert_eq!(fates(20, false), [false, false, false]);
        assert_eq!(fates(20, true), [true, true, true]);
    }

    #[test]
    fn rests_longer_each_time_and_not_forever() {
        let now = Instant::now();
        let mut link = link(now);
        let rests: Vec<Duration> = (0..40).map(|_| link.rest(u64::MAX)).collect();
        assert!(rests.is_sorted() && rests[0] <= LINK_BACKOFF && rests[39] <= LINK_BACKOFF_MAX, "{rests:?}");
        assert!(rests[39] > LINK_BACKOFF_MAX / 2);
        link.state = State::Resting(now + Duration::from_secs(1));
        assert!(!link.takes_calls(now) && link.takes_calls(now + Duration::from_secs(1)));
    }
}
