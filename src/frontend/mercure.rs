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
use crate::limits::{ECHOED_ID_BYTES_MAX, PREFIXES_PER_CONNECTION_MAX, SELECTORS_BYTES_MAX, SELECTORS_EXPRESSIONS_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::frame::Frame;
use crate::wire::http::{HttpError, Method};
use crate::wire::mercure;
use crate::wire::mercure::form::check_topic;
use crate::wire::mercure::selectors::{ALL, Selectors, expressions, literal_begin};
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::position::Resume;
use crate::wire::query::{Parameter, Query};
use crate::wire::request::Request;
use crate::wire::topic::Topic;

/// What a subscriber asks for.
#[derive(Default)]
struct Asked {
    /// Topics by themselves, and their texts.
    named: Vec<(Topic, String)>,
    /// URI templates, and `*`.
    wanted: Vec<String>,
}

impl Asked {
    /// Reads the topics of a query, at most so many.
    fn read(query: Query<'_>, most: usize) -> Result<Asked, HttpError> {
        let mut asked = Asked::default();
        for text in query.all(Parameter::Topic) {
            check_topic(&text)?;
            if literal_begin(&text).is_some() {
                if asked.wanted.iter().any(|wanted| *wanted == text) {
                    continue;
                }
                if mercure::prefix(&text).is_none() {
                    return Err(HttpError::bad(format!(
                        "the URI template {text} would be looked for among all topics: let it begin with a scheme, a host and a \
                         slash, or with a path, before its first expression, such as https://example.com/books/{{id}}; or \
                         subscribe to *, or to a topic that stands for all of them"
                    )));
                }
                asked.wanted.push(text.into_owned());
            } else {
                let topic = mercure::topic(&text);
                if asked.named.iter().any(|(named, _)| *named == topic) {
                    continue;
                }
                asked.named.push((topic, text.into_owned()));
            }
            if asked.named.len() + asked.wanted.len() > most {
                return Err(too_many_topics(most));
            }
        }
        if asked.named.is_empty() && asked.wanted.is_empty() {
            return Err(HttpError::bad(
                "\"topic\" is missing: name one or more, such as ?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1",
            ));
        }
        let bytes: usize = asked.wanted.iter().map(String::len).sum();
        let expressions: usize = asked.wanted.iter().map(|text| expressions(text)).sum();
        if bytes > SELECTORS_BYTES_MAX || expressions > SELECTORS_EXPRESSIONS_MAX {
            return Err(HttpError::bad(format!(
                "the URI templates of a stream have at most {SELECTORS_BYTES_MAX} bytes and {SELECTORS_EXPRESSIONS_MAX} \
                 expressions in all, and these have {bytes} and {expressions}; open a second stream for more"
            )));
        }
        Ok(asked)
    }
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
        let nothing = || Arc::new(Selectors::of([]));
        let may_see = match &access {
            Some(Access::Open | Access::Node) => Arc::new(Selectors::of([ALL])),
            Some(Access::Token(rights)) => rights.mercure_subscribe.clone().unwrap_or_else(nothing),
            None => nothing(),
        };
        let Asked { mut named, wanted } = Asked::read(query, ground.live.topics_max)?;
        let wanted = Selectors::of(wanted.iter().map(String::as_str));
        if grant.is_none() {
            // What a template selects is had by that, and once. Where a server may refuse the template later it stays.
            named.retain(|(_, text)| !wanted.select(text));
        }
        let private = named.iter().filter(|(_, text)| may_see.select(text)).map(|(topic, _)| topic.clone()).collect();
        let subscriber = Subscriber { wanted, private: may_see };
        let prefixes = subscriber.prefixes();
        if prefixes.len() > PREFIXES_PER_CONNECTION_MAX {
            return Err(HttpError::bad(format!(
                "the URI templates of a stream have at most {PREFIXES_PER_CONNECTION_MAX} beginnings, up to the last slash before \
                 an expression, and these have {}; use a shorter one that covers several, or *, or open a second stream",
                prefixes.len()
            )));
        }
        let looks = matches!(access, Some(Access::Token(_))) || !prefixes.is_empty();
        let topics: Vec<Topic> = named.into_iter().map(|(topic, _)| topic).chain(prefixes).collect();
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
            mercure: Some(Box::new(ByMercure {
                private,
                subscriber: looks.then(|| Arc::new(subscriber)),
                last_event_id,
            })),
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
    let subscriber = slot.rights.as_ref().and_then(|rights| rights.mercure.as_deref());
    audience.has(all.has_private(), all.is_by_prefix(), subscriber, |topic| is_named(topics, slot, topic))
}

/// Whether a stream has a topic by its name.
pub(crate) fn is_named(topics: &Topics, slot: &Slot, topic: &Topic) -> bool {
    let mut watched = slot.subscriptions.as_slice().iter().map(|watched| topics.get(watched.topic));
    watched.any(|entry| entry.topic == *topic && !entry.all.is_by_prefix())
}
