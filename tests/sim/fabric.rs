//! The simulated network: connections between shards and clients, as the kernel's sockets show them to who watches them
//! edge-triggered. Bytes take time, come in pieces, and wait where nobody reads them.

mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare::runtime::random::Random;
use fanfare::runtime::readiness::Ready;
pub use sockets::ShardNet;

use crate::agenda::Now;
use crate::streams::Streams;

/// Bytes that wait in one direction of a connection before its sender is told to wait.
const PIPE_BYTES: usize = 32 * 1024;

/// A shard in the simulation, by its machine and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    pub machine: usize,
    pub shard: usize,
}

impl ShardId {
    /// Of its stream of chance.
    pub fn number(self) -> u64 {
        (self.machine as u64) << 16 | self.shard as u64
    }
}

/// Whose end of a connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Shard(ShardId),
    Client(usize),
}

impl Owner {
    /// Of its stream of chance.
    fn number(self) -> u64 {
        match self {
            Owner::Shard(shard) => shard.number(),
            Owner::Client(client) => 1 << 32 | client as u64,
        }
    }
}

/// What happens on the network after some time.
#[derive(Debug, Clone)]
pub enum Transit {
    /// Bytes come to an end.
    Bytes(i32, Vec<u8>),
    /// The other side sends no more.
    Fin(i32),
    /// The connection is broken.
    Reset(i32),
    /// What an end sent was taken: there is room again.
    Room(i32),
    /// A connection that an end began comes to this address.
    Syn(i32, SocketAddr),
    /// It was accepted by the other machine's kernel, or refused.
    Answered(i32, bool),
}

#[derive(Debug)]
struct End {
    owner: Owner,
    /// The other end; none before it is there, and after it is gone.
    other: Option<i32>,
    address: IpAddr,
    token: Option<u64>,
    inbox: VecDeque<u8>,
    /// Sent, and not read by the other side yet.
    outstanding: usize,
    /// A send was cut: room is news.
    blocked: bool,
    connected: bool,
    /// Nothing more comes behind the inbox.
    ended: bool,
    shut: bool,
    broken: bool,
    /// No byte that it sends arrives before this time, so that order holds.
    last_arrival: u64,
    /// What befalls what it sends and reads.
    random: Random,
}

/// Who listens at an address, each with connections that wait to be accepted.
#[derive(Debug, Default)]
struct Listener {
    queues: BTreeMap<ShardId, VecDeque<i32>>,
    door: usize,
}

/// How the network behaves, in permille where it is a chance.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// A send or a read is cut short.
    pub short: u64,
    /// The most extra delay, in nanoseconds.
    pub jitter: u64,
}

/// Ends by their numbers, which begin with 1 and are given once.
#[derive(Debug, Default)]
struct Ends(Vec<Option<Box<End>>>);

impl Ends {
    fn add(&mut self, end: End) -> i32 {
        self.0.push(Some(Box::new(end)));
        self.0.len() as i32
    }

    fn get(&self, number: i32) -> Option<&End> {
        self.0.get(number as usize - 1)?.as_deref()
    }

    fn get_mut(&mut self, number: i32) -> Option<&mut End> {
        self.0.get_mut(number as usize - 1)?.as_deref_mut()
    }

    fn remove(&mut self, number: i32) {
        self.0[number as usize - 1] = None;
    }

    fn all(&self) -> impl Iterator<Item = (i32, &End)> {
        (1..).zip(&self.0).filter_map(|(number, end)| Some((number, end.as_deref()?)))
    }
}

/// All connections.
#[derive(Debug)]
pub struct Fabric {
    ends: Ends,
    listeners: BTreeMap<SocketAddr, Listener>,
    /// Of those who begin connections.
    streams: Streams,
    pub now: Now,
    pub weather: Weather,
    /// Pairs of machines of which the second hears nothing of the first.
    cut: Vec<(usize, usize)>,
    /// What is sent over a cut, which kernels send again until it arrives.
    held: Vec<(i32, Transit)>,
    /// What is on its way: when it arrives.
    pub transits: Vec<(u64, Transit)>,
    /// Shards for which something is ready, by token.
    ready: BTreeMap<ShardId, BTreeMap<u64, Ready>>,
    /// Those for which nothing was before.
    pub roused: Vec<ShardId>,
    /// Connections that nobody accepted yet.
    waiting: usize,
    /// Clients for whom something happened at an end of theirs.
    pub stirred: Vec<(usize, i32)>,
    /// Doors that shards closed.
    closed: Vec<(ShardId, usize)>,
    pub bytes: u64,
    /// How often somebody sent something.
    pub sends: u64,
}

