//! Totals of likes. A backend tells those of its data center, a few times a second where they change, and where a dispatcher
//! asks since somebody may not know them; at a topic's home those of all data centers are added up, and viewers are told the sum.

use crate::backend::Backend;
use crate::backend::totals::Due;
use crate::db::{Command, Outcome, StoreError};
use crate::ground::Ground;
use crate::ground::message::Then;
use crate::ground::own::Own;
use crate::limits::TOTALS_READ_MAX;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::wire::event::LIKES;
use crate::wire::http::percent_decode;
use crate::wire::names::check_name;
use crate::wire::topic::Topic;
use crate::wire::totals::Sums;

/// The video whose viewers watch a topic; none where no request could name it.
pub(crate) fn video_of(topic: &Topic) -> Option<String> {
    let video = percent_decode(topic.as_str().strip_prefix("live:")?, false).ok()?.into_owned();
    (check_name("video", &video).is_ok() && Topic::encode("live", &video).ok()? == *topic).then_some(video)
}

impl Backend {
    /// A video's likes changed in the database.
    pub(crate) fn likes_changed(&mut self, ground: &mut Ground, topic: &Topic) {
        if !self.totals.changed(topic, ground.clock.instant) {
            ground.happened(What::DroppedBacklog, 1, Subject::topic(topic.as_str()));
        }
    }

    /// Once a tick: reads the totals that are due.
    pub(crate) fn tick_totals(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        for _ in 0..TOTALS_READ_MAX {
            let Some(due) = self.totals.next(now) else { return };
            if !self.read_totals(ground, &due) {
                return self.totals.failed(&due.topic, now);
            }
        }
    }

    /// False if the database's queue is full.
    fn read_totals(&self, ground: &Ground, due: &Due) -> bool {
        let Due { topic, is_asked } = due;
        let Some(video) = video_of(topic) else { return true };
        self.store_own(ground, Command::Counts { video: video.clone() }, Then::Totals(topic.clone()))
            && (!is_asked || self.store_own(ground, Command::Rules { video }, Then::RulesAsked(topic.clone())))
    }

    /// The database said what a video has, or could not.
    pub(crate) fn on_totals(&mut self, ground: &mut Ground, topic: &Topic, result: Result<Outcome, StoreError>) {
        let Ok(Outcome::Counts { likes, reactions, taps }) = result else {
            return self.totals.failed(topic, ground.clock.instant);
        };
        let sums = Sums { likes, reactions: reactions.into_iter().collect(), taps: taps.into_iter().collect() };
        let data = serde_json::to_string(&sums).expect("it is plain data");
        // The dispatcher that takes it puts its data center's name there.
        let own = Own::keyed(topic, LIKES, &ground.node.dc, data);
        ground.publish(own);
    }

    pub(crate) fn on_asked_totals(&mut self, ground: &mut Ground, topics: &[Topic]) {
        for topic in topics {
            if !self.totals.asked(topic, ground.clock.instant) {
                ground.happened(What::DroppedBacklog, 1, Subject::topic(topic.as_str()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_no_videos() {
        let video = |topic: &str| video_of(&Topic::parse(topic).expect("it is one"));
        assert_eq!(video("live:a%20b"), Some("a b".to_owned()));
        for topic in ["live:%FF", "live:%00", "live:x:y", "chat:7"] {
            assert_eq!(video(topic), None, "{topic}");
        }
    }
}
