//! Layers of settings, as text: who set what, and where. Typed values are made in [`super::values`].

use super::secret::mask;
use crate::args::Flags;
use crate::error::SettingsError;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A configuration file; lines count from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag, such as `--listen`.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => out.write_str("default"),
            Source::File { path, line } => write!(out, "file {} line {line}", path.display()),
            Source::Environment(name) => write!(out, "environment {name}"),
            Source::Flag(flag) => write!(out, "flag {flag}"),
        }
    }
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One text.
    Text,
    /// A whole number, which may also be text, such as `auto` or `5`.
    Number,
    /// True or false.
    Switch,
    /// Texts, with commas between them where they are not a TOML array.
    List,
    /// Texts by name: a table in TOML, `NAME=TEXT` in a flag, those with `;` between in a variable.
    Named,
}

/// A setting: `name` as in the file, the flag and the variable are derived from it.
#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub default: Option<&'static str>,
}

const fn key(name: &'static str, shape: Shape, default: Option<&'static str>) -> Key {
    Key { name, shape, default }
}

/// Every setting but the event types, in the order in which they are printed.
pub(super) const KEYS: [Key; 40] = [
    key("listen", Shape::Text, Some("127.0.0.1:8080")),
    key("tls_listen", Shape::Text, None),
    key("tls_cert", Shape::List, None),
    key("tls_key", Shape::List, None),
    key("internal", Shape::Text, Some("127.0.0.1:8081")),
    key("advertise", Shape::Text, None),
    key("reuse_port", Shape::Switch, Some("false")),
    key("io", Shape::Text, Some("auto")),
    key("cores", Shape::Text, Some("all")),
    key("drain", Shape::Text, Some("30s")),
    key("idle_timeout", Shape::Text, Some("75s")),
    key("kv", Shape::Text, Some("memory")),
    key("db", Shape::Text, Some("sqlite:fanfare.db")),
    key("db_password_file", Shape::Text, None),
    key("reactions", Shape::List, Some("like,celebrate,support,love,insightful,funny")),
    key("dispatchers", Shape::List, None),
    key("cluster_secret_file", Shape::Text, None),
    key("dc", Shape::Text, Some("local")),
    key("peer", Shape::Named, None),
    key("peer_secret_file", Shape::Named, None),
    key("peer_insecure", Shape::Switch, Some("false")),
    key("auth", Shape::Text, Some("none")),
    key("jwt_key_file", Shape::Text, None),
    key("jwt_key_url", Shape::Text, None),
    key("jwt_cookie", Shape::Text, None),
    key("jwt_issuer", Shape::List, None),
    key("jwt_audience", Shape::List, None),
    key("jwt_max_life", Shape::Text, Some("3653d")),
    key("cors_origin", Shape::List, None),
    key("trusted_proxy", Shape::List, None),
    key("log", Shape::Text, Some("info")),
    key("trace_sample", Shape::Number, Some("1000")),
    key("max_connections", Shape::Number, Some("auto")),
    key("max_address_connections", Shape::Number, Some("0")),
    key("max_address_connects", Shape::Number, Some("0")),
    key("max_publishes", Shape::Number, Some("0")),
    key("max_topics", Shape::Number, Some("100")),
    key("max_memory", Shape::Text, Some("80%")),
    key("max_backlog", Shape::Text, Some("auto")),
    key("max_turn", Shape::Text, Some("250ms")),
];

/// Variables that begin like a setting and are read elsewhere: by this module's caller or by clients.
const OTHER_VARIABLES: [&str; 3] = ["FANFARE_CONFIG", "FANFARE_URL", "FANFARE_TOKEN"];

/// The setting as a flag, for messages.
pub(super) fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

fn variable(name: &str) -> String {
    format!("FANFARE_{}", name.to_ascii_uppercase())
}

/// Values as given; more than one only in a list.
#[derive(Clone)]
pub(super) struct Raw {
    pub values: Vec<String>,
    pub origin: Source,
}

impl fmt::Debug for Raw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(|value| mask(value)).collect();
        write!(out, "{values:?} ({})", self.origin)
    }
}

/// All layers, laid over one another.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub plain: BTreeMap<&'static str, Raw>,
    /// By setting, then by name, such as a data center's.
    pub named: BTreeMap<&'static str, BTreeMap<String, Raw>>,
    /// By event type, then by setting.
    pub events: BTreeMap<String, BTreeMap<&'static str, Raw>>,
}

impl Layers {
    /// The lowest layer.
    pub(super) fn defaults() -> Layers {
        let mut layers = Layers::default();
        for key in &KEYS {
            if let Some(default) = key.default {
                layers.set(key, vec![default.to_owned()], Source::Default).expect("no default is named");
            }
        }
        layers
    }

