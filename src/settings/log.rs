//! What `--log` says: which lines are written, in the syntax of `tracing`, and what is tracked through them.

use std::borrow::Cow;

use super::layers::{Fault, fault};
use crate::limits::TRACKED_MAX;
use crate::wire::connection_id::{ConnectionId, SHOWN};
use crate::wire::http::percent_decode;
use crate::wire::topic::Topic;

/// What is tracked, by its names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracked {
    connections: Vec<String>,
    members: Vec<String>,
    topics: Vec<String>,
    events: Vec<String>,
}

impl Tracked {
    /// Nothing is.
    pub fn is_empty(&self) -> bool {
        *self == Tracked::default()
    }

    /// Whether this connection is, by the part of its id that is no secret.
    pub fn has_connection(&self, shown: &str) -> bool {
        self.connections.iter().any(|connection| connection == shown)
    }

    /// Whether this member is.
    pub fn has_member(&self, member: &str) -> bool {
        self.members.iter().any(|tracked| tracked == member)
    }

    /// Whether all of this topic is.
    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.iter().any(|tracked| tracked == topic)
    }

    /// Whether the event of this id is.
    pub fn has_event(&self, event: &str) -> bool {
        self.events.iter().any(|tracked| tracked == event)
    }

    /// Takes a word of `--log`. False if it names none to be tracked.
    fn take(&mut self, word: &str) -> Result<bool, Fault> {
        let Some((kind, name)) = word.split_once('=') else { return Ok(false) };
        let bad = |problem: &str, remedy: &str| fault(format!("{word:?} {problem}"), remedy.to_owned());
        let decoded = percent_decode(name, false).map(Cow::into_owned);
        match (kind, decoded) {
            ("connection", _) => match shown(name) {
                Some(shown) => self.connections.push(shown),
                None => return bad("names no connection", "give an id as /v1/connections or `connected` has it"),
            },
            ("topic", _) => match Topic::parse(name) {
                Ok(topic) => self.topics.push(topic.as_str().to_owned()),
                Err(_) => return bad("names no topic", "give one such as topic=live:42"),
            },
            ("member", Ok(member)) if !member.is_empty() => self.members.push(member),
            ("event", Ok(event)) if !event.is_empty() => self.events.push(event),
            ("member" | "event", _) => return bad("names none", "give a name, percent-encoded where it has a comma"),
            _ => return Ok(false),
        }
        let count = self.connections.len() + self.members.len() + self.topics.len() + self.events.len();
        if count > TRACKED_MAX {
            return bad("is one too many", &format!("track up to {TRACKED_MAX} at a time"));
        }
        Ok(true)
    }
}

/// The part of a connection's id that is no secret, where the text is such an id or that part.
fn shown(text: &str) -> Option<String> {
    let text = text.trim_end_matches('…');
    let is_whole = ConnectionId::decode(text).is_some();
    let is_part = text.len() == SHOWN && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (is_whole || is_part).then(|| text[..SHOWN].to_owned())
}

/// The filter of lines that `--log` gives, and what it has tracked.
///
/// # Errors
/// A name that is none.
pub(super) fn split(text: &str) -> Result<(String, Tracked), Fault> {
    let mut tracked = Tracked::default();
    let mut levels = Vec::new();
    for word in text.split(',').map(str::trim) {
        if !tracked.take(word)? {
            levels.push(word);
        }
    }
    // Who names one alone has not said that all the rest is to be silent.
    let levels = if levels.is_empty() { "info".to_owned() } else { levels.join(",") };
    Ok((levels, tracked))
}

/// The same of what was checked.
pub fn log_parts(text: &str) -> (String, Tracked) {
    split(text).unwrap_or_else(|_| ("info".to_owned(), Tracked::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_names_are_told_apart() {
        let id =
            ConnectionId { node: crate::wire::connection_id::NodeId(7), shard: 1, slot: 2, generation: 3, secret: 4 };
        let text = format!("fanfare=debug, member=a%2Cb ,topic=live:%c3%a9,connection={},event=1-a,warn", id.encode());
        let (levels, tracked) = split(&text).ok().unwrap();
        assert_eq!(levels, "fanfare=debug,warn");
        assert!(tracked.has_member("a,b") && tracked.has_topic("live:%C3%A9") && tracked.has_event("1-a"));
        assert!(tracked.has_connection(&id.shown()) && !tracked.has_connection(&"a".repeat(SHOWN)));
        assert!(!tracked.has_member("a") && !tracked.is_empty());
        let shown = format!("connection={}…", id.shown());
        let (levels, of_listing) = split(&shown).ok().unwrap();
        assert!(of_listing.has_connection(&id.shown()) && levels == "info", "the rest is as it is without");
        assert_eq!(split("info").ok().unwrap(), ("info".to_owned(), Tracked::default()));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in ["connection=abc", "topic=live", "topic=", "member=", "event=%zz", "connection="] {
            let fault = split(bad).err().unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(fault.problem.contains(bad), "{}", fault.problem);
        }
        let many: Vec<String> = (0..=TRACKED_MAX).map(|number| format!("member=m{number}")).collect();
        assert!(split(&many[1..].join(",")).is_ok() && split(&many.join(",")).is_err());
    }
}
