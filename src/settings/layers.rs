//! Layers of settings, as text: who set what, and where. The fields of [`super::listing`] are made of them.

use super::setting::{Setting, Shape, flag};
use super::{SettingsError, mask};
use std::collections::BTreeMap;
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

/// What is wrong with a text, and what would do.
#[derive(Debug)]
pub(super) struct Fault {
    pub problem: String,
    pub remedy: String,
}

pub(super) fn fault<T>(problem: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { problem: problem.into(), remedy: remedy.into() })
}

impl Source {
    /// An error about a value from here; `setting` is the flag, or the key of a setting without one.
    pub(super) fn refuse(&self, setting: impl Into<String>, value: &str, fault: Fault) -> SettingsError {
        let Fault { problem, remedy } = fault;
        let (setting, value, origin) = (setting.into(), mask(value), Box::new(self.clone()));
        SettingsError::Invalid { setting, value, origin, problem, remedy }
    }
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

impl Raw {
    /// An error about all of it.
    pub(super) fn refuse(&self, name: &str, problem: &str, remedy: &str) -> SettingsError {
        let fault = Fault { problem: problem.to_owned(), remedy: remedy.to_owned() };
        self.origin.refuse(flag(name), &self.values.join(","), fault)
    }

    fn one<T>(&self, setting: String, check: impl Fn(&str) -> Result<T, Fault>) -> Result<T, SettingsError> {
        let text = self.values.concat();
        check(&text).map_err(|fault| self.origin.refuse(setting, &text, fault))
    }

    fn list<T: PartialEq>(
        &self,
        setting: String,
        check: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Vec<T>, SettingsError> {
        let mut items = Vec::with_capacity(self.values.len());
        for text in &self.values {
            let item = check(text).and_then(|item| match items.contains(&item) {
                true => fault("given twice", "give it once"),
                false => Ok(item),
            });
            items.push(item.map_err(|fault| self.origin.refuse(setting.clone(), text, fault))?);
        }
        Ok(items)
    }
}

/// All layers, laid over one another.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// By setting, then by name, such as a data center's; the name of a setting that has no names is empty.
    pub given: BTreeMap<&'static str, BTreeMap<String, Raw>>,
    /// By event type, then by setting.
    pub events: BTreeMap<String, BTreeMap<&'static str, Raw>>,
    /// Each hook by setting.
    pub hooks: Vec<BTreeMap<&'static str, Raw>>,
}

impl Layers {
    /// What a setting without names was given.
    pub(super) fn get(&self, name: &str) -> Option<&Raw> {
        self.given.get(name)?.get("")
    }

    /// What a setting with names was given.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = (&String, &Raw)> {
        self.given.get(name).into_iter().flatten()
    }

    /// The texts that a setting was given, by name, wherever they came from.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.named(name).map(|(name, raw)| (name, &raw.values))
    }

    /// Sets one that nobody set.
    pub(super) fn default_to(&mut self, name: &str, value: &str) {
        let raw = self.given.get_mut(name).and_then(|given| given.get_mut(""));
        if let Some(raw) = raw.filter(|raw| raw.origin == Source::Default) {
            raw.values = vec![value.to_owned()];
        }
    }

    /// Lays over what is there what a setting is given, by name.
    pub(super) fn lay(&mut self, setting: &Setting, given: impl IntoIterator<Item = (String, Raw)>) {
        self.given.entry(setting.name).or_default().extend(given);
    }

    /// Lays over what is there texts as a flag or a variable has them.
    pub(super) fn set(&mut self, setting: &Setting, values: Vec<String>, origin: Source) -> Result<(), SettingsError> {
        let one = |values| [(String::new(), Raw { values, origin: origin.clone() })];
        match setting.shape {
            Shape::Text | Shape::Number | Shape::Switch => self.lay(setting, one(values)),
            Shape::List => self.lay(setting, one(values.iter().flat_map(|value| split(value)).collect())),
            Shape::Named | Shape::NamedLists => {
                let mut seen: BTreeMap<String, Raw> = BTreeMap::new();
                for value in values {
                    let refuse = |problem: &str| {
                        let remedy = format!("give each name once, such as {}", setting.example);
                        origin.refuse(setting.flag(), &value, Fault { problem: problem.to_owned(), remedy })
                    };
                    let named = value.split_once('=');
                    let Some((name, rest)) = named.filter(|(name, rest)| !name.trim().is_empty() && !rest.is_empty())
                    else {
                        return Err(refuse("not NAME=VALUE"));
                    };
                    let raw = Raw { values: parts(setting, rest), origin: origin.clone() };
                    if seen.insert(name.trim().to_owned(), raw).is_some() {
                        return Err(refuse("its name is given twice"));
                    }
                }
                self.lay(setting, seen);
            }
        }
        Ok(())
    }
}

/// A text's parts where a setting is a list; a path may contain commas.
pub(super) fn parts(setting: &Setting, text: &str) -> Vec<String> {
    match setting.shape {
        Shape::List | Shape::NamedLists => split(text).collect(),
        Shape::Text | Shape::Number | Shape::Switch | Shape::Named => vec![text.to_owned()],
    }
}

/// The parts of a list; an empty text is an empty list, so that a flag can undo a file's.
fn split(text: &str) -> impl Iterator<Item = String> {
    let parts = (!text.trim().is_empty()).then(|| text.split(','));
    parts.into_iter().flatten().map(|part| part.trim().to_owned())
}

/// Why a setting with a default has a value.
const GIVEN: &str = "the defaults hold this setting";

/// A field of settings, made of texts that are checked one by one, each to a `T`.
pub(super) trait Field<T>: Sized {
    /// The field of the setting of this name.
    ///
    /// # Errors
    /// The first text that will not do.
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<Self, SettingsError>;
}

/// Of a setting that has a default.
impl<T> Field<T> for T {
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<T, SettingsError> {
        Ok(Option::<T>::read(layers, name, check)?.expect(GIVEN))
    }
}

impl<T> Field<T> for Option<T> {
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<Option<T>, SettingsError> {
        layers.get(name).map(|raw| raw.one(flag(name), check)).transpose()
    }
}

impl<T: PartialEq> Field<T> for Vec<T> {
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, SettingsError> {
        Ok(layers.get(name).map(|raw| raw.list(flag(name), check)).transpose()?.unwrap_or_default())
    }
}

impl<T> Field<T> for BTreeMap<String, T> {
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<Self, SettingsError> {
        let one = |(key, raw): (&String, &Raw)| Ok((key.clone(), raw.one(format!("{} {key}", flag(name)), &check)?));
        layers.named(name).map(one).collect()
    }
}

impl<T: PartialEq> Field<T> for BTreeMap<String, Vec<T>> {
    fn read(layers: &Layers, name: &str, check: impl Fn(&str) -> Result<T, Fault>) -> Result<Self, SettingsError> {
        let one = |(key, raw): (&String, &Raw)| Ok((key.clone(), raw.list(format!("{} {key}", flag(name)), &check)?));
        layers.named(name).map(one).collect()
    }
}