    /// Lays what the environment sets over what is there; returns warnings of unknown variables.
    pub(super) fn environment(
        &mut self,
        variables: &BTreeMap<OsString, OsString>,
    ) -> Result<Vec<String>, SettingsError> {
        let mut warnings = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("FANFARE_")) else {
                continue;
            };
            let Some(key) = KEYS.iter().find(|key| variable(key.name) == name) else {
                if !OTHER_VARIABLES.contains(&name) {
                    let known = KEYS.iter().map(|key| variable(key.name));
                    warnings.push(format!("environment {name} is not a setting; {}", suggest(name, known)));
                }
                continue;
            };
            // Unit files and containers often pass variables that nobody filled in.
            if value.is_empty() {
                continue;
            }
            let origin = Source::Environment(name.to_owned());
            let Some(text) = value.to_str() else {
                return Err(SettingsError::Invalid {
                    setting: flag(key.name),
                    value: mask(&value.to_string_lossy()),
                    origin: Box::new(origin),
                    problem: "not UTF-8".to_owned(),
                    remedy: "give text in UTF-8".to_owned(),
                });
            };
            let values = match key.shape {
                Shape::Named => text.split(';').filter(|part| !part.trim().is_empty()).map(str::to_owned).collect(),
                _ => vec![text.to_owned()],
            };
            self.set(key, values, origin)?;
        }
        Ok(warnings)
    }

    /// Lays the flags over what is there.
    pub(super) fn flags(&mut self, flags: &Flags) -> Result<(), SettingsError> {
        for key in &KEYS {
            if let Some(values) = flags.given.get(key.name) {
                self.set(key, values.clone(), Source::Flag(flag(key.name)))?;
            }
        }
        Ok(())
    }

    /// Sets one that nobody set.
    pub(super) fn default_to(&mut self, name: &'static str, value: &str) {
        if let Some(raw) = self.plain.get_mut(name).filter(|raw| raw.origin == Source::Default) {
            raw.values = vec![value.to_owned()];
        }
    }

    /// Sets one setting from texts as a flag or a variable has them.
    fn set(&mut self, key: &Key, values: Vec<String>, origin: Source) -> Result<(), SettingsError> {
        match key.shape {
            Shape::Text | Shape::Number | Shape::Switch => {
                self.plain.insert(key.name, Raw { values, origin });
            }
            Shape::List => {
                let values = values.iter().flat_map(|value| split(value)).collect();
                self.plain.insert(key.name, Raw { values, origin });
            }
            Shape::Named => {
                let mut seen: BTreeMap<String, Raw> = BTreeMap::new();
                for value in values {
                    let named =
                        value.split_once('=').filter(|(name, rest)| !name.trim().is_empty() && !rest.is_empty());
                    let Some((name, rest)) = named else {
                        return Err(invalid_pair(key, &value, origin, "not NAME=VALUE"));
                    };
                    let values = split_named(key.name, rest);
                    let raw = Raw { values, origin: origin.clone() };
                    if seen.insert(name.trim().to_owned(), raw).is_some() {
                        return Err(invalid_pair(key, &value, origin, "its name is given twice"));
                    }
                }
                self.named.entry(key.name).or_default().extend(seen);
            }
        }
        Ok(())
    }
}

/// A peer has several URLs; a path may contain commas.
pub(super) fn split_named(setting: &str, text: &str) -> Vec<String> {
    if setting == "peer" { split(text).collect() } else { vec![text.to_owned()] }
}

/// The parts of a list; an empty text is an empty list, so that a flag can undo a file's.
pub(super) fn split(text: &str) -> impl Iterator<Item = String> {
    let parts = (!text.trim().is_empty()).then(|| text.split(','));
    parts.into_iter().flatten().map(|part| part.trim().to_owned())
}

fn invalid_pair(key: &Key, value: &str, origin: Source, problem: &str) -> SettingsError {
    let example = if key.name == "peer" { "eu=https://eu.example:8081" } else { "eu=/etc/fanfare/eu.secret" };
    SettingsError::Invalid {
        setting: flag(key.name),
        value: mask(value),
        origin: Box::new(origin),
        problem: problem.to_owned(),
        remedy: format!("give each name once, such as {example}"),
    }
}

/// Says which known name was probably meant, or lists them all.
pub(super) fn suggest<T: AsRef<str>>(given: &str, known: impl Iterator<Item = T>) -> String {
    let known: Vec<T> = known.collect();
    // The names of one family share their prefix, which must not make strangers look alike.
    let bare = |name: &str| name.trim_start_matches("FANFARE_").to_ascii_lowercase().replace('-', "_");
    let near = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&bare(given), &bare(name.as_ref())), name.as_ref()))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => {
            let names: Vec<&str> = known.iter().map(T::as_ref).collect();
            format!("known are {}", names.join(", "))
        }
    }
}
