//! A lane of the store: its own connection, its own batches. While the database is away it answers at once.
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::db::health::{Failing, Health, Work};
use crate::db::postgres::batch;
use crate::db::postgres::batch::Failure;
use crate::db::postgres::session::{Opener, Session};
use crate::db::{Command, LaneEnd, Outcome, StoreError};
use crate::limits::{
    POSTGRES_BATCH, POSTGRES_IDLE, POSTGRES_PAUSE_MAX, POSTGRES_PAUSE_MIN, POSTGRES_STATEMENT, STORE_BATCH_COMMANDS,
};

type Results = Vec<Result<Outcome, StoreError>>;

/// What is wrong with each lane, if something is. One that fails is enough to call the store unwell.
#[derive(Debug)]
pub(crate) struct Wellness {
    lanes: RefCell<Vec<LaneState>>,
    health: Health,
}

/// How a lane is.
#[derive(Debug, Clone, Default)]
struct LaneState {
    /// Why it has no connection.
    away: Option<String>,
    failing: Failing,
}

impl LaneState {
    fn wrong(&self) -> Option<&str> {
        self.away.as_deref().or(self.failing.what())
    }
}

impl Wellness {
    /// That of lanes which have these connections, or lack one for this reason.
    pub(crate) fn new(sessions: &[Result<Session, String>], health: Health) -> Wellness {
        let state = |session: &Result<Session, String>| LaneState {
            away: session.as_ref().err().cloned(),
            ..LaneState::default()
        };
        let wellness = Wellness { lanes: RefCell::new(sessions.iter().map(state).collect()), health };
        wellness.tell();
        wellness
    }

    fn change<R>(&self, lane: usize, change: impl FnOnce(&mut LaneState) -> R) -> R {
        let came = change(&mut self.lanes.borrow_mut()[lane]);
        self.tell();
        came
    }

    fn tell(&self) {
        let lanes = self.lanes.borrow();
        self.health.set(lanes.iter().find_map(LaneState::wrong));
    }

    /// See [`Failing::attempted`].
    fn attempted(&self, lane: usize, work: Work, result: Result<(), &str>) -> bool {
        self.change(lane, |state| state.failing.attempted(work, result))
    }

    fn tried(&self, lane: usize, result: Result<(), &str>) {
        self.change(lane, |state| state.failing.tried(result));
    }

    fn fails(&self, lane: usize) -> bool {
        self.lanes.borrow()[lane].failing.what().is_some()
    }

    fn detail(&self, lane: usize) -> String {
        self.lanes.borrow()[lane].wrong().unwrap_or("no connection").to_owned()
    }
}

pub(crate) struct Lane<T, A> {
    pub(crate) number: usize,
    pub(crate) opener: Rc<Opener>,
    pub(crate) end: LaneEnd<T>,
    pub(crate) answer: Rc<A>,
    pub(crate) wellness: Rc<Wellness>,
    /// None while the database is away.
    pub(crate) session: Option<Session>,
    /// When the database is to be tried by a write that nobody asked for: only writes that somebody asks for put it off.
    pub(crate) probe_at: Instant,
}

