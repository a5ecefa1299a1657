//! Node-to-node requests: who may send them, and to whom.

use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::message::Message;
use crate::ground::slots::Conn;
use crate::shard::services::Services;
use crate::wire::batch::Batch;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;

impl Services {
    /// `/v1/internal/…`. The secret was checked.
    pub(crate) fn node_to_node(
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
    pub(crate) fn frames_request(
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
