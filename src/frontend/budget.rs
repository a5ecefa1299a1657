//! The shard's budget for clients that read too slowly: what waits for all of them together is bounded, and when it is too
//! much, those with the most go first.

use crate::frontend::Frontend;
use crate::frontend::lag::Lag;
use crate::ground::Ground;
use crate::ground::slots::Conn;
use crate::observe::happenings::What;
use crate::runtime::account::Use;

impl Frontend {
    /// Keeps the sum of what waits true: called when what waits for this slot's stream has changed.
    pub(crate) fn settle(&mut self, slot: u32) {
        if let Some(lag) = self.lags.get_mut(slot) {
            lag.held.settle(lag.bytes());
        }
    }

    /// Over the budget: those with the most waiting lose what they can have again, and are to resume from history; if that
    /// does not help they are cut. It goes on until an eighth of the budget is free, so that it is not to be done again at
    /// once.
    pub(crate) fn keep_to_budget(&mut self, ground: &mut Ground) {
        if !ground.account.is_over(Use::Streams) {
            return;
        }
        let budget = ground.account.most(Use::Streams);
        let enough = budget - budget / 8;
        let mut lagging: Vec<(usize, Conn)> = Vec::new();
        for number in 0..ground.slots.capacity() {
            let slot = ground.slots.at(number);
            if let Some(lag) = self.lags.get(number) {
                lagging.push((lag.bytes(), Conn { slot: number, generation: slot.generation }));
            }
        }
        lagging.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for &(_, conn) in &lagging {
            if ground.account.held(Use::Streams) <= enough {
                return;
            }
            let Some(lag) = self.lags.get_mut(conn.slot) else { continue };
            let shed = lag.backlog.shed();
            ground.happened(What::DroppedOverrun, shed.every, ground.subject(conn));
            ground.happened(What::DroppedBudget, shed.ephemeral, ground.subject(conn));
            self.settle(conn.slot);
        }
        for &(_, conn) in &lagging {
            if ground.account.held(Use::Streams) <= enough {
                return;
            }
            self.cut(ground, conn);
        }
    }

    /// Whether the sum is what it should be; for debug builds, whose every test checks it so.
    pub(crate) fn is_accounted(&self, ground: &Ground) -> bool {
        let held = (0..ground.slots.capacity()).filter_map(|number| self.lags.get(number)).map(Lag::bytes);
        held.sum::<usize>() + self.polls.bytes() + self.held_pages.bytes() == ground.account.held(Use::Streams)
    }
}
