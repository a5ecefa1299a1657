//! What a request for a stream asks for.

use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::all::All;
use crate::ground::authorize::Grant;
use crate::ground::mercure::ByMercure;
use crate::limits::PREFIXES_PER_CONNECTION_MAX;
use crate::wire::http::HttpError;
use crate::wire::position::Resume;
use crate::wire::topic::Topic;

/// What a client that comes back says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEvent {
    /// The id that it sent.
    pub id: String,
    /// What that means.
    pub resume: Resume,
    /// Values up to this time, in Unix ms, it was shown by a poll.
    pub told_ms: u64,
    /// It does not tell what comes again from what is new, so where one topic's order says all nothing comes again.
    pub takes_no_repeats: bool,
}

impl Ground {
    /// What an id that a client has means here.
    pub(crate) fn read_place(&self, id: &str) -> Resume {
        let peers = &self.cluster.others;
        let here = |dc: &str, ms| peers.iter().find(|peer| peer.dc == dc).map_or(ms, |peer| peer.here(ms));
        Resume::read(id, &self.node.dc, here)
    }
}

/// What a request for a stream asks for.
#[derive(Debug)]
pub struct Opening {
    /// The topics, each once.
    pub topics: Vec<Topic>,
    /// What the request may do.
    pub access: Access,
    /// What the client has, if it comes back.
    pub last: Option<LastEvent>,
    /// Without tokens: the member as whom it watches.
    pub member: Option<String>,
    /// The types of which it gets every event.
    pub all: All,
    /// It is a poll.
    pub polls: bool,
    /// By what it has its topics, where a server is asked.
    pub grant: Option<Grant>,
    /// Where it is asked for by Mercure's protocol.
    pub mercure: Option<Box<ByMercure>>,
}

/// Reads the topics of a list, each once, in order.
pub(crate) fn read_topics<T: AsRef<str>>(texts: impl Iterator<Item = T>, most: usize) -> Result<Vec<Topic>, HttpError> {
    let mut topics: Vec<Topic> = Vec::new();
    for text in texts {
        let topic = Topic::subscribed(text.as_ref()).map_err(|error| HttpError::bad(error.to_string()))?;
        if !topics.contains(&topic) {
            if topics.len() == most {
                return Err(too_many_topics(most));
            }
            if topic.is_prefix() {
                check_prefixes(topics.iter().filter(|topic| topic.is_prefix()).count() + 1)?;
            }
            topics.push(topic);
        }
    }
    Ok(topics)
}

/// Refuses a stream of so many prefixes, if that is too many.
pub(crate) fn check_prefixes(count: usize) -> Result<(), HttpError> {
    if count <= PREFIXES_PER_CONNECTION_MAX {
        return Ok(());
    }
    Err(HttpError::bad(format!(
        "a stream has at most {PREFIXES_PER_CONNECTION_MAX} prefixes of topics; name a shorter one that covers several, or \
         open a second stream"
    )))
}

/// The answer to one topic too many.
pub(crate) fn too_many_topics(most: usize) -> HttpError {
    HttpError::bad(format!("a stream has at most {most} topics; open a second one for more"))
}
