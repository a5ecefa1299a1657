//! `POST /v1/internal/peer/…`.

use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::slots::Conn;
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::pack::unpack;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;

impl Services {
    /// `POST /v1/internal/peer/…`
    pub(crate) fn peer_request(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        request: &Request<'_>,
        what: &str,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        if !ground.node.roles.dispatcher || !matches!(what, "frames" | "history" | "hello" | "members") {
            return Err(HttpError::not_found());
        }
        let peer = ground.peer_of(request)?;
        ground.check_neighbour(request)?;
        let body = unpack(body).map_err(|error| HttpError::bad(error.to_string()))?;
        match what {
            "frames" => self.frames_request(ground, conn, to, &body, Some(peer)),
            "history" => self.dispatcher()?.history_of_peer(ground, conn, peer, to, &body),
            "members" => self.members_asked(ground, conn, true, &body),
            _ => self.dispatcher()?.hello_of_peer(ground, conn, peer, to, &body),
        }
    }
}
