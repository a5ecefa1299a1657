//! A subscriber, who has topics by selectors, and may have private updates of some.

use std::sync::Arc;

use crate::wire::mercure::selectors::Selectors;
use crate::wire::mercure::{is_hashed, prefix, text};
use crate::wire::topic::Topic;

/// What a stream of Mercure's protocol is to have beyond the topics that it names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// The URI templates and `*` by which it has topics.
    pub wanted: Selectors,
    /// The topics whose private updates it may have.
    pub private: Arc<Selectors>,
}

impl Subscriber {
    /// Whether it has a topic by a selector, and if so whether it gets all private updates of it. Of a topic that is hashed each
    /// update tells by its text, see [`Audience`](crate::wire::frame::update::Audience).
    pub fn has(&self, topic: &str) -> Option<bool> {
        if is_hashed(topic) {
            return Some(false);
        }
        let text = text(topic)?;
        self.wanted.select(&text).then(|| self.private.select(&text))
    }

    /// The prefixes among whose topics are all that it wants; none of them covers another.
    pub fn prefixes(&self) -> Vec<Topic> {
        let mut prefixes: Vec<Topic> = self.wanted.texts().filter_map(prefix).collect();
        // A shorter one comes before those that it covers.
        prefixes.sort_unstable_by_key(|prefix| prefix.as_str().len());
        let mut apart: Vec<Topic> = Vec::new();
        for prefix in prefixes {
            let is_covered = |other: &Topic| other.begin().is_some_and(|begin| prefix.as_str().starts_with(begin));
            if !apart.iter().any(is_covered) {
                apart.push(prefix);
            }
        }
        apart
    }

    /// The same without one of its selectors.
    #[must_use]
    pub fn without(&self, selector: &str) -> Subscriber {
        let wanted = Selectors::of(self.wanted.texts().filter(|text| *text != selector));
        Subscriber { wanted, private: Arc::clone(&self.private) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mercure::selectors::literal_begin;
    use crate::wire::mercure::topic;
    use proptest::prelude::*;

    fn subscriber(wanted: &[&str], private: &[&str]) -> Subscriber {
        let (wanted, private) = (Selectors::of(wanted.iter().copied()), Selectors::of(private.iter().copied()));
        Subscriber { wanted, private: Arc::new(private) }
    }

    #[test]
    fn what_is_covered_is_no_prefix_of_its_own() {
        let of = |wanted: &[&str]| {
            let prefixes = subscriber(wanted, &[]).prefixes();
            prefixes.iter().map(|prefix| prefix.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&["/a/{x}/b", "/a/{y}"]), ["mercure:%2Fa%2F*"]);
        assert_eq!(of(&["/a/b/{x}", "/a/{x}", "/ab/{x}"]), ["mercure:%2Fa%2F*", "mercure:%2Fab%2F*"]);
        assert_eq!(of(&["/a/{x}", "*"]), ["mercure:*"]);
        assert_eq!(of(&[]), [""; 0]);
        let less = subscriber(&["/a/{x}", "*"], &["/a"]).without("*");
        assert_eq!(less, subscriber(&["/a/{x}"], &["/a"]));
    }

    proptest! {
        /// Whatever topic it is, a stream has it just if a selector of its selects the text, and then some prefix of its finds it.
        #[test]
        fn what_is_had_is_what_is_selected(
            wanted in prop::collection::vec("/[ab]{0,2}/(\\{x\\}|[ab])(/\\{\\+y\\}|/[ab]){0,1}|\\*", 0..3),
            private in "/[ab]{0,2}/(\\{x\\}|[ab])", text in "(/[ab]{0,2}){1,4}",
        ) {
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).filter(|text| literal_begin(text).is_some()).collect();
            let (subscriber, topic) = (subscriber(&wanted, &[&private]), topic(&text));
            let is_selected = Selectors::of(wanted).select(&text);
            let gets_private = Selectors::of([&*private]).select(&text);
            prop_assert_eq!(subscriber.has(topic.as_str()), is_selected.then_some(gets_private));
            let is_found = subscriber.prefixes().iter().any(|prefix| prefix.covers(topic.as_str()));
            prop_assert!(is_found || !is_selected);
        }
    }
}
