//! Requests that publish: to this node's dispatcher, or to another one.

use std::borrow::Cow;
use std::sync::Arc;

use crate::ground::access::{Access, Allowed};
use crate::ground::answering::{Handled, Incoming};
use crate::ground::lines::Taken;
use crate::ground::own::Own;
use crate::ground::publishing::{Published, Publisher};
use crate::ground::slots::Conn;
use crate::ground::{Ground, Todo, once};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::planted::{Mistake, planted};
use crate::shard::services::Services;
use crate::wire::authorize::Who;
use crate::wire::event::{Draft, EventError};
use crate::wire::hops::Parent;
use crate::wire::http::HttpError;
use crate::wire::status::Status;

/// Whose a line of a body is, and of which topic.
fn of_line<'a>(ground: &Ground, access: &'a Access, conn: Conn, draft: &'a Draft<'_>) -> Subject<'a> {
    Subject { topic: Some(&draft.topic), ..access.subject(|| ground.peer(conn)) }
}

/// The event that a body for this topic is.
pub(crate) fn read_draft<'a>(body: &'a [u8], topic: &'a str) -> Result<Draft<'a>, HttpError> {
    Draft::parse(body, Some(topic)).map_err(|error| match error {
        EventError::TooLarge(_) => HttpError::new(Status::ContentTooLarge, error.to_string()),
        error => HttpError::bad(error.to_string()),
    })
}

