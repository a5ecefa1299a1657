//! Machines of a world start and crash.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use fanfare::ground::Parts;
use fanfare::ground::message::Message;
use fanfare::limits::TICK;
use fanfare::roles::{self, Ways};
use fanfare::runtime::mailbox::{self, Sender};
use fanfare::runtime::net::Net;
use fanfare::runtime::random::seed_tables;
use fanfare::runtime::resolver::Found;
use fanfare::settings::Flags;
use fanfare::settings::{Role, Settings};
use fanfare::shard::Shard;
use fanfare::wire::connection_id::NodeId;

use super::{Event, World, address, dc_name, times};
use crate::clients::{MILLISECOND, SECOND};
use crate::database::Step;
use crate::fabric::{ShardId, ShardNet};
use crate::hooks;
use crate::store;
use crate::streams::part;
use crate::tokens;

/// Messages that a mailbox holds: few, so that it is full at times, and costs little.
const MESSAGES: usize = 1024;

/// The settings of nodes.
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/fanfare.toml");

impl World {
    pub(super) fn start(&mut self, number: usize) {
        let (seed, shards) = (self.plan.seed, self.plan.shards);
        let machine = &mut self.machines[number];
        machine.life += 1;
        let (life, role, dc) = (machine.life, machine.role, machine.dc);
        let seed = |what: u64| part(seed, 1000 + number as u64 * 100 + life * 10_000 + what);
        let (public, internal) = (address(number, 8080), address(number, 8081));
        let urls = |addresses: &[SocketAddr]| {
            let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
            urls.join(",")
        };
        let dispatchers = self.addresses(Role::Dispatcher, dc, 8081);
        let others = (0..self.plan.data_centers).filter(|other| *other != dc);
        let peers: Vec<String> = others
            .map(|other| format!("{}={}", dc_name(other), urls(&self.addresses(Role::Dispatcher, other, 8081))))
            .collect();
        let has_hooks = self.plan.hooks && role == Role::Backend;
        let config = if has_hooks { hooks::SETTINGS } else { SETTINGS };
        let to_receiver = hooks::Way { shared: self.receivers[dc].clone(), machine: number, life };
        let environment = [
            ("FANFARE_LISTEN", public.to_string()),
            ("FANFARE_INTERNAL", internal.to_string()),
            ("FANFARE_KV", "redis://127.0.0.1:1".to_owned()),
            ("FANFARE_AUTH", if self.plan.tokens { "jwt" } else { "none" }.to_owned()),
            ("FANFARE_JWT_KEY_FILE", tokens::FILE.to_owned()),
            ("FANFARE_DISPATCHERS", urls(&dispatchers)),
            ("FANFARE_DC", dc_name(dc)),
            ("FANFARE_PEER", peers.join(";")),
            ("FANFARE_CANARY", if self.plan.canary { "on" } else { "off" }.to_owned()),
            ("FANFARE_DB", "sqlite:/nowhere/fanfare.db".to_owned()),
            ("FANFARE_CONFIG", config.to_owned()),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let settings = Settings::resolve(role, &Flags::default(), environment).expect("the settings are right");
        let (mail, mailboxes): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mailbox::mailbox::<Message>(MESSAGES).expect("an eventfd")).unzip();
        let times = times(&self.shared_now, &self.machines[number].clock);
        seed_tables(seed(2));
        let database = (role == Role::Backend).then(|| self.disks[dc].store());
        let (database, to_database) = database.unzip();
        let way = store::Way { shared: self.stores[dc].clone(), machine: number };
        let ways = Ways {
            id: NodeId(seed(1)),
            times: times.clone(),
            public,
            internal,
            certificates: None,
            tokens: self.plan.tokens.then(tokens::checked),
            mail,
            kv: (role == Role::Dispatcher).then(|| Arc::new(way) as _),
            resolver: None,
            store: database,
            hook_sender: has_hooks.then(|| Arc::new(to_receiver) as _),
            spans: None,
            authorizer: None,
            memory: 1 << 32,
            connections: 10_000,
        };
        let (node, live) = roles::assemble(&settings, ways).expect("the settings are right");
        let ids = (0..shards).map(|shard| ShardId { machine: number, shard });
        let mut fabric = self.fabric.lock();
        fabric.listen(public, 0, ids.clone());
        fabric.listen(internal, 1, ids.clone());
        drop(fabric);
        let mut rests = Vec::new();
        let mut started = Vec::new();
        for (id, mailbox) in ids.clone().zip(mailboxes) {
            self.stores[dc].lock().lives.insert(id, life);
            let rest: Arc<Mutex<Option<u64>>> = Arc::default();
            rests.push(Arc::clone(&rest));
            let net = ShardNet { shared: self.fabric.clone(), shard: id, rests: rest };
            let at = seed(10 + id.shard as u64);
            let parts = Parts {
                id: id.shard,
                node: Arc::clone(&node),
                live: Arc::clone(&live),
                mailbox,
                net: Net::Simulated(Box::new(net)),
                times: times.clone(),
                seed: at,
                key: (at, !at),
            };
            started.push(Shard::start(parts));
        }
        if role != Role::Dispatcher {
            for mail in &node.mail {
                let found = Message::Found(Box::new(Found::Dispatchers(dispatchers.clone())));
                mail.try_send(found).map_err(|_| ()).expect("the mailbox is empty");
            }
        }
        let machine = &mut self.machines[number];
        (machine.node, machine.shards, machine.rests, machine.way) = (Some(node), started, rests, to_database);
        if machine.way.is_some() {
            self.at(self.now + SECOND, Event::Database(number, life, Step::Looks));
        }
        for id in ids {
            self.turn_soon(id);
            let at = self.now + self.schedule.of(id.number()).number() % TICK.as_nanos() as u64;
            self.at(at, Event::Tick(id, life));
        }
        self.say(|| format!("machine {number} starts, {role:?} of {}, life {life}", dc_name(dc)));
    }

