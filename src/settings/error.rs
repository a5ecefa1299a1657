//! Errors that end a process before it serves.

use super::Source;
use std::path::PathBuf;

/// A setting that will not do. Each variant's text names the setting, its value, where the value
/// came from, and what would do; none shows a secret. A process that gets one exits with status 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that cannot be used.
    #[error("{setting} {value:?} ({origin}): {problem}; {remedy}")]
    Invalid {
        /// The flag, such as `--listen`, or the key of a setting without one.
        setting: String,
        /// The value as given, with passwords replaced by `***`.
        value: String,
        /// Where the value came from; boxed, since every result would carry its size.
        origin: Box<Source>,
        /// What is wrong with it.
        problem: String,
        /// What would do.
        remedy: String,
    },
    /// A value that is absent and needed.
    #[error("{setting} is not set, and {problem}; {remedy}")]
    Missing {
        /// The flag, such as `--dispatchers`.
        setting: String,
        /// Who needs it.
        problem: String,
        /// What would do.
        remedy: String,
    },
    /// A key in the file that is not a setting.
    #[error("unknown key {key} in {}, line {line}; {remedy}", path.display())]
    UnknownKey {
        /// The key with its tables, such as `events.like.clas`.
        key: String,
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The nearest known key, or all of them.
        remedy: String,
    },
    /// A file that is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says, with the key if there is one.
        message: String,
    },
    /// A configuration file that cannot be read.
    #[error("--config {} ({origin}): {error}; give a TOML file that this user may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where its name came from.
        origin: Source,
        /// What the system says.
        error: std::io::Error,
    },
}

impl SettingsError {
    /// A value that is absent and needed.
    pub(crate) fn missing(setting: &str, problem: &str, remedy: &str) -> SettingsError {
        let [setting, problem, remedy] = [setting, problem, remedy].map(str::to_owned);
        SettingsError::Missing { setting, problem, remedy }
    }
}
