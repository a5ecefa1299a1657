//! How far the serving of a topic's viewers is, for who follows one event to all of them.

use crate::frontend::log::Cursor;
use crate::frontend::topics::TopicEntry;

impl TopicEntry {
    /// Where the log ended when the present round of serving began.
    pub fn round_began(&self) -> Cursor {
        self.round_began
    }

    /// Whether every viewer was given all that is in the log.
    pub fn has_served_all(&self) -> bool {
        self.remaining == 0
    }

    /// Whether some of what came waits behind a full log.
    pub fn overflows(&self) -> bool {
        self.overflow.is_some()
    }
}
