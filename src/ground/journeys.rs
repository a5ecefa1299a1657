//! Journeys of sampled events. A checkpoint is noted on the event itself, which carries it on; where its viewers were written
//! to, the whole of it is kept for a while, for operators and `fanfare trace`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::ground::Ground;
use crate::limits::{JOURNEYS_KEPT, NOTED_AHEAD_US, TRACES_FORCED_PER_SECOND};
use crate::observe::happenings::subject::Subject;
use crate::observe::otlp::message::Span;
use crate::wire::canary::is_canary;
use crate::wire::event::{Class, Draft};
use crate::wire::frame::{Frame, Stored};
use crate::wire::hops::{Ahead, Begun, Checkpoint, HOPS_MAX, Hop, Hops, PUBLISHER, hex, is_sampled};

/// What became of a sampled event on this core.
#[derive(Debug)]
pub(crate) struct Journey {
    id: Box<str>,
    topic: Box<str>,
    kind: Box<str>,
    class: Class,
    hops: Hops,
}

/// By what a sampled event is known where it passes a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named<'a> {
    /// Its topic, type and id.
    Names { topic: &'a str, kind: &'a str, id: &'a str },
    /// Its text, which has them.
    Text(&'a str),
}

/// Those of one shard.
#[derive(Debug, Default)]
pub struct Journeys {
    /// The oldest first.
    kept: VecDeque<Journey>,
    /// The shard's second, and how many callers had their events noted in it.
    forced: (u32, u32),
}

impl Journeys {
    /// Whether one more event is noted since its caller samples. Many callers sample everything.
    fn may_force(&mut self, second: u32) -> bool {
        if self.forced.0 != second {
            self.forced = (second, 0);
        }
        self.forced.1 += 1;
        self.forced.1 <= TRACES_FORCED_PER_SECOND
    }

    /// What is kept of this event, or of the newest ones; each with its number, the newest the highest.
    pub fn rows(&self, shard: usize, id: Option<&str>, limit: usize) -> Vec<(u64, Value)> {
        let fits = |journey: &&Journey| id.is_none_or(|id| *journey.id == *id);
        let found = self.kept.iter().rev().filter(fits).take(limit);
        found.map(|journey| (journey.hops.last().map_or(0, |hop| hop.at_us), row(shard, journey))).collect()
    }
}

pub(crate) fn row(shard: usize, journey: &Journey) -> Value {
    let hops = &journey.hops;
    let hop = |(at, hop): (usize, &Hop)| {
        let leg = hops.leg(at);
        json!({
            "hop": hop.checkpoint.name(),
            "node": (hop.node != PUBLISHER).then_some(hop.node),
            "at_us": hop.at_us,
            "took_us": leg.map(|leg| leg.us),
            "ahead_us": hop.ahead.map(|ahead| ahead.us),
            "error_us": leg.and_then(|leg| leg.error_us),
            "sure": leg.map(|leg| leg.is_sure()),
        })
    };
    json!({
        "id": journey.id,
        "topic": journey.topic,
        "type": journey.kind,
        "class": journey.class.name(),
        "trace": hops.parent.map(|parent| hex(&parent.trace)),
        "parent": hops.parent.map(|parent| hex(&parent.span)),
        "shard": shard,
        "hops": hops.all().iter().enumerate().map(hop).collect::<Vec<_>>(),
    })
}

impl Ground {
    /// Unix time in microseconds, now and not as of this turn's beginning.
    pub(crate) fn unix_us(&self) -> u64 {
        self.clock.times.unix().as_micros() as u64
    }

    /// The checkpoints that an event passed before this node published it, or handed it to a dispatcher; none if it is not
    /// sampled.
    pub(crate) fn begin_journey(&mut self, draft: &Draft<'_>, id: &str, class: Class) -> Option<Hops> {
        let named = Named::Names { topic: &draft.topic, kind: &draft.kind, id };
        let step = if draft.hops.is_some() { Checkpoint::Taken } else { Checkpoint::Read };
        self.track(step.name(), Subject { event: Some(id), ..Subject::topic(&draft.topic) });
        if let Some(hops) = &draft.hops {
            let mut hops = Hops::clone(hops);
            self.note(&mut hops, Checkpoint::Taken, class, named);
            return Some(hops);
        }
        let Begun { sent_at, read_at, stored_at, parent } = draft.begun;
        let wants = parent.is_some_and(|(_, is_sampled)| is_sampled);
        let is_noted =
            is_sampled(id, self.live.trace_sample) || (wants && self.journeys.may_force(self.clock.seconds()));
        // Canaries are so many that nobody else's would be kept.
        if !is_noted || is_canary(&draft.topic) {
            return None;
        }
        let mut hops = Hops::of(parent.map(|(parent, _)| parent));
        let (now_us, now) = (self.unix_us(), self.clock.times.instant());
        if let Some(at_us) = sent_at.and_then(|ms| ms.checked_mul(1_000)) {
            hops.push(Hop { checkpoint: Checkpoint::Published, node: PUBLISHER, at_us, ahead: None });
            self.give_span(&hops, class, named);
        }
        let ago = |at: Instant| now_us.saturating_sub(now.saturating_duration_since(at).as_micros() as u64);
        self.note_at(&mut hops, Checkpoint::Read, class, named, read_at.map_or(now_us, ago));
        if let Some(at) = stored_at {
            self.note_at(&mut hops, Checkpoint::Stored, class, named, ago(at));
        }
        Some(hops)
    }

    /// A sampled event passes a checkpoint here and now. Of what it passes at this shard no two are at the same time, so that
    /// their time names them.
    pub(crate) fn note(&self, hops: &mut Hops, checkpoint: Checkpoint, class: Class, named: Named<'_>) {
        let (noted, now_us) = (&self.counters().noted_us, self.unix_us());
        let is_taken = (0..NOTED_AHEAD_US).contains(&noted.get().wrapping_sub(now_us));
        let at_us = if is_taken { noted.get() + 1 } else { now_us };
        noted.set(at_us);
        self.note_at(hops, checkpoint, class, named, at_us);
    }

    pub(crate) fn note_at(&self, hops: &mut Hops, checkpoint: Checkpoint, class: Class, named: Named<'_>, at_us: u64) {
        if hops.all().len() == HOPS_MAX {
            return;
        }
        let node = self.node.id;
        let before = hops.last().map(|hop| hop.node).filter(|before| *before != node && *before != PUBLISHER);
        let ahead: Option<Ahead> = before.and_then(|before| self.node.clocks.ahead(before, self.clock.instant));
        hops.push(Hop { checkpoint, node, at_us, ahead });
        self.give_span(hops, class, named);
        let Some(leg) = hops.leg(hops.all().len() - 1) else { return };
        let counters = self.counters();
        counters.hops[checkpoint as usize][class as usize].observe(leg.us);
        if leg.error_us != Some(0) {
            leg.error_us.inspect(|error_us| counters.hop_errors[checkpoint as usize].observe(*error_us));
            counters.hops_unsure.add(u64::from(!leg.is_sure()));
        }
    }

    /// Gives the last hop to a collector of OpenTelemetry, if there is one.
    fn give_span(&self, hops: &Hops, class: Class, named: Named<'_>) {
        let Some(spans) = &self.node.spans else { return };
        let stored = match named {
            Named::Text(json) => Stored::read(json),
            Named::Names { .. } => None,
        };
        let (topic, kind, id) = match (named, &stored) {
            (Named::Names { topic, kind, id }, _) => (topic, kind, id),
            (_, Some(stored)) => (&*stored.topic, &*stored.kind, &*stored.id),
            (_, None) => return,
        };
        let (last, shard) = (hops.all().len() - 1, self.id as u16);
        let trace = hops.trace(topic, id);
        let (hop, leg) = (hops.all()[last], hops.leg(last));
        let Some(own) = hops.span(&trace, Some(last), shard) else { return };
        spans.give(Span {
            trace,
            id: own,
            parent: hops.span(&trace, last.checked_sub(1), shard),
            checkpoint: hop.checkpoint,
            from_us: hop.at_us.saturating_sub(leg.map_or(0, |leg| leg.us)),
            to_us: hop.at_us,
            error_us: leg.and_then(|leg| leg.error_us),
            shard,
            class: class.name(),
            topic_kind: topic.split(':').next().unwrap_or_default().into(),
            kind: kind.into(),
            event: id.into(),
        });
    }

    /// The same event, which passes a checkpoint here and now; one that is not sampled as it is.
    #[inline]
    pub(crate) fn pass<'a>(&self, frame: &'a Arc<Frame>, checkpoint: Checkpoint) -> Cow<'a, Arc<Frame>> {
        self.track(checkpoint.name(), Subject::frame(frame));
        match frame.hops() {
            None => Cow::Borrowed(frame),
            Some(hops) => Cow::Owned(self.noted(frame, hops, checkpoint)),
        }
    }

    #[cold]
    fn noted(&self, frame: &Frame, hops: &Hops, checkpoint: Checkpoint) -> Arc<Frame> {
        let mut hops = hops.clone();
        self.note(&mut hops, checkpoint, frame.class(), Named::Text(frame.json()));
        frame.with_hops(hops)
    }

    /// The journey of a sampled event is over.
    pub(crate) fn keep_journey(&mut self, frame: &Frame, hops: Hops) {
        let Some(stored) = Stored::read(frame.json()) else { return };
        let journeys = &mut self.journeys;
        if journeys.kept.len() >= JOURNEYS_KEPT {
            journeys.kept.pop_front();
        }
        let (id, topic, kind) = (stored.id.into(), stored.topic.into(), stored.kind.into());
        journeys.kept.push_back(Journey { id, topic, kind, class: frame.class(), hops });
    }
}
