//! The thread: takes questions, sees to their order, and answers each one in time, whatever the servers do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::{PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::kv::redis::channel::Told;
use crate::kv::redis::gates::{Gates, Group, gates};
use crate::kv::redis::keys::subscribers_topic;
use crate::kv::redis::link::Pushed;
use crate::kv::redis::store::Store;
use crate::kv::redis::{channel, replies};
use crate::kv::{Answer, Heard, Notice, Request, Tell, Unavailable};
use crate::limits::{REDIS_ANSWER, REDIS_TAKEN};
use crate::runtime::random::Map;
use crate::wire::topic::Topic;

/// A question on its way to the thread.
pub struct Question {
    /// Who asks.
    pub shard: usize,
    /// What its answer is to carry.
    pub ticket: u64,
    /// What is asked.
    pub request: Request,
    /// When.
    pub asked: std::time::Instant,
}

struct Pending {
    shard: usize,
    ticket: u64,
    /// None once it is under way.
    request: Option<Request>,
}

/// The thread's state.
pub struct Worker {
    store: Rc<Store>,
    tell: Tell,
    shards: usize,
    /// Questions that are not answered yet, over all.
    open: Arc<AtomicUsize>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    gates: Gates,
    pending: Map<u64, Pending>,
    /// In the order of asking, which is that of their end, since all have the same time.
    deadlines: VecDeque<(Instant, u64)>,
}

impl Worker {
    /// A thread's state, with nothing asked.
    pub fn new(store: Rc<Store>, tell: Tell, shards: usize, open: Arc<AtomicUsize>) -> Rc<Worker> {
        Rc::new(Worker { store, tell, shards, open, state: RefCell::default() })
    }

