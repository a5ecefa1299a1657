//! What shards of a backend tell each other of posts.

use std::sync::Arc;
use std::time::Instant;

use crate::db::{Marks, PostKind, Record, Unpublished};
use crate::limits::TOLD_BYTES;
use crate::runtime::random::Set;
use crate::wire::hops::Begun;
use crate::wire::topic::Topic;

/// What viewers are to be told of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// What kind of post it is.
    pub kind: PostKind,
    /// The post, and what became of it.
    pub record: Record,
    /// Its author.
    pub member: String,
    /// Its text; empty for a deletion.
    pub text: String,
    /// Its author may moderate the topic.
    pub always: bool,
    /// What is known of its way so far.
    pub begun: Begun,
}

impl Telling {
    /// Bytes that it takes while it waits.
    pub fn bytes(&self) -> usize {
        TOLD_BYTES + self.record.id.len() + self.member.len() + self.text.len()
    }
}

impl From<Unpublished> for Telling {
    fn from(post: Unpublished) -> Telling {
        let Unpublished { kind, record, member, text, always, place: _ } = post;
        // When it was asked for is long ago, and by another process's clock.
        Telling { kind, record, member, text, always, begun: Begun::default() }
    }
}

/// What a backend's shards tell each other of the outbox.
#[derive(Debug)]
pub enum News {
    /// To topics' home: it has posts of theirs.
    Listed {
        /// In the order of ids.
        posts: Vec<(Topic, Telling)>,
        /// When the pass began that found them.
        began: Instant,
    },
    /// To the shard that looks into it: so many of its posts came to an end.
    Told(Told),
    /// To the same: topics wait for it.
    Awaited,
    /// To every shard: a pass through it is over.
    PassEnds(PassEnd),
}

/// How many of the outbox's posts came to an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// They were published, and are marked so.
    pub told: usize,
    /// They could not be published, and stay in the outbox.
    pub failed: usize,
    /// They follow others of their topic that this pass could not bring, and wait for the next one.
    pub passed_over: usize,
}

/// Marks on their way to the database.
#[derive(Debug)]
pub struct Marking {
    /// The marks.
    pub marks: Arc<Marks>,
    /// Whose records were left; none where there was no room to note it.
    pub(crate) topics: Vec<Option<Topic>>,
    /// So many of the published ones came from the outbox.
    pub(crate) listed: usize,
}

/// A pass through the outbox is over.
#[derive(Debug, Clone)]
pub struct PassEnd {
    /// When it began.
    pub began: Instant,
    /// When its last page was asked for.
    pub asked: Instant,
    /// What is still due behind what was listed.
    pub due: Due,
}

/// What is due in the outbox, as far as it is known.
#[derive(Debug, Clone)]
pub enum Due {
    /// Nothing but what was listed.
    Nothing,
    /// Posts of these topics, which another backend publishes.
    Of(Arc<Set<Topic>>),
    /// Nobody knows.
    Unknown,
}
