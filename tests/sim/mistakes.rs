//! The oracle sees what it is there for: each of these mistakes is one changed line, and shows within so many seeds from the
//! one beside it, which showed it when all were last searched from 2000 on: it took some 6 seeds for most of them. What a plan
//! draws moves all seeds, so that these are where the search begins, and no more.

use fanfare::runtime::planted::{self, Mistake};

use crate::faults::Fault;
use crate::publisher::Kinds;
use crate::run::{run, whole};
use crate::world::Plan;

/// The most seeds that it may take until a planted mistake shows.
const SEEDS: u64 = 100;

/// Faults that leave callers without answers.
const UNHEARD: [Fault; 3] = [Fault::Cut, Fault::Pause, Fault::Weather];

/// Faults after which a backend's outbox has something.
const AWAY: [Fault; 5] = [Fault::Cut, Fault::Dispatcher, Fault::Outage, Fault::Pause, Fault::Weather];

/// A plan of which events are lost on their way.
fn lossy(plan: Plan) -> Plan {
    let faults = [Fault::Cut, Fault::Dispatcher, Fault::Pause].into();
    Plan { members: 0, kinds: Kinds::default(), faults, hurries: true, ..plan }
}

/// A seed's plan with what it takes for a mistake to be made, and no more.
fn fit(mistake: Mistake, seed: u64) -> Plan {
    let plan = Plan { hooks: false, prefixes: false, restless: false, kept: false, ..whole(seed) };
    let small = Plan { data_centers: 1, backends: 0, ..plan.clone() };
    match mistake {
        Mistake::CommitUnchecked | Mistake::KeyIgnored => Plan { backends: 1, ..small },
        // Few likes of many topics, so that nothing else that changes a topic's totals soon tells of them.
        Mistake::UnlikeUntold => Plan { backends: 1, posters: 1, topics: 4, ..small },
        Mistake::QueueNumberIgnored => plan,
        // Calls whose answers are lost again and again, and nothing for which less may be shown.
        Mistake::HandedOverTwice => {
            let kinds = Kinds { sums: true, ..small.kinds };
            Plan { faults: UNHEARD.into(), hurries: true, backends: 2, dispatchers: 2, posters: 3, kinds, ..small }
        }
        Mistake::OutboxMarkedEarly | Mistake::OutboxLeaseKept => Plan { backends: 2, ..small },
        // One backend that lives and knows what it stored tells of posts in order.
        Mistake::OutboxOvertaken => Plan { backends: 1, faults: AWAY.into(), ..small },
        Mistake::PaceUnbounded | Mistake::PaceForgottenOnResume => {
            let kinds = Kinds { notes: true, ..small.kinds };
            Plan { kinds, tokens: false, viewers: small.viewers.max(4), ..small }
        }
        Mistake::PeerRebroadcast => Plan { data_centers: 2, ..small },
        Mistake::SlowModeForgotten | Mistake::RulesUntold => Plan { backends: 1, slow: 2, ..small },
        Mistake::SubtotalShown => Plan { data_centers: 2, backends: 1, ..small },
        Mistake::TokenEndIgnored | Mistake::RightsUnchecked => Plan { tokens: true, ..small },
        Mistake::MemberCountedTwice | Mistake::MemberGoneCounted => {
            Plan { members: 2, frontends: 2, viewers: small.viewers.max(6), ..small }
        }
        Mistake::HookFailureTaken | Mistake::HookOvertaken => Plan { hooks: true, backends: 1, posters: 3, ..small },
        Mistake::HookNewsOnce => {
            // A backend lives, and its database does not take what it is told.
            let faults = [Fault::Full, Fault::Commit, Fault::Slow, Fault::Locked].into();
            Plan { hooks: true, backends: 1, members: 3, faults, hurries: true, viewers: 12, ..small }
        }
        // Two that may tell of a topic, of whom one is silent for longer than its lease.
        Mistake::StandInBelieved => {
            let faults = [Fault::Cut, Fault::Outage, Fault::Pause, Fault::Weather].into();
            // Few viewers of little, so that what is told often goes there and back.
            Plan {
                hooks: true,
                dispatchers: 2,
                backends: 1,
                topics: 1,
                viewers: 3,
                members: 0,
                faults,
                hurries: true,
                ..small
            }
        }
        // Nothing else is published, so that nobody but a canary misses anything.
        Mistake::EventDropped => Plan {
            canary: true,
            backends: 1,
            faults: Default::default(),
            publishers: 0,
            posters: 0,
            members: 0,
            ..small
        },
        // Topics that are not open, of which an event is lost on its way and none follows soon, and few who name them.
        Mistake::PrefixUncompared => {
            let viewers = small.viewers.min(4);
            Plan { prefixes: true, viewers, publishers: 1, topics: 40, ..lossy(small) }
        }
        // Or many who name one while it lacks something.
        Mistake::NameUnread => {
            let many = Plan { prefixes: true, nested: false, restless: true, ..lossy(small) };
            Plan { viewers: 12, publishers: 4, topics: 12, ..many }
        }
        Mistake::PrefixUnrouted | Mistake::PrefixUnreplayed => {
            let kinds = Kinds { sums: mistake == Mistake::PrefixUnrouted, ..small.kinds };
            Plan { prefixes: true, viewers: small.viewers.max(6), kinds, ..small }
        }
        Mistake::UnkeptStays => Plan { kept: true, faults: [Fault::Empty].into(), ..small },
        Mistake::MemberKept | Mistake::TurnsUnsettled => Plan { backends: 1, members: 3, ..small },
        _ => small,
    }
}

