//! How an SSE stream ends: by its client, or with `bye`.

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::admitting::bye;
use crate::ground::slots::{Body, Conn, Kind};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::wire::sse::ByeReason;

impl Ground {
    fn count_ended(&self, conn: Conn, why: Ended) {
        let (counters, about) = (self.counters(), self.subject(conn));
        let what = match why {
            // These are as they should be, and many.
            Ended::Client => {
                counters.closed_client.add(1);
                return self.track("the client left", about);
            }
            Ended::Polled => {
                counters.closed_polled.add(1);
                return self.track("the poll is answered", about);
            }
            Ended::Stalled => What::DisconnectStalled,
            Ended::Backlog => What::DisconnectBacklog,
            Ended::Drain => What::DisconnectDrain,
            Ended::Token => What::DisconnectToken,
            Ended::Disconnected => What::DisconnectDisconnect,
            Ended::Budget => What::DisconnectBudget,
        };
        counters.happened(what, 1, about);
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client left, or its connection broke.
    Client,
    /// It took nothing for [`STALLED_TIMEOUT`](crate::limits::STALLED_TIMEOUT).
    Stalled,
    /// It lagged past its backlog, and was told to resume.
    Backlog,
    /// The node drains.
    Drain,
    /// Its token ran out.
    Token,
    /// A server ended it.
    Disconnected,
    /// It was a poll, which has its answer.
    Polled,
    /// It had the most waiting when that was too much for all streams together.
    Budget,
}

impl Frontend {
    /// Ends a stream: out of its topics, socket closed, slot free.
    pub(crate) fn close_stream(&mut self, ground: &mut Ground, conn: Conn, why: Ended) {
        let hash = self.member_hash(ground, conn);
        let Some(slot) = ground.slots.get_mut(conn) else { return };
        if slot.body == Body::Gathered && why != Ended::Client {
            return self.answer_poll(ground, conn, why);
        }
        let is_own = slot.body == Body::Watched;
        let subscriptions = std::mem::take(&mut slot.subscriptions);
        if !is_own {
            ground.count_ended(conn, why);
        }
        let Some(slot) = ground.slots.get_mut(conn) else { return };
        if let Some(member) = slot.rights.take().and_then(|rights| rights.member) {
            self.members.leave(&member);
        }
        self.polls.forget(conn.slot);
        let waiters = self.waiting.gone(conn.slot);
        self.end_lag(ground, conn);
        for &subscription in subscriptions.as_slice() {
            self.unsubscribe(ground, subscription, hash);
        }
        ground.forget(conn);
        waiters.into_iter().for_each(|waiter| self.end_wait(ground, waiter));
        self.streams -= 1;
    }

    /// What waits for a stream that lags is lost to it, and nobody is to look for what it asked for.
    pub(crate) fn end_lag(&mut self, ground: &mut Ground, conn: Conn) {
        let Some(lag) = self.lags.remove(conn.slot) else { return };
        let lost = lag.backlog.events().iter().sum();
        let asked: Vec<_> = lag.replay.iter().flat_map(|replaying| replaying.replay.asked().cloned()).collect();
        ground.happened(What::DroppedClosed, lost, ground.subject(conn));
        for topic in asked {
            self.end_replay(ground, conn, topic);
        }
    }

    /// Sends `bye`, and closes once the client has it.
    pub(crate) fn say_bye(&mut self, ground: &mut Ground, conn: Conn, reason: ByeReason, why: Ended) {
        let retry_ms = ground.retry_jitter();
        let Some(slot) = ground.slots.get(conn).filter(|slot| !slot.is_ending()) else { return };
        let mut bytes = Vec::new();
        bye(&mut bytes, slot.framing(), reason, retry_ms);
        if matches!(slot.kind, Kind::Lagging { .. }) {
            self.end_after(ground, conn.slot, why);
            return self.write_stream(ground, conn, &bytes);
        }
        self.write_stream(ground, conn, &bytes);
        match ground.slots.get(conn).map(|slot| &slot.kind) {
            Some(Kind::Lagging { .. }) => self.end_after(ground, conn.slot, why),
            Some(Kind::Stream) => self.close_stream(ground, conn, why),
            _ => {}
        }
    }

    /// Ends a stream that lags for the memory that it holds, or lacks. Where its socket takes it, it is told to come back; a poll is
    /// answered with what it has.
    pub(crate) fn cut(&mut self, ground: &mut Ground, conn: Conn) {
        let is_poll = ground.slots.get(conn).is_some_and(|slot| slot.body == Body::Gathered);
        if !is_poll && self.lags.get(conn.slot).is_some_and(|lag| !lag.is_full) {
            self.say_bye(ground, conn, ByeReason::Backlog, Ended::Budget);
        }
        self.close_stream(ground, conn, Ended::Budget);
    }

    /// A stream that lags ends once its client took what is to be sent first.
    pub(crate) fn end_after(&mut self, ground: &mut Ground, slot: u32, why: Ended) {
        if let Some(lag) = self.lags.get_mut(slot) {
            lag.ends = Some(why);
            ground.slots.at_mut(slot).kind = Kind::Lagging { ends: true };
        }
    }

    /// Looks at a stream, for which a heartbeat may be due. What its client took is known unless that `is_late`.
    pub(crate) fn look_after(&mut self, ground: &mut Ground, conn: Conn, is_due: bool, is_late: bool) {
        let (half_closed, framing) = (ground.slots.at(conn.slot).half_closed, ground.slots.at(conn.slot).framing());
        let is_long = |since: u32| ground.clock.seconds().saturating_sub(since) >= STALLED_TIMEOUT.as_secs() as u32;
        let beats = match self.lags.get(conn.slot) {
            Some(lag) if lag.waits_for_us() && lag.hungry_since.is_some_and(is_long) => {
                // Others hold all that there is, or there is too little for what it asks for.
                self.cut(ground, conn);
                false
            }
            Some(lag) if lag.waits_for_us() => is_due,
            Some(lag) => {
                if !is_late && is_long(lag.progress) {
                    self.close_stream(ground, conn, Ended::Stalled);
                }
                false
            }
            // What stands between may have passed the end on, and takes one piece after the other before it knows more.
            None => is_due || half_closed,
        };
        if beats {
            ground.set_due(conn, HEARTBEAT.as_secs() as u32);
            self.write_stream(ground, conn, framing.heartbeat());
        }
    }
}
