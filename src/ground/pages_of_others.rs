//! What web pages of others may not do. A browser lets any page send some requests anywhere, also to an address that only this
//! box or this network reaches, and a page's author who owns a name can let it point there (DNS rebinding): then the browser
//! takes the node for the page's own server. Where no token says who asks, the headers that only a browser writes do.

use crate::ground::Ground;
use crate::ground::access::is_same_authority;
use crate::ground::resources::Resource;
use crate::ground::secrets::shows;
use crate::ground::slots::Conn;
use crate::wire::authority::{Authority, Host};
use crate::wire::http::{HttpError, Method};
use crate::wire::request::Request;
use crate::wire::response::{Cors, Origins};
use crate::wire::status::Status;

impl Ground {
    /// Refuses what a page of others sends to the public listener, where there are no tokens: what changes something, which a
    /// stream does too (who watches, who is online), and on a listener of this box alone anything by a name that is not its own.
    ///
    /// # Errors
    /// 403, saying what would do.
    pub(crate) fn check_page(
        &self,
        conn: Conn,
        request: &Request<'_>,
        resource: Resource<'_>,
    ) -> Result<(), HttpError> {
        let node = &self.node;
        if node.tokens.is_some() {
            return Ok(());
        }
        // Who came by TLS knows by the certificate whom it asked by this name.
        let is_by_tls = || self.slots.get(conn).is_some_and(|slot| slot.socket().is_secure());
        let is_by_proxy = || self.peer(conn).is_some_and(|peer| node.admission.is_proxy(peer));
        if node.public.ip().to_canonical().is_loopback()
            && !request.host.is_none_or(|host| {
                is_own_name(host.host, request.origin, &self.live.origins, node.host_name.as_deref())
            })
            && !is_by_proxy()
            && !is_by_tls()
        {
            return Err(HttpError::new(
                Status::Forbidden,
                "without tokens this node answers on this box only, and not by the name in Host, which may be anybody's: \
                 use localhost, 127.0.0.1 or this machine's name, or name the page's origin in --cors-origin, or the proxy in \
                 --trusted-proxy",
            ));
        }
        let opens = matches!(resource, Resource::Events | Resource::Mercure);
        let changes = !matches!(request.method, Method::Get | Method::Head) || opens;
        if changes && !is_own_page(request, &self.live.origins) {
            return Err(HttpError::new(
                Status::Forbidden,
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
    pub(crate) fn check_internal_page(&self, request: &Request<'_>) -> Result<(), HttpError> {
        let is_own = |origin| request.host.is_some_and(|host| is_same_authority(origin, host));
        // An image, a script or a link of a page brings no Origin, but Sec-Fetch-Site.
        if request.is_foreign || request.origin.is_some_and(|origin| !is_own(origin)) {
            return Err(HttpError::new(Status::Forbidden, "no page of another origin may use the internal listener"));
        }
        // A browser always sends Host.
        if request.host.is_none_or(|host| self.is_internal_name(host.host)) || self.shows_secret(request) {
            return Ok(());
        }
        Err(HttpError::new(
            Status::Forbidden,
            "this is not the name of the internal listener: ask by its address, by localhost, by the name in --advertise, or \
             with the cluster's secret",
        ))
    }

    fn is_internal_name(&self, host: Host<'_>) -> bool {
        let own = self.node.internal.ip().to_canonical();
        let is_own = match host {
            Host::Address(address) => own.is_unspecified() || address == own || (own.is_loopback() && host.is_here()),
            Host::Name(_) => host.is_here(),
        };
        is_own || self.node.info.as_ref().and_then(|info| info.url.authority()).is_some_and(|own| own.host == host)
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

/// Whether nobody elsewhere can own the name in a `Host`: an address, this box's names for itself, of which `own` is the
/// kernel's, or that of an origin that the settings name. Any other name anybody may own, be it in the local network (LLMNR,
/// NetBIOS) where it has no dots. No page is reached by an empty name.
fn is_own_name(host: Host<'_>, origin: Option<&str>, origins: &Origins, own: Option<&str>) -> bool {
    let is_named = |origin: &String| {
        let of = |scheme| Authority::of_origin(origin, scheme).is_some_and(|named| named.host == host);
        origin == "*" || of("https") || of("http")
    };
    match host {
        Host::Address(_) => true,
        Host::Name("") => origin.is_none(),
        Host::Name(_) => host.is_here() || own.map(Host::Name) == Some(host) || origins.0.iter().any(is_named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    fn is_own(host: &str, origins: &Origins) -> bool {
        is_own_name(Authority::parse(host).unwrap().host, Some("http://evil"), origins, Some("box"))
    }

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
            "Box",
            "app.example",
            "App.Example:8443",
            "10.0.0.7",
        ] {
            assert!(is_own(host, &origins), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "app.example.evil.example",
            "evil:8080",
            "evil%2eexample",
            "box.evil",
            "ai",
            "ai.",
            "_",
            "-",
            "1.2.3",
            "",
        ] {
            assert!(!is_own(host, &origins), "{host}");
        }
        assert!(is_own("any.example", &Origins(vec!["*".to_owned()])));
        assert!(is_own_name(Host::Name(""), None, &origins, None), "a program");
        assert!(!is_own_name(Host::Name("box"), None, &origins, None));
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
