//! Sampled events that viewers are being given.

use std::sync::Arc;
use std::time::Instant;

use crate::frontend::Frontend;
use crate::frontend::log::Cursor;
use crate::frontend::topics::TopicEntry;
use crate::ground::Ground;
use crate::ground::journeys::Named;
use crate::ground::slots::TopicIndex;
use crate::limits::{JOURNEY_PATIENCE, JOURNEYS_FOLLOWED};
use crate::wire::frame::Frame;
use crate::wire::hops::{Checkpoint, Hops};

/// A sampled event that viewers of one topic on this core are being given.
#[derive(Debug)]
pub struct Followed {
    frame: Arc<Frame>,
    hops: Hops,
    topic: TopicIndex,
    since: Instant,
    /// Behind it in the topic's log, once it is there.
    end: Option<Cursor>,
    /// Where the log ended when the first round began in which everybody is given it.
    round: Option<Cursor>,
    /// When the first viewers, and those of the last slice, had been written to, in Unix microseconds.
    written_us: Option<(u64, u64)>,
}

impl Followed {
    /// It was written to all viewers here that keep up.
    fn arrive(self, ground: &mut Ground) {
        let Followed { frame, mut hops, written_us, .. } = self;
        if let Some((first_us, last_us)) = written_us {
            let named = Named::Text(frame.json());
            ground.note_at(&mut hops, Checkpoint::FirstWrite, frame.class(), named, first_us);
            ground.note_at(&mut hops, Checkpoint::LastWrite, frame.class(), named, last_us);
        }
        ground.keep_journey(&frame, hops);
    }

    /// Whether all viewers of its topic were given it. Goes by the rounds of serving, since looking at every viewer would take
    /// as long as serving them.
    fn is_through(&mut self, entry: &TopicEntry) -> bool {
        if entry.overflows() {
            return false;
        }
        let end = *self.end.get_or_insert(entry.log.end());
        let began = entry.round_began();
        let is_whole = |round: Cursor| (round.wrapping_sub(end) as i32) >= 0;
        let round = self.round.or(Some(began).filter(|round| is_whole(*round)));
        let has_ended = self.round.is_some_and(|round| round != began);
        self.round = round;
        entry.has_served_all() || has_ended
    }
}

impl Frontend {
    /// A sampled event was given to a topic's log: from now on its viewers are written to.
    #[cold]
    pub(crate) fn follow(&mut self, ground: &mut Ground, topic: TopicIndex, frame: &Arc<Frame>, hops: &Hops) {
        if self.followed.len() < JOURNEYS_FOLLOWED {
            let entry = self.topics.get(topic);
            self.followed.push(Followed {
                frame: Arc::clone(frame),
                hops: hops.clone(),
                topic,
                since: ground.clock.instant,
                end: (!entry.overflows()).then(|| entry.log.end()),
                round: None,
                written_us: None,
            });
        }
    }

    /// Viewers of a topic were written to, while sampled events are followed.
    #[cold]
    pub(crate) fn follow_up(&mut self, ground: &mut Ground, topic: TopicIndex) {
        let now_us = ground.unix_us();
        let mut through = Vec::new();
        let mut at = 0;
        while at < self.followed.len() {
            let followed = &mut self.followed[at];
            let entry = self.topics.try_get_mut(topic).filter(|entry| entry.topic.as_str() == followed.frame.topic());
            let Some(entry) = entry.filter(|_| followed.topic == topic) else {
                at += 1;
                continue;
            };
            followed.written_us = Some((followed.written_us.map_or(now_us, |(first, _)| first), now_us));
            if followed.is_through(entry) {
                through.push(self.followed.swap_remove(at));
            } else {
                at += 1;
            }
        }
        through.into_iter().for_each(|followed| followed.arrive(ground));
    }

    /// Once a tick: what has been followed for long is kept as it is. Its viewers left, or a busy topic's round takes longer.
    pub(crate) fn tick_followed(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let is_old = |followed: &mut Followed| now.saturating_duration_since(followed.since) >= JOURNEY_PATIENCE;
        let old: Vec<Followed> = self.followed.extract_if(.., is_old).collect();
        old.into_iter().for_each(|followed| followed.arrive(ground));
    }
}
