//! A shard's part in a backend: what is stored, and what viewers are told of it.

use std::time::Instant;

use super::ground::Ground;
use super::telling::Posts;
use crate::backend::taps::Taps;
use crate::backend::totals::Totals;
use crate::frontend::typists::Typists;

/// See the [module](self).
pub struct Backend {
    pub(super) posts: Posts,
    /// Videos at home here whose likes changed.
    pub(super) totals: Totals,
    pub(super) taps: Taps,
    pub(super) typists: Typists,
    /// Stands for when the last like was stored.
    pub(super) stored_last: u64,
    /// When it looks next for members who went offline.
    pub(super) next_due: Instant,
}

impl Backend {
    /// That of a shard which begins.
    pub(super) fn start(ground: &Ground) -> Backend {
        Backend {
            posts: Posts::new(&ground.account, ground.clock.instant),
            totals: Totals::default(),
            taps: Taps::default(),
            typists: Typists::default(),
            stored_last: 0,
            next_due: ground.clock.instant,
        }
    }
}

impl Backend {
    /// Once a tick.
    pub(super) fn tick(&mut self, ground: &mut Ground) {
        self.tick_outbox(ground);
        self.tick_taps(ground);
        self.tick_totals(ground);
        self.look_for_absent(ground);
    }

    /// Nothing waits for the database.
    pub(super) fn is_settled(&self) -> bool {
        self.posts.lines.is_settled() && self.taps.is_empty()
    }
}
