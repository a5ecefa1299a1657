//! What a request wants of which the operator's server is asked, before it is served.

use std::sync::Arc;

use serde::Deserialize;

use crate::db::PostKind;
use crate::frontend::topic_changes::read_change;
use crate::ground::Ground;
use crate::ground::access::{Access, moderated};
use crate::ground::answering::Incoming;
use crate::ground::authorize::{Grant, Waiter};
use crate::ground::mercure::By;
use crate::ground::opening::read_topics;
use crate::ground::resources::Resource;
use crate::shard::publishing::read_draft;
use crate::shard::services::Services;
use crate::wire::authorize::{Action, Question};
use crate::wire::event::CONTROL_TOPIC;
use crate::wire::http::{HttpError, Method, percent_decode};
use crate::wire::json;
use crate::wire::mercure;
use crate::wire::mercure::form::Form;
use crate::wire::query::{Parameter, Query};
use crate::wire::topic::Topic;

/// Whether a request may be served.
#[derive(Debug)]
pub(crate) enum Permission {
    /// It is to wait, and then served once more.
    Asks,
    /// It may, and its topics may be had by this; by nothing where no server is asked about it.
    Given(Option<Grant>),
}

/// What a request wants.
struct Wanted {
    action: Action,
    topics: Vec<Box<str>>,
    kind: Option<Box<str>>,
    /// The member that it names.
    named: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    member: Option<String>,
}

impl Wanted {
    fn subscribe(topics: impl IntoIterator<Item = Topic>) -> Wanted {
        let topics = topics.into_iter().map(|topic| topic.as_str().into()).collect();
        Wanted { action: Action::Subscribe, topics, kind: None, named: None }
    }

    fn publish(topic: &str, kind: &str) -> Wanted {
        Wanted { action: Action::Publish, topics: vec![topic.into()], kind: Some(kind.into()), named: None }
    }

    /// By the member whom its body names. What is no body of its resource's is refused when it is served.
    fn by(self, body: &[u8]) -> Wanted {
        let Named { member } = json::object(body).unwrap_or_default();
        Wanted { named: member, ..self }
    }
}

impl Services {
    /// Whether a request of the public listener may be served, as far as the operator's server says. Everything else is looked at
    /// when it is served; of its token so much is looked at here that nobody makes it ask about what the token refuses.
    ///
    /// # Errors
    /// 403 where it refuses; 503 where it does not answer; and what is wrong with a request of which it cannot be asked.
    pub(crate) fn permission(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        resource: Resource<'_>,
        query: Query<'_>,
    ) -> Result<Permission, HttpError> {
        if !ground.authorizes() {
            return Ok(Permission::Given(None));
        }
        let Some(wanted) = wanted(ground, incoming, resource, query)? else { return Ok(Permission::Given(None)) };
        let Incoming { conn, request, .. } = incoming;
        let access = match resource {
            Resource::Mercure if request.method != Method::Post && ground.live.mercure_anonymous => {
                ground.access_if_any(By::Mercure, request, query)?
            }
            Resource::Mercure => Some(ground.access_by(By::Mercure, request, query)?),
            _ => Some(ground.access(request, query)?),
        };
        let Wanted { action, topics, kind, named } = wanted;
        let who = ground.who_asks(conn, request, access.as_ref(), named);
        let question = Arc::new(Question { action, topics, kind, who });
        let verdict = match ground.authorizing.verdict.take() {
            Some(verdict) => verdict,
            None => {
                if let Some(access) = &access {
                    require_rights(access, resource, &question)?;
                }
                let Some(verdict) = ground.ask_server(&question, Waiter::Request(conn)) else {
                    // Whoever publishes too fast asks no more.
                    if action == Action::Publish && resource != Resource::Mercure {
                        ground.publisher(conn, request, query)?;
                    }
                    return Ok(Permission::Asks);
                };
                verdict
            }
        };
        let until_ms = ground.require_allowed(&question, &verdict)?;
        Ok(Permission::Given(Some(ground.grant(question, until_ms))))
    }
}

