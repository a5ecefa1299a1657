//! Time: once a tick a part of the slots is looked at, so that no connection needs a timer of its own.

use std::time::Instant;

use crate::db::Store;
use crate::frontend::ending::Ended;
use crate::ground::rights::Due;
use crate::ground::slots::{Conn, Kind};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::Use;
use crate::shard::Shard;
use crate::shard::services::with;
use crate::wire::http::HttpError;
use crate::wire::response::AnswerTo;
use crate::wire::sse::ByeReason;
use crate::wire::status::Status;

impl Shard {
    /// What is due once a tick.
    pub(crate) fn tick(&mut self) {
        self.server.reopen_doors(&mut self.ground);
        if let Some(secure) = self.ground.net.all_secure() {
            secure.tick(self.ground.clock.instant);
        }
        self.ground.tick();
        self.services.tick(&mut self.ground);
        self.sweep();
        self.ground.look_at_memory();
        let frontend = self.services.frontend.as_ref().filter(|_| self.ground.is_whole_second());
        debug_assert!(frontend.is_none_or(|frontend| frontend.is_accounted(&self.ground)));
        self.show_gauges();
        self.show_store_wait();
        if self.ground.is_whole_second() {
            self.show_waits();
        }
    }

    fn show_gauges(&mut self) {
        let longest = self.turn_time.longest(self.ground.clock.instant);
        let (ready, kv_available) = (self.ground.not_ready().is_none(), self.ground.trouble().is_none());
        self.say_changes(ready);
        let counters = self.ground.counters();
        counters.ready.set(ready.into());
        counters.kv_available.set(kv_available.into());
        counters.store_available.set(self.ground.node.store.as_ref().is_none_or(|store| store.health().is_ok()).into());
        counters.ticks.add(1);
        counters.turn_max_us.set(longest.as_micros() as u64);
        counters.http_connections.set(self.ground.requests_open);
        counters.backlog_bytes.set(self.ground.account.held(Use::Streams) as u64);
        if let Some(kv) = self.ground.node.kv.as_ref().filter(|_| self.ground.id == 0) {
            counters.kept.iter().zip(kv.kept()).for_each(|(counter, bytes)| counter.set(bytes as u64));
        }
        for what in Use::ALL {
            let (mut held, mut refused) = (self.ground.account.held(what) as u64, self.ground.account.refused(what));
            if self.ground.id == 0 && what == Use::Questions {
                // No shard's in particular.
                let storing = &self.ground.node.storing;
                (held, refused) = (held + storing.held() as u64, refused + storing.refused());
            }
            counters.held[what as usize].set(held);
            let more = refused.saturating_sub(counters.held_refused[what as usize].get());
            counters.happened(What::MemoryRefused, more, Subject::says(format_args!("use={}", what.name())));
            counters.held_refused[what as usize].set(refused);
        }
        if self.ground.id == 0 {
            counters.revocations.set(self.ground.control.revocations() as u64);
        }
        if let Some(frontend) = &self.services.frontend {
            // Who watches canaries is nobody's viewer.
            let (own, topics) = (frontend.watchers.len() as u64, frontend.watchers.topics() as u64);
            counters.connections.set(frontend.streams.saturating_sub(own));
            counters.lagging.set(frontend.lags.len() as u64);
            counters.topics.set((frontend.topics.len() as u64).saturating_sub(topics));
            counters.subscriptions.set((frontend.topics.viewers() as u64).saturating_sub(topics));
        }
    }

    /// On the first shard: since when the database has answered nothing while something waits for it.
    fn show_store_wait(&mut self) {
        let (ground, now) = (&self.ground, self.ground.clock.instant);
        if ground.id != 0 || ground.node.store.is_none() {
            return;
        }
        let answers = ground.node.counters.iter().map(|shard| shard.store_answer.count()).sum();
        let answered = std::mem::replace(&mut self.store_answers, answers) != answers;
        let works = answered || ground.node.storing.held() == 0;
        let since = *self.store_since.get_or_insert(now);
        self.store_since = if works { Some(now) } else { Some(since) };
        let waited = if works { 0 } else { now.saturating_duration_since(since).as_micros() as u64 };
        ground.counters().store_wait_us.set(waited);
    }

    /// What takes longer to look at, once a second.
    fn show_waits(&mut self) {
        let (ground, now) = (&self.ground, self.ground.clock.instant);
        let counters = ground.counters();
        let asked = ground.asked_at.values().min().copied();
        let waits =
            |since: Option<Instant>| since.map_or(0, |since| now.saturating_duration_since(since).as_micros() as u64);
        counters.kv_wait_us.set(waits(asked));
        if ground.id != 0 {
            return;
        }
        counters.clock_off_us.set(ground.node.clocks.off_us(now));
        if let Some(disk) = ground.node.store.as_ref().and_then(Store::disk) {
            counters.disk_free.set(disk.free);
            counters.disk_bytes.set(disk.bytes);
        }
    }

