//! `POST /v1/internal/peer/…`.

use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::pack::unpack;

impl Services {
    /// `POST /v1/internal/peer/…`
    pub(crate) fn peer_request(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        what: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { request, body, .. } = incoming;
        if !ground.node.roles.dispatcher || !matches!(what, "frames" | "history" | "hello" | "members") {
            return Err(HttpError::not_found());
        }
        let peer = ground.peer_of(request)?;
        ground.check_neighbour(request)?;
        let body = unpack(body).map_err(|error| HttpError::bad(error.to_string()))?;
        let incoming = Incoming { body: &body, ..incoming };
        match what {
            "frames" => self.frames_request(ground, incoming, Some(peer)),
            "history" => self.dispatcher()?.history_of_peer(ground, incoming, peer),
            "members" => self.members_asked(ground, incoming, true),
            _ => self.dispatcher()?.hello_of_peer(ground, incoming, peer),
        }
    }
}
