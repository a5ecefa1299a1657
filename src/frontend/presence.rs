//! Presence, after LinkedIn's Presence Platform: a member's streams are signs of life; a Frontend gives them to the key-value store, and
//! tells who came online by that; the backend that ranks highest for a member's bucket tells who went offline.

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::kv::{Answer, Request as KvRequest, Unavailable};
use crate::limits::*;

impl Frontend {
    /// Once a tick: signs of life that are due.
    pub(crate) fn tick_presence(&mut self, ground: &mut Ground) {
        let due = self.members.due(ground.clock.instant, PRESENCE_BATCH);
        if !due.is_empty() {
            if ground.is_renewing_hooks() {
                due.iter().for_each(|member| ground.tell_hooks_online(member));
            }
            self.give_signs(ground, due);
        }
        self.compare_presence(ground);
    }

    /// Once a turn: signs of life of members who came.
    pub(crate) fn greet_newcomers(&mut self, ground: &mut Ground) {
        let newcomers = self.members.newcomers(PRESENCE_BATCH);
        if !newcomers.is_empty() {
            self.give_signs(ground, newcomers);
        }
    }

    /// Signs of life of members: on to the key-value store, by way of a dispatcher where this node has none.
    fn give_signs(&mut self, ground: &mut Ground, members: Vec<String>) {
        ground.counters().presence_beats.add(members.len() as u64);
        ground.ask(KvRequest::Beat(members.clone()), Asked::Beat(members));
    }

    /// The store heard signs of life, or did not.
    pub(crate) fn on_beaten(&mut self, ground: &mut Ground, members: Vec<String>, result: Result<Answer, Unavailable>) {
        self.members.heard();
        match result {
            Ok(Answer::Turned(turns)) => ground.tell_turns(turns),
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            // Members who left meanwhile are given once more, which keeps them online for one guard longer at most.
            Err(_) => self.members.unheard(members),
        }
        self.greet_newcomers(ground);
    }
}
