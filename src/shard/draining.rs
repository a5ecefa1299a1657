//! How a shard ends: its streams are told to go, evenly over the drain's time, and it waits for what is to be stored, and for
//! other nodes to take what there is for them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::slots::{Conn, Kind};
use crate::kv::Request;
use crate::limits::{CROWD_SLICE, HEAD_TIMEOUT, TICK};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::clock::Slice;
use crate::shard::services::{Services, with};
use crate::wire::sse::ByeReason;

/// A drain under way.
#[derive(Debug)]
pub struct Draining {
    started: Instant,
    /// Streams open when it began.
    streams: u64,
    /// Of which so many were told to go.
    ended: u64,
    /// The next slot to look at.
    at: u32,
    /// Connections are to be looked through, since a tick came or one turn could not end all that are due.
    pub(crate) is_due: bool,
    /// This shard has nothing left to end, and said so.
    done: bool,
    /// The key-value store is being told that this node ends.
    leaving: bool,
}

/// After its time, a drain gives clients that do not read this long to take their last bytes.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// While draining, a connection without a request is left alone for so long after it was accepted.
const DRAIN_FRESH_SECONDS: u32 = 2;

/// How far a drain is.
struct Progress {
    elapsed: Duration,
    /// The part of its streams that are to have gone by now; more than 1 when all are.
    share: f64,
}

impl Progress {
    fn of(ground: &Ground, started: Instant) -> Progress {
        let elapsed = ground.clock.instant.saturating_duration_since(started);
        // The last who are told to go need their pause, too, to be back elsewhere before the drain's time is over.
        // Where there is no elsewhere, they wait for the next start, and the spread of their pauses has to do.
        let least = if ground.node.alone { Duration::ZERO } else { ground.live.drain / 2 };
        let time = ground.live.drain.saturating_sub(ground.retry_max()).max(least);
        let share = if time.is_zero() { 1.0 } else { elapsed.as_secs_f64() / time.as_secs_f64() };
        Progress { elapsed, share }
    }

    /// What waited in other shards' windows reaches those who are told to go first, too.
    fn has_begun(&self) -> bool {
        self.elapsed >= TICK
    }

    /// Clients and other nodes had the time that there is for them.
    fn is_overdue(&self, ground: &Ground) -> bool {
        self.elapsed > ground.live.drain + DRAIN_GRACE
    }
}

impl Draining {
    /// Tells as many streams to go as are due. False if one turn could not tell them all.
    fn tell_to_go(&mut self, frontend: &mut Frontend, ground: &mut Ground, share: f64, slice: &mut Slice) -> bool {
        let due = (self.streams as f64 * (share + 0.01).min(1.0)).ceil() as u64;
        while self.ended < due && self.at < ground.slots.capacity() {
            let number = self.at;
            self.at += 1;
            if let Some(conn) = ground.slots.owner(number).filter(|_| ground.slots.at(number).is_stream()) {
                self.ended += 1;
                frontend.say_bye(ground, conn, ByeReason::Drain, Ended::Drain);
                if slice.is_over() {
                    return false;
                }
            }
        }
        true
    }
}

impl Services {
    /// Begins to end what this shard has.
    pub(crate) fn start_draining(&mut self, ground: &mut Ground) {
        if self.draining.is_some() {
            return;
        }
        let started = ground.clock.instant;
        let streams = self.frontend.as_ref().map_or(0, |frontend| frontend.streams);
        ground.happened(What::Drain, 1, Subject::says(format_args!("{streams} streams are to go elsewhere")));
        self.draining = Some(Draining { started, streams, ended: 0, at: 0, is_due: true, done: false, leaving: false });
        with(&mut self.backend, |backend| backend.posts.lines.spill_all(started));
        with(&mut self.frontend, |frontend| frontend.end_all_windows(ground));
    }

