//! Requests to resources.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::http_connection::Http;
use super::shard::Shard;
use super::slots::Conn;
use super::streams::Opening;
use crate::backend::store::PostKind;
use crate::wire::http::{HttpError, Method, percent_decode};
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::{web, wire::topic};

/// What became of a request.
#[derive(Debug)]
pub enum Handled {
    /// Its answer is written.
    Answered,
    /// Its answer is written and says that the connection ends with it.
    AnsweredLast,
    /// Its answer comes from elsewhere.
    Later,
    /// It becomes a stream.
    Stream(Opening),
}

/// Parts of the longest path, and one more to tell longer ones.
const PARTS_MAX: usize = 6;

impl Shard {
    /// Finds the resource and lets it answer.
    pub(super) fn handle(
        &mut self,
        conn: Conn,
        http: &Http,
        request: &Request<'_>,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let mut parts = [""; PARTS_MAX];
        let mut count = 0;
        let options = request.method == Method::Options;
        let path = match request.path.strip_prefix('/') {
            Some(path) => path,
            None if options && request.path == "*" => "",
            None => return Err(HttpError::not_found()),
        };
        for part in path.split('/').take(PARTS_MAX) {
            parts[count] = part;
            count += 1;
        }
        if options {
            return self.options(request, to, http.internal, &parts[..count]);
        }
        if http.internal {
            return self.handle_internal(conn, request, to, &parts[..count], body);
        }
        let roles = self.node.roles;
        match &parts[..count] {
            ["v1", "topics", topic, "events"] if roles.dispatcher => {
                self.only(request, Method::Post, "POST, OPTIONS")?;
                let access = self.publisher(conn, request)?;
                self.publish_one(conn, topic, &access, to, body)
            }
            ["v1", "events"] if roles.frontend || roles.dispatcher => match request.method {
                Method::Get | Method::Head if roles.frontend => {
                    let access = self.access(request)?;
                    self.start_stream(conn, request, access, to)
                }
                // POST to a dispatcher is taken line by line, and never comes here.
                _ if roles.frontend && roles.dispatcher => Err(HttpError::method("GET, HEAD, POST, OPTIONS")),
                _ if roles.frontend => Err(HttpError::method("GET, HEAD, OPTIONS")),
                _ => Err(HttpError::method("POST, OPTIONS")),
            },
            ["v1", "connections", connection, "topics"] if roles.frontend => {
                self.only(request, Method::Post, "POST, OPTIONS")?;
                let access = self.access(request)?;
                self.change_topics(conn, connection, access, body)
            }
            ["v1", "connections", connection, "token"] if roles.frontend => {
                self.only(request, Method::Post, "POST, OPTIONS")?;
                self.renew_token(conn, request, connection, body)
            }
            ["v1", "received"] if roles.frontend => {
                self.only(request, Method::Post, "POST, OPTIONS")?;
                self.access(request)?;
                self.received(to, body)
            }
            ["v1", "time"] if roles.frontend => {
                self.only(request, Method::Get, "GET, HEAD, OPTIONS")?;
                let now = format!("{{\"now\":{}}}", self.clock.unix_ms);
                self.answers().whole(to, 200, "application/json", "Cache-Control: no-store\r\n", now.as_bytes());
                Ok(Handled::Answered)
            }
            ["v1", "videos", video, "likes"] if roles.backend => {
                let access = self.publisher(conn, request)?;
                let video = percent_decode(video, false)?;
                self.likes(conn, request, &access, &video, body)
            }
            ["v1", "videos", video, "comments"] if roles.backend => {
                let access = self.publisher(conn, request)?;
                self.posts(conn, request, &access, PostKind::Comment, &percent_decode(video, false)?, body)
            }
            ["v1", "videos", video, "comments", id] if roles.backend => {
                let access = self.publisher(conn, request)?;
                let (video, id) = (percent_decode(video, false)?, percent_decode(id, false)?);
                self.delete_post(conn, request, &access, PostKind::Comment, &video, &id, body)
            }
            ["v1", "presence"] if roles.backend => {
                self.only(request, Method::Get, "GET, HEAD, OPTIONS")?;
                let access = self.access(request)?;
                self.presence(conn, request, &access, to)
            }
            ["v1", "conversations", conversation, what] if roles.backend => {
                let access = self.publisher(conn, request)?;
                let conversation = percent_decode(conversation, false)?;
                match *what {
                    "messages" => self.posts(conn, request, &access, PostKind::Message, &conversation, body),
                    "receipts" => self.receipts(conn, request, &access, &conversation, body),
                    "typing" => {
                        self.only(request, Method::Post, "POST, OPTIONS")?;
                        self.typing(&access, &conversation, body)?;
                        self.answers().json(to, 202, b"{}");
                        Ok(Handled::Answered)
                    }
                    _ => Err(HttpError::not_found()),
                }
            }
            ["v1", "conversations", conversation, "messages", id] if roles.backend => {
                let access = self.publisher(conn, request)?;
                let (conversation, id) = (percent_decode(conversation, false)?, percent_decode(id, false)?);
                self.delete_post(conn, request, &access, PostKind::Message, &conversation, &id, body)
            }
            _ if roles.demo => self.demo(request, to),
            _ => Err(HttpError::not_found()),
        }
    }

    /// Refuses other methods than the one a resource takes (HEAD goes with GET).
    pub(super) fn only(&self, request: &Request<'_>, method: Method, allow: &'static str) -> Result<(), HttpError> {
        let fits = request.method == method || (method == Method::Get && request.method == Method::Head);
        if fits { Ok(()) } else { Err(HttpError::method(allow)) }
    }

    /// The demo page and what belongs to it.
    fn demo(&mut self, request: &Request<'_>, to: AnswerTo) -> Result<Handled, HttpError> {
        let Some(asset) = web::asset(request.path) else { return Err(HttpError::not_found()) };
        self.only(request, Method::Get, "GET, HEAD, OPTIONS")?;
        let headers = format!(
            "ETag: {}\r\nCache-Control: no-cache\r\nContent-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\n",
            asset.etag,
            web::CONTENT_SECURITY_POLICY
        );
        let matches = |tags: &str| {
            tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag || tag.trim() == "*")
        };
        if request.if_none_match.is_some_and(matches) {
            self.answers().whole(to, 304, "", &headers, b"");
        } else {
            self.answers().whole(to, 200, asset.content_type, &headers, asset.body);
        }
        Ok(Handled::Answered)
    }

    /// The topic that a part of a path names, decoded once.
    pub(super) fn path_topic<'a>(&self, part: &'a str) -> Result<Cow<'a, str>, HttpError> {
        let decoded = percent_decode(part, false)?;
        topic::check(&decoded).map_err(|error| HttpError::bad(error.to_string()))?;
        Ok(decoded)
    }

    /// Why the node is not ready to serve, if it is not.
    pub(super) fn not_ready(&self) -> Option<Cow<'static, str>> {
        if self.node.draining.load(Ordering::Relaxed) {
            return Some("draining: this node takes no new streams and ends soon".into());
        }
        if let Some(trouble) = self.trouble() {
            return Some(Cow::Owned(trouble));
        }
        let database = self.node.store.as_ref()?.health().err()?;
        Some(format!("the database fails: {database}").into())
    }
}
