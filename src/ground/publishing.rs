//! Events on their way: who publishes them, what is being asked of the key-value store for them, and who is told.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::db::Record;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::mercure::Updating;
use crate::ground::resources::Resource;
use crate::ground::slots::Conn;
use crate::kv::Claim;
use crate::wire::hops::Hops;
use crate::wire::http::HttpError;
use crate::wire::json::push_string;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Written};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Who waits for an event to be in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publisher {
    /// A request for this one event.
    Request(Conn),
    /// A body of lines, and the line.
    Line(Conn, u64),
    /// A request for this one event, which is published once.
    Once(Conn, Box<Claim>),
    /// A request for this event and those to the update's other topics.
    Update(Conn, Updating),
    /// Nobody who is answered.
    Own,
    /// A backend that watches over what it publishes: by this dispatcher, if it takes it, and it wants to hear what became of an
    /// event of class `every` of this number.
    Canary {
        /// The dispatcher.
        by: SocketAddr,
        /// The number.
        every: Option<u64>,
    },
    /// The line of a topic's posts; the outbox keeps this one until then.
    Post(Topic, Record),
}

/// What became of an event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is where it must be before its publisher is answered.
    Taken,
    /// It was published before, under this id.
    Repeated(String),
    /// It will be, and the publisher is answered then.
    Pending,
}

/// An event on its way into history.
#[derive(Debug)]
pub struct Appending {
    /// Who waits.
    pub publisher: Publisher,
    /// The event as JSON.
    pub event: Arc<str>,
    /// The checkpoints that it passed, if it is sampled.
    pub hops: Option<Arc<Hops>>,
}

/// A value of class `latest` that waits for its version.
#[derive(Debug)]
pub struct Versioning {
    /// The event as JSON.
    pub(crate) event: Arc<str>,
    /// The number that it came with, if its version was given before.
    pub(crate) number: Option<u64>,
    /// The data center that gives it its version, or gave it.
    pub(crate) dc: String,
    /// It is for other data centers, too.
    pub(crate) broadcast: bool,
    /// The checkpoints that it passed, if it is sampled.
    pub(crate) hops: Option<Arc<Hops>>,
}

/// An event that waits for its key.
#[derive(Debug)]
pub struct Claiming {
    /// The request for it.
    pub(crate) conn: Conn,
    pub(crate) claim: Claim,
    /// The request's body.
    pub(crate) body: Box<[u8]>,
}

/// The answer to whoever published an event: its id, as JSON.
pub(crate) fn id_json(id: &str) -> String {
    let mut answer = Vec::with_capacity(id.len() + 16);
    answer.extend_from_slice(b"{\"id\":");
    push_string(&mut answer, id);
    answer.push(b'}');
    String::from_utf8(answer).expect("JSON text is UTF-8")
}

impl Ground {
    /// What a body of lines may do, which is refused before it is read if it may do nothing.
    pub(crate) fn lines_access(
        &mut self,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
    ) -> Result<Access, HttpError> {
        if internal {
            self.check_internal_page(request)?;
            self.check_secret(request)?;
        }
        let query = Resource::Events.query(self.node.roles, internal, request)?;
        if request.idempotency_key.is_some() {
            return Err(HttpError::bad("a body of lines takes no Idempotency-Key; give each line an \"id\""));
        }
        if internal {
            return Ok(Access::Node);
        }
        self.check_page(conn, request, Resource::Events)?;
        self.access(request, query)
    }

    /// Answers whoever published an event with its id.
    pub(crate) fn answer_id(&mut self, to: AnswerTo, id: &str) -> Written {
        self.answers().json(to, Status::Accepted, id_json(id).as_bytes())
    }

    /// A new identity for an event: the node's name, the shard, and a number.
    pub(crate) fn new_event_id(&mut self, id: &mut String) {
        self.event_number += 1;
        // By hand: formatting machinery would cost more than the rest of a publish that nobody wants.
        id.push_str(&self.node.name);
        id.push('-');
        id.push_str(itoa::Buffer::new().format(self.id));
        id.push('-');
        id.push_str(itoa::Buffer::new().format(self.event_number));
    }
}
