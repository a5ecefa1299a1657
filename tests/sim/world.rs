//! A whole cluster in one thread: real shards, simulated network, store, clocks and clients, under one time and one seed.

mod machines;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use fanfare::limits::TICK;
use fanfare::runtime::clock::Times;
use fanfare::runtime::net::{RESTED, TICKS};
use fanfare::runtime::random::{Random, seed_tables};
use fanfare::runtime::readiness::Ready;
use fanfare::server::message::Message;
use fanfare::server::node::Node;
use fanfare::server::shard::Shard;
use fanfare::settings::Role;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::{self, ShardId, Transit};
use crate::faults::Fault;
use crate::publisher::{Kinds, Publisher};
use crate::store;
use crate::streams::{Streams, part};
use crate::viewer::Viewer;

/// What the world calls its first moment; nothing depends on when that is.
#[expect(clippy::disallowed_methods, reason = "there is no other way to an `Instant`")]
pub static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Its first moment since 1970.
pub const UNIX: Duration = Duration::from_secs(1_800_000_000);

/// What a world is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub dispatchers: usize,
    pub frontends: usize,
    pub shards: usize,
    pub viewers: usize,
    pub publishers: usize,
    pub topics: usize,
    pub kinds: Kinds,
    /// How long clients work, and parts fail, in seconds.
    pub seconds: u64,
    pub faults: BTreeSet<Fault>,
    pub without: Without,
}

/// What a plan leaves out, though all else is as it would be with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without {
    /// By number.
    pub clients: BTreeSet<usize>,
    /// What would befall the world, by number: the how manieth draw it is.
    pub befalls: BTreeSet<u64>,
}

#[derive(Debug)]
pub enum Event {
    Turn(ShardId),
    Tick(ShardId, u64),
    Rest(ShardId, u64),
    Transit(Transit),
    Store(store::Step),
    Client(usize),
    Fault,
    Start(usize),
}

/// A machine, which runs one node.
pub struct Machine {
    pub role: Role,
    /// Grows with every start; 0 before the first.
    pub life: u64,
    pub node: Option<Arc<Node>>,
    shards: Vec<Shard>,
    rests: Vec<Arc<Mutex<Option<u64>>>>,
    pub paused_until: u64,
    /// What its wall clock adds, in milliseconds.
    pub clock: Arc<AtomicI64>,
}

pub enum Client {
    Viewer(Viewer),
    Publisher(Publisher),
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    shared_now: Arc<AtomicU64>,
    sequence: u64,
    heap: BTreeMap<(u64, u64), Event>,
    /// Shards whose next turn is planned, and clients.
    turning: BTreeMap<ShardId, (u64, u64)>,
    waking: BTreeMap<usize, (u64, u64)>,
    pub fabric: fabric::Shared,
    pub store: store::Shared,
    pub machines: Vec<Machine>,
    pub clients: Vec<Client>,
    /// Of shards.
    schedule: Streams,
    /// Of all clients together before they begin, and of each of them then.
    workload: Random,
    doings: Streams,
    pub chance: Random,
    /// What befell it, by number, and when.
    pub befell: Vec<(u64, u64, Fault)>,
    /// How often something was drawn.
    pub draws: u64,
    pub counts: BTreeMap<&'static str, u64>,
    /// Until when something befell nodes that may cost what waited in one of them, or a viewer's place there.
    pub disturbed: Option<u64>,
    /// A digest of all that happened.
    pub trace: u64,
    /// The most that one turn of a shard did.
    pub busiest: Busiest,
    pub log: Vec<String>,
    pub verbose: bool,
}

/// The most that one turn of a shard did.
#[derive(Debug, Default)]
pub struct Busiest {
    pub requests: u64,
    pub sends: u64,
}

pub fn address(machine: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, machine as u8)), port)
}

