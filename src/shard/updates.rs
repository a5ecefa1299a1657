//! `/.well-known/mercure`: Mercure's protocol, whose publishers send forms, and whose topics are of a kind of their own.

use crate::ground::access::Allowed;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::mercure::{By, Updating};
use crate::ground::publishing::{Published, Publisher};
use crate::ground::slots::Conn;
use crate::ground::{Ground, Reply};
use crate::observe::happenings::subject::Subject;
use crate::shard::services::Services;
use crate::wire::event::{Draft, giver};
use crate::wire::hops::{Begun, Parent};
use crate::wire::http::{HttpError, Method};
use crate::wire::mercure;
use crate::wire::mercure::form::Form;
use crate::wire::query::Query;
use crate::wire::status::Status;

impl Services {
    /// `GET` is a stream, `POST` an update.
    pub(crate) fn mercure(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
    ) -> Result<Handled, HttpError> {
        if incoming.request.method == Method::Post {
            return self.publish_update(ground, incoming, query);
        }
        let access = match ground.live.mercure_anonymous {
            true => ground.access_if_any(By::Mercure, incoming.request, query)?,
            false => Some(ground.access_by(By::Mercure, incoming.request, query)?),
        };
        self.frontend()?.start_mercure(ground, incoming, query, access)
    }

    fn publish_update(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, body, .. } = incoming;
        let access = ground.access_by(By::Mercure, request, query)?;
        if request.idempotency_key.is_some() {
            return Err(HttpError::bad(
                "an update takes no Idempotency-Key; give it an \"id\", by which subscribers know a repeat",
            ));
        }
        let form = Form::read(request.content_type, body)?;
        access.require_updates(&form.update)?;
        if let Some(id) = form.id.as_deref().filter(|id| giver(id).is_some()) {
            return Err(HttpError::new(
                Status::Forbidden,
                format!("ids such as {id} are given by nodes; give another one, or none"),
            ));
        }
        let data = form.event_data()?;
        let publisher = ground.publisher_key(conn, request, &access);
        for topic in &form.update.topics {
            ground.admit_event(publisher, |ground| Subject {
                topic: Some(topic),
                ..access.subject(|| ground.client(conn, request))
            })?;
        }
        let updating = Updating {
            id: form.id.map_or_else(|| ground.new_update_id().into(), Into::into),
            data: data.into(),
            topics: form.update.topics.iter().map(|topic| mercure::topic(topic)).collect(),
            parent: request.traceparent.and_then(Parent::parse),
            at: 0,
        };
        let id = std::sync::Arc::clone(&updating.id);
        match self.update(ground, conn, updating)? {
            Published::Pending => Ok(Handled::Later),
            Published::Taken | Published::Repeated(_) => Ok(Handled::Answered(ground.answers().text(to, &id))),
        }
    }

    /// Publishes an update to its topics that do not have it, up to the first of which that is not known at once.
    fn update(&mut self, ground: &mut Ground, conn: Conn, mut updating: Updating) -> Result<Published, HttpError> {
        while let Some(topic) = updating.topics.get(updating.at).cloned() {
            updating.at += 1;
            let draft = Draft {
                topic: topic.as_str().into(),
                kind: mercure::TYPE.into(),
                key: None,
                id: Some((&*updating.id).into()),
                version: None,
                count: 1,
                always: false,
                data: &updating.data,
                begun: Begun::default(),
                hops: None,
            };
            let mut draft = Allowed::own(draft);
            draft.of_trace(updating.parent);
            let publisher = Publisher::Update(conn, updating.clone());
            if self.publish_as(ground, &draft, &updating.id, publisher)? == Published::Pending {
                return Ok(Published::Pending);
            }
        }
        Ok(Published::Taken)
    }

    /// One more of an update's topics has it.
    pub(crate) fn go_on_updating(&mut self, ground: &mut Ground, conn: Conn, updating: Updating) {
        let id = updating.id.as_ref().into();
        match self.update(ground, conn, updating) {
            Ok(Published::Pending) => {}
            Ok(_) => ground.reply(conn, Reply::Text(id)),
            Err(error) => ground.reply(conn, Reply::Problem(error)),
        }
    }
}
