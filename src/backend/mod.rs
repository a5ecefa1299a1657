//! A shard's part in a backend: what is stored, and what viewers are told of it.

pub mod absence;
pub mod canary;
pub mod comparing;
pub mod counts;
pub mod deliveries;
pub mod hooks;
pub mod likes;
pub mod outbox;
pub mod passes;
pub mod posts;
pub mod rules;
pub mod tapping;
pub mod taps;
pub mod telling;
pub mod totals;
pub mod typists;

use std::time::Instant;

use crate::backend::canary::Canaries;
use crate::backend::hooks::Hooks;
use crate::backend::outbox::Posts;
use crate::backend::taps::Taps;
use crate::backend::totals::Totals;
use crate::backend::typists::Typists;
use crate::ground::Ground;

/// See the [module](self).
pub struct Backend {
    pub(crate) posts: Posts,
    /// Videos at home here whose likes changed.
    pub(crate) totals: Totals,
    pub(crate) taps: Taps,
    pub(crate) typists: Typists,
    pub(crate) hooks: Hooks,
    pub(crate) canaries: Canaries,
    /// Stands for when the last like was stored.
    pub(crate) stored_last: u64,
    /// When it looks next for members who went offline.
    pub(crate) next_due: Instant,
}

impl Backend {
    /// That of a shard which begins.
    pub(crate) fn start(ground: &Ground) -> Backend {
        Backend {
            posts: Posts::new(&ground.account, ground.clock.instant),
            totals: Totals::default(),
            taps: Taps::default(),
            typists: Typists::default(),
            hooks: Hooks::new(ground),
            canaries: Canaries::default(),
            stored_last: 0,
            next_due: ground.clock.instant,
        }
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self, ground: &mut Ground) {
        self.tick_outbox(ground);
        self.tick_taps(ground);
        self.tick_totals(ground);
        self.look_for_absent(ground);
        self.tick_hooks(ground);
        self.tick_canaries(ground);
    }

    /// Nothing waits for the database.
    pub(crate) fn is_settled(&self) -> bool {
        self.posts.lines.is_settled() && self.taps.is_empty() && self.hooks.are_settled()
    }
}
