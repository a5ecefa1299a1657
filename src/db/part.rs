//! Which part of a list of posts is asked for.

/// A part of a list of posts. The ids may be those of deleted posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The newest.
    Newest,
    /// The oldest that follow this id.
    After(String),
    /// The newest that precede this id.
    Before(String),
}

impl Part {
    /// The id that it goes by.
    pub fn id(&self) -> Option<&str> {
        match self {
            Part::Newest => None,
            Part::After(id) | Part::Before(id) => Some(id),
        }
    }
}
