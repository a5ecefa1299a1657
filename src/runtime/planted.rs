//! Mistakes that a simulation plants, to see that it would find them. A release build has none of this.

use std::cell::Cell;

/// A mistake of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// An event is delivered though the one before it is missing.
    PrevUnchecked,
    /// Holes in a topic's order are not read from history.
    HolesUnread,
    /// A node's topics are not compared with what history has.
    EndsUncompared,
    /// What the store lacks of a node's wants is not sent again.
    RepairForgotten,
    /// The rest of a frame that a socket took in part is not sent.
    FrameTorn,
    /// A stream is not served when its socket has room again.
    WritableMissed,
    /// A publisher is answered before its event is in history.
    AcknowledgedEarly,
    /// What a client came with is not looked at.
    LastIdIgnored,
    /// A client is not told that it missed something.
    GapUntold,
}

/// All of them.
pub const ALL: [Mistake; 9] = [
    Mistake::PrevUnchecked,
    Mistake::HolesUnread,
    Mistake::EndsUncompared,
    Mistake::RepairForgotten,
    Mistake::FrameTorn,
    Mistake::WritableMissed,
    Mistake::AcknowledgedEarly,
    Mistake::LastIdIgnored,
    Mistake::GapUntold,
];

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// From now on this thread makes this mistake, or none.
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// Whether this thread is to make this mistake.
#[inline(always)]
pub fn planted(mistake: Mistake) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(mistake)
}