/// Refuses what the token does not let it do, as far as that is seen by the topics alone.
fn require_rights(access: &Access, resource: Resource<'_>, question: &Question) -> Result<(), HttpError> {
    match resource {
        // A moderator's right is another one, and Mercure's claims are.
        Resource::Post(..) | Resource::Rules(_) | Resource::Timeouts(_) | Resource::Mercure => Ok(()),
        _ if question.action == Action::Publish => {
            question.topics.iter().try_for_each(|topic| access.require_publish(topic))
        }
        _ => question.topics.iter().try_for_each(|topic| {
            let topic = Topic::subscribed(topic).map_err(|error| HttpError::bad(error.to_string()))?;
            access.require_subscribe(&topic)
        }),
    }
}

/// What a request wants that somebody is asked about; nothing if it neither subscribes nor publishes.
fn wanted(
    ground: &Ground,
    incoming: Incoming<'_>,
    resource: Resource<'_>,
    query: Query<'_>,
) -> Result<Option<Wanted>, HttpError> {
    let Incoming { request, body, .. } = incoming;
    let reads = matches!(request.method, Method::Get | Method::Head);
    let place = |kind: PostKind, part| -> Result<Topic, HttpError> {
        crate::backend::posts::place_topic(kind, &percent_decode(part, false)?)
    };
    let of = |topic: Topic, kind: &str| match reads {
        true => Wanted::subscribe([topic]),
        false => Wanted::publish(topic.as_str(), kind).by(body),
    };
    Ok(Some(match resource {
        Resource::TopicEvents(topic) if reads => Wanted::subscribe([ground.topic_of_path(topic)?]),
        Resource::TopicMembers(topic) => Wanted::subscribe([ground.topic_of_path(topic)?]),
        Resource::TopicEvents(topic) => {
            let topic = ground.path_topic(topic)?;
            let draft = read_draft(body, &topic)?;
            Wanted::publish(&draft.topic, &draft.kind)
        }
        Resource::Events | Resource::Poll => {
            let topics = read_topics(query.all(Parameter::Topic), ground.live.topics_max)?;
            let named = query.all(Parameter::Member).filter(|member| !member.is_empty()).last();
            let named = named.map(|member| member.into_owned());
            Wanted { named, ..Wanted::subscribe(topics) }
        }
        Resource::StreamTopics(_) => {
            let (add, _) = read_change(body, ground.live.topics_max)?;
            if add.is_empty() {
                return Ok(None);
            }
            Wanted::subscribe(add)
        }
        Resource::Likes(video) => of(place(PostKind::Comment, video)?, "like"),
        Resource::Taps(video) => of(place(PostKind::Comment, video)?, "tap"),
        Resource::Posts(kind, part) => of(place(kind, part)?, kind.event()),
        Resource::Post(kind, part, _) => of(place(kind, part)?, "deleted"),
        Resource::Receipts(conversation) => of(place(PostKind::Message, conversation)?, "receipt"),
        Resource::Typing(conversation) => of(place(PostKind::Message, conversation)?, "typing"),
        Resource::Rules(video) | Resource::Timeouts(video) => {
            Wanted::publish(&moderated(&place(PostKind::Comment, video)?), "rules")
        }
        Resource::Presence => {
            let topics = query.all(Parameter::Member).map(|member| Topic::encode("presence", &member));
            let topics: Result<Vec<Topic>, _> = topics.collect();
            match topics.map_err(|error| HttpError::bad(format!("the member's name: {error}")))? {
                // It is refused for that.
                topics if topics.is_empty() => return Ok(None),
                topics => Wanted::subscribe(topics),
            }
        }
        Resource::Order(_) => Wanted::publish(CONTROL_TOPIC, "control"),
        Resource::Mercure if request.method == Method::Post => {
            let form = Form::read(request.content_type, body)?;
            let topics = form.update.topics.iter().map(|topic| (**topic).into()).collect();
            Wanted { action: Action::Publish, topics, kind: Some(mercure::TYPE.into()), named: None }
        }
        Resource::Mercure => {
            let topics = query.all(Parameter::Topic).map(|topic| topic.into()).collect();
            Wanted { action: Action::Subscribe, topics, kind: Some(mercure::TYPE.into()), named: None }
        }
        _ => return Ok(None),
    }))
}
