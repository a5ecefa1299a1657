//! `--print-config`: the settings as TOML that `--config` would read, with where each came from.

use super::layers::{Layers, Raw, Source};
use super::listing::LISTING;
use super::secret::mask;
use super::setting::{Setting, Shape};
use super::{Role, Settings};
use serde_json::json;
use std::fmt::Write;

impl Settings {
    /// The settings as TOML, `key = value  # from where` a line. Passwords in URLs are `***`; a
    /// setting without a value is a comment.
    pub fn to_toml(&self) -> String {
        let mut toml = format!("# fanfare {}\n", self.role);
        for (name, value, origin) in self.rows() {
            match value {
                Some(value) => writeln!(toml, "{name} = {value}  # {origin}"),
                None => writeln!(toml, "# {name} is not set"),
            }
            .expect("a String takes all");
        }
        // Tables come last, since what follows one belongs to it.
        for hook in self.hook_rows() {
            toml.push_str("[[hooks]]\n");
            for (name, value, origin) in hook {
                writeln!(toml, "{name} = {value}  # {origin}").expect("a String takes all");
            }
        }
        toml
    }

    /// The same as JSON, for the operators' page.
    pub fn to_json(&self) -> String {
        let mut rows = self.rows();
        for (index, hook) in self.hook_rows().enumerate() {
            let named = |(name, value, origin)| (format!("hooks[{index}].{name}"), Some(value), origin);
            rows.extend(hook.into_iter().map(named));
        }
        let row = |(name, value, origin)| json!({"name": name, "value": value, "from": origin});
        json!({"role": self.role.to_string(), "settings": rows.into_iter().map(row).collect::<Vec<_>>()}).to_string()
    }

    /// Each setting with its value as TOML has it, if it has one, and where that came from.
    fn rows(&self) -> Vec<(String, Option<String>, String)> {
        let mut rows = Vec::new();
        for setting in LISTING {
            let before = rows.len();
            let given = lines(setting, &self.layers).filter(|(_, _, origin)| self.applies(setting.name, origin));
            rows.extend(given.map(|(name, value, origin)| (name, Some(value), said(origin))));
            if rows.len() == before {
                rows.push((setting.name.to_owned(), None, String::new()));
            }
        }
        for (event_type, event) in &self.events {
            for (field, value) in event.fields() {
                let given = self.layers.events.get(event_type).and_then(|given| given.get(field));
                let origin = given.map_or(&Source::Default, |raw| &raw.origin);
                rows.push((format!("events.{}.{field}", key(event_type)), Some(value.to_string()), said(origin)));
            }
        }
        rows
    }

    /// The same of each hook, whose keys have no place among the others.
    fn hook_rows(&self) -> impl Iterator<Item = Vec<(&str, String, String)>> {
        self.layers.hooks.iter().map(|given| {
            let row = |(name, raw): (&&'static str, &Raw)| {
                let shape = if *name == "events" { Shape::List } else { Shape::Text };
                (*name, value(shape, raw), said(&raw.origin))
            };
            given.iter().map(row).collect()
        })
    }

    /// The defaults of `kv` and `db` are for `all`; the other roles must be told.
    fn applies(&self, name: &str, origin: &Source) -> bool {
        self.role == Role::All || *origin != Source::Default || !matches!(name, "kv" | "db")
    }
}

impl Setting {
    /// The setting as a line of the file, with its default, or an example where it has none.
    pub fn to_toml(&self) -> String {
        let mut layers = Layers::default();
        layers.set(self, vec![self.example().to_owned()], Source::Default).expect("the example is one");
        lines(self, &layers).map(|(name, value, _)| format!("{name} = {value}")).collect()
    }
}

/// What a setting was given by its names, and where each came from.
fn lines<'a>(setting: &'a Setting, layers: &'a Layers) -> impl Iterator<Item = (String, String, &'a Source)> {
    layers.named(setting.name).map(|(name, raw)| {
        let name = if setting.is_named() { format!(".{}", key(name)) } else { String::new() };
        (format!("{}{name}", setting.name), value(setting.shape, raw), &raw.origin)
    })
}

/// In words. A file's name may hold a line break, which must not end a comment.
fn said(origin: &Source) -> String {
    origin.to_string().replace(char::is_control, "?")
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { string(name) }
}

fn string(text: &str) -> String {
    // JSON's escapes are a subset of those of TOML's basic strings, all but DEL, which JSON leaves bare.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn value(shape: Shape, raw: &Raw) -> String {
    let texts: Vec<String> = raw.values.iter().map(|text| string(&mask(text))).collect();
    match shape {
        Shape::Switch => raw.values.iter().any(|text| text == "true" || text == "1").to_string(),
        Shape::Text | Shape::Number | Shape::Named => texts.concat(),
        Shape::List | Shape::NamedLists => format!("[{}]", texts.join(", ")),
    }
}
