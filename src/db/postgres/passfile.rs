//! PostgreSQL's own file of passwords, `~/.pgpass`, read as libpq reads it.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::runtime::trouble::Told;

/// Where sockets of a server are by default: libpq calls a server there `localhost`.
const SOCKETS: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", "/tmp"];

/// Where it is: `PGPASSFILE`, or `.pgpass` at home.
pub(crate) fn usual() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("PGPASSFILE").or_else(|| Some(variable("HOME")?.join(".pgpass")))
}

/// The password of a server in a file that is there, for the first of the hosts that has one. What others than its owner may
/// read is not used, which the log says once a minute.
pub(crate) fn password(path: &Path, config: &Config) -> Option<String> {
    static LOGGED: Mutex<Told> = Mutex::new(Told::new());
    let metadata = fs::metadata(path).ok()?;
    let problem = match metadata.mode() & 0o077 {
        _ if !metadata.is_file() => "it is no file",
        0 => return find(&fs::read_to_string(path).ok()?, config),
        _ => "others than its owner may use it: chmod 600",
    };
    if LOGGED.lock().is_ok_and(|mut told| told.fails(Instant::now())) {
        tracing::warn!(path = %path.display(), problem, "a file of passwords for PostgreSQL is not used");
    }
    None
}

fn find(text: &str, config: &Config) -> Option<String> {
    let system = || std::env::var("USER").unwrap_or_default();
    let user = config.get_user().map_or_else(|| Cow::Owned(system()), Cow::Borrowed);
    let name = config.get_dbname().unwrap_or(&user);
    let named = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => Cow::Borrowed(name.as_str()),
        Host::Unix(folder) if SOCKETS.iter().any(|known| folder == Path::new(known)) => "localhost".into(),
        Host::Unix(folder) => folder.to_string_lossy(),
    });
    let mut hosts: Vec<Cow<'_, str>> = named.collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(|address| Cow::Owned(address.to_string())));
    }
    let ports = config.get_ports();
    hosts.iter().enumerate().find_map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432).to_string();
        let wanted = [host, &*port, name, &*user];
        text.lines().find_map(|line| password_of(line, &wanted))
    })
}

/// The password of a line for `host:port:name:user`, each a text or `*`. A backslash takes the character behind it for what it is.
fn password_of(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (field, behind) = split(rest)?;
        if field != "*" && unescaped(field) != *wanted {
            return None;
        }
        rest = behind;
    }
    Some(unescaped(rest)).filter(|password| !password.is_empty())
}

/// A field, and what is behind its colon.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let colon = text.bytes().position(|byte| {
        let ends = byte == b':' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((&text[..colon], &text[colon + 1..]))
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let next = || {
        characters.next().map(|character| if character == '\\' { characters.next().unwrap_or('\\') } else { character })
    };
    std::iter::from_fn(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn found(text: &str, url: &str) -> Option<String> {
        find(text, &url.parse().unwrap())
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# db:5432:fanfare:ana:commented\n\
            \n\
            db:5432:fanfare:bo:of bo\r\n\
            other:*:*:*:of other\n\
            db:*:fanfare:*:with \\: and \\\\ and : in it\n\
            *:5433:*:ana:of the port\n\
            localhost:*:*:ana:of the socket\n\
            too:few:fields\n\
            empty:*:*:*:\n\
            *:*:*:carl:of carl";
        for (url, password) in [
            ("postgres://bo@db/fanfare", Some("of bo")),
            ("postgres://ana@db/fanfare", Some("with : and \\ and : in it")),
            ("postgres://ana@db/more", None),
            ("postgres://ana@db:5433/more", Some("of the port")),
            ("postgres://ana@other/x", Some("of other")),
            ("postgres://ana@first,other/x", Some("of other")),
            ("postgres:///x?host=/run/postgresql&user=ana", Some("of the socket")),
            ("postgres:///x?host=/elsewhere&user=ana", None),
            ("postgres://ana@empty/x", None),
            ("postgres://carl@empty/x", Some("of carl")),
            ("postgres://carl@[::1]:7/x", Some("of carl")),
        ] {
            assert_eq!(found(text, url).as_deref(), password, "{url}");
        }
        assert_eq!(found("db:5432:ana:ana:its own", "postgres://ana@db").as_deref(), Some("its own"));
        assert_eq!(found("\\*:*:*:*:of a star", "postgres://ana@db/x"), None);
    }

    #[test]
    fn what_others_may_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "*:*:*:*:hunter2\n").unwrap();
        let config = "postgres://ana@db/x".parse().unwrap();
        for (mode, taken) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(password(file.path(), &config).is_some(), taken, "{mode:o}");
        }
        assert_eq!(password(Path::new("/nowhere/.pgpass"), &config), None);
        assert_eq!(password(Path::new("/"), &config), None);
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_is_found(user in "[^\r\n\0]{1,9}", word in "[^\r\n\0]{1,9}") {
            let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:").replace('*', "\\*");
            let line = format!("*:*:*:{}:{}", escape(&user), escape(&word));
            prop_assert_eq!(password_of(&line, &["db", "1", "x", &user]), Some(word));
            prop_assert_eq!(password_of(&line, &["db", "1", "x", &format!("{user}x")]), None);
        }
    }
}
