//! Which master has what, and whether it can be reached: found, kept connected, and looked for again when one goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{RedisError, Value, cmd};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::kv::redis::address::{Address, Endpoint, Kind};
use crate::kv::redis::eviction::{Eviction, Finding};
use crate::kv::redis::keys::{Keys, PLACES, Place};
use crate::kv::redis::link::{Dialer, Pushes};
use crate::kv::redis::master::{Call, Lane, Master};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::{BUCKETS, Unavailable};
use crate::limits::{
    REDIS_BACKOFF_MAX, REDIS_BACKOFF_MIN, REDIS_CONNECT, REDIS_LOOK, REDIS_MEMORY_LOOK, REDIS_SILENT, REDIS_TOPOLOGY,
};
use crate::runtime::trouble::{Reason, Say, Told, ToldEach};
use crate::wire::position::Reach;

/// What anybody may know of servers that cannot be reached.
pub(crate) const AWAY: &str = "the key-value store is unavailable";

/// How a master is.
#[derive(Debug, Clone)]
enum State {
    Connecting,
    Up(Rc<Master>),
    Down(String),
}

#[derive(Debug)]
struct Member {
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All that is known of the servers.
pub struct Topology {
    address: Address,
    dialer: Dialer,
    keys: Rc<Keys>,
    pushes: Pushes,
    /// By the number of the place.
    routes: RefCell<[Option<Endpoint>; PLACES]>,
    members: RefCell<HashMap<Endpoint, Member>>,
    clustered: Cell<bool>,
    /// Why the servers could not be found, the last time.
    problem: RefCell<Option<String>>,
    look: Notify,
    trouble: Arc<Mutex<Option<Reason>>>,
    /// What the log heard of servers that refuse.
    told: RefCell<Told>,
    settled: Box<dyn Fn()>,
    lost: Box<dyn Fn()>,
}

/// A time between a half and all of `whole`, so that nodes do not come back in step.
pub fn jittered(whole: Duration) -> Duration {
    // Without randomness all wait for the same time, which only costs evenness.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

impl Topology {
    /// Knows nothing yet. `trouble` is kept up to date; `settled` is called when it is first known whether the servers can
    /// be used, and after every change; `lost` when what was tracked no longer is.
    pub fn new(
        address: Address,
        dialer: Dialer,
        keys: Rc<Keys>,
        pushes: Pushes,
        trouble: Arc<Mutex<Option<Reason>>>,
        settled: Box<dyn Fn()>,
        lost: Box<dyn Fn()>,
    ) -> Rc<Topology> {
        Rc::new(Topology {
            clustered: Cell::new(address.kind == Kind::Cluster),
            address,
            dialer,
            keys,
            pushes,
            routes: RefCell::new([const { None }; PLACES]),
            members: RefCell::default(),
            problem: RefCell::new(None),
            look: Notify::new(),
            trouble,
            told: RefCell::default(),
            settled,
            lost,
        })
    }

    /// Finds the servers, and looks again whenever one is missed.
    pub async fn run(self: Rc<Topology>) {
        loop {
            match self.discover().await {
                Ok(routes) => {
                    *self.problem.borrow_mut() = None;
                    self.install(routes);
                }
                Err(problem) => *self.problem.borrow_mut() = Some(problem),
            }
            self.report();
            let _ = timeout(REDIS_TOPOLOGY, self.look.notified()).await;
            // Many miss a server at once.
            sleep(jittered(REDIS_BACKOFF_MIN * 2)).await;
        }
    }

    /// Something points to the servers having changed.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    async fn discover(&self) -> Result<[Option<Endpoint>; PLACES], String> {
        match &self.address.kind {
            Kind::Sentinel { master, credentials } => {
                let dialer = self.dialer.as_other(credentials);
                let mut problems = Vec::new();
                for seed in &self.address.seeds {
                    match ask_sentinel(&dialer, seed, master).await {
                        Ok(found) => return Ok([const { None }; PLACES].map(|_: Option<Endpoint>| Some(found.clone()))),
                        Err(problem) => problems.push(problem),
                    }
                }
                Err(problems.join("; "))
            }
            _ if self.clustered.get() => self.discover_cluster().await,
            _ => Ok([const { None }; PLACES].map(|_: Option<Endpoint>| Some(self.address.seeds[0].clone()))),
        }
    }

    async fn discover_cluster(&self) -> Result<[Option<Endpoint>; PLACES], String> {
        let question = |link: Rc<Master>| async move {
            link.link(crate::kv::redis::master::Lane::Commands).ask(cmd("CLUSTER").arg("SLOTS"), REDIS_SILENT).await
        };
        let mut problems = Vec::new();
        for master in self.connected() {
            let endpoint = master.endpoint.clone();
            match question(master).await.and_then(|answer| self.routes_of(answer, &endpoint)) {
                Ok(routes) => return Ok(routes),
                Err(problem) => problems.push(format!("{endpoint}: {problem}")),
            }
        }
        let mut others = self.address.seeds.clone();
        others.extend(self.members.borrow().keys().filter(|endpoint| !self.address.seeds.contains(endpoint)).cloned());
        for endpoint in others {
            let answer = async {
                let link = self.dialer.connect(&endpoint, None).await?;
                link.ask(cmd("CLUSTER").arg("SLOTS"), REDIS_SILENT)
                    .await
                    .map_err(|problem| format!("{endpoint}: {problem}"))
            };
            match answer.await.and_then(|answer| self.routes_of(answer, &endpoint)) {
                Ok(routes) => return Ok(routes),
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("; "))
    }

    /// Reads the answer to `CLUSTER SLOTS` that `from` gave.
    fn routes_of(&self, answer: Value, from: &Endpoint) -> Result<[Option<Endpoint>; PLACES], String> {
        let unreadable = || "CLUSTER SLOTS gave something unreadable".to_owned();
        let mut ranges = Vec::new();
        for range in replies::list(answer).ok_or_else(unreadable)? {
            let mut fields = replies::list(range).ok_or_else(unreadable)?.into_iter();
            let mut number = || fields.next().and_then(|value| replies::number(&value)).ok_or_else(unreadable);
            let (first, last) = (number()?, number()?);
            let mut node = fields.next().and_then(replies::list).ok_or_else(unreadable)?.into_iter();
            let host = node.next().and_then(replies::text).unwrap_or_default();
            let port = node.next().and_then(|value| replies::number(&value)).ok_or_else(unreadable)?;
            // A node that does not know its own name is where it was asked.
            let host = if host.is_empty() || host == "?" { from.host.clone() } else { host };
            let port = u16::try_from(port).map_err(|_| unreadable())?;
            // The others' slots are served, whatever this one is called.
            ranges.extend(Endpoint::of(&host, port).map(|endpoint| (first, last, endpoint)));
        }
        if ranges.is_empty() {
            return Err("no slot of the Cluster has a master".to_owned());
        }
        let mut routes = [const { None }; PLACES];
        for place in Place::all() {
            let slot = u64::from(self.keys.slot(place));
            let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
            routes[place.number()] = range.map(|(_, _, endpoint)| endpoint.clone());
        }
        Ok(routes)
    }

    fn install(self: &Rc<Topology>, routes: [Option<Endpoint>; PLACES]) {
        let moved: Vec<Place> = Place::all()
            .filter(|place| {
                let old = &self.routes.borrow()[place.number()];
                old.is_some() && *old != routes[place.number()]
            })
            .collect();
        *self.routes.borrow_mut() = routes;
        let wanted: Vec<Endpoint> = self.routes.borrow().iter().flatten().cloned().collect();
        self.members.borrow_mut().retain(|endpoint, _| wanted.contains(endpoint));
        for endpoint in &wanted {
            self.ensure(endpoint);
        }
        if !moved.is_empty() {
            info!(places = moved.len(), "Redis: parts of the key space have another master");
            // The old master no longer says what changes.
            (self.lost)();
            self.mark(moved);
            self.hear_counts();
        }
    }

    /// Sets the marks of buckets that came to masters which were connected before.
    fn mark(self: &Rc<Topology>, moved: Vec<Place>) {
        for master in self.connected() {
            let here = moved.iter().copied().filter(|place| self.route(*place).as_ref() == Some(&master.endpoint));
            let (here, keys): (Vec<Place>, _) = (here.collect(), Rc::clone(&self.keys));
            if !here.is_empty() {
                // Where this fails, the first question to a bucket does it.
                tokio::task::spawn_local(async move { master.mark(&keys, &here).await });
            }
        }
    }

    /// Hears of changes of counts where they are made, and nowhere else.
    fn hear_counts(self: &Rc<Topology>) {
        for master in self.connected() {
            let (topology, wanted) = (Rc::clone(self), self.route(Place::Nodes).as_ref() == Some(&master.endpoint));
            tokio::task::spawn_local(async move {
                if master.hear_counts(&topology.keys, wanted).await && wanted {
                    // Something may have changed before.
                    (topology.lost)();
                }
            });
        }
    }

    fn route(&self, place: Place) -> Option<Endpoint> {
        self.routes.borrow()[place.number()].clone()
    }

    fn ensure(self: &Rc<Topology>, endpoint: &Endpoint) -> watch::Receiver<State> {
        if let Some(member) = self.members.borrow().get(endpoint) {
            return member.state.subscribe();
        }
        let (state, receiver) = watch::channel(State::Connecting);
        let task = tokio::task::spawn_local(Rc::clone(self).keep(endpoint.clone(), state.clone()));
        self.members.borrow_mut().insert(endpoint.clone(), Member { state, task });
        receiver
    }

    /// Keeps one master connected.
    async fn keep(self: Rc<Topology>, endpoint: Endpoint, state: watch::Sender<State>) {
        let mut backoff = REDIS_BACKOFF_MIN;
        // What it failed of is told once a minute each, and that it is connected where it was told that it is not.
        let (mut told, mut is_told_away) = (ToldEach::default(), true);
        loop {
            let places = self.places_of(&endpoint);
            let clustered = self.clustered.get();
            let connected =
                Master::connect(&self.dialer, &endpoint, &self.pushes, &self.keys, &places, &self.clustered).await;
            if self.clustered.get() != clustered {
                // The others are to be found first; this one may turn out to be a replica.
                *self.routes.borrow_mut() = [const { None }; PLACES];
                self.look_again();
                // It ends with this, as the one whose task this is.
                self.members.borrow_mut().remove(&endpoint);
                return;
            }
            let problem = match connected {
                Ok(master) => {
                    if std::mem::take(&mut is_told_away) {
                        info!(server = %endpoint, run_id = master.run_id, "Redis: connected");
                    }
                    backoff = REDIS_BACKOFF_MIN;
                    let master = Rc::new(master);
                    state.send_replace(State::Up(Rc::clone(&master)));
                    // What was cached before was not tracked by this connection.
                    (self.lost)();
                    // Places may have come and gone while it was connected to.
                    self.hear_counts();
                    self.report();
                    let problem = tokio::select! {
                        problem = master.watch() => problem,
                        () = self.probe(&master) => unreachable!("it goes on for ever"),
                        () = self.watch_memory(&master) => unreachable!("it goes on for ever"),
                    };
                    state.send_replace(State::Down(problem.clone()));
                    (self.lost)();
                    problem
                }
                Err(problem) => {
                    state.send_replace(State::Down(problem.clone()));
                    problem
                }
            };
            if told.fails(problem.clone(), Instant::now()) {
                warn!(problem, "Redis: not available");
                is_told_away = true;
            }
            self.report();
            self.look_again();
            sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(REDIS_BACKOFF_MAX);
        }
    }

    /// What came of a call to a server.
    pub fn attempted(&self, master: &Master, call: &Call, result: Result<(), &RedisError>) {
        if master.attempted(call, result) {
            self.report();
        }
    }

    /// Writes now and then, since a server that answers may take nothing.
    async fn probe(&self, master: &Master) {
        loop {
            sleep(REDIS_LOOK).await;
            for place in self.places_of(&master.endpoint) {
                let Place::Bucket(_) = place else { continue };
                let call = Call::Script(Script::Probe, vec![self.keys.barrier(place)], Vec::new());
                match timeout(REDIS_SILENT, master.link(Lane::Commands).send(&master.command(&call))).await {
                    Ok(Ok(_)) => self.attempted(master, &call, Ok(())),
                    // A slot on the move says nothing of the server.
                    Ok(Err(error)) if error.redirect_node().is_some() => continue,
                    Ok(Err(error)) => self.attempted(master, &call, Err(&error)),
                    // Whether it answers at all is seen elsewhere.
                    Err(_) => {}
                }
                break;
            }
        }
    }

    /// A server that drops keys when it is full drops subscriptions and history, too: what is lost is told of, and made good as
    /// far as that goes.
    async fn watch_memory(&self, master: &Master) {
        let (mut eviction, server) = (Eviction::default(), &master.endpoint);
        loop {
            // Whether it answers at all is seen elsewhere.
            let Ok(memory) = master.memory().await else {
                sleep(REDIS_LOOK).await;
                continue;
            };
            let policy = &memory.policy;
            for finding in eviction.hear(&memory, Instant::now()) {
                match finding {
                    Finding::MayDrop => warn!(
                        %server, policy, "Redis may drop keys when its memory is full; set maxmemory-policy noeviction"
                    ),
                    Finding::Keeps => info!(%server, "Redis drops no keys when its memory is full"),
                    Finding::Dropped(keys) => {
                        warn!(
                            %server, keys, policy, "Redis dropped keys for room: clients that resume from before get a gap, and \
                             nodes say again what they want; set maxmemory-policy noeviction, and give it more memory"
                        );
                        let places = self.places_of(server);
                        if master.begin_anew(&self.keys, &places).await.is_ok() {
                            (self.lost)();
                        }
                    }
                }
            }
            sleep(REDIS_MEMORY_LOOK).await;
        }
    }

    /// Brings `trouble` up to date.
    fn report(&self) {
        let problem = self.problem.borrow().clone();
        let members = self.members.borrow();
        let mut connecting = false;
        let (mut trouble, mut refused) = (None, None);
        for route in self.routes.borrow().iter() {
            let Some(endpoint) = route else {
                trouble = trouble.or(problem.clone());
                connecting |= problem.is_none();
                continue;
            };
            match members.get(endpoint).map(|member| member.state.borrow().clone()) {
                Some(State::Up(master)) => refused = refused.or_else(|| master.refuses()),
                Some(State::Down(problem)) => trouble = trouble.or(Some(problem)),
                Some(State::Connecting) | None => connecting = true,
            }
        }
        if connecting && trouble.is_none() {
            trouble = Some("connecting".to_owned());
        }
        match self.told.borrow_mut().hear(refused.is_some(), Instant::now()) {
            Some(Say::Fails) => warn!(problem = refused, "Redis: answers and does not do what it is asked"),
            Some(Say::Works) => info!("Redis: does again what it is asked"),
            None => {}
        }
        let trouble = trouble.map(|why| Reason::new(AWAY, why));
        let trouble = trouble
            .or_else(|| refused.map(|why| Reason::new("the key-value store refuses what it is asked to do", why)));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        if !connecting {
            (self.settled)();
        }
    }

    /// Masters that are connected.
    pub fn connected(&self) -> Vec<Rc<Master>> {
        let members = self.members.borrow();
        let up = members.values().filter_map(|member| match &*member.state.borrow() {
            State::Up(master) => Some(Rc::clone(master)),
            _ => None,
        });
        up.collect()
    }

    /// Places that a server has, as far as is known.
    pub fn places_of(&self, endpoint: &Endpoint) -> Vec<Place> {
        Place::all().filter(|place| self.route(*place).as_ref() == Some(endpoint)).collect()
    }

    /// The master of a place.
    ///
    /// # Errors
    /// At once, where it cannot be reached.
    pub fn master(&self, place: Place) -> Result<Rc<Master>, Unavailable> {
        let problem =
            || self.problem.borrow().clone().unwrap_or_else(|| "a part of the Cluster has no master".to_owned());
        let endpoint = self.route(place).ok_or_else(|| Unavailable(problem()))?;
        match self.members.borrow().get(&endpoint).map(|member| member.state.borrow().clone()) {
            Some(State::Up(master)) => Ok(master),
            Some(State::Down(problem)) => Err(Unavailable(problem)),
            Some(State::Connecting) | None => Err(Unavailable(format!("{endpoint}: connecting"))),
        }
    }

    /// Since when no bucket lost anything; none while that is not known of each.
    pub fn since(&self) -> Option<Reach> {
        let mark = |number| self.master(Place::Bucket(number)).ok()?.since(number);
        let marks: Option<Vec<Reach>> = (0..BUCKETS as u8).map(mark).collect();
        marks?.into_iter().max()
    }

    /// A server that another one named. Waits for the connection where there is none yet.
    pub async fn master_at(self: &Rc<Topology>, endpoint: &Endpoint) -> Result<Rc<Master>, Unavailable> {
        let mut state = self.ensure(endpoint);
        let connected = state.wait_for(|state| matches!(state, State::Up(_)));
        match timeout(REDIS_CONNECT, connected).await {
            Ok(Ok(state)) => match &*state {
                State::Up(master) => Ok(Rc::clone(master)),
                _ => Err(Unavailable(format!("{endpoint}: connecting"))),
            },
            _ => Err(Unavailable(format!("{endpoint}: no connection within {REDIS_CONNECT:?}"))),
        }
    }

    /// A server said that a place has moved to another one.
    pub fn moved(self: &Rc<Topology>, place: Place, to: Endpoint) {
        if self.route(place).as_ref() != Some(&to) {
            self.routes.borrow_mut()[place.number()] = Some(to.clone());
            self.ensure(&to);
            (self.lost)();
            self.mark(vec![place]);
            self.hear_counts();
        }
        self.look_again();
    }
}

async fn ask_sentinel(dialer: &Dialer, seed: &Endpoint, master: &str) -> Result<Endpoint, String> {
    let link = dialer.connect(seed, None).await?;
    let mut question = cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(master);
    let answer = link.ask(&question, REDIS_SILENT).await.map_err(|problem| format!("{seed}: {problem}"))?;
    let mut fields = replies::list(answer).unwrap_or_default().into_iter().filter_map(replies::text);
    let (host, port) = (fields.next(), fields.next().and_then(|port| port.parse().ok()));
    match host.zip(port).and_then(|(host, port)| Endpoint::of(&host, port)) {
        Some(endpoint) => Ok(endpoint),
        _ => Err(format!("{seed}: it knows no master of the name {master:?}")),
    }
}