impl<T, A> Lane<T, A>
where
    A: Fn(T, Result<Outcome, StoreError>),
{
    /// Serves the queue until every sender is gone and it is empty.
    pub(crate) async fn serve(mut self) {
        loop {
            if self.session.is_none() && !self.reconnect().await {
                return;
            }
            // A lane that always has something to do would never find out that it works again.
            let is_due = self.wellness.fails(self.number) && Instant::now() >= self.probe_at;
            let taken = if is_due { None } else { timeout_at(self.probe_at, self.take()).await.ok() };
            let Some(taken) = taken else {
                self.look_after().await;
                continue;
            };
            let Some((commands, tickets)) = taken else { return };
            let results = self.run(commands).await;
            assert_eq!(results.len(), tickets.len(), "every command has its result");
            for (ticket, result) in tickets.into_iter().zip(results) {
                (self.answer)(ticket, result);
            }
        }
    }

    /// Waits for a first command and takes all that have queued up meanwhile. None when the lane is closed and empty.
    async fn take(&self) -> Option<(Vec<Command>, Vec<T>)> {
        use crossbeam_channel::TryRecvError::{Disconnected, Empty};
        let first = loop {
            match self.end.receiver.try_recv() {
                Ok(first) => break first,
                Err(Empty) => self.end.wake.notified().await,
                Err(Disconnected) => return None,
            }
        };
        let rest = self.end.receiver.try_iter().take(STORE_BATCH_COMMANDS - 1);
        Some(std::iter::once(first).chain(rest).unzip())
    }

    /// Finds out during quiet times that the database fails, so that readiness says so before a like does, or works again.
    async fn look_after(&mut self) {
        let Some(session) = &self.session else { return };
        // By a write: who only reads, or only answers, may be full, read-only or locked.
        let probed = session.probe().await;
        if probed.is_err() {
            self.session = None;
        }
        self.wellness.tried(self.number, probed.as_ref().map(drop).map_err(String::as_str));
        self.probe_later();
    }

    fn probe_later(&mut self) {
        let pause = if self.wellness.fails(self.number) { POSTGRES_PAUSE_MAX } else { POSTGRES_IDLE };
        self.probe_at = Instant::now() + pause;
    }

    fn attempted(&mut self, work: Work, result: Result<(), &str>) {
        if self.wellness.attempted(self.number, work, result) {
            self.probe_later();
        }
    }

    /// Tries until there is a session, and answers commands meanwhile. False when the lane is closed.
    async fn reconnect(&mut self) -> bool {
        let mut pause = POSTGRES_PAUSE_MIN;
        loop {
            let opening = async { Some(self.opener.open().await) };
            let opened = futures_lite::future::or(opening, async {
                self.refuse_all().await;
                None
            });
            match opened.await {
                None => return false,
                Some(Ok(session)) => {
                    self.wellness.health.opened(session.ids.database());
                    self.session = Some(session);
                    self.wellness.change(self.number, |state| state.away = None);
                    return true;
                }
                Some(Err(failed)) => self.wellness.change(self.number, |state| state.away = Some(failed.detail())),
            }
            let waiting = async {
                sleep(jittered(pause)).await;
                true
            };
            let waited = futures_lite::future::or(waiting, async {
                self.refuse_all().await;
                false
            });
            if !waited.await {
                return false;
            }
            pause = (pause * 2).min(POSTGRES_PAUSE_MAX);
        }
    }

    /// Answers that the database is away. Ends when the lane is closed and empty.
    async fn refuse_all(&self) {
        while let Some((_, tickets)) = self.take().await {
            let error = StoreError::Unavailable { detail: self.wellness.detail(self.number) };
            for ticket in tickets {
                (self.answer)(ticket, Err(error.clone()));
            }
        }
    }

    /// Runs a batch within [`POSTGRES_BATCH`]. If it fails, all of its commands that write and are not answered yet are
    /// [`StoreError::Unavailable`].
    async fn run(&mut self, commands: Vec<Command>) -> Results {
        let deadline = Instant::now() + POSTGRES_BATCH;
        let work = Work::of(&commands);
        let session = self.session.as_ref().expect("a batch is taken by a lane with a session");
        let (mut results, mut places, mut good) = (Vec::with_capacity(commands.len()), Vec::new(), Vec::new());
        for command in commands {
            match batch::refuse(session, &command) {
                Ok(()) => {
                    places.push(results.len());
                    good.push(command);
                    // What stays so was not reached.
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        // A part of the batch that the database refuses is cut in two, until the one command is found that is to blame.
        let mut parts: Vec<Range<usize>> = Vec::new();
        if !good.is_empty() {
            parts.push(0..good.len());
        }
        let mut failed = None;
        while let Some(part) = parts.pop() {
            match self.attempt(&good[part.clone()], deadline).await {
                Ok(done) => {
                    for (index, result) in part.zip(done) {
                        results[places[index]] = Some(result);
                    }
                }
                Err(failure) if failure.refused && part.len() == 1 => {
                    results[places[part.start]] = Some(Err(StoreError::Refused { detail: failure.detail }));
                }
                Err(failure) if failure.refused => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(failure) => {
                    failed = Some(failure.detail);
                    break;
                }
            }
        }
        // A database that answers and stores nothing, such as a full one, is as unwell as one that is away.
        self.attempted(work, failed.as_deref().map_or(Ok(()), Err));
        if failed.is_some() && work == Work::Write {
            // What only reads failed in the company of what writes, and goes on without it.
            let left =
                places.into_iter().zip(good).filter(|(place, command)| results[*place].is_none() && !command.writes());
            let (places, reads): (Vec<usize>, Vec<Command>) = left.unzip();
            if !reads.is_empty() {
                let done = self.attempt(&reads, deadline).await.unwrap_or_default();
                for (place, result) in places.into_iter().zip(done) {
                    results[place] = Some(result);
                }
            }
        }
        let unavailable = || Err(StoreError::Unavailable { detail: failed.clone().unwrap_or_default() });
        results.into_iter().map(|result| result.unwrap_or_else(unavailable)).collect()
    }

    /// Runs a part of a batch, and once more where nothing was stored for sure and the reason has passed.
    async fn attempt(&mut self, commands: &[Command], deadline: Instant) -> Result<Results, Failure> {
        match self.try_once(commands, deadline).await {
            Err(failure) if failure.again => self.try_once(commands, deadline).await,
            result => result,
        }
    }

    async fn try_once(&mut self, commands: &[Command], deadline: Instant) -> Result<Results, Failure> {
        let failure = |detail| Failure { detail, kept: false, again: false, refused: false };
        let late = || failure(format!("the server did not answer within {} ms", POSTGRES_BATCH.as_millis()));
        if self.session.is_none() {
            let opened = timeout_at(deadline, self.opener.open()).await.map_err(|_| late())?;
            self.session = Some(opened.map_err(|failed| failure(failed.detail()))?);
        }
        let session = self.session.as_ref().expect("it was opened if there was none");
        let result = timeout_at(deadline, batch::run(session, commands)).await.unwrap_or_else(|_| Err(late()));
        if let Err(failure) = &result {
            let kept = failure.kept && {
                let rollback = session.client.batch_execute("ROLLBACK");
                matches!(timeout(POSTGRES_STATEMENT / 2, rollback).await, Ok(Ok(())))
            };
            if !kept {
                self.session = None;
            }
        }
        result
    }
}

/// Half of a pause to all of it, so that backends do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}
