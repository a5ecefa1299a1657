//! Whether a store works, between the thread that knows and the shards that are asked.
use std::sync::{Arc, Mutex, PoisonError};

/// Whether a store works, as its thread last saw it.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<Mutex<Option<String>>>);

impl Health {
    /// It works. Returns whether it did not before.
    pub(super) fn works(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    pub(super) fn is_well(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// It fails. Returns whether it worked before.
    pub(super) fn fails(&self, detail: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(detail.to_owned()).is_none()
    }

    /// What is wrong, if something is.
    pub(super) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }
}
