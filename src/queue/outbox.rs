//! What one shard has for one other node: a bounded queue that merges by class, from which batches are frozen, numbered
//! and sent, several at a time, each again unchanged until it is answered. No IO, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{
    BATCH_BYTES, BATCHES_IN_FLIGHT_MAX, NUMBERS_AHEAD_MAX, OUTBOX_BYTES, OUTBOX_KEYS_MAX, PEER_OUTBOX_BYTES,
};
use crate::queue::{Bounds, Drained, Pushed, Queue};
use crate::runtime::account::{Account, Reservation, Use};
use crate::wire::batch::Writer;
use crate::wire::connection_id::NodeId;
use crate::wire::event::Class;
use crate::wire::frame::Frame;
use crate::wire::pack::pack;

/// A batch as it is sent, however often.
#[derive(Debug)]
struct Frozen {
    first: u64,
    count: u32,
    /// Events that its frames stand for, by class.
    events: [u64; Class::ALL.len()],
    /// When the first of them began to wait, in Unix ms.
    since_ms: u64,
    bytes: Arc<Vec<u8>>,
    /// It was sent and has neither an answer nor failed.
    under_way: bool,
}

/// A batch to send.
#[derive(Debug)]
pub struct Sending {
    /// The number of its first frame, by which the answer names it.
    pub first: u64,
    /// Frames in it, if it is sent for the first time; 0 if again.
    pub fresh: u32,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// The frames of one shard for one node.
#[derive(Debug)]
pub struct Outbox {
    sender: NodeId,
    shard: u16,
    waiting: Queue,
    /// In order of their numbers.
    frozen: VecDeque<Frozen>,
    frozen_bytes: usize,
    /// How many bytes may wait, however much memory there is.
    bytes_max: usize,
    held: Reservation,
    /// The number of the next frame that is frozen.
    next: u64,
    /// When something was answered, or began to wait.
    progress: Instant,
    /// `ephemeral` frames that had waited too long, not yet told.
    expired: u64,
    /// Batches are compressed.
    packs: bool,
}

impl Outbox {
    /// An empty one, whose numbers begin with `first`: above all that this sender gave to the same node before.
    pub fn new(sender: NodeId, shard: u16, now: Instant, first: u64, account: &Account) -> Outbox {
        Outbox::bounded(sender, shard, now, first, OUTBOX_BYTES, account)
    }

    /// One for another data center: larger, since the way there may be gone for minutes, and compressed.
    pub fn to_peer(sender: NodeId, shard: u16, now: Instant, account: &Account) -> Outbox {
        Outbox { packs: true, ..Outbox::bounded(sender, shard, now, 0, PEER_OUTBOX_BYTES, account) }
    }

    fn bounded(sender: NodeId, shard: u16, now: Instant, first: u64, bytes_max: usize, account: &Account) -> Outbox {
        let bounds = Bounds { bytes: bytes_max, keys: OUTBOX_KEYS_MAX };
        Outbox {
            sender,
            shard,
            waiting: Queue::new(bounds),
            frozen: VecDeque::new(),
            frozen_bytes: 0,
            bytes_max,
            held: account.open(Use::Nodes),
            next: first,
            progress: now,
            expired: 0,
            packs: false,
        }
    }

    /// The number of the next frame that is frozen: all that were given are below.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The oldest number without an answer.
    fn floor(&self) -> u64 {
        self.frozen.front().map_or(self.next, |frozen| frozen.first)
    }

    /// Queues a frame. Of what finds no room the other node learns by what follows it, or when ends and newest values are
    /// compared.
    pub fn push(&mut self, frame: &Arc<Frame>, now: Instant, unix_ms: u64) -> Pushed {
        if self.is_empty() {
            self.progress = now;
        }
        self.waiting.limit(self.bytes_max.min(self.waiting.bytes().saturating_add(self.held.room())));
        let pushed = self.waiting.push(frame, u64::from(frame.count()), unix_ms);
        self.settle();
        pushed
    }

    /// Keeps the account true.
    fn settle(&mut self) {
        self.held.settle(self.waiting.held() + self.frozen_bytes);
    }

