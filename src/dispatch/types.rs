//! The delivery class of each event type: built in, then as configured; unknown types are `ephemeral`.

use std::collections::HashMap;

use crate::limits::EPHEMERAL_TTL;
use crate::wire::event::Class;

/// What is known of one event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its delivery class.
    pub class: Class,
    /// For class `ephemeral`: how long it may wait in a queue, in milliseconds.
    pub ttl_ms: u32,
}

/// Event types by name.
#[derive(Debug, Clone)]
pub struct Types {
    known: HashMap<String, TypeInfo, foldhash::fast::RandomState>,
}

/// The types the platform itself publishes.
pub const BUILT_IN: [(&str, Class); 9] = [
    ("like", Class::Sum),
    ("unlike", Class::Latest),
    ("viewers", Class::Latest),
    ("receipt", Class::Latest),
    ("presence", Class::Latest),
    ("typing", Class::Ephemeral),
    ("comment", Class::Every),
    ("message", Class::Every),
    ("deleted", Class::Every),
];

const DEFAULT: TypeInfo = TypeInfo { class: Class::Ephemeral, ttl_ms: EPHEMERAL_TTL.as_millis() as u32 };

impl Default for Types {
    fn default() -> Types {
        let known =
            BUILT_IN.into_iter().map(|(name, class)| (name.to_owned(), TypeInfo { class, ..DEFAULT })).collect();
        Types { known }
    }
}

impl Types {
    /// Sets or replaces a type.
    pub fn set(&mut self, name: &str, class: Class, ttl_ms: Option<u32>) {
        let info = TypeInfo { class, ttl_ms: ttl_ms.unwrap_or(DEFAULT.ttl_ms) };
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
    fn configured_types_replace_built_in_ones() {
        let mut types = Types::default();
        assert_eq!(types.get("like").class, Class::Sum);
        assert_eq!(types.get("wave"), TypeInfo { class: Class::Ephemeral, ttl_ms: 5000 });
        types.set("like", Class::Ephemeral, Some(100));
        assert_eq!(types.get("like"), TypeInfo { class: Class::Ephemeral, ttl_ms: 100 });
    }
}
