//! Streams of Mercure's protocol, and for whom of a topic's viewers an update is.

use std::borrow::Cow;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::frontend::resume::NOTHING_YET;
use crate::frontend::topics::Topics;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::all::All;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::mercure::ByMercure;
use crate::ground::opening::{LastEvent, Opening, too_many_topics};
use crate::ground::slots::Slot;
use crate::limits::ECHOED_ID_BYTES_MAX;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::http::{HttpError, Method};
use crate::wire::mercure;
use crate::wire::mercure::form::check_topic;
use crate::wire::mercure::selectors::{Selectors, is_template};
use crate::wire::position::Resume;
use crate::wire::query::{Parameter, Query};
use crate::wire::request::Request;
use crate::wire::topic::Topic;

/// Checks what a subscriber asks for: a topic by itself.
fn check(selector: &str) -> Result<(), HttpError> {
    check_topic(selector)?;
    if selector == "*" || is_template(selector) {
        return Err(HttpError::bad(format!(
            "a stream has topics by themselves here, not a URI template or * ({selector}): name each topic, or publish updates to \
             one more topic that stands for all of them, such as https://example.com/books, and subscribe to that"
        )));
    }
    Ok(())
}

impl Frontend {
    /// `GET /.well-known/mercure`, by someone without a token where there is no access.
    pub(crate) fn start_mercure(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        access: Option<Access>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, grant, .. } = incoming;
        let (selectors, gets_all) = match &access {
            Some(Access::Open | Access::Node) => (None, true),
            Some(Access::Token(rights)) => {
                (Some(rights.mercure_subscribe.clone().unwrap_or_else(|| Arc::new(Selectors::of([])))), false)
            }
            None => (None, false),
        };
        let (mut topics, mut private) = (Vec::new(), Vec::new());
        for text in query.all(Parameter::Topic) {
            check(&text)?;
            let topic = mercure::topic(&text);
            if topics.contains(&topic) {
                continue;
            }
            if topics.len() == ground.live.topics_max {
                return Err(too_many_topics(ground.live.topics_max));
            }
            if gets_all || selectors.as_ref().is_some_and(|selectors| selectors.select(&text)) {
                private.push(topic.clone());
            }
            topics.push(topic);
        }
        if topics.is_empty() {
            return Err(HttpError::bad(
                "\"topic\" is missing: name one or more, such as ?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1",
            ));
        }
        let id = self.last_id(request, query);
        let last = id.as_deref().map(|id| last_event(ground, id));
        let last_event_id = id.zip(last.as_ref()).map(|(id, last)| match last.resume {
            Resume::After(_) if id.len() <= ECHOED_ID_BYTES_MAX && is_visible(&id) => id.into_owned(),
            _ => mercure::EARLIEST.to_owned(),
        });
        if request.method == Method::Head {
            return Ok(Handled::AnsweredLast(ground.answers().stream_head(to, last_event_id.as_deref())));
        }
        self.admit_stream(ground, conn, request, &topics)?;
        Ok(Handled::Stream(Opening {
            topics,
            // Nobody in particular: what may be had was looked at.
            access: access.unwrap_or(Access::Open),
            last,
            member: None,
            all: All::default(),
            polls: false,
            grant: grant.cloned(),
            mercure: Some(Box::new(ByMercure { private, selectors, last_event_id })),
        }))
    }

    /// The id that a request for a stream says its client has: that of the header, which an `EventSource` keeps up to date, or
    /// else the last one in the query, since polyfills append theirs to the page's URL.
    pub(crate) fn last_id<'a>(&self, request: &Request<'a>, query: Query<'a>) -> Option<Cow<'a, str>> {
        let in_head = request.last_event_id.filter(|id| !id.is_empty() && !planted(Mistake::LastIdIgnored));
        in_head.map(Cow::Borrowed).or_else(|| query.all(Parameter::LastEventId).filter(|id| !id.is_empty()).last())
    }
}

fn is_visible(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What the id of an update means, as a stream said it: the update's own, and behind the last `#` its place.
fn last_event(ground: &Ground, id: &str) -> LastEvent {
    let place = id.rsplit_once('#').map_or(id, |(_, place)| place);
    let (id, resume) = match place {
        // An empty one is none to a client, which asks the same again.
        mercure::EARLIEST => ("", Resume::Newest(None)),
        place if is_visible(place) => (place, ground.read_place(place)),
        _ => (NOTHING_YET, Resume::Unreadable),
    };
    LastEvent { id: id.to_owned(), resume, told_ms: 0, takes_no_repeats: true }
}

/// Whether a stream in this slot, which gets `all` of the event's topic, is to be given it. Nearly all events are for all.
pub(crate) fn is_for(topics: &Topics, slot: &Slot, all: &All, frame: &Frame) -> bool {
    let Some(audience) = frame.audience() else { return true };
    let selectors = slot.rights.as_ref().and_then(|rights| rights.mercure.as_deref());
    let watched = |topic: &Topic| {
        let mut watched = slot.subscriptions.as_slice().iter().map(|watched| &topics.get(watched.topic).topic);
        watched.any(|watched| watched == topic)
    };
    audience.has(all.has_private(), selectors, watched)
}
