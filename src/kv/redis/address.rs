//! Where a Redis is, as `--kv` says it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Longest name of a host (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl Endpoint {
    /// Reads `host:port`, `host` or `[v6]:port`; `port` is for those that name none.
    pub fn parse(text: &str, port: u16) -> Option<Endpoint> {
        let (host, given) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                let given = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (host, given)
            }
            // The port follows the last colon: a Cluster may name IPv6 addresses without brackets.
            None => match text.rsplit_once(':') {
                Some((host, given)) => (host, Some(given)),
                None => (text, None),
            },
        };
        let port = match given {
            Some(given) => given.parse().ok()?,
            None => port,
        };
        Endpoint::of(host, port)
    }

    /// That of a host and a port, also as a server names them; none for a text that is no host. Colons are those of an address of
    /// IPv6, and not a second port's.
    pub fn of(host: &str, port: u16) -> Option<Endpoint> {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@,[]".contains(c);
        let fits = (1..=HOST_BYTES_MAX).contains(&host.len()) && !host.contains(is_odd) && port > 0;
        let fits = fits && (!host.contains(':') || host.parse::<std::net::Ipv6Addr>().is_ok());
        fits.then(|| Endpoint { host: host.to_owned(), port })
    }
}

/// How the servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One server; if that says it is part of a Cluster, the Cluster.
    Single,
    /// A Cluster, found through any of the seeds.
    Cluster,
    /// A master that any of the Sentinels names.
    Sentinel {
        /// The master's name.
        master: String,
        /// Who the Sentinels shall think we are.
        credentials: Credentials,
    },
}

/// A user and a password; `Debug` shows neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// None is the default user.
    pub user: Option<String>,
    /// None asks for nothing.
    pub password: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

/// A URL, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// How the servers belong together.
    pub kind: Kind,
    /// Servers to begin with, at least one.
    pub seeds: Vec<Endpoint>,
    /// Whether to speak TLS.
    pub tls: bool,
    /// A file of certificates to trust instead of this machine's.
    pub authorities: Option<PathBuf>,
    /// Who we are.
    pub credentials: Credentials,
    /// The database number.
    pub database: i64,
}

/// What is wrong with a URL, fit for an operator. It shows no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(pub String);

/// What would do.
pub const REMEDY: &str = "give redis://[USER:PASSWORD@]HOST:6379[/DATABASE] or rediss://… for TLS, redis+cluster://HOST,HOST for a \
                          Cluster, redis-sentinel://HOST,HOST?sentinelServiceName=NAME, and cacert=FILE for an authority of your own";

fn bad<T>(problem: impl Into<String>) -> Result<T, BadAddress> {
    Err(BadAddress(problem.into()))
}

fn decoded(text: &str) -> Result<String, BadAddress> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => bad("a name or password that is not UTF-8 once percent-decoded"),
    }
}

