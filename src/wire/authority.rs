//! The host and port that `Host`, `Origin` and URLs name (RFC 3986 section 3.2, RFC 9110 section 7.2). Read once, and whole: two
//! readers of one text that each cut it where they like would see two hosts.

use std::net::{IpAddr, Ipv6Addr};

/// A host and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if one stands there.
    pub port: Option<u16>,
}

/// A host.
#[derive(Debug, Clone, Copy)]
pub enum Host<'a> {
    /// A name; empty where a `Host` names nobody.
    Name(&'a str),
    /// An address, one of IPv4 also where it is written as IPv6.
    Address(IpAddr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (Host::Address(one), Host::Address(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

impl<'a> Authority<'a> {
    /// Reads one. Nothing for what is none: a user's name, a second port, a port that is no number, an address of IPv6 without its
    /// brackets, or anything but such an address in them.
    pub fn parse(text: &'a str) -> Option<Authority<'a>> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => {
                let (address, rest) = text.split_once(']')?;
                (Host::address(address.parse::<Ipv6Addr>().ok()?.into()), rest)
            }
            None => {
                let colon = text.bytes().position(|byte| byte == b':');
                let (name, rest) = text.split_at(colon.unwrap_or(text.len()));
                (Host::name(name)?, rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            // No port behind a colon is no port (RFC 3986 section 3.2.3).
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if rest.is_empty() => None,
            _ => return None,
        };
        (host != Host::Name("") || rest.is_empty()).then_some(Authority { host, port })
    }

    /// That of a URL, or of an `Origin`, of this scheme and nothing behind it.
    pub fn of_origin(origin: &'a str, scheme: &str) -> Option<Authority<'a>> {
        let rest = origin.strip_prefix(scheme)?.strip_prefix("://")?;
        Authority::parse(rest).filter(|authority| authority.host != Host::Name(""))
    }
}

impl<'a> Host<'a> {
    fn address(address: IpAddr) -> Host<'a> {
        Host::Address(address.to_canonical())
    }

    fn name(text: &'a str) -> Option<Host<'a>> {
        if text.starts_with(|first: char| first.is_ascii_digit())
            && let Ok(address) = text.parse::<std::net::Ipv4Addr>()
        {
            return Some(Host::address(address.into()));
        }
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
            match byte {
                b'%' if is_hex(rest.next()) && is_hex(rest.next()) => {}
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') => {}
                byte if b"_~!$&'()*+,;=".contains(&byte) => {}
                _ => return None,
            }
        }
        Some(Host::Name(text))
    }

    /// Whether it is this box's name or address for itself.
    pub fn is_here(&self) -> bool {
        match self {
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
            Host::Address(address) => address.is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_port_at_most_and_an_address_of_ipv6_its_brackets() {
        for (text, host, port) in [
            ("a.example", Host::Name("A.Example"), None),
            ("a.example:8080", Host::Name("a.example"), Some(8080)),
            ("a.example:", Host::Name("a.example"), None),
            ("caf%C3%A9:1", Host::Name("caf%c3%a9"), Some(1)),
            ("127.0.0.1:80", Host::Address([127, 0, 0, 1].into()), Some(80)),
            ("[::1]", Host::Address(Ipv6Addr::LOCALHOST.into()), None),
            ("[::1]:080", Host::Address(Ipv6Addr::LOCALHOST.into()), Some(80)),
            ("[::ffff:127.0.0.1]:8", Host::Address([127, 0, 0, 1].into()), Some(8)),
            ("1.2.3", Host::Name("1.2.3"), None),
            ("", Host::Name(""), None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host, port }), "{text}");
        }
        for text in [
            "localhost:80:80",
            "localhost:80:",
            "localhost::80",
            "localhost:80a",
            "localhost:+80",
            "localhost:-1",
            "localhost:65536",
            "localhost:٨",
            ":80",
            ":",
            "::1",
            "::1:80",
            "[::1",
            "::1]",
            "[::1]80",
            "[::1]:80:80",
            "[::1]]",
            "[[::1]]",
            "[localhost]",
            "[127.0.0.1]",
            "[]",
            "[]:80",
            "[fe80::1%25lo]",
            "localhost[::1]",
            "user@localhost",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%",
            "a%4",
            "a%zz",
            "caf\u{e9}",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let https = |text| Authority::of_origin(text, "https");
        assert_eq!(https("https://a.example:1"), Authority::parse("a.example:1"));
        for text in
            ["https://", "https://a/", "https://a?", "http://a", "null", "", "https:a", "https://a@b", "https://a:1:2"]
        {
            assert_eq!(https(text), None, "{text}");
        }
    }
}
