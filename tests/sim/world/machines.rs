//! Machines of a world start and crash.

use std::sync::{Arc, Mutex};

use fanfare::args::Flags;
use fanfare::limits::{MAILBOX_MESSAGES, TICK};
use fanfare::roles::{self, Ways};
use fanfare::runtime::mailbox;
use fanfare::runtime::net::Net;
use fanfare::runtime::random::seed_tables;
use fanfare::runtime::resolver::Found;
use fanfare::server::message::Message;
use fanfare::server::shard::{Parts, Shard};
use fanfare::settings::{Role, Settings};
use fanfare::wire::connection_id::NodeId;

use super::{Event, World, address, times};
use crate::fabric::{ShardId, ShardNet};
use crate::store;
use crate::streams::part;

impl World {
    pub(super) fn start(&mut self, number: usize) {
        let (seed, shards) = (self.plan.seed, self.plan.shards);
        let machine = &mut self.machines[number];
        machine.life += 1;
        let (life, role) = (machine.life, machine.role);
        let seed = |what: u64| part(seed, 1000 + number as u64 * 100 + life * 10_000 + what);
        let (public, internal) = (address(number, 8080), address(number, 8081));
        let dispatchers = self.addresses(Role::Dispatcher, 8081);
        let listed: Vec<String> = dispatchers.iter().map(|address| format!("http://{address}")).collect();
        let environment = [
            ("FANFARE_LISTEN", public.to_string()),
            ("FANFARE_INTERNAL", internal.to_string()),
            ("FANFARE_KV", "redis://127.0.0.1:1".to_owned()),
            ("FANFARE_DISPATCHERS", listed.join(",")),
            ("FANFARE_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/fanfare.toml").to_owned()),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let settings = Settings::resolve(role, &Flags::default(), environment).expect("the settings are right");
        let (mail, mailboxes): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mailbox::mailbox::<Message>(MAILBOX_MESSAGES).expect("an eventfd")).unzip();
        let times = times(&self.shared_now, &self.machines[number].clock);
        seed_tables(seed(2));
        let way = store::Way { shared: self.store.clone(), machine: number };
        let ways = Ways {
            id: NodeId(seed(1)),
            times: times.clone(),
            public,
            internal,
            tokens: None,
            mail,
            kv: (role == Role::Dispatcher).then(|| Arc::new(way) as _),
            resolver: None,
            store: None,
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
            self.store.lock().lives.insert(id, life);
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
        if role == Role::Frontend {
            for mail in &node.mail {
                let found = Message::Found(Found::Dispatchers(dispatchers.clone()));
                mail.try_send(found).map_err(|_| ()).expect("the mailbox is empty");
            }
        }
        let machine = &mut self.machines[number];
        (machine.node, machine.shards, machine.rests) = (Some(node), started, rests);
        for id in ids {
            self.turn_soon(id);
            let at = self.now + self.schedule.of(id.number()).number() % TICK.as_nanos() as u64;
            self.at(at, Event::Tick(id, life));
        }
        self.say(|| format!("machine {number} starts, {role:?}, life {life}"));
    }

    /// A process ends as by SIGKILL.
    pub fn crash(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        (machine.node, machine.shards, machine.rests, machine.paused_until) = (None, Vec::new(), Vec::new(), 0);
        self.fabric.lock().crash(number);
        let shards = (0..self.plan.shards).map(|shard| ShardId { machine: number, shard });
        for id in shards {
            self.store.lock().lives.remove(&id);
            if let Some(planned) = self.turning.remove(&id) {
                self.heap.remove(&planned);
            }
        }
    }
}
