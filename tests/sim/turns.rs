//! What one client may have of a turn: a shard serves many, and one that only sends must not keep it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::ground::Parts;
use fanfare::ground::message::Message;
use fanfare::limits::{MAILBOX_MESSAGES, READ_BURST};
use fanfare::roles::{self, Ways};
use fanfare::runtime::clock::Times;
use fanfare::runtime::mailbox;
use fanfare::runtime::net::{Net, PUBLIC, Simulated, Socket, token_of};
use fanfare::runtime::readiness::Ready;
use fanfare::settings::Flags;
use fanfare::settings::{Role, Settings};
use fanfare::shard::Shard;
use fanfare::wire::connection_id::NodeId;

use crate::world::{BEGIN, UNIX};

/// One client, which begins with these bytes and then sends others without end: however often it is read, there is more.
struct Endless {
    first: &'static [u8],
    then: &'static [u8],
    at: usize,
    came: bool,
    token: Arc<AtomicUsize>,
    /// Reads since this was set back.
    reads: Arc<AtomicUsize>,
}

/// Reads after which a turn without bound is taken for one.
const WITHOUT_BOUND: usize = 1_000;

impl Simulated for Endless {
    fn accept(&mut self, door: usize) -> io::Result<Option<Socket>> {
        let is_first = door == PUBLIC && !std::mem::replace(&mut self.came, true);
        Ok(is_first.then(|| Socket::simulated(1.try_into().expect("it is not zero"))))
    }

    fn recv(&mut self, _: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        assert!(self.reads.fetch_add(1, Ordering::Relaxed) < WITHOUT_BOUND, "a turn reads one client without a bound");
        for byte in into.iter_mut() {
            let later = || self.then[(self.at - self.first.len()) % self.then.len()];
            *byte = self.first.get(self.at).copied().unwrap_or_else(later);
            self.at += 1;
        }
        Ok(Some(into.len()))
    }

    fn watch(&mut self, _: &Socket, token: u64) -> io::Result<()> {
        self.token.store(token as usize, Ordering::Relaxed);
        Ok(())
    }

    fn send(&mut self, _: &Socket, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn open(&mut self, _: usize, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn connect(&mut self, _: SocketAddr) -> io::Result<Socket> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn error(&mut self, _: &Socket) -> io::Result<()> {
        Ok(())
    }

    fn peer(&self, _: &Socket) -> Option<IpAddr> {
        Some(Ipv4Addr::LOCALHOST.into())
    }

    fn shut(&mut self, _: &Socket) {}

    fn close(&mut self, _: Socket) {}

    fn resident(&self) -> u64 {
        0
    }

    fn rest(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// How often the client is read, and how many of its requests are served, in each of some turns of a node of this role.
fn turns(role: Role, first: &'static [u8], then: &'static [u8]) -> Vec<(usize, u64)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let environment = [("FANFARE_DISPATCHERS", "http://127.0.0.1:8081"), ("FANFARE_KV", "redis://127.0.0.1:1")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let settings = Settings::resolve(role, &Flags::default(), environment).expect("the settings are right");
    let (mail, mailbox) = mailbox::mailbox::<Message>(MAILBOX_MESSAGES).expect("an eventfd");
    let begin = *BEGIN;
    let times = Times::simulated(move || (begin, UNIX));
    let ways = Ways {
        id: NodeId(1),
        times: times.clone(),
        public: address,
        internal: address,
        certificates: None,
        tokens: None,
        mail: vec![mail],
        kv: None,
        resolver: None,
        store: None,
        memory: 1 << 32,
        connections: 10,
    };
    let (node, live) = roles::assemble(&settings, ways).expect("the settings are right");
    let (token, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = Endless { first, then, at: 0, came: false, token: Arc::clone(&token), reads: Arc::clone(&count) };
    let net = Net::Simulated(Box::new(client));
    let counters = Arc::clone(&node.counters);
    let mut shard = Shard::start(Parts { id: 0, node, live, mailbox, net, times, seed: 1, key: (1, 2) });
    let turns = (0..10).map(|turn| {
        let token = if turn == 0 { token_of(PUBLIC) } else { token.load(Ordering::Relaxed) as u64 };
        let served = counters[0].requests.get();
        shard.turn(&[Ready { token, readable: true, writable: false, hung_up: false, over: false }]);
        (count.swap(0, Ordering::Relaxed), counters[0].requests.get() - served)
    });
    turns.collect()
}

#[test]
fn client_that_only_sends_is_read_without_a_bound() {
    const LINES: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n";
    const LINE: &[u8] = &{
        let mut line = [b' '; 1000];
        (line[0], line[1], line[999]) = (b'{', b'}', b'\n');
        line
    };
    for (role, first, then) in [
        // On a stream, where it means nothing.
        (Role::Frontend, &b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &b"x"[..]),
        // Requests without end, each answered.
        (Role::Frontend, b"", b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        // Behind an error that ends the connection.
        (Role::Frontend, b"nonsense\r\n\r\n", b"x"),
        // A body of lines, none of which ends, or of which none is an event.
        (Role::Dispatcher, LINES, b"x"),
        (Role::Dispatcher, LINES, LINE),
    ] {
        let turns = turns(role, first, then);
        // Once for its readiness, and once since there was more; or what was read before is more than one turn serves.
        let fits = |(reads, served): &(usize, u64)| *reads <= 2 * READ_BURST && (*reads > 0 || *served > 0);
        assert!(turns.iter().all(fits), "{role:?} {:?}: {turns:?}", String::from_utf8_lossy(first));
    }
}
