//! What the environment sets: `FANFARE_` and the name of a setting in capitals.

use super::layers::{Fault, Layers, Source};
use super::listing::LISTING;
use super::setting::suggest;
use super::{Setting, SettingsError};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Variables that begin like a setting and are read elsewhere: by this module's caller or by clients.
const OTHER_VARIABLES: [&str; 3] = ["FANFARE_CONFIG", "FANFARE_URL", "FANFARE_TOKEN"];

/// Lays what the environment sets over what is there; returns warnings of unknown variables.
pub(super) fn lay(layers: &mut Layers, variables: &BTreeMap<OsString, OsString>) -> Result<Vec<String>, SettingsError> {
    let mut warnings = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("FANFARE_")) else {
            continue;
        };
        let Some(setting) = LISTING.iter().find(|setting| setting.variable() == name) else {
            if !OTHER_VARIABLES.contains(&name) {
                let known = LISTING.iter().map(Setting::variable);
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
            let fault = Fault { problem: "not UTF-8".to_owned(), remedy: "give text in UTF-8".to_owned() };
            return Err(origin.refuse(setting.flag(), &value.to_string_lossy(), fault));
        };
        let values = match setting.is_named() {
            true => text.split(';').filter(|part| !part.trim().is_empty()).map(str::to_owned).collect(),
            false => vec![text.to_owned()],
        };
        layers.set(setting, values, origin)?;
    }
    Ok(warnings)
}
