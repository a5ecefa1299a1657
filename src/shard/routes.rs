//! Requests to resources.

use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::resources::Resource;
use crate::ground::slots::Conn;
use crate::shard::services::Services;
use crate::wire::http::{HttpError, Method, percent_decode};
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;

impl Services {
    /// Finds the resource and lets it answer.
    pub(crate) fn route(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let roles = ground.node.roles;
        let resource = Resource::find(roles, internal, request.path);
        if internal {
            ground.check_internal_page(request)?;
        }
        if request.method == Method::Options {
            return ground.options(request, to, internal, resource);
        }
        if internal {
            return self.handle_internal(ground, conn, request, resource, to, body);
        }
        let resource = resource.ok_or_else(HttpError::not_found)?;
        let query = resource.query(roles, false, request)?;
        ground.check_page(conn, request, resource)?;
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
                self.publish_one(ground, conn, request, topic, &access, to, body)
            }
            // POST is taken line by line, and never comes here.
            Resource::Events => {
                let access = ground.access(request, query)?;
                self.frontend()?.start_stream(ground, conn, request, query, access, to, false)
            }
            Resource::Poll => {
                let access = ground.access(request, query)?;
                self.frontend()?.start_stream(ground, conn, request, query, access, to, true)
            }
            Resource::StreamTopics(connection) => {
                let access = ground.access(request, query)?;
                self.frontend()?.change_topics(ground, conn, connection, access, body)
            }
            Resource::StreamToken(connection) => {
                self.frontend()?.renew_token(ground, conn, request, query, connection, body)
            }
            Resource::Received => {
                ground.access(request, query)?;
                ground.received(to, body)
            }
            Resource::Time => {
                let now = format!("{{\"now\":{}}}", ground.clock.unix_ms);
                Ok(Handled::Answered(ground.answers().json(to, Status::Ok, now.as_bytes())))
            }
            Resource::Likes(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.likes(ground, conn, request, &access, &decode(video)?, body)
            }
            Resource::Taps(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.taps(ground, &access, &decode(video)?, body)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Accepted, b"{}")))
            }
            Resource::Posts(kind, place) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.posts(ground, conn, request, query, &access, kind, &decode(place)?, body)
            }
            Resource::Post(kind, place, id) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.delete_post(ground, conn, &access, kind, &decode(place)?, &decode(id)?, body)
            }
            Resource::Rules(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.rules(ground, conn, request, &access, &decode(video)?, body)
            }
            Resource::Timeouts(video) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.timeout(ground, conn, &access, &decode(video)?, body)
            }
            Resource::Presence => {
                let access = ground.access(request, query)?;
                self.presence(ground, conn, query, &access, to)
            }
            Resource::Receipts(conversation) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.receipts(ground, conn, request, query, &access, &decode(conversation)?, body)
            }
            Resource::Typing(conversation) => {
                let access = ground.publisher(conn, request, query)?;
                self.backend()?.typing(ground, &access, &decode(conversation)?, body)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Accepted, b"{}")))
            }
            Resource::Order(order) => {
                let access = ground.publisher(conn, request, query)?;
                self.order_all(ground, conn, &access, order, to, body)
            }
            Resource::Asset(asset, _) => Ok(ground.asset(asset, request, to)),
            _ => Err(HttpError::not_found()),
        }
    }
}
