//! What web pages of others may not do. A browser lets any page send some requests anywhere, also to an address that only this
//! box or this network reaches, and a page's author who owns a name can let it point there (DNS rebinding): then the browser
//! takes the node for the page's own server. Where no token says who asks, the headers that only a browser writes do.

use std::net::IpAddr;

use super::access::is_same_authority;
use super::admin::shows;
use super::resources::Resource;
use super::shard::Shard;
use super::slots::Conn;
use crate::wire::http::{HttpError, Method, name_and_port};
use crate::wire::request::Request;
use crate::wire::response::{Cors, Origins};

impl Shard {
    /// Refuses what a page of others sends to the public listener, where there are no tokens: what changes something, which a
    /// stream does too (who watches, who is online), and on a listener of this box alone anything by a name that is not its own.
    ///
    /// # Errors
    /// 403, saying what would do.
    pub(super) fn check_page(
        &self,
        conn: Conn,
        request: &Request<'_>,
        resource: Resource<'_>,
    ) -> Result<(), HttpError> {
        let node = &self.node;
        if node.tokens.is_some() {
            return Ok(());
        }
        let is_by_proxy = || self.peer(conn).is_some_and(|peer| node.admission.is_proxy(peer));
        if node.public.ip().to_canonical().is_loopback()
            && !request.host.is_none_or(|host| is_own_name(host, &self.live.origins))
            && !is_by_proxy()
        {
            return Err(HttpError::new(
                403,
                "without tokens this node answers on this box only, and not by the name in Host, which may be anybody's: \
                 use localhost or 127.0.0.1, or name the page's origin in --cors-origin, or the proxy in --trusted-proxy",
            ));
        }
        let changes = !matches!(request.method, Method::Get | Method::Head) || resource == Resource::Events;
        if changes && !is_own_page(request, &self.live.origins) {
            return Err(HttpError::new(
                403,
                "a page of another origin may change nothing here without a token: name its origin in --cors-origin",
            ));
        }
        Ok(())
    }

    /// Refuses what any web page but its own could send to the internal listener: by a name that is not its own, unless with
    /// a secret that a page cannot know, and from another origin.
    ///
    /// # Errors
    /// 403, saying what would do.
    pub(super) fn check_internal_page(&self, request: &Request<'_>) -> Result<(), HttpError> {
        let host = request.host.unwrap_or_default();
        if request.origin.is_some_and(|origin| !is_same_authority(origin, host)) {
            return Err(HttpError::new(403, "no page of another origin may use the internal listener"));
        }
        // A browser always sends Host.
        if request.host.is_none() || self.is_internal_name(host) || self.shows_secret(request) {
            return Ok(());
        }
        Err(HttpError::new(
            403,
            "this is not the name of the internal listener: ask by its address, by localhost, by the name in --advertise, or \
             with the cluster's secret",
        ))
    }

    fn is_internal_name(&self, host: &str) -> bool {
        let node = &self.node;
        let own = node.internal.ip().to_canonical();
        match address_of(host) {
            Some(address) => own.is_unspecified() || address == own || (own.is_loopback() && address.is_loopback()),
            None if is_localhost(name_of(host)) => true,
            None => node.info.as_ref().is_some_and(|info| {
                let authority = info.url.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
                name_of(authority).eq_ignore_ascii_case(name_of(host))
            }),
        }
    }

    fn shows_secret(&self, request: &Request<'_>) -> bool {
        let secrets = self.node.peers.iter().filter_map(|peer| peer.secret.as_ref());
        secrets.chain(&self.node.cluster_secret).any(|secret| shows(request, secret))
    }
}

/// Whether a page that sent this, if one did, is the node's own or one that it was told of.
fn is_own_page(request: &Request<'_>, origins: &Origins) -> bool {
    match request.origin {
        Some(origin) => {
            origins.check(Some(origin)) != Cors::None
                || (!request.is_foreign && request.host.is_some_and(|host| is_same_authority(origin, host)))
        }
        // A page's image or link brings no Origin.
        None => !request.is_foreign || origins.check(Some("null")) == Cors::Any,
    }
}

/// Whether nobody elsewhere can own the name in a `Host`: an address, this box's name for itself, a name without dots, which
/// the domain name system leads nowhere, or that of an origin that the settings name.
fn is_own_name(host: &str, origins: &Origins) -> bool {
    let name = name_of(host);
    let named = |origin: &String| origin == "*" || is_named(origin, name);
    address_of(host).is_some() || is_localhost(name) || !name.contains('.') || origins.0.iter().any(named)
}

fn is_named(origin: &str, name: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| name_of(authority).eq_ignore_ascii_case(name))
}

fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    name_and_port(host).0
}

fn address_of(host: &str) -> Option<IpAddr> {
    let name = name_of(host);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    #[test]
    fn names_that_anybody_may_own_are_not_this_boxs() {
        let origins = Origins(vec!["https://app.example".to_owned()]);
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:80",
            "[::1]",
            "localhost",
            "LOCALHOST:8080",
            "a.localhost:1",
            "box:8080",
            "test",
            "app.example",
            "App.Example:8443",
            "10.0.0.7",
            "",
        ] {
            assert!(is_own_name(host, &origins), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "app.example.evil.example", "ai.", "1.2.3"]
        {
            assert!(!is_own_name(host, &origins), "{host}");
        }
        assert!(is_own_name("any.example", &Origins(vec!["*".to_owned()])));
    }

    #[test]
    fn pages_of_others_are_told_from_own_ones_and_from_programs() {
        let own = |headers: &str, origins: &[&str]| {
            let head = format!("POST / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{headers}\r\n");
            let origins = Origins(origins.iter().map(|&origin| origin.to_owned()).collect());
            is_own_page(&request::parse(head.as_bytes()).unwrap(), &origins)
        };
        for headers in
            ["", "Origin: http://127.0.0.1:8080\r\n", "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n"]
        {
            assert!(own(headers, &[]), "{headers}");
        }
        for headers in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://127.0.0.1:9090\r\n",
            "Origin:\r\n",
            "Origin: http://127.0.0.1:8080\r\nSec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            assert!(!own(headers, &[]), "{headers}");
            assert!(own(headers, &["*"]), "{headers}");
        }
        assert!(own("Origin: http://app.example\r\nSec-Fetch-Site: cross-site\r\n", &["http://app.example"]));
    }
}
