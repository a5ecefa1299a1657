//! What of a topic a stream gets that not all get: every event of some types, whatever their pace, and private updates.

use std::sync::Arc;

use crate::wire::frame::Frame;
use crate::wire::frame::update::Audience;
use crate::wire::mercure;
use crate::wire::mercure::subscriber::Subscriber;

/// The types of which a stream gets every event, also those that their pace leaves out, and whether it gets the topic's private
/// updates; neither for nearly all streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct All {
    kinds: Option<Arc<[Box<str>]>>,
    private: bool,
    /// It has the topic by a prefix, and does not count among those who watch it.
    by_prefix: bool,
}

impl All {
    /// All of these types.
    pub fn of(mut kinds: Vec<Box<str>>) -> All {
        kinds.sort_unstable();
        kinds.dedup();
        All { kinds: (!kinds.is_empty()).then(|| kinds.into()), ..All::default() }
    }

    /// All updates of Mercure's protocol, private ones among them.
    pub fn with_private() -> All {
        All { private: true, ..All::default() }
    }

    /// What a stream gets of a topic that a prefix of its covers, of which it gets this; nothing of Mercure's that it does not
    /// want as this subscriber.
    pub fn by_prefix(&self, topic: &str, subscriber: Option<&Subscriber>) -> Option<All> {
        if !mercure::is_of_kind(topic) {
            return Some(All { by_prefix: true, ..self.clone() });
        }
        subscriber?.has(topic).map(|private| All { kinds: None, private, by_prefix: true })
    }

    /// Whether the topic is had by a prefix.
    pub fn is_by_prefix(&self) -> bool {
        self.by_prefix
    }

    /// Whether of types that have a pace only what is shown is wanted.
    pub fn is_none(&self) -> bool {
        self.kinds.is_none()
    }

    /// Whether private updates are wanted, and may be had.
    pub fn has_private(&self) -> bool {
        self.private
    }

    /// Whether an event goes to other streams only.
    pub fn leaves_out(&self, frame: &Frame) -> bool {
        let wants = |kinds: &Arc<[Box<str>]>| kinds.iter().any(|kind| **kind == *frame.kind());
        // A right to another topic of the update lets a stream have it, too, or one to the text of a topic that is hashed.
        let is_secret = |audience: &Audience| {
            let looks = audience.texts.len() > 1 || (audience.is_hashed && self.by_prefix);
            audience.is_private && !self.private && !looks
        };
        (!frame.paced().is_shown() && !self.kinds.as_ref().is_some_and(wants))
            || frame.audience().is_some_and(is_secret)
    }

    /// Whether an event goes only to some of the streams that get just this, each of which is to be looked at.
    pub fn chooses(&self, frame: &Frame) -> bool {
        frame.audience().is_some_and(|audience| {
            !audience.earlier.is_empty()
                || (audience.is_private && !self.private)
                || (audience.is_hashed && self.by_prefix)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::update::tests::{PLACE, update};

    #[test]
    fn private_updates_are_left_out_or_looked_at() {
        let of = |topics: &str, private: bool, on: &str| {
            let data = format!("{{\"topics\":{topics},\"private\":{private}}}");
            let frame = update("urn:x", on, &data, Some(PLACE));
            [All::default(), All::with_private()].map(|all| (all.leaves_out(&frame), all.chooses(&frame)))
        };
        let all_get_it = (false, false);
        assert_eq!(of(r#"["a"]"#, false, "a"), [all_get_it, all_get_it]);
        assert_eq!(of(r#"["a"]"#, true, "a"), [(true, true), all_get_it]);
        // A right to the other one may be enough.
        assert_eq!(of(r#"["a","b"]"#, true, "a"), [(false, true), all_get_it]);
        // Who watches both has it by the first.
        assert_eq!(of(r#"["a","b"]"#, false, "b"), [(false, true), (false, true)]);
    }
}
