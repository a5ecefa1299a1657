//! `POST /v1/internal/totals`.

use crate::ground::answering::{Handled, Incoming};
use crate::ground::{Ground, Todo};
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

impl Services {
    /// `POST /v1/internal/totals`: topics whose totals are to be told.
    pub(crate) fn totals_request(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { to, body, .. } = incoming;
        let topics: Vec<Topic> = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a list of topics: {error}")))?;
        ground.todo.push_back(Todo::TotalsAsked(topics));
        Ok(Handled::Answered(ground.answers().whole(to, Status::NoContent, "", "", b"")))
    }
}