impl World {
    pub fn new(plan: Plan) -> World {
        let seed = plan.seed;
        seed_tables(part(seed, 0));
        let shared_now = Arc::new(AtomicU64::new(0));
        let clock = Arc::new(AtomicI64::new(0));
        let mut world = World {
            now: 0,
            sequence: 0,
            heap: BTreeMap::new(),
            turning: BTreeMap::new(),
            waking: BTreeMap::new(),
            fabric: fabric::Shared::new(part(seed, 1)),
            store: store::Shared::new(part(seed, 2), times(&shared_now, &clock)),
            shared_now,
            machines: Vec::new(),
            clients: Vec::new(),
            schedule: Streams::new(part(seed, 3)),
            workload: Random::new(part(seed, 4)),
            doings: Streams::new(part(seed, 6)),
            chance: Random::new(part(seed, 5)),
            befell: Vec::new(),
            draws: 0,
            counts: BTreeMap::new(),
            disturbed: None,
            trace: 0,
            busiest: Busiest::default(),
            log: Vec::new(),
            verbose: false,
            plan,
        };
        let roles = [(Role::Dispatcher, world.plan.dispatchers), (Role::Frontend, world.plan.frontends)];
        for role in roles.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count)) {
            let clock = Arc::new(AtomicI64::new(0));
            let machine =
                Machine { role, life: 0, node: None, shards: Vec::new(), rests: Vec::new(), paused_until: 0, clock };
            world.machines.push(machine);
            world.start(world.machines.len() - 1);
        }
        world.people();
        world.at(3 * SECOND, Event::Fault);
        world
    }

    fn people(&mut self) {
        let topics: Vec<String> = (0..self.plan.topics).map(|number| format!("chat:{number}")).collect();
        for number in 0..self.plan.viewers {
            let first = self.workload.number() as usize % topics.len();
            let count = 1 + self.workload.number() as usize % 2.min(topics.len());
            let mine = (0..count).map(|step| topics[(first + step) % topics.len()].clone()).collect();
            let next = SECOND + self.workload.number() % (2 * SECOND);
            let mut viewer = Viewer::new(number, mine, next);
            if self.workload.number().is_multiple_of(8) {
                viewer.slow = 200;
            }
            self.clients.push(Client::Viewer(viewer));
        }
        for _ in 0..self.plan.publishers {
            let next = 3 * SECOND + self.workload.number() % SECOND;
            let pace = [20, 100, 400][self.workload.number() as usize % 3] * MILLISECOND;
            let number = self.clients.len();
            let once = self.workload.number().is_multiple_of(2);
            let publisher = Publisher::new(number, topics.clone(), self.plan.kinds, once, pace, next);
            self.clients.push(Client::Publisher(publisher));
        }
        for number in 0..self.clients.len() {
            self.wake(number);
        }
    }

    /// Something that happens at a time.
    pub fn at(&mut self, at: u64, event: Event) -> (u64, u64) {
        self.sequence += 1;
        self.heap.insert((at, self.sequence), event);
        (at, self.sequence)
    }

    pub fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if self.verbose {
            let line = format!("{:>12.6} {}", self.now as f64 / 1e9, text());
            self.log.push(line);
        }
    }

    /// Machines of a role that run.
    pub fn addresses(&self, role: Role, port: u16) -> Vec<SocketAddr> {
        let runs = |(_, machine): &(usize, &Machine)| machine.role == role;
        self.machines.iter().enumerate().filter(runs).map(|(number, _)| address(number, port)).collect()
    }

    /// The shard has its next turn within some microseconds.
    fn turn_soon(&mut self, id: ShardId) {
        if !self.turning.contains_key(&id) {
            let at = self.now + 1_000 + self.schedule.of(id.number()).number() % 50_000;
            let planned = self.at(at.max(self.machines[id.machine].paused_until), Event::Turn(id));
            self.turning.insert(id, planned);
        }
    }

    fn wake(&mut self, number: usize) {
        let due = match &self.clients[number] {
            Client::Viewer(viewer) => viewer.due(),
            Client::Publisher(publisher) => publisher.due(),
        };
        self.wake_at(number, due.max(self.now + MILLISECOND));
    }

    fn wake_at(&mut self, number: usize, at: u64) {
        if self.plan.without.clients.contains(&number) {
            return;
        }
        if let Some(planned) = self.waking.get(&number) {
            if planned.0 <= at {
                return;
            }
            self.heap.remove(planned);
        }
        let planned = self.at(at, Event::Client(number));
        self.waking.insert(number, planned);
    }

    /// Runs until a time.
    pub fn run(&mut self, until: u64) {
        while let Some(entry) = self.heap.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at.max(self.now);
            self.shared_now.store(self.now, Ordering::Relaxed);
            self.fabric.lock().now = self.now;
            self.store.lock().now = self.now;
            self.step(event);
            self.gather();
        }
        self.now = until;
    }

    fn mix(&mut self, value: u64) {
        self.trace = Random::new(self.trace ^ value).number();
    }

    fn step(&mut self, event: Event) {
        self.mix(self.now);
        match event {
            Event::Turn(id) => self.turn(id),
            Event::Tick(id, life) => {
                let machine = &self.machines[id.machine];
                let until = machine.paused_until;
                if machine.life == life && machine.node.is_some() {
                    self.ready(id, TICKS);
                    // A timer that goes off while nobody runs does so once.
                    let at = (self.now + TICK.as_nanos() as u64).max(until);
                    self.at(at, Event::Tick(id, life));
                }
            }
            Event::Rest(id, life) => {
                if self.machines[id.machine].life == life {
                    self.ready(id, RESTED);
                }
            }
            Event::Transit(transit) => self.fabric.lock().arrive(transit),
            Event::Store(store::Step::Asked { who, life, ticket, request }) => {
                self.store.lock().asked(who, life, ticket, *request);
            }
            Event::Store(store::Step::Says { who, life, heard }) => self.hear(who, life, heard),
            Event::Client(number) => self.client(number),
            Event::Fault => crate::faults::happen(self),
            // It may run since all was healed.
            Event::Start(number) if self.machines[number].node.is_some() => {}
            Event::Start(number) => self.start(number),
        }
    }

    fn hear(&mut self, who: ShardId, life: u64, heard: fanfare::dispatch::kv::Heard) {
        let machine = &self.machines[who.machine];
        let Some(node) = machine.node.as_ref().filter(|_| machine.life == life) else { return };
        if let Err(Message::Kv(heard)) = node.mail[who.shard].try_send(Message::Kv(heard)) {
            self.at(self.now + MILLISECOND, Event::Store(store::Step::Says { who, life, heard }));
        }
        self.turn_soon(who);
    }

    /// A timer of a shard went off.
    fn ready(&mut self, id: ShardId, token: u64) {
        let ready = Ready { token, readable: true, writable: false, hung_up: false, over: false };
        self.fabric.lock().ready.entry(id).or_default().insert(token, ready);
    }

    fn turn(&mut self, id: ShardId) {
        self.turning.remove(&id);
        let machine = &mut self.machines[id.machine];
        if machine.node.is_none() {
            return;
        }
        if machine.paused_until > self.now {
            return self.turn_soon(id);
        }
        let ready: Vec<Ready> =
            self.fabric.lock().ready.remove(&id).map(|ready| ready.into_values().collect()).unwrap_or_default();
        self.mix(id.machine as u64 * 64 + id.shard as u64 + ready.len() as u64 * 4096);
        // Tables that it makes are ordered by its own stream, too.
        seed_tables(self.schedule.of(id.number()).number());
        let sends = self.fabric.lock().sends;
        let machine = &mut self.machines[id.machine];
        let counters = Arc::clone(&machine.node.as_ref().expect("it runs").counters);
        let requests = counters[id.shard].requests.get();
        let again = machine.shards[id.shard].turn(&ready);
        self.busiest.requests = self.busiest.requests.max(counters[id.shard].requests.get() - requests);
        self.busiest.sends = self.busiest.sends.max(self.fabric.lock().sends - sends);
        self.count("turns", 1);
        if again {
            self.turn_soon(id);
        }
        self.fabric.lock().knock_again(id);
        let machine = &self.machines[id.machine];
        let life = machine.life;
        let rest = machine.rests[id.shard].lock().expect("nobody panics with it").take();
        let node = machine.node.as_ref().expect("it runs");
        let mail: Vec<usize> = (0..node.mail.len()).filter(|shard| !node.mail[*shard].is_empty()).collect();
        if let Some(at) = rest {
            self.at(at, Event::Rest(id, life));
        }
        for shard in mail {
            self.turn_soon(ShardId { machine: id.machine, shard });
        }
    }

    fn client(&mut self, number: usize) {
        self.waking.remove(&number);
        let (frontends, dispatchers) = (self.addresses(Role::Frontend, 8080), self.addresses(Role::Dispatcher, 8081));
        let before = self.verbose.then(|| self.clients[number].stand());
        let shared = self.fabric.clone();
        let mut fabric = shared.lock();
        match &mut self.clients[number] {
            Client::Viewer(viewer) => viewer.turn(&mut fabric, self.doings.of(number as u64), &frontends),
            Client::Publisher(publisher) => publisher.turn(&mut fabric, self.doings.of(number as u64), &dispatchers),
        }
        let bytes = fabric.bytes;
        drop(fabric);
        self.mix(bytes);
        if let Some(before) = before {
            self.tell(number, &before);
        }
        self.wake(number);
    }

    /// Plans what the last step caused.
    fn gather(&mut self) {
        let mut fabric = self.fabric.lock();
        let transits = std::mem::take(&mut fabric.transits);
        let ready: Vec<ShardId> = fabric.ready.keys().copied().collect();
        let mut stirred = std::mem::take(&mut fabric.stirred);
        drop(fabric);
        let steps = std::mem::take(&mut self.store.lock().steps);
        for (at, transit) in transits {
            self.at(at, Event::Transit(transit));
        }
        for (at, step) in steps {
            self.at(at, Event::Store(step));
        }
        for id in ready {
            self.turn_soon(id);
        }
        stirred.dedup();
        for (client, _) in stirred {
            // Slow readers look when they like.
            let is_slow =
                matches!(&self.clients[client], Client::Viewer(viewer) if viewer.slow > 0 && viewer.is_connected);
            if !is_slow {
                self.wake_at(client, self.now + 1_000);
            }
        }
    }

    /// Something befell nodes, until then.
    pub fn disturb(&mut self, until: u64) {
        self.disturbed = self.disturbed.max(Some(until));
    }

    /// Publishers say once more what all must know.
    pub fn finish(&mut self) {
        for number in 0..self.clients.len() {
            if let Client::Publisher(publisher) = &mut self.clients[number] {
                publisher.finish(self.now);
                self.wake(number);
            }
        }
    }

    /// All parts work from here on.
    pub fn heal(&mut self) {
        self.say(|| "nothing befalls it any more".to_owned());
        let mut fabric = self.fabric.lock();
        let was_cut = fabric.heal();
        fabric.weather = fabric::Weather { short: 0, jitter: 200_000 };
        drop(fabric);
        if was_cut {
            self.disturb(self.now);
        }
        self.disturbed = self.disturbed.map(|until| until.min(self.now));
        self.store.lock().down_until = 0;
        for machine in &mut self.machines {
            machine.paused_until = machine.paused_until.min(self.now);
        }
        let down: Vec<usize> =
            (0..self.machines.len()).filter(|number| self.machines[*number].node.is_none()).collect();
        for number in down {
            self.start(number);
        }
        for client in &mut self.clients {
            if let Client::Viewer(viewer) = client {
                viewer.slow = 0;
            }
        }
        self.publish(false);
    }

    /// Publishers go on, or end with what they have begun.
    pub fn publish(&mut self, goes_on: bool) {
        for number in 0..self.clients.len() {
            if let Client::Publisher(publisher) = &mut self.clients[number] {
                publisher.stops = !goes_on;
            }
            self.wake_at(number, self.now + MILLISECOND);
        }
    }
}

fn times(now: &Arc<AtomicU64>, clock: &Arc<AtomicI64>) -> Times {
    let (now, clock, begin) = (Arc::clone(now), Arc::clone(clock), *BEGIN);
    Times::simulated(move || {
        let passed = Duration::from_nanos(now.load(Ordering::Relaxed));
        let ahead = clock.load(Ordering::Relaxed);
        let wall = UNIX + passed;
        let wall = if ahead < 0 {
            wall.saturating_sub(Duration::from_millis(ahead.unsigned_abs()))
        } else {
            wall + Duration::from_millis(ahead as u64)
        };
        (begin + passed, wall)
    })
}
