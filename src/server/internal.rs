//! Node-to-node requests: who may send them, and to whom.

use super::message::Message;
use super::routes::Handled;
use super::slots::Conn;
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, INTERNAL_BODY_BYTES_MAX};
use crate::server::ground::Ground;
use crate::server::services::Services;
use crate::wire::batch::{Batch, VERSION, is_readable};
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;

impl Ground {
    /// Refuses requests that are meant for another node, or come from a version too far away.
    pub(super) fn check_neighbour(&self, request: &Request<'_>) -> Result<(), HttpError> {
        if let Some(node) = request.fanfare_node.filter(|node| *node != self.node.name) {
            let detail =
                format!("this is node {}, not {node}; it may have started anew at the same address", self.node.name);
            return Err(HttpError::new(Status::MisdirectedRequest, detail));
        }
        match request.fanfare_version {
            Some(text) if !text.parse().is_ok_and(is_readable) => Err(HttpError::bad(format!(
                "this node speaks version {VERSION} between nodes, and its neighbours', not {text}; upgrade one version at a time"
            ))),
            _ => Ok(()),
        }
    }

    /// How long a body this request may have. Nodes may send more than clients, once they show the secret.
    ///
    /// # Errors
    /// 413 for a longer one, or what else is wrong with it.
    pub(super) fn check_length(&self, request: &Request<'_>, length: u64, internal: bool) -> Result<usize, HttpError> {
        let mut most = BODY_BYTES_MAX;
        if length > most as u64 && internal && request.path.starts_with("/v1/internal/") {
            if request.path.starts_with("/v1/internal/peer/") {
                self.peer_of(request)?;
            } else {
                self.check_secret(request)?;
            }
            most = INTERNAL_BODY_BYTES_MAX;
        }
        if length > most as u64 { Err(super::receive::too_large()) } else { Ok(length as usize) }
    }

    /// Bytes of requests that are kept while they are not complete, or not to be served yet.
    pub(super) fn input_bytes_max(&self, internal: bool) -> usize {
        // Only a length that was checked lets it grow that far.
        HEAD_BYTES_MAX + if internal { INTERNAL_BODY_BYTES_MAX } else { BODY_BYTES_MAX }
    }
}

impl Services {
    /// `/v1/internal/…`. The secret was checked.
    pub(super) fn node_to_node(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        request: &Request<'_>,
        what: &str,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let roles = ground.node.roles;
        let is_known = match what {
            "frames" | "connections" => roles.frontend,
            "kv" => ground.node.kv.is_some(),
            "members" => roles.frontend || roles.dispatcher,
            "totals" => roles.backend,
            _ => false,
        };
        if !is_known {
            return Err(HttpError::not_found());
        }
        ground.check_neighbour(request)?;
        match what {
            "frames" => self.frames_request(ground, conn, to, body, None),
            "kv" => ground.relay_questions(conn, to, body),
            "members" => self.members_asked(ground, conn, false, body),
            "totals" => self.totals_request(ground, to, body),
            _ => self.frontend()?.take_change(ground, conn, body),
        }
    }

    /// A batch of a node, or of a peer's, for the shard that knows what was seen of its sender.
    pub(super) fn frames_request(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        to: AnswerTo,
        body: &[u8],
        peer: Option<usize>,
    ) -> Result<Handled, HttpError> {
        let bad = |error: crate::wire::binary::Malformed| HttpError::bad(error.to_string());
        let owner = self.window_owner(ground, &Batch::parse(body).map_err(bad)?.header);
        if owner == ground.id {
            self.take_frames(ground, body, peer).map_err(bad)?;
            return Ok(Handled::Answered(ground.answers().whole(to, Status::NoContent, "", "", b"")));
        }
        ground.send(owner, Message::Frames { bytes: body.into(), peer, asker: (ground.id, conn) });
        Ok(Handled::Later)
    }
}
