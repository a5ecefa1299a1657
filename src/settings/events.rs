//! Event types: which delivery class each has, and its bounds.

use super::SettingsError;
use super::layers::{Fault, Layers, Raw, Source, fault};
use super::values::time;
use crate::limits::{EPHEMERAL_TTL, HISTORY_AGE, HISTORY_EVENTS, SUM_WINDOW_MAX, TYPE_BYTES_MAX};
use crate::wire::mercure;
use crate::wire::types;
use crate::wire::types::{BUILT_IN, CONTROL};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// The keys of a table `[events.NAME]`, and what each is to be given.
pub(super) const EVENT_KEYS: [(&str, &str); 6] = [
    ("class", "give a string"),
    ("window", "give a duration such as \"5s\""),
    ("ttl", "give a duration such as \"5s\""),
    ("history", "give a number of events"),
    ("max_age", "give a duration such as \"5s\""),
    ("pace", "give events a second, such as \"10/s\""),
];

/// What waits longer than an hour for a client is not ephemeral.
const TTL_MAX: Duration = Duration::from_secs(3600);
/// At 16 KiB an event this is 16 GiB a topic, more than a key-value store should be asked for.
const HISTORY_MAX: u32 = 1_000_000;
/// History is for reconnecting, not an archive: thirty days.
const MAX_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Nobody reads a hundred a second; what a machine reads has no pace.
const PACE_MAX: u32 = 1000;

pub use crate::wire::event::{Class, UnknownClass};

/// The settings of one event type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSettings {
    /// The delivery class.
    pub class: Class,
    /// Within how long a topic's events become one, at most 10 s; zero is none. `Some` for `sum` only.
    pub window: Option<Duration>,
    /// How long an event may wait in queues; above 0, at most 1 h. `Some` for `ephemeral` only.
    pub ttl: Option<Duration>,
    /// How many events of a topic are kept, 1 to 1,000,000. `Some` for `every` only.
    pub history: Option<u32>,
    /// How long they are kept; above 0, at most 30 days. `Some` for `every` only.
    pub max_age: Option<Duration>,
    /// How many of a topic's events are shown a second, at most [`PACE_MAX`]; all of them without. For `every` only.
    pub pace: Option<NonZeroU32>,
}

impl EventSettings {
    /// The type of this name and class with default bounds.
    pub fn of(name: &str, class: Class) -> EventSettings {
        let every = class.has_history();
        EventSettings {
            class,
            window: class.adds_up().then(|| types::window(name)),
            ttl: class.expires().then_some(EPHEMERAL_TTL),
            history: every.then_some(HISTORY_EVENTS),
            max_age: every.then_some(HISTORY_AGE),
            pace: None,
        }
    }

