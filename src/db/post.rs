//! Comments and messages, and how far members have read.

/// Whether a post is a comment of a video or a message of a conversation. The two never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostKind {
    /// Of a video; its viewers are told on `live:…`.
    Comment,
    /// Of a conversation; its members are told on `chat:…`.
    Message,
}

/// What came of deleting a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted, and viewers are to be told.
    Deleted,
    /// It was deleted before; nothing changed, and whoever deleted it tells the viewers.
    Already,
    /// Who asks is not the author (also of one that was deleted).
    Forbidden,
    /// The place never had it.
    NotFound,
}

/// A comment or message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its identity.
    pub id: String,
    /// Its author.
    pub member: String,
    /// What was written.
    pub text: String,
    /// When, in Unix milliseconds.
    pub at: u64,
}

/// How far a member has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub member: String,
    /// The newest message that was read.
    pub message: String,
    /// When that was said, in Unix milliseconds.
    pub at: u64,
}
