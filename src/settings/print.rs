//! `--print-config`: the settings as TOML that `--config` would read, with where each came from.

use super::secret::mask;
use super::source::{KEYS, Raw, Shape, Source};
use super::{Role, Settings};
use std::fmt::Write;

impl Settings {
    /// The settings as TOML, `key = value  # from where` a line. Passwords in URLs are `***`; a
    /// setting without a value is a comment.
    pub fn to_toml(&self) -> String {
        let mut toml = format!("# fanfare {}\n", self.role);
        for key in &KEYS {
            if let Some(named) = self.layers.named.get(key.name) {
                for (name, raw) in named {
                    line(&mut toml, &[key.name, name], &value(key.name, key.shape, raw), &raw.origin);
                }
            } else if let Some(raw) = self.layers.plain.get(key.name).filter(|raw| self.applies(key.name, raw)) {
                line(&mut toml, &[key.name], &value(key.name, key.shape, raw), &raw.origin);
            } else {
                writeln!(toml, "# {} is not set", key.name).expect("a String takes all");
            }
        }
        for (event_type, event) in &self.events {
            for (field, value) in event.fields() {
                let given = self.layers.events.get(event_type).and_then(|given| given.get(field));
                let origin = given.map_or(&Source::Default, |raw| &raw.origin);
                line(&mut toml, &["events", event_type, field], &value, origin);
            }
        }
        toml
    }

    /// The defaults of `kv` and `db` are for `all`; the other roles must be told.
    fn applies(&self, name: &str, raw: &Raw) -> bool {
        self.role == Role::All || raw.origin != Source::Default || !matches!(name, "kv" | "db")
    }
}

fn line(toml: &mut String, path: &[&str], value: &str, origin: &Source) {
    let path: Vec<String> = path.iter().map(|part| key(part)).collect();
    // A file's name may hold a line break, which must not end the comment.
    let origin = origin.to_string().replace(char::is_control, "?");
    writeln!(toml, "{} = {value}  # {origin}", path.join(".")).expect("a String takes all");
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { string(name) }
}

fn string(text: &str) -> String {
    // JSON's escapes are a subset of those of TOML's basic strings, all but DEL, which JSON leaves bare.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn value(name: &str, shape: Shape, raw: &Raw) -> String {
    let texts: Vec<String> = raw.values.iter().map(|text| string(&mask(text))).collect();
    match shape {
        Shape::Switch => raw.values.iter().any(|text| text == "true" || text == "1").to_string(),
        Shape::Text | Shape::Number => texts.concat(),
        Shape::Named if name != "peer" => texts.concat(),
        Shape::List | Shape::Named => format!("[{}]", texts.join(", ")),
    }
}
