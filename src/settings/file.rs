//! The configuration file: TOML to the texts of [`super::layers`], each with its line.

use super::SettingsError;
use super::events::EVENT_KEYS;
use super::hooks::HOOK_KEYS;
use super::layers::{Fault, Layers, Raw, Source, parts};
use super::listing::LISTING;
use super::setting::{Setting, Shape, suggest};
use std::collections::BTreeMap;
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
        if name.get_ref() == "hooks" {
            file.hooks(layers, value, &origin)?;
            continue;
        }
        let Some(setting) = LISTING.iter().find(|setting| setting.name == name.get_ref()) else {
            let known = LISTING.iter().map(|setting| setting.name).chain(["events", "hooks"]);
            return Err(file.unknown(name.get_ref(), name.span(), suggest(name.get_ref(), known)));
        };
        if setting.is_named() {
            file.named(layers, setting, value, origin)?;
        } else {
            let values = file.texts(&setting.flag(), setting, value, &origin)?;
            layers.lay(setting, [(String::new(), Raw { values, origin })]);
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
        let problem = format!("a value of type {}", value.get_ref().type_str());
        let fault = Fault { problem, remedy: remedy.to_owned() };
        origin.refuse(setting, self.text.get(value.span()).unwrap_or_default(), fault)
    }

    /// The texts of a value, whose name in messages is `name`.
    fn texts(
        &self,
        name: &str,
        setting: &Setting,
        value: &Spanned<DeValue<'_>>,
        origin: &Source,
    ) -> Result<Vec<String>, SettingsError> {
        let remedy = match setting.shape {
            Shape::Text | Shape::Named => "give a string",
            Shape::Number => "give a whole number",
            Shape::Switch => "give true or false, without quotes",
            Shape::List | Shape::NamedLists => "give an array of strings",
        };
        match (setting.shape, value.get_ref()) {
            (Shape::Switch, DeValue::Boolean(on)) => Ok(vec![on.to_string()]),
            (Shape::Switch, _) => Err(self.wrong(name, value, origin, remedy)),
            (_, DeValue::String(text)) => Ok(parts(setting, text)),
            (Shape::Number, DeValue::Integer(count)) => Ok(vec![count.to_string()]),
            (Shape::List | Shape::NamedLists, DeValue::Array(items)) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.clone().into_owned()),
                    _ => Err(self.wrong(name, item, origin, remedy)),
                })
                .collect(),
            _ => Err(self.wrong(name, value, origin, remedy)),
        }
    }

    fn named(
        &self,
        layers: &mut Layers,
        setting: &Setting,
        value: &Spanned<DeValue<'_>>,
        origin: Source,
    ) -> Result<(), SettingsError> {
        let DeValue::Table(table) = value.get_ref() else {
            let remedy = format!("give a table, such as [{}] with a line for each name", setting.name);
            return Err(self.wrong(&setting.flag(), value, &origin, &remedy));
        };
        for (name, value) in table {
            let origin = self.origin(name.span());
            let values = self.texts(&format!("{}.{}", setting.name, name.get_ref()), setting, value, &origin)?;
            layers.lay(setting, [(name.get_ref().clone().into_owned(), Raw { values, origin })]);
        }
        Ok(())
    }

    fn hooks(&self, layers: &mut Layers, value: &Spanned<DeValue<'_>>, origin: &Source) -> Result<(), SettingsError> {
        const REMEDY: &str = "give a table for each hook, headed by [[hooks]]";
        let DeValue::Array(hooks) = value.get_ref() else {
            return Err(self.wrong("hooks", value, origin, REMEDY));
        };
        for hook in hooks {
            let DeValue::Table(fields) = hook.get_ref() else {
                return Err(self.wrong("hooks", hook, origin, REMEDY));
            };
            let mut given = BTreeMap::new();
            for (field, value) in fields {
                let setting = format!("hooks.{}", field.get_ref());
                let Some((name, remedy)) = HOOK_KEYS.into_iter().find(|(name, _)| name == field.get_ref()) else {
                    let remedy = suggest(field.get_ref(), HOOK_KEYS.into_iter().map(|(name, _)| name));
                    return Err(self.unknown(&setting, field.span(), remedy));
                };
                let origin = self.origin(field.span());
                let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                    DeValue::String(text) => Ok(text.clone().into_owned()),
                    _ => Err(self.wrong(&setting, value, &origin, remedy)),
                };
                let values = match value.get_ref() {
                    DeValue::Array(items) if name == "events" => items.iter().map(text).collect::<Result<_, _>>()?,
                    _ if name == "events" => return Err(self.wrong(&setting, value, &origin, remedy)),
                    _ => vec![text(value)?],
                };
                given.insert(name, Raw { values, origin });
            }
            if given.is_empty() {
                return Err(self.wrong("hooks", hook, origin, "give it a url, events and a secret_file"));
            }
            layers.hooks.push(given);
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
                let Some((name, remedy)) = EVENT_KEYS.into_iter().find(|(name, _)| name == field.get_ref()) else {
                    let remedy = suggest(field.get_ref(), EVENT_KEYS.into_iter().map(|(name, _)| name));
                    return Err(self.unknown(&setting, field.span(), remedy));
                };
                let origin = self.origin(field.span());
                let text = match (name, value.get_ref()) {
                    ("history", DeValue::Integer(count)) => count.to_string(),
                    (_, DeValue::String(text)) if name != "history" => text.clone().into_owned(),
                    _ => return Err(self.wrong(&setting, value, &origin, remedy)),
                };
                given.push((name, Raw { values: vec![text], origin }));
            }
            layers.events.entry(event_type.get_ref().clone().into_owned()).or_default().extend(given);
        }
        Ok(())
    }
}
