//! The delivery class of each event type: built in, then as configured; unknown types are `ephemeral`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::{EPHEMERAL_TTL, HISTORY_AGE, HISTORY_EVENTS, SUM_WINDOW};
use crate::runtime::random::Map;
use crate::wire::event::Class;

/// What is known of one event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its delivery class.
    pub class: Class,
    /// For class `ephemeral`: how long it may wait in a queue, in milliseconds.
    pub ttl_ms: u32,
    /// For class `every`: events of the type that a topic's history keeps.
    pub history: u32,
    /// For class `every`: how long it keeps them, in milliseconds.
    pub max_age_ms: u64,
    /// For class `sum`: how long its windows are; zero is none.
    pub window: Duration,
    /// For class `every`: how many of a topic's events of the type are shown a second, if not all are.
    pub pace: Option<NonZeroU32>,
}

/// Event types by name.
#[derive(Debug, Clone)]
pub struct Types {
    known: Map<String, TypeInfo>,
}

/// The types the platform itself publishes.
pub const BUILT_IN: [(&str, Class); 11] = [
    ("like", Class::Sum),
    ("tap", Class::Sum),
    ("likes", Class::Latest),
    ("viewers", Class::Latest),
    ("receipt", Class::Latest),
    ("presence", Class::Latest),
    ("rules", Class::Latest),
    ("typing", Class::Ephemeral),
    ("comment", Class::Every),
    ("message", Class::Every),
    ("deleted", Class::Every),
];

/// What is not configured.
pub const DEFAULT: TypeInfo = TypeInfo {
    class: Class::Ephemeral,
    ttl_ms: EPHEMERAL_TTL.as_millis() as u32,
    history: HISTORY_EVENTS,
    max_age_ms: HISTORY_AGE.as_millis() as u64,
    window: Duration::ZERO,
    pace: None,
};

/// How long the windows of a type are that the settings say nothing of.
pub fn window(name: &str) -> Duration {
    if matches!(name, "like" | "tap") { SUM_WINDOW } else { Duration::ZERO }
}

impl Default for Types {
    fn default() -> Types {
        let info = |name, class| TypeInfo { class, window: window(name), ..DEFAULT };
        Types { known: BUILT_IN.into_iter().map(|(name, class)| (name.to_owned(), info(name, class))).collect() }
    }
}

impl Types {
    /// Sets or replaces a type.
    pub fn set(&mut self, name: &str, info: TypeInfo) {
        self.known.insert(name.to_owned(), info);
    }

    /// What is known of a type.
    pub fn get(&self, name: &str) -> TypeInfo {
        self.known.get(name).copied().unwrap_or(DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_type_has_an_owner() {
        for (name, _) in BUILT_IN {
            assert_ne!(crate::wire::event::owner(name), crate::wire::event::Owner::Anyone, "{name}");
        }
    }

    #[test]
    fn configured_types_replace_built_in_ones() {
        let mut types = Types::default();
        assert_eq!(types.get("like").class, Class::Sum);
        assert_eq!((types.get("wave").class, types.get("wave").ttl_ms), (Class::Ephemeral, 5000));
        let info = TypeInfo { class: Class::Every, history: 7, ..DEFAULT };
        types.set("like", info);
        assert_eq!(types.get("like"), info);
    }
}
