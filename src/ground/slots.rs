//! A shard's connections. An idle stream is one slot of 56 bytes and its places in the topics' tables: no buffer, no
//! timer, no task.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

use crate::ground::Ground;
use crate::ground::http_connection::Http;
use crate::ground::rights::StreamRights;
use crate::runtime::net::Socket;
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::sse::Framing;

/// The place of a topic in a shard's table.
pub type TopicIndex = u32;

impl Ground {
    /// Sets when the sweep looks at a connection.
    pub(crate) fn set_due(&mut self, conn: Conn, seconds: u32) {
        let due = self.clock.seconds() + seconds;
        if let Some(slot) = self.slots.get_mut(conn) {
            slot.due = due;
        }
    }

    /// Takes a connection's request state out of its slot while requests are served, which may need all of the ground.
    pub(crate) fn take_http(&mut self, conn: Conn) -> Option<Box<Http>> {
        let slot = self.slots.get_mut(conn)?;
        match std::mem::take(&mut slot.kind) {
            Kind::Http(http) => Some(http),
            other => {
                slot.kind = other;
                None
            }
        }
    }

    /// Reserves what a connection holds. False if there is no room for it: then it ends, so that others' requests find some.
    pub(crate) fn hold(&mut self, http: &mut Http) -> bool {
        let fits = http.reserve(&self.account).is_ok();
        if !fits {
            self.counters().rejected.add(1);
        }
        fits
    }
}

/// One connection of this shard, for as long as it lives: the slot may be another's later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn {
    /// The slot.
    pub slot: u32,
    /// Which owner of it.
    pub generation: u32,
}

impl Conn {
    /// No connection: nobody asked, or nobody is answered.
    pub const NOBODY: Conn = Conn { slot: u32::MAX, generation: u32::MAX };

