//! The simulated key-value store of a data center: the real tables in memory, behind a network of their own and what
//! befalls a store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare::kv::memory::MemoryKv;
use fanfare::kv::{Answer, Heard, KeyValue, Notice, Request, Unavailable};
use fanfare::runtime::clock::Times;
use fanfare::runtime::trouble::Reason;

use crate::agenda::Now;
use crate::fabric::ShardId;
use crate::streams::Streams;

/// How long any event type is kept.
const HISTORY_MS: u64 = 3_600_000;

/// What happens at the store, or on the way from it, after some time.
#[derive(Debug)]
pub enum Step {
    /// A question comes to it.
    Asked { who: ShardId, life: u64, ticket: u64, request: Box<Request> },
    /// It says something to a shard.
    Says { who: ShardId, life: u64, heard: Box<Heard> },
}

pub struct Tables {
    kv: MemoryKv,
    times: Times,
    /// Of the shards that ask.
    streams: Streams,
    /// It answers nothing until then.
    pub down_until: u64,
    pub now: Now,
    /// The most extra delay of anything, in nanoseconds.
    pub jitter: u64,
    /// Nothing of a shard passes what it asked before.
    asked: BTreeMap<ShardId, u64>,
    told: BTreeMap<ShardId, u64>,
    /// Which life of its machine a shard is in.
    pub lives: BTreeMap<ShardId, u64>,
    pub steps: Vec<(u64, Step)>,
    pub questions: u64,
    /// How far its clock is ahead of the world's, in ms.
    pub ahead_ms: i64,
}

/// A store, as all who use it share it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Tables>>);

impl Shared {
    pub fn new(seed: u64, now: Now, times: Times, ahead_ms: i64) -> Shared {
        Shared(Arc::new(Mutex::new(Tables {
            kv: MemoryKv::new(HISTORY_MS, times.clone()),
            times,
            streams: Streams::new(seed),
            down_until: 0,
            now,
            jitter: 1_000_000,
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            lives: BTreeMap::new(),
            steps: Vec::new(),
            questions: 0,
            ahead_ms,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn delay(&mut self, who: ShardId) -> u64 {
        50_000 + self.streams.of(who.number()).number() % self.jitter.max(1)
    }

    fn ask(&mut self, who: ShardId, ticket: u64, request: Request) {
        let at = (self.now.get() + self.delay(who)).max(self.asked.get(&who).map_or(0, |last| last + 1));
        self.asked.insert(who, at);
        let life = self.lives[&who];
        self.steps.push((at, Step::Asked { who, life, ticket, request: Box::new(request) }));
    }

    fn say(&mut self, who: ShardId, life: u64, after: u64, heard: Heard) {
        let at = (self.now.get() + after).max(self.told.get(&who).map_or(0, |last| last + 1));
        self.told.insert(who, at);
        self.steps.push((at, Step::Says { who, life, heard: Box::new(heard) }));
    }

    /// A question came. Who asked is answered, and everybody is told what changed.
    pub fn asked(&mut self, who: ShardId, life: u64, ticket: u64, request: Request) {
        self.questions += 1;
        if self.now.get() < self.down_until {
            let result = Err(Unavailable("simulated: it is away".to_owned()));
            let after = 1_000_000 + self.streams.of(who.number()).number() % 500_000_000;
            return self.say(who, life, after, Heard::Answer { ticket, result });
        }
        let mut notices = Vec::new();
        let result: Result<Answer, Unavailable> =
            self.kv.submit(who.shard, ticket, request, &mut notices).expect("tables in memory answer at once");
        for notice in notices {
            self.tell_all(&notice);
        }
        let after = self.delay(who);
        self.say(who, life, after, Heard::Answer { ticket, result });
    }

    fn tell_all(&mut self, notice: &Notice) {
        for (who, life) in self.lives.clone() {
            let after = self.delay(who);
            self.say(who, life, after, Heard::Notice(notice.clone()));
        }
    }

    /// It comes back without anything that it held.
    pub fn empty(&mut self) {
        self.kv = MemoryKv::new(HISTORY_MS, self.times.clone());
        self.tell_all(&Notice::InvalidatedAll);
    }

    /// It answers nothing for a while; caches hear that they cannot be believed when it is back.
    pub fn outage(&mut self, until: u64) {
        self.down_until = self.down_until.max(until);
        self.tell_all(&Notice::InvalidatedAll);
    }
}

/// A machine's way to its store.
pub struct Way {
    pub shared: Shared,
    pub machine: usize,
}

impl KeyValue for Way {
    fn submit(
        &self,
        shard: usize,
        ticket: u64,
        request: Request,
        _: &mut Vec<Notice>,
    ) -> Option<Result<Answer, Unavailable>> {
        self.shared.lock().ask(ShardId { machine: self.machine, shard }, ticket, request);
        None
    }

    fn trouble(&self) -> Option<Reason> {
        let tables = self.shared.lock();
        (tables.now.get() < tables.down_until).then(|| Reason::plain("simulated: it is away"))
    }
}
