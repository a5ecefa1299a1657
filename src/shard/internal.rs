//! Node-to-node requests: who may send them, and to whom.

use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::Message;
use crate::shard::services::Services;
use crate::wire::batch::Batch;
use crate::wire::http::HttpError;
use crate::wire::status::Status;

impl Services {
    /// `/v1/internal/…`. The secret was checked.
    pub(crate) fn node_to_node(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        what: &str,
    ) -> Result<Handled, HttpError> {
        let roles = ground.node.roles;
        let is_known = match what {
            "frames" | "connections" => roles.frontend,
            "kv" => ground.node.kv.is_some(),
            "members" => roles.frontend || roles.dispatcher,
            "totals" => roles.backend,
            "hooks" => !ground.node.hooks.is_empty(),
            "glance" => true,
            _ => false,
        };
        if !is_known {
            return Err(HttpError::not_found());
        }
        ground.check_neighbour(incoming.request)?;
        match what {
            "frames" => self.frames_request(ground, incoming, None),
            "kv" => ground.relay_questions(incoming),
            "members" => self.members_asked(ground, incoming, false),
            "totals" => self.totals_request(ground, incoming),
            "hooks" => {
                self.backend()?.hooks_told(ground, incoming.conn, incoming.body)?;
                Ok(Handled::Later)
            }
            "glance" => {
                let glance = serde_json::to_vec(&self.glance(ground)).expect("it is plain data");
                Ok(Handled::Answered(ground.answers().json(incoming.to, Status::Ok, &glance)))
            }
            _ => self.frontend()?.take_change(ground, incoming),
        }
    }

    /// A batch of a node, or of a peer's, for the shard that knows what was seen of its sender.
    pub(crate) fn frames_request(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        peer: Option<usize>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
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