    /// The next batch to send: one that failed, or a new one.
    pub fn next_batch(&mut self, unix_ms: u64) -> Option<Sending> {
        if let Some(frozen) = self.frozen.iter_mut().find(|frozen| !frozen.under_way) {
            frozen.under_way = true;
            return Some(Sending { first: frozen.first, fresh: 0, bytes: Arc::clone(&frozen.bytes) });
        }
        let room = NUMBERS_AHEAD_MAX - (self.next - self.floor());
        if self.frozen.len() >= BATCHES_IN_FLIGHT_MAX || self.waiting.is_empty() || room == 0 {
            return None;
        }
        let since_ms = self.waiting.oldest_ms().unwrap_or(unix_ms);
        let (mut writer, mut events) = (Writer::default(), [0; Class::ALL.len()]);
        let Drained { expired, .. } = self.waiting.take_front(unix_ms, BATCH_BYTES, room, |frame, count| {
            writer.push(&frame.recounted(count));
            events[frame.class() as usize] += count;
        });
        self.expired += expired;
        let count = writer.count();
        if count == 0 {
            self.settle();
            return None;
        }
        let first = self.next;
        let bytes = writer.finish(self.sender, self.shard, first, self.floor());
        let bytes = Arc::new(if self.packs { pack(bytes) } else { bytes });
        self.next += u64::from(count);
        self.frozen_bytes += bytes.capacity();
        self.frozen.push_back(Frozen { first, count, events, since_ms, bytes: Arc::clone(&bytes), under_way: true });
        self.settle();
        Some(Sending { first, fresh: count, bytes })
    }

    /// The node has the batch that begins with this number.
    pub fn answered(&mut self, first: u64, now: Instant) {
        if self.forget(first).is_some() {
            self.progress = now;
        }
    }

    /// The batch that begins with this number will never be taken. Gives the events lost with it, by class.
    #[must_use = "what is lost is to be counted"]
    pub fn refused(&mut self, first: u64) -> [u64; Class::ALL.len()] {
        self.forget(first).map_or([0; Class::ALL.len()], |frozen| frozen.events)
    }

    fn forget(&mut self, first: u64) -> Option<Frozen> {
        let at = self.frozen.iter().position(|frozen| frozen.first == first)?;
        let forgotten = self.frozen.remove(at)?;
        self.frozen_bytes -= forgotten.bytes.capacity();
        self.settle();
        Some(forgotten)
    }

    /// Nobody knows what became of the batch that begins with this number: it is to be sent again.
    pub fn failed(&mut self, first: u64) {
        if let Some(frozen) = self.frozen.iter_mut().find(|frozen| frozen.first == first) {
            frozen.under_way = false;
        }
    }

    /// How long something has waited without any answer.
    pub fn stalled(&self, now: Instant) -> Duration {
        if self.is_empty() { Duration::ZERO } else { now.saturating_duration_since(self.progress) }
    }

    /// How long what is oldest has waited for an answer, in ms.
    pub fn lag_ms(&self, unix_ms: u64) -> u64 {
        let oldest = self.frozen.iter().map(|frozen| frozen.since_ms).min().or_else(|| self.waiting.oldest_ms());
        oldest.map_or(0, |oldest| unix_ms.saturating_sub(oldest))
    }

    /// Gives up all that waits. Gives the events lost with it, by class; some may have arrived.
    #[must_use = "what is lost is to be counted"]
    pub fn clear(&mut self, now: Instant) -> [u64; Class::ALL.len()] {
        let frozen = self.frozen.drain(..).map(|frozen| frozen.events);
        let waited = self.waiting.retain(|_| false);
        let events = frozen.fold(waited, |sum, more| std::array::from_fn(|at| sum[at] + more[at]));
        self.progress = now;
        self.frozen_bytes = 0;
        self.settle();
        events
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.frozen.is_empty() && self.waiting.is_empty()
    }

    /// Frames that wait or are under way.
    pub fn frames(&self) -> u64 {
        self.waiting.len() as u64 + self.frozen.iter().map(|frozen| u64::from(frozen.count)).sum::<u64>()
    }

    /// Batches that were sent and are not answered.
    pub fn under_way(&self) -> usize {
        self.frozen.iter().filter(|frozen| frozen.under_way).count()
    }

    /// `ephemeral` frames that expired since this was asked last.
    #[must_use = "what expired is to be counted"]
    pub fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::window::Windows;
    use crate::wire::batch::Batch;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SENDER: NodeId = NodeId(9);

    fn data(frame: &Frame) -> u64 {
        serde_json::from_str::<serde_json::Value>(frame.json()).unwrap()["data"].as_u64().unwrap()
    }

