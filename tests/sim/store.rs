//! The simulated key-value store of a data center: the real tables in memory, behind a network of their own and what
//! befalls a store.

mod book;
pub mod kinds;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare::kv::kept::Keeper;
use fanfare::kv::memory::MemoryKv;
use fanfare::kv::{Answer, Heard, KeyValue, Notice, Request, Unavailable};
use fanfare::runtime::clock::Times;
use fanfare::runtime::trouble::Reason;

use crate::agenda::Now;
use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::ShardId;
use crate::store::book::Book;
use crate::streams::Streams;

/// Whose draws a database's are.
const KEEPS: u64 = u64::MAX;

/// How long any event type is kept.
const HISTORY_MS: u64 = 3_600_000;

/// What happens at the store, or on the way from it, after some time.
#[derive(Debug)]
pub enum Step {
    /// A question comes to it.
    Asked { who: ShardId, life: u64, ticket: u64, request: Box<Request> },
    /// It says something to a shard.
    Says { who: ShardId, life: u64, heard: Box<Heard> },
    /// In this data center's, what it gave its database is on disk, or is not; in this life of it.
    Commits { dc: usize, life: u64 },
}

/// A store whose history outlives its process.
struct Keeps {
    book: Arc<Book>,
    dc: usize,
    life: u64,
    /// Its database was given something.
    is_committing: bool,
    /// Nothing is kept until then.
    broken_until: u64,
    /// Who waits for what, by the number of its question.
    waiting: BTreeMap<u64, (ShardId, u64, u64)>,
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
    /// It does what is asked of it by this kind of question, and its answer is lost on the way.
    pub unheard: Option<&'static str>,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Since nothing befalls it any more, how often each turn of a member was given, by its version.
    pub turns: BTreeMap<(String, u64), u32>,
    is_healed: bool,
    keeps: Option<Keeps>,
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
            unheard: None,
            kinds: BTreeMap::new(),
            turns: BTreeMap::new(),
            is_healed: false,
            keeps: None,
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
        let kind = kinds::of(&request);
        *self.kinds.entry(kind).or_default() += 1;
        if self.now.get() < self.down_until {
            let result = Err(Unavailable("simulated: it is away".to_owned()));
            let after = 1_000_000 + self.streams.of(who.number()).number() % 500_000_000;
            return self.say(who, life, after, Heard::Answer { ticket, result });
        }
        let mut notices = Vec::new();
        let answered = self.kv.submit(0, self.questions, request, &mut notices);
        for notice in notices {
            self.tell_all(&notice);
        }
        match answered {
            Some(_) if self.unheard == Some(kind) => {
                let result = Err(Unavailable("simulated: its answer is lost".to_owned()));
                self.say(who, life, SECOND, Heard::Answer { ticket, result });
            }
            Some(result) => self.answer(who, life, ticket, result),
            None => {
                let keeps = self.keeps.as_mut().expect("tables in memory answer at once");
                keeps.waiting.insert(self.questions, (who, life, ticket));
                self.look_at_book();
            }
        }
    }

    fn answer(&mut self, who: ShardId, life: u64, ticket: u64, result: Result<Answer, Unavailable>) {
        if let (true, Ok(Answer::Turned(turns))) = (self.is_healed, &result) {
            for turn in turns {
                *self.turns.entry((turn.member.clone(), turn.version)).or_default() += 1;
            }
        }
        let after = self.delay(who);
        self.say(who, life, after, Heard::Answer { ticket, result });
    }

    /// From now on its history is kept.
    pub fn keep(&mut self, dc: usize) {
        let book = Arc::new(Book::new(self.times.unix_ms()));
        let (life, is_committing, broken_until, waiting) = Default::default();
        self.keeps = Some(Keeps { book, dc, life, is_committing, broken_until, waiting });
        self.begin(false);
    }

    /// A process of it begins, with what an earlier one kept.
    fn begin(&mut self, is_last_kept: bool) {
        let Some(Keeps { book, .. }) = &self.keeps else { return };
        let kept = book.end(is_last_kept);
        self.kv = MemoryKv::kept(HISTORY_MS, self.times.clone(), kept, Arc::clone(book) as Arc<dyn Keeper>);
    }

    /// Gives on what was said, and what is to be kept.
    fn look_at_book(&mut self) {
        let Some(keeps) = &self.keeps else { return };
        let told = std::mem::take(&mut keeps.book.lock().told);
        for (_, heard) in told {
            match heard {
                Heard::Notice(notice) => self.tell_all(&notice),
                Heard::Answer { ticket: question, result } => {
                    let waiter = self.keeps.as_mut().and_then(|keeps| keeps.waiting.remove(&question));
                    let (who, life, ticket) = waiter.expect("who is answered waits");
                    self.answer(who, life, ticket, result);
                }
            }
        }
        let now = self.now.get();
        let draw = self.streams.of(KEEPS).number();
        let is_healed = self.is_healed;
        let Some(keeps) = &mut self.keeps else { return };
        if keeps.is_committing || !keeps.book.lock().is_given() {
            return;
        }
        keeps.is_committing = true;
        // Now and then the disk takes long, or nothing for a while.
        let takes = if draw.is_multiple_of(50) && !is_healed {
            200 * MILLISECOND
        } else {
            MILLISECOND / 2 + draw % (3 * MILLISECOND)
        };
        if draw % 60 == 1 && !is_healed {
            keeps.broken_until = now + draw % (3 * SECOND);
        }
        let (dc, life) = (keeps.dc, keeps.life);
        self.steps.push((now + takes, Step::Commits { dc, life }));
    }

    /// What the database was given is on disk, or could not be put there.
    pub fn commits(&mut self, life: u64) {
        let now = self.now.get();
        let Some(keeps) = self.keeps.as_mut().filter(|keeps| keeps.life == life) else { return };
        keeps.is_committing = false;
        keeps.book.commit(now >= keeps.broken_until);
        self.look_at_book();
    }

    fn tell_all(&mut self, notice: &Notice) {
        for (who, life) in self.lives.clone() {
            let after = self.delay(who);
            self.say(who, life, after, Heard::Notice(notice.clone()));
        }
    }

    /// It comes back without anything that it held, but for history that is kept.
    pub fn empty(&mut self) {
        self.kv = MemoryKv::new(HISTORY_MS, self.times.clone());
        if let Some(keeps) = &mut self.keeps {
            keeps.life += 1;
            keeps.is_committing = false;
            let waiting = std::mem::take(&mut keeps.waiting);
            for (who, life, ticket) in waiting.into_values() {
                self.answer(who, life, ticket, Err(Unavailable("simulated: it began anew".to_owned())));
            }
            let draw = self.streams.of(KEEPS).number();
            self.begin(draw.is_multiple_of(2));
        }
        self.tell_all(&Notice::InvalidatedAll);
    }

    /// Nothing befalls it any more.
    pub fn heal(&mut self) {
        (self.down_until, self.is_healed) = (0, true);
        if let Some(keeps) = &mut self.keeps {
            keeps.broken_until = 0;
        }
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
