//! Time: once a tick a part of the slots is looked at, so that no connection needs a timer of its own.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::asking::Asked;
use super::ending::Ended;
use super::renewal::Due;
use super::shard::Shard;
use super::slots::{Conn, Kind};
use crate::dispatch::kv::Request;
use crate::limits::*;
use crate::runtime::account::Use;
use crate::wire::http::HttpError;
use crate::wire::response::AnswerTo;
use crate::wire::sse::ByeReason;
use crate::wire::status::Status;

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
    /// This shard has nothing left to end, and said so.
    done: bool,
}

/// After its time, a drain gives clients that do not read this long to take their last bytes.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Ticks of a second.
const SECOND_TICKS: u64 = 1000 / TICK.as_millis() as u64;

/// While draining, a connection without a request is left alone for so long after it was accepted.
const DRAIN_FRESH_SECONDS: u32 = 2;

impl Shard {
    /// What is due once a tick.
    pub(super) fn tick(&mut self) {
        let now = self.clock.instant;
        self.reopen_doors();
        if let Some(secure) = self.net.all_secure() {
            secure.tick(self.clock.instant);
        }
        self.heartbeat();
        self.tick_cluster();
        self.tick_homes();
        self.tick_outbox();
        self.tick_taps();
        self.tick_totals();
        self.tick_audience();
        self.tick_presence();
        self.tick_control();
        self.tick_polls();
        self.end_late_waits(now);
        self.pages.tidy(self.clock.seconds());
        self.sweep();
        self.crowds.drains = self.draining.is_some();
        self.look_at_memory();
        debug_assert!(!self.is_whole_second() || self.is_accounted());
        self.show_gauges();
    }

    /// Whether this tick is one of those that come once a second.
    pub(super) fn is_whole_second(&self) -> bool {
        self.counters().ticks.get().is_multiple_of(SECOND_TICKS)
    }

    fn show_gauges(&mut self) {
        let longest = self.turn_time.longest(self.clock.instant);
        let (ready, kv_available) = (self.not_ready().is_none(), self.trouble().is_none());
        let counters = self.counters();
        counters.ready.set(ready.into());
        counters.kv_available.set(kv_available.into());
        counters.ticks.add(1);
        counters.turn_max_us.set(longest.as_micros() as u64);
        counters.connections.set(self.streams);
        counters.http_connections.set(self.requests_open);
        counters.lagging.set(self.lagging);
        counters.backlog_bytes.set(self.account.held(Use::Streams) as u64);
        if let Some(kv) = self.node.kv.as_ref().filter(|_| self.id == 0) {
            counters.kept.iter().zip(kv.kept()).for_each(|(counter, bytes)| counter.set(bytes as u64));
        }
        for what in Use::ALL {
            counters.held[what as usize].set(self.account.held(what) as u64);
            counters.held_refused[what as usize].set(self.account.refused(what));
        }
        if self.id == 0 {
            counters.revocations.set(self.control.revocations() as u64);
            // No shard's in particular.
            let (held, refused) = (self.node.storing.held() as u64, self.node.storing.refused());
            counters.held[Use::Questions as usize].add(held);
            counters.held_refused[Use::Questions as usize].add(refused);
        }
        counters.topics.set(self.topics.len() as u64);
        counters.subscriptions.set(self.topics.viewers() as u64);
    }

    /// Looks at the next part of the slots: heartbeats, timeouts, and rights that end.
    fn sweep(&mut self) {
        let slots = self.slots.capacity();
        if slots == 0 {
            return;
        }
        let parts = (SWEEP.as_millis() / TICK.as_millis()) as u32;
        let (seconds, now_ms) = (self.clock.seconds(), self.clock.unix_ms);
        // What clients sent, or took, in the meantime is known only once it was looked at.
        let is_late = self.clock.instant.saturating_duration_since(self.looked) >= LATE_LOOK;
        for _ in 0..slots.div_ceil(parts) {
            if self.sweep_at >= slots {
                self.sweep_at = 0;
            }
            let number = self.sweep_at;
            self.sweep_at += 1;
            let slot = self.slots.at_mut(number);
            let conn = Conn { slot: number, generation: slot.generation };
            // `connected` comes first, and that is soon; nothing comes after `bye`.
            let silent = slot.waiting || slot.is_ending();
            match slot.rights.as_mut().filter(|_| !silent).and_then(|rights| rights.due(now_ms)) {
                Some(Due::End) => {
                    self.say_bye(conn, ByeReason::Token, Ended::Token);
                    continue;
                }
                Some(Due::Notice(expires_at_ms)) => self.notify_expiry(conn, expires_at_ms),
                None => {}
            }
            let slot = self.slots.at(number);
            let (due, framing) = (slot.due <= seconds, slot.framing());
            match &slot.kind {
                Kind::Free => {}
                Kind::Lagging(lag)
                    if !is_late
                        && !lag.waits_for_us()
                        && seconds.saturating_sub(lag.progress) >= STALLED_TIMEOUT.as_secs() as u32 =>
                {
                    self.close_stream(conn, Ended::Stalled);
                }
                Kind::Lagging(lag) if due && lag.waits_for_us() => {
                    self.set_due(conn, HEARTBEAT.as_secs() as u32);
                    self.write_stream(conn, framing.heartbeat());
                }
                // What stands between may have passed the end on, and takes one piece after the other before it knows more.
                Kind::Stream if due || slot.half_closed => {
                    self.set_due(conn, HEARTBEAT.as_secs() as u32);
                    self.write_stream(conn, framing.heartbeat());
                }
                Kind::Http(_) if due && !is_late => self.time_out(conn),
                _ => {}
            }
        }
    }

