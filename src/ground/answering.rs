//! What answers have in common: on what they depend, what became of a request, problems, files of the demo page, and when clients
//! are to come back.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::debug;

use crate::ground::Ground;
use crate::ground::authorize::Grant;
use crate::ground::http_connection::Http;
use crate::ground::opening::Opening;
use crate::ground::resources::Described;
use crate::ground::slots::Conn;
use crate::limits::*;
use crate::runtime::trouble::Reason;
use crate::web;
use crate::web::Asset;
use crate::wire::http::{HttpError, percent_decode, trim};
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Cors, Written};
use crate::wire::sse::Framing;
use crate::wire::status::Status;
use crate::wire::topic;
use crate::wire::topic::Topic;

/// The id of a request, which then stands in the log, if it has one.
pub(crate) fn logged_id(request: &Request<'_>) -> Option<Box<str>> {
    let id = request.request_id?;
    debug!(request_id = id, path = request.path, "a request");
    Some(id.into())
}

impl Ground {
    /// What the answer to a request depends on. Pages of other origins may read answers of the public listener alone.
    pub(crate) fn answer_to(&self, request: &Request<'_>, internal: bool) -> AnswerTo {
        let cors = if internal { Cors::None } else { self.live.origins.check(request.origin) };
        let to = AnswerTo::new(request, cors, self.live.idle_seconds(internal));
        let tells_clock = internal && request.fanfare_version.is_some();
        self.last_where_draining(AnswerTo { tells_clock, ..to })
    }

    /// A node that drains ends each connection with its next answer, so that clients and other nodes turn elsewhere.
    pub(crate) fn last_where_draining(&self, to: AnswerTo) -> AnswerTo {
        AnswerTo { closes: to.closes || self.is_draining(), ..to }
    }

    /// Says what is wrong with a request, and counts it.
    pub(crate) fn answer_problem(&mut self, to: AnswerTo, error: &HttpError) -> Written {
        self.counters().rejected.add(1);
        self.answers().problem(to, error)
    }

    /// After how many seconds from now a connection without a request is closed: never sooner than its answers say, though the
    /// shard's seconds are whole ones.
    pub(crate) fn idle_due(&self, http: &Http) -> u32 {
        u32::from(self.live.idle_seconds(http.internal)) + 1
    }
}

/// A request that is to be answered.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The connection that brought it.
    pub conn: Conn,
    /// It came in by the internal listener.
    pub internal: bool,
    /// Its head.
    pub request: &'a Request<'a>,
    /// What its answer depends on.
    pub to: AnswerTo,
    /// Its body.
    pub body: &'a [u8],
    /// By what it may have its topics, where a server is asked.
    pub grant: Option<&'a Grant>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Handled {
    /// Its answer is written.
    Answered(Written),
    /// Its answer is written and says that the connection ends with it.
    AnsweredLast(Written),
    /// Its answer comes from elsewhere.
    Later,
    /// The operator's server is asked whether it is allowed; then it is served once more.
    Asks,
    /// The head of its answer is written, and pieces follow from elsewhere for as long as the connection lasts.
    GoesOn(Framing),
    /// It becomes a stream.
    Stream(Opening),
}

impl Ground {
    /// The demo page and what belongs to it.
    pub(crate) fn asset(&mut self, asset: Asset, request: &Request<'_>, to: AnswerTo) -> Handled {
        let policy = format!("Content-Security-Policy: {}\r\n", web::CONTENT_SECURITY_POLICY);
        self.file(request, to, (asset.content_type, asset.body, asset.etag), &policy)
    }

    /// What a node says of its own interface.
    pub(crate) fn description(&mut self, described: Described, request: &Request<'_>, to: AnswerTo) -> Handled {
        let live = Arc::clone(&self.live);
        let text = &live.descriptions[described as usize];
        self.file(request, to, ("application/json", &text.body, &text.etag), "")
    }

    /// A file of this type, with this text and tag, unless the client has it; `headers` are complete lines.
    fn file(
        &mut self,
        request: &Request<'_>,
        to: AnswerTo,
        (content_type, body, etag): (&str, &[u8], &str),
        headers: &str,
    ) -> Handled {
        let headers =
            format!("ETag: {etag}\r\nCache-Control: no-cache\r\n{headers}X-Content-Type-Options: nosniff\r\n");
        let matches =
            |tags: &str| tags.split(',').map(trim).any(|tag| tag.trim_start_matches("W/") == etag || tag == "*");
        Handled::Answered(if request.if_none_match.is_some_and(matches) {
            self.answers().whole(to, Status::NotModified, "", &headers, b"")
        } else {
            self.answers().whole(to, Status::Ok, content_type, &headers, body)
        })
    }

    /// The topic that a part of a path names.
    ///
    /// # Errors
    /// 400 for what is none.
    pub(crate) fn topic_of_path(&self, part: &str) -> Result<Topic, HttpError> {
        Topic::parse(&self.path_topic(part)?).map_err(|error| HttpError::bad(error.to_string()))
    }

    /// The topic that a part of a path names, decoded once.
    pub(crate) fn path_topic<'a>(&self, part: &'a str) -> Result<Cow<'a, str>, HttpError> {
        topic::normalise(percent_decode(part, false)?).map_err(|error| HttpError::bad(error.to_string()))
    }

    /// Why the node is not ready to serve, if it is not.
    pub(crate) fn not_ready(&self) -> Option<Reason> {
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

    /// The longest reconnection time that it tells.
    pub(crate) fn retry_max(&self) -> Duration {
        if self.node.alone { RETRY_MAX_ALONE } else { RETRY_MAX }
    }

    /// A reconnection time of 1 to 3 s, another for each client, so that they do not all come back at once.
    pub(crate) fn retry_jitter(&mut self) -> u32 {
        self.event_number = self.event_number.wrapping_add(1);
        let conn = Conn { slot: self.event_number as u32, generation: u32::MAX };
        let spread = (self.retry_max() - RETRY_MIN).as_millis() as u64;
        RETRY_MIN.as_millis() as u32 + (self.slots.secret(conn) % spread) as u32
    }
}
