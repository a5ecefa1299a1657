//! What must not be shown: secrets in memory, and passwords inside other values.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::auth::keys::KeyError;
use crate::auth::watch::Content;

/// The longest secret that is read, in bytes: it travels in a header line with every request.
const SECRET_BYTES_MAX: usize = 1024;

/// Under this many bytes a secret is warned of: a random one of 16 bytes cannot be guessed.
pub(super) const SECRET_BYTES_GOOD: usize = 16;

/// A shared secret, never shown by `Debug`. 1 to 1,024 bytes of visible ASCII. While it is rotated there is a previous one, too,
/// which is taken as well, so that nodes may learn of the new one at different moments.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    path: PathBuf,
    current: String,
    previous: Option<String>,
}

impl Secret {
    /// Reads a secret from a file, and the previous one where that follows on the next line. White space around them is left
    /// out.
    ///
    /// # Errors
    /// Says what is wrong with the file, without showing any of it.
    pub fn read(path: &Path) -> Result<Secret, String> {
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let mut secrets = lines.map(secret).collect::<Result<Vec<String>, String>>()?.into_iter();
        let current = secrets.next().ok_or("the file is empty")?;
        let previous = secrets.next();
        if secrets.next().is_some() {
            return Err("the file holds more than a current and a previous secret".to_owned());
        }
        Ok(Secret { path: path.to_owned(), current, previous })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The secret itself: for `Authorization: Bearer`.
    pub fn expose(&self) -> &str {
        &self.current
    }

    /// The one before it, while that is taken as well.
    pub fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Whether this is the secret, or the one before it; told in constant time.
    pub fn is(&self, given: &str) -> bool {
        let fits = |secret: &str| bool::from(subtle::ConstantTimeEq::ct_eq(given.as_bytes(), secret.as_bytes()));
        // Both are looked at, whichever it is.
        fits(&self.current) | self.previous.as_deref().is_some_and(fits)
    }
}

fn secret(text: &[u8]) -> Result<String, String> {
    if text.len() > SECRET_BYTES_MAX {
        return Err(format!("the file holds a secret of more than {SECRET_BYTES_MAX} bytes"));
    }
    if !text.iter().all(u8::is_ascii_graphic) {
        return Err("the file holds bytes that a header cannot carry".to_owned());
    }
    Ok(String::from_utf8(text.to_vec()).expect("visible ASCII is UTF-8"))
}

impl Content for Secret {
    const WHAT: &'static str = "secrets between nodes, of hooks or of --authorize";

    fn read(paths: &[PathBuf]) -> Result<Secret, KeyError> {
        let path = &paths[0];
        let remedy = "give a file with the secret, and perhaps the previous one on the next line";
        Secret::read(path).map_err(|problem| KeyError { path: path.clone(), problem, remedy })
    }

    fn describe(&self) -> String {
        if self.previous.is_some() { "a current and a previous one" } else { "a current one" }.to_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Replaces passwords in a URL, or in what was meant to be one, by `***`: that before the `@`, and
/// the values of parameters whose names speak of one. It works on text since a value that does not
/// parse is shown in an error, too.
pub fn mask(text: &str) -> String {
    mask_parameters(&mask_user(text))
}

fn mask_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // A password that should have been percent-encoded may hold any of `/?#@`, so the last `@` counts.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return text.to_owned();
    };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:***@{host}"),
        None => text.to_owned(),
    }
}

fn mask_parameters(text: &str) -> String {
    let ends = |character: char| character.is_whitespace() || "&;?,".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(ends).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        match word.split_once('=') {
            Some((name, _)) if speaks_of_secret(name) => {
                masked.push_str(name);
                masked.push_str("=***");
            }
            _ => masked.push_str(word),
        }
        let separator = tail.chars().next().map_or(0, char::len_utf8);
        masked.push_str(&tail[..separator]);
        rest = &tail[separator..];
    }
    masked
}

fn speaks_of_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `cluster_secret_file=…` names a path, which is no secret.
    ["password", "passwd", "secret", "token"].iter().any(|word| name.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_and_the_rest_stays() {
        for (text, masked) in [
            ("redis://ana:hunter2@kv:6379/0", "redis://ana:***@kv:6379/0"),
            ("redis://:hunter2@kv", "redis://:***@kv"),
            ("postgres://ana:hun/t@er?2@db/fanfare", "postgres://ana:***@db/fanfare"),
            ("postgres://ana@db/fanfare", "postgres://ana@db/fanfare"),
            ("postgres://db/f?user=ana&password=hunter2&x=1", "postgres://db/f?user=ana&password=***&x=1"),
            ("host=db password=hunter2 user=ana", "host=db password=*** user=ana"),
            ("rediss://kv?sentinelPassword=hunter2", "rediss://kv?sentinelPassword=***"),
            ("/etc/fanfare/secret", "/etc/fanfare/secret"),
            ("sqlite:fanfare.db", "sqlite:fanfare.db"),
        ] {
            assert_eq!(mask(text), masked, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_password_survives_however_it_is_written(password in "\\PC*", scheme in "[a-z+]{1,9}") {
            let url = format!("{scheme}://ana:{password}@kv:6379/0");
            proptest::prop_assert_eq!(mask(&url), format!("{scheme}://ana:***@kv:6379/0"));
        }
    }

    #[test]
    fn a_secret_is_trimmed_bounded_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " hunter2hunter2\n").unwrap();
        let secret = Secret::read(&path).unwrap();
        assert_eq!(secret.expose(), "hunter2hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert!(secret.previous().is_none() && secret.is("hunter2hunter2") && !secret.is("hunter2"));
        std::fs::write(&path, "\r\nhunter3hunter3 \r\n\n hunter2hunter2").unwrap();
        let secret = Secret::read(&path).unwrap();
        assert_eq!((secret.expose(), secret.previous()), ("hunter3hunter3", Some("hunter2hunter2")));
        assert!(["hunter3hunter3", "hunter2hunter2"].iter().all(|given| secret.is(given)));
        assert!(["", "hunter3hunter2", "hunter3hunter3\n"].iter().all(|given| !secret.is(given)));
        for bad in ["", " \n", "two words", "é", "one\ntwo\nthree", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            std::fs::write(&path, bad).unwrap();
            let error = Secret::read(&path).unwrap_err();
            assert!(bad.trim().is_empty() || !error.contains(bad.trim()), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::read(&path).is_err());
    }
}