    /// A request, or the next one, did not come in time; or its answer is not taken.
    fn time_out(&mut self, conn: Conn) {
        let Some(mut http) = self.take_http(conn) else { return };
        let has_more = (http.unread || http.held) && !http.has_output();
        if http.awaiting.is_some() || has_more {
            // The answer, or to read on, is ours; whoever owes it to us answers or ends.
            self.set_due(conn, IDLE_TIMEOUT.as_secs() as u32);
            return self.put_http(conn, http, true);
        }
        self.counters().timeouts.add(1);
        self.count_late_handshake(conn);
        if http.is_idle() || http.has_output() || http.closing {
            return self.put_http(conn, http, false);
        }
        http.closing = true;
        self.counters().requests.add(1);
        self.counters().rejected.add(1);
        let to = AnswerTo { closes: true, ..AnswerTo::default() };
        self.answers().problem(to, &HttpError::new(Status::RequestTimeout, "the request did not arrive in time"));
        self.put_http(conn, http, true);
    }

    /// Begins to end what this shard has.
    pub(super) fn start_draining(&mut self) {
        if self.draining.is_none() {
            let started = self.clock.instant;
            self.draining = Some(Draining { started, streams: self.streams, ended: 0, at: 0, done: false });
            self.posts.lines.spill_all(self.clock.instant);
            self.crowds.drains = true;
            self.end_all_windows();
        }
    }

    /// Ends as many streams as are due, evenly over the drain's time, so that a restart causes no storm; and connections
    /// that wait for no answer. True if one turn could not end them all.
    pub(super) fn go_on_draining(&mut self) -> bool {
        let Some(mut draining) = self.draining.take() else { return false };
        let mut slice = self.clock.slice(CROWD_SLICE);
        self.crowds.drains = false;
        let elapsed = self.clock.instant.saturating_duration_since(draining.started);
        // The last who are told to go need their pause, too, to be back elsewhere before the drain's time is over.
        // Where there is no elsewhere, they wait for the next start, and the spread of their pauses has to do.
        let least = if self.node.alone { Duration::ZERO } else { self.live.drain / 2 };
        let time = self.live.drain.saturating_sub(self.retry_max()).max(least);
        let share = if time.is_zero() { 1.0 } else { elapsed.as_secs_f64() / time.as_secs_f64() };
        // What waited in other shards' windows reaches those who are told to go first, too.
        let begins = elapsed >= TICK;
        let due = if begins { (draining.streams as f64 * (share + 0.01).min(1.0)).ceil() as u64 } else { 0 };
        while draining.ended < due && draining.at < self.slots.capacity() {
            let number = draining.at;
            draining.at += 1;
            if let (Some(conn), Kind::Stream | Kind::Lagging(_)) =
                (self.slots.owner(number), &self.slots.at(number).kind)
            {
                draining.ended += 1;
                self.say_bye(conn, ByeReason::Drain, Ended::Drain);
                if slice.is_over() {
                    self.crowds.drains = true;
                    self.draining = Some(draining);
                    return true;
                }
            }
        }
        let seconds = self.clock.seconds();
        for number in 0..self.slots.capacity() {
            let Some(conn) = self.slots.owner(number) else { continue };
            let overdue = elapsed > self.live.drain + DRAIN_GRACE;
            let end = match &self.slots.at(number).kind {
                Kind::Http(http) => {
                    // One that came a moment ago is about to ask something, such as whether this node is ready.
                    let head = HEAD_TIMEOUT.as_secs() as u32;
                    let fresh = elapsed < self.live.drain
                        && (seconds + head - DRAIN_FRESH_SECONDS..=seconds + head).contains(&self.slots.at(number).due);
                    overdue || (http.is_idle() && !http.has_output() && !fresh)
                }
                Kind::Lagging(_) => overdue,
                // A stream that took the slot of one that left, while slots before it were ended.
                Kind::Stream => begins && share >= 1.0,
                Kind::Free | Kind::Link(_) => false,
            };
            match (&self.slots.at(number).kind, end) {
                (Kind::Http(_), true) => self.close_http(conn),
                (Kind::Lagging(_), true) => self.close_stream(conn, Ended::Stalled),
                (Kind::Stream, true) => self.say_bye(conn, ByeReason::Drain, Ended::Drain),
                _ => continue,
            }
            if slice.is_over() {
                self.crowds.drains = true;
                break;
            }
        }
        // What clients and other nodes do not take in time stays undone.
        let overdue = elapsed > self.live.drain + DRAIN_GRACE;
        let owes = !overdue && self.net.all_secure().is_some_and(|secure| secure.owing() > 0);
        let is_empty = self.slots.len() == self.cluster.links.connections() && !owes;
        let is_stored = self.posts.lines.is_settled() && self.taps.is_empty();
        let is_settled = !self.registrar.is_busy() && self.has_nothing_for_others() && is_stored;
        if !draining.done && is_empty && (is_settled || overdue) {
            draining.done = true;
            self.node.drained.fetch_add(1, Ordering::AcqRel);
        }
        self.draining = Some(draining);
        self.leave();
        self.crowds.drains
    }

    /// The last thing that a node does: the shard that sent the heartbeats says that they end.
    fn leave(&mut self) {
        if self.id == 0 && self.all_are_drained() && !std::mem::replace(&mut self.leaving, true) {
            match self.node.info {
                Some(_) => self.ask(Request::Leave(self.node.id), Asked::Leave),
                None => self.left = true,
            }
        }
    }

    fn all_are_drained(&self) -> bool {
        self.draining.as_ref().is_some_and(|draining| draining.done)
            && self.node.drained.load(Ordering::Acquire) == self.node.shards()
    }

    /// Whether all shards of the node have nothing left.
    pub(super) fn is_drained(&self) -> bool {
        self.all_are_drained() && (self.id != 0 || self.left)
    }
}
