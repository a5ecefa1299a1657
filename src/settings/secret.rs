//! What must not be shown: secrets in memory, and passwords inside other values.

use std::fmt;
use std::path::Path;

/// The longest secret that is read, in bytes: it travels in a header line with every request.
const SECRET_BYTES_MAX: usize = 1024;

/// Under this many bytes a secret is warned of: a random one of 16 bytes cannot be guessed.
pub(super) const SECRET_BYTES_GOOD: usize = 16;

/// A shared secret, never shown by `Debug`. 1 to 1,024 bytes of visible ASCII.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Reads a secret from a file, without the white space around it.
    ///
    /// # Errors
    /// Says what is wrong with the file, without showing any of it.
    pub fn read(path: &Path) -> Result<Secret, String> {
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err("the file is empty".to_owned());
        }
        if text.len() > SECRET_BYTES_MAX {
            return Err(format!("the file holds more than {SECRET_BYTES_MAX} bytes"));
        }
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err("the file holds bytes that a header cannot carry".to_owned());
        }
        let text = String::from_utf8(text.to_vec()).expect("visible ASCII is UTF-8");
        Ok(Secret(text))
    }

    /// The secret itself: for `Authorization: Bearer`, and for comparing in constant time.
    pub fn expose(&self) -> &str {
        &self.0
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
        for bad in ["", " \n", "two words", "é", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            std::fs::write(&path, bad).unwrap();
            let error = Secret::read(&path).unwrap_err();
            assert!(bad.trim().is_empty() || !error.contains(bad.trim()), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::read(&path).is_err());
    }
}
