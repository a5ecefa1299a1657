//! The shard's budget for clients that read too slowly: what waits for all of them together is bounded, and when it is too
//! much, those with the most go first.

use super::ending::Ended;
use super::shard::Shard;
use super::slots::{Conn, Kind};
use crate::runtime::account::Use;

impl Shard {
    /// Keeps the sum of what waits true: called when what waits for this slot's stream has changed.
    pub(super) fn settle(&mut self, slot: u32) {
        if let Kind::Lagging(lag) = &mut self.slots.at_mut(slot).kind {
            lag.held.settle(lag.bytes());
        }
    }

    /// Over the budget: those with the most waiting lose what they can have again, and are to resume from history; if that
    /// does not help they are cut. It goes on until an eighth of the budget is free, so that it is not to be done again at
    /// once.
    pub(super) fn keep_to_budget(&mut self) {
        if !self.account.is_over(Use::Streams) {
            return;
        }
        let budget = self.account.most(Use::Streams);
        let enough = budget - budget / 8;
        let mut lagging: Vec<(usize, Conn)> = Vec::new();
        for number in 0..self.slots.capacity() {
            let slot = self.slots.at(number);
            if let Kind::Lagging(lag) = &slot.kind {
                lagging.push((lag.bytes(), Conn { slot: number, generation: slot.generation }));
            }
        }
        lagging.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for &(_, conn) in &lagging {
            if self.account.held(Use::Streams) <= enough {
                return;
            }
            let Kind::Lagging(lag) = &mut self.slots.at_mut(conn.slot).kind else { continue };
            let shed = lag.backlog.shed();
            self.counters().dropped_overrun.add(shed.every);
            self.counters().dropped_budget.add(shed.ephemeral);
            self.settle(conn.slot);
        }
        for &(_, conn) in &lagging {
            if self.account.held(Use::Streams) <= enough {
                return;
            }
            self.close_stream(conn, Ended::Budget);
        }
    }

    /// Whether the sum is what it should be; for debug builds, whose every test checks it so.
    pub(super) fn is_accounted(&self) -> bool {
        let held = (0..self.slots.capacity()).map(|number| match &self.slots.at(number).kind {
            Kind::Lagging(lag) => lag.bytes(),
            _ => 0,
        });
        held.sum::<usize>() + self.polls.bytes() + self.held_pages.bytes() == self.account.held(Use::Streams)
    }
}
