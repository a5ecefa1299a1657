//! What an embedded store whose history is kept has changed and is not kept yet. Nobody is shown it and nobody has an answer that
//! rests on it before it is; if it cannot be kept it is all taken back, with what came behind it, so that memory never has
//! what a restart would not.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kv::kept::{Keep, Keeper};
use crate::kv::memory::{State, Tables};
use crate::kv::pace::Room;
use crate::kv::{Answer, Heard, Unavailable};
use crate::limits::KEPT_BATCH;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::shrink::shrink;
use crate::wire::position::Position;

/// An event that history was given.
#[derive(Debug)]
pub(crate) struct Made {
    /// The change that it is.
    pub(crate) keep: Keep,
    /// Who is to have it, too.
    pub(crate) peers: Vec<String>,
    /// What its type had before, if that has a pace.
    pub(crate) room: Option<Room>,
}

/// Events of a peer were taken, up to this number before.
#[derive(Debug)]
pub(crate) struct Took {
    pub(crate) dc: String,
    pub(crate) bucket: u8,
    pub(crate) epoch: u64,
    pub(crate) before: Position,
}

/// A request that is answered once what it changed is kept, and all that was changed before.
#[derive(Debug)]
struct Waiter {
    shard: usize,
    ticket: u64,
    answer: Answer,
    made: Vec<Made>,
    took: Option<Took>,
}

/// All that is not kept yet. Bounded as questions to the key-value store are.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// By the request that is looked at.
    pub(crate) made: Vec<Made>,
    pub(crate) took: Option<Took>,
    waiting: VecDeque<Waiter>,
    /// So many of those who wait, the first ones, do for what the keeper has.
    handed: usize,
}

/// What a shard is to hear, or all of them.
type Told = (Option<usize>, Heard);

/// Changes that the keeper has.
#[derive(Debug)]
pub struct Batch(Arc<State>);

impl Batch {
    /// All of them are kept, or else none is. May wait for room in a shard's mailbox.
    pub fn done(self, result: Result<(), Unavailable>) {
        let Some(keeper) = &self.0.keeper else { return };
        let mut told = Vec::new();
        let mut tables = self.0.lock();
        match result {
            Ok(()) => self.0.settle(&mut tables, keeper, &mut told),
            Err(unavailable) => tables.take_back(&unavailable, &mut told),
        }
        drop(tables);
        told.into_iter().for_each(|(shard, heard)| keeper.tell(shard, heard));
    }
}

impl State {
    /// What was just changed is kept before `answer` is given to this shard, for its ticket. Gives an answer where there is
    /// nothing to wait for.
    pub(crate) fn wait(
        self: &Arc<State>,
        tables: &mut Tables,
        keeper: &Arc<dyn Keeper>,
        (shard, ticket): (usize, u64),
        answer: Answer,
    ) -> Option<Result<Answer, Unavailable>> {
        let pending = &mut tables.pending;
        let (made, took) = (std::mem::take(&mut pending.made), pending.took.take());
        if made.is_empty() && pending.waiting.is_empty() {
            return Some(Ok(answer));
        }
        let is_first = pending.waiting.is_empty();
        pending.waiting.push_back(Waiter { shard, ticket, answer, made, took });
        let mut told = Vec::new();
        if is_first {
            self.hand_on(tables, keeper, &mut told);
        }
        match told.pop() {
            Some((_, Heard::Answer { result, .. })) => Some(result),
            _ => None,
        }
    }

    /// Gives the keeper what waits: however much is published it has one command at a time.
    fn hand_on(self: &Arc<State>, tables: &mut Tables, keeper: &Arc<dyn Keeper>, told: &mut Vec<Told>) {
        let pending = &mut tables.pending;
        let mut changes = Vec::new();
        for waiter in &pending.waiting {
            if changes.len() >= KEPT_BATCH {
                break;
            }
            changes.extend(waiter.made.iter().map(|made| made.keep.clone()));
            pending.handed += 1;
        }
        if changes.is_empty() {
            // They wait for nothing any more.
            tables.show(self.times.unix_ms(), told);
        } else if let Err(unavailable) = keeper.keep(changes, Batch(Arc::clone(self))) {
            tables.take_back(&unavailable, told);
        }
    }

    /// What the keeper had is kept.
    fn settle(self: &Arc<State>, tables: &mut Tables, keeper: &Arc<dyn Keeper>, told: &mut Vec<Told>) {
        tables.show(self.times.unix_ms(), told);
        self.hand_on(tables, keeper, told);
    }
}

impl Tables {
    /// What the keeper had is kept: readers are shown it, peers are to have it, and those who wait have their answers.
    fn show(&mut self, now_ms: u64, told: &mut Vec<Told>) {
        let (mut notices, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..std::mem::take(&mut self.pending.handed) {
            let Some(Waiter { shard, ticket, answer, made, .. }) = self.pending.waiting.pop_front() else { break };
            for made in &made {
                let Keep { event, withdraws, .. } = &made.keep;
                self.histories.show(&event.topic, event.position, withdraws.as_deref());
                self.queue(made, now_ms, &mut notices);
            }
            answers.push((Some(shard), Heard::Answer { ticket, result: Ok(answer) }));
        }
        told.extend(notices.into_iter().map(|notice| (None, Heard::Notice(notice))));
        told.extend(answers);
        shrink(&mut self.pending.waiting);
    }

    /// What the keeper had is not kept: all that is not is as if it had never been asked for, the newest first.
    fn take_back(&mut self, unavailable: &Unavailable, told: &mut Vec<Told>) {
        let waiting = std::mem::take(&mut self.pending.waiting);
        self.pending.handed = 0;
        for waiter in waiting.iter().rev().filter(|_| !planted(Mistake::UnkeptStays)) {
            for Made { keep: Keep { event, forgets, once, .. }, room, .. } in waiter.made.iter().rev() {
                self.histories.take_back(&event.topic, event.position, *room);
                self.histories.give_back(forgets);
                once.iter().for_each(|once| self.onces.release(&once.key, &once.id));
            }
            if let Some(Took { dc, bucket, epoch, before }) = &waiter.took {
                self.peers.take_back(dc, *bucket, *epoch, *before);
            }
        }
        for Waiter { shard, ticket, .. } in waiting {
            told.push((Some(shard), Heard::Answer { ticket, result: Err(unavailable.clone()) }));
        }
    }
}
