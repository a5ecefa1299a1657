//! Taps: hearts that a member may give again and again. They are shown as they come, and the database gets their number
//! within a second; a process that dies takes those of its last second with it.

use serde::Deserialize;
use serde_json::json;

use crate::backend::Backend;
use crate::backend::counts::video_of;
use crate::backend::posts::place_topic;
use crate::db::{Command, Outcome, PostKind, StoreError};
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::Incoming;
use crate::ground::message::{Message, Tapped, Then};
use crate::ground::own::Own;
use crate::limits::TAPS_MAX;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::wire::hops::{Begun, SentAt};
use crate::wire::http::HttpError;
use crate::wire::json;
use crate::wire::names::check_name;

#[derive(Debug, Deserialize)]
struct TapBody {
    member: Option<String>,
    #[serde(default = "super::likes::default_reaction")]
    reaction: String,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    sent_at: SentAt,
}

fn one() -> u32 {
    1
}

impl Backend {
    /// `POST /v1/videos/{video}/taps`
    pub(crate) fn taps(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        video: &str,
    ) -> Result<(), HttpError> {
        let topic = place_topic(PostKind::Comment, video)?;
        access.require_publish(topic.as_str())?;
        let TapBody { member, reaction, count, sent_at } = json::object(incoming.body).map_err(|error| {
            let example = "{\"member\":\"…\",\"reaction\":\"like\",\"count\":7}";
            HttpError::bad(format!("the body must be {example}: {error}"))
        })?;
        let member = access.member(member)?.ok_or(HttpError::bad("the field \"member\" is missing: who taps?"))?;
        check_name("member", &member)?;
        self.check_reaction(ground, &reaction)?;
        if !(1..=TAPS_MAX).contains(&count) {
            return Err(HttpError::bad(format!(
                "the field \"count\" must be 1 to {TAPS_MAX}; gather taps for a moment"
            )));
        }
        let admitted = ground.node.admission.tap(&member, count, ground.clock.instant);
        admitted.map_err(|refusal| {
            ground.refused(refusal, Subject { member: Some(&member), ..Subject::topic(topic.as_str()) })
        })?;
        let data = json!({"member": member, "reaction": reaction}).to_string();
        let begun = Begun::read(incoming.request.traceparent, sent_at, ground.clock.instant);
        ground.publish(Own { count, begun, ..Own::keyed(&topic, "tap", &reaction, data) });
        ground.counters().taps.add(count.into());
        let tapped = (topic, reaction);
        match ground.node.home(tapped.0.as_str()) {
            home if home == ground.id => self.on_tapped(ground, tapped, count.into()),
            home => ground.send(home, Message::Tapped { tapped, taps: count }),
        }
        Ok(())
    }

    /// At the home of a video's topic, which alone has the database count its taps.
    pub(crate) fn on_tapped(&mut self, ground: &mut Ground, tapped: Tapped, taps: u64) {
        let topic = tapped.0.clone();
        if self.taps.add(tapped, taps, ground.clock.instant, &ground.account).is_err() {
            ground.happened(What::DroppedBacklog, 1, Subject::topic(topic.as_str()));
        }
    }

    /// Once a tick: has the database count what came.
    pub(crate) fn tick_taps(&mut self, ground: &mut Ground) {
        let ends = ground.is_draining();
        for (tapped, taps) in self.taps.take(ground.clock.instant, ends) {
            let Some(video) = video_of(&tapped.0) else { continue };
            let command = Command::Taps { video, reaction: tapped.1.clone(), taps };
            if !self.store_own(ground, command, Then::Tapped { tapped: tapped.clone(), taps }) {
                self.on_tapped(ground, tapped, taps);
            }
        }
    }

    /// The database counted taps, or could not: then it gets them with the next.
    pub(crate) fn on_taps_stored(
        &mut self,
        ground: &mut Ground,
        tapped: Tapped,
        taps: u64,
        result: Result<Outcome, StoreError>,
    ) {
        match result {
            Err(StoreError::Unavailable { .. }) => self.on_tapped(ground, tapped, taps),
            _ => self.likes_changed(ground, &tapped.0),
        }
    }
}
