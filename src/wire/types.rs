//! The delivery class of each event type: built in, then as configured; unknown types are `ephemeral`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::{
    CANARIES_KEPT, CANARY_FORGOTTEN, CONTROL_CHANGES_KEPT, EPHEMERAL_TTL, HISTORY_AGE, HISTORY_EVENTS, REVOCATIONS_AGE,
    REVOCATIONS_KEPT, SUM_WINDOW,
};
use crate::runtime::random::Map;
use crate::wire::canary::TYPES;
use crate::wire::event::{CONTROL_REVOKE, CONTROL_STREAMS, Class};

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
pub const BUILT_IN: [(&str, Class); 12] = [
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
    ("mercure", Class::Every),
];

/// What nodes tell each other, which no settings change. The first two are kept for as long: a topic's history may drop what is older
/// than the type of the newest event is kept.
pub const CONTROL: [(&str, TypeInfo); 6] = [
    (CONTROL_REVOKE, control(REVOCATIONS_KEPT as u32)),
    (CONTROL_STREAMS, control(CONTROL_CHANGES_KEPT)),
    (TYPES[0], canary(Class::Sum)),
    (TYPES[1], canary(Class::Latest)),
    (TYPES[2], canary(Class::Ephemeral)),
    (TYPES[3], canary(Class::Every)),
];

/// Nobody comes back to a canary, so that history keeps few.
const fn canary(class: Class) -> TypeInfo {
    let window = if class.adds_up() { SUM_WINDOW } else { Duration::ZERO };
    TypeInfo { class, window, history: CANARIES_KEPT, max_age_ms: CANARY_FORGOTTEN.as_millis() as u64, ..DEFAULT }
}

const fn control(history: u32) -> TypeInfo {
    TypeInfo { class: Class::Every, history, max_age_ms: REVOCATIONS_AGE.as_millis() as u64, ..DEFAULT }
}

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
        let built_in = BUILT_IN.into_iter().map(|(name, class)| (name.to_owned(), info(name, class)));
        let control = CONTROL.into_iter().map(|(name, info)| (name.to_owned(), info));
        Types { known: built_in.chain(control).collect() }
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
        for (name, _) in CONTROL {
            assert_eq!(crate::wire::event::owner(name), crate::wire::event::Owner::Nodes, "{name}");
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
