//! A session against rustls' own client, by a wire that takes and gives as little as it likes.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::session::{Common, Session, Wire};
use crate::auth::certificates::{Certificates, offer};
use crate::auth::watch::{Content as _, Shared};
use crate::limits::{READ_BYTES, TLS_IDLE_RECORDS_MAX};

/// What is on its way; each call moves as much as the next number says, and at last all.
#[derive(Default)]
struct Line {
    to_session: VecDeque<u8>,
    to_client: VecDeque<u8>,
    takes: VecDeque<usize>,
    is_shut: bool,
}

impl Wire for Line {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let count =
            self.to_session.len().min(into.len()).min(self.takes.front().map_or(usize::MAX, |take| (*take).max(1)));
        self.to_session.drain(..count).zip(into).for_each(|(byte, place)| *place = byte);
        Ok((count > 0).then_some(count))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.is_shut, "nothing follows the end");
        let count = self.takes.pop_front().unwrap_or(usize::MAX).min(bytes.len());
        self.to_client.extend(&bytes[..count]);
        Ok(count)
    }

    fn shut(&mut self) {
        self.is_shut = true;
    }
}

struct Pair {
    session: Session,
    client: ClientConnection,
    line: Line,
    common: Common,
    /// What the client, and the session, were told.
    at_client: Vec<u8>,
    at_session: Vec<u8>,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion, takes: &[usize]) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = ["certificate", "key"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        let offer = offer(Shared::new(Certificates::read(&files).unwrap())).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files[0]).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let client = ClientConnection::new(client, ServerName::try_from("a.example").unwrap()).unwrap();
        Pair {
            session: Session::default(),
            client,
            line: Line { takes: takes.iter().copied().collect(), ..Line::default() },
            common: Common::new(offer),
            at_client: Vec::new(),
            at_session: Vec::new(),
        }
    }

    /// Moves what is there, once each way.
    fn turn(&mut self) -> io::Result<()> {
        while self.client.wants_write() {
            let mut sealed = Vec::new();
            self.client.write_tls(&mut sealed)?;
            self.line.to_session.extend(sealed);
        }
        let mut into = vec![0; READ_BYTES];
        loop {
            match self.session.recv(&mut self.line, &mut self.common, &mut into)? {
                None | Some(0) => break,
                Some(count) => self.at_session.extend_from_slice(&into[..count]),
            }
        }
        self.session.flush(&mut self.line)?;
        while !self.line.to_client.is_empty() {
            self.client.read_tls(&mut self.line.to_client)?;
            let state = self.client.process_new_packets().map_err(io::Error::other)?;
            let mut open = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut open)?;
            self.at_client.extend(open);
        }
        Ok(())
    }

    fn shake(&mut self) {
        while self.client.is_handshaking() || self.session.is_handshaking() {
            self.turn().unwrap();
        }
    }

    /// Sends all of `open` from the session, and turns meanwhile.
    fn send(&mut self, open: &[u8]) {
        let mut sent = 0;
        while sent < open.len() {
            sent += self.session.send(&mut self.line, &mut self.common, &open[sent..]).unwrap();
            self.turn().unwrap();
        }
    }
}

fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|place| (place * 7 + seed + place / 251) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However little the kernel takes of what is sealed, in the handshake or later, and whoever changes keys meanwhile: each
    /// end gets what the other one was given, and then its end.
    #[test]
    fn each_end_gets_what_the_other_was_given(
        is_13: bool,
        takes in prop::collection::vec(prop_oneof![0usize..8, 0usize..6000, 0usize..70_000], 0..120),
        steps in prop::collection::vec((0u8..5, prop_oneof![1usize..200, 1usize..9000, 1usize..150_000]), 1..24),
    ) {
        let mut pair = Pair::new(if is_13 { &TLS13 } else { &TLS12 }, &takes);
        pair.shake();
        prop_assert_eq!((pair.common.handshakes.full, pair.common.handshakes.failed), (1, 0));
        let (mut to_client, mut to_session) = (Vec::new(), Vec::new());
        for (seed, (what, size)) in steps.into_iter().enumerate() {
            let open = bytes(size, seed);
            match what {
                0 => {
                    let open = &open[..size.min(30_000)];
                    pair.client.writer().write_all(open).unwrap();
                    to_session.extend_from_slice(open);
                    pair.turn().unwrap();
                }
                1 if is_13 => {
                    pair.client.refresh_traffic_keys().unwrap();
                    pair.turn().unwrap();
                }
                // One offer, of which the rest is offered no more, as when what waits merges.
                2 => {
                    let sent = pair.session.send(&mut pair.line, &mut pair.common, &open).unwrap();
                    to_client.extend_from_slice(&open[..sent]);
                }
                _ => {
                    pair.send(&open);
                    to_client.extend(open);
                }
            }
        }
        pair.session.shut(&mut pair.line);
        while pair.session.owes() {
            pair.turn().unwrap();
        }
        pair.turn().unwrap();
        prop_assert!(pair.at_client == to_client && pair.at_session == to_session);
        prop_assert!(pair.line.is_shut);
        prop_assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        prop_assert_eq!(pair.session.bytes(), 0, "nothing is left");
    }

    /// Whatever records hold, and wherever a client's own are other than they should be: it ends the connection at most.
    #[test]
    fn records_of_anything_end_it(
        records in prop::collection::vec(
            (
                prop_oneof![2 => Just(22u8), 1 => 20u8..25],
                prop_oneof![(0usize..300).prop_map(|size| vec![0; size]), prop::collection::vec(any::<u8>(), 0..300)],
            ),
            1..4,
        ),
        is_greeted: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        turns in 0usize..3,
        takes in prop::collection::vec(1usize..400, 0..30),
    ) {
        let mut pair = Pair::new(&TLS13, &takes);
        for _ in 0..turns {
            pair.turn().unwrap();
        }
        if is_greeted {
            pair.client.write_tls(&mut pair.line.to_session).unwrap();
        }
        for (at, byte) in changes {
            if !pair.line.to_session.is_empty() {
                let at = at.index(pair.line.to_session.len());
                pair.line.to_session[at] ^= byte;
            }
        }
        for (kind, body) in records {
            pair.line.to_session.extend([kind, 3, 3, (body.len() >> 8) as u8, body.len() as u8]);
            pair.line.to_session.extend(body);
        }
        for _ in 0..3 {
            if pair.turn().is_err() {
                break;
            }
        }
    }

    /// Whatever comes instead of TLS ends the connection, and nothing else.
    #[test]
    fn other_bytes_end_it(junk in prop::collection::vec(any::<u8>(), 1..200), at in 0usize..3, takes in prop::collection::vec(1usize..40, 0..30)) {
        let mut pair = Pair::new(&TLS13, &takes);
        match at {
            0 => {}
            1 => pair.turn().unwrap(),
            _ => pair.shake(),
        }
        pair.line.to_session.extend(junk);
        // A head that promises more than came waits for it.
        for _ in 0..3 {
            if pair.turn().is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_key_is_changed_before_it_is_used_up() {
    let mut pair = Pair::new(&TLS13, &[]);
    pair.shake();
    pair.session.use_up();
    for round in 0..3 {
        pair.send(&bytes(100_000, round));
    }
    assert!(pair.at_client.len() == 300_000 && pair.at_client[200_000..] == bytes(100_000, 2));
    // TLS 1.2 has no way to, and says so rather than go on.
    let mut pair = Pair::new(&TLS12, &[]);
    pair.shake();
    pair.session.use_up();
    assert!(pair.session.send(&mut pair.line, &mut pair.common, b"x").is_err());
}

#[test]
fn records_that_say_nothing_have_an_end() {
    let mut pair = Pair::new(&TLS13, &[]);
    pair.shake();
    let mut changed = 0;
    while pair.client.refresh_traffic_keys().is_ok() && pair.turn().is_ok() {
        changed += 1;
    }
    assert_eq!(changed, TLS_IDLE_RECORDS_MAX as usize);
}

#[test]
fn who_speaks_http_without_tls_is_told_so_by_plain_bytes() {
    let mut pair = Pair::new(&TLS13, &[]);
    pair.line.to_session.extend(b"GET / HTTP/1.1\r\n\r\n");
    let mut into = [0; 100];
    let mut recv = |pair: &mut Pair| pair.session.recv(&mut pair.line, &mut pair.common, &mut into);
    assert!(recv(&mut pair).is_err() && pair.session.is_plain());
    assert_eq!(recv(&mut pair).unwrap(), None);
    assert_eq!(pair.session.send(&mut pair.line, &mut pair.common, b"no").unwrap(), 2);
    assert_eq!(
        (pair.line.to_client.make_contiguous().to_vec(), pair.common.handshakes.plain, pair.common.handshakes.failed),
        (b"no".to_vec(), 1, 0)
    );
}

#[test]
fn an_idle_connection_holds_two_keys_and_little_else() {
    let mut pair = Pair::new(&TLS13, &[]);
    pair.shake();
    pair.send(b"hello");
    assert_eq!(pair.session.bytes(), 0);
    assert!(size_of::<Session>() <= 192, "{}", size_of::<Session>());
}
