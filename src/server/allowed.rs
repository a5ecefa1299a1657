//! What each resource takes, for OPTIONS and for CORS preflights (WHATWG Fetch, section 3.2).

use super::node::Roles;
use super::routes::Handled;
use super::shard::Shard;
use crate::web;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Cors};

/// The methods of the resource at this path, as `Allow` lists them; none where there is none.
pub fn allowed(roles: Roles, internal: bool, path: &str, parts: &[&str]) -> Option<&'static str> {
    const GET: &str = "GET, HEAD, OPTIONS";
    const POST: &str = "POST, OPTIONS";
    let public = !internal;
    let allow = match parts {
        ["metrics"] | ["health", "live" | "ready"] | ["v1", "node" | "connections"] | ["v1", "topics", _]
            if internal =>
        {
            "GET, HEAD"
        }
        ["v1", "topics", _, "events"] | ["v1", "events"] if internal && roles.dispatcher => "POST",
        ["v1", "topics", _, "events"] if public && roles.dispatcher => POST,
        ["v1", "events"] if public && roles.frontend && roles.dispatcher => "GET, HEAD, POST, OPTIONS",
        ["v1", "events"] if public && roles.frontend => GET,
        ["v1", "events"] if public && roles.dispatcher => POST,
        ["v1", "connections", _, "topics" | "token"] | ["v1", "received"] if public && roles.frontend => POST,
        ["v1", "time"] if public && roles.frontend => GET,
        ["v1", "videos", _, "likes"] if public && roles.backend => "GET, HEAD, POST, DELETE, OPTIONS",
        ["v1", "videos", _, "comments"] if public && roles.backend => "GET, HEAD, POST, OPTIONS",
        ["v1", "conversations", _, "messages" | "receipts"] if public && roles.backend => "GET, HEAD, POST, OPTIONS",
        ["v1", "conversations", _, "typing"] if public && roles.backend => POST,
        ["v1", "videos", _, "comments", _] | ["v1", "conversations", _, "messages", _] if public && roles.backend => {
            "DELETE, OPTIONS"
        }
        _ if public && roles.demo && web::asset(path).is_some() => GET,
        _ => return None,
    };
    Some(allow)
}

impl Shard {
    /// OPTIONS
    pub(super) fn options(
        &mut self,
        request: &Request<'_>,
        to: AnswerTo,
        internal: bool,
        parts: &[&str],
    ) -> Result<Handled, HttpError> {
        let allow = match request.path {
            // Of the server as a whole (RFC 9110 section 9.3.7).
            "*" => "GET, HEAD, POST, DELETE, OPTIONS",
            path => allowed(self.node.roles, internal, path, parts).ok_or_else(HttpError::not_found)?,
        };
        let mut headers = format!("Allow: {allow}\r\n");
        if request.preflight && to.cors != Cors::None {
            headers += &format!(
                "Access-Control-Allow-Methods: {allow}\r\n\
                 Access-Control-Allow-Headers: Content-Type, Authorization, Last-Event-ID\r\n\
                 Access-Control-Max-Age: 86400\r\n"
            );
        }
        self.answers().whole(to, 204, "", &headers, b"");
        Ok(Handled::Answered)
    }
}
