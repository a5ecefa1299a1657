//! Typed values of settings, each parsed from one text.

use super::layers::{Fault, fault};
use super::secret::{Secret, mask};
use crate::kv::redis;
use crate::limits::IDLE_TIMEOUT_MAX;
use crate::wire::node_url::NodeUrl;
use humantime::parse_duration;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::{Host, Url};

/// The largest core number and count: what the kernel's affinity mask of this C library can name.
const CORES_MAX: usize = 1024;

/// The longest drain: an hour, so that a slip such as `30d` is found before it keeps a box from restarting.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// The cores on which shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All that the process may use.
    All,
    /// This many of those that the process may use.
    Count(NonZeroUsize),
    /// Those with these numbers, ascending, each once, at least one.
    List(Vec<usize>),
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Fault> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) => fault(
            "not an IP address with a port",
            "give one such as 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for every address of the box",
        ),
    }
}

/// Whether an address stays on this box, also one of IPv4 written as IPv6.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a URL's host stays on this box.
pub(super) fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => is_loopback(address.into()),
        Some(Host::Ipv6(address)) => is_loopback(address.into()),
        None => false,
    }
}

/// The URL of a node: scheme, host and port only.
pub(super) fn node_url(text: &str) -> Result<Url, Fault> {
    const REMEDY: &str = "give one such as http://10.0.0.5:8081";
    match NodeUrl::parse(text) {
        Ok(url) => Ok(url.url().clone()),
        Err(error) => fault(error.to_string(), REMEDY),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() { fault("no path", "give the path of a file") } else { Ok(PathBuf::from(text)) }
}

/// A file that is there, and may be read later.
pub(super) fn readable(path: &str) -> Result<String, Fault> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => fault(error.to_string(), "give a file that this user may read"),
    }
}

pub(super) fn secret(path: &str) -> Result<Secret, Fault> {
    const REMEDY: &str = "give a file that holds the secret, such as `openssl rand -hex 32` prints, and perhaps the previous \
                          one on the next line";
    Secret::read(Path::new(path)).or_else(|problem| fault(problem, REMEDY))
}

/// The value of the one of these that the text is.
pub(super) fn one_of<T: Copy>(text: &str, known: &[(&str, T)], problem: &str, remedy: &str) -> Result<T, Fault> {
    let found = known.iter().find(|(name, _)| *name == text);
    found.map_or_else(|| fault(problem, remedy), |(_, value)| Ok(*value))
}

pub(super) fn switch(text: &str) -> Result<bool, Fault> {
    let known = [("true", true), ("1", true), ("false", false), ("0", false)];
    one_of(text, &known, "neither true nor false", "give true or false")
}

pub(super) fn on_or_off(text: &str) -> Result<bool, Fault> {
    one_of(text, &[("on", true), ("off", false)], "neither on nor off", "give on or off")
}

pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    match parse_duration(text) {
        Ok(duration) => Ok(duration),
        Err(_) => fault("not a duration", "give a number and a unit, such as 500ms, 30s or 1m"),
    }
}

/// A duration of which `fits` is true.
pub(super) fn time(
    text: &str,
    fits: impl Fn(Duration) -> bool,
    problem: &str,
    remedy: impl Into<String>,
) -> Result<Duration, Fault> {
    let time = duration(text)?;
    if fits(time) { Ok(time) } else { fault(problem, remedy) }
}

pub(super) fn drain(text: &str) -> Result<Duration, Fault> {
    time(text, |drain| drain <= DRAIN_MAX, "longer than an hour", "give 0s to 1h, such as 30s")
}

/// Whole seconds, since clients are told of it in those (`Keep-Alive: timeout=`).
pub(super) fn idle_timeout(text: &str) -> Result<Duration, Fault> {
    let fits = |timeout: Duration| timeout.subsec_nanos() == 0 && !timeout.is_zero() && timeout <= IDLE_TIMEOUT_MAX;
    time(text, fits, "not whole seconds from one to an hour", "give 1s to 1h, such as 75s")
}

pub(super) fn trace_sample(text: &str) -> Result<u32, Fault> {
    text.parse()
        .or_else(|_| fault("not a whole number up to 4294967295", "give 1000 for one event in 1,000, or 0 for none"))
}

