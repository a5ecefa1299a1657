//! A whole cluster in one thread: real shards, simulated network, store, clocks and clients, under one time and one seed.

mod machines;
mod people;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use fanfare::ground::message::Message;
use fanfare::ground::node::Node;
use fanfare::limits::TICK;
use fanfare::runtime::clock::Times;
use fanfare::runtime::net::{RESTED, TICKS};
use fanfare::runtime::random::{Random, seed_tables};
use fanfare::settings::Role;
use fanfare::shard::Shard;

use crate::agenda::{Agenda, Now, Planned};
use crate::clients::{MILLISECOND, SECOND};
use crate::database::{self, Disk};
use crate::fabric::{self, ShardId, Transit};
use crate::faults::Fault;
use crate::hooks;
use crate::publisher::Kinds;
use crate::store;
use crate::streams::{Streams, part};
pub use people::Client;

/// What the world calls its first moment; nothing depends on when that is.
#[expect(clippy::disallowed_methods, reason = "there is no other way to an `Instant`")]
pub static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Its first moment since 1970.
pub const UNIX: Duration = Duration::from_secs(1_800_000_000);

/// What a world is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub data_centers: usize,
    /// In each data center, as what follows up to `backends`.
    pub dispatchers: usize,
    pub frontends: usize,
    pub backends: usize,
    /// Some viewers watch prefixes of topics.
    pub prefixes: bool,
    /// Half of the topics have one more prefix, which the other half has not.
    pub nested: bool,
    /// Half of the viewers change their topics often.
    pub restless: bool,
    /// Backends have a hook.
    pub hooks: bool,
    pub shards: usize,
    pub viewers: usize,
    pub publishers: usize,
    /// Who like and write by way of backends.
    pub posters: usize,
    pub topics: usize,
    pub kinds: Kinds,
    /// Members whose presence is watched.
    pub members: usize,
    /// Who asks shows a token.
    pub tokens: bool,
    /// How many seconds lie between a member's comments on [`SLOW_VIDEO`]; 0 is no slow mode.
    pub slow: u64,
    /// How long clients work, and parts fail, in seconds.
    pub seconds: u64,
    pub faults: BTreeSet<Fault>,
    /// Faults come one upon the other.
    pub hurries: bool,
    /// Stores keep their history beyond their processes, as `fanfare all` does.
    pub kept: bool,
    /// Nodes publish canaries and look for them.
    pub canary: bool,
    /// Less time passes when all is over: no topic is quiet for a minute, and no member is watched.
    pub ends_soon: bool,
    pub without: Without,
}

/// The video that has slow mode, if one has.
pub const SLOW_VIDEO: &str = "0";

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
    /// At a machine's database, in a life of it.
    Database(usize, u64, database::Step),
    /// At its deliveries to a hook's receiver.
    Hook(usize, u64, hooks::Step),
    Client(usize),
    Fault,
    Start(usize),
    /// A machine is told to end, in this life of it.
    End(usize, u64),
}

/// A machine, which runs one node.
pub struct Machine {
    pub role: Role,
    /// Its data center.
    pub dc: usize,
    /// Grows with every start; 0 before the first.
    pub life: u64,
    pub node: Option<Arc<Node>>,
    shards: Vec<Shard>,
    rests: Vec<Arc<Mutex<Option<u64>>>>,
    /// To the database of a backend.
    way: Option<database::Way>,
    pub paused_until: u64,
    /// What its wall clock adds, in milliseconds.
    pub clock: Arc<AtomicI64>,
}

pub struct World {
    pub plan: Plan,
    pub now: u64,
    shared_now: Now,
    agenda: Agenda<Event>,
    /// Shards whose next turn is planned, and clients.
    turning: BTreeMap<ShardId, Planned>,
    waking: Vec<Option<Planned>>,
    pub fabric: fabric::Shared,
    /// One in each data center.
    pub stores: Vec<store::Shared>,
    /// The same, unless nobody stores anything.
    pub disks: Vec<Disk>,
    /// One in each data center.
    pub receivers: Vec<hooks::Shared>,
    pub machines: Vec<Machine>,
    pub clients: Vec<Client>,
    /// The data center of each.
    pub homes: Vec<usize>,
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
    /// Turns of shards.
    pub turns: u64,
    /// Where clients of each data center find nodes.
    doors: Vec<Doors>,
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

/// Where clients of a data center find nodes.
#[derive(Clone)]
pub struct Doors {
    frontends: Vec<SocketAddr>,
    dispatchers: Vec<SocketAddr>,
    backends: Vec<SocketAddr>,
}

/// The name of a data center.
pub fn dc_name(dc: usize) -> String {
    ["a", "b", "c"][dc].to_owned()
}

pub fn address(machine: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, machine as u8)), port)
}