impl Services {
    /// `POST /v1/topics/{topic}/events`
    pub(crate) fn publish_one(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        topic: &str,
        access: &Access,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, body, .. } = incoming;
        let topic = ground.path_topic(topic)?;
        let draft = read_draft(body, &topic)?;
        let mut draft = ground.allow(access, draft)?;
        draft.of_trace(request.traceparent.and_then(Parent::parse));
        if let Some(key) = once::key(request)? {
            return self.dispatcher()?.publish_once(ground, incoming, key, access, &draft);
        }
        let (published, id) = self.publish_named(ground, &draft, Publisher::Request(conn));
        let handled = published.map(|published| match published {
            Published::Taken => Handled::Answered(ground.answer_id(to, draft.id.as_deref().unwrap_or(&id))),
            Published::Repeated(id) => Handled::Answered(ground.answer_id(to, &id)),
            Published::Pending => Handled::Later,
        });
        ground.new_id = id;
        handled
    }

    /// Publishes under the id that the event came with, or a new one. Gives back the buffer with the new one, which is
    /// the shard's: an event costs no allocation until somebody wants it.
    pub(crate) fn publish_named(
        &mut self,
        ground: &mut Ground,
        draft: &Allowed<'_>,
        publisher: Publisher,
    ) -> (Result<Published, HttpError>, String) {
        let mut new_id = std::mem::take(&mut ground.new_id);
        new_id.clear();
        if draft.id.is_none() {
            ground.new_event_id(&mut new_id);
        }
        let id = draft.id.as_deref().unwrap_or(&new_id);
        (self.publish_as(ground, draft, id, publisher), new_id)
    }

    pub(crate) fn publish_as(
        &mut self,
        ground: &mut Ground,
        draft: &Draft<'_>,
        id: &str,
        publisher: Publisher,
    ) -> Result<Published, HttpError> {
        match &mut self.dispatcher {
            Some(dispatcher) => dispatcher.publish(ground, draft, id, publisher),
            None => ground.hand_over(draft, id, publisher),
        }
    }

    /// Publishes an event of this node's own.
    pub(crate) fn publish_own(&mut self, ground: &mut Ground, own: Own) {
        let draft = Allowed::own(own.draft());
        let (published, id) = self.publish_named(ground, &draft, own.publisher.clone());
        ground.new_id = id;
        match (own.publisher, published) {
            (Publisher::Post(..), Ok(Published::Pending)) if !planted(Mistake::OutboxMarkedEarly) => {}
            (Publisher::Post(topic, record), published) => {
                ground.todo.push_back(Todo::Told(topic, record, published.is_ok()));
            }
            (Publisher::Canary { every: Some(_), .. }, Ok(Published::Pending)) => {}
            (Publisher::Canary { by, every: Some(number) }, published) => {
                ground.todo.push_back(Todo::CanaryTold(by, number, published.is_ok()));
            }
            (_, Ok(_)) => {}
            // What it tells is stored, or soon out of date: what is told next heals the displays.
            (_, Err(error)) => {
                let says = Some(format_args!("{}", error.detail));
                ground.happened(What::DroppedBacklog, 1, Subject { says, ..Subject::topic(own.topic.as_str()) })
            }
        }
    }

    /// One line of `POST /v1/events`.
    pub(crate) fn publish_text(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        (publisher, who): (u64, Option<&Arc<Who>>),
        (conn, number): (Conn, u64),
        line: &[u8],
    ) -> Result<Taken, String> {
        let (draft, more) = Draft::parse_line(line).map_err(|error| error.to_string())?;
        if let Some(who) = who {
            let topics: Vec<&str> = std::iter::once(&draft.topic).chain(&more).map(|topic| &**topic).collect();
            // Nobody is asked about what the token refuses.
            let mine = topics.iter().try_for_each(|topic| access.require_publish(topic));
            match mine.and_then(|()| ground.may_publish(conn, &topics, &draft.kind, who)) {
                Ok(true) => {}
                Ok(false) => return Ok(Taken::Asks),
                Err(error) => return Err(error.detail.into_owned()),
            }
        }
        if !more.is_empty() {
            return self.publish_to_many(ground, access, publisher, (conn, number), draft, more);
        }
        let allowed = ground.require_still(access).and_then(|()| ground.allow(access, draft));
        let draft = allowed
            .and_then(|draft| {
                ground.admit_event(publisher, |ground| of_line(ground, access, conn, &draft)).map(|()| draft)
            })
            .map_err(|error| error.detail.into_owned())?;
        let (published, id) = self.publish_named(ground, &draft, Publisher::Line(conn, number));
        ground.new_id = id;
        match published {
            Ok(Published::Taken | Published::Repeated(_)) => Ok(Taken::Now),
            Ok(Published::Pending) => Ok(Taken::Later { events: 1, failed: None }),
            Err(error) => Err(error.detail.into_owned()),
        }
    }

    /// An event for several topics, under one id. It goes to none of them where it may not go to one; where one of them
    /// cannot take it now, those before it have it, and viewers know by the id what is repeated.
    fn publish_to_many<'a>(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: u64,
        (conn, number): (Conn, u64),
        draft: Draft<'a>,
        more: Vec<Cow<'a, str>>,
    ) -> Result<Taken, String> {
        let mut drafts: Vec<Draft<'a>> = more.into_iter().map(|topic| Draft { topic, ..draft.clone() }).collect();
        drafts.insert(0, draft);
        let allowed = ground
            .require_still(access)
            .and_then(|()| drafts.into_iter().map(|draft| ground.allow(access, draft)).collect());
        let drafts: Vec<Allowed<'_>> = allowed.map_err(|error: HttpError| error.detail.into_owned())?;
        for draft in &drafts {
            let admitted = ground.admit_event(publisher, |ground| of_line(ground, access, conn, draft));
            admitted.map_err(|error| error.detail.into_owned())?;
        }
        let mut id = String::new();
        match &drafts[0].id {
            Some(given) => id.push_str(given),
            None => ground.new_event_id(&mut id),
        }
        let (mut events, mut failed) = (0, None);
        for draft in &drafts {
            match self.publish_as(ground, draft, &id, Publisher::Line(conn, number)) {
                Ok(Published::Pending) => events += 1,
                Ok(Published::Taken | Published::Repeated(_)) => {}
                Err(error) => {
                    failed = Some(error.detail.into_owned());
                    break;
                }
            }
        }
        match failed {
            Some(failed) if events == 0 => Err(failed),
            None if events == 0 => Ok(Taken::Now),
            // The line is answered with those of its events that are on their way.
            failed => Ok(Taken::Later { events, failed }),
        }
    }
}
