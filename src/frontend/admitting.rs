//! Which streams are let in.

use crate::admission::Refusal;
use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::slots::Conn;
use crate::limits::*;
use crate::observe::happenings::subject::Subject;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::topic::Topic;

impl Frontend {
    /// Whether one more stream of these topics may be opened, by this connection. It counts to its address from here on.
    ///
    /// # Errors
    /// 429 or 503.
    pub(crate) fn admit_stream(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        request: &Request<'_>,
        topics: &[Topic],
    ) -> Result<(), HttpError> {
        let admission = &ground.node.admission;
        let admitted = if ground.is_draining() {
            Err(Refusal::Draining)
        } else if !self.has_room(ground, topics) {
            Err(Refusal::Memory)
        } else if ground.admitting.turns.are_long(ground.clock.instant) {
            Err(Refusal::Turns)
        } else if admission.asks_for_addresses() {
            match (ground.peer(conn), ground.client(conn, request)) {
                (Some(peer), Some(client)) if admission.is_proxy(peer) => ground.enter(conn, client),
                _ => Ok(()),
            }
        } else {
            Ok(())
        };
        admitted.map_err(|refusal| {
            let member = ground.subject(conn).member.map(str::to_owned);
            let (address, connection) = (ground.client(conn, request), Some(ground.name_of(conn)));
            ground.refused(refusal, Subject { address, connection, member: member.as_deref(), ..Subject::default() })
        })
    }

    /// Whether these topics may be added to an open stream.
    ///
    /// # Errors
    /// 503.
    pub(crate) fn admit_topics(&self, ground: &Ground, topics: &[Topic]) -> Result<(), HttpError> {
        if topics.is_empty() || self.has_room(ground, topics) {
            Ok(())
        } else {
            let topic = topics.first().map(Topic::as_str);
            Err(ground.count_refusal(Refusal::Memory, Subject { topic, ..Subject::default() }))
        }
    }

    /// Whether there is memory for what these topics take that have no viewers on this core yet.
    fn has_room(&self, ground: &Ground, topics: &[Topic]) -> bool {
        let new = topics.iter().filter(|topic| self.topics.find(topic.as_str()).is_none()).count();
        let unsaid = ground.held().saturating_sub(ground.admitting.held_said);
        ground.node.admission.has_room(unsaid + (new * (HOME_BYTES + WATCHED_BYTES)) as u64)
    }
}