    /// The other end: sums of likes by key, comments by number.
    #[derive(Debug, Default)]
    struct Receiver {
        windows: Windows<NodeId>,
        sums: BTreeMap<String, u64>,
        comments: BTreeMap<u64, u64>,
    }

    impl Receiver {
        fn take(&mut self, bytes: &[u8], now: Instant) -> u64 {
            let batch = Batch::parse(bytes).unwrap();
            let header = batch.header;
            let window = self.windows.of(header.sender, header.shard, header.floor, now);
            for (number, frame) in batch.frames(|number| window.is_new(number)).unwrap() {
                window.see(number);
                if frame.class().adds_up() {
                    let key = String::from_utf8(frame.identity().to_vec()).unwrap();
                    *self.sums.entry(key).or_default() += u64::from(frame.count());
                } else {
                    *self.comments.entry(data(&frame)).or_default() += 1;
                }
            }
            header.first
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Like(u8),
        Comment,
        Send,
        Deliver(prop::sample::Index, bool),
        Answer(prop::sample::Index),
        Lose(prop::sample::Index),
        Fail(prop::sample::Index),
        New,
    }

    proptest! {
        /// Batches and answers get lost, come twice, come late and in any order; failures are declared whatever became of
        /// the batch: each comment arrives once, and likes add up.
        #[test]
        fn arrives_exactly_once(ops in prop::collection::vec(prop_oneof![
            6 => (0u8..3).prop_map(Op::Like),
            4 => Just(Op::Comment),
            5 => Just(Op::Send),
            5 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, twice)| Op::Deliver(at, twice)),
            3 => any::<prop::sample::Index>().prop_map(Op::Answer),
            2 => any::<prop::sample::Index>().prop_map(Op::Lose),
            3 => any::<prop::sample::Index>().prop_map(Op::Fail),
            1 => Just(Op::New),
        ], 1..300)) {
            let now = Instant::now();
            let account = Account::unbounded();
            let (unix_ms, mut outbox) = (1000, Outbox::new(SENDER, 1, now, 7, &account));
            let (mut network, mut answers, mut sent): (Vec<Arc<Vec<u8>>>, Vec<u64>, Vec<u64>) = Default::default();
            let (mut likes, mut comments, mut receiver) = (BTreeMap::<String, u64>::new(), 0, Receiver::default());
            for op in ops {
                match op {
                    Op::Like(key) => {
                        let like = frame("live:1", "like", Some(&key.to_string()), Class::Sum, "1");
                        *likes.entry(String::from_utf8(like.identity().to_vec()).unwrap()).or_default() += 1;
                        let pushed = outbox.push(&like, now, unix_ms);
                        prop_assert!(matches!(pushed, Pushed::Queued | Pushed::Merged));
                    }
                    Op::Comment => {
                        let comment = frame("live:1", "comment", None, Class::Every, &comments.to_string());
                        prop_assert_eq!(outbox.push(&comment, now, unix_ms), Pushed::Queued);
                        comments += 1;
                    }
                    Op::Send => if let Some(batch) = outbox.next_batch(unix_ms) {
                        network.push(batch.bytes);
                        sent.push(batch.first);
                    },
                    Op::Deliver(at, twice) if !network.is_empty() => {
                        let at = at.index(network.len());
                        let bytes = if twice { Arc::clone(&network[at]) } else { network.swap_remove(at) };
                        answers.push(receiver.take(&bytes, now));
                    }
                    Op::Answer(at) if !answers.is_empty() => outbox.answered(answers.swap_remove(at.index(answers.len())), now),
                    Op::Lose(at) if !network.is_empty() => { network.swap_remove(at.index(network.len())); }
                    Op::Fail(at) if !sent.is_empty() => outbox.failed(sent[at.index(sent.len())]),
                    // The node was thought dead while nothing waited, and came back.
                    Op::New if outbox.is_empty() => outbox = Outbox::new(SENDER, 1, now, outbox.next_number(), &account),
                    _ => {}
                }
                prop_assert!(outbox.under_way() <= BATCHES_IN_FLIGHT_MAX);
            }
            // From here on the network is kind, but for what is still in it.
            sent.iter().for_each(|first| outbox.failed(*first));
            while let Some(batch) = outbox.next_batch(unix_ms) {
                let first = receiver.take(&batch.bytes, now);
                outbox.answered(first, now);
            }
            network.iter().for_each(|bytes| { receiver.take(bytes, now); });
            prop_assert!(outbox.is_empty());
            drop(outbox);
            prop_assert_eq!(account.held(Use::Nodes), 0);
            prop_assert_eq!(&receiver.sums, &likes);
            prop_assert_eq!(receiver.comments, (0..comments).map(|number| (number, 1)).collect::<BTreeMap<_, _>>());
        }
    }

