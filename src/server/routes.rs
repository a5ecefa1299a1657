//! Requests to resources.

use crate::server::ground::Ground;
use crate::server::services::Services;
use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::resources::Resource;
use super::slots::Conn;
use super::streams::Opening;
use crate::observe::trouble::Reason;
use crate::web::{self, Asset};
use crate::wire::http::{HttpError, Method, percent_decode, trim};
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Written};
use crate::wire::status::Status;
use crate::wire::topic::{self, Topic};

/// What became of a request.
#[derive(Debug)]
pub enum Handled {
    /// Its answer is written.
    Answered(Written),
    /// Its answer is written and says that the connection ends with it.
    AnsweredLast(Written),
    /// Its answer comes from elsewhere.
    Later,
    /// It becomes a stream.
    Stream(Opening),
}

impl Services {
    /// Finds the resource and lets it answer.
    pub(super) fn route(
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

impl Ground {
    /// The demo page and what belongs to it.
    fn asset(&mut self, asset: Asset, request: &Request<'_>, to: AnswerTo) -> Handled {
        let headers = format!(
            "ETag: {}\r\nCache-Control: no-cache\r\nContent-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\n",
            asset.etag,
            web::CONTENT_SECURITY_POLICY
        );
        let matches =
            |tags: &str| tags.split(',').map(trim).any(|tag| tag.trim_start_matches("W/") == asset.etag || tag == "*");
        Handled::Answered(if request.if_none_match.is_some_and(matches) {
            self.answers().whole(to, Status::NotModified, "", &headers, b"")
        } else {
            self.answers().whole(to, Status::Ok, asset.content_type, &headers, asset.body)
        })
    }

    /// The topic that a part of a path names.
    ///
    /// # Errors
    /// 400 for what is none.
    pub(super) fn topic_of_path(&self, part: &str) -> Result<Topic, HttpError> {
        Topic::parse(&self.path_topic(part)?).map_err(|error| HttpError::bad(error.to_string()))
    }

    /// The topic that a part of a path names, decoded once.
    pub(super) fn path_topic<'a>(&self, part: &'a str) -> Result<Cow<'a, str>, HttpError> {
        topic::normalise(percent_decode(part, false)?).map_err(|error| HttpError::bad(error.to_string()))
    }

    /// Why the node is not ready to serve, if it is not.
    pub(super) fn not_ready(&self) -> Option<Reason> {
        if self.node.draining.load(Ordering::Relaxed) {
            return Some(Reason::plain("draining: this node takes no new streams and ends soon"));
        }
        if let Some(trouble) = self.trouble() {
            return Some(trouble);
        }
        if self.node.tokens.as_ref().is_some_and(|tokens| !tokens.has_keys()) {
            return Some(Reason::plain("the keys that tokens are checked by could not be fetched yet"));
        }
        if !self.knows_revoked() {
            return Some(Reason::plain("waiting for the key-value store to tell which tokens are revoked"));
        }
        if let Some(database) = self.node.store.as_ref().and_then(|store| store.health().err()) {
            return Some(Reason::new("the database fails", database));
        }
        self.node.admission.full().map(Reason::plain)
    }
}
