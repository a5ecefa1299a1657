//! What a store keeps of what viewers have to be told.

use crate::db::PostKind;

/// What viewers are to be told of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It is new.
    Posted,
    /// It was deleted.
    Deleted,
}

/// A record of the outbox: a post, and what viewers are to be told of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The post.
    pub id: String,
    /// What to tell of it.
    pub change: Change,
}

impl Record {
    /// What its id begins with: a number that grows in the order of commits within a place.
    pub fn number(&self) -> i64 {
        self.id.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// What became of records of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Viewers were told.
    pub published: Vec<Record>,
    /// They could not be told: to be listed from now on.
    pub left: Vec<Record>,
}

/// Something that viewers may not have been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// What kind of post it is about.
    pub kind: PostKind,
    /// The video or conversation.
    pub place: String,
    /// The post, and what to tell of it.
    pub record: Record,
    /// The post's author.
    pub member: String,
    /// The post's text; empty for a deletion.
    pub text: String,
    /// Its author may moderate the topic, so that viewers are shown it whatever its pace.
    pub always: bool,
}

/// A backend's question for what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxAsk {
    /// Who asks: the same each time, and another than any other backend.
    pub holder: i64,
    /// How long nobody else gets the lease, in milliseconds.
    pub lease_ms: u64,
    /// Only what follows this record.
    pub after: Option<Record>,
    /// Only what was left, or stored at least so many milliseconds ago.
    pub older_than_ms: u64,
    /// At most so many, taken as 1 to [`crate::limits::OUTBOX_PAGE_MAX`].
    pub limit: u32,
}