    /// As a readiness token. Generations stay below 2^31, so tokens with the highest bit are free for other uses.
    pub fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From a readiness token.
    pub fn from_token(token: u64) -> Conn {
        Conn { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

/// A subscription as its connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The topic's place in the shard's table.
    pub topic: TopicIndex,
    /// The viewer's place in the topic.
    pub place: u32,
}

/// The subscriptions of one connection: one mostly, up to a hundred.
#[derive(Debug, Default)]
pub enum Subscriptions {
    /// None.
    #[default]
    None,
    /// One, with no memory of its own.
    One(Subscription),
    /// Several.
    // A Vec without its Box would make every slot 16 bytes larger.
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    /// All of them.
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Subscriptions::None => &[],
            Subscriptions::One(one) => std::slice::from_ref(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// Same, to change their places.
    pub fn as_mut_slice(&mut self) -> &mut [Subscription] {
        match self {
            Subscriptions::None => &mut [],
            Subscriptions::One(one) => std::slice::from_mut(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// Adds one.
    pub fn push(&mut self, subscription: Subscription) {
        match self {
            Subscriptions::None => *self = Subscriptions::One(subscription),
            Subscriptions::One(one) => *self = Subscriptions::Many(Box::new(vec![*one, subscription])),
            Subscriptions::Many(many) => many.push(subscription),
        }
    }

    /// Removes that of a topic.
    pub fn remove(&mut self, topic: TopicIndex) -> Option<Subscription> {
        let at = self.as_slice().iter().position(|subscription| subscription.topic == topic)?;
        let removed = self.as_slice()[at];
        match self {
            Subscriptions::Many(many) => {
                many.swap_remove(at);
                if many.is_empty() {
                    *self = Subscriptions::None;
                }
            }
            _ => *self = Subscriptions::None,
        }
        Some(removed)
    }
}

/// What a connection is at the moment.
#[derive(Debug, Default)]
pub enum Kind {
    /// Nobody's.
    #[default]
    Free,
    /// Sends requests.
    Http(Box<Http>),
    /// An SSE stream that keeps up.
    Stream,
    /// An SSE stream that does not: the frontend has what waits for it.
    Lagging {
        /// It was told to go, and has not taken that yet.
        ends: bool,
    },
    /// A connection to another node, by its link's number.
    Link(u32),
}

/// One connection.
#[derive(Debug, Default)]
pub struct Slot {
    socket: Option<Socket>,
    /// Which owner this is.
    pub generation: u32,
    /// When the sweep has something to do, in the shard's seconds: a heartbeat, or a timeout.
    pub due: u32,
    /// A stream whose `connected` has not been sent yet: events pass it by until then.
    pub waiting: bool,
    /// How what it is given goes out.
    pub body: Body,
    /// A stream whose client sends no more: it may listen on, or be gone.
    pub half_closed: bool,
    /// It is not let in, and is kept only to be told so.
    pub refused: bool,
    /// What it is.
    pub kind: Kind,
    /// What its token lets it do, and until when; none without tokens.
    pub rights: Option<Box<StreamRights>>,
    /// What it watches.
    pub subscriptions: Subscriptions,
}

const _: () = assert!(size_of::<Slot>() <= 56);

/// How what a stream is given goes out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Body {
    /// In chunks.
    #[default]
    Chunked,
    /// As it is, and its end is the connection's (HTTP/1.0).
    Close,
    /// Not yet: a poll gathers it.
    Gathered,
    /// Not at all: a viewer of canaries, which has no socket, is shown it.
    Watched,
}

impl Slot {
    /// Its socket. The slot must be somebody's.
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("a slot in use has a socket")
    }

    /// Whether it is a stream of Mercure's protocol by a token or by selectors, whose client could not read other topics' events.
    pub fn is_of_mercure(&self) -> bool {
        self.rights.as_ref().is_some_and(|rights| rights.mercure.is_some())
    }

    /// Whether it is a stream that was told to go and has not taken that yet.
    pub fn is_ending(&self) -> bool {
        matches!(self.kind, Kind::Lagging { ends: true })
    }

    /// Whether it is a stream, with a client that keeps up or not.
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Lagging { .. })
    }

    /// How its stream is delimited.
    pub fn framing(&self) -> Framing {
        if self.body == Body::Chunked { Framing::Chunked } else { Framing::Close }
    }
}

/// Slots in one allocation: growing never moves or doubles what is there.
const SLOTS_PER_PAGE: usize = 256;

/// A shard's slots.
#[derive(Debug)]
pub struct Slots {
    pages: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    used: usize,
    secrets: SipHasher13,
}

impl Slots {
    /// None yet. Whoever knows `key` can guess the ids of connections.
    pub fn new(key: (u64, u64)) -> Slots {
        Slots { pages: Vec::new(), free: Vec::new(), used: 0, secrets: SipHasher13::new_with_keys(key.0, key.1) }
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Slots, free ones included: the sweep goes over all.
    pub fn capacity(&self) -> u32 {
        (self.pages.len() * SLOTS_PER_PAGE) as u32
    }

    /// Takes a socket in.
    pub fn insert(&mut self, socket: Socket, kind: Kind) -> Conn {
        if self.free.is_empty() {
            let first = self.capacity();
            self.pages.push((0..SLOTS_PER_PAGE).map(|_| Slot::default()).collect());
            self.free.extend((first..first + SLOTS_PER_PAGE as u32).rev());
        }
        let slot = self.free.pop().expect("a page was just added if there was none");
        self.used += 1;
        let entry = self.at_mut(slot);
        entry.socket = Some(socket);
        entry.kind = kind;
        Conn { slot, generation: entry.generation }
    }

    /// Frees a connection's slot. Gives its socket, to be closed.
    #[must_use]
    pub fn remove(&mut self, conn: Conn) -> Socket {
        let entry = self.at_mut(conn.slot);
        debug_assert_eq!(entry.generation, conn.generation);
        let generation = (conn.generation + 1) & (u32::MAX >> 1);
        let freed = std::mem::replace(entry, Slot { generation, ..Slot::default() });
        self.used -= 1;
        self.free.push(conn.slot);
        freed.socket.expect("a slot in use has a socket")
    }

    /// The slot at a place, whoever owns it.
    #[inline]
    pub fn at(&self, slot: u32) -> &Slot {
        &self.pages[slot as usize / SLOTS_PER_PAGE][slot as usize % SLOTS_PER_PAGE]
    }

    /// Same, to change it.
    #[inline]
    pub fn at_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.pages[slot as usize / SLOTS_PER_PAGE][slot as usize % SLOTS_PER_PAGE]
    }

    /// The connection's slot, if it still lives.
    pub fn get_mut(&mut self, conn: Conn) -> Option<&mut Slot> {
        let page = self.pages.get_mut(conn.slot as usize / SLOTS_PER_PAGE)?;
        let slot = &mut page[conn.slot as usize % SLOTS_PER_PAGE];
        (slot.generation == conn.generation && slot.socket.is_some()).then_some(slot)
    }

    /// Same, to look only.
    pub fn get(&self, conn: Conn) -> Option<&Slot> {
        let slot = &self.pages.get(conn.slot as usize / SLOTS_PER_PAGE)?[conn.slot as usize % SLOTS_PER_PAGE];
        (slot.generation == conn.generation && slot.socket.is_some()).then_some(slot)
    }

    /// The connection that has this slot now, if one does.
    pub fn owner(&self, slot: u32) -> Option<Conn> {
        let entry = self.at(slot);
        entry.socket.as_ref().map(|_| Conn { slot, generation: entry.generation })
    }

    /// What the stream in a slot wants by Mercure's protocol beyond the topics that it names, and may have.
    pub fn subscriber(&self, slot: u32) -> Option<&Subscriber> {
        self.at(slot).rights.as_ref()?.mercure.as_deref()
    }

    /// The 64 bits of a connection's id that nobody can guess: a keyed hash (SipHash), so that they need no memory.
    pub fn secret(&self, conn: Conn) -> u64 {
        let mut hasher = self.secrets;
        conn.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        Socket::simulated(1.try_into().expect("it is not zero"))
    }

    #[test]
    fn a_slot_knows_its_owners_apart() {
        let mut slots = Slots::new((1, 2));
        let first = slots.insert(socket(), Kind::Stream);
        let _ = slots.remove(first);
        let second = slots.insert(socket(), Kind::Stream);
        assert_eq!(first.slot, second.slot);
        assert!(slots.get(first).is_none() && slots.get(second).is_some());
        assert_ne!(slots.secret(first), slots.secret(second));
        assert_eq!(Conn::from_token(second.token()), second);
        assert_eq!((slots.len(), slots.owner(second.slot)), (1, Some(second)));
        assert!(slots.get(Conn { slot: 1 << 20, generation: 0 }).is_none());
    }

    #[test]
    fn subscriptions_come_and_go() {
        let mut subscriptions = Subscriptions::default();
        for topic in 0..3 {
            subscriptions.push(Subscription { topic, place: topic * 10 });
        }
        assert_eq!(subscriptions.remove(1), Some(Subscription { topic: 1, place: 10 }));
        assert_eq!(subscriptions.remove(1), None);
        assert_eq!(subscriptions.as_slice().len(), 2);
        subscriptions.remove(0);
        subscriptions.remove(2);
        assert!(matches!(subscriptions, Subscriptions::None));
    }
}
