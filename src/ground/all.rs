//! The types of which a stream gets every event, whatever their pace.

use std::sync::Arc;

use crate::wire::frame::Frame;

/// The types of which a stream gets every event, also those that their pace leaves out; none for nearly all streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct All(Option<Arc<[Box<str>]>>);

impl All {
    /// All of these types.
    pub fn of(mut kinds: Vec<Box<str>>) -> All {
        kinds.sort_unstable();
        kinds.dedup();
        All((!kinds.is_empty()).then(|| kinds.into()))
    }

    /// Whether only what is shown is wanted.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an event goes to other streams only.
    pub fn leaves_out(&self, frame: &Frame) -> bool {
        let wants = |kinds: &Arc<[Box<str>]>| kinds.iter().any(|kind| **kind == *frame.kind());
        !frame.paced().is_shown() && !self.0.as_ref().is_some_and(wants)
    }
}
