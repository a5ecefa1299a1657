//! Names of hosts become addresses on a thread of their own, since asking for them blocks.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tracing::{info, warn};
use url::{Host, Url};

use crate::limits::{RESOLVE_EVERY, RESOLVE_QUEUE};
use crate::runtime::trouble::ToldEach;

/// What the thread found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All addresses of the dispatchers that the settings name, in order.
    Dispatchers(Vec<SocketAddr>),
    /// The addresses of a node's URL; none if it has none at the moment.
    Node(Url, Vec<SocketAddr>),
}

/// A handle to the thread; it ends with its last handle.
#[derive(Debug, Clone)]
pub struct Resolver {
    questions: Sender<Url>,
}

/// The address of a URL whose host is one, and no name.
pub fn literal(url: &Url) -> Option<SocketAddr> {
    let port = url.port_or_known_default()?;
    match url.host()? {
        Host::Ipv4(address) => Some((address, port).into()),
        Host::Ipv6(address) => Some((address, port).into()),
        Host::Domain(_) => None,
    }
}

/// Asks the system, which may take seconds.
fn look_up(url: &Url) -> std::io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(url) {
        return Ok(vec![address]);
    }
    let name = url.host_str().unwrap_or_default();
    Ok((name, url.port_or_known_default().unwrap_or(80)).to_socket_addrs()?.collect())
}

/// The addresses of a URL, if it has any at the moment; the log is told if it has none, and when that is over.
fn find(url: &Url, told: &mut ToldEach<Url>) -> Option<Vec<SocketAddr>> {
    match look_up(url) {
        Ok(found) => {
            if told.works(url) {
                info!(%url, "a node's name has an address again");
            }
            Some(found)
        }
        Err(error) => {
            if told.fails(url.clone(), Instant::now()) {
                warn!(%url, %error, "a node's name has no address; asking again, told once a minute");
            }
            None
        }
    }
}

/// The addresses of all URLs, each once.
fn find_all(urls: &[Url], known: &[SocketAddr], told: &mut ToldEach<Url>) -> Vec<SocketAddr> {
    let mut addresses = BTreeSet::new();
    let mut failed = false;
    for url in urls {
        match find(url, told) {
            Some(found) => addresses.extend(found),
            None => failed = true,
        }
    }
    // A name server that is away for a moment takes no dispatcher away.
    if failed {
        addresses.extend(known);
    }
    addresses.into_iter().collect()
}

impl Resolver {
    /// Starts the thread. It looks `dispatchers` up at once and every [`RESOLVE_EVERY`], and tells when they change.
    pub fn start(dispatchers: Vec<Url>, tell: impl Fn(Found) + Send + 'static) -> std::io::Result<Resolver> {
        let (questions, asked) = bounded::<Url>(RESOLVE_QUEUE);
        std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let (mut known, mut next, mut told) = (Vec::new(), Instant::now(), ToldEach::default());
            loop {
                let wait = if dispatchers.is_empty() { RESOLVE_EVERY } else { next - Instant::now().min(next) };
                match asked.recv_timeout(wait) {
                    Ok(url) => {
                        let addresses = find(&url, &mut told).unwrap_or_default();
                        tell(Found::Node(url, addresses));
                    }
                    Err(RecvTimeoutError::Timeout) if dispatchers.is_empty() => {}
                    Err(RecvTimeoutError::Timeout) => {
                        next = Instant::now() + RESOLVE_EVERY;
                        let addresses = find_all(&dispatchers, &known, &mut told);
                        if addresses != known {
                            info!(?addresses, "dispatchers");
                            known.clone_from(&addresses);
                            tell(Found::Dispatchers(addresses));
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Resolver { questions })
    }

    /// Asks for a node's addresses; never waits. False if too much is asked already.
    pub fn ask(&self, url: Url) -> bool {
        self.questions.try_send(url).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn names_and_addresses_become_addresses() {
        let (sender, found) = mpsc::channel();
        let urls =
            ["http://localhost:81", "http://127.0.0.2:82", "http://127.0.0.2:82/"].map(|url| url.parse().unwrap());
        let resolver = Resolver::start(urls.to_vec(), move |found| sender.send(found).unwrap()).unwrap();
        let Found::Dispatchers(addresses) = found.recv().unwrap() else { panic!("dispatchers come first") };
        assert!(addresses.contains(&"127.0.0.2:82".parse().unwrap()), "{addresses:?}");
        assert!(addresses.iter().any(|address| address.ip().is_loopback() && address.port() == 81), "{addresses:?}");
        let url: Url = "http://[::1]:9".parse().unwrap();
        assert!(resolver.ask(url.clone()));
        assert_eq!(found.recv().unwrap(), Found::Node(url, vec!["[::1]:9".parse().unwrap()]));
    }

    #[test]
    fn a_name_without_an_address_fills_the_log() {
        let log = Log::default();
        let kept = log.clone();
        tracing_subscriber::fmt().with_writer(move || kept.clone()).init();
        let (sender, found) = mpsc::channel();
        let resolver = Resolver::start(Vec::new(), move |found| sender.send(found).unwrap()).unwrap();
        for number in 0..40 {
            let url: Url = format!("http://nowhere-{}.invalid:1", number % 2).parse().unwrap();
            assert!(resolver.ask(url.clone()));
            assert_eq!(found.recv().unwrap(), Found::Node(url, Vec::new()));
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines = |name: &str| log.lines().filter(|line| line.contains(name)).count();
        assert_eq!((lines("nowhere-0.invalid"), lines("nowhere-1.invalid")), (1, 1), "{log}");
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