pub(super) fn cores(text: &str) -> Result<Cores, Fault> {
    let bad = || {
        fault(
            format!("neither a count (1 to {CORES_MAX}) nor a list of cores (0 to {})", CORES_MAX - 1),
            "give all, a count such as 2, or a list such as 0,2-3 (2-2 for core 2 alone)",
        )
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    if text == "all" {
        return Ok(Cores::All);
    }
    if let Some(count) = number(text) {
        return match NonZeroUsize::new(count) {
            Some(count) if count.get() <= CORES_MAX => Ok(Cores::Count(count)),
            _ => bad(),
        };
    }
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last < CORES_MAX => list.extend(first..=last),
            _ => return bad(),
        }
    }
    let given = list.len();
    list.sort_unstable();
    list.dedup();
    if list.len() < given {
        return fault("a core is listed twice", "give each core once, such as 0,2-3");
    }
    Ok(Cores::List(list))
}

/// The key-value store.
#[derive(Clone, PartialEq, Eq)]
pub enum Kv {
    /// Inside the process; for `all` only.
    Memory,
    /// A Redis or Valkey at this URL, which may hold a password: `Debug` masks it.
    Redis(String),
}

/// The database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL at this URL, which may hold a password: `Debug` masks it.
    Postgres(String),
}

impl fmt::Debug for Kv {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kv::Memory => out.write_str("Memory"),
            Kv::Redis(url) => write!(out, "Redis({:?})", mask(url)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(out, "Sqlite({path:?})"),
            Database::Postgres(url) => write!(out, "Postgres({:?})", mask(url)),
        }
    }
}

pub(super) fn kv(text: &str) -> Result<Kv, Fault> {
    if text == "memory" {
        return Ok(Kv::Memory);
    }
    match redis::Address::parse(text) {
        Ok(_) => Ok(Kv::Redis(text.to_owned())),
        Err(error) => {
            fault(error.to_string(), format!("give memory, or {}", redis::REMEDY.trim_start_matches("give ")))
        }
    }
}

pub(super) fn database(text: &str) -> Result<Database, Fault> {
    const REMEDY: &str = "give sqlite:PATH, such as sqlite:/var/lib/fanfare/fanfare.db, or postgres://HOST/NAME";
    if let Some(path) = text.strip_prefix("sqlite:") {
        return match path {
            "" => fault("no path", REMEDY),
            // SQLite reads these as databases in memory or as URIs that can ask for one; a like that
            // is answered must be on disk.
            _ if path.starts_with(':') || path.starts_with("file:") => fault("not a path on disk", REMEDY),
            _ => Ok(Database::Sqlite(PathBuf::from(path))),
        };
    }
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => {
            if url.host_str().is_none_or(str::is_empty) && !url.query_pairs().any(|(name, _)| name == "host") {
                return fault("a URL without a host", REMEDY);
            }
            Ok(Database::Postgres(text.to_owned()))
        }
        _ => fault("not a database that Fanfare knows", REMEDY),
    }
}

/// The URL of a database, whose password is in a file.
pub(super) fn with_password_file(url: &str, path: &str) -> Result<String, Fault> {
    let mut parsed = Url::parse(url).expect("it was parsed before");
    if parsed.password().is_some() || parsed.query_pairs().any(|(name, _)| name == "password") {
        return fault("--db has a password, too", "leave one of them out");
    }
    parsed.query_pairs_mut().append_pair("password_file", path);
    // Of other parts it is as it was given.
    let query = parsed.query().unwrap_or_default().replace('+', "%20");
    Ok(format!("{}?{query}", url.split_once('?').map_or(url, |(base, _)| base)))
}

/// By what shards wait for sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring, or epoll where that is not to be had.
    Auto,
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

pub(super) fn io(text: &str) -> Result<Io, Fault> {
    let known = [("auto", Io::Auto), ("uring", Io::Uring), ("epoll", Io::Epoll)];
    one_of(text, &known, "not a way to wait for sockets", "give auto, uring or epoll")
}

/// Whether it is 1 to 32 of a-z, 0-9 and these.
fn is_name(text: &str, others: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || others.contains(letter);
    (1..=32).contains(&text.len()) && text.chars().all(fits)
}

/// The name of a data center. It begins every position, so it has no colon.
pub(super) fn data_center(text: &str) -> Result<String, Fault> {
    match is_name(text, "-") {
        true => Ok(text.to_owned()),
        false => fault("not a data center's name", "give 1 to 32 of a-z, 0-9 and -, such as eu-1"),
    }
}

pub(super) fn reaction(text: &str) -> Result<String, Fault> {
    match is_name(text, "_-") {
        true => Ok(text.to_owned()),
        false => fault("not a reaction's name", "give 1 to 32 of a-z, 0-9, _ and -, such as like"),
    }
}

/// Whether a word of a log filter names a part of the program: this crate, or a module of any.
fn is_part(word: &str) -> bool {
    word == "fanfare" || word.contains("::")
}