/// Runs seeds from `first` on until one shows the mistake: it is wrong with it, and would not be without.
fn shows(mistake: Mistake, first: u64) {
    let seen = (first..first + SEEDS).find_map(|seed| {
        planted::plant(Some(mistake));
        let wrong = run(&fit(mistake, seed), false).wrong;
        planted::plant(None);
        let count = wrong.len();
        let such = wrong.into_iter().next()?;
        let without = run(&fit(mistake, seed), false).wrong;
        assert!(without.is_empty(), "seed {seed} is wrong by itself: {without:?}");
        Some((seed, count, such))
    });
    let (seed, count, wrong) = seen.expect("nobody would notice");
    println!("{mistake:?}: seed {seed}, {count} wrong, such as {wrong}");
}

macro_rules! mistakes {
    ($($name:ident: $mistake:ident, $first:literal;)*) => {
        $(#[test]
        fn $name() {
            shows(Mistake::$mistake, $first);
        })*

        #[test]
        fn none_is_left_out() {
            assert_eq!(planted::ALL, [$(Mistake::$mistake,)*]);
        }
    };
}

mistakes! {
    prev_unchecked: PrevUnchecked, 2001;
    holes_unread: HolesUnread, 2023;
    ends_uncompared: EndsUncompared, 2094;
    repair_forgotten: RepairForgotten, 2005;
    frame_torn: FrameTorn, 2000;
    writable_missed: WritableMissed, 2000;
    acknowledged_early: AcknowledgedEarly, 2002;
    last_id_ignored: LastIdIgnored, 2002;
    gap_untold: GapUntold, 2016;
    commit_unchecked: CommitUnchecked, 2005;
    key_ignored: KeyIgnored, 2003;
    unkept_stays: UnkeptStays, 2001;
    outbox_marked_early: OutboxMarkedEarly, 2013;
    outbox_lease_kept: OutboxLeaseKept, 2026;
    outbox_overtaken: OutboxOvertaken, 2005;
    handed_over_twice: HandedOverTwice, 2004;
    merged_count_lost: MergedCountLost, 2018;
    count_of_key_dropped: CountOfKeyDropped, 2049;
    window_unsent: WindowUnsent, 2006;
    pace_unbounded: PaceUnbounded, 2001;
    pace_forgotten_on_resume: PaceForgottenOnResume, 2001;
    topic_let_go: TopicLetGo, 2001;
    wake_up_lost: WakeUpLost, 2001;
    node_lease_kept: NodeLeaseKept, 2000;
    seen_ignored: SeenIgnored, 2018;
    no_overlap: NoOverlap, 2001;
    newest_unshown: NewestUnshown, 2000;
    queue_number_ignored: QueueNumberIgnored, 2002;
    peer_rebroadcast: PeerRebroadcast, 2000;
    token_end_ignored: TokenEndIgnored, 2000;
    rights_unchecked: RightsUnchecked, 2000;
    ghosts_counted: GhostsCounted, 2000;
    turns_unsettled: TurnsUnsettled, 2000;
    counts_unrepaired: CountsUnrepaired, 2010;
    member_kept: MemberKept, 2004;
    unlike_untold: UnlikeUntold, 2127;
    subtotal_shown: SubtotalShown, 2000;
    slow_mode_forgotten: SlowModeForgotten, 2000;
    rules_untold: RulesUntold, 2000;
    member_counted_twice: MemberCountedTwice, 2003;
    member_gone_counted: MemberGoneCounted, 2000;
    hook_failure_taken: HookFailureTaken, 2000;
    hook_overtaken: HookOvertaken, 2000;
    hook_news_once: HookNewsOnce, 2014;
    stand_in_believed: StandInBelieved, 2263;
    event_dropped: EventDropped, 2001;
    prefix_unrouted: PrefixUnrouted, 2025;
    prefix_uncompared: PrefixUncompared, 2255;
    prefix_unreplayed: PrefixUnreplayed, 2012;
    name_unread: NameUnread, 2280;
}