    /// Takes questions until nobody can ask any more.
    pub async fn run(self: Rc<Worker>, mut questions: mpsc::UnboundedReceiver<Question>) {
        let mut taken = Vec::with_capacity(REDIS_TAKEN);
        loop {
            let deadline = self.state.borrow().deadlines.front().map(|(deadline, _)| *deadline);
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => self.expire(),
                count = questions.recv_many(&mut taken, REDIS_TAKEN) => match count {
                    0 => return,
                    _ => taken.drain(..).for_each(|question| self.take(question)),
                },
            }
        }
    }

    fn take(self: &Rc<Worker>, question: Question) {
        let Question { shard, ticket, request, asked } = question;
        let (passes, mode) = gates(shard, &request);
        if let Request::Subscribers(topic) = &request {
            self.store.lookups.borrow_mut().begin(topic);
        }
        let mut state = self.state.borrow_mut();
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, Pending { shard, ticket, request: Some(request) });
        state.deadlines.push_back((Instant::from_std(asked) + REDIS_ANSWER, id));
        let group = state.gates.enter(id, passes, mode);
        drop(state);
        group.into_iter().for_each(|group| self.begin(group));
    }

    fn begin(self: &Rc<Worker>, group: Group) {
        let mut requests = Vec::with_capacity(group.len());
        let mut state = self.state.borrow_mut();
        for id in &group {
            let pending = state.pending.get_mut(id).and_then(|pending| pending.request.take());
            requests.push(pending.expect("what waits is given up together with its place"));
        }
        drop(state);
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let lookup = match &requests[..] {
                [Request::Subscribers(topic)] => Some(topic.clone()),
                _ => None,
            };
            let count = requests.len();
            // Who asked was answered by then; this gives their place free.
            let results = match timeout(REDIS_ANSWER, worker.store.answer(requests)).await {
                Ok(results) => results,
                Err(_) => vec![Err(late()); count],
            };
            for (id, result) in group.iter().zip(results) {
                worker.answer(*id, result, lookup.as_ref());
            }
            let next = worker.state.borrow_mut().gates.leave(&group);
            next.into_iter().for_each(|group| worker.begin(group));
        });
    }

    fn answer(&self, id: u64, result: Result<Answer, Unavailable>, lookup: Option<&Topic>) {
        let pending = self.state.borrow_mut().pending.remove(&id);
        let stale = lookup.is_some_and(|topic| self.store.lookups.borrow_mut().end(topic));
        let Some(Pending { shard, ticket, .. }) = pending else { return };
        self.open.fetch_sub(1, Ordering::AcqRel);
        (self.tell)(shard, Heard::Answer { ticket, result });
        if let Some(topic) = lookup.filter(|_| stale) {
            (self.tell)(shard, Heard::Notice(Notice::Invalidated(topic.clone())));
        }
    }

    /// Answers what has waited for too long.
    fn expire(self: &Rc<Worker>) {
        let now = Instant::now();
        loop {
            let mut state = self.state.borrow_mut();
            let Some(&(deadline, id)) = state.deadlines.front() else { return };
            if deadline > now && state.pending.contains_key(&id) {
                return;
            }
            state.deadlines.pop_front();
            if deadline > now {
                continue;
            }
            let Some(pending) = state.pending.remove(&id) else { continue };
            // One that is under way keeps its place until the servers have had their say.
            let next = if pending.request.is_some() { state.gates.leave(&[id]) } else { Vec::new() };
            drop(state);
            if let Some(Request::Subscribers(topic)) = &pending.request {
                self.store.lookups.borrow_mut().end(topic);
            }
            self.open.fetch_sub(1, Ordering::AcqRel);
            (self.tell)(pending.shard, Heard::Answer { ticket: pending.ticket, result: Err(late()) });
            next.into_iter().for_each(|group| self.begin(group));
        }
    }

    /// Passes on what servers say unasked.
    pub async fn pass_on(self: Rc<Worker>, pushed: Rc<Pushed>) {
        loop {
            let Some((push, overflown)) = pushed.next().await else { return };
            if overflown {
                self.notify(Notice::InvalidatedAll);
            }
            match push.kind {
                PushKind::Invalidate => {}
                PushKind::Message => {
                    self.told(push.data);
                    continue;
                }
                _ => continue,
            }
            match push.data.into_iter().next().and_then(list_of_keys) {
                None => self.notify(Notice::InvalidatedAll),
                Some(keys) => {
                    for topic in keys.iter().filter_map(|key| Topic::parse(subscribers_topic(key)?).ok()) {
                        self.notify(Notice::Invalidated(topic));
                    }
                }
            }
        }
    }

    /// The channel says something.
    fn told(self: &Rc<Worker>, data: Vec<Value>) {
        let message = data.into_iter().nth(1).and_then(replies::text);
        match message.as_deref().and_then(channel::told) {
            Some(Told::Change(change)) => self.notify(Notice::Counts(Arc::new(change))),
            Some(Told::PeerViewers(viewers)) => self.notify(Notice::PeerViewers(Arc::new(viewers))),
            Some(Told::Queued(bucket)) => self.notify(Notice::Queued(bucket)),
            Some(Told::Read(node, number)) => self.read(move |store| async move {
                store.node_counts(node, number).await.map(|counts| Notice::Counts(Arc::new(counts)))
            }),
            Some(Told::ReadPeer(dc)) => self.read(move |store| async move {
                store.peer_viewers(dc).await.map(|viewers| Notice::PeerViewers(Arc::new(viewers)))
            }),
            // Of another version, perhaps.
            None => self.notify(Notice::InvalidatedAll),
        }
    }

    /// Tells every shard what is read.
    fn read<F>(self: &Rc<Worker>, read: impl FnOnce(Rc<Store>) -> F + 'static)
    where
        F: Future<Output = Result<Notice, Unavailable>> + 'static,
    {
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let read = timeout(REDIS_ANSWER, read(Rc::clone(&worker.store))).await;
            worker.notify(read.ok().and_then(Result::ok).unwrap_or(Notice::InvalidatedAll));
        });
    }

    /// Tells every shard.
    pub fn notify(&self, notice: Notice) {
        self.store.lookups.borrow_mut().changed(&notice);
        for shard in 0..self.shards {
            (self.tell)(shard, Heard::Notice(notice.clone()));
        }
    }
}

fn late() -> Unavailable {
    Unavailable(format!("no answer within {REDIS_ANSWER:?}"))
}

/// The keys that are named; none means all of them.
fn list_of_keys(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Nil => None,
        value => Some(replies::list(value)?.into_iter().filter_map(replies::text).collect()),
    }
}