/// A filter of log lines, as `RUST_LOG` has them.
pub(super) fn log_filter(text: &str) -> Result<String, Fault> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A word alone may also be a part of the program, which then logs all it has. One that is neither is a slip of the pen, and
    // would log nothing else.
    let is_known = |word: &str| {
        word.is_empty() || word.contains(['=', '[']) || LEVELS.contains(&&*word.to_ascii_lowercase()) || is_part(word)
    };
    let (lines, _) = super::log::split(text)?;
    if let Some(word) = lines.split(',').map(str::trim).find(|word| !is_known(word)) {
        let levels = LEVELS.join(", ");
        return fault(
            format!("{word:?} is no level"),
            format!("give one of {levels}, or a part's, such as fanfare=debug"),
        );
    }
    match tracing_subscriber::EnvFilter::try_new(lines) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => fault(format!("not a log filter ({error})"), "give one such as info or fanfare=debug"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_count_or_a_list() {
        assert_eq!(cores("all").unwrap(), Cores::All);
        assert_eq!(cores("2").unwrap(), Cores::Count(NonZeroUsize::new(2).unwrap()));
        assert_eq!(cores("0,2-3").unwrap(), Cores::List(vec![0, 2, 3]));
        assert_eq!(cores("7-7").unwrap(), Cores::List(vec![7]));
        for bad in ["", "0", "-1", "1025", "0,0", "0-2,1", "3-2", "0-99999999999", "a", "1,", "1.5"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stores_are_known_and_durable() {
        assert_eq!(kv("memory").unwrap(), Kv::Memory);
        for good in ["redis://kv", "rediss://ana:pw@kv:6379/1", "redis+cluster://kv:6379?node=kv2:6379"] {
            assert_eq!(kv(good).unwrap(), Kv::Redis(good.to_owned()));
        }
        for bad in ["", "redis", "redis://", "http://kv", "Memory"] {
            assert!(kv(bad).is_err(), "{bad}");
        }
        assert_eq!(database("sqlite:a/b.db").unwrap(), Database::Sqlite("a/b.db".into()));
        for good in ["postgres://db/fanfare", "postgresql:///f?host=/run/postgresql"] {
            assert_eq!(database(good).unwrap(), Database::Postgres(good.to_owned()));
        }
        let with_file = |url| with_password_file(url, "/etc/a b+c");
        let file = "password_file=%2Fetc%2Fa%20b%2Bc";
        assert_eq!(with_file("postgres://u@h/f").unwrap(), format!("postgres://u@h/f?{file}"));
        assert_eq!(with_file("postgres:///f?host=%2Frun").unwrap(), format!("postgres:///f?host=%2Frun&{file}"),);
        assert!(with_file("postgres://u:p@h/f").is_err() && with_file("postgres://h/f?password=p").is_err());
        for bad in [
            "",
            "fanfare.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:file:x?mode=memory",
            "mysql://db/x",
            "postgres:///f",
        ] {
            assert!(database(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let shown =
            format!("{:?} {:?}", kv("redis://:hunter2@kv").unwrap(), database("postgres://a:hunter2@db/f").unwrap());
        assert_eq!(shown, "Redis(\"redis://:***@kv\") Postgres(\"postgres://a:***@db/f\")");
    }

    #[test]
    fn node_urls_are_bare() {
        assert_eq!(node_url("http://10.0.0.5:8081").unwrap().port(), Some(8081));
        assert_eq!(node_url("https://[::1]/").unwrap().host_str(), Some("[::1]"));
        for bad in
            ["", "10.0.0.5:8081", "ftp://h", "http://h:0", "http://u:p@h", "http://h/x", "http://h?x", "http://h#x"]
        {
            assert!(node_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_in_all_its_spellings() {
        for near in ["http://127.9.9.9", "http://[::1]", "http://localhost:1", "http://[::ffff:127.0.0.1]"] {
            assert!(is_loopback_url(&node_url(near).unwrap()), "{near}");
        }
        for far in ["http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example", "http://[::2]"] {
            assert!(!is_loopback_url(&node_url(far).unwrap()), "{far}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1m").unwrap(), Duration::from_secs(60));
        assert_eq!(drain("0s").unwrap(), Duration::ZERO);
        for bad in ["", "30", "-5s", "5 parsecs", "s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(drain("61m").is_err());
        assert_eq!(idle_timeout("2m").unwrap(), Duration::from_secs(120));
        for bad in ["0s", "500ms", "1500ms", "61m", "75"] {
            assert!(idle_timeout(bad).is_err(), "{bad}");
        }
    }
}
