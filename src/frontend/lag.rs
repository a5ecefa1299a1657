//! What waits for streams whose clients do not keep up.

use crate::frontend::ending::Ended;
use crate::frontend::newest::Turn;
use crate::frontend::resume::Replaying;
use crate::ground::slots::TopicIndex;
use crate::queue::backlog::Backlog;
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;

/// A topic's newest values that a stream is yet to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Showing {
    /// The topic.
    pub topic: TopicIndex,
    /// It was given those up to here.
    pub at: Turn,
    /// What came behind this place comes to it live.
    pub until: Turn,
}

/// What a stream that lags has waiting.
#[derive(Debug)]
pub struct Lag {
    /// Bytes that must go first: the rest of a frame that was cut, or what was drained from the backlog.
    pub unsent: Vec<u8>,
    /// Of which so many are sent.
    pub sent: usize,
    /// What merges meanwhile.
    pub backlog: Backlog,
    /// The bytes that the shard's account has for it.
    pub held: Reservation,
    /// Its socket took less than it was given, and says when there is room again.
    pub is_full: bool,
    /// When the client last took something, in the shard's seconds.
    pub progress: u32,
    /// Topics of which it has not been given all newest values yet.
    pub showing: Vec<Showing>,
    /// What it missed and gets from history first.
    pub replay: Option<Box<Replaying>>,
    /// It holds pages of history that its client does not take, and is known for it.
    pub sated: bool,
    /// Its next page waits for memory, or for its turn.
    pub starves: bool,
    /// Since when no page of it found memory, in the shard's seconds.
    pub hungry_since: Option<u32>,
    /// It ends, for this reason, once `unsent` is through.
    pub ends: Option<Ended>,
}

impl Lag {
    /// That of a stream whose socket took no more and that has these bytes waiting, in this of the shard's seconds.
    pub fn new(unsent: Vec<u8>, progress: u32, account: &Account) -> Lag {
        Lag {
            unsent,
            sent: 0,
            backlog: Backlog::default(),
            held: account.open(Use::Streams),
            is_full: true,
            progress,
            ends: None,
            replay: None,
            showing: Vec::new(),
            sated: false,
            starves: false,
            hungry_since: None,
        }
    }

    /// Bytes that are held for it alone: pages of history may be others' as well, and count once for all.
    pub fn bytes(&self) -> usize {
        let asked = self.replay.as_ref().map_or(0, |replaying| replaying.replay.asked_bytes());
        self.unsent.capacity() + self.backlog.bytes() + asked
    }

    /// Bytes that wait for the client to read.
    pub fn pending(&self) -> usize {
        self.unsent.len() - self.sent + self.backlog.bytes()
    }

    /// Something will have it go on: its socket, or what is on its way to it here.
    pub fn goes_on(&self) -> bool {
        self.is_full || self.waits_for_us() || planted(Mistake::WritableMissed)
    }

    /// It is not the client who is late: what it missed is being read, or waits for memory.
    pub fn waits_for_us(&self) -> bool {
        self.unsent.is_empty() && (self.starves || self.replay.as_ref().is_some_and(|replaying| replaying.waits))
    }
}

/// All of a shard's, by slot.
#[derive(Debug, Default)]
pub struct Lags(Map<u32, Box<Lag>>);

impl Lags {
    /// How many streams lag.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, each with its slot, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Lag)> {
        self.0.iter().map(|(slot, lag)| (*slot, &**lag))
    }

    /// What waits for the stream of this slot, if it lags.
    pub fn get(&self, slot: u32) -> Option<&Lag> {
        self.0.get(&slot).map(Box::as_ref)
    }

    /// Same, to change it.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Lag> {
        self.0.get_mut(&slot).map(Box::as_mut)
    }

    /// Keeps what waits for a stream from now on, or again.
    pub fn insert(&mut self, slot: u32, lag: Box<Lag>) {
        self.0.insert(slot, lag);
    }

    /// Takes it out.
    pub fn remove(&mut self, slot: u32) -> Option<Box<Lag>> {
        self.0.remove(&slot)
    }
}