    /// Goes on with a drain, if one is under way and due. True if one turn could not do all.
    pub(crate) fn go_on_draining(&mut self, ground: &mut Ground) -> bool {
        let Some(mut draining) = self.draining.take_if(|draining| draining.is_due) else { return false };
        let mut slice = ground.clock.slice(CROWD_SLICE);
        let progress = Progress::of(ground, draining.started);
        let told = match &mut self.frontend {
            Some(frontend) if progress.has_begun() => draining.tell_to_go(frontend, ground, progress.share, &mut slice),
            _ => true,
        };
        draining.is_due = !told || !self.end_connections(ground, &progress, &mut slice);
        if told {
            self.note_drained(ground, &mut draining, &progress);
        }
        let is_due = draining.is_due;
        self.draining = Some(draining);
        is_due
    }

    /// Ends connections that wait for no answer, and streams that take too long. False if one turn could not end them all.
    fn end_connections(&mut self, ground: &mut Ground, progress: &Progress, slice: &mut Slice) -> bool {
        for number in 0..ground.slots.capacity() {
            let Some(conn) = ground.slots.owner(number) else { continue };
            match &ground.slots.at(number).kind {
                Kind::Http(_) if self.has_no_request(ground, conn, progress) => ground.close_http(conn),
                Kind::Lagging { .. } if progress.is_overdue(ground) => {
                    with(&mut self.frontend, |frontend| frontend.close_stream(ground, conn, Ended::Stalled));
                }
                // A stream that took the slot of one that left, while slots before it were ended.
                Kind::Stream if progress.has_begun() && progress.share >= 1.0 => {
                    with(&mut self.frontend, |frontend| frontend.say_bye(ground, conn, ByeReason::Drain, Ended::Drain));
                }
                _ => continue,
            }
            if slice.is_over() {
                return false;
            }
        }
        true
    }

    fn has_no_request(&self, ground: &Ground, conn: Conn, progress: &Progress) -> bool {
        let slot = ground.slots.at(conn.slot);
        let Kind::Http(http) = &slot.kind else { return false };
        let fresh_until = ground.clock.seconds() + HEAD_TIMEOUT.as_secs() as u32;
        // One that came a moment ago is about to ask something, such as whether this node is ready.
        let fresh = progress.elapsed < ground.live.drain
            && (fresh_until - DRAIN_FRESH_SECONDS..=fresh_until).contains(&slot.due);
        // Who watches this node sees it from another one from now on.
        progress.is_overdue(ground) || http.goes_on.is_some() || (http.is_idle() && !http.has_output() && !fresh)
    }

    /// Says when this shard has nothing left. What clients and other nodes do not take in time stays undone.
    fn note_drained(&mut self, ground: &mut Ground, draining: &mut Draining, progress: &Progress) {
        let overdue = progress.is_overdue(ground);
        let owes = !overdue && ground.net.all_secure().is_some_and(|secure| secure.owing() > 0);
        let is_empty = ground.slots.len() == ground.cluster.links.connections() && !owes;
        if !draining.done && is_empty && (overdue || self.is_settled(ground)) {
            draining.done = true;
            ground.node.drained.fetch_add(1, Ordering::AcqRel);
        }
        // The last thing that a node does: the shard that sent the heartbeats says that they end.
        if ground.id == 0 && is_everyone_drained(ground, draining) && !std::mem::replace(&mut draining.leaving, true) {
            match ground.node.info {
                Some(_) => ground.ask(Request::Leave(ground.node.id), Asked::Leave),
                None => ground.left = true,
            }
        }
    }

    /// Nothing waits for the database, the key-value store or another node.
    fn is_settled(&self, ground: &Ground) -> bool {
        self.frontend.as_ref().is_none_or(|frontend| !frontend.registrar.is_busy())
            && self.dispatcher.as_ref().is_none_or(|dispatcher| dispatcher.has_nothing_for_others(ground))
            && self.backend.as_ref().is_none_or(|backend| backend.is_settled())
            && ground.cluster.handover.is_empty()
            && ground.hook_reports.is_empty()
    }

    /// Whether all shards of the node have nothing left.
    pub(crate) fn is_drained(&self, ground: &Ground) -> bool {
        self.draining.as_ref().is_some_and(|draining| is_everyone_drained(ground, draining))
            && (ground.id != 0 || ground.left)
    }
}

fn is_everyone_drained(ground: &Ground, draining: &Draining) -> bool {
    draining.done && ground.node.drained.load(Ordering::Acquire) == ground.node.shards()
}
