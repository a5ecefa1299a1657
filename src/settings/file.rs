//! The configuration file: TOML to the texts of [`super::source`], each with its line.

use super::events::EVENT_KEYS;
use super::secret::mask;
use super::source::{KEYS, Key, Layers, Raw, Shape, Source, flag, split, split_named, suggest};
use crate::error::SettingsError;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Lays what the file sets over what is there.
///
/// # Errors
/// Not TOML, an unknown or repeated key, or a value of the wrong kind; each names key and line.
pub(super) fn lay(layers: &mut Layers, path: &Path, text: &str) -> Result<(), SettingsError> {
    let file = File { path, text };
    let table = DeTable::parse(text).map_err(|error| file.syntax(&error))?;
    for (name, value) in table.get_ref() {
        let origin = file.origin(name.span());
        if name.get_ref() == "events" {
            file.events(layers, value, origin)?;
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name.get_ref()) else {
            let known = KEYS.iter().map(|key| key.name).chain(["events"]);
            return Err(file.unknown(name.get_ref(), name.span(), suggest(name.get_ref(), known)));
        };
        if key.shape == Shape::Named {
            file.named(layers, key, value, origin)?;
        } else {
            let values = file.texts(&flag(key.name), key, value, &origin)?;
            layers.plain.insert(key.name, Raw { values, origin });
        }
    }
    Ok(())
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn origin(&self, span: Range<usize>) -> Source {
        Source::File { path: self.path.to_owned(), line: self.line(span.start) }
    }

    fn syntax(&self, error: &toml::de::Error) -> SettingsError {
        let span = error.span().unwrap_or(0..0);
        // The parser's message about a repeated key does not name it. Anything else in the span may
        // be part of a value, thus of a secret.
        let named = self.text.get(span.clone()).filter(|_| error.message() == "duplicate key");
        let message = match named {
            Some(key) => format!("duplicate key {key}; give it once"),
            None => error.message().to_owned(),
        };
        SettingsError::Syntax { path: self.path.to_owned(), line: self.line(span.start), message }
    }

    fn unknown(&self, key: &str, span: Range<usize>, remedy: String) -> SettingsError {
        let line = self.line(span.start);
        SettingsError::UnknownKey { key: key.to_owned(), path: self.path.to_owned(), line, remedy }
    }

    fn wrong(&self, setting: &str, value: &Spanned<DeValue<'_>>, origin: &Source, remedy: &str) -> SettingsError {
        SettingsError::Invalid {
            setting: setting.to_owned(),
            value: mask(self.text.get(value.span()).unwrap_or_default()),
            origin: Box::new(origin.clone()),
            problem: format!("a value of type {}", value.get_ref().type_str()),
            remedy: remedy.to_owned(),
        }
    }

    fn texts(
        &self,
        setting: &str,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        origin: &Source,
    ) -> Result<Vec<String>, SettingsError> {
        match (key.shape, value.get_ref()) {
            (Shape::Text, DeValue::String(text)) => Ok(vec![text.clone().into_owned()]),
            (Shape::Text, DeValue::Integer(count)) if key.name == "cores" => Ok(vec![count.to_string()]),
            (Shape::Number, DeValue::String(text)) => Ok(vec![text.clone().into_owned()]),
            (Shape::Number, DeValue::Integer(count)) => Ok(vec![count.to_string()]),
            (Shape::Number, _) => Err(self.wrong(setting, value, origin, "give a whole number")),
            (Shape::Text, _) => Err(self.wrong(setting, value, origin, "give a string")),
            (Shape::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
            (Shape::Switch, _) => Err(self.wrong(setting, value, origin, "give true or false, without quotes")),
            (Shape::List, DeValue::String(text)) => Ok(split(text).collect()),
            (Shape::Named, DeValue::String(text)) => Ok(split_named(key.name, text)),
            // A secret file is one path, so a list of them means nothing.
            (Shape::Named, _) if key.name != "peer" => Err(self.wrong(setting, value, origin, "give a string")),
            (Shape::List | Shape::Named, DeValue::Array(items)) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.clone().into_owned()),
                    _ => Err(self.wrong(setting, item, origin, "give an array of strings")),
                })
                .collect(),
            (Shape::List | Shape::Named, _) => Err(self.wrong(setting, value, origin, "give an array of strings")),
        }
    }

    fn named(
        &self,
        layers: &mut Layers,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        origin: Source,
    ) -> Result<(), SettingsError> {
        let DeValue::Table(table) = value.get_ref() else {
            let remedy = format!("give a table, such as [{}] with a line for each name", key.name);
            return Err(self.wrong(&flag(key.name), value, &origin, &remedy));
        };
        for (name, value) in table {
            let origin = self.origin(name.span());
            let setting = format!("{}.{}", key.name, name.get_ref());
            let values = self.texts(&setting, key, value, &origin)?;
            let raw = Raw { values, origin };
            layers.named.entry(key.name).or_default().insert(name.get_ref().clone().into_owned(), raw);
        }
        Ok(())
    }

    fn events(&self, layers: &mut Layers, value: &Spanned<DeValue<'_>>, origin: Source) -> Result<(), SettingsError> {
        const REMEDY: &str = "give a table for each type, such as [events.like] with class = \"sum\"";
        let DeValue::Table(types) = value.get_ref() else {
            return Err(self.wrong("events", value, &origin, REMEDY));
        };
        for (event_type, value) in types {
            let setting = format!("events.{}", event_type.get_ref());
            let DeValue::Table(fields) = value.get_ref() else {
                return Err(self.wrong(&setting, value, &self.origin(event_type.span()), REMEDY));
            };
            let mut given = Vec::new();
            for (field, value) in fields {
                let setting = format!("{setting}.{}", field.get_ref());
                let Some(name) = EVENT_KEYS.into_iter().find(|name| name == field.get_ref()) else {
                    let remedy = suggest(field.get_ref(), EVENT_KEYS.into_iter());
                    return Err(self.unknown(&setting, field.span(), remedy));
                };
                let origin = self.origin(field.span());
                let text = match (name, value.get_ref()) {
                    ("history", DeValue::Integer(count)) => count.to_string(),
                    ("history", _) => {
                        return Err(self.wrong(&setting, value, &origin, "give a number of events"));
                    }
                    (_, DeValue::String(text)) => text.clone().into_owned(),
                    ("class", _) => {
                        return Err(self.wrong(&setting, value, &origin, "give a string"));
                    }
                    ("pace", _) => {
                        return Err(self.wrong(&setting, value, &origin, "give events a second, such as \"10/s\""));
                    }
                    _ => {
                        return Err(self.wrong(&setting, value, &origin, "give a duration such as \"5s\""));
                    }
                };
                given.push((name, Raw { values: vec![text], origin }));
            }
            layers.events.entry(event_type.get_ref().clone().into_owned()).or_default().extend(given);
        }
        Ok(())
    }
}