    #[test]
    fn a_sender_never_runs_further_ahead_than_the_window() {
        let now = Instant::now();
        let mut outbox = Outbox::new(SENDER, 0, now, 1, &Account::unbounded());
        let small = frame("live:1", "typing", None, Class::Ephemeral, "1");
        let (mut firsts, mut frames) = (Vec::new(), 0);
        loop {
            (0..2000).for_each(|_| assert_eq!(outbox.push(&small, now, 1), Pushed::Queued));
            let Some(batch) = outbox.next_batch(1) else { break };
            let header = Batch::parse(&batch.bytes).unwrap().header;
            frames += u64::from(header.count);
            // All but the first are answered, so the floor stays.
            match firsts.len() {
                0 => {}
                _ => outbox.answered(batch.first, now),
            }
            firsts.push(batch.first);
        }
        assert_eq!(frames, NUMBERS_AHEAD_MAX);
        outbox.answered(firsts[0], now);
        assert!(outbox.next_batch(1).is_some());
    }

    #[test]
    fn what_is_given_up_is_counted_with_what_merged() {
        let now = Instant::now();
        let mut outbox = Outbox::new(SENDER, 0, now, 1, &Account::unbounded());
        let like = frame("live:1", "like", None, Class::Sum, "1");
        assert_eq!(outbox.push(&like, now, 1), Pushed::Queued);
        let first = outbox.next_batch(1).unwrap().first;
        for number in 0..5 {
            assert_eq!(outbox.push(&like, now, 1), if number == 0 { Pushed::Queued } else { Pushed::Merged });
        }
        assert_eq!(outbox.stalled(now + Duration::from_secs(3)), Duration::from_secs(3));
        assert_eq!(outbox.lag_ms(5), 4);
        assert_eq!((outbox.frames(), outbox.clear(now)), (2, [6, 0, 0, 0]));
        assert_eq!(outbox.lag_ms(5), 0);
        outbox.answered(first, now);
        assert!(outbox.is_empty() && outbox.next_batch(1).is_none());
    }

    #[test]
    fn what_finds_no_memory_is_refused_and_what_merges_is_not() {
        let now = Instant::now();
        let account = Account::new([200_000; Use::ALL.len()]);
        let mut others = account.reserve(Use::Nodes, 100_000).unwrap();
        let mut outbox = Outbox::new(SENDER, 0, now, 1, &account);
        let large = frame("live:1", "comment", None, Class::Every, &format!("\"{}\"", "x".repeat(16_000)));
        let like = frame("live:1", "like", None, Class::Sum, "1");
        assert_eq!(outbox.push(&like, now, 1), Pushed::Queued);
        let fit = (0..50).filter(|_| outbox.push(&large, now, 1) == Pushed::Queued).count();
        assert!((4..=6).contains(&fit), "{fit}");
        assert_eq!(outbox.push(&like, now, 1), Pushed::Merged);
        let batch = outbox.next_batch(1).unwrap();
        assert!(account.held(Use::Nodes) >= 100_000 + batch.bytes.len());
        outbox.answered(batch.first, now);
        others.settle(0);
        assert_eq!(outbox.push(&large, now, 1), Pushed::Queued);
        let _ = outbox.clear(now);
        assert!(account.held(Use::Nodes) < 10_000, "only empty places");
    }

    #[test]
    fn full_of_comments_it_goes_on_once_there_is_room() {
        let now = Instant::now();
        let mut outbox = Outbox::new(SENDER, 0, now, 1, &Account::unbounded());
        let large = frame("live:1", "comment", None, Class::Every, &format!("\"{}\"", "x".repeat(16_000)));
        while outbox.push(&large, now, 1) == Pushed::Queued {}
        while let Some(batch) = outbox.next_batch(1) {
            outbox.answered(batch.first, now);
        }
        assert_eq!(outbox.push(&large, now, 1), Pushed::Queued, "its prev tells the receiver of the hole");
    }
}