    /// What is otherwise than a tick ago: whether the node is ready, as its first shard sees it, and how its clock goes.
    fn say_changes(&mut self, ready: bool) {
        let ground = &self.ground;
        if ground.is_whole_second() {
            ground.counters().settle_happenings();
        }
        let (instant, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        let before = std::mem::replace(&mut self.ticked, (instant, unix_ms));
        if ground.id != 0 {
            return;
        }
        let was_ready = ground.counters().ready.get() > 0;
        if was_ready != ready {
            let (what, reason) = if ready { (What::Ready, None) } else { (What::NotReady, ground.not_ready()) };
            let reason = reason.map(|reason| reason.whole()).unwrap_or_default();
            ground.happened(what, 1, Subject::says(format_args!("{reason}")));
        }
        let passed = instant.saturating_duration_since(before.0).as_millis() as i64;
        let jumped = unix_ms.wrapping_sub(before.1) as i64 - passed;
        if jumped.unsigned_abs() >= CLOCK_JUMP_MS {
            ground.happened(What::ClockJump, 1, Subject::says(format_args!("by {jumped} ms")));
        }
    }

    /// Looks at the next part of the slots: heartbeats, timeouts, and rights that end.
    fn sweep(&mut self) {
        let slots = self.ground.slots.capacity();
        if slots == 0 {
            return;
        }
        let parts = (SWEEP.as_millis() / TICK.as_millis()) as u32;
        let (seconds, now_ms) = (self.ground.clock.seconds(), self.ground.clock.unix_ms);
        // What clients sent, or took, in the meantime is known only once it was looked at.
        let is_late = self.ground.clock.instant.saturating_duration_since(self.looked) >= LATE_LOOK;
        for _ in 0..slots.div_ceil(parts) {
            if self.sweep_at >= slots {
                self.sweep_at = 0;
            }
            let number = self.sweep_at;
            self.sweep_at += 1;
            let slot = self.ground.slots.at_mut(number);
            let conn = Conn { slot: number, generation: slot.generation };
            // `connected` comes first, and that is soon; nothing comes after `bye`.
            let silent = slot.waiting || slot.is_ending();
            match slot.rights.as_mut().filter(|_| !silent).and_then(|rights| rights.due(now_ms)) {
                Some(Due::End) => {
                    with(&mut self.services.frontend, |frontend| {
                        frontend.say_bye(&mut self.ground, conn, ByeReason::Token, Ended::Token)
                    });
                    continue;
                }
                Some(Due::Notice(expires_at_ms)) => with(&mut self.services.frontend, |frontend| {
                    frontend.notify_expiry(&mut self.ground, conn, expires_at_ms)
                }),
                Some(Due::Ask) => {
                    with(&mut self.services.frontend, |frontend| frontend.ask_again(&mut self.ground, conn))
                }
                None => {}
            }
            let slot = self.ground.slots.at(number);
            let is_due = slot.due <= seconds;
            match &slot.kind {
                Kind::Stream | Kind::Lagging { .. } => with(&mut self.services.frontend, |frontend| {
                    frontend.look_after(&mut self.ground, conn, is_due, is_late);
                }),
                Kind::Http(_) if is_due && !is_late => self.time_out(conn),
                _ => {}
            }
        }
    }

    /// A request, or the next one, did not come in time; or its answer is not taken.
    fn time_out(&mut self, conn: Conn) {
        let Some(mut http) = self.ground.take_http(conn) else { return };
        let has_more = (http.unread || http.held) && !http.has_output();
        if (http.awaiting.is_some() && !http.holds_up()) || has_more {
            // The answer, or to read on, is ours; whoever owes it to us answers or ends.
            self.ground.set_due(conn, IDLE_TIMEOUT.as_secs() as u32);
            return self.server.put_http(&mut self.ground, conn, http, true);
        }
        self.ground.counters().timeouts.add(1);
        self.server.count_late_handshake(&mut self.ground, conn);
        if http.is_idle() || http.has_output() || http.closing {
            return self.server.put_http(&mut self.ground, conn, http, false);
        }
        http.closing = true;
        self.ground.counters().requests.add(1);
        self.ground.counters().rejected.add(1);
        let to = AnswerTo { closes: true, ..AnswerTo::default() };
        self.ground
            .answers()
            .problem(to, &HttpError::new(Status::RequestTimeout, "the request did not arrive in time"));
        self.server.put_http(&mut self.ground, conn, http, true);
    }
}