    /// The fields that apply, as TOML.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let time = |time: Duration| format!("\"{}\"", humantime::format_duration(time));
        [
            ("class", Some(format!("\"{}\"", self.class))),
            ("window", self.window.map(time)),
            ("ttl", self.ttl.map(time)),
            ("history", self.history.map(|count| count.to_string())),
            ("max_age", self.max_age.map(time)),
            ("pace", self.pace.map(|pace| format!("\"{pace}/s\""))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The built-in types with what the layers change of them, and the layers' own types.
pub(super) fn resolve(layers: &Layers) -> Result<BTreeMap<String, EventSettings>, SettingsError> {
    let mut events: BTreeMap<String, EventSettings> =
        BUILT_IN.into_iter().map(|(name, class)| (name.to_owned(), EventSettings::of(name, class))).collect();
    for (event_type, given) in &layers.events {
        let built_in = events.get(event_type).map_or(Class::Ephemeral, |event| event.class);
        let event = one(event_type, given, built_in)?;
        events.insert(event_type.clone(), event);
    }
    Ok(events)
}

fn one(event_type: &str, given: &BTreeMap<&'static str, Raw>, built_in: Class) -> Result<EventSettings, SettingsError> {
    let invalid = |field: &str, raw: &Raw, fault: Fault| {
        raw.origin.refuse(format!("events.{event_type}.{field}"), &raw.values.concat(), fault)
    };
    let is_control = CONTROL.iter().any(|(name, _)| *name == event_type);
    if event_type.is_empty() || event_type.len() > TYPE_BYTES_MAX || event_type.contains(char::is_control) || is_control
    {
        let problem = match is_control {
            true => "a type by which nodes tell each other something",
            false => "not a type's name",
        };
        let remedy = match is_control {
            true => "leave it out".to_owned(),
            false => format!("give 1 to {TYPE_BYTES_MAX} bytes without control characters"),
        };
        let origin = given.values().next().map_or(&Source::Default, |raw| &raw.origin);
        return Err(origin.refuse("events", event_type, Fault { problem: problem.to_owned(), remedy }));
    }
    let class = match given.get("class") {
        None => built_in,
        Some(raw) => raw.values.concat().parse().map_err(|UnknownClass| {
            let remedy = "give sum, latest, ephemeral or every".to_owned();
            invalid("class", raw, Fault { problem: "not a delivery class".to_owned(), remedy })
        })?,
    };
    if let Some(raw) = given.get("class").filter(|_| event_type == mercure::TYPE && !class.has_history()) {
        let problem = "streams of Mercure's protocol are shown what is in history, and nothing else".to_owned();
        return Err(invalid("class", raw, Fault { problem, remedy: "leave it out, or give every".to_owned() }));
    }
    let mut event = EventSettings::of(event_type, class);
    for (field, raw) in given {
        let text = raw.values.concat();
        let wanted = match *field {
            "class" => continue,
            "window" => Class::Sum,
            "ttl" => Class::Ephemeral,
            _ => Class::Every,
        };
        let outcome = belongs(class, wanted).and_then(|()| match *field {
            "window" => window(&text).map(|window| event.window = Some(window)),
            "ttl" => bounded(&text, TTL_MAX).map(|ttl| event.ttl = Some(ttl)),
            "history" => count(&text).map(|count| event.history = Some(count)),
            "max_age" => bounded(&text, MAX_AGE_MAX).map(|age| event.max_age = Some(age)),
            _ => pace(&text).map(|pace| event.pace = Some(pace)),
        });
        outcome.map_err(|fault| invalid(field, raw, fault))?;
    }
    Ok(event)
}

fn belongs(class: Class, wanted: Class) -> Result<(), Fault> {
    if class == wanted {
        return Ok(());
    }
    fault(format!("a type of class {class} has none"), format!("leave it out, or give the type class = \"{wanted}\""))
}

fn bounded(text: &str, max: Duration) -> Result<Duration, Fault> {
    let remedy = format!("give more than 0s and at most {}", humantime::format_duration(max));
    time(text, |time| !time.is_zero() && time <= max, "out of bounds", remedy)
}

fn window(text: &str) -> Result<Duration, Fault> {
    let remedy = format!("give at most {}; 0s is none", humantime::format_duration(SUM_WINDOW_MAX));
    time(text, |time| time <= SUM_WINDOW_MAX, "out of bounds", remedy)
}

fn count(text: &str) -> Result<u32, Fault> {
    match text.parse::<u32>() {
        Ok(count) if (1..=HISTORY_MAX).contains(&count) => Ok(count),
        _ => fault("out of bounds", format!("give a number of events, 1 to {HISTORY_MAX}")),
    }
}

fn pace(text: &str) -> Result<NonZeroU32, Fault> {
    let count = text.strip_suffix("/s").and_then(|count| count.trim().parse().ok());
    match count.filter(|count: &NonZeroU32| count.get() <= PACE_MAX) {
        Some(count) => Ok(count),
        None => fault(
            "no pace",
            format!("give events a second, such as \"10/s\", 1/s to {PACE_MAX}/s; leave it out to show all"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_as_they_are_written() {
        for class in [Class::Sum, Class::Latest, Class::Ephemeral, Class::Every] {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        assert_eq!("Sum".parse::<Class>(), Err(UnknownClass));
    }

    #[test]
    fn built_in_types_have_the_classes_of_the_design() {
        let events = resolve(&Layers::default()).unwrap();
        let window = Some(Duration::from_millis(50));
        for name in ["like", "tap"] {
            let (ttl, history, max_age, pace) = (None, None, None, None);
            let wanted = EventSettings { class: Class::Sum, window, ttl, history, max_age, pace };
            assert_eq!(events[name], wanted, "{name}");
        }
        for name in ["viewers", "receipt", "presence", "likes", "rules"] {
            assert_eq!(events[name].class, Class::Latest, "{name}");
        }
        assert_eq!(events["typing"].ttl, Some(Duration::from_secs(5)));
        for name in ["comment", "message", "deleted", "mercure"] {
            assert_eq!((events[name].class, events[name].history), (Class::Every, Some(1_000)), "{name}");
            assert_eq!(events[name].max_age, Some(Duration::from_secs(3600)), "{name}");
        }
        assert_eq!(events.len(), 12);
    }
}
