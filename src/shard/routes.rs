//! Requests to resources.

use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::resources::Resource;
use crate::shard::authorizing::Permission;
use crate::shard::services::Services;
use crate::wire::http::{HttpError, Method, percent_decode};
use crate::wire::status::Status;

impl Services {
    /// Finds the resource and lets it answer.
    pub(crate) fn route(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { conn, internal, request, to, body, .. } = incoming;
        let roles = ground.node.roles;
        let resource = Resource::find(roles, internal, request.path);
        if internal {
            ground.check_internal_page(request)?;
        }
        if request.method == Method::Options {
            return ground.options(request, to, internal, resource);
        }
        if internal {
            return self.handle_internal(ground, incoming, resource);
        }
        let resource = resource.ok_or_else(HttpError::not_found)?;
        let query = resource.query(roles, false, request)?;
        ground.check_page(conn, request, resource)?;
        let permission = self.permission(ground, incoming, resource, query)?;
        let grant = match &permission {
            Permission::Asks => return Ok(Handled::Asks),
            Permission::Given(grant) => grant.as_ref(),
        };
        let incoming = Incoming { grant, ..incoming };
        let decode = |part| percent_decode(part, false);
        match resource {
            Resource::TopicEvents(topic) if request.method != Method::Post => {
                let (access, topic) = (ground.access(request, query)?, ground.topic_of_path(topic)?);
                access.require_subscribe(&topic)?;
                self.past(ground, conn, query, topic)
            }
            Resource::TopicMembers(topic) => {
                let (access, topic) = (ground.access(request, query)?, ground.topic_of_path(topic)?);
                access.require_subscribe(&topic)?;
                self.list_members(ground, conn, query, topic)
            }
            Resource::TopicEvents(topic) => {
                let access = ground.publisher(conn, request, query)?;
                self.publish_one(ground, incoming, topic, &access)
            }
            // POST is taken line by line, and never comes here.
            Resource::Events => {
                let access = ground.access(request, query)?;
                self.frontend()?.start_stream(ground, incoming, query, access, false)
            }
            Resource::Poll => {
                let access = ground.access(request, query)?;
                self.frontend()?.start_stream(ground, incoming, query, access, true)
            }
            Resource::StreamTopics(connection) => {
                let access = ground.access(request, query)?;
                self.frontend()?.change_topics(ground, incoming, connection, access)
            }
            Resource::StreamToken(connection) => self.frontend()?.renew_token(ground, incoming, query, connection),
            Resource::Received => {
                ground.access(request, query)?;
                ground.received(incoming)
            }
            Resource::Time => {
                let now = format!("{{\"now\":{}}}", ground.clock.unix_ms);
                Ok(Handled::Answered(ground.answers().json(to, Status::Ok, now.as_bytes())))
            }
            Resource::Likes(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.likes(ground, incoming, &access, &decode(video)?)
            }
            Resource::Taps(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.taps(ground, incoming, &access, &decode(video)?)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Accepted, b"{}")))
            }
            Resource::Posts(kind, place) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.posts(ground, incoming, query, &access, kind, &decode(place)?)
            }
            Resource::Post(kind, place, id) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.delete_post(ground, incoming, &access, kind, &decode(place)?, &decode(id)?)
            }
            Resource::Rules(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.rules(ground, incoming, &access, &decode(video)?)
            }
            Resource::Timeouts(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.timeout(ground, incoming, &access, &decode(video)?)
            }
            Resource::Presence => {
                let access = ground.access(request, query)?;
                self.presence(ground, incoming, query, &access)
            }
            Resource::Receipts(conversation) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.receipts(ground, incoming, query, &access, &decode(conversation)?)
            }
            Resource::Typing(conversation) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.typing(ground, &access, &decode(conversation)?, body)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Accepted, b"{}")))
            }
            Resource::Order(order) => {
                let access = ground.publisher(conn, request, query)?;
                self.order_all(ground, incoming, &access, order)
            }
            Resource::Description(described) => Ok(ground.description(described, request, to)),
            Resource::Mercure => self.mercure(ground, incoming, query),
            Resource::Asset(asset, _) => Ok(ground.asset(asset, request, to)),
            _ => Err(HttpError::not_found()),
        }
    }
}
