//! `--print-config`: the settings as TOML that `--config` would read, with where each came from.

use super::layers::{Layers, Raw, Source};
use super::listing::LISTING;
use super::secret::mask;
use super::setting::{Setting, Shape};
use super::{Role, Settings};
use std::fmt::Write;

impl Settings {
    /// The settings as TOML, `key = value  # from where` a line. Passwords in URLs are `***`; a
    /// setting without a value is a comment.
    pub fn to_toml(&self) -> String {
        let mut toml = format!("# fanfare {}\n", self.role);
        for setting in LISTING {
            let before = toml.len();
            for (line, origin) in lines(setting, &self.layers).filter(|(_, origin)| self.applies(setting.name, origin))
            {
                said(&mut toml, &line, origin);
            }
            if toml.len() == before {
                writeln!(toml, "# {} is not set", setting.name).expect("a String takes all");
            }
        }
        for (event_type, event) in &self.events {
            for (field, value) in event.fields() {
                let given = self.layers.events.get(event_type).and_then(|given| given.get(field));
                let origin = given.map_or(&Source::Default, |raw| &raw.origin);
                said(&mut toml, &format!("events.{}.{field} = {value}", key(event_type)), origin);
            }
        }
        // Tables come last, since what follows one belongs to it.
        for given in &self.layers.hooks {
            toml.push_str("[[hooks]]\n");
            for (name, raw) in given {
                let shape = if *name == "events" { Shape::List } else { Shape::Text };
                said(&mut toml, &format!("{name} = {}", value(shape, raw)), &raw.origin);
            }
        }
        toml
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
        lines(self, &layers).map(|(line, _)| line).collect()
    }
}

/// The lines of a setting, and where each came from.
fn lines<'a>(setting: &'a Setting, layers: &'a Layers) -> impl Iterator<Item = (String, &'a Source)> {
    layers.named(setting.name).map(|(name, raw)| {
        let name = if setting.is_named() { format!(".{}", key(name)) } else { String::new() };
        (format!("{}{name} = {}", setting.name, value(setting.shape, raw)), &raw.origin)
    })
}

fn said(toml: &mut String, line: &str, origin: &Source) {
    // A file's name may hold a line break, which must not end the comment.
    let origin = origin.to_string().replace(char::is_control, "?");
    writeln!(toml, "{line}  # {origin}").expect("a String takes all");
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