fn credentials(user: Option<&str>, password: Option<&str>) -> Result<Credentials, BadAddress> {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(decoded).transpose();
    let credentials = Credentials { user: given(user)?, password: given(password)? };
    if credentials.user.is_some() && credentials.password.is_none() {
        return bad("a user without a password (write :PASSWORD@ for the default user)");
    }
    Ok(credentials)
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says what is wrong with it, without a password that it may hold.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let Some((scheme, rest)) = text.split_once("://") else { return bad("not a URL") };
        let (cluster, sentinel, tls) = match scheme {
            "redis" => (false, false, false),
            "rediss" => (false, false, true),
            "redis+cluster" | "redis-cluster" => (true, false, false),
            "rediss+cluster" | "rediss-cluster" => (true, false, true),
            "redis+sentinel" | "redis-sentinel" => (false, true, false),
            "rediss+sentinel" | "rediss-sentinel" => (false, true, true),
            _ => return bad("not a key-value store that Fanfare knows"),
        };
        if rest.contains('#') {
            return bad("a URL with a fragment (write # in a password as %23)");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, hosts) = match authority.rsplit_once('@') {
            Some((who, hosts)) => (Some(who), hosts),
            None => (None, authority),
        };
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (Some(user), Some(password)),
            None => (None, None),
        };
        let mut address = Address {
            kind: if cluster { Kind::Cluster } else { Kind::Single },
            seeds: Vec::new(),
            tls,
            authorities: None,
            credentials: credentials(user, password)?,
            database: 0,
        };
        let port = if sentinel { 26_379 } else { 6_379 };
        let (mut master, mut sentinel_user, mut sentinel_password) = ("mymaster".to_owned(), None, None);
        let mut nodes: Vec<&str> = hosts.split(',').collect();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "node" => nodes.push(value),
                "cacert" if tls => address.authorities = Some(PathBuf::from(decoded(value)?)),
                "cacert" => return bad("cacert has no meaning without TLS, which rediss:// asks for"),
                "sentinelServiceName" if sentinel => master = decoded(value)?,
                "sentinelUsername" if sentinel => sentinel_user = Some(value),
                "sentinelPassword" if sentinel => sentinel_password = Some(value),
                // What should have been percent-encoded in a password may stand here.
                _ if query.contains('@') => return bad("a ? in a name or password (write it as %3F)"),
                _ => return bad(format!("the parameter {name} is not known")),
            }
        }
        for node in nodes {
            match Endpoint::parse(node, port) {
                Some(seed) if address.seeds.contains(&seed) => return bad(format!("{seed} is given twice")),
                Some(seed) => address.seeds.push(seed),
                None if node.is_empty() => return bad("a URL without a host"),
                None => return bad("something between commas that is not HOST or HOST:PORT"),
            }
        }
        if !path.is_empty() {
            address.database = match path.parse::<u16>() {
                Ok(database) => i64::from(database),
                Err(_) => {
                    return bad("what follows the host is not the number of a database (write / in a password as %2F)");
                }
            };
        }
        if sentinel {
            let credentials = credentials(sentinel_user, sentinel_password)?;
            address.kind = Kind::Sentinel { master, credentials };
        } else if address.seeds.len() > 1 {
            address.kind = Kind::Cluster;
        }
        if address.kind == Kind::Cluster && address.database != 0 {
            return bad("a Cluster has database 0 only");
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(address: &Address) -> Vec<String> {
        address.seeds.iter().map(Endpoint::to_string).collect()
    }

    #[test]
    fn reads_every_form() {
        let address = Address::parse("redis://kv").unwrap();
        assert_eq!((endpoints(&address), address.tls, &address.kind), (vec!["kv:6379".into()], false, &Kind::Single));
        let address = Address::parse("rediss://ana:p%40%2f@[::1]:7/3?cacert=/etc/a%20b.pem").unwrap();
        assert_eq!((endpoints(&address), address.tls, address.database), (vec!["[::1]:7".into()], true, 3));
        assert_eq!(address.credentials.user.as_deref(), Some("ana"));
        assert_eq!(address.credentials.password.as_deref(), Some("p@/"));
        assert_eq!(address.authorities, Some(PathBuf::from("/etc/a b.pem")));
        let address = Address::parse("redis+cluster://:pw@a:1,b?node=c:3").unwrap();
        assert_eq!((endpoints(&address).join(" "), &address.kind), ("a:1 b:6379 c:3".into(), &Kind::Cluster));
        assert_eq!(address.credentials, Credentials { user: None, password: Some("pw".into()) });
        assert_eq!(Address::parse("redis://a,b").unwrap().kind, Kind::Cluster);
        let address = Address::parse("redis-sentinel://a,b:2/1?sentinelServiceName=m&sentinelPassword=s").unwrap();
        assert_eq!((endpoints(&address).join(" "), address.database), ("a:26379 b:2".into(), 1));
        let credentials = Credentials { user: None, password: Some("s".into()) };
        assert_eq!(address.kind, Kind::Sentinel { master: "m".into(), credentials });
        assert!(!format!("{address:?}").contains("\"s\""));
    }

    #[test]
    fn servers_name_hosts_and_ports_too() {
        let long = "h".repeat(9 * 1024);
        for bad in ["", "h\r\nX: y", "h:1", "a b", "a@b", "[::1]", "h\u{7f}", &long] {
            assert_eq!(Endpoint::of(bad, 1), None, "{bad:?}");
        }
        assert_eq!(Endpoint::of("h", 0), None);
        assert_eq!(Endpoint::of("::1", 7).unwrap().to_string(), "[::1]:7");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for bad in [
            "redis",
            "http://kv",
            "redis://",
            "redis://:pw@",
            "redis://kv:0",
            "redis://kv:x",
            "redis://kv:70000",
            "redis://kv:1:1",
            "redis://a,,b",
            "redis://a,a",
            "redis://kv/x",
            "redis://kv/-1",
            "redis+cluster://a,b/1",
            "redis://ana@kv",
            "redis://kv?cacert=x",
            "redis://kv?nodes=x",
            "redis://kv?sentinelServiceName=x",
            "redis://:a#b@kv",
            "redis://:a%ff@kv",
            "redis://k v",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        for leak in ["redis://:hunter2", "redis://:a/hunter2@kv", "redis://:a?hunter2@kv", "redis://:a,hunter2@kv"] {
            let said = Address::parse(leak).map_or_else(|error| error.to_string(), |address| format!("{address:?}"));
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