    /// A process ends as by SIGKILL.
    pub fn crash(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        (machine.node, machine.shards, machine.rests, machine.paused_until) = (None, Vec::new(), Vec::new(), 0);
        machine.way = None;
        let dc = machine.dc;
        self.fabric.lock().crash(number);
        let shards = (0..self.plan.shards).map(|shard| ShardId { machine: number, shard });
        for id in shards {
            self.stores[dc].lock().lives.remove(&id);
            if let Some(planned) = self.turning.remove(&id) {
                self.agenda.cancel(planned);
            }
        }
    }

    /// A machine is told to end, in this life of it: it does when it has nothing left.
    pub(super) fn end(&mut self, number: usize, life: u64) {
        let machine = &self.machines[number];
        let Some(node) = machine.node.as_ref().filter(|_| machine.life == life) else { return };
        node.draining.store(true, Ordering::Relaxed);
        // Who was told before takes no notice.
        let is_full = |mail: &Sender<Message>| mail.try_send(Message::Drain).is_err();
        if node.mail.iter().filter(|mail| is_full(mail)).count() > 0 {
            self.at(self.now + MILLISECOND, Event::End(number, life));
        }
        self.woken(number);
    }

    /// The process of a machine that was told to end is gone once no shard of it has anything left, and another one starts.
    pub(super) fn ended(&mut self, number: usize) {
        let machine = &self.machines[number];
        let is_told = machine.node.as_ref().is_some_and(|node| node.draining.load(Ordering::Relaxed));
        if is_told && machine.shards.iter().all(Shard::is_drained) {
            self.say(|| format!("machine {number} ends"));
            self.crash(number);
            self.disturb(self.now + SECOND);
            self.count("ends", 1);
            self.at(self.now + SECOND, Event::Start(number));
        }
    }

    /// A backend for which something waits stores it soon.
    pub(super) fn store_soon(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let Some(way) = machine.way.as_mut().filter(|way| !way.is_busy) else { return };
        let waits =
            machine.node.as_ref().is_some_and(|node| node.store.as_ref().is_some_and(|store| store.queued() > 0));
        if waits {
            way.is_busy = true;
            let (life, at) = (machine.life, self.now + self.disks[machine.dc].takes());
            self.at(at, Event::Database(number, life, Step::Runs));
        }
    }

    pub(super) fn at_database(&mut self, number: usize, life: u64, step: Step) {
        let machine = &mut self.machines[number];
        let disk = &mut self.disks[machine.dc];
        let (Some(node), Some(way), true) = (&machine.node, &mut machine.way, machine.life == life) else { return };
        if machine.paused_until > self.now {
            let at = machine.paused_until;
            self.at(at, Event::Database(number, life, step));
            return;
        }
        match step {
            Step::Runs => {
                let (takes, answers) = disk.run(way);
                self.at(self.now + takes, Event::Database(number, life, Step::Answers(answers)));
            }
            Step::Answers(answers) => {
                let mail = node.mail.clone();
                let mut waiting = Vec::new();
                for (ticket, result) in answers {
                    let shard = ticket.shard;
                    self.count(if result.is_ok() { "stored" } else { "not stored" }, 1);
                    let stored = Message::Stored(Box::new((ticket, result)));
                    if let Err(Message::Stored(stored)) = mail[shard].try_send(stored) {
                        waiting.push(*stored);
                    }
                }
                // The thread waits for room in a full mailbox.
                if waiting.is_empty() {
                    self.machines[number].way.as_mut().expect("it was just there").is_busy = false;
                    self.store_soon(number);
                } else {
                    self.at(self.now + MILLISECOND, Event::Database(number, life, Step::Answers(waiting)));
                }
                self.woken(number);
            }
            Step::Looks => {
                let at = if way.is_busy { self.now + SECOND } else { disk.look(way) };
                self.at(at, Event::Database(number, life, Step::Looks));
            }
        }
    }

    /// What shards gave for a receiver is sent soon.
    pub(super) fn hand_over(&mut self, dc: usize) {
        let works = self.works();
        let mut receiver = self.receivers[dc].lock();
        let handed = std::mem::take(&mut receiver.handed);
        let planned: Vec<_> = handed.into_iter().map(|handed| (receiver.takes(works), handed)).collect();
        drop(receiver);
        for (takes, (number, life, run)) in planned {
            self.at(self.now + takes, Event::Hook(number, life, hooks::Step::Sent(run)));
        }
    }

    /// Nothing befalls deliveries any more.
    fn works(&self) -> bool {
        self.now >= self.plan.seconds * SECOND
    }

    pub(super) fn at_hook(&mut self, number: usize, life: u64, step: hooks::Step) {
        let machine = &self.machines[number];
        let Some(node) = machine.node.as_ref().filter(|_| machine.life == life) else { return };
        if machine.paused_until > self.now {
            self.at(machine.paused_until, Event::Hook(number, life, step));
            return;
        }
        match step {
            hooks::Step::Sent(run) => {
                let (dc, works) = (machine.dc, self.works());
                let mut receiver = self.receivers[dc].lock();
                let (ran, takes) = (receiver.send(run, self.now, works), receiver.takes(works));
                drop(receiver);
                self.at(self.now + takes, Event::Hook(number, life, hooks::Step::Heard(ran)));
            }
            hooks::Step::Heard(ran) => {
                if let Err(Message::HooksSent(ran)) = node.mail[0].try_send(Message::HooksSent(ran)) {
                    self.at(self.now + MILLISECOND, Event::Hook(number, life, hooks::Step::Heard(ran)));
                }
                self.woken(number);
            }
        }
    }
}
