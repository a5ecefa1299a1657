//! Whose request it is, where proxies stand in between.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The values of the last `X-Forwarded-For` headers, in their order: more proxies than this in a row are never trusted.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardedFor<'a>([&'a str; 4]);

impl<'a> ForwardedFor<'a> {
    pub(super) fn push(&mut self, value: &'a str) {
        self.0.rotate_left(1);
        self.0[3] = value;
    }

    /// The values; empty ones stand for none.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.into_iter()
    }
}

/// The address of the client: that of the `peer`, unless the peer is a trusted proxy. Then it is what the last proxy that
/// is trusted says in `X-Forwarded-For`: the rightmost address that is not a trusted proxy's itself, since everything
/// further left may be the client's own invention. When all of them are trusted it is the leftmost.
///
/// `forwarded_for` are the values of all `X-Forwarded-For` headers, in their order; each may hold several addresses with
/// commas between, also with ports (`203.0.113.7:4711`, `[2001:db8::1]:4711`). A value that is no address is ignored as
/// `unknown` is: the search goes on to its left only if it was added by a proxy that is trusted, which it was.
/// IPv4 addresses in IPv6 clothes (`::ffff:203.0.113.7`) count as IPv4, in the trusted networks too.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for address in forwarded_for.rev().flat_map(|value| value.rsplit(',')).filter_map(parse) {
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), headers.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        const PROXIES: &[&str] = &["10.0.0.0/8", "2001:db8:ff::/48", "127.0.0.1/32"];
        for (peer, headers, client) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1", "10.0.0.2 ,\t10.0.0.3"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "198.51.100.1"),
            ("10.0.0.1", &["unknown", "", ",,", "300.1.1.1", "10.0.0.0/8", "-"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1, 2001:db8:ff::7"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::ffff:203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(address(peer, headers, PROXIES), client, "{peer} {headers:?}");
        }
        assert_eq!(address("10.0.0.1", &["198.51.100.1"], &[]), "10.0.0.1");
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..4_u8, any::<u8>()).prop_map(|(net, host)| IpAddr::from([10, 0, net, host])),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    fn networks() -> Vec<IpNet> {
        ["10.0.0.0/23", "2001:db8::/32"].iter().map(|network| network.parse().unwrap()).collect()
    }

    fn is_trusted(address: IpAddr) -> bool {
        networks().iter().any(|network| network.contains(&address.to_canonical()))
    }

    proptest! {
        #[test]
        fn a_stranger_is_itself_whatever_it_sends(peer in any_address(), headers in proptest::collection::vec(".*", 0..4)) {
            prop_assume!(!is_trusted(peer));
            let client = client_address(peer, headers.iter().map(String::as_str), &networks());
            prop_assert_eq!(client, peer.to_canonical());
        }

        /// What a client sends stands to the left of what the proxies add, and changes nothing once one of them has
        /// named a stranger.
        #[test]
        fn nobody_chooses_an_address_of_their_own(
            forged in proptest::collection::vec("[0-9a-f:., \\[\\]x]{0,30}", 0..4),
            client in any_address(),
            proxies in proptest::collection::vec((0..2_u8, any::<u8>()), 0..4),
        ) {
            prop_assume!(!is_trusted(client));
            let proxies: Vec<String> = proxies.into_iter().map(|(net, host)| format!("10.0.{net}.{host}")).collect();
            let chain: Vec<String> = std::iter::once(client.to_string()).chain(proxies).collect();
            let joined = chain.join(", ");
            let peer = IpAddr::from([10, 0, 1, 1]);
            // As nginx does, in one header; and as HAProxy does, in a header of its own.
            let one = [forged.iter().map(String::as_str).chain([joined.as_str()]).collect::<Vec<_>>().join(",")];
            let own: Vec<&str> = forged.iter().map(String::as_str).chain(chain.iter().map(String::as_str)).collect();
            prop_assert_eq!(client_address(peer, one.iter().map(String::as_str), &networks()), client.to_canonical());
            prop_assert_eq!(client_address(peer, own.into_iter(), &networks()), client.to_canonical());
        }

        #[test]
        fn the_answer_is_the_peer_or_one_of_those_named(
            peer in any_address(),
            named in proptest::collection::vec(any_address(), 0..6),
        ) {
            let texts: Vec<String> = named.iter().map(IpAddr::to_string).collect();
            let client = client_address(peer, texts.iter().map(String::as_str), &networks());
            let known = named.iter().chain([&peer]).any(|address| address.to_canonical() == client);
            prop_assert!(known);
            // All to the right of the answer are trusted; it is not, unless nobody is left.
            if !is_trusted(peer) {
                return Ok(());
            }
            let untrusted = named.iter().rev().find(|address| !is_trusted(**address));
            let expected = untrusted.or(named.first()).copied().unwrap_or(peer);
            prop_assert_eq!(client, expected.to_canonical());
        }
    }
}