impl World {
    /// With `verbose` it tells all that happens.
    pub fn new(plan: Plan, verbose: bool) -> World {
        let seed = plan.seed;
        seed_tables(part(seed, 0));
        let shared_now = Now::default();
        let store = |dc: u64| {
            // The clock of the first is the world's. All began long ago.
            let ahead = if dc > 0 { Random::new(part(seed, 7 + dc)).number() as i64 % 3_000 } else { 0 };
            let clock = Arc::new(AtomicI64::new(-3_600_000));
            let store = store::Shared::new(part(seed, 20 + dc), shared_now.clone(), times(&shared_now, &clock), ahead);
            if plan.kept {
                store.lock().keep(dc as usize);
            }
            clock.store(ahead, Ordering::Relaxed);
            store
        };
        let disk = |dc| Disk::new(part(seed, 40 + dc), shared_now.clone(), times(&shared_now, &Arc::default()));
        let stores = (0..plan.data_centers as u64).map(store).collect();
        let mut world = World {
            now: 0,
            agenda: Agenda::default(),
            turning: BTreeMap::new(),
            waking: Vec::new(),
            fabric: fabric::Shared::new(part(seed, 1), shared_now.clone()),
            stores,
            disks: (0..plan.data_centers as u64).filter(|_| plan.backends > 0).map(disk).collect(),
            receivers: (0..plan.data_centers as u64).map(|dc| hooks::Shared::new(part(seed, 60 + dc))).collect(),
            shared_now,
            machines: Vec::new(),
            clients: Vec::new(),
            homes: Vec::new(),
            schedule: Streams::new(part(seed, 3)),
            workload: Random::new(part(seed, 4)),
            doings: Streams::new(part(seed, 6)),
            chance: Random::new(part(seed, 5)),
            befell: Vec::new(),
            draws: 0,
            counts: BTreeMap::new(),
            turns: 0,
            doors: Vec::new(),
            disturbed: None,
            trace: 0,
            busiest: Busiest::default(),
            log: Vec::new(),
            verbose,
            plan,
        };
        let Plan { dispatchers, frontends, backends, .. } = world.plan;
        let roles = [(Role::Dispatcher, dispatchers), (Role::Frontend, frontends), (Role::Backend, backends)];
        let roles = roles.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count));
        for (dc, role) in (0..world.plan.data_centers).flat_map(|dc| roles.clone().map(move |role| (dc, role))) {
            let clock = Arc::new(AtomicI64::new(0));
            let machine = Machine {
                role,
                dc,
                life: 0,
                node: None,
                shards: Vec::new(),
                rests: Vec::new(),
                way: None,
                paused_until: 0,
                clock,
            };
            world.machines.push(machine);
        }
        let doors = |dc| Doors {
            frontends: world.addresses(Role::Frontend, dc, 8080),
            dispatchers: world.addresses(Role::Dispatcher, dc, 8081),
            backends: world.addresses(Role::Backend, dc, 8080),
        };
        world.doors = (0..world.plan.data_centers).map(doors).collect();
        for disk in world.disks.iter().filter(|_| world.plan.slow > 0) {
            let sql = "INSERT INTO rules (video, slow_seconds, comments, version) VALUES (?1, ?2, 0, 1)";
            disk.memory.connection().execute(sql, (SLOW_VIDEO, world.plan.slow)).expect("the table is there");
        }
        (0..world.machines.len()).for_each(|number| world.start(number));
        world.people();
        world.at(3 * SECOND, Event::Fault);
        world
    }

    /// Something that happens at a time.
    pub fn at(&mut self, at: u64, event: Event) -> Planned {
        self.agenda.plan(at, event)
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

    /// Machines of a role in a data center.
    pub fn addresses(&self, role: Role, dc: usize, port: u16) -> Vec<SocketAddr> {
        let is_meant = |(_, machine): &(usize, &Machine)| machine.role == role && machine.dc == dc;
        self.machines.iter().enumerate().filter(is_meant).map(|(number, _)| address(number, port)).collect()
    }

    /// The shard has its next turn within some microseconds.
    fn turn_soon(&mut self, id: ShardId) {
        if !self.turning.contains_key(&id) {
            let at = self.now + 1_000 + self.schedule.of(id.number()).number() % 50_000;
            let planned = self.at(at.max(self.machines[id.machine].paused_until), Event::Turn(id));
            self.turning.insert(id, planned);
        }
    }

    /// Runs until a time.
    pub fn run(&mut self, until: u64) {
        while let Some((at, event)) = self.agenda.next(until) {
            self.now = at.max(self.now);
            self.shared_now.set(self.now);
            // Only these may have asked a store.
            let asks = !matches!(event, Event::Tick(..) | Event::Rest(..) | Event::Transit(_) | Event::Client(_));
            self.step(event);
            self.gather(asks);
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
                    self.fabric.lock().rouse(id, TICKS);
                    // A timer that goes off while nobody runs does so once.
                    let at = (self.now + TICK.as_nanos() as u64).max(until);
                    self.at(at, Event::Tick(id, life));
                }
            }
            Event::Rest(id, life) => {
                if self.machines[id.machine].life == life {
                    self.fabric.lock().rouse(id, RESTED);
                }
            }
            Event::Transit(transit) => self.fabric.lock().arrive(transit),
            Event::Store(store::Step::Asked { who, life, ticket, request }) => {
                self.stores[self.machines[who.machine].dc].lock().asked(who, life, ticket, *request);
            }
            Event::Store(store::Step::Says { who, life, heard }) => self.hear(who, life, heard),
            Event::Store(store::Step::Commits { dc, life }) => self.stores[dc].lock().commits(life),
            Event::Database(number, life, step) => self.at_database(number, life, step),
            Event::Hook(number, life, step) => self.at_hook(number, life, step),
            Event::Client(number) => self.client(number),
            Event::Fault => crate::faults::happen(self),
            Event::End(number, life) => self.end(number, life),
            // It may run since all was healed.
            Event::Start(number) if self.machines[number].node.is_some() => {}
            Event::Start(number) => self.start(number),
        }
    }

    fn hear(&mut self, who: ShardId, life: u64, heard: Box<fanfare::kv::Heard>) {
        let machine = &self.machines[who.machine];
        let Some(node) = machine.node.as_ref().filter(|_| machine.life == life) else { return };
        if let Err(Message::Kv(heard)) = node.mail[who.shard].try_send(Message::Kv(heard)) {
            self.at(self.now + MILLISECOND, Event::Store(store::Step::Says { who, life, heard }));
        }
        self.woken(who.machine);
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
        let mut fabric = self.fabric.lock();
        let (ready, sends) = (fabric.take_ready(id), fabric.sends);
        drop(fabric);
        self.mix(id.machine as u64 * 64 + id.shard as u64 + ready.len() as u64 * 4096);
        // Tables that it makes are ordered by its own stream, too.
        seed_tables(self.schedule.of(id.number()).number());
        let machine = &mut self.machines[id.machine];
        let counters = Arc::clone(&machine.node.as_ref().expect("it runs").counters);
        let requests = counters[id.shard].requests.get();
        let again = machine.shards[id.shard].turn(&ready);
        self.busiest.requests = self.busiest.requests.max(counters[id.shard].requests.get() - requests);
        let mut fabric = self.fabric.lock();
        self.busiest.sends = self.busiest.sends.max(fabric.sends - sends);
        fabric.knock_again(id);
        drop(fabric);
        self.turns += 1;
        if again {
            self.turn_soon(id);
        }
        let machine = &self.machines[id.machine];
        let life = machine.life;
        let rest = machine.rests[id.shard].lock().expect("nobody panics with it").take();
        if let Some(at) = rest {
            self.at(at, Event::Rest(id, life));
        }
        self.woken(id.machine);
        self.store_soon(id.machine);
        self.ended(id.machine);
    }

    /// Shards of a machine to which something was sent, and that were woken by it, have a turn.
    fn woken(&mut self, machine: usize) {
        let Some(node) = &self.machines[machine].node else { return };
        let woken = |shard: &usize| !node.mail[*shard].is_empty() && node.mail[*shard].takes_wake();
        let woken: Vec<usize> = (0..node.mail.len()).filter(woken).collect();
        woken.into_iter().for_each(|shard| self.turn_soon(ShardId { machine, shard }));
    }

    /// Plans what the last step caused.
    fn gather(&mut self, asks: bool) {
        let mut fabric = self.fabric.lock();
        let transits = std::mem::take(&mut fabric.transits);
        let mut roused = std::mem::take(&mut fabric.roused);
        let mut stirred = std::mem::take(&mut fabric.stirred);
        drop(fabric);
        for (at, transit) in transits {
            self.at(at, Event::Transit(transit));
        }
        for dc in (0..self.stores.len()).filter(|_| asks) {
            let steps = std::mem::take(&mut self.stores[dc].lock().steps);
            for (at, step) in steps {
                self.at(at, Event::Store(step));
            }
        }
        for dc in 0..self.receivers.len() {
            self.hand_over(dc);
        }
        roused.sort_unstable();
        for id in roused {
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
        self.stores.iter().for_each(|store| store.lock().heal());
        self.disks.iter_mut().for_each(Disk::heal);
        for machine in &mut self.machines {
            machine.paused_until = machine.paused_until.min(self.now);
        }
        let down: Vec<usize> =
            (0..self.machines.len()).filter(|number| self.machines[*number].node.is_none()).collect();
        for number in down {
            self.start(number);
        }
        self.quiet();
        self.publish(false);
    }

    /// A Frontend is killed when all is quiet, and back soon.
    pub fn strike(&mut self) {
        let is_frontend = |number: &usize| self.machines[*number].role == Role::Frontend;
        let all: Vec<usize> = (0..self.machines.len()).filter(is_frontend).collect();
        let number = all[(Random::new(part(self.plan.seed, 10)).number() % all.len() as u64) as usize];
        self.say(|| format!("machine {number} is killed"));
        self.crash(number);
        self.at(self.now + SECOND, Event::Start(number));
    }
}

fn times(now: &Now, clock: &Arc<AtomicI64>) -> Times {
    let (now, clock, begin) = (now.clone(), Arc::clone(clock), *BEGIN);
    Times::simulated(move || {
        let passed = Duration::from_nanos(now.get());
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
