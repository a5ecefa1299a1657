//! Which requests of other nodes are taken, and how long they may be.

use crate::ground::Ground;
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, INTERNAL_BODY_BYTES_MAX};
use crate::wire::batch::{VERSION, is_readable};
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::status::Status;

impl Ground {
    /// Refuses requests that are meant for another node, or come from a version too far away.
    pub(crate) fn check_neighbour(&self, request: &Request<'_>) -> Result<(), HttpError> {
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
    pub(crate) fn check_length(&self, request: &Request<'_>, length: u64, internal: bool) -> Result<usize, HttpError> {
        let mut most = BODY_BYTES_MAX;
        if length > most as u64 && internal && request.path.starts_with("/v1/internal/") {
            if request.path.starts_with("/v1/internal/peer/") {
                self.peer_of(request)?;
            } else {
                self.check_secret(request)?;
            }
            most = INTERNAL_BODY_BYTES_MAX;
        }
        if length > most as u64 { Err(crate::ground::neighbours::too_large()) } else { Ok(length as usize) }
    }

    /// Bytes of requests that are kept while they are not complete, or not to be served yet.
    pub(crate) fn input_bytes_max(&self, internal: bool) -> usize {
        // Only a length that was checked lets it grow that far.
        HEAD_BYTES_MAX + if internal { INTERNAL_BODY_BYTES_MAX } else { BODY_BYTES_MAX }
    }
}

pub(crate) fn too_large() -> HttpError {
    HttpError::new(
        Status::ContentTooLarge,
        format!("a body may have {BODY_BYTES_MAX} bytes; POST /v1/events takes any number of lines"),
    )
}
