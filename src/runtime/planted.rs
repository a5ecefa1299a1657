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
    /// A commit that failed is taken for one that worked.
    CommitUnchecked,
    /// A request that comes again by its key is done again.
    KeyIgnored,
    /// What a store could not keep stays in its memory.
    UnkeptStays,
    /// A post is marked as told before a dispatcher took it.
    OutboxMarkedEarly,
    /// Nobody gets the outbox whose holder is gone.
    OutboxLeaseKept,
    /// What is posted does not wait for what the outbox has of its topic.
    OutboxOvertaken,
    /// A like that a dispatcher may have taken is sent again.
    HandedOverTwice,
    /// What merges counts as one.
    MergedCountLost,
    /// Of a key that comes again in what merges only the first ones count.
    CountOfKeyDropped,
    /// What came within a window is not sent at its end.
    WindowUnsent,
    /// Whatever its pace, all of a type is shown.
    PaceUnbounded,
    /// What a pace left out is shown to those who come back.
    PaceForgottenOnResume,
    /// A topic that nobody watched for a moment is let go though somebody came back.
    TopicLetGo,
    /// A shard that looked into its mailbox is not woken again.
    WakeUpLost,
    /// A node that is gone counts as alive.
    NodeLeaseKept,
    /// A batch of frames that comes again is taken again.
    SeenIgnored,
    /// A stream that comes back is given nothing of what precedes its place.
    NoOverlap,
    /// A new stream is not given the newest values.
    NewestUnshown,
    /// Events of another data center that come again are taken again.
    QueueNumberIgnored,
    /// What came from another data center is sent on to others.
    PeerRebroadcast,
    /// A stream goes on when its token ended.
    TokenEndIgnored,
    /// A stream keeps topics that its new token does not name.
    RightsUnchecked,
    /// Viewers of a Frontend that died count on.
    GhostsCounted,
    /// The store is not told that a member's turn was told.
    TurnsUnsettled,
    /// Counts that the store lost are not sent again.
    CountsUnrepaired,
    /// A member who went is not said to be gone.
    MemberKept,
    /// That a like was taken back is not told.
    UnlikeUntold,
    /// Of totals of likes those of one data center are shown for those of all.
    SubtotalShown,
    /// A member's comments follow one another as fast as in a video without slow mode.
    SlowModeForgotten,
    /// Who comes to a video later is not told its rules.
    RulesUntold,
    /// A member who watches on two nodes counts twice.
    MemberCountedTwice,
    /// A member whose last stream is gone counts on while others watch.
    MemberGoneCounted,
    /// A delivery to a hook's receiver that failed is taken for one that was taken.
    HookFailureTaken,
    /// A delivery of a hook does not wait for one before it that failed.
    HookOvertaken,
    /// What a backend did not store for hooks is not told again.
    HookNewsOnce,
    /// What others told of viewers, who stood in for this dispatcher, stays what was told.
    StandInBelieved,
    /// A Frontend drops one in 1,000 of the events that come to it.
    EventDropped,
    /// An event goes to nobody who wants its topic by a prefix.
    PrefixUnrouted,
    /// A prefix is not compared with the topics that the store has.
    PrefixUncompared,
    /// A stream that comes back is not given the topics of a prefix that it missed.
    PrefixUnreplayed,
    /// Who names a topic of a prefix that it has is not given what viewers who named it before had.
    NameUnread,
}

/// All of them.
pub const ALL: [Mistake; 50] = [
    Mistake::PrevUnchecked,
    Mistake::HolesUnread,
    Mistake::EndsUncompared,
    Mistake::RepairForgotten,
    Mistake::FrameTorn,
    Mistake::WritableMissed,
    Mistake::AcknowledgedEarly,
    Mistake::LastIdIgnored,
    Mistake::GapUntold,
    Mistake::CommitUnchecked,
    Mistake::KeyIgnored,
    Mistake::UnkeptStays,
    Mistake::OutboxMarkedEarly,
    Mistake::OutboxLeaseKept,
    Mistake::OutboxOvertaken,
    Mistake::HandedOverTwice,
    Mistake::MergedCountLost,
    Mistake::CountOfKeyDropped,
    Mistake::WindowUnsent,
    Mistake::PaceUnbounded,
    Mistake::PaceForgottenOnResume,
    Mistake::TopicLetGo,
    Mistake::WakeUpLost,
    Mistake::NodeLeaseKept,
    Mistake::SeenIgnored,
    Mistake::NoOverlap,
    Mistake::NewestUnshown,
    Mistake::QueueNumberIgnored,
    Mistake::PeerRebroadcast,
    Mistake::TokenEndIgnored,
    Mistake::RightsUnchecked,
    Mistake::GhostsCounted,
    Mistake::TurnsUnsettled,
    Mistake::CountsUnrepaired,
    Mistake::MemberKept,
    Mistake::UnlikeUntold,
    Mistake::SubtotalShown,
    Mistake::SlowModeForgotten,
    Mistake::RulesUntold,
    Mistake::MemberCountedTwice,
    Mistake::MemberGoneCounted,
    Mistake::HookFailureTaken,
    Mistake::HookOvertaken,
    Mistake::HookNewsOnce,
    Mistake::StandInBelieved,
    Mistake::EventDropped,
    Mistake::PrefixUnrouted,
    Mistake::PrefixUncompared,
    Mistake::PrefixUnreplayed,
    Mistake::NameUnread,
];

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// From now on this thread makes this mistake, or none.
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// From now on this thread makes the mistake that the variable `PLANTED_MISTAKE` names, for tests of the program itself.
#[expect(clippy::disallowed_methods, reason = "a thread that begins asks once")]
pub fn plant_named() {
    if cfg!(debug_assertions)
        && let Ok(name) = std::env::var("PLANTED_MISTAKE")
    {
        plant(ALL.into_iter().find(|mistake| format!("{mistake:?}") == name));
    }
}

/// Whether this thread is to make this mistake.
#[inline(always)]
pub fn planted(mistake: Mistake) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(mistake)
}