/// The fabric, as all who use it share it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Fabric>>);

impl Shared {
    pub fn new(seed: u64, now: Now) -> Shared {
        Shared(Arc::new(Mutex::new(Fabric {
            ends: Ends::default(),
            listeners: BTreeMap::new(),
            streams: Streams::new(seed),
            now,
            weather: Weather::default(),
            cut: Vec::new(),
            held: Vec::new(),
            transits: Vec::new(),
            ready: BTreeMap::new(),
            roused: Vec::new(),
            waiting: 0,
            stirred: Vec::new(),
            closed: Vec::new(),
            bytes: 0,
            sends: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Fabric> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> io::Error {
    ErrorKind::ConnectionReset.into()
}

impl Fabric {
    /// Shards of a machine listen at an address, behind one of their doors.
    pub fn listen(&mut self, address: SocketAddr, door: usize, shards: impl Iterator<Item = ShardId>) {
        let queues = shards.map(|shard| (shard, VecDeque::new())).collect();
        self.listeners.insert(address, Listener { queues, door });
    }

    fn end(&mut self, owner: Owner, other: Option<i32>, address: IpAddr, seed: u64) -> i32 {
        let end = End {
            owner,
            other,
            address,
            token: None,
            inbox: VecDeque::new(),
            outstanding: 0,
            blocked: false,
            connected: other.is_some(),
            ended: false,
            shut: false,
            broken: false,
            last_arrival: 0,
            random: Random::new(seed),
        };
        self.ends.add(end)
    }

    /// Puts something on its way from an end to its other one, behind what that sent before.
    fn send_off(&mut self, from: i32, transit: Transit) {
        if self.is_cut(from, &transit) {
            return self.held.push((from, transit));
        }
        let (now, jitter) = (self.now.get(), self.weather.jitter);
        let Some(end) = self.ends.get_mut(from) else { return };
        let jitter = end.random.number() % jitter.max(1);
        let at = (now + 20_000 + jitter).max(end.last_arrival + 1);
        end.last_arrival = at;
        self.transits.push((at, transit));
    }

    fn is_cut(&self, from: i32, transit: &Transit) -> bool {
        let machine = |number: &i32| match self.ends.get(*number).map(|end: &End| end.owner) {
            Some(Owner::Shard(shard)) => Some(shard.machine),
            _ => None,
        };
        let to = match transit {
            Transit::Bytes(to, _) | Transit::Fin(to) | Transit::Reset(to) => machine(to),
            Transit::Room(to) | Transit::Answered(to, _) => machine(to),
            Transit::Syn(_, address) => match address.ip() {
                IpAddr::V4(ip) => Some(usize::from(ip.octets()[3])),
                IpAddr::V6(_) => None,
            },
        };
        machine(&from).zip(to).is_some_and(|pair| self.cut.contains(&pair))
    }

    /// A machine hears nothing of another one any more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.push((from, to));
    }

    /// All hear of each other again, and what was sent in between arrives. Whether some did not.
    pub fn heal(&mut self) -> bool {
        let was_cut = !self.cut.is_empty();
        self.cut.clear();
        for (from, transit) in std::mem::take(&mut self.held) {
            self.send_off(from, transit);
        }
        was_cut
    }

    /// Begins a connection.
    pub fn connect(&mut self, owner: Owner, address: SocketAddr) -> i32 {
        let seed = self.streams.of(owner.number()).number();
        let number = self.end(owner, None, address.ip(), seed);
        self.send_off(number, Transit::Syn(number, address));
        number
    }

    /// Sends what there is room for.
    pub fn send(&mut self, number: i32, bytes: &[u8]) -> io::Result<usize> {
        self.sends += 1;
        let end = self.ends.get_mut(number).expect("a socket in use is there");
        let (short, cut) = (end.random.number() % 1000 < self.weather.short, end.random.number());
        if end.broken || (end.shut && !bytes.is_empty()) {
            return Err(broken());
        }
        if !end.connected {
            end.blocked = true;
            return Ok(0);
        }
        let mut room = (PIPE_BYTES - end.outstanding).min(bytes.len());
        if short && room > 1 {
            room = 1 + (cut % (room as u64 - 1)) as usize;
        }
        end.outstanding += room;
        // A kernel that took less than all is full, and tells when it is not.
        end.blocked |= room < bytes.len();
        let (other, is_blocked) = (end.other, end.blocked && room > 0);
        if is_blocked && short {
            // What was cut by chance has room at once.
            self.send_off(number, Transit::Room(number));
        }
        if room > 0 {
            self.bytes += room as u64;
            match other {
                Some(other) => self.send_off(number, Transit::Bytes(other, bytes[..room].to_vec())),
                // Whoever closed answers what comes later with a reset.
                None => self.send_off(number, Transit::Reset(number)),
            }
        }
        Ok(room)
    }

    /// Reads what is there.
    pub fn recv(&mut self, number: i32, into: &mut [u8]) -> io::Result<Option<usize>> {
        let end = self.ends.get_mut(number).expect("a socket in use is there");
        let short = end.random.number() % 1000 < self.weather.short;
        if end.broken {
            return Err(broken());
        }
        if end.inbox.is_empty() {
            return Ok(end.ended.then_some(0));
        }
        // A stream of bytes has no borders: a read may end anywhere, and then the rest is there for the next one.
        let mut count = end.inbox.len().min(into.len());
        if short && count == into.len() && count > 1 {
            count -= 1;
        }
        let (first, second) = end.inbox.as_slices();
        let cut = first.len().min(count);
        into[..cut].copy_from_slice(&first[..cut]);
        into[cut..count].copy_from_slice(&second[..count - cut]);
        end.inbox.drain(..count);
        if let Some(other) = end.other
            && let Some(sender) = self.ends.get_mut(other)
        {
            sender.outstanding -= count;
            if sender.blocked {
                self.send_off(number, Transit::Room(other));
            }
        }
        Ok(Some(count))
    }

    /// Sends no more.
    pub fn shut(&mut self, number: i32) {
        let Some(end) = self.ends.get_mut(number) else { return };
        if !std::mem::replace(&mut end.shut, true)
            && let Some(other) = end.other
        {
            self.send_off(number, Transit::Fin(other));
        }
    }

    /// Ends a connection: by a reset where something was not read, as kernels do.
    pub fn close(&mut self, number: i32) {
        let Some(end) = self.ends.get(number) else { return };
        let (other, unread, shut) = (end.other, !end.inbox.is_empty(), end.shut);
        if let Some(other) = other {
            if unread {
                self.send_off(number, Transit::Reset(other));
            } else if !shut {
                self.send_off(number, Transit::Fin(other));
            }
            if let Some(other) = self.ends.get_mut(other) {
                other.other = None;
            }
        }
        self.ends.remove(number);
    }

    /// All that a machine held is gone at once; the other ends hear of it.
    pub fn crash(&mut self, machine: usize) {
        let of = |owner: Owner| matches!(owner, Owner::Shard(shard) if shard.machine == machine);
        let gone: Vec<i32> = self.ends.all().filter(|(_, end)| of(end.owner)).map(|(number, _)| number).collect();
        for number in gone {
            if let Some(other) = self.ends.get(number).and_then(|end| end.other) {
                self.send_off(number, Transit::Reset(other));
                if let Some(other) = self.ends.get_mut(other) {
                    other.other = None;
                }
            }
            self.ends.remove(number);
        }
        for listener in self.listeners.values_mut() {
            let waiting: Vec<i32> = (listener.queues.iter_mut())
                .filter(|(shard, _)| shard.machine == machine)
                .flat_map(|(_, queue)| queue.drain(..))
                .collect();
            listener.queues.retain(|shard, _| shard.machine != machine);
            debug_assert!(waiting.iter().all(|number| self.ends.get(*number).is_none()), "they went with the machine");
            self.waiting -= waiting.len();
        }
        self.listeners.retain(|_, listener| !listener.queues.is_empty());
        self.closed.retain(|(shard, _)| shard.machine != machine);
        self.ready.retain(|shard, _| shard.machine != machine);
    }

    fn ready_at(&mut self, shard: ShardId) -> &mut BTreeMap<u64, Ready> {
        let ready = self.ready.entry(shard).or_default();
        if ready.is_empty() {
            self.roused.push(shard);
        }
        ready
    }

    /// A timer of a shard went off.
    pub fn rouse(&mut self, shard: ShardId, token: u64) {
        let ready = Ready { token, readable: true, writable: false, hung_up: false, over: false };
        self.ready_at(shard).insert(token, ready);
    }

    /// What is ready for a shard, which it is told once.
    pub fn take_ready(&mut self, shard: ShardId) -> Vec<Ready> {
        let ready = self.ready.get_mut(&shard).map(std::mem::take);
        ready.into_iter().flat_map(BTreeMap::into_values).collect()
    }

    fn stir(&mut self, number: i32, what: impl FnOnce(&mut Ready)) {
        let Some(end) = self.ends.get(number) else { return };
        match (end.owner, end.token) {
            (Owner::Client(client), _) => self.stirred.push((client, number)),
            (Owner::Shard(shard), Some(token)) => {
                let none = Ready { token, readable: false, writable: false, hung_up: false, over: false };
                what(self.ready_at(shard).entry(token).or_insert(none));
            }
            // Nobody watches it yet; it is told when somebody does.
            (Owner::Shard(_), None) => {}
        }
    }

    /// Something arrives.
    pub fn arrive(&mut self, transit: Transit) {
        match transit {
            Transit::Bytes(number, bytes) => {
                if let Some(end) = self.ends.get_mut(number) {
                    end.inbox.extend(bytes);
                    self.stir(number, |ready| ready.readable = true);
                }
            }
            Transit::Fin(number) => {
                if let Some(end) = self.ends.get_mut(number) {
                    end.ended = true;
                    let over = end.shut;
                    self.stir(number, |ready| {
                        ready.readable = true;
                        ready.hung_up = true;
                        ready.over |= over;
                    });
                }
            }
            Transit::Reset(number) => {
                if let Some(end) = self.ends.get_mut(number) {
                    end.broken = true;
                    self.stir(number, |ready| {
                        ready.readable = true;
                        ready.writable = true;
                        ready.hung_up = true;
                        ready.over = true;
                    });
                }
            }
            Transit::Room(number) => {
                if self.ends.get_mut(number).is_some_and(|end| std::mem::take(&mut end.blocked)) {
                    self.stir(number, |ready| ready.writable = true);
                }
            }
            Transit::Syn(number, address) => self.syn(number, address),
            Transit::Answered(number, taken) => {
                let Some(end) = self.ends.get_mut(number) else { return };
                (end.connected, end.broken, end.blocked) = (taken, !taken, false);
                self.stir(number, |ready| {
                    ready.writable = true;
                    ready.readable |= !taken;
                    ready.hung_up |= !taken;
                    ready.over |= !taken;
                });
            }
        }
    }

    /// The kernel takes a connection for one of those who listen, and they accept it when they like.
    fn syn(&mut self, number: i32, address: SocketAddr) {
        let Some(begun) = self.ends.get_mut(number) else { return };
        let (which, seed) = (begun.random.number() as usize, begun.random.number());
        let from = match begun.owner {
            Owner::Shard(shard) => IpAddr::V4(Ipv4Addr::new(127, 0, 1, shard.machine as u8)),
            Owner::Client(client) => IpAddr::V4(Ipv4Addr::new(127, 1, (client >> 8) as u8, client as u8)),
        };
        let Some(listener) = self.listeners.get(&address) else {
            return self.send_off(number, Transit::Answered(number, false));
        };
        let shards: Vec<ShardId> = listener.queues.keys().copied().collect();
        let (shard, door) = (shards[which % shards.len()], listener.door);
        let other = self.end(Owner::Shard(shard), Some(number), from, seed);
        self.ends.get_mut(number).expect("it was just there").other = Some(other);
        let listener = self.listeners.get_mut(&address).expect("it was just there");
        listener.queues.get_mut(&shard).expect("it is one of them").push_back(other);
        self.waiting += 1;
        self.send_off(number, Transit::Answered(number, true));
        self.knock(shard, door);
    }

    fn knock(&mut self, shard: ShardId, door: usize) {
        if !self.closed.contains(&(shard, door)) {
            let token = fanfare::runtime::net::token_of(door);
            let ready = Ready { token, readable: true, writable: false, hung_up: false, over: false };
            self.ready_at(shard).insert(token, ready);
        }
    }

    /// Doors are told of level-triggered: again, as long as somebody waits.
    pub fn knock_again(&mut self, shard: ShardId) {
        if self.waiting == 0 {
            return;
        }
        let waiting = |listener: &Listener| listener.queues.get(&shard).is_some_and(|queue| !queue.is_empty());
        let doors: Vec<usize> =
            self.listeners.values().filter(|listener| waiting(listener)).map(|listener| listener.door).collect();
        doors.into_iter().for_each(|door| self.knock(shard, door));
    }

    /// Open ends of a machine's shards.
    pub fn open_ends(&self, machine: usize) -> usize {
        let of = |end: &End| matches!(end.owner, Owner::Shard(shard) if shard.machine == machine);
        self.ends.all().filter(|(_, end)| of(end)).count()
    }
}

impl Fabric {
    /// Whether an end is connected.
    pub fn is_open(&self, number: i32) -> bool {
        self.ends.get(number).is_some_and(|end| end.connected && !end.broken)
    }

    /// The address that an end was connected to.
    pub fn host(&self, number: i32) -> IpAddr {
        self.ends.get(number).expect("a socket in use is there").address
    }
}
