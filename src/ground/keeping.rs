//! The embedded key-value store's history goes into the node's database beside what else is stored.

use crate::db::{Command, Store};
use crate::ground::message::{Message, Then, Ticket};
use crate::ground::slots::Conn;
use crate::kv::kept::{Keep, Keeper};
use crate::kv::memory::pending::Batch;
use crate::kv::{Heard, Unavailable};
use crate::runtime::clock::Times;
use crate::runtime::mailbox::Sender;
use crate::wire::hops::Begun;

/// Keeps history in a database.
#[derive(Debug)]
pub struct Keeping {
    store: Store<Ticket>,
    mail: Vec<Sender<Message>>,
    times: Times,
}

impl Keeping {
    /// In this database; shards are told by `mail`.
    pub fn new(store: Store<Ticket>, mail: Vec<Sender<Message>>, times: Times) -> Keeping {
        Keeping { store, mail, times }
    }
}

impl Keeper for Keeping {
    fn keep(&self, changes: Vec<Keep>, batch: Batch) -> Result<(), Unavailable> {
        let asked_at = self.times.instant();
        let then = Then::Kept(batch);
        let ticket =
            Ticket { shard: 0, asker: 0, conn: Conn::NOBODY, asked_at, then, begun: Begun::default(), held: None };
        let taken = self.store.try_submit(Command::Keep(changes), ticket);
        taken.map_err(|_| Unavailable("the database's queue is full".to_owned()))
    }

    fn tell(&self, shard: Option<usize>, heard: Heard) {
        let shards = shard.map_or(0..self.mail.len(), |shard| shard..shard + 1);
        for shard in &self.mail[shards] {
            // The shard is gone only when the node is; then nobody waits for the answer.
            let _ = shard.send(Message::Kv(Box::new(heard.clone())));
        }
    }
}
