//! Who may do what, and from where: typed values, each parsed from one text.

use super::SettingsError;
use super::layers::{Fault, Field, Layers, fault};
use super::values::{one_of, time};
use crate::limits::{AUTHORIZE_DEADLINE, AUTHORIZE_KEEP_MAX, TOKEN_EXPIRY_MAX};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Whose pages may use the API from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Anyone's (`*`).
    Any,
    /// Those of these origins, as browsers write them: `https://example.com`. None may be listed.
    Listed(Vec<String>),
}

/// A file with keys, which are looked at when they are used.
pub(super) fn key_file(path: &str) -> Result<PathBuf, Fault> {
    match std::fs::read(path) {
        Ok(key) if key.trim_ascii().is_empty() => fault("the file is empty", "give a file with a key"),
        Ok(_) => Ok(PathBuf::from(path)),
        Err(error) => fault(error.to_string(), "give a file that this user may read"),
    }
}

/// Whether tokens are asked for.
pub(super) fn auth(text: &str) -> Result<bool, Fault> {
    one_of(text, &[("none", false), ("jwt", true)], "not a way to tell who may do what", "give none or jwt")
}

/// The value of a claim of tokens.
pub(super) fn claim(text: &str) -> Result<String, Fault> {
    match text.trim() {
        "" => fault("it says nothing", "give the text that tokens have, such as https://id.example"),
        text => Ok(text.to_owned()),
    }
}

/// Where an issuer serves its keys.
pub(super) fn key_url(text: &str) -> Result<Url, Fault> {
    http_url(text, "give one such as https://id.example/.well-known/jwks.json")
}

/// Where a collector of OpenTelemetry is.
pub(super) fn otlp_url(text: &str) -> Result<Url, Fault> {
    http_url(text, "give one such as http://127.0.0.1:4318")
}

fn http_url(text: &str, remedy: &str) -> Result<Url, Fault> {
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "https" | "http") => fault("neither https: nor http:", remedy),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            fault("it holds a name or a password", remedy)
        }
        Ok(url) => Ok(url),
        Err(error) => fault(error.to_string(), remedy),
    }
}

/// The longest life of a token.
pub(super) fn life(text: &str) -> Result<Duration, Fault> {
    let fits = |life: Duration| life.as_secs() > 0 && life <= TOKEN_EXPIRY_MAX;
    time(text, fits, "out of bounds", "give 1s to 3653d, as long as the longest-lived of your tokens")
}

/// How long a server that is asked has for its answer.
pub(super) fn deadline(text: &str) -> Result<Duration, Fault> {
    let fits = |time: Duration| (AUTHORIZE_DEADLINE.0..=AUTHORIZE_DEADLINE.1).contains(&time);
    time(text, fits, "out of bounds", "give 50ms to 10s")
}

/// How long its answers are kept.
pub(super) fn keep(text: &str) -> Result<Duration, Fault> {
    time(text, |time| time <= AUTHORIZE_KEEP_MAX, "longer than a day", "give 0s to 24h, such as 1m")
}

/// Whether what it does not answer is allowed.
pub(super) fn away(text: &str) -> Result<bool, Fault> {
    one_of(text, &[("refuse", false), ("allow", true)], "neither refuse nor allow", "give refuse or allow")
}

/// A header of requests that it is told.
pub(super) fn header(text: &str) -> Result<&'static str, Fault> {
    let known = ["cookie", "authorization", "origin"].map(|name| (name, name));
    one_of(&text.to_ascii_lowercase(), &known, "not a header that can be told", "give cookie, authorization or origin")
}

/// A cookie's name: a token of RFC 9110.
pub(super) fn cookie(text: &str) -> Result<String, Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    fault("not a cookie's name", "give letters, digits, _ and -, such as fanfare_token")
}

/// An origin as browsers send it, or `*`.
pub(super) fn origin(text: &str) -> Result<String, Fault> {
    const REMEDY: &str = "give origins such as https://example.com, or * alone";
    if text == "*" {
        return Ok(text.to_owned());
    }
    match Url::parse(text) {
        // Each is compared as a whole, so that a pattern would allow nobody.
        Ok(url) if url.host_str().is_some_and(|host| host.contains('*')) => {
            fault("a pattern, and origins are compared whole", REMEDY)
        }
        Ok(url) if url.origin().is_tuple() && url.as_str() == format!("{}/", url.origin().ascii_serialization()) => {
            Ok(url.origin().ascii_serialization())
        }
        _ => fault("not an origin", REMEDY),
    }
}

impl Field<String> for CorsOrigins {
    fn read(
        layers: &Layers,
        name: &str,
        check: impl Fn(&str) -> Result<String, Fault>,
    ) -> Result<CorsOrigins, SettingsError> {
        let origins = Vec::read(layers, name, check)?;
        match (origins.iter().any(|origin| origin == "*"), layers.get(name)) {
            (true, _) if origins.len() == 1 => Ok(CorsOrigins::Any),
            (true, Some(raw)) => Err(raw.refuse(
                name,
                "* allows every origin, so the others say nothing",
                "give * alone, or the origins without it",
            )),
            _ => Ok(CorsOrigins::Listed(origins)),
        }
    }
}

pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
        Ok(network) => Ok(network),
        Err(_) => fault("neither an IP address nor a network", "give ones such as 10.0.0.7 or 10.0.0.0/8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        assert_eq!(origin("https://Example.COM:443/").unwrap(), "https://example.com");
        assert_eq!(origin("http://localhost:3000").unwrap(), "http://localhost:3000");
        for bad in [
            "",
            "null",
            "example.com",
            "https://example.com/page",
            "file:///x",
            "**",
            "https://*.example.com",
            "https://user@example.com",
            "https://example.com/#a",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_may_be_single_addresses() {
        assert!(network("10.0.0.7").unwrap().contains(&"10.0.0.7".parse::<IpAddr>().unwrap()));
        assert!(network("10.0.0.0/8").unwrap().contains(&"10.9.9.9".parse::<IpAddr>().unwrap()));
        assert!(!network("10.0.0.7").unwrap().contains(&"10.0.0.8".parse::<IpAddr>().unwrap()));
        for bad in ["", "10.0.0.0/33", "proxy", "10.0.0"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
