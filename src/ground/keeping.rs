//! The embedded key-value store's history goes into the node's database beside what else is stored: with one command at a
//! time, so that however much is published it takes one place in the queue of likes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::{Command, Outcome, Store, StoreError};
use crate::ground::message::{Message, Then, Ticket};
use crate::ground::slots::Conn;
use crate::kv::kept::{Keep, Keeper};
use crate::kv::{Answer, Heard, Unavailable};
use crate::limits::KEPT_BATCH;
use crate::runtime::clock::Times;
use crate::runtime::mailbox::Sender;
use crate::wire::hops::Begun;

/// Who waits for changes to be kept, and what it is told then.
#[derive(Debug)]
struct Waiter {
    shard: usize,
    ticket: u64,
    answer: Answer,
}

#[derive(Debug, Default)]
struct Queue {
    /// A command is with the database.
    busy: bool,
    waiting: VecDeque<(Vec<Keep>, Waiter)>,
}

/// Keeps history in a database.
#[derive(Debug)]
pub struct Keeping {
    store: Store<Ticket>,
    mail: Vec<Sender<Message>>,
    queue: Mutex<Queue>,
    times: Times,
}

/// Changes that are with the database. Bounded as questions to the key-value store are.
#[derive(Debug)]
pub struct Batch {
    keeping: Arc<Keeping>,
    waiters: Vec<Waiter>,
}

impl Keeping {
    /// In this database; shards are told by `mail`.
    pub fn new(store: Store<Ticket>, mail: Vec<Sender<Message>>, times: Times) -> Keeping {
        Keeping { store, mail, queue: Mutex::default(), times }
    }

    /// Hands on what waits, unless something is with the database already. If that takes no more, those who wait are told.
    fn go_on(self: &Arc<Keeping>, queue: &mut Queue) {
        if queue.busy || queue.waiting.is_empty() {
            return;
        }
        let (mut changes, mut waiters) = (Vec::new(), Vec::new());
        while changes.len() < KEPT_BATCH
            && let Some((more, waiter)) = queue.waiting.pop_front()
        {
            changes.extend(more);
            waiters.push(waiter);
        }
        let then = Then::Kept(Batch { keeping: Arc::clone(self), waiters });
        let asked_at = self.times.instant();
        let ticket =
            Ticket { shard: 0, asker: 0, conn: Conn::NOBODY, asked_at, then, begun: Begun::default(), held: None };
        match self.store.try_submit(Command::Keep(changes), ticket) {
            Ok(()) => queue.busy = true,
            Err(full) => {
                if let Then::Kept(batch) = full.ticket.then {
                    batch.tell(&Err(Unavailable("the database's queue is full".to_owned())));
                }
            }
        }
    }
}

impl Batch {
    /// It is kept, or could not be: those who wait hear of it, and what came meanwhile is next.
    pub fn done(self, result: Result<Outcome, StoreError>) {
        let keeping = Arc::clone(&self.keeping);
        self.tell(&result.map(drop).map_err(|error| Unavailable(error.to_string())));
        let mut queue = keeping.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.busy = false;
        keeping.go_on(&mut queue);
    }

    fn tell(self, result: &Result<(), Unavailable>) {
        for Waiter { shard, ticket, answer } in self.waiters {
            let result = result.clone().map(|()| answer);
            // The shard is gone only when the node is; then nobody waits for the answer.
            let _ = self.keeping.mail[shard].send(Message::Kv(Box::new(Heard::Answer { ticket, result })));
        }
    }
}

impl Keeper for Arc<Keeping> {
    fn keep(&self, shard: usize, ticket: u64, changes: Vec<Keep>, answer: Answer) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back((changes, Waiter { shard, ticket, answer }));
        self.go_on(&mut queue);
    }
}
