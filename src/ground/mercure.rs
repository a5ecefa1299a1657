//! What Mercure's protocol asks of a node: who may do what by it, streams of its kind, and updates on their way.

use std::sync::Arc;

use crate::auth::TokenError;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::observe::happenings::subject::Subject;
use crate::wire::hops::Parent;
use crate::wire::http::HttpError;
use crate::wire::mercure::Update;
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::query::{Parameter, Query};
use crate::wire::request::Request;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// By which protocol a request is made, which says where its token may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Fanfare's own.
    Api,
    /// Mercure's.
    Mercure,
}

impl By {
    /// The parameter of the query that may be a token.
    pub(crate) fn parameter(self) -> Parameter {
        match self {
            By::Api => Parameter::AccessToken,
            By::Mercure => Parameter::Authorization,
        }
    }
}

/// What is asked for by Mercure's protocol.
#[derive(Debug)]
pub struct ByMercure {
    /// The topics that it names whose private updates the stream gets.
    pub private: Vec<Topic>,
    /// What else it wants, and which private updates it may have, if it has a selector or a token.
    pub subscriber: Option<Arc<Subscriber>>,
    /// The `Last-Event-ID` that the answer says, if the request has one.
    pub last_event_id: Option<String>,
}

/// An update of Mercure's protocol on its way to its topics, one after the other: what is to come is on none of them before what
/// precedes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updating {
    /// Its id.
    pub id: Arc<str>,
    /// Its events' data.
    pub data: Arc<[u8]>,
    /// Its topics.
    pub topics: Arc<[Topic]>,
    /// The trace of its publisher's that it is a part of, and whether that is sampled.
    pub parent: Option<(Parent, bool)>,
    /// How many of them have it, or are just getting it.
    pub at: usize,
}

impl Access {
    /// Refuses an update to topics of Mercure's to which it may not send them all.
    ///
    /// # Errors
    /// 403, naming the claim and the topic.
    pub fn require_updates(&self, update: &Update<'_>) -> Result<(), HttpError> {
        let Access::Token(rights) = self else { return Ok(()) };
        let may = |topic: &str| rights.mercure_publish.as_ref().is_some_and(|selectors| selectors.select(topic));
        match update.topics.iter().find(|topic| !may(topic)) {
            None => Ok(()),
            Some(topic) => Err(HttpError::new(
                Status::Forbidden,
                format!("the token's claim mercure.publish does not select the topic {topic}"),
            )),
        }
    }
}

impl Ground {
    /// The same of a request by another protocol.
    ///
    /// # Errors
    /// As [`Ground::access`].
    pub(crate) fn access_by(&mut self, by: By, request: &Request<'_>, query: Query<'_>) -> Result<Access, HttpError> {
        Ok(self.access_if_any(by, request, query)?.ok_or(TokenError::Missing)?)
    }

    /// The same, if there is a token where one is asked for.
    ///
    /// # Errors
    /// As [`Ground::access`], but for a token that is missing.
    pub(crate) fn access_if_any(
        &mut self,
        by: By,
        request: &Request<'_>,
        query: Query<'_>,
    ) -> Result<Option<Access>, HttpError> {
        let Some(tokens) = &self.node.tokens else { return Ok(Some(Access::Open)) };
        let (pages, now_ms) = ((&self.live.origins, self.node.public.port()), self.clock.unix_ms);
        let checked = tokens.access(by, &mut self.tokens_seen, request, query, pages, now_ms)?;
        let access = checked.map(|checked| self.count_checked(Ok(checked))).transpose()?;
        if let Some(Access::Token(rights)) = &access {
            let says = Some(format_args!("{:?} {}", request.method, request.path));
            self.track("asks", Subject { says, member: rights.sub.as_deref(), ..Subject::default() });
        }
        Ok(access)
    }

    /// A new identity for an update: a UUID of the node, the shard, and a number (RFC 9562 section 5.8).
    pub(crate) fn new_update_id(&mut self) -> String {
        self.event_number += 1;
        let (node, shard) = (u128::from(self.node.id.0) << 58, (self.id as u128 & 0x3ff) << 48);
        let own = node | shard | u128::from(self.event_number & 0xffff_ffff_ffff);
        // 122 bits, with the version between the first 48 and the next 12, and the variant behind them.
        let bits = own >> 74 << 80 | 8 << 76 | (own >> 62 & 0xfff) << 64 | 2 << 62 | (own & ((1 << 62) - 1));
        let hex = format!("{bits:032x}");
        format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
